"""The details of the highlighted data set: facts, how far its preparation is, and a preview of its tokens."""

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from nanogpt.formatting import counted
from nanogpt_tui import token_views
from nanogpt_tui.keys import with_keys
from nanogpt_tui.progress import Progress
from nanogpt_tui.screens.data.dataset_facts import Entry, facts_text, preparation_hint
from nanogpt_tui.session.session import Session
from nanogpt_tui.text import safe_content

if TYPE_CHECKING:
    from nanogpt.data.catalog import DatasetInfo
    from nanogpt.data.inspection import DatasetPreview

PREVIEW_CHARACTERS, BARS_WIDTH = 1500, 34
PREVIEW_DELAY_S = 0.12  # a data set that is highlighted for a shorter time is not read


class DatasetDetails(VerticalScroll):
    """Previews are read in a thread and cached in `previews`, by name of the data set, with what was listed then."""

    def __init__(self, session: Session) -> None:
        super().__init__(id="details")
        self.previews: dict[str, tuple[DatasetInfo, DatasetPreview]] = {}
        self.ascii_only = False
        self._session = session
        self._problems: dict[str, str] = {}  # why a preview could not be read, by name of the data set
        self._shown = ""
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="facts")
        yield Static(id="hint")
        yield Static(id="progress")
        yield Static(id="problem")
        with Container(id="preview"):
            with Vertical(id="text"):
                yield Static(Content.styled("the text, token by token", "$quiet"))
                yield Static(id="shaded")
            with Vertical(id="tokens"):
                yield Static(id="counted")
                yield Static(id="common")

    def show(self, entry: Entry, problem: str, progress: Progress | None) -> None:
        """Show a data set. `problem` is why its preparation failed, if so; `progress` is that of a preparation."""
        self._shown = entry.name
        self.query_one("#facts", Static).update(facts_text(entry, self._width, progress))
        hint = with_keys(preparation_hint(entry), self.app) if progress is None and not self._session.readonly else ""
        self._update("#hint", Content.styled(hint, "$accent") if hint else None)
        self.show_progress(progress)
        problem = problem or self._problems.get(entry.name) or entry.info.problem
        self._update("#problem", safe_content(problem, "$error") if problem and progress is None else None)
        listed, preview = self.previews.get(entry.name, (None, None))
        if listed != entry.info:  # it was deleted, or prepared again
            preview = None
        self.query_one("#preview").display = preview is not None
        if preview is not None:
            self._show_preview(preview)
        elif entry.info.prepared:
            if self._timer is not None:
                self._timer.stop()
            self._timer = self.set_timer(PREVIEW_DELAY_S, lambda: self._read_preview(entry))

    def show_progress(self, progress: Progress | None) -> None:
        """Show how far the preparation is; None hides it."""
        self._update("#progress", progress.lines(self._width, self.ascii_only) if progress is not None else None)

    def scroll_to_problem(self) -> None:
        """Scroll to the error once it is laid out."""
        self.call_after_refresh(self.query_one("#problem").scroll_visible, animate=False)

    def forget(self, name: str) -> None:
        """Read the preview of a data set again when it is shown next."""
        self.previews.pop(name, None)
        self._problems.pop(name, None)

    @property
    def _width(self) -> int:
        return max(30, self.scrollable_content_region.width)

    def _update(self, selector: str, content: Content | None) -> None:
        widget = self.query_one(selector, Static)
        widget.display = content is not None
        if content is not None:
            widget.update(content)

    def _show_preview(self, preview: "DatasetPreview") -> None:
        without_colours = bool(self.app.current_theme.ansi)
        text = token_views.shaded(preview.beginning, PREVIEW_CHARACTERS, without_colours, self.ascii_only)
        self.query_one("#shaded", Static).update(text)
        heading = f"most common of {counted(preview.counted, 'token')}"
        self.query_one("#counted", Static).update(Content.styled(heading, "$quiet"))
        self.query_one("#common", Static).update(token_views.bars(preview.common, BARS_WIDTH, self.ascii_only))

    def _read_preview(self, entry: Entry) -> None:
        def read() -> "DatasetPreview":
            from nanogpt.data.inspection import preview_dataset

            return preview_dataset(entry.name)

        def show(preview: "DatasetPreview | None", error: str) -> None:
            if preview is not None:
                self.previews[entry.name] = entry.info, preview
                self._problems.pop(entry.name, None)
            else:
                self._problems[entry.name] = error
            if not self.is_attached or self._shown != entry.name:
                return
            self.query_one("#preview").display = preview is not None
            if preview is not None:
                self._show_preview(preview)
            self._update("#problem", safe_content(error, "$error") if error else None)

        self._session.fetch(read, show, "preview")
