"""The work that goes on behind the screens, and the only place where threads meet. Knows no screen.

Work is an iterator of events, run in a daemon thread of its own: never one of Textual's, which quitting would wait for.
A worker writes into a buffer and pulls a bell; the bell rings in the interface's thread, at most so often a second, and
whoever listens reads the buffer. So neither side ever waits for the other.
"""

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanogpt import paths
from nanogpt.config import Config, resolve
from nanogpt.errors import UserError
from nanogpt.events import Acknowledged, Event, Finished, Saved
from nanogpt.training import Letter, Mailbox, Save, SetEvalInterval, Stop
from nanogpt.training.mailbox import Portable
from nanogpt_tui.messages import Rung

if TYPE_CHECKING:
    from textual.app import App

    from nanogpt_tui.history import History


def log_file() -> Path:
    """Where unexpected errors are written with their traceback."""
    return paths.data_home() / "tui.log"


def write_log(error: BaseException) -> str:
    """Appends the traceback to the log file and returns the one line that a screen shows."""
    what = str(error).partition("\n")[0] or type(error).__name__
    try:
        log_file().parent.mkdir(parents=True, exist_ok=True)
        with log_file().open("a", encoding="utf-8") as file:
            file.write(time.strftime("%Y-%m-%d %H:%M:%S\n") + "".join(traceback.format_exception(error)) + "\n")
    except OSError:
        return f"unexpected {type(error).__name__}: {what} (and the log file {log_file()} cannot be written)"
    return f"unexpected {type(error).__name__}: {what}; details in {log_file()}"


class Bell:
    """Calls `listener` in the interface's thread after `pull`s in any thread, at most `per_second` times a second."""

    def __init__(self, app: "App[Any]", listener: Callable[[], None], per_second: float) -> None:
        self._app, self._listener, self.interval_s = app, listener, 1 / per_second
        self._pulled = self._armed = False
        self._lock = threading.Lock()

    def pull(self) -> None:
        with self._lock:
            self._pulled = True
            if self._armed:
                return
            self._armed = True
        self._post()

    def ring(self) -> None:
        """In the interface's thread: tells the listener, and is deaf for an interval."""
        with self._lock:
            self._pulled = False
        self._app.set_timer(self.interval_s, self._rearm)
        self._listener()

    def _rearm(self) -> None:
        with self._lock:
            self._armed = self._pulled
        if self._armed:
            self._post()

    def _post(self) -> None:
        try:
            self._app.post_message(Rung(self))
        except RuntimeError:  # the interface has gone already
            self._armed = False


class Job:
    """One piece of work in its own thread. Made by the session.

    `take()` hands out the events that came since the last call. When `done`, `error` is None, or the one line to show.
    """

    def __init__(self, work: Callable[[], Iterator[Event]], bell: Bell | None = None, name: str = "job") -> None:
        self.name = name
        self.done = False
        self.cancelled = False
        self.error: str | None = None
        self._events: deque[Event] = deque()
        self._work, self._bell = work, bell
        self._thread = threading.Thread(target=self._run, name=f"nanogpt-{name}", daemon=True)

    def start(self) -> "Job":
        self._thread.start()
        return self

    def cancel(self) -> None:
        """Ends the work at its next event; what was half done leaves nothing half written. Does not wait."""
        self.cancelled = True

    def take(self) -> list[Event]:
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events

    def wait(self, timeout_s: float | None = None) -> None:
        self._thread.join(timeout_s)

    def heard(self, event: Event) -> None:
        """In the worker's thread: keeps the event for whoever takes it."""
        self._events.append(event)

    def _run(self) -> None:
        events: Iterator[Event] | None = None
        try:
            events = self._work()
            for event in events:
                if self.cancelled:
                    break
                self.heard(event)
                self._pull()
        except UserError as error:
            self.error = str(error)
        except BaseException as error:
            self.error = write_log(error)
        finally:
            if events is not None and hasattr(events, "close"):
                events.close()
            self.ended()
            self.done = True
            self._pull()

    def ended(self) -> None:
        """In the worker's thread, once, when no more events will come."""

    def _pull(self) -> None:
        if self._bell is not None:
            self._bell.pull()


class Training(Job):
    """A training run: its events go into `history`."""

    def __init__(
        self, work: Callable[[], Iterator[Event]], bell: Bell, history: "History", mailbox: Mailbox, config: Config
    ) -> None:
        super().__init__(work, bell, "training")
        self.history, self.mailbox = history, mailbox
        self.eval_interval = config.evaluation.eval_interval
        self.asked: deque[Letter] = deque()  # in the mailbox, and not obeyed yet
        self.saving = False

    def tell(self, letter: Letter) -> None:
        self.asked.append(letter)
        self.mailbox.drop(letter)

    def heard(self, event: Event) -> None:
        if isinstance(event, Acknowledged) and self.asked and type(self.asked[0]).__name__ == event.letter:
            letter = self.asked.popleft()
            if isinstance(letter, SetEvalInterval):
                self.eval_interval = letter.iterations
            elif isinstance(letter, Save) or (isinstance(letter, Stop) and letter.save):
                self.saving = event.text != "saved already"
        elif isinstance(event, Saved | Finished):
            self.saving = False
        self.history.add(event)

    def ended(self) -> None:
        if self.error is not None:
            self.history.fail(self.error)
        elif self.history.running:
            self.history.fail("training was cut off")


class Watching(Job):
    """A run that another process trains: its events go into `history` as they are recorded."""

    def __init__(self, folder: Path, bell: Bell, history: "History") -> None:
        def work() -> Iterator[Any]:
            from nanogpt import runs

            return runs.follow(folder)

        super().__init__(work, bell, "watching")
        self.history = history

    def heard(self, event: Any) -> None:
        if isinstance(event, Event):  # and not that all is quiet
            self.history.add(event)

    def ended(self) -> None:
        if self.error is not None:
            self.history.fail(self.error)
        elif self.history.running:
            self.history.state = "interrupted"
            self.history.version += 1


class Session:
    """What the app is doing and has done. `changed` is called in the interface's thread when the training has news.

    `history` is the run that the Train screen shows: the one being trained, else the one looked at last.
    """

    def __init__(
        self, app: "App[Any]", changed: Callable[[], None], *, runs_dir: str | None = None, per_second: float = 4.0
    ) -> None:
        self._app = app
        self._bell = Bell(app, changed, per_second)
        self._pace = 1.0
        self.runs_dir = runs_dir
        self.training: Training | None = None
        self.watching: Watching | None = None
        self.folder: Path | None = None
        self.history: History | None = None

    def spare(self, per_second: float, sparing: bool) -> None:
        """How often at most `changed` is called; and, `sparing`, all other work is heard of a fifth as often."""
        self._bell.interval_s, self._pace = 1 / per_second, 0.2 if sparing else 1.0

    @property
    def is_training(self) -> bool:
        return self.training is not None and not self.training.done

    @property
    def is_steered(self) -> bool:
        """Whether `tell` reaches a trainer, here or in another process."""
        watched = self.watching is not None and not self.watching.done
        return self.is_training or (watched and self.history is not None and self.history.started is not None)

    def start_training(self, config: Config, folder: Path) -> Training:
        """Trains a new run in `folder` (see `nanogpt.runs.new_folder`). Raises `UserError` while one is trained."""

        def work(mailbox: Mailbox) -> Iterator[Event]:
            from nanogpt import runs

            return runs.start(config, folder, mailbox=mailbox, runs_dir=Path(self.runs_dir) if self.runs_dir else None)

        return self._train(work, folder, config)

    def quick_start(self, changes: Mapping[str, Any]) -> Training:
        """Prepares a small data set and trains a small model. Raises `UserError` for what `changes` has wrong."""
        from nanogpt import runs

        watched = {"sample_interval": 250, "sample_tokens": 200} | dict(changes)
        config = resolve(preset="quickstart", flags=watched).config
        folder = runs.new_folder("quickstart", runs_dir=self.runs_dir)
        return self._train(lambda mailbox: runs.quickstart(folder, changes=watched, mailbox=mailbox), folder, config)

    def resume(self, folder: Path, changes: Mapping[str, Any] | None = None) -> Training:
        """Goes on with a run at its latest checkpoint. Raises `UserError`."""
        from nanogpt.runs.folder import run_config

        def work(mailbox: Mailbox) -> Iterator[Event]:
            from nanogpt import runs

            yield from runs.history(folder)
            yield from runs.resume(folder, changes, mailbox=mailbox)

        return self._train(work, folder, run_config(folder))

    def _train(self, work: Callable[[Mailbox], Iterator[Event]], folder: Path, config: Config) -> Training:
        from nanogpt_tui.history import History

        self._refuse_while_training()
        self._turn_away()
        self.history, self.folder, mailbox = History(folder.name), folder, Mailbox()
        self.training = Training(lambda: work(mailbox), self._bell, self.history, mailbox, config)
        self.training.start()
        self._bell.pull()
        return self.training

    def tell(self, letter: Letter) -> bool:
        """Drops a letter in the mailbox of the training that runs; False where none does. Raises `UserError` where a
        run of another process cannot be reached."""
        if self.is_training and self.training is not None:
            self.training.tell(letter)
            return True
        if self.is_steered and self.folder is not None and isinstance(letter, Portable):
            from nanogpt import runs

            runs.drop_letter(self.folder, letter)
            return True
        return False

    def look_at(self, folder: Path | None = None) -> Job:
        """Shows a recorded run (None: the newest, if there is one) once it is read; the job's `error` says why
        it cannot be. Raises `UserError` while a run is trained."""
        self._refuse_while_training()
        read: list[tuple[Path, History]] = []

        def work() -> Iterator[Event]:
            from nanogpt import runs

            found = folder or next((Path(each.path) for each in runs.list_runs(self.runs_dir)), None)
            if found is not None:
                from nanogpt_tui.history import History, from_events

                state = runs.summary(found).state
                live = state in ("running", "paused")
                read.append(
                    (found, History(found.name) if live else from_events(found.name, runs.history(found), state))
                )
            return iter(())

        def done() -> None:
            if read and not self.is_training:
                self._turn_away()
                self.folder, self.history = read.pop()
                self.training = None
                if self.history.running:
                    self.watching = Watching(self.folder, self._bell, self.history)
                    self.watching.start()
                self._bell.pull()

        return self.work(work, done, name="look")

    def _turn_away(self) -> None:
        """No longer watches another process's run."""
        if self.watching is not None:
            self.watching.cancel()
            self.watching = None

    def _refuse_while_training(self) -> None:
        if self.is_training and self.history is not None:
            raise UserError(f"{self.history.run} is being trained: stop it first")

    def close(self) -> None:
        """Ends the training that runs, with a checkpoint, and waits until it is on disk: for after the app's end."""
        if self.is_training and self.training is not None:
            self.training.tell(Stop(save=True))
            self.training.wait()

    def prepare(self, recipe: Any, on_change: Callable[[], None], **options: Any) -> Job:
        """Prepares a data set (a recipe or its name; options of `nanogpt.data.prepare`). `job.cancel()` cancels."""

        def work() -> Iterator[Event]:
            from nanogpt import data

            return data.prepare(recipe, **options)

        return self.work(work, on_change, name="prepare")

    def sample(
        self, model: Callable[[], Any], prompt: str, knobs: Callable[[], Any], on_change: Callable[[], None]
    ) -> Job:
        """Streams Token and Stopped events. `model()` is called in the worker's thread and gives a `LoadedModel`
        (`lambda: runs.load_model(name, "best")`); `knobs()` is asked before each token for a `SamplingConfig`."""

        def work() -> Iterator[Event]:
            from nanogpt import sampling

            loaded = model()
            return sampling.generate(loaded.model, loaded.tokenizer, prompt, knobs)

        return self.work(work, on_change, per_second=20, name="sample")

    def work(
        self,
        work: Callable[[], Iterator[Event]],
        on_change: Callable[[], None],
        per_second: float = 8,
        name: str = "job",
    ) -> Job:
        """Runs any iterator of events in a thread; `on_change` is called in the interface's thread after events and at
        the end."""
        return Job(work, Bell(self._app, on_change, per_second * self._pace), name).start()
