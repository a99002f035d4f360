"""A training as the app has it before it: its own, or one of another process; what was asked of it, and not done yet.

Knows no screen. The events go into a history, in the worker's thread.
"""

import dataclasses
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanogpt.config import Config
from nanogpt.events import Acknowledged, Event, Finished, Saved, Started
from nanogpt.runs.folder import SLOW_S, Summary, run_config
from nanogpt.training import Letter, Mailbox, Save, SetEvalInterval, Stop
from nanogpt.training.mailbox import Portable
from nanogpt_tui.history import Line
from nanogpt_tui.jobs import Bell, Job

if TYPE_CHECKING:
    from nanogpt_tui.history import History


class Steered(Job):
    """Follows one training, and knows which of the letters to it are not obeyed yet."""

    def __init__(self, work: Callable[[], Iterator[Any]], bell: Bell, history: "History", name: str) -> None:
        super().__init__(work, bell, name)
        self.history = history
        self.eval_interval: int | None = None
        self.asked: deque[Letter] = deque()  # in the mailbox, and not obeyed yet
        self.saving = False

    def heard(self, event: Any) -> None:
        if isinstance(event, Acknowledged):
            self._obeyed(event)
        elif isinstance(event, Saved | Finished):
            self.saving = False
        self.history.add(event)

    def _obeyed(self, event: Acknowledged) -> None:
        mine = [each for each in list(self.asked) if each.id == event.id and type(each).__name__ == event.letter]
        if not mine:  # somebody else's
            return
        letter = mine[0]
        self.asked.remove(letter)
        if isinstance(letter, SetEvalInterval):
            self.eval_interval = letter.iterations
        elif isinstance(letter, Save) or (isinstance(letter, Stop) and letter.save):
            self.saving = event.text != "saved already"


class Training(Steered):
    """A run that is trained here, in this job's thread."""

    def __init__(
        self, work: Callable[[], Iterator[Event]], bell: Bell, history: "History", mailbox: Mailbox, config: Config
    ) -> None:
        super().__init__(work, bell, history, "training")
        self.mailbox, self.eval_interval = mailbox, config.evaluation.eval_interval

    def tell(self, letter: Letter) -> None:
        self.asked.append(letter)
        self.mailbox.drop(letter)

    def ended(self) -> None:
        if self.error is not None:
            self.history.fail(self.error)
        elif self.history.running:
            self.history.fail("training was cut off")


class Watching(Steered):
    """A run that another process trains. `begin` is what comes before: it starts that process. The first `known` events
    are in the history already.

    Where that process dies the watching goes on: another may train on, and a folder that is copied may grow again.
    """

    def __init__(
        self,
        folder: Path,
        bell: Bell,
        history: "History",
        begin: Callable[[], Iterator[Event]] | None = None,
        known: int = 0,
    ) -> None:
        def work() -> Iterator[Any]:
            from nanogpt import runs

            if begin is not None:
                yield from begin()
            self.begun = True
            self.eval_interval = run_config(folder).evaluation.eval_interval
            unknown = itertools.count(-known)
            for event in runs.follow(folder, patient=True):
                if not isinstance(event, Event) or next(unknown) >= 0:
                    yield event

        super().__init__(work, bell, history, "watching")
        self.folder = folder
        self.begun, self.ours = begin is None, begin is not None
        self._posting = threading.Lock()  # an answer may come before it is noted what was asked
        self.about: Summary | None = None  # as the folder last said
        self._before = "training"  # the state before it was interrupted
        self._told = False  # that it is silent

    @property
    def silent(self) -> bool:
        """Whether a trainer that lives gives no sign of it: it is slow, stuck or asleep."""
        return self.about is not None and self.history.running and self.about.silent_s > SLOW_S

    def tell(self, letter: Portable) -> None:
        """Raises `UserError` where the folder cannot be written."""
        from nanogpt import runs

        with self._posting:
            self.asked.append(dataclasses.replace(letter, id=runs.drop_letter(self.folder, letter)))

    def _obeyed(self, event: Acknowledged) -> None:
        with self._posting:
            super()._obeyed(event)

    def heard(self, event: Any) -> None:
        if isinstance(event, Event):
            self._revive()
            super().heard(event)
            if isinstance(event, Started):
                self.asked.clear()  # another trainer, which obeys no letters from before its time
        else:  # all is quiet: how does it stand?
            self.about = event.summary
            if self.about.alive:
                self._revive()
            elif self.about.state == "interrupted" and self.history.running:
                self._interrupt()
            self._tell_silence(self.about)

    def _tell_silence(self, about: Summary) -> None:
        if self.silent and not self._told:
            text = "no sign of life for some time: it is slow or asleep, or its disk or connection is"
            self.history.log.append(Line(time.time() - about.silent_s, "warning", text))
            self.history.version += 1
        self._told = self.silent

    def _interrupt(self) -> None:
        self._before, self.saving = self.history.state, False
        self.asked.clear()
        if self.about is not None:
            bury(self.history, self.about)

    def _revive(self) -> None:
        if self.history.state == "interrupted":
            self.history.state = self._before
            self.history.version += 1

    def ended(self) -> None:
        if self.error is not None:
            self.history.fail(self.error)


def bury(history: "History", about: Summary) -> None:
    """Notes that the trainer is gone."""
    history.state = "interrupted"
    where = f"process {about.pid} on {about.host}" if about.pid else "its process"
    text = f"{where} is gone without a word: it can be resumed where it saved last"
    history.log.append(Line(time.time(), "gone", text))
    history.version += 1


def looked_at(folder: Path, bell: Bell) -> tuple["History", Watching | None]:
    """What is recorded of a run; and, where somebody trains it or may do so again, what goes on with it."""
    from nanogpt import runs
    from nanogpt_tui.history import History, from_events

    about = runs.summary(folder)
    state = about.state
    if about.alive:
        history = History(folder.name)
        return history, Watching(folder, bell, history)
    if state != "interrupted":
        return from_events(folder.name, runs.history(folder), state), None
    events = list(runs.read_events(folder))
    history = from_events(folder.name, events, state)
    bury(history, about)
    return history, Watching(folder, bell, history, known=len(events))
