"""Measure the training of `bpe` tokenizers and their encoding, on a text of your own.

    python benchmarks/bpe.py TEXT [--megabytes 100] [--size 9157] [--pattern gpt2]

Prints the seconds and the peak memory of a training on the beginning of TEXT, that of both processes together as the
sum of their proportional set sizes (PSS, from /proc), the difference from the entries that `tokenizers` itself learns
from 5 MB, whether every file of the standard library comes back from its tokens, and the speed of encoding beside
tiktoken's own.
"""

import argparse
import json
import os
import resource
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tiktoken

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.process_tree import Sampler
from nanogpt import tokenizers
from nanogpt.tokenizers import Tokenizer
from nanogpt.tokenizers._bpe_training import learn
from nanogpt.tokenizers._published import byte_characters
from nanogpt.tokenizers.bpe import PATTERNS

COMPARED_BYTES = 5_000_000
ENCODED_CHARACTERS = 20_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--megabytes", type=float, default=100.0)
    parser.add_argument("--size", type=int, default=9157)
    parser.add_argument("--pattern", choices=sorted(PATTERNS), default="gpt2")
    args = parser.parse_args()
    most = round(args.megabytes * 1e6)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    began = time.monotonic()
    with Sampler(os.getpid()) as sampler:
        tokenizer = tokenizers.create(f"bpe:{args.size},pattern={args.pattern}", parts(args.text, most))
    elapsed_s = time.monotonic() - began
    child, own = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    megabytes = min(most, args.text.stat().st_size) / 1e6
    cpu_s = sum((child.ru_utime, child.ru_stime, own.ru_utime, own.ru_stime))
    print(
        f"training on {megabytes:.0f} MB to {tokenizer.vocab_size:,} entries: {elapsed_s:.1f} s, {cpu_s:.1f} s of CPU"
    )
    print(
        f"peak memory: {sampler.peak_pss / 1e6:.0f} MB together, {child.ru_maxrss / 1e3:.0f} MB in the child, "
        f"{own.ru_maxrss / 1e3:.0f} MB here; load {load}"
    )
    print(f"entries as tokenizers learns them from 5 MB: {is_equal(args.text, args.pattern)}")
    print(f"files of the standard library that do not come back: {len(list(changed_files(tokenizer)))}")
    ours, theirs = encoding_rates(tokenizer, "".join(parts(args.text, ENCODED_CHARACTERS)))
    print(f"encoding: {ours:.1f} MB/s, tiktoken's own {theirs:.1f} MB/s")


def parts(path: Path, most: int) -> Iterator[str]:
    """Yield the first bytes of a text."""
    with path.open(encoding="utf-8", newline="", errors="replace") as file:
        while most > 0 and (part := file.read(min(most, 1 << 20))):
            most -= len(part.encode())
            yield part


def is_equal(path: Path, pattern: str) -> bool:
    """Return whether the entries are those that the library learns from the text in one piece."""
    text = "".join(parts(path, COMPARED_BYTES))
    ours = tokenizers.create(f"bpe:2048,pattern={pattern},special_tokens=", [text])
    byte_of = {character: byte for byte, character in byte_characters().items()}
    theirs = [bytes(byte_of[c] for c in token) for token in learn(["2048", PATTERNS[pattern]], iter([text]))["tokens"]]
    return theirs == [ours.token_bytes(id) for id in range(ours.vocab_size)]


def changed_files(tokenizer: Tokenizer) -> Iterator[Path]:
    """Yield the files of Python's standard library that are not the same after encoding and decoding."""
    for path in Path(sysconfig.get_path("stdlib")).rglob("*.py"):
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
        if "site-packages" not in path.parts and tokenizer.decode(tokenizer.encode_to_array(text)) != text:
            yield path


def encoding_rates(tokenizer: Tokenizer, text: str) -> tuple[float, float]:
    """Return the MB/s of our encoding and of tiktoken's with the same vocabulary and pattern, the best of three."""
    saved: dict[str, Any] = json.loads(json.dumps(tokenizer.to_json()))
    plain = tiktoken.Encoding(
        "plain",
        pat_str=saved["pattern"],
        mergeable_ranks={
            tokenizer.token_bytes(id): id for id in range(tokenizer.vocab_size) if id not in tokenizer.special_ids
        },
        special_tokens=saved["special_tokens"],
    )
    megabytes, best = len(text.encode()) / 1e6, [float("inf"), float("inf")]
    tokenizer.encode_to_array(text[:2_000_000])  # from then on the thread has an encoding of its own
    for _ in range(3):
        for number, encode in enumerate((tokenizer.encode_to_array, plain.encode_ordinary)):
            began = time.perf_counter()
            encode(text)
            best[number] = min(best[number], time.perf_counter() - began)
    return megabytes / best[0], megabytes / best[1]


if __name__ == "__main__":
    main()
