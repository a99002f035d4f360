"""A sentence cut by one tokenizer: every other token shaded, and the token under the cursor in words."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.style import Style
from textual.widget import Widget

from nanogpt.formatting import counted, token_text
from nanogpt.inspection.tokenization import Cut
from nanogpt_tui.text import safe_content
from nanogpt_tui.token_views import cut_styles, name


class CutView(Widget, can_focus=True):
    """The cursor is on a token; `CursorMoved` tells the byte of the text at which that token begins."""

    DEFAULT_CSS = """
    CutView { height: auto; width: 1fr; }
    """
    HELP = (
        "A text cut into tokens. {tokenizers.left} and {tokenizers.right} move over the tokens; below stand the id and "
        "the bytes of the token under the cursor. The other tokenizer shows the token at the same place."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move_cursor(-1)", "tokens", id="tokenizers.left", tooltip="Move back by a token"),
        Binding("right", "move_cursor(1)", "tokens", id="tokenizers.right", tooltip="Move forward by a token"),
        Binding("home", "move_cursor(-1000000000)", "first token", id="tokenizers.first", show=False),
        Binding("end", "move_cursor(1000000000)", "last token", id="tokenizers.last", show=False),
    ]
    glossary = "token"
    cut: reactive[Cut | None] = reactive(None, layout=True)
    cursor: reactive[int] = reactive(0, layout=True)
    error: reactive[str] = reactive("", layout=True)

    class CursorMoved(Message):
        """`offset`: the first byte of the token under the cursor in the UTF-8 of the text."""

        def __init__(self, view: "CutView", offset: int) -> None:
            super().__init__()
            self.view, self.offset = view, offset

    def __init__(self, id: str, ascii_only: bool) -> None:
        super().__init__(id=id)
        self.ascii_only = ascii_only

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, len(self.cut.ids) - 1)) if self.cut is not None else 0

    def watch_cut(self) -> None:
        self.cursor = self.validate_cursor(self.cursor)

    def action_move_cursor(self, by: int) -> None:
        """Move by a number of tokens, at most to either end."""
        if self.cut is not None:
            self.cursor += by
            self.post_message(self.CursorMoved(self, sum(map(len, self.cut.pieces[: self.cursor]))))

    def show_offset(self, offset: int) -> None:
        """Move the cursor to the token with this byte of the text, without a message."""
        pieces = self.cut.pieces if self.cut is not None else ()
        for number, piece in enumerate(pieces):
            offset -= len(piece)
            if offset < 0:
                self.cursor = number
                return
        self.cursor = len(pieces) - 1

    def on_focus(self) -> None:
        self.refresh(layout=True)

    def on_click(self, event: Click) -> None:
        if "token" in event.style.meta:
            self.action_move_cursor(event.style.meta["token"] - self.cursor)

    # ---- its text

    def render(self) -> Content:
        if self.error:
            return safe_content(self.error, "$error")
        if self.cut is None:
            return Content.styled("…", "$quiet")
        lines = [_figures(self.cut), self._shaded(self.cut), self._token(self.cut)]
        if self.cut.problem:
            lines.append(safe_content(self.cut.problem, "$warning"))
        return Content("\n\n").join(lines)

    def _shaded(self, cut: Cut) -> Content:
        plain = bool(self.app.current_theme.ansi)
        even, odd = cut_styles(plain)
        between = [Content.styled("|", "$quiet")] if plain or self.ascii_only else []
        parts: list[Content] = []
        for number, piece in enumerate(cut.pieces):
            style = "bold reverse" if number == self.cursor else odd if number % 2 else even
            text = Content.styled(token_text(piece), style)
            parts += [*(between if number else []), text.stylize(Style.from_meta({"token": number}))]
        return Content.assemble(*parts)

    def _token(self, cut: Cut) -> Content:
        """Return the token under the cursor in words."""
        if not cut.ids:
            return Content.styled("type a sentence", "$quiet")
        piece = cut.pieces[self.cursor]
        shown = " ".join(f"{byte:02X}" for byte in piece[:16]) + (" …" if len(piece) > 16 else "")
        return Content.assemble(
            (f"token {self.cursor + 1:,} of {len(cut.ids):,}  ", "$quiet"),
            (f"id {cut.ids[self.cursor]:,}  ", "bold $foreground"),
            (f"{name(piece, self.ascii_only)}  ", "$accent"),
            (f"{counted(len(piece), 'byte')}: {shown}", "$quiet"),
        )


def _figures(cut: Cut) -> Content:
    tokens = len(cut.ids)
    parts = [(f"{counted(tokens, 'token')}", "bold $foreground")]
    if tokens:
        per = f"   {tokens / max(1, cut.characters):.2f} a character   {cut.utf8_bytes / tokens:.2f} bytes a token"
        parts.append((per, "$foreground"))
    parts.append((f"   vocabulary {cut.vocab_size:,}", "$quiet"))
    return Content.assemble(*parts)
