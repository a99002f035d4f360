"""The driver for a browser: the app reads and writes packets on pipes, and a server passes them on.

The packets are Textual's: a letter, the length of the payload in four bytes, the payload. Textual's own driver writes
to the pipe in the interface's thread, which waits while the browser is slow.
"""

import sys
from codecs import getincrementaldecoder
from typing import Any

from textual.drivers._byte_stream import ByteStream
from textual.drivers.web_driver import WebDriver
from textual.events import Resize
from textual.message import Message

from nanogpt_tui.terminal.driver import BufferedDriver, CellParser

STDIN = 0


class BrowserDriver(BufferedDriver, WebDriver):
    """Textual's driver for browsers with an `OutputThread`. The end of the input is the end of the connection."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        assert sys.__stderr__ is not None, "`redirect_output` set it"
        self.start_output(sys.__stderr__.fileno())
        self._write = self._write_packet  # type: ignore[assignment]  # what the methods of `WebDriver` call

    def _write_packet(self, packet: bytes) -> None:
        if self._writer is not None:
            self._writer.write(packet)

    def write(self, data: str) -> None:
        super().write(data.encode("utf-8", "replace").decode())

    def process_message(self, message: Message) -> None:
        if not isinstance(message, Resize):  # one in what was typed: the server limits the size, in a packet of its own
            super().process_message(message)

    def run_input_thread(self) -> None:
        """Read and parse packets until the app ends. If the input ends first, the connection was closed."""
        parser = CellParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        packets = ByteStream()
        for data in self.read_input(STDIN, self.exit_event):
            for kind, payload in packets.feed(data) if data else ():
                text = decode(payload) if kind == "D" else ""
                for message in parser.feed(text) if text else ():
                    self.process_message(message)
                if kind == "M":
                    self._on_meta(kind, payload)
            for message in parser.tick():
                self.process_message(message)
