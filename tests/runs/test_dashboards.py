"""Dashboards of a run: what they are shown, and what a training does if one fails."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from nanogpt import paths, processes
from nanogpt.config import resolve
from nanogpt.errors import UserError
from nanogpt.events import Evaluated, Finished, GradientNoise, Notice, Step
from nanogpt.interop.dashboards import DASHBOARDS
from nanogpt.interop.dashboards.base import Dashboard, DashboardRun
from nanogpt.runs import history, new_folder, start
from nanogpt.runs.dashboards import LOG, DashboardObserver, check_dashboards, dashboard_names, show_training
from nanogpt.runs.recorder import Recorder
from tests.made_events import started, stepped

FINISHED = Finished(step=2, reason="max_iters", train_loss=1.0, val_loss=1.75, best_val_loss=1.75, elapsed_s=1.0)


class Memory(Dashboard):
    """Remembers what it is shown."""

    name = "memory"
    package = "sys"
    opened: ClassVar[list["Memory"]] = []

    def __init__(self, run):
        self.run, self.logged, self.is_closed = run, [], False
        self.opened.append(self)

    def log(self, step, time, metrics):
        self.logged.append((step, dict(metrics)))

    def close(self):
        self.is_closed = True


@pytest.fixture
def dashboard():
    Memory.opened = []
    return Memory


@pytest.fixture
def run():
    folder = paths.runs_dir() / "first"
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text("[data]\ndataset = 'small'\n[system]\nwandb_project = 'mine'\n")
    return folder


def record(run, *events):
    for _ in Recorder(run, "run.toml", dataset="small").record(event for event in events):
        pass


def test_a_training_is_shown_from_its_start_to_its_end_under_nanogpts_names(dashboard, run):
    record(run, started(), stepped(1, loss=9.0))  # an earlier training, which another dashboard showed
    again = started(1)
    best: dict[str, Any] = {"best_val_loss": 1.75, "is_best": True, "tokens": 8, "elapsed_s": 1.0}
    evaluated = Evaluated(step=2, train_loss=1.5, val_loss=1.75, ema_val_loss=1.5, **best)
    noise = GradientNoise(step=2, signal=1.0, noise=8.0, noise_scale=8.0, batch_size=4, measurements=3)
    record(run, again, stepped(2, loss=math.inf), evaluated, noise, FINISHED)
    show_training(dashboard, run, again.time)
    (shown,) = dashboard.opened
    assert (shown.run.name, shown.run.project, shown.run.step) == ("first", "mine", 1)
    assert shown.run.settings["dataset"] == "small"
    step = {"train/step_loss": math.inf, "lr": 1e-3, "grad_norm": 0.5, "tokens_per_second": 100.0}
    losses = {"train/loss": 1.5, "val/loss": 1.75, "val/ema_loss": 1.5}
    assert shown.logged == [(2, step), (2, losses), (2, {"noise_scale": 8.0})]
    assert shown.is_closed


def test_a_dashboard_ends_with_a_training_that_was_killed(dashboard, run):
    first = started()
    record(run, first, stepped(1))  # without `Finished`
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"state": "running", "pid": ended.pid}))
    show_training(dashboard, run, first.time)
    assert dashboard.opened[0].is_closed
    show_training(dashboard, run, 0.0)  # killed before its `Started` was recorded
    assert len(dashboard.opened) == 1


def test_a_dashboard_that_fails_is_reported_once_with_its_error_and_training_continues(run, monkeypatch):
    children = []

    def start_python(function, arguments, **options):
        children.append(subprocess.Popen([sys.executable, "-c", "raise SystemExit('no route to host')"], **options))
        return children[0]

    monkeypatch.setattr(processes, "start_python", start_python)
    observer = DashboardObserver("wandb", run)
    assert list(observer.on_event(started())) == []
    children[0].wait(60)
    notices = [each for step in (1, 2, 3) for each in observer.on_event(stepped(step))]
    assert [(each.level, each.text) for each in notices] == [
        ("warning", "no longer logging to wandb: no route to host")
    ]


def test_a_process_that_cannot_be_started_is_reported_and_training_continues(run, monkeypatch):
    def start_python(function, arguments, **options):
        raise FileNotFoundError(2, "No such file or directory", "python")

    monkeypatch.setattr(processes, "start_python", start_python)
    (notice,) = DashboardObserver("wandb", run).on_event(started())
    assert isinstance(notice, Notice)
    assert "No such file" in notice.text


def test_settings_name_dashboards_and_what_is_missing_is_refused_before_training(monkeypatch, small):
    both = resolve(flags={"dashboards": "tensorboard, wandb", "wandb_log": True}).config
    assert dashboard_names(both) == ["tensorboard", "wandb"]
    assert dashboard_names(resolve().config) == []
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"the dashboard wandb needs wandb: pip install 'nanogpt-tui\[wandb\]'"):
        check_dashboards(both)
    folder = new_folder("refused")
    with pytest.raises(UserError, match=r"tensorbord.*Did you mean tensorboard\?"):
        list(start(small(dashboards="tensorbord"), folder))
    assert not folder.exists()


def test_every_dashboard_has_a_name_and_a_package_of_an_extra():
    for name in DASHBOARDS.names():
        kind = DASHBOARDS.load(name, Dashboard)
        assert (kind.name, kind.extra) == (name, name)


def test_a_training_is_shown_in_tensorboard_by_a_process_of_its_own(small, monkeypatch):
    """What TensorBoard's own reader finds are the values that were recorded, in its 32 bits."""
    children = []

    def start_python(*arguments, **options):
        children.append(start_process(*arguments, **options))
        return children[-1]

    start_process = processes.start_python
    monkeypatch.setattr(processes, "start_python", start_python)
    run = new_folder("one")
    list(start(small(dashboards="tensorboard", max_iters=4), run))
    (child,) = children
    assert child.wait(120) == 0, (run / LOG).read_text()
    (file,) = (run / "tensorboard").iterdir()
    shown: dict[str, dict[int, float]] = {}
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            shown.setdefault(value.tag, {})[event.step] = value.tensor.float_val[0]
    steps = [event for event in history(run) if isinstance(event, Step)]
    assert shown["train/step_loss"] == {event.step: float(np.float32(event.loss)) for event in steps}
    assert shown["lr"] == {event.step: float(np.float32(event.learning_rate)) for event in steps}
    assert set(shown["val/loss"]) == {0, 4}


def test_tensorboard_drops_the_steps_that_a_rollback_or_a_resume_undid(tmp_path):
    kind = DASHBOARDS.load("tensorboard", Dashboard)
    for start_step, steps in ((0, {1: 1.0, 2: 2.0, 3: 9.0}), (2, {3: 3.0, 4: 9.0, 5: 9.0})):
        shown = kind(DashboardRun(name="one", folder=tmp_path, step=start_step))
        for step, loss in steps.items():
            shown.log(step, float(step), {"loss": loss})
        if start_step:  # a rollback
            shown.log(4, 6.0, {"loss": 4.0})
        shown.close()
    reader = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    reader.Reload()
    shown_steps = [(event.step, event.value) for event in reader.Scalars("loss")]
    assert shown_steps == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


def test_weights_and_biases_has_the_step_as_iter_and_the_settings(monkeypatch, tmp_path):
    calls: list[Any] = []

    def init(**given):
        calls.append(given)
        return stand_in

    stand_in = SimpleNamespace(
        log=calls.append,
        define_metric=lambda name, step_metric: calls.append((name, step_metric)),
        finish=lambda: calls.append("finish"),
    )
    package = SimpleNamespace(init=init, Settings=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    shown = DASHBOARDS.load("wandb", Dashboard)(DashboardRun(name="one", folder=tmp_path / "wandb", settings={"n": 1}))
    shown.log(3, 0.0, {"lr": 0.5})
    shown.close()
    given, *rest = calls
    about = (given["name"], given["project"], given["config"], given["dir"])
    assert about == ("one", "nanogpt", {"n": 1}, str(tmp_path))
    assert rest == [("*", "iter"), {"iter": 3, "lr": 0.5}, "finish"]
