"""Starts the processes of one training on this machine, and ends them together.

It does what torchrun does on one machine. But it passes Ctrl+C on and waits, so that a training stops as that of one
process does: with a checkpoint, however long that takes, and with the same exit code.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from nanogpt.cli.console import print_message
from nanogpt.files import why
from nanogpt.processes import python_command

POLL_S = 0.05
GRACE_S = 60.0  # in which the others have to end after one has failed; rank 0 has as long as its checkpoint takes

Workers = list["subprocess.Popen[bytes]"]


def replace_by_launcher(processes: int, threads: int, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by one that starts as many `processes` of `nanogpt train ARGUMENTS`.

    threads: CPU threads of each; 0 divides the cores.
    """
    from nanogpt.hardware import usable_cores

    command, environment = python_command("nanogpt.cli.process_launcher:main", [str(processes), *arguments])
    if not threads:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // processes)))
    sys.stdout.flush()
    os.execve(command[0], command, environment)


def main() -> int:
    """Run the processes and return the exit code. Arguments: how many, then those of `nanogpt train`."""
    size, workers = int(sys.argv[1]), Workers()
    received: list[tuple[int, int]] = []  # signals, each with the number of workers that got it at once

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append((number, len(workers)))
        _send(number, workers)

    def on_suspend(number: int, frame: FrameType | None) -> None:
        _send(signal.SIGSTOP, workers)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # the system ignores it if no shell could continue this process
        signal.signal(number, on_suspend)
        _send(signal.SIGCONT, workers)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    if hasattr(signal, "SIGHUP"):  # not on Windows
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # training continues when its terminal closes
        signal.signal(signal.SIGTSTP, on_suspend)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            _start(size, listener, workers)
            for sent, reached in received:
                _send(sent, workers[reached:])
            store = _new_store(listener)  # meanwhile the processes start
            first = _wait(workers)
            del store
    except OSError as error:
        print_message(f"nanogpt train: {size} processes cannot be started: {why(error)}; use fewer")
        return 2
    finally:
        for worker in workers:  # none is running, except after an error
            worker.kill()
            worker.wait()
    return _exit_code([worker.returncode for worker in workers], first, [number for number, _ in received])


def _send(number: int, workers: Workers) -> None:
    for worker in workers:
        worker.send_signal(number)


def _start(size: int, listener: socket.socket, workers: Workers) -> None:
    """Start the processes and append them to `workers`. Raise OSError if one cannot be started."""
    command, environment = python_command("nanogpt.cli:main", ["train", *sys.argv[2:]])
    environment |= {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(listener.getsockname()[1])}
    environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # no stacks of C++ about connections that close
    for rank in range(size):
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        # A session of its own: the terminal sends Ctrl+C to the launcher only, which passes it on.
        workers.append(subprocess.Popen(command, env=environment, start_new_session=True))


def _new_store(listener: socket.socket) -> object:
    """Return the store in which the processes find each other; it answers as long as it is referenced."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    port = listener.getsockname()[1]
    return TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())


def _wait(workers: Workers) -> int:
    """Wait until all have ended. If one fails, end the others, and return its rank; else -1."""
    first, deadline = -1, float("inf")
    while True:
        codes = [worker.poll() for worker in workers]
        if first < 0 and any(codes):
            first, deadline = next(rank for rank, code in enumerate(codes) if code), time.monotonic() + GRACE_S
            _send(signal.SIGTERM, workers)
        if None not in codes:
            return first
        if time.monotonic() > deadline:
            for worker in workers[1:]:
                worker.kill()
        time.sleep(POLL_S)


def _exit_code(codes: Sequence[int], first: int, received: Sequence[int]) -> int:
    """Return the exit code of the training, and say why it ended if no process could.

    codes: of the processes, by rank, below 0 if a signal has ended one. first: the rank that failed first.
    """
    if received and codes[0] < 0:
        print_message("\nnanogpt train: interrupted")
        return 128 + received[0]
    if codes[0] == 0 or max(codes) > 0:
        return max(codes)
    print_message(
        f"nanogpt train: training ended: rank {first} of {len(codes)} was killed by "
        f"{signal.Signals(-codes[first]).name}; resume with --init_from=resume, or start again if nothing was saved"
    )
    return 2
