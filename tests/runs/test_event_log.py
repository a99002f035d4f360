"""The record read in blocks: columns of steps, the other events, and what cannot be read."""

import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanogpt.events import Event, LayerHealth, Notice, Saved, Started, Step, to_json
from nanogpt.runs import event_log
from nanogpt.runs.event_log import Steps, parse_block, preview, read_blocks
from tests.made_events import started, stepped
from tests.narrowing import expect

NAME = Path("events.jsonl")


def lines(*events: Event) -> bytes:
    return "".join(to_json(event) + "\n" for event in events).encode()


def saved(step: int) -> Saved:
    return Saved(step=step, path="p", is_best=True, stall_s=0.0)


def test_consecutive_steps_come_together_and_all_else_in_its_place() -> None:
    events = [started(), stepped(1), stepped(2), saved(2), stepped(3)]
    first, steps, save, last = parse_block(lines(*events), NAME)
    assert (first, save) == (events[0], events[3])
    assert isinstance(steps, Steps)
    assert isinstance(last, Steps)
    assert [steps.columns[name].tolist() for name in ("step", "loss", "tokens")] == [[1, 2], [1.0, 1.0], [8, 16]]
    assert (steps.last, last.last) == (events[2], events[4])
    assert all(math.isnan(value) for value in steps.columns["mfu"]), "None, where the peak is not known"


def test_a_measurement_of_the_layers_does_not_cut_the_steps_and_only_the_asked_fields_are_read() -> None:
    figures: dict[str, Any] = dict.fromkeys((each.name for each in dataclasses.fields(LayerHealth)), ())
    measured = LayerHealth(**figures | {"time": 0.0, "step": 2, "clipped": None, "layers": ("a",)})
    save = saved(3)
    steps, *others = parse_block(lines(stepped(1), stepped(2), measured, stepped(3), save), NAME, ("step",))
    assert isinstance(steps, Steps)
    assert {name: column.tolist() for name, column in steps.columns.items()} == {"step": [1, 2, 3]}
    assert steps.last.step == 3
    assert others == [measured, save]


def test_values_that_json_has_no_number_for_are_numbers_again() -> None:
    (steps,) = parse_block(lines(*(stepped(1, loss) for loss in (math.nan, math.inf, -math.inf, 2.0))), NAME)
    assert isinstance(steps, Steps)
    assert str(steps.columns["loss"].tolist()) == "[nan, inf, -inf, 2.0]"


@pytest.mark.parametrize(
    "odd",
    [
        *(b'{"event":"Ste\n', b"\0\0\0\n", b'{"event":"Later","x":1}\n', b"[1]\n", b"1,2\n", b'{"step":1}\n', b"\n"),
        *(b'{"event":"Step","step":"one"}\n', b'{"event":"Step"}\n', b'{"event":["Step"]}\n', b"[" * 3000 + b"\n"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_hides_no_other(odd: bytes) -> None:
    before, notice, after = parse_block(lines(stepped(1)) + odd + lines(stepped(2)), NAME)
    assert isinstance(notice, Notice)
    assert "events.jsonl cannot be read" in notice.text
    assert [expect(Steps, each).last.step for each in (before, after)] == [1, 2]


def test_two_broken_lines_that_would_be_whole_together_are_broken() -> None:
    found = list(parse_block(b'{"event":"Step","text":"a\nb"}\n', NAME))
    assert [type(each) for each in found] == [Notice, Notice]


def test_a_whole_file_is_read_in_blocks_without_its_torn_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "BLOCK", 1000)
    path = tmp_path / "events.jsonl"
    path.write_bytes(lines(started(), *map(stepped, range(1, 501))) + b'{"event":"St')
    first, *blocks = read_blocks(path)
    assert isinstance(first, Started)
    steps = [step for block in blocks if isinstance(block, Steps) for step in block.columns["step"]]
    assert steps == list(range(1, 501))
    assert list(read_blocks(tmp_path / "none")) == []


def test_a_line_of_another_writer_with_spaces_and_without_what_came_later_is_read() -> None:
    fields = {"event": "Step"} | dataclasses.asdict(stepped(7))
    del fields["data_share"]
    (steps,) = parse_block(json.dumps(fields).encode() + b"\n", NAME)
    assert isinstance(steps, Steps)
    assert steps.columns["data_share"].tolist() == [0.0]
    assert steps.last.step == 7


def test_a_preview_is_a_few_steps_over_the_whole_length_and_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(lines(started(), *map(stepped, range(1, 5001))))
    assert preview(path) is None, "a small one is read in a moment"
    monkeypatch.setattr(event_log, "LARGE", 100_000)
    found = preview(path, points=100)
    assert found is not None
    steps = found.columns["step"].tolist()
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1], found.last.step) == (1, 5000, 5000)
    assert 100 <= len(steps) <= 100 + 64
    gaps = [after - before for before, after in pairwise(steps)]
    assert max(gaps) <= 2 * 5000 / 100


def test_a_preview_of_a_resumed_run_has_what_was_done_again_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "LARGE", 100_000)
    path = tmp_path / "events.jsonl"
    again: list[Event] = [started(1000), *(stepped(number, 9.0) for number in range(1001, 3001))]
    path.write_bytes(lines(started(), *map(stepped, range(1, 2001)), *again))
    found = preview(path, points=200)
    assert found is not None
    steps, losses = found.columns["step"].tolist(), found.columns["loss"].tolist()
    assert steps == sorted(set(steps))
    # As the file is sampled, of what was undone there may be a point left before the first one that was done again.
    assert all(loss == 9.0 for step, loss in zip(steps, losses, strict=True) if step > 1000 + 2 * 4000 / 200)
    assert isinstance(found.last, Step)


def test_a_preview_of_a_slow_disk_has_the_first_and_the_last_steps_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "LARGE", 100_000)
    clock = iter(range(1000))
    monkeypatch.setattr(event_log, "time", SimpleNamespace(monotonic=lambda: 0.06 * next(clock)))  # seconds a place
    path = tmp_path / "events.jsonl"
    path.write_bytes(lines(started(), *map(stepped, range(1, 5001))))
    found = preview(path)
    assert found is not None
    steps = found.columns["step"].tolist()
    # three places in 0.2 s, which halve the file, and those in the last 4096 bytes
    assert steps[:3] == pytest.approx([1, 1250, 2500], abs=30), "the first lines are shorter"
    assert steps[-1] == 5000
    assert len(steps) < 3 + 64
