"""nanoGPT's `ckpt.pt`, read without running the code that a pickle can have (`torch_file`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from nanogpt.config import architecture_from
from nanogpt.errors import SettingError, UserError
from nanogpt.interop.torch_file import COMPILED, has_own_numbers, is_plain, load_tables
from nanogpt.models.gpt2 import Config

PREFIX, HEAD = "transformer.", "lm_head.weight"
CAUSAL_MASK = ".attn.bias"  # a buffer in files of early versions
EXACT = 2**53  # below it float64 has all whole numbers
SHAPE = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size", "bias", "dropout")


@dataclass(frozen=True, slots=True)
class NanogptCheckpoint:
    """The content of a `ckpt.pt`, without the optimizer.

    tensors: float32, by our names. best_val_loss: the lowest so far, in nats per token, None if it is not known.
    dataset: the name of nanoGPT's folder with the data; empty if it is not known.
    """

    config: Config
    tensors: dict[str, Tensor]
    step: int
    best_val_loss: float | None
    dataset: str


def read_checkpoint(path: Path) -> NanogptCheckpoint:
    """Return the content of a `ckpt.pt`, or of the one in this folder.

    nanoGPT's MLP has the exact GELU (erf), and `gpt2` GPT-2's tanh form, so losses can differ slightly. Raise
    `UserError` if it is damaged, is another kind of file, or asks for anything that could run code.
    """
    path = path / "ckpt.pt" if path.is_dir() else path
    saved = load_tables(path, "nanoGPT")
    try:
        weights, arguments = saved["model"], saved["model_args"]
        tensors = {str(name).removeprefix(COMPILED): tensor for name, tensor in weights.items()}
        shape = {name: arguments[name] for name in SHAPE if name in arguments}
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is not a checkpoint of nanoGPT: it does not have model and model_args") from None
    for name, value in shape.items():
        if not isinstance(value, int | float):
            raise UserError(f"{path}: {name} in model_args is not a number")
    for name, tensor in tensors.items():
        if not is_plain(tensor):
            raise UserError(f"{path}: {name[:80]} is not a tensor of numbers")
    if not has_own_numbers(tensors.values()):
        raise UserError(f"{path} is not a checkpoint of nanoGPT: many of its tensors are the same numbers")
    head, embedding = tensors.pop(HEAD, None), tensors.get(f"{PREFIX}wte.weight")
    ours = {
        name.removeprefix(PREFIX): tensor.detach().float().contiguous()
        for name, tensor in tensors.items()
        if not name.endswith(CAUSAL_MASK)
    }
    is_tied = (
        head is None or embedding is None or (head.shape == embedding.shape and bool(torch.equal(head, embedding)))
    )
    if head is not None and not is_tied:
        ours["head.weight"] = head.detach().float().contiguous()
    shape = {"bias": "ln_f.bias" in ours, "tied_head": is_tied} | shape
    try:
        config = cast(Config, architecture_from({"architecture": Config.name} | shape))
    except SettingError as error:
        raise UserError(f"{path}: {error}") from None
    settings = saved.get("config")
    dataset = settings.get("dataset") if isinstance(settings, dict) else None
    return NanogptCheckpoint(
        config,
        ours,
        step=max(0, int(_number(saved.get("iter_num")) or 0)),
        best_val_loss=_number(saved.get("best_val_loss")),
        dataset=dataset if isinstance(dataset, str) and Path(dataset).name == dataset else "",
    )


def _number(value: object) -> float | None:
    """Return a number or a tensor of one number; None for anything else and from 2^53 on, infinite ones too."""
    if is_plain(value) and value.numel() == 1:
        value = value.item()
    return float(value) if isinstance(value, int | float) and abs(value) < EXACT else None
