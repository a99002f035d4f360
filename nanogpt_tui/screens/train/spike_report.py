"""The report of a spike: the steps around it, the layer, and the text of its batch."""

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from nanogpt.events import Spike
from nanogpt.formatting import counted
from nanogpt.inspection.spikes import describe
from nanogpt_tui.text import one_line, safe_content
from nanogpt_tui.widgets.dialog import Dialog, hint

if TYPE_CHECKING:
    from nanogpt_tui.session.history import History

AROUND = 3  # reported steps before and after the spike
COLUMNS = (  # title, name in the history, format
    ("step", "step", ",.0f"),
    ("loss", "loss", ".4f"),
    ("gradient norm", "grad_norm", ".3g"),
    ("learning rate", "learning_rate", ".3g"),
)
WIDTH = 14  # columns of a figure
TEXT_CHARACTERS = 600  # of each text


class SpikeReport(Dialog[None]):
    """Shows one of the spikes of a run; the arrows go to the others."""

    DEFAULT_CSS = """
    SpikeReport > Vertical { width: 90%; max-width: 100; height: 90%; padding: 1 2; }
    SpikeReport VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
    SpikeReport #report { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,exclamation_mark", "dismiss(None)", "back"),
        Binding("left", "move(-1)", "spike before", show=False),
        Binding("right", "move(1)", "next spike", show=False),
        Binding("up", "scroll('up')", "up", priority=True, show=False),
        Binding("down", "scroll('down')", "down", priority=True, show=False),
    ]

    def __init__(self, history: "History", place: int) -> None:
        """`place` is the index of the spike that is shown first."""
        super().__init__()
        self._history, self._place = history, place

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(id="title", classes="question")
            with VerticalScroll():
                yield Static(id="report")
            yield hint("← and → go to the other spikes, ↑ and ↓ scroll, esc closes")

    def on_mount(self) -> None:
        self.action_move(0)

    def action_move(self, by: int) -> None:
        """Show the spike `by` places later."""
        spikes = self._history.spikes
        if not spikes:  # a rollback removed them
            self.dismiss(None)
            return
        self._place = max(0, min(len(spikes) - 1, self._place + by))
        spike = spikes[self._place]
        number = f"{self._place + 1:,} of {counted(len(spikes), 'spike')}   "
        self.query_one("#title", Static).update(Content.assemble((number, "$quiet"), safe_content(describe(spike))))
        self.query_one("#report", Static).update(Content("\n").join(report(spike, self._history)))
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def action_scroll(self, where: str) -> None:
        getattr(self.query_one(VerticalScroll), f"action_scroll_{where}")()


def report(spike: Spike, history: "History") -> Iterator[Content]:
    """Yield the lines of the report: the reported steps around the spike, then the texts with the highest losses."""
    yield Content.styled("".join(f"{title:>{WIDTH}}" for title, _, _ in COLUMNS), "$quiet")
    place = bisect_left(history.column("step"), spike.step)
    around = slice(max(0, place - AROUND), place + AROUND + 1)
    columns = [history.column(name)[around].tolist() for _, name, _ in COLUMNS]
    for values in zip(*columns, strict=False):  # another thread may have added or removed rows in between
        row = "".join(f"{value:>{WIDTH}{form}}" for value, (_, _, form) in zip(values, COLUMNS, strict=True))
        yield Content.styled(row, "bold $warning" if values[0] == spike.step else "$foreground")
    yield Content()
    usual = f"usual: loss {spike.usual_loss:.4g}, gradient norm {spike.usual_grad_norm:.3g}"
    yield Content.styled(usual, "$quiet")
    if spike.layer:
        yield Content.assemble(
            "The gradient of ",
            safe_content(spike.layer, "bold"),
            " grew most: ",
            (f"{spike.layer_growth:,.1f} times", "bold"),
            " its usual size.",
        )
    for text, loss in zip(spike.texts, spike.text_losses, strict=False):
        yield Content()
        yield Content.styled(f"text of the batch, loss {loss:.3f} after the step", "$quiet")
        cut = text[:TEXT_CHARACTERS]
        yield safe_content(one_line(cut) + ("…" if len(text) > len(cut) else ""))


def nearest_spike(spikes: list[Spike], step: float | None) -> int:
    """Return the index of the spike nearest to a step; the newest one for None."""
    if step is None:
        return len(spikes) - 1
    return min(range(len(spikes)), key=lambda place: abs(spikes[place].step - step))
