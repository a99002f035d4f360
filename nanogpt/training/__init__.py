"""The training loop and its parts. Knows nothing of files, screens or where its data comes from.

Exports lazily: the mailbox and its letters are wanted where torch is not (the app's first paint, another process).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanogpt.training.build import train
    from nanogpt.training.mailbox import (
        Copy,
        Letter,
        Mailbox,
        Pause,
        Resume,
        Sample,
        Save,
        ScaleLearningRate,
        SetEvalInterval,
        SetLearningRateScale,
        SetMaxIters,
        Stop,
    )
    from nanogpt.training.snapshot import Snapshot

__all__ = [
    "Copy",
    "Letter",
    "Mailbox",
    "Pause",
    "Resume",
    "Sample",
    "Save",
    "ScaleLearningRate",
    "SetEvalInterval",
    "SetLearningRateScale",
    "SetMaxIters",
    "Snapshot",
    "Stop",
    "train",
]

_HOMES = dict.fromkeys(__all__, "mailbox") | {"train": "build", "Snapshot": "snapshot"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
