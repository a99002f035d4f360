"""Every key that a screen shows in its last line does something that can be seen, in every state of the screen.

A key that does the same in a second state or size is not pressed again there: it is among the `besides`.
"""

import dataclasses
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nanogpt_tui.screens.runs import run_table
from nanogpt_tui.widgets.help import Help

SLOW = {"max_iters": 1_000_000, "eval_interval": 500_000, "eval_iters": 1, "sample_interval": 0}
Visit = Callable[[Any], Awaitable[None]]


def keys_shown(screen: Any) -> list[str]:
    """The keys of the last line, in its order."""
    return [key for key, active in screen.active_bindings.items() if active.binding.show and active.enabled]


def state(at: Any) -> tuple[object, ...]:
    """All that a key could change to somebody who looks."""
    history = at.session.history
    known = history and (history.run, history.phase, len(history.log), len(history.samples), len(history.saves))
    return at.app.screen, at.app.focused, at.seen(), known, len(at.app._notifications)


async def still(at: Any) -> None:
    """Waits until the screen has stood still for a while."""
    calm = 0
    while calm < 3:
        before = state(at)
        await at.rest(0.04)
        calm = calm + 1 if state(at) == before else 0


async def each_key(at: Any, visit: Visit, *, besides: tuple[str, ...] = ()) -> AsyncIterator[str]:
    """Presses every key of the last line, each in the state that `visit` makes; yields it when its effect was seen."""
    await visit(at)
    keys = keys_shown(at.app.screen)
    assert keys, "no key is shown"
    for key in keys:
        if key in besides:
            continue
        await visit(at)
        await still(at)
        assert key in keys_shown(at.app.screen), f"{key} is shown only sometimes"
        before = state(at)
        await at.press(key)
        await at.until(lambda before=before: state(at) != before, 30)
        yield key


async def go(at: Any, mode: str) -> None:
    """Closes what is open, and goes to a mode."""
    while len(at.app.screen_stack) > 1:
        at.app.pop_screen()
        await at.settle()
    await at.app.switch_mode(mode)
    await at.settle()


async def receive(keys: AsyncIterator[str]) -> list[str]:
    return [key async for key in keys]


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_table, "age", lambda seconds: "1 d")


async def test_train_before_anything_was_trained(lab: Any) -> None:
    async with lab() as at:

        async def visit(at: Any) -> None:
            await go(at, "train")

        assert await receive(each_key(at, visit, besides=("enter", "g"))) == ["n"]
        assert {"enter", "g"} <= set(keys_shown(at.app.screen_stack[0]))
        await go(at, "train")
        await at.press("g")
        await at.until(lambda: at.session.history is not None)


async def is_read(at: Any, run: str = "") -> None:
    """Waits until all of a run's record is read, on which its keys depend."""
    await at.until(
        lambda: (history := at.session.history) and history.reading is None and (not run or history.run == run)
    )


async def test_train_with_a_run_that_has_ended(lab: Any, two_runs: Path) -> None:
    for size in ((120, 40), (80, 24)):
        async with lab(size=size) as at:

            async def visit(at: Any) -> None:
                await go(at, "train")
                await is_read(at)

            besides = () if size == (120, 40) else (*"rnhI", "enter", "g")  # which open a dialog or another screen
            pressed = [key for key in (*"rnolahIv", "enter", "g") if key not in besides]
            assert await receive(each_key(at, visit, besides=besides)) == pressed
            await visit(at)
            assert keys_shown(at.app.screen) == [*"rnolahIv", "enter", "g"]


async def test_health(lab: Any, two_runs: Path) -> None:
    async with lab() as at:

        async def visit(at: Any) -> None:
            if type(at.app.screen).__name__ != "HealthScreen":
                await go(at, "train")
                await is_read(at)
                await at.press("h")
            await at.sees("update / weights")
            at.app.screen._layer = 2  # a layer between others
            at.app.screen._step = at.session.history.layer_health[1].step  # a measurement between others
            at.app.screen.training_changed()
            at.app.screen.refresh_bindings()

        keys = await receive(each_key(at, visit))
        assert {"right", "left", "down", "up", "left_square_bracket", "right_square_bracket", "escape"} <= {*keys}


async def test_look(lab: Any, two_runs: Path, trained: Path, home: Path) -> None:
    shutil.copytree(trained.parent / "data", home / "data")
    async with lab() as at:
        await go(at, "train")
        at.session.show_run(two_runs / "one")
        await is_read(at, "one")

        def on(view: str) -> Visit:
            async def visit(at: Any) -> None:
                await go(at, "train")
                await at.press("I")
                await at.until(lambda: at.app.screen.inspection is not None)
                await at.press("[")
                await at.until(lambda: at.app.screen.inspection.step == 40)
                at.app.screen.action_show_view(view)
                await at.until(lambda: at.app.screen.inspection.request.view == view)
                if view != "losses":
                    await at.press("left")

            return visit

        found = await receive(each_key(at, on("attention")))
        assert {*found} == {"left", "right", *"vhi", "left_square_bracket", "right_square_bracket", "escape", "I"}
        found = await receive(each_key(at, on("losses"), besides=("escape", "I")))
        assert {*found} == {*"vc", "left_square_bracket", "right_square_bracket"}


async def test_train_while_a_run_is_trained_and_paused(lab: Any, two_runs: Path) -> None:
    async with lab(**SLOW) as at:
        await go(at, "train")
        at.session.quick_start(at.app.settings.quickstart)
        await at.until(lambda: at.session.history.step > 3)

        async def visit(at: Any) -> None:
            await go(at, "train")
            await at.until(lambda: not at.session.training.pending)
            if at.session.history.phase != "paused":
                await at.press("space")
                await at.until(lambda: at.session.history.phase == "paused")

        found = await receive(each_key(at, visit))
        assert found[:4] == ["space", "s", "x", "t"]
        assert {"n", "o", "l", "a"} <= {*found}


async def test_data(lab: Any, two_runs: Path, trained: Path, home: Path) -> None:
    shutil.copytree(trained.parent / "data", home / "data")
    shutil.copy(home / "config" / "datasets" / "rhymes.toml", home / "config" / "datasets" / "verses.toml")
    async with lab() as at:

        def on(name: str) -> Visit:
            async def visit(at: Any) -> None:
                await go(at, "data")
                await at.until(lambda: at.app.screen.entries and at.app.screen.preparation is None)
                rows = at.app.screen.query_one("DatasetList")
                rows.highlighted = rows.get_option_index(name)

            return visit

        assert await receive(each_key(at, on("rhymes"))) == ["enter", *"navtd", "delete"]
        await on("verses")(at)
        assert keys_shown(at.app.screen) == ["enter", *"npavt"]
        assert await receive(each_key(at, on("verses"), besides=(*"navt",))) == ["enter", "p"]


async def test_new_run(lab: Any, two_runs: Path) -> None:
    async with lab() as at:

        async def visit(at: Any) -> None:
            if type(at.app.screen).__name__ != "NewRunScreen" or len(at.app.screen_stack) < 2:
                await go(at, "train")
                await at.press("n")
            at.app.screen.draft.edit("n_layer", "2")
            at.app.screen._changed()
            if at.app.screen.measuring._timer is not None:
                at.app.screen.measuring._timer.stop()  # measuring begins with its key, and not by itself

        starting = ("ctrl+s", "ctrl+g")  # here, and in a process of its own: what they do has tests elsewhere
        found = await receive(each_key(at, visit, besides=starting))
        assert found == ["escape", "ctrl+t", "ctrl+o", "ctrl+r"]
        await visit(at)
        assert {*starting} <= {*keys_shown(at.app.screen)}


async def test_sample(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await go(at, "sample")
        screen = at.app.screen

        async def empty(at: Any) -> None:
            await go(at, "sample")
            screen.completions.stop()
            screen.knobs = dataclasses.replace(screen.knobs, max_new_tokens=4)
            screen.completions.groups.clear()
            screen.sources = screen.sources[:1]
            screen.set_focus(None)
            screen.completions.shown = -1
            screen.repaint()

        texts: list[Any] = []

        async def written(at: Any) -> None:
            await empty(at)
            for _ in range(0 if texts else 2):
                screen.action_write()
                await at.until(lambda: screen.completion is not None and screen.completion.reason)
            texts[:] = texts or screen.completions.groups
            screen.completions.groups[:] = [[dataclasses.replace(text) for text in group] for group in texts]
            screen.completions.shown = 1
            screen.repaint()
            screen.action_history(-1)

        async def later(at: Any) -> None:
            await written(at)
            screen.action_history(1)

        async def pointed(at: Any) -> None:
            await later(at)
            screen.action_move_cursor(-1)

        async def job(at: Any) -> None:
            await empty(at)
            screen.knobs = dataclasses.replace(screen.knobs, max_new_tokens=1_000_000_000)
            screen.action_write()
            await at.until(lambda: len(screen.completion.tokens) > 3)

        assert await receive(each_key(at, empty)) == ["enter", "g", "i", "f", "b", "I"]
        found = await receive(each_key(at, written, besides=(*"ifbI",)))
        assert found == ["enter", "g", "a", "c", "left", "right", "right_square_bracket", "e"]
        await written(at)
        assert {*"ifbI"} < {*keys_shown(screen)}
        found = await receive(each_key(at, pointed, besides=(*"gacifbI",)))
        assert found[:2] == ["enter", "escape"]
        assert {"left", "left_square_bracket", "e"} <= {*found}
        await pointed(at)
        assert not {"right", "right_square_bracket"} & {*keys_shown(screen)}
        await job(at)
        assert "escape" in keys_shown(screen)
        await at.press("escape")
        await at.until(lambda: screen.completion.reason == "esc")
        await at.until(lambda: "escape" not in keys_shown(screen))


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_runs(lab: Any, two_runs: Path, size: tuple[int, int]) -> None:
    async with lab(size=size) as at:

        async def visit(at: Any) -> None:
            await go(at, "runs")
            await at.until(lambda: at.app.screen.runs and at.app.screen.chart)
            at.app.screen.action_clear()

        shown = ["enter", "space", "o", "slash", *"srRieyd", "delete", *("v" if size == (80, 24) else "")]
        besides = () if size == (120, 40) else ("enter", *"srRieyd", "delete")  # which open a dialog or another screen
        found = await receive(each_key(at, visit, besides=besides))
        assert found == [key for key in shown if key not in besides]
        await visit(at)
        assert keys_shown(at.app.screen) == shown


async def test_help_is_always_there(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        for mode in ("data", "train", "sample", "runs", "learn"):
            await go(at, mode)
            await still(at)
            assert "? help" in at.seen().splitlines()[-1]
            await at.press("question_mark")
            assert isinstance(at.app.screen, Help)


async def test_a_dialog_hides_the_keys_that_do_nothing_behind_it(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await go(at, "runs")
        await at.until(lambda: at.app.screen.runs)
        await at.press("d")
        await at.until(lambda: at.seen().splitlines()[-1].strip() == "")
        await at.press("escape")
        await at.until(lambda: "delete" in at.seen().splitlines()[-1])
