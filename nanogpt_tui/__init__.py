"""The app: prepare data, train and sample in one full-screen session.

Importing this package imports neither Textual nor torch. `main` imports Textual; torch is imported in worker threads.
"""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from nanogpt.errors import UserError

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp

SERVE_OPTIONS = ("host", "port", "writable")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the `nanogpt-tui` command."""
    parser = argparse.ArgumentParser(prog="nanogpt-tui", description=__doc__.partition("\n")[0])
    commands = "watch: open a run; serve: the app in a browser, read-only"
    parser.add_argument("command", nargs="?", choices=("watch", "serve"), metavar="watch|serve", help=commands)
    parser.add_argument("run", nargs="?", metavar="RUN", help="its name or its folder (default: the newest)")
    parser.add_argument("--readonly", action="store_true", help="read-only: start, control, write and delete nothing")
    parser.add_argument("--runs_dir", "--runs-dir", help="folder of the runs")
    parser.add_argument("--theme", help="dark, light or ansi (the terminal's own colours)")
    parser.add_argument("--light", action="store_const", const="light", dest="theme", help="the light theme")
    parser.add_argument("--glyphs", choices=("braille", "block", "ascii"), help="characters that charts are drawn with")
    parser.add_argument("--ascii", action="store_const", const="ascii", dest="glyphs", help="ASCII characters only")
    served = parser.add_argument_group("serve")
    served.add_argument("--host", help="address to listen on (default: 127.0.0.1); 0.0.0.0: all, with a token")
    served.add_argument("--port", help="default: 8000; 0 is a free one")
    writable = "viewers can do all that you can; with a token"
    served.add_argument("--writable", action="store_true", default=None, help=writable)
    return parser


def app_factory(options: argparse.Namespace) -> "Callable[[], LabApp]":
    """Check the options and read the settings; return a function that imports and makes the app.

    Raise `UserError` if an option or a setting is invalid.
    """
    from nanogpt_tui.settings import load, with_changes

    watched = None
    if options.command == "watch" or options.run is not None:
        from nanogpt.runs.folder import find

        watched = find(options.run, options.runs_dir)
    changes = {name: value for name in ("theme", "glyphs") if (value := getattr(options, name)) is not None}
    settings = with_changes(load(), changes)
    if settings.keymap:
        from nanogpt_tui import keys  # imports all screens

        keys.check_keymap(settings.keymap)

    def make() -> "LabApp":
        from nanogpt_tui.app import LabApp

        return LabApp(settings, runs_dir=options.runs_dir, watched=watched, readonly=options.readonly)

    return make


def main(argv: list[str] | None = None) -> int:
    """Run the `nanogpt-tui` command and return the exit code: 0; 1 after an error of the app itself; 2 for invalid
    options or settings, or without a terminal."""
    options = parser().parse_intermixed_args(argv)  # RUN may come after flags
    try:
        make = app_factory(options)
        if options.command == "serve":
            from nanogpt_tui.web import serve

            serve(options)
            return 0
        if (unused := next((name for name in SERVE_OPTIONS if getattr(options, name) is not None), None)) is not None:
            raise UserError(f"--{unused}: only for `nanogpt-tui serve`")
    except UserError as error:
        print(f"nanogpt-tui: {error}", file=sys.stderr)
        return 2
    from nanogpt_tui.terminal.daemonize import run_supervised, terminal_problem

    if reason := terminal_problem():
        print(f"nanogpt-tui: {reason}", file=sys.stderr)
        return 2

    def app() -> int:
        from nanogpt.hardware import share_cores
        from nanogpt_tui.terminal.run import run

        share_cores()
        return run(make())

    return run_supervised(app)
