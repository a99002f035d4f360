"""Keys, clicks and pastes in order: each is handled when everything that the ones before it caused is done.

Textual hands a key to the widget in focus. What that widget does not type travels through the message queues of all
widgets above it before it is looked up, so that a letter overtakes a Backspace, and both can reach a dialog that is
closing or a screen whose widgets are still being made. Here an input event waits until all these queues are empty.
What edits a text field goes through the queue of that field alone, and need not wait for what else does.
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

SWEEPS = 50  # more than any chain of messages is long; animations and timers may keep a queue busy for ever
PATIENCE_S = 2.0
POLL_S = 0.02
LOOK_S = 0.1  # how often to look whether a pump or the app has ended, and does no more messages
FIELDS = ("textual.widgets._input", "textual.widgets._text_area")


class InputQueue:
    """`put` takes what the terminal sends; `handle` is called with it, in the app's message loop, when its turn comes.

    It also waits while `ready()` is false, for as long as `PATIENCE_S` and once a screen: that reads what its keys are
    about.
    """

    def __init__(self, app: App[Any], handle: Callable[[Event], Awaitable[None]], ready: Callable[[], bool]) -> None:
        self._app, self._handle, self._ready = app, handle, ready
        self._events: deque[Event] = deque()
        self._edited: Widget | None = None  # the field that alone was told anything since all was done
        self._unready: Screen[Any] | None = None  # the one that was waited for long enough
        self._task: asyncio.Task[None] | None = None

    def put(self, *events: Event) -> None:
        self._events.extend(events)
        self._work()

    def put_first(self, *events: Event) -> None:
        """Takes events that come before all that wait."""
        self._events.extendleft(reversed(events))
        self._work()

    def _work(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="input queue")

    async def _run(self) -> None:
        app, events = self._app, self._events
        while events:
            known = edits(app, events[0]) and app.focused is self._edited
            if not known and not isinstance(events[0], MouseMove):
                await self._turn()
            event = events.popleft()  # what was first may have put others before it meanwhile
            self._edited = app.focused if edits(app, event) else None
            app.call_later(self._handle, event)

    async def _turn(self) -> None:
        await settled(self._app)
        end = time.monotonic() + PATIENCE_S
        while not self._ready() and self._app.screen is not self._unready:
            if time.monotonic() > end:
                self._unready = self._app.screen
            await asyncio.sleep(POLL_S)
            await settled(self._app)

    async def join(self) -> None:
        """Wait until everything that arrived is handled, and everything that came of it is done."""
        await _reached(self._app, self._app)
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])
            await _reached(self._app, self._app)
        await settled(self._app)


def edits(app: App[Any], event: Event) -> bool:
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
    """The keys that edit in a text field; none for other widgets."""
    field = next((cls for cls in widget.__mro__ if cls.__module__ in FIELDS and issubclass(cls, Widget)), None)
    bindings = Binding.make_bindings(field.BINDINGS) if field is not None else ()
    return frozenset(each.key for each in bindings if each.action != "submit")


async def settled(app: App[Any]) -> None:
    """Wait until no message is under way in the app, in the screen in front, and in that screen's widgets."""
    for _ in range(SWEEPS):
        if not app.is_running:
            return
        front, focus = app.screen, app.focused
        for pump in (focus or front).ancestors_with_self:  # the way of a key, up to the app
            await _reached(app, pump)
        busy = [pump for pump in (app, *_tree(front)) if pump.message_queue_size]
        if not busy and (front, focus) == (app.screen, app.focused):
            return
        for pump in busy:
            await _reached(app, pump)


def _tree(root: DOMNode) -> Iterator[DOMNode]:
    nodes = [root]
    for node in nodes:
        nodes.extend(node.children)
    return iter(nodes)


async def _reached(app: App[Any], pump: MessagePump) -> None:
    """Wait until a pump has done what is in its queue now."""
    done = asyncio.Event()
    if pump.call_later(done.set):  # not where it is closing
        waiting = asyncio.create_task(done.wait())
        while not done.is_set():
            await asyncio.wait([waiting], timeout=LOOK_S)
            if not (app.is_running and pump.is_running):
                break
        waiting.cancel()
