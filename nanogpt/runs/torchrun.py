"""How a run knows that torchrun has restarted its processes."""

import os
import socket
from pathlib import Path

from nanogpt.processes import start_time
from nanogpt.runs.folder import is_run, read_run_toml


def launch_id() -> str:
    """Return what identifies this start of torchrun, which may start the processes several times; "" without it."""
    run_id = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if run_id in ("", "none"):  # without --rdzv_id it has no name of its own
        return f"{socket.gethostname()} {os.getppid()} {start_time(os.getppid())}" if run_id else ""
    return run_id


def is_restarted(run: Path) -> bool:
    """Return whether torchrun started the run `run` before, and starts its processes again after a failure."""
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0" or not is_run(run):
        return False
    return bool(read_run_toml(run).get("run", {}).get("launch") == launch_id())
