"""A run that ended early: what is shown, and how it is resumed."""

import pytest

from nanogpt import runs
from nanogpt.cli import main
from nanogpt.errors import UserError
from nanogpt.events import Finished

STILL = {"learning_rate": 1e-12, "min_lr": 0, "patience": 1, "min_delta": 0.01}  # it ends at the second evaluation


def test_it_is_finished_and_the_reason_is_shown(small, capsys):
    folder = runs.new_folder("run", name="one")
    list(runs.start(small(**STILL), folder))
    assert runs.summary(folder).state == "finished"
    assert main(["info", str(folder)]) == 0
    assert "finished: ended early: no better validation loss in 1 evaluation; the best is" in capsys.readouterr().out


def test_it_resumes_with_a_higher_patience_only(small):
    folder = runs.new_folder("run", name="one")
    list(runs.start(small(**STILL), folder))
    with pytest.raises(UserError, match=r"ended at step 4 after 1 evaluation .*patience=1\): pass a higher --patience"):
        list(runs.resume(folder))
    *_, finished = runs.resume(folder, {"patience": 2})
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.step) == ("patience", 8)
    *_, finished = runs.resume(folder, {"patience": 0})
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.step) == ("max_iters", 12)
