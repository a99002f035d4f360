"""The app as its terminal sees it: only what differs is sent, and nothing while the terminal is behind.

Knows Textual's way to the terminal, and nothing of this app's screens.
"""

import sys
from typing import Any

from rich.color import ColorSystem
from textual import constants
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.driver import Driver
from textual.screen import Screen

from nanogpt_tui.painting import Painter


class TerminalApp(App[int]):
    """An app that sends its terminal the cells that differ and nothing else, and no frame while the line is behind.

    `sparing` is for slow lines: no more than 256 colours, whose sequences are shorter, and no animation.
    """

    def __init__(self) -> None:
        self._painter = Painter()
        self._sparing = False
        super().__init__()

    @property
    def sparing(self) -> bool:
        return self._sparing

    @sparing.setter
    def sparing(self, on: bool) -> None:
        self._sparing = on
        self.animation_level = "none" if on else constants.TEXTUAL_ANIMATIONS

    @property
    def bytes_sent(self) -> int:
        """What the terminal took since the start."""
        return getattr(self._driver, "sent", 0)

    def get_driver_class(self) -> type[Driver]:
        if sys.platform == "win32" or constants.DRIVER:
            return super().get_driver_class()
        from nanogpt_tui.line import LineDriver

        return LineDriver

    def redraw(self) -> None:
        """Sends the whole screen again, for a terminal that shows something else."""
        self._painter.forget()
        self.screen.refresh()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        driver = self._driver
        if getattr(driver, "behind", False):
            driver.missed = True  # type: ignore[union-attr]
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
