"""Models as Hugging Face's transformers keeps them: a folder with `config.json` and safetensors files, both directions.

The configuration is in `huggingface_config.py`, the names of the tensors in `huggingface_names.py`, the tokenizer in
`huggingface_tokenizer.py`. Nothing that is read here can run code.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nanogpt.errors import UserError
from nanogpt.files import apply_umask, new_folder, open_regular, read_json, why
from nanogpt.interop.huggingface_config import config_json, read_model
from nanogpt.interop.huggingface_names import HEAD, Naming
from nanogpt.interop.huggingface_tokenizer import tokenizer_files
from nanogpt.models.base import LanguageModel
from nanogpt.models.gpt2 import Config
from nanogpt.models.meta_device import on_meta_device
from nanogpt.tokenizers import Tokenizer

LARGEST_INDEX = 1 << 24  # bytes: far more than the names of all weights of a model with 1,000 layers
LONGEST_NAME = 255  # characters of a file's name
BUFFERS = (".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")
NUMBERS = ("F32", "F16", "BF16", "F64")


def to_huggingface(model: LanguageModel, end_of_text: int | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return (what belongs into `config.json`, the tensors of `model.safetensors`), of a model of architecture `gpt2`.

    Raise `UserError` as `config_json` does.
    """
    described, naming = config_json(model.config, end_of_text)
    return described, dict(split_tensors(model, naming))


def split_tensors(model: LanguageModel, naming: Naming, vocab_size: int | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a model of architecture `gpt2` by their names there, contiguous, in float32, on the CPU.

    A tied head is left out. Biases that are there and that ours has not are zeros. vocab_size: rows of embedding and
    head; None: all.
    """
    config = cast(Config, model.config)
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().float().cpu()
        if name in ("wte.weight", "head.weight"):
            tensor = tensor[:vocab_size]
        parts = naming.parts(name, tensor.size(0), config)
        for part, rows in zip(parts, tensor.split([part.rows for part in parts]), strict=True):
            yield naming.full(part.name), (rows.t() if naming.is_transposed(name) else rows).contiguous()
        if naming.always_biased and not config.bias and name not in ("wte.weight", "wpe.weight", "head.weight"):
            for part in naming.parts(name.removesuffix("weight") + "bias", tensor.size(0), config):
                yield naming.full(part.name), tensor.new_zeros(part.rows)


def write_huggingface(model: LanguageModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write model and tokenizer into a new folder, which appears whole or not at all.

    Rows of embedding and head that stand for no token are left out: transformers would draw them. Raise `UserError` for
    a folder that is there, for a place where none can be made, and as `to_huggingface` does.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    config, naming = config_json(model.config, tokenizer.end_of_text)
    config["vocab_size"] = tokenizer.vocab_size
    tensors = dict(split_tensors(model, naming, tokenizer.vocab_size))
    files = {"config.json": config, **tokenizer_files(tokenizer, model.config.block_size)}
    if os.path.lexists(folder):
        raise UserError(f"{folder} already exists: choose another folder")
    partial, replaced = (folder.with_name(f".{folder.name}.{os.getpid()}.{role}") for role in ("partial", "replaced"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder, partial, replaced):
            for name, content in files.items():
                text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
                (partial / name).write_text(text, encoding="utf-8")
            weights = partial / "model.safetensors"
            save_file(tensors, weights, metadata={"format": "pt"})
            apply_umask(weights)
    except (OSError, SafetensorError, UnicodeEncodeError) as error:
        raise UserError(f"cannot write {folder}: {why(error)}; choose another place") from None


def from_huggingface(folder: str | Path) -> LanguageModel:
    """Return the model of a folder that `save_pretrained` wrote or the hub serves: float32, on the CPU, in evaluation
    mode. Weights may be in several files (shards), in float32 or a 16-bit format.

    Names and shapes are compared with the files' headers before any memory is taken. Raise `UserError` for a folder of
    another kind, a model that the architecture gpt2 cannot express, and damaged files.
    """
    from safetensors import SafetensorError, safe_open

    folder = Path(folder)
    described = read_model(folder)
    config, naming = described.config, described.naming
    with on_meta_device():
        model = config.build()
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = _expected_shapes(ours, naming, config)
    found: dict[str, tuple[Any, str]] = {}  # by the name without prefix: the file, and the name there
    with ExitStack() as opened:
        for path in _weight_files(folder):
            try:
                open_regular(path).close()
                file = opened.enter_context(safe_open(path, framework="pt"))
                for stored in file.keys():  # noqa: SIM118 (no mapping)
                    name = stored.removeprefix(naming.prefix)
                    if name.endswith(BUFFERS) or (name == f"{HEAD}.weight" and config.tied_head):
                        continue  # made here, or the embedding
                    if name in found:
                        raise UserError(f"{path}: {name} is in the folder twice; fetch it again")
                    _check_tensor(path, name, file.get_slice(stored), expected)
                    found[name] = (file, stored)
            except OSError as error:
                raise UserError(f"cannot read {path}: {why(error)}") from None
            except SafetensorError as error:
                raise UserError(f"{path}: damaged or not a safetensors file ({error}); fetch it again") from None
        if missing := sorted(expected.keys() - found.keys()):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(f"{folder}: {missing[0]} is missing{more}; fetch the folder again")
        tensors = {}
        for name, shape in ours.items():
            rows = []
            for part in naming.parts(name, shape[0], config):
                if not part.name:
                    rows.append(torch.zeros(part.rows, *shape[1:]))
                    continue
                file, stored = found[part.name]
                tensor = file.get_tensor(stored).float()
                tensor = tensor if part.factor == 1 else tensor * part.factor
                rows.append(tensor.t() if naming.is_transposed(name) else tensor)
            tensors[name] = torch.cat(rows) if len(rows) > 1 else rows[0].contiguous()
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def _expected_shapes(ours: dict[str, tuple[int, ...]], naming: Naming, config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the tensors have in the files, by their names without the prefix."""
    expected = {}
    for name, shape in ours.items():
        for part in naming.parts(name, shape[0], config):
            theirs = (part.rows, *shape[1:])
            if part.name:
                expected[part.name] = theirs[::-1] if naming.is_transposed(name) else theirs
    return expected


def _check_tensor(path: Path, name: str, header: Any, expected: dict[str, tuple[int, ...]]) -> None:
    """Raise `UserError` unless the model that config.json describes has such a tensor."""
    if name not in expected:
        raise UserError(f"{path}: {name} does not belong to the model of config.json; fetch the folder again")
    shape = tuple(header.get_shape())
    if shape != expected[name]:
        raise UserError(
            f"{path}: {name} has the shape {shape}, and config.json asks for {expected[name]}; the two files do not "
            "belong together"
        )
    if header.get_dtype() not in NUMBERS:
        raise UserError(f"{path}: {name} is in {header.get_dtype()}: only float32, float16 and bfloat16 can be read")


def _weight_files(folder: Path) -> list[Path]:
    """Return the folder's safetensors files, all of them where it is sharded. Raise `UserError` where it has none."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        try:
            names = sorted(set(read_json(index, LARGEST_INDEX)["weight_map"].values()))
            if not names or any(Path(name).name != name or len(name) > LONGEST_NAME for name in names):
                raise ValueError("its weight_map does not name files of this folder")
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {index}: {why(error)}; fetch it again") from None
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{index} does not say which file has which weights; fetch it again") from None
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise UserError(f"{folder}: {len(missing)} of {len(names)} files of weights are missing ({missing[0]} …)")
        return [folder / name for name in names]
    if pickles := sorted(file.name for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".pth")):
        loaded = f"AutoModelForCausalLM.from_pretrained('{folder}')"
        raise UserError(
            f"{folder} has its weights in {pickles[0]} only, a pickle, which can run code when it is loaded; if you "
            f"trust it, convert it once, in Python: from transformers import AutoModelForCausalLM; "
            f"{loaded}.save_pretrained('{folder}-new')"
        )
    raise UserError(f"{folder} has a config.json and no model.safetensors: fetch the folder again")
