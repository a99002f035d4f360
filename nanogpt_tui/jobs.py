"""Work in a thread of its own: an iterator of events, which is never waited for. Knows nothing of what is done.

Never one of Textual's threads, which quitting would wait for. A worker writes into a buffer and pulls a bell; the bell
rings in the interface's thread, at most so often a second, and whoever listens reads the buffer. So neither side ever
waits for the other.
"""

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanogpt import paths
from nanogpt.errors import UserError
from nanogpt.events import Event
from nanogpt_tui.messages import Rung

if TYPE_CHECKING:
    from textual.app import App


def log_file() -> Path:
    """Where unexpected errors are written with their traceback."""
    return paths.data_home() / "tui.log"


def write_log(error: BaseException) -> str:
    """Appends the traceback to the log file and returns the one line that a screen shows."""
    what = str(error).partition("\n")[0] or type(error).__name__
    try:
        log_file().parent.mkdir(parents=True, exist_ok=True)
        with log_file().open("a", encoding="utf-8") as file:
            file.write(time.strftime("%Y-%m-%d %H:%M:%S\n") + "".join(traceback.format_exception(error)) + "\n")
    except OSError:
        return f"unexpected {type(error).__name__}: {what} (and the log file {log_file()} cannot be written)"
    return f"unexpected {type(error).__name__}: {what}; details in {log_file()}"


class Bell:
    """Calls `listener` in the interface's thread after `pull`s in any thread, at most `per_second` times a second."""

    def __init__(self, app: "App[Any]", listener: Callable[[], None], per_second: float) -> None:
        self._app, self._listener, self.interval_s = app, listener, 1 / per_second
        self._pulled = self._armed = False
        self._lock = threading.Lock()

    def pull(self) -> None:
        with self._lock:
            self._pulled = True
            if self._armed:
                return
            self._armed = True
        self._post()

    def ring(self) -> None:
        """In the interface's thread: tells the listener, and is deaf for an interval."""
        with self._lock:
            self._pulled = False
        self._app.set_timer(self.interval_s, self._rearm)
        self._listener()

    def _rearm(self) -> None:
        with self._lock:
            self._armed = self._pulled
        if self._armed:
            self._post()

    def _post(self) -> None:
        try:
            self._app.post_message(Rung(self))
        except RuntimeError:  # the interface has gone already
            self._armed = False


class Job:
    """One piece of work in its own thread. Made by the session.

    `take()` hands out the events that came since the last call. When `done`, `error` is None, or the one line to show.
    """

    def __init__(self, work: Callable[[], Iterator[Event]], bell: Bell | None = None, name: str = "job") -> None:
        self.name = name
        self.done = False
        self.cancelled = False
        self.error: str | None = None
        self._events: deque[Event] = deque()
        self._work, self._bell = work, bell
        self._thread = threading.Thread(target=self._run, name=f"nanogpt-{name}", daemon=True)

    def start(self) -> "Job":
        self._thread.start()
        return self

    def cancel(self) -> None:
        """Ends the work at its next event; what was half done leaves nothing half written. Does not wait."""
        self.cancelled = True

    def take(self) -> list[Event]:
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events

    def wait(self, timeout_s: float | None = None) -> None:
        self._thread.join(timeout_s)

    def heard(self, event: Event) -> None:
        """In the worker's thread: keeps the event for whoever takes it."""
        self._events.append(event)

    def _run(self) -> None:
        events: Iterator[Event] | None = None
        try:
            events = self._work()
            for event in events:
                if self.cancelled:
                    break
                self.heard(event)
                self._pull()
        except UserError as error:
            self.error = str(error)
        except BaseException as error:
            self.error = write_log(error)
        finally:
            if events is not None and hasattr(events, "close"):
                events.close()
            self.ended()
            self.done = True
            self._pull()

    def ended(self) -> None:
        """In the worker's thread, once, when no more events will come."""

    def _pull(self) -> None:
        if self._bell is not None:
            self._bell.pull()
