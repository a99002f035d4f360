"""Worker threads: each runs an iterator of events or other results, and nobody waits for it.

They are not Textual's workers: quitting would wait for those. A worker appends to a buffer and triggers a throttle.
The throttle calls its listener in the interface's thread, at most so many times a second, and the listener reads the
buffer. So neither side waits for the other.
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
from nanogpt_tui.session.messages import ThrottledUpdate

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


class Throttle:
    """Call `listener` in the interface's thread after any `trigger`, at most `per_second` times a second."""

    def __init__(self, app: "App[Any]", listener: Callable[[], None], per_second: float) -> None:
        self._app, self._listener, self.interval_s = app, listener, 1 / per_second
        self._triggered = self._armed = False
        self._lock = threading.Lock()

    def trigger(self) -> None:
        with self._lock:
            self._triggered = True
            if self._armed:
                return
            self._armed = True
        self._post()

    def fire(self) -> None:
        """In the interface's thread: tells the listener, and is deaf for an interval."""
        with self._lock:
            self._triggered = False
        self._app.set_timer(self.interval_s, self._rearm)
        self._listener()

    def _rearm(self) -> None:
        with self._lock:
            self._armed = self._triggered
        if self._armed:
            self._post()

    def _post(self) -> None:
        try:
            self._app.post_message(ThrottledUpdate(self))
        except RuntimeError:  # the interface has gone already
            self._armed = False


class Worker(Generic[Item]):
    """One piece of work in its own thread. Made by the session.

    `take()` hands out the items that came since the last call. When `done`, `error` is None, or the one line to show.
    """

    def __init__(self, work: Callable[[], Iterator[Item]], throttle: Throttle | None = None, name: str = "job") -> None:
        self.name = name
        self.done = False
        self.cancelled = False
        self.error: str | None = None
        self._items: deque[Item] = deque()
        self._work, self._throttle = work, throttle
        self._thread = threading.Thread(target=self._run, name=f"nanogpt-{name}", daemon=True)

    def start(self) -> "Worker[Item]":
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

    def receive(self, item: Item) -> None:
        """In the worker's thread: keep the item for `take`."""
        self._items.append(item)

    def _run(self) -> None:
        items: Iterator[Item] | None = None
        try:
            items = self._work()
            for item in items:
                if self.cancelled:
                    break
                self.receive(item)
                self._trigger()
        except UserError as error:
            self.error = str(error)
        except BaseException as error:
            self.error = write_log(error)
        finally:
            if items is not None and hasattr(items, "close"):
                items.close()
            self.ended()
            self.done = True
            self._trigger()

    def ended(self) -> None:
        """In the worker's thread, once, when no more items will come."""

    def _trigger(self) -> None:
        if self._throttle is not None:
            self._throttle.trigger()
