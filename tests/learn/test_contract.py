"""What every experiment keeps to: figures of plain values, the same for a seed, in small parts, alone in its corner."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from nanogpt.learn.experiment import Experiment, create, names
from nanogpt.learn.figures import Bars, Curves, Figures, HeatMap, Pieces, Table, Update, to_json
from tests.lessons import prepare_text

# Settings with which an experiment takes a second; the keys and lines that use all of it.
SMALL: dict[str, dict[str, Any]] = {
    "attention": {"n_head": 2, "n_embd": 16, "steps": 4, "batch_size": 4},
    "cut_text": {"merges": 20, "characters": 5000},
    "depth": {"n_embd": 16, "steps": 2, "tokens": 64, "rungs": "bigram,residual"},
    "embedding_map": {"steps": 20, "interval": 10},
    "guess_next": {"order": 3, "characters": 3},
    "learning_rates": {"steps": 20, "n_layer": 1, "n_embd": 16},
    "overfitting": {"n_embd": 16, "steps": 4, "characters": 400, "batch_size": 2},
    "sampling": {"steps": 8, "batch_size": 2},
    "scale": {"largest": 16, "steps": 3, "batch_size": 2},
    "training_step": {"n_embd": 16, "warm_up": 3},
}
pytestmark = pytest.mark.slow
RESERVED = {"1", "2", "3", "4", "5", "q", "?", " "}
LONGEST_GAP_S = 0.5  # in which closing the iterator has to be noticed


@pytest.fixture(autouse=True)
def shakespeare(tmp_path: Path, text: str) -> None:
    prepare_text(tmp_path, "small", text)


def small(name: str, seed: int = 1337) -> Experiment[Any]:
    return create(name, {**SMALL.get(name, {}), "seed": seed})


@cache
def reference(name: str) -> tuple[Experiment[Any], list[str]]:
    """An experiment that was started, and its updates."""
    experiment = small(name)
    return experiment, [to_json(update) for update in experiment.start()]


def all_of(experiment: Experiment[Any]) -> Iterator[Update]:
    """Start, then do every action once, and type a few lines."""
    yield from experiment.start()
    for action in experiment.actions:
        if action in experiment.actions:
            yield from experiment.act(action.name)
    for line in ("e", "0.01", "a text\x1b[2J é \N{GRINNING FACE}", " ", "x" * 2000):
        if experiment.question:
            yield from experiment.answer(line)


@pytest.mark.parametrize("between", ["", "\n"], ids=["one word", "lines"])
@pytest.mark.parametrize("name", names())
def test_a_text_without_spaces_will_do(name: str, between: str, tmp_path: Path, text: str) -> None:
    prepare_text(tmp_path, "shakespeare_char", between.join(text.split()))
    assert list(all_of(small(name)))


@pytest.mark.parametrize("name", names())
def test_figures_are_plain_and_the_same_for_a_seed_and_the_process_stays_as_it_is(name: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    updates = list(all_of(small(name)))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.get_default_dtype()) == before[1:]
    torch.manual_seed(6)
    assert list(all_of(small(name))) == updates
    figures = [update for update in updates if isinstance(update, Figures)]
    assert all(json.loads(to_json(update))["update"] == type(update).__name__ for update in updates)
    for figure in (figure for update in figures for figure in update.figures):
        match figure:
            case Pieces():
                assert len(figure.pieces) == len(figure.ids)
            case Bars():
                assert all(row.value >= 0 for row in figure.rows)
            case Table():
                assert {len(row) for row in figure.rows} <= {len(figure.header)}
            case Curves():
                for curve in figure.curves:
                    assert len(curve.xs) == len(curve.ys) > 0
                    assert torch.tensor((curve.xs, curve.ys)).isfinite().all()
                    assert not figure.log_x or min(curve.xs) > 0
                    assert not figure.log_y or min(curve.ys) > 0
            case HeatMap():
                assert len(figure.values) == len(figure.row_labels)
                assert {len(row) for row in figure.values} <= {len(figure.column_labels)}


@pytest.mark.parametrize("name", names())
def test_its_keys_are_free_and_nothing_is_offered_twice(name: str) -> None:
    experiment = small(name)
    assert isinstance(experiment.question, str)  # before the start too
    assert isinstance(experiment.actions, tuple)
    experiment, _ = reference(name)
    keys = [action.key for action in experiment.actions]
    assert len(set(keys)) == len(keys)
    assert all(key == "enter" or (len(key) == 1 and key.isprintable()) for key in keys)
    assert not RESERVED & set(keys)
    if experiment.question:
        assert not [key for key in keys if key.isalnum() and key != "enter"], "an answer may be a letter"
    assert all(all(asdict(action).values()) for action in experiment.actions)


@pytest.mark.parametrize("name", names())
def test_it_can_be_cancelled_soon_at_any_time_and_begin_again(name: str) -> None:
    """With its own settings, except for the length: the gaps between updates, and a start after a cancelled one."""
    experiment = create(name)
    began, gaps = time.process_time(), list[float]()
    updates = experiment.start()
    for _ in updates:
        now = time.process_time()  # of this process: other programs do not count
        gaps.append(now - began)
        began = now
        if len(gaps) > 40:
            break
    updates.close()  # type: ignore[attr-defined]
    # the first is left out: it may import torch
    assert max(gaps[1:], default=0.0) < LONGEST_GAP_S, [round(gap, 2) for gap in gaps]
    again = small(name)
    for stop_after in (1, 3):
        part = again.start()
        for _ in range(stop_after):
            next(part, None)
        part.close()  # type: ignore[attr-defined]
    assert [to_json(update) for update in again.start()] == reference(name)[1]


@pytest.mark.parametrize("name", [name for name in names() if name != "cut_text"])
def test_another_seed_gives_other_figures(name: str) -> None:
    assert [*map(to_json, small(name, 2).start())] != reference(name)[1]
