"""Clients of a training: send commands to it, receive its events, and track which commands are not applied yet.

The run is trained in this process or in another one. In both cases the events go into a history, in the worker's
thread.
"""

import dataclasses
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nanogpt.events import Acknowledged, Finished, Notice, Saved, Started, Status
from nanogpt.training import Command, CommandQueue, Save, Stop
from nanogpt.training.control import RemoteCommand
from nanogpt_tui.session.workers import Throttle, Worker

if TYPE_CHECKING:
    from nanogpt.runs.event_log import LogItem
    from nanogpt_tui.session.history import History


class RunClient(Worker["LogItem"]):
    """Base class: follow one training and keep the commands that it has not applied yet in `pending`.

    `unsent` has the commands that a thread is still writing to the disk; only the interface's thread changes it.
    `eval_interval` is the interval in use, None before it is known; `saving` is True from an applied command to save
    until the checkpoint is on disk.
    """

    def __init__(
        self, work: Callable[[], Iterator["LogItem"]], throttle: Throttle, history: "History", name: str
    ) -> None:
        super().__init__(work, throttle, name)
        self.history = history
        self.eval_interval: int | None = None
        self.pending: deque[Command] = deque()
        self.unsent: list[Command] = []
        self.saving = False

    @property
    def waiting(self) -> list[Command]:
        """The commands that are not applied yet, oldest first, also those that are not sent yet."""
        return list(self.pending) + self.unsent  # a copy: the client's thread may empty it now

    def on_item(self, item: "LogItem") -> None:
        """Add an event to the history, in the worker's thread."""
        if isinstance(item, Started | Acknowledged) and item.eval_interval is not None:
            self.eval_interval = item.eval_interval
        if isinstance(item, Acknowledged):
            self._acknowledge(item)
        elif isinstance(item, Saved | Finished):
            self.saving = False
        self.history.add(item)

    def _acknowledge(self, event: Acknowledged) -> None:
        matching = [each for each in list(self.pending) if each.id == event.id and type(each).__name__ == event.command]
        if not matching:  # another client sent it
            return
        command = matching[0]
        if isinstance(command, Save) or (isinstance(command, Stop) and command.save):
            self.saving = event.text.startswith(("saving", "stopping"))
        self.pending.remove(command)  # last: a thread that waits for a checkpoint looks at both

    def _log_unapplied(self) -> None:
        """Log the commands that the trainer had not applied when it ended, but for another stop."""
        kinds = [type(each).__name__ for each in list(self.pending) if not isinstance(each, Stop)]
        if kinds:
            names = ", ".join(re.sub("(?<!^)(?=[A-Z])", " ", kind).lower() for kind in kinds)
            self.history.add(Notice(level="warning", text=f"the run ended before it applied: {names}"))


class LocalRunClient(RunClient):
    """A run that is trained in this process, in the worker's thread."""

    def __init__(
        self,
        work: Callable[[], Iterator["LogItem"]],
        throttle: Throttle,
        history: "History",
        commands: CommandQueue,
    ) -> None:
        super().__init__(work, throttle, history, "training")
        self.commands = commands

    def send(self, command: Command) -> None:
        """Put a command into the trainer's queue. Does not wait."""
        self.pending.append(command)
        self.commands.put(command)

    def on_end(self) -> None:
        """Record how the work ended if it ended with an error or without `Finished`; free what it leaves on a GPU."""
        if self.error is not None:
            self.history.mark_failed(self.error)
        elif self.history.running and self.cancelled:
            self.history.mark_stopped("stopped before its first step")
        elif self.history.running:
            self.history.mark_failed("training was cut off")
        self._log_unapplied()
        if self.history.started is not None:
            from nanogpt import hardware

            hardware.release_memory()


class RemoteRunClient(RunClient):
    """A run that another process trains, or may train later.

    `launch` starts that process, if the app has to; `launched` is True once it has returned. Following does not end by
    itself: another trainer may resume the run, and a folder that is copied may grow again.
    """

    def __init__(
        self,
        folder: Path,
        throttle: Throttle,
        history: "History",
        launch: Callable[[], Iterator["LogItem"]] | None = None,
    ) -> None:
        def work() -> Iterator["LogItem"]:
            from nanogpt.runs.event_log import preview
            from nanogpt.runs.following import RECORD, follow_blocks
            from nanogpt_tui.session.history import FIELDS

            if launch is not None:
                yield from launch()
            self.launched = True
            if history.reading is not None:
                history.show_preview(preview(folder / RECORD))
            yield from follow_blocks(folder, FIELDS)

        super().__init__(work, throttle, history, "watching")
        self.folder = folder
        self.launched = launch is None
        self.is_ours = launch is not None  # this app starts the process
        self._sending = threading.Lock()  # the answer may come before the command is in `pending`

    def send(self, command: RemoteCommand) -> None:
        """Write a command into the run's folder. Raise `UserError` if the folder cannot be written."""
        from nanogpt import runs

        with self._sending:
            self.pending.append(dataclasses.replace(command, id=runs.send_command(self.folder, command)))

    def _acknowledge(self, event: Acknowledged) -> None:
        with self._sending:
            super()._acknowledge(event)

    def on_item(self, item: "LogItem") -> None:
        """Add an event to the history. Forget pending commands if their trainer has ended."""
        is_new = self.history.reading is None
        super().on_item(item)
        if isinstance(item, Status):
            self.folder = Path(item.path)
        # A new trainer ignores the commands to an earlier one, and a trainer that has ended applies none.
        if is_new and (isinstance(item, Started) or not self.history.running):
            if not self.history.running and self.history.run_state.state != "interrupted":  # which may be a mistake
                self._log_unapplied()
            self.saving = False
            self.pending.clear()

    def on_end(self) -> None:
        """Record how the work ended: with an error, or cancelled before the process was started."""
        if self.error is not None:
            self.history.mark_failed(self.error)
        elif self.cancelled and not self.launched:
            self.history.mark_stopped("stopped before its first step")


def open_run_client(folder: Path, throttle: Throttle) -> tuple["History", RemoteRunClient]:
    """Return a history in the state that the run's folder tells, and the client that will read its record."""
    from nanogpt import runs
    from nanogpt_tui.session.history import History

    history = History(folder.name, runs.summary(folder))
    return history, RemoteRunClient(folder, throttle, history)
