"""The run that is shown, on a terminal that is too small for the other screens.

The compact screen lies on top of the current screen, which keeps its focus and gets no key, until the terminal is large
enough again.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from nanogpt_tui.keys import with_keys
from nanogpt_tui.screens.train.screen import TrainScreen
from nanogpt_tui.text import count, duration, loss_text, printable, short
from nanogpt_tui.widgets.header import MARKS
from nanogpt_tui.widgets.keybar import KeyBar

if TYPE_CHECKING:
    from nanogpt_tui.session.history import History
    from nanogpt_tui.session.session import Session

FULL_SIZE = Size(80, 24)  # the least for the other screens
MIN_SIZE = Size(40, 10)  # the least for this one
KEYS = ("train.quick_start", "train.pause", "train.save", "train.stop", "train.resume")
APP_ACTIONS = ("quit", "interrupt")
ALWAYS = ("suspend_process", "redraw")  # also below MIN_SIZE
EMPTY = "Nothing has been trained here yet."
HOW_TO_TRAIN = "\n{train.quick_start} trains a small model within a minute."
TOO_SMALL = "nanogpt needs {0.width} × {0.height} or more"


def fits(size: Size, minimum: Size) -> bool:
    """Return whether `size` is at least `minimum` in both directions."""
    return size.width >= minimum.width and size.height >= minimum.height


class CompactView(Widget):
    """Lines of text, and the loss curve in the rows that are left."""

    DEFAULT_CSS = "CompactView { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self._history: History | None = None
        self._waiting = ""

    def show(self, history: "History | None", waiting: str) -> None:
        self._history, self._waiting = history, waiting
        self.refresh()

    def render(self) -> Content:
        size, history = self.size, self._history
        if not size:  # before the first layout
            return Content()
        if not fits(self.app.size, MIN_SIZE):
            text = TOO_SMALL.format(MIN_SIZE)
            above = "\n" * max(0, (size.height - 1) // 2)
            return Content(f"{above}{short(text, size.width):^{size.width}}")
        if history is None:
            session: Session = self.app.session  # type: ignore[attr-defined]
            text = EMPTY if session.readonly else EMPTY + HOW_TO_TRAIN
            return _centred(with_keys(text, self.app) if session.discovered else "", size)
        width = size.width - 2
        lines = [_title(history, self._waiting, width), *_figures(history, width)]
        rows = size.height - len(lines) - (2 if size.height > 10 else 0)
        if len(history) and rows > 0:
            lines += self._curve(history, width, rows)
        elif history.preparing is not None or not len(history):
            from nanogpt_tui.screens.train.run_view import preparing_text

            lines.append(Content.styled(short(preparing_text(history), width), "$quiet"))
        return Content("\n").join(Content.assemble(" ", line) for line in lines)

    def _curve(self, history: "History", width: int, rows: int) -> list[Content]:
        from nanogpt_tui.widgets.sparkline import curve

        glyphs = self.app.settings.glyphs  # type: ignore[attr-defined]
        return [Content.styled(row, "$alive") for row in curve(history.column("loss"), width, rows, glyphs)]


class CompactScreen(TrainScreen, inherit_bindings=False):
    """The most important keys of the Train screen, with a `CompactView`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(each for each in TrainScreen.BINDINGS if getattr(each, "id", "") in KEYS),
        Binding("q,ctrl+q", "app.quit", "quit", id="app.quit"),
    ]

    def compose(self) -> ComposeResult:
        yield CompactView()
        yield KeyBar()

    def show_training(self) -> None:
        self.training_changed()

    def training_changed(self) -> None:
        if not self.is_whole:  # the terminal may have grown before a command is on the disk
            return
        self.query_one(CompactView).show(self.session.history, self._waiting())
        self.refresh_bindings()

    def settings_changed(self) -> None:
        self.query_one(CompactView).refresh()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return False below MIN_SIZE: the effect of a key would not be visible."""
        return fits(self.app.size, MIN_SIZE) and super().check_action(action, parameters)

    def allows(self, action: str) -> bool:
        """Return whether an action of the app works here."""
        return action in ALWAYS or (action in APP_ACTIONS and fits(self.app.size, MIN_SIZE))

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        self.lab.fit()  # the terminal may have grown while a dialog was open

    def on_resize(self, event: Any) -> None:
        self.query_one(KeyBar).display = fits(event.size, MIN_SIZE)
        self.call_after_refresh(self.show_training)


def _centred(text: str, size: Size) -> Content:
    lines = text.splitlines()
    above = "\n" * max(0, (size.height - len(lines)) // 2)
    return Content(above + "\n".join(f"{line:^{size.width}}" for line in lines))


def _title(history: "History", waiting: str, width: int) -> Content:
    """Return the name of the run at the left, its state at the right."""
    mark, style = MARKS[history.phase]
    state = waiting or history.phase
    name = short(printable(history.run), width - len(state) - 4)
    gap = " " * (width - 2 - Content(name).cell_length - len(state))
    return Content.assemble((f"{mark} ", style), (name, "bold $foreground"), gap, (state, style))


def _figures(history: "History", width: int) -> list[Content]:
    """Return a progress bar, and labels and values in two columns."""
    last, evaluation = history.last, history.evaluation
    share = history.step / history.max_iters if history.max_iters else 0.0
    left = [
        ("step", f"{history.step:,}"),
        ("loss", loss_text(last.loss) if last else "–"),
        ("tokens/s", count(last.tokens_per_second) if last else "–"),
    ]
    right = [
        ("of", f"{history.max_iters:,}"),
        ("val loss", loss_text(evaluation.val_loss if evaluation else None)),
        ("ETA", duration(last.eta_s) if last and history.phase == "training" else "–"),
    ]
    half = width // 2
    filled = round(min(1.0, share) * (width - 5))
    bar = Content.assemble(("━" * filled, "$alive"), ("─" * (width - 5 - filled), "$rule"), f" {share:4.0%}")
    rows = [Content.assemble(_pair(*a, half), _pair(*b, width - half)) for a, b in zip(left, right, strict=True)]
    return [bar, *rows]


def _pair(label: str, value: str, width: int) -> Content:
    return Content.assemble((f"{label:<9}", "$quiet"), (f"{value:<{width - 9}}", "$foreground"))
