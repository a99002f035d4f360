"""A run is a folder: where its files are, what state it is in, what happened in it. Imports no torch.

run.toml  tokenizer.json  events.jsonl  status.json  lock  mailbox/  checkpoints/step-00002000/
"""

import json
import os
import re
import socket
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
from nanogpt.events import Event, Saved, Started, from_json, typed
from nanogpt.runs.state import SLOW_S, RunState

LONGEST_NAME = 60  # characters of up to four bytes: folders' names have at most 255
LOST_S = 120.0  # after so long a trainer on another machine, of which nothing but its heartbeat is seen, is gone
# The last are files that were being written.
_UNSTARTED = re.compile(r"lock|train\.log|events\.jsonl|status\.json|tokenizer\.json|\..+\.\d+(\.[0-9a-f]{8})?")


def runs_folder(runs_dir: str | Path | None = None) -> Path:
    return Path(runs_dir).expanduser().absolute() if runs_dir else paths.runs_dir()


def run_name(folder: Path) -> str:
    """How the person names the run: plainly where it is among the runs, else by its path."""
    return folder.name if folder.parent == paths.runs_dir() else str(folder)


def is_run(folder: Path) -> bool:
    return (folder / "run.toml").is_file()


def find(name: str | None = None, runs_dir: str | Path | None = None) -> Path:
    """The folder of a run by its name or path; the newest run for None. Raises `UserError` where there is none."""
    home = runs_folder(runs_dir)
    if name is None:
        folders = _folders(home)
        if not folders:
            raise UserError(f"no runs in {home} yet: train one with `nanogpt train` or `nanogpt quickstart`")
        return folders[0]
    for folder in (home / name, Path(name).expanduser()):
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
    """The run's state. Raises `UserError` where `folder` holds none or its files are unreadable."""
    if not is_run(folder):
        raise UserError(f"{folder} is not a run: it has no run.toml")
    found = _read_status(folder)
    if found.alive and not _lives(folder, found):
        found = _read_status(folder)  # it may have ended since the first look, and said how before it went
        if found.alive:
            return replace(found, state="interrupted")
    return found


def _read_status(folder: Path) -> RunState:
    path = folder / "status.json"
    try:
        status: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        status.setdefault("paused", status.get("state") == "paused")  # an earlier version does not say why
        found = typed(RunState, status | {"name": folder.name, "path": str(folder)})
        # On a disk of another machine the file's own time is by that disk's clock: the later one counts.
        return replace(found, silent_s=max(0.0, time.time() - max(found.updated, path.stat().st_mtime)))
    except FileNotFoundError:
        return RunState(folder.name, str(folder), "running" if is_locked(folder) else "interrupted", 0, 0)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def _lives(folder: Path, found: RunState) -> bool:
    """Whether the trainer that wrote the status is there: its lock says so for certain; without one (a copy of the
    folder, or a trainer on another machine) its heartbeat has to be recent."""
    if is_locked(folder):
        return True
    if is_here(found):
        return _process_runs(found.pid) and found.silent_s < SLOW_S
    return found.silent_s < LOST_S


def is_here(found: RunState) -> bool:
    """Whether the run was last trained on this machine."""
    return found.host in ("", socket.gethostname())


def is_gone(found: RunState) -> bool:
    """Whether no trainer of this machine goes on with the run, for certain: no clock has a say in it."""
    if found.alive or not is_here(found):
        return False
    return found.state != "interrupted" or _lock_held(Path(found.path)) is False or not _process_runs(found.pid)


def _process_runs(pid: int) -> bool:
    if os.name == "nt":  # there os.kill would end the process; its heartbeat has to do
        return True
    try:
        os.kill(pid, 0)
        with suppress(OSError):  # where there is /proc: a process that nobody has waited for yet is none
            return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2][1] != "Z"
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def list_runs(runs_dir: str | Path | None = None) -> list[RunState]:
    """All runs, the one that changed last first. An unreadable one is listed as "failed" with the reason."""
    found = []
    for folder in _folders(runs_folder(runs_dir)):
        try:
            found.append(summary(folder))
        except UserError as error:
            found.append(RunState(folder.name, str(folder), "failed", 0, 0, message=str(error)))
    return found


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
    if not home.is_dir():
        return []
    folders = [item for item in home.iterdir() if item.is_dir() and is_run(item)]
    return sorted(folders, key=_changed, reverse=True)


def _changed(folder: Path) -> float:
    status = folder / "status.json"
    return (status if status.exists() else folder).stat().st_mtime


def read_run_toml(folder: Path) -> dict[str, Any]:
    """The tables of run.toml. Raises `UserError`."""
    try:
        return tomllib.loads((folder / "run.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {folder / 'run.toml'}: {error}") from None


def run_config(folder: Path) -> Config:
    """The configuration that the run was started with, all choices made. Raises `UserError`."""
    tables = read_run_toml(folder)
    return config_from_toml(tables, tables.get("run", {}).get("format", 1))


def read_events(folder: Path) -> Iterator[Event]:
    """Every event that was recorded, in order. A last line that is torn (the writer was killed) is left out."""
    try:
        with (folder / "events.jsonl").open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    yield from_json(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot read {folder / 'events.jsonl'}: {error.strerror}") from None


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
