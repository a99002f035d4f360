"""The menu of the key `y`: copy a text, a path, or the command that does the same."""

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError
from nanogpt.runs.checkpoints import trained_config
from nanogpt.runs.folder import run_name, runs_folder
from nanogpt.runs.manage import changed
from nanogpt_tui.session.completions import LIVE, Completion
from nanogpt_tui.text import printable, short
from nanogpt_tui.widgets.dialog import Ask

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp
    from nanogpt_tui.terminal.terminal_app import TerminalApp

KEYS = {"text": "t", "path": "p", "command": "c"}
SHOWN = 48  # cells of what a line of the menu shows


def ask_copy(app: "TerminalApp", offered: Mapping[str, str]) -> None:
    """Ask which of `offered` ("text", "path", "command") to copy, and copy it."""

    def copy(answer: str | None) -> None:
        if answer is not None and answer in offered:
            app.copy_to_clipboard(offered[answer])
            app.notify(f"{answer} copied to the clipboard", markup=False)

    rows = {
        name: (KEYS[name], f"{name:<8} {short(printable(text).replace(chr(10), '↵'), SHOWN)}")
        for name, text in offered.items()
        if text
    }
    app.push_screen(Ask("Copy", rows | {"nothing": ("escape", "cancel")}), copy)


def ask_copy_run(app: "LabApp", folder: Path) -> None:
    """Do the same for a run, whose settings are read in a thread."""

    def show(offered: dict[str, str] | None, error: str) -> None:
        if offered:
            ask_copy(app, offered)

    app.session.fetch(lambda: run_items(folder), show, "copy", answers_key=True)


def run_items(folder: Path) -> dict[str, str]:
    """Return a run's path, and the command that trains it again if its settings can be read."""
    offered = {"path": str(folder)}
    try:
        config = trained_config(folder)
    except UserError:
        return offered
    words = [f"--{name}={_flag(value)}" for name, value in changed(config).items() if value is not None]
    return offered | {"command": shlex.join(["nanogpt", "train", *words])}


def completion_items(completion: Completion, runs_dir: str | None) -> dict[str, str]:
    """Return a text with its prompt, and the command that generates it again if there can be one: its weights are in a
    checkpoint, it was generated in one go with the same knobs, and `--start` takes its prompt for a text."""
    offered = {"text": completion.prompt + completion.text}
    if (
        completion.source.which == LIVE
        or not completion.run
        or completion.knob_changes
        or completion.branched_at is not None
        or completion.is_continued
        or completion.prompt == "-"
        or completion.prompt.startswith("FILE:")
    ):
        return offered
    knobs, defaults = dataclasses.asdict(completion.knobs), dataclasses.asdict(SamplingConfig())
    words = [f"--{name}={_flag(value)}" for name, value in knobs.items() if name != "stop" and value != defaults[name]]
    words += [f"--seed={completion.knobs.seed}"] if completion.knobs.seed == defaults["seed"] else []
    words += [f"--stop={text}" for text in completion.knobs.stop]
    which = [] if completion.step is None else [f"--checkpoint={completion.step}"]
    # the run of the source may be a path, which takes the place of the folder here
    run = run_name(runs_folder(runs_dir) / (completion.source.run or completion.run))
    command = ["nanogpt", "sample", run, *which, f"--start={completion.prompt}", *words]
    return offered | {"command": shlex.join(command)}


def dataset_items(name: str, folder: str, recipe: bool) -> dict[str, str]:
    """Return a data set's folder if it is prepared, and the command that prepares it if it has a recipe."""
    offered = {"path": folder} if folder else {}
    return offered | ({"command": shlex.join(["nanogpt", "prepare", name])} if recipe else {})


def _flag(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)
