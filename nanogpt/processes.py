"""Whether a process of this machine runs."""

import os
from contextlib import suppress
from pathlib import Path


def is_running(pid: int) -> bool:
    """Return whether a process with this number runs, as far as can be found out; on Windows it cannot, so that the
    answer is True."""
    if os.name == "nt":  # there os.kill would end the process
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
