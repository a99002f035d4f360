"""`nanogpt pull REPO`: make a run of what `nanogpt push` sent to the Hugging Face Hub."""

import argparse
import shlex

from nanogpt.cli.console import print_message
from nanogpt.errors import UserError
from nanogpt.formatting import printable
from nanogpt.paths import expanded

DESCRIPTION = """Download a run that `nanogpt push` sent to the Hugging Face Hub (the extra `hub`), to sample from it,
fine-tune and export it. Every file is checked by its SHA-256; weights are safetensors, and nothing that is loaded can
run code."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="REPO", help="the repository, OWNER/NAME")
    parser.add_argument("--name", help="the run's name (default: that of the repository)")
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    from nanogpt.interop import hub
    from nanogpt.reports.publishing import pull
    from nanogpt.runs.folder import new_folder, run_name

    if not hub.is_repository(args.repository):
        raise UserError(f"{args.repository!r} is not a repository of the hub: give OWNER/NAME")
    base = args.repository.rpartition("/")[2].strip("-.") or "pulled"
    place = new_folder(base, name=args.name, runs_dir=args.runs_dir)
    checkpoint = pull(args.repository, place)
    print(printable(str(place)))
    name = shlex.quote(run_name(place))
    print_message(f"checkpoint {checkpoint.name}; next: nanogpt sample {name}, or nanogpt train --init_from={name}")
    return 0
