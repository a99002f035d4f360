"""`nanogpt watch [RUN]`: show the state of a run once, or its events as they come. Imports no torch."""

import argparse
import io
import json
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nanogpt.cli.console import check_reader, ending_with_reader, print_message
from nanogpt.cli.runs import run_option
from nanogpt.cli.tables import format_loss, format_whole
from nanogpt.errors import UserError
from nanogpt.events import Event, Notice, Started, Status, from_json, to_json
from nanogpt.files import open_regular
from nanogpt.formatting import duration, printable
from nanogpt.paths import expanded
from nanogpt.runs.checkpoints import latest
from nanogpt.runs.event_log import are_objects, parse_event
from nanogpt.runs.folder import find, summary
from nanogpt.runs.following import RECORD, follow, follow_lines
from nanogpt.runs.state import ALIVE, RunState, state_to_dict, status_event

UNUSUAL = (b"\t", b"\r", b"\x7f")  # all control characters that valid JSON may contain, besides the line feed

DESCRIPTION = """Follow a run, whichever process trains it, on this machine or another that shares its folder, until it
ends; with --follow also after that, because it may be resumed. A run that is renamed is followed under its new name.
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
        print(json.dumps(state_to_dict(about)) if args.json else printable(status_line(about)))
        return 0
    location = RunLocation(folder)
    try:
        if args.json:
            for text in json_lines(folder, args.follow, location):
                sys.stdout.write(text)
                sys.stdout.flush()
        else:
            from nanogpt.cli.training_display import show

            with ending_with_reader():
                show(watched_events(folder, args.follow, location), folder, is_watched=True)
        about = final_state(location.folder)
    except KeyboardInterrupt:
        print_message()
        about = summary(location.folder)
    if not args.json:
        print(printable(status_line(about)))
    return 1 if about.state in ("failed", "interrupted") else 0


class RunLocation:
    """The current folder of the run, which may be renamed while it is watched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


def json_lines(folder: Path, keep_waiting: bool, location: RunLocation) -> Generator[str, None, None]:
    """Yield all events of the run as lines of JSON, and a `Status` for a change without an event."""
    known = None
    for item in follow_lines(folder, keep_waiting=keep_waiting):
        if isinstance(item, Status):
            check_reader(sys.stdout)
            location.folder = Path(item.path)
            if (item.path, item.phase) != known:
                known = item.path, item.phase
                yield to_json(item) + "\n"
        else:
            yield as_json_lines(item)


def as_json_lines(block: bytes) -> str:
    """Return the lines unchanged if they are valid and plain ASCII, otherwise written again."""
    if block.isascii() and not any(each in block for each in UNUSUAL) and are_objects(block):
        return block.decode()
    return "".join(to_json(parse_event(line, RECORD)) + "\n" for line in io.BytesIO(block))


def watched_events(folder: Path, keep_waiting: bool, location: RunLocation) -> Iterator[Event]:
    """Yield the last `Started` of the run, then its new events, and a `Notice` for a change without an event."""
    started, now = last_start(folder), summary(folder)
    if started is not None:
        yield replace(started, max_iters=now.max_iters or started.max_iters)  # a command may have changed it since
    before = status_event(now)
    for event in follow(folder, from_start=False, keep_waiting=keep_waiting):
        if isinstance(event, Status):
            check_reader(sys.stderr)
            location.folder = Path(event.path)
            yield from status_notices(before, event)
            before = event
        else:
            yield event


def status_notices(before: Status, now: Status) -> Iterator[Notice]:
    """Yield notices about changes that no event reports."""
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


def final_state(folder: Path) -> RunState:
    """Return the state of the run after its last event; the trainer writes it a moment later."""
    deadline = time.monotonic() + 5
    while (about := summary(folder)).alive and time.monotonic() < deadline:
        time.sleep(0.05)
    return about


def last_start(folder: Path) -> Started | None:
    """Return the last recorded `Started`, found without parsing all events."""
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


def status_line(about: RunState) -> str:
    """Return the state in one line, for a status bar."""
    phase = f"silent for {duration(about.silent_s)}" if about.phase == "silent" else about.phase
    parts = [about.name, phase, f"step {about.step:,}/{about.max_iters:,}"]
    if about.train_loss is not None:
        parts.append(f"loss {about.train_loss:.4f}")
    if about.val_loss is not None:
        parts.append(f"val {about.val_loss:.4f} (best {format_loss(about.best_val_loss)})")
    if about.ema_val_loss is not None:
        parts.append(f"EMA {about.ema_val_loss:.4f}")
    if (bits := about.val_loss_in("bits per byte")) is not None:
        parts.append(f"{bits:.4f} bits/byte")
    if about.phase in ("training", "evaluating"):
        parts.append(f"{format_whole(about.tokens_per_second)} tok/s")
        if about.eta_s is not None:
            parts.append(f"ETA {duration(about.eta_s)}")
    if about.state == "interrupted":
        folder = Path(about.path)
        advice = f"resume with: nanogpt train --init_from=resume {run_option(folder)}"
        parts.append(f"its process is gone; {advice if latest(folder) else 'it has no checkpoint yet'}")
    if about.message:
        parts.append(about.message)
    return "  ".join(parts)
