"""The training's figures: a label, a value of steady width, a small curve of how it went. Knows a history only.

Each repaints only when its text has changed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.widgets import Static

from nanogpt_tui.text import count, duration
from nanogpt_tui.widgets.strip import Strip

if TYPE_CHECKING:
    from nanogpt_tui.history import History

LABEL_WIDTH = 11


@dataclass(frozen=True, slots=True)
class Row:
    """`term` is what the glossary explains it by; `column` the history's column for the small curve, if it has one."""

    label: str
    term: str
    column: str = ""
    log: bool = False


# in threes of four: how far, how well, how
ROWS = {
    "progress": Row("step", "iteration"),
    "time": Row("ETA", "ETA"),
    "tokens": Row("tokens seen", "epoch"),
    "state": Row("state", "health"),
    "train": Row("train loss", "loss", "loss"),
    "val": Row("val loss", "validation loss"),
    "perplexity": Row("perplexity", "perplexity"),
    "lr": Row("lr", "learning rate", "learning_rate"),
    "grad": Row("grad norm", "gradient norm", "grad_norm", log=True),
    "speed": Row("tokens/s", "tokens per second", "tokens_per_second"),
    "mfu": Row("MFU", "MFU", "mfu"),
    "memory": Row("memory", "memory", "memory_bytes"),
}


class Figure(Horizontal, can_focus=True):
    """One row. `?` on it explains its word."""

    def __init__(self, name: str, row: Row, glyphs: str) -> None:
        super().__init__(name=name, id=f"figure-{name}", classes="curved" if row.column else "")
        self.row, self.glossary = row, row.term
        self._text = Static(classes="text")
        self.strip = Strip(glyphs=glyphs, log=row.log) if row.column else None
        self._shown: tuple[str, str, str] = ("", "", "")

    def compose(self) -> ComposeResult:
        yield self._text
        if self.strip is not None:
            yield self.strip

    def show(self, value: str, note: str = "", style: str = "$foreground") -> None:
        if (value, note, style) == self._shown:
            return
        self._shown = (value, note, style)
        label = Content.styled(f"{self.row.label:<{LABEL_WIDTH}} ", "$quiet")
        self._text.update(Content.assemble(label, (f"{value:<9}", style), (f" {note}", "$quiet")), layout=False)


class Figures(Container):
    """All figures, as rows with curves or, where it is narrow, as tiles."""

    def __init__(self, glyphs: str) -> None:
        super().__init__(id="figures")
        self._figures = {name: Figure(name, row, glyphs) for name, row in ROWS.items()}

    def compose(self) -> ComposeResult:
        yield from self._figures.values()

    def show(self, history: "History", waiting: str) -> None:
        """`waiting` says what was asked of the trainer and is not done yet."""
        for name, value, *more in described(history, waiting):
            self._figures[name].show(value, *more)

    def draw(self, history: "History", first: int) -> None:
        """Goes on with the small curves from row `first`; from 0 they begin anew."""
        for figure in self._figures.values():
            if figure.strip is not None:
                if first == 0:
                    figure.strip.clear()
                figure.strip.append(history.column(figure.row.column)[first:])


def described(history: "History", waiting: str) -> Iterator[tuple[str, ...]]:
    """(name, value, note, style) of each figure."""
    last, evaluation, started = history.last, history.evaluation, history.started
    share = history.step / history.max_iters if history.max_iters else 0.0
    yield "progress", f"{history.step:,}", f"of {history.max_iters:,}  {share:.0%}"
    left = last.eta_s if last and history.running else None
    yield "time", duration(left), f"after {duration(last.elapsed_s)}" if last else ""
    yield "train", loss(float(history.column("ema")[-1]) if len(history) else None)
    if evaluation:
        best = min(history.evaluations, key=lambda each: each.val_loss)
        yield "val", loss(evaluation.val_loss), f"best {best.val_loss:.3f} @ {best.step:,}"
        yield "perplexity", perplexity(evaluation.val_loss)
    else:
        yield "val", "–"
        yield "perplexity", "–"
    yield "lr", f"{last.learning_rate:.2e}".replace("e-0", "e-") if last else "–"
    yield "speed", f"{last.tokens_per_second:,.0f}" if last else "–"
    yield "mfu", f"{last.mfu:.1%}" if last and last.mfu is not None else "–"
    yield "grad", f"{last.grad_norm:.3f}" if last else "–"
    yield "memory", f"{last.memory_bytes / 1e9:.2f} GB" if last else "–"
    epochs = f"{last.tokens / started.train_tokens:.1f} epochs" if last and started and started.train_tokens else ""
    yield "tokens", count(last.tokens) if last else "–", epochs
    style = {"failed": "$error", "paused": "$warning", "stopped": "$quiet"}.get(history.state, "$alive")
    yield "state", waiting or history.state, "", "$warning" if waiting else style


def loss(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def perplexity(value: float) -> str:
    return f"{math.exp(value):,.2f}" if value < 20 else "∞"
