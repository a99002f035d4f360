"""A screen that pages through the documents, or the text, of a data set: its tokens, or its files before preparing."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from nanogpt_tui import token_views
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.data.document_readers import DatasetReader, RecipeReader
from nanogpt_tui.text import one_line, safe_content

if TYPE_CHECKING:
    from nanogpt.data.pages import Page


class DocumentText(VerticalScroll, can_focus=True, inherit_bindings=False):
    """The text of one page. Left and right belong to the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "scroll_down", "down", show=False, id="documents.down"),
        Binding("up,k", "scroll_up", "up", show=False, id="documents.up"),
        Binding("pagedown,space", "page_down", "scroll down", show=False, id="documents.scroll_down"),
        Binding("pageup", "page_up", "scroll up", show=False, id="documents.scroll_up"),
    ]

    glossary = "document"


class DocumentsScreen(LabScreen):
    """`reader` reads the pages; it is called in a thread."""

    CSS_PATH = "documents.tcss"
    AUTO_FOCUS = "DocumentText"
    HELP = (
        "The documents of a data set, one after another; a long one, or a text without documents, is cut into pages. "
        "After preparing, the text is decoded from its tokens."
    )
    MOUSE = "The wheel scrolls the text"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "turn_page(-1)", "documents", id="documents.previous", tooltip="The document or page before"),
        Binding("right", "turn_page(1)", "documents", id="documents.next", tooltip="The next document or page"),
        Binding("shift+left", "jump(-0.1)", "far", id="documents.far_previous", tooltip="A tenth of the split back"),
        Binding("shift+right", "jump(0.1)", "far", id="documents.far_next", tooltip="A tenth of the split further on"),
        Binding("home", "go_to(0)", "first", id="documents.first", show=False, tooltip="The first document"),
        Binding("end", "go_to(1)", "last", id="documents.last", show=False, tooltip="The last document or page"),
        Binding("s", "next_split", "split", id="documents.split", tooltip="The next split: train, val, test"),
        Binding("h", "shades", "shade tokens", id="documents.shades", tooltip="Shade every other token"),
        Binding("escape", "close", "back", id="documents.close", tooltip="Back to the data sets"),
    ]
    is_reading = True

    def __init__(self, reader: DatasetReader | RecipeReader) -> None:
        super().__init__()
        self._reader = reader
        self.page: Page | None = None
        self._shaded = False
        self._is_busy = False

    def body(self) -> Iterator[Widget]:
        yield Static(id="where")
        with DocumentText(id="document"):
            yield Static(id="document-text")

    def on_mount(self) -> None:
        self.call_later(self._read, self._reader.first)

    # ---- reading

    def _read(self, turn: "Callable[[], Page | None]") -> None:
        """Call `turn` in a thread and show the page that it returns, unless another page is being read."""
        if self._is_busy:
            return
        self._is_busy = True

        def show(page: "Page | None", error: str) -> None:
            self._is_busy = self.is_reading = False
            if not self.is_whole:
                return
            if error:
                self.query_one("#where", Static).update(safe_content(error, "$error"))
            elif page is not None:
                self.page = page
                self._show()
                self.query_one(DocumentText).scroll_home(animate=False)
            self.refresh_bindings()

        self.session.fetch(turn, show, "documents")

    def action_turn_page(self, by: int) -> None:
        self._read(self._reader.next if by > 0 else self._reader.previous)

    def action_jump(self, by: float) -> None:
        reader = self._reader
        if isinstance(reader, DatasetReader):
            self._read(lambda: reader.jump(by))

    def action_go_to(self, share: float) -> None:
        reader = self._reader
        if isinstance(reader, DatasetReader):
            self._read(lambda: reader.go_to(share))
        elif share == 0:
            self._read(reader.first)

    def action_next_split(self) -> None:
        reader = self._reader
        if isinstance(reader, DatasetReader):
            self._read(reader.next_split)

    def action_shades(self) -> None:
        self._shaded = not self._shaded
        self._show()

    def action_close(self) -> None:
        self.dismiss(None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether the action has an effect now; else its key is neither shown nor handled."""
        prepared = isinstance(self._reader, DatasetReader)
        if action == "next_split":
            return isinstance(self._reader, DatasetReader) and len(self._reader.splits) > 1
        if action == "shades":
            return prepared
        if action == "jump" or (action == "go_to" and parameters == (1,)):
            return prepared
        return True

    def settings_changed(self) -> None:
        self._show()

    def _show(self) -> None:
        page = self.page
        if page is None or not self.is_whole:
            return
        ascii_only, width = self.lab.settings.glyphs == "ascii", max(20, self.size.width - 4)
        where = Content.styled(self._reader.where(page), "$quiet")
        self.query_one("#where", Static).update(Content.assemble((one_line(self._reader.name), "bold"), "  ", where))
        if self._shaded and page.tokens is not None:
            plain = bool(self.app.current_theme.ansi)
            text = token_views.shaded(page.tokens, len(page.text), plain, ascii_only)
        else:
            text = safe_content(page.text)
        ending = self._reader.ending(page)
        if ending:
            rule = ("-" if ascii_only else "─") * max(0, width - len(ending) - 2)
            text = Content.assemble(text, "\n", (f"{ending} {rule}", "$quiet"))
        self.query_one("#document-text", Static).update(text)
