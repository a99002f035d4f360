"""How fast a large text is prepared, and in how much memory.

    python benchmarks/prepare.py TEXT [--megabytes 1000] [--tokenizers char,gpt2] [--folder FOLDER]

Repeats TEXT up to the size asked for, prepares it in a process of its own with each tokenizer, and prints megabytes of
text a second, the peak resident memory of that process, and for byte pair encodings the speed relative to one
thread of tiktoken over the same text.
"""

import argparse
import base64
import resource
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import tiktoken

from nanogpt import tokenizers

PREPARE = """
import sys
from pathlib import Path
from nanogpt.data import prepare, textfile_recipe
text, folder, tokenizer = sys.argv[1:]
for event in prepare(textfile_recipe([text], name=tokenizer, tokenizer=tokenizer), data_dir=Path(folder)):
    pass
print(*event.tokens.values())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--tokenizers", default="char,gpt2")
    parser.add_argument("--folder", help="where to work; by default the system's temporary folder")
    args = parser.parse_args()
    sample = args.text.read_bytes()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        text = Path(folder, "text.txt")
        with text.open("wb") as file:
            while file.tell() < args.megabytes * 1e6:
                file.write(sample)
        for tokenizer in args.tokenizers.split(","):
            measure(text, folder, tokenizer, sample.decode("utf-8"))


def measure(text: Path, folder: str, tokenizer: str, sample: str) -> None:
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, str(text), folder, tokenizer], check=True, capture_output=True, text=True
    )
    elapsed_s = time.perf_counter() - began
    rate = text.stat().st_size / 1e6 / elapsed_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cores = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / elapsed_s
    # The largest child so far: the ones before this one count too, so the cheapest tokenizer should come first.
    peak_bytes = after.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    line = f"{tokenizer}: {elapsed_s:.1f} s, {rate:.0f} MB/s on {cores:.2f} cores, peak {peak_bytes / 1e6:.0f} MB"
    line += f", tokens {done.stdout.strip()}"
    if tokenizer not in ("char", "byte"):
        single = one_thread_rate(tokenizer, sample)
        line += f", {rate / single:.2f} times one thread of tiktoken ({single:.1f} MB/s)"
    print(line, flush=True)


def one_thread_rate(tokenizer: str, sample: str) -> float:
    """Megabytes a second of tiktoken's own encoding in one thread, the best of five readings."""
    described, best = tokenizers.create(tokenizer).to_json(), float("inf")
    special = described["special_tokens"]
    vocabulary = map(base64.b64decode, described["vocabulary"])
    free_ids = (id for id in count() if id not in special.values())
    encoding = tiktoken.Encoding(
        tokenizer,
        pat_str=described["pattern"],
        mergeable_ranks=dict(zip(vocabulary, free_ids, strict=False)),
        special_tokens=special,
    )
    for _ in range(5):
        began = time.perf_counter()
        encoding.encode_to_numpy(sample, disallowed_special=())
        best = min(best, time.perf_counter() - began)
    return len(sample.encode()) / 1e6 / best


if __name__ == "__main__":
    main()
