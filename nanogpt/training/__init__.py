"""The training loop and its parts.

Exports lazily: the app's first paint and other processes need the commands and their queue without torch.
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

if TYPE_CHECKING:
    from nanogpt.training.control import (
        Command,
        CommandQueue,
        Copy,
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
    from nanogpt.training.train_run import train

__all__ = [
    "Command",
    "CommandQueue",
    "Copy",
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

_HOMES = dict.fromkeys(__all__, "control") | {"train": "train_run", "Snapshot": "snapshot"}

__getattr__ = exports(__name__, _HOMES)
