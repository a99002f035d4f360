"""What every test has: folders of its own instead of the person's, and a small text; and which tests are slow."""

import ctypes
import errno
import fcntl
import gc
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from nanogpt import processes
from nanogpt.hardware import peak
from tests import forked

settings.register_profile("any-machine", deadline=None)  # a busy machine is slow, and that is no failure
settings.load_profile("any-machine")

# Two threads on every machine, also in the processes that tests start: float sums depend on how work is split.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# They sleep while they wait for one another: where others want the processor too, spinning makes a step take seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
gc.set_threshold(100_000, 50, 1000)  # torch and Textual are many objects: looking through them took a sixth of the time
peak.MEASURE_S = 0.0  # every training measures the CPU: one small product is enough for a test


# Folders of tests that run whole commands, whole trainings or the app, or import transformers, which takes seconds.
SLOW = {"cli", "interop", "runs", "tui"}


def is_slow(path: Path) -> bool:
    """Return whether a folder or file of tests is in a slow folder, or is one."""
    return any(path.is_relative_to(Path(__file__).parent / folder) for folder in SLOW)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import the slow folders where only fast tests are asked for."""
    return True if config.option.markexpr == "not slow" and is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what is in a slow folder; elsewhere a slow test has the mark itself. Snapshots come first."""
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)
    # Two workers share what comes last; what comes first is one worker's, and makes its costly fixture once.
    items.sort(key=lambda item: item.path.name != "test_snapshots.py")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder that holds all that the program keeps for a person: runs, data, cache, config."""
    folder = tmp_path / "home"
    for name in ("RUNS_DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
        monkeypatch.setenv(f"NANOGPT_{name}", str(folder / name.removesuffix("_DIR").lower()))
    monkeypatch.setenv("NANOGPT_HOME", str(folder))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # slow, and only a loss of power would show it
    return folder


@pytest.fixture(autouse=True)
def forked_children(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the child processes of the program from one that has its imports, unless the test is about their start."""
    if "real_children" not in request.keywords:
        monkeypatch.setattr(processes, "start_python", forked.Child)


@pytest.fixture(scope="session")
def text() -> str:
    """Some 40 kB of English-like lines, the same in every session: few characters, words that recur."""
    draw = random.Random(1337)
    syllables = [consonant + vowel for consonant in "bdfhklmnprstw" for vowel in "aeio"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(400)]
    speakers = [word.capitalize() for word in words[:12]]
    lines: list[str] = []
    while sum(map(len, lines)) < 40_000:
        lines.append(f"{draw.choice(speakers)}:")
        for _ in range(draw.randint(1, 4)):
            line = " ".join(draw.choices(words, weights=range(len(words), 0, -1), k=draw.randint(4, 9)))
            lines.append(line.capitalize() + draw.choice(".,;!?"))
        lines.append("")
    return "\n".join(lines)


@pytest.fixture
def text_file(tmp_path: Path, text: str) -> Path:
    """The small text as a UTF-8 file."""
    path = tmp_path / "small.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk has locks."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Makes modes hold for this thread. Root, as which tests may run, reads everything by two capabilities, which are
    put down for a while; nobody else has them."""
    if os.name == "nt" or os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    held = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice 32 bits
    assert libc.capget(header, held) == 0
    fewer = (ctypes.c_uint32 * 6)(*held)
    fewer[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, fewer) == 0
    yield
    assert libc.capset(header, held) == 0
