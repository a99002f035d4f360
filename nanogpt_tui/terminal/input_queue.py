"""A queue that handles keys, clicks and pastes in order: each waits until the effects of the earlier ones are complete.

Textual passes a key to the focused widget. A key that the widget does not type travels through the message queues of
all its ancestors before its binding is looked up. So a letter overtakes a Backspace, and both can reach a dialog that
is closing or a screen whose widgets are not mounted yet. Here an input event waits until these queues are empty. A key
that edits the focused text field passes only through that field's queue, so successive edits need not wait.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from typing import Any

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.events import Event, Key, MouseMove, Paste
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.widget import Widget

MAX_SWEEPS = 50  # longer than any chain of messages; animations and timers may keep a queue busy for ever
READY_TIMEOUT_S = 2.0
READY_POLL_S = 0.02
PUMP_POLL_S = 0.1  # how often to check whether a message pump or the app has ended and handles no more messages
TEXT_FIELDS = ("textual.widgets._input", "textual.widgets._text_area")


class InputQueue:
    """Pass input events to `handle` one at a time, in the app's message loop.

    Events also wait while `ready()` is False, which means that a screen is reading the data its keys act on; at most
    READY_TIMEOUT_S, and once per screen.
    """

    def __init__(self, app: App[Any], handle: Callable[[Event], Awaitable[None]], ready: Callable[[], bool]) -> None:
        self._app, self._handle, self._ready = app, handle, ready
        self._events: deque[Event] = deque()
        self._edited_field: Widget | None = None  # the field that got all events since the queues were empty
        self._timed_out: Screen[Any] | None = None  # the screen that was not ready in READY_TIMEOUT_S
        self._task: asyncio.Task[None] | None = None

    def put(self, *events: Event) -> None:
        """Add events at the end of the queue."""
        self._events.extend(events)
        self._ensure_running()

    def put_first(self, *events: Event) -> None:
        """Add events before all others in the queue."""
        self._events.extendleft(reversed(events))
        self._ensure_running()

    def _ensure_running(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="input queue")

    async def _run(self) -> None:
        app, events = self._app, self._events
        while events:
            same_field = is_edit(app, events[0]) and app.focused is self._edited_field
            if not same_field and not isinstance(events[0], MouseMove):
                await self._wait_for_turn()
            event = events.popleft()  # not always the event above: `put_first` may have been called meanwhile
            self._edited_field = app.focused if is_edit(app, event) else None
            app.call_later(self._handle, event)

    async def _wait_for_turn(self) -> None:
        await wait_until_idle(self._app)
        end = time.monotonic() + READY_TIMEOUT_S
        while not self._ready() and self._app.screen is not self._timed_out:
            if time.monotonic() > end:
                self._timed_out = self._app.screen
            await asyncio.sleep(READY_POLL_S)
            await wait_until_idle(self._app)

    async def join(self) -> None:
        """Wait until all events so far are handled and their effects are complete."""
        await _wait_for_queue(self._app, self._app)
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])
            await _wait_for_queue(self._app, self._app)
        await wait_until_idle(self._app)


def is_edit(app: App[Any], event: Event) -> bool:
    """Whether all that an event does is to change a text field, or to move the cursor in it."""
    focus = app.focused
    if focus is None or not (keys := _editing_keys(type(focus))):
        return False
    if not isinstance(event, Key):
        return isinstance(event, Paste)
    if event.key not in keys and (not focus.check_consume_key(event.key, event.character) or "+" in event.key):
        return False
    chain = (bindings.key_to_bindings.get(event.key, ()) for _, bindings in app.screen._binding_chain)
    return not any(binding.priority for bindings in chain for binding in bindings)


@cache
def _editing_keys(widget: type[Widget]) -> frozenset[str]:
    """Return the keys that edit a text field; none for other widgets."""
    field = next((cls for cls in widget.__mro__ if cls.__module__ in TEXT_FIELDS and issubclass(cls, Widget)), None)
    bindings = Binding.make_bindings(field.BINDINGS) if field is not None else ()
    return frozenset(each.key for each in bindings if each.action != "submit")


async def wait_until_idle(app: App[Any]) -> None:
    """Wait until the message queues of the app, of the screen in front and of that screen's widgets are empty."""
    for _ in range(MAX_SWEEPS):
        if not app.is_running:
            return
        front, focus = app.screen, app.focused
        for pump in (focus or front).ancestors_with_self:  # the path of a key, up to the app
            await _wait_for_queue(app, pump)
        busy = [pump for pump in (app, *_tree(front)) if pump.message_queue_size]
        if not busy and (front, focus) == (app.screen, app.focused):
            return
        for pump in busy:
            await _wait_for_queue(app, pump)


def _tree(root: DOMNode) -> Iterator[DOMNode]:
    nodes = [root]
    for node in nodes:
        nodes.extend(node.children)
    return iter(nodes)


async def _wait_for_queue(app: App[Any], pump: MessagePump) -> None:
    """Wait until a message pump has handled everything that is in its queue now."""
    done = asyncio.Event()
    if pump.call_later(done.set):  # False if it is closing
        waiting = asyncio.create_task(done.wait())
        while not done.is_set():
            await asyncio.wait([waiting], timeout=PUMP_POLL_S)
            if not (app.is_running and pump.is_running):
                break
        waiting.cancel()
