"""The work that goes on behind the screens: the training that is shown, and everything else. Knows no screen.

The session is what the screens ask; each piece of work is a job in a thread (jobs.py), a training one that is steered.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nanogpt.config import Config, resolve
from nanogpt.errors import UserError
from nanogpt.events import Event
from nanogpt.training import Command, CommandQueue, Stop
from nanogpt.training.control import RemoteCommand
from nanogpt_tui.session.workers import Throttle, Worker

if TYPE_CHECKING:
    from textual.app import App

    from nanogpt.runs.state import RunState
    from nanogpt_tui.session.history import History
    from nanogpt_tui.session.run_client import LocalRunClient, RemoteRunClient, RunClient


T = TypeVar("T")
Item = TypeVar("Item")


class Session:
    """What the app is doing and has done. `changed` is called in the interface's thread when the training has news.

    `history` is the run that the Train screen shows: the one being trained, else the one looked at last.
    """

    def __init__(
        self,
        app: "App[Any]",
        changed: Callable[[], None],
        *,
        runs_dir: str | None = None,
        per_second: float = 4.0,
        readonly: bool = False,
    ) -> None:
        self._app = app
        self._throttle = Throttle(app, changed, per_second)
        self._pace = 1.0
        self.runs_dir, self.readonly = runs_dir, readonly
        self.others: list[RunState] = []  # runs that are being trained beside the one that is shown
        self.training: LocalRunClient | None = None
        self.remote: RemoteRunClient | None = None
        self._folder: Path | None = None
        self.history: History | None = None
        self.discovered = False  # whether it is known by now which runs there are
        self._discovery: Worker[None] | None = None
        self._known: dict[Path, tuple[int, RunState]] = {}  # as `alive_runs` left it

    def spare(self, per_second: float, sparing: bool) -> None:
        """How often at most `changed` is called; and, `sparing`, all other work is heard of a fifth as often."""
        self._throttle.interval_s, self._pace = 1 / per_second, 0.2 if sparing else 1.0

    @property
    def folder(self) -> Path | None:
        """Of the run that is shown, by the name that it has now."""
        return self._folder if self.remote is None else self.remote.folder

    @folder.setter
    def folder(self, folder: Path | None) -> None:
        self._folder = folder
        if self.remote is not None and folder is not None:
            self.remote.folder = folder

    @property
    def is_training(self) -> bool:
        return self.training is not None and not self.training.done

    @property
    def is_alive(self) -> bool:
        """Whether the run that is shown is being trained, here or in another process."""
        remote, history = self.remote, self.history
        if remote is None or remote.done or history is None:
            return self.is_training
        return not remote.begun or history.now.alive

    @property
    def can_send(self) -> bool:
        """Whether `send` reaches a trainer, here or in another process."""
        begun = self.is_training or (self.remote is not None and self.remote.begun)
        return self.is_alive and begun and not self.readonly

    @property
    def is_starting(self) -> bool:
        """Whether a process that is to train has not begun yet: it would not, if this one ended now."""
        return self.remote is not None and not self.remote.begun and not self.remote.done

    def start_training(self, config: Config, folder: Path) -> "LocalRunClient":
        """Trains a new run in `folder` (see `nanogpt.runs.new_folder`). Raises `UserError` while one is trained."""

        def work(commands: CommandQueue) -> Iterator[Event]:
            from nanogpt import runs

            return runs.start(
                config, folder, commands=commands, runs_dir=Path(self.runs_dir) if self.runs_dir else None
            )

        return self._train(work, folder, config)

    def start_detached(self, config: Config, folder: Path) -> None:
        """Trains a new run in a process of its own, and shows it as if it were this one's. Prepares missing data first.

        Raises `UserError` while one is trained here."""

        def begin() -> Iterator[Event]:
            from nanogpt import data, runs

            if not data.is_prepared(config.data.dataset):
                yield from data.prepare(config.data.dataset)
            runs.start_detached(config, folder, runs_dir=self.runs_dir)

        self._watch(folder, begin)

    def resume_detached(self, folder: Path, changes: Mapping[str, Any] | None = None) -> None:
        """Goes on with a run at its latest checkpoint in a process of its own. Raises `UserError`."""
        before = self._refuse_alive(folder)

        def begin() -> Iterator[Event]:
            from nanogpt import runs

            try:
                runs.resume_detached(folder, changes)
            except UserError:
                yield from self._recorded(folder)
                raise

        self._watch(folder, begin, before)

    def _watch(self, folder: Path, begin: Callable[[], Iterator[Any]], before: "RunState | None" = None) -> None:
        from nanogpt_tui.session.run_client import RemoteRunClient

        self._make_room()
        self.history, self._folder = _history(folder, before), folder
        self.remote = RemoteRunClient(folder, self._throttle, self.history, begin)
        self.remote.start()
        self._throttle.trigger()

    def quick_start(self, changes: Mapping[str, Any]) -> "LocalRunClient":
        """Prepares a small data set and trains a small model. Raises `UserError` for what `changes` has wrong."""
        from nanogpt import runs

        config = resolve(preset="quickstart", flags=changes).config
        folder = runs.new_folder("quickstart", runs_dir=self.runs_dir)
        return self._train(
            lambda commands: runs.run_quickstart(folder, changes=changes, commands=commands), folder, config
        )

    def resume(self, folder: Path, changes: Mapping[str, Any] | None = None) -> "LocalRunClient":
        """Goes on with a run at its latest checkpoint. Raises `UserError`."""
        from nanogpt.runs.folder import run_config

        before = self._refuse_alive(folder)

        def work(commands: CommandQueue) -> Iterator[Event]:
            from nanogpt import runs

            yield from self._recorded(folder)
            yield from runs.resume(folder, changes, commands=commands)

        return self._train(work, folder, run_config(folder), before)

    def _recorded(self, folder: Path) -> Iterator[Any]:
        """What a run did so far."""
        from nanogpt.runs.event_log import read_blocks

        history = self.history
        yield from read_blocks(folder / "events.jsonl")
        if history is not None:
            history.stay()

    def _train(
        self,
        work: Callable[[CommandQueue], Iterator[Any]],
        folder: Path,
        config: Config,
        before: "RunState | None" = None,
    ) -> "LocalRunClient":
        from nanogpt_tui.session.run_client import LocalRunClient

        self._make_room()
        self.history, self._folder, commands = _history(folder, before), folder, CommandQueue()
        self.training = LocalRunClient(lambda: work(commands), self._throttle, self.history, commands, config)
        self.training.start()
        self._throttle.trigger()
        return self.training

    def send(self, command: Command) -> bool:
        """Send a command to the training that is shown; return False where none runs.

        Raise `UserError` where a run of another process cannot be reached.
        """
        if not self.can_send:
            return False
        if self.is_training and self.training is not None:
            self.training.send(command)
        elif self.remote is not None and isinstance(command, RemoteCommand):
            self.remote.send(command)
        return True

    @property
    def client(self) -> "RunClient | None":
        """The training that takes commands, and those that it has not applied yet."""
        return (self.training if self.is_training else self.remote) if self.can_send else None

    def look_at(self, folder: Path | None = None) -> Worker[None]:
        """Shows a run (None: one that is being trained, else the newest, if there is one) once it is read; the job's
        `error` says why it cannot be. Raises `UserError` while a run is trained here."""
        self._refuse_while_training()
        watched = self.remote

        def read() -> "tuple[Path, History, RemoteRunClient] | None":
            found = folder or self._newest()
            if found is None:
                return None
            from nanogpt_tui.session.run_client import (
                open_run_client,  # which needs numpy: not for a first picture without a run
            )

            return found, *open_run_client(found, self._throttle)

        def show(found: "tuple[Path, History, RemoteRunClient] | None", error: str) -> None:
            if error:
                self._app.notify(error, severity="error", markup=False)
            if found is not None and not self.is_training and self.remote is watched:
                self._turn_away()
                self.training = None
                self._folder, self.history, self.remote = found
                self.remote.start()
                if folder is None and self.others:
                    self._app.notify(f"{len(self.others)} more training; 4 lists them")
            self.discovered = True
            self._throttle.trigger()

        return self.fetch(read, show, "look")

    def _newest(self) -> Path | None:
        """The run that changed last of those that are being trained, and noted how many these are; else of all."""
        from nanogpt import runs

        there = runs.list_runs(self.runs_dir)
        alive = [each for each in there if each.alive]
        self.others = alive[1:]
        return next((Path(each.path) for each in alive or there), None)

    def look_around(self) -> None:
        """Looks in a thread which other runs are being trained; and where the run that was trained here goes on in
        another process, follows it there."""
        if self.is_alive or not self.discovered or (self._discovery is not None and not self._discovery.done):
            return
        watched = self.remote

        def read() -> "list[RunState]":
            from nanogpt.runs.folder import alive_runs

            return alive_runs(self.runs_dir, self._known)

        def show(found: "list[RunState] | None", error: str) -> None:
            if self.is_alive or self.remote is not watched:
                return
            shown = str(self.folder)
            before, self.others = self.others, [each for each in found or [] if each.path != shown]
            if watched is None and len(self.others) < len(found or []):
                self.look_at(self.folder)
            elif self.others or before:
                self._throttle.trigger()

        self._discovery = self.fetch(read, show, "others")

    def _make_room(self) -> None:
        """Raises `UserError` where no other run can be trained here now."""
        if self.readonly:
            raise UserError("this session is read-only: start the app without --readonly to train")
        self._refuse_while_training()
        self._turn_away()
        self.training = None

    def _turn_away(self) -> None:
        """No longer watches another process's run."""
        if self.remote is not None:
            self.remote.cancel()
            self.remote = None

    def _refuse_while_training(self) -> None:
        if self.is_training and self.history is not None:
            raise UserError(f"{self.history.run} is training: stop it first")
        if self.is_starting and self.history is not None:
            raise UserError(f"{self.history.run} is starting: wait until it trains")

    def _refuse_alive(self, folder: Path) -> "RunState":
        """How the run stands. Two trainers never share one; said before the screen shows anything else."""
        from nanogpt import runs

        about = runs.summary(folder)
        if about.alive:
            raise UserError(
                f"{about.name} is training in process {about.pid} on {about.host}: look at it instead, "
                "and steer it from here"
            )
        return about

    def close(self) -> None:
        """Ends the training that runs, with a checkpoint, and waits until it is on disk: for after the app's end."""
        if self.is_training and self.training is not None:
            self.training.send(Stop(save=True))
            self.training.wait()

    def prepare(self, recipe: Any, on_change: Callable[[], None], **options: Any) -> Worker[Event]:
        """Prepare a data set (a recipe or its name; options of `nanogpt.data.prepare`). `job.cancel()` cancels."""

        def work() -> Iterator[Event]:
            from nanogpt import data

            return data.prepare(recipe, **options)

        return self.work(work, on_change, name="prepare")

    def work(
        self,
        work: Callable[[], Iterator[Item]],
        on_change: Callable[[], None],
        per_second: float = 8,
        name: str = "job",
    ) -> Worker[Item]:
        """Run an iterator in a thread; `on_change` is called in the interface's thread after items and at the end."""
        return Worker(work, Throttle(self._app, on_change, per_second * self._pace), name).start()

    def fetch(self, read: Callable[[], T], then: Callable[[T | None, str], None], name: str) -> Worker[None]:
        """Call `read` in a thread and then, in the interface's, `then` with its result and "", or with None and why
        there is no result, in one line."""
        gave: list[T] = []
        told = False

        def work() -> Iterator[None]:
            gave.append(read())
            return iter(())

        def done() -> None:
            nonlocal told
            if job.done and not told:
                told = True
                then(gave[0] if gave else None, job.error or "")

        job = self.work(work, done, name=name)
        return job


def _history(folder: Path, before: "RunState | None") -> "History":
    """For a run that is to begin, or that was `before` and is to go on: it stays so where it does not."""
    from nanogpt_tui.session.history import History

    if before is None:
        return History(folder.name)
    history = History(folder.name, replace(before, state="preparing"))
    history.rest = before
    return history
