"""A widget for a completion: each token is shaded by its probability, and a cursor moves over the tokens.

Only the lines that changed are repainted.
"""

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from nanogpt_tui.keys import key_label
from nanogpt_tui.screens.sample.text_flow import Cell, TextFlow
from nanogpt_tui.session.completions import Completion
from nanogpt_tui.text import short

SHADES = (0.5, 0.2, 0.05)  # the lowest probabilities of shades 0, 1 and 2; the rest has shade 3
PROMPT = -1  # the piece number of the prompt
KNOBS_CHANGED = "◆"  # before the first token that was drawn with other knobs
HINT = (
    ("sample.write", "writes with these weights, knobs and seed"),
    ("sample.prompt", "edits the prompt"),
    ("sample.source", "chooses the weights: any checkpoint, or live"),
    ("sample.temperature_up", "and the keys next to the knobs turn them, also while it writes"),
)


def shade(probability: float) -> int:
    """Return the shade of a token: 0 for a probable one, up to 3 for an improbable one."""
    return next((number for number, least in enumerate(SHADES) if probability >= least), len(SHADES))


class TokenText(ScrollView, can_focus=True):
    """The text of a completion. `cursor` is the index of a token, or None.

    While a completion is generated, the view follows its end, unless the user has scrolled up.
    """

    glossary = "token"
    HELP = (
        "The text of the model. The background shows how probable each token was: none from 50 %, a faint "
        "one from 20 %, a stronger one from 5 %, the strongest below that. {sample.left} and {sample.right} "
        "move over the tokens and show what it could have written instead; {sample.up} and {sample.down} "
        "choose another, {sample.branch} continues from there."
    )
    DEFAULT_CSS = """
    TokenText {
        height: 1fr; scrollbar-size-vertical: 1; scrollbar-gutter: stable; overflow-x: hidden;
        &:focus { background-tint: transparent 0%; }
        & > .tokentext--prompt { color: $quiet; }
        & > .tokentext--changed { color: $accent; }
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
        "tokentext--changed",
        "tokentext--cursor",
        *(f"tokentext--shade-{number}" for number in (1, 2, 3)),
    }

    class TokenClicked(Message):
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
        """Show a completion, or append the new tokens of the one that is shown."""
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
            self._update_size(first)

    def _lay_out(self) -> None:
        self._flow = TextFlow(self.scrollable_content_region.width)
        self._count = 0
        if self._completion is not None:
            self._flow.add(self._completion.prompt, PROMPT)
            for number in range(len(self._completion.tokens)):
                self._add(number)
        self._update_size(0)
        self.refresh()

    def _add(self, number: int) -> int:
        """Lay out a token; return the first line that changed."""
        assert self._completion is not None
        changed = any(at == number for at, _ in self._completion.knob_changes)
        mark = self._flow.add_mark(KNOBS_CHANGED, number) if changed else len(self._flow.lines)
        return min(mark, self._flow.add(self._completion.tokens[number].text, number))

    def _update_size(self, first_changed: int) -> None:
        """Update the size, repaint from a line on and follow the end."""
        tokens = self._completion.tokens if self._completion else []
        self._count = len(tokens)
        self._last = tokens[-1] if tokens else None
        self.virtual_size = Size(self._flow.width, len(self._flow.lines))
        self.refresh_lines(first_changed, len(self._flow.lines) - first_changed)
        self._follow_end()

    def follow(self) -> None:
        """Scroll to the end of the text, and stay there as it grows."""
        self._following = True
        self._follow_end()

    def _follow_end(self) -> None:
        if self._following and self.cursor is None:
            self.scroll_end(animate=False, immediate=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._following = new_value >= self.max_scroll_y - 1

    def move_cursor(self, token: int | None) -> None:
        """Put the cursor on a token and scroll there; None hides it."""
        tokens = self._completion.tokens if self._completion else []
        for place in (self.cursor, token):
            if place is not None and place < len(tokens):
                line = self._flow.line_of(place)
                self.refresh_lines(line, 2 + len(tokens[place].text) // self._flow.width)
        self.cursor = token
        self._show_cursor()

    def _show_cursor(self) -> None:
        """Scroll to the cursor if it is out of sight."""
        if self.cursor is not None:
            line = self._flow.line_of(self.cursor)
            top, height = self.scroll_offset.y, self.scrollable_content_region.height
            if not top <= line < top + height:
                self.scroll_to(y=max(0, line - height // 2), animate=False, immediate=True)

    def toggle_shades(self) -> None:
        """Show or hide the shades."""
        self.shaded = not self.shaded
        self.refresh()

    # ---- drawing

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        line = y + self.scroll_offset.y
        if self._completion is None and line < len(HINT):
            name, words = HINT[line]
            hint = Segment(short(f"{key_label(name, self.app):<6} {words}", width), self._component_style("prompt"))
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
        elif cell.is_mark:
            name = "changed"
        elif cell.piece == self.cursor:
            name = "cursor"
        else:
            number = shade(tokens[cell.piece].probability) if self.shaded and cell.piece < len(tokens) else 0
            name = f"shade-{number}" if number else ""
        return self._component_style(name)

    def _component_style(self, name: str) -> Style:
        if name not in self._styles:
            self._styles[name] = self.get_component_rich_style(f"tokentext--{name}") if name else self.rich_style
        return self._styles[name]

    def notify_style_update(self) -> None:
        """Forget the styles: the theme may have changed."""
        super().notify_style_update()
        self._styles = {}

    def on_resize(self) -> None:
        if self.scrollable_content_region.width != self._flow.width:
            self._lay_out()
        else:
            self._follow_end()
        self._show_cursor()

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None:
            token = self._flow.piece_at(offset.y + self.scroll_offset.y, offset.x)
            if token is not None and token != PROMPT:
                self.post_message(self.TokenClicked(self, token))
