"""The Train screen, driven by keys while a real small model is trained."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.text import Text
from textual.widgets import Input

from nanogpt.events import Sampled, Saved
from nanogpt.runs import manage
from nanogpt.training import Sample
from nanogpt_tui.app import LabApp
from nanogpt_tui.screens.train.screen import TrainScreen
from nanogpt_tui.session.history import load_history
from nanogpt_tui.settings import Settings
from nanogpt_tui.widgets.dialog import Ask, AskValue
from tests.tui.conftest import Lab

LONG = {"max_iters": 100_000, "eval_interval": 50_000, "sample_interval": 0}


async def started(at: Any) -> None:
    await at.press("g")
    await at.until(lambda: at.session.history and at.session.history.step > 3)


async def test_a_first_start_of_a_readonly_session_offers_no_key_that_it_lacks(home: Path) -> None:
    app = LabApp(Settings(), readonly=True)
    async with app.run_test(size=(120, 40)) as pilot:
        at = Lab(app, pilot)
        await at.sees("Nothing has been trained here yet.", "Runs: what was trained before")
        assert "quick start" not in at.seen()
        assert "new run" not in at.seen()


async def finished(at: Any) -> None:
    """Waits until a run has finished and its thread too: keys for another one are obeyed from then on."""
    await at.until(lambda: at.session.history is not None and at.session.history.phase == "finished")
    await at.until(lambda: not at.session.is_training)


async def test_a_first_start_says_what_to_do_and_one_key_does_it(lab: Any) -> None:
    async with lab() as at:
        await at.sees("Nothing has been trained here yet.")
        await at.sees("quick start")
        await at.press("enter")
        await at.until(lambda: at.session.history is not None and at.session.history.phase == "finished")
        history = at.session.history
        assert history.evaluations[-1].val_loss < history.evaluations[0].val_loss
        assert [sample.step for sample in history.samples] == [0, 20, 40, 60]
        # watch it learn follows the newest
        await at.sees("finished", f"{history.evaluations[-1].val_loss:.4f}", "step 60")


async def test_keys_that_would_do_nothing_are_not_offered(lab: Any) -> None:
    async with lab(**LONG) as at:
        assert "pause" not in at.seen().splitlines()[-1]
        await started(at)
        await at.until(lambda: "pause" in at.seen().splitlines()[-1])
        assert "quick start" not in at.seen().splitlines()[-1]


async def test_space_pauses_at_a_step_and_goes_on(lab: Any) -> None:
    async with lab(**LONG) as at:
        await started(at)
        await at.press("space")
        await at.until(lambda: at.session.history is not None and at.session.history.phase == "paused")
        await at.sees("paused")
        held = at.session.history.step
        await at.pilot.pause(0.3)
        assert at.session.history.step == held
        await at.press("space")
        await at.until(lambda: at.session.history.step > held)
        assert at.session.history.phase == "training"


async def test_the_unit_of_the_losses_is_shown_in_the_chart_and_the_figures_and_remembered(lab: Any) -> None:
    async with lab() as at:
        await at.press("g")
        await at.until(lambda: at.session.history is not None and at.session.history.phase == "finished")
        text, loss = at.session.history.val_text, at.session.history.evaluation.val_loss
        await at.press("L")
        await at.sees("train ppl", f"val ppl    {math.exp(loss):.4f}"[:14])
        await at.press("L", "L")
        bits = loss * text.tokens / text.bytes / math.log(2)
        await at.sees("bits per byte  ", f"val bpb    {bits:.4f}")
        assert at.saved().loss_unit == "bits per byte"


async def test_saved_is_said_when_the_checkpoint_is_on_disk(lab: Any, home: Any) -> None:
    async with lab(**LONG) as at:
        await started(at)
        await at.press("s")
        await at.until(lambda: at.session.history.saves)
        saved: Saved = at.session.history.saves[0]
        assert (home / "runs" / "quickstart" / saved.path / "trainer.json").exists()
        await at.sees(f"saved step {saved.step:,}")


async def test_changes_while_training_are_applied_and_marked_on_the_chart(lab: Any) -> None:
    async with lab(**LONG) as at:
        await started(at)
        assert at.session.training.eval_interval == LONG["eval_interval"]
        await at.press("plus")
        await at.press("minus")
        await at.press("E")
        await at.press("ctrl+u", *"7000", "enter")
        await at.press("m")
        await at.press("ctrl+u", *"90,000", "enter")
        await at.until(lambda: len(at.session.history.changes) == 4)
        assert [change.text for change in at.session.history.changes] == [
            "learning rate × 1.25, now × 1.25 of its schedule",
            "learning rate × 0.8, now × 1 of its schedule",
            "evaluation every 7,000 iterations",
            "last iteration 90,000",
        ]
        assert at.session.history.max_iters == 90_000
        assert at.session.training.eval_interval == 7000
        await at.sees("of 90,000")
        marks = at.app.screen.run_view.chart._marks
        assert [mark.kind for mark in marks if mark.kind != "spike"] == ["change"] * 4


async def test_a_number_that_will_not_do_is_refused_where_it_stands(lab: Any) -> None:
    async with lab(**LONG) as at:
        await started(at)
        await at.press("m")
        await at.press("ctrl+u", *"soon", "enter")
        await at.until(lambda: isinstance(at.app.screen, AskValue))
        await at.sees("'soon': has to be a whole number")
        await at.press("escape")
        assert at.session.history.max_iters == LONG["max_iters"]


async def test_stopping_asks_and_escape_goes_on(lab: Any) -> None:
    async with lab(**LONG) as at:
        await started(at)
        await at.press("x")
        await at.until(lambda: isinstance(at.app.screen, Ask))
        await at.press("escape")
        held = at.session.history.step
        await at.until(lambda: at.session.history.step > held)
        await at.press("x", "s")
        await at.until(lambda: not at.session.is_training)
        assert at.session.history.phase == "stopped"
        assert at.session.history.saves[-1].step == at.session.history.step


async def test_stopping_now_writes_no_checkpoint_and_says_so(lab: Any) -> None:
    async with lab(**LONG) as at:
        await started(at)
        await at.press("x", "x")  # held
        await at.until(lambda: isinstance(at.app.screen, Ask))
        await at.press("w")
        await at.until(lambda: not at.session.is_training)
        assert at.session.history.saves == []
        assert not any(line.text.startswith("saved") for line in at.session.history.log)


async def test_a_stopped_run_is_resumed_where_it_was(lab: Any) -> None:
    async with lab(**LONG) as at:
        await started(at)
        await at.press("x", "s")
        await at.until(lambda: not at.session.is_training)
        stopped_at = at.session.history.step
        await at.press("r")
        await at.until(lambda: at.session.history.step > stopped_at + 3)
        steps = at.session.history.column("step")
        assert steps.tolist() == list(range(1, len(steps) + 1))
        assert at.app.screen.run_view.chart is not None


async def test_a_complete_run_goes_on_to_a_later_step_alone(lab: Any) -> None:
    async with lab() as at:
        await at.press("g")
        await finished(at)
        done = at.session.history.step
        await at.press("r")
        at.app.screen.query_one(Input).value = str(done)
        await at.press("enter")
        await at.sees(f"the run is at step {done:,}")
        await at.press("escape")
        at.session.resume(at.session.folder, {"max_iters": done})
        await at.until(lambda: any("is complete at step" in toast.message for toast in at.app._notifications))
        await at.until(lambda: not at.session.is_training)
        assert at.session.history.phase == "finished"


async def test_a_prompt_that_the_tokenizer_cannot_read_is_said_where_one_looks(lab: Any) -> None:
    async with lab(size=(80, 24), **LONG) as at:
        await started(at)
        await at.press("T")
        at.app.screen.query_one(Input).value = "漢字"
        await at.press("enter")
        await at.until(lambda: any("unknown character" in toast.message for toast in at.app._notifications))


async def test_t_samples_the_present_weights_and_comma_goes_back_in_time(lab: Any) -> None:
    async with lab(**LONG) as at:
        await started(at)
        await at.press("t")
        await at.until(lambda: len(at.session.history.samples) == 1)
        await at.press("t")
        await at.until(lambda: len(at.session.history.samples) == 2)
        first, second = at.session.history.samples
        assert first.prompt == ""  # which every tokenizer can read: not each has a line break
        await at.sees(f"step {second.step:,} ▶")
        await at.press("comma")
        await at.sees(f"step {first.step:,} ▶")
        await at.press("full_stop")
        await at.sees(f"step {second.step:,} ▶")


async def test_of_another_run_the_newest_sample_is_shown(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        at.session.show_run(two_runs / "one")
        await at.sees("4 of 4")
        await at.press("comma", "comma", "comma")
        await at.sees("1 of 4")
        at.session.history = load_history(two_runs / "two")
        at.app.training_changed()
        await at.sees("2 of 2")


async def test_an_error_of_the_engine_is_one_line_on_the_screen(lab: Any) -> None:
    async with lab(block_size=100_000) as at:
        await at.press("g")
        await at.until(lambda: at.session.history is not None and at.session.history.phase == "failed")
        await at.sees("block_size=100000")
        await at.until(lambda: "Traceback" not in at.seen())


async def test_a_setting_out_of_bounds_is_said_at_once(lab: Any) -> None:
    async with lab(n_layer=0) as at:
        await at.press("g")
        await at.until(lambda: "n_layer=0: has to be at least 1" in at.seen())
        assert at.session.history is None


async def test_other_runs_are_laid_over_the_chart(lab: Any, home: Path) -> None:
    async with lab() as at:
        for _ in range(2):
            at.session.quick_start(at.app.settings.quickstart)
            await at.until(lambda: not at.session.is_training)
        assert at.session.history.run == "quickstart-2"
        await at.press("o")
        await at.until(lambda: "quickstart " in at.seen())
        await at.press("space", "enter")
        chart = at.app.screen.run_view.chart
        await at.until(lambda: chart.overlays == ["quickstart"])
        manage.rename(home / "runs" / "quickstart", "renamed")
        await at.press("o")
        await at.sees("renamed")
        await at.press("enter")
        await at.until(lambda: chart.overlays == [])


async def test_training_goes_on_while_other_screens_are_looked_at(lab: Any) -> None:
    async with lab(**LONG) as at:
        await started(at)
        await at.press("4")
        held = at.session.history.step
        await at.until(lambda: at.session.history.step > held)
        await at.until(lambda: "● quickstart" in at.seen().splitlines()[0])
        await at.press("2")
        assert at.app.screen.run_view is not None


async def test_at_80_by_24_samples_and_log_take_turns(lab: Any) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("g")
        await at.until(lambda: at.session.history is not None and at.session.history.phase == "finished")
        await at.sees("watch it learn")
        await at.until(lambda: "rhymes:" not in at.seen())
        await at.press("v")
        await at.until(lambda: "watch it learn" not in at.seen())
        await at.sees("saved step 60")


async def test_the_quick_start_can_be_had_again_and_asks_first(lab: Any) -> None:
    async with lab(max_iters=2) as at:
        await at.press("enter")
        await finished(at)
        await at.press("enter")
        await at.sees("as a new run?")
        await at.press("escape")
        assert at.session.history.run == "quickstart"
        await at.press("g")
        await at.sees("as a new run?")
        await at.press("enter")
        await at.until(lambda: at.session.history.run == "quickstart-2")


async def test_after_a_failed_start_the_quick_start_is_offered_again(lab: Any) -> None:
    async with lab(dataset="nowhere") as at:
        await at.press("g")
        await at.until(lambda: at.session.history is not None and at.session.history.phase == "failed")
        await at.sees("no data set 'nowhere'")
        await at.until(lambda: "quick start" in at.seen().splitlines()[-1])


async def test_what_would_be_lost_is_said_before_a_run_is_stopped_or_left(lab: Any) -> None:
    async with lab(**LONG) as at:
        await started(at)
        for key in ("x", "q"):
            await at.press(key)
            await at.sees("losing the whole run: it has no checkpoint yet")
            await at.press("escape")
        await at.press("s")
        await at.until(lambda: at.session.history.saves)
        for key in ("x", "q"):
            await at.press(key)
            await at.sees(f"losing everything after step {at.session.history.saves[0].step:,}")
            await at.press("escape")


async def test_the_train_loss_is_where_the_line_of_the_chart_ends_however_it_is_smoothed(lab: Any) -> None:
    async with lab() as at:
        await at.press("g")
        await at.until(lambda: at.session.history is not None and at.session.history.phase == "finished")
        shown = []
        for _ in range(2):
            end = float(at.app.screen.run_view.chart.picture.curve.field("smooth")[-1])
            await at.until(lambda end=end: f"train loss {end:.4f}" in at.seen())
            shown.append(end)
            await at.press("z", "z", "z")  # 0.99, 0.998, none
        assert shown[0] != shown[1]


async def test_200_by_60_has_room_for_more_charts_and_80_by_24_computes_none(lab: Any) -> None:
    async with lab(size=(200, 60)) as at:
        await at.press("g")
        await at.sees("gradient norm", "learning rate", "highest")
        trends = at.app.screen.run_view.trends
        await at.until(lambda: at.session.history is not None and at.session.history.phase == "finished")
        await at.pilot.resize_terminal(80, 24)
        await at.until(lambda: "highest" not in at.seen())
        drawn = trends.drawings
        at.session.history.generation += 1
        trends.show(at.session.history)
        await at.settle()
        assert trends.drawings == drawn


async def test_a_pane_has_the_screen_to_itself_until_the_key_comes_again(lab: Any) -> None:
    async with lab(size=(120, 40)) as at:
        await at.press("g")
        await at.until(lambda: at.session.history is not None and at.session.history.phase == "finished")
        await at.press("v")
        await at.until(lambda: "watch it learn" not in at.seen() and "grad norm" not in at.seen())
        await at.sees("saved step 20", "finished at step 60")
        await at.press("v")
        await at.sees("watch it learn", "grad norm")
        await at.press("f")
        await at.until(lambda: "watch it learn" not in at.seen() and "grad norm" not in at.seen())
        await at.sees("validation")
        await at.press("escape")
        await at.sees("watch it learn", "grad norm")


async def test_the_log_is_wrapped_at_its_own_width_after_it_was_hidden(lab: Any) -> None:
    """It is hidden at 80×24; what is written meanwhile has no width to be wrapped at."""
    async with lab(size=(120, 40), max_iters=4) as at:
        await at.press("g")
        await at.until(lambda: at.session.history is not None and at.session.history.phase == "finished")
        log = at.app.screen.run_view.log_lines
        await at.pilot.resize_terminal(80, 24)
        await at.until(lambda: not log.size)
        for number in range(3):
            log.add([Text(f"line {number} " + "word " * 12)])  # 7 + 60 cells, less than the 116 that there are
        await at.pilot.resize_terminal(120, 40)
        await at.until(lambda: log.size)
        shown = ["".join(segment.text for segment in line).rstrip() for line in log.lines]
        assert shown[-3:] == [f"line {number} " + " ".join(["word"] * 12) for number in range(3)]


async def test_a_run_that_prepares_its_data_can_be_stopped(lab: Any, slow_server: None) -> None:
    async with lab() as at:
        await at.press("g")
        await at.until(lambda: at.session.history is not None and at.session.history.preparing)
        await at.press("x", "w")
        await at.until(lambda: not at.session.is_training)
        await at.sees("stopped before its first step")
        assert at.session.history.phase == "stopped"
        assert at.app.screen.check_action("stop", ()) is False
        assert at.app.screen.check_action("quick_start", ()) is True


def test_a_sample_with_a_seed_that_is_no_longer_possible_is_repeated_with_another_one() -> None:
    """`nanogpt ctl RUN sample --seed=-1` of an earlier version wrote it."""
    sent: list[Sample] = []
    history = SimpleNamespace(samples=[Sampled(step=3, prompt="a", text="b", seed=-1)])
    screen: Any = SimpleNamespace(session=SimpleNamespace(history=history), send=sent.append)
    TrainScreen.action_sample(screen)
    assert sent == [Sample("a", 2**63 - 1)]
