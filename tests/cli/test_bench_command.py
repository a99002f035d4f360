"""`nanogpt bench`: the figures for this machine, what they are measured against, and the choices behind them."""

import json
import tempfile
from contextlib import closing

import pytest

from nanogpt import data, runs
from nanogpt.cli import main
from nanogpt.config import resolve
from nanogpt.events import Benchmark, Measuring, Step
from nanogpt.runs import benchmark
from tests.narrowing import expect

FEW = ["--steps=3", "--burn_in=1"]


@pytest.fixture(autouse=True)
def _in_short(monkeypatch):
    monkeypatch.setattr(benchmark, "SAMPLING_S", 0.05)
    monkeypatch.setattr(benchmark, "PREPARED_BYTES", 1 << 20)


@pytest.fixture
def benched(dataset, tmp_path, monkeypatch):
    """The events of a benchmark of a tiny model, and the folder that it may use meanwhile."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    flags = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "device": "cpu", "compile": "false"}
    config = resolve(flags=flags).config
    return runs.run_benchmark(config, data.open_dataset(dataset), burn_in=2, steps=4), tmp_path


def test_the_figures_agree_with_each_other_and_nothing_is_left_on_the_disk(benched):
    events, folder = benched
    *progress, figures = events
    assert isinstance(figures, Benchmark)
    assert [event.step for event in progress if isinstance(event, Step)] == [1, 2, 3, 4, 5, 6]
    whats = [event.what for event in progress if isinstance(event, Measuring)]
    assert whats == ["sampling", "sampling 32 at once", "preparing"]
    assert figures.iterations == 4
    assert list(figures.parts_ms) == ["data", "forward", "backward", "optimizer"]
    assert all(ms > 0 for ms in figures.parts_ms.values())
    assert sum(figures.parts_ms.values()) <= figures.ms_per_iteration
    assert figures.tokens_per_second == pytest.approx(figures.tokens_per_iteration / figures.ms_per_iteration * 1000)
    for rate in (
        figures.sampling_tokens_per_second,
        figures.sampling_together_tokens_per_second,
        figures.preparation_mb_per_second,
    ):
        assert expect(float, rate) > 0
    assert not list(folder.glob("nanogpt-*"))
    assert runs.list_runs() == []


def test_it_can_be_cancelled_at_any_event(benched):
    events, folder = benched
    with closing(events):
        for event in events:
            if isinstance(event, Measuring) and event.what == "preparing":
                break
    assert not list(folder.glob("nanogpt-*"))


def test_the_table_says_the_split_the_choices_and_the_peak(small, capsys):
    assert main(["bench", *small, *FEW]) == 0
    lines = {line[:14].strip(): line[14:] for line in capsys.readouterr().out.splitlines()}
    assert lines["on"] == "cpu in float32"
    assert "dtype" not in lines, "it was set, not chosen"
    assert "%" in lines["backward"]
    assert "TFLOP/s in float32 (products of matrices, timed here)" in lines["MFU"]
    assert lines["32 at once"].endswith("tokens/s")
    assert lines["preparing"].endswith("MB/s as char")


def test_json_has_every_figure(small, capsys):
    assert main(["bench", *small, *FEW, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    sampling = figures["choices"].pop("sampling")
    assert sampling.startswith("in float32: ")
    assert figures["choices"] == {}
    assert figures["mfu"] > 0  # a peak that is measured on a busy machine may be far too low
    assert figures["peak_from"]


def test_no_iterations_at_all_are_refused(small, capsys):
    assert main(["bench", *small, "--steps=0"]) == 2
    assert "steps" in capsys.readouterr().err
