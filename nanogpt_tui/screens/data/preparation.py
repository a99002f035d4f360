"""A preparation that runs in a thread: it can be paused, resumed and cancelled."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nanogpt.events import Event
from nanogpt_tui.progress import Progress

if TYPE_CHECKING:
    from nanogpt.data.recipes import Recipe
    from nanogpt_tui.session.session import Session


class Preparation:
    """The preparation of the data set `name`. `on_change` is called with it after events and at the end.

    Its iterator stands still while it is paused, and so do its threads and processes once their queues are full.
    """

    def __init__(
        self,
        session: "Session",
        name: str,
        recipe: "Recipe | str",
        on_change: Callable[["Preparation"], None],
        **options: Any,
    ) -> None:
        """`options` are those of `nanogpt.data.prepare`."""
        self.name, self.progress = name, Progress()
        self._is_corpus = not isinstance(recipe, str) and recipe.documents is not None
        self._worker = session.prepare(recipe, lambda: on_change(self), **options)

    @property
    def done(self) -> bool:
        """Whether it has ended, for whatever reason."""
        return self._worker.done

    @property
    def error(self) -> str:
        """Why it failed, in one line; "" if it did not."""
        return self._worker.error or ""

    @property
    def paused(self) -> bool:
        """Whether it waits for `toggle_pause`."""
        return self._worker.paused

    @property
    def can_continue(self) -> bool:
        """Whether it was cancelled and a later preparation continues it: that of a corpus."""
        return self._worker.cancelled and (self._is_corpus or self.progress.is_committed)

    def drain(self) -> list[Event]:
        """Return the events since the previous call, and take them into the progress."""
        events = self._worker.drain()
        for event in events:
            self.progress.add(event)
        return events

    def toggle_pause(self) -> None:
        """Pause, or continue."""
        if self.paused:
            self._worker.resume()
        else:
            self._worker.pause()
        self.progress.pause(self.paused)

    def cancel(self) -> None:
        """Stop at the next event. Of a corpus what is committed stays on disk, of a text nothing."""
        self._worker.cancel()
