"""Train a tokenizer on a text: progress, the newest merges, and the bytes per token at each size of the vocabulary."""

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, Static

from nanogpt import tokenizers
from nanogpt.errors import UserError
from nanogpt.events import Event, TokenizerTraining, VocabularyPoint
from nanogpt_tui.progress import Progress
from nanogpt_tui.screens.tokenizers.chart import VocabularyChart
from nanogpt_tui.screens.tokenizers.choices import Tokenizers
from nanogpt_tui.screens.tokenizers.merges import Merges
from nanogpt_tui.screens.tokenizers.training import FILE, Mark, Trained, marks, train
from nanogpt_tui.text import safe_content
from nanogpt_tui.widgets.choice import Choice
from nanogpt_tui.widgets.path_input import PathInput
from nanogpt_tui.widgets.tokenizer_field import TokenizerField

if TYPE_CHECKING:
    from nanogpt_tui.session.session import Session
    from nanogpt_tui.session.workers import Worker

PAUSE_S = 0.3  # after the last key, before a text is measured


class Train(Vertical):
    """The form, and what comes of it."""

    HELP = (
        "Train a tokenizer on the training split of a text, and see how many bytes of the validation split a token has "
        "at each size of the vocabulary. {tokenizers.train} starts, {tokenizers.close} cancels. Of a long text, the "
        "first 33.6 million characters are used."
    )
    glossary = "BPE"

    class Finished(Message):
        """A tokenizer was trained."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, session: "Session", known: Tokenizers, glyphs: str) -> None:
        super().__init__(id="train")
        self._session, self._known, self._glyphs = session, known, glyphs
        self._options: list[tuple[str, str]] = []  # of the tokenizers to mark
        self._job: Worker[Event | Trained] | None = None
        self._marking: Worker[Event | Mark] | None = None
        self._delay: Timer | None = None
        self._progress = Progress()
        self._curve: list[VocabularyPoint] = []
        self._marks: dict[str, VocabularyPoint] = {}
        self._marked = ""  # the key of the text that the marks are about
        self.trained: Trained | None = None  # the newest one
        self._has_trained = False  # whether the training that was started last has made its tokenizer

    def compose(self) -> ComposeResult:
        kinds = [name for name in tokenizers.loadable_names() if tokenizers.tokenizer_class(name).needs == "text"]
        yield from self._row("train", TokenizerField(kinds[0], kinds, id="spec"))
        yield from self._row("on", Choice([], id="text"))
        yield from self._row("", PathInput(placeholder="a file or a folder (tab completes)", id="path"))
        yield Static(id="training-state")
        with Horizontal(id="results"):
            yield Merges()
            yield VocabularyChart(self._glyphs)

    def use_glyphs(self, glyphs: str) -> None:
        """Draw with these glyphs, a key of `GLYPHS`."""
        self._glyphs = self.chart.glyphs = glyphs
        self.chart.refresh()

    def _row(self, label: str, editor: Widget) -> ComposeResult:
        with Horizontal(classes="row", id=f"{editor.id}-row"):
            yield Static(Content.styled(label, "$quiet"), classes="label")
            yield editor

    def show_options(self, texts: list[tuple[str, str]], known: list[tuple[str, str]], dataset: str) -> None:
        """Show which texts can be chosen; `known` are the tokenizers to mark in the chart."""
        self._options = known
        choice = self.query_one("#text", Choice)
        first = not choice.options
        choice.set_options(texts)
        if first and f"dataset {dataset}" in dict(texts):
            choice.value = f"dataset {dataset}"
        self._changed()

    # ---- the form

    @property
    def text(self) -> str:
        """The key of the text. Raise `UserError` if the file does not exist, or if that is not known yet."""
        key = self.query_one("#text", Choice).value
        if key != FILE:
            return key
        path = self.query_one(PathInput).value.strip()
        if not self.query_one(PathInput).exists:
            raise UserError(f"no such file or folder: {path}" if path else "enter a file or a folder")
        return f"{FILE} {path}"

    def on_choice_changed(self, message: Choice.Changed) -> None:
        message.stop()
        self._changed()

    def on_path_input_changed(self, message: PathInput.Changed) -> None:
        message.stop()
        self._changed()

    def on_path_input_looked_up(self, message: PathInput.LookedUp) -> None:
        message.stop()
        self._changed()

    def on_path_input_submitted(self, message: PathInput.Submitted) -> None:
        message.stop()
        self._start()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.start()

    def on_tokenizer_field_changed(self, message: TokenizerField.Changed) -> None:
        message.stop()
        try:
            tokenizers.parse_spec(self.query_one(TokenizerField).value)
        except UserError as error:
            self._say(str(error), "$error")
        else:
            self._say("")

    def _changed(self) -> None:
        """Measure the known tokenizers on the chosen text after a pause."""
        self.query_one("#path-row").display = self.query_one("#text", Choice).value == FILE
        if self._delay is not None:
            self._delay.stop()
        self._delay = self.set_timer(PAUSE_S, self._mark)

    # ---- the marks

    def _mark(self) -> None:
        if self._marking is not None:
            self._marking.cancel()
        try:
            key = self.text
        except UserError:
            key = ""
        if key != self._marked:
            self._marked, self._marks = key, {}
        if not key:
            return
        known, options = self._known, self._options
        job = self._marking = self._session.start_worker(
            lambda: marks(known, options, key), lambda: self._show_marks(job), name="marks"
        )

    def _show_marks(self, job: "Worker[Event | Mark]") -> None:
        if job is self._marking and self.is_attached:
            self._marks |= {item.label: item.point for item in job.drain() if isinstance(item, Mark)}
            self._show_chart()

    @property
    def chart(self) -> VocabularyChart:
        """The chart of the curve and the marks."""
        return self.query_one(VocabularyChart)

    def _show_chart(self) -> None:
        self.chart.show(self._curve, self._marks)

    # ---- training

    @property
    def is_training(self) -> bool:
        """Whether a tokenizer is being trained."""
        return self._job is not None and not self._job.done

    def start(self) -> None:
        """Train the tokenizer that the form describes, once its file, if it is of one, is found."""
        if self.query_one("#text", Choice).value == FILE:
            self.query_one(PathInput).look_again(self._start)
        else:
            self._start()

    def _start(self) -> None:
        try:
            key, spec = self.text, tokenizers.canonical(self.query_one(TokenizerField).value)
        except UserError as error:
            self._say(str(error), "$error")
            return
        self.cancel()
        self._progress, self._curve, self._has_trained = Progress(), [], False
        self.query_one(Merges).clear()
        self._show_chart()
        job = self._job = self._session.start_worker(
            lambda: train(key, spec), lambda: self._show_training(job), name="train tokenizer"
        )
        self.screen.refresh_bindings()

    def cancel(self) -> None:
        """Stop the training, if there is one."""
        if self._job is not None:
            self._job.cancel()

    def on_unmount(self) -> None:
        self.cancel()
        if self._marking is not None:
            self._marking.cancel()

    def _show_training(self, job: "Worker[Event | Trained]") -> None:
        if job is not self._job or not self.is_attached:
            return
        for item in job.drain():
            if isinstance(item, VocabularyPoint):
                self._curve.append(item)
            elif isinstance(item, Trained):
                self._finish(item)
            else:
                self._progress.add(item)
                if isinstance(item, TokenizerTraining) and item.merges:
                    self.query_one(Merges).add(item.vocab_size, item.merges)
        self._show_chart()
        if job.error:
            self._say(job.error, "$error")
        elif job.cancelled and job.done:
            self._say("cancelled")
        elif not self._has_trained:
            line = self._progress.line(max(30, self.size.width - 4), self._glyphs == "ascii")
            self.query_one("#training-state", Static).update(line)
        if job.done:
            self.screen.refresh_bindings()

    def _finish(self, trained: Trained) -> None:
        self.trained, self._has_trained = trained, True
        self._known.trained[trained.spec] = trained.tokenizer
        self._say(f"{trained.spec}: {trained.tokenizer.vocab_size:,} entries; the comparison has it now", "$foreground")
        self.post_message(self.Finished(f"trained {trained.spec}"))

    def _say(self, text: str, style: str = "$quiet") -> None:
        self.query_one("#training-state", Static).update(safe_content(text, style))
