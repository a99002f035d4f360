"""`nanogpt info RUN`: show one run. Imports no torch."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nanogpt.cli.tables import format_loss, format_whole, print_table
from nanogpt.errors import UserError
from nanogpt.events import LayerHealth, to_json
from nanogpt.formatting import printable
from nanogpt.loss_units import UNITS
from nanogpt.paths import expanded
from nanogpt.runs.checkpoints import best, list_checkpoints, trained_config
from nanogpt.runs.event_log import events_of
from nanogpt.runs.folder import find, read_run_toml, run_config, summary
from nanogpt.runs.manage import changed
from nanogpt.runs.state import state_to_dict

Figure = TypeVar("Figure")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run's name or path (default: the newest)")
    parser.add_argument("--health", action="store_true", help="the health of each layer, as measured last")
    parser.add_argument("--json", action="store_true", help="everything known, as JSON; with --health all measurements")
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    folder = find(args.run, args.runs_dir)
    if args.health:
        return show_health(folder, args.json)
    about = run_info(folder)
    if args.json:
        print(json.dumps(about, indent=1))
        return 0
    rows = [
        ("run", about["name"]),
        ("folder", about["path"]),
        ("state", about["phase"] + (f": {about['message']}" if about["message"] else "")),
        ("step", f"{about['step']:,} of {about['max_iters']:,}"),
        ("train loss", format_loss(about["train_loss"])),
        ("val loss", f"{format_loss(about['val_loss'])} (best {format_loss(about['best_val_loss'])})"),
        *([("EMA val loss", format_loss(about["ema_val_loss"]))] if about["ema_val_loss"] is not None else []),
        *other_units(about),
        (
            "speed",
            f"{format_whole(about['tokens_per_second'])} tokens/s"
            + (f", MFU {about['mfu']:.1%}" if about["mfu"] is not None else ""),
        ),
        *([("gradient noise", noise(about))] if about["noise_scale"] is not None else []),
        *(("problem", text) for text in about["problems"]),
        ("parameters", format_whole(about["n_parameters"])),
        ("data set", about["dataset"]),
        ("on", f"{about['device']}, {about['dtype']}" if about["device"] else "–"),
        ("settings", settings(folder)),
    ]
    for checkpoint in about["checkpoints"]:
        mark = "  best" if checkpoint["is_best"] else ""
        rows.append(
            ("checkpoint", f"step {checkpoint['step']:,}, val loss {format_loss(checkpoint['val_loss'])}{mark}")
        )
    print_table(rows)
    return 0


def show_health(folder: Path, as_json: bool) -> int:
    """Print the last measurement of the layers as a table, or all measurements as lines of JSON."""
    measured = events_of(folder, LayerHealth)
    if as_json:
        for event in measured:
            print(to_json(event))
        return 0
    if not measured:
        interval = run_config(folder).evaluation.health_interval
        when = "they are made every health_interval steps, from step 1 on" if interval else "health_interval is 0"
        text = f"has no measurement of its layers: {when}"
        print(printable(f"{folder.name} {text}"))
        return 0
    last = measured[-1]
    rows: list[tuple[str, ...]] = [
        ("layer", "gradient", "weights", "update", "dead", "mean", "std", "kurtosis", "attention entropy")
    ]
    columns = (last.gradient_norm, last.weight_norm, last.update_ratio, last.dead_units)
    moments = (last.activation_mean, last.activation_std, last.activation_kurtosis)
    for number, layer in enumerate(last.layers):
        gradient, weights, update, dead = (of_layer(column, number) for column in columns)
        entropies = of_layer(last.attention_entropy, number) or ()
        rows.append(
            (
                layer,
                figure(gradient),
                figure(weights),
                "–" if update is None else f"{update:.1f}",
                "–" if dead is None else f"{dead:.0%}",
                *(figure(of_layer(column, number)) for column in moments),
                " ".join("–" if each is None else f"{each:.2f}" for each in entropies),
            )
        )
    clipped = "" if last.clipped is None else f"; {last.clipped:.0%} of the gradients were clipped"
    print(f"step {last.step:,}, update as log10 of update / weights (-3 is usual){clipped}")
    print_table(rows, right=range(1, 8))
    for text in summary(folder).problems:
        print(printable(text))
    return 0


def of_layer(column: Sequence[Figure], number: int) -> Figure | None:
    """Return the figure of a layer; None if a record of another program has too few."""
    return column[number] if number < len(column) else None


def figure(value: float | None) -> str:
    """Return a figure with three significant digits; a dash if it is not defined."""
    return "–" if value is None else f"{value:.3g}"


def noise(about: dict[str, Any]) -> str:
    """Return the gradient noise scale, beside the sequences of a step."""
    data = about["config"].get("data", {})
    batch = data.get("batch_size", 0) * data.get("gradient_accumulation_steps", 0)
    return f"scale about {about['noise_scale']:,.0f} sequences; a step has {batch:,}"


def other_units(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the validation loss in the other units."""
    for unit in UNITS[1:]:
        name = unit.replace(" ", "_")
        yield unit, f"{format_loss(about[f'val_{name}'])} (best {format_loss(about[f'best_val_{name}'])})"


def settings(folder: Path) -> str:
    """Return the settings that are not defaults, or why they cannot be read."""
    try:
        return " ".join(f"{name}={value}" for name, value in changed(trained_config(folder)).items()) or "the defaults"
    except UserError as error:
        return str(error)


def run_info(folder: Path) -> dict[str, Any]:
    """Return the run's state, its checkpoints, and the tables of its run.toml under "config"."""
    top = best(folder)
    saved = [
        {"step": c.step, "path": str(c.path), "val_loss": c.val_loss, "is_best": c == top}
        for c in list_checkpoints(folder)
    ]
    return state_to_dict(summary(folder)) | {"checkpoints": saved, "config": read_run_toml(folder)}
