"""Start and resume runs in a background process, which outlives this process and its terminal. Imports no torch.

The process is `nanogpt train` in a new session; its output goes to `train.log` in the run's folder.
"""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanogpt import processes
from nanogpt.config import Config, to_flags
from nanogpt.errors import UserError
from nanogpt.files import read_text, why
from nanogpt.runs import folder
from nanogpt.runs.weights import with_shape_of_weights

LOG = "train.log"


def start_detached(
    config: Config,
    run: Path,
    *,
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    sources: Mapping[str, str] | None = None,
) -> int:
    """Start a new run in the folder `run`; return the process id once it trains. `follow` yields its events.

    `sources` is as in `launch.start`. If the data set is not prepared, the process prepares it first, without output.
    Raise `UserError` with the last output of the process if it ends before it trains.
    """
    folder.check_free(run)
    config = with_shape_of_weights(config, sources, runs_dir)
    return _launch(to_flags(config.values()), run, {"data_dir": data_dir, "runs_dir": runs_dir})


def resume_detached(run: Path, changes: Mapping[str, Any] | None = None, *, data_dir: str | Path | None = None) -> int:
    """Resume a run, with some settings changed; otherwise like `start_detached`."""
    settings = dict(changes or {}) | {"init_from": "resume"}
    return _launch(to_flags(settings), run, {"data_dir": data_dir})


def _launch(arguments: Sequence[str], run: Path, folders: Mapping[str, str | Path | None]) -> int:
    arguments = [*arguments, f"--out_dir={run}", *(f"--{name}={place}" for name, place in folders.items() if place)]
    before = _status(run)
    try:
        run.mkdir(parents=True, exist_ok=True)
        folder.check_no_link(run, LOG)
        with (run / LOG).open("ab") as log, (run / LOG).open("rb") as output:
            output.seek(0, os.SEEK_END)
            process = processes.start_python(
                "nanogpt.cli:main",
                ["train", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                while (ended := process.poll()) is None and not _has_started(run, before, process.pid):
                    time.sleep(0.05)
            except BaseException:
                process.terminate()
                process.wait()
                _clear(run)
                raise
            if ended is not None and not _has_started(run, before, process.pid):
                _clear(run)
                raise UserError(_last_line(output.read()) or f"the training ended immediately with exit code {ended}")
    except OSError as error:
        raise UserError(f"cannot train in {run}: {why(error)}; choose another folder") from None
    return process.pid


def _status(run: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, TypeError, RecursionError):
        return dict(json.loads(read_text(run / "status.json")))
    return {}


def _has_started(run: Path, before: Mapping[str, Any], pid: int) -> bool:
    """Return whether the process `pid` has written its first status, which is at its first event.

    A trainer that still has the run writes its own every second: that changes only the time, not when it started. One
    that was started at the same time has another process id. If several processes train, `pid` is their parent.
    """
    status = _status(run)
    if not folder.is_run(run) or status.get("since", 0) == before.get("since", 0):
        return False
    is_unknown = processes.parent(os.getpid()) is None  # this system does not tell
    return status.get("pid") == pid or is_unknown or processes.parent(status.get("pid", 0)) == pid


def _clear(run: Path) -> None:
    if not folder.is_run(run) and not folder.is_locked(run):  # another trainer may be starting in it
        with suppress(OSError):
            folder.clear_unstarted(run)
            run.rmdir()


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("nanogpt train: ") if lines else ""
