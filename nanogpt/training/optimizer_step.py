"""One optimizer step: the gradients of its windows, the update of the weights, and the metrics of both.

On a GPU most steps leave their metrics on the device, so that nothing waits for it: see `OptimizerStep.sync_metrics`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import torch

from nanogpt import hardware
from nanogpt.config import Config
from nanogpt.data.batches import Batches, check_ids
from nanogpt.events import Event, Notice, Step
from nanogpt.inspection import Observer
from nanogpt.inspection.spikes import SpikeDetector
from nanogpt.models.base import LanguageModel, compute_loss
from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.training import distributed
from nanogpt.training.clipping import clip_gradients
from nanogpt.training.data_parallel import GradientAverage
from nanogpt.training.divergence import DivergenceDetector
from nanogpt.training.max_norm import limit_row_norms
from nanogpt.training.runtime import Runtime
from nanogpt.training.snapshot import Progress, Snapshot, random_states, restore, seed_random_states, take_snapshot
from nanogpt.training.throughput import Throughput
from nanogpt.training.weight_average import WeightAverage

StepMetrics = tuple[float, float, float]  # of a step: loss, gradient norm before clipping, learning rate
PendingMetrics = tuple[float | torch.Tensor, float | torch.Tensor, float]  # the same, of which two may be on the device


@dataclass(kw_only=True)
class OptimizerStep:
    """What a step needs: `run` does the next one and counts it in `progress`, which the training shares."""

    config: Config
    runtime: Runtime
    model: LanguageModel
    gradients: GradientAverage
    optimizer: torch.optim.Optimizer
    scaler: "torch.amp.GradScaler"
    batches: Batches
    micro_batches: Sequence[range]  # of the sequences of a step, those of this process
    throughput: Throughput
    progress: Progress
    divergence: DivergenceDetector
    flat: FlatParameters | None = None
    constrained: Sequence[torch.nn.Parameter] = ()  # weights under the setting max_norm
    average: WeightAverage | None = None
    observers: Sequence[Observer] = ()
    observations: list[Event] = field(default_factory=list)  # events of the observers about the gradients of this step
    random_states: list[torch.Tensor] = field(default_factory=list)  # at the beginning of the step that is being done
    spikes: SpikeDetector | None = None  # of every step, with on_spike=skip
    skip_flag: torch.Tensor | None = None  # see `SkippableOptimizer.skip_flag`; None: every step waits for the device
    pending_metrics: list[PendingMetrics] = field(default_factory=list)  # of the steps since `sync_metrics`

    def run(self) -> PendingMetrics:
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
            self.complete()
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
        self.complete()
        return loss, grad_norm

    def complete(self) -> None:
        """Count the step that the optimizer has done, limit the norms of its weights, and average them in."""
        self.progress.step += 1
        self.progress.tokens += self.config.tokens_per_iteration
        if self.constrained:
            limit_row_norms(self.constrained, self.config.optimizer.max_norm)
        if self.average is not None:
            self.average.update(self.progress.step)

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

    def step_event(self, loss: float, grad_norm: float, rate: float, elapsed_s: float) -> Step:
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
            elapsed_s=elapsed_s,
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

    def current_progress(self, elapsed_s: float) -> Progress:
        """Return a copy of the progress with this time and the state of the spike detector."""
        if self.spikes is None:
            return replace(self.progress, elapsed_s=elapsed_s)
        return replace(
            self.progress,
            elapsed_s=elapsed_s,
            usual_losses=tuple(self.spikes.losses),
            usual_grad_norms=tuple(self.spikes.grad_norms),
            steps_since_spike=self.spikes.since,
        )

    def take_snapshot(self, progress: Progress, *, only_gather: bool = False) -> Snapshot:
        """Return the whole state, with this progress. only_gather: see `nanogpt.training.snapshot.take_snapshot`."""
        average = {} if self.average is None else self.average.state_dict()
        parts = (self.model, self.optimizer, self.scaler, progress, self.batches.position, average)
        return take_snapshot(*parts, only_gather=only_gather)

    def go_back(self, snapshot: Snapshot, elapsed_s: float) -> None:
        """Continue at an earlier step, with half the learning rate and the other settings that commands have changed.

        elapsed_s: of the training until now.
        """
        restore(snapshot, self.model, self.optimizer, self.scaler, "the checkpoint")
        if not self.runtime.world.is_main:
            seed_random_states(self.config.system.seed, self.runtime.world.rank, snapshot.progress.step)
        if self.average is not None:
            self.average.restart(snapshot.average, "the checkpoint")
        progress = self.progress
        progress.assign(
            replace(
                snapshot.progress,
                max_iters=progress.max_iters,
                eval_interval=progress.eval_interval,
                learning_rate_scale=progress.learning_rate_scale / 2,
                elapsed_s=elapsed_s,
            )
        )
        self.batches.position = snapshot.position
        self.divergence = DivergenceDetector(self.config.model.vocab_size)
        if self.spikes is not None:
            self.spikes = spike_detector(progress)
        if self.skip_flag is not None:
            self.skip_flag.zero_()


def spike_detector(progress: Progress) -> SpikeDetector:
    """Return the spike detector in the state that `progress` has."""
    return SpikeDetector(progress.usual_losses, progress.usual_grad_norms, progress.steps_since_spike)
