"""trackio, which keeps the runs in a database on this machine (TRACKIO_DIR) and draws them with `trackio show`."""

from collections.abc import Mapping

from nanogpt import extras
from nanogpt.interop.dashboards import base


class Dashboard(base.Dashboard):
    """Logs to the local database; a training that was resumed continues its run."""

    name = "trackio"
    package = "trackio"
    extra = "trackio"

    def __init__(self, run: base.DashboardRun) -> None:
        trackio = extras.load("trackio", self.extra, "trackio")
        self._run = trackio.init(
            project=run.project,
            name=run.name,
            config=dict(run.settings),
            resume="allow" if run.step else "never",
            embed=False,
        )

    def log(self, step: int, time: float, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Write what is left to the database."""
        self._run.finish()
