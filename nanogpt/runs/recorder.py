"""Writes a training's events down as they pass: `events.jsonl` appended, `status.json` replaced. Imports no torch.

Every line is handed to the system whole and at once, so that killing the process loses no event.
"""

import json
import os
import socket
import time
from collections.abc import Generator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from nanogpt.events import Acknowledged, Evaluated, Event, Finished, Health, Started, Step, to_json
from nanogpt.runs.folder import Summary

STATUS_INTERVAL_S = 1.0


def write_atomically(path: Path, text: str) -> None:
    """Replaces `path` by a file that is whole, or leaves it as it was."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def mend(path: Path) -> None:
    """Cuts off a last line that is torn, so that appending starts on a new one."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)


def record(events: Generator[Event, None, None], folder: Path, **known: Any) -> Generator[Event, None, None]:
    """Passes the events on, writing each down first. `known` are fields of `Summary` that no event tells.

    The status says "failed" with the reason when `events` raises, and "stopped" when the iterator is closed.
    """
    status: dict[str, Any] = known | {"state": "running", "pid": os.getpid(), "host": socket.gethostname()}
    status |= {"step": 0, "max_iters": 0}
    log = folder / "events.jsonl"
    mend(log)
    written_at = 0.0
    try:
        with log.open("ab", buffering=0) as file:
            for event in events:
                file.write(to_json(event).encode() + b"\n")
                update(status, event)
                if not isinstance(event, Step) or time.monotonic() - written_at > STATUS_INTERVAL_S:
                    _write_status(folder, status)
                    written_at = time.monotonic()
                yield event
    except GeneratorExit:
        status["state"] = "stopped"
        raise
    except BaseException as error:
        status |= {"state": "failed", "message": str(error) or type(error).__name__}
        raise
    finally:
        events.close()
        _write_status(folder, status)


def update(status: dict[str, Any], event: Event) -> None:
    """What the status says after `event`."""
    names = {item.name for item in fields(Summary)} - {"name", "path"}
    status |= {key: value for key, value in asdict(event).items() if key in names}
    match event:
        case Started():
            status["state"] = "running"
        case Step(loss=loss):
            status["train_loss"] = loss
        case Evaluated():
            status["message"] = ""
        case Acknowledged(letter="Pause"):
            status["state"] = "paused"
        case Acknowledged(letter="Resume"):
            status["state"] = "running"
        case Health(message=message):
            status["message"] = message
        case Finished(reason=reason):
            status["state"] = {"nan": "failed", "stopped": "stopped"}.get(reason, "finished")


def _write_status(folder: Path, status: dict[str, Any]) -> None:
    status["updated"] = time.time()
    plain = {key: None if isinstance(value, float) and value - value != 0 else value for key, value in status.items()}
    write_atomically(folder / "status.json", json.dumps(plain, indent=1, allow_nan=False) + "\n")
