"""Work in a thread of its own: an iterator of events or other results, which is never waited for.

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
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nanogpt import paths
from nanogpt.errors import UserError
from nanogpt_tui.messages import Rung

if TYPE_CHECKING:
    from textual.app import App

Item = TypeVar("Item")  # what the work yields: an event, or a result for a widget


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


class Job(Generic[Item]):
    """One piece of work in its own thread. Made by the session.

    `take()` hands out the items that came since the last call. When `done`, `error` is None, or the one line to show.
    """

    def __init__(self, work: Callable[[], Iterator[Item]], bell: Bell | None = None, name: str = "job") -> None:
        self.name = name
        self.done = False
        self.cancelled = False
        self.error: str | None = None
        self._items: deque[Item] = deque()
        self._work, self._bell = work, bell
        self._thread = threading.Thread(target=self._run, name=f"nanogpt-{name}", daemon=True)

    def start(self) -> "Job[Item]":
        """Begin in a thread; return the job itself."""
        self._thread.start()
        return self

    def cancel(self) -> None:
        """End the work at its next item; what was half done leaves nothing half written. Do not wait."""
        self.cancelled = True

    def take(self) -> list[Item]:
        """Return the items that came since the last call, oldest first."""
        items = []
        while self._items:
            items.append(self._items.popleft())
        return items

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the work has ended, or for `timeout_s` seconds."""
        self._thread.join(timeout_s)

    def heard(self, item: Item) -> None:
        """In the worker's thread: keep the item for `take`."""
        self._items.append(item)

    def _run(self) -> None:
        items: Iterator[Item] | None = None
        try:
            items = self._work()
            for item in items:
                if self.cancelled:
                    break
                self.heard(item)
                self._pull()
        except UserError as error:
            self.error = str(error)
        except BaseException as error:
            self.error = write_log(error)
        finally:
            if items is not None and hasattr(items, "close"):
                items.close()
            self.ended()
            self.done = True
            self._pull()

    def ended(self) -> None:
        """In the worker's thread, once, when no more items will come."""

    def _pull(self) -> None:
        if self._bell is not None:
            self._bell.pull()
