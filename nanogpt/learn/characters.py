"""What experiments with the characters of a text share: their ids, and a learning-rate schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nanogpt.learn.text import lesson_text
from nanogpt.tokenizers import create

if TYPE_CHECKING:
    from torch import Tensor

    from nanogpt.tokenizers import Tokenizer

VALIDATION_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Characters:
    """A text as characters: `train` and `validation` are the ids (n,) int64 of its beginning and of its end."""

    origin: str
    text: str
    tokenizer: "Tokenizer"
    train: "Tensor"
    validation: "Tensor"

    @property
    def training_text(self) -> str:
        """The part of the text whose ids are `train`."""
        return self.text[: len(self.train)]


def character_ids(text: str) -> "tuple[Tokenizer, Tensor]":
    """Return a tokenizer of the characters of a text, and the text as its ids (n,) int64."""
    import torch

    tokenizer = create("char", [text])
    return tokenizer, torch.from_numpy(tokenizer.encode_to_array(text).astype("int64"))


def read_characters(data_dir: Path | None) -> Characters:
    """Return the text of the lessons as ids of characters. Raise `UserError` if a data set cannot be read."""
    found = lesson_text(data_dir)
    tokenizer, ids = character_ids(found.text)
    cut = round(len(ids) * (1 - VALIDATION_SHARE))
    return Characters(found.origin, found.text, tokenizer, ids[:cut], ids[cut:])


def warm_up_and_decay(steps: int) -> Callable[[int], float]:
    """Return the factor of the learning rate: it rises for a twentieth of the steps, then falls in a line to 0."""
    rising = max(1, steps // 20)
    return lambda step: min(1.0, (step + 1) / rising, (steps - step) / max(1, steps - rising))
