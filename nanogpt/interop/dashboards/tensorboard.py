"""TensorBoard: files of events in the run's folder, which `tensorboard --logdir RUNS` shows while they grow."""

import time as clock
from collections.abc import Mapping

from nanogpt import extras
from nanogpt.interop.dashboards import base


class Dashboard(base.Dashboard):
    """Writes one file for each start of a training; TensorBoard reads all files of a folder as one run."""

    name = "tensorboard"
    package = "tensorboard"
    extra = "tensorboard"

    def __init__(self, run: base.DashboardRun) -> None:
        self._events = extras.load("tensorboard.compat.proto.event_pb2", self.extra, "TensorBoard")
        self._summaries = extras.load("tensorboard.compat.proto.summary_pb2", self.extra, "TensorBoard")
        writers = extras.load("tensorboard.summary.writer.event_file_writer", self.extra, "TensorBoard")
        self._writer = writers.EventFileWriter(str(run.folder))
        self._last = run.step
        self._restart(run.step, clock.time())

    def log(self, step: int, time: float, metrics: Mapping[str, float]) -> None:
        """Write one event with all metrics."""
        if step < self._last:
            self._restart(step, time)
        self._last = step
        values = [self._summaries.Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
        summary = self._summaries.Summary(value=values)
        self._writer.add_event(self._events.Event(wall_time=time, step=step, summary=summary))

    def flush(self) -> None:
        """Write to the disk what was logged."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _restart(self, step: int, time: float) -> None:
        """Let TensorBoard drop what earlier files have from this step on."""
        log = self._events.SessionLog(status=self._events.SessionLog.START)
        self._writer.add_event(self._events.Event(wall_time=time, step=step + 1, session_log=log))
