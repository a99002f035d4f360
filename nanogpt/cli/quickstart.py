"""`nanogpt quickstart`: prepare, train and sample in about a minute."""

import argparse

from nanogpt.cli.console import ignoring_hangup
from nanogpt.cli.settings import typed
from nanogpt.cli.train import add_folders, finish
from nanogpt.cli.training_display import interruptible_once_started, show
from nanogpt.config import settings
from nanogpt.errors import UserError

DESCRIPTION = """Prepare tiny Shakespeare (or, without a network, Python's own sources), train a small model on it for
about a minute, and show what it writes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=45, help="about how long to train (default: 45)")
    for name in ("device", "max_iters", "seed"):
        parser.add_argument(f"--{name}", help=settings()[name].help)
    parser.add_argument("--name", help="name of the run")
    add_folders(parser)


def run(args: argparse.Namespace) -> int:
    if not 0 < args.seconds < 1e6:
        raise UserError(f"--seconds={args.seconds:g}: has to be above 0 and below a million")
    changes = typed(args, {name: settings()[name] for name in ("device", "max_iters", "seed")})
    for name, value in changes.items():
        settings()[name].parse(value)

    from nanogpt import runs
    from nanogpt.training import CommandQueue

    folder, commands = runs.new_folder("quickstart", name=args.name, runs_dir=args.runs_dir), CommandQueue()
    events = runs.run_quickstart(
        folder, seconds=args.seconds, changes=changes, commands=commands, data_dir=args.data_dir
    )
    with ignoring_hangup():
        return finish(show(interruptible_once_started(events, commands), folder), folder, data_dir=args.data_dir)
