"""What every screen of the app has: header, body, keys."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widget import Widget

from nanogpt_tui.screens import MODES
from nanogpt_tui.widgets.header import Header
from nanogpt_tui.widgets.keybar import KeyBar

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp
    from nanogpt_tui.session.session import Session


class LabScreen(Screen[None]):
    """A screen of one mode. Subclasses write `body`, their own BINDINGS (each with an id, "train.pause"), HELP, and
    `training_changed`, which is called in the interface's thread a few times a second while a run is trained, and
    whenever the screen is shown; it repaints only what differs.

    Classes for the layout, on the screen: -narrow (under 110 columns), -wide (from 160), -short (under 34 rows).
    """

    HELP = ""
    MOUSE = ""  # what the mouse does on this screen, beside what it does on all of them
    is_reading = False  # what its keys are about is read for the first time: they wait for it
    BINDINGS: ClassVar[list[BindingType]] = []
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-medium"), (160, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]  # noqa: RUF012

    def compose(self) -> ComposeResult:
        self._set_breakpoints()
        yield Header(MODES)
        with Container(id="body"):
            yield from self.body()
        yield KeyBar()

    def _set_breakpoints(self) -> None:
        """What Textual does with a Resize, which comes after the first picture, and to the screen in front alone."""
        size = self.app.size
        for breakpoints, cells in ((self.HORIZONTAL_BREAKPOINTS, size.width), (self.VERTICAL_BREAKPOINTS, size.height)):
            now = [name for least, name in breakpoints if cells >= least][-1]
            for _, name in breakpoints:
                self.set_class(name == now, name)

    def body(self) -> Iterator[Widget]:
        """The widgets between header and keys."""
        yield from ()

    def training_changed(self) -> None:
        """The training has news."""

    def highlight(self, name: str) -> None:
        """Move the cursor to an item of the screen's list, now or as soon as it is listed."""

    def settings_changed(self) -> None:
        """The app's settings (`self.lab.settings`) are others now."""

    @property
    def is_whole(self) -> bool:
        """Whether all its parts are there: not before it is composed, nor while it is being taken away, when
        `is_mounted` still holds and work in a thread may yet have news for it."""
        return self.is_mounted and self.is_attached and self.display

    @property
    def lab(self) -> "LabApp":
        return cast("LabApp", self.app)

    @property
    def session(self) -> "Session":
        return self.lab.session

    def show_training(self) -> None:
        self.query_one(Header).show(self.session)
        self.training_changed()

    def on_screen_resume(self) -> None:
        self._set_breakpoints()
        for bar in self.query(KeyBar):
            bar.refresh()
        self.call_after_refresh(self.show_training)

    def on_screen_suspend(self) -> None:
        for bar in self.query(KeyBar):  # there is none where the app ends before the screen is made
            self.call_after_refresh(bar.refresh)

    def on_resize(self, event: Any) -> None:
        self.call_after_refresh(self.refresh_bindings)  # the layout decides what some keys do
