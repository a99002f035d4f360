"""How fast several processes train together, by the way in which they average gradients, and what sharding saves.

    python benchmarks/distributed.py [--processes 2] [--steps 20] [--threads 1] [SETTING=VALUE ...]

torchrun starts the processes on this machine, which talk over gloo. Each step is done in turn: without averaging;
with the former all-reduce of a copy of all gradients after the backward pass; with one of the gradients in place, if
they share their memory; with DDP, which overlaps it with the backward pass; and sharded (FSDP2). Prints the median
step, tokens/s of all processes together, and the bytes of parameters and optimizer state in each process.

The model is the preset macbook's with a vocabulary of 65; settings change it, for example n_embd=384 dtype=float32.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

WARM_UP = 3  # steps that do not count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="settings of the model, as NAME=VALUE")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    args = parser.parse_args()
    if "RANK" not in os.environ:
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc_per_node={args.processes}"]
        return subprocess.run([sys.executable, "-m", *torchrun, *sys.argv], check=False).returncode
    measure(dict(pair.split("=") for pair in args.settings), args.steps, args.threads)
    return 0


def measure(settings: dict[str, str], steps: int, threads: int) -> None:
    """Time the steps of each way in turn, and print the figures in the first process."""
    from nanogpt.hardware import autocast, resolve_dtype, share_cores

    share_cores()
    import torch
    from torch import distributed

    from nanogpt.config import resolve
    from nanogpt.models.flat_parameters import FlatParameters
    from nanogpt.training.data_parallel import BucketAverage, FlatAverage, GradientAverage
    from nanogpt.training.distributed import join_process_group
    from nanogpt.training.sharding import ShardedGradients, local_bytes, shard
    from nanogpt.training.train_run import decayed_first

    torch.set_num_threads(threads)
    config = resolve(preset="macbook", flags={"vocab_size": "65", "device": "cpu", **settings}).config
    rows, tokens = config.data.batch_size, config.model.block_size
    name, _ = resolve_dtype(config.system.dtype, "cpu", width=config.model.width, tokens=rows * tokens)
    dtype, world = getattr(torch, name), join_process_group("gloo", "cpu")
    trainings: dict[str, tuple[torch.optim.Optimizer, GradientAverage]] = {}
    memory: dict[str, Callable[[], int]] = {}
    backend = None
    for way in ("alone", "former all-reduce", "all-reduce in place", "DDP", "FSDP2"):
        torch.manual_seed(1)
        model, flat = config.model.build(), None
        if way == "FSDP2":
            shard(model, world, "cpu", compiled=False)
        else:
            flat = FlatParameters(decayed_first(model))
        optimizer = config.optimizer.build(model, dtype, flat)
        backend = model.training_backend("cpu", dtype, flat) if flat is not None else backend
        forward = model if flat is None else backend or model
        if way == "all-reduce in place" and backend is None:
            continue  # the gradients have memory of their own
        trainings[way] = (
            optimizer,
            {
                "alone": lambda forward=forward: GradientAverage(forward),
                "former all-reduce": lambda forward=forward: FlatAverage(forward, world),
                "all-reduce in place": lambda forward=forward, flat=flat: FlatAverage(forward, world, flat),
                "DDP": lambda forward=forward, model=model: BucketAverage(model, forward, world),
                "FSDP2": lambda forward=forward: ShardedGradients(forward),
            }[way](),
        )
        memory[way] = lambda model=model, optimizer=optimizer: local_bytes(  # type: ignore[misc]
            [*model.parameters(), *(each for state in optimizer.state.values() for each in state.values())],
        )
    seconds: dict[str, list[float]] = {way: [] for way in trainings}
    window = torch.randint(config.model.vocab_size, (rows, tokens + 1))
    for _ in range(WARM_UP + steps):
        for way, (optimizer, gradients) in trainings.items():
            distributed.barrier()
            began = time.perf_counter()
            with gradients.micro_batch(is_last=True):
                with autocast("cpu", name):
                    _, loss = gradients.forward(window[:, :-1], window[:, 1:])
                assert loss is not None
                loss.backward()  # type: ignore[no-untyped-call]
            gradients.complete([p for group in optimizer.param_groups for p in group["params"]])
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds[way].append(time.perf_counter() - began)
    if world.is_main:
        shape = f"{config.model.n_parameters():,} parameters, {rows} × {tokens} tokens in each process, {name}"
        print(f"{world.size} processes of {threads} threads: {shape}, {'backend' if backend else 'autograd'}")
        for way, each in seconds.items():
            step = median(each[WARM_UP:])
            speed = world.size * rows * tokens / step
            print(f"{way:<20} {1000 * step:8.1f} ms  {speed:9,.0f} tokens/s  {memory[way]():13,} bytes")
    distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
