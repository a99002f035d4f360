"""All runs of a folder: a list that is read again only where something changed. Imports no torch."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from nanogpt.errors import UserError
from nanogpt.files import why
from nanogpt.runs.folder import RECHECK_S, is_folder, may_be_run, read_state, runs_folder
from nanogpt.runs.state import RunState

SCAN_INTERVAL_S = 2.0  # between two looks at every status file, at least
SCAN_SHARE = 0.005  # of the time: a look that takes long, at many runs or a slow disk, comes less often
TRIED = 8  # folders that are read first; if they show that the disk is slow, the others are read by READERS threads
SLOW_S = 0.005  # for a folder; a disk of this machine takes less than a tenth of it
READERS = 16

T = TypeVar("T")


def list_runs(runs_dir: str | Path | None = None) -> list[RunState]:
    """Return all runs, the last changed first. An unreadable one is "failed", with the reason in `message`.

    Raise `UserError` if the folder cannot be read.
    """
    return RunListing(runs_dir).read()


class _Known(NamedTuple):
    """A run as it was read. `stamp` identifies the content of its status file, None if it has none."""

    stamp: tuple[int, int, int] | None
    modified: int  # of the status file, else of the folder: nanoseconds since 1970
    state: RunState

    @property
    def is_settled(self) -> bool:
        """Whether the state stays as it is until the status file changes."""
        return self.stamp is not None and not self.state.alive


class RunListing:
    """The runs of a folder, for a caller who asks again and again. Its methods may be called from any thread.

    A run that is not being trained is read again only if its status file changed. All status files are looked at if a
    run was added or removed, and else every SCAN_INTERVAL_S, or less often so that it takes SCAN_SHARE of the time.
    """

    def __init__(self, runs_dir: str | Path | None = None) -> None:
        self._runs_dir = runs_dir
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}  # by the name of the folder
        self._unsettled: set[str] = set()  # those whose state can change without their status file
        self._names: set[str] | None = None  # of all folders at the last scan
        self._awaited: set[str] = set()  # folders that came since the first scan and are no runs yet
        self._home: tuple[Path, int] | None = None  # the folder of all runs, and when it changed
        self._next_scan = 0.0  # time.monotonic()
        self._runs: list[RunState] = []

    def read(self) -> list[RunState]:
        """Return all runs, the last changed first; the same list as before if nothing changed.

        Raise `UserError` if the folder cannot be read.
        """
        with self._lock:
            folder = runs_folder(self._runs_dir)
            home = folder, _modified(folder)
            if home != self._home or time.monotonic() >= self._next_scan:
                known = self._scan(folder)
                self._home = home
            elif again := _read(folder, self._unsettled | self._awaited):
                known = self._known | again
            else:
                known = self._known
            self._awaited -= known.keys()
            if known is not self._known and known != self._known:
                self._known = known
                self._unsettled = {name for name, each in known.items() if not each.is_settled}
                self._runs = [each.state for each in sorted(known.values(), key=lambda each: -each.modified)]
            return self._runs

    def _scan(self, home: Path) -> dict[str, _Known]:
        """Look at every status file, and read those that changed."""
        began = time.monotonic()
        try:
            with os.scandir(home) as entries:
                names = [entry.name for entry in entries if is_folder(entry)]
        except (FileNotFoundError, NotADirectoryError):
            names = []
        except OSError as error:
            raise UserError(f"cannot read {home}: {why(error)}") from None
        before = {name: each for name in names if (each := self._known.get(name)) and each.is_settled}
        stamps = _map(_stamp, [home / name for name in before])
        settled = {
            name: each for (name, each), stamp in zip(before.items(), stamps, strict=True) if each.stamp == stamp
        }
        took = time.monotonic() - began
        known = settled | _read(home, [name for name in names if name not in settled])
        came = set[str]() if self._names is None else self._awaited | (set(names) - self._names)
        self._names, self._awaited = set(names), (came & set(names)) - known.keys()
        self._next_scan = time.monotonic() + max(SCAN_INTERVAL_S, took / SCAN_SHARE)
        return known


def _read(home: Path, names: Iterable[str]) -> dict[str, _Known]:
    """Read the runs among these folders."""
    found, uncertain, names = dict[str, _Known](), list[str](), list(names)
    for name, inspected in zip(names, _map(_inspect_run, [home / name for name in names]), strict=True):
        if inspected is not None:
            found[name], is_uncertain = inspected
            if is_uncertain:
                uncertain.append(name)
    if uncertain:  # one wait for all of them
        time.sleep(RECHECK_S)
        found |= {name: _inspect(home / name)[0] for name in uncertain}
    return found


def _map(read: Callable[[Path], T], folders: Sequence[Path]) -> list[T]:
    """Return `read(folder)` of each folder. On a slow disk, as of a network, several are read at the same time."""
    began = time.monotonic()
    found, rest = [read(folder) for folder in folders[:TRIED]], folders[TRIED:]
    if rest and time.monotonic() - began > TRIED * SLOW_S:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(READERS) as readers:
            return [*found, *readers.map(read, rest)]
    return [*found, *map(read, rest)]


def _inspect_run(folder: Path) -> tuple[_Known, bool] | None:
    """Return `_inspect` of a folder, None if it is no run."""
    return _inspect(folder) if may_be_run(folder) else None


def _inspect(folder: Path) -> tuple[_Known, bool]:
    """Return a run, and whether it has to be read again after RECHECK_S to be certain."""
    stamp = _stamp(folder)  # before it is read: a change meanwhile is seen the next time
    try:
        state, is_uncertain = read_state(folder)
    except UserError as error:
        state, is_uncertain = RunState(folder.name, str(folder), "failed", 0, 0, message=str(error)), False
    return _Known(stamp, stamp[0] if stamp else _modified(folder), state), is_uncertain


def _stamp(folder: Path) -> tuple[int, int, int] | None:
    try:
        about = (folder / "status.json").stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_ctime_ns, about.st_ino


def _modified(path: Path) -> int:
    """Return the time of a file or folder in nanoseconds, 0 if it has none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
