"""Training of a byte pair encoding by Hugging Face's `tokenizers`, in a child process that can be cancelled.

The candidates, on 100 MB of source code and manuals to 9,157 entries (seconds of CPU, peak memory), in November 2026:

    gigabpe 0.1     3 s    91 MB  reads files line by line, so that no token spans a line end; GPT-2's pattern alone
    rustbpe 0.1    14 s   244 MB  any pattern; among pairs of equal count it merges another one first than tokenizers
    bpeasy 0.1.6   2.5 times rustbpe; the same order as rustbpe
    tokenizers     48 s   567 MB  any pattern; 160 MB for 20 MB of text in chunks of 16 kB instead of 1 MB

`tokenizers` is the slowest and the one that is well kept: a hundred releases since 2019, wheels for every platform and
Python, the reference for the order of the merges. The others had one release, or none for a year. Two cores train on
100 MB in half a minute. It brings `huggingface_hub` with its dependencies, so it is an extra; only training needs it.

Its training holds a whole text's distinct pieces in memory, cannot be interrupted, and reports nothing. So a child
process does it: it reads the text from its stdin, chunk by chunk, and writes the tokens to its stdout as JSON.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any, BinaryIO

from nanogpt import extras
from nanogpt.errors import UserError
from nanogpt.events import TokenizerTraining
from nanogpt.formatting import token_text
from nanogpt.processes import import_path
from nanogpt.tokenizers._pieces import oniguruma
from nanogpt.tokenizers._published import byte_characters
from nanogpt.tokenizers.base import safe_chunks

CHUNK_CHARACTERS = 1 << 14  # of a text that the child counts at a time; larger ones take more memory, not less time
REPORT_INTERVAL_S = 0.05
SHOWN_MERGES = 64  # of each event, so that the merges of a training come in a number of events
_CALL = "from nanogpt.tokenizers._bpe_training import work; work()"


def train(
    pattern: str, size: int, texts: Iterable[str], safe_cut: Callable[[str], int]
) -> Generator[TokenizerTraining, None, list[bytes]]:
    """Yield the progress and return the tokens in the order of their ids: 256 bytes, then one for each merge.

    There are `size` tokens, or fewer if the text has no more pairs to merge. Merges do not cross the pieces of
    `pattern`; among pairs of equal count, that of the lower ids comes first. `safe_cut` is `Tokenizer.safe_cut`.
    Closing the iterator ends the child. Raise `UserError` if `tokenizers` is not installed, the text is empty, or the
    child fails.
    """
    extras.load("tokenizers", "tokenizers", "the training of a tokenizer")
    done, reported = 0, 0.0
    with _child(pattern, size) as (child, output):
        try:
            assert child.stdin is not None
            for text in safe_chunks(texts, safe_cut, CHUNK_CHARACTERS):
                content = text.encode()
                child.stdin.write(len(content).to_bytes(4, "little") + content)
                done += len(content)
                if time.monotonic() - reported > REPORT_INTERVAL_S:
                    reported = time.monotonic()
                    yield TokenizerTraining(phase="read", done_bytes=done, total_bytes=0, vocab_size=0, target=size)
            child.stdin.write(bytes(4))
            child.stdin.close()
        except BrokenPipeError:
            pass  # the child has ended: its exit code is read below
        if not done:
            raise UserError("a tokenizer is trained on a text, and the text is missing or empty")
        merging = TokenizerTraining(phase="merge", done_bytes=done, total_bytes=done, vocab_size=256, target=size)
        while output.is_alive():
            yield merging
            output.join(REPORT_INTERVAL_S)
        characters = output.tokens(child.wait())
    byte_of = {character: byte for byte, character in byte_characters().items()}
    tokens = [bytes(map(byte_of.__getitem__, token)) for token in characters]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    for first in range(256, len(tokens), SHOWN_MERGES):
        merges = tuple(merge_text(token, ranks) for token in tokens[first : first + SHOWN_MERGES])
        yield TokenizerTraining(
            phase="merge",
            done_bytes=done,
            total_bytes=done,
            vocab_size=first + len(merges),
            target=size,
            merges=merges,
        )
    return tokens


def merge_text(token: bytes, ranks: dict[bytes, int]) -> str:
    """Return the merge that gave a token: “th” + “e” → “the”. `ranks` has the place of each token among all.

    The two parts are what the merges before it make of its bytes.
    """
    parts = [token[place : place + 1] for place in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        first = pairs.index(min(pairs))
        parts[first : first + 2] = [parts[first] + parts[first + 1]]
    left, right = parts
    return f"“{token_text(left)}” + “{token_text(right)}” → “{token_text(token)}”"


class _Output(threading.Thread):
    """Reads what the child writes, so that the caller can wait for it in small steps."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        super().__init__(name="tokenizer-training", daemon=True)
        self._child, self._content = child, b""

    def run(self) -> None:
        assert self._child.stdout is not None
        self._content = self._child.stdout.read()

    def tokens(self, exit_code: int) -> list[str]:
        """Return the tokens, in the characters that stand for their bytes. Raise `UserError` if the child failed."""
        with suppress(ValueError):
            tokens: list[str] = json.loads(self._content)
            return tokens
        what = (
            "was ended by the system, which may be out of memory" if exit_code < 0 else f"ended with code {exit_code}"
        )
        raise UserError(f"the training of the tokenizer {what}: train it on less text")


@contextmanager
def _child(pattern: str, size: int) -> Iterator[tuple["subprocess.Popen[bytes]", _Output]]:
    """Run the child; it has ended when the block is left."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", _CALL, str(size), pattern],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl+C is for the parent, which ends the child
        env=os.environ | {"PYTHONPATH": import_path()},
    )
    output = _Output(child)
    output.start()
    try:
        yield child, output
    finally:
        child.kill()
        with suppress(BrokenPipeError):
            child.__exit__(None, None, None)  # closes the pipes and waits
        output.join()


def work() -> None:
    """Train on the text from stdin and write the tokens to stdout: the child process."""
    size, pattern = int(sys.argv[1]), sys.argv[2]
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    json.dump(learn(pattern, size, _read(sys.stdin.buffer)), sys.stdout)


def learn(pattern: str, size: int, texts: Iterator[str]) -> list[str]:
    """Return the tokens, in the characters that stand for their bytes, in the order of their ids."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(oniguruma(pattern)), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = list(byte_characters().values())
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _read(file: BinaryIO) -> Iterator[str]:
    """Yield the chunks: each has its length in bytes before it, and a length of 0 ends the text."""
    while True:
        head = file.read(4)
        if len(head) < 4:
            os._exit(1)  # the parent has ended or cancels
        length = int.from_bytes(head, "little")
        if not length:
            return
        yield file.read(length).decode()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
