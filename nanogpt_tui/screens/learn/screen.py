"""The Learn screen: a lesson's text beside its experiment, which runs on this machine."""

from collections.abc import Iterator
from functools import partial
from typing import ClassVar, NamedTuple

from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Container
from textual.events import Key
from textual.widget import Widget

from nanogpt.learn import progress
from nanogpt.learn.experiment import Action
from nanogpt.learn.lesson import Catalog, Lesson, lessons
from nanogpt_tui.glossary import lookup
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.learn.drawing import RenderOptions
from nanogpt_tui.screens.learn.experiment_pane import ExperimentPane
from nanogpt_tui.screens.learn.experiment_run import ExperimentRun
from nanogpt_tui.screens.learn.lesson_list import LessonList
from nanogpt_tui.screens.learn.lesson_page import LessonPage

MOST_PROBLEMS = 3  # that are shown, each as a notification


class Found(NamedTuple):
    """What is on disk: the lessons, and which are done."""

    catalog: Catalog
    progress: progress.Progress


class LearnScreen(LabScreen):
    """One lesson at a time. Its experiment ends when another lesson or another screen is shown."""

    CSS_PATH = "learn.tcss"
    AUTO_FOCUS = ""
    HELP = (
        "A lesson is a page of text and an experiment that runs on this machine; all its numbers are computed now. "
        "{learn.start} starts it, then its own keys are in the bottom line. {learn.previous} and {learn.next} turn to "
        "another lesson. {learn.text} hides the text, so that the experiment has more room. A check mark means that "
        "you have done what a lesson asks."
    )
    MOUSE = "A click on a lesson opens it"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", "start", id="learn.start", tooltip="Start the experiment"),
        Binding("i", "type", "type", id="learn.type", tooltip="Type an answer to the experiment"),
        Binding("escape", "cancel", "cancel", id="learn.cancel", tooltip="Cancel what the experiment does"),
        Binding("space", "pause", "pause", id="learn.pause", tooltip="Pause the experiment, or continue"),
        Binding("left", "lesson(-1)", "lessons", id="learn.previous", tooltip="The lesson before"),
        Binding("right", "lesson(1)", "lessons", id="learn.next", tooltip="The next lesson"),
        Binding("ctrl+t", "text", "text", id="learn.text", tooltip="Hide the text, or show it"),
        Binding("ctrl+r", "restart", "start over", id="learn.restart", tooltip="Start the experiment again"),
        Binding("up", "scroll(-3)", "scroll up", id="learn.up", show=False),
        Binding("down", "scroll(3)", "scroll down", id="learn.down", show=False),
        Binding("pageup", "scroll(-12)", "page up", id="learn.page_up", show=False),
        Binding("pagedown", "scroll(12)", "page down", id="learn.page_down", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.is_reading = True
        self.lessons: tuple[Lesson, ...] = ()
        self.done: frozenset[str] = frozenset()
        self.at = 0
        self.experiment: ExperimentRun | None = None
        self._shows_text: bool | None = None  # what the learner chose; None: if there is room
        self._wanted = ""  # the name of a lesson to show once they are listed
        self._problems: list[str] = []  # that were said
        self._keys: tuple[object, ...] = ()  # what decided the last time which keys work

    def body(self) -> Iterator[Widget]:
        yield LessonList()
        with Container(id="panes"):
            yield LessonPage(id="page")
            yield ExperimentPane(id="experiment")

    def on_mount(self) -> None:
        self.call_later(self._read)  # when it is mounted: results before that would be dropped

    def on_unmount(self) -> None:
        self._end_experiment()

    def on_screen_resume(self) -> None:
        if not self.is_reading:
            self._read()  # lessons may have been edited, or done by `nanogpt learn`

    def on_screen_suspend(self) -> None:
        super().on_screen_suspend()
        if self.app.current_mode != "learn":  # not for a dialog on top
            self._end_experiment()

    @property
    def lesson(self) -> Lesson | None:
        """The lesson that is shown."""
        return self.lessons[self.at] if self.lessons else None

    @property
    def pane(self) -> ExperimentPane:
        """The experiment's part of the screen."""
        return self.query_one(ExperimentPane)

    @property
    def glossary(self) -> str:
        """The term that the help explains first: what the lesson is about, if the glossary has it."""
        names = (self.lesson.title, self.lesson.experiment.replace("_", " ")) if self.lesson else ()
        return next((name for name in names if lookup(name)), "")

    # ---- lessons

    def _read(self, *, answers_key: bool = False) -> None:
        self.session.fetch(
            lambda: Found(lessons(), progress.load()), self._show_lessons, "lessons", answers_key=answers_key
        )

    def _show_lessons(self, found: Found | None, error: str) -> None:
        if not self.is_whole:
            return
        self.is_reading = False
        problems = [error] if found is None else [found.progress.problem, *found.catalog.problems]
        for problem in _few([problem for problem in problems if problem and problem not in self._problems]):
            self.notify(problem, severity="warning", markup=False)
        self._problems = problems
        if found is None or not found.catalog.lessons:
            if self.lessons:
                self._wanted = ""
            return
        before = self.lesson
        self.lessons, self.done = self._with_begun(found.catalog.lessons), self.done | found.progress.done
        at, self._wanted = self._place(before), ""
        is_same = before is not None and self.lessons[at].name == before.name
        if is_same and (self._has_begun or self.lessons[at] == before):
            self.at = at
            self._show_list()
            self.refresh_bindings()
        else:
            self._open(at)

    def _with_begun(self, lessons: tuple[Lesson, ...]) -> tuple[Lesson, ...]:
        """Return the lessons with the one whose experiment has begun, also if its file was removed."""
        begun = self.lesson if self._has_begun else None
        if begun is None or begun.name in [lesson.name for lesson in lessons]:
            return lessons
        return (*lessons[: self.at], begun, *lessons[self.at :])

    def _place(self, before: Lesson | None) -> int:
        """Return the place of the lesson to show: the wanted one, the one before, else the first that is not done."""
        names = [lesson.name for lesson in self.lessons]
        for name in (self._wanted, before.name if before else ""):
            if name in names:
                return names.index(name)
        return next((at for at, name in enumerate(names) if name not in self.done), 0)

    def highlight(self, name: str) -> None:
        at = next((at for at, lesson in enumerate(self.lessons) if lesson.name == name), None)
        if at is None:
            self._wanted = name
            if not self.is_reading:
                self._read(answers_key=True)  # it may be new
        elif at != self.at:
            self._open(at)

    def on_lesson_list_chosen(self, message: LessonList.Chosen) -> None:
        if message.at != self.at:
            self._open(message.at)

    def _open(self, at: int) -> None:
        """Show a lesson, with an experiment that has not begun."""
        self.at = at
        self.query_one(LessonPage).show(self.lessons[at])
        self._shows_text = None
        self._new_experiment()
        self._show_list()

    def _show_list(self) -> None:
        self.query_one(LessonList).show(self.lessons, self.done, self.at)

    def _lay_out(self) -> None:
        """Hide the text if the learner chose that, or if an experiment has begun and there is not room for both."""
        begun = self.experiment is not None and (self.experiment.running or self.experiment.started)
        self.set_class(begun, "-begun")
        crowded = begun and self.has_class("-narrow") and self.has_class("-short")
        self.set_class(crowded if self._shows_text is None else not self._shows_text, "-no-text")

    def on_resize(self, event: object) -> None:
        super().on_resize(event)
        self.call_after_refresh(self._lay_out)

    # ---- the experiment

    @property
    def _has_begun(self) -> bool:
        """Whether the experiment was started."""
        experiment = self.experiment
        return experiment is not None and (experiment.running or experiment.started or experiment.broken)

    def _new_experiment(self) -> None:
        self._end_experiment()
        experiment = self.experiment = ExperimentRun(
            self.session, self.lessons[self.at], lambda: self._experiment_changed(experiment)
        )
        self.set_focus(None)
        self._experiment_changed(experiment)

    def _end_experiment(self) -> None:
        if self.experiment is not None:
            self.experiment.cancel()

    def _experiment_changed(self, experiment: ExperimentRun) -> None:
        if experiment is not self.experiment or not self.is_whole:
            return
        self._lay_out()
        self.pane.show(experiment, self._render_options)
        if experiment.done and experiment.lesson.name not in self.done:
            self._mark_done(experiment.lesson)
        keys = (
            *(experiment, experiment.actions, experiment.question),
            *(experiment.running, experiment.started, experiment.broken),
        )
        if keys != self._keys:
            self._keys = keys
            self.refresh_bindings()

    def _mark_done(self, lesson: Lesson) -> None:
        self.done |= {lesson.name}
        self._show_list()

        def report(error: str) -> None:
            if error:
                self.notify(error, severity="error", markup=False)

        if not self.session.readonly:
            self.session.write(partial(progress.mark_done, lesson.name), report)

    @property
    def _render_options(self) -> RenderOptions:
        return RenderOptions(self.lab.settings.glyphs, bool(self.app.current_theme.ansi))

    def settings_changed(self) -> None:
        if self.is_whole and self.experiment is not None:
            self.pane.show(self.experiment, self._render_options)

    # ---- keys

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """The keys that work now, first those of the experiment."""
        own = {key: ActiveBinding(self, binding, True, binding.tooltip) for key, binding in self._own_keys().items()}
        return own | {key: active for key, active in super().active_bindings.items() if key not in own}

    def _own_keys(self) -> dict[str, Binding]:
        """Return the keys of the experiment by Textual's names; none while a letter would be typed."""
        if self.experiment is None or self._is_typing:
            return {}
        bindings = Binding.make_bindings([_binding(action) for action in self.experiment.actions])
        return {binding.key: binding for binding in bindings}

    async def on_key(self, event: Key) -> None:
        """Handle a key of the experiment, before those of the screen."""
        if event.key in (own := self._own_keys()):
            event.stop()
            await self.run_action(own[event.key].action)

    @property
    def _is_typing(self) -> bool:
        return self.is_whole and self.pane.line.has_focus

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether the action has an effect now; else its key is neither shown nor handled."""
        experiment = self.experiment
        if experiment is None:
            return action not in ("start", "restart", "type", "cancel", "pause", "lesson", "text", "scroll")
        match action:
            case "start":
                return not self._has_begun
            case "restart":
                return self._has_begun
            case "type":
                return bool(experiment.question) and not self._is_typing
            case "cancel":
                return experiment.running or self._is_typing
            case "pause":
                return experiment.running and not self._is_typing
            case "lesson":
                return not self._is_typing and 0 <= self.at + int(str(parameters[0])) < len(self.lessons)
        return True

    def action_start(self) -> None:
        if self.experiment is not None:
            self.experiment.start()
            self._experiment_changed(self.experiment)

    def action_restart(self) -> None:
        """Start an experiment of the same lesson from its beginning, with the present text if that was edited."""
        if self.experiment is not None and self.experiment.lesson != self.lessons[self.at]:
            self.query_one(LessonPage).show(self.lessons[self.at])
        self._new_experiment()
        self.action_start()

    def action_act(self, name: str) -> None:
        """Do an action of the experiment."""
        if self.experiment is not None:
            self.experiment.act(name)
            self._experiment_changed(self.experiment)

    def on_experiment_pane_answered(self, message: ExperimentPane.Answered) -> None:
        """Give the answer; an empty line is the key enter, if that is one of the experiment's."""
        if self.experiment is None:
            return
        if message.text:
            self.experiment.answer(message.text)
        for action in self.experiment.actions:
            if not message.text and action.key == "enter":
                self.experiment.act(action.name)
        self._experiment_changed(self.experiment)

    def action_type(self) -> None:
        self.pane.line.focus()

    def action_cancel(self) -> None:
        """Leave the line, or cancel the step that runs."""
        if self._is_typing:
            self.set_focus(None)
        else:
            self._end_experiment()

    def action_pause(self) -> None:
        if self.experiment is not None:
            self.experiment.toggle_pause()
            self._experiment_changed(self.experiment)

    def action_lesson(self, by: int) -> None:
        """Show the next lesson, or the one before."""
        if self.lessons:
            self._open(max(0, min(len(self.lessons) - 1, self.at + by)))

    def action_text(self) -> None:
        """Hide the text, or show it again."""
        self._shows_text = self.has_class("-no-text")
        self._lay_out()

    def action_scroll(self, lines: int) -> None:
        """Scroll the figures if they do not fit, else the text."""
        view, page = self.pane.view, self.query_one(LessonPage)
        (view if view.max_scroll_y else page).scroll_relative(y=lines, animate=False, immediate=True)


def _few(problems: list[str]) -> list[str]:
    """Return the first problems, and how many more there are: each covers a part of the screen."""
    more = len(problems) - MOST_PROBLEMS
    return problems if more <= 0 else [*problems[:MOST_PROBLEMS], f"and {more} more: nanogpt learn lists them"]


def _binding(action: Action) -> Binding:
    key = "comma" if action.key == "," else action.key  # a comma separates keys
    return Binding(key, f"act({action.name!r})", action.label, id=f"experiment.{action.name}")
