"""Every architecture at equal wall time and at equal parameters, on two cores: makes docs/leaderboard.md.

    python benchmarks/leaderboard.py [--seconds 300] [--seeds 1 2 3] [--only gpt2 lstm] [--text FILE] [--page FILE]
    python benchmarks/leaderboard.py --try lstm          one training, the validation split alone, nothing recorded

The entries are in `leaderboard.toml`. Each training is a process of its own. Its result is added to the JSON file
beside the page at once, and a later call trains only what is missing: the hours can be done in pieces, and a call that
is killed loses one training at most. Each machine has results of its own in that file; the page shows those of the
machine with the most.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from nanogpt.config import ARCHITECTURE, Config, names, resolve, with_settings
from nanogpt.config.presets import load_preset
from nanogpt.data import load_recipe, open_dataset, prepare, textfile_recipe
from nanogpt.data.text_size import known_text_size
from nanogpt.files import sha256, write_atomically
from nanogpt.formatting import significant
from nanogpt.hardware import cpu_has_bfloat16, cpu_model, share_cores
from nanogpt.loss_units import bits_per

ENTRIES = Path(__file__).with_suffix(".toml")
PAGE = Path(__file__).parents[1] / "docs" / "leaderboard.md"
TEXT = "shakespeare_char"  # the recipe of the text
VOCABULARY = {"char": 65, "byte": 256}  # of that text
CORES = 2
TOLERANCE = 0.05  # of the number of parameters
BUSY = 0.2  # cores that other programs used, on average, above which a training had less than its two
IRRELEVANT = {"dataset", "max_iters"}  # settings without effect here, and those of whole sections
IRRELEVANT_SECTIONS = {"evaluation", "checkpoint"}

Result = dict[str, Any]
Results = dict[str, Result]  # by `Job.key`
Machine = dict[str, Any]  # what tells one from another whose results do not compare with its own


@dataclass(frozen=True)
class Job:
    """One training of an entry. If both tables have equal settings, it is the same training."""

    entry: str
    track: str  # "time" or "parameters"
    tokenizer: str
    settings: Mapping[str, Any]
    seed: int
    seconds: float
    text: str  # SHA-256

    @property
    def key(self) -> str:
        """The conditions of a result; if one of them changes, it is measured again."""
        conditions = ("tokenizer", "settings", "seed", "seconds", "text")
        return json.dumps({name: getattr(self, name) for name in conditions}, sort_keys=True)


def load_jobs(seconds: float, seeds: Sequence[int], text: str, only: Sequence[str] = ()) -> list[Job]:
    """Return the trainings of the entries `only` (none: all), by seed, so that each entry has a first result early.

    Exit for an unknown entry, and for one that is not within the number of parameters.
    """
    file = tomllib.loads(ENTRIES.read_text(encoding="utf-8"))
    known = [entry["name"] for entry in file["entry"]]
    if unknown := sorted(set(only) - set(known)):
        sys.exit(f"no entry {', '.join(unknown)}; {ENTRIES.name} has {', '.join(known)}")
    jobs = []
    for entry in file["entry"]:
        values = {**load_preset(entry["preset"]).values, **entry.get("settings", {})}
        config = resolve(flags=values).config
        tokenizer = load_recipe(config.data.dataset).tokenizer
        tracks = {"time": values}
        if "equal_parameters" in entry:
            tracks["parameters"] = values | entry["equal_parameters"]
            check_parameters(entry["name"], tracks["parameters"], tokenizer, file["parameters"])
        # a counted model is the same with every seed
        own_seeds = seeds[:1] if config.model.capabilities.counted else seeds
        for track, chosen in tracks.items():
            relevant = {name: value for name, value in chosen.items() if is_relevant(name, config)}
            jobs += [Job(entry["name"], track, tokenizer, relevant, seed, seconds, text) for seed in own_seeds]
    return sorted((job for job in jobs if not only or job.entry in only), key=lambda job: seeds.index(job.seed))


def is_relevant(setting: str, config: Config) -> bool:
    known = config.settings()
    return setting not in IRRELEVANT and not (setting in known and known[setting].section in IRRELEVANT_SECTIONS)


def check_parameters(entry: str, values: Mapping[str, Any], tokenizer: str, wanted: int) -> None:
    found = resolve(flags={**values, "vocab_size": VOCABULARY[tokenizer]}).config.model.n_parameters()
    if abs(found / wanted - 1) > TOLERANCE:
        sys.exit(f"{entry} has {found:,} parameters: not within {TOLERANCE:.0%} of {wanted:,}")


# ---- one training, in a process of its own


def train(job: Job, data_dir: Path, with_test: bool) -> Result:
    """Train, evaluate the validation split and, if asked, the test split, each once; return the figures."""
    from nanogpt.runs import train_and_evaluate

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    dataset = open_dataset(job.tokenizer, data_dir)
    chosen = {"vocab_size": dataset.tokenizer.vocab_size, "seed": job.seed, "threads": CORES, "device": "cpu"}
    splits = ["val", "test"] if with_test else ["val"]
    tokens = {split: dataset.split(split) for split in ["train", *splits]}
    config = with_settings(resolve(flags=job.settings).config, chosen)
    began, before = time.monotonic(), others_cpu_s()
    with closing(train_and_evaluate(config, tokens, job.seconds, splits)) as events:
        while True:
            try:
                next(events)
            except StopIteration as end:
                result = end.value
                break
    others = None if before is None else ((others_cpu_s() or 0.0) - before) / (time.monotonic() - began)
    sizes = {split: known_text_size(dataset, split) for split in splits}
    return {
        "conditions": json.loads(job.key),
        "n_parameters": result.n_parameters,
        "steps": result.steps,
        "tokens_per_second": result.tokens / result.elapsed_s,
        "elapsed_s": result.elapsed_s,
        "dtype": result.dtype,
        "machine": this_machine(),
        "cores_used_by_others": others,
        "bits_per_byte": {s: bits_per(result.losses[s], size.tokens, size.bytes) for s, size in sizes.items()},
    }


def this_machine() -> Machine:
    return {"cpu": cpu_model(), "bfloat16": cpu_has_bfloat16()}


def key_of(result: Result) -> str:
    """Return the `Job.key` of a result."""
    return json.dumps(result["conditions"], sort_keys=True)


def by_machine(results: Iterable[Result]) -> list[tuple[Machine, Results]]:
    """Return the machines, the one with the most results first, and the results of each by `Job.key`."""
    groups: dict[str, Results] = {}
    for result in results:
        groups.setdefault(json.dumps(result["machine"], sort_keys=True), {})[key_of(result)] = result
    return [(json.loads(each), groups[each]) for each in sorted(groups, key=lambda each: -len(groups[each]))]


def results_of(machine: Machine, results: Iterable[Result]) -> Results:
    return next((own for known, own in by_machine(results) if known == machine), {})


def described(machine: Machine) -> str:
    return f"{machine.get('cpu') or 'not recorded'}, {'with' if machine['bfloat16'] else 'without'} bfloat16"


def others_cpu_s() -> float | None:
    """Return the seconds of CPU time of all other processes since the machine was started; None if not known."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split()[1:9]]
    except (OSError, ValueError):
        return None
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK") - time.process_time()


def train_in_child(job: Job, data_dir: Path, with_test: bool) -> Result | None:
    """Return the result of a training in a fresh process, with its peak memory; None, with a message, if it fails."""
    task = {"job": vars(job), "data_dir": str(data_dir), "with_test": with_test}
    with tempfile.TemporaryFile("w+") as out:
        # The child ends when its stdin does: also if this process is killed.
        child = subprocess.Popen(
            [sys.executable, __file__, "--child", json.dumps(task)], stdin=subprocess.PIPE, stdout=out
        )
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        if status:
            print(f"{job.entry} failed with exit code {child.returncode}", flush=True)
            return None
        result: Result = json.load(out)
    return result | {"peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)}


def run_child(task: Mapping[str, Any]) -> None:
    share_cores()  # as the command `nanogpt` does, before torch is imported
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    print(json.dumps(train(Job(**task["job"]), Path(task["data_dir"]), task["with_test"])))
    sys.stdout.flush()
    os._exit(0)  # the thread still reads


# ---- the page


@dataclass(frozen=True)
class Row:
    """An entry in a table: the results of its seeds."""

    entry: str
    results: Sequence[Result]

    def mean(self, split: str) -> float:
        return fmean(result["bits_per_byte"][split] for result in self.results)

    def cells(self) -> Iterator[str]:
        yield self.entry
        yield f"{self.results[0]['n_parameters']:,}"
        for split in ("val", "test"):
            values = [result["bits_per_byte"][split] for result in self.results]
            yield f"{fmean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")
        for name in ("steps", "tokens_per_second"):
            yield f"{fmean(result[name] for result in self.results):,.0f}"
        yield f"{max(result['peak_bytes'] for result in self.results) / 1e6:,.0f} MB"
        yield f"{significant(fmean(result['elapsed_s'] for result in self.results))} s"
        yield f"{len(self.results)}" + "*" * self.is_disturbed

    @property
    def is_disturbed(self) -> bool:
        """Whether a result would be better on a quiet machine; what ends before its time has seen all of the text."""
        used_its_time = self.results[0]["elapsed_s"] >= self.results[0]["conditions"]["seconds"]
        return used_its_time and any((result["cores_used_by_others"] or 0.0) > BUSY for result in self.results)


COLUMNS = (
    "entry",
    "parameters",
    "val bits/byte",
    "test bits/byte",
    "steps",
    "tokens/s",
    "peak memory",
    "time",
    "seeds",
)
BUSY_NOTE = f"""\
\\* A seed was trained while other programs used more than {BUSY:g} cores, so it saw fewer tokens than on a quiet
machine."""
RULES = """\
## Rules

1. The text is tiny Shakespeare, cut into 80 % for training, 10 % for validation and 10 % for the test, in this order.
   The tokenizers are `char`, with the 65 characters of the text, and `byte`.
2. An entry trains from random weights, on the training split alone, on two cores of one machine, with at most as many
   threads. All entries of the tables are measured on the same machine.
3. The time is the time of the training steps: making batches, forward, backward, optimizer. It begins when the model is
   built, and ends with the first step after {seconds:g} seconds. Starting Python, preparing the text and the evaluation
   at the end do not count. The learning rate follows the share of the time that has passed. Nothing is compiled. A
   model that is counted takes the time that counting takes, which must not be more.
4. For equal parameters a model has {parameters:,} trainable parameters, within 5 %, with the vocabulary of its
   tokenizer; it trains for the same time. A counted model has no fixed size and is in the first table only.
5. The loss is over the whole split, in bits per byte, in float32. Windows overlap by half, so each token is predicted
   from at least half of a window, and no later token is seen.
6. Settings are chosen by the validation split. The test split is evaluated once for each seed, after the training, and
   nothing is chosen by it.
7. Figures are the mean of the seeds {seeds}, ± their standard deviation. The order is by the test split. Peak memory is
   that of the whole process, with its evaluation.

## To enter

Add an entry to `benchmarks/leaderboard.toml`: a preset, or settings of `nanogpt train`, and those for equal parameters.
A new architecture is a folder in `nanogpt/models/`, or a package of your own; see
[Adding to it](ARCHITECTURE.md#adding-to-it). Then:

```sh
python benchmarks/leaderboard.py --try NAME --seconds 60
python benchmarks/leaderboard.py --only NAME
```

The first trains it, shows the validation split alone and records nothing: tune with it. The second trains all seeds,
records them in `docs/leaderboard.json` with the machine, and makes this page of the machine with the most results; for
a page of yours add `--page FILE`. Without `--only` it trains all that is missing, and can be stopped and called again
at any time.
"""


def page(everything: Iterable[Result], jobs: Sequence[Job], seconds: float, seeds: Sequence[int]) -> str:
    """Return the page of the machine with the most results under the present conditions, and what is missing."""
    machine, results = shown_machine(everything, jobs)
    parameters = tomllib.loads(ENTRIES.read_text(encoding="utf-8"))["parameters"]
    lines = [
        "# Leaderboard",
        "",
        "Every architecture on tiny Shakespeare, on two CPU cores: which one predicts unseen text best after the same",
        "time, and with the same number of parameters? Lower is better. Made by `python benchmarks/leaderboard.py`.",
        f"Processor: {described(machine)}.",
        "",
    ]
    titles = {"time": f"Equal time: {seconds:g} seconds", "parameters": f"Equal parameters: {parameters:,} ± 5 %"}
    all_missing, busy = list[str](), False
    for track, title in titles.items():
        rows, missing = list[Row](), list[str]()
        for entry in dict.fromkeys(job.entry for job in jobs if job.track == track):
            own = [job for job in jobs if (job.entry, job.track) == (entry, track)]
            done = [results[job.key] for job in own if job.key in results]
            if done:
                rows.append(Row(entry, done))
            if len(done) < len(own):
                missing.append(f"{entry} {len(own) - len(done)}")
        lines += [f"## {title}", ""]
        if rows:
            lines += ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
            lines += [f"| {' | '.join(row.cells())} |" for row in sorted(rows, key=lambda row: row.mean("test"))]
        else:
            lines.append("No results yet.")
        lines.append("")
        all_missing += [f"for equal {track} {', '.join(missing)}"] if missing else []
        busy |= any(row.is_disturbed for row in rows)
    lines += [BUSY_NOTE, ""] if busy else []
    if all_missing:
        lines += [f"Trainings that are missing: {'; '.join(all_missing)}.", ""]
    entered = {resolve(flags=job.settings).config.model.name for job in jobs}
    if absent := [name for name in names(ARCHITECTURE) if name not in entered]:
        lines += [f"Architectures without an entry: {', '.join(absent)}.", ""]
    shown_seeds = ", ".join(map(str, seeds))
    return "\n".join(lines) + "\n" + RULES.format(seconds=seconds, parameters=parameters, seeds=shown_seeds)


def shown_machine(everything: Iterable[Result], jobs: Sequence[Job]) -> tuple[Machine, Results]:
    """Return the machine that has done the most of these jobs, and its results; this one if none has."""
    wanted = {job.key for job in jobs}
    groups = by_machine(result for result in everything if key_of(result) in wanted)
    return groups[0] if groups else (this_machine(), {})


def read_results(path: Path) -> list[Result]:
    """Return the results of the JSON file, those of all machines; none if it does not exist."""
    if not path.exists():
        return []
    try:
        results: list[Result] = json.loads(path.read_text(encoding="utf-8"))
        by_machine(results)
    except (ValueError, TypeError, KeyError) as error:
        sys.exit(f"{path} has no results of this program ({error!r}): repair it, or move it away")
    return results


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write one result for each machine and conditions, the last one."""
    ordered = [own[key] for _, own in by_machine(results) for key in sorted(own)]
    write_atomically(path, json.dumps(ordered, indent=1, sort_keys=True) + "\n")


# ---- the command


def prepare_text(text: Path | None, data_dir: Path, tokenizers: set[str]) -> None:
    """Prepare the text with each tokenizer, as a data set of the tokenizer's name."""
    for tokenizer in sorted(tokenizers):
        recipe = load_recipe(TEXT) if text is None else textfile_recipe([text])
        for _ in prepare(
            recipe, data_dir=data_dir, tokenizer=tokenizer, output=tokenizer, val_ratio=0.1, test_ratio=0.1
        ):
            pass


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="time of each training (default: 300)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", default=[], metavar="ENTRY", help="train only these")
    parser.add_argument(
        "--try", dest="trial", metavar="ENTRY", help="train one, show its validation split, record nothing"
    )
    parser.add_argument("--no-training", action="store_true", help="make the page from the results alone")
    parser.add_argument("--text", type=Path, help="a local copy of the text, or another text to try the program")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page; the results are beside it, in .json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (math.isfinite(args.seconds) and args.seconds > 0):
        parser.error(f"--seconds={args.seconds:g}: has to be above 0")
    if not args.page.parent.is_dir():
        parser.error(f"--page={args.page}: there is no folder {args.page.parent}")
    return args


def main() -> None:
    args = parse()
    if args.child:
        run_child(json.loads(args.child))
    text = sha256(args.text) if args.text else str(load_recipe(TEXT).source.expected_sha256)
    conditions = args.seconds, args.seeds, text
    every, results_path = load_jobs(*conditions), args.page.with_suffix(".json")
    jobs = load_jobs(*conditions, [args.trial] if args.trial else args.only)
    results = read_results(results_path)
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        if not args.no_training:
            prepare_text(args.text, data_dir, {job.tokenizer for job in jobs})
        for job in [] if args.no_training else jobs:
            if args.trial:
                tried = train_in_child(job, data_dir, with_test=False)
                if tried is not None:
                    val = tried["bits_per_byte"]["val"]
                    print(f"{job.entry}, {job.track}, seed {job.seed}: val {val:.4f} bits per byte", flush=True)
                continue
            if job.key in results_of(this_machine(), results):
                continue
            print(f"{job.entry}, {job.track}, seed {job.seed} …", flush=True)
            result = train_in_child(job, data_dir, with_test=True)
            if result is None:
                continue
            results = [*read_results(results_path), result]
            write_results(results_path, results)
            write_atomically(args.page, page(results, every, args.seconds, args.seeds))
            print(f"  val {result['bits_per_byte']['val']:.4f} bits per byte, {result['steps']:,} steps", flush=True)
    if not args.trial:
        write_atomically(args.page, page(results, every, args.seconds, args.seeds))
        shown, _ = shown_machine(results, every)
        if shown != this_machine() and not args.no_training:
            print(
                f"{args.page} shows another machine, which has more results ({described(shown)}); "
                "make a page of this one with --page FILE"
            )


if __name__ == "__main__":
    main()
