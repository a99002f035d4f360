"""`nanogpt bench`: how fast this machine trains and samples a configuration. Writes no run."""

import argparse
import json
from statistics import median
from typing import Any

from nanogpt.cli.console import talk
from nanogpt.cli.settings import add_settings, configured
from nanogpt.cli.train import add_folders
from nanogpt.cli.training_display import opened

DESCRIPTION = (
    """Measure training (after a burn-in) and sampling on this machine, with the settings of `nanogpt train`."""
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--steps", type=int, default=20, help="iterations to measure (default: 20)")
    parser.add_argument("--burn_in", type=int, default=10, help="iterations before that (default: 10)")
    add_folders(parser)
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    config = configured(args).config
    dataset = opened(config.data.dataset, args.data_dir)
    figures = measure(config, dataset, args.burn_in, args.steps)
    if args.json:
        print(json.dumps(figures, indent=1))
        return 0
    peak = f"{figures['peak_flops'] / 1e12:.3g} TFLOP/s" if figures["peak_flops"] else "unknown"
    mfu = f"{figures['mfu']:.1%} of {peak}" if figures["mfu"] is not None else "unknown: the device's peak is not known"
    print(f"on          {figures['device']}, {figures['dtype']}{', compiled' if figures['compile'] else ''}")
    print(f"parameters  {figures['n_parameters']:,}")
    print(f"training    {figures['ms_per_iteration']:.2f} ms/iteration, {figures['tokens_per_second']:,.0f} tokens/s")
    print(f"MFU         {mfu}")
    print(f"sampling    {figures['sampling_tokens_per_second']:,.0f} tokens/s")
    return 0


def measure(config: Any, dataset: Any, burn_in: int, steps: int) -> dict[str, Any]:
    """The figures by name; times in the units that the names say."""
    from nanogpt import hardware, models, runs, sampling
    from nanogpt.config import SamplingConfig, with_settings
    from nanogpt.events import Stopped
    from nanogpt.training.probe import seconds_per_step

    config = with_settings(config, {"vocab_size": config.model.vocab_size or dataset.tokenizer.vocab_size})
    talk(f"training {burn_in} + {steps} iterations …")
    started, durations = seconds_per_step(config, runs.splits(dataset), burn_in=burn_in, steps=steps)
    per_second = config.tokens_per_iteration / median(durations)
    model = models.create(config.model).to(hardware.resolve_device(config.system.device)).eval()
    talk("sampling …")
    knobs = SamplingConfig(max_new_tokens=4 * min(config.model.block_size, 256))
    ends = [e for e in sampling.generate(model, dataset.tokenizer, "", knobs) if isinstance(e, Stopped)]
    return {
        "device": started.device,
        "dtype": started.dtype,
        "compile": started.compile,
        "choices": started.choices,
        "n_parameters": started.n_parameters,
        "tokens_per_iteration": started.tokens_per_iteration,
        "ms_per_iteration": 1000 * median(durations),
        "tokens_per_second": per_second,
        "mfu": per_second * model.flops_per_token() / started.peak_flops if started.peak_flops else None,
        "peak_flops": started.peak_flops,
        "sampling_tokens_per_second": ends[0].tokens_per_second,
    }
