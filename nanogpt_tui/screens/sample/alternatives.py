"""What could have come in a token's place: its alternatives, one of them chosen, each with two bars, the model's own
probability and the one that the knobs make of it. Knows no take."""

from textual.content import Content
from textual.geometry import Size
from textual.style import Style
from textual.widget import Widget

from nanogpt.config import SamplingConfig
from nanogpt.events import Alternative, Token
from nanogpt_tui.keys import with_keys
from nanogpt_tui.screens.sample.token_text import TURNED, visible
from nanogpt_tui.session.token_distribution import Distribution
from nanogpt_tui.text import short

TEXT_WIDTH = 12
FEW, TALL = 5, 30  # rows where the terminal has fewer lines than that
HINT = "{sample.left} and {sample.right} walk over the tokens and\nshow what it could have written instead"


class Alternatives(Widget):
    """`chosen` is the number of the row that enter takes: the token itself, until another is chosen."""

    glossary = "top-k"
    HELP = (
        "Two bars a token: the model's own probability, and the one after temperature and the other knobs as they "
        "stand now. {sample.up} and {sample.down} choose, {sample.branch} continues from there in a new text; the "
        "history keeps both."
    )
    DEFAULT_CSS = "Alternatives { height: auto; text-wrap: nowrap; }"

    def __init__(self, ascii_only: bool) -> None:
        super().__init__()
        self.ascii_only = ascii_only
        self._picked: int | None = None  # the id of the one that was chosen
        self._token: Token | None = None
        self._place = (0, 0)
        self._turned = ""
        self._distribution: Distribution | None = None
        self._knobs = SamplingConfig()

    def show(
        self,
        token: Token | None,
        number: int,
        total: int,
        turned: str,
        distribution: Distribution | None,
        knobs: SamplingConfig,
    ) -> None:
        """Token `number` (from 0) of `total`, None shows how to get one; what was `turned` before it, in words; what
        it was drawn from, where that is known, and the knobs as they are now."""
        shown = (self._token, self._place, self._turned, self._distribution, self._knobs)
        if shown == (token, (number, total), turned, distribution, knobs):
            return
        if token is not self._token:
            self._picked = None
        self._token, self._place, self._turned = token, (number, total), turned
        self._distribution, self._knobs = distribution, knobs
        self.refresh(layout=True)

    @property
    def chosen(self) -> int:
        ids = [row.id for row in self._rows()]
        own = self._token.id if self._token is not None else None
        return next((ids.index(each) for each in (self._picked, own) if each in ids), 0)

    def _rows(self) -> list[Alternative]:
        """The alternatives, best first, with the token itself at the end where it is not among them."""
        token = self._token
        if token is None:
            return []
        most = FEW if self.app.size.height < TALL else len(token.alternatives) + 99
        known = token.alternatives or (self._distribution.top if self._distribution else ())
        rows = list(known[:most])
        if all(row.id != token.id for row in rows):
            rows.append(Alternative(token.id, token.text, token.probability))
        return rows

    def choose(self, row: int) -> None:
        if self._token is not None:
            rows = self._rows()
            self._picked = rows[row % len(rows)].id
            self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A row a line, whatever width the lines were drawn for last."""
        return 2 if self._token is None else 2 + bool(self._turned) + len(self._rows())

    @property
    def choice(self) -> Alternative | None:
        return self._rows()[self.chosen] if self._token is not None else None

    @property
    def _room(self) -> int:
        """The cells of a bar."""
        return max(3, (self.size.width - TEXT_WIDTH - 5 - 2 * 8 - 2) // 2)

    def render(self) -> Content:
        token = self._token
        if token is None:
            return Content.styled(with_keys(HINT, self.app), "$quiet")
        number, total = self._place
        text = short(visible(token.text or "…", self.ascii_only), TEXT_WIDTH)
        lines = [
            Content.assemble(
                (f"token {number + 1:,} of {total:,}  “", "$quiet"),
                (text, "bold $foreground"),
                ("”  p ", "$quiet"),
                f"{token.probability:.3f}",
            )
        ]
        if self._turned:
            lines.append(Content.assemble((f"{TURNED} from here on: ", "$accent"), (self._turned, "$foreground")))
        after = self._distribution.probabilities(self._knobs) if self._distribution is not None else None
        column = self._room + 8
        heads = f"{'model':>{column}}{'after knobs' if after is not None else '':>{column + 2}}"
        lines.append(Content.styled(" " * (TEXT_WIDTH + 5) + heads, "$quiet"))
        for place, row in enumerate(self._rows()):
            lines.append(self._row(place, row, token.id, None if after is None else float(after[row.id])))
        return Content("\n").join(lines)

    def _row(self, index: int, row: Alternative, written: int, after: float | None) -> Content:
        pointer, own = (">", "*") if self.ascii_only else ("▸", "●")
        text = short(visible(row.text, self.ascii_only), TEXT_WIDTH)
        chosen = index == self.chosen
        return Content.assemble(
            (f"{pointer if chosen else ' '} ", "$accent"),
            (f"{own if row.id == written else ' '} ", "$foreground"),
            Content.styled(text, "bold $foreground" if chosen else "$foreground"),
            " " * max(1, TEXT_WIDTH + 1 - Content(text).cell_length),
            self._bar(row.probability, "$quiet", chosen),
            "" if after is None else "  ",
            "" if after is None else self._bar(after, "$accent", chosen),
        ).stylize(Style.from_meta({"act": f"choose({index})"}))

    def _bar(self, probability: float, style: str, chosen: bool) -> Content:
        room, bar = self._room, "#" if self.ascii_only else "━"
        length = max(round(probability * room), 1 if probability >= 0.005 else 0)
        figure = "–" if probability == 0 else f"{probability:.1%}"
        return Content.assemble(
            (bar * length, style), " " * (room - length), (f"{figure:>8}", "$foreground" if chosen else "$quiet")
        )
