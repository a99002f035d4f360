"""The alternatives of a token, each with two bars: its probability by the model, and after the knobs."""

from textual.content import Content
from textual.geometry import Size
from textual.style import Style
from textual.widget import Widget

from nanogpt.config import SamplingConfig
from nanogpt.events import Alternative, Token
from nanogpt_tui.keys import with_keys
from nanogpt_tui.screens.sample.token_text import KNOBS_CHANGED
from nanogpt_tui.session.token_distribution import Distribution
from nanogpt_tui.text import short
from nanogpt_tui.token_views import visible

TEXT_WIDTH = 12
MAX_SHORT, TALL = 5, 30  # alternatives on a terminal with fewer than TALL lines
HINT = "{sample.left} and {sample.right} move over the tokens and\nshow what it could have written instead"


class Alternatives(Widget):
    """`chosen` is the alternative that enter continues from: the token itself, until another one is chosen."""

    glossary = "top-k"
    HELP = (
        "Two bars for each token: the probability by the model, and the one after temperature and the other knobs as "
        "they are now. {sample.up} and {sample.down} choose, {sample.branch} continues from there in a new text; "
        "the history keeps both."
    )
    DEFAULT_CSS = "Alternatives { height: auto; text-wrap: nowrap; }"

    def __init__(self, ascii_only: bool) -> None:
        super().__init__()
        self.ascii_only = ascii_only
        self._chosen_id: int | None = None  # None: the token itself
        self._token: Token | None = None
        self._position = (0, 0)
        self._changed_knobs = ""
        self._distribution: Distribution | None = None
        self._knobs = SamplingConfig()

    def show(
        self,
        token: Token | None,
        index: int,
        total: int,
        changed_knobs: str,
        distribution: Distribution | None,
        knobs: SamplingConfig,
    ) -> None:
        """Show token `index` of `total`, or a hint if it is None.

        `changed_knobs` are the knobs that were changed before it, as text; `distribution` is what it was drawn from,
        None if that is not known; `knobs` are the present ones.
        """
        shown = (self._token, self._position, self._changed_knobs, self._distribution, self._knobs)
        if shown == (token, (index, total), changed_knobs, distribution, knobs):
            return
        if token is not self._token:
            self._chosen_id = None
        self._token, self._position, self._changed_knobs = token, (index, total), changed_knobs
        self._distribution, self._knobs = distribution, knobs
        self.refresh(layout=True)

    @property
    def chosen_row(self) -> int:
        """The row of the chosen alternative."""
        ids = [row.id for row in self._rows()]
        own = self._token.id if self._token is not None else None
        return next((ids.index(each) for each in (self._chosen_id, own) if each in ids), 0)

    def _rows(self) -> list[Alternative]:
        """Return the alternatives, most probable first. The token itself comes last if it is not one of them."""
        token = self._token
        if token is None:
            return []
        most = MAX_SHORT if self.app.size.height < TALL else len(token.alternatives) + 99
        known = token.alternatives or (self._distribution.top if self._distribution else ())
        rows = list(known[:most])
        if all(row.id != token.id for row in rows):
            rows.append(Alternative(token.id, token.text, token.probability))
        return rows

    def choose(self, row: int) -> None:
        """Choose the alternative in a row; the last row is followed by the first."""
        if self._token is not None:
            rows = self._rows()
            self._chosen_id = rows[row % len(rows)].id
            self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return one line for each row: the lines are cut, not wrapped."""
        return 2 if self._token is None else 2 + bool(self._changed_knobs) + len(self._rows())

    @property
    def chosen(self) -> Alternative | None:
        """The chosen alternative, None if no token is shown."""
        return self._rows()[self.chosen_row] if self._token is not None else None

    @property
    def _bar_width(self) -> int:
        return max(3, (self.size.width - TEXT_WIDTH - 5 - 2 * 8 - 2) // 2)

    def render(self) -> Content:
        token = self._token
        if token is None:
            return Content.styled(with_keys(HINT, self.app), "$quiet")
        index, total = self._position
        text = short(visible(token.text or "…", self.ascii_only), TEXT_WIDTH)
        lines = [
            Content.assemble(
                (f"token {index + 1:,} of {total:,}  “", "$quiet"),
                (text, "bold $foreground"),
                ("”  p ", "$quiet"),
                f"{token.probability:.3f}",
            )
        ]
        if self._changed_knobs:
            lines.append(
                Content.assemble((f"{KNOBS_CHANGED} from here on: ", "$accent"), (self._changed_knobs, "$foreground"))
            )
        after = self._distribution.probabilities(self._knobs) if self._distribution is not None else None
        column = self._bar_width + 8
        heads = f"{'model':>{column}}{'after knobs' if after is not None else '':>{column + 2}}"
        lines.append(Content.styled(" " * (TEXT_WIDTH + 5) + heads, "$quiet"))
        for place, row in enumerate(self._rows()):
            probability = float(after[row.id]) if after is not None and row.id < len(after) else None
            lines.append(self._row(place, row, token.id, probability))
        return Content("\n").join(lines)

    def _row(self, index: int, row: Alternative, written: int, after: float | None) -> Content:
        pointer, own = (">", "*") if self.ascii_only else ("▸", "●")
        text = short(visible(row.text, self.ascii_only), TEXT_WIDTH)
        chosen = index == self.chosen_row
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
        room, bar = self._bar_width, "#" if self.ascii_only else "━"
        length = max(round(probability * room), 1 if probability >= 0.005 else 0)
        figure = "–" if probability == 0 else f"{probability:.1%}"
        return Content.assemble(
            (bar * length, style), " " * (room - length), (f"{figure:>8}", "$foreground" if chosen else "$quiet")
        )
