"""Show the events of a training on stderr: one rewritten line for the steps, a permanent line for other events."""

import math
import os
import shlex
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from nanogpt import data
from nanogpt.cli import prepare as preparation
from nanogpt.cli.console import live_line, print_message
from nanogpt.events import (
    Acknowledged,
    Evaluated,
    Evaluating,
    Event,
    Finished,
    Health,
    LayerProblem,
    Notice,
    Prepared,
    Sampled,
    Saved,
    Spike,
    Started,
    Step,
)
from nanogpt.formatting import counted, duration, significant
from nanogpt.inspection import layer_problems, spikes
from nanogpt.loss_units import TextSize, convert, perplexity
from nanogpt.runs import RunState, reduce
from nanogpt.runs.folder import run_name
from nanogpt.training import CommandQueue, Stop

REPEAT_S = 2.0  # in which a signal that was sent to all processes comes again from the one that started them


def show(events: Iterator[Event], folder: Path | None = None, *, is_watched: bool = False) -> Finished | None:
    """Show all events on stderr; return `Finished`, or None if training did not finish.

    Under torchrun only the first process shows them. folder: of the run, for the command that is printed. is_watched:
    another process trains it, and nobody prints a sample at the end.
    """
    name = f" {shlex.quote(run_name(folder))}" if folder is not None else ""
    if os.environ.get("RANK", "0") != "0":
        deque(events, maxlen=0)
        return None
    finished = None
    max_iters, evaluated, state = 0, "", RunState()
    with live_line() as live:
        for event in preparation.without_progress(events, notices=False):
            match event:
                case Prepared():
                    counts = " + ".join(f"{count:,}" for count in event.tokens.values())
                    print_message(f"prepared {event.name}: {counts} tokens in {event.path}")
                case Started():
                    max_iters, state = event.max_iters, reduce(state, event)
                    for line in start_lines(event):
                        print_message(line)
                case Step():
                    live(step_line(event, max_iters) + evaluated)
                case Evaluating():
                    live(f"evaluating: {event.done:,} of {event.total:,} batches")
                case Evaluated():
                    live("")
                    evaluated = f"  val {event.val_loss:.4f}"
                    best = " (best)" if event.is_best else f" (best {event.best_val_loss:.4f})"
                    average = "" if event.ema_val_loss is None else f", EMA {event.ema_val_loss:.4f}"
                    print_message(
                        f"step {event.step:,}: train loss {event.train_loss:.4f}, "
                        f"val loss {event.val_loss:.4f}{average}{best}, {other_units(event.val_loss, state.val_text)}"
                    )
                case Saved():
                    live("")
                    print_message(f"step {event.step:,}: saved {event.path}{' (best)' if event.is_best else ''}")
                case Sampled() if is_watched or event.step < max_iters:  # one of the finished model goes to stdout
                    live("")
                    print_message(f"sample at step {event.step:,}: {event.prompt}{event.text}")
                case Acknowledged():
                    live("")
                    print_message(event.text)
                    max_iters = event.max_iters or max_iters
                case Health() | Notice():
                    live("")
                    print_message(event.text if isinstance(event, Notice) else event.message)
                case LayerProblem():
                    live("")
                    print_message(layer_problems.describe(event))
                case Spike():
                    live("")
                    print_message(f"{spikes.describe(event)}: `nanogpt spikes{name}` shows the text")
                case Finished():
                    live("")
                    finished = event
    return finished


def open_or_prepare(name: str, data_dir: Path | None) -> data.Dataset:
    """Return the data set, prepared first if it is not. Raise `UserError`."""
    if not data.is_prepared(name, data_dir):
        preparation.show(data.prepare(name, data_dir=data_dir))
    return data.open_dataset(name, data_dir)


def start_lines(event: Started) -> Iterator[str]:
    """Yield lines about the model, its data and length, the device, and the reasons for automatic choices."""
    size = f"{event.n_parameters:,} parameters, " if event.n_parameters else ""  # a counted model has none yet
    if not event.train_tokens:  # a run that was imported
        yield f"{event.run}: {size}imported at step {event.step:,}"
        return
    what = f"{size}{counted(event.tokens_per_iteration, 'token')} per iteration"
    epochs = event.max_iters * event.tokens_per_iteration / event.train_tokens
    at = f"resuming at step {event.step:,} of" if event.step else "for"
    length = f"{counted(event.max_iters, 'iteration')} ({significant(epochs)} epochs)"
    yield f"training {event.run}: {what}, {at} {length}"
    compiled = ", compiled" if event.compile else ""
    processes = f"{event.processes} processes with " if event.processes > 1 else ""
    yield f"on {event.device} in {event.dtype}{compiled}, {processes}{counted(event.threads, 'thread')}"
    for name, reason in event.choices.items():
        yield f"  {name}: {reason}"


def other_units(loss: float, text: TextSize | None) -> str:
    """Return a loss as perplexity and, if the size of its text is known, as bits per byte."""
    bits = convert(loss, "bits per byte", text)
    return f"perplexity {perplexity(loss):,.2f}" + (f", {bits:.4f} bits per byte" if bits is not None else "")


def step_line(event: Step, max_iters: int) -> str:
    """Return the figures of a step in one line, at fixed width."""
    width = len(f"{max_iters:,}")
    mfu = f"{event.mfu:6.1%}" if event.mfu is not None else "     –"
    trained = f"loss {event.loss:.4f}  lr {event.learning_rate:.2e}  " if math.isfinite(event.loss) else ""
    return (
        f"step {event.step:{width},}/{max_iters:,}  {trained}"
        f"{event.tokens_per_second:9,.0f} tok/s  MFU {mfu}  ETA {duration(event.eta_s)}"
    )


@contextmanager
def interruptible(commands: CommandQueue) -> Iterator[None]:
    """Let Ctrl+C and SIGTERM stop training after its step with a checkpoint; the second one exits immediately.

    A process of several exits immediately only at a second Ctrl+C, `REPEAT_S` after the first. What started it sends
    SIGTERM if another process has failed, and passes on each signal that it gets, which may have reached all of them.
    """
    rank, is_stopping, counted = os.environ.get("RANK"), False, list[float]()  # when each signal came (monotonic)

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        if rank is None or number == signal.SIGINT:
            counted.append(time.monotonic())
            if len(counted) > 1 and (rank is None or counted[-1] - counted[0] > REPEAT_S):
                os._exit(128 + number)
            if len(counted) == 1 and rank in (None, "0"):  # os.write, because the signal may interrupt a print
                os.write(2, b"\nfinishing the step and saving; press Ctrl+C again to exit immediately\n")
        if not is_stopping:
            is_stopping = True
            commands.put(Stop())

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interruptible_once_started(events: Iterable[Event], commands: CommandQueue) -> Iterator[Event]:
    """Pass the events on. Ctrl+C cancels before training starts; afterwards it stops training with a checkpoint."""
    with ExitStack() as stack:
        is_training = False
        for event in events:
            if isinstance(event, Started) and not is_training:  # there is another one after a rollback
                is_training = True
                stack.enter_context(interruptible(commands))
            yield event
