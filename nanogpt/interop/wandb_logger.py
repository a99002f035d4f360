"""Training events to Weights & Biases, under nanoGPT's names. Needs the optional extra `wandb`."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from nanogpt.config import Config
from nanogpt.errors import UserError
from nanogpt.events import Evaluated, Event, GradientNoise, Notice, Started, Step
from nanogpt.inspection import Observer


class WandbLogger(Observer):
    """Logs steps and evaluations. A failure of the service is reported once, and training continues without it."""

    def __init__(self, config: Config, run: str) -> None:
        """`run` names it where `wandb_run_name` is empty. Raise `UserError` where the package is not installed."""
        try:
            import wandb
        except ImportError:
            raise UserError("wandb_log=true needs Weights & Biases: pip install 'nanogpt-tui[wandb]'") from None
        self._package = wandb
        self._config = config
        self._name = config.system.wandb_run_name or run
        self._run: Any = None  # a `wandb.Run`, once training has started
        self._failed = False

    def on_event(self, event: Event) -> Iterator[Notice]:
        if self._failed:
            return
        try:
            if isinstance(event, Started) and self._run is None:  # a rollback starts another one
                self._run = self._package.init(
                    project=self._config.system.wandb_project,
                    name=self._name,
                    config=self._config.values(),
                    settings=self._package.Settings(silent=True),
                )
            if self._run is not None and (metrics := _metrics(event)):
                self._run.log(metrics)
        except Exception as error:  # a failing logger does not stop training
            self._failed = True
            yield Notice(level="warning", text=f"not logging to Weights & Biases: {error}")

    def close(self) -> None:
        if self._run is not None:
            with suppress(Exception):  # as above, at the end of training
                self._run.finish()


def _metrics(event: Event) -> dict[str, float | int | None]:
    if isinstance(event, Step):
        return {
            "iter": event.step,
            "train/step_loss": event.loss,
            "lr": event.learning_rate,
            "grad_norm": event.grad_norm,
            "tokens_per_second": event.tokens_per_second,
            "mfu": None if event.mfu is None else 100 * event.mfu,
        }
    if isinstance(event, Evaluated):
        average = {} if event.ema_val_loss is None else {"val/ema_loss": event.ema_val_loss}
        return {"iter": event.step, "train/loss": event.train_loss, "val/loss": event.val_loss, **average}
    if isinstance(event, GradientNoise):
        return {"iter": event.step, "noise_scale": event.noise_scale}
    return {}
