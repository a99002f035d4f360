"""`nanogpt export RUN PLACE --to FORMAT`: write a run's model or its record in a format of other programs."""

import argparse

from nanogpt.cli.console import print_message
from nanogpt.cli.settings import add_weights
from nanogpt.errors import UserError
from nanogpt.formatting import counted, printable
from nanogpt.paths import expanded
from nanogpt.reports.export import FORMATS, export_record
from nanogpt.runs.folder import find

MODEL_FORMATS = ("hf", "gguf", "safetensors", "onnx")
NUMBERS = ("float32", "float16", "q8_0")

DESCRIPTION = """Write a run's model, or what the run has recorded, for other programs. `--to=hf`: a folder with model
and tokenizer for Hugging Face transformers; `--to=gguf`: a file with both for llama.cpp. Both take models of the
architecture gpt2 that are a GPT-2, or with rotary positions, RMSNorm and SwiGLU a Llama. `--to=safetensors`: a file
with the weights, of any architecture. `--to=onnx`: a file from ids to logits, without the tokenizer. `--to=html`: a
page with charts, samples, spikes, layers and settings, for any browser; `--to=csv` and `--to=parquet`: a table with a
row for each reported step; `--to=tensorboard`: a folder for TensorBoard."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN", help="a run's name or path, or a checkpoint")
    parser.add_argument("place", type=expanded, metavar="PLACE", help="folder or file to write; must not exist yet")
    formats = (*MODEL_FORMATS, *FORMATS)
    parser.add_argument("--to", choices=formats, help="the format (default: as PLACE ends, .gguf, .csv …; else hf)")
    parser.add_argument(
        "--dtype", choices=NUMBERS, help="gguf: number format of the matrices (default: float32); q8_0 has 8 bits"
    )
    parser.add_argument("--checkpoint", metavar="best|latest|STEP", help="which checkpoint (default: best)")
    add_weights(parser)
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    ending = args.place.suffix.removeprefix(".")
    args.to = args.to or (ending if ending in (*MODEL_FORMATS, *FORMATS) else "hf")
    if args.dtype and args.to != "gguf":
        raise UserError(f"--dtype is for --to=gguf: {args.to} has float32")
    if args.to in FORMATS and (args.checkpoint or args.weights != "auto"):
        raise UserError(
            f"--checkpoint and --weights are for a model: {args.to} has what the run recorded; leave them out"
        )
    return _export_record(args) if args.to in FORMATS else _export_model(args)


def _export_record(args: argparse.Namespace) -> int:
    place = args.place.absolute()
    run = find(args.source, args.runs_dir)
    steps = export_record(run, place, args.to)
    print(printable(str(place)))
    print_message(f"{run.name}, {counted(steps, 'reported step')}")
    return 0


def _export_model(args: argparse.Namespace) -> int:
    from nanogpt.runs import load_model

    loaded = load_model(args.source, args.checkpoint or "best", "cpu", args.runs_dir, args.weights)
    place = args.place.absolute()
    if args.to == "hf":
        from nanogpt.interop.huggingface import write_huggingface

        write_huggingface(loaded.model, loaded.tokenizer, place)
    elif args.to == "gguf":
        from nanogpt.interop.gguf_file import write_gguf

        write_gguf(loaded.model, loaded.tokenizer, place, args.dtype or "float32")
    elif args.to == "onnx":
        from nanogpt.interop.onnx_file import write_onnx

        write_onnx(loaded.model, place)
    else:
        from nanogpt.interop.safetensors_file import write_safetensors

        write_safetensors(loaded.model, place)
    print(printable(str(place)))
    averaged = ", averaged weights" if loaded.is_average else ""
    tokenizer = "" if args.to in ("safetensors", "onnx") else f", with its tokenizer, {loaded.tokenizer.name}"
    print_message(f"{loaded.run}, step {loaded.step:,}{averaged}{tokenizer}")
    return 0
