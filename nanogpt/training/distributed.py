"""The processes of one training, which torchrun starts, and what they tell each other.

A single process is a world of size 1, in which these functions do nothing. Nothing that one process sends to another is
a pickle: numbers and texts are tensors.
"""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count, pairwise

import torch
from torch import distributed
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from nanogpt.errors import ReportedError, SettingError, UserError


class ProcessGroupError(UserError):
    """The processes of a training cannot reach each other, or not any more."""


LIMIT = "NANOGPT_JOIN_TIMEOUT"  # environment variable: the seconds that processes wait for others which do not start
LIMIT_S = 300  # the limit of torch's store: on several machines one may read its data set more slowly than others
LOCAL_LIMIT_S = 25  # for one machine, if nothing watches the processes until they have joined
START_ADVICE = "start several processes with torchrun, or unset RANK"
LIMIT_ADVICE = f"start all processes together, best with --processes or torchrun ({LIMIT} sets another limit)"
POLL_S = 0.1
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_connections = count()  # of this process to the store: all processes of a group make the same ones


@dataclass(frozen=True, slots=True)
class World:
    """The position of this process among the processes of a training."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process reports, saves and takes commands."""
        return self.rank == 0

    def micro_batches(self, rows: int, batch_size: int) -> list[range]:
        """Return which of the `rows` sequences of a step this process takes, in micro-batches of up to `batch_size`.

        The processes take consecutive shares, which differ by at most one sequence, each in equally many micro-batches;
        but none of them is empty. Together they are all sequences, once.
        """
        start, stop = rows * self.rank // self.size, rows * (self.rank + 1) // self.size
        parts = -(-rows // (self.size * batch_size))
        edges = [start + (stop - start) * number // parts for number in range(parts + 1)]
        return [range(first, last) for first, last in pairwise(edges) if first < last]


def rank() -> int:
    """Return the rank of this process, 0 without torchrun. Raise `UserError` for a bad RANK."""
    return _number("RANK") if "RANK" in os.environ else 0


def local_size() -> int:
    """Return how many processes of the training this machine has, as far as the environment says: else 1."""
    return _number("LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in os.environ else 1


def join_process_group(backend: str, device: str) -> World:
    """Join the process group that torchrun's environment describes. Without torchrun, return a world of size 1.

    backend: "auto", "nccl" or "gloo". Raise `UserError` if the environment or the backend does not fit, or if the
    processes cannot reach each other.
    """
    if "RANK" not in os.environ:
        return World()
    world = World(rank(), _number("WORLD_SIZE"), _number("LOCAL_RANK"))
    if world.rank >= world.size:
        raise UserError(
            f"the environment has RANK={world.rank} and WORLD_SIZE={world.size}, but ranks are below the number of "
            f"processes: {START_ADVICE}"
        )
    if device == "mps" and world.size > 1:
        raise SettingError("processes", "processes: several cannot train on mps together; use 1, or device=cpu")
    on_gpu = device.startswith("cuda")
    if backend == "nccl" and not on_gpu:
        raise SettingError("backend", f"backend=nccl is for NVIDIA GPUs, and the device is {device}; use backend=auto")
    # On GPUs gloo carries what is not on them: flags and commands.
    chosen = "cpu:gloo,cuda:nccl" if on_gpu and backend != "gloo" else "gloo"
    with readable_errors():
        store = _connect(is_server=world.is_main and not _has_agent())
        _wait_for_all(store, world)
        distributed.init_process_group(chosen, store=store, rank=world.rank, world_size=world.size)
    return world


def new_store(world: World) -> Store | None:
    """Return another connection to the store in which the processes found each other. None for a single process."""
    with readable_errors():
        return _connect() if world.size > 1 else None


def _connect(*, is_server: bool = False) -> Store:
    """Return a connection to the store, with its own keys: torchrun keeps the store when it restarts the processes.

    is_server: this process has the store.
    """
    address, port = os.environ.get("MASTER_ADDR", ""), _number("MASTER_PORT")
    if not address:
        raise UserError(f"the environment has no MASTER_ADDR: {START_ADVICE}")
    if not is_server:
        _wait_for_server(address, port)
    store = TCPStore(address, port, is_master=is_server, wait_for_workers=False, multi_tenant=True)
    return PrefixStore(f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_connections)}", store)


def _wait_for_server(address: str, port: int) -> None:
    """Wait until the store can be reached. Raise `ProcessGroupError` if it cannot in time."""
    until = time.monotonic() + _limit_s()
    while True:
        with suppress(OSError), socket.create_connection((address, port), timeout=5):
            return
        if time.monotonic() > until:
            who = "the launcher" if _has_agent() else "rank 0"
            raise ProcessGroupError(f"{who} cannot be reached at {address}:{port} for {_limit_s()} s; {LIMIT_ADVICE}")
        time.sleep(POLL_S)


def _wait_for_all(store: Store, world: World) -> None:
    """Wait until all processes are here. Raise `ProcessGroupError` that names those which are missing.

    The backend itself would wait for half an hour. Twice, because one may end while it waits for the others.
    """
    for state, limit_s in (("started", _limit_s()), ("answered", min(_limit_s(), LOCAL_LIMIT_S))):
        keys = [f"{state}/{each}" for each in range(world.size)]
        store.set(keys[world.rank], "")
        until = time.monotonic() + limit_s
        while not store.check(keys):  # `wait` would hold signals back, and write warnings
            if store.check(["failed"]) or time.monotonic() > until:
                _check_present(store, keys, world, f"not {state} within {limit_s} s; {LIMIT_ADVICE}")
            time.sleep(POLL_S)


def _check_present(store: Store, keys: list[str], world: World, problem: str) -> None:
    """Raise an error if keys are missing now or another process has missed some.

    It is a `ProcessGroupError` in one process, which names those whose keys are missing, `ReportedError` in others.
    """
    missing = [str(each) for each, key in enumerate(keys) if not store.check([key])]
    if not missing and not store.check(["failed"]):
        return
    reporter = store.compare_set("failed", "", str(world.rank))
    if world.is_main and not _has_agent():
        time.sleep(20 * POLL_S)  # the others learn it from the store of this process
    if reporter != str(world.rank).encode():
        raise ReportedError(problem)
    ranks = f"ranks {', '.join(missing)} of {world.size} have" if len(missing) > 1 else f"rank {missing[0]} has"
    raise ProcessGroupError(f"{ranks} {problem}")


def _has_agent() -> bool:
    """Return whether torchrun or `nanogpt train --processes` watches the processes, and has their store."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _limit_s() -> int:
    """Return the seconds to wait for processes that do not start."""
    if LIMIT in os.environ:
        return _number(LIMIT)
    return LOCAL_LIMIT_S if os.environ.get("MASTER_ADDR") in LOOPBACK and not _has_agent() else LIMIT_S


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdecimal():
        advice = "set a number of seconds" if name == LIMIT else START_ADVICE
        raise UserError(f"the environment has {name}={value!r}: {advice}")
    return int(value)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Replace errors of the backend, which name addresses and source lines, by a `ProcessGroupError`."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        if isinstance(error, UserError) or not is_group_error(error):
            raise
        raise ProcessGroupError(
            "the processes of this training cannot reach each other: start all of them with torchrun, or with "
            "--processes on one machine"
        ) from error


def is_group_error(error: BaseException) -> bool:
    """Return whether an error comes from the communication of the processes."""
    if isinstance(error, torch.distributed.DistError | OSError | ValueError):
        return True
    return any(word in str(error) for word in ("gloo", "NCCL", "TCPStore", "ProcessGroup"))


@contextmanager
def leaving_process_group(world: World) -> Iterator[None]:
    """Destroy the process group at the end, so that the next training in this process can join a new one."""
    try:
        yield
    finally:
        if world.size > 1:
            distributed.destroy_process_group()


def all_reduce_sum(values: torch.Tensor, world: World) -> torch.Tensor:
    """Return the sum of `values` over the processes, of the same shape; `values` is overwritten."""
    if world.size > 1:
        with readable_errors():
            distributed.all_reduce(values)
    return values


def broadcast_numbers(values: Sequence[int], world: World) -> list[int]:
    """Return the main process's `values`, equally many in every process. All of them wait here for each other."""
    if world.size == 1:
        return list(values)
    numbers = torch.tensor(values, dtype=torch.int64)
    with readable_errors():
        distributed.broadcast(numbers, src=0)
    return [int(number) for number in numbers.tolist()]


def broadcast_text(text: str, n_bytes: int, world: World) -> str:
    """Return the main process's `text` in every process. n_bytes: its length in UTF-8, which all processes know."""
    if world.size == 1:
        return text
    content = torch.zeros(n_bytes, dtype=torch.uint8)
    if world.is_main:
        content = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    with readable_errors():
        distributed.broadcast(content, src=0)
    return content.numpy().tobytes().decode()
