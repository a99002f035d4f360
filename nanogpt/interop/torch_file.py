"""Files of `torch.save`, read without running the code that a pickle can have.

torch's restricted unpickler builds tensors, tables, texts and numbers, and refuses all else. What it would build but
weights do not need is refused before: a few bytes can ask for a `bytearray` of any size.
"""

import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, TypeGuard

import torch
from torch import Tensor

from nanogpt.errors import UserError
from nanogpt.files import open_regular, why

COMPILED = "_orig_mod."  # before all names in a checkpoint of a compiled model
NEEDLESS = re.compile(r"(__builtin__|builtins) bytearray|collections Counter|torch Tensor|torch\.nn\.parameter .*")
COMPUTED = ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4")  # names that are not spelled out, which torch does not write
OLD_PICKLES = 5  # in a file of the old format, before the numbers
LARGEST_PICKLE = 1 << 26  # bytes


def load_tables(path: Path, program: str) -> dict[Any, Any]:
    """Return the dictionary in a file of `torch.save`, with tensors in memory that is mapped from the file.

    Raise `UserError` if it is damaged, is no dictionary, or asks for anything that could run code. `program` wrote it.
    """
    saved: Any = None
    try:
        open_regular(path).close()
        if not (asked := _needless(path)):
            with warnings.catch_warnings(action="ignore"):
                # Only the new format can be mapped, so that the optimizer's state takes no memory.
                saved = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {why(error)}") from None
    except Exception as error:  # of any kind, where the content is damaged or made to do harm
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        asked = found[1] if found else ""
        if not asked:
            raise UserError(f"{path} is not loaded: it is damaged, or another kind of file") from None
    if asked:
        raise UserError(
            f"{path} is not loaded: it asks for {asked[:80]}, which could run code or take any amount of memory"
        )
    if not isinstance(saved, dict):
        raise UserError(f"{path} is not a checkpoint of {program}: it has no table of its parts")
    return saved


def _needless(path: Path) -> str:
    """Return the first name that the pickle in a file asks for and weights do not need, "" if none. Runs nothing."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return next(filter(None, (_needless_in(file) for _ in range(OLD_PICKLES))), "")
    with zipfile.ZipFile(path) as archive:
        for each in archive.infolist():
            if each.filename.endswith("data.pkl"):
                if each.file_size > LARGEST_PICKLE:
                    return f"{each.file_size:,} bytes besides its numbers"
                with archive.open(each) as file:
                    if asked := _needless_in(file):
                        return asked
    return ""


def _needless_in(pickle: IO[bytes]) -> str:
    """Return the same of the next pickle in a file."""
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name in COMPUTED:
            return "a name that is not spelled out"
        if opcode.name in ("GLOBAL", "INST") and NEEDLESS.fullmatch(str(argument)):
            return str(argument).replace(" ", ".")
    return ""


def has_own_numbers(tensors: Iterable[Tensor]) -> bool:
    """Return whether the tensors take about as much memory as their file: each number may belong to two of them."""
    storages, total = dict[int, int](), 0
    for tensor in tensors:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        total += tensor.numel() * tensor.element_size()
    return total <= 2 * sum(storages.values())


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
