"""Weights & Biases. With WANDB_MODE=offline, or without an account, `wandb sync` uploads its files later."""

import os
from collections.abc import Mapping

from nanogpt import extras
from nanogpt.interop.dashboards import base


class Dashboard(base.Dashboard):
    """Logs each step with its number as `iter`, as nanoGPT does: its own counter of steps cannot go back."""

    name = "wandb"
    package = "wandb"
    extra = "wandb"

    def __init__(self, run: base.DashboardRun) -> None:
        wandb = extras.load("wandb", self.extra, "Weights & Biases")
        self._run = wandb.init(
            project=run.project,
            name=run.name,
            config=dict(run.settings),
            dir=os.environ.get("WANDB_DIR", str(run.folder.parent)),  # it makes a folder `wandb` there
            settings=wandb.Settings(silent=True),
        )
        self._run.define_metric("*", step_metric="iter")

    def log(self, step: int, time: float, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step."""
        self._run.log({"iter": step, **metrics})

    def close(self) -> None:
        """Upload what is left, and mark the run as finished."""
        self._run.finish()
