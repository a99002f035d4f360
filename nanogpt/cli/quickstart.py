"""`nanogpt quickstart`: from nothing to generated text in about a minute, in one command."""

import argparse

from nanogpt.cli.console import talk
from nanogpt.cli.train import add_folders, train
from nanogpt.cli.training_display import opened
from nanogpt.config import resolve, with_settings
from nanogpt.errors import UserError

DESCRIPTION = """Prepare tiny Shakespeare (or, without a network, Python's own sources), train a small model on it for
about a minute, and show what it writes."""

PREFERRED, OFFLINE = "shakespeare_char", "python_stdlib"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=45, help="about how long to train (default: 45)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--name", help="name of the run")
    add_folders(parser)


def run(args: argparse.Namespace) -> int:
    if not 0 < args.seconds < 1e6:
        raise UserError(f"--seconds={args.seconds:g}: has to be above 0 and below a million")
    from nanogpt import runs
    from nanogpt.training.probe import seconds_per_step

    config = resolve(preset="quickstart", flags={"device": args.device}).config
    try:
        dataset = opened(PREFERRED, args.data_dir)
    except UserError as error:
        talk(f"{error}\nso this trains on {OFFLINE}, the sources of Python's own standard library, instead")
        dataset = opened(OFFLINE, args.data_dir)
    config = with_settings(config, {"dataset": dataset.name, "vocab_size": dataset.tokenizer.vocab_size})
    talk("timing a few iterations …")
    _, durations = seconds_per_step(config, runs.splits(dataset), burn_in=5, steps=20, limit_s=3)
    # The median, because the first steps and other programs disturb the mean.
    fitting = int(args.seconds / sorted(durations)[len(durations) // 2])
    config = with_settings(config, {"max_iters": max(20, fitting), "eval_interval": max(20, fitting // 4)})
    args.out_dir = None
    return train(config, args, base="quickstart")
