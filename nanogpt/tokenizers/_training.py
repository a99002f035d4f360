"""Training of a tokenizer in a child process: the libraries cannot be interrupted and report nothing.

The child reads the text from its stdin, chunk by chunk, and writes its result to its stdout as JSON. It imports no
torch and ends with its parent.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import islice
from typing import Any, BinaryIO

from nanogpt import processes
from nanogpt.errors import UserError
from nanogpt.events import TokenizerTraining

REPORT_INTERVAL_S = 0.05
SHOWN = 64  # entries of each event, so that the entries of a vocabulary come in a number of events


def run(
    module: str, arguments: Sequence[str], chunks: Iterable[str], target: int, given: int
) -> Generator[TokenizerTraining, None, Any]:
    """Yield the progress of `learn(arguments, chunks)` of a module of this package, and return what it returns.

    `learn` runs in the child. `target` is the size of the vocabulary, of which `given` entries are not learned. Closing
    the iterator ends the child. Raise `UserError` if the text is empty or the child fails.
    """
    done, reported = 0, 0.0
    with _child(module, arguments) as (child, output):
        try:
            assert child.stdin is not None
            for text in chunks:
                content = text.encode()
                child.stdin.write(len(content).to_bytes(4, "little") + content)
                done += len(content)
                if time.monotonic() - reported > REPORT_INTERVAL_S:
                    reported = time.monotonic()
                    yield TokenizerTraining(phase="read", done_bytes=done, total_bytes=0, vocab_size=0, target=target)
            child.stdin.write(bytes(4))
            child.stdin.close()
        except BrokenPipeError:
            pass  # the child has ended: its exit code is read below
        if not done:
            raise UserError("a tokenizer is trained on a text, and the text is missing or empty")
        while output.is_alive():
            yield TokenizerTraining(phase="merge", done_bytes=done, total_bytes=done, vocab_size=given, target=target)
            output.join(REPORT_INTERVAL_S)
        return output.result(child.wait())


def show(learned: Iterable[str], given: int, target: int) -> Iterator[TokenizerTraining]:
    """Yield the events that show what was learned after the first `given` entries, in its order."""
    texts, size = iter(learned), given
    while merges := tuple(islice(texts, SHOWN)):
        size += len(merges)
        yield TokenizerTraining(
            phase="merge", done_bytes=0, total_bytes=0, vocab_size=size, target=target, merges=merges
        )


class _Output(threading.Thread):
    """Reads what the child writes, so that the caller can wait for it in small steps."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        super().__init__(name="tokenizer-training", daemon=True)
        self._child, self._content = child, b""

    def run(self) -> None:
        assert self._child.stdout is not None
        self._content = self._child.stdout.read()

    def result(self, exit_code: int) -> Any:
        """Return the child's result. Raise `UserError` if it failed."""
        with suppress(ValueError):
            found = json.loads(self._content)
            if "error" in found:
                raise UserError(found["error"])
            return found["result"]
        what = (
            "was ended by the system, which may be out of memory" if exit_code < 0 else f"ended with code {exit_code}"
        )
        raise UserError(f"the training of the tokenizer {what}: train it on less text")


@contextmanager
def _child(module: str, arguments: Sequence[str]) -> Iterator[tuple["subprocess.Popen[bytes]", _Output]]:
    """Run the child; it has ended when the block is left."""
    child = processes.start_python(
        "nanogpt.tokenizers._training:main",
        [module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl+C is for the parent, which ends the child
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


def main() -> None:
    """Call the `learn` of a module with the text from stdin and write its result to stdout: the child process."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    module, *arguments = sys.argv[1:]
    learn: Callable[[Sequence[str], Iterator[str]], Any] = import_module(f"nanogpt.tokenizers.{module}").learn
    try:
        found = {"result": learn(arguments, _read(sys.stdin.buffer))}
    except UserError as error:
        found = {"error": str(error)}
    json.dump(found, sys.stdout)


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
