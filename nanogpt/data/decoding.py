"""Text from a stream of bytes, in blocks. What is not text is refused, with the offset of the first binary byte."""

from collections.abc import Iterator

from nanogpt.data.binaries import (
    HEAD_BYTES,
    MAX_CONTROL_SHARE,
    binary_error,
    count_controls,
    find_binary,
    identify_binary,
)
from nanogpt.data.encodings import Decoder
from nanogpt.data.streams import Stream
from nanogpt.errors import UserError

BLOCK_BYTES = 1 << 20


def decode_blocks(
    stream: Stream, encoding: str | None, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield the bytes of each block, its text in UTF-8, and the number of its characters. Line ends are not changed.

    encoding: None: detect it. The decoder that is used is at `stream.decoder`. Raise `UserError` if it is not text.
    """
    path, content = stream.path, stream.content
    start = content.peek(HEAD_BYTES)
    if what := identify_binary(path, start):
        raise UserError(what)
    stream.decoder = decoder = Decoder(path, start, encoding, content.peek)
    mark = content.read(decoder.mark_bytes)
    characters, unusual, final = 0, 0, False
    while not final:
        block = content.read(block_bytes)
        final = not block
        offset = decoder.offset
        text, length = decoder.decode(block, final)
        characters += length
        unusual += count_controls(text)
        if b"\0" in text or unusual > MAX_CONTROL_SHARE * characters:
            before = text[: find_binary(text)].decode()
            raise UserError(binary_error(path, offset + len(before.encode(decoder.codec))))
        yield mark + block, text, length
        mark = b""


def decode_text(stream: Stream, encoding: str | None) -> Iterator[str]:
    """Yield the text of a stream in blocks, as `decode_blocks` does."""
    for _, text, _ in decode_blocks(stream, encoding):
        if text:
            yield text.decode()
