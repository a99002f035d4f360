"""Files of `torch.save`, read without running the code that a pickle can have.

torch's restricted unpickler builds tensors, tables, texts and numbers, and refuses all else.
"""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from nanogpt.errors import UserError
from nanogpt.files import open_regular, why

COMPILED = "_orig_mod."  # before all names in a checkpoint of a compiled model


def load_tables(path: Path, program: str) -> dict[Any, Any]:
    """Return the dictionary in a file of `torch.save`, with tensors in memory that is mapped from the file.

    Raise `UserError` if it is damaged, is no dictionary, or asks for anything that could run code. `program` wrote it.
    """
    try:
        open_regular(path).close()
        with warnings.catch_warnings(action="ignore"):
            # Only the new format can be mapped, so that the optimizer's state takes no memory.
            saved = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {why(error)}") from None
    except Exception as error:  # of any kind, where the content is damaged or made to do harm
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = (
            f"it asks for {asked[1][:80]}, which could run code" if asked else "it is damaged, or another kind of file"
        )
        raise UserError(f"{path} is not loaded: {reason}") from None
    if not isinstance(saved, dict):
        raise UserError(f"{path} is not a checkpoint of {program}: it has no table of its parts")
    return saved


def is_plain(value: object) -> TypeGuard[Tensor]:
    """Return whether this is a tensor of floating point numbers that are all in the file.

    A tensor with strides of 0 or on torch's meta device takes a few bytes there, and any amount of memory here.
    """
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.is_floating_point()
        and value.device.type == "cpu"
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )
