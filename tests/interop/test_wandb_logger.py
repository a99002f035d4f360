"""What is reported to Weights & Biases, by a package that stands in for it."""

import sys
from types import SimpleNamespace

import pytest

from nanogpt.config import resolve
from nanogpt.errors import UserError
from nanogpt.events import Evaluated, Finished, Notice
from nanogpt.inspection import observed
from nanogpt.interop.wandb_logger import WandbLogger
from tests.made_events import started, stepped

EVALUATED = Evaluated(step=2, train_loss=1.5, val_loss=1.75, best_val_loss=1.75, is_best=True, tokens=8, elapsed_s=1.0)
FINISHED = Finished(step=2, reason="max_iters", train_loss=1.0, val_loss=1.75, best_val_loss=1.75, elapsed_s=1.0)


class Service:
    """Stands in for the package `wandb`: remembers what it is told; `refuses` names the call that fails."""

    def __init__(self, refuses=""):
        self.refuses, self.runs, self.metrics, self.finished = refuses, [], [], 0
        self.Settings = SimpleNamespace

    def _called(self, name):
        if name == self.refuses:
            raise ConnectionError("no route to host")

    def init(self, **given):
        self._called("init")
        self.runs.append(given)
        return self

    def log(self, metrics):
        self._called("log")
        self.metrics.append(metrics)

    def finish(self):
        self._called("finish")
        self.finished += 1


@pytest.fixture
def logged(monkeypatch):
    """Shows events to a logger with a service; returns the events that come out."""

    def logged(service, events, **settings):
        monkeypatch.setitem(sys.modules, "wandb", service)
        config = resolve(flags={"wandb_log": True, **settings}).config
        return list(observed(events, [WandbLogger(config, "the-run")]))

    return logged


def test_steps_and_evaluations_are_logged_under_nanogpts_names(logged):
    service = Service()
    events = [started(), stepped(1, loss=2.0), EVALUATED, FINISHED]
    assert logged(service, events) == events
    assert service.metrics == [
        {
            "iter": 1,
            "train/step_loss": 2.0,
            "lr": 1e-3,
            "grad_norm": 0.5,
            "tokens_per_second": 100.0,
            "mfu": None,
        },
        {"iter": 2, "train/loss": 1.5, "val/loss": 1.75},
    ]
    assert service.finished == 1


def test_a_run_is_logged_once_with_its_settings_under_its_own_name_or_the_one_that_is_set(logged):
    first, second = Service(), Service()
    logged(first, [started(), stepped(1), started(), stepped(1)])  # the second after a rollback
    logged(second, [started()], wandb_project="p", wandb_run_name="mine")
    (given,) = first.runs
    assert (given["project"], given["name"], given["config"]["wandb_log"]) == ("nanogpt", "the-run", True)
    assert (second.runs[0]["project"], second.runs[0]["name"]) == ("p", "mine")


@pytest.mark.parametrize("call", ["init", "log"])
def test_a_service_that_fails_is_told_once_and_training_goes_on(logged, call):
    events = [started(), stepped(1), stepped(2), EVALUATED, FINISHED]
    seen = logged(Service(refuses=call), events)
    assert [event for event in seen if event in events] == events
    (notice,) = [event for event in seen if isinstance(event, Notice)]
    assert (notice.level, notice.text) == ("warning", "not logging to Weights & Biases: no route to host")


def test_a_service_that_fails_at_the_end_does_not_fail_the_training(logged):
    assert logged(Service(refuses="finish"), [started(), FINISHED])[-1] == FINISHED


def test_without_the_package_the_setting_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"wandb_log=true needs .*pip install 'nanogpt-tui\[wandb\]'"):
        WandbLogger(resolve(flags={"wandb_log": True}).config, "the-run")
