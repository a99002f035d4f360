"""The app as its terminal sees it: only what differs is sent, and nothing while the terminal is behind.

Knows Textual's way to the terminal, and nothing of this app's screens.
"""

import base64
import os
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from rich.color import ColorSystem
from textual import constants
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.driver import Driver
from textual.events import DescendantFocus, Event, InputEvent, Key, Paste
from textual.screen import Screen
from textual.timer import Timer

from nanogpt.formatting import printable
from nanogpt_tui.terminal.diff_renderer import DiffRenderer
from nanogpt_tui.terminal.escape import resolved
from nanogpt_tui.terminal.input_queue import InputQueue, edits

READING_S = 5  # what a reading of the traffic is the mean of
TMUX_S = 10.0


class TerminalApp(App[int]):
    """An app that sends its terminal the cells that differ and nothing else, and no frame while the line is behind.

    `sparing` is for slow lines: no more than 256 colours, whose sequences are shorter, and no animation.
    """

    def __init__(self) -> None:
        self._painter = DiffRenderer()
        self._sparing = False
        self._readings: deque[tuple[float, int]] = deque(maxlen=READING_S + 1)
        self._reader: Timer | None = None
        super().__init__()
        self.input = InputQueue(self, self._handle_input, self.is_ready)

    @property
    def sparing(self) -> bool:
        return self._sparing

    @sparing.setter
    def sparing(self, on: bool) -> None:
        self._sparing = on
        self.animation_level = "none" if on else constants.TEXTUAL_ANIMATIONS

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """No cursor blinks: each turn of it would be sent, and would draw the eye."""
        if hasattr(event.widget, "cursor_blink"):
            event.widget.cursor_blink = False

    def is_ready(self) -> bool:
        """Whether the screen in front knows what its keys are about."""
        return True

    async def on_event(self, event: Event) -> None:
        if isinstance(event, InputEvent | Paste) and not event.is_forwarded:
            self.input.put(event)
        else:
            await super().on_event(event)

    async def _handle_input(self, event: Event) -> None:
        if isinstance(event, Key):
            first, *others = resolved(self, event)
            self.input.put_first(*others)
            event, focus = first, self.focused
            if focus is not None and edits(self, event) and not event.is_printable:
                for binding in focus._bindings.key_to_bindings[event.key][:1]:
                    focus.call_later(self.run_action, binding.action, focus)
                return
        await super().on_event(event)

    @property
    def bytes_sent(self) -> int:
        """What the terminal took since the start."""
        return getattr(self._driver, "sent", 0)

    @property
    def traffic(self) -> float | None:
        """Bytes a second that the terminal took lately; None where that is not measured."""
        if self._reader is None:
            return None
        (began, before), (ended, after) = self._readings[0], self._readings[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def measure_traffic(self, on: bool) -> None:
        if on and self._reader is None:
            self._reader = self.set_interval(1.0, self._read)
            self._read()
        elif not on and self._reader is not None:
            self._reader.stop()
            self._reader = None
            self._readings.clear()
            self.traffic_changed()

    def _read(self) -> None:
        self._readings.append((time.monotonic(), self.bytes_sent))
        self.traffic_changed()

    @property
    def note_when_suspended(self) -> str:
        """The line that is left on the terminal while another program has it."""
        return "suspended"

    def action_suspend_process(self) -> None:
        if self._driver is not None and not self.is_headless:
            self._driver.suspend()  # type: ignore[attr-defined]

    def no_shell_to_suspend_to(self) -> None:
        """The app was suspended, and came back at once because nobody could have continued it."""

    def hang_up(self) -> None:
        """The terminal has gone."""
        self.exit(0)

    def traffic_changed(self) -> None:
        """There is a new reading of the traffic, or none any more."""

    def tell(self, text: str, how: str) -> None:
        """Rings the terminal's bell ("bell"), or has it show a notification with `text` ("osc9")."""
        if self._driver is not None and not self.is_headless:
            self._driver.write(notification(text, in_tmux="TMUX" in os.environ) if how == "osc9" else "\a")

    def copy_to_clipboard(self, text: str) -> None:
        """Copies by OSC 52, which reaches the clipboard of the machine that shows the terminal, over SSH too. tmux
        takes no such sequence from what runs in it, but does the same itself when it is given a buffer."""
        self._clipboard = text
        if self._driver is None or self.is_headless:
            return
        if "TMUX" in os.environ:
            threading.Thread(target=_give_tmux, args=(text,), daemon=True).start()
        self._driver.write(clipboard(text))

    def get_driver_class(self) -> type[Driver]:
        if sys.platform == "win32" or constants.DRIVER:
            return super().get_driver_class()
        from nanogpt_tui.terminal.driver import TerminalDriver

        return TerminalDriver

    def redraw(self) -> None:
        """Sends the whole screen again, for a terminal that shows something else."""
        self._painter.forget()
        self.screen.refresh()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        driver = self._driver
        if getattr(driver, "behind", False):
            driver.leave_out()  # type: ignore[union-attr]
            renderable = None
        elif isinstance(renderable, CompositorUpdate):
            renderable = _Changes(self, renderable)
        super()._display(screen, renderable)

    def changes(self, update: CompositorUpdate) -> str:
        """What has to be sent for `update`."""
        colours = self.console._color_system or ColorSystem.TRUECOLOR
        if self._sparing:
            colours = min(colours, ColorSystem.EIGHT_BIT)
        return self._painter.paint(update, (getattr(self._driver, "takeovers", 0), self.size), colours)


class _Changes(CompositorUpdate):
    """An update that is painted at the last moment, when it is certain to be sent."""

    def __init__(self, app: TerminalApp, update: CompositorUpdate) -> None:
        self._app, self._update = app, update

    def render_segments(self, console: Any) -> str:
        return self._app.changes(self._update)


def clipboard(text: str) -> str:
    """The sequence (OSC 52) that has a terminal copy `text`."""
    return f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\a"


def _give_tmux(text: str) -> None:
    """Gives tmux a buffer, which it passes on to its terminal's clipboard."""
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(["tmux", "load-buffer", "-w", "-"], input=text.encode(), capture_output=True, timeout=TMUX_S)


def notification(text: str, in_tmux: bool) -> str:
    """The sequence (OSC 9) that has a terminal show `text` as a notification; tmux has to be told to pass it on."""
    line = " ".join(printable(text).split())[:200]
    sequence = f"\x1b]9;{line}\a"
    return f"\x1bPtmux;{sequence.replace(chr(27), chr(27) * 2)}\x1b\\" if in_tmux else sequence
