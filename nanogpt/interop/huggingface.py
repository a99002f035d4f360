"""GPT-2 as Hugging Face's transformers keeps it: a folder with `config.json` and `model.safetensors`, both directions.

Its configuration is in `huggingface_config.py`, its tokenizer in `huggingface_tokenizer.py`. Nothing that is read here
can run code.
"""

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from nanogpt.errors import UserError
from nanogpt.files import apply_umask, new_folder, open_regular, read_json, why
from nanogpt.interop.huggingface_config import config_json, read_config
from nanogpt.interop.huggingface_tokenizer import tokenizer_files
from nanogpt.models.base import LanguageModel
from nanogpt.models.gpt2 import Config
from nanogpt.models.meta_device import on_meta_device
from nanogpt.tokenizers import Tokenizer

LARGEST_INDEX = 1 << 24  # bytes: far more than the names of all weights of a model with 1,000 layers
PREFIX = "transformer."
# GPT-2's Conv1D keeps its weights as (in, out), a Linear as (out, in).
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
CAUSAL_MASKS = (".attn.bias", ".attn.masked_bias")  # buffers that old files carry


def to_huggingface(model: LanguageModel, end_of_text: int | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return (what belongs into `config.json`, the tensors of `model.safetensors`), of a model of architecture `gpt2`.

    Tensors are contiguous, in float32 and on the CPU; the head is `wte`, tied on load. Missing biases become zeros.
    Raise `UserError` as `config_json` does.
    """
    described = config_json(model.config, end_of_text)
    biases = isinstance(model.config, Config) and model.config.bias
    tensors = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().float().cpu()
        tensors[PREFIX + name] = (tensor.t() if name.endswith(TRANSPOSED) else tensor).contiguous()
        bias = name.removesuffix("weight") + "bias"
        if not biases and name not in ("wte.weight", "wpe.weight"):
            tensors[PREFIX + bias] = tensor.new_zeros(tensor.size(0))
    return described, tensors


def write_huggingface(model: LanguageModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write model and tokenizer into a new folder, which appears whole or not at all.

    Rows of the embedding that stand for no token are left out: transformers would draw them. Raise `UserError` for a
    folder that is there, for a place where none can be made, and as `to_huggingface` does.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    config, tensors = to_huggingface(model, tokenizer.end_of_text)
    config["vocab_size"] = tokenizer.vocab_size
    embedding = f"{PREFIX}wte.weight"
    tensors[embedding] = tensors[embedding][: tokenizer.vocab_size].contiguous()
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
    mode. Weights may be in several files (shards).

    Names and shapes are compared with the files' headers before any memory is taken. Raise `UserError` for a folder of
    another kind, another model than GPT-2, and damaged files.
    """
    from safetensors import SafetensorError, safe_open

    folder = Path(folder)
    with on_meta_device():
        model = read_config(folder).build()
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found: dict[str, tuple[Any, str]] = {}  # by our names: the file, and the name there
    with ExitStack() as opened:
        for path in _weight_files(folder):
            try:
                open_regular(path).close()
                file = opened.enter_context(safe_open(path, framework="pt"))
                for stored in file.keys():  # noqa: SIM118 (no mapping)
                    name = stored.removeprefix(PREFIX)
                    if name.endswith(CAUSAL_MASKS) or name == "lm_head.weight":
                        continue  # masks are made, and the head is wte
                    _check_shape(path, name, tuple(file.get_slice(stored).get_shape()), expected)
                    found[name] = (file, stored)
            except OSError as error:
                raise UserError(f"cannot read {path}: {why(error)}") from None
            except SafetensorError as error:
                raise UserError(f"{path}: damaged or not a safetensors file ({error}); fetch it again") from None
        if missing := sorted(expected.keys() - found.keys()):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(f"{folder}: {missing[0]} is missing{more}; fetch the folder again")
        tensors = {}
        for name, (file, stored) in found.items():
            tensor = file.get_tensor(stored)
            tensors[name] = (tensor.t() if name.endswith(TRANSPOSED) else tensor).float().contiguous()
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def _check_shape(path: Path, name: str, shape: tuple[int, ...], expected: dict[str, tuple[int, ...]]) -> None:
    """Raise `UserError` unless the model that config.json describes has such a tensor."""
    if name not in expected:
        raise UserError(f"{path}: {name} does not belong to a GPT-2 of this config.json; fetch the folder again")
    asked = expected[name][::-1] if name.endswith(TRANSPOSED) else expected[name]
    if shape != asked:
        raise UserError(
            f"{path}: {name} has the shape {shape}, and config.json asks for {asked}; the two files do not belong "
            "together"
        )


def _weight_files(folder: Path) -> list[Path]:
    """Return the folder's safetensors files, all of them where it is sharded. Raise `UserError` where it has none."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        try:
            names = sorted(set(read_json(index, LARGEST_INDEX)["weight_map"].values()))
            if not names or any(Path(name).name != name for name in names):
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
