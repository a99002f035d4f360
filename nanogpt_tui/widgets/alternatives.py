"""What else could have come in a token's place: its alternatives with bars, one of them chosen. Knows no take."""

from textual.content import Content
from textual.geometry import Size
from textual.style import Style
from textual.widget import Widget

from nanogpt.events import Alternative, Token
from nanogpt_tui.keys import spelled
from nanogpt_tui.text import short
from nanogpt_tui.widgets.token_text import visible

TEXT_WIDTH = 12
HINT = "{sample.left} and {sample.right} walk over the tokens and\nshow what it could have written instead"


def rows_of(token: Token) -> list[Alternative]:
    """The alternatives, best first, with the token itself at the end where it is not among them."""
    rows = list(token.alternatives)
    if all(row.id != token.id for row in rows):
        rows.append(Alternative(token.id, token.text, token.probability))
    return rows


class Alternatives(Widget):
    """`chosen` is the number of the row that enter takes."""

    glossary = "top-k"
    HELP = (
        "The model's own probabilities here, before temperature and the other knobs. {sample.up} and "
        "{sample.down} choose, {sample.branch} continues from there in a new text; the history keeps both."
    )
    DEFAULT_CSS = "Alternatives { height: auto; text-wrap: nowrap; }"

    def __init__(self, ascii_only: bool) -> None:
        super().__init__()
        self.ascii_only = ascii_only
        self._token: Token | None = None
        self._place = (0, 0)
        self.chosen = 0

    def show(self, token: Token | None, number: int = 0, total: int = 0) -> None:
        """Token `number` (from 0) of `total`; None shows how to get one."""
        if token is not self._token:
            same = [i for i, row in enumerate(rows_of(token)) if row.id == token.id] if token else [0]
            self._token, self.chosen = token, same[0]
        elif (number, total) == self._place:
            return
        self._place = (number, total)
        self.refresh(layout=True)

    def choose(self, row: int) -> None:
        if self._token is not None:
            self.chosen = row % len(rows_of(self._token))
            self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A row a line, whatever width the lines were drawn for last."""
        return 2 if self._token is None else 1 + len(rows_of(self._token))

    @property
    def choice(self) -> Alternative | None:
        return rows_of(self._token)[self.chosen] if self._token is not None else None

    def render(self) -> Content:
        token = self._token
        if token is None:
            return Content.styled(spelled(HINT, self.app), "$quiet")
        number, total = self._place
        text = short(visible(token.text or "…", self.ascii_only), TEXT_WIDTH)
        head = Content.assemble(
            (f"token {number + 1:,} of {total:,}  “", "$quiet"),
            (text, "bold $foreground"),
            ("”  p ", "$quiet"),
            f"{token.probability:.3f}",
        )
        return Content("\n").join([head, *(self._row(i, row, token.id) for i, row in enumerate(rows_of(token)))])

    def _row(self, index: int, row: Alternative, written: int) -> Content:
        pointer, own, bar = (">", "*", "#") if self.ascii_only else ("▸", "●", "━")
        text = short(visible(row.text, self.ascii_only), TEXT_WIDTH)
        room = max(4, self.size.width - TEXT_WIDTH - 13)
        length = max(round(row.probability * room), 1 if row.probability >= 0.005 else 0)
        chosen = index == self.chosen
        return Content.assemble(
            (f"{pointer if chosen else ' '} ", "$accent"),
            (f"{own if row.id == written else ' '} ", "$foreground"),
            Content.styled(text, "bold $foreground" if chosen else "$foreground"),
            " " * max(1, TEXT_WIDTH + 1 - Content(text).cell_length),
            Content.styled(bar * length, "$accent" if chosen else "$quiet"),
            " " * (room - length),
            (f"{row.probability:>7.1%}", "$foreground" if chosen else "$quiet"),
        ).stylize(Style.from_meta({"act": f"choose({index})"}))
