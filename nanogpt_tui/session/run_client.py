"""A training as the app has it before it: its own, or one of another process; the commands that it has not applied yet.

Knows no screen. The events go into a history, in the worker's thread.
"""

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanogpt.config import Config
from nanogpt.errors import UserError
from nanogpt.events import Acknowledged, Event, Finished, Saved, Started, Status
from nanogpt.runs.folder import run_config
from nanogpt.training import Command, CommandQueue, Save, SetEvalInterval, Stop
from nanogpt.training.control import RemoteCommand
from nanogpt_tui.session.workers import Throttle, Worker

if TYPE_CHECKING:
    from nanogpt_tui.session.history import History


class RunClient(Worker[Any]):
    """Follows one training, and knows which of the commands to it are not applied yet."""

    def __init__(self, work: Callable[[], Iterator[Any]], throttle: Throttle, history: "History", name: str) -> None:
        super().__init__(work, throttle, name)
        self.history = history
        self.eval_interval: int | None = None
        self.pending: deque[Command] = deque()  # sent, and not applied yet
        self.saving = False

    def receive(self, event: Any) -> None:
        if isinstance(event, Acknowledged):
            self._acknowledged(event)
        elif isinstance(event, Saved | Finished):
            self.saving = False
        self.history.add(event)

    def _acknowledged(self, event: Acknowledged) -> None:
        mine = [each for each in list(self.pending) if each.id == event.id and type(each).__name__ == event.command]
        if not mine:  # somebody else's
            return
        command = mine[0]
        self.pending.remove(command)
        if isinstance(command, SetEvalInterval):
            self.eval_interval = command.iterations
        elif isinstance(command, Save) or (isinstance(command, Stop) and command.save):
            self.saving = event.text != "already saved"


class LocalRunClient(RunClient):
    """A run that is trained here, in this job's thread."""

    def __init__(
        self,
        work: Callable[[], Iterator[Event]],
        throttle: Throttle,
        history: "History",
        commands: CommandQueue,
        config: Config,
    ) -> None:
        super().__init__(work, throttle, history, "training")
        self.commands, self.eval_interval = commands, config.evaluation.eval_interval

    def send(self, command: Command) -> None:
        """Put a command into the trainer's queue. Does not wait."""
        self.pending.append(command)
        self.commands.put(command)

    def ended(self) -> None:
        if self.error is not None:
            self.history.fail(self.error)
        elif self.history.running:
            self.history.fail("training was cut off")


class RemoteRunClient(RunClient):
    """A run that another process trains, or may train some time. `begin` is what comes before: it starts that process.

    It never ends by itself: another trainer may go on with the run, and a folder that is copied may grow again.
    """

    def __init__(
        self, folder: Path, throttle: Throttle, history: "History", begin: Callable[[], Iterator[Any]] | None = None
    ) -> None:
        def work() -> Iterator[Any]:
            from nanogpt.runs.event_log import preview
            from nanogpt.runs.following import RECORD, follow_blocks

            if begin is not None:
                yield from begin()
            self.begun = True
            with suppress(UserError):  # the rest of the run can be looked at all the same
                self.eval_interval = run_config(folder).evaluation.eval_interval
            if history.reading is not None:
                history.show_preview(preview(folder / RECORD))
            yield from follow_blocks(folder)

        super().__init__(work, throttle, history, "watching")
        self.folder = folder
        self.begun, self.ours = begin is None, begin is not None
        self._sending = threading.Lock()  # an answer may come before the command is noted as pending

    def send(self, command: RemoteCommand) -> None:
        """Write a command into the run's folder. Raise `UserError` where the folder cannot be written."""
        from nanogpt import runs

        with self._sending:
            self.pending.append(dataclasses.replace(command, id=runs.send_command(self.folder, command)))

    def _acknowledged(self, event: Acknowledged) -> None:
        with self._sending:
            super()._acknowledged(event)

    def receive(self, event: Any) -> None:
        is_new = self.history.reading is None
        super().receive(event)
        if isinstance(event, Status):
            self.folder = Path(event.path)
        # Another trainer applies no commands from before its time, and one that is gone none at all.
        if is_new and (isinstance(event, Started) or not self.history.running):
            self.saving = False
            self.pending.clear()

    def ended(self) -> None:
        if self.error is not None:
            self.history.fail(self.error)


def open_run_client(folder: Path, throttle: Throttle) -> tuple["History", RemoteRunClient]:
    """A run as its folder says that it stands; and what reads its record and goes on with it."""
    from nanogpt import runs
    from nanogpt_tui.session.history import History

    history = History(folder.name, runs.summary(folder))
    return history, RemoteRunClient(folder, throttle, history)
