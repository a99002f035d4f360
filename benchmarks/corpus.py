"""Prepares a synthetic corpus from a web server that fails, with kills, and measures time, memory and the output.

    python benchmarks/corpus.py [--megabytes 2000] [--rounds 1] [--kills 10] [--tokenizer gpt2] [--folder FOLDER]

Writes Parquet tables and JSON lines (gz, zst) with documents of Python's sources, of which some occur more than once,
and serves them on this machine. Then prepares them with one worker process and with two, from a server without faults,
in turn and as often as --rounds says; and with two from a server that drops a tenth of its connections and stalls
another twentieth for longer than the time limit, while the preparation is killed with SIGKILL at random moments and
started again. Prints one table: times, CPU seconds of the main process and of its children, the largest sum of the
proportional set sizes (PSS) of all processes of a preparation, and a hash of all files except meta.json, which has the
time. The two speeds are compared by their medians. Exit code 1 if the files differ. Needs /proc, for the PSS. The
speeds are only comparable on an idle machine: two workers need two idle cores, and the server a little of them.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.process_tree import Sampler
from tests.faulty_server import FaultyServer

SHARD_BYTES = 48_000_000  # of text
MEAN_DOCUMENT = 3000  # characters
DUPLICATES = 0.05  # share of the documents
TIMEOUT_S, STALL_S = 2.0, 6.0


def main() -> int:
    """Run all parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2000, help="size of the text")
    parser.add_argument("--rounds", type=int, default=1, help="of one worker, then two")
    parser.add_argument("--kills", type=int, default=10, help="0: no preparation with faults and kills")
    parser.add_argument("--tokenizer", default="gpt2")
    parser.add_argument("--folder", help="where to work; by default the system's temporary folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "FAULTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(Path(args.serve[0]), faults=args.serve[1] == "yes")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        began = time.monotonic()
        documents, stored = make_corpus(folder / "shards", args.megabytes * 1_000_000, args.seed)
        print(
            f"{args.megabytes:,} MB of text in {documents:,} documents, {stored / 1e6:,.0f} MB on disk, "
            f"made in {time.monotonic() - began:.0f} s",
            flush=True,
        )
        # at least 30 windows, so that a kill does not lose everything of a small corpus
        window = min(1 << 24, args.megabytes * 1_000_000 // 100)
        runs = []
        with server(folder / "shards", faults=False) as url:
            for number in range(2 * args.rounds):
                workers = 1 + number % 2
                runs.append(prepare(folder / f"preparation-{number}", url, args.tokenizer, window, workers))
                print(f"{runs[-1].name}: {runs[-1].elapsed_s:.1f} s", flush=True)
        if args.kills:
            longest = 2 * runs[1].elapsed_s / args.kills
            draw = random.Random(args.seed)
            with server(folder / "shards", faults=True) as url:
                killed = folder / "killed"
                runs.append(
                    prepare(killed, url, args.tokenizer, window, 2, lambda: draw.uniform(0, longest), args.kills)
                )
        return report(runs, args.megabytes)


@dataclass
class Run:
    """What was measured of one preparation."""

    name: str
    workers: int
    elapsed_s: float = 0.0
    main_cpu_s: float = 0.0
    children_cpu_s: list[float] = field(default_factory=list)
    most_pss: int = 0
    kills: int = 0
    files: dict[str, str] = field(default_factory=dict)
    tokens: int = 0


def texts(total: int, draw: random.Random) -> Iterator[str]:
    """Yield documents of about `total` characters in all."""
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
    base = "".join(path.read_text("utf-8", "ignore") for path in sources[:1500])
    earlier: list[str] = []
    done = number = 0
    while done < total:
        if earlier and draw.random() < DUPLICATES:
            text = draw.choice(earlier)
        else:
            start, size = draw.randrange(len(base)), int(draw.expovariate(1 / MEAN_DOCUMENT)) + 50
            number += 1
            text = f"{number}\n{base[start : start + size]}"
            if len(earlier) < 10_000:
                earlier.append(text)
        done += len(text)
        yield text


def make_corpus(folder: Path, total: int, seed: int) -> tuple[int, int]:
    """Write the shards and their SHA256SUMS; return the number of documents and the bytes on disk."""
    folder.mkdir()
    documents, shard, size, sums, stored = 0, [], 0, [], 0

    def write() -> None:
        nonlocal stored
        number = len(sums)
        path = folder / f"part-{number:05}.{('parquet', 'jsonl.gz', 'jsonl.zst')[number % 3]}"
        write_shard(path, shard)
        stored += path.stat().st_size
        sums.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")

    for text in texts(total, random.Random(seed)):
        shard.append(text)
        documents += 1
        size += len(text)
        if size > SHARD_BYTES:
            write()
            shard, size = [], 0
    if shard:
        write()
    (folder / "SHA256SUMS").write_text("".join(sums))
    return documents, stored


def write_shard(path: Path, documents: list[str]) -> None:
    """Write documents in the format that the name of the file says."""
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"text": documents}), path, row_group_size=1000, compression="zstd")
        return
    lines = "".join(json.dumps({"text": text}) + "\n" for text in documents).encode()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines, 1))
    elif sys.version_info >= (3, 14):
        from compression import zstd

        path.write_bytes(zstd.compress(lines, 1))
    else:
        from backports import zstd

        path.write_bytes(zstd.compress(lines, 1))


def serve(folder: Path, *, faults: bool) -> int:
    """Serve a folder until stdin is at its end; print the address."""
    drop, stall = (0.1, 0.05) if faults else (0, 0)
    with FaultyServer(folder, drop=drop, stall=stall, stall_s=STALL_S) as running:
        print(running.url, flush=True)
        sys.stdin.read()
        print(
            f"server: {len(running.names)} requests, {running.dropped} dropped, {running.stalled} stalled", flush=True
        )
    return 0


class server:
    """A server in a process of its own, whose memory and time are not those of the preparation."""

    def __init__(self, folder: Path, *, faults: bool) -> None:
        command = [sys.executable, __file__, "--serve", str(folder), "yes" if faults else "no"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        output, _ = self.process.communicate()
        print(output, end="", flush=True)


RECIPE = """tokenizer = "{tokenizer}"
[splits]
val_ratio = 0.0005
[source]
kind = "mirror"
urls = ["{url}"]
manifest = "SHA256SUMS"
timeout_s = {timeout_s}
[documents]
shuffle_tokens = {window}
"""


def prepare(folder: Path, url: str, tokenizer: str, window: int, workers: int, delay=None, kills: int = 0) -> Run:
    """Prepare the corpus in a folder. With `delay`, kill it `kills` times, each after as many seconds as it returns."""
    recipes = folder / "config" / "datasets"
    recipes.mkdir(parents=True)
    recipe = RECIPE.format(tokenizer=tokenizer, url=url, timeout_s=TIMEOUT_S, window=window)
    (recipes / "corpus.toml").write_text(recipe)
    environment = os.environ | {
        "NANOGPT_CONFIG_DIR": str(folder / "config"),
        "NANOGPT_DATA_DIR": str(folder / "data"),
        "no_proxy": "*",
    }
    name = f"{workers} {'worker' if workers == 1 else 'workers'}"
    run = Run(f"{name}, killed" if delay else name, workers)
    command = [sys.executable, "-m", "nanogpt", "prepare", "corpus", f"--workers={workers}"]
    began = time.monotonic()
    while True:
        with (
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process,
            Sampler(process.pid) as sampler,
        ):
            if delay is not None and run.kills < kills:
                try:
                    process.wait(timeout=delay())
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    run.kills += 1
            _, errors = process.communicate()
        run.most_pss = max(run.most_pss, sampler.peak_pss)
        if process.returncode == 0:
            break
        if process.returncode != -signal.SIGKILL:
            sys.exit(f"the preparation failed: {errors.decode()[-2000:]}")
    run.elapsed_s = time.monotonic() - began
    run.main_cpu_s = sampler.cpu_s.pop(process.pid)
    run.children_cpu_s = list(sampler.cpu_s.values())
    data = folder / "data" / "corpus"
    for path in sorted(data.iterdir()):
        if path.name != "meta.json":  # it has the time
            with path.open("rb") as file:
                run.files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    run.tokens = sum(json.loads((data / "meta.json").read_text())["tokens"].values())
    shutil.rmtree(folder)
    return run


def report(runs: list[Run], megabytes: int) -> int:
    """Print the table; return the exit code."""
    print(
        f"\n{'preparation':<20}{'seconds':>9}{'MB/s':>7}{'kills':>7}{'most MB':>9}  {'files':<14}CPU s: main, children"
    )
    for run in runs:
        digest = hashlib.sha256("".join(run.files.values()).encode()).hexdigest()[:12]
        # that of the processes before a kill is not known
        cpu = "–" if run.kills else f"{run.main_cpu_s:.1f}, " + " + ".join(f"{each:.1f}" for each in run.children_cpu_s)
        print(
            f"{run.name:<20}{run.elapsed_s:>9.1f}{megabytes / run.elapsed_s:>7.1f}{run.kills:>7}"
            f"{run.most_pss / 1e6:>9.0f}  {digest:<14}{cpu}"
        )
    same = all(run.files == runs[0].files for run in runs)
    print(f"\n{runs[0].tokens:,} tokens in {len(runs[0].files) - 1} files: {'identical' if same else 'DIFFERENT'}")
    one, two = (median(run.elapsed_s for run in runs if run.workers == each and not run.kills) for each in (1, 2))
    print(f"two workers are {one / two:.2f} times as fast as one")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
