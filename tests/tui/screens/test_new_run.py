"""The form of a new run, driven by keys: what it says, what it refuses, and what it starts."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Button

from nanogpt import runs, tokenizers
from nanogpt.config import ARCHITECTURE, names, preset_names, resolve, settings
from nanogpt.data import list_datasets, prepare, textfile_recipe
from nanogpt.events import Measured, Step
from nanogpt.models import gpt2
from nanogpt.training import CommandQueue, SetMaxIters
from nanogpt_tui.screens.new_run import screen as form_screen
from nanogpt_tui.screens.new_run.estimate import EstimateRow
from nanogpt_tui.screens.new_run.fields import Field
from nanogpt_tui.screens.new_run.form_options import FormOptions, read_options
from nanogpt_tui.screens.new_run.screen import NewRunScreen
from nanogpt_tui.session import speed_measurement
from nanogpt_tui.session.draft import SCRATCH, Draft
from nanogpt_tui.session.session import Session
from tests.narrowing import expect

TINY = {
    "n_layer": "1",
    "n_head": "2",
    "n_embd": "16",
    "block_size": "16",
    "batch_size": "4",
    "max_iters": "30",
    "eval_interval": "10",
    "device": "cpu",
}


@pytest.fixture
def measuring_ends(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let a measurement of the speed last until this event."""
    ends = threading.Event()

    def measure(config: Any, dataset: str) -> Iterator[Measured]:
        measured = Measured(seconds_per_step=0.01, batch_size=4, device="cpu", dtype="float32", threads=1)
        yield measured
        ends.wait(60)
        yield measured

    monkeypatch.setattr(speed_measurement, "measure", measure)
    return ends


async def form(at: Any, **start: Any) -> Any:
    """The form, once it has read the disk."""
    screen = NewRunScreen(**start)
    at.app.push_screen(screen)
    await at.until(lambda: not screen.is_reading)
    return screen


async def fill(at: Any, screen: Any, values: dict[str, str]) -> None:
    for name, value in values.items():
        screen.field(name).editor.value = value
    await at.settle()


async def measured_form(at: Any) -> Any:
    """The form of a small run on the rhymes, once the speed is measured; the measurement itself may go on."""
    screen = await form(at, dataset="rhymes")
    await fill(at, screen, TINY)
    await at.press("ctrl+t")
    await at.until(lambda: screen.measuring.speed.seconds_per_step)
    return screen


def figure(screen: Any, name: str) -> str:
    return str(next(line for line in screen.query(EstimateRow) if line.name == name)._shown[0])


def problem(screen: Any, name: str) -> str:
    field = screen.field(name)
    return str(field._problem.render().plain) if field.has_class("-wrong") else ""


async def test_what_it_comes_to_changes_as_it_is_typed(lab: Any, rhymes: Any) -> None:
    list(prepare("rhymes"))
    vocab = next(info.vocab_size for info in list_datasets() if info.name == "rhymes")
    async with lab() as at:
        screen = await form(at, dataset="rhymes")
        screen.field("n_layer").editor.focus()
        await at.press("ctrl+u", "7")
        config = resolve(flags={"n_layer": 7, "vocab_size": vocab}).config
        assert figure(screen, "parameters") == f"{config.model.n_parameters() / 1e6:.1f} M"
        assert figure(screen, "iteration") == "768"  # 12 · 64, the defaults
        screen.field("batch_size").editor.focus()
        await at.press("ctrl+u", *"100")
        assert figure(screen, "iteration") == "6,400"
        train_tokens = next(info.tokens["train"] for info in list_datasets() if info.name == "rhymes")
        assert figure(screen, "epochs") == f"{2000 * 6400 / train_tokens:,.0f}"
        await at.sees(f"ln {vocab}")


async def test_a_wrong_value_is_marked_where_it_stands_and_nothing_starts(lab: Any, rhymes: Any) -> None:
    async with lab() as at:
        screen = await form(at, dataset="rhymes")
        await fill(at, screen, {"n_layer": "0", "n_embd": "130", "dropout": "much"})
        assert "at least 1" in problem(screen, "n_layer")
        assert "not divisible by n_head=4" in problem(screen, "n_embd")
        assert "number" in problem(screen, "dropout")
        assert screen.query_one("#start-button", Button).disabled
        await at.press("ctrl+s")
        assert at.app.screen is screen
        assert not at.session.is_training
        await fill(at, screen, {"n_layer": "2", "n_embd": "128", "dropout": "0"})
        assert not screen.query(".-wrong")
        assert not screen.query_one("#start-button", Button).disabled


async def test_a_problem_of_the_field_in_the_last_row_is_scrolled_into_view(lab: Any, rhymes: Any) -> None:
    async with lab(size=(80, 24)) as at:
        screen = await form(at, dataset="rhymes")
        await screen.focus_setting("lora_rank")
        await at.settle()
        await at.press("2")
        shown = screen.field("lora_rank")._problem
        await at.until(lambda: "beside given weights: choose a run in “start from”" in problem(screen, "lora_rank"))
        await at.until(lambda: shown.region and shown.region in screen.form.region)


async def test_what_the_data_set_makes_impossible_is_marked_too(lab: Any, rhymes: Any) -> None:
    list(prepare("rhymes"))
    async with lab() as at:
        screen = await form(at, dataset="rhymes")
        await fill(at, screen, {"block_size": "900000"})
        assert "too few for block_size=900000" in problem(screen, "block_size")
        await at.press("ctrl+o")
        await fill(at, screen, {"block_size": "16", "vocab_size": "3"})
        assert "tokenizer has" in problem(screen, "vocab_size")


async def test_a_preset_fills_in_what_was_not_changed_and_reset_forgets_changes(lab: Any) -> None:
    async with lab() as at:
        screen = await form(at)
        await fill(at, screen, {"n_layer": "3"})
        await fill(at, screen, {"preset": "baby"})
        await at.until(lambda: screen.draft.preset == "baby")
        assert screen.field("n_embd").editor.value == "384"
        assert screen.field("n_layer").editor.value == "3"
        await at.sees("• n_layer")
        await at.press("ctrl+r")
        assert screen.field("n_layer").editor.value == "6"
        await at.until(lambda: "•" not in at.seen())


@pytest.mark.parametrize("start", ["weights one", "resume one"])
async def test_a_run_that_cannot_be_read_is_said_and_what_is_typed_counts_for_another_start(
    lab: Any, two_runs: Path, start: str
) -> None:
    (two_runs / "one" / "run.toml").write_text("[")
    async with lab() as at:
        screen = await form(at, start=start)
        assert "cannot read" in problem(screen, "start")
        screen.field("n_layer").editor.focus()
        await at.press("ctrl+o", "ctrl+u", "7")
        assert not screen.form.shows_more
        await fill(at, screen, {"start": SCRATCH})
        await at.until(lambda: screen.config is not None)
        assert screen.config.values()["n_layer"] == 7


async def test_the_time_is_measured_by_real_steps_and_remembered(lab: Any, rhymes: Any, real_measuring: None) -> None:
    list(prepare("rhymes"))
    async with lab() as at:
        screen = await form(at, dataset="rhymes")
        screen.draft.edit("compile", "false")
        await fill(at, screen, TINY)
        await at.press("ctrl+t")
        await at.until(lambda: screen.measuring.speed.seconds_per_step and not screen.measuring.is_measuring)
        assert figure(screen, "time").startswith("≈")
        await at.sees("cpu, float32")
        measured = screen.measuring.speed
        await fill(at, screen, {"n_layer": "2"})
        assert screen.measuring.speed.seconds_per_step is None  # another model's speed says nothing
        await fill(at, screen, {"n_layer": "1"})
        assert screen.measuring.speed is measured
        await fill(at, screen, {"max_iters": "60"})  # on which the speed depends with compile=auto alone
        assert screen.measuring.speed is measured
        screen.draft.edit("processes", "2")
        await fill(at, screen, {"batch_size": "6"})
        assert figure(screen, "memory").startswith("2 × ")
        await at.press("ctrl+t")
        await at.until(lambda: screen.measuring.speed.seconds_per_step and not screen.measuring.is_measuring)
        assert "in one process" in screen.measuring.speed.note


async def test_what_does_not_fit_into_memory_is_said_and_not_tried(lab: Any, rhymes: Any, real_measuring: None) -> None:
    list(prepare("rhymes"))
    async with lab() as at:
        screen = await form(at, dataset="rhymes")
        await fill(at, screen, {"n_embd": "80000", "n_layer": "100"})
        await at.press("ctrl+t")
        await at.until(lambda: screen.measuring.speed.problem)
        assert "are free" in screen.measuring.speed.problem


async def test_start_trains_what_the_form_says_and_shows_it(lab: Any, rhymes: Any) -> None:
    async with lab() as at:
        screen = await form(at, dataset="rhymes")
        screen.draft.edit("eval_iters", "2")
        await fill(at, screen, TINY | {"name": "my-first"})
        await at.press("ctrl+s")
        await at.until(lambda: at.session.history and at.session.history.phase == "finished")
        assert at.app.current_mode == "train"
        assert not any(isinstance(screen, NewRunScreen) for screen in at.app.screen_stack)
        config = runs.folder.run_config(runs.find("my-first"))
        model = expect(gpt2.Config, config.model)
        assert (model.n_embd, config.data.dataset, config.schedule.max_iters) == (16, "rhymes", 30)


async def test_starting_ends_a_measuring_first(lab: Any, rhymes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_end(config: Any, dataset: str) -> Iterator[Measured]:
        while True:
            time.sleep(0.01)
            yield Measured(seconds_per_step=0.01, batch_size=4, device="cpu", dtype="float32", threads=1)

    monkeypatch.setattr(speed_measurement, "measure", without_end)
    list(prepare("rhymes"))
    async with lab() as at:
        screen = await form(at, dataset="rhymes")
        await fill(at, screen, TINY)
        await at.press("ctrl+t")
        await at.until(lambda: screen.measuring.is_measuring)
        job = screen.measuring._current[1]
        await at.press("ctrl+s")
        await at.until(lambda: at.session.training is not None)
        assert job.done


async def test_a_run_starts_also_if_another_screen_is_chosen_before_the_measuring_has_ended(
    lab: Any, rhymes: Any, measuring_ends: threading.Event
) -> None:
    list(prepare("rhymes"))
    async with lab() as at:
        screen = await measured_form(at)
        await at.press("ctrl+s", "4")
        assert at.app.current_mode == "runs"
        measuring_ends.set()
        await at.until(lambda: at.session.training is not None and at.app.current_mode == "train")
        await at.until(lambda: at.app.screen is not screen and len(at.app.screen_stack) == 1)


async def test_a_run_starts_with_the_values_of_the_key_whatever_is_typed_before_the_measuring_has_ended(
    lab: Any, rhymes: Any, measuring_ends: threading.Event
) -> None:
    list(prepare("rhymes"))
    async with lab() as at:
        screen = await measured_form(at)
        await at.press("ctrl+s")
        await fill(at, screen, {"n_layer": "0"})
        assert screen.config is None
        measuring_ends.set()
        await at.until(lambda: at.session.training is not None and at.app.current_mode == "train")
        assert runs.folder.run_config(at.session.folder).values()["n_layer"] == 1


async def test_a_name_that_is_taken_or_no_name_is_refused(lab: Any, rhymes: Any) -> None:
    list(prepare("rhymes"))
    run = finished_run()
    async with lab() as at:
        screen = await form(at, dataset="rhymes")
        await fill(at, screen, {"name": run.name})
        assert "already" in problem(screen, "name")
        await fill(at, screen, {"name": "../elsewhere"})
        assert "cannot name a run" in problem(screen, "name")


def finished_run() -> Path:
    """A run of 30 steps on rhymes."""
    run = runs.new_folder("old")
    quick = {"dataset": "rhymes", "eval_iters": 20, "sample_interval": 0, "threads": 1}
    list(runs.start(resolve(flags=TINY | quick).config, run))
    return run


async def test_going_on_with_a_run_keeps_its_shape_and_trains_further(lab: Any, rhymes: Any) -> None:
    list(prepare("rhymes"))
    run = finished_run()
    async with lab() as at:
        screen = await form(at)
        await fill(at, screen, {"start": f"resume {run.name}"})
        await at.until(lambda: screen.field("n_embd").editor.value == "16")
        assert screen.field("n_embd").editor.disabled
        assert not screen.field("max_iters").editor.disabled
        await fill(at, screen, {"max_iters": "40"})
        assert figure(screen, "tokens") == "640"  # 10 steps of 4 · 16
        assert screen.query_one("#start-button", Button).label.plain == "resume"
        await at.press("ctrl+s")
        await at.until(lambda: (now := at.session.history) and now.step > 30 and now.phase == "finished")
        assert at.session.history.step == 40
        assert runs.summary(run).step == 40


def test_what_was_changed_while_a_run_was_trained_is_what_it_goes_on_with(rhymes: Any) -> None:
    list(prepare("rhymes"))
    run, commands = runs.new_folder("old"), CommandQueue()
    for event in runs.start(
        resolve(flags=TINY | {"dataset": "rhymes", "eval_iters": 2}).config, run, commands=commands
    ):
        if isinstance(event, Step) and event.step == 5:
            commands.put(SetMaxIters(8))
    draft = Draft(start=f"resume {run.name}")
    assert draft.shown("max_iters") == "8"
    assert draft.checked(None)[1].keys() == {"max_iters"}  # it is complete
    draft.edit("max_iters", "30")  # as many as it began with
    assert draft.changes() == {"max_iters": "30"}
    list(runs.resume(run, draft.changes()))
    assert runs.summary(run).step == 30


async def test_another_runs_weights_decide_the_shape_of_a_new_run(lab: Any, rhymes: Any) -> None:
    list(prepare("rhymes"))
    run = finished_run()
    async with lab() as at:
        screen = await form(at, dataset="rhymes", start=f"weights {run.name}")
        assert screen.field("n_layer").editor.disabled
        screen.draft.edit("eval_iters", "20")
        await fill(at, screen, {"name": "tuned", "max_iters": "10", "eval_interval": "5", "device": "cpu"})
        await at.press("ctrl+s")
        await at.until(lambda: (now := at.session.history) and (now.run, now.phase) == ("tuned", "finished"))
        assert expect(gpt2.Config, runs.folder.run_config(runs.find("tuned")).model).n_embd == 16
        # it begins where the other ended, far below a uniform guess
        old_loss = runs.summary(run).best_val_loss
        assert at.session.history.evaluations[0].val_loss == pytest.approx(old_loss, rel=0.05)


async def test_keys_go_from_field_to_field_and_turn_choices(lab: Any) -> None:
    async with lab() as at:
        screen = await form(at)
        await at.press("right")
        await at.until(lambda: screen.draft.preset == "baby")
        await at.press("down", "down", "down")
        assert at.app.focused is screen.field("name").editor
        await at.press("up", "up", "up", "left")
        await at.until(lambda: screen.draft.preset == "")
        await at.press("enter", "end", "enter")  # the list of a long choice
        await at.until(lambda: screen.draft.preset == preset_names()[-1])
        await at.press("escape")
        assert not isinstance(at.app.screen, NewRunScreen)


async def test_f1_explains_the_field_in_focus_and_a_question_mark_is_text_there(lab: Any) -> None:
    async with lab() as at:
        screen = await form(at)
        screen.field("n_head").editor.focus()
        await at.until(lambda: at.seen().splitlines()[-1].rstrip().endswith("f1 help"))
        await at.press("f1")
        await at.sees("attention")
        await at.press("escape", "end", "?")
        assert screen.field("n_head").editor.value == "4?"


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_the_common_settings_and_the_figures_fit_every_size(lab: Any, size: tuple[int, int]) -> None:
    async with lab(size) as at:
        await form(at)
        common = [name for name, known in settings().items() if known.common]
        await at.sees(*common, "parameters", "memory", "time", "start")


async def test_the_fields_are_those_of_the_chosen_components(lab: Any) -> None:
    async with lab() as at:
        screen = await form(at)

        def shown() -> set[str | None]:
            return {field.name for field in screen.query(Field)}

        assert "ngram" not in shown()
        await fill(at, screen, {"n_layer": "3"})
        screen.choice("architecture").value = "modern"
        await at.until(lambda: "ngram" in shown())
        assert screen.config is not None
        assert (screen.config.model.name, screen.config.values()["n_layer"]) == ("modern", 3)
        await fill(at, screen, {"ngram": "9"})
        await at.sees("at most 4")
        screen.choice("architecture").value = "gpt2"
        await at.until(lambda: "ngram" not in shown())
        assert screen.config is not None, "what belongs to the other architecture is no mistake"
        await at.press("ctrl+o")
        assert {"bias", "min_lr"} <= shown()
        screen.choice("schedule").value = "constant"
        await at.until(lambda: "min_lr" not in shown())
        names = [field.name for field in screen.query_one("#common-model").query(Field)]
        assert names == ["architecture", "block_size", "n_layer", "n_head", "n_embd", "dropout"]


async def test_a_component_that_cannot_be_loaded_is_not_offered(lab: Any, broken_architecture: str) -> None:
    known = names(ARCHITECTURE)
    assert broken_architecture in known
    async with lab() as at:
        screen = await form(at)
        offered = [name for name, _ in screen.choice("architecture").options]
        assert offered == [name for name in known if name != broken_architecture]


async def test_more_settings_come_when_they_are_wanted(lab: Any) -> None:
    async with lab() as at:
        screen = await form(at)
        before = len(screen.query(Field))
        await at.press("ctrl+o")
        names = {field.name for field in screen.query(Field)}
        assert len(names) > before + 20
        assert {"weight_decay", "seed", "compile", "sample_interval"} <= names
        await fill(at, screen, {"min_lr": "5"})
        assert "at most learning_rate" in problem(screen, "min_lr")


def test_a_tokenizer_that_several_runs_share_is_loaded_once(two_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, real_load = list[Path](), tokenizers.load

    def load(file: Path) -> tokenizers.Tokenizer:
        loaded.append(file)
        return real_load(file)

    monkeypatch.setattr(tokenizers, "load", load)
    found = read_options(None).tokenizers
    assert found["run one"] == found["run two"]
    assert len(loaded) == 1


def test_what_the_base_has_anyway_is_no_change() -> None:
    draft = Draft(preset="baby")
    draft.edit("n_layer", "7")
    assert draft.changes() == {"n_layer": "7"}
    draft.edit("n_layer", "6")
    assert draft.changes() == {}
    draft.edit("min_lr", "")  # none, as it is
    assert draft.changes() == {}


def test_a_problem_is_worded_without_the_name_beside_which_it_stands() -> None:
    draft = Draft()
    draft.edit("dropout", "2")
    _, problems = draft.checked(None)
    assert problems == {"dropout": "has to be at least 0 and below 1"}


def test_a_run_that_is_gone_is_said_at_the_field_that_names_it() -> None:
    config, problems = Draft(start="resume nothing").checked(None)
    assert config is None
    assert "no run" in problems["start"]


def test_a_text_too_short_for_the_block_is_found_before_it_is_trained_on(tmp_path: Path) -> None:
    file = tmp_path / "short.txt"
    file.write_text("abcdefghij" * 30)
    list(prepare(textfile_recipe([file])))
    info = next(info for info in list_datasets() if info.name == "short")
    _, problems = Draft(dataset="short").checked(info)
    assert "block_size" in problems


async def test_news_that_come_while_the_form_is_taken_away_are_dropped(lab: Any, rhymes: Any) -> None:
    async with lab() as at:
        screen = await form(at)
        starts = ((SCRATCH, "random weights"),)
        news = FormOptions(datasets=tuple(screen.datasets.values()), starts=starts, tokenizers={}, taken=frozenset())
        screen.dismiss()
        for _ in range(500):
            screen._show_options(news, "")
            await asyncio.sleep(0)
        assert not screen.query(Field)


async def test_from_the_data_screen_the_first_picture_is_whole(
    lab: Any, rhymes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted, classes = NewRunScreen.on_mount, set[str]()

    def on_mount(screen: NewRunScreen) -> None:
        classes.update(screen.classes)
        mounted(screen)

    monkeypatch.setattr(NewRunScreen, "on_mount", on_mount)
    monkeypatch.setattr(NewRunScreen, "_show_options", lambda screen, *found: None)  # nothing has been read yet
    list(prepare("rhymes"))
    async with lab() as at:
        await at.press("1")
        await at.until(lambda: at.app.screen.entries)
        at.app.screen._show_list("rhymes")
        await at.press("enter")
        assert {"-medium", "-tall"} <= classes  # before it was ever laid out
        assert not figure(at.app.screen, "parameters").startswith("≈")


async def test_where_nobody_said_which_the_form_takes_a_data_set_that_is_prepared(lab: Any, rhymes: Any) -> None:
    list(prepare("rhymes"))
    async with lab() as at:
        screen = await form(at)
        assert screen.config.data.dataset == "rhymes"  # the defaults' own is not prepared


async def test_the_chosen_preset_says_what_it_is_for_and_a_field_what_its_word_means(lab: Any, rhymes: Any) -> None:
    async with lab() as at:
        screen = await form(at)
        await at.press("right")
        await at.sees("nanoGPT's baby GPT", "A named set of values")
        screen.field("optimizer").editor.focus()
        await at.sees("rule that turns gradients")


def test_a_run_is_watched_unless_told_otherwise() -> None:
    draft = Draft(preset="baby")
    config, _ = draft.checked(None)
    assert config is not None
    assert config.evaluation.sample_interval == config.evaluation.eval_interval == 250
    draft.edit("sample_interval", "0")
    config, _ = draft.checked(None)
    assert config is not None
    assert config.evaluation.sample_interval == 0


async def test_a_run_of_several_processes_is_started_and_resumed_in_the_background(
    lab: Any, rhymes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(prepare("rhymes"))
    run = finished_run()
    starts: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Session, "start_detached", lambda session, *arguments: starts.append(arguments))
    monkeypatch.setattr(Session, "_launch_resume", lambda session, *arguments: starts.append(arguments[:2]))
    async with lab() as at:
        screen = await form(at, dataset="rhymes")
        await screen.focus_setting("processes")
        await fill(at, screen, {"processes": "2", "name": "many"})
        await at.press("ctrl+s")
        await at.until(lambda: starts)
        ((config, folder),) = starts
        assert (config.system.processes, folder.name) == (2, "many")
        at.session.resume(run, {"processes": 2})
        await at.until(lambda: len(starts) == 2)
        assert starts[1] == (run, {"processes": 2})
        assert not at.session.is_training


def test_a_run_is_resumed_at_its_latest_checkpoint_whatever_step_it_had_reached(two_runs: Path) -> None:
    status = two_runs / "one" / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"step": 75, "state": "interrupted"}))
    assert dict(read_options(None).starts)["resume one"] == "resume one at step 60"


async def test_a_start_waits_until_the_data_sets_are_read_which_may_choose_another_one(
    lab: Any, rhymes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(prepare("rhymes"))
    may_read, started = threading.Event(), list[str]()

    def slowly(runs_dir: str | None) -> FormOptions:
        may_read.wait(60)
        return read_options(runs_dir)

    monkeypatch.setattr(form_screen, "read_options", slowly)
    async with lab() as at:
        screen = NewRunScreen()
        monkeypatch.setattr(screen, "_start_after_measurement", lambda config, *_: started.append(config.data.dataset))
        at.app.push_screen(screen)
        await at.until(lambda: screen.config is not None and screen._wanted is None)
        screen.action_start()
        assert not started
        may_read.set()
        await at.until(lambda: started)
    assert started == ["rhymes"]
