"""The `config.json` of a Hugging Face GPT-2, read and made. Imports no torch."""

from pathlib import Path
from typing import Any, cast

from nanogpt.config import ArchitectureConfig, architecture_from
from nanogpt.errors import SettingError, UserError
from nanogpt.files import read_json, why
from nanogpt.models.gpt2 import Config

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


def config_json(config: ArchitectureConfig, end_of_text: int | None) -> dict[str, Any]:
    """Return what belongs into `config.json`. `end_of_text`: the id of the token that separates documents.

    Raise `UserError` for another architecture than gpt2, and for settings that make it another model than GPT-2.
    """
    if not isinstance(config, Config):
        raise UserError(f"architecture={config.name}: only gpt2 can be written as a Hugging Face GPT-2")
    if difference := config.first_difference():
        name, value, published = difference
        raise UserError(
            f"{name}={value}: a Hugging Face GPT-2 has only {name}={published}; such a model cannot be exported"
        )
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
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": "float32",
    }


def is_huggingface(folder: Path) -> bool:
    """Return whether the folder has the `config.json` of a Hugging Face model."""
    return (folder / "config.json").exists()


def read_config(folder: Path) -> Config:
    """Return the shape of the model in a folder. Raise `UserError` for another model than GPT-2 as published."""
    path = folder / "config.json"
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise UserError(f"no {path}: a Hugging Face folder holds config.json and model.safetensors") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {why(error)}") from None
    if not isinstance(values, dict) or "model_type" not in values:
        raise UserError(f"{path}: this is not the configuration of a Hugging Face model")
    for name, allowed in FIXED.items():
        if values.get(name, allowed[0]) not in allowed:
            raise UserError(
                f"{path}: {name}={_shown(values[name])} is not GPT-2 as published; it has to be {allowed[0]!r}"
            )
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
        inner = _shown(values["n_inner"])
        raise UserError(f"{path}: n_inner={inner} is not GPT-2 as published; it has to be 4 × n_embd")
    return config


def _shown(value: object) -> str:
    """A value of any kind and size in a few characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
