"""The work of a session in threads: iterators, files that are written in order, and answers that a thread computes."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from nanogpt.errors import UserError
from nanogpt_tui.session.workers import Throttle, Worker

if TYPE_CHECKING:
    from textual.app import App

T = TypeVar("T")
Item = TypeVar("Item")


class BackgroundWork:
    """Starts workers, whose results reach the interface's thread.

    `answering` counts the keys whose answer a thread computes; keys that are pressed meanwhile wait.
    """

    def __init__(self, app: "App[Any]") -> None:
        self._app = app
        self._rate_factor = 1.0  # of the reports of workers
        self.answering = 0
        self._unwritten: deque[Callable[[], object]] = deque()  # what `write` has not called yet
        self._writing = threading.Lock()

    def start_worker(
        self,
        work: Callable[[], Iterator[Item]],
        on_change: Callable[[], None],
        per_second: float = 8,
        name: str = "worker",
    ) -> Worker[Item]:
        """Run an iterator in a thread. Call `on_change` in the interface's thread after items and at the end, at most
        `per_second` times per second."""
        return Worker(work, Throttle(self._app, on_change, per_second * self._rate_factor), name).start()

    def write(self, act: Callable[[], object], then: Callable[[str], None]) -> None:
        """Call `act`, which writes files, in a thread after those of earlier calls, then `then("")` in the interface's
        thread. If it raises, call `then(error)`."""
        self._unwritten.append(act)
        self.fetch(self._write_next, lambda _, error: then(error), "write")

    def _write_next(self) -> None:
        with self._writing:  # taken from the queue under the lock, so that the order does not depend on the threads
            if self._unwritten:
                self._unwritten.popleft()()

    def finish_writing(self) -> None:
        """Return when all that was passed to `write` is done; errors are ignored."""
        while self._unwritten:
            with suppress(UserError):
                self._write_next()
        with self._writing:  # a thread may be writing the last one
            pass

    def fetch(
        self, read: Callable[[], T], then: Callable[[T | None, str], None], name: str, *, answers_key: bool = False
    ) -> Worker[None]:
        """Call `read` in a thread, then call `then(result, "")` in the interface's thread.

        If `read` raises, call `then(None, error)` with the error in one line. answers_key: the keys that are pressed
        meanwhile are about what `then` shows, and wait for it.
        """
        self.answering += answers_key
        results: list[T] = []
        is_reported = False

        def work() -> Iterator[None]:
            results.append(read())
            return iter(())

        def report() -> None:
            nonlocal is_reported
            if worker.done and not is_reported:
                is_reported = True
                self.answering -= answers_key
                then(results[0] if results else None, worker.error or "")

        worker = self.start_worker(work, report, name=name)
        return worker
