"""GPT-2 as Hugging Face's transformers keeps it: a folder with `config.json` and `model.safetensors`, both directions.

Knows nothing of runs or tokenizers. Nothing that is read here can run code.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nanogpt.config import architecture_from
from nanogpt.errors import SettingError, UserError
from nanogpt.models.base import LanguageModel
from nanogpt.models.gpt2.config import Config

PREFIX = "transformer."
END_OF_TEXT = 50_256  # in GPT-2's own vocabulary
# GPT-2's Conv1D keeps its weights as (in, out), a Linear as (out, in).
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
CAUSAL_MASKS = (".attn.bias", ".attn.masked_bias")  # buffers that old files carry
# What our one GPT-2 does and a config.json could ask otherwise.
FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "tie_word_embeddings": (True,),
    "add_cross_attention": (False,),
}


def to_huggingface(model: LanguageModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(what belongs into `config.json`, the tensors of `model.safetensors`), of a model of architecture `gpt2`.

    Tensors are contiguous and on the CPU; the head is `wte`, tied on load. Missing biases become zeros.
    Raises `UserError` for another architecture.
    """
    config = model.config
    if not isinstance(config, Config):
        raise UserError(f"architecture={config.name}: only gpt2 can be written as a Hugging Face GPT-2")
    tensors = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu()
        tensors[PREFIX + name] = (tensor.t() if name.endswith(TRANSPOSED) else tensor).contiguous()
        bias = name.removesuffix("weight") + "bias"
        if not config.bias and name not in ("wte.weight", "wpe.weight"):
            tensors[PREFIX + bias] = tensor.new_zeros(tensor.size(0))
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": True,
        **dict.fromkeys(("bos_token_id", "eos_token_id"), END_OF_TEXT if config.vocab_size > END_OF_TEXT else None),
        "torch_dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
    }, tensors


def write_huggingface(model: LanguageModel, folder: Path) -> None:
    """Writes both files into a new folder, which appears whole or not at all. Raises `UserError` for one that is there,
    for a place where none can be made, and as `to_huggingface` does."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    config, tensors = to_huggingface(model)
    if folder.exists():
        raise UserError(f"{folder} is there already: give another folder")
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        part.mkdir(parents=True)
        (part / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
        part.rename(folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {folder}: {error}; choose another place") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def from_huggingface(folder: str | Path) -> LanguageModel:
    """The model of a folder that `save_pretrained` wrote or the hub serves: float32, on the CPU, in evaluation mode.

    Raises `UserError` for a folder of another kind, another model than GPT-2, and damaged files.
    """
    folder = Path(folder)
    config = _model_config(folder / "config.json")
    path = folder / "model.safetensors"
    with torch.device("meta"):  # no memory and no random numbers for weights that are about to be replaced
        model = config.build()
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = _tensors(path)
    if found.keys() != expected.keys():
        odd = sorted(found.keys() ^ expected.keys())
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        state = "is missing" if odd[0] in expected else "does not belong to a GPT-2 of this config.json"
        raise UserError(f"{path}: {odd[0]} {state}{more}; fetch the folder again")
    for name, tensor in found.items():
        if tuple(tensor.shape) != expected[name]:
            raise UserError(
                f"{path}: {name} has the shape {tuple(tensor.shape)}, and config.json asks for {expected[name]}; "
                "the two files do not belong together"
            )
    model.load_state_dict(found, assign=True)
    return model.eval()


def _model_config(path: Path) -> Config:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {path}: a Hugging Face folder holds config.json and model.safetensors") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(values, dict) or "model_type" not in values:
        raise UserError(f"{path}: this is not the configuration of a Hugging Face model")
    for name, allowed in FIXED.items():
        if values.get(name, allowed[0]) not in allowed:
            raise UserError(f"{path}: {name}={values[name]!r} is not GPT-2 as published; it has to be {allowed[0]!r}")
    shape = {
        "architecture": Config.name,
        "vocab_size": values.get("vocab_size", 50257),
        "block_size": values.get("n_positions", values.get("n_ctx", 1024)),
        "n_embd": values.get("n_embd", 768),
        "n_layer": values.get("n_layer", 12),
        "n_head": values.get("n_head", 12),
        "bias": True,
    }
    try:
        config = cast(Config, architecture_from(shape))
    except SettingError as error:
        raise UserError(f"{path}: {error}") from None
    if config.vocab_size < 1:
        raise UserError(f"{path}: vocab_size={config.vocab_size}: has to be at least 1")
    if values.get("n_inner") not in (None, 4 * config.n_embd):
        raise UserError(f"{path}: n_inner={values['n_inner']!r} is not GPT-2 as published; it has to be 4 × n_embd")
    return config


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors by our names, turned our way, in float32."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(path)
    except FileNotFoundError:
        raise UserError(f"no {path}: weights are read from safetensors only, never from pickled files") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: damaged or no safetensors file ({error}); fetch it again") from None
    tensors = {}
    for name, tensor in stored.items():
        name = name.removeprefix(PREFIX)
        if name.endswith(CAUSAL_MASKS) or name == "lm_head.weight":
            continue  # masks are made, and the head is wte
        tensors[name] = (tensor.t() if name.endswith(TRANSPOSED) and tensor.dim() == 2 else tensor).float().contiguous()
    return tensors
