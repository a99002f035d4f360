"""The commands of the palette: the actions of a screen, and links to runs, data sets, lessons and settings."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.binding import Binding
from textual.screen import Screen

from nanogpt.errors import UserError
from nanogpt_tui import screens, theme
from nanogpt_tui.keys import key_label
from nanogpt_tui.settings import CHOICES
from nanogpt_tui.text import count, printable
from nanogpt_tui.widgets.palette import PaletteCommand

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp

APP_SETTINGS = (*CHOICES, "repaints_per_second", "quickstart")


def screen_commands(app: "LabApp", screen: Screen[Any]) -> Iterator[PaletteCommand]:
    """Yield the commands that work now: switching screens, the actions of `screen`, the quick start, the themes."""
    for mode, (_, title) in screens.MODES.items():
        yield PaletteCommand(
            title=title,
            run=partial(app.switch_mode, mode),
            about=f"Go to the {title} screen",
            right=key_label(f"app.{mode}", app),
            is_key=True,
        )
    listed: set[str] = set()  # actions: one with several keys is listed once
    bindings = [active.binding for active in screen.active_bindings.values()]
    shared = {each.description for each in bindings for other in bindings if _is_ambiguous(each, other)}
    shared |= {title.lower() for _, title in screens.MODES.values()}
    for active in screen.active_bindings.values():
        binding = active.binding
        skip = binding.id is None or binding.action in listed  # Textual's own bindings have no id
        if active.enabled and not skip and not binding.action.startswith("switch_mode"):
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
        yield PaletteCommand(title="Quick start", run=app.quick_start, about=screens.QUICK_START)
    for name in theme.NAMES:
        yield PaletteCommand(
            title=f"Theme: {name}", run=partial(app.set_preference, "theme", name), about="Change the colours"
        )


def list_items(app: "LabApp") -> Iterator[PaletteCommand]:
    """Yield a command for every run, checkpoint, data set, lesson and setting. Reads the disk: call it in a thread."""
    from nanogpt import data, runs
    from nanogpt.learn.lesson import lessons
    from nanogpt_tui.session.completions import Source

    known_runs = app.session.list_runs()
    for run in known_runs:
        about = f"{run.phase}, step {run.step:,}"
        yield PaletteCommand(
            title=printable(run.name), run=partial(app.show_item, "runs", run.name), about=about, right="run"
        )
    for run in known_runs:
        with suppress(UserError):  # of a folder that cannot be read; the Runs screen says why
            for each in reversed(runs.list_checkpoints(runs.find(run.path))):
                loss = f"val loss {each.val_loss:.4f}" if each.val_loss is not None else "not evaluated"
                yield PaletteCommand(
                    title=f"{printable(run.name)} · step {each.step:,}",
                    run=partial(app.sample_from, Source(run.name, str(each.step))),
                    about=loss,
                    right="checkpoint",
                    keywords=str(each.step),
                )
    for info in data.list_datasets():
        tokens = f"{count(sum(info.tokens.values()))} tokens" if info.prepared else "not prepared"
        yield PaletteCommand(
            title=printable(info.name),
            run=partial(app.show_item, "data", info.name),
            about=tokens,
            right="data set",
        )
    for lesson in lessons().lessons:
        show = partial(app.show_item, "learn", lesson.name)
        yield PaletteCommand(title=lesson.title, run=show, about="Open the lesson", right="lesson")
    yield from _settings(app)


def _settings(app: "LabApp") -> Iterator[PaletteCommand]:
    from nanogpt.config import every_setting
    from nanogpt_tui.session.draft import NOT_IN_FORM

    for name, setting in every_setting().items():
        if name not in NOT_IN_FORM and not app.session.readonly:
            yield PaletteCommand(title=name, run=partial(app.show_setting, name), about=setting.help, right="setting")
    for name in APP_SETTINGS:
        yield PaletteCommand(
            title=name.replace("_", " "),
            run=partial(app.action_preferences, name),
            about=" · ".join(CHOICES.get(name, ())) or "app setting",
            right="setting",
            keywords=f"{name} app",
        )


def _is_ambiguous(one: Binding, other: Binding) -> bool:
    """Return whether two actions share one description in the key bar, such as "zoom" for in and out."""
    return one.description == other.description and one.action != other.action


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
