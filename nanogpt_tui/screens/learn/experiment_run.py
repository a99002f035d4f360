"""The experiment of a lesson in worker threads: its steps one after another, and what they show."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nanogpt.errors import UserError
from nanogpt.learn.experiment import Action, Experiment
from nanogpt.learn.figures import Figure, Figures, Update, Working
from nanogpt.learn.lesson import Lesson

if TYPE_CHECKING:
    from nanogpt_tui.session.session import Session
    from nanogpt_tui.session.workers import Worker

UPDATES_PER_SECOND = 5
LONGEST_QUEUE = 20  # keys that are pressed while the experiment computes
Step = Callable[[Experiment[Any]], Iterator[Update]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What an experiment shows and offers at one moment; `update` is None at the end of a step.

    `problem` says in one line why the step could not be done, if so.
    """

    update: Update | None
    actions: tuple[Action, ...]
    question: str
    done: bool
    problem: str = ""


class ExperimentRun:
    """One experiment from its start on. All attributes belong to the interface's thread.

    A step is `start`, an action or an answer. A step that is asked for while another one runs is done after it.
    `changed` is called in the interface's thread after each change.
    """

    def __init__(self, session: "Session", lesson: Lesson, changed: Callable[[], None]) -> None:
        self.lesson = lesson
        self.figures: tuple[Figure, ...] = ()
        self.working: Working | None = None
        self.actions: tuple[Action, ...] = ()  # from the end of its first step on
        self.question = ""  # likewise
        self.done = False
        self.problem = ""  # why the last step could not be done
        self.broken = False  # by an unexpected error: it cannot continue
        self.started = False  # whether its first step is done
        self.cancelled = False
        self._settled: tuple[Figure, ...] = ()  # the last figures that were not live
        self._session, self._changed = session, changed
        self._experiment: Experiment[Any] | None = None
        self._steps: deque[Step] = deque()
        self._worker: Worker[Snapshot] | None = None

    @property
    def running(self) -> bool:
        """Whether the experiment computes now."""
        return self._worker is not None

    @property
    def paused(self) -> bool:
        """Whether it stands still until `toggle_pause`."""
        return self._worker is not None and self._worker.paused

    def start(self) -> None:
        """Begin."""
        self._add(lambda experiment: experiment.start())

    def act(self, name: str) -> None:
        """Do an action, if it is still offered when its turn comes."""
        self._add(lambda experiment: experiment.act(name) if _offers(experiment, name) else iter(()))

    def answer(self, text: str) -> None:
        """Give the line that the learner typed."""
        self._add(lambda experiment: experiment.answer(text))

    def toggle_pause(self) -> None:
        """Let the experiment stand still, or continue."""
        if self._worker is not None:
            (self._worker.resume if self._worker.paused else self._worker.pause)()

    def cancel(self) -> None:
        """End the step that runs, at its next update, and forget those that wait."""
        self._steps.clear()
        if self._worker is not None:
            self.cancelled = True
            self._worker.cancel()

    def _add(self, step: Step) -> None:
        if self.broken or len(self._steps) >= LONGEST_QUEUE:
            return
        self._steps.append(step)
        if self._worker is None:
            self._run()
        elif self._worker.done:
            self._take(self._worker)

    def _run(self) -> None:
        self.cancelled, self.problem = False, ""
        worker = self._worker = self._session.start_worker(
            self._snapshots, lambda: self._take(worker), UPDATES_PER_SECOND, name="lesson"
        )

    def _snapshots(self) -> Iterator[Snapshot]:
        """Do the steps that wait and yield the state after each update, in the worker's thread."""
        if self._experiment is None:
            self._experiment = self.lesson.create()
        while self._steps:
            updates, problem = self._steps.popleft()(self._experiment), ""
            try:
                for update in updates:
                    yield _snapshot(self._experiment, update)
            except UserError as error:
                problem = str(error)
            finally:
                if isinstance(updates, Generator):
                    updates.close()
            yield _snapshot(self._experiment, None, problem)

    def _take(self, worker: "Worker[Snapshot]") -> None:
        """Take over what the worker has yielded; after its end, do the steps that were asked for meanwhile."""
        if worker is not self._worker:
            return
        ended = worker.done  # read first: what it yields after this is taken the next time
        for each in worker.drain():
            if isinstance(each.update, Figures):
                self.figures = each.update.figures
                if not each.update.live:
                    self._settled = self.figures
            elif isinstance(each.update, Working):
                self.working = each.update
            else:
                self.working, self.problem = None, each.problem
                self.started = self.started or not each.problem
            if self.started:
                self.actions, self.question, self.done = each.actions, each.question, each.done
        if ended:
            self._worker, self.working = None, None
            self.figures = self._settled or self.figures
            if worker.error:
                self.broken, self.problem = True, worker.error
            elif self._steps:
                self._run()
        self._changed()


def _offers(experiment: Experiment[Any], name: str) -> bool:
    return any(action.name == name for action in experiment.actions)


def _snapshot(experiment: Experiment[Any], update: Update | None, problem: str = "") -> Snapshot:
    return Snapshot(update, experiment.actions, experiment.question, experiment.done, problem)
