"""Start the processes of one training with torchrun, and how a run knows that torchrun has restarted it."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from nanogpt.processes import python_command, start_time
from nanogpt.runs.folder import is_run, read_run_toml


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as options of `nanogpt train`."""
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in settings.items()]


def replace_by_torchrun(processes: int, threads: int, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by torchrun with as many `processes` of `nanogpt train ARGUMENTS` on this machine.

    threads: CPU threads of each; 0 divides the cores.
    """
    from nanogpt.hardware import usable_cores

    options = ["--standalone", f"--nproc_per_node={processes}", "-m", "nanogpt", "train"]
    command, environment = python_command("nanogpt.runs.torchrun:main", [*options, *arguments])
    if not threads:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // processes)))
    sys.stdout.flush()
    os.execve(command[0], command, environment)


def main() -> int:
    """Run torchrun, without its own messages about processes that fail: those have said why. Return the exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as run

    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM,SIGINT,SIGQUIT"
    if hasattr(signal, "SIGHUP"):  # training continues when its terminal closes
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    logging.disable(logging.ERROR)
    try:
        run(sys.argv[1:])
    except ChildFailedError as error:
        return max((failure.exitcode for failure in error.failures.values()), default=1)
    except SignalException as ended:
        return 128 + ended.sigval
    return 0


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
