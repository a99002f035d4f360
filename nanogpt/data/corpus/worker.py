"""A child process that reads documents, encodes them, or both.

It takes messages on stdin and answers on stdout, writes no files, and ends when its parent has ended: then its stdin is
at its end, and its stdout is closed. The first message says whether there is a tokenizer.

    {"shard": path, …}   read a shard: answer with its blocks, encoded if there is a tokenizer, then {"end": true, …}
    {"documents": sizes} encode the block that follows
"""

import os
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import IO, Any

from nanogpt import tokenizers
from nanogpt.data import formats
from nanogpt.data.corpus.blocks import BLOCK_BYTES, TextBlock, encode
from nanogpt.data.corpus.messages import receive, send
from nanogpt.data.streams import open_stream
from nanogpt.errors import UserError
from nanogpt.tokenizers import Tokenizer

BLOCK_DOCUMENTS = 1024
REPORT_INTERVAL_S = 0.2


def main() -> None:
    """Answer messages until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C goes to the whole process group: the parent decides
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints must not be taken for a message
    try:
        _serve(source, target)
    except OSError:  # the parent has ended
        return
    except UserError as error:
        send(target, {"error": str(error)})
    except Exception:
        send(target, {"fault": traceback.format_exc()})


def _serve(source: IO[bytes], target: IO[bytes]) -> None:
    first = receive(source)
    tokenizer = tokenizers.load(Path(first[0]["tokenizer"])) if first and first[0]["tokenizer"] else None
    while (received := receive(source)) is not None:
        message, buffers = received
        if "shard" in message:
            _read(target, tokenizer, **message)
            continue
        assert tokenizer is not None
        answer, arrays = encode(TextBlock.from_message(message, buffers), tokenizer).to_message()
        send(target, answer, *arrays)


def _read(target: IO[bytes], tokenizer: Tokenizer | None, shard: str, skip: int, **options: Any) -> None:
    """Send the documents of a shard without the first `skip`. While these are read, send the position."""
    skipped: Counter[str] = Counter()
    texts: list[bytes] = []
    reported, size = time.monotonic(), 0

    with open_stream(Path(shard)) as stream:

        def send_block() -> None:
            nonlocal size
            block = TextBlock([len(text) for text in texts], b"".join(texts), stream.stored.tell())
            texts.clear()
            size = 0
            message, buffers = encode(block, tokenizer).to_message() if tokenizer else block.to_message()
            send(target, message, *buffers)

        format = formats.find(stream.path)
        for number, text in enumerate(format.documents(stream, skipped=skipped, **options)):
            if number < skip:
                if time.monotonic() - reported > REPORT_INTERVAL_S:
                    reported = time.monotonic()
                    send(target, {"passed": stream.stored.tell()})
                continue
            texts.append(text.encode())
            size += len(texts[-1])
            if size >= BLOCK_BYTES or len(texts) == BLOCK_DOCUMENTS:
                send_block()
        if texts:
            send_block()
        decoder = stream.decoder
    read_as = {"codec": decoder.codec, "excerpt": decoder.excerpt, "detected": decoder.detected} if decoder else {}
    send(target, {"end": True, "skipped": dict(skipped), **read_as})
