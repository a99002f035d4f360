"""The report of a spike, opened from the chart of Train."""

from typing import Any

from nanogpt.events import Spike
from nanogpt_tui.screens.train.spike_report import SpikeReport, nearest_spike, report
from nanogpt_tui.session.history import History
from tests.made_events import started, stepped


def spike(step: int, text: str = "qqqq\n[bold]\x1b[31m") -> Spike:
    return Spike(
        step=step,
        loss=5.0,
        usual_loss=2.0,
        grad_norm=3.0,
        usual_grad_norm=0.5,
        learning_rate=1e-3,
        layer="h.1.mlp",
        layer_growth=12.5,
        texts=(text,),
        text_losses=(6.25,),
    )


def with_spikes(*steps: int) -> History:
    history = History("r")
    history.add(started())
    for step in range(1, 21):
        history.add(stepped(step, 5.0 if step in steps else 2.0))
        if step in steps:
            history.add(spike(step))
    return history


def test_the_report_has_the_steps_around_the_layer_and_the_text() -> None:
    lines = [line.plain for line in report(spike(10), with_spikes(10))]
    steps = [int(line.split()[0]) for line in lines[1:8]]
    assert steps == [7, 8, 9, 10, 11, 12, 13]
    assert lines[4].split() == ["10", "5.0000", "0.5", "0.001"]
    assert "The gradient of h.1.mlp grew most: 12.5 times its usual size." in lines
    assert lines[-1] == "qqqq\\n[bold]␛[31m"


def test_steps_that_come_while_the_report_is_made_do_not_end_it() -> None:
    class Growing(History):
        def column(self, name: str) -> Any:
            self.add(stepped(len(self) + 1))
            return super().column(name)

    history = Growing("r")
    history.add(started())
    history.add(stepped(1))
    lines = [line.plain for line in report(spike(2), history)]
    # step 2 is there when its place is sought, and step 3 when the first column is read
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    assert lines[4] == ""


def test_the_spike_nearest_to_the_crosshair_is_opened_first() -> None:
    spikes = [spike(10), spike(50)]
    assert [nearest_spike(spikes, step) for step in (None, 12.0, 40.0)] == [1, 0, 1]


async def test_a_key_opens_the_report_and_the_arrows_go_to_the_others(lab: Any, two_runs: Any) -> None:
    async with lab(size=(80, 24)) as at:
        await at.app.switch_mode("train")
        await at.until(lambda: at.session.history and len(at.session.history))
        assert "spike" not in at.seen().splitlines()[-1]
        at.session.history.spikes.extend([spike(5, "first text"), spike(15)])
        at.app.screen.training_changed()
        await at.press("!")
        await at.until(lambda: isinstance(at.app.screen, SpikeReport))
        await at.sees("2 of 2 spikes", "spike at step 15", "h.1.mlp", "qqqq\\n[bold]")
        await at.press("left")
        await at.sees("1 of 2 spikes", "first text")
        await at.press("escape")
        await at.until(lambda: len(at.app.screen_stack) == 1)
