"""The Tokenizers screen: compare tokenizers on a sentence, and train one."""

import os
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.widget import Widget

from nanogpt.data.catalog import list_datasets
from nanogpt.errors import UserError
from nanogpt.paths import expanded
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.tokenizers.choices import OF_SPEC, Tokenizers, check_spec
from nanogpt_tui.screens.tokenizers.compare import Compare
from nanogpt_tui.screens.tokenizers.train import Train
from nanogpt_tui.screens.tokenizers.training import text_options, write_tokenizer
from nanogpt_tui.text import one_line
from nanogpt_tui.widgets.dialog import Ask, AskValue, problem_of

ANOTHER = "Compare a tokenizer that is not listed, such as hf:FILE for a tokenizer.json"

LEAVE_ANSWERS = {"save": ("s", "save it"), "leave": ("d", "leave without it"), "stay": ("escape", "stay")}


class Options(NamedTuple):
    """What can be chosen: tokenizers and texts, as (key, label)."""

    tokenizers: list[tuple[str, str]]
    texts: list[tuple[str, str]]


class TokenizersScreen(LabScreen):
    """On top of Data. `dataset` is the data set whose tokenizer and text come first.

    A large terminal shows the comparison above the training, others show one of them.
    """

    CSS_PATH = "tokenizers.tcss"
    AUTO_FOCUS = "#sentence"
    HELP = Compare.HELP
    MOUSE = "A click chooses a token, or turns a choice"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall"), (50, "-both")]  # noqa: RUF012
    WRITES = frozenset({"show", "another", "save_tokenizer", "train"})  # the paths typed here are those of any file
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+t", "show(False)", "train one", id="tokenizers.to_training", tooltip="Train a tokenizer"),
        Binding("ctrl+t", "show(True)", "compare", id="tokenizers.to_comparison", tooltip="Compare tokenizers"),
        Binding("ctrl+o", "another", "another", id="tokenizers.another", tooltip=ANOTHER),
        Binding(
            "ctrl+g", "save_tokenizer", "save", id="tokenizers.save", tooltip="Save the trained tokenizer as a file"
        ),
        Binding("ctrl+s", "train", "train", id="tokenizers.train", tooltip="Train the tokenizer of the form"),
        Binding("escape", "close", "back", id="tokenizers.close", tooltip="Cancel the training, or back to the data"),
    ]

    def __init__(self, dataset: str = "") -> None:
        super().__init__()
        self._dataset = dataset
        self.is_reading = True
        self.tokenizers = Tokenizers()
        self._written: object = None  # the training whose tokenizer was saved

    def body(self) -> Iterator[Widget]:
        glyphs = self.lab.settings.glyphs
        yield Compare(self.session, self.tokenizers, glyphs == "ascii")
        yield Train(self.session, self.tokenizers, glyphs)

    def on_mount(self) -> None:
        self.add_class("-comparing")
        self.set_class(self.session.readonly, "-readonly")
        self.call_later(self._read_options)  # when it is mounted: results before that would be dropped

    def settings_changed(self) -> None:
        if self.is_whole:
            glyphs = self.lab.settings.glyphs
            self.compare.use_ascii(glyphs == "ascii")
            self.training.use_glyphs(glyphs)

    @property
    def compare(self) -> Compare:
        """The comparison."""
        return self.query_one(Compare)

    @property
    def training(self) -> Train:
        """The training."""
        return self.query_one(Train)

    def _read_options(self) -> None:
        def read() -> Options:
            infos = list_datasets()
            return Options(self.tokenizers.options(infos), text_options(infos))

        self.session.fetch(read, self._show_options, "list tokenizers")

    def _show_options(self, options: Options | None, error: str) -> None:
        if not self.is_whole:
            return
        self.is_reading = False
        if options is None:
            self.notify(error, severity="error", markup=False)
        else:
            self.compare.show_options(options.tokenizers, self._dataset)
            self.training.show_options(options.texts, options.tokenizers, self._dataset)

    def on_train_finished(self, message: Train.Finished) -> None:
        """Offer the tokenizer that was trained in the comparison, and show it there."""
        self._read_options()
        self.compare.choose_next("right", message.key)

    # ---- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether the action has an effect now; else its key is neither shown nor handled."""
        if not super().check_action(action, parameters):
            return False
        if action == "show":
            return self.has_class("-comparing") != parameters[0]
        if action == "another":
            return self.is_whole and (self.has_class("-both") or self.has_class("-comparing"))
        if action == "save_tokenizer":
            return self.is_whole and self.training.trained is not None
        if action == "train":
            return self.is_whole and (self.has_class("-both") or not self.has_class("-comparing"))
        return True

    def action_show(self, comparing: bool) -> None:
        """Show the comparison, or the training."""
        self.set_class(comparing, "-comparing")
        self.set_focus(self.query_one("#sentence" if comparing else "#spec Input"))
        self.refresh_bindings()

    def action_another(self) -> None:
        """Ask for the spec of a tokenizer, and compare it at the right."""

        def show(spec: str | None) -> None:
            if spec is not None:
                self.tokenizers.typed.append(check_spec(spec))
                self.compare.choose_next("right", f"{OF_SPEC} {self.tokenizers.typed[-1]}")
                self._read_options()

        question = "A tokenizer to compare, such as hf:/path/tokenizer.json"
        self.app.push_screen(AskValue(question, "", problem_of(check_spec)), show)

    def action_save_tokenizer(self) -> None:
        """Ask for a path, and write the tokenizer that was trained there."""
        trained = self.training.trained
        if trained is None:
            return

        def save(text: str) -> None:
            if not text.strip():
                raise UserError("enter a path")
            if os.path.lexists(expanded(text)):
                raise UserError(f"{text} already exists")
            write_tokenizer(trained.tokenizer, expanded(text))

        def saved(text: str | None) -> None:
            if text is not None:
                self._written = trained
                self.notify(f"written: {expanded(text)}", markup=False)

        question = f"Where to write {one_line(trained.spec)}; hf:PATH is then a tokenizer for any data set"
        self.app.push_screen(AskValue(question, "tokenizer.json", act=save), saved)

    def action_train(self) -> None:
        self.training.start()

    @property
    def unsaved(self) -> str:  # type: ignore[override]
        """The tokenizer that is being trained, or that was trained and not saved."""
        trained = self.training.trained
        if self.training.is_training:
            return "A tokenizer is being trained."
        if trained is None or trained is self._written:
            return ""
        return f"The tokenizer {one_line(trained.spec)} is not saved."

    def action_close(self) -> None:
        if self.training.is_training:
            self.training.cancel()
        elif not self.unsaved:
            self.dismiss(None)
        else:
            question = f"{self.unsaved} A preparation can train it again."
            self.app.push_screen(Ask(question, LEAVE_ANSWERS), self._leave_as)

    def _leave_as(self, answer: str | None) -> None:
        if answer == "save":
            self.action_save_tokenizer()
        elif answer == "leave":
            self.dismiss(None)
