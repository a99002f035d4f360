"""A take as it is written: each token shaded by how sure the model was, and a cursor over them. Knows no source.

Repaints only the lines that changed.
"""

from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Static

from nanogpt.formatting import counted
from nanogpt_tui.keys import shown
from nanogpt_tui.screens.sample.text_flow import LEFT_OUT, Cell, TextFlow
from nanogpt_tui.session.completions import Completion, Source
from nanogpt_tui.text import printable, safe_content, short, short_weights

SHADES = (0.5, 0.2, 0.05)  # the probabilities above which a token has shade 0, 1, 2; below them it has 3
PROMPT = -1
TURNED = "◆"  # before the first token that was written with other knobs than the one before it
LEGEND = ((0, " 50%+ "), (1, " 20%+ "), (2, " 5%+ "), (3, " less "))  # what the shades say, as SHADES has it
LEAST_WEIGHTS = 20  # cells for run and step; the loss beside them has to leave so much
HINT = (
    ("sample.write", "writes with these weights, knobs and seed"),
    ("sample.prompt", "edits the prompt"),
    ("sample.source", "chooses the weights: any checkpoint, or live"),
    ("sample.temperature_up", "and the keys next to the knobs turn them, also while it writes"),
)
ENDS = {
    "length": "length reached",
    "stop": "stop string written",
    "end": "ended by the model",
    "esc": "stopped by you",
}


def shade(probability: float) -> int:
    """0 where the model was sure, up to 3 where it was surprised by its own draw."""
    return next((number for number, least in enumerate(SHADES) if probability >= least), len(SHADES))


class TokenText(ScrollView, can_focus=True):
    """`show` follows a take; `cursor` is the number of a token, or None.

    While a text is written its end stays in sight, until somebody scrolls up; back at the end, it does again.
    """

    glossary = "token"
    HELP = (
        "What the model writes. The background says how probable each token was: none from 50 % on, a faint "
        "one from 20 %, a stronger one from 5 %, the strongest below that. {sample.left} and {sample.right} "
        "walk over the tokens and show what it could have written instead; {sample.up} and {sample.down} "
        "choose another, {sample.branch} continues from there."
    )
    DEFAULT_CSS = """
    TokenText {
        height: 1fr; scrollbar-size-vertical: 1; scrollbar-gutter: stable; overflow-x: hidden;
        &:focus { background-tint: transparent 0%; }
        & > .tokentext--prompt { color: $quiet; }
        & > .tokentext--turned { color: $accent; }
        & > .tokentext--cursor { text-style: reverse bold; }
        & > .tokentext--shade-1 { background: #262626; }
        & > .tokentext--shade-2 { background: #3a3a3a; }
        & > .tokentext--shade-3 { background: #5f0000; }
        &:light > .tokentext--shade-1 { background: #eeeeee; }
        &:light > .tokentext--shade-2 { background: #dadada; }
        &:light > .tokentext--shade-3 { background: #ffd7d7; }
        &:ansi > .tokentext--shade-1, &:nocolor > .tokentext--shade-1 { background: transparent; text-style: italic; }
        &:ansi > .tokentext--shade-2, &:nocolor > .tokentext--shade-2 {
            background: transparent; text-style: underline;
        }
        &:ansi > .tokentext--shade-3, &:nocolor > .tokentext--shade-3 {
            background: transparent; text-style: bold underline;
        }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "tokentext--prompt",
        "tokentext--turned",
        "tokentext--cursor",
        *(f"tokentext--shade-{number}" for number in (1, 2, 3)),
    }

    class Pointed(Message):
        """A token was clicked."""

        def __init__(self, view: "TokenText", token: int) -> None:
            super().__init__()
            self.view, self.token = view, token

    def __init__(self) -> None:
        super().__init__()
        self.cursor: int | None = None
        self.shaded = True
        self._completion: Completion | None = None
        self._flow = TextFlow(80)
        self._count = 0
        self._following = False
        self._styles: dict[str, Style] = {}

    # ---- what is shown

    def show(self, completion: Completion | None) -> None:
        """Takes what is new of `take`, or begins another."""
        tokens = completion.tokens if completion else []
        same = completion is self._completion and len(tokens) >= self._count
        if not same or (self._count and tokens[self._count - 1] is not self._last):
            another, self._completion = completion is not self._completion, completion
            if another:
                self.cursor = None
            self._lay_out()
            if another:
                self.scroll_home(animate=False, immediate=True)
            return
        first = len(self._flow.lines)
        for number in range(self._count, len(tokens)):
            first = min(first, self._add(number))
        if len(tokens) > self._count:
            self._counted(first)

    def _lay_out(self) -> None:
        self._flow = TextFlow(self.scrollable_content_region.width)
        self._count = 0
        if self._completion is not None:
            self._flow.add(self._completion.prompt, PROMPT)
            for number in range(len(self._completion.tokens)):
                self._add(number)
        self._counted(0)
        self.refresh()

    def _add(self, number: int) -> int:
        """Lays out a token; returns the first line that changed."""
        assert self._completion is not None
        turned = any(at == number for at, _ in self._completion.knob_changes)
        sign = self._flow.add_sign(TURNED, number) if turned else len(self._flow.lines)
        return min(sign, self._flow.add(self._completion.tokens[number].text, number))

    def _counted(self, first_changed: int) -> None:
        """The flow has grown from that line on."""
        tokens = self._completion.tokens if self._completion else []
        self._count = len(tokens)
        self._last = tokens[-1] if tokens else None
        self.virtual_size = Size(self._flow.width, len(self._flow.lines))
        self.refresh_lines(first_changed, len(self._flow.lines) - first_changed)
        self._keep_up()

    def follow(self) -> None:
        """Shows the end of the text, also as it grows."""
        self._following = True
        self._keep_up()

    def _keep_up(self) -> None:
        if self._following and self.cursor is None:
            self.scroll_end(animate=False, immediate=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._following = new_value >= self.max_scroll_y - 1

    def point(self, token: int | None) -> None:
        """Puts the cursor on a token of the take, and shows it; None takes it away."""
        tokens = self._completion.tokens if self._completion else []
        for place in (self.cursor, token):
            if place is not None and place < len(tokens):
                line = self._flow.line_of(place)
                self.refresh_lines(line, 2 + len(tokens[place].text) // self._flow.width)
        self.cursor = token
        self._show_cursor()

    def _show_cursor(self) -> None:
        """Scrolls to the cursor where it is out of sight."""
        if self.cursor is not None:
            line = self._flow.line_of(self.cursor)
            top, height = self.scroll_offset.y, self.scrollable_content_region.height
            if not top <= line < top + height:
                self.scroll_to(y=max(0, line - height // 2), animate=False, immediate=True)

    def toggle_shades(self) -> None:
        self.shaded = not self.shaded
        self.refresh()

    # ---- drawing

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        line = y + self.scroll_offset.y
        if self._completion is None and line < len(HINT):
            name, words = HINT[line]
            hint = Segment(short(f"{shown(name, self.app):<6} {words}", width), self._named("prompt"))
            return Strip([hint]).adjust_cell_length(width, self.rich_style)
        if line >= len(self._flow.lines):
            return Strip.blank(width, self.rich_style)
        segments: list[Segment] = []
        run, style = "", self.rich_style
        for cell in self._flow.lines[line]:
            wanted = self._style(cell)
            if wanted is not style:
                if run:
                    segments.append(Segment(run, style))
                run, style = "", wanted
            run += cell.text
        if run:
            segments.append(Segment(run, style))
        used = sum(cell.width for cell in self._flow.lines[line])
        return Strip(segments, used).adjust_cell_length(width, self.rich_style)

    def _style(self, cell: Cell) -> Style:
        tokens = self._completion.tokens if self._completion else []
        if cell.piece == PROMPT:
            name = "prompt"
        elif cell.sign:
            name = "turned"
        elif cell.piece == self.cursor:
            name = "cursor"
        else:
            number = shade(tokens[cell.piece].probability) if self.shaded and cell.piece < len(tokens) else 0
            name = f"shade-{number}" if number else ""
        return self._named(name)

    def _named(self, name: str) -> Style:
        if name not in self._styles:
            self._styles[name] = self.get_component_rich_style(f"tokentext--{name}") if name else self.rich_style
        return self._styles[name]

    def notify_style_update(self) -> None:
        """Colours may be others now."""
        super().notify_style_update()
        self._styles = {}

    def on_resize(self) -> None:
        if self.scrollable_content_region.width != self._flow.width:
            self._lay_out()
        else:
            self._keep_up()
        self._show_cursor()

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None:
            token = self._flow.piece_at(offset.y + self.scroll_offset.y, offset.x)
            if token is not None and token != PROMPT:
                self.post_message(self.Pointed(self, token))


class Pane(Vertical):
    """One text with its weights above it, and below it how fast it came and why it ended."""

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
        """A take, or where there is none yet, the weights that would write it; and the weights that are to write the
        next one, where they are others."""
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
        """How probable a token with each shade was."""
        styles = [self.text.get_visual_style(f"tokentext--shade-{number}") if number else "" for number, _ in LEGEND]
        return Content.assemble(*((words, style) for (_, words), style in zip(LEGEND, styles, strict=True)))

    def on_resize(self) -> None:
        self.show(self.completion, self._source)


def weights_line(completion: Completion | None, source: Source, width: int) -> Content:
    """In `width` cells: the run, the step, and where there is room for it the loss, or the weights of the next text."""
    weights = completion.weights if completion else source.label
    if completion and source not in (completion.source, Source()):
        following = f"   next: {printable(source.label)}"
        if len("from ") + cell_len(weights + following) <= width:
            return Content.assemble(("from ", "$quiet"), (printable(weights), "$foreground"), (following, "$accent"))
    loss = f"   val loss {completion.val_loss:.4f}" if completion and completion.val_loss is not None else ""
    room = width - len("from ") - len(loss)
    if room < min(LEAST_WEIGHTS, cell_len(weights)):
        loss, room = "", room + len(loss)
    return Content.assemble(
        ("from ", "$quiet"), (short_weights(printable(weights), room), "$foreground"), (loss, "$quiet")
    )


def status_line(completion: Completion | None, width: int) -> Content:
    """How much was written, how fast, and why it ended; in few cells without how fast."""
    if completion is None:
        return Content()
    if completion.error:
        return safe_content(completion.error, "$error")
    if not completion.reason and not completion.tokens:
        return Content.styled("loading the weights …", "$quiet")
    count = f"{counted(len(completion.tokens), 'token'):<14}"
    rate = f"{f'{completion.tokens_per_second:,.0f} tokens/s':<17}"
    now, style = (ENDS.get(completion.reason, ""), "$quiet") if completion.reason else ("writing …", "$alive")
    branch = "" if completion.branched_at is None else f"  branched at token {completion.branched_at + 1:,}"
    if len(count + rate + now + branch) > width:
        rate = ""
    if len(count + now + branch) > width:
        branch = ""
    return Content.assemble((count + rate, "$quiet"), (now, style), (branch, "$quiet"))


def visible(text: str, ascii_only: bool = False) -> str:
    """A token's text so that spaces and line breaks in it can be seen."""
    space, newline, tab = ("_", "\\n", "\\t") if ascii_only else ("␣", "↵", "⇥")
    shown = "".join(each for each in printable(text) if each not in LEFT_OUT)
    return shown.replace("\n", newline).replace("\t", tab).replace(" ", space)
