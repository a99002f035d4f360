"""Worker threads. Each one consumes an iterator of events or other results and never blocks the interface.

Textual's own workers are not used, because quitting would wait for them. A worker appends each item to a buffer and
triggers a throttle. The throttle calls its listener in the interface's thread, at a limited rate, and the listener
drains the buffer. Neither side waits for the other.
"""

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nanogpt import paths
from nanogpt.errors import SettingError, UserError
from nanogpt_tui.session.messages import ThrottledUpdate

if TYPE_CHECKING:
    from textual.app import App

Item = TypeVar("Item")  # what the iterator yields: an event, or a result for a widget


def log_path() -> Path:
    """Return the path of the file that gets the traceback of each unexpected error."""
    return paths.data_home() / "tui.log"


def log_exception(error: BaseException) -> str:
    """Append the traceback to the log file. Return one line for the screen."""
    summary = str(error).partition("\n")[0] or type(error).__name__
    try:
        log_path().parent.mkdir(parents=True, exist_ok=True)
        with log_path().open("a", encoding="utf-8") as file:
            file.write(time.strftime("%Y-%m-%d %H:%M:%S\n") + "".join(traceback.format_exception(error)) + "\n")
    except OSError:
        return f"unexpected {type(error).__name__}: {summary} (and the log file {log_path()} cannot be written)"
    return f"unexpected {type(error).__name__}: {summary}; details in {log_path()}"


class Throttle:
    """Call `listener` in the interface's thread after any `trigger`, at most `per_second` times per second."""

    def __init__(self, app: "App[Any]", listener: Callable[[], None], per_second: float) -> None:
        self._app, self._listener, self.interval_s = app, listener, 1 / per_second
        self._triggered = False  # since the listener was called last
        self._scheduled = False  # a message is posted, or the interval after a call has not passed
        self._lock = threading.Lock()

    def trigger(self) -> None:
        """Ask for a call of the listener. Can be called in any thread."""
        with self._lock:
            self._triggered = True
            if self._scheduled:
                return
            self._scheduled = True
        self._post()

    def fire(self) -> None:
        """Call the listener now and hold back further calls for one interval. Call in the interface's thread."""
        with self._lock:
            self._triggered = False
        self._app.set_timer(self.interval_s, self._end_interval)
        self._listener()

    def _end_interval(self) -> None:
        with self._lock:
            self._scheduled = self._triggered
        if self._scheduled:
            self._post()

    def _post(self) -> None:
        try:
            self._app.post_message(ThrottledUpdate(self))
        except RuntimeError:  # the app has ended
            self._scheduled = False


class Worker(Generic[Item]):
    """One iterator consumed in its own thread; `Session.start_worker` makes one.

    `drain()` returns the items since the previous call. After `done`, `error` is None or one line for the screen, and
    `setting` the name of the setting that it is about, if there is one.
    """

    def __init__(
        self, work: Callable[[], Iterator[Item]], throttle: Throttle | None = None, name: str = "worker"
    ) -> None:
        """`work` is called in the thread and returns the iterator. `throttle` is triggered after each item."""
        self.name = name
        self.done = False
        self.cancelled = False
        self.error: str | None = None
        self.setting = ""
        self._items: deque[Item] = deque()
        self._may_continue = threading.Event()
        self._may_continue.set()
        self._work, self._throttle = work, throttle
        self._thread = threading.Thread(target=self._run, name=f"nanogpt-{name}", daemon=True)

    def start(self) -> "Worker[Item]":
        """Start the thread and return the worker itself."""
        self._thread.start()
        return self

    def cancel(self) -> None:
        """Close the iterator at its next item, so that it can clean up. Do not wait for it."""
        self.cancelled = True
        self._may_continue.set()

    def pause(self) -> None:
        """Ask the iterator for no further item after its next one, until `resume`."""
        self._may_continue.clear()

    def resume(self) -> None:
        """Continue after `pause`."""
        self._may_continue.set()

    @property
    def paused(self) -> bool:
        """Whether `pause` was called last, not `resume` or `cancel`."""
        return not self._may_continue.is_set()

    def drain(self) -> list[Item]:
        """Return the items since the previous call, oldest first."""
        items = []
        while self._items:
            items.append(self._items.popleft())
        return items

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the thread has ended, or for `timeout_s` seconds."""
        self._thread.join(timeout_s)

    def on_item(self, item: Item) -> None:
        """Handle an item, in the worker's thread. By default buffer it for `drain`."""
        self._items.append(item)

    def on_end(self) -> None:
        """Called once in the worker's thread, after the last item."""

    def _run(self) -> None:
        items: Iterator[Item] | None = None
        try:
            items = self._work()
            for item in items:
                if self.cancelled:
                    break
                self.on_item(item)
                self._trigger()
                self._may_continue.wait()
                if self.cancelled:
                    break
        except UserError as error:
            self.error = str(error)
            self.setting = error.setting if isinstance(error, SettingError) else ""
        except BaseException as error:
            self.error = log_exception(error)
        finally:
            if isinstance(items, Generator):
                items.close()
            self.on_end()
            self.done = True
            self._trigger()

    def _trigger(self) -> None:
        if self._throttle is not None:
            self._throttle.trigger()
