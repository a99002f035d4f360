"""`nanogpt bench`: measure how fast this machine trains, samples and prepares data. Writes no run."""

import argparse
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict

from nanogpt.cli.console import live_line
from nanogpt.cli.settings import add_settings, configured_new_run
from nanogpt.cli.tables import print_table
from nanogpt.cli.train import add_folders
from nanogpt.cli.training_display import open_or_prepare
from nanogpt.config import Setting
from nanogpt.events import Benchmark, Measuring, Step
from nanogpt.formatting import counted
from nanogpt.runs.weights import with_shape_of_weights

DESCRIPTION = """Measure on this machine, with the settings of `nanogpt train`, how fast it trains, how long each
part of a step takes, how fast it samples and prepares data, and what was chosen automatically and why."""

STEPS = Setting("steps", "bench", int, False, 50, "iterations to measure (6 s at most)", low=1, high=100_000)
BURN_IN = Setting("burn_in", "bench", int, False, 10, "warm-up iterations before that", low=1, high=100_000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    for option in (STEPS, BURN_IN):
        parser.add_argument(
            f"--{option.name}",
            default=str(option.default),
            metavar="INT",
            help=f"{option.help} (default: {option.default})",
        )
    add_folders(parser)
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    steps, burn_in = STEPS.parse(args.steps), BURN_IN.parse(args.burn_in)
    resolved = configured_new_run(args)
    config = with_shape_of_weights(resolved.config, resolved.sources, args.runs_dir)
    dataset = open_or_prepare(config.data.dataset, args.data_dir)

    from nanogpt.runs import run_benchmark

    figures: Benchmark | None = None
    with live_line() as live, closing(run_benchmark(config, dataset, burn_in=burn_in, steps=steps)) as events:
        for event in events:
            if isinstance(event, Step):
                live(f"training {event.step}/{burn_in + steps} …")
            elif isinstance(event, Measuring):
                live(f"{event.what} …")
            elif isinstance(event, Benchmark):
                figures = event
        live("")
    if figures is None:
        return 1
    if args.json:
        print(json.dumps(asdict(figures), indent=1))
    else:
        print_table(table_rows(figures))
    return 0


def table_rows(figures: Benchmark) -> Iterator[tuple[str, str]]:
    """Yield a name and a text for each figure."""
    compiled = ", compiled" if figures.compile else ""
    yield "machine", f"{figures.cpu}, {counted(figures.threads, 'thread')}"
    yield "on", f"{figures.device} in {figures.dtype}{compiled}"
    for choice, why in figures.choices.items():
        yield f"  {choice}", why
    yield "model", f"{figures.n_parameters:,} parameters, {figures.tokens_per_iteration:,} tokens per iteration"
    yield "training", f"{figures.tokens_per_second:,.0f} tokens/s, {figures.ms_per_iteration:,.2f} ms per iteration"
    for part, ms in figures.parts_ms.items():
        yield f"  {part}", f"{ms:9,.2f} ms {ms / figures.ms_per_iteration:6.1%}"
    yield "  first", f"{1000 * figures.first_iteration_s:9,.0f} ms"
    if figures.mfu is None or figures.peak_flops is None:
        yield "MFU", "unknown: the device's peak is not known"
    else:
        peak = f"{figures.peak_flops / 1e12:.3g} TFLOP/s in {figures.dtype} ({figures.peak_from})"
        yield "MFU", f"{figures.mfu:.1%} of {peak}"
    yield "sampling", format_rate(figures.sampling_tokens_per_second, "tokens/s", "not measured: out of memory")
    together = format_rate(figures.sampling_together_tokens_per_second, "tokens/s", "not measured: out of memory")
    yield f"  {figures.sampling_together} at once", together
    unmeasured = "not measured: no disk space"
    yield "preparing", format_rate(figures.preparation_mb_per_second, f"MB/s as {figures.tokenizer}", unmeasured)


def format_rate(figure: float | None, unit: str, otherwise: str) -> str:
    return otherwise if figure is None else f"{figure:,.0f} {unit}"
