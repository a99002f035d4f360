"""A run is stopped, resumed, renamed, killed and resumed while three look: the app, `watch` and `watch --json`.

`benchmarks/three_watchers.py` does the same with real trainings and measures how long each takes.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomli_w

from nanogpt import runs
from nanogpt.cli.training_display import start_lines
from nanogpt.cli.watch import RunLocation, json_lines, status_notices, watched_events
from nanogpt.config import config_to_toml, resolve
from nanogpt.events import Event, Finished, Notice, Started, to_json
from nanogpt.runs import manage
from nanogpt.runs.state import status_event
from tests.made_events import started, stepped
from tests.programs import load_program


class Watchers:
    """What `watch` and `watch --json` said last of a run, each in a thread."""

    def __init__(self, folder: Path) -> None:
        self.texts: list[str] = []
        self.phases: list[tuple[str, str]] = []
        self._ended = threading.Event()
        self._watch(watched_events(folder, True, RunLocation(folder)), self._text)
        self._watch(json_lines(folder, True, RunLocation(folder)), self._record)

    def _watch(self, items: Iterable[Any], receive: Callable[[Any], None]) -> None:
        def work() -> None:
            for item in items:
                if self._ended.is_set():
                    return
                receive(item)

        threading.Thread(target=work, daemon=True).start()

    def _text(self, event: Event) -> None:
        if isinstance(event, Started):
            self.texts += start_lines(event)
        elif isinstance(event, Notice):
            self.texts.append(event.text)

    def _record(self, text: str) -> None:
        for status_line in text.splitlines():
            fields = json.loads(status_line)
            if fields["event"] == "Status":
                self.phases.append((fields["run"], fields["phase"]))

    def close(self) -> None:
        self._ended.set()


async def test_three_watchers_agree_with_the_folder(home: Path, looking: Callable[..., Any]) -> None:
    folder = home / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text(tomli_w.dumps(config_to_toml(resolve().config)), encoding="utf-8")
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()

    def record(*events: Event) -> None:
        with (folder / "events.jsonl").open("a", encoding="utf-8") as log:
            log.writelines(to_json(event) + "\n" for event in events)

    def beat(state: str, pid: int) -> None:
        about = {"state": state, "step": 3, "max_iters": 100, "updated": time.time(), "pid": pid}
        partial = folder / ".status"
        partial.write_text(json.dumps(about | {"host": socket.gethostname()}), encoding="utf-8")
        partial.replace(folder / "status.json")

    def stop() -> None:
        record(Finished(step=3, reason="stopped", train_loss=1.0, val_loss=None, best_val_loss=None, elapsed_s=1.0))
        beat("stopped", dead.pid)

    def resume() -> None:
        record(started(1), stepped(2), stepped(3))
        beat("running", os.getpid())

    def rename() -> None:
        nonlocal folder
        folder = manage.rename(folder, "two")

    resume()
    watchers = Watchers(folder)
    try:
        async with looking(folder) as at:
            await at.until(lambda: at.session.history and at.session.history.reading is None)
            await at.until(lambda: ("one", "training") in watchers.phases and watchers.texts)
            for act, phase, mark, words in (
                (stop, "stopped", "■", "stopped at step 3"),
                (resume, "training", "●", "resuming at step 1"),
                (stop, "stopped", "■", "stopped at step 3"),
                (rename, "stopped", "■", "the run is now named two"),
                (resume, "training", "●", "resuming at step 1"),
                (lambda: beat("running", dead.pid), "interrupted", "!", "its process is gone"),
                (resume, "training", "●", "resuming at step 1"),
            ):
                watchers.texts.clear()
                act()
                about = runs.summary(folder)
                assert about.phase == phase
                await at.sees(f"{mark} {about.name}")
                await at.until(lambda about=about: watchers.phases[-1] == (about.name, about.phase))
                await at.until(lambda words=words: any(words in text for text in watchers.texts))
                assert (at.session.history.run, at.session.history.phase) == (about.name, about.phase)
    finally:
        watchers.close()
        stop()  # what they see next, and end


def test_the_benchmark_understands_that_a_run_was_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    kills: Any = ModuleType("kills")  # the other benchmark, which sets the threads of the whole process
    kills.command = None
    monkeypatch.setitem(sys.modules, "kills", kills)
    benchmark = load_program(Path(__file__).parents[2] / "benchmarks" / "three_watchers.py")
    before, now = (status_event(runs.RunState(name, f"/runs/{name}", "stopped")) for name in ("one", "two"))
    (notice,) = status_notices(before, now)
    assert benchmark.of_text(notice.text, ("one", "stopped")) == ("two", "stopped")
