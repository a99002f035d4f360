"""Processes: which are running, and how a new one that calls a function of this package is started."""

import os
import site
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess


def is_running(pid: int) -> bool:
    """Return whether the process with this id is running; True on Windows, where this cannot be checked."""
    if os.name == "nt":  # os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
        with suppress(OSError):  # no /proc on macOS; a zombie is not running
            return _stat(pid)[0] != "Z"
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def start_time(pid: int) -> str:
    """Return when a process has started, in the system's unit, or "-" if that is not known: ids are used again."""
    try:
        return _stat(pid)[19]
    except (OSError, IndexError):
        return "-"


def parent(pid: int) -> int | None:
    """Return the id of the parent of a process; None if that is not known, as without /proc."""
    try:
        return int(_stat(pid)[1])
    except (OSError, IndexError, ValueError):
        return None


def _stat(pid: int) -> list[str]:
    """Return what Linux tells of a process after its name: state, parent, … Raise OSError if that is not known."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def python_command(function: str, arguments: Sequence[str] = ()) -> tuple[list[str], dict[str, str]]:
    """Return the command of a process as `start_python` starts it, and its environment."""
    module, _, name = function.partition(":")
    code = f"import sys; from {module} import {name}; sys.exit({name}())"
    package, environment = str(Path(__file__).parents[1]), dict(os.environ)
    if package not in (*site.getsitepackages(), site.getusersitepackages()):  # which come after the standard library
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    return [sys.executable, "-P", "-c", code, *arguments], environment  # -P: no modules from the working directory


def start_python(function: str, arguments: Sequence[str] = (), **options: Any) -> "subprocess.Popen[bytes]":
    """Start a process of this Python that calls `function`, "module:name", and exits with its result.

    The function finds the arguments in `sys.argv[1:]`. `options` are those of `subprocess.Popen`; the environment is
    the present one. Raise OSError if no process can be started.
    """
    import subprocess

    command, environment = python_command(function, arguments)
    return subprocess.Popen(command, env=environment, **options)
