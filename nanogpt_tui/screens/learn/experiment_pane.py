"""The experiment of a lesson on the screen: its figures, what it does or offers, and a line for an answer."""

from typing import Literal

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from nanogpt.learn.figures import Figure
from nanogpt_tui.keys import with_keys
from nanogpt_tui.screens.learn.drawing import RenderOptions, flow
from nanogpt_tui.screens.learn.experiment_run import ExperimentRun
from nanogpt_tui.screens.learn.lesson_list import DONE
from nanogpt_tui.screens.learn.stack import stack
from nanogpt_tui.text import one_line, safe_content, short

WAITING = "{learn.start} starts the experiment. It runs here, on this machine, and shows what it finds."
TYPING, RESTING = "enter sends it, {learn.cancel} leaves the line", "{learn.type} types here"
BAR_CELLS = 16


class FigureView(VerticalScroll, can_focus=False):
    """Figures below one another, as many as there are; they are drawn again if the size changes.

    `Overflowed`: they fit no longer, or again, because of another size.
    """

    class Overflowed(Message):
        """Whether all figures fit has changed."""

    DEFAULT_CSS = """
    FigureView { height: 1fr; scrollbar-gutter: stable; }
    FigureView > Static { height: auto; }
    """

    def __init__(self) -> None:
        super().__init__(id="figures")
        self._figures: tuple[Figure, ...] = ()
        self._render_options = RenderOptions()
        self.overflows = False  # whether there are more rows than fit

    def compose(self) -> ComposeResult:
        yield Static()

    def show(self, figures: tuple[Figure, ...], options: RenderOptions) -> None:
        """Draw other figures, if they differ."""
        if (figures, options) != (self._figures, self._render_options):
            self._figures, self._render_options = figures, options
            self._draw()

    def say(self, text: Content) -> None:
        """Show a text instead of figures."""
        self._figures, self.overflows = (), False
        self._show(text, "wrap")

    def on_resize(self) -> None:
        before = self.overflows
        if self._figures:
            self._draw()
        if self.overflows != before:
            self.post_message(self.Overflowed())

    def _draw(self) -> None:
        size = self.scrollable_content_region.size
        rows = stack(self._figures, size.width, size.height, self._render_options)
        self.overflows = len(rows) > size.height
        self._show(Content("\n").join(rows), "nowrap")

    def _show(self, content: Content, wrap: Literal["wrap", "nowrap"]) -> None:
        shown = self.query_one(Static)
        shown.styles.text_wrap = wrap
        shown.update(content)


class ExperimentPane(Vertical):
    """Shows an `ExperimentRun`; `Answered` has the line that was typed."""

    class Answered(Message):
        """The learner has typed a line."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._shown: tuple[ExperimentRun, RenderOptions] | None = None

    def compose(self) -> ComposeResult:
        yield FigureView()
        yield Static(id="state")
        with Horizontal(id="answer"):
            yield Static(id="question")
            yield Input(compact=True, select_on_focus=False)

    def on_mount(self) -> None:
        self._show_hint()

    def on_resize(self) -> None:
        self._show_state()

    def on_figure_view_overflowed(self) -> None:
        self._show_state()

    def _show_state(self) -> None:
        if self._shown is not None:
            self.query_one("#state", Static).update(self._state(*self._shown))

    def on_descendant_focus(self) -> None:
        self._show_hint()

    def on_descendant_blur(self) -> None:
        self._show_hint()

    def _show_hint(self) -> None:
        self.line.placeholder = with_keys(TYPING if self.line.has_focus else RESTING, self.app)

    @property
    def line(self) -> Input:
        """The line for an answer."""
        return self.query_one(Input)

    @property
    def view(self) -> FigureView:
        """The figures."""
        return self.query_one(FigureView)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        event.input.value = ""
        self.post_message(self.Answered(event.value))

    def show(self, experiment: ExperimentRun, options: RenderOptions) -> None:
        """Show the experiment as it is now."""
        self._shown = experiment, options
        if experiment.figures:
            self.view.show(experiment.figures, options)
        else:
            waits = not (experiment.running or experiment.problem)
            self.view.say(Content.styled(with_keys(WAITING, self.app), "$quiet") if waits else Content())
        self._show_state()
        self._show_question(experiment)

    def _show_question(self, experiment: ExperimentRun) -> None:
        answer, has_question = self.query_one("#answer"), bool(experiment.question) and not experiment.broken
        had_question, answer.display = answer.display, has_question
        self.query_one("#question", Static).update(safe_content(f"{one_line(experiment.question)}: ", "$quiet"))
        if not has_question and self.line.has_focus:
            self.screen.set_focus(None)
        elif has_question and not had_question and all(action.key == "enter" for action in experiment.actions):
            self.line.focus()  # no letter is a key now

    def _state(self, experiment: ExperimentRun, options: RenderOptions) -> Content:
        """Return the lines below the figures: the progress while it computes, else what the keys do."""
        if experiment.running:
            return self._progress(experiment, options)
        said = [safe_content(experiment.problem, "$error")] if experiment.problem else []
        if experiment.cancelled:
            said.append(Content.styled("cancelled", "$warning"))
        if experiment.broken or not experiment.started:
            return Content("   ").join(said)
        keys = [Content.assemble((each.key, "bold $accent"), f" {each.label}") for each in experiment.actions]
        done = [Content.styled(f"{DONE} lesson done", "$success")] if experiment.done else []
        more = [Content.styled(with_keys("{learn.down} more", self.app), "$quiet")] if self.view.overflows else []
        return Content("\n").join(flow([*said, *keys, *done, *more], self.size.width))

    def _progress(self, experiment: ExperimentRun, options: RenderOptions) -> Content:
        if experiment.paused:
            return Content.styled(with_keys("paused: {learn.pause} continues", self.app), "$warning")
        working = experiment.working
        if working is None:
            return Content.styled("working …", "$quiet")
        share = min(1.0, max(0.0, working.share))
        filled = round(share * BAR_CELLS)
        on, off = ("=", "-") if options.is_ascii else ("━", "─")
        doing = short(one_line(working.doing), max(10, self.size.width - BAR_CELLS - 8))
        return Content.assemble(
            (on * filled, "$alive"), (off * (BAR_CELLS - filled), "$rule"), f" {share:4.0%}  ", (doing, "$quiet")
        )
