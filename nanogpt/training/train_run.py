"""`train`: builds all parts of a training from its configuration, and runs the loop of `loop.py`.

The module is not called `train.py`: it would hide the function `nanogpt.training.train`, which is imported lazily.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, cast

import torch

from nanogpt import hardware
from nanogpt.config import Config
from nanogpt.data.batches import Batches, check_length
from nanogpt.data.token_files import Tokens
from nanogpt.errors import ReportedError, UserError
from nanogpt.events import Event
from nanogpt.heap import retain_freed_memory, trim_heap
from nanogpt.inspection import Observer, observed
from nanogpt.loss_units import TextSize
from nanogpt.models.base import Forward, LanguageModel
from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.models.lora import add_adapters, check_rank
from nanogpt.models.meta_device import on_meta_device
from nanogpt.optimizers.base import SkippableOptimizer
from nanogpt.training import distributed
from nanogpt.training.async_checkpoint import CheckpointWriter, SaveSnapshot
from nanogpt.training.control import CommandQueue
from nanogpt.training.counting import CountingStep, counting_config, counting_progress, no_optimizer
from nanogpt.training.data_parallel import gradient_average
from nanogpt.training.divergence import DivergenceDetector
from nanogpt.training.due import evaluation_is_due
from nanogpt.training.loop import FindCheckpoint, Trainer, WriteSample
from nanogpt.training.max_norm import constrained_weights
from nanogpt.training.optimizer_step import OptimizerStep, spike_detector
from nanogpt.training.process_monitor import ProcessMonitor
from nanogpt.training.runtime import Runtime, check_memory, memory_advice, resolve_runtime, with_peak
from nanogpt.training.sharding import ShardedGradients, shard
from nanogpt.training.snapshot import Progress, Snapshot, check_weights, restore, restore_weights, seed_random_states
from nanogpt.training.throughput import Parts, Throughput
from nanogpt.training.trial import choose_by_trial
from nanogpt.training.weight_average import WeightAverage


def train(
    config: Config,
    tokens: Mapping[str, Tokens],
    *,
    run: str = "",
    commands: CommandQueue | None = None,
    save: SaveSnapshot | None = None,
    sample: WriteSample | None = None,
    find_checkpoint: FindCheckpoint | None = None,
    wait_reason: Callable[[], str] | None = None,
    observers: Sequence[Observer] = (),
    start: Snapshot | None = None,
    resume: bool = False,
    val_text: TextSize | None = None,
    record: list[Parts] | None = None,
) -> Generator[Event, None, None]:
    """Train a model as `config` says, and yield the events of the training.

    They are: Started; then Step, Evaluating, Evaluated, Saved, Sampled, Acknowledged, Health and Notice in any order,
    with the events of the observers; then Finished. Closing the iterator ends training without a checkpoint.

    tokens: the token ids of "train" and "val"; `config.model.vocab_size` is set.
    run: name of the run, for the Started event.
    save: `save(snapshot, is_best)` writes a checkpoint and returns its name. If it raises OSError, training waits and
        tries again.
    sample: `sample(model, prompt, seed)` returns a text.
    find_checkpoint: returns the latest checkpoint at or before a step, for on_divergence=rollback.
    wait_reason: called at each step; returns why training has to wait, or "".
    observers: see the model and the events of this process; closed at the end.
    start: the first weights. resume: restore the whole state of `start` and continue at its step, exactly as if
        training had not been interrupted.
    val_text: the size of the text of the validation split, for the Started event.
    record: gets the seconds of each step by part. This synchronizes with a GPU after each part.

    Raise `UserError` for what the person can correct.
    """
    if is_counted := config.model.capabilities.counted:
        config = counting_config(config)
    for split in ("train", "val"):
        check_length(len(tokens[split]), config.model.block_size, split)
    if start is not None:
        with on_meta_device():
            shape = config.model.build()
        check_weights(shape, start.model, "the starting weights")
        if config.checkpoint.lora_rank and not resume:  # earlier versions allowed any rank
            check_rank(shape, config.checkpoint.lora_rank)
    runtime = resolve_runtime(config)
    device, world = runtime.device, runtime.world
    compiled_here = runtime.compile and device == "cpu"
    # The tables of a counted model grow and are seldom of the same size twice: keeping freed memory only costs memory.
    heap = nullcontext() if is_counted else retain_freed_memory()
    with (
        distributed.leaving_process_group(world),
        closing(ProcessMonitor(world, distributed.new_store(world), on_gpus=device != "cpu")) as monitor,
        explained_failures(monitor, config),
        heap,
        deterministic_on_cpu(compiled_here),
    ):
        check_memory(config, runtime.dtype, device, world)
        torch.manual_seed(config.system.seed)
        model = config.model.build()
        if start is not None:
            restore_weights(model, start.model, "the starting weights")
        if runtime.sharded:
            shard(model, world, device, compiled=runtime.compile)
        else:
            model.to(device)
        model.train()
        if config.checkpoint.lora_rank:
            add_adapters(model, config.checkpoint.lora_rank, config.checkpoint.lora_alpha)
        model.label_smoothing = config.optimizer.label_smoothing
        model.document_separator = config.data.separator
        flat = None
        if device == "cpu" and not (runtime.compile or is_counted or runtime.sharded):
            # not for compiled code, which has to check more if weights share memory
            flat = FlatParameters(decayed_first(model))
        batches = Batches(tokens["train"], config.model.block_size, config.data.batch_size, config.system.seed)
        if not (is_counted or config.evaluation.eval_only):
            before = start.progress if start is not None and resume else Progress(max_iters=config.schedule.max_iters)
            steps = before.max_iters - before.step
            passes = steps * config.data.gradient_accumulation_steps
            runtime = choose_by_trial(runtime, config, model, flat, batches, passes)
            trim_heap()
        if not is_counted:
            runtime = with_peak(runtime)
        dtype = getattr(torch, runtime.dtype)
        optimizer = no_optimizer() if is_counted else config.optimizer.build(model, dtype, flat)
        backend = None if runtime.sharded or model.adapters else model.training_backend(device, dtype, flat)
        if backend is not None and not runtime.compile:
            runtime.choices["backend"] = backend.name
        scaler = torch.amp.GradScaler(device.partition(":")[0], enabled=runtime.dtype == "float16")
        progress = Progress(max_iters=config.schedule.max_iters, eval_interval=config.evaluation.eval_interval)
        if start is not None and resume:
            restore(start, model, optimizer, scaler, "the checkpoint")
            progress, batches.position = replace(start.progress), start.position
        average = WeightAverage(model, config.optimizer.ema_decay, flat) if config.optimizer.ema_decay else None
        if average is not None and start is not None and resume:
            average.restart(start.average, "the checkpoint")
        if is_counted:
            progress = counting_progress(config, progress, len(tokens["train"]))
        if not (resume and world.is_main):
            seed_random_states(config.system.seed, world.rank, progress.step)
        skips_spikes = config.checkpoint.on_spike == "skip" and not is_counted
        forward: Forward = torch.compile(model) if runtime.compile and not runtime.sharded else backend or model
        fills_flat = backend is not None and backend is forward and backend.fills_flat
        # With compile=auto a compiler that fails does not end the training.
        if runtime.compile:  # importing the compiler takes as long as importing torch
            torch._dynamo.config.suppress_errors = config.system.compile == "auto"
        kind = partial(CountingStep, tokens=tokens["train"]) if is_counted else OptimizerStep
        step = kind(
            config=config,
            runtime=runtime,
            model=model,
            gradients=ShardedGradients(forward)
            if runtime.sharded
            else gradient_average(model, forward, world, flat if fills_flat else None),
            optimizer=optimizer,
            scaler=scaler,
            batches=batches,
            micro_batches=world.micro_batches(config.sequences, config.data.batch_size),
            throughput=Throughput(
                config.tokens_per_iteration,
                # Frozen weights have no gradients: two of three matrix products.
                config.model.flops_per_token() * 2 // (3 if model.adapters else 2),
                runtime.peak_flops,
                record,
                partial(hardware.synchronize, device if record is not None else "cpu"),
            ),
            progress=progress,
            divergence=DivergenceDetector(config.model.vocab_size),
            flat=flat,
            constrained=constrained_weights(model) if config.optimizer.max_norm else (),
            average=average,
            observers=observers,
            spikes=spike_detector(progress) if skips_spikes else None,
            # whether a step is a spike has to be known before its update
            skip_flag=install_skip_flag(optimizer) if defers_metrics(runtime) and not skips_spikes else None,
        )
        trainer = Trainer(
            config=config,
            tokens=tokens,
            commands=commands or CommandQueue(),
            writer=CheckpointWriter(save if world.is_main else None),
            sample=sample,
            find_checkpoint=find_checkpoint,
            wait_reason=wait_reason,
            val_text=val_text,
            run_name=run,
            runtime=runtime,
            model=model,
            step=step,
            # On a CPU, compiling for evaluation takes longer than it saves.
            evaluation_forward=forward if device.startswith("cuda") else backend or model,
            progress=progress,
            monitor=monitor,
        )
        if resume:
            trainer.writer.snapshot_step = progress.step
            if not evaluation_is_due(progress, config):  # a stop during an evaluation leaves both to do
                trainer.sampled_at = progress.step
        with closing(trainer.writer), closing(step.gradients), closing(trainer.run()) as events:
            yield from observed(chain([trainer.started_event()], events), observers)


@contextmanager
def explained_failures(monitor: ProcessMonitor, config: Config) -> Iterator[None]:
    """Tell the other processes why this one fails, and raise the reason why they do.

    One process raises an error for a person to read, the others `ReportedError`.
    """
    try:
        yield
    except distributed.ProcessGroupError as error:
        monitor.close()
        reason = monitor.explanation() or "the processes cannot reach each other any more"
        text = f"training ended: {reason}; resume with --init_from=resume"
        raise (distributed.ProcessGroupError if monitor.is_reporter() else ReportedError)(text) from error
    except Exception as error:
        is_memory, is_compiler = hardware.is_out_of_memory(error), is_compiler_failure(error)
        reason = f"out of memory: {memory_advice(config)}" if is_memory else str(error) or type(error).__name__
        if is_compiler and not is_memory:  # also if a signal has ended the compiler
            reason = f"the model cannot be compiled ({reason.splitlines()[0][:200]}); use compile=false"
        monitor.report_failure(" ".join(reason.split("\n")))
        if not monitor.is_reporter() and (is_memory or is_compiler or isinstance(error, UserError)):
            raise ReportedError(reason) from error
        if is_compiler and not is_memory:
            raise UserError(reason) from None
        raise


def is_compiler_failure(error: Exception) -> bool:
    """Return whether torch.compile raised this error. By name: importing the compiler takes as long as torch."""
    return any(kind.__name__ == "TorchDynamoException" for kind in type(error).__mro__)


def defers_metrics(runtime: Runtime) -> bool:
    """Return whether the loss and gradient norm of most steps stay on the device until a later step, so as not to wait.

    A CPU computes synchronously; several processes wait for each other anyway, and the scaler of float16 waits too.
    """
    return runtime.device.startswith("cuda") and runtime.world.size == 1 and runtime.dtype != "float16"


def install_skip_flag(optimizer: torch.optim.Optimizer) -> torch.Tensor | None:
    """Set and return the flag (float32 scalar) by which the optimizer skips steps; None if it cannot skip."""
    if not isinstance(optimizer, SkippableOptimizer):
        return None
    optimizer.skip_flag = torch.zeros((), device=optimizer.param_groups[0]["params"][0].device)
    return optimizer.skip_flag


@contextmanager
def deterministic_on_cpu(wanted: bool) -> Iterator[None]:
    """Make code that is compiled for a CPU deterministic inside this context, if `wanted`.

    Otherwise several threads sum the gradient of an embedding in any order, and a resumed run is not exactly the same.
    """
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


def decayed_first(model: LanguageModel) -> list[torch.nn.Parameter]:
    """Return the trained parameters, those with weight decay first: those of one optimizer group become adjacent."""
    decay = {parameter for group in model.trained_groups() if group.decay for parameter in group.parameters}
    return sorted((p for p in model.parameters() if p.requires_grad), key=lambda parameter: parameter not in decay)
