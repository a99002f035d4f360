"""The commands of the palette: what the keys of a screen do, and jumps to runs, checkpoints, data sets and settings."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual.binding import Binding
from textual.screen import Screen

from nanogpt_tui import screens, theme
from nanogpt_tui.keys import shown
from nanogpt_tui.screens.base import QUICK_START
from nanogpt_tui.settings import CHOICES
from nanogpt_tui.text import count, printable
from nanogpt_tui.widgets.palette import PaletteCommand

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp

SETTINGS = (*CHOICES, "repaints_per_second", "quickstart")  # of the app


def of_screen(app: "LabApp", screen: Screen[Any]) -> Iterator[PaletteCommand]:
    """What works now: going to a screen, all that the keys of `screen` do, the quick start, the themes."""
    for mode, (_, title) in screens.MODES.items():
        yield PaletteCommand(
            title=title,
            run=partial(app.switch_mode, mode),
            about=f"Go to the {title} screen",
            right=shown(f"app.{mode}", app),
            is_key=True,
        )
    listed: set[str] = set()  # what is listed with one key need not be listed with another
    bound = [active.binding for active in screen.active_bindings.values()]
    shared = {each.description for each in bound for other in bound if _apart(each, other)}
    shared |= {title.lower() for _, title in screens.MODES.values()}
    for active in screen.active_bindings.values():
        binding = active.binding
        known = binding.id is None or binding.action in listed  # Textual's own bindings have no id
        if active.enabled and not known and not binding.action.startswith("switch_mode"):
            listed.add(binding.action)
            about = binding.tooltip
            title = about if about and binding.description in shared else binding.description
            yield PaletteCommand(
                title=_capital(title),
                run=partial(app.run_action, binding.action, active.node),
                about=about if about != title and about.lower() != title else "",
                right=app.get_key_display(binding),
                is_key=True,
            )
    if app.current_mode != "train" and not app.session.readonly and not app.session.is_alive:
        yield PaletteCommand(title="Quick start", run=app.quick_start, about=QUICK_START)
    for name in theme.NAMES:
        yield PaletteCommand(
            title=f"Theme: {name}", run=partial(app.set_preference, "theme", name), about="Change the colours"
        )


def jumps(app: "LabApp") -> Iterator[PaletteCommand]:
    """Every run, checkpoint, data set and setting. Reads the disk: for a thread."""
    from nanogpt import data, runs

    there = runs.list_runs(app.session.runs_dir)
    for run in there:
        about = f"{run.phase}, step {run.step:,}"
        yield PaletteCommand(title=printable(run.name), run=partial(show_run, app, run.name), about=about, right="run")
    for run in there:
        for each in reversed(runs.list_checkpoints(runs.find(run.path))):
            loss = f"val loss {each.val_loss:.4f}" if each.val_loss is not None else "not evaluated"
            yield PaletteCommand(
                title=f"{printable(run.name)} · step {each.step:,}",
                run=partial(show_checkpoint, app, run.name, each.step),
                about=loss,
                right="checkpoint",
                searched=str(each.step),
            )
    for info in data.list_datasets():
        tokens = f"{count(sum(info.tokens.values()))} tokens" if info.prepared else "not prepared"
        yield PaletteCommand(
            title=printable(info.name),
            run=partial(show_dataset, app, info.name),
            about=tokens,
            right="data set",
        )
    yield from _settings(app)


def _settings(app: "LabApp") -> Iterator[PaletteCommand]:
    from nanogpt.config import every_setting
    from nanogpt_tui.screens.new_run.draft import NOT_IN_FORM

    for name, setting in every_setting().items():
        if name not in NOT_IN_FORM and not app.session.readonly:
            yield PaletteCommand(title=name, run=partial(show_setting, app, name), about=setting.help, right="setting")
    for name in SETTINGS:
        yield PaletteCommand(
            title=name.replace("_", " "),
            run=partial(app.action_preferences, name),
            about=" · ".join(CHOICES.get(name, ())) or "of the app",
            right="setting",
            searched=f"{name} app",
        )


async def _base(app: "LabApp", mode: str) -> Screen[Any]:
    """Shows the screen of a mode, and nothing over it. Returns the screen."""
    await app.switch_mode(mode)
    while len(app.screen_stack) > 1:
        await app.pop_screen()
    return app.screen


async def show_run(app: "LabApp", name: str) -> None:
    """Goes to a run in Runs."""
    from nanogpt_tui.screens.runs.screen import RunsScreen

    cast(RunsScreen, await _base(app, "runs")).stand_on(name)


async def show_checkpoint(app: "LabApp", run: str, step: int) -> None:
    """Goes to Sample with the weights of a checkpoint."""
    from nanogpt_tui.screens.sample.screen import SampleScreen
    from nanogpt_tui.session.completions import Source

    cast(SampleScreen, await _base(app, "sample")).use_source(Source(run, str(step)))


async def show_dataset(app: "LabApp", name: str) -> None:
    """Goes to a data set in Data."""
    from nanogpt_tui.screens.data.screen import DataScreen

    cast(DataScreen, await _base(app, "data")).stand_on(name)


async def show_setting(app: "LabApp", name: str) -> None:
    """Goes to the field of a setting in the form of a new run: the one in front, or a new one."""
    from nanogpt_tui.screens.new_run.screen import NewRunScreen

    if not isinstance(app.screen, NewRunScreen):
        await app.push_screen(NewRunScreen())
    await cast(NewRunScreen, app.screen).stand_on(name)


def _apart(one: Binding, other: Binding) -> bool:
    """Whether one word in the line of keys stands for both: zoom, for in and out."""
    return one.description == other.description and one.action != other.action


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
