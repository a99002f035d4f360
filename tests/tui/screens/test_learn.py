"""The Learn screen with small experiments: its keys, its line, what it remembers, and how an experiment ends."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.widgets import Static

from nanogpt.errors import UserError
from nanogpt.learn import progress
from nanogpt.learn.experiment import Action
from nanogpt.learn.lesson import Catalog
from nanogpt_tui.screens.learn import screen as learn
from nanogpt_tui.widgets.help import Help
from tests.made_lessons import LESSONS, Counting, Made
from tests.tui.test_every_key import each_key, go, receive


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three small lessons; the list of problems that their files have can be filled."""
    problems: list[str] = []
    monkeypatch.setattr(learn, "lessons", lambda: Catalog(LESSONS, tuple(problems)))
    Counting.gate.clear()
    Counting.closed.clear()
    return problems


async def opened(at: Any) -> Any:
    await at.press("5")
    await at.until(lambda: at.app.current_mode == "learn" and not at.app.screen.is_reading)
    return at.app.screen


async def begun(at: Any, *keys: str) -> None:
    """Starts the experiment, and waits until its first step has ended: its keys are known from then on."""
    await at.press(*keys, "enter")
    await at.until(lambda: at.app.screen.experiment.started and not at.app.screen.experiment.running)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_a_lesson_is_read_started_and_done(lab: Any, lessons: list[str], size: tuple[int, int]) -> None:
    async with lab(size=size) as at:
        await opened(at)
        await at.sees(
            "▸  1 Count apples" if size[0] >= 160 else "▸ 1 Count apples",
            "An apple is one apple.",
            "Try: press s.",
            "enter starts the experiment",
        )
        await at.press("enter")
        await at.sees("ready", "Apples", "s one step   + many steps", "Try: press s.")
        assert ("Two are more" in at.seen()) == (size != (80, 24))  # there is not room for both
        await at.press("s")
        await at.sees("step 1")
        assert "lesson done" not in at.seen()
        await at.press("s")
        await at.sees("step 2", "✓ lesson done", "1 of 3 done")
        await at.until(lambda: progress.load().done == {"count"})


async def test_what_the_keys_do_takes_as_many_lines_as_the_width_needs(lab: Any, lessons: list[str]) -> None:
    async with lab(size=(200, 60)) as at:
        pane = (await opened(at)).pane
        state = pane.query_one("#state", Static)
        await at.press("enter")
        await at.until(lambda: str(state.content) == "s one step   + many steps   enter wrong")
        pane.styles.width = 34
        await at.until(lambda: str(state.content) == "s one step   + many steps\nenter wrong")
        pane.styles.width = "1fr"
        await at.until(lambda: "\n" not in str(state.content))


async def test_the_first_lesson_that_is_not_done_is_shown(lab: Any, lessons: list[str]) -> None:
    progress.mark_done("count")
    async with lab() as at:
        await opened(at)
        await at.sees("✓ 1", "▸ 2 Ask a question", "1 of 3 done")
        await at.press("left")
        await at.sees("▸ 1 Count apples ✓")


async def test_a_file_that_is_no_lesson_is_said_and_damaged_progress_too(lab: Any, lessons: list[str]) -> None:
    lessons.append("lesson /tmp/[bold]x.md: no [/bold] head")
    progress.progress_path().parent.mkdir(parents=True, exist_ok=True)
    progress.progress_path().write_text("{", encoding="utf-8")
    async with lab() as at:
        await opened(at)
        await at.sees("[bold]x.md: no [/bold] head", "count as not done", "▸ 1 Count apples")


async def test_many_bad_files_do_not_cover_the_screen(lab: Any, lessons: list[str]) -> None:
    lessons += [f"lesson {number}.md: no head" for number in range(1, 31)]
    async with lab() as at:
        await opened(at)
        await at.sees("lesson 3.md: no head", "and 27 more: nanogpt learn lists them", "▸ 1 Count apples")
        assert "lesson 4.md" not in at.seen()


async def test_an_answer_is_typed_and_letters_are_not_keys_meanwhile(lab: Any, lessons: list[str]) -> None:
    async with lab() as at:
        screen = await opened(at)
        await at.press("right", "enter")
        await at.until(lambda: screen.pane.line.has_focus)
        await at.sees("ask me", "Type a word")
        await at.press(*"q1 ?", "enter")
        await at.sees("you typed q1 ?!", "✓ lesson done")
        await at.press("escape")
        assert not screen.pane.line.has_focus
        await at.press("i")
        assert screen.pane.line.has_focus
        await at.press("escape", "left")
        await at.sees("▸ 1 Count apples")
        assert not screen.pane.query_one("#answer").display


async def test_keys_that_are_pressed_while_it_computes_are_done_after_it(lab: Any, lessons: list[str]) -> None:
    async with lab() as at:
        await opened(at)
        await begun(at)
        await at.press("+", "s", "s")
        await at.sees("25%  counting slowly")
        Counting.gate.set()
        await at.sees("step 3")


async def test_a_key_that_waited_is_not_done_if_its_action_is_no_longer_offered(
    lab: Any, lessons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Action("+", "many steps", "slow"), Action("s", "one step", "step")
    monkeypatch.setattr(Counting, "actions", property(lambda self: () if self.count else both))
    async with lab() as at:
        screen = await opened(at)
        await begun(at)
        await at.press("+", "s")
        await at.sees("counting slowly")
        Counting.gate.set()
        await at.until(lambda: not screen.experiment.running)
        assert "step 1" in at.seen()


async def test_escape_cancels_space_pauses_and_start_over_begins_again(lab: Any, lessons: list[str]) -> None:
    async with lab() as at:
        screen = await opened(at)
        await begun(at)
        await at.press("+")
        await at.sees("counting slowly")
        await at.press("space")
        await at.sees("paused: space continues")
        await at.press("space")
        await at.sees("counting slowly")
        await at.press("escape")
        await at.until(lambda: not screen.experiment.running)
        assert Counting.closed.is_set()
        await at.press("s")  # what was reached before is still there
        await at.sees("step 1")
        await at.press("ctrl+r")
        await at.sees("ready")


async def test_a_cancelled_step_leaves_the_figures_of_the_last_one_that_ended(lab: Any, lessons: list[str]) -> None:
    async with lab() as at:
        await opened(at)
        await begun(at)
        await at.press("+")
        await at.sees("half a step", "counting slowly")
        assert "ready" not in at.seen()
        await at.press("escape")
        await at.sees("ready", "cancelled")
        assert "half a step" not in at.seen()


@pytest.mark.parametrize(
    "leave",
    [lambda at: at.press("right"), lambda at: at.press("2"), lambda at: at.press("ctrl+r")],
    ids=["another lesson", "another screen", "start over"],
)
async def test_leaving_an_experiment_ends_it(lab: Any, lessons: list[str], leave: Callable[[Any], Any]) -> None:
    async with lab() as at:
        screen = await opened(at)
        await begun(at)
        before = screen.experiment
        await at.press("+")
        await at.sees("counting slowly")
        await at.press("question_mark")  # a dialog on top leaves it alone
        await at.until(lambda: isinstance(at.app.screen, Help))
        await at.press("escape")
        assert before.running
        await leave(at)
        await at.until(Counting.closed.is_set)
        await at.until(lambda: not before.running)


async def test_the_end_of_the_app_ends_the_experiment(lab: Any, lessons: list[str]) -> None:
    async with lab() as at:
        await opened(at)
        await begun(at)
        await at.press("+")
        await at.sees("counting slowly")
    assert Counting.closed.wait(30)


async def test_what_cannot_be_done_is_said_and_the_experiment_continues(lab: Any, lessons: list[str]) -> None:
    async with lab() as at:
        await opened(at)
        await begun(at)
        await at.press("enter")  # now a key of the experiment
        await at.sees("the apples are [bold]gone[/bold]; buy some", "ready", "s one step")
        await at.press("s")
        await at.sees("step 1")
        assert "gone" not in at.seen()


async def test_an_error_of_the_experiment_itself_is_one_line_and_it_can_be_started_over(
    lab: Any, lessons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab() as at:
        await opened(at)
        await begun(at)
        monkeypatch.setattr(Counting, "act", lambda self, name: [][1])
        await at.press("s")
        await at.sees("unexpected IndexError: list index out of range")
        await at.press("ctrl+r")
        await at.sees("ready")


async def test_help_explains_what_the_lesson_is_about_and_lists_its_keys(lab: Any, lessons: list[str]) -> None:
    async with lab() as at:
        await opened(at)
        await begun(at, "right", "right")
        await at.press("question_mark")
        await at.sees("Perplexity", "One step", "Many steps")


async def test_a_lesson_is_opened_with_the_mouse_and_from_the_palette(lab: Any, lessons: list[str]) -> None:
    async with lab() as at:
        screen = await opened(at)
        await at.sees("· 2")
        row = next(y for y, line in enumerate(at.seen().splitlines()) if "· 2" in line)
        await at.pilot.click(offset=(at.seen().splitlines()[row].index("· 2"), row))
        await at.until(lambda: screen.lesson.name == "ask")
        await at.app.show_item("learn", "perplexity")
        await at.until(lambda: screen.lesson.name == "perplexity")


async def test_a_lesson_that_was_added_since_they_were_read_is_opened_from_the_palette(
    lab: Any, lessons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab() as at:
        screen = await opened(at)
        await begun(at)
        added = Made(4, "added", "Added later", "Text.", "", "counting")
        monkeypatch.setattr(learn, "lessons", lambda: Catalog((*LESSONS, added), ()))
        await at.app.show_item("learn", "added")
        await at.until(lambda: screen.lesson.name == "added")
        await at.sees("▸ 4 Added later", "enter starts the experiment")


async def test_lessons_are_read_again_when_the_screen_is_shown_again(
    lab: Any, lessons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons.append("lesson a.md: no head")
    async with lab() as at:
        screen = await opened(at)
        await at.sees("lesson a.md: no head")
        await at.press("right", "2")
        await at.until(lambda: at.app.current_mode == "train")
        said: list[str] = []
        monkeypatch.setattr(screen, "notify", lambda text, **_: said.append(text))
        edited = LESSONS[0], replace(LESSONS[1], title="Ask twice"), LESSONS[2]
        monkeypatch.setattr(learn, "lessons", lambda: Catalog(edited, (*lessons, "lesson b.md: no head")))
        progress.mark_done("count")
        await at.press("5")
        await at.sees("✓ 1", "▸ 2 Ask twice", "1 of 3 done")
        assert said == ["lesson b.md: no head"]


async def test_an_experiment_that_has_begun_is_still_there_when_the_screen_is_shown_again(
    lab: Any, lessons: list[str]
) -> None:
    async with lab() as at:
        screen = await opened(at)
        await begun(at)
        before = screen.experiment
        await at.press("2", "5")
        await at.sees("ready", "s one step")
        assert screen.experiment is before


async def test_a_lesson_that_was_edited_or_removed_is_shown_until_its_experiment_is_left(
    lab: Any, lessons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    edited, added = replace(LESSONS[0], title="Count pears"), Made(4, "added", "Added", "Text.", "", "counting")
    async with lab() as at:
        screen = await opened(at)
        await begun(at)
        before = screen.experiment
        monkeypatch.setattr(learn, "lessons", lambda: Catalog((edited, *LESSONS[1:], added), ()))
        await at.press("2", "5")
        await at.until(lambda: screen.lessons[-1] == added)
        assert screen.experiment is before
        assert screen.query_one("#title", Static).render().plain == "Count apples"
        await at.press("ctrl+r")
        await at.until(lambda: screen.experiment is not before and screen.experiment.started)
        assert screen.query_one("#title", Static).render().plain == "Count pears"
        before = screen.experiment
        monkeypatch.setattr(learn, "lessons", lambda: Catalog(LESSONS[1:], ()))
        await at.press("2", "5")
        await at.until(lambda: added not in screen.lessons)
        assert (screen.lesson, screen.experiment) == (edited, before)
        assert len(screen.lessons) == 3


async def test_a_lesson_that_could_not_be_read_is_not_turned_to_later(
    lab: Any, lessons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Catalog:
        raise UserError("the disk is gone")

    async with lab() as at:
        screen = await opened(at)
        monkeypatch.setattr(learn, "lessons", fail)
        await at.app.show_item("learn", "added")
        await at.sees("the disk is gone")
        added = Made(4, "added", "Added later", "Text.", "", "counting")
        monkeypatch.setattr(learn, "lessons", lambda: Catalog((*LESSONS, added), ()))
        await at.press("2", "5")
        await at.until(lambda: screen.lessons[-1] == added)
        assert screen.lesson.name == "count"


async def test_the_end_of_the_app_waits_until_a_lesson_is_saved_as_done(
    lab: Any, lessons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark_done, may_write = progress.mark_done, threading.Event()

    def slowly(name: str) -> None:
        may_write.wait(30)
        mark_done(name)

    monkeypatch.setattr(progress, "mark_done", slowly)
    async with lab() as at:
        await opened(at)
        await begun(at, "right")
        await at.press("a", "enter")
        await at.sees("lesson done")
        may_write.set()
        at.session.finish_writing()
        assert progress.load().done == {"ask"}


async def test_every_key_that_is_shown_does_something(lab: Any, lessons: list[str]) -> None:
    async with lab() as at:

        async def waiting(at: Any) -> None:
            await go(at, "learn")
            await at.until(lambda: not at.app.screen.is_reading)
            at.app.screen._open(1)

        async def started(at: Any) -> None:
            await waiting(at)
            at.app.screen._open(0)
            await begun(at)
            await at.press("s")
            await at.sees("step 1")
            await at.until(lambda: not at.app.screen.experiment.running)

        async def running(at: Any) -> None:
            await started(at)
            Counting.closed.clear()
            await at.press("+")
            await at.sees("counting slowly")

        assert await receive(each_key(at, waiting)) == ["enter", "left", "right", "ctrl+t"]
        found = await receive(each_key(at, started))
        assert found[:3] == ["s", "plus", "enter"]
        assert {"right", "ctrl+t", "ctrl+r"} <= {*found}
        assert {"escape", "space"} <= {*await receive(each_key(at, running, besides=("s", "plus", "enter")))}


async def test_in_ascii_all_of_it_is_ascii(lab: Any, lessons: list[str]) -> None:
    async with lab(size=(80, 24)) as at:
        at.app.change_settings({"glyphs": "ascii"})
        await opened(at)
        await at.press("enter")
        await at.sees("ready", "> here", "+++++")
        assert at.seen().isascii()
