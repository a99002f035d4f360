"""TensorBoard: files of events in the run's folder, which `tensorboard --logdir RUNS` shows while they grow."""

import os
import time as clock
from collections.abc import Mapping
from typing import Any

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
        records = extras.load("tensorboard.summary.writer.record_writer", self.extra, "TensorBoard")
        run.folder.mkdir(parents=True, exist_ok=True)
        now = clock.time()
        # Not its EventFileWriter, whose thread loses what the disk refuses.
        self._file = (run.folder / f"events.out.tfevents.{now:.6f}.{os.getpid()}").open("xb")
        self._records = records.RecordWriter(self._file)
        self._write(now, file_version="brain.Event:2")
        self._last = run.step
        self._restart(run.step + 1, now)

    def log(self, step: int, time: float, metrics: Mapping[str, float]) -> None:
        """Write one event with all metrics."""
        if step < self._last:
            self._restart(step, time)
        self._last = step
        values = [self._summaries.Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
        self._write(time, step=step, summary=self._summaries.Summary(value=values))

    def flush(self) -> None:
        """Write to the disk what was logged."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _restart(self, step: int, time: float) -> None:
        """Let TensorBoard drop what earlier files have from this step on."""
        self._write(time, step=step, session_log=self._events.SessionLog(status=self._events.SessionLog.START))

    def _write(self, time: float, **content: Any) -> None:
        self._records.write(self._events.Event(wall_time=time, **content).SerializeToString())
