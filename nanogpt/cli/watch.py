"""`nanogpt watch [RUN]`: how a run of whatever process goes, once or as it goes on. Imports no torch."""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from nanogpt.cli.console import talk
from nanogpt.cli.runs import address, loss, whole
from nanogpt.events import Event, Notice, Started, from_json, to_json
from nanogpt.runs.folder import SLOW_S, Summary, find, summary
from nanogpt.runs.following import Quiet, follow
from nanogpt.words import duration, printable

DESCRIPTION = """Show how a run goes, whichever process trains it, on this machine or another that shares its folder.
Ctrl+C ends watching, not training."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run's name or path (default: the newest)")
    parser.add_argument("--once", action="store_true", help="print how it stands in one line, and end")
    parser.add_argument("--json", action="store_true", help="its events from the first on, one JSON object a line")
    parser.add_argument("--runs_dir", type=Path, help="where the runs live")


def run(args: argparse.Namespace) -> int:
    folder = find(args.run, args.runs_dir)
    if args.once:
        about = summary(folder)
        print(json.dumps(asdict(about)) if args.json else printable(line(about)))
        return 0
    try:
        if args.json:
            for event in follow(folder):
                if not isinstance(event, Quiet):
                    print(to_json(event), flush=True)
        else:
            from nanogpt.cli.training_display import show

            show(seen(folder))
        about = settled(folder)
    except KeyboardInterrupt:
        talk()
        about = summary(folder)
    if not args.json:
        print(printable(line(about)))
    return 1 if about.state in ("failed", "interrupted") else 0


def seen(folder: Path) -> Iterator[Event]:
    """What the run began with, then its events from now on; a notice where it gives no sign of life."""
    started = last_start(folder)
    if started is not None:
        yield started
    told = False
    for event in follow(folder, from_start=False):
        if not isinstance(event, Quiet):
            yield event
        elif (silent := event.summary.silent_s > SLOW_S) != told:
            told = silent
            text = "no sign of life for some time: it is slow, or its disk or connection is" if silent else "it goes on"
            yield Notice(level="warning" if silent else "info", text=text)


def settled(folder: Path) -> Summary:
    """How the run stands after its last event: the trainer writes that a moment later."""
    deadline = time.monotonic() + 5
    while (about := summary(folder)).alive and time.monotonic() < deadline:
        time.sleep(0.05)
    return about


def last_start(folder: Path) -> Started | None:
    """The last `Started` that was recorded, found without reading every event."""
    found = None
    try:
        with (folder / "events.jsonl").open("rb") as lines:
            for each in lines:
                if each.startswith(b'{"event":"Started"') and each.endswith(b"\n"):
                    found = from_json(each)
    except OSError:
        return None
    return found if isinstance(found, Started) else None


def line(about: Summary) -> str:
    """One line for a status bar."""
    parts = [about.name, about.state, f"step {about.step:,}/{about.max_iters:,}"]
    if about.train_loss is not None:
        parts.append(f"loss {about.train_loss:.4f}")
    if about.val_loss is not None:
        parts.append(f"val {about.val_loss:.4f} (best {loss(about.best_val_loss)})")
    if about.state == "running":
        parts.append(f"{whole(about.tokens_per_second)} tok/s")
        if about.silent_s > SLOW_S:
            parts.append(f"silent for {duration(about.silent_s)}")
        elif about.eta_s is not None:
            parts.append(f"ETA {duration(about.eta_s)}")
    if about.state == "interrupted":
        parts.append("its process is gone; go on with: nanogpt train --init_from=resume " + address(Path(about.path)))
    if about.message:
        parts.append(about.message)
    return "  ".join(parts)
