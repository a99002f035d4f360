"""The Tokenizers screen: compare tokenizers on a sentence, and train one."""

from collections.abc import Iterator
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from nanogpt.data.catalog import list_datasets
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.tokenizers.choices import Tokenizers
from nanogpt_tui.screens.tokenizers.compare import Compare


class TokenizersScreen(LabScreen):
    """On top of Data. `dataset` is the data set whose tokenizer and text come first."""

    CSS_PATH = "tokenizers.tcss"
    AUTO_FOCUS = "#sentence"
    HELP = Compare.HELP
    MOUSE = "A click chooses a token, or turns a choice"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "back", id="tokenizers.close", tooltip="Back to the data sets"),
    ]

    def __init__(self, dataset: str = "") -> None:
        super().__init__()
        self._dataset = dataset
        self.is_reading = True
        self.tokenizers = Tokenizers()

    def body(self) -> Iterator[Widget]:
        yield Compare(self.session, self.tokenizers, self.lab.settings.glyphs == "ascii")

    def on_mount(self) -> None:
        self.call_later(self._read_options)  # when it is mounted: results before that would be dropped

    def _read_options(self) -> None:
        def read() -> list[tuple[str, str]]:
            return self.tokenizers.options(list_datasets())

        self.session.fetch(read, self._show_options, "list tokenizers")

    def _show_options(self, options: list[tuple[str, str]] | None, error: str) -> None:
        if not self.is_whole:
            return
        self.is_reading = False
        if options is None:
            self.notify(error, severity="error", markup=False)
        else:
            self.query_one(Compare).show_options(options, self._dataset)

    def action_close(self) -> None:
        self.dismiss(None)
