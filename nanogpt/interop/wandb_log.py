"""Training events to Weights & Biases as they pass, under nanoGPT's names. Needs the optional extra `wandb`.

Knows nothing of how the events are made. A service that cannot be reached is told once, and training goes on.
"""

from collections.abc import Generator
from contextlib import closing

from nanogpt.config import Config
from nanogpt.errors import UserError
from nanogpt.events import Evaluated, Event, Notice, Started, Step


def logged(events: Generator[Event, None, None], config: Config, run: str) -> Generator[Event, None, None]:
    """Passes the events on and logs steps and evaluations. Raises `UserError` where the package is not installed."""
    try:
        import wandb
    except ImportError:
        raise UserError("wandb_log=true needs Weights & Biases: pip install 'nanogpt-tui[wandb]'") from None
    there = None
    with closing(events):
        try:
            for event in events:
                if isinstance(event, Started) and there is None:  # another one comes after a rollback
                    try:
                        there = wandb.init(
                            project=config.system.wandb_project,
                            name=config.system.wandb_run_name or run,
                            config=config.values(),
                            settings=wandb.Settings(silent=True),
                        )
                    except Exception as error:  # whatever it is: a logger's trouble is no reason to stop training
                        yield Notice(level="warning", text=f"not logging to Weights & Biases: {error}")
                if there is not None and (figures := _figures(event)):
                    there.log(figures)
                yield event
        finally:
            if there is not None:
                there.finish()


def _figures(event: Event) -> dict[str, float | int | None]:
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
        return {"iter": event.step, "train/loss": event.train_loss, "val/loss": event.val_loss}
    return {}
