"""`nanogpt spikes RUN`: show the jumps of the loss, and the text that caused them. Imports no torch."""

import argparse
from bisect import bisect_left

from nanogpt.cli.tables import print_table
from nanogpt.events import Spike, to_json
from nanogpt.formatting import printable
from nanogpt.inspection.spikes import describe
from nanogpt.paths import expanded
from nanogpt.runs.event_log import events_of, steps_of
from nanogpt.runs.folder import find, run_config

AROUND = 3  # reported steps shown before and after a spike


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run's name or path (default: the newest)")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each spike")
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    folder = find(args.run, args.runs_dir)
    spikes = events_of(folder, Spike)
    if args.json:
        for spike in spikes:
            print(to_json(spike))
        return 0
    if not spikes:
        not_looked = "" if run_config(folder).evaluation.health_interval else ": health_interval=0 looks for none"
        print(printable(f"{folder.name} has no spikes{not_looked}"))
        return 0
    columns = steps_of(folder, ("step", "loss", "grad_norm", "learning_rate"))
    for spike in spikes:
        print(printable(describe(spike)))
        place = bisect_left(columns["step"], spike.step)
        rows = [("step", "loss", "gradient norm", "learning rate")]
        around = (column[max(0, place - AROUND) : place + AROUND + 1] for column in columns.values())
        for step, loss, grad_norm, rate in zip(*around, strict=True):
            rows.append((f"{step:,.0f}", f"{loss:.4f}", f"{grad_norm:.3g}", f"{rate:.3g}"))
        print_table(rows, right=range(4))
        for text, loss in zip(spike.texts, spike.text_losses, strict=False):
            print(f"loss {loss:.3f}: {printable(text)!r}")
        print()
    return 0
