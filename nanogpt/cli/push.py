"""`nanogpt push RUN REPO`: send a run to the Hugging Face Hub, with a model card; without `--send` a dry run."""

import argparse
import re
from pathlib import Path

from nanogpt.cli.console import print_message
from nanogpt.cli.tables import print_table
from nanogpt.errors import UserError
from nanogpt.formatting import printable
from nanogpt.paths import expanded

DESCRIPTION = """Send a run to a repository of the Hugging Face Hub (the extra `hub`): the weights of one checkpoint,
settings, tokenizer, losses, and a model card with the data, the settings, the curve and a sample. Without `--send`
nothing is sent, and the files and the card are shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's name or path")
    parser.add_argument(
        "repository", metavar="REPO", help="the repository, OWNER/NAME; it is made if it does not exist"
    )
    parser.add_argument("--send", action="store_true", help="send it; without this it is a dry run")
    parser.add_argument(
        "--public", action="store_true", help="everyone may see a repository that is made (default: private)"
    )
    parser.add_argument("--license", default="", metavar="ID", help="licence of the weights, such as mit or apache-2.0")
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|latest|STEP", help="which checkpoint (default: best)"
    )
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    from nanogpt.interop import hub
    from nanogpt.reports.publishing import digest, repository_files
    from nanogpt.runs.folder import find

    if not hub.is_repository(args.repository):
        raise UserError(f"{args.repository!r} is not a repository of the hub: give OWNER/NAME")
    if args.license and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,60}", args.license):
        raise UserError(f"--license={args.license!r}: give an identifier such as mit, apache-2.0 or cc-by-4.0")
    folder = find(args.run, args.runs_dir)
    files = repository_files(folder, args.repository, args.checkpoint, args.license)
    rows = [("file", "bytes", "sha256")]
    for path, content in sorted(files.items()):
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        rows.append((path, f"{size:,}", digest(content)[:12]))
    print_table(rows, right=(1,))
    if not args.send:
        card = files["README.md"]
        assert isinstance(card, bytes)
        print(f"\n{printable(card.decode())}")
        seen = "for everyone to see" if args.public else "private if it is new"
        print_message(f"dry run, nothing was sent: --send sends this to {args.repository} on the hub, {seen}")
        return 0
    address = hub.upload(
        args.repository, files, private=not args.public, message=f"{folder.name}, sent by nanogpt push"
    )
    print_message(f"sent to {address}")
    return 0
