"""A run is a folder: where its files are, what state it is in, what happened in it. Imports no torch.

run.toml  tokenizer.json  events.jsonl  status.json  lock  mailbox/  checkpoints/step-00002000/
"""

import json
import math
import os
import re
import socket
import stat
import time
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nanogpt import paths
from nanogpt.config import Config, config_from_toml
from nanogpt.errors import UserError, nearest
from nanogpt.events import Event, Notice, Saved, Started, from_json
from nanogpt.files import lines, open_regular, read_text, why
from nanogpt.processes import is_running
from nanogpt.records import from_values
from nanogpt.runs.event_log import LONGEST_EVENT
from nanogpt.runs.state import SLOW_S, RunState

LONGEST_NAME = 60  # characters of up to four bytes: folders' names have at most 255
LOST_S = 120.0  # after so long a trainer on another machine, of which nothing but its heartbeat is seen, is gone
DOUBT_S = 3.0  # how long a heartbeat is watched whose times tell nothing
# The last are files that were being written.
_UNSTARTED = re.compile(r"lock|train\.log|events\.jsonl|status\.json|tokenizer\.json|\..+\.\d+(\.[0-9a-f]{8})?")


def runs_folder(runs_dir: str | Path | None = None) -> Path:
    return paths.expanded(runs_dir).absolute() if runs_dir else paths.runs_dir()


def run_name(folder: Path) -> str:
    """How the person names the run: plainly where it is among the runs, else by its path."""
    return folder.name if folder.parent == paths.runs_dir() else str(folder)


def is_run(folder: Path) -> bool:
    """Whether a run is in `folder`. Raises `UserError` where one may not look into it."""
    try:
        return stat.S_ISREG((folder / "run.toml").stat().st_mode)
    except PermissionError as error:
        raise UserError(f"cannot look into {folder}: {why(error)}") from None
    except OSError:
        return False


def _no_run(folder: Path) -> UserError:
    if os.path.lexists(folder / "run.toml"):
        return UserError(f"{folder} is not a run: its run.toml is not a regular file")
    return UserError(f"{folder} is not a run: it has no run.toml")


def find(name: str | None = None, runs_dir: str | Path | None = None) -> Path:
    """The folder of a run by its name or path; the newest run for None. Raises `UserError` where there is none."""
    home = runs_folder(runs_dir)
    if name is None:
        folders = _folders(home)
        if not folders:
            raise UserError(f"no runs in {home} yet: train one with `nanogpt train` or `nanogpt quickstart`")
        return folders[0]
    for folder in (home / name, paths.expanded(name)):
        if is_run(folder):
            return folder.absolute()
    raise UserError(
        f"no run {name!r} in {home}.{nearest(name, [folder.name for folder in _folders(home)])} "
        "`nanogpt runs` lists them"
    )


def new_folder(base: str, *, name: str | None = None, runs_dir: str | Path | None = None) -> Path:
    """Where a new run will live: `name`, or the first free of `base`, `base-2`, `base-3` … Creates nothing.

    Raises `UserError` for a name that is taken or is no plain folder name.
    """
    home = runs_folder(runs_dir)
    if name is not None:
        folder = home / check_name(name)
        check_free(folder)
        return folder
    number = 1
    while os.path.lexists(folder := home / (base if number == 1 else f"{base}-{number}")):
        number += 1
    return folder


def check_name(name: str) -> str:
    """The name itself. Raises `UserError` unless a run's folder can have it."""
    if not re.fullmatch(rf"\w[\w.+ -]{{0,{LONGEST_NAME - 1}}}", name):
        raise UserError(
            f"{name!r} cannot name a run: use up to {LONGEST_NAME} letters, digits, spaces, '_', '-', '+' and '.', the "
            "first a letter, a digit or '_'"
        )
    return name


def check_free(folder: Path) -> None:
    """Raises `UserError` where there is a run, or anything else, in `folder` already."""
    if is_run(folder):
        raise UserError(f"{folder} already has a run: resume it, or choose another name")
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UserError(f"{folder} exists and is not a folder: give another name")
    if not all(item.name.startswith(".") or _is_unstarted(item) for item in folder.iterdir()):
        raise UserError(f"{folder} is not empty and not a run: give another name")


def _is_unstarted(item: Path) -> bool:
    """Whether the file is one that a trainer leaves which was killed before it really started."""
    return _UNSTARTED.fullmatch(item.name) is not None


def clear_unstarted(folder: Path) -> None:
    """Removes what a trainer leaves in its folder when nothing comes of it."""
    for item in folder.iterdir():
        if _is_unstarted(item):
            item.unlink()


def lock(folder: Path) -> FileLock:
    """The lock that a trainer holds while it lives; the system takes it back when the process dies, however it does."""
    return FileLock(folder / "lock")


def is_locked(folder: Path) -> bool:
    """Whether a trainer of this machine holds the run's lock. One that was killed does not, although the file stays."""
    return _lock_held(folder) is True


def _lock_held(folder: Path) -> bool | None:
    """None where nothing can tell: there is no lock, or the disk is read-only, or knows no locks."""
    if not (folder / "lock").exists():
        return None
    try:
        with lock(folder).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return None


def summary(folder: Path) -> RunState:
    """The run's state. Raises `UserError` where `folder` holds none or its files are unreadable.

    Where it says that it runs on another machine, and its times are ahead of this one's, it is watched for DOUBT_S.
    """
    found, doubtful = _look(folder)
    if doubtful:
        time.sleep(DOUBT_S)
        found, _ = _look(folder)
    return found


def _look(folder: Path) -> tuple[RunState, bool]:
    """The run's state, and whether another look in a while can tell more about it than this first one."""
    if not is_run(folder):
        raise _no_run(folder)
    found, doubtful = _read_status(folder)
    if found.alive and not _lives(folder, found):
        found, _ = _read_status(folder)  # it may have ended since the first look, and said how before it went
        if found.alive:
            return replace(found, state="interrupted"), doubtful
    return found, False


def _read_status(folder: Path) -> tuple[RunState, bool]:
    path = folder / "status.json"
    try:
        status: dict[str, Any] = json.loads(read_text(path))
        status.setdefault("paused", status.get("state") == "paused")  # an earlier version does not say why
        found = from_values(RunState, status | {"name": folder.name, "path": str(folder)})
        silent_s, doubtful = _silence(found, path.stat().st_mtime) if found.alive else (0.0, False)
        return replace(found, silent_s=silent_s), doubtful
    except FileNotFoundError:
        return RunState(folder.name, str(folder), "running" if is_locked(folder) else "interrupted", 0, 0), False
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {why(error)}") from None


# Of each run that is said to be alive: the times of its heartbeat at the last look, and when (monotonic, seconds) they
# were seen to change.
_heartbeats: dict[Path, tuple[tuple[float, float], float | None]] = {}


def _silence(found: RunState, modified: float) -> tuple[float, bool]:
    """Seconds since the last sign of life, LOST_S where there is none; and whether nothing but another look can tell.

    On a disk of another machine the file's own time is by that disk's clock: the later one counts. A time that is ahead
    by more than LOST_S is no sign of life. That a time grows between two looks is one, whatever another machine's
    clock, or one that was set since, makes it.
    """
    times, folder = (found.updated, modified), Path(found.path)
    before, changed_at = _heartbeats.get(folder, (None, None))
    if before is not None and any(now > then for now, then in zip(times, before, strict=True)):
        changed_at = time.monotonic()
    _heartbeats[folder] = times, changed_at
    by_clock = [max(0.0, time.time() - each) for each in times if each - time.time() < LOST_S]
    by_change = [] if changed_at is None or (by_clock and is_here(found)) else [time.monotonic() - changed_at]
    return min([*by_clock, *by_change, LOST_S if not by_clock else math.inf]), not by_clock and before is None


def _lives(folder: Path, found: RunState) -> bool:
    """Whether the trainer that wrote the status is there: its lock says so for certain; without one (a copy of the
    folder, or a trainer on another machine) its heartbeat has to be recent."""
    if is_locked(folder):
        return True
    if is_here(found):
        return is_running(found.pid) and found.silent_s < SLOW_S
    return found.silent_s < LOST_S


def is_here(found: RunState) -> bool:
    """Whether the run was last trained on this machine."""
    return found.host in ("", socket.gethostname())


def is_gone(found: RunState) -> bool:
    """Whether no trainer of this machine goes on with the run, for certain: no clock has a say in it."""
    if found.alive or not is_here(found):
        return False
    return found.state != "interrupted" or _lock_held(Path(found.path)) is False or not is_running(found.pid)


def list_runs(runs_dir: str | Path | None = None) -> list[RunState]:
    """All runs, the one that changed last first. An unreadable one is listed as "failed" with the reason."""
    folders = _folders(runs_folder(runs_dir))
    found = [_listed(folder) for folder in folders]
    if any(doubtful for _, doubtful in found):  # all of them are watched at once
        time.sleep(DOUBT_S)
        found = [
            _listed(folder) if doubtful else (about, False)
            for folder, (about, doubtful) in zip(folders, found, strict=True)
        ]
    return [about for about, _ in found]


def _listed(folder: Path) -> tuple[RunState, bool]:
    try:
        return _look(folder)
    except UserError as error:
        return RunState(folder.name, str(folder), "failed", 0, 0, message=str(error)), False


def alive_runs(runs_dir: str | Path | None, known: dict[Path, tuple[int, RunState]]) -> list[RunState]:
    """Those that somebody trains, the one that changed last first. `known` is kept by the caller from one call to the
    next: a run whose status did not change since, and that nobody trained then, is not read again."""
    found = []
    for folder in _folders(runs_folder(runs_dir)):
        with suppress(UserError, OSError):
            changed = (folder / "status.json").stat().st_mtime_ns
            if folder not in known or known[folder][0] != changed or known[folder][1].alive:
                known[folder] = changed, summary(folder)
            if known[folder][1].alive:
                found.append(known[folder][1])
    return found


def _folders(home: Path) -> list[Path]:
    """The folders that hold a run, or something odd in its place, the one that changed last first."""
    try:
        folders = [item for item in home.iterdir() if item.is_dir() and _may_be_run(item)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot read {home}: {why(error)}") from None
    return sorted(folders, key=_changed, reverse=True)


def _may_be_run(folder: Path) -> bool:
    try:
        return is_run(folder) or os.path.lexists(folder / "run.toml")
    except UserError:
        return True


def _changed(folder: Path) -> float:
    for path in (folder / "status.json", folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def read_run_toml(folder: Path) -> dict[str, Any]:
    """The tables of run.toml. Raises `UserError`."""
    try:
        return tomllib.loads(read_text(folder / "run.toml"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {folder / 'run.toml'}: {why(error)}") from None


def run_config(folder: Path) -> Config:
    """The configuration that the run was started with, all choices made. Raises `UserError`."""
    tables = read_run_toml(folder)
    return config_from_toml(tables, tables.get("run", {}).get("format", 1))


def read_events(folder: Path) -> Iterator[Event]:
    """Every event that was recorded, in order. A last line that is torn (the writer was killed) is left out; for the
    first other one that cannot be read there is a `Notice`. Raises `UserError`."""
    path, told = folder / "events.jsonl", False
    try:
        with open_regular(path) as file:
            for number, line in enumerate(lines(file, LONGEST_EVENT), start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    event = from_json(line)
                except UserError as error:
                    if told:
                        continue
                    event, told = left_out(path, f"line {number:,}", error), True
                yield event
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot read {path}: {why(error)}") from None


def left_out(path: Path, where: str, error: UserError) -> Notice:
    """What is said, once, of lines that are no events."""
    text = f"{where} of {path} cannot be read and is left out, as is any other such line: {error}"
    return Notice(level="warning", text=text)


def history(folder: Path) -> list[Event]:
    """The events as if nothing had ever been interrupted: what a resume undid and did again is there once."""
    events: list[Event] = []
    for event in read_events(folder):
        if isinstance(event, Started):
            at = event.step
            goes_on = at > 0 or any(isinstance(past, Saved) and past.step == at for past in events)
            events = [past for past in events if getattr(past, "step", 0) <= at] if goes_on else []
        events.append(event)
    return events
