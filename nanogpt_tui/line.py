"""The line to the terminal: nothing waits for it, what goes over it is counted, and it says when it is behind.

Textual's own driver waits in the interface's thread once 30 writes are under way: a connection that stalls would stop
the interface, and with it signals and the end of the process. Knows nothing of what is written.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from textual.drivers.linux_driver import LinuxDriver

ROOM = 16_384  # bytes under way from which on a frame had better wait
PIECE = 4096  # bytes written at once, so that progress shows
PATIENCE_S = 1.0  # at the end, for a terminal that takes nothing more


class Writer:
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


class LineDriver(LinuxDriver):
    """Textual's driver with such a writer. A frame that had better wait is left out by whoever makes frames, who says
    so with `leave_out`: the whole screen is asked for when there is room again."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self.takeovers = 0  # how often the terminal's screen was begun anew
        self._missed = False
        self._writer: Writer | None = None
        self._sent_before = 0

    @property
    def sent(self) -> int:
        """Bytes that the terminal took since the start."""
        return self._sent_before + (self._writer.sent if self._writer else 0)

    @property
    def behind(self) -> bool:
        return self._writer is not None and self._writer.under_way > ROOM

    def leave_out(self) -> None:
        """A frame is not sent. The line may have drained since one looked whether it is behind: then nobody else would
        ask for the screen."""
        self._missed = True
        if self._writer is None or not self._writer.under_way:
            self._drained()

    def start_application_mode(self) -> None:
        assert self._file is not None, "the app draws on the error stream"
        self._writer = Writer(self._file.fileno(), self._drained)
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

    def _sigcont_application(self, *_: Any) -> None:
        """Goes on after a stop. One that came without a warning (SIGSTOP) left the terminal as it was, while whoever
        had it meanwhile may have changed it."""
        if self._auto_restart and self._writer is not None:
            self.suspend_application_mode()
        super()._sigcont_application()
        self._ask_for_all()

    def _drained(self) -> None:
        if self._missed:
            self._missed = False
            self._ask_for_all()

    def _ask_for_all(self) -> None:
        with suppress(RuntimeError):  # the interface has gone
            self._loop.call_soon_threadsafe(self._app.call_later, self._app.refresh)
