"""The session: the run that the app shows, other runs that are training, and all work in threads.

Screens call the session. A training is a `RunClient`; for other work in threads see `background.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nanogpt.config import Config, resolve, with_settings
from nanogpt.errors import UserError
from nanogpt.events import Event
from nanogpt.training import Command, CommandQueue, Stop
from nanogpt.training.control import RemoteCommand
from nanogpt_tui.keys import key_label
from nanogpt_tui.session.background import BackgroundWork
from nanogpt_tui.session.workers import Throttle, Worker

if TYPE_CHECKING:
    from textual.app import App

    from nanogpt.data.recipes import Recipe
    from nanogpt.runs.event_log import LogItem
    from nanogpt.runs.listing import RunListing
    from nanogpt.runs.state import RunState
    from nanogpt_tui.session.history import History
    from nanogpt_tui.session.run_client import LocalRunClient, RemoteRunClient, RunClient


T = TypeVar("T")
Item = TypeVar("Item")


class Session(BackgroundWork):
    """The state that the screens share. `changed` is called in the interface's thread when the shown run has changed.

    `history` is the run that the Train screen shows: the one that is training here, else the one that was opened last.
    `other_runs` are further runs that are training; `discovered` is True once the runs folder has been read.

    A `readonly` session starts, controls, writes and deletes nothing. Screens refuse such actions and do not show their
    keys (`LabScreen.WRITES`), and `check_writable` refuses to train and to prepare. Texts are generated in memory.
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
        super().__init__(app)
        self._throttle = Throttle(app, changed, per_second)
        self.runs_dir, self.readonly = runs_dir, readonly
        self.other_runs: list[RunState] = []
        self.training: LocalRunClient | None = None
        self.remote: RemoteRunClient | None = None
        self._folder: Path | None = None
        self.history: History | None = None
        self.discovered = False
        self._discovery: Worker[None] | None = None
        self._found_trainer: tuple[str, int, float] | None = None  # the last one that `discover_runs` followed
        self._measurements: list[Worker[Any]] = []  # of the speed; some may have ended
        self._preparations: list[Worker[Event]] = []  # of data sets; some may have ended
        self._shown = 0  # how often a run was to be shown: only the last one is
        self._listing: RunListing | None = None

    def set_update_rate(self, per_second: float, low_bandwidth: bool) -> None:
        """Limit the calls of `changed` to `per_second`. With `low_bandwidth`, other workers report a fifth as often."""
        self._throttle.interval_s, self._rate_factor = 1 / per_second, 0.2 if low_bandwidth else 1.0

    @property
    def folder(self) -> Path | None:
        """The folder of the shown run, also after the run was renamed."""
        return self._folder if self.remote is None else self.remote.folder

    @folder.setter
    def folder(self, folder: Path | None) -> None:
        self._folder = folder
        if self.remote is not None and folder is not None:
            self.remote.folder = folder

    def rename_shown(self, name: str) -> None:
        """Show the shown run under the new name that its folder has. It does not train in this process."""
        if self.folder is not None:
            self.folder = self.folder.with_name(name)
        if self.history is not None and self.remote is None:
            self.history.rename(name)
        self._throttle.trigger()

    @property
    def is_training(self) -> bool:
        """Whether a run is training in this process."""
        return self.training is not None and not self.training.done

    @property
    def is_preparing(self) -> bool:
        """Whether the shown run prepares its data or reads its record: it has nothing to save and takes no command."""
        return self.history is not None and self.history.run_state.state == "preparing"

    @property
    def save_problem(self) -> str:
        """Why the training in this process failed, or ended without a checkpoint of its last step; "" if neither."""
        training, history = self.training, self.history
        if training is None or history is None:
            return ""
        if training.error is None and history.saves and history.saves[-1].step >= history.step:
            return ""
        of_this_start = takewhile(lambda line: line.kind != "started", reversed(history.log))
        errors = (line.text for line in of_this_start if line.kind == "error")
        has_trained = history.started is not None and history.step > history.started.step
        return next(errors, f"there is no checkpoint of step {history.step:,}" if has_trained else "")

    @property
    def is_alive(self) -> bool:
        """Whether the shown run is training, here or in another process."""
        remote, history = self.remote, self.history
        if remote is None or remote.done or history is None:
            return self.is_training
        return not remote.launched or history.run_state.alive

    @property
    def has_lost_run(self) -> bool:
        """Whether the record of the shown run is followed no more: reading it, or starting the run, has failed."""
        return self.remote is not None and self.remote.done

    @property
    def can_send(self) -> bool:
        """Whether `send` reaches a trainer, here or in another process."""
        started = self.is_training or (self.remote is not None and self.remote.launched)
        return self.is_alive and started and not self.readonly

    @property
    def is_starting(self) -> bool:
        """Whether the app is starting a training process. If the app ends now, that process may not train."""
        return self.remote is not None and not self.remote.launched and not self.remote.done

    @property
    def can_stop_preparing(self) -> bool:
        """Whether `stop_training` ends a preparation of data: before a training here, or before its process starts."""
        before_process = self.is_starting and self.history is not None and self.history.preparing is not None
        return (self.is_training and self.is_preparing) or before_process

    def start_training(self, config: Config, folder: Path) -> "LocalRunClient | None":
        """Train a new run in `folder` (see `nanogpt.runs.new_folder`) in this process.

        A run of several processes is started as by `start_detached`, and has no client here. Raise `UserError` if a run
        is training here, or if the session is read-only.
        """
        if config.system.processes > 1:
            self.start_detached(config, folder)
            return None

        def work(commands: CommandQueue) -> Iterator[Event]:
            from nanogpt import runs

            return runs.start(
                config, folder, commands=commands, runs_dir=Path(self.runs_dir) if self.runs_dir else None
            )

        return self._train(work, folder)

    def start_detached(self, config: Config, folder: Path) -> None:
        """Train a new run in a separate process and show it. Prepare its data set first if that is missing.

        Raise `UserError` if a run is training here, or if the session is read-only.
        """

        def launch() -> Iterator[Event]:
            from nanogpt import data, runs

            if not data.is_prepared(config.data.dataset):
                yield from data.prepare(config.data.dataset)
            runs.start_detached(config, folder, runs_dir=self.runs_dir)

        self._launch(folder, launch)

    def resume_detached(
        self, folder: Path, changes: Mapping[str, Any] | None = None, then: Callable[[str], None] | None = None
    ) -> Worker[None]:
        """Resume a run from its latest checkpoint in a separate process, like `resume`."""
        return self._read_and_resume(folder, lambda before, _: self._launch_resume(folder, changes, before), then)

    def _launch_resume(self, folder: Path, changes: Mapping[str, Any] | None, before: "RunState") -> None:
        def launch() -> Iterator["LogItem"]:
            from nanogpt import runs

            try:
                runs.resume_detached(folder, changes)
            except UserError:
                yield from self._read_record(folder)
                raise

        self._launch(folder, launch, before)

    def _launch(
        self, folder: Path, launch: Callable[[], Iterator["LogItem"]], before: "RunState | None" = None
    ) -> None:
        from nanogpt_tui.session.run_client import RemoteRunClient

        self._release_run()
        self.history, self._folder = _new_history(folder, before), folder
        self.remote = RemoteRunClient(folder, self._throttle, self.history, launch)
        self.remote.start()
        self._throttle.trigger()

    def quick_start_folder(self, changes: Mapping[str, Any]) -> Path:
        """Return the folder of a new quick start. Reads the disk: for worker threads.

        Raise `UserError` if `changes` has an invalid setting.
        """
        from nanogpt import runs

        resolve(preset="quickstart", flags=changes)
        return runs.new_folder("quickstart", runs_dir=self.runs_dir)

    def quick_start(self, changes: Mapping[str, Any], folder: Path | None = None) -> "LocalRunClient":
        """Prepare a small data set and train a small model.

        Without `folder`, which is that of `quick_start_folder`, the disk is read here. Raise `UserError` if a run is
        training here, if the session is read-only, or if `changes` has an invalid setting.
        """
        from nanogpt import runs

        new = folder or self.quick_start_folder(changes)
        return self._train(lambda commands: runs.run_quickstart(new, changes=changes, commands=commands), new)

    def resume(
        self, folder: Path, changes: Mapping[str, Any] | None = None, then: Callable[[str], None] | None = None
    ) -> Worker[None]:
        """Resume a run from its latest checkpoint in this process, but as `resume_detached` if it has several.

        Its state is read in a thread first. Then call `then("")`, or call it with the error if the run is training
        already, a run is training here, or the session is read-only. Without `then`, notify of an error.
        """

        def work(commands: CommandQueue) -> Iterator["LogItem"]:
            from nanogpt import runs

            yield from self._read_record(folder)
            yield from runs.resume(folder, changes, commands=commands)

        def begin(before: "RunState", config: Config) -> None:
            config = with_settings(config, changes or {})
            if config.system.processes > 1:
                self._launch_resume(folder, changes, before)
            else:
                self._train(work, folder, before)

        return self._read_and_resume(folder, begin, then)

    def _read_and_resume(
        self, folder: Path, begin: "Callable[[RunState, Config], object]", then: Callable[[str], None] | None
    ) -> Worker[None]:
        def read() -> "tuple[RunState, Config]":
            from nanogpt.runs.folder import run_config

            return self._check_not_alive(folder), run_config(folder)

        def show(found: "tuple[RunState, Config] | None", error: str) -> None:
            if found is not None:
                try:
                    begin(*found)
                except UserError as problem:
                    error = str(problem)
            if then is not None:
                then(error)
            elif error:
                self._app.notify(error, severity="error", markup=False)

        return self.fetch(read, show, "resume", answers_key=True)

    def _read_record(self, folder: Path) -> Iterator["LogItem"]:
        from nanogpt.runs.parsed_log import read_with_progress
        from nanogpt_tui.session.history import FIELDS

        history = self.history
        yield from read_with_progress(folder / "events.jsonl", FIELDS)
        if history is not None:
            history.finish_reading()

    def _train(
        self,
        work: Callable[[CommandQueue], Iterator["LogItem"]],
        folder: Path,
        before: "RunState | None" = None,
    ) -> "LocalRunClient":
        from nanogpt_tui.session.run_client import LocalRunClient

        self._release_run()
        self.history, self._folder, commands = _new_history(folder, before), folder, CommandQueue()

        def begin() -> Iterator["LogItem"]:
            self._end_measurements()
            return iter(()) if client.cancelled else work(commands)

        client = self.training = LocalRunClient(begin, self._throttle, self.history, commands)
        client.start()
        self._throttle.trigger()
        return client

    def start_measurement(self, work: Callable[[], Iterator[Item]], on_change: Callable[[], None]) -> Worker[Item]:
        """Measure the speed of training steps as by `start_worker`. A training that starts cancels the measurement and
        waits for its last step: the two would share torch's random numbers and the processor."""
        worker = self.start_worker(work, on_change, name="measure")
        self._measurements = [each for each in self._measurements if not each.done] + [worker]
        return worker

    @property
    def is_measuring(self) -> bool:
        """Whether the speed is being measured, also while a cancelled measurement finishes its last step."""
        return any(not worker.done for worker in self._measurements)

    def _end_measurements(self) -> None:
        """Cancel all measurements and wait for them. For worker threads."""
        for worker in self._measurements:
            if not worker.done:
                worker.cancel()
                worker.wait()

    def send(self, command: Command) -> bool:
        """Send a command to the shown training; return False if it takes no commands.

        Raise `UserError` if the folder of a run of another process cannot be written.
        """
        if not self.can_send:
            return False
        if self.is_training and self.training is not None:
            self.training.send(command)
        elif self.remote is not None and isinstance(command, RemoteCommand):
            self.remote.send(command)
        return True

    def post(self, command: Command, then: Callable[[str], None]) -> None:
        """Send a command like `send`, but write to the disk in a thread. Then call `then("")`, or `then(error)`.

        It goes to the run that is shown now, also if another one is shown by the time that the disk answers.
        """
        remote = self.remote if self.can_send and not self.is_training else None
        if remote is not None and isinstance(command, RemoteCommand):
            remote.unsent.append(command)

            def show(error: str) -> None:
                remote.unsent.remove(command)
                then(error)

            self.write(lambda: remote.send(command), show)
        else:
            then("" if self.send(command) else "the run is not training any more: nothing was changed")

    @property
    def client(self) -> "RunClient | None":
        """The client of the shown run if it takes commands, else None."""
        return (self.training if self.is_training else self.remote) if self.can_send else None

    def show_run(self, folder: Path | None = None, *, answers_key: bool = False) -> Worker[None]:
        """Open a run in a thread, then show it. None: a run that is training, else the newest one, if any.

        The worker's `error` says why the run cannot be read. For `answers_key` see `fetch`. Raise `UserError` if a run
        is training here.
        """
        self._check_not_training()
        self._shown += 1
        number = self._shown

        def read() -> "tuple[Path, History, RemoteRunClient] | None":
            found = folder or self._find_run()
            if found is None:
                return None
            from nanogpt_tui.session.run_client import open_run_client  # imports numpy: not without a run

            return found, *open_run_client(found, self._throttle)

        def show(found: "tuple[Path, History, RemoteRunClient] | None", error: str) -> None:
            if error:
                self._app.notify(error, severity="error", markup=False)
            if found is not None and not self.is_training and self._shown == number:
                self._unfollow()
                self.training = None
                self._folder, self.history, self.remote = found
                self.remote.start()
                if folder is None and self.other_runs:
                    text = f"{len(self.other_runs)} more training; {key_label('app.runs', self._app)} lists them"
                    self._app.notify(text, markup=False)
            self.discovered = True
            self._throttle.trigger()

        return self.fetch(read, show, "show run", answers_key=answers_key)

    def keep_shown(self) -> None:
        """Keep showing the run that is shown, also if another one is being opened."""
        self._shown += 1

    def list_runs(self) -> "list[RunState]":
        """Return all runs, the last changed first; the same list as before if nothing changed. For worker threads.

        Raise `UserError` if the folder of runs cannot be read.
        """
        from nanogpt.runs.listing import RunListing

        if self._listing is None:
            self._listing = RunListing(self.runs_dir)
        return self._listing.read()

    def _find_run(self) -> Path | None:
        """Return the run that changed last among those that are training, else among all. Set `other_runs`."""
        known = self.list_runs()
        alive = [each for each in known if each.alive]
        self.other_runs = alive[1:]
        return next((Path(each.path) for each in alive or known), None)

    def discover_runs(self) -> None:
        """Update `other_runs` in a thread. If another process trains the shown run, which is not followed, follow it:
        it was trained here, or has been lost. Each trainer is followed once: a run that is lost again stays lost."""
        if self.is_alive or not self.discovered or (self._discovery is not None and not self._discovery.done):
            return
        previous, number = self.remote, self._shown

        def read() -> "list[RunState]":
            return [each for each in self.list_runs() if each.alive]

        def show(found: "list[RunState] | None", error: str) -> None:
            if self.is_alive or self.remote is not previous or self._shown != number:
                return
            shown_path = str(self.folder)
            before, self.other_runs = self.other_runs, [each for each in found or [] if each.path != shown_path]
            trainer = next(((each.path, each.pid, each.since) for each in found or [] if each.path == shown_path), None)
            is_new = trainer is not None and trainer != self._found_trainer
            if is_new and (previous is None or self.has_lost_run):
                self._found_trainer = trainer
                self.show_run(self.folder)
            elif self.other_runs or before:
                self._throttle.trigger()

        self._discovery = self.fetch(read, show, "discover runs")

    def _release_run(self) -> None:
        """Stop following the shown run, so that another one can be trained. Raise `UserError` if it cannot be."""
        self.check_writable()
        self._check_not_training()
        self._unfollow()
        self._shown += 1
        self.training = None

    def check_writable(self) -> None:
        """Raise `UserError` if this session is read-only."""
        if self.readonly:
            raise UserError("this session is read-only: it starts, changes and writes nothing")

    def _unfollow(self) -> None:
        if self.remote is not None:
            self.remote.cancel()
            self.remote = None

    def _check_not_training(self) -> None:
        if self.is_training and self.history is not None:
            raise UserError(f"{self.history.run} is training: stop it first")
        if self.is_starting and self.history is not None:
            raise UserError(f"{self.history.run} is starting: wait until it trains")

    def _check_not_alive(self, folder: Path) -> "RunState":
        """Return the state of a run. Raise `UserError` if it is training: two trainers never share a run."""
        from nanogpt import runs

        state = runs.summary(folder)
        if state.alive:
            raise UserError(
                f"{state.name} is training in process {state.pid} on {state.host}: open it in Train instead "
                "and control it from there"
            )
        return state

    def stop_training(self) -> None:
        """Tell the training in this process to end: with a checkpoint, or at its next event while it is preparing.

        The same for the preparation before a process starts (see `can_stop_preparing`).
        """
        if self.is_starting and self.remote is not None:
            self.remote.cancel()
        elif self.training is not None and self.is_preparing:
            self.training.cancel()
        elif self.training is not None:
            self.training.send(Stop(save=True))

    def close(self) -> None:
        """Stop the training in this process with a checkpoint, and wait until the checkpoint is on disk."""
        if self.is_training and self.training is not None:
            self.stop_training()
            self.training.wait()
        self.finish_writing()

    def prepare(self, recipe: "str | Recipe", on_change: Callable[[], None], **options: Any) -> Worker[Event]:
        """Prepare a data set in a thread: a recipe or its name, and the options of `nanogpt.data.prepare`.

        Raise `UserError` if the session is read-only.
        """
        self.check_writable()

        def work() -> Iterator[Event]:
            from nanogpt import data

            return data.prepare(recipe, **options)

        worker = self.start_worker(work, on_change, name="prepare")
        self._preparations = [each for each in self._preparations if not each.done] + [worker]
        return worker

    @property
    def is_preparing_data(self) -> bool:
        """Whether a data set is being prepared by itself, not for a run."""
        return any(not worker.done for worker in self._preparations)


def _new_history(folder: Path, before: "RunState | None") -> "History":
    """Return the history of a new run, or of a run in state `before` that is being resumed."""
    from nanogpt_tui.session.history import History

    if before is None:
        return History(folder.name)
    history = History(folder.name, replace(before, state="preparing"))
    history.fallback_state = before
    return history
