"""One completion with its weights above it; below it, the speed and why it ended."""

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from nanogpt.formatting import counted
from nanogpt_tui.screens.sample.token_text import TokenText
from nanogpt_tui.session.completions import Completion, Source
from nanogpt_tui.text import printable, safe_content, short_weights

LEGEND = ((0, " 50%+ "), (1, " 20%+ "), (2, " 5%+ "), (3, " less "))  # (shade, its probabilities), as in `SHADES`
MIN_WEIGHTS = 20  # cells of run and step; the rest is left out before they get fewer
END_REASONS = {
    "length": "length reached",
    "stop": "stop string written",
    "end": "ended by the model",
    "esc": "stopped by you",
}


class Pane(Vertical):
    """A text between two lines about it."""

    DEFAULT_CSS = """
    Pane { width: 1fr; height: 100%; padding: 0 1; }
    Pane > Static { height: 1; text-wrap: nowrap; }
    Pane > .-problem { height: auto; max-height: 6; text-wrap: wrap; }
    """

    def __init__(self, classes: str = "") -> None:
        super().__init__(classes=classes)
        self.completion: Completion | None = None
        self.text = TokenText()
        self._source = Source()

    def compose(self) -> ComposeResult:
        yield Static(classes="weights")
        yield self.text
        yield Static(classes="status")

    def show(self, completion: Completion | None, source: Source) -> None:
        """Show a completion and its weights. `source` has the weights of the next one: they are named too if they
        differ, or alone if `completion` is None."""
        self.completion, self._source = completion, source
        self.text.show(completion)
        weights, status = self.query(Static)
        weights.update(weights_line(completion, source, self.size.width), layout=False)
        problem = completion is not None and bool(completion.error)
        status.set_class(problem, "-problem")
        line = status_line(completion, self.size.width)
        legend = self._legend() if completion is not None and completion.tokens and self.text.shaded else Content()
        if not problem and line.cell_length + 2 + legend.cell_length <= self.size.width:
            gap = self.size.width - line.cell_length - legend.cell_length
            line = Content.assemble(line, " " * gap, legend)
        status.update(line, layout=problem)

    def _legend(self) -> Content:
        """Return the shades with their probabilities."""
        styles = [self.text.get_visual_style(f"tokentext--shade-{number}") if number else "" for number, _ in LEGEND]
        return Content.assemble(*((words, style) for (_, words), style in zip(LEGEND, styles, strict=True)))

    def on_resize(self) -> None:
        self.show(self.completion, self._source)


def weights_line(completion: Completion | None, source: Source, width: int) -> Content:
    """Return the run and the step in `width` cells, and the weights of the next text if they differ and there is room.

    Else, as far as there is room, say whether the weights are averaged ones, and the loss.
    """
    weights = completion.weights if completion else source.label
    if completion and source not in (completion.source, completion.exact_source, Source()):
        following = f"   next: {printable(source.label)}"
        if len("from ") + cell_len(weights + following) <= width:
            return Content.assemble(("from ", "$quiet"), (printable(weights), "$foreground"), (following, "$accent"))
    notes = ["   averaged weights"] if completion and completion.is_average else []
    if completion and completion.val_loss is not None:
        notes.append(f"   val loss {completion.val_loss:.4f}")
    while notes and width - len("from " + "".join(notes)) < min(MIN_WEIGHTS, cell_len(weights)):
        notes.pop()
    about = "".join(notes)
    shown = short_weights(printable(weights), width - len("from " + about))
    return Content.assemble(("from ", "$quiet"), (shown, "$foreground"), (about, "$quiet"))


def status_line(completion: Completion | None, width: int) -> Content:
    """Return the number of tokens, the speed and why the text ended; without the speed if `width` is too small."""
    if completion is None:
        return Content()
    if completion.error:
        return safe_content(completion.error, "$error")
    if not completion.reason and not completion.tokens:
        return Content.styled("loading the weights …", "$quiet")
    count = f"{counted(len(completion.tokens), 'token'):<14}"
    rate = f"{f'{completion.tokens_per_second:,.0f} tokens/s':<17}"
    now, style = (END_REASONS.get(completion.reason, ""), "$quiet") if completion.reason else ("writing …", "$alive")
    branch = "" if completion.branched_at is None else f"  branched at token {completion.branched_at + 1:,}"
    if len(count + rate + now + branch) > width:
        rate = ""
    if len(count + now + branch) > width:
        branch = ""
    return Content.assemble((count + rate, "$quiet"), (now, style), (branch, "$quiet"))
