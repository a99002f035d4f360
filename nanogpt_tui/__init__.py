"""The app: prepare data, train and sample in one full-screen session.

Importing this package imports neither Textual nor torch. `main` imports Textual; torch is imported in worker threads.
"""

import argparse
import sys

from nanogpt.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Run the `nanogpt-tui` command and return the exit code: 0; 1 after an error of the app itself; 2 for invalid
    options or settings, or without a terminal."""
    parser = argparse.ArgumentParser(prog="nanogpt-tui", description=__doc__.partition("\n")[0])
    parser.add_argument("command", nargs="?", choices=("watch",), metavar="watch", help="open a run")
    parser.add_argument("run", nargs="?", metavar="RUN", help="its name or its folder (default: the newest)")
    parser.add_argument("--readonly", action="store_true", help="read-only: start, control and change no run")
    parser.add_argument("--runs_dir", "--runs-dir", help="folder of the runs")
    parser.add_argument("--theme", help="dark, light or ansi (the terminal's own colours)")
    parser.add_argument("--light", action="store_const", const="light", dest="theme", help="the light theme")
    parser.add_argument("--glyphs", choices=("braille", "block", "ascii"), help="characters that charts are drawn with")
    parser.add_argument("--ascii", action="store_const", const="ascii", dest="glyphs", help="ASCII characters only")
    options = parser.parse_args(argv)
    from nanogpt_tui.settings import load, with_changes

    watched = None
    try:
        if options.command == "watch":
            from nanogpt.runs.folder import find

            watched = find(options.run, options.runs_dir)
        changes = {name: value for name in ("theme", "glyphs") if (value := getattr(options, name)) is not None}
        settings = with_changes(load(), changes)
        if settings.keymap:
            from nanogpt_tui import keys  # imports all screens

            keys.check_keymap(settings.keymap)
    except UserError as error:
        print(f"nanogpt-tui: {error}", file=sys.stderr)
        return 2
    from nanogpt_tui.terminal.daemonize import run_supervised, terminal_problem

    if reason := terminal_problem():
        print(f"nanogpt-tui: {reason}", file=sys.stderr)
        return 2

    def app() -> int:
        from nanogpt.hardware import share_cores
        from nanogpt_tui.app import LabApp
        from nanogpt_tui.terminal.run import run

        share_cores()
        return run(LabApp(settings, runs_dir=options.runs_dir, watched=watched, readonly=options.readonly))

    return run_supervised(app)
