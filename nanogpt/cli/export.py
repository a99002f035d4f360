"""`nanogpt export RUN FOLDER`: a trained GPT-2 in the format of Hugging Face's transformers."""

import argparse
from pathlib import Path

from nanogpt.cli.console import talk
from nanogpt.words import printable

DESCRIPTION = """Writes a run's model, of the architecture gpt2, as config.json and model.safetensors into a new folder,
for transformers and whatever else reads its format."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN", help="a run's name or path, or a checkpoint")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to write it; must not exist yet")
    parser.add_argument("--checkpoint", default="best", metavar="best|latest|STEP", help="which one (default: best)")
    parser.add_argument("--runs_dir", type=Path, help="where the runs live")


def run(args: argparse.Namespace) -> int:
    from nanogpt.interop.huggingface import write_huggingface
    from nanogpt.runs import load_model

    loaded = load_model(args.source, args.checkpoint, "cpu", args.runs_dir)
    folder = args.folder.expanduser().absolute()
    write_huggingface(loaded.model, folder)
    print(printable(str(folder)))
    name = loaded.tokenizer.name
    where = "is Hugging Face's own" if name == "gpt2" else "is in the run's tokenizer.json alone"
    talk(f"{loaded.run}, step {loaded.step:,}; its tokenizer, {name}, {where}")
    return 0
