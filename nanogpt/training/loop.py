"""The training loop: an iterator of events. Knows nothing of files or screens, nor of how its parts were made.

What it needs is handed in: tokens, a way to save a snapshot, a way to write a sample, a queue of commands. Closing the
iterator ends training where it is; to end it with a checkpoint, put a `Stop` into the queue.
"""

import copy
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nanogpt import hardware
from nanogpt.config import Config
from nanogpt.data.batches import Batches, check_ids, count_evaluation_batches
from nanogpt.errors import UserError
from nanogpt.events import Evaluated, Event, Finished, Health, Notice, Sampled, Started, Step
from nanogpt.inspection import Observer
from nanogpt.models.base import Forward, LanguageModel, compute_loss
from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.training import distributed
from nanogpt.training.async_checkpoint import CheckpointWriter
from nanogpt.training.clipping import clip
from nanogpt.training.control import CommandQueue, Stop
from nanogpt.training.evaluation import EvaluationProgress, evaluate
from nanogpt.training.runtime import Runtime
from nanogpt.training.snapshot import Progress, Snapshot, restore, take
from nanogpt.training.spike import Spike
from nanogpt.training.throughput import Throughput

Tokens = NDArray[np.unsignedinteger]
WriteSample = Callable[[LanguageModel, str, int], str]
Recall = Callable[[int], Snapshot | None]

Figures = tuple[float, float, float]  # of a step: loss, gradient norm before clipping, learning rate

MOST_ROLLBACKS = 3
MOST_UNREAD = 50  # steps: so late may a loss that is not finite be noticed
TRAIN_BATCHES = 20  # for the training split's loss, where the other's is to be measured over the whole split


@dataclass(kw_only=True)
class Trainer:
    """Everything that a training holds while it runs. Made by `train`; the loop below reads top to bottom."""

    config: Config
    tokens: Mapping[str, Tokens]
    commands: CommandQueue
    writer: CheckpointWriter
    sample: WriteSample | None
    machine: Runtime
    model: LanguageModel
    forward: Forward
    evaluation_forward: Forward | None  # None: `forward`
    optimizer: torch.optim.Optimizer
    scaler: "torch.amp.GradScaler"
    batches: Batches
    throughput: Throughput
    progress: Progress
    spike: Spike
    name: str = ""
    hindrance: Callable[[], str] | None = None
    recall: Recall | None = None
    flat: FlatParameters | None = None
    observers: Sequence[Observer] = ()
    observations: list[Event] = field(default_factory=list)  # of the gradients of this step
    guard: torch.Tensor | None = None  # 1: the optimizer skips (see `GuardedOptimizer`); None: every step is read
    unread: list[tuple[float | torch.Tensor, float | torch.Tensor, float]] = field(default_factory=list)  # as `Figures`
    idle_since: float = 0.0  # monotonic, as `began`
    sampled_at: int = -1
    rollbacks: int = 0
    stopping: Stop | None = None
    paused: bool = False
    hindered_by: str = ""
    reported: str = ""  # of what hinders training, what was reported last
    began: float = field(default_factory=time.monotonic)

    def run(self) -> Generator[Event, None, None]:
        progress, schedule = self.progress, self.config.evaluation
        while True:
            if self.evaluation_is_due():
                yield from self.evaluate()
                if self.stopping is not None:
                    yield from self.stop()
                    return
                if schedule.eval_only:
                    yield self.finished("eval_only")
                    return
            if self.checkpoint_is_due():
                yield from self.save_checkpoint()
            if self.sample_is_due():
                self.sampled_at = progress.step
                yield from self.write_sample(schedule.sample_start, self.config.system.seed)
            yield from self.apply_commands()
            if self.stopping is not None:
                yield from self.stop()
                return
            if progress.step >= progress.max_iters:
                if self.evaluation_is_due():  # max_iters was lowered to here just now
                    continue
                yield from self.save_checkpoint()
                yield from self.writer.report(wait=True)
                if distributed.agree(self.writer.owed, self.machine.world):  # all wait for it above
                    continue
                yield self.finished("max_iters")
                return
            if self.checkpoint_is_due():  # the one before was owed until just now
                yield from self.save_checkpoint()
            with self.throughput.step():
                self.unread.append(self.step())
                if is_read := self.is_read():
                    figures, trouble = self.read()
                else:
                    self.throughput.defer()
            yield from self.observations
            self.observations.clear()
            if is_read and trouble:
                yield from self.recover(*trouble)
                if self.progress is progress:  # it could not
                    yield from self.writer.report(wait=True)
                    yield self.finished("nan")
                    return
                progress = self.progress
                continue
            if is_read and progress.step % schedule.log_interval == 0:
                yield self.stepped(*figures)
            for observer in self.due(progress.step):
                yield from observer.after_update(self.model, progress.step)

    def step(self) -> tuple[float | torch.Tensor, float | torch.Tensor, float]:
        """One optimizer step: (loss, gradient norm before clipping, learning rate), the first two as tensors where the
        device is not waited for. A loss or gradient that is not finite leaves the weights as they are."""
        config, progress = self.config, self.progress
        highest = config.optimizer.learning_rate
        rate = config.schedule.learning_rate(progress.step, highest, progress.max_iters) * progress.learning_rate_scale
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["learning_rate_scale"]
        accumulated = config.data.gradient_accumulation_steps // self.machine.world.size
        losses = torch.zeros((), device=self.machine.device)
        for _ in range(accumulated):
            with self.throughput.part("data"):
                window = torch.from_numpy(check_ids(self.batches.next(), config.model.vocab_size))  # (B, T + 1)
                if self.machine.device.startswith("cuda"):
                    window = window.pin_memory().to(self.machine.device, non_blocking=True)
                else:
                    window = window.to(self.machine.device)
            with self.throughput.part("forward"), self.machine.autocast():
                loss = compute_loss(self.forward, window[:, :-1], window[:, 1:])
            with self.throughput.part("backward"):
                losses += loss.detach()
                self.scaler.scale(loss / accumulated).backward()  # type: ignore[no-untyped-call]
        with self.throughput.part("optimizer"):
            loss = losses / accumulated
            updated = self.update(loss) if self.guard is None else self.update_on_device(loss, self.guard)
        return *updated, rate

    def update(self, loss: torch.Tensor) -> tuple[float, float]:
        """Moves the weights by the gradients that are there. Returns the mean of the processes' losses, and the
        gradients' norm before clipping; where one of them is not finite, nothing moves."""
        config, progress = self.config, self.progress
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        distributed.average_gradients(parameters, self.machine.world)
        mean_loss = float(distributed.total(loss, self.machine.world)) / self.machine.world.size
        grad_norm = math.nan
        if math.isfinite(mean_loss):
            self.scaler.unscale_(self.optimizer)
            self.observe_gradients()
            grad_norm = float(clip(parameters, config.optimizer.grad_clip or math.inf, self.flat))
        if math.isfinite(grad_norm) or (math.isfinite(mean_loss) and self.scaler.is_enabled()):
            self.scaler.step(self.optimizer)  # which skips it, and scales less, where float16 was not enough
            self.scaler.update()
            progress.step += 1
            progress.tokens += config.tokens_per_iteration
        self.optimizer.zero_grad(set_to_none=True)
        return mean_loss, grad_norm

    def update_on_device(self, loss: torch.Tensor, guard: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `update`, for one process, and without waiting for the device. From a loss or gradient norm that is not
        finite on, nothing moves until that is read."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.observe_gradients()
        grad_norm = clip(parameters, self.config.optimizer.grad_clip or math.inf, self.flat)
        is_finite = torch.isfinite(loss) & torch.isfinite(grad_norm)
        guard.copy_(torch.maximum(guard, (~is_finite).float()))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.progress.tokens += self.config.tokens_per_iteration
        return loss, grad_norm

    def is_read(self) -> bool:
        """Whether the host waits for the figures of this step: where they are reported, or the weights are used."""
        return (
            self.guard is None
            or self.progress.step % self.config.evaluation.log_interval == 0
            or len(self.unread) >= MOST_UNREAD
            or self.evaluation_is_due()
            or self.checkpoint_is_due()
            or self.sample_is_due()
        )

    def read(self) -> tuple[Figures, tuple[str, int] | None]:
        """Return the figures of the last step, or of the first that went wrong since the last read, and its `trouble`.

        Where steps were skipped, the progress goes back to the last one that was not.
        """
        unread, self.unread = self.unread, []
        values = [value for loss, norm, _ in unread for value in (loss, norm)]
        if self.guard is None:
            numbers = [float(value) for value in values]
        else:
            numbers = torch.stack([torch.as_tensor(value) for value in values]).tolist()  # one transfer for all
        rates, later = [rate for _, _, rate in unread], len(unread)
        for figures in zip(numbers[::2], numbers[1::2], rates, strict=True):
            later -= 1
            loss, norm, _ = figures
            if trouble := self.trouble(loss, norm):
                break
        self.progress.train_loss = loss
        if trouble and self.guard is not None:
            text, lost = trouble
            if math.isfinite(loss) and math.isfinite(norm):
                return figures, (text, lost + later)
            self.progress.step -= later + 1
            self.progress.tokens -= (later + 1) * self.config.tokens_per_iteration
        return figures, trouble

    def observe_gradients(self) -> None:
        step = self.progress.step + 1
        for observer in self.due(step):
            self.observations += observer.before_update(self.model, step)

    def due(self, step: int) -> list[Observer]:
        """Return the observers that look at the model at this step."""
        return [observer for observer in self.observers if observer.is_due(step)]

    def evaluation_is_due(self) -> bool:
        progress = self.progress
        if progress.evaluated_at == progress.step:
            return False
        if progress.step >= progress.max_iters or self.config.evaluation.eval_only:
            return True
        # Where the interval is longer than the run, the end alone is of interest.
        return progress.step % progress.eval_interval == 0 and progress.eval_interval <= progress.max_iters

    def checkpoint_is_due(self) -> bool:
        """At a multiple of `checkpoint_interval`; and after an evaluation that was the best, or always if asked."""
        progress, checkpoint = self.progress, self.config.checkpoint
        every = checkpoint.checkpoint_interval
        kept = bool(every) and progress.step % every == 0
        evaluated = progress.evaluated_at == progress.step
        wanted = evaluated and (checkpoint.always_save_checkpoint or progress.best_step == progress.step)
        return progress.step > 0 and (kept or wanted) and self.can_save()

    def sample_is_due(self) -> bool:
        """At a multiple of `sample_interval`, once; a checkpoint that is owed comes first."""
        every, step = self.config.evaluation.sample_interval, self.progress.step
        return bool(every) and step % every == 0 and self.sampled_at != step and not self.writer.owed

    def can_save(self) -> bool:
        """Whether checkpoints are kept here, this step has none yet, and its weights are not known to be bad."""
        progress = self.progress
        is_sound = progress.evaluated_at != progress.step or math.isfinite(progress.val_loss or 0.0)
        return self.writer.save is not None and self.writer.taken_at != progress.step and is_sound

    def evaluate(self) -> Iterator[Event]:
        config, progress = self.config, self.progress
        began = self.elapsed_s()
        self.model.eval()
        try:
            losses = partial(evaluate, self.evaluation_forward or self.forward, config=config, machine=self.machine)
            asked = {"val": config.evaluation.eval_iters, "train": config.evaluation.eval_iters or TRAIN_BATCHES}
            shape = config.model.block_size, config.data.batch_size
            batches = sum(count_evaluation_batches(len(self.tokens[split]), *shape, n) for split, n in asked.items())
            told = EvaluationProgress(progress.step, batches // self.machine.world.size)
            on_val = yield from self.listening(losses(self.tokens["val"], n_batches=asked["val"]), told)
            on_train = yield from self.listening(losses(self.tokens["train"], n_batches=asked["train"]), told)
        finally:
            self.model.train()
        if on_val is None or on_train is None:
            return
        self.throughput.evaluated(self.elapsed_s() - began)
        (val_loss, counted), (train_loss, _) = on_val, on_train
        if self.writer.taken_at == progress.step:  # a command asked for it meanwhile: it lacks these losses
            yield from self.writer.report(wait=True)
            self.writer.taken_at = -1
        best = val_loss if progress.best_val_loss is None else min(progress.best_val_loss, val_loss)
        is_best = best != progress.best_val_loss
        progress.evaluated_at, progress.train_loss, progress.val_loss = progress.step, train_loss, val_loss
        if is_best:
            progress.best_val_loss, progress.best_step = best, progress.step
        yield Evaluated(
            step=progress.step,
            train_loss=train_loss,
            val_loss=val_loss,
            best_val_loss=best,
            is_best=is_best,
            tokens=counted,
            elapsed_s=self.elapsed_s(),
        )

    def listening(
        self, evaluation: Generator[None, None, tuple[float, int]], told: EvaluationProgress
    ) -> Generator[Event, None, tuple[float, int] | None]:
        """Work through an evaluation, applying commands between its batches; return None where it is to stop."""
        alone = self.machine.world.size == 1  # several processes have different numbers of batches
        while self.stopping is None:
            try:
                next(evaluation)
            except StopIteration as done:
                result: tuple[float, int] = done.value
                return result
            yield from told.batch()
            if alone:
                yield from self.apply_commands()
        return None

    def save_checkpoint(self) -> Iterator[Event]:
        """Has this step's state written beside, unless that was done. It is told as saved when it is on disk, and what
        the disk refuses is owed from then on: see `apply_commands`."""
        if self.can_save():
            current = replace(self.progress, elapsed_s=self.elapsed_s())
            state = partial(take, self.model, self.optimizer, self.scaler, current, self.batches.position)
            yield from self.writer.begin(state, is_best=current.best_step == current.step)

    def write_sample(self, prompt: str, seed: int) -> Iterator[Event]:
        if self.sample is None or not self.machine.world.is_main:
            return
        try:
            text = self.sample(self.model, prompt, seed)
        except UserError as error:  # a prompt that the tokenizer cannot read is no reason to end training
            yield Notice(level="error", text=str(error))
        else:
            yield Sampled(step=self.progress.step, prompt=prompt, text=text, seed=seed)

    def apply_commands(self) -> Iterator[Event]:
        """Apply the commands that wait; return when no pause is in force and nothing hinders training, or to stop.

        A checkpoint that is owed, and a record that cannot be written, hinder it: they are tried again meanwhile.
        """
        world = self.machine.world
        while True:
            yield from self.writer.report()
            hindered_by = self.writer.owed or (self.hindrance() if self.hindrance else "")
            waiting, self.hindered_by = distributed.agree((self.commands.take(), hindered_by), world)
            for command in waiting:
                yield from command.apply(self)
            if self.stopping is not None:
                break
            if self.hindered_by != self.reported and (self.hindered_by or not self.paused):
                yield self.hindered(self.hindered_by)
                self.reported = self.hindered_by
            if waiting:  # what they did may hinder it, too
                continue
            if not self.paused and not self.hindered_by:
                break
            self.idle_since = self.idle_since or time.monotonic()
            if world.is_main:
                self.commands.wait(timeout_s=0.2)
        if self.idle_since:
            self.began += time.monotonic() - self.idle_since
            self.idle_since = 0.0

    def pause(self) -> None:
        """Wait in `apply_commands` until `resume`."""
        self.paused = True

    def resume(self) -> None:
        """Continue after `pause`; what hinders training all the same is reported again."""
        self.paused = False
        if self.hindered_by:
            self.reported = ""

    def has_checkpoint(self) -> bool:
        """Return whether the current step has a checkpoint."""
        return self.writer.has(self.progress.step)

    def copied_model(self) -> LanguageModel:
        """Return a copy of the model in evaluation mode, on the same device."""
        return copy.deepcopy(self.model).eval()

    def hindered(self, reason: str) -> Health:
        if reason:
            text = f"training waits: {reason}. It resumes by itself when that is solved; you can also stop it"
            return Health(step=self.progress.step, state="waiting", message=text)
        return Health(step=self.progress.step, state="going on", message="the problem is solved: training resumes")

    def stop(self) -> Iterator[Event]:
        """Ends as it was asked to: with a checkpoint, if the disk takes one at the first attempt."""
        if self.stopping is not None and self.stopping.save and not self.writer.owed:
            yield from self.save_checkpoint()
        if not self.writer.owed:
            yield from self.writer.report(wait=True)
        if self.writer.owed:
            yield Notice(level="error", text=f"{self.writer.owed}; stopped without one, earlier checkpoints are intact")
        yield self.finished("stopped")

    def stepped(self, loss: float, grad_norm: float, rate: float) -> Step:
        progress, speed = self.progress, self.throughput
        left = progress.max_iters - progress.step
        return Step(
            step=progress.step,
            loss=loss,
            learning_rate=rate,
            grad_norm=grad_norm,
            tokens=progress.tokens,
            tokens_per_second=speed.tokens_per_second,
            mfu=speed.mfu,
            data_share=speed.data_share,
            memory_bytes=hardware.memory_bytes(self.machine.device),
            elapsed_s=self.elapsed_s(),
            eta_s=speed.eta_s(left, -(-left // progress.eval_interval)),
        )

    def trouble(self, loss: float, grad_norm: float) -> tuple[str, int] | None:
        """In words what went so wrong that training cannot go on from here, and for how many steps it already did;
        None where nothing did."""
        if not math.isfinite(loss):
            return f"the loss became {loss}", 1  # of the weights that are there: the step that made them is to blame
        if not math.isfinite(grad_norm) and not self.scaler.is_enabled():
            return f"the gradient became {grad_norm}", 1
        return (f"the loss ran away, to {loss:.4g}", self.spike.WORSE_STEPS) if self.spike.add(loss) else None

    def recover(self, trouble: str, lost: int) -> Iterator[Event]:
        """Where the settings say so, and there is a checkpoint from before the `lost` steps, goes back to it."""
        at = self.progress.step
        back = None
        yield from self.writer.report(wait=True)
        distributed.agree(None, self.machine.world)  # the others look for checkpoints when the last one is on disk
        if self.config.checkpoint.on_divergence == "rollback" and self.recall and self.rollbacks < MOST_ROLLBACKS:
            back = self.recall(at - lost)
        if back is None:
            message = (
                f"{trouble} after step {at:,}; earlier checkpoints are intact. "
                "Lower learning_rate, set grad_clip=1, or use dtype=float32"
            )
            yield Health(step=at, state="nan", message=message)
            return
        restore(back, self.model, self.optimizer, self.scaler, "the checkpoint")
        elapsed_s, self.began = self.elapsed_s(), time.monotonic()
        self.progress = replace(
            back.progress,
            max_iters=self.progress.max_iters,
            eval_interval=self.progress.eval_interval,
            learning_rate_scale=self.progress.learning_rate_scale / 2,
            elapsed_s=elapsed_s,
        )
        self.batches.position = back.position
        if self.guard is not None:
            self.guard.zero_()
        self.writer.forget(taken_at=back.progress.step)
        self.spike, self.rollbacks = Spike(self.config.model.vocab_size), self.rollbacks + 1
        message = (
            f"{trouble} after step {at:,}: back at step {back.progress.step:,} with half the learning rate "
            f"({self.rollbacks} of at most {MOST_ROLLBACKS} times)"
        )
        yield Health(step=back.progress.step, state="rollback", message=message)
        yield self.started()

    def started(self) -> Started:
        progress, machine, config = self.progress, self.machine, self.config
        return Started(
            run=self.name,
            step=progress.step,
            max_iters=progress.max_iters,
            n_parameters=self.model.n_parameters(),
            tokens_per_iteration=config.tokens_per_iteration,
            train_tokens=len(self.tokens["train"]),
            val_tokens=len(self.tokens["val"]),
            vocab_size=config.model.vocab_size,
            device=machine.device,
            dtype=machine.dtype,
            compile=machine.compile,
            threads=machine.threads,
            peak_flops=machine.peak_flops,
            choices=machine.choices,
        )

    def finished(self, reason: Any) -> Finished:
        progress = self.progress
        return Finished(
            step=progress.step,
            reason=reason,
            train_loss=progress.train_loss,
            val_loss=progress.val_loss,
            best_val_loss=progress.best_val_loss,
            elapsed_s=self.elapsed_s(),
        )

    def elapsed_s(self) -> float:
        return self.progress.elapsed_s + (self.idle_since or time.monotonic()) - self.began
