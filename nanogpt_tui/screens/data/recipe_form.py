"""A dialog that asks for the settings of a data set and shows the size it would have, before anything is written."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Button, Input, Static

from nanogpt.data.recipes import Recipe
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Event, Forecast, Notice
from nanogpt.formatting import counted
from nanogpt_tui.progress import Progress
from nanogpt_tui.text import format_bytes, safe_content
from nanogpt_tui.widgets.dialog import Dialog, hint

if TYPE_CHECKING:
    from nanogpt_tui.session.session import Session
    from nanogpt_tui.session.workers import Worker

COUNT_DELAY_S = 0.4  # after the last key


class RecipeForm(Dialog[Recipe | None]):
    """Dismisses with the recipe to prepare, or None. `taken` are the names of existing data sets, `kinds` those of the
    tokenizers to choose from.

    A subclass yields its fields, `row(label, editor)`, whose editors have the names of settings as ids, and returns the
    recipe that they describe.
    """

    DEFAULT_CSS = """
    RecipeForm > Vertical { width: 84; max-width: 96%; height: auto; max-height: 96%; }
    RecipeForm .title { text-style: bold; margin-bottom: 1; }
    RecipeForm #fields { height: auto; max-height: 60vh; }
    RecipeForm Horizontal { height: auto; margin-bottom: 1; }
    RecipeForm Horizontal > Static { width: 17; color: $quiet; }
    RecipeForm Horizontal > Vertical { width: 1fr; height: auto; }
    RecipeForm Input { width: 1fr; background: $surface; }
    RecipeForm Input:focus, RecipeForm Choice:focus { background: $rule; }
    RecipeForm Input:focus:ansi, RecipeForm Choice:focus:ansi { background: ansi_default; text-style: underline; }
    RecipeForm .error { width: 1fr; color: $error; height: auto; display: none; }
    RecipeForm .error.-shown { display: block; }
    RecipeForm #outcome { height: auto; min-height: 4; margin-bottom: 1; }
    RecipeForm Button { width: auto; }
    RecipeForm #end { margin-bottom: 0; }
    RecipeForm #end > .hint { width: 1fr; }
    RecipeForm.-short Horizontal, RecipeForm.-short #outcome { margin-bottom: 0; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close"),
        Binding("ctrl+s", "prepare", "prepare"),
    ]
    title_text = ""
    first_field = ""  # the setting whose error is shown for an error that names none

    def __init__(self, session: "Session", taken: list[str], kinds: list[str]) -> None:
        super().__init__()
        self._session, self._taken, self.kinds = session, taken, kinds
        self._worker: Worker[Event] | None = None
        self._timer: Timer | None = None
        self._progress = Progress()
        self._notices: list[Notice] = []
        self._count_failed = False

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(safe_content(self.title_text), classes="title")
            with VerticalScroll(id="fields", can_focus=False):
                yield from self.fields()
            yield Static(id="outcome")
            with Horizontal(id="end"):
                yield Button("prepare", compact=True, id="prepare", variant="primary")
                yield hint("   ctrl+s prepares, tab: the next field, esc cancels")

    def fields(self) -> Iterator[Widget]:
        """Yield the rows of the form."""
        yield from ()

    def recipe(self) -> Recipe:
        """Return the recipe. Raise `SettingError` for the field that is wrong."""
        raise NotImplementedError

    def reason_not_to_count(self, recipe: Recipe) -> str:
        """Return why the tokens of a recipe cannot be counted now; "" if they can."""
        if recipe.documents is not None and recipe.source.is_corpus:
            shares = f"validation {100 * recipe.val_ratio:g}% of the documents, test {100 * recipe.test_ratio:g}%"
            most = recipe.documents.max_tokens
            return f"{shares}{f', at most {most:,} tokens' if most else ''}; tokens are counted while they are written"
        if recipe.source.downloads and not recipe.source.available_offline():
            return "the sizes are known once the text is downloaded"
        return ""

    def row(self, label: str, editor: Widget) -> Horizontal:
        """Return a row with an editor and the place of its error."""
        return Horizontal(Static(label), Vertical(editor, Static("", classes="error", id=f"{editor.id}-error")))

    def on_mount(self) -> None:
        self.outcome(Content.styled("fractions of the text held out for validation and test, such as 0.1", "$quiet"))

    def on_unmount(self) -> None:
        if self._worker is not None:
            self._worker.cancel()

    # ---- values

    def text(self, name: str) -> str:
        """Return what is typed in a field."""
        return self.query_one(f"#{name}", Input).value.strip()

    def fraction(self, name: str) -> float:
        """Return a number from 0 to 1. Raise `SettingError` for anything else."""
        try:
            return float(self.text(name))
        except ValueError:
            raise SettingError(name, f"{self.text(name)!r} has to be a fraction of the text, such as 0.1") from None

    def whole_number(self, name: str) -> int:
        """Return a whole number, 0 for nothing. Raise `SettingError` for anything else."""
        try:
            return int(self.text(name).replace(",", "") or 0)
        except ValueError:
            raise SettingError(name, f"{self.text(name)!r} has to be a whole number") from None

    def check_name(self, name: str) -> None:
        """Raise `SettingError` for the name of an existing data set."""
        if name in self._taken:
            raise SettingError("name", f"the data set {name} already exists: choose another name")

    def on_input_changed(self) -> None:
        self.changed()

    def on_choice_changed(self) -> None:
        self.changed()

    def on_tokenizer_field_changed(self) -> None:
        self.changed()

    def changed(self) -> None:
        """Show what is wrong, or count the tokens after a pause."""
        if self._timer is not None:
            self._timer.stop()
        if self._worker is not None:
            self._worker.cancel()
            self._worker = None
        self._count_failed = False
        problem: UserError | None = None
        self.outcome(Content())
        try:
            recipe = self.recipe()
        except UserError as error:
            problem = error
        else:
            self.query_one("#name", Input).placeholder = recipe.name
            reason = self.reason_not_to_count(recipe)
            if reason:
                self.outcome(Content.styled(reason, "$quiet"))
            else:
                self._timer = self.set_timer(COUNT_DELAY_S, lambda: self._count(recipe))
        self.show_problem(None if problem is not None and self.is_typing(problem) else problem)

    def is_typing(self, problem: UserError) -> bool:
        """Return whether a problem is only that a value is not complete yet."""
        return False

    def show_problem(self, problem: UserError | None) -> None:
        """Show an error below its field; None hides it."""
        field = problem.setting if isinstance(problem, SettingError) else self.first_field
        known = {shown.id for shown in self.query(".error").results(Static)}
        field = field if f"{field}-error" in known else self.first_field
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
                self.show_problem(None)
                self.outcome(forecast_text(event, self._notices))
                return
        if job.error is not None:
            self._count_failed = True
            self.show_problem(SettingError(job.setting, job.error))
            self.outcome(Content())
        elif not job.done:
            self.outcome(self._progress.line(70, ascii_only=False))

    def outcome(self, content: Content) -> None:
        """Show the size, or how far counting is."""
        self.query_one("#outcome", Static).update(content)

    # ---- submitting

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.action_prepare()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.action_prepare()

    def action_prepare(self) -> None:
        try:
            recipe = self.recipe()
        except UserError as error:
            self.show_problem(error if str(error) else SettingError("path", "enter a file or a folder"))
            return
        if self._count_failed:
            self._count(recipe)  # the file may have been corrected since
        else:
            self.dismiss(recipe)


def forecast_text(forecast: Forecast, notices: list[Notice]) -> Content:
    """Return the size of the data set that would be made, in a few lines."""
    about = "" if forecast.exact else "about "
    files, characters = counted(forecast.files, "file"), counted(forecast.characters, "character")
    documents = f"{counted(forecast.documents, 'document')}, " if forecast.documents else ""
    total = sum(forecast.tokens.values())
    splits = "  ".join(f"{split} {tokens:,}" for split, tokens in forecast.tokens.items())
    lines = [
        Content.styled(f"{files}, {documents}{format_bytes(forecast.text_bytes)}, {characters}", "$quiet"),
        Content.assemble((f"{about}{total:,} tokens", "bold $foreground"), (f"   {splits}", "$quiet")),
        Content.assemble((f"vocabulary {forecast.vocab_size:,}", "$foreground")),
    ]
    if not forecast.exact:
        lines.append(Content.styled("an estimate", "$quiet"))
    lines += [safe_content(notice.text, "$quiet" if notice.level == "info" else "$warning") for notice in notices]
    return Content("\n").join(lines)
