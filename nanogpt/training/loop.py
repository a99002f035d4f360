"""The training loop: an iterator of events.

`train_run.py` builds its parts. Closing the iterator ends training without a checkpoint; to end it with one, put a
`Stop` into the queue of commands.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch

from nanogpt import hardware
from nanogpt.config import Config
from nanogpt.data.batches import TRAIN_BATCHES, count_evaluation_batches
from nanogpt.data.token_files import Tokens
from nanogpt.errors import UserError
from nanogpt.events import Evaluated, Event, Finished, Health, Notice, Sampled, Started
from nanogpt.loss_units import TextSize, better_loss
from nanogpt.models.base import Forward, LanguageModel
from nanogpt.models.lora import merged_copy
from nanogpt.training import distributed
from nanogpt.training.async_checkpoint import CheckpointWriter
from nanogpt.training.control import Command, CommandQueue, Stop
from nanogpt.training.due import checkpoint_is_due, evaluation_is_due, reason_to_finish, sample_is_due
from nanogpt.training.early_stopping import count_evaluation, early_stopping_event, is_lower
from nanogpt.training.evaluation import EvaluationProgress, evaluate
from nanogpt.training.optimizer_step import OptimizerStep
from nanogpt.training.process_monitor import ProcessMonitor
from nanogpt.training.runtime import Runtime
from nanogpt.training.sharding import drop_collected, whole_model
from nanogpt.training.shared_commands import share_commands
from nanogpt.training.snapshot import Progress, Snapshot, set_random_states

WriteSample = Callable[[LanguageModel, str, int], str]
FindCheckpoint = Callable[[int], Snapshot | None]
FinishReason = Literal["max_iters", "patience", "stopped", "nan", "eval_only"]

MAX_ROLLBACKS = 3
MAX_PENDING_STEPS = 50  # after which a loss that is not finite is noticed


@dataclass(kw_only=True)
class Trainer:
    """The state and the parts of a running training. `train` builds it; `run` is the loop."""

    config: Config
    tokens: Mapping[str, Tokens]
    commands: CommandQueue
    writer: CheckpointWriter
    sample: WriteSample | None
    runtime: Runtime
    model: LanguageModel
    step: OptimizerStep
    evaluation_forward: Forward
    progress: Progress
    monitor: ProcessMonitor
    run_name: str = ""
    wait_reason: Callable[[], str] | None = None
    find_checkpoint: FindCheckpoint | None = None
    val_text: TextSize | None = None  # of the validation split
    idle_since: float = 0.0  # monotonic, as `started_at`
    sampled_at: int = -1
    changed_at: int = -1  # the step at which a command changed a setting, if no checkpoint has it yet
    rollbacks: int = 0
    deferred: list[Command] = field(default_factory=list)  # to be applied when no metrics are pending
    stopping: Stop | None = None
    paused: bool = False
    waiting_for: str = ""
    reported: str = ""  # the reason to wait that was reported last
    started_at: float = field(default_factory=time.monotonic)

    def run(self) -> Generator[Event, None, None]:
        """Train until the end; yield the events, the last of which is Finished.

        If another process of this training has ended, save a checkpoint before the error is raised.
        """
        try:
            yield from self.steps()
        except distributed.ProcessGroupError:
            self.monitor.close()
            yield from self.save_after_failure()
            raise

    def steps(self) -> Iterator[Event]:
        """Train until the end; yield the events."""
        progress, schedule = self.progress, self.config.evaluation
        while True:
            if evaluation_is_due(progress, self.config):
                yield from self.evaluate()
                if self.stopping is not None:
                    yield from self.stop()
                    return
                if schedule.eval_only:
                    yield self.finished_event("eval_only")
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
            if reason := reason_to_finish(progress, self.config):
                if evaluation_is_due(progress, self.config):  # a command lowered max_iters to this step
                    continue
                yield from self.save_checkpoint()
                if self.writer.is_writing:
                    yield from self.writer.report(wait=True)
                    self.deferred += self.commands.take(is_last=True)  # what came meanwhile
                is_unfinished = bool(self.writer.save_error or self.deferred)
                (has_more,) = distributed.broadcast_numbers((is_unfinished,), self.runtime.world)
                if has_more:  # `apply_commands` retries to save, and applies the commands
                    continue
                if reason == "patience":
                    yield early_stopping_event(progress)
                yield self.finished_event(reason)
                return
            if self.checkpoint_is_due():  # the previous one could not be written until now
                yield from self.save_checkpoint()
            with self.monitor.limited("a step"), self.step.throughput.step():
                self.step.pending_metrics.append(self.step.run())
                if is_synced := self.should_sync_metrics():
                    metrics, problem = self.step.sync_metrics()
                else:
                    self.step.throughput.mark_unsynchronized()
            yield from self.step.observations
            self.step.observations.clear()
            if is_synced and problem:
                if not (yield from self.recover(*problem)):
                    yield from self.writer.report(wait=True)
                    yield self.finished_event("nan")
                    return
                continue
            if is_synced and progress.step % schedule.log_interval == 0:
                yield self.step.step_event(*metrics, self.elapsed_s())
            for observer in self.step.due_observers(progress.step):
                yield from observer.after_update(self.model, progress.step)

    def should_sync_metrics(self) -> bool:
        """Return whether to wait for the metrics of this step: to report them, or before the weights are used."""
        return (
            self.step.skip_flag is None
            or self.progress.step % self.config.evaluation.log_interval == 0
            or len(self.step.pending_metrics) >= MAX_PENDING_STEPS
            or bool(self.deferred)
            or evaluation_is_due(self.progress, self.config)
            or self.checkpoint_is_due()
            or self.sample_is_due()
        )

    def checkpoint_is_due(self) -> bool:
        """Return whether to save now."""
        return checkpoint_is_due(self.progress, self.config) and self.can_save()

    def sample_is_due(self) -> bool:
        """Return whether to write a sample now: once at a step, and not after a failed checkpoint."""
        is_new = self.sampled_at != self.progress.step and sample_is_due(self.progress, self.config)
        return is_new and self.agreed(not self.writer.save_error)

    def can_save(self, *, again: bool = False) -> bool:
        """Return whether this process saves checkpoints, and this step has none and no known bad weights.

        again: also if a command has changed a setting since the checkpoint of this step.

        If the state is divided, all processes ask at the same time and get the main one's answer.
        """
        progress = self.progress
        is_finite = progress.evaluated_at != progress.step or math.isfinite(progress.val_loss or 0.0)
        is_new = self.writer.snapshot_step != progress.step or (again and self.changed_at == progress.step)
        return self.agreed(self.writer.save is not None and is_new and is_finite)

    def agreed(self, answer: bool) -> bool:
        """Return the main process's answer if what follows needs all processes, else `answer`."""
        if self.runtime.sharded:
            (answer,) = map(bool, distributed.broadcast_numbers((answer,), self.runtime.world))
        return answer

    def evaluate(self) -> Iterator[Event]:
        """Measure the losses of both splits, and yield Evaluated; nothing if a command stops training meanwhile.

        The averaged weights, if any, are measured on the validation split. The lower one of the two validation losses
        counts for the best checkpoint and for patience.
        """
        config, progress, forward = self.config, self.progress, self.evaluation_forward
        began = self.elapsed_s()
        eval_iters = config.evaluation.eval_iters
        passes = [("val", eval_iters, forward), ("train", eval_iters or TRAIN_BATCHES, forward)]
        if self.step.average is not None:
            passes.append(("val", eval_iters, self.step.average.forward(forward)))
        shape = config.model.block_size, config.data.batch_size
        batches = [count_evaluation_batches(len(self.tokens[split]), *shape, n) for split, n, _ in passes]
        reporter = EvaluationProgress(progress.step, sum(-(-n // self.runtime.world.size) for n in batches))
        results: list[tuple[float, int]] = []
        self.model.eval()
        try:
            for split, n, measured in passes:
                evaluation = evaluate(measured, self.tokens[split], config, n, self.runtime)
                result = yield from self.with_commands(evaluation, reporter)
                if result is None:
                    return
                results.append(result)
        finally:
            self.model.train()
            if self.runtime.sharded:
                drop_collected(self.model)
        self.step.throughput.record_evaluation(self.elapsed_s() - began)
        (val_loss, n_tokens), (train_loss, _), *of_average = results
        progress.ema_val_loss = of_average[0][0] if of_average else None
        if self.writer.snapshot_step == progress.step:  # saved by a command meanwhile, without these losses
            yield from self.writer.report(wait=True)
            self.writer.snapshot_step = -1
        # without a finite loss of the raw weights there will be no checkpoint
        better = better_loss(val_loss, progress.ema_val_loss) if math.isfinite(val_loss) else val_loss
        count_evaluation(progress, better, config.evaluation.min_delta)
        is_best = is_lower(better, progress.best_val_loss)
        progress.evaluated_at, progress.train_loss, progress.val_loss = progress.step, train_loss, val_loss
        if is_best:
            progress.best_val_loss, progress.best_step = better, progress.step
        yield Evaluated(
            step=progress.step,
            train_loss=train_loss,
            val_loss=val_loss,
            best_val_loss=better if progress.best_val_loss is None else progress.best_val_loss,
            is_best=is_best,
            tokens=n_tokens,
            elapsed_s=self.elapsed_s(),
            ema_val_loss=progress.ema_val_loss,
            n_parameters=self.model.n_parameters(),
        )

    def with_commands(
        self, evaluation: Generator[None, None, tuple[float, int]], reporter: EvaluationProgress
    ) -> Generator[Event, None, tuple[float, int] | None]:
        """Run an evaluation and apply commands between its batches. Return its result; None if a command stops it."""
        while self.stopping is None:
            try:
                with self.monitor.limited("an evaluation"):
                    next(evaluation)
            except StopIteration as done:
                result: tuple[float, int] = done.value
                return result
            yield from reporter.advance()
            yield from self.apply_commands()
        return None

    def save_checkpoint(self) -> Iterator[Event]:
        """Take a snapshot of this step, unless there is one, and write it in the background.

        Saved is yielded later, when it is on disk; a failed write is retried in `apply_commands`.
        """
        if self.can_save(again=True):
            current = self.step.current_progress(self.elapsed_s())
            state = partial(self.step.take_snapshot, current)
            if self.runtime.sharded:  # all take part, whatever the main process does with it
                snapshot = state(only_gather=not self.runtime.world.is_main)
                state = partial(replace, snapshot)
            if self.runtime.world.is_main:
                yield from self.writer.start(state, is_best=current.best_step == current.step)
                if not self.writer.save_error:  # otherwise no snapshot was taken
                    self.changed_at = -1

    def save_after_failure(self) -> Iterator[Event]:
        """Save what the main process has when the others cannot be reached: the state before the step being done."""
        if self.runtime.sharded:  # the others have parts of the state
            return
        if self.step.random_states:
            set_random_states(self.step.random_states)
        yield from self.save_checkpoint()
        yield from self.writer.report(wait=True)

    def write_sample(self, prompt: str, seed: int) -> Iterator[Event]:
        """Write a sample with the current weights; yield Sampled, or a Notice if that is not possible."""
        model: LanguageModel | None = self.model
        if self.runtime.sharded:
            model = whole_model(self.model, self.runtime.world)
        if self.sample is None or model is None or not self.runtime.world.is_main:
            return
        try:
            text = self.sample(merged_copy(model) if model.adapters else model, prompt, seed)
        except UserError as error:  # a prompt that the tokenizer cannot encode does not end training
            yield Notice(level="error", text=str(error))
        except Exception as error:
            if not hardware.is_out_of_memory(error):
                raise
            yield Notice(level="error", text="out of memory: no sample is written, training continues")
        else:
            yield Sampled(step=self.progress.step, prompt=prompt, text=text, seed=seed)

    def apply_commands(self) -> Iterator[Event]:
        """Apply the waiting commands. Return if training can continue, or has to stop.

        It waits while paused, or while a checkpoint or the record of the run cannot be written, which is retried. While
        metrics are pending, the weights may be those of a step before: commands are deferred until after the next step.
        """
        world = self.runtime.world
        while True:
            yield from self.writer.report()
            waiting_for = self.writer.save_error or (self.wait_reason() if self.wait_reason else "")
            commands = [*self.deferred, *self.commands.take()]
            self.deferred = commands if self.step.pending_metrics else []
            if self.deferred:
                break
            waiting, has_commands, waits = share_commands(commands, bool(waiting_for), world)
            self.waiting_for = waiting_for if world.is_main or not waits else "the main process waits"
            for command in waiting:
                yield from command.apply(self)
                if command.is_change:
                    self.changed_at = self.progress.step
            if self.stopping is not None:
                break
            if self.waiting_for != self.reported and (self.waiting_for or not self.paused):
                yield waiting_event(self.progress.step, self.waiting_for)
                self.reported = self.waiting_for
            if has_commands:  # their effects may give a reason to wait, too
                continue
            if not self.paused and not self.waiting_for:
                break
            self.idle_since = self.idle_since or time.monotonic()
            if world.is_main:
                self.commands.wait(timeout_s=0.2)
        if self.idle_since:
            self.started_at += time.monotonic() - self.idle_since
            self.idle_since = 0.0

    def pause(self) -> None:
        """Wait in `apply_commands` until `resume`."""
        self.paused = True

    def resume(self) -> None:
        """Continue after `pause`; a remaining reason to wait is reported again."""
        self.paused = False
        if self.waiting_for:
            self.reported = ""

    def has_checkpoint(self) -> bool:
        """Return whether the current step has a checkpoint."""
        return self.writer.has_saved(self.progress.step) and self.changed_at != self.progress.step

    def why_unsaved(self) -> str:
        """Return why this step has no checkpoint and none is being written; empty if it has one."""
        step = self.progress.step
        if self.writer.snapshot_step == step and self.changed_at != step:
            return ""
        if self.writer.save is None:
            return "this training saves no checkpoints"
        return self.writer.save_error or "the validation loss is not a finite number"

    def copied_model(self) -> LanguageModel | None:
        """Return a copy of the model in evaluation mode; None if memory ran out.

        It is on the same device, but in place of Apple's GPU on the CPU: see `device_beside_training`.
        """
        try:
            copy = merged_copy(self.model)
            return copy.to("cpu") if self.runtime.device == "mps" else copy
        except Exception as error:
            if not hardware.is_out_of_memory(error):
                raise
            return None

    def stop(self) -> Iterator[Event]:
        """End training as the command asks, with a checkpoint if it can be written at the first attempt."""
        if self.stopping is not None and self.stopping.save and self.agreed(not self.writer.save_error):
            yield from self.save_checkpoint()
        if not self.writer.save_error:
            yield from self.writer.report(wait=True)
        if self.writer.save_error:
            yield Notice(
                level="error", text=f"{self.writer.save_error}; stopped without one, earlier checkpoints are intact"
            )
        yield self.finished_event("stopped")

    def recover(self, problem: str, lost: int) -> Generator[Event, None, bool]:
        """Go back to the latest checkpoint before the `lost` steps if on_divergence=rollback; else report `problem`.

        Return whether training continues.
        """
        at = self.progress.step
        back = None
        yield from self.writer.report(wait=True)
        distributed.broadcast_numbers((0,), self.runtime.world)  # wait until the last checkpoint is on disk
        if (
            self.config.checkpoint.on_divergence == "rollback"
            and self.find_checkpoint
            and self.rollbacks < MAX_ROLLBACKS
        ):
            back = self.find_checkpoint(at - lost)
        if back is None:
            message = (
                f"{problem} after step {at:,}; earlier checkpoints are intact. "
                "Lower learning_rate, set grad_clip=1, or use dtype=float32"
            )
            yield Health(step=at, state="nan", message=message)
            return False
        elapsed_s, self.started_at = self.elapsed_s(), time.monotonic()
        self.step.go_back(back, elapsed_s)
        self.writer.reset(snapshot_step=back.progress.step)
        distributed.all_reduce_sum(torch.zeros(1), self.runtime.world)  # wait until all have read the checkpoint
        self.changed_at = back.progress.step
        yield from self.save_checkpoint()  # in its place, so that a resume has the lower learning rate too
        if not evaluation_is_due(self.progress, self.config):
            self.sampled_at = self.progress.step  # it was taken before
        self.rollbacks += 1
        message = (
            f"{problem} after step {at:,}: back at step {back.progress.step:,} with half the learning rate "
            f"({self.rollbacks} of at most {MAX_ROLLBACKS} times)"
        )
        yield Health(step=back.progress.step, state="rollback", message=message)
        yield self.started_event()
        return True

    def started_event(self) -> Started:
        """Return the event of the start, or of a restart after a rollback."""
        progress, runtime, config = self.progress, self.runtime, self.config
        return Started(
            run=self.run_name,
            step=progress.step,
            max_iters=progress.max_iters,
            n_parameters=self.model.n_parameters(),
            tokens_per_iteration=config.tokens_per_iteration,
            train_tokens=len(self.tokens["train"]),
            val_tokens=len(self.tokens["val"]),
            vocab_size=config.model.vocab_size,
            device=runtime.device,
            dtype=runtime.dtype,
            compile=runtime.compile,
            threads=runtime.threads,
            peak_flops=runtime.peak_flops,
            choices=runtime.choices,
            val_characters=self.val_text.characters if self.val_text else 0,
            val_bytes=self.val_text.bytes if self.val_text else 0,
            flops_per_token=self.step.throughput.flops_per_token,
            processes=runtime.world.size,
            eval_interval=progress.eval_interval,
        )

    def finished_event(self, reason: FinishReason) -> Finished:
        """Return the last event."""
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
        """Return the seconds of training over all resumes, without pauses."""
        return self.progress.elapsed_s + (self.idle_since or time.monotonic()) - self.started_at


def waiting_event(step: int, reason: str) -> Health:
    """Return the event that training waits for `reason`, or with no reason that it continues."""
    if reason:
        text = f"training waits: {reason}. It resumes by itself when that is solved; you can also stop it"
        return Health(step=step, state="waiting", message=text)
    return Health(step=step, state="going on", message="the problem is solved: training resumes")
