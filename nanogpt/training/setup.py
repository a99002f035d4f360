"""Makes everything that a training holds out of its configuration, and runs it: `train`. Knows nothing of files.

The loop itself is in `loop.py`.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, cast

import torch

from nanogpt import hardware
from nanogpt.config import Config
from nanogpt.data.batches import Batches, check_length
from nanogpt.events import Event
from nanogpt.inspection import Observer, observed
from nanogpt.models.base import LanguageModel
from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.models.meta_device import on_meta_device
from nanogpt.optimizers.base import GuardedOptimizer
from nanogpt.training import distributed
from nanogpt.training.async_checkpoint import CheckpointWriter, SaveSnapshot
from nanogpt.training.control import CommandQueue
from nanogpt.training.loop import Recall, Tokens, Trainer, WriteSample
from nanogpt.training.runtime import Runtime, check_memory, resolve_runtime
from nanogpt.training.snapshot import Progress, Snapshot, check_weights, restore, restore_weights
from nanogpt.training.spike import Spike
from nanogpt.training.throughput import Parts, Throughput


def train(
    config: Config,
    tokens: Mapping[str, Tokens],
    *,
    run: str = "",
    commands: CommandQueue | None = None,
    save: SaveSnapshot | None = None,
    sample: WriteSample | None = None,
    recall: Recall | None = None,
    hindrance: Callable[[], str] | None = None,
    observers: Sequence[Observer] = (),
    start: Snapshot | None = None,
    resume: bool = False,
    record: list[Parts] | None = None,
) -> Generator[Event, None, None]:
    """Trains as `config` says: Started; Step, Evaluating, Evaluated, Saved, Sampled, Acknowledged, Health as they come,
    and what the `observers` report; Finished.

    `tokens` maps "train" and "val" to token ids; `config.model.vocab_size` is set. `start` gives the first weights;
    with `resume` also everything else, and training goes on at its step as if it had never been interrupted.
    `save(snapshot, is_best)` writes a checkpoint and returns its name; where it raises OSError, training waits and
    tries again. `sample(model, prompt, seed)` returns a text. `recall(step)` gives the latest checkpoint not after
    `step`, for on_divergence=rollback. `hindrance()`, asked at each step, says why training has to wait, if it has to.
    `observers` look at the model and the events, in this process alone; they are closed at the end.
    `record` gets the seconds of each step by part, for which a GPU is waited for again and again.
    Raises `UserError` for what the person can mend.
    """
    for split in ("train", "val"):
        check_length(len(tokens[split]), config.model.block_size, split)
    if start is not None:
        with on_meta_device():
            check_weights(config.model.build(), start.model, "the starting weights")
    machine = resolve_runtime(config)
    device, world = machine.device, machine.world
    compiled_here = machine.compile and device == "cpu"
    with distributed.left_after(world), hardware.kept_memory(), same_every_time(compiled_here):
        check_memory(config, machine.dtype, device)
        torch.manual_seed(config.system.seed)
        model = config.model.build()
        if start is not None:
            restore_weights(model, start.model, "the starting weights")
        model.to(device).train()
        dtype, flat = getattr(torch, machine.dtype), None
        if device == "cpu" and not machine.compile:  # a compiler has more to check of weights that share their memory
            flat = FlatParameters(in_order(model))
        optimizer = config.optimizer.build(model, dtype, flat)
        backend = model.training_backend(device, dtype, flat)
        if backend is not None and not machine.compile:
            machine.choices["backend"] = backend.name
        scaler = torch.amp.GradScaler(device.partition(":")[0], enabled=machine.dtype == "float16")
        progress = Progress(max_iters=config.schedule.max_iters, eval_interval=config.evaluation.eval_interval)
        batches = Batches(
            tokens["train"], config.model.block_size, config.data.batch_size, config.system.seed, world.rank, world.size
        )
        if start is not None and resume:
            restore(start, model, optimizer, scaler, "the checkpoint")
            progress, batches.position = replace(start.progress), start.position
        if not (resume and world.is_main):  # whose random state a checkpoint has; dropout differs in each
            torch.manual_seed(config.system.seed + 1 + world.rank + progress.step)
        # A compiler that turns out not to work is no reason to stop where nobody asked for it by name.
        if machine.compile:  # importing the compiler takes as long as importing torch
            torch._dynamo.config.suppress_errors = config.system.compile == "auto"
        trainer = Trainer(
            config=config,
            tokens=tokens,
            commands=commands or CommandQueue(),
            writer=CheckpointWriter(save if world.is_main else None),
            sample=sample,
            recall=recall,
            hindrance=hindrance,
            observers=observers,
            guard=guard_of(optimizer) if defers(machine) else None,
            name=run,
            spike=Spike(config.model.vocab_size),
            machine=machine,
            model=model,
            forward=torch.compile(model) if machine.compile else backend or model,
            # On a CPU compiling for evaluation too would take longer than it saves.
            evaluation_forward=None if machine.compile and device.startswith("cuda") else backend or model,
            flat=flat,
            optimizer=optimizer,
            scaler=scaler,
            batches=batches,
            throughput=Throughput(
                config.tokens_per_iteration,
                config.model.flops_per_token(),
                machine.peak_flops,
                record,
                partial(hardware.synchronize, device if record is not None else "cpu"),
            ),
            progress=progress,
        )
        if resume:
            trainer.writer.taken_at = trainer.sampled_at = progress.step
        with closing(trainer.writer), closing(trainer.run()) as events:
            yield from observed(chain([trainer.started()], events), observers)


def defers(machine: Runtime) -> bool:
    """Return whether waiting for the device in each step would slow it down.

    A CPU is never ahead of itself; processes wait for one another anyway, and float16's scaler for the device.
    """
    return machine.device.startswith("cuda") and machine.world.size == 1 and machine.dtype != "float16"


def guard_of(optimizer: torch.optim.Optimizer) -> torch.Tensor | None:
    """Return the flag (float32 scalar) by which the optimizer skips steps; None where it has none."""
    if not isinstance(optimizer, GuardedOptimizer):
        return None
    optimizer.skip = torch.zeros((), device=optimizer.param_groups[0]["params"][0].device)
    return optimizer.skip


@contextmanager
def same_every_time(wanted: bool) -> Iterator[None]:
    """Inside, where it is `wanted`, what is compiled for a CPU adds in one order: else several threads add up an
    embedding's gradient as they come, and a run that is resumed is not the same."""
    if not wanted:
        yield
        return
    before, settings = torch.are_deterministic_algorithms_enabled(), cast("Any", torch.utils.deterministic)
    filled, settings.fill_uninitialized_memory = settings.fill_uninitialized_memory, False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = filled


def in_order(model: LanguageModel) -> list[torch.nn.Parameter]:
    """Return the parameters, those that decay first, so that what an optimizer moves alike are neighbours."""
    decay = {parameter for group in model.parameter_groups() if group.decay for parameter in group.parameters}
    return sorted(model.parameters(), key=lambda parameter: parameter not in decay)
