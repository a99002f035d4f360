"""Whether dashboards show what a run recorded, and what they cost: `python benchmarks/dashboards.py [NAME …]`.

Trains a small model with the dashboards NAME (by default all that are installed) live, in a new folder, waits until
their processes have ended, reads what each has with its own reader, and compares it with the record of the run: every
value of every step, in 32 bits for TensorBoard. Weights & Biases is offline. Then the speed of trainings with and
without dashboards, which take turns: CPU of the training's process for a step, which the processes of the dashboards
are not part of, and the time. Needs the packages of the dashboards.
"""

import argparse
import json
import os
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

Shown = dict[str, dict[int, float]]  # by metric and step
PROJECT = "nanogpt"


def tensorboard(run: Path) -> Shown:
    """What TensorBoard's reader finds in the run's folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    tags = reader.Tags()
    shown: Shown = {tag: {event.step: event.value for event in reader.Scalars(tag)} for tag in tags["scalars"]}
    for tag in tags["tensors"]:
        shown[tag] = {event.step: event.tensor_proto.float_val[0] for event in reader.Tensors(tag)}
    return shown


def wandb(run: Path) -> Shown:
    """What the records of the offline run have, by wandb's own protocol buffers."""
    from wandb.proto import wandb_internal_pb2

    (file,) = (run / "wandb").glob("offline-run-*/*.wandb")
    shown: Shown = {}
    for data in leveldb_records(file.read_bytes()[7:], 7):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") != "history":
            continue
        items = record.history.item
        row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
        for name, value in row.items():
            if not name.startswith("_") and name != "iter":
                shown.setdefault(name, {})[int(row["iter"])] = float(value)
    return shown


def leveldb_records(content: bytes, offset: int) -> Iterator[bytes]:
    """Yield the records of a log in LevelDB's format, which wandb writes and only its program in Go reads.

    In blocks of 32 KB there are pieces with a header: checksum, length, and 1 for a whole record, else 2 for the first
    piece of one, 3 for another, 4 for the last. `offset` is where `content` is in its block.
    """
    at, record = 0, b""
    while at + 7 <= len(content):
        left = 32768 - (at + offset) % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        piece = content[at + 7 : at + 7 + length]
        at += 7 + length
        record = piece if kind in (1, 2) else record + piece
        if kind in (1, 4):
            yield record


def trackio(run: Path) -> Shown:
    """What trackio's own storage returns for the run."""
    from trackio.sqlite_storage import SQLiteStorage

    shown: Shown = {}
    for row in SQLiteStorage.get_logs(PROJECT, run.name):
        for name, value in row.items():
            if name not in ("step", "timestamp"):
                shown.setdefault(name, {})[int(row["step"])] = float(value)
    return shown


READERS: dict[str, Callable[[Path], Shown]] = {"tensorboard": tensorboard, "wandb": wandb, "trackio": trackio}


def recorded(run: Path) -> Shown:
    """What the run recorded, by the names that dashboards use."""
    from nanogpt.events import Evaluated, Step
    from nanogpt.interop.dashboards.base import STEP_METRICS
    from nanogpt.runs import history

    expected: Shown = {}
    for event in history(run):
        if isinstance(event, Step):
            values: dict[str, Any] = {name: getattr(event, field) for name, field in STEP_METRICS.items()}
            values["mfu"] = None if event.mfu is None else 100 * event.mfu
        elif isinstance(event, Evaluated):
            values = {"train/loss": event.train_loss, "val/loss": event.val_loss}
        else:
            continue
        for name, value in values.items():
            if value is not None:
                expected.setdefault(name, {})[event.step] = value
    return expected


def wait_for(children: list[Any]) -> None:
    """Wait until the processes have ended; end this one if one of them failed."""
    for child in children:
        if child.wait(300):
            sys.exit(f"a dashboard failed with exit code {child.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=[name for name in READERS if find_spec(name)])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dashboards-") as folder:
        measure(args, Path(folder))


def measure(args: argparse.Namespace, home: Path) -> None:
    """Compare and time, in the folder `home`."""
    os.environ |= {"NANOGPT_HOME": str(home), "WANDB_MODE": "offline", "TRACKIO_DIR": str(home / "trackio")}
    from nanogpt import processes
    from nanogpt.config import resolve
    from nanogpt.data import prepare, textfile_recipe
    from nanogpt.runs import find, new_folder, start

    text = home / "text.txt"
    text.write_text("To be, or not to be, that is the question.\n" * 3000)
    for _ in prepare(textfile_recipe([text], name="text")):
        pass
    children: list[Any] = []
    start_process = processes.start_python

    def start_python(*arguments: Any, **options: Any) -> Any:
        children.append(start_process(*arguments, **options))
        return children[-1]

    processes.start_python = start_python
    flags = {
        **{"dataset": "text", "max_iters": args.steps, "eval_interval": 100, "eval_iters": 5, "sample_tokens": 0},
        **{"n_layer": 2, "n_embd": 64, "compile": "false", "threads": 1},
    }

    def trained(name: str, dashboards: str) -> tuple[float, float]:
        """Train a run; return the CPU seconds and the seconds."""
        config = resolve(preset="macbook", flags={**flags, "dashboards": dashboards}).config
        cpu, wall = time.process_time(), time.monotonic()
        for _ in start(config, new_folder(name)):
            pass
        spent = time.process_time() - cpu, time.monotonic() - wall
        wait_for(children)
        return spent

    names = ",".join(args.names)
    trained("shown", names)
    run = find("shown")
    expected = recorded(run)
    for name in args.names:
        shown = READERS[name](run)
        for metric, values in expected.items():
            wanted = {step: float(np.float32(v)) if name == "tensorboard" else v for step, v in values.items()}
            if shown.get(metric) != wanted:
                sys.exit(f"{name}: {metric} differs: {len(shown.get(metric, {}))} of {len(wanted)} values")
        count = sum(map(len, expected.values()))
        print(f"{name}: {count:,} values of {len(expected)} metrics are those of the record")
    spent: dict[str, list[tuple[float, float]]] = {"": [], names: []}
    for number in range(args.rounds):
        for side in (("", names), (names, ""))[number % 2]:
            spent[side].append(trained(f"round-{number}-{bool(side)}", side))
    for side, rounds in spent.items() if args.rounds else ():
        cpu, wall = (statistics.median(column) / args.steps * 1000 for column in zip(*rounds, strict=True))
        print(f"{side or 'without'}: {cpu:.2f} ms of CPU a step, {wall:.2f} ms a step")


if __name__ == "__main__":
    main()
