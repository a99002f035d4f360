"""A dialog that makes the recipe of a data set from a text of the user, and counts its tokens beforehand."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Button, Input, Static

from nanogpt.data.recipes import Recipe, textfile_recipe
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Event, Forecast, Notice
from nanogpt.formatting import counted
from nanogpt.paths import expanded
from nanogpt_tui.screens.data.progress import Progress
from nanogpt_tui.text import format_bytes, safe_content
from nanogpt_tui.widgets.choice import Choice
from nanogpt_tui.widgets.dialog import Dialog, hint
from nanogpt_tui.widgets.path_input import PathInput

if TYPE_CHECKING:
    from nanogpt_tui.session.session import Session
    from nanogpt_tui.session.workers import Worker

COUNT_DELAY_S = 0.4  # after the last key
TOKENIZERS = {
    "char": "char: one token per character",
    "byte": "byte: one token per byte, 256 in all",
    "gpt2": "gpt2: GPT-2's pieces of words, 50,257",
}


class AddText(Dialog[Recipe | None]):
    """Dismisses with the recipe to prepare, or None. `taken` are the names of existing data sets."""

    DEFAULT_CSS = """
    AddText > Vertical { width: 84; max-width: 96%; height: auto; max-height: 96%; }
    AddText .title { text-style: bold; margin-bottom: 1; }
    AddText Horizontal { height: auto; margin-bottom: 1; }
    AddText Horizontal > Static { width: 12; color: $quiet; }
    AddText Horizontal > Vertical { width: 1fr; height: auto; }
    AddText Input { width: 1fr; background: $surface; }
    AddText Input:focus, AddText Choice:focus { background: $rule; }
    AddText Input:focus:ansi, AddText Choice:focus:ansi { background: ansi_default; text-style: underline; }
    AddText .error { width: 1fr; color: $error; height: auto; display: none; }
    AddText .error.-shown { display: block; }
    AddText #outcome { height: auto; min-height: 4; margin-bottom: 1; }
    AddText Button { width: auto; }
    AddText #end { margin-bottom: 0; }
    AddText #end > .hint { width: 1fr; }
    AddText.-short Horizontal, AddText.-short #outcome { margin-bottom: 0; }
    """
    HELP = (
        "Make a data set from your own text: a file, or a folder of text files. The end of the text is held "
        "out for validation. The sizes are counted before anything is written."
    )
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close"),
        Binding("ctrl+s", "prepare", "prepare"),
    ]

    def __init__(self, session: "Session", taken: list[str]) -> None:
        super().__init__()
        from nanogpt import tokenizers

        self._session, self._taken = session, taken
        self._tokenizers = [(name, TOKENIZERS.get(name, name)) for name in tokenizers.names_without_argument()]
        self._worker: Worker[Event] | None = None
        self._timer: Timer | None = None
        self._progress = Progress()
        self._notices: list[Notice] = []
        self._count_failed = False

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content("add your own text"), classes="title")
            yield self._row("path", PathInput(placeholder="a file or a folder (tab completes)", id="path"))
            yield self._row("name", Input(compact=True, id="name"))
            yield self._row("tokenizer", Choice(self._tokenizers, "char", id="tokenizer"))
            yield self._row("validation", Input("0.1", compact=True, id="val_ratio"))
            yield self._row("test", Input("0", compact=True, id="test_ratio"))
            yield self._row("encoding", Input(compact=True, placeholder="UTF-8, else Windows-1252", id="encoding"))
            yield Static(id="outcome")
            with Horizontal(id="end"):
                yield Button("prepare", compact=True, id="prepare", variant="primary")
                yield hint("   ctrl+s prepares, tab: the next field, esc cancels")

    def _row(self, label: str, editor: Input | Choice | PathInput) -> Horizontal:
        return Horizontal(Static(label), Vertical(editor, Static("", classes="error", id=f"{editor.id}-error")))

    def on_mount(self) -> None:
        self.query_one(PathInput).focus_input()
        self._outcome(Content.styled("fractions of the text held out for validation and test, such as 0.1", "$quiet"))

    def on_unmount(self) -> None:
        if self._worker is not None:
            self._worker.cancel()

    # ---- the form

    def recipe(self) -> Recipe:
        """Return the recipe. Raise `SettingError` for the field that is wrong."""
        path = self.query_one(PathInput).value.strip()
        if not path:
            raise SettingError("path", "")
        if not expanded(path).exists():
            raise SettingError("path", f"no such file or folder: {path}")
        numbers: dict[str, Any] = {}
        for name in ("val_ratio", "test_ratio"):
            text = self.query_one(f"#{name}", Input).value
            try:
                numbers[name] = float(text)
            except ValueError:
                raise SettingError(name, f"{text!r} has to be a fraction of the text, such as 0.1") from None
        given, encoding = (self.query_one(f"#{name}", Input).value.strip() or None for name in ("name", "encoding"))
        tokenizer = self.query_one(Choice).value
        try:
            recipe = textfile_recipe([path], name=given, tokenizer=tokenizer, encoding=encoding, **numbers)
        except SettingError:
            raise
        except UserError as error:
            raise SettingError("name", str(error)) from None
        if recipe.name in self._taken:
            raise SettingError("name", f"the data set {recipe.name} already exists: choose another name")
        return recipe

    def on_input_changed(self) -> None:
        self._changed()

    def on_choice_changed(self) -> None:
        self._changed()

    def on_path_input_changed(self, message: PathInput.Changed) -> None:
        self._changed()

    def _changed(self) -> None:
        """Show what is wrong, or count the tokens after a pause."""
        if self._timer is not None:
            self._timer.stop()
        if self._worker is not None:
            self._worker.cancel()
            self._worker = None
        self._count_failed = False
        problem: UserError | None = None
        try:
            recipe = self.recipe()
        except UserError as error:
            problem = error
        else:
            self.query_one("#name", Input).placeholder = recipe.name
            self._timer = self.set_timer(COUNT_DELAY_S, lambda: self._count(recipe))
        typing = isinstance(problem, SettingError) and problem.setting == "path" and self.query_one(PathInput).suggests
        self._show_problem(None if typing else problem)
        self._outcome(Content())

    def _show_problem(self, problem: UserError | None) -> None:
        field = problem.setting if isinstance(problem, SettingError) else "path"
        for shown in self.query(".error").results(Static):
            here = problem is not None and shown.id == f"{field}-error" and str(problem) != ""
            shown.set_class(here, "-shown")
            if here:
                shown.update(safe_content(str(problem)))

    # ---- the estimate

    def _count(self, recipe: Recipe) -> None:
        self._progress, self._notices = Progress(), []

        def work() -> Iterator[Event]:
            from nanogpt.data.inspection import forecast

            return forecast(recipe)

        job = self._worker = self._session.start_worker(work, lambda: self._show_count(job), name="count")

    def _show_count(self, job: "Worker[Event]") -> None:
        if job is not self._worker or not self.is_whole:
            return
        for event in job.drain():
            self._progress.add(event)
            if isinstance(event, Notice):
                self._notices.append(event)
            if isinstance(event, Forecast):
                self._count_failed = False
                self._show_problem(None)
                self._outcome(forecast_text(event, self._notices))
                return
        if job.error is not None:
            self._count_failed = True
            self._show_problem(UserError(job.error))
            self._outcome(Content())
        elif not job.done:
            self._outcome(self._progress.line(70, ascii_only=False))

    def _outcome(self, content: Content) -> None:
        self.query_one("#outcome", Static).update(content)

    # ---- submitting

    def on_path_input_submitted(self, message: PathInput.Submitted) -> None:
        self.action_prepare()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.action_prepare()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.action_prepare()

    def action_prepare(self) -> None:
        try:
            recipe = self.recipe()
        except UserError as error:
            self._show_problem(error if str(error) else SettingError("path", "enter a file or a folder"))
            return
        if self._count_failed:
            self._count(recipe)  # the file may have been corrected since
        else:
            self.dismiss(recipe)


def forecast_text(forecast: Forecast, notices: list[Notice]) -> Content:
    """Return the size of the data set that would be made, in a few lines."""
    about = "" if forecast.exact else "about "
    files, characters = counted(forecast.files, "file"), counted(forecast.characters, "character")
    total = sum(forecast.tokens.values())
    splits = "  ".join(f"{split} {tokens:,}" for split, tokens in forecast.tokens.items())
    lines = [
        Content.styled(f"{files}, {format_bytes(forecast.text_bytes)}, {characters}", "$quiet"),
        Content.assemble((f"{about}{total:,} tokens", "bold $foreground"), (f"   {splits}", "$quiet")),
        Content.assemble((f"vocabulary {forecast.vocab_size:,}", "$foreground")),
    ]
    if not forecast.exact:
        lines.append(Content.styled("an estimate from excerpts of the text", "$quiet"))
    lines += [safe_content(notice.text, "$quiet" if notice.level == "info" else "$warning") for notice in notices]
    return Content("\n").join(lines)
