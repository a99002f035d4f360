"""The base class of all screens: a header, a body and the line of keys."""

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
from nanogpt_tui.widgets.whole import is_whole

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp
    from nanogpt_tui.session.session import Session


class LabScreen(Screen[None]):
    """A screen with header and keys. A subclass has `body`, BINDINGS with ids ("train.pause"), HELP and MOUSE.

    Its WRITES are the actions that a read-only session refuses. A `check_action` of its own asks this one first.

    It overrides `training_changed`, which is called in the interface's thread a few times a second while a run is
    trained, and whenever the screen is shown; it repaints only what changed. Classes of the screen for the layout:
    -narrow (under 110 columns), -medium, -wide (from 160); -short (under 34 rows), -tall.
    """

    HELP = ""
    MOUSE = ""  # what the mouse does on this screen
    SHOWS_A_RUN = False  # on top of Train: it is closed when another run is opened there
    unsaved = ""  # what is lost when the app ends, as a sentence
    is_reading = False  # its list is being read for the first time: keys wait for it
    BINDINGS: ClassVar[list[BindingType]] = []
    WRITES: ClassVar[frozenset[str]] = frozenset()  # actions that start, control, write or delete something
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-medium"), (160, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]  # noqa: RUF012

    def compose(self) -> ComposeResult:
        self._set_breakpoints()
        yield Header(MODES)
        with Container(id="body"):
            yield from self.body()
        yield KeyBar()

    def _set_breakpoints(self) -> None:
        """Set the layout classes. Textual sets them at a Resize: too late for the first frame, and for the top screen
        only."""
        size = self.app.size
        for breakpoints, cells in ((self.HORIZONTAL_BREAKPOINTS, size.width), (self.VERTICAL_BREAKPOINTS, size.height)):
            now = [name for least, name in breakpoints if cells >= least][-1]
            for _, name in breakpoints:
                self.set_class(name == now, name)

    def body(self) -> Iterator[Widget]:
        """Yield the widgets between header and keys."""
        yield from ()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether the action has an effect now; else its key is neither shown nor handled."""
        return not (self.session.readonly and action in self.WRITES)

    def training_changed(self) -> None:
        """Update what depends on the run that is shown."""

    def highlight(self, name: str) -> None:
        """Move the cursor to an item of the screen's list, now or as soon as it is listed."""

    def settings_changed(self) -> None:
        """Update what depends on the settings of the app (`self.lab.settings`)."""

    @property
    def is_whole(self) -> bool:
        """Whether all widgets exist; see `whole.is_whole`."""
        return is_whole(self)

    @property
    def lab(self) -> "LabApp":
        """The app, with its own type."""
        return cast("LabApp", self.app)

    @property
    def session(self) -> "Session":
        """The session of the app."""
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
        for bar in self.query(KeyBar):  # none if the app exits before the screen is composed
            self.call_after_refresh(bar.refresh)

    def on_resize(self, event: Any) -> None:
        self.call_after_refresh(self.refresh_bindings)  # some keys depend on the layout
