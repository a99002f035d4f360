"""The weights of any model as one safetensors file, with its settings in the file's header."""

import json
from pathlib import Path

from nanogpt.errors import UserError
from nanogpt.files import new_file, why
from nanogpt.models.base import LanguageModel


def write_safetensors(model: LanguageModel, path: Path) -> None:
    """Write the tensors by our names into a new file, which appears whole or not at all.

    The header's `config` is the architecture with its settings as JSON. Raise `UserError` for a file that exists or
    cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        with new_file(path) as partial:
            save_file(tensors, partial, metadata={"format": "pt", "config": json.dumps(model.config.to_dict())})
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {path}: {why(error)}; choose another place") from None
