"""`nanogpt import nanogpt|nanochat|hf SOURCE`: make a run of weights that another program trained."""

import argparse
import re
import shlex

from nanogpt.cli.console import print_message
from nanogpt.errors import UserError
from nanogpt.formatting import printable
from nanogpt.paths import expanded

DESCRIPTION = """Make a run of weights that another program trained, to sample, evaluate, fine-tune and export them.
`import nanogpt FILE` reads a ckpt.pt of nanoGPT, and `import nanochat FOLDER` the model_NNNNNN.pt of nanochat with the
highest step, both without running the code that a pickle can have; `import hf FOLDER` reads a folder of Hugging Face
transformers, or a model on its hub: OWNER/NAME, or gpt2 to gpt2-xl."""

KINDS = ("nanogpt", "nanochat", "hf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, metavar="|".join(KINDS))
    parser.add_argument("source", metavar="SOURCE", help="the file, the folder, or the model's name on the hub")
    parser.add_argument("--name", help="the run's name (default: from the source)")
    parser.add_argument(
        "--meta", type=expanded, metavar="PATH", help="nanogpt: the meta.pkl with the characters of its data set"
    )
    parser.add_argument(
        "--tokenizer",
        metavar="SPEC|PATH",
        help="nanogpt: the tokenizer of its data set, if it has no meta.pkl; nanochat: its tokenizer.pkl",
    )
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    from nanogpt.runs import checkpoints, folder, importing

    if args.kind == "hf" and (args.meta or args.tokenizer):
        raise UserError("--meta and --tokenizer are for `import nanogpt`: a Hugging Face folder has its tokenizer")
    if args.kind == "nanochat" and args.meta:
        raise UserError("--meta is for `import nanogpt`: nanochat's tokenizer is --tokenizer=PATH")
    base = expanded(args.source.removeprefix("hf:")).absolute()
    base = base.parent if base.suffix in checkpoints.PICKLES else base
    name = re.sub(r"[^\w.+-]", "-", base.name).strip("-.+")[: folder.LONGEST_NAME] or "imported"
    place = folder.new_folder(name, name=args.name, runs_dir=args.runs_dir)
    if args.kind == "nanogpt":
        snapshot = importing.import_nanogpt(expanded(args.source), place, tokenizer=args.tokenizer, meta=args.meta)
    elif args.kind == "nanochat":
        tokenizer = expanded(args.tokenizer) if args.tokenizer else None
        snapshot = importing.import_nanochat(expanded(args.source), place, tokenizer=tokenizer)
    else:
        snapshot = importing.import_huggingface(args.source, place)
    print(printable(str(place)))
    if args.kind == "nanogpt":
        print_message("nanoGPT computes GELU exactly (erf), this model by GPT-2's tanh form: losses differ slightly")
    model, run = snapshot.model_config, shlex.quote(folder.run_name(place))
    print_message(
        f"{model.n_parameters():,} parameters, block_size={model.block_size}; next: nanogpt sample {run}, or "
        f"nanogpt train --init_from={run}"
    )
    return 0
