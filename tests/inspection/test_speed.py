"""A notice of another speed, from made-up events."""

from dataclasses import replace

from nanogpt.events import Notice
from nanogpt.inspection import SpeedObserver, observed
from nanogpt.inspection.speed import MIN_LEFT_S, WINDOW_S
from tests.made_events import started, stepped


def notices(speeds, device="cpu", eta_s=MIN_LEFT_S + 1):
    """The notices of a training with one step each second, at these speeds."""
    steps = (
        replace(stepped(step), tokens_per_second=speed, elapsed_s=float(step), eta_s=eta_s)
        for step, speed in enumerate(speeds)
    )
    events = observed([replace(started(), device=device), *steps], [SpeedObserver()])
    return [event.text for event in events if isinstance(event, Notice)]


WINDOW = int(WINDOW_S) + 1  # steps


def test_a_speed_that_stays_is_not_reported():
    assert notices([100.0, 140.0] * 10 * WINDOW) == []


def test_a_speed_that_is_lower_for_a_whole_window_is_reported_once_with_what_to_do():
    texts = notices([100.0] * WINDOW + [50.0] * 5 * WINDOW)
    assert len(texts) == 1
    assert "50 tokens/s, and 100 before" in texts[0]
    assert "--threads=0" in texts[0]


def test_a_higher_speed_is_reported_too():
    assert len(notices([50.0] * WINDOW + [100.0] * WINDOW)) == 1


def test_a_short_change_the_end_of_a_run_and_a_gpu_are_not_worth_a_notice():
    assert notices([100.0] * WINDOW + [10.0] * (WINDOW // 3) + [100.0] * 3 * WINDOW) == []
    assert notices([100.0] * WINDOW + [10.0] * 2 * WINDOW, eta_s=MIN_LEFT_S - 1) == []
    assert notices([100.0] * WINDOW + [10.0] * 2 * WINDOW, device="cuda") == []
