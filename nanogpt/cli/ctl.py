"""`nanogpt ctl RUN …`: steers a run of whatever process, by a letter in its mailbox. Imports no torch."""

import argparse
import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from nanogpt.cli.console import talk
from nanogpt.config import settings
from nanogpt.errors import UserError, nearest
from nanogpt.events import Acknowledged, Event, Notice, Sampled, Saved
from nanogpt.paths import expanded
from nanogpt.runs.folder import find, summary
from nanogpt.runs.following import follow
from nanogpt.runs.post import drop_letter
from nanogpt.training.mailbox import (
    Pause,
    Portable,
    Resume,
    Sample,
    Save,
    SetEvalInterval,
    SetLearningRateScale,
    SetMaxIters,
    Stop,
)
from nanogpt.words import printable

DESCRIPTION = """Steer a run, whichever process trains it: pause, resume, save, stop, set, sample.
It answers when the training has applied the command."""
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
    letters = list(written(args.command, args.words, args.no_save, args.seed))
    folder = find(args.run, args.runs_dir)
    about = summary(folder)
    if not about.alive:
        raise UserError(f"the run {about.name} is not training (it is {about.phase}), so it cannot be steered")
    if args.no_wait:
        for letter in letters:
            drop_letter(folder, letter)
        talk("command sent")
        return 0
    with closing(heard(folder, letters, args.timeout)) as answers:
        for text in answers:
            print(printable(text), flush=True)
    return 0


def written(command: str, words: Sequence[str], no_save: bool, seed: int) -> Iterator[Portable]:
    """The letters for a command. Raises `UserError`."""
    if command == "set":
        if not words:
            raise UserError(f"set needs NAME=VALUE, with one of {', '.join(SETTABLE)}")
        yield from map(_setting, words)
    elif command == "sample":
        yield Sample(" ".join(words), seed)
    elif words:
        raise UserError(f"{command} takes no arguments, but got {' '.join(words)!r}")
    else:
        plain: dict[str, Portable] = {
            "pause": Pause(),
            "resume": Resume(),
            "save": Save(),
            "stop": Stop(save=not no_save),
        }
        yield plain[command]


def _setting(word: str) -> Portable:
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


def heard(folder: Path, letters: Sequence[Portable], timeout_s: float) -> Generator[str, None, None]:
    """Drops the letters, and tells what the training answers, and what came of saving and sampling.

    Raises `UserError` where it does not answer in time, or ends before.
    """
    events = follow(folder, from_start=False, poll_s=0.1)
    next(events, None)  # listening from here on
    waiting = {drop_letter(folder, letter): letter for letter in letters}
    due = time.monotonic() + timeout_s
    outcome: tuple[type[Event], ...] = ()  # what still has to come of the letter that was acknowledged last
    for event in events:
        match event:
            case Acknowledged(id=id) if id in waiting:
                letter = waiting.pop(id)
                yield event.text
                saving = isinstance(letter, Save) and "already" not in event.text
                outcome = (Sampled, Notice) if isinstance(letter, Sample) else (Saved,) if saving else ()
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
            )
    raise UserError(f"the run {folder.name} ended before it answered")
