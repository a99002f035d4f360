"""`nanogpt runs`: the table of runs. Imports no torch."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from nanogpt import paths
from nanogpt.cli.console import talk
from nanogpt.formatting import printable
from nanogpt.paths import expanded
from nanogpt.runs.folder import list_runs, runs_folder
from nanogpt.runs.state import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="everything known, as JSON")
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    found = list_runs(args.runs_dir)
    if args.json:
        print(json.dumps([plain(summary) for summary in found], indent=1))
        return 0
    if not found:
        talk(f"no runs in {runs_folder(args.runs_dir)} yet: `nanogpt quickstart` makes one in about a minute")
        return 0
    rows = [("run", "state", "step", "train loss", "val loss", "best", "tok/s", "parameters", "data set")]
    rows += [
        (
            summary.name,
            summary.phase,
            f"{summary.step:,}/{summary.max_iters:,}",
            loss(summary.train_loss),
            loss(summary.val_loss),
            loss(summary.best_val_loss),
            whole(summary.tokens_per_second),
            whole(summary.n_parameters),
            summary.dataset,
        )
        for summary in found
    ]
    for line in table(rows, right=range(2, 8)):
        print(printable(line))
    return 0


def loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def address(folder: Path) -> str:
    """The option that names the run to `nanogpt train`."""
    return f"--name={folder.name}" if folder.parent == paths.runs_dir() else f"--out_dir={folder}"


def table(rows: Sequence[tuple[str, ...]], right: range) -> list[str]:
    """The rows as lines of aligned columns, those in `right` to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
