"""One architecture on texts in different tokenizers at equal wall time, on two cores: makes docs/tokenizers.md.

    python benchmarks/compare_tokenizers.py [--seconds 120] [--seeds 1] [--only char bpe:512] [--page FILE]

The losses are of the whole validation split, in bits per byte, which compare whatever a token is. As in
`leaderboard.py`, each training is a process of its own, its result is added to the JSON file beside the page at once,
and a later call trains only what is missing.
"""

import argparse
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from leaderboard import (
    BUSY,
    BUSY_NOTE,
    IRRELEVANT,
    Job,
    Result,
    is_relevant,
    read_results,
    train_in_child,
    write_results,
)

from nanogpt.config import resolve
from nanogpt.config.presets import load_preset
from nanogpt.data import Dataset, load_recipe, open_dataset, prepare
from nanogpt.errors import UserError
from nanogpt.files import write_atomically
from nanogpt.formatting import significant

PAGE = Path(__file__).parents[1] / "docs" / "tokenizers.md"
TEXTS = ("shakespeare_char", "shakespeare_plays")  # recipes
TOKENIZERS = ("char", "byte", "bpe:512", "bpe:1024", "bpe:4096", "gpt2")
PRESET = "quickstart"  # small enough to learn in minutes
COLUMNS = (
    "tokenizer",
    "vocabulary",
    "bytes/token",
    "parameters",
    "val bits/byte",
    "steps",
    "tokens/s",
    "kB/s",
    "seeds",
)
ABOUT = """\
# Tokenizers

The same architecture on the same text in different tokens: which tokenizer lets a model predict unseen text best after
the same time? Lower is better. Made by `python benchmarks/compare_tokenizers.py`.

Each training takes {seconds:g} seconds on two CPU cores, with the settings of the preset `{preset}`: a block of
{block_size} tokens, {n_layer} layers, {n_embd} wide. The learning rate follows the share of the time that has passed. A
`bpe` tokenizer is trained on the training split. The loss is over the whole validation split, the last tenth of the
text, in bits per byte, in float32; windows overlap by half. A larger vocabulary has more parameters in the embedding
and the head, and a token stands for more text: kB/s is the text that is trained on in a second, and a window spans more
of it. Bytes/token is that of the validation split, kB/s that of the training split.
"""


@dataclass(frozen=True)
class Entry:
    """A text in one tokenizer: its data set, and its trainings by seed."""

    text: str
    tokenizer: str
    dataset: Dataset
    jobs: Sequence[Job]

    def results(self, known: Mapping[str, Result]) -> list[Result]:
        return [known[job.key] for job in self.jobs if job.key in known]


def entries(data_dir: Path, seconds: float, seeds: Sequence[int], source: Path | None) -> Iterator[Entry]:
    """Prepare each text with each tokenizer, and yield them; say which text is left out, because it is not here."""
    values = load_preset(PRESET).values
    config = resolve(flags=values).config
    relevant = {name: value for name, value in values.items() if is_relevant(name, config) and name not in IRRELEVANT}
    for text in TEXTS:
        for tokenizer in TOKENIZERS:
            name = f"{text}-{tokenizer.replace(':', '-')}"
            try:
                local = source if text == TEXTS[0] else None
                for _ in prepare(load_recipe(text), data_dir=data_dir, source=local, tokenizer=tokenizer, output=name):
                    pass
            except UserError as error:
                print(f"{text} in {tokenizer} is left out: {error}", flush=True)
                break
            dataset = open_dataset(name, data_dir)
            sha256 = str(dataset.meta.source["sha256"])
            jobs = [Job(name, "time", name, relevant, seed, seconds, sha256) for seed in seeds]
            yield Entry(text, tokenizer, dataset, jobs)


def page(known: Mapping[str, Result], found: Sequence[Entry], seconds: float) -> str:
    """Return the page of all results under the present conditions, and what is missing."""
    model = resolve(flags=load_preset(PRESET).values).config.model
    shape = {name: getattr(model, name) for name in ("block_size", "n_layer", "n_embd")}
    lines = [ABOUT.format(seconds=seconds, preset=PRESET, **shape)]
    missing, busy = list[str](), False
    for text in dict.fromkeys(entry.text for entry in found):
        own = [entry for entry in found if entry.text == text]
        rows = [(entry, results) for entry in own if (results := entry.results(known))]
        missing += [f"{text} in {e.tokenizer}" for e in own if len(e.results(known)) < len(e.jobs)]
        val, train = (own[0].dataset.meta.split_bytes[split] / 1e6 for split in ("val", "train"))
        lines += [f"## {load_recipe(text).title}", "", f"{train:.1f} MB for training, {val:.2f} MB for validation.", ""]
        if rows:
            lines += ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
        for entry, results in sorted(rows, key=lambda row: mean_bits(row[1])):
            disturbed = any((result["cores_used_by_others"] or 0.0) > BUSY for result in results)
            busy |= disturbed
            lines.append(f"| {' | '.join(cells(entry, results))}{'*' * disturbed} |")
        lines.append("" if rows else "No results yet.\n")
    lines += [BUSY_NOTE, ""] if busy else []
    lines += [f"Trainings that are missing: {', '.join(missing)}.", ""] if missing else []
    return "\n".join(lines)


def mean_bits(results: Sequence[Result]) -> float:
    return fmean(result["bits_per_byte"]["val"] for result in results)


def cells(entry: Entry, results: Sequence[Result]) -> Iterator[str]:
    meta, bits = entry.dataset.meta, [result["bits_per_byte"]["val"] for result in results]
    bytes_per_token = meta.split_bytes["val"] / meta.tokens["val"]
    rate = fmean(result["tokens_per_second"] for result in results)
    yield entry.tokenizer
    yield f"{meta.vocab_size:,}"
    yield f"{bytes_per_token:.2f}"
    yield f"{results[0]['n_parameters']:,}"
    yield f"{fmean(bits):.4f}" + (f" ± {stdev(bits):.4f}" if len(bits) > 1 else "")
    yield f"{fmean(result['steps'] for result in results):,.0f}"
    yield f"{rate:,.0f}"
    yield significant(rate * meta.split_bytes["train"] / meta.tokens["train"] / 1e3)
    yield f"{len(results)}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="time of each training (default: 120)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", default=[], metavar="TOKENIZER", help="train only these")
    parser.add_argument("--source", type=Path, help=f"a local copy of the text of {TEXTS[0]}")
    parser.add_argument("--no-training", action="store_true", help="make the page from the results alone")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page; the results are beside it, in .json")
    args = parser.parse_args()
    if not (math.isfinite(args.seconds) and args.seconds > 0):
        parser.error(f"--seconds={args.seconds:g}: has to be above 0")
    if unknown := sorted(set(args.only) - set(TOKENIZERS)):
        parser.error(f"--only={unknown[0]}: has to be one of {', '.join(TOKENIZERS)}")
    return args


def main() -> None:
    args = parse()
    results_path = args.page.with_suffix(".json")
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        every = list(entries(data_dir, args.seconds, args.seeds, args.source))
        for entry in every:
            if args.no_training or (args.only and entry.tokenizer not in args.only):
                continue
            for job in entry.jobs:
                if job.key in read_results(results_path):
                    continue
                print(f"{entry.text} in {entry.tokenizer}, seed {job.seed} …", flush=True)
                result = train_in_child(job, data_dir, with_test=False)
                if result is None:
                    continue
                write_results(results_path, read_results(results_path) | {job.key: result})
                write_atomically(args.page, page(read_results(results_path), every, args.seconds))
                print(
                    f"  val {result['bits_per_byte']['val']:.4f} bits per byte, {result['steps']:,} steps", flush=True
                )
        write_atomically(args.page, page(read_results(results_path), every, args.seconds))


if __name__ == "__main__":
    main()
