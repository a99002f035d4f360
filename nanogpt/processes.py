"""Processes: which are running, and how a new one finds this package."""

import os
from contextlib import suppress
from pathlib import Path


def is_running(pid: int) -> bool:
    """Return whether the process with this id is running; True on Windows, where this cannot be checked."""
    if os.name == "nt":  # os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
        with suppress(OSError):  # no /proc on macOS; a zombie is not running
            return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2][1] != "Z"
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def import_path() -> str:
    """Return a PYTHONPATH for a new process that starts with the folder of this package."""
    home = str(Path(__file__).parents[1])
    return os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
