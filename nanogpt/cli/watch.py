"""`nanogpt watch [RUN]`: how a run of whatever process goes, once or as it goes on. Imports no torch."""

import argparse
import io
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nanogpt.cli.console import talk
from nanogpt.cli.runs import run_option
from nanogpt.cli.tables import format_loss, format_whole
from nanogpt.errors import UserError
from nanogpt.events import Event, Notice, Started, Status, from_json, to_json
from nanogpt.files import open_regular
from nanogpt.formatting import duration, printable
from nanogpt.paths import expanded
from nanogpt.runs.checkpoints import latest
from nanogpt.runs.event_log import event_of, objects
from nanogpt.runs.folder import find, summary
from nanogpt.runs.following import RECORD, follow, follow_lines
from nanogpt.runs.state import ALIVE, RunState, plain, status

_PLAIN = re.compile(rb"[ -~\n]*")

DESCRIPTION = """Follow a run, whichever process trains it, on this machine or another that shares its folder, until it
ends; with --follow also after that, as it may be resumed. A run that is renamed is followed under its new name.
Ctrl+C stops watching, not the training."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run's name or path (default: the newest)")
    parser.add_argument("--once", action="store_true", help="print its state in one line and exit")
    parser.add_argument("--follow", action="store_true", help="keep watching when the run has ended: it may be resumed")
    parser.add_argument("--json", action="store_true", help="all its events, one JSON object per line")
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    folder = find(args.run, args.runs_dir)
    if args.once:
        about = summary(folder)
        print(json.dumps(plain(about)) if args.json else printable(line(about)))
        return 0
    place = Place(folder)
    try:
        if args.json:
            for text in records(folder, args.follow, place):
                sys.stdout.write(text)
                sys.stdout.flush()
        else:
            from nanogpt.cli.training_display import show

            show(seen(folder, args.follow, place))
        about = settled(place.folder)
    except KeyboardInterrupt:
        talk()
        about = summary(place.folder)
    if not args.json:
        print(printable(line(about)))
    return 1 if about.state in ("failed", "interrupted") else 0


class Place:
    """Where the run is by now, which may be renamed while it is watched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


def records(folder: Path, patient: bool, place: Place) -> Iterator[str]:
    """Its events from the first on, lines of JSON; and a `Status` where something changed that no event tells."""
    known = None
    for item in follow_lines(folder, patient=patient):
        if isinstance(item, Status):
            place.folder = Path(item.path)
            if (item.path, item.phase) != known:
                known = item.path, item.phase
                yield to_json(item) + "\n"
        else:
            yield recorded(item)


def recorded(block: bytes) -> str:
    """Lines of the record as they are, where they are what a terminal can be sent."""
    if _PLAIN.fullmatch(block):
        rows = objects(block)
        if rows and all("event" in row for row in rows):
            return block.decode()
    return "".join(to_json(event_of(line, RECORD)) + "\n" for line in io.BytesIO(block))


def seen(folder: Path, patient: bool, place: Place) -> Iterator[Event]:
    """What the run began with, then its events from now on; a notice where something changed that no event tells."""
    started = last_start(folder)
    if started is not None:
        yield started
    before = status(summary(folder))
    for event in follow(folder, from_start=False, patient=patient):
        if isinstance(event, Status):
            place.folder = Path(event.path)
            yield from told(before, event)
            before = event
        else:
            yield event


def told(before: Status, now: Status) -> Iterator[Notice]:
    """In words what is another than before, where no event tells it."""
    if now.path != before.path:
        yield Notice(level="info", text=f"the run is now named {now.run}")
    if now.phase == before.phase:
        return
    if now.phase == "silent":
        text = "no heartbeat for some time: the process, its disk or its connection may be slow"
        yield Notice(level="warning", text=text)
    elif before.phase == "silent" and now.state in ALIVE:
        yield Notice(level="info", text="the heartbeat is back")
    elif now.phase == "interrupted":
        yield Notice(level="warning", text="interrupted: its process is gone")
    elif now.phase == "failed" and now.message:
        yield Notice(level="error", text=f"failed: {now.message}")
    elif now.state not in ALIVE:
        yield Notice(level="info", text=f"{now.phase} at step {now.step:,}")


def settled(folder: Path) -> RunState:
    """How the run stands after its last event: the trainer writes that a moment later."""
    deadline = time.monotonic() + 5
    while (about := summary(folder)).alive and time.monotonic() < deadline:
        time.sleep(0.05)
    return about


def last_start(folder: Path) -> Started | None:
    """The last `Started` that was recorded, found without reading every event."""
    found = None
    try:
        with open_regular(folder / "events.jsonl") as lines:
            for each in lines:
                if each.startswith(b'{"event":"Started"') and each.endswith(b"\n"):
                    with suppress(UserError):
                        found = from_json(each)
    except OSError:
        return None
    return found if isinstance(found, Started) else None


def line(about: RunState) -> str:
    """One line for a status bar."""
    phase = f"silent for {duration(about.silent_s)}" if about.phase == "silent" else about.phase
    parts = [about.name, phase, f"step {about.step:,}/{about.max_iters:,}"]
    if about.train_loss is not None:
        parts.append(f"loss {about.train_loss:.4f}")
    if about.val_loss is not None:
        parts.append(f"val {about.val_loss:.4f} (best {format_loss(about.best_val_loss)})")
    if about.phase in ("training", "evaluating"):
        parts.append(f"{format_whole(about.tokens_per_second)} tok/s")
        if about.eta_s is not None:
            parts.append(f"ETA {duration(about.eta_s)}")
    if about.state == "interrupted":
        folder = Path(about.path)
        way = f"resume with: nanogpt train --init_from=resume {run_option(folder)}"
        parts.append(f"its process is gone; {way if latest(folder) else 'it had not saved a checkpoint yet'}")
    if about.message:
        parts.append(about.message)
    return "  ".join(parts)
