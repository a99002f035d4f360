"""`nanogpt ladder`: train the steps from a bigram to a modern GPT for the same time each, and show what each brings."""

import argparse
import json
import shlex
import sys
from contextlib import closing
from pathlib import Path

from nanogpt.cli.console import live_line, print_message
from nanogpt.cli.ladder_report import HEADER, RIGHT, Report, chart_lines, page, table_rows
from nanogpt.cli.tables import print_table
from nanogpt.cli.training_display import open_or_prepare
from nanogpt.config import settings
from nanogpt.errors import UserError
from nanogpt.events import Evaluating, RungFailed, RungFinished, RungStarted, Step
from nanogpt.files import check_regular, why, write_atomically
from nanogpt.formatting import counted, duration, supports_unicode
from nanogpt.paths import expanded

DESCRIPTION = """Train a ladder of small models, from a bigram to a modern GPT. Each rung adds one idea to the rung
before, and is trained for the same time on the same text. The table and the chart show what each idea brings, on the
whole validation split; each token is predicted from at least half of the model's window. Ctrl+C keeps the rungs that
are finished. No runs are written."""

DATASET, SECONDS = "shakespeare_char", 60.0
CHANGES = ("seed", "device")  # settings of all rungs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default=DATASET, help=f"a data set, prepared if missing (default: {DATASET})")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"time to train each rung (default: {SECONDS:g})"
    )
    parser.add_argument("--only", metavar="RUNG,...", help="only these rungs, separated by commas")
    for name in CHANGES:
        parser.add_argument(f"--{name}", help=f"{settings()[name].help} (default: {settings()[name].default})")
    parser.add_argument("--out", type=expanded, metavar="FILE", help="write the result as Markdown, after each rung")
    parser.add_argument("--json", action="store_true", help="the finished rungs as JSON")
    parser.add_argument("--data_dir", type=expanded, help="folder of the prepared data sets")


def run(args: argparse.Namespace) -> int:
    if not 0 < args.seconds < 1e6:
        raise UserError(f"--seconds={args.seconds:g}: has to be above 0 and below a million")
    changes = {name: settings()[name].parse(value) for name in CHANGES if (value := getattr(args, name)) is not None}
    names = [name.strip() for name in (args.only or "").split(",") if name.strip()]
    if args.out:
        check_out(args.out)

    from nanogpt.runs import climb_ladder, load_rungs

    report = Report(command_line(args), args.dataset, args.seconds, total=len(load_rungs(names)))
    open_or_prepare(args.dataset, args.data_dir)
    rungs = climb_ladder(args.dataset, seconds=args.seconds, names=names, changes=changes, data_dir=args.data_dir)
    interrupted = False
    try:
        with live_line() as live, closing(rungs) as events:
            label = ""
            for event in events:
                match event:
                    case RungStarted():
                        label = f"rung {event.number} of {event.total}, {event.name}"
                        live("")
                        print_message(f"{label}: {event.adds}")
                    case Step():
                        time = f"{duration(event.elapsed_s)} of {duration(args.seconds)}"
                        live(f"{label}: step {event.step:,}, loss {event.loss:.4f}, {time}")
                    case Evaluating():
                        live(f"{label}: evaluating, {event.done:,} of {event.total:,} batches")
                    case RungFinished():
                        live("")
                        print_message(f"  {event.bits_per_byte:.4f} bits per byte after {counted(event.steps, 'step')}")
                        report.finished.append(event)
                        write_page(args.out, report)
                    case RungFailed():
                        live("")
                        print_message(f"  {event.name} failed: {event.reason}")
                        report.failed.append(event)
                        write_page(args.out, report)
    except KeyboardInterrupt:
        interrupted = True
    if args.json:
        print(json.dumps(report.to_dict(), indent=1))
    elif report.finished:
        ladder = [rung.name for rung in load_rungs()]
        print_table([HEADER, *table_rows(report.finished, ladder)], right=RIGHT)
        print()
        print("\n".join(chart_lines(report.finished, supports_unicode(sys.stdout.encoding))))
    if interrupted:
        print_message(f"nanogpt ladder: interrupted, {report.missing or 'all rungs are finished'}")
        return 130
    return 0 if report.finished else 1


def command_line(args: argparse.Namespace) -> str:
    """Return the command that makes the same page."""
    options = {"dataset": args.dataset, "seconds": f"{args.seconds:g}", "only": args.only}
    options |= {name: getattr(args, name) for name in CHANGES}
    if args.out:
        options["out"] = args.out.name if args.out.is_absolute() else str(args.out)
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return shlex.join(["nanogpt", "ladder", *given])


def check_out(path: Path) -> None:
    """Raise `UserError` before any work if the page cannot be written at `path`."""
    if not path.parent.is_dir():
        raise UserError(f"--out={path}: there is no folder {path.parent}; create it, or choose another place")
    try:
        check_regular(path)
    except OSError as error:
        raise UserError(f"--out={path}: {why(error)}; choose another file") from None


def write_page(path: Path | None, report: Report) -> None:
    """Write the page of the rungs so far. If that is not possible, say so and go on: the table is printed anyway."""
    if path is None:
        return
    from nanogpt.runs import load_rungs

    try:
        write_atomically(path, page(report, load_rungs()))
    except OSError as error:
        print_message(f"cannot write {path}: {why(error)}")
