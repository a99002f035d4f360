"""The `config.json` of the Hugging Face models that the architecture gpt2 expresses, read and made. Imports no torch.

GPT-2, GPT-Neo (the TinyStories models), and Llama with what has its layers: Mistral, Qwen2, SmolLM. A setting that our
layers do not have, such as scaled rotary positions, is refused with its name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

from nanogpt.config import ArchitectureConfig, architecture_from
from nanogpt.errors import SettingError, UserError
from nanogpt.files import read_json, why
from nanogpt.interop.huggingface_names import GPT2, GPT_NEO, LLAMA, MLP_IN, QKV, Naming
from nanogpt.models.gpt2 import Config

Values = Mapping[str, Any]
ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "relu2": "relu2"}  # by our names
MOST_LAYERS = 1001  # one more than can be built
NO_QUANTIZATION: dict[str, tuple[Any, ...]] = {"quantization_config": (None,)}


@dataclass(frozen=True, slots=True)
class Described:
    """A model in a folder: its shape, and the names of its tensors there."""

    config: Config
    naming: Naming


@dataclass(frozen=True, slots=True)
class Family:
    """The models of one `model_type`.

    fixed: the values that a key of config.json may have; the first is that of a missing key. shape: from config.json to
    our settings. naming: from config.json to the names of the tensors.
    """

    fixed: Mapping[str, tuple[Any, ...]]
    shape: Callable[[Values], dict[str, Any]]
    naming: Callable[[Values], Naming]


def is_huggingface(folder: Path) -> bool:
    """Return whether the folder has the `config.json` of a Hugging Face model."""
    return (folder / "config.json").exists()


def read_config(folder: Path) -> Config:
    """Return the shape of the model in a folder. Raise `UserError` as `read_model` does."""
    return read_model(folder).config


def read_model(folder: Path) -> Described:
    """Return the model in a folder. Raise `UserError` for one that the architecture gpt2 cannot express."""
    path = folder / "config.json"
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise UserError(f"no {path}: a Hugging Face folder holds config.json and model.safetensors") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {why(error)}") from None
    if not isinstance(values, dict) or "model_type" not in values:
        raise UserError(f"{path}: this is not the configuration of a Hugging Face model")
    kind = values["model_type"]
    if not isinstance(kind, str) or kind not in FAMILIES:
        reason = "a mixture of experts" if any("expert" in key for key in values) else "its layers are not known here"
        raise UserError(f"{path}: model_type={_shown(kind)}: {reason}; {', '.join(FAMILIES)} can be read")
    family = FAMILIES[kind]
    try:
        for name, allowed in {**family.fixed, **NO_QUANTIZATION}.items():
            if not any(values.get(name, allowed[0]) == value for value in allowed):
                raise _Unsupported(name, values.get(name, allowed[0]), f"only {_shown(allowed[0])} can be read")
        config = cast(Config, architecture_from({"architecture": Config.name} | family.shape(values)))
    except _Unsupported as error:
        raise UserError(f"{path}: {error.name}={_shown(error.value)}: {error.reason}") from None
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]} is missing; fetch the folder again") from None
    except SettingError as error:
        raise UserError(f"{path}: {error}") from None
    except (TypeError, ValueError, AttributeError, ZeroDivisionError):
        raise UserError(f"{path}: its numbers are not those of a model; fetch the folder again") from None
    if config.vocab_size < 1:
        raise UserError(f"{path}: vocab_size={config.vocab_size}: has to be at least 1")
    return Described(config, family.naming(values))


class _Unsupported(Exception):
    """A key of config.json has a value that our layers cannot express."""

    def __init__(self, name: str, value: object, reason: str) -> None:
        super().__init__(name)
        self.name, self.value, self.reason = name, value, reason


# ---- reading


def _gpt2_shape(values: Values) -> dict[str, Any]:
    """Return our settings; the defaults are those of GPT-2's smallest."""
    return {
        "vocab_size": values.get("vocab_size", 50257),
        "block_size": values.get("n_positions", values.get("n_ctx", 1024)),
        "n_embd": values.get("n_embd", 768),
        "n_layer": values.get("n_layer", 12),
        "n_head": values.get("n_head", 12),
        "mlp_width": values.get("n_inner") or 0,
        "activation": _activation(values),
        "norm_eps": values.get("layer_norm_epsilon", 1e-5),
        "tied_head": values.get("tie_word_embeddings", True),
        "bias": True,
    }


def _gpt_neo_shape(values: Values) -> dict[str, Any]:
    """Return our settings. Our local blocks are every second one, or none."""
    layers, size = values["num_layers"], values["hidden_size"]
    repeated = (pattern for pattern, times in values["attention_types"] for _ in range(min(times, MOST_LAYERS)))
    kinds = list(islice(chain.from_iterable(repeated), MOST_LAYERS))
    is_local = len(kinds) > 1 and all(kind == ("local" if at % 2 else "global") for at, kind in enumerate(kinds))
    if len(kinds) != layers or not (is_local or all(kind == "global" for kind in kinds)):
        raise _Unsupported(
            "attention_types", values["attention_types"], "only global and local blocks in turn, or global ones"
        )
    return {
        "vocab_size": values["vocab_size"],
        "block_size": values["max_position_embeddings"],
        "n_embd": size,
        "n_layer": layers,
        "n_head": values["num_heads"],
        "mlp_width": values.get("intermediate_size") or 0,
        "activation": _activation(values),
        "norm_eps": values.get("layer_norm_epsilon", 1e-5),
        "tied_head": values.get("tie_word_embeddings", True),
        "local_window": values.get("window_size", 256) if is_local else 0,
        "bias": True,
    }


def _llama_shape(values: Values) -> dict[str, Any]:
    """Return our settings for Llama and for what has its layers."""
    size, heads, positions = values["hidden_size"], values["num_attention_heads"], values["max_position_embeddings"]
    if values.get("head_dim") not in (None, size // heads):
        raise _Unsupported("head_dim", values["head_dim"], f"only hidden_size / num_attention_heads = {size // heads}")
    rotary = values.get("rope_parameters") or {}
    scaling = values.get("rope_scaling") or {}
    kind = rotary.get("rope_type") or scaling.get("rope_type") or scaling.get("type") or "default"
    if kind != "default":
        raise _Unsupported("rope_type", kind, "scaled rotary positions cannot be expressed")
    turned = rotary.get("partial_rotary_factor", values.get("partial_rotary_factor"))
    if turned not in (None, 1):
        raise _Unsupported("partial_rotary_factor", turned, "only heads that are rotated as a whole can be expressed")
    window = values.get("sliding_window", 4096 if values["model_type"] == "mistral" else None)
    if values.get("use_sliding_window", True) and window is not None and window < positions:
        raise _Unsupported("sliding_window", window, "local attention in all blocks cannot be expressed")
    if any(kind != "full_attention" for kind in values.get("layer_types") or ()):
        raise _Unsupported("layer_types", values["layer_types"], "only full attention in all blocks can be expressed")
    return {
        "vocab_size": values["vocab_size"],
        "block_size": positions,
        "n_embd": size,
        "n_layer": values["num_hidden_layers"],
        "n_head": heads,
        "n_kv_head": values.get("num_key_value_heads") or 0,
        "mlp_width": values["intermediate_size"],
        "norm_eps": values.get("rms_norm_eps", 1e-6),
        "rotary_base": rotary.get("rope_theta", values.get("rope_theta", 10_000.0)),
        "tied_head": values.get("tie_word_embeddings", False),
        "bias": values["model_type"] == "qwen2" or any(values.get(name) for name in ("attention_bias", "mlp_bias")),
        "positions": "rotary",
        "norm": "rms",
        "activation": "swiglu",
    }


def _llama_naming(values: Values) -> Naming:
    """Return the names, with the modules that have no bias: ours has one in each as soon as some have one."""
    mlp = (MLP_IN, "mlp.c_proj")
    without: tuple[str, ...]
    if values["model_type"] == "qwen2":  # queries, keys and values have one
        without = ("attn.c_proj", *mlp)
    else:
        without = () if values.get("attention_bias") else (QKV, "attn.c_proj")
        without += () if values.get("mlp_bias") else mlp
    return replace(LLAMA, unbiased=frozenset(name for module in without for name in LLAMA.modules[module]))


def _activation(values: Values) -> str:
    """Return our name of the activation. Raise `_Unsupported`."""
    theirs = values.get("activation_function", "gelu_new")
    ours = {"gelu_pytorch_tanh": "gelu"} | {theirs: ours for ours, theirs in ACTIVATIONS.items()}
    if theirs not in ours:
        raise _Unsupported("activation_function", theirs, f"only {', '.join(ours)} can be read")
    return ours[theirs]


FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        {
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
        },
        _gpt2_shape,
        lambda values: GPT2,
    ),
    "gpt_neo": Family({}, _gpt_neo_shape, lambda values: GPT_NEO),
} | {kind: Family({"hidden_act": ("silu",)}, _llama_shape, _llama_naming) for kind in ("llama", "mistral", "qwen2")}


# ---- writing

REQUIRED: dict[str, dict[str, tuple[Any, ...]]] = {  # of our settings; the first value is the one that a message names
    "GPT-2": {
        "positions": ("learned",),
        "norm": ("layer",),
        "norm_position": ("before",),
        "activation": tuple(ACTIVATIONS),
        "feed_forward": (True,),
        "residual": (True,),
        "qk_norm": (False,),
        "logit_cap": (0.0,),
    },
    "Llama": {
        "norm": ("rms",),
        "norm_position": ("before",),
        "activation": ("swiglu",),
        "feed_forward": (True,),
        "residual": (True,),
        "qk_norm": (False,),
        "logit_cap": (0.0,),
    },
}


def config_json(config: ArchitectureConfig, end_of_text: int | None) -> tuple[dict[str, Any], Naming]:
    """Return what belongs into `config.json`, and the names of the tensors: a GPT-2's, or with rotary positions a
    Llama's.

    end_of_text: the id of the token that separates documents. Raise `UserError` for another architecture than gpt2, and
    for settings that make it another model than these.
    """
    if not isinstance(config, Config):
        raise UserError(f"architecture={config.name}: only gpt2 can be written for transformers and llama.cpp")
    title = "Llama" if config.positions == "rotary" else "GPT-2"
    for name, allowed in REQUIRED[title].items():
        if (value := getattr(config, name)) not in allowed:
            raise _refusal(title, name, value, allowed[0])
    if title == "GPT-2" and config.kv_heads != config.n_head:
        raise _refusal(title, "n_kv_head", config.n_kv_head, config.n_head)
    if config.window(1) < config.block_size and config.n_layer > 1:
        raise _refusal(title, "local_window", config.local_window, 0)
    common = {
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": "float32",
    }
    if title == "GPT-2":
        return _gpt2_json(config) | common, GPT2
    return _llama_json(config) | common, LLAMA


def _gpt2_json(config: Config) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.mlp_width or None,
        "activation_function": ACTIVATIONS[config.activation],
        "layer_norm_epsilon": config.norm_eps,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
    }


def _llama_json(config: Config) -> dict[str, Any]:
    """Return the keys of a Llama; the base of its rotary positions under the names of all versions of transformers."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "max_position_embeddings": config.block_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.hidden_width,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.n_embd // config.n_head,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rotary_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_base},
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "attention_dropout": config.dropout,
    }


def _refusal(title: str, name: str, value: object, published: object) -> UserError:
    return UserError(
        f"{name}={value}: a Hugging Face {title} has only {name}={published}; such a model cannot be exported"
    )


def _shown(value: object) -> str:
    """A value of any kind and size in a few characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
