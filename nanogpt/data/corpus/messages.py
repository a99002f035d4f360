"""Messages between processes over pipes: a line of JSON, then buffers of bytes. No pickle."""

import json
from typing import IO, Any

SIZES = "sizes"


def send(stream: IO[bytes], message: dict[str, Any], *buffers: "bytes | memoryview") -> None:
    """Write a message. Raise OSError if the other process has ended."""
    line = json.dumps({**message, SIZES: [len(buffer) for buffer in buffers]})
    stream.write(line.encode() + b"\n")
    for buffer in buffers:
        stream.write(buffer)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[bytes]] | None:
    """Return the next message and its buffers; None if the other process has ended."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    message: dict[str, Any] = json.loads(line)
    buffers = [stream.read(size) for size in message[SIZES]]
    if [len(buffer) for buffer in buffers] != message.pop(SIZES):
        return None
    return message, buffers
