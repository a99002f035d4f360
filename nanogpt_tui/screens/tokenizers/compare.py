"""Type a sentence and see it cut by two tokenizers side by side."""

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, Static

from nanogpt.inspection.tokenization import Cut, cut
from nanogpt_tui.screens.tokenizers.choices import Tokenizers, default_pair
from nanogpt_tui.screens.tokenizers.cut_view import CutView
from nanogpt_tui.widgets.choice import Choice

if TYPE_CHECKING:
    from nanogpt_tui.session.session import Session

SENTENCE = "The quick brown fox, aged 12, doesn't jump over 3.14 lazy dogs."
PAUSE_S = 0.05  # after the last key
SIDES = ("left", "right")


class Compare(Vertical):
    """A sentence, and two `CutView`s of it. Tokenizers are loaded and used in threads."""

    HELP = (
        "Type a sentence and see it cut into tokens by two tokenizers. {choice.previous} and {choice.next} choose a "
        "tokenizer, {choice.list} lists all of them."
    )
    glossary = "tokenizer"

    def __init__(self, session: "Session", tokenizers: Tokenizers, ascii_only: bool) -> None:
        super().__init__(id="compare")
        self._session, self._tokenizers, self._ascii_only = session, tokenizers, ascii_only
        self._delays: dict[str, Timer] = {}
        self._next: dict[str, str] = {}  # by side: a tokenizer to choose once it is one of the options
        self._asked: dict[str, tuple[str, str]] = {}  # by side: the tokenizer and the text that were asked for last

    def compose(self) -> ComposeResult:
        with Horizontal(classes="row"):
            yield Static(Content.styled("text", "$quiet"), classes="label")
            yield Input(SENTENCE, compact=True, placeholder="type a sentence", id="sentence", select_on_focus=False)
        with Vertical(id="sides"):
            for side in SIDES:
                with Vertical(classes="side", id=side):
                    yield Choice([], id=f"{side}-tokenizer")
                    yield CutView(f"{side}-cut", self._ascii_only)

    def use_ascii(self, ascii_only: bool) -> None:
        """Draw the tokens with ASCII characters only, or with all."""
        for view in self.query(CutView):
            view.ascii_only = ascii_only
            view.refresh(layout=True)

    def show_options(self, options: list[tuple[str, str]], dataset: str) -> None:
        """Show which tokenizers can be chosen; at first those of `default_pair`."""
        pair = default_pair(options, dataset)
        for side, key in zip(SIDES, pair, strict=True):
            choice = self.query_one(f"#{side}-tokenizer", Choice)
            first = not choice.options
            choice.set_options(options)
            if first or side in self._next:
                choice.value = self._next.pop(side, key)
            self._cut(side)

    def choose_next(self, side: str, key: str) -> None:
        """Choose a tokenizer with the next options."""
        self._next[side] = key

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        for side in SIDES:
            self._cut(side)

    def on_choice_changed(self, message: Choice.Changed) -> None:
        message.stop()
        self._cut((message.choice.id or "").partition("-")[0])

    def on_cut_view_cursor_moved(self, message: CutView.CursorMoved) -> None:
        message.stop()
        for view in self.query(CutView):
            if view is not message.view:
                view.show_offset(message.offset)

    def _cut(self, side: str) -> None:
        """Cut the sentence after a short pause, in a thread."""
        if side in self._delays:
            self._delays[side].stop()
        self._delays[side] = self.set_timer(PAUSE_S, lambda: self._start(side))

    def _start(self, side: str) -> None:
        key, text = self.query_one(f"#{side}-tokenizer", Choice).value, self.query_one(Input).value
        if not key:
            return
        asked = self._asked[side] = key, text

        def show(found: Cut | None, error: str) -> None:
            if self.is_attached and self._asked[side] == asked:
                view = self.query_one(f"#{side}-cut", CutView)
                view.cut, view.error = found, error

        self._session.fetch(lambda: cut(self._tokenizers.load(key), text), show, "tokenizer")
