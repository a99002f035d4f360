"""The base class of dashboards, and the metrics that they show, by nanoGPT's names for Weights & Biases."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from nanogpt.events import Evaluated, Event, GradientNoise

STEP_METRICS = {
    "train/step_loss": "loss",
    "lr": "learning_rate",
    "grad_norm": "grad_norm",
    "tokens_per_second": "tokens_per_second",
    "mfu": "mfu",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardRun:
    """The run that a dashboard shows. `folder` is for its files and need not exist; training starts at `step`."""

    name: str
    folder: Path
    project: str = "nanogpt"
    step: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


class Dashboard:
    """Shows the metrics of one training.

    It lives in a process of its own, so it may be slow or fail without an effect on the training. `package` is the
    module that it imports, in its methods only; `extra` of this distribution installs it, "" for a dashboard of an
    installed package.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    extra: ClassVar[str] = ""

    def __init__(self, run: DashboardRun) -> None:
        """Start to show a training."""

    def log(self, step: int, time: float, metrics: Mapping[str, float]) -> None:
        """Show the metrics of a step. `time` is in seconds since 1970. Steps may repeat after a rollback."""
        raise NotImplementedError

    def flush(self) -> None:
        """Make visible what was logged. Called when there are no more metrics for the moment."""

    def close(self) -> None:
        """Flush and release resources, at the end of the training."""

    @classmethod
    def advice(cls) -> str:
        """Return how to install the package."""
        return f"pip install 'nanogpt-tui[{cls.extra}]'" if cls.extra else f"pip install {cls.package}"


def log_event(dashboard: Dashboard, event: Event) -> None:
    """Show what an event that is not a `Step` measured."""
    match event:
        case Evaluated():
            losses = {"train/loss": event.train_loss, "val/loss": event.val_loss, "val/ema_loss": event.ema_val_loss}
            metrics = {name: value for name, value in losses.items() if value is not None}
            dashboard.log(event.step, event.time, metrics)
        case GradientNoise(noise_scale=float(scale)):
            dashboard.log(event.step, event.time, {"noise_scale": scale})


def log_steps(dashboard: Dashboard, columns: Mapping[str, Sequence[float]]) -> None:
    """Show steps, whose fields are `columns`; an MFU that is not known is NaN there."""
    for step, time, metrics in _rows(columns):
        dashboard.log(step, time, metrics)


def _rows(columns: Mapping[str, Sequence[float]]) -> Iterator[tuple[int, float, dict[str, float]]]:
    for number, step in enumerate(columns["step"]):
        metrics = {name: columns[field][number] for name, field in STEP_METRICS.items()}
        mfu = metrics.pop("mfu")
        if mfu == mfu:
            metrics["mfu"] = 100 * mfu
        yield int(step), columns["time"][number], metrics
