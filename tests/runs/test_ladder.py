"""The ladder: its rungs are complete configurations, and each is trained and evaluated on the whole split."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from nanogpt import runs
from nanogpt.config import with_settings
from nanogpt.data import open_dataset
from nanogpt.errors import UserError
from nanogpt.events import Event, RungFailed, RungFinished, RungStarted, Started, Step
from nanogpt.models.meta_device import on_meta_device
from nanogpt.training.evaluation import evaluate_split

SMALL = """
[base]
n_embd = 16
n_layer = 1
n_head = 2
block_size = 8
batch_size = 4
dtype = "float32"

[[rung]]
name = "first"
adds = "the start"
source = "here"
settings = { architecture = "mlp", n_hidden = 16, block_size = 1 }

[[rung]]
name = "too-long"
adds = "a window that the text does not have"
source = "here"
settings = { architecture = "gpt2", block_size = 1_000_000 }

[[rung]]
name = "second"
adds = "attention"
source = "here"
settings = { block_size = 8 }
"""


@pytest.fixture
def small_ladder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Event]]:
    path = tmp_path / "ladder.toml"
    path.write_text(SMALL, encoding="utf-8")
    monkeypatch.setattr("nanogpt.runs.ladder.RUNGS", path)
    changes = {"device": "cpu", "threads": 1}
    return lambda dataset, **options: list(runs.climb_ladder(dataset, changes=changes, **options))


def test_each_rung_of_the_ladder_is_another_model_or_training_than_the_one_before() -> None:
    rungs = runs.load_rungs()
    assert [rung.name for rung in rungs][:3] == ["bigram", "mlp", "one-head"]
    assert len({rung.name for rung in rungs}) == len(rungs) == len({repr(rung.config) for rung in rungs})
    assert len({rung.config.tokens_per_iteration for rung in rungs}) == 1
    with on_meta_device():
        for rung in rungs:
            model = with_settings(rung.config, {"vocab_size": 65}).model
            assert model.n_parameters() == model.build().n_parameters(), rung.name


def test_the_rungs_that_are_named_are_taken_from_the_bottom_up_with_all_settings_below_them() -> None:
    (heads, modern), whole = runs.load_rungs(["modern", "heads"]), runs.load_rungs()
    assert (heads, modern) == (next(rung for rung in whole if rung.name == "heads"), whole[-1])
    with pytest.raises(UserError, match=r"^no rung 'bigran'; the rungs are bigram, .*Did you mean bigram\?$"):
        runs.load_rungs(["bigran"])


def test_a_rung_that_fails_is_one_event_and_the_others_are_trained(
    small_ladder: Callable[..., list[Event]], dataset: str
) -> None:
    events = small_ladder(dataset, seconds=0.05)
    of_rungs = [event for event in events if isinstance(event, RungStarted | RungFinished | RungFailed)]
    kinds = [RungStarted, RungFinished, RungStarted, RungFailed, RungStarted, RungFinished]
    assert [type(event) for event in of_rungs] == kinds
    assert [event.name for event in of_rungs[::2]] == ["first", "too-long", "second"]
    failed = next(event for event in events if isinstance(event, RungFailed))
    assert "\n" not in failed.reason
    assert "too few for block_size=1000000" in failed.reason


def test_a_rung_s_figures_are_those_of_its_training_and_of_the_whole_validation_split(
    small_ladder: Callable[..., list[Event]], dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[tuple[float, int]] = []

    def counting(*arguments, **options):
        counts.append((yield from evaluate_split(*arguments, **options)))
        return counts[-1]

    monkeypatch.setattr("nanogpt.training.evaluation.evaluate_split", counting)
    events = small_ladder(dataset, seconds=0.05, names=["second"])
    last = [event for event in events if isinstance(event, Step)][-1]
    started = next(event for event in events if isinstance(event, Started))
    result = next(event for event in events if isinstance(event, RungFinished))
    val_tokens = open_dataset(dataset).meta.tokens["val"]
    assert counts == [(result.loss, val_tokens - 1)]
    assert (result.steps, result.elapsed_s) == (last.step, last.elapsed_s)
    assert result.n_parameters == started.n_parameters
    assert result.tokens_per_second == pytest.approx(last.step * 4 * 8 / last.elapsed_s)
    # the small text is ASCII, and its tokens are characters
    assert result.nats_per_character == pytest.approx(result.loss)
    assert result.bits_per_byte == pytest.approx(result.loss / math.log(2))
    assert not runs.list_runs()


def test_the_same_seed_starts_from_the_same_loss(small_ladder: Callable[..., list[Event]], dataset: str) -> None:
    def first_loss(seed: int) -> float:
        changes = {"device": "cpu", "threads": 1, "seed": seed}
        for event in runs.climb_ladder(dataset, seconds=0.01, names=["second"], changes=changes):
            if isinstance(event, Step):
                return event.loss
        raise AssertionError("no step")

    assert first_loss(1) == first_loss(1) != first_loss(2)
