"""The texts that were written outlast the app: whole, bounded, printable, and whatever happens to the file."""

import dataclasses
import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from nanogpt import files
from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError
from nanogpt.events import Token
from nanogpt_tui.session import completion_store
from nanogpt_tui.session.completions import LIVE, Completion, Source


def take(prompt: str = "a", began: float = 1.0, text: str = "bc", **changes: Any) -> Completion:
    found = Completion(
        prompt, Source("one", "best"), SamplingConfig(stop=("x",)), "one", 60, 2.5, "cpu", started_at=began
    )
    for letter in text:
        found.tokens.append(Token(sample=0, id=ord(letter), text=letter, probability=0.5, alternatives=()))
    found.reason = "length"
    return dataclasses.replace(found, **changes)


def test_a_round_comes_back_as_it_was_from_the_checkpoint_that_wrote_it() -> None:
    turned = [(1, SamplingConfig(temperature=0.1))]
    completion_store.append(
        [take(knob_changes=turned, branched_at=1), take("\x1b]0;é\ud800", source=Source(None, LIVE), step=7)]
    )
    left, right = completion_store.load()[0]
    assert (left.prompt, left.text, left.knobs.stop, left.branched_at) == ("a", "bc", ("x",), 1)
    assert (left.knob_changes, left.source, left.reason) == (turned, Source("one", "60"), "length")
    assert (right.prompt, right.source) == ("\x1b]0;é\ud800", Source("one", LIVE))


def test_weights_that_changed_and_averaged_ones_come_back_and_records_without_them_open() -> None:
    text = take(source=Source(None, LIVE), step=7, first_step=5, weights_since=1, is_average=True)
    completion_store.append([text])
    [[found]] = completion_store.load()
    assert (found.step, found.first_step, found.weights_since, found.is_average) == (7, 5, 1, True)
    record = json.loads(completion_store.store_path().read_bytes())
    for name in ("first_step", "weights_since", "averaged"):
        del record["takes"][0][name]
    completion_store.store_path().write_text(json.dumps(record) + "\n")
    [[found]] = completion_store.load()
    assert (found.step, found.first_step, found.weights_since, found.is_average) == (7, None, 0, False)


def test_a_round_that_went_on_replaces_what_it_was() -> None:
    completion_store.append([take(text="b")])
    completion_store.append([take("other", started_at=2.0)])
    completion_store.append([take(text="bcd")])
    assert [each[0].text for each in completion_store.load()] == ["bcd", "bc"]


@pytest.mark.parametrize("what", [{"error": "no"}, {"reason": ""}, {"tokens": []}])
def test_what_failed_has_not_ended_or_is_empty_is_not_kept(what: dict[str, Any]) -> None:
    completion_store.append([take(**what)])
    assert completion_store.load() == []


def test_of_a_pair_the_side_that_has_only_an_error_is_not_kept() -> None:
    completion_store.append([take("left"), take("right", error="no", tokens=[])])
    assert [[each.prompt for each in group] for group in completion_store.load()] == [["left"]]


def test_a_side_whose_continuation_failed_stays_in_its_pair() -> None:
    completion_store.append([take("left", text="b"), take("right")])
    completion_store.append([take("left", text="bcd"), take("right", error="no")])
    assert [[each.text for each in group] for group in completion_store.load()] == [["bcd", "bc"]]


def test_a_torn_line_and_foreign_ones_cost_themselves_alone() -> None:
    completion_store.append([take()])
    with completion_store.store_path().open("ab") as file:
        file.write(b'{"began": 3}\n[]\n\xff\xfe\n{"began": 4, "takes": [{"run": "x')
    completion_store.append([take("later", started_at=5.0)])
    assert [each[0].prompt for each in completion_store.load()] == ["a", "later"]


def test_a_disk_that_takes_a_part_of_a_text_is_named_and_the_next_text_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    completion_store.append([take("first")])
    write, room = os.write, iter([50])

    def write_what_fits(descriptor: int, data: bytes) -> int:
        if size := next(room, 0):
            return write(descriptor, data[:size])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_what_fits)
        with pytest.raises(UserError, match="cannot save the text"):
            completion_store.append([take("second", started_at=2.0)])
    completion_store.append([take("third", started_at=3.0)])
    assert [each[0].prompt for each in completion_store.load()] == ["first", "third"]


def test_the_file_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion_store, "MAX_GROUPS", 5)
    for number in range(12):
        completion_store.append([take(str(number), started_at=float(number))])
    assert [each[0].prompt for each in completion_store.load()] == ["7", "8", "9", "10", "11"]
    assert len(completion_store.store_path().read_bytes().splitlines()) == 5


async def test_the_history_of_another_day_is_there_and_can_be_gone_back_to(lab: Any, two_runs: Path) -> None:
    started_at = time.mktime((1970, 7, 20, 12, 0, 0, 0, 0, -1))  # shown in local time
    completion_store.append([take("[bold]\x1b]0;", started_at=started_at)])
    async with lab() as at:
        await at.press("3")
        screen = at.app.screen
        await at.until(lambda: len(screen.completions.groups) == 1)
        assert screen.completion is None
        await at.press("left_square_bracket")
        await at.sees("[bold]", "history  1 of 1", "07-20")
        screen.knobs = dataclasses.replace(screen.knobs, max_new_tokens=4)
        await at.press("g")
        await at.until(lambda: len(screen.completions.groups) == 2 and screen.completions.groups[1][0].reason)
    assert len(completion_store.load()) == 2


def test_a_text_that_comes_while_the_file_is_shortened_and_one_after_the_clock_went_back_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(completion_store, "MAX_GROUPS", 2)
    for number in range(4):
        completion_store.append([take(str(number), began=10.0 - number)])

    def read_while_another_writes(*given: Any) -> Any:
        yield from files.lines(*given)
        completion_store.append([take("late", began=3.0)])

    monkeypatch.setattr(completion_store, "lines", read_while_another_writes)
    assert [each[0].prompt for each in completion_store.load()] == ["2", "3"]
    monkeypatch.setattr(completion_store, "lines", files.lines)
    assert [each[0].prompt for each in completion_store.load(shorten=False)] == ["3", "late"]
