"""Trains in a process of its own, which outlives this one, its terminal and its connection. Imports no torch.

The process is `nanogpt train` in a new session, and writes what it says to `train.log` in the run's folder.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import nanogpt
from nanogpt.config import Config
from nanogpt.errors import UserError
from nanogpt.files import read_text, why
from nanogpt.runs import folder
from nanogpt.runs.weights import with_shape_of_weights

LOG = "train.log"
_CALL = "import sys; from nanogpt.cli import main; sys.exit(main(sys.argv[1:]))"


def start_detached(
    config: Config,
    run: Path,
    *,
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    sources: Mapping[str, str] | None = None,
) -> int:
    """Begins a new run in the folder `run`; returns the process id once it trains. `follow` tells the rest.

    `sources` as `launch.start` takes them. The run's data set should be prepared, else the process does that first, in
    silence. Raises `UserError` with what that process said where it ended before it trained.
    """
    folder.check_free(run)
    config = with_shape_of_weights(config, sources, runs_dir)
    return _launched(_flags(config.values()), run, {"data_dir": data_dir, "runs_dir": runs_dir})


def resume_detached(run: Path, changes: Mapping[str, Any] | None = None, *, data_dir: str | Path | None = None) -> int:
    """Goes on with a run that is there, with some settings changed; otherwise as `start_detached`."""
    settings = dict(changes or {}) | {"init_from": "resume"}
    return _launched(_flags(settings), run, {"data_dir": data_dir})


def _flags(settings: Mapping[str, Any]) -> list[str]:
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in settings.items()]


def _launched(words: Sequence[str], run: Path, folders: Mapping[str, str | Path | None]) -> int:
    words = [*words, f"--out_dir={run}", *(f"--{name}={place}" for name, place in folders.items() if place)]
    before = _status(run)
    try:
        run.mkdir(parents=True, exist_ok=True)
        with (run / LOG).open("ab") as log, (run / LOG).open("rb") as said:
            said.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CALL, "train", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": _import_path()},
            )
            try:
                while (ended := process.poll()) is None and not _has_begun(run, before):
                    time.sleep(0.05)
            except BaseException:
                process.terminate()
                process.wait()
                _clear(run)
                raise
            if ended is not None and not _has_begun(run, before):
                _clear(run)
                raise UserError(_last_line(said.read()) or f"the training ended at once, with exit code {ended}")
    except OSError as error:
        raise UserError(f"cannot train in {run}: {why(error)}; choose another folder") from None
    return process.pid


def _status(run: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, TypeError, RecursionError):
        return dict(json.loads(read_text(run / "status.json")))
    return {}


def _has_begun(run: Path, before: Mapping[str, Any]) -> bool:
    """The first status is written with the first event."""
    return folder.is_run(run) and _status(run).get("updated", 0) != before.get("updated", 0)


def _import_path() -> str:
    """Where this very package is found, first."""
    home = str(Path(nanogpt.__file__).parents[1])
    return os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))


def _clear(run: Path) -> None:
    if not folder.is_run(run):
        with suppress(OSError):
            folder.clear_unstarted(run)
            run.rmdir()


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("nanogpt train: ") if lines else ""
