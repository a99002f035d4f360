"""The progress of the learner: what is done stays done, and a damaged file loses nothing else."""

from pathlib import Path

import pytest

from nanogpt.errors import UserError
from nanogpt.learn import progress


def test_lessons_stay_done(home: Path) -> None:
    assert progress.load() == progress.Progress(frozenset())
    progress.mark_done("tokens")
    progress.mark_done("one_step")
    progress.mark_done("tokens")
    assert progress.load().done == {"tokens", "one_step"}


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 40, b"[1]", b'{"done": 3}', b'{"done": [3]}', b"{}", b"\xff", b"[" * 9999]
)
def test_a_damaged_file_is_said_once_and_replaced(home: Path, content: bytes) -> None:
    path = progress.progress_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    found = progress.load()
    assert found.done == frozenset()
    assert str(path) in found.problem
    assert "\n" not in found.problem
    assert found.problem.endswith("all lessons count as not done")
    progress.mark_done("tokens")
    assert progress.load() == progress.Progress(frozenset({"tokens"}))


def test_a_file_that_cannot_be_written_is_one_line(home: Path) -> None:
    home.write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot save the progress in"):
        progress.mark_done("tokens")
