"""The first line of every screen: the modes at the left, the state of the run at the right."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from textual.content import Content
from textual.events import Click
from textual.style import Style
from textual.widget import Widget

from nanogpt_tui.keys import key_label
from nanogpt_tui.text import duration, printable, short

if TYPE_CHECKING:
    from nanogpt.runs.state import RunState
    from nanogpt_tui.session.session import Session


MIN_NAME = 10  # cells of a run's mark and name
NARROW = 90  # columns of a header without the name of the app: the state of the run needs the room


class Header(Widget):
    """One row. `modes` has (key, title) of each mode."""

    DEFAULT_CSS = """
    Header { dock: top; height: 1; background: $surface; }
    """

    def __init__(self, modes: Mapping[str, tuple[str, str]]) -> None:
        super().__init__()
        self._modes = modes
        self._right = Content()

    def show(self, session: "Session") -> None:
        """Show the state of the session; repaint only if the text changes."""
        right = running_text(session, self._width, self._width - self._left().cell_length - 2)
        if right.plain != self._right.plain or right.spans != self._right.spans:
            self._right = right
            self.refresh()

    @property
    def _width(self) -> int:
        return self.size.width or self.app.size.width  # its own is 0 before the first layout

    def on_mount(self) -> None:
        self.show(self.app.session)  # type: ignore[attr-defined]

    def on_resize(self) -> None:
        self.show(self.app.session)  # type: ignore[attr-defined]

    async def on_click(self, event: Click) -> None:
        if "mode" in event.style.meta:
            await self.app.switch_mode(event.style.meta["mode"])

    def _left(self) -> Content:
        current = self.app.current_mode
        readonly = self.app.session.readonly  # type: ignore[attr-defined]
        own = " nanogpt  " if self._width >= NARROW else ""
        name = (" readonly ", "bold $warning") if readonly else (own, "bold $accent")
        parts: list[Content | tuple[str, str | Style]] = [name]
        for mode, (_, title) in self._modes.items():
            key = key_label(f"app.{mode}", self.app)
            style = "bold $foreground" if mode == current else "$quiet"
            click = Style.from_meta({"mode": mode})
            parts.append(Content.assemble((f" {key} ", "$quiet"), (f"{title} ", style)).stylize(click))
        return Content.assemble(*parts)

    def render(self) -> Content:
        left = self._left()
        gap = self.size.width - left.cell_length - self._right.cell_length - 1
        return left if gap < 1 else Content.assemble(left, " " * gap, self._right)


MARKS = {
    "preparing": ("○", "$alive"),
    "training": ("●", "$alive"),
    "evaluating": ("●", "$alive"),
    "paused": ("‖", "$warning"),
    "waiting": ("‖", "$warning"),
    "silent": ("?", "$warning"),
    "finished": ("✓", "$success"),
    "stopped": ("■", "$quiet"),
    "failed": ("×", "$error"),
    "interrupted": ("!", "$warning"),
}


def running_text(session: "Session", width: int, room: int) -> Content:
    """Return the name and the progress of the run that is shown, in `room` cells of a line of `width`; names are cut.

    If it is not training and another run is, return both if there is room for two names, else that one.
    """
    history = session.history
    shown = None if history is None else history.run_state
    if session.other_runs and not session.is_alive:
        other = session.other_runs[0]
        progress = _progress(other, MARKS[other.phase][1], 0) if width >= 110 else Content(f" {other.share:4.0%}")
        each = (room - progress.cell_length - 2) // 2
        if shown is None or each < MIN_NAME:
            return Content.assemble(_name(other, room - progress.cell_length), progress)
        return Content.assemble(_name(shown, each), "  ", _name(other, each), progress)
    if shown is None or history is None:
        return Content.styled("idle" if session.discovered else "", "$quiet")
    if shown.state == "preparing":
        progress = Content.styled("  preparing", "$quiet")
    elif history.reading is not None:
        progress = Content.styled(f"  reading {history.reading:4.0%}", "$quiet")
    else:
        progress = _progress(shown, MARKS[shown.phase][1], width)
    return Content.assemble(_name(shown, room - progress.cell_length), progress)


def _name(run: "RunState", room: int) -> Content:
    mark, style = MARKS[run.phase]
    name = short(printable(run.name), max(MIN_NAME - 2, room - 2))
    return Content.assemble((f"{mark} ", style), (name, "$foreground"))


def _progress(run: "RunState", style: str, width: int) -> Content:
    """Return steps, bar, percentage and ETA, as many of them as a line of `width` has room for."""
    has_eta = run.phase == "training" and run.eta_s is not None
    left = duration(run.eta_s) if has_eta else run.phase
    parts: list[Content] = []
    if width >= 110:
        long = 20 if width >= 140 else 12
        filled = round(run.share * long)
        steps = f"{run.step:,} / {run.max_iters:,}".rjust(2 * len(f"{run.max_iters:,}") + 3)
        parts += [
            Content.styled(f"  {steps}  "),
            Content.assemble(("━" * filled, style), ("─" * (long - filled), "$rule")),
        ]
    label = "ETA " if has_eta and width >= 90 else ""
    done = run.phase == "finished" and width < 110
    share = "" if done else f" {run.share:4.0%}"
    parts.append(Content.assemble((share, "$foreground"), (f"  {label}{left:>7}", "$quiet")))
    return Content("").join(parts)
