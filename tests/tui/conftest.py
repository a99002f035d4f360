"""What the app's tests have: a small recipe, and settings that make the quick start a matter of a second."""

import asyncio
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from importlib.metadata import EntryPoint
from pathlib import Path
from shutil import copytree
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import pyte
import pytest
from textual._compositor import Compositor
from textual.events import Key, Paste
from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.screen import Screen
from textual.strip import Strip

from nanogpt import data, registry, runs
from nanogpt.config import ARCHITECTURE, component_settings, loadable_names
from nanogpt.config.settings import _settings
from nanogpt.errors import UserError
from nanogpt.events import Downloading
from nanogpt_tui.app import LabApp
from nanogpt_tui.settings import Settings, load
from nanogpt_tui.terminal import input_queue

RECIPE = """
title = "Rhymes"
description = "A small text"
licence = "CC0-1.0"
tokenizer = "char"

[splits]
val_ratio = 0.1
test_ratio = 0.0

[source]
kind = "files"
paths = ["{path}"]
"""

SMALL: dict[str, Any] = {
    "dataset": "rhymes",
    "architecture": "gpt2",
    "optimizer": "adamw",
    "learning_rate": 3e-3,
    "keep_checkpoints": 0,
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 16,
    "batch_size": 4,
    "max_iters": 60,
    "eval_interval": 20,
    "eval_iters": 2,
    "sample_interval": 20,
    "sample_tokens": 12,
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture
def rhymes(home: Path, text_file: Path) -> dict[str, Any]:
    """A recipe of the person's own, not prepared yet; returns quick start settings that train on it."""
    folder = home / "config" / "datasets"
    folder.mkdir(parents=True)
    (folder / "rhymes.toml").write_text(RECIPE.format(path=text_file), encoding="utf-8")
    return SMALL


@pytest.fixture(autouse=True)
def local_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A usual terminal on this machine, whatever the tests are started from."""
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture(autouse=True)
def unpainted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No frames are drawn in this process, which has no terminal to show them: they took a third of the time.

    `Lab.seen` draws the screen when a test looks at it. A test about the frames themselves is marked `painted`.
    """
    if request.node.get_closest_marker("painted") is None:
        monkeypatch.setattr(Compositor, "render_update", forget_frame)
        monkeypatch.setattr(Compositor, "render_partial_update", forget_frame)


class Frame(NamedTuple):
    """What a screen shows."""

    strips: list[Strip]
    text: str


# Each screen since it changed last: a test that waits looks many times a second.
_frames: WeakKeyDictionary[Compositor, Frame] = WeakKeyDictionary()


def forget_frame(compositor: Compositor, **options: Any) -> None:
    """Do nothing instead of drawing a frame."""
    compositor._dirty_regions.clear()
    _frames.pop(compositor, None)


def frame(screen: Screen[Any]) -> Frame:
    """Draw a screen, unless it has not changed since it was drawn last and `forget_frame` says when it does."""
    compositor = screen._compositor
    if compositor._dirty_regions or screen._dirty_widgets or screen._layout_required:
        _frames.pop(compositor, None)
    if (drawn := _frames.get(compositor)) is None:
        strips = compositor.render_strips()
        drawn = Frame(strips, "\n".join("".join(segment.text for segment in strip) for strip in strips))
        if Compositor.__dict__["render_update"] is forget_frame:
            _frames[compositor] = drawn
    return drawn


class Lab:
    """The running app, and what a test does with it."""

    def __init__(self, app: LabApp, pilot: "Pilot[int]") -> None:
        self.app, self.pilot, self.session = app, pilot, app.session

    async def press(self, *keys: str) -> None:
        """Presses keys one after another. Unlike the pilot's, this does not wait for an idle processor, which there is
        not while a model is trained."""
        for key in keys:
            letter = key if len(key) == 1 else None
            self.app.post_message(Key(_character_to_key(key) if letter else key, letter))
            await self.settle()
        await self.rest(0.05)

    async def paste(self, text: str) -> None:
        """Puts a text into the field in focus at once, where it is not about the keys."""
        self.app.post_message(Paste(text))
        await self.settle()
        await self.rest(0.05)

    async def settle(self) -> None:
        """Waits until all that was pressed up to now is obeyed and drawn, however slow the machine is."""
        if self.app.is_running:
            await self.app.input.join()
        if self.app.is_running:
            await self.pilot.pause(0)

    async def rest(self, seconds: float) -> None:
        """Sleeps, and then lays the screen out if that is due. `pilot.pause` sends every widget a message besides."""
        await asyncio.sleep(seconds)
        if self.app.is_running:
            self.app.screen._on_timer_update()

    async def until(self, condition: Callable[[], object], timeout_s: float = 60) -> None:
        """Waits until `condition()` holds, and a repaint after it."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"not within {timeout_s} s; the screen shows:\n{self.seen()}"
            await self.rest(0.05)
        await self.rest(0.1)
        await self.settle()

    async def sees(self, *words: str) -> None:
        """Waits until all of these are on the screen."""

        def seen() -> bool:
            screen = self.seen()
            return all(each in screen for each in words)

        await self.until(seen)

    def seen(self) -> str:
        """The characters on the screen."""
        return frame(self.app.screen).text

    def saved(self) -> Settings:
        """The settings in the file, which a thread writes."""
        self.session.finish_writing()
        return load()


@pytest.fixture
def lab(rhymes: dict[str, Any]) -> Callable[..., AbstractAsyncContextManager[Lab]]:
    """Opens the app on an empty home; keyword arguments change the quick start. Training ends with it."""

    @asynccontextmanager
    async def opened(size: tuple[int, int] = (120, 40), **changes: Any) -> AsyncIterator[Lab]:
        app = LabApp(Settings(quickstart=rhymes | changes, repaints_per_second=20))
        try:
            async with app.run_test(size=size, notifications=True) as pilot:
                at = Lab(app, pilot)
                await at.until(lambda: app.screen_stack and app.screen.is_mounted)
                yield at
        finally:
            app.session.close()
            stop_watching(app)

    return opened


@pytest.fixture
def looking(home: Path) -> Callable[..., AbstractAsyncContextManager[Lab]]:
    """Opens the app as `nanogpt-tui watch FOLDER` does."""

    @asynccontextmanager
    async def opened(folder: Path, **options: Any) -> AsyncIterator[Lab]:
        app = LabApp(Settings(repaints_per_second=20), watched=folder, **options)
        try:
            async with app.run_test(size=(120, 40), notifications=True) as pilot:
                await pilot.pause()
                yield Lab(app, pilot)
        finally:
            stop_watching(app)

    return opened


def stop_watching(app: LabApp) -> None:
    """Ends the thread that follows a run, which would go on until the end of the process, in other tests."""
    if app.session.remote is not None:
        app.session.remote.cancel()


@pytest.fixture(autouse=True)
def _keys_wait_until_a_screen_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes on a busy machine."""
    monkeypatch.setattr(input_queue, "READY_TIMEOUT_S", 30.0)


@pytest.fixture
def slow_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each preparation of a data set download from a server that takes longer than a test waits."""

    def prepare(*_: Any, **options: Any) -> Iterator[Downloading]:
        for _number in range(10_000):  # 100 s
            time.sleep(0.01)
            yield Downloading(source="a slow server", done_bytes=1, total_bytes=None)

    monkeypatch.setattr(data, "prepare", prepare)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    """A folder of two finished runs, "one" (checkpoints at 20, 40 and 60) and "two" (a checkpoint at 20): to copy."""
    from nanogpt.config import resolve

    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.txt").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_CACHE_DIR", str(folder / "cache"))
        for _ in data.prepare(data.textfile_recipe([folder / "small.txt"], name="rhymes"), data_dir=folder / "data"):
            pass
        for name, changes in {"one": {"checkpoint_interval": 20}, "two": {"max_iters": 20, "n_layer": 2}}.items():
            config = resolve(flags=SMALL | {"compile": "false"} | changes).config
            for _ in runs.start(config, folder / "runs" / name, data_dir=folder / "data"):
                pass
    return folder / "runs"


@pytest.fixture
def two_runs(trained: Path, home: Path) -> Path:
    """The two runs in the person's own folder of runs; "two" changed last."""
    copytree(trained, home / "runs")
    return home / "runs"


@pytest.fixture
def broken_architecture(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an architecture of an installed package that cannot be loaded."""
    found = registry._found

    def found_too(kind: registry.Registry) -> Mapping[str, Any]:
        if kind is not ARCHITECTURE.registry:
            return found(kind)
        return {**found(kind), "broken": EntryPoint("broken", "no_such_package:Config", kind.group)}

    def forget() -> None:
        for known in (loadable_names, component_settings, _settings):
            known.cache_clear()

    monkeypatch.setattr(registry, "_found", found_too)
    forget()
    yield "broken"
    forget()


def kill_trainer(run: Path) -> None:
    """Kill the process that trains the run, if there is one and it is not this process."""
    with suppress(UserError, ProcessLookupError):
        about = runs.summary(run)
        if about.alive and about.pid > 0 and about.pid != os.getpid():  # 0 before its first status: the process group
            os.kill(about.pid, signal.SIGKILL)


class Terminal:
    """A program in a pseudo-terminal, and what its screen shows."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int, columns: int, rows: int) -> None:
        self.process, self._master = process, master
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)

    def press(self, keys: str) -> None:
        self.send(keys.encode())

    def send(self, data: bytes) -> None:
        os.write(self._master, data)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows, columns)
        self.process.send_signal(signal.SIGWINCH)  # which the kernel sends to a terminal's own processes alone

    def text(self) -> str:
        return "\n".join(self._screen.display)

    @property
    def modes(self) -> set[int]:
        """The numbers of the private modes that are on."""
        return {mode >> 5 for mode in self._screen.mode if mode >> 5}  # as pyte keeps them

    def read(self, seconds: float) -> None:
        ready, _, _ = select.select([self._master], [], [], seconds)
        if ready:
            try:
                # pyte 0.8 takes the "<" of private sequences for text: the terminal only ever gets them as modes
                data = os.read(self._master, 65536)
                self._stream.feed(re.sub(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]", b"", data))
            except OSError:  # the program has gone
                time.sleep(seconds)

    def until(self, condition: Callable[[str], Any], timeout_s: float = 60) -> str:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            self.read(0.1)
            if condition(self.text()):
                return self.text()
        raise AssertionError(f"not within {timeout_s} s; the terminal shows:\n{self.text()}")

    def close(self) -> None:
        """Takes the terminal away, as a connection that drops does."""
        os.close(self._master)
        self._master = os.open(os.devnull, os.O_RDWR)

    def wait(self, timeout_s: float = 60) -> int:
        end = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.1)
        return self.process.wait(1)


@contextmanager
def opened_terminal(
    columns: int, rows: int, *words: str, command: list[str] | None = None, term: str = "xterm-256color"
) -> Iterator[Terminal]:
    """`nanogpt-tui WORDS` in a terminal of that size; or `command`, as the first process of a session whose terminal it
    is."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        command or [sys.executable, "-m", "nanogpt_tui", *words],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if command else None,
        env={**os.environ, "TERM": term},
    )
    os.close(slave)
    screen = Terminal(process, master, columns, rows)
    try:
        yield screen
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(screen._master)


@pytest.fixture
def terminal() -> Callable[..., AbstractContextManager[Terminal]]:
    return opened_terminal
