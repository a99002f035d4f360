"""The lessons: in one row, or one below another if there is room."""

from collections.abc import Collection, Sequence

from rich.cells import cell_len
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.style import Style
from textual.widget import Widget

from nanogpt.learn.lesson import Lesson
from nanogpt_tui.text import short

DONE, CURRENT, OPEN = "✓", "▸", "·"


class LessonList(Widget):
    """Each lesson has a mark: done, shown, or neither. A click on one asks for it."""

    DEFAULT_CSS = """
    LessonList { height: 1; }
    """

    class Chosen(Message):
        """`at`: which of the lessons was clicked."""

        def __init__(self, at: int) -> None:
            super().__init__()
            self.at = at

    def __init__(self) -> None:
        super().__init__(id="lessons")
        self._lessons: Sequence[Lesson] = ()
        self._done: Collection[str] = ()
        self._at = 0

    def show(self, lessons: Sequence[Lesson], done: Collection[str], at: int) -> None:
        """Show the lessons, with the names of those that are done, and which one is shown."""
        self._lessons, self._done, self._at = lessons, frozenset(done), at
        self.refresh()

    def on_click(self, event: Click) -> None:
        if "lesson" in event.style.meta:
            self.post_message(self.Chosen(event.style.meta["lesson"]))

    def render(self) -> Content:
        width, height = self.size
        if not self._lessons:
            return Content()
        return self._column(width, height) if height > 1 else self._row(width)

    @property
    def _count(self) -> str:
        return f"{sum(lesson.name in self._done for lesson in self._lessons)} of {len(self._lessons)} done"

    def _column(self, width: int, height: int) -> Content:
        room = max(1, height - 2)
        first = max(0, min(self._at - room // 2, len(self._lessons) - room))
        shown = range(first, min(first + room, len(self._lessons)))
        rows = [self._entry(at, width, has_title=True, places=2) for at in shown]
        return Content("\n").join([*rows, Content(), Content.styled(f"  {self._count}", "$quiet")])

    def _row(self, width: int) -> Content:
        """Return all lessons with their numbers, and the title of the one that is shown.

        If that is too wide, leave out those that are the farthest from it.
        """
        shown = list(range(len(self._lessons)))
        while len(shown) > 1 and 4 + sum(self._width(at) for at in shown) > width:
            shown.remove(max(shown, key=lambda at: abs(at - self._at)))
        left, right = shown[0] > 0, shown[-1] < len(self._lessons) - 1
        entries = [self._entry(at, width - 4, has_title=at == self._at) for at in shown]
        row = Content("  ").join([*([Content("…")] if left else []), *entries, *([Content("…")] if right else [])])
        gap = width - row.cell_length - len(self._count)
        return Content.assemble(row, " " * gap, (self._count, "$quiet")) if gap > 2 else row

    def _width(self, at: int) -> int:
        return self._entry(at, 1000, has_title=at == self._at).cell_length + 2

    def _entry(self, at: int, width: int, has_title: bool, places: int = 1) -> Content:
        lesson, is_shown, is_done = self._lessons[at], at == self._at, self._lessons[at].name in self._done
        mark = CURRENT if is_shown else DONE if is_done else OPEN
        number = f"{lesson.number:>{places}}"
        tail = f" {DONE}" if is_shown and is_done else ""
        title = short(f" {lesson.title}", max(1, width - 2 - cell_len(number + tail))) if has_title else ""
        style = "bold $foreground" if is_shown else "$quiet"
        return Content.assemble(
            (f"{mark} ", "$accent" if is_shown or is_done else "$quiet"), (number + title, style), (tail, "$accent")
        ).stylize(Style.from_meta({"lesson": at}))
