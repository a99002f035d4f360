"""`nanogpt ctl RUN …`: send a command to a run, whichever process trains it. Imports no torch."""

import argparse
import math
import shlex
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from nanogpt.cli.console import print_message
from nanogpt.config import settings
from nanogpt.errors import UserError, nearest
from nanogpt.events import Acknowledged, Event, Notice, Sampled, Saved
from nanogpt.formatting import printable
from nanogpt.paths import expanded
from nanogpt.runs.control_files import send_command
from nanogpt.runs.folder import find, run_name, summary
from nanogpt.runs.following import follow
from nanogpt.training.control import (
    Pause,
    RemoteCommand,
    Resume,
    Sample,
    Save,
    SetEvalInterval,
    SetLearningRateScale,
    SetMaxIters,
    Stop,
)

DESCRIPTION = """Steer a run, whichever process trains it: pause, resume, save, stop, set, sample.
It prints the answer when the training has applied the command."""
SETTABLE = ("learning_rate_scale", "eval_interval", "max_iters")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's name or path")
    parser.add_argument("command", choices=("pause", "resume", "save", "stop", "set", "sample"), metavar="COMMAND")
    parser.add_argument(
        "words",
        nargs="*",
        default=[],
        metavar="WORD",
        help=f"set: NAME=VALUE … ({', '.join(SETTABLE)}); sample: the prompt",
    )
    parser.add_argument("--no_save", action="store_true", help="stop: without a checkpoint")
    parser.add_argument("--seed", type=int, default=1337, help="sample: its seed (default: 1337)")
    parser.add_argument("--no_wait", action="store_true", help="do not wait for the answer")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for an answer (default: 30)")
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.timeout < math.inf:
        raise UserError(f"--timeout={args.timeout:g}: has to be a number of seconds, 0 or more")
    commands = list(parse_commands(args.command, args.words, args.no_save, args.seed))
    folder = find(args.run, args.runs_dir)
    about = summary(folder)
    if not about.alive:
        raise UserError(f"the run {about.name} is not training (it is {about.phase}), so it cannot be steered")
    if args.no_wait:
        for command in commands:
            send_command(folder, command)
        print_message("command sent")
        return 0
    with closing(send_and_wait(folder, commands, args.timeout)) as answers:
        for text in answers:
            print(printable(text), flush=True)
    return 0


def parse_commands(name: str, words: Sequence[str], no_save: bool, seed: int) -> Iterator[RemoteCommand]:
    """Yield the commands for the arguments of a command line. Raise `UserError` if they are not valid."""
    if name == "set":
        if not words:
            raise UserError(f"set needs NAME=VALUE, with one of {', '.join(SETTABLE)}")
        yield from map(_setting, words)
    elif name == "sample":
        yield Sample(" ".join(words), seed)
    elif words:
        raise UserError(f"{name} takes no arguments, but got {' '.join(words)!r}")
    else:
        commands: dict[str, RemoteCommand] = {
            "pause": Pause(),
            "resume": Resume(),
            "save": Save(),
            "stop": Stop(save=not no_save),
        }
        yield commands[name]


def _setting(word: str) -> RemoteCommand:
    name, equals, value = word.partition("=")
    name = name.replace("-", "_")
    if name not in SETTABLE or not equals:
        hint = nearest(name, SETTABLE) or f" It has to be one of {', '.join(SETTABLE)}"
        raise UserError(f"set {word!r}: only a few settings can be changed while a run trains.{hint}")
    if name == "max_iters":
        return SetMaxIters(settings()[name].parse(value))
    if name == "eval_interval":
        return SetEvalInterval(settings()[name].parse(value))
    try:
        return SetLearningRateScale(float(value))
    except ValueError:
        raise UserError(f"learning_rate_scale={value!r}: has to be a number") from None


def send_and_wait(folder: Path, commands: Sequence[RemoteCommand], timeout_s: float) -> Generator[str, None, None]:
    """Send the commands; yield the answers of the training, and the results of saving and sampling.

    Raise `UserError` if it does not answer within `timeout_s` seconds, or ends first.
    """
    events = follow(folder, from_start=False, poll_s=0.1)
    next(events, None)  # follow from here on
    waiting = {send_command(folder, command): command for command in commands}
    due = time.monotonic() + timeout_s
    outcome: tuple[type[Event], ...] = ()  # the events that the last acknowledged command still has to cause
    for event in events:
        match event:
            case Acknowledged(id=id) if id in waiting:
                command = waiting.pop(id)
                if isinstance(command, Save) and event.text.startswith("not saved"):
                    raise UserError(event.text)
                yield event.text
                saving = isinstance(command, Save) and event.text.startswith("saving")
                outcome = (Sampled, Notice) if isinstance(command, Sample) else (Saved,) if saving else ()
            case Sampled(prompt=prompt, text=text) if Sampled in outcome:
                yield prompt + text
                outcome = ()
            case Notice(text=text) if Notice in outcome:
                yield text
                outcome = ()
            case Saved(path=path) if Saved in outcome:
                yield f"saved {path}"
                outcome = ()
        if not waiting and not outcome:
            return
        if time.monotonic() > due:
            raise UserError(
                f"no answer within {timeout_s:g} s: it may be in a long evaluation; the command stays in its mailbox"
                if waiting
                else f"applied, but its result did not come within {timeout_s:g} s: "
                f"`nanogpt watch {shlex.quote(run_name(folder))} --once` shows its state"
            )
    raise UserError(f"the run {folder.name} ended before it answered")
