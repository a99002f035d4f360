"""The app of one viewer: a process that draws on a pipe. `main` is what the process calls."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from nanogpt import processes
from nanogpt.errors import UserError

STDOUT, STDERR = 1, 2
PRELUDE = b"__GANGLION__\n"  # Textual's driver writes it before the first packet
PRELUDE_TIMEOUT_S = 120.0
MAX_COLUMNS, MAX_ROWS = 500, 300
MAX_DIGITS = 20


class Viewer:
    """A process of the app, with packets over its pipes. It is no child that ends with the server: a training in it
    continues, as it does when a terminal is closed."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        keys: asyncio.StreamWriter,
        frames: asyncio.StreamReader,
        output: asyncio.ReadTransport,
    ) -> None:
        self._process, self._keys, self._frames, self._output = process, keys, frames, output

    @classmethod
    async def start(cls, arguments: Sequence[str], columns: int, rows: int) -> "Viewer":
        """Start the app with these command-line arguments. Raise OSError if no process can be started."""
        process = processes.start_python(
            "nanogpt_tui.web.viewer:main",
            [str(columns), str(rows), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=STDERR,
            start_new_session=True,  # Ctrl+C ends the server, which then closes the pipes
        )
        loop, frames = asyncio.get_running_loop(), asyncio.StreamReader()
        output, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(frames), process.stdout)
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, process.stdin)
        return cls(process, asyncio.StreamWriter(transport, protocol, None, loop), frames, output)

    async def forward(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Pass on what the app draws until it ends, or fails to start."""
        with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, TimeoutError):
            async with asyncio.timeout(PRELUDE_TIMEOUT_S):
                await self._frames.readuntil(PRELUDE)
            while True:
                kind, size = await self._frames.readexactly(1), await self._frames.readexactly(4)
                payload = await self._frames.readexactly(int.from_bytes(size, "big"))
                if kind == b"D":
                    await send(payload)

    async def press(self, text: str) -> None:
        """Pass on what was typed or pasted, or what the mouse did."""
        await self._put(b"D", text.encode("utf-8", "replace"))

    async def resize(self, columns: int, rows: int) -> None:
        """Tell the app the size of the window in cells."""
        await self._put(b"M", json.dumps({"type": "resize", "width": columns, "height": rows}).encode())

    async def set_focus(self, focused: bool) -> None:
        """Tell the app whether the window has the focus."""
        await self._put(b"M", json.dumps({"type": "focus" if focused else "blur"}).encode())

    async def _put(self, kind: bytes, payload: bytes) -> None:
        self._keys.write(kind + len(payload).to_bytes(4, "big") + payload)
        with suppress(ConnectionError):  # the app has ended: `forward` ends too
            await self._keys.drain()

    def close(self) -> None:
        """Close the pipes: the app ends, but a training in it continues."""
        self._keys.close()
        self._output.close()  # the app may be waiting to write to a slow browser
        self._process.poll()


def window_size(columns: object, rows: object) -> tuple[int, int]:
    """Return a size in cells within bounds, from what a browser sent; 80 × 24 for what is no number."""
    sizes = []
    for value, default, most in ((columns, 80, MAX_COLUMNS), (rows, 24, MAX_ROWS)):
        text = str(value) if isinstance(value, int | str) else ""
        number = int(text) if text.isascii() and text.isdigit() and len(text) < MAX_DIGITS else default
        sizes.append(max(1, min(number, most)))
    return sizes[0], sizes[1]


def main() -> int:
    """Run the app for a browser. The arguments are columns, rows and those of the `nanogpt-tui` command."""
    columns, rows, *arguments = sys.argv[1:]
    for name in ("TMUX", "STY", "WT_SESSION"):  # the server's terminal is not the one that shows the app
        os.environ.pop(name, None)
    os.environ |= {"TERM": "xterm-256color", "COLUMNS": columns, "ROWS": rows}
    from nanogpt.hardware import share_cores
    from nanogpt_tui import app_factory, parser
    from nanogpt_tui.terminal.browser_driver import BrowserDriver
    from nanogpt_tui.terminal.daemonize import leave
    from nanogpt_tui.terminal.run import run

    share_cores()
    try:
        make = app_factory(parser().parse_intermixed_args(arguments))
    except UserError as error:  # something has changed since the server was started
        print(f"nanogpt-tui: {error}", file=sys.stderr)
        return 2
    app = make()
    app.driver_class = BrowserDriver
    leave(run(app, descriptor=STDOUT))
