"""The training loop and its parts. Knows nothing of files, screens or where its data comes from.

Exports lazily: the mailbox and its letters are wanted where torch is not (the app's first paint, another process).
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

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

__getattr__ = exports(__name__, _HOMES)
