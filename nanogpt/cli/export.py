"""`nanogpt export RUN FOLDER`: write a trained GPT-2 in the format of Hugging Face transformers."""

import argparse

from nanogpt.cli.console import print_message
from nanogpt.cli.settings import add_weights
from nanogpt.formatting import printable
from nanogpt.paths import expanded

DESCRIPTION = """Write a run's model, of the architecture gpt2, and its tokenizer into a new folder, for transformers
and other programs that read its format."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN", help="a run's name or path, or a checkpoint")
    parser.add_argument("folder", type=expanded, metavar="FOLDER", help="folder to write; must not exist yet")
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|latest|STEP", help="which checkpoint (default: best)"
    )
    add_weights(parser)
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    from nanogpt.interop.huggingface import write_huggingface
    from nanogpt.runs import load_model

    loaded = load_model(args.source, args.checkpoint, "cpu", args.runs_dir, args.weights)
    folder = args.folder.absolute()
    write_huggingface(loaded.model, loaded.tokenizer, folder)
    print(printable(str(folder)))
    averaged = ", averaged weights" if loaded.is_average else ""
    print_message(f"{loaded.run}, step {loaded.step:,}{averaged}, with its tokenizer, {loaded.tokenizer.name}")
    return 0
