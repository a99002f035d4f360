"""`nanogpt runs`: list the runs. Imports no torch."""

import argparse
import json
import shlex
from pathlib import Path

from nanogpt import paths
from nanogpt.cli.console import print_message
from nanogpt.cli.tables import format_loss, format_whole, print_table
from nanogpt.paths import expanded
from nanogpt.runs.folder import runs_folder
from nanogpt.runs.listing import list_runs
from nanogpt.runs.state import state_to_dict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="everything known, as JSON")
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    found = list_runs(args.runs_dir)
    if args.json:
        print(json.dumps([state_to_dict(summary) for summary in found], indent=1))
        return 0
    if not found:
        print_message(f"no runs in {runs_folder(args.runs_dir)} yet: `nanogpt quickstart` makes one in about a minute")
        return 0
    rows = [("run", "state", "step", "train loss", "val loss", "best", "bits/byte", "tok/s", "parameters", "data set")]
    rows += [
        (
            summary.name,
            summary.phase,
            f"{summary.step:,}/{summary.max_iters:,}",
            format_loss(summary.train_loss),
            format_loss(summary.val_loss),
            format_loss(summary.best_val_loss),
            format_loss(summary.best_val_loss_in("bits per byte")),
            format_whole(summary.tokens_per_second),
            format_whole(summary.n_parameters),
            summary.dataset,
        )
        for summary in found
    ]
    print_table(rows, right=range(2, 9))
    return 0


def run_option(folder: Path) -> str:
    """Return the option that names the run to `nanogpt train`, quoted for a shell."""
    if folder.parent == paths.runs_dir():
        return f"--name={shlex.quote(folder.name)}"
    return f"--out_dir={shlex.quote(str(folder))}"
