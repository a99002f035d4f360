"""What a person is called for, how often, and what goes to the terminal for it."""

import time
from dataclasses import replace
from typing import Any

import pytest

from nanogpt.events import Evaluated, Event, Finished, Health, Step
from nanogpt.runs.state import status_event
from nanogpt_tui.session.alerts import BEST_EVERY_S, RECENT_S, Alerts
from nanogpt_tui.session.history import History
from nanogpt_tui.terminal.terminal_app import notification
from tests.made_events import started


def evaluated(step: int, best: float, at: float | None = None) -> Evaluated:
    when: dict[str, Any] = {} if at is None else {"time": at}
    return Evaluated(
        step=step, train_loss=best, val_loss=best, best_val_loss=best, is_best=True, tokens=1, elapsed_s=1.0, **when
    )


def finished(reason: Any = "max_iters", at: float | None = None) -> Finished:
    when: dict[str, Any] = {} if at is None else {"time": at}
    return Finished(step=100, reason=reason, train_loss=1.0, val_loss=1.5, best_val_loss=1.25, elapsed_s=1.0, **when)


def health(state: str, message: str = "a message") -> Health:
    return Health(step=5, state=state, message=message)


class Watched:
    """A history, and what is told of it after each few events."""

    def __init__(self) -> None:
        self.history, self.alerts = History("tiny"), Alerts()
        self.told()

    def told(self, *events: Event) -> list[str]:
        for event in events:
            self.history.add(event)
        return list(self.alerts.new_alerts(self.history))


def test_the_end_is_told_once_with_the_best_loss() -> None:
    run = Watched()
    assert run.told(started()) == []
    assert run.told(finished()) == ["tiny: finished at step 100, validation loss 1.2500 at best"]
    assert run.told() == []


@pytest.mark.parametrize("state", ["diverging", "plateau", "waiting", "nan", "rollback"])
def test_trouble_is_told_once(state: str) -> None:
    run = Watched()
    run.told(started())
    assert run.told(health(state, "the loss rises")) == ["tiny: the loss rises"]
    assert run.told() == []


@pytest.mark.parametrize("state", ["learning", "going on"])
def test_that_all_is_well_is_not_told(state: str) -> None:
    run = Watched()
    assert run.told(started(), health(state)) == []


def test_a_run_that_died_and_one_that_failed_are_told() -> None:
    for state, words in {"interrupted": "ended without a message", "failed": "failed"}.items():
        run = Watched()
        run.told(started())
        seen = status_event(replace(run.history.run_state, state=state))
        assert run.told(seen) == [f"tiny: {words} at step 0"]


def test_a_resume_that_failed_is_no_end() -> None:
    run = Watched()
    before = run.history.fallback_state = replace(run.history.run_state, state="interrupted")
    run.told(started())
    run.history.fallback_state = before
    run.history.mark_failed("the data set is gone")
    assert run.told() == []


def test_new_bests_are_told_but_not_every_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run = Watched()
    assert run.told(started(), evaluated(10, 2.0)) == []  # there was none to be better than
    assert run.told(evaluated(20, 1.9)) == ["tiny: best validation loss so far, 1.9000 at step 20"]
    assert run.told(evaluated(30, 1.8)) == []
    now[0] += BEST_EVERY_S
    assert run.told() == []
    assert run.told(evaluated(40, 1.7)) == ["tiny: best validation loss so far, 1.7000 at step 40"]
    now[0] += BEST_EVERY_S
    worse = replace(evaluated(60, 1.6), val_loss=1.8, is_best=False)
    assert run.told(evaluated(50, 1.6), worse) == ["tiny: best validation loss so far, 1.6000 at step 50"]


def test_what_was_recorded_before_one_looked_is_not_told() -> None:
    long_ago = time.time() - 2 * RECENT_S
    run = Watched()
    assert run.told(started(), evaluated(10, 2.0, long_ago), evaluated(20, 1.0, long_ago)) == []
    assert run.told(finished(at=long_ago)) == []


def test_a_notification_carries_no_control_character_and_tmux_is_told_to_pass_it_on() -> None:
    assert notification("tiny: done", in_tmux=False) == "\x1b]9;tiny: done\a"
    assert notification("tiny: done", in_tmux=True) == "\x1bPtmux;\x1b\x1b]9;tiny: done\a\x1b\\"
    evil = notification("a\x1b]0;x\x07\x9d52;c;eA==\x9c\nb" + "long" * 100, in_tmux=False)
    inside = evil.removeprefix("\x1b]9;").removesuffix("\a")
    assert inside.isprintable()
    assert len(inside) <= 200


async def test_nobody_is_called_unless_it_was_asked_for(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab() as at:
        rung: list[tuple[str, str]] = []
        monkeypatch.setattr(at.app, "send_notification", lambda text, how: rung.append((text, how)))
        await at.press("g")
        await at.until(lambda: at.session.history and at.session.history.phase == "finished")
        assert rung == []
        at.app.change_settings({"notifications": "osc9"})
        at.session.history.add(health("diverging", "it rises"))
        at.app.training_changed()
        assert rung == [("quickstart: it rises", "osc9")]


def test_steps_alone_are_no_news() -> None:
    run = Watched()
    step = Step(
        step=1, loss=1.0, learning_rate=1.0, grad_norm=1.0, tokens=1, tokens_per_second=1.0, mfu=None, memory_bytes=1,
        elapsed_s=1.0, eta_s=1.0,
    )  # fmt: skip
    assert run.told(started(), step) == []
