"""The line to the terminal: nothing waits for it, what goes over it is counted, and it says when it is behind.

Textual's own driver waits in the interface's thread once 30 writes are under way: a connection that stalls would stop
the interface, and with it signals and the end of the process. Knows nothing of what is written.
"""

import os
import select
import signal
import threading
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Resize
from textual.message import Message

from nanogpt_tui.terminal import daemonize
from nanogpt_tui.terminal.escape import teach_parser

ROOM = 16_384  # bytes under way from which on a frame had better wait
PIECE = 4096  # bytes written at once, so that progress shows
PATIENCE_S = 1.0  # at the end, for a terminal that takes nothing more
INPUT_WAIT_S = 0.1  # after which an escape is a key of its own, and an end of reading is noticed


class OutputThread:
    """Hands bytes to a descriptor in a thread of its own; `drained` is called there when all is written.

    `sent` counts the bytes that were taken, `under_way` those that were not yet.
    """

    def __init__(self, descriptor: int, drained: Callable[[], None]) -> None:
        self.sent = self.under_way = 0
        self._descriptor, self._drained = descriptor, drained
        self._pieces: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        threading.Thread(target=self._run, name="nanogpt-terminal", daemon=True).start()

    def write(self, data: bytes) -> None:
        with self._changed:
            if not self._stopped:
                self._pieces.append(data)
                self.under_way += len(data)
                self._changed.notify_all()

    def stop(self) -> None:
        """Waits while the terminal goes on taking what is under way, and takes nothing more."""
        with self._changed:
            before = -1
            while self.under_way and before != self.sent:
                before = self.sent
                self._changed.wait_for(lambda: not self.under_way, PATIENCE_S)
            self._end()

    def _end(self) -> None:
        self._stopped, self.under_way = True, 0
        self._pieces.clear()
        self._changed.notify_all()

    def _run(self) -> None:
        while data := self._next():
            try:
                while data:
                    taken = os.write(self._descriptor, data[:PIECE])
                    data = data[taken:]
                    with self._changed:
                        self.sent += taken
                        self.under_way = max(0, self.under_way - taken)
                        self._changed.notify_all()
            except OSError:  # the terminal has gone
                with self._changed:
                    self._end()
            if not self.under_way:
                self._drained()

    def _next(self) -> bytes:
        """All that waits, once there is something; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._stopped)
            data = b"".join(self._pieces)
            self._pieces.clear()
            return data


class CellParser(XTermParser):
    """Mouse positions are cells. Some terminals that offer pixels do not say how many a cell has."""

    mouse_pixels = property(lambda self: False, lambda self, on: None)


class TerminalDriver(LinuxDriver):
    """Textual's driver with such a writer. It can give the terminal away while the app goes on (`suspend`).

    A frame that had better wait is left out by whoever makes frames, who says so with `leave_out`: the whole screen is
    asked for when there is room again.
    """

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        teach_parser()
        self.takeovers = 0  # how often the terminal's screen was begun anew
        self._missed = False
        self.suspended = False
        self._must_restart = False  # when this process continues
        self._writer: OutputThread | None = None
        self._sent_before = 0
        daemonize.on_signal(signal.SIGUSR2, self._loop, self.resume)
        daemonize.on_signal(signal.SIGUSR1, self._loop, self._came_back_at_once)

    @property
    def sent(self) -> int:
        """Bytes that the terminal took since the start."""
        return self._sent_before + (self._writer.sent if self._writer else 0)

    @property
    def behind(self) -> bool:
        return self.suspended or (self._writer is not None and self._writer.under_way > ROOM)

    def leave_out(self) -> None:
        """A frame is not sent. The line may have drained since one looked whether it is behind: then nobody else would
        ask for the screen. While the terminal is somebody else's nothing is missed: `resume` asks for all."""
        if self.suspended:
            return
        self._missed = True
        if self._writer is None or not self._writer.under_way:
            self._drained()

    def start_application_mode(self) -> None:
        assert self._file is not None, "the app draws on a terminal"
        self._writer = OutputThread(self._file.fileno(), self._drained)
        self.takeovers += 1
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def write(self, data: str) -> None:
        if self._writer is not None:
            self._writer.write(data.encode("utf-8", "replace"))

    def close(self) -> None:
        super().close()
        if self._writer is not None:
            self._writer.stop()
            self._sent_before, self._writer = self.sent, None

    def _get_terminal_size(self) -> tuple[int, int]:
        """(columns, rows) of the terminal itself, else what the environment says, else 80 × 24."""
        columns = rows = 0
        with suppress(OSError, ValueError, AttributeError):
            columns, rows = os.get_terminal_size(self._file.fileno())  # type: ignore[union-attr]
        return columns or _from_environment("COLUMNS", 80), rows or _from_environment("LINES", 24)

    def _enable_mouse_pixels(self) -> None:
        """Leave the mouse in cells."""

    def process_message(self, message: Message) -> None:
        if isinstance(message, Resize) and not all(message.size):
            return  # a terminal that does not know its size
        super().process_message(message)

    def _run_input_thread(self) -> None:
        """An error here is one of a thread as any other: `threading.excepthook` gets it."""
        self.run_input_thread()

    def run_input_thread(self) -> None:
        """Hand on what the terminal sends, until reading is to end. Where the input ends first, it has gone."""
        parser = CellParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        while not self.exit_event.is_set():
            if select.select([self.fileno], [], [], INPUT_WAIT_S)[0]:
                try:
                    data = os.read(self.fileno, 4096)
                except OSError:  # what a terminal that was taken away says
                    data = b""
                if not data:
                    with suppress(RuntimeError):  # the interface has gone
                        self._loop.call_soon_threadsafe(self._app.hang_up)  # type: ignore[attr-defined]
                    return
                text = decode(data)
                for message in parser.feed(text) if text else ():  # to the parser, an empty text is the end
                    self.process_message(message)
            for message in parser.tick():
                self.process_message(message)

    def suspend(self) -> None:
        """Give the terminal back as it was and stop the shell's job, while this process goes on."""
        if not self.suspended and daemonize.can_leave():
            self.suspend_application_mode()
            self.suspended = True
            note = self._app.note_when_suspended  # type: ignore[attr-defined]
            with suppress(OSError):
                os.write(self._file.fileno(), f"{note}\r\n".encode())  # type: ignore[union-attr]
            daemonize.stop_job()

    def resume(self) -> None:
        """Take the terminal again."""
        if self.suspended:
            self.suspended = False
            self.resume_application_mode()
            self._ask_for_all()

    def _came_back_at_once(self) -> None:
        self.resume()
        self._app.no_shell_to_suspend_to()  # type: ignore[attr-defined]

    def stop_application_mode(self) -> None:
        if not self.suspended:  # else the terminal is somebody else's
            super().stop_application_mode()

    def disable_input(self) -> None:
        if not self.suspended:
            super().disable_input()

    def _sigtstp_application(self, *_: Any) -> None:
        if self.suspended:
            return  # this is the stop of the whole job, which goes on here
        if self._writer is not None and daemonize.can_leave():
            self.suspend()
        else:
            if self._writer is not None:
                self.suspend_application_mode()
                self._must_restart = True
            os.kill(os.getpid(), signal.SIGSTOP)

    def _sigcont_application(self, *_: Any) -> None:
        """Goes on after a stop. One that came without a warning (SIGSTOP) left the terminal as it was, while whoever
        had it meanwhile may have changed it."""
        if self.suspended:
            return  # the keeper says when the terminal is this process's again
        if self._writer is not None:
            self.suspend_application_mode()
            self._must_restart = True
        if self._must_restart:  # not while the app ends
            self._must_restart = False
            self.resume_application_mode()
            self._ask_for_all()

    def _drained(self) -> None:
        if self._missed:
            self._missed = False
            self._ask_for_all()

    def _ask_for_all(self) -> None:
        with suppress(RuntimeError):  # the interface has gone
            self._loop.call_soon_threadsafe(self._app.call_later, self._app.refresh)


def _from_environment(name: str, usual: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() and int(value) else usual
