"""A Textual app that sends its terminal only the cells that changed, and no frames while the terminal is congested.

Also: input in order, traffic measurement, notifications, the clipboard and low-bandwidth mode.
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
from textual.keys import key_to_character
from textual.screen import Screen
from textual.timer import Timer

from nanogpt.formatting import printable
from nanogpt_tui.terminal.diff_renderer import DiffRenderer
from nanogpt_tui.terminal.escape import resolve_alt
from nanogpt_tui.terminal.input_queue import InputQueue, is_edit
from nanogpt_tui.terminal.stylesheet import CachedStylesheet

TRAFFIC_WINDOW_S = 5  # the traffic is the mean over this time
TMUX_TIMEOUT_S = 10.0


class TerminalApp(App[int]):
    """An app with a differential renderer and an input queue.

    `low_bandwidth` is for slow connections: at most 256 colours, whose sequences are shorter, and no animation.
    """

    def __init__(self) -> None:
        self._renderer = DiffRenderer()
        self._low_bandwidth = False
        self._samples: deque[tuple[float, int]] = deque(maxlen=TRAFFIC_WINDOW_S + 1)  # (time, bytes sent)
        self._sampling: Timer | None = None
        super().__init__()
        self.stylesheet = CachedStylesheet(variables=self.get_css_variables())
        self.input = InputQueue(self, self._handle_input, self.is_ready)

    @property
    def low_bandwidth(self) -> bool:
        return self._low_bandwidth

    @low_bandwidth.setter
    def low_bandwidth(self, on: bool) -> None:
        self._low_bandwidth = on
        self.animation_level = "none" if on else constants.TEXTUAL_ANIMATIONS

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Stop the cursor of a text field from blinking: each change would be sent."""
        if hasattr(event.widget, "cursor_blink"):
            event.widget.cursor_blink = False

    def is_ready(self) -> bool:
        """Return whether the screen in front has loaded the data that its keys act on."""
        return True

    async def on_event(self, event: Event) -> None:
        if isinstance(event, InputEvent | Paste) and not event.is_forwarded:
            self.input.put(event)
        else:
            await super().on_event(event)

    async def _handle_input(self, event: Event) -> None:
        if isinstance(event, Key):
            first, *others = resolve_alt(self, event)
            self.input.put_first(*others)
            event, focus = first, self.focused
            if focus is not None and is_edit(self, event) and not event.is_printable:
                for binding in focus._bindings.key_to_bindings[event.key][:1]:
                    focus.call_later(self.run_action, binding.action, focus)
                return
        await super().on_event(event)

    async def _check_bindings(self, key: str, priority: bool = False) -> bool:
        """Do what a key is bound to, unless it has priority and the focused text field takes it as a character."""
        if priority and self.focused is not None and self.focused.check_consume_key(key, key_to_character(key)):
            return False
        return await super()._check_bindings(key, priority)

    @property
    def bytes_sent(self) -> int:
        """The number of bytes written to the terminal since the start."""
        return getattr(self._driver, "sent", 0)

    @property
    def traffic(self) -> float | None:
        """Bytes per second written to the terminal, the mean over TRAFFIC_WINDOW_S; None if it is not measured."""
        if self._sampling is None:
            return None
        (start, sent_before), (end, sent) = self._samples[0], self._samples[-1]
        return (sent - sent_before) / (end - start) if end > start else 0.0

    def measure_traffic(self, on: bool) -> None:
        """Start or stop measuring `traffic`."""
        if on and self._sampling is None:
            self._sampling = self.set_interval(1.0, self._sample)
            self._sample()
        elif not on and self._sampling is not None:
            self._sampling.stop()
            self._sampling = None
            self._samples.clear()
            self.traffic_changed()

    def _sample(self) -> None:
        self._samples.append((time.monotonic(), self.bytes_sent))
        self.traffic_changed()

    @property
    def suspend_message(self) -> str:
        """The line that the terminal shows while the app is suspended."""
        return "suspended"

    def action_suspend_process(self) -> None:
        """Return to the shell while this process continues."""
        if self._driver is not None and not self.is_headless:
            self._driver.suspend()  # type: ignore[attr-defined]

    def suspend_failed(self) -> None:
        """Called when a suspended app came back at once because no shell could have continued it."""

    def terminal_closed(self) -> None:
        """End the app: its terminal was closed."""
        self.exit(0)

    def traffic_changed(self) -> None:
        """Called when `traffic` has changed."""

    def send_notification(self, text: str, method: str) -> None:
        """Ring the terminal's bell ("bell"), or make it show a notification with `text` ("osc9")."""
        if self._driver is not None and not self.is_headless:
            self._driver.write(notification(text, in_tmux="TMUX" in os.environ) if method == "osc9" else "\a")

    def copy_to_clipboard(self, text: str) -> None:
        """Copy with OSC 52, which reaches the clipboard of the machine that shows the terminal, also over SSH.

        tmux ignores that sequence from its programs by default, but copies a buffer that `tmux load-buffer -w` gets.
        """
        self._clipboard = text
        if self._driver is None or self.is_headless:
            return
        if "TMUX" in os.environ:
            threading.Thread(target=_load_tmux_buffer, args=(text,), daemon=True).start()
        self._driver.write(clipboard(text))

    def get_driver_class(self) -> type[Driver]:
        """Return `TerminalDriver`, except on Windows and where an environment variable of Textual's names another."""
        if sys.platform == "win32" or constants.DRIVER:
            return super().get_driver_class()
        from nanogpt_tui.terminal.driver import TerminalDriver

        return TerminalDriver

    def redraw(self) -> None:
        """Send the whole screen again, for a terminal that shows something else."""
        self._renderer.reset()
        self.screen.refresh()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        driver = self._driver
        if getattr(driver, "is_congested", False):
            driver.drop_frame()  # type: ignore[union-attr]
            renderable = None
        elif isinstance(renderable, CompositorUpdate):
            renderable = _DiffUpdate(self, renderable)
        super()._display(screen, renderable)

    def render_diff(self, update: CompositorUpdate) -> str:
        """Return what must be sent for `update`."""
        colours = self.console._color_system or ColorSystem.TRUECOLOR
        if self._low_bandwidth:
            colours = min(colours, ColorSystem.EIGHT_BIT)
        return self._renderer.render(update, (getattr(self._driver, "screen_starts", 0), self.size), colours)


class _DiffUpdate(CompositorUpdate):
    """An update that is rendered as a difference when it is certain to be sent, and not before."""

    def __init__(self, app: TerminalApp, update: CompositorUpdate) -> None:
        self._app, self._update = app, update

    def render_segments(self, console: Any) -> str:
        return self._app.render_diff(self._update)


def clipboard(text: str) -> str:
    """Return the sequence (OSC 52) that makes a terminal copy `text`."""
    return f"\x1b]52;c;{base64.b64encode(_utf8(text)).decode()}\a"


def _load_tmux_buffer(text: str) -> None:
    """Load a tmux buffer; tmux copies it to the clipboard of its terminal."""
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            ["tmux", "load-buffer", "-w", "-"], input=_utf8(text), capture_output=True, timeout=TMUX_TIMEOUT_S
        )


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # a path may have bytes that are not UTF-8


def notification(text: str, in_tmux: bool) -> str:
    """Return the sequence (OSC 9) that makes a terminal show `text` as a notification, wrapped for tmux if needed."""
    line = " ".join(printable(text).split())[:200]
    sequence = f"\x1b]9;{line}\a"
    return f"\x1bPtmux;{sequence.replace(chr(27), chr(27) * 2)}\x1b\\" if in_tmux else sequence
