"""The folder of a run: finding and naming it, its state, and its recorded events. Imports no torch.

run.toml  tokenizer.json  events.jsonl  status.json  lock  mailbox/  checkpoints/step-00002000/
"""

import errno
import json
import math
import os
import re
import socket
import stat
import time
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
from nanogpt.files import file_lock, lines, open_regular, read_text, read_toml, why
from nanogpt.processes import is_running
from nanogpt.records import from_values
from nanogpt.runs.event_log import LONGEST_EVENT
from nanogpt.runs.state import SLOW_S, STATES, RunState

LONGEST_NAME = 60  # characters of up to four bytes: a folder's name has at most 255
NO_WEIGHTS = ("scratch", "resume")  # values of init_from that name no weights: no new run gets such a name
LOST_S = 120.0  # a trainer on another machine without a heartbeat for this long is gone
RECHECK_S = 3.0  # wait for another heartbeat if the times of the last one say nothing
# The last pattern matches files that were being written.
_UNSTARTED = re.compile(
    r"lock|train\.log|dashboards\.log|events\.jsonl|status\.json|tokenizer\.json|base\.safetensors|"
    r"\..+\.\d+(\.([0-9a-f]{8}|partial))?"
)


def runs_folder(runs_dir: str | Path | None = None) -> Path:
    """Return `runs_dir` as an absolute path, by default that of `paths.runs_dir`."""
    return paths.expanded(runs_dir).absolute() if runs_dir else paths.runs_dir()


def run_name(folder: Path) -> str:
    """Return the run's name for a command: the folder's name if it is in the default runs folder, else its path."""
    return folder.name if folder.parent == paths.runs_dir() else str(folder)


def is_run(folder: Path) -> bool:
    """Return whether `folder` is a run. Raise `UserError` if its permissions forbid to read it."""
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
    """Return the folder of a run by its name or path, of the newest run for None. Raise `UserError` if none exists.

    What begins with a dot is a path: no run has such a name.
    """
    home = runs_folder(runs_dir)
    if name is None:
        folders = _folders(home)
        if not folders:
            raise UserError(f"no runs in {home} yet: train one with `nanogpt train` or `nanogpt quickstart`")
        return folders[0]
    places = (home / name, paths.expanded(name))
    for folder in reversed(places) if name.startswith(".") else places:
        if is_run(folder):
            return folder.absolute()
    raise UserError(
        f"no run {name!r} in {home}.{nearest(name, [folder.name for folder in _folders(home)])} "
        "`nanogpt runs` lists them"
    )


def new_folder(base: str, *, name: str | None = None, runs_dir: str | Path | None = None) -> Path:
    """Return the folder for a new run: `name`, or the first free one of `base`, `base-2`, `base-3` … Create nothing.

    Raise `UserError` if the name is taken or is not a plain folder name.
    """
    home = runs_folder(runs_dir)
    if name is not None:
        folder = home / check_name(name)
        check_free(folder)
        return folder
    number = 1
    while (free := base if number == 1 else f"{base}-{number}") in NO_WEIGHTS or os.path.lexists(home / free):
        number += 1
    return home / free


def check_name(name: str) -> str:
    """Return `name`. Raise `UserError` if a run's folder cannot have this name."""
    if not re.fullmatch(rf"\w[\w.+ -]{{0,{LONGEST_NAME - 1}}}", name):
        raise UserError(
            f"{name!r} cannot name a run: use up to {LONGEST_NAME} letters, digits, spaces, '_', '-', '+' and '.', the "
            "first a letter, a digit or '_'"
        )
    if name in NO_WEIGHTS:
        raise UserError(f"{name!r} cannot name a run: init_from={name} means something else; choose another name")
    return name


def check_free(folder: Path) -> None:
    """Raise `UserError` if `folder` already contains a run or anything else, or cannot contain one."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:  # safetensors takes no such path
        raise UserError(f"the path {str(folder)!r} is not UTF-8, as that of a run has to be: choose another") from None
    if is_run(folder):
        raise UserError(f"{folder} already has a run: resume it, or choose another name")
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UserError(f"{folder} exists and is not a folder: give another name")
    leftovers = set(_leftovers(folder))
    if not all(item.name.startswith(".") or item in leftovers for item in folder.iterdir()):
        raise UserError(f"{folder} is not empty and not a run: give another name")


def check_still_free(folder: Path) -> None:
    """Raise `UserError` if another process has made a run in `folder`, or is starting one."""
    check_free(folder)
    if is_locked(folder):
        raise UserError(f"a training is starting in {folder}: give another name")


def check_no_link(run: Path, name: str) -> None:
    """Raise `UserError` if a file that a trainer appends to is a link: it would write into another file."""
    if (run / name).is_symlink():
        raise UserError(f"cannot train in {run}: {name} is a link to another file: replace it by a copy")


def _leftovers(folder: Path) -> list[Path]:
    """Return the files that a trainer which was killed before its first step can have left. Raise OSError.

    Without any other trace of it, a tokenizer or weights are a person's own.
    """
    found = [item for item in folder.iterdir() if _UNSTARTED.fullmatch(item.name)]
    is_trainers = any(item.name in ("lock", "train.log") for item in found)
    return [item for item in found if is_trainers or item.name not in ("tokenizer.json", "base.safetensors")]


def clear_unstarted(folder: Path) -> None:
    """Remove the files of a trainer that ended before its first step. Raise OSError."""
    for item in _leftovers(folder):
        item.unlink()


def make_way(folder: Path) -> None:
    """Remove an empty folder, or one with such files alone, for another that takes its place. Raise OSError."""
    if folder.is_dir():
        clear_unstarted(folder)
        folder.rmdir()


def lock(folder: Path) -> FileLock:
    """Return the lock that a trainer holds. The system releases it when the process ends, even if it is killed."""
    return file_lock(folder / "lock")


def is_locked(folder: Path) -> bool:
    """Return whether a trainer on this machine holds the run's lock. The file `lock` also exists without one."""
    return _lock_held(folder) is True


def _lock_held(folder: Path) -> bool | None:
    """Return whether the lock is held; None if it cannot be known: no lock file, one that cannot be read, or a disk
    without locks."""
    try:
        with open_regular(folder / "lock") as file:
            held = _has_exclusive_lock(file.fileno())
        if held is not None:
            return held
        with lock(folder).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None


def _has_exclusive_lock(descriptor: int) -> bool | None:
    """Return whether a file is locked with `flock`; None if the system has no such locks. Raise OSError.

    The lock that it asks for is a shared one: processes that ask at the same time do not take each other for a trainer.
    """
    try:
        from fcntl import LOCK_NB, LOCK_SH, LOCK_UN, flock
    except ImportError:  # Windows
        return None
    try:
        flock(descriptor, LOCK_SH | LOCK_NB)
        flock(descriptor, LOCK_UN)  # closing it is not enough if the process has just been forked
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return True
        raise
    return False


def summary(folder: Path) -> RunState:
    """Return the run's state. Raise `UserError` if `folder` is not a run or its files are unreadable.

    If the run trains on another machine whose clock is ahead of this one, wait RECHECK_S for another heartbeat.
    """
    found, is_uncertain = read_state(folder)
    if is_uncertain:
        time.sleep(RECHECK_S)
        found, _ = read_state(folder)
    return found


def read_state(folder: Path) -> tuple[RunState, bool]:
    """Return the run's state, and whether it has to be read again after RECHECK_S to be certain."""
    if not is_run(folder):
        raise _no_run(folder)
    found, is_uncertain = _read_status(folder)
    if found.alive and not _is_trainer_alive(folder, found):
        found, _ = _read_status(folder)  # it may have ended in between and written how
        if found.alive:
            return replace(found, state="interrupted"), is_uncertain
    return found, False


def _read_status(folder: Path) -> tuple[RunState, bool]:
    path = folder / "status.json"
    try:
        status: dict[str, Any] = json.loads(read_text(path))
        status.setdefault("paused", status.get("state") == "paused")  # not in files of earlier versions
        found = from_values(RunState, status | {"name": folder.name, "path": str(folder)})
        if found.state not in STATES:
            raise ValueError(f"its state is {found.state!r}, which no run has")
        silent_s, is_uncertain = _seconds_silent(found, path.stat().st_mtime) if found.alive else (0.0, False)
        return replace(found, silent_s=silent_s), is_uncertain
    except FileNotFoundError:
        return RunState(folder.name, str(folder), "running" if is_locked(folder) else "interrupted", 0, 0), False
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {why(error)}") from None


# For each run that says it is alive: the times of its last heartbeat, and when (monotonic, seconds) they were seen to
# change.
_last_heartbeats: dict[Path, tuple[tuple[float, float], float | None]] = {}


def _seconds_silent(found: RunState, modified: float) -> tuple[float, bool]:
    """Return the seconds since the last heartbeat (LOST_S if none is known), and whether to read again to be certain.

    The time in the file is from the trainer's clock, the file's own time from the disk's: the later one counts. A time
    more than LOST_S in the future is ignored. If a time grew between two calls, there was a heartbeat in between.
    """
    times, folder = (found.updated, modified), Path(found.path)
    before, changed_at = _last_heartbeats.get(folder, (None, None))
    if before is not None and any(now > then for now, then in zip(times, before, strict=True)):
        changed_at = time.monotonic()
    _last_heartbeats[folder] = times, changed_at
    by_clock = [max(0.0, time.time() - each) for each in times if each - time.time() < LOST_S]
    by_change = (
        [] if changed_at is None or (by_clock and is_on_this_machine(found)) else [time.monotonic() - changed_at]
    )
    return min([*by_clock, *by_change, LOST_S if not by_clock else math.inf]), not by_clock and before is None


def _is_trainer_alive(folder: Path, found: RunState) -> bool:
    """Return whether the trainer that wrote the status is alive.

    It is if it holds the lock. If the lock is not visible (a copy, another machine), its heartbeat has to be recent.
    """
    if is_locked(folder):
        return True
    if is_on_this_machine(found):
        return is_running(found.pid) and found.silent_s < SLOW_S
    return found.silent_s < LOST_S


def is_on_this_machine(found: RunState) -> bool:
    """Return whether the run was last trained on this machine."""
    return found.host in ("", socket.gethostname())


def is_trainer_gone(found: RunState) -> bool:
    """Return whether it is certain, without any clock, that no trainer of this machine has the run."""
    if found.alive or not is_on_this_machine(found):
        return False
    return found.state != "interrupted" or _lock_held(Path(found.path)) is False or not is_running(found.pid)


def read_run_toml(folder: Path) -> dict[str, Any]:
    """Return the tables of run.toml. Raise `UserError`."""
    try:
        tables = read_toml(folder / "run.toml")
        about = tables.get("run", {})
        if not (isinstance(about, dict) and isinstance(about.get("format", 1), int)):
            raise ValueError("its table [run] is damaged")
        return tables
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {folder / 'run.toml'}: {why(error)}") from None


def is_imported(folder: Path) -> bool:
    """Return whether the run was imported or pulled: it has weights only and cannot be resumed. Raise `UserError`."""
    return "imported_from" in read_run_toml(folder).get("run", {})


def run_config(folder: Path) -> Config:
    """Return the configuration that the run was started with, without any "auto". Raise `UserError`."""
    tables = read_run_toml(folder)
    return config_from_toml(tables, tables.get("run", {}).get("format", 1))


def _folders(home: Path) -> list[Path]:
    """Return the folders that contain a run or an unusable run.toml, the last changed first."""
    try:
        folders = [item for item in home.iterdir() if is_folder(item) and may_be_run(item)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot read {home}: {why(error)}") from None
    return sorted(folders, key=_modified_at, reverse=True)


def is_folder(place: Path | os.DirEntry[str]) -> bool:
    """Return whether it is a folder, or a link to one that can be reached: a disk that is gone hides no other run."""
    try:
        return place.is_dir()
    except OSError:
        return False


def may_be_run(folder: Path) -> bool:
    """Return whether a folder contains a run, or an unusable run.toml; a hidden one is being written or removed."""
    if folder.name.startswith("."):
        return False
    try:
        return is_run(folder) or os.path.lexists(folder / "run.toml")
    except UserError:
        return True


def _modified_at(folder: Path) -> float:
    for path in (folder / "status.json", folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def read_events(folder: Path) -> Iterator[Event]:
    """Yield all recorded events in order. Raise `UserError`.

    An incomplete last line (the writer was killed) is skipped. The first other unreadable line becomes a `Notice`, and
    later ones are skipped.
    """
    path, reported = folder / "events.jsonl", False
    try:
        with open_regular(path) as file:
            for number, line in enumerate(lines(file, LONGEST_EVENT), start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    event = from_json(line)
                except UserError as error:
                    if reported:
                        continue
                    event, reported = unreadable_lines(path, f"line {number:,}", error), True
                yield event
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot read {path}: {why(error)}") from None


def unreadable_lines(path: Path, where: str, error: UserError) -> Notice:
    """Return the notice about lines that are not events."""
    text = f"{where} of {path} cannot be read and is skipped, like any other such line: {error}"
    return Notice(level="warning", text=text)


def history(folder: Path) -> list[Event]:
    """Return the recorded events without those that a resume undid and repeated."""
    events: list[Event] = []
    for event in read_events(folder):
        if isinstance(event, Started):
            at = event.step
            goes_on = at > 0 or any(isinstance(past, Saved) and past.step == at for past in events)
            events = [past for past in events if getattr(past, "step", 0) <= at] if goes_on else []
        events.append(event)
    return events
