"""nanochat's `model_NNNNNN.pt`, `meta_NNNNNN.json` and `tokenizer.pkl`, read without running code.

Its model up to 2026-01-10 is our gpt2 with other settings: rotary positions, RMSNorm without weights, ReLU², normalised
queries and keys, an untied head with capped logits. What differs is folded into the weights, exactly:

- It normalises the token embeddings; here they are stored normalised.
- It rotates by the negative angle. With S, which negates the second number of each pair, S·R(-a)·S = R(a), and queries
  and keys that are both multiplied by S have the same products. So the second half of each head's rows is negated.

nanochat rounds the cosines and sines of the angles to bfloat16; here they have float32. Its later models mix in the
first embedding, value embeddings and earlier positions, for which no architecture here has parts.
"""

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from nanogpt.config import architecture_from
from nanogpt.data.plain_pickle import READ_ERRORS, plain_values
from nanogpt.errors import SettingError, UserError
from nanogpt.files import read_bytes, read_json, why
from nanogpt.interop.torch_file import COMPILED, is_plain, load_tables
from nanogpt.models.gpt2 import Config
from nanogpt.tokenizers import Tokenizer, tokenizer_class

MODEL_FILE = re.compile(r"model_([0-9]{1,12})\.pt")
SHAPE = ("n_layer", "n_head", "n_kv_head", "n_embd", "sequence_len", "vocab_size")
LATER_PARTS = {  # of models since 2026-01-11, by the start of a part of their names
    "backout": "a middle layer that is subtracted",
    "resid_lambdas": "weights of the residual stream",
    "smear": "a mix with the position before",
    "value_embeds": "value embeddings",
    "ve": "value embeddings",
    "x0_lambdas": "the first embedding in each block",
}
EMBEDDING, HEAD = "transformer.wte.weight", "lm_head.weight"
ENCODING = "tiktoken.core.Encoding"  # the class of the object in tokenizer.pkl
MOST_TOKENIZER_BYTES = 1 << 26
ROTARY_BASE, LOGIT_CAP = 10_000.0, 15.0


@dataclass(frozen=True, slots=True)
class NanochatCheckpoint:
    """A model of nanochat. tensors: float32, by our names."""

    config: Config
    tensors: dict[str, Tensor]
    step: int


def find_model(path: Path) -> Path:
    """Return a model's file: this one, or the latest step in this folder. Raise `UserError` if there is none."""
    if MODEL_FILE.fullmatch(path.name):
        return path
    try:
        found = [file for file in path.iterdir() if MODEL_FILE.fullmatch(file.name)]
    except OSError as error:
        raise UserError(f"cannot read {path}: {why(error)}; give nanochat's model_NNNNNN.pt or its folder") from None
    if not found:
        raise UserError(f"{path} has no model_NNNNNN.pt: give a folder such as nanochat's base_checkpoints/d20")
    return max(found, key=_step)


def read_nanochat(file: Path) -> NanochatCheckpoint:
    """Return the model in a `model_NNNNNN.pt`, whose shape is in the `meta_NNNNNN.json` beside it.

    Raise `UserError` if it is damaged, has parts that gpt2 does not have, or asks for anything that could run code.
    """
    meta = file.with_name(file.name.replace("model_", "meta_").replace(".pt", ".json"))
    config = _read_config(meta)
    saved = {str(name).removeprefix(COMPILED): each for name, each in load_tables(file, "nanochat").items()}
    if later := {what for name in saved for start, what in LATER_PARTS.items() if f".{start}" in f".{name}"}:
        raise UserError(
            f"{file} has parts that no architecture here has: {', '.join(sorted(later))}. nanochat's models have them "
            "since 2026-01-11; earlier ones can be imported"
        )
    sizes = _sizes(config)
    for name, (rows, columns) in sizes.items():
        tensor = saved.get(name)
        if not is_plain(tensor) or tensor.dim() != 2 or tensor.size(1) != columns:
            raise UserError(f"{file}: {name} is missing, or is no matrix of {rows:,} × {columns:,} numbers")
        # the vocabulary is rounded up to a multiple of 64
        if tensor.size(0) < rows or (tensor.size(0) > rows and name not in (EMBEDDING, HEAD)):
            raise UserError(f"{file}: {name} has {tensor.size(0):,} rows, and {meta.name} means {rows:,}")
    if unknown := next((name for name in saved if name not in sizes), None):
        raise UserError(f"{file}: {unknown[:80]} is no part of a model of nanochat that is known here")
    matrices = {name: saved[name][: sizes[name][0]].detach().float() for name in sizes}
    return NanochatCheckpoint(config, _converted(config, matrices), _step(file))


def read_nanochat_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer in a `tokenizer.pkl`, an encoding of tiktoken, of which only the plain values are read.

    Raise `UserError` if it is damaged or anything else.
    """
    try:
        state = plain_values(read_bytes(path, MOST_TOKENIZER_BYTES), [ENCODING])
        ranks, special = state["mergeable_ranks"], state["special_tokens"]
        vocabulary = sorted(ranks, key=ranks.__getitem__)
        if [*map(ranks.__getitem__, vocabulary)] != [*range(len(ranks))]:
            raise ValueError("its tokens are not numbered from 0 on")
        encoded = [base64.b64encode(token).decode() for token in vocabulary]
        plain = {"pattern": state["pat_str"], "vocabulary": encoded, "special_tokens": special}
        return tokenizer_class("bpe").from_json(plain)
    except READ_ERRORS as error:
        problem = why(error) if isinstance(error, OSError | ValueError) else "a part of it is missing or damaged"
        raise UserError(f"{path} is not a tokenizer of nanochat: {problem}") from None


def _step(file: Path) -> int:
    found = MODEL_FILE.fullmatch(file.name)
    return int(found[1]) if found else 0


def _read_config(meta: Path) -> Config:
    """Return the shape in a `meta_NNNNNN.json`. Raise `UserError`."""
    try:
        shape: dict[str, Any] = read_json(meta)["model_config"]
        sizes = {name: shape[name] for name in SHAPE}
        if not all(type(size) is int for size in sizes.values()):
            raise ValueError("a size in model_config is no whole number")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {meta}, which has the model's shape: {why(error)}") from None
    except (KeyError, TypeError):
        raise UserError(f"{meta} does not have nanochat's model_config with {', '.join(SHAPE)}") from None
    if (pattern := str(shape.get("window_pattern", "L"))[:40]).strip("lL"):
        raise UserError(f"{meta}: window_pattern={pattern}: only L, the whole window in each block, is known here")
    settings = {name: sizes[name] for name in ("n_layer", "n_head", "n_kv_head", "n_embd", "vocab_size")}
    settings |= {"block_size": sizes["sequence_len"], "positions": "rotary", "rotary_base": ROTARY_BASE}
    settings |= {"norm": "rms", "norm_eps": torch.finfo(torch.float32).eps, "activation": "relu2", "qk_norm": True}
    settings |= {"tied_head": False, "logit_cap": LOGIT_CAP, "bias": False}
    try:
        return cast(Config, architecture_from({"architecture": Config.name} | settings))
    except SettingError as error:
        raise UserError(f"{meta}: {error}") from None


def _sizes(config: Config) -> dict[str, tuple[int, int]]:
    """Return rows and columns of each matrix by nanochat's names."""
    V, C = config.vocab_size, config.n_embd
    kv = C * config.kv_heads // config.n_head
    block = {"attn.c_q": (C, C), "attn.c_k": (kv, C), "attn.c_v": (kv, C), "attn.c_proj": (C, C)}
    block |= {"mlp.c_fc": (4 * C, C), "mlp.c_proj": (C, 4 * C)}
    blocks = {
        f"transformer.h.{layer}.{name}.weight": size for layer in range(config.n_layer) for name, size in block.items()
    }
    return {EMBEDDING: (V, C), **blocks, HEAD: (V, C)}


def _converted(config: Config, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by our names from those by nanochat's."""
    C, ones = config.n_embd, torch.ones(config.n_embd)
    ours = {"wte.weight": F.rms_norm(theirs[EMBEDDING], (C,)), "head.weight": theirs[HEAD].contiguous()}
    for layer in range(config.n_layer):
        block = {
            name: theirs[f"transformer.h.{layer}.{name}.weight"]
            for name in ("attn.c_q", "attn.c_k", "attn.c_v", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
        }
        q, k = (_rotating_forwards(block[name], C // config.n_head) for name in ("attn.c_q", "attn.c_k"))
        ours |= {
            f"h.{layer}.ln_1.weight": ones.clone(),
            f"h.{layer}.attn.c_attn.weight": torch.cat((q, k, block["attn.c_v"])),
            f"h.{layer}.attn.c_proj.weight": block["attn.c_proj"].contiguous(),
            f"h.{layer}.ln_2.weight": ones.clone(),
            f"h.{layer}.mlp.c_fc.weight": block["mlp.c_fc"].contiguous(),
            f"h.{layer}.mlp.c_proj.weight": block["mlp.c_proj"].contiguous(),
        }
    return ours | {"ln_f.weight": ones}


def _rotating_forwards(weight: Tensor, head_size: int) -> Tensor:
    """Return the rows (heads · hs, C) of queries or keys with the second half of each head negated."""
    first, second = weight.view(-1, 2, head_size // 2, weight.size(1)).unbind(1)
    return torch.stack((first, -second), 1).view_as(weight)
