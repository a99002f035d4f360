"""Dashboards of a run in training: each is a process of its own, which follows the run's record.

So a dashboard that is slow, fails or waits for a network costs the training nothing. The process ends with the
training, also if that is killed. Imports no torch.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nanogpt import processes
from nanogpt.config import Config
from nanogpt.events import Event, Finished, Notice, Started, Status
from nanogpt.files import why
from nanogpt.inspection import Observer
from nanogpt.interop.dashboards import find_dashboard
from nanogpt.interop.dashboards.base import Dashboard, DashboardRun, log_event, log_steps
from nanogpt.runs.event_log import LayerHealthLine, Steps
from nanogpt.runs.folder import is_locked, run_config
from nanogpt.runs.following import follow_blocks
from nanogpt.runs.state import ALIVE

LOG = "dashboards.log"  # what the processes print
NICENESS = 10  # a training that uses all cores comes first
LONGEST_REASON = 300  # characters


def dashboard_names(config: Config) -> list[str]:
    """Return the dashboards that the settings ask for, each once."""
    asked = [name.strip() for name in config.system.dashboards.split(",")]
    return list(dict.fromkeys(filter(None, (*asked, "wandb" if config.system.wandb_log else ""))))


def check_dashboards(config: Config) -> None:
    """Raise `UserError` unless all dashboards that the settings ask for exist and are installed."""
    for name in dashboard_names(config):
        find_dashboard(name)


class DashboardObserver(Observer):
    """Starts the process of a dashboard with the training, and reports once if it fails."""

    def __init__(self, name: str, run: Path) -> None:
        self._name, self._run = name, run
        self._process: subprocess.Popen[bytes] | None = None
        self._has_started = False

    def on_event(self, event: Event) -> Iterator[Notice]:
        if not self._has_started and isinstance(event, Started):
            self._has_started = True
            try:
                self._process = self._start(event)
            except OSError as error:
                yield self._failed(why(error))
        elif self._process is not None and self._process.poll():
            self._process = None
            yield self._failed(_last_line(self._run / LOG))

    def _start(self, event: Started) -> "subprocess.Popen[bytes]":
        arguments = [self._name, str(self._run), repr(event.time)]
        with (self._run / LOG).open("ab") as log:
            return processes.start_python(
                "nanogpt.runs.dashboards:main",
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl+C is for the training, whose end it then shows
            )

    def _failed(self, reason: str) -> Notice:
        return Notice(level="warning", text=f"no longer logging to {self._name}: {reason or f'see {LOG}'}")


def main() -> int:
    """Run the process of a dashboard. The arguments are its name, the run's folder, and the time of its `Started`."""
    name, run, started = sys.argv[1:]
    with suppress(OSError, AttributeError):  # Windows has no niceness
        os.nice(NICENESS)
    show_training(find_dashboard(name), Path(run), float(started))
    return 0


def show_training(kind: type[Dashboard], run: Path, started: float) -> None:
    """Show the training whose `Started` has this time, until it ends."""
    dashboard: Dashboard | None = None
    try:
        for item in follow_blocks(run):
            if isinstance(item, Started) and item.time == started:
                dashboard = kind(_described(run, kind.name, item))
            elif dashboard is None:
                if isinstance(item, Status) and not is_locked(run):
                    return  # the training ended before its first event was recorded
            elif isinstance(item, Steps):
                log_steps(dashboard, item.columns)
            elif isinstance(item, Status):
                dashboard.flush()
                if item.state not in ALIVE:
                    return
            elif isinstance(item, Finished):
                return
            else:
                log_event(dashboard, item.event if isinstance(item, LayerHealthLine) else item)
    finally:
        if dashboard is not None:
            dashboard.close()


def _described(run: Path, name: str, started: Started) -> DashboardRun:
    config = run_config(run)
    return DashboardRun(
        name=config.system.wandb_run_name or run.name,
        folder=run / name,
        project=config.system.wandb_project,
        step=started.step,
        settings=config.values(),
    )


def _last_line(log: Path) -> str:
    """Return the last line that a dashboard's process has printed, which names its error."""
    with suppress(OSError):
        lines = log.read_bytes()[-10_000:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:LONGEST_REASON] if lines else ""
    return ""
