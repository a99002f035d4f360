"""A command is one class: whatever it is, the training applies it, acknowledges it, and its JSON is its fields."""

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields
from types import FrameType
from typing import Any

import pytest

from nanogpt.events import Acknowledged, Event, Notice, Step, from_json, to_json
from nanogpt.training import CommandQueue, control, train
from nanogpt.training.control import REMOTE, Command, Controllable, Invalid, Pause, RemoteCommand
from tests.narrowing import expect


@dataclass(frozen=True, slots=True)
class HalveEvalInterval(RemoteCommand):
    """A command that the engine does not have."""

    times: int = 1

    def apply(self, training: Controllable) -> Iterator[Event]:
        training.progress.eval_interval //= 2**self.times
        yield self.acknowledged(training, f"evaluation every {training.progress.eval_interval} iterations")
        yield Notice(level="info", text="halved")


def test_a_new_command_is_one_class(tiny: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REMOTE, "HalveEvalInterval", HalveEvalInterval)
    line = control.to_json(HalveEvalInterval(times=2, id="x"))
    assert json.loads(line) == {"letter": "HalveEvalInterval", "id": "x", "times": 2}
    queue, events = CommandQueue(), []
    for event in train(tiny(eval_interval=8), tokens, commands=queue):
        events.append(event)
        if isinstance(event, Step) and event.step == 3:
            queue.put(control.from_json(line))
    applied = next(at for at, event in enumerate(events) if isinstance(event, Acknowledged))
    told = expect(Acknowledged, events[applied])
    assert (told.step, told.command, told.id, told.text) == (
        3,
        "HalveEvalInterval",
        "x",
        "evaluation every 2 iterations",
    )
    assert expect(Notice, events[applied + 1]).text == "halved"


def test_what_is_invalid_is_reported_and_not_acknowledged(tiny: Any, tokens: Any) -> None:
    queue = CommandQueue()
    queue.put(Invalid("not a command"))
    events = list(train(tiny(), tokens, commands=queue))
    assert [event.text for event in events if isinstance(event, Notice)] == ["not a command"]
    assert not [event for event in events if isinstance(event, Acknowledged)]


@pytest.mark.parametrize("kind", REMOTE.values(), ids=lambda kind: kind.__name__)
def test_every_command_says_its_effect_itself_and_what_a_screen_shows_until_then(kind: type[RemoteCommand]) -> None:
    assert "apply" in vars(kind)
    assert kind.pending.endswith("ing")
    assert "id" in {each.name for each in fields(kind)}


def test_an_acknowledgement_keeps_the_key_of_version_0_1() -> None:
    line = '{"event":"Acknowledged","time":5.0,"step":3,"letter":"Pause","text":"paused","id":"a","max_iters":null}'
    event = from_json(line)
    assert event == Acknowledged(time=5.0, step=3, command="Pause", text="paused", id="a")
    assert json.loads(to_json(event)) == json.loads(line) | {"eval_interval": None}


def test_a_signal_may_put_a_command_wherever_it_interrupts_the_trainer() -> None:
    queue, taken, places = CommandQueue(), list[Command](), set[Any]()

    def interrupt(frame: FrameType, event: str, argument: object) -> Any:
        """Put a command the first time that a bytecode is executed, as a handler of a signal does there."""
        frame.f_trace_opcodes = True
        if (place := (frame.f_code, frame.f_lasti)) not in places:
            places.add(place)
            queue.put(Pause())
        return interrupt

    def train() -> None:
        sys.settrace(interrupt)
        for _ in range(2):
            queue.wait(0.01)
            taken.extend(queue.take())

    trainer = threading.Thread(target=train, daemon=True)  # it hangs if a lock is not reentrant
    trainer.start()
    trainer.join(20)
    assert not trainer.is_alive()
    assert len(places) > 10
    assert [*taken, *queue.take()] == [Pause()] * len(places)
