"""The terminal driver: output in a separate thread, byte counts, congestion, and suspending without stopping the app.

`BufferedDriver` is what it shares with the driver for browsers.

Textual's own driver blocks the interface's thread when 30 writes are pending. A stalled connection would then stop the
interface, signals and the exit of the process.
"""

import os
import select
import signal
import threading
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from textual._xterm_parser import XTermParser
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Key, Resize
from textual.message import Message

from nanogpt_tui.terminal import daemonize
from nanogpt_tui.terminal.escape import extend_parser

MOST_CELLS = 2000  # of a terminal, in each direction
MAX_PENDING_BYTES = 16_384  # with more bytes pending, frames are dropped
CHUNK_BYTES = 4096  # bytes per write, so that progress is visible
STALL_TIMEOUT_S = 1.0  # at the end, how long to wait for a terminal that takes nothing
INPUT_POLL_S = 0.1  # after this time a lone Escape is a key; also how often to check for the end


class OutputThread:
    """Write bytes to a file descriptor in a separate thread, and call `drained` there whenever all are written.

    `sent` counts the bytes that were written, `pending` those that were not yet.
    """

    def __init__(self, descriptor: int, drained: Callable[[], None]) -> None:
        self.sent = self.pending = 0
        self._descriptor, self._drained = descriptor, drained
        self._queue: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        threading.Thread(target=self._run, name="nanogpt-terminal", daemon=True).start()

    def write(self, data: bytes) -> None:
        """Queue bytes. Does not wait."""
        with self._changed:
            if not self._stopped:
                self._queue.append(data)
                self.pending += len(data)
                self._changed.notify_all()

    def stop(self) -> None:
        """Wait until all is written, or until nothing is written for STALL_TIMEOUT_S; then accept no more bytes."""
        with self._changed:
            before = -1
            while self.pending and before != self.sent:
                before = self.sent
                self._changed.wait_for(lambda: not self.pending, STALL_TIMEOUT_S)
            self._end()

    def _end(self) -> None:
        self._stopped, self.pending = True, 0
        self._queue.clear()
        self._changed.notify_all()

    def _run(self) -> None:
        while data := self._next_data():
            try:
                while data and not self._stopped:
                    try:
                        written = os.write(self._descriptor, data[:CHUNK_BYTES])
                    except BlockingIOError:  # another program has made the terminal non-blocking
                        select.select([], [self._descriptor], [])
                        continue
                    data = data[written:]
                    with self._changed:
                        self.sent += written
                        self.pending = max(0, self.pending - written)
                        self._changed.notify_all()
            except OSError:  # the terminal was closed
                with self._changed:
                    self._end()
            if not self.pending:
                self._drained()

    def _next_data(self) -> bytes:
        """Wait for bytes and return all that are queued; return b"" at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped)
            data = b"".join(self._queue)
            self._queue.clear()
            return data


class BufferedDriver(Driver):
    """A driver whose output goes through an `OutputThread`.

    While `is_congested`, the app calls `drop_frame` instead of writing a frame. When all bytes are written, the driver
    requests a repaint of the whole screen.
    """

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        extend_parser()
        self.screen_starts = 0  # how often the terminal switched to an empty screen
        self.suspended = False
        self._frame_dropped = False
        self._writer: OutputThread | None = None
        self._sent_before = 0

    @property
    def sent(self) -> int:
        """The number of bytes written since the start."""
        return self._sent_before + (self._writer.sent if self._writer else 0)

    @property
    def is_congested(self) -> bool:
        """Whether a frame should not be written now."""
        return self.suspended or (self._writer is not None and self._writer.pending > MAX_PENDING_BYTES)

    def drop_frame(self) -> None:
        """Note that a frame was not written, so that a repaint follows when the pending bytes are written.

        They may have been written since `is_congested` was checked: then request the repaint now. Do nothing while
        suspended, because `resume` repaints.
        """
        if self.suspended:
            return
        self._frame_dropped = True
        if self._writer is None or not self._writer.pending:
            self._drained()

    def start_output(self, descriptor: int) -> None:
        """Start to write to a terminal that shows an empty screen."""
        self._writer = OutputThread(descriptor, self._drained)
        self.screen_starts += 1

    def close(self) -> None:
        super().close()
        if self._writer is not None:
            self._writer.stop()
            self._sent_before, self._writer = self.sent, None

    def process_message(self, message: Message) -> None:
        if isinstance(message, Resize) and not all(0 < cells <= MOST_CELLS for cells in message.size):
            return  # the terminal does not know its size, or it is a part of a text that was pasted
        super().process_message(message)

    def read_input(self, descriptor: int, ended: threading.Event) -> Iterator[bytes]:
        """Yield what can be read, with b"" after it and at least every INPUT_POLL_S, until `ended` is set.

        If the input ends first, the terminal was closed: tell the app, and return.
        """
        while not ended.is_set():
            if select.select([descriptor], [], [], INPUT_POLL_S)[0]:
                try:
                    data = os.read(descriptor, 4096)
                except BlockingIOError:  # the shell has taken it, while the job was stopped
                    continue
                except OSError:  # the terminal was closed
                    data = b""
                if not data:
                    with suppress(RuntimeError):  # the app has ended
                        self._loop.call_soon_threadsafe(self._app.terminal_closed)  # type: ignore[attr-defined]
                    return
                yield data
            yield b""

    def _drained(self) -> None:
        if self._frame_dropped:
            self._frame_dropped = False
            self._request_repaint()

    def _request_repaint(self) -> None:
        with suppress(RuntimeError):  # the app has ended
            self._loop.call_soon_threadsafe(self._app.call_later, self._app.refresh)


class CellParser(XTermParser):
    """A parser that reports mouse positions in cells: some terminals report pixels without the size of a cell."""

    mouse_pixels = property(lambda self: False, lambda self, on: None)

    def _sequence_to_key_events(self, sequence: str, alt: bool = False) -> Iterable[Key]:
        try:
            yield from super()._sequence_to_key_events(sequence, alt)
        except (ValueError, OverflowError):  # the number of no character
            return


class TerminalDriver(BufferedDriver, LinuxDriver):
    """Textual's driver for Linux and macOS, for a terminal. `suspend` stops the shell's job, not this process."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self._must_restart = False  # application mode, when this process continues
        daemonize.on_signal(signal.SIGUSR2, self._loop, self.resume)
        daemonize.on_signal(signal.SIGUSR1, self._loop, self._on_suspend_failed)

    def start_application_mode(self) -> None:
        assert self._file is not None, "the app draws on a terminal"
        self.start_output(self._file.fileno())
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def write(self, data: str) -> None:
        if self._writer is not None:
            self._writer.write(data.encode("utf-8", "replace"))

    def _get_terminal_size(self) -> tuple[int, int]:
        """Return (columns, rows) of the terminal, else from the environment, else 80 × 24."""
        columns = rows = 0
        with suppress(OSError, ValueError, AttributeError):
            columns, rows = os.get_terminal_size(self._file.fileno())  # type: ignore[union-attr]
        return columns or _from_environment("COLUMNS", 80), rows or _from_environment("LINES", 24)

    def _enable_mouse_pixels(self) -> None:
        """Leave the mouse in cells."""

    def _run_input_thread(self) -> None:
        """Let `threading.excepthook` handle errors, as in other threads."""
        self.run_input_thread()

    def run_input_thread(self) -> None:
        """Read and parse input until the app ends. If the input ends first, the terminal was closed."""
        parser = CellParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        with opened_nonblocking(self.fileno) as descriptor:
            for data in self.read_input(descriptor, self.exit_event):
                text = decode(data)
                for message in parser.feed(text) if text else parser.tick():  # an empty text would be the end to `feed`
                    self.process_message(message)

    def suspend(self) -> None:
        """Restore the terminal and stop the shell's job, while this process continues."""
        if not self.suspended and daemonize.can_detach():
            self.suspend_application_mode()
            self.suspended = True
            message = self._app.suspend_message  # type: ignore[attr-defined]
            with suppress(OSError):
                os.write(self._file.fileno(), f"{message}\r\n".encode())  # type: ignore[union-attr]
            daemonize.stop_job()

    def resume(self) -> None:
        """Draw on the terminal again after `suspend`."""
        if self.suspended:
            self.suspended = False
            self.resume_application_mode()
            self._request_repaint()

    def _on_suspend_failed(self) -> None:
        self.resume()
        self._app.suspend_failed()  # type: ignore[attr-defined]

    def stop_application_mode(self) -> None:
        if not self.suspended:  # else another program uses the terminal
            super().stop_application_mode()

    def disable_input(self) -> None:
        if not self.suspended:
            super().disable_input()

    def _sigtstp_application(self, *_: Any) -> None:
        if self.suspended:
            return  # the job was stopped as intended, and this process continues
        if self._writer is not None and daemonize.can_detach():
            self.suspend()
        else:
            if self._writer is not None:
                self.suspend_application_mode()
                self._must_restart = True
            os.kill(os.getpid(), signal.SIGSTOP)

    def _sigcont_application(self, *_: Any) -> None:
        """Restart application mode after a stop.

        SIGSTOP stops the process without warning and without restoring the terminal, and another program may have
        changed the terminal since.
        """
        if self.suspended:
            return  # the supervisor tells when the job is in the foreground again
        if self._writer is not None:
            self.suspend_application_mode()
            self._must_restart = True
        if self._must_restart:  # not while the app ends
            self._must_restart = False
            self.resume_application_mode()
            self._request_repaint()


@contextmanager
def opened_nonblocking(descriptor: int) -> Iterator[int]:
    """Yield a new descriptor of the terminal whose reads never block; for other programs nothing changes.

    A job can be stopped between `select` and the read, and its shell takes what was to be read. Yield `descriptor`
    itself if the terminal cannot be opened again.
    """
    try:
        opened = os.open(os.ttyname(descriptor), os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        yield descriptor
        return
    try:
        yield opened
    finally:
        os.close(opened)


def _from_environment(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() and int(value) else default
