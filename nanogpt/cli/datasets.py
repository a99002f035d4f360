"""`nanogpt datasets`: list the data sets, prepared or not. Imports neither torch nor numpy."""

import argparse
import json
from dataclasses import asdict

from nanogpt.cli.console import print_message
from nanogpt.cli.tables import print_table
from nanogpt.data import DatasetInfo, list_datasets
from nanogpt.paths import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="everything known, as JSON")
    parser.add_argument("--data_dir", type=expanded, help="folder of the prepared data sets")


def run(args: argparse.Namespace) -> int:
    found = list_datasets(args.data_dir)
    if args.json:
        print(json.dumps([asdict(info) for info in found], indent=1))
        return 0
    rows = [("data set", "prepared", "offline", "tokenizer", "vocabulary", "tokens", "MB", "licence", "title")]
    print_table([*rows, *map(_row, found)], right=range(4, 7))
    for info in found:
        if info.problem:
            print_message(f"{info.name}: {info.problem}")
    return 0


def _row(info: DatasetInfo) -> tuple[str, ...]:
    return (
        info.name,
        "unusable" if info.problem else "yes" if info.prepared else "in part" if info.unfinished else "no",
        "yes" if info.offline else "no",
        info.tokenizer or "–",
        f"{info.vocab_size:,}" if info.vocab_size else "–",
        f"{sum(info.tokens.values()):,}" if info.tokens else "–",
        f"{info.size_bytes / 1e6:.1f}" if info.size_bytes else "–",
        info.licence or "–",
        info.title or "–",
    )
