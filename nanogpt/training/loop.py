"""The training loop: an iterator of events. Knows nothing of files or screens.

What it needs is handed in: tokens, a way to save a snapshot, a way to write a sample, a mailbox. Closing the iterator
ends training where it is; to end it with a checkpoint, drop a `Stop` in the mailbox.
"""

import copy
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nanogpt import hardware, models
from nanogpt.config import Config
from nanogpt.data.batches import Batches, check_length
from nanogpt.errors import UserError
from nanogpt.events import Acknowledged, Evaluated, Event, Finished, Health, Notice, Sampled, Saved, Started, Step
from nanogpt.training import distributed
from nanogpt.training import mailbox as letters
from nanogpt.training.evaluation import evaluate
from nanogpt.training.machine import Machine, check_memory, settle
from nanogpt.training.mailbox import Letter, Mailbox
from nanogpt.training.schedule import learning_rate
from nanogpt.training.snapshot import Progress, Snapshot, restore, restore_weights, take
from nanogpt.training.throughput import Throughput

Tokens = NDArray[np.unsignedinteger]
SaveSnapshot = Callable[[Snapshot, bool], str]
WriteSample = Callable[[Any, str, int], str]


@dataclass(kw_only=True)
class Trainer:
    """Everything that a training holds while it runs. Made by `train`; the loop below reads top to bottom."""

    config: Config
    tokens: Mapping[str, Tokens]
    mailbox: Mailbox
    save: SaveSnapshot | None
    sample: WriteSample | None
    machine: Machine
    model: Any
    forward: Callable[..., Any]
    optimizer: torch.optim.Optimizer
    scaler: "torch.amp.GradScaler"
    batches: Batches
    throughput: Throughput
    progress: Progress
    saved_at: int = -1
    stopping: letters.Stop | None = None
    began: float = field(default_factory=time.monotonic)

    def run(self) -> Iterator[Event]:
        progress, schedule = self.progress, self.config.evaluation
        while True:
            if self.evaluation_is_due():
                yield from self.evaluate()
                if schedule.eval_only:
                    yield self.finished("eval_only")
                    return
            if self.checkpoint_is_due():
                yield from self.save_checkpoint()
            if schedule.sample_interval and progress.step % schedule.sample_interval == 0:
                yield from self.write_sample(schedule.sample_start, self.config.system.seed)
            yield from self.obey(distributed.agree(self.mailbox.collect(), self.machine.world))
            if self.stopping is not None:
                if self.stopping.save:
                    yield from self.save_checkpoint()
                yield self.finished("stopped")
                return
            if progress.step >= progress.max_iters:
                if self.evaluation_is_due():  # max_iters was lowered to here just now
                    continue
                yield from self.save_checkpoint()
                yield self.finished("max_iters")
                return
            with self.throughput.step():
                loss, grad_norm, rate = self.step()
            if not math.isfinite(loss):
                yield from self.give_up(loss)
                return
            if progress.step % schedule.log_interval == 0:
                yield self.stepped(loss, grad_norm, rate)

    def step(self) -> tuple[float, float, float]:
        """One optimizer step: (loss, gradient norm before clipping, learning rate). A loss that is not finite leaves
        the weights as they are."""
        config, progress = self.config, self.progress
        rate = learning_rate(config, progress.step, progress.max_iters) * progress.learning_rate_scale
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        accumulated = config.data.gradient_accumulation_steps // self.machine.world.size
        losses = torch.zeros((), device=self.machine.device)
        for _ in range(accumulated):
            window = torch.from_numpy(self.batches.next())  # (B, T + 1)
            if self.machine.device.startswith("cuda"):
                window = window.pin_memory().to(self.machine.device, non_blocking=True)
            else:
                window = window.to(self.machine.device)
            with self.machine.autocast():
                _, loss = self.forward(window[:, :-1], window[:, 1:])
            losses += loss.detach()
            self.scaler.scale(loss / accumulated).backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        distributed.average_gradients(parameters, self.machine.world)
        mean_loss = float(distributed.total(losses / accumulated, self.machine.world)) / self.machine.world.size
        if math.isfinite(mean_loss):
            self.scaler.unscale_(self.optimizer)
            limit = config.optimizer.grad_clip or math.inf
            grad_norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            progress.step += 1
            progress.tokens += config.tokens_per_iteration
        else:
            grad_norm = losses
        self.optimizer.zero_grad(set_to_none=True)
        progress.train_loss = mean_loss
        return mean_loss, float(grad_norm), rate

    def evaluation_is_due(self) -> bool:
        progress = self.progress
        if progress.evaluated_at == progress.step:
            return False
        last = progress.step >= progress.max_iters
        return last or progress.step % progress.eval_interval == 0 or self.config.evaluation.eval_only

    def checkpoint_is_due(self) -> bool:
        """At a multiple of `checkpoint_interval`; and after an evaluation that was the best, or always if asked."""
        progress, checkpoint = self.progress, self.config.checkpoint
        every = checkpoint.checkpoint_interval
        kept = bool(every) and progress.step % every == 0
        evaluated = progress.evaluated_at == progress.step
        wanted = evaluated and (checkpoint.always_save_checkpoint or progress.best_step == progress.step)
        return progress.step > 0 and (kept or wanted)

    def evaluate(self) -> Iterator[Event]:
        config, progress = self.config, self.progress
        self.model.eval()
        try:
            with self.throughput.evaluation():
                # On a CPU compiling for evaluation too would take longer than it saves.
                forward = self.forward if self.machine.device.startswith("cuda") else self.model
                losses = partial(evaluate, forward, config=config, machine=self.machine)
                n_batches = config.evaluation.eval_iters
                val_loss, counted = losses(self.tokens["val"], n_batches=n_batches)
                as_many = max(1, counted // (config.data.batch_size * config.model.block_size))
                train_loss, _ = losses(self.tokens["train"], n_batches=n_batches or as_many)
        finally:
            self.model.train()
        best = val_loss if progress.best_val_loss is None else min(val_loss, progress.best_val_loss)
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

    def save_checkpoint(self) -> Iterator[Event]:
        progress = self.progress
        if self.save is None or self.saved_at == progress.step or not self.machine.world.is_main:
            return
        started = time.monotonic()
        current = replace(progress, elapsed_s=self.elapsed_s())
        snapshot = take(self.model, self.optimizer, self.scaler, current, self.batches.position)
        is_best = progress.best_step == progress.step
        path = self.save(snapshot, is_best)
        self.saved_at = progress.step
        yield Saved(step=progress.step, path=path, is_best=is_best, stall_s=time.monotonic() - started)

    def write_sample(self, prompt: str, seed: int) -> Iterator[Event]:
        if self.sample is None or not self.machine.world.is_main:
            return
        try:
            text = self.sample(self.model, prompt, seed)
        except UserError as error:  # a prompt that the tokenizer cannot read is no reason to end training
            yield Notice(level="error", text=str(error))
        else:
            yield Sampled(step=self.progress.step, prompt=prompt, text=text, seed=seed)

    def obey(self, waiting: list[Letter]) -> Iterator[Event]:
        """Does what the letters say; returns when no pause is in force. Letters that come during a pause count too."""
        paused_at: float | None = None
        while waiting or paused_at is not None:
            for letter in waiting:
                if isinstance(letter, letters.Unreadable):
                    yield Notice(level="warning", text=letter.reason)
                    continue
                text = self.apply(letter)
                if isinstance(letter, letters.Pause) and paused_at is None:
                    paused_at = time.monotonic()
                if isinstance(letter, letters.Resume | letters.Stop) and paused_at is not None:
                    self.began += time.monotonic() - paused_at
                    paused_at = None
                yield Acknowledged(step=self.progress.step, letter=type(letter).__name__, text=text, id=letter.id)
                if isinstance(letter, letters.Save):
                    yield from self.save_checkpoint()
                if isinstance(letter, letters.Sample):
                    yield from self.write_sample(letter.prompt, letter.seed)
                if isinstance(letter, letters.Copy):
                    letter.receive(copy.deepcopy(self.model).eval(), self.progress.step)
            if paused_at is not None and self.machine.world.is_main:
                self.mailbox.wait(timeout_s=0.2)
            waiting = distributed.agree(self.mailbox.collect(), self.machine.world)

    def apply(self, letter: letters.Portable | letters.Copy) -> str:
        """Changes the progress as the letter says, and says so in words."""
        progress = self.progress
        match letter:
            case letters.Stop():
                self.stopping = letter
                return "stopping" if letter.save else "stopping without a checkpoint"
            case letters.ScaleLearningRate(factor):
                progress.learning_rate_scale *= factor
                return f"learning rate × {factor:g}, now × {progress.learning_rate_scale:g} of its schedule"
            case letters.SetLearningRateScale(scale):
                progress.learning_rate_scale = scale
                return f"learning rate × {scale:g} of its schedule"
            case letters.SetEvalInterval(iterations):
                progress.eval_interval = iterations
                return f"evaluation every {progress.eval_interval:,} iterations"
            case letters.SetMaxIters(iterations):
                progress.max_iters = max(progress.step, iterations)
                return f"last iteration {progress.max_iters:,}"
            case letters.Pause():
                return "paused"
            case letters.Resume():
                return "going on"
            case letters.Save():
                return "saved already" if self.saved_at == progress.step else "saving a checkpoint"
            case letters.Sample():
                return "sampling"
            case letters.Copy():
                return "copying the weights"

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
            memory_bytes=hardware.memory_bytes(self.machine.device),
            elapsed_s=self.elapsed_s(),
            eta_s=speed.eta_s(left, -(-left // progress.eval_interval)),
        )

    def give_up(self, loss: float) -> Iterator[Event]:
        message = (
            f"the loss became {loss} after step {self.progress.step:,}; the last checkpoint is untouched. "
            "Lower learning_rate, set grad_clip=1, or use dtype=float32"
        )
        yield Health(step=self.progress.step, state="nan", message=message)
        yield self.finished("nan")

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
        return self.progress.elapsed_s + time.monotonic() - self.began


def train(
    config: Config,
    tokens: Mapping[str, Tokens],
    *,
    run: str = "",
    mailbox: Mailbox | None = None,
    save: SaveSnapshot | None = None,
    sample: WriteSample | None = None,
    start: Snapshot | None = None,
    resume: bool = False,
) -> Generator[Event, None, None]:
    """Trains as `config` says: Started; Step, Evaluated, Saved, Sampled, Acknowledged, Health as they come; Finished.

    `tokens` maps "train" and "val" to token ids; `config.model.vocab_size` is set. `start` gives the first weights;
    with `resume` also everything else, and training goes on at its step as if it had never been interrupted.
    `save(snapshot, is_best)` writes a checkpoint and returns its name; `sample(model, prompt, seed)` returns a text.
    Raises `UserError` for what the person can mend.
    """
    for split in ("train", "val"):
        check_length(len(tokens[split]), config.model.block_size, split)
    with torch.device("meta"):  # the shape alone: no memory, no random numbers
        blueprint = models.create(config.model)
    machine = settle(config, blueprint.flops_per_token())
    device, world = machine.device, machine.world
    check_memory(config, machine.dtype, device)
    torch.manual_seed(config.system.seed)
    model = models.create(config.model)
    if start is not None:
        restore_weights(model, start.model, "the starting weights")
    model.to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameter_groups(config.optimizer.weight_decay),
        lr=config.optimizer.learning_rate,
        betas=(config.optimizer.beta1, config.optimizer.beta2),
        fused=device != "mps",
    )
    scaler = torch.amp.GradScaler(device.partition(":")[0], enabled=machine.dtype == "float16")
    progress = Progress(max_iters=config.schedule.max_iters, eval_interval=config.evaluation.eval_interval)
    batches = Batches(
        tokens["train"], config.model.block_size, config.data.batch_size, config.system.seed, world.rank, world.size
    )
    if start is not None and resume:
        restore(start, model, optimizer, scaler, "the checkpoint")
        progress, batches.position = replace(start.progress), start.position
    if not (resume and world.is_main):  # dropout differs in each process; a checkpoint has the main one's random state
        torch.manual_seed(config.system.seed + 1 + world.rank + progress.step)
    # A compiler that turns out not to work is no reason to stop where nobody asked for it by name.
    torch._dynamo.config.suppress_errors = config.system.compile == "auto"
    trainer = Trainer(
        config=config,
        tokens=tokens,
        mailbox=mailbox or Mailbox(),
        save=save,
        sample=sample,
        machine=machine,
        model=model,
        forward=torch.compile(model) if machine.compile else model,
        optimizer=optimizer,
        scaler=scaler,
        batches=batches,
        throughput=Throughput(config.tokens_per_iteration, model.flops_per_token(), machine.peak_flops),
        progress=progress,
        saved_at=progress.step if resume else -1,
    )
    yield Started(
        run=run,
        step=progress.step,
        max_iters=progress.max_iters,
        n_parameters=model.n_parameters(),
        tokens_per_iteration=config.tokens_per_iteration,
        train_tokens=len(tokens["train"]),
        val_tokens=len(tokens["val"]),
        vocab_size=config.model.vocab_size,
        device=device,
        dtype=machine.dtype,
        compile=machine.compile,
        threads=machine.threads,
        peak_flops=machine.peak_flops,
        choices=machine.choices,
    )
    try:
        yield from trainer.run()
    finally:
        distributed.leave(world)
