"""The training loop: an iterator of events.

`train_run.py` builds its parts. Closing the iterator ends training without a checkpoint; to end it with one, put a
`Stop` into the queue of commands.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any, Literal

import torch

from nanogpt import hardware
from nanogpt.config import Config
from nanogpt.data.batches import Batches, check_ids, count_evaluation_batches
from nanogpt.data.token_files import Tokens
from nanogpt.errors import UserError
from nanogpt.events import Evaluated, Event, Finished, Health, Notice, Sampled, Started, Step
from nanogpt.formatting import counted
from nanogpt.inspection import Observer
from nanogpt.inspection.spikes import SpikeDetector
from nanogpt.loss_units import TextSize
from nanogpt.models.base import Forward, LanguageModel, compute_loss
from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.models.lora import merged_copy
from nanogpt.training import distributed
from nanogpt.training.async_checkpoint import CheckpointWriter
from nanogpt.training.clipping import clip_gradients
from nanogpt.training.control import CommandQueue, Stop
from nanogpt.training.data_parallel import GradientAverage
from nanogpt.training.divergence import DivergenceDetector
from nanogpt.training.early_stopping import count_evaluation, is_over
from nanogpt.training.evaluation import EvaluationProgress, evaluate
from nanogpt.training.max_norm import limit_row_norms
from nanogpt.training.process_monitor import ProcessMonitor
from nanogpt.training.runtime import Runtime
from nanogpt.training.sharding import drop_collected, whole_model
from nanogpt.training.shared_commands import share_commands
from nanogpt.training.snapshot import (
    Progress,
    Snapshot,
    random_states,
    restore,
    set_random_states,
    take_snapshot,
)
from nanogpt.training.throughput import Throughput
from nanogpt.training.weight_average import WeightAverage

WriteSample = Callable[[LanguageModel, str, int], str]
FindCheckpoint = Callable[[int], Snapshot | None]

FinishReason = Literal["max_iters", "patience", "stopped", "nan", "eval_only"]
StepMetrics = tuple[float, float, float]  # of a step: loss, gradient norm before clipping, learning rate
PendingMetrics = tuple[float | torch.Tensor, float | torch.Tensor, float]  # the same, of which two may be on the device

MAX_ROLLBACKS = 3
MAX_PENDING_STEPS = 50  # after which a loss that is not finite is noticed
TRAIN_BATCHES = 20  # of the training split, if eval_iters=0 asks for the whole validation split


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
    gradients: GradientAverage
    evaluation_forward: Forward
    optimizer: torch.optim.Optimizer
    scaler: "torch.amp.GradScaler"
    batches: Batches
    micro_batches: Sequence[range]  # of the sequences of a step, those of this process
    throughput: Throughput
    progress: Progress
    divergence: DivergenceDetector
    monitor: ProcessMonitor
    run_name: str = ""
    wait_reason: Callable[[], str] | None = None
    find_checkpoint: FindCheckpoint | None = None
    flat: FlatParameters | None = None
    constrained: Sequence[torch.nn.Parameter] = ()  # weights under the setting max_norm
    average: WeightAverage | None = None
    observers: Sequence[Observer] = ()
    val_text: TextSize | None = None  # of the validation split
    observations: list[Event] = field(default_factory=list)  # events of the observers about the gradients of this step
    random_states: list[torch.Tensor] = field(default_factory=list)  # at the beginning of the step that is being done
    spikes: SpikeDetector | None = None  # of every step, with on_spike=skip
    skip_flag: torch.Tensor | None = None  # see `SkippableOptimizer.skip_flag`; None: every step waits for the device
    pending_metrics: list[PendingMetrics] = field(default_factory=list)  # of the steps since `sync_metrics`
    idle_since: float = 0.0  # monotonic, as `started_at`
    sampled_at: int = -1
    rollbacks: int = 0
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
            if self.evaluation_is_due():
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
            if reason := self.reason_to_finish():
                if self.evaluation_is_due():  # a command lowered max_iters to this step
                    continue
                yield from self.save_checkpoint()
                yield from self.writer.report(wait=True)
                (has_error,) = distributed.broadcast_numbers((bool(self.writer.save_error),), self.runtime.world)
                if has_error:  # `apply_commands` retries it
                    continue
                if reason == "patience":
                    yield self.early_stopping_event()
                yield self.finished_event(reason)
                return
            if self.checkpoint_is_due():  # the previous one could not be written until now
                yield from self.save_checkpoint()
            with self.monitor.limited("a step"), self.throughput.step():
                self.pending_metrics.append(self.step())
                if is_synced := self.should_sync_metrics():
                    metrics, problem = self.sync_metrics()
                else:
                    self.throughput.mark_unsynchronized()
            yield from self.observations
            self.observations.clear()
            if is_synced and problem:
                yield from self.recover(*problem)
                if self.progress is progress:  # no rollback
                    yield from self.writer.report(wait=True)
                    yield self.finished_event("nan")
                    return
                progress = self.progress
                continue
            if is_synced and progress.step % schedule.log_interval == 0:
                yield self.step_event(*metrics)
            for observer in self.due_observers(progress.step):
                yield from observer.after_update(self.model, progress.step)

    def step(self) -> PendingMetrics:
        """Do one optimizer step. Return the loss, the gradient norm before clipping, and the learning rate.

        The first two are tensors (scalar) if the step does not wait for the device. If one of them is not finite, the
        weights stay unchanged.
        """
        config, progress = self.config, self.progress
        highest = config.optimizer.learning_rate
        rate = config.schedule.learning_rate(progress.step, highest, progress.max_iters) * progress.learning_rate_scale
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["learning_rate_scale"]
        accumulated, batch_size = config.data.gradient_accumulation_steps, config.data.batch_size
        losses = torch.zeros((), device=self.runtime.device)
        observers = self.due_observers(progress.step + 1)
        if self.runtime.world.size > 1:
            self.random_states = random_states()
        overlaps = not self.noise_is_due()
        for number, rows in enumerate(self.micro_batches):
            share = len(rows) / batch_size  # several processes may have smaller micro-batches
            divisor = accumulated / (share * self.runtime.world.size)
            with self.throughput.part("data"):
                window = torch.from_numpy(check_ids(self.batches.windows(rows), config.model.vocab_size))  # (B, T + 1)
                if self.runtime.device.startswith("cuda"):
                    window = window.pin_memory().to(self.runtime.device, non_blocking=True)
                else:
                    window = window.to(self.runtime.device)
            for observer in observers:
                observer.before_micro_batch(self.model, progress.step + 1, number, window)
            with self.gradients.micro_batch(is_last=overlaps and number == len(self.micro_batches) - 1):
                with self.throughput.part("forward"), self.runtime.autocast():
                    loss = compute_loss(self.gradients.forward, window[:, :-1], window[:, 1:])
                with self.throughput.part("backward"):
                    losses.add_(loss.detach(), alpha=share)
                    self.scaler.scale(loss / divisor).backward()  # type: ignore[no-untyped-call]
            for observer in observers:
                observer.after_micro_batch(self.model, progress.step + 1, number, self.scaler.get_scale() / divisor)
        with self.throughput.part("optimizer"):
            loss = losses / accumulated
            updated = self.update(loss) if self.skip_flag is None else self.update_on_device(loss, self.skip_flag)
        self.batches.position += batch_size * accumulated
        self.random_states = []
        return *updated, rate

    def update(self, loss: torch.Tensor) -> tuple[float, float]:
        """Update the weights with the current gradients, and drop these.

        Return the mean loss of the processes and the gradient norm before clipping. If one of them is not finite,
        nothing is updated. With on_spike=skip, a step with a spike is counted, but leaves the weights as they are.
        """
        config = self.config
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.gradients.complete(parameters)
        mean_loss = float(distributed.all_reduce_sum(loss, self.runtime.world))
        grad_norm = math.nan
        if math.isfinite(mean_loss):
            self.scaler.unscale_(self.optimizer)
            self.observe_gradients()
            grad_norm = float(clip_gradients(parameters, config.optimizer.grad_clip or math.inf, self.flat))
        if math.isfinite(grad_norm) or (math.isfinite(mean_loss) and self.scaler.is_enabled()):
            if self.spikes is not None and self.spikes.add(mean_loss, grad_norm):
                self.observations.append(self.skipped_event(mean_loss, grad_norm, self.spikes))
            else:
                self.scaler.step(self.optimizer)  # skips the step and lowers the scale if float16 overflowed
            self.scaler.update()
            self.complete_step()
        self.optimizer.zero_grad(set_to_none=True)
        return mean_loss, grad_norm

    def update_on_device(self, loss: torch.Tensor, skip_flag: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do the same as `update` for one process, without waiting for the device.

        After a loss or gradient norm that is not finite, nothing is updated until `sync_metrics` sees it.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.observe_gradients()
        grad_norm = clip_gradients(parameters, self.config.optimizer.grad_clip or math.inf, self.flat)
        is_finite = torch.isfinite(loss) & torch.isfinite(grad_norm)
        skip_flag.copy_(torch.maximum(skip_flag, (~is_finite).float()))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.complete_step()
        return loss, grad_norm

    def complete_step(self) -> None:
        """Count the step that the optimizer has done, limit the norms of its weights, and average them in."""
        self.progress.step += 1
        self.progress.tokens += self.config.tokens_per_iteration
        if self.constrained:
            limit_row_norms(self.constrained, self.config.optimizer.max_norm)
        if self.average is not None:
            self.average.update(self.progress.step)

    def should_sync_metrics(self) -> bool:
        """Return whether to wait for the metrics of this step: to report them, or before the weights are used."""
        return (
            self.skip_flag is None
            or self.progress.step % self.config.evaluation.log_interval == 0
            or len(self.pending_metrics) >= MAX_PENDING_STEPS
            or self.evaluation_is_due()
            or self.checkpoint_is_due()
            or self.sample_is_due()
        )

    def sync_metrics(self) -> tuple[StepMetrics, tuple[str, int] | None]:
        """Fetch the pending metrics from the device. Return those of the first bad step, and its diagnosis.

        If no step is bad, return the metrics of the last one, and None. If the optimizer skipped steps, set the
        progress back to the last step that it did not skip.
        """
        pending, self.pending_metrics = self.pending_metrics, []
        values = [value for loss, norm, _ in pending for value in (loss, norm)]
        if self.skip_flag is None:
            numbers = [float(value) for value in values]
        else:
            numbers = torch.stack([torch.as_tensor(value) for value in values]).tolist()  # one transfer for all
        rates, later = [rate for _, _, rate in pending], len(pending)
        for metrics in zip(numbers[::2], numbers[1::2], rates, strict=True):
            later -= 1
            loss, norm, _ = metrics
            if problem := self.diagnose(loss, norm):
                break
        self.progress.train_loss = loss
        if problem and self.skip_flag is not None:
            text, lost = problem
            if math.isfinite(loss) and math.isfinite(norm):
                return metrics, (text, lost + later)
            self.progress.step -= later + 1
            self.progress.tokens -= (later + 1) * self.config.tokens_per_iteration
        return metrics, problem

    def observe_gradients(self) -> None:
        """Show the model with its gradients to the observers that are due after this step."""
        step = self.progress.step + 1
        for observer in self.due_observers(step):
            self.observations += observer.before_update(self.model, step)

    def noise_is_due(self) -> bool:
        """Return whether the main process compares the gradients of its own micro-batches in this step."""
        every = self.config.evaluation.noise_interval
        return bool(every) and (self.progress.step + 1) % every == 0

    def due_observers(self, step: int) -> list[Observer]:
        """Return the observers that see the model at this step."""
        return [observer for observer in self.observers if observer.is_due(step)]

    def reason_to_finish(self) -> Literal["max_iters", "patience"] | None:
        """Return why training is complete at this step; None if it is not."""
        if self.progress.step >= self.progress.max_iters:
            return "max_iters"
        return "patience" if is_over(self.progress, self.config.evaluation.patience) else None

    def evaluation_is_due(self) -> bool:
        """Return whether to evaluate now: at a multiple of `eval_interval` and at the end, once."""
        progress = self.progress
        if progress.evaluated_at == progress.step:
            return False
        if progress.step >= progress.max_iters or self.config.evaluation.eval_only:
            return True
        # With an interval longer than the run, evaluate only at its end.
        return progress.step % progress.eval_interval == 0 and progress.eval_interval <= progress.max_iters

    def checkpoint_is_due(self) -> bool:
        """Return whether to save now: at a multiple of `checkpoint_interval`, and after the best evaluation.

        With `always_save_checkpoint`, after every evaluation.
        """
        progress, checkpoint = self.progress, self.config.checkpoint
        every = checkpoint.checkpoint_interval
        on_interval = bool(every) and progress.step % every == 0
        evaluated = progress.evaluated_at == progress.step
        after_evaluation = evaluated and (checkpoint.always_save_checkpoint or progress.best_step == progress.step)
        return progress.step > 0 and (on_interval or after_evaluation) and self.can_save()

    def sample_is_due(self) -> bool:
        """Return whether to write a sample now: at a multiple of `sample_interval`, once, after a failed checkpoint."""
        every, step = self.config.evaluation.sample_interval, self.progress.step
        return bool(every) and step % every == 0 and self.sampled_at != step and not self.writer.save_error

    def can_save(self) -> bool:
        """Return whether this process saves checkpoints, and this step has none and no known bad weights.

        If the state is divided, all processes ask at the same time and get the main one's answer.
        """
        progress = self.progress
        is_finite = progress.evaluated_at != progress.step or math.isfinite(progress.val_loss or 0.0)
        return self.agreed(self.writer.save is not None and self.writer.snapshot_step != progress.step and is_finite)

    def agreed(self, answer: bool) -> bool:
        """Return the main process's answer if what follows needs all processes, else `answer`."""
        if self.runtime.sharded:
            (answer,) = map(bool, distributed.broadcast_numbers((answer,), self.runtime.world))
        return answer

    def evaluate(self) -> Iterator[Event]:
        """Measure the losses of both splits, and yield Evaluated; nothing if a command stops training meanwhile.

        The averaged weights, if any, are measured on the validation split.
        """
        config, progress, forward = self.config, self.progress, self.evaluation_forward
        began = self.elapsed_s()
        eval_iters = config.evaluation.eval_iters
        passes = [("val", eval_iters, forward), ("train", eval_iters or TRAIN_BATCHES, forward)]
        if self.average is not None:
            passes.append(("val", eval_iters, self.average.forward(forward)))
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
        self.throughput.record_evaluation(self.elapsed_s() - began)
        (val_loss, n_tokens), (train_loss, _), *of_average = results
        progress.ema_val_loss = of_average[0][0] if of_average else None
        if self.writer.snapshot_step == progress.step:  # saved by a command meanwhile, without these losses
            yield from self.writer.report(wait=True)
            self.writer.snapshot_step = -1
        count_evaluation(progress, val_loss, config.evaluation.min_delta)
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
        if self.can_save():
            current = replace(self.progress, elapsed_s=self.elapsed_s(), **self.spike_state())
            average = {} if self.average is None else self.average.state_dict()
            state = partial(
                take_snapshot, self.model, self.optimizer, self.scaler, current, self.batches.position, average
            )
            if self.runtime.sharded:  # all take part, whatever the main process does with it
                snapshot = state(only_gather=not self.runtime.world.is_main)
                state = partial(replace, snapshot)
            if self.runtime.world.is_main:
                yield from self.writer.start(state, is_best=current.best_step == current.step)

    def save_after_failure(self) -> Iterator[Event]:
        """Save what the main process has when the others cannot be reached: the state before the step being done."""
        if self.runtime.sharded:  # the others have parts of the state
            return
        if self.random_states:
            set_random_states(self.random_states)
        yield from self.save_checkpoint()
        yield from self.writer.report(wait=True)

    def spike_state(self) -> dict[str, Any]:
        """Return the fields of `Progress` with the state of the spike detector."""
        if self.spikes is None:
            return {}
        return {
            "usual_losses": tuple(self.spikes.losses),
            "usual_grad_norms": tuple(self.spikes.grad_norms),
            "steps_since_spike": self.spikes.since,
        }

    def write_sample(self, prompt: str, seed: int) -> Iterator[Event]:
        """Write a sample with the current weights; yield Sampled, or a Notice if the prompt cannot be encoded."""
        model: LanguageModel | None = self.model
        if self.runtime.sharded:
            model = whole_model(self.model, self.runtime.world)
        if self.sample is None or model is None or not self.runtime.world.is_main:
            return
        try:
            text = self.sample(merged_copy(model) if model.adapters else model, prompt, seed)
        except UserError as error:  # a prompt that the tokenizer cannot encode does not end training
            yield Notice(level="error", text=str(error))
        else:
            yield Sampled(step=self.progress.step, prompt=prompt, text=text, seed=seed)

    def apply_commands(self) -> Iterator[Event]:
        """Apply the waiting commands. Return if training can continue, or has to stop.

        It waits while paused, or while a checkpoint or the record of the run cannot be written, which is retried.
        """
        world = self.runtime.world
        while True:
            yield from self.writer.report()
            waiting_for = self.writer.save_error or (self.wait_reason() if self.wait_reason else "")
            waiting, has_commands, waits = share_commands(self.commands.take(), bool(waiting_for), world)
            self.waiting_for = waiting_for if world.is_main or not waits else "the main process waits"
            for command in waiting:
                yield from command.apply(self)
            if self.stopping is not None:
                break
            if self.waiting_for != self.reported and (self.waiting_for or not self.paused):
                yield self.waiting_event(self.waiting_for)
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
        return self.writer.has_saved(self.progress.step)

    def copied_model(self) -> LanguageModel:
        """Return a copy of the model in evaluation mode, on the same device."""
        return merged_copy(self.model)

    def waiting_event(self, reason: str) -> Health:
        """Return the event that training waits for `reason`, or with no reason that it continues."""
        if reason:
            text = f"training waits: {reason}. It resumes by itself when that is solved; you can also stop it"
            return Health(step=self.progress.step, state="waiting", message=text)
        return Health(step=self.progress.step, state="going on", message="the problem is solved: training resumes")

    def early_stopping_event(self) -> Health:
        """Return the event that training ends because the validation loss has not improved."""
        progress = self.progress
        evaluations = counted(progress.evaluations_without_improvement, "evaluation")
        message = (
            f"ended early: no better validation loss in {evaluations}; the best is {progress.best_val_loss:.4f} at "
            f"step {progress.best_step:,}. To continue, resume with a higher patience"
        )
        return Health(step=progress.step, state="patience", message=message)

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

    def step_event(self, loss: float, grad_norm: float, rate: float) -> Step:
        """Return the event of the last step."""
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
            memory_bytes=hardware.memory_bytes(self.runtime.device),
            elapsed_s=self.elapsed_s(),
            eta_s=speed.eta_s(left, -(-left // progress.eval_interval)),
        )

    def skipped_event(self, loss: float, grad_norm: float, usual: SpikeDetector) -> Notice:
        """Return the event that the batch of this step changes nothing."""
        return Notice(
            level="warning",
            text=f"step {self.progress.step + 1:,}: the batch is skipped and the weights stay as they are, because its "
            f"loss of {loss:.3g} or its gradient norm of {grad_norm:.3g} is far above the usual "
            f"{median(usual.losses):.3g} and {median(usual.grad_norms):.3g}",
        )

    def diagnose(self, loss: float, grad_norm: float) -> tuple[str, int] | None:
        """Return why training cannot continue after a step, and the number of steps that are lost; None if it can."""
        if not math.isfinite(loss):
            return f"the loss became {loss}", 1  # the step before produced these weights
        if not math.isfinite(grad_norm) and not self.scaler.is_enabled():
            return f"the gradient became {grad_norm}", 1
        return (f"the loss diverged to {loss:.4g}", self.divergence.WINDOW) if self.divergence.add(loss) else None

    def recover(self, problem: str, lost: int) -> Iterator[Event]:
        """Go back to the latest checkpoint before the `lost` steps if on_divergence=rollback; else report `problem`."""
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
            return
        restore(back, self.model, self.optimizer, self.scaler, "the checkpoint")
        if self.average is not None:
            self.average.restart(back.average, "the checkpoint")
        elapsed_s, self.started_at = self.elapsed_s(), time.monotonic()
        self.progress = replace(
            back.progress,
            max_iters=self.progress.max_iters,
            eval_interval=self.progress.eval_interval,
            learning_rate_scale=self.progress.learning_rate_scale / 2,
            elapsed_s=elapsed_s,
        )
        self.batches.position = back.position
        if self.spikes is not None:
            self.spikes = spike_detector(back.progress)
        if self.skip_flag is not None:
            self.skip_flag.zero_()
        self.writer.reset(snapshot_step=back.progress.step)
        self.divergence, self.rollbacks = DivergenceDetector(self.config.model.vocab_size), self.rollbacks + 1
        message = (
            f"{problem} after step {at:,}: back at step {back.progress.step:,} with half the learning rate "
            f"({self.rollbacks} of at most {MAX_ROLLBACKS} times)"
        )
        yield Health(step=back.progress.step, state="rollback", message=message)
        yield self.started_event()

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
            flops_per_token=config.model.flops_per_token(),
            processes=runtime.world.size,
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


def spike_detector(progress: Progress) -> SpikeDetector:
    """Return the spike detector in the state that `progress` has."""
    return SpikeDetector(progress.usual_losses, progress.usual_grad_norms, progress.steps_since_spike)
