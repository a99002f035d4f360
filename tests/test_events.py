"""Every event is one line of JSON that reads back equal; anything else is refused in one line."""

import ast
import json
import string
import types
from dataclasses import MISSING, FrozenInstanceError, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nanogpt import events
from nanogpt.errors import UserError
from nanogpt.events import KINDS, Evaluated, Event, Finished, Notice, Prepared, Step, Token, from_json, to_json
from nanogpt.runs.event_log import parse_event

quickly = hypothesis_settings(max_examples=25, deadline=None)  # a busy machine is no failure
texts = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    float: st.floats(),
    bool: st.booleans(),
    str: texts | st.sampled_from(["nan", "inf", "\x1b[2J", "\u2028\x85\r\n", "🙂"]),
    type(None): st.none(),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    if hint in PLAIN:
        return PLAIN[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(values, inner))
    if origin is tuple:
        return st.lists(values(inner[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(inner[0]), values(inner[1]), max_size=3)
    assert is_dataclass(hint), f"an event has a field of a type that is not plain: {hint}"
    return of(hint)


def of(kind: Any) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{name: values(hint) for name, hint in get_type_hints(kind).items()})


some_event = st.one_of(*map(of, KINDS.values()))


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
@quickly
@given(data=st.data())
def test_every_kind_reads_back_equal(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(of(kind))
    again = from_json(to_json(event))
    assert type(again) is kind
    assert repr(again) == repr(event)  # NaN equals NaN in its repr alone
    assert repr(from_json(to_json(event).encode())) == repr(event)
    assert repr(parse_event(to_json(event).encode() + b"\n", Path())) == repr(event), "the fast way, for a record"


@quickly
@given(some_event)
def test_an_event_is_one_line_of_harmless_json(event: Event) -> None:
    line = to_json(event)
    assert set(line) <= set(string.printable) - set(string.whitespace) | {" "}
    assert len(line.splitlines()) == 1
    assert json.loads(line, parse_constant=pytest.fail)["event"] == type(event).__name__


@quickly
@given(some_event, texts.filter(lambda name: name not in {"event"}))
def test_fields_of_a_newer_version_are_dropped(event: Event, name: str) -> None:
    newer = json.loads(to_json(event))
    newer.setdefault(f"new {name}", {"anything": [1]})
    assert repr(from_json(json.dumps(newer))) == repr(event)


def test_unknown_fields_of_what_is_inside_an_event_are_dropped_too() -> None:
    alternative = {"id": 1, "text": "a", "probability": 0.5, "rank": 1}
    line = {"event": "Token", "time": 0, "sample": 0, "id": 1, "text": "a", "probability": 0.5}
    token = from_json(json.dumps({**line, "alternatives": [alternative]}))
    assert isinstance(token, Token)
    assert token.alternatives == (events.Alternative(1, "a", 0.5),)


def test_infinity_and_nan_survive_where_json_has_no_number_for_them() -> None:
    event = Evaluated(
        step=1,
        train_loss=float("nan"),
        val_loss=float("inf"),
        best_val_loss=float("-inf"),
        is_best=False,
        tokens=1,
        elapsed_s=0.0,
    )
    plain = json.loads(to_json(event))
    assert (plain["train_loss"], plain["val_loss"], plain["best_val_loss"]) == ("nan", "inf", "-inf")
    assert repr(from_json(to_json(event))) == repr(event)


def test_a_text_that_looks_like_a_number_stays_a_text() -> None:
    event = from_json(to_json(Notice(level="info", text="inf")))
    assert isinstance(event, Notice)
    assert event.text == "inf"


def test_a_whole_number_is_read_as_the_float_that_the_field_has() -> None:
    event = from_json('{"event":"Finished","time":5,"step":1,"reason":"nan","train_loss":2,"val_loss":null,"best_val_loss":null,"elapsed_s":3}')  # fmt: skip  # noqa: E501
    assert isinstance(event, Finished)
    assert [type(value) for value in (event.time, event.train_loss, event.elapsed_s)] == [float] * 3
    assert event.val_loss is None


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '{"event":"Nothing"}',
        '{"event":["Step"]}',
        '{"event":"Event"}',
        '{"event":"Step","step":1}',
        '{"event":"Notice","level":"info","text":"a","time":"soon"}',
        '{"event":"Token","sample":0,"id":1,"text":"","probability":1,"alternatives":[3]}',
        '{"event":"Token","sample":0,"id":1,"text":"","probability":1,"alternatives":[{"name":"a"}]}',
        '{"event":"Notice","level":"info","text":"a","time":1' + 400 * "0" + "}",
        '{"event":"Notice","level":"info","text":3}',
        '{"event":"Stopped","sample":0.5,"reason":"end","tokens":1,"tokens_per_second":1}',
        '{"event":"Prepared","name":"","path":"","tokenizer":"","vocab_size":1,"tokens":[],"elapsed_s":1}',
        '{"event":"Prepared","name":"","path":"","tokenizer":"","vocab_size":1,"tokens":{"train":"1"},"elapsed_s":1}',
        b"\xff\xfe\x00",
        "[" * 100_000,
        "\x1b[2J\r\n{",
    ],
    ids=lambda line: repr(line[:30]),
)
def test_nonsense_is_refused_in_one_harmless_line(nonsense: str | bytes) -> None:
    with pytest.raises(UserError, match="not an event") as caught:
        from_json(nonsense)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@quickly
@given(st.text() | st.binary() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_any_line_is_an_event_or_refused(line: str | bytes) -> None:
    try:
        event = from_json(line)
    except UserError:
        return
    assert isinstance(event, Event)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_events_are_frozen_slotted_and_explained(kind: type[Event]) -> None:
    assert kind.__doc__
    assert not hasattr(kind, "__dict__") or "__dict__" not in kind.__slots__
    required = [field.name for field in fields(kind) if field.default is field.default_factory is MISSING]
    event = kind(**dict.fromkeys(required, 0))
    with pytest.raises(FrozenInstanceError):
        event.time = 1.0  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        object.__setattr__(event, "extra", 1)


def test_an_event_knows_when_it_was_made() -> None:
    first = Prepared(name="a", path="b", tokenizer="char", vocab_size=2, tokens={"train": 3}, elapsed_s=0.1)
    second = Prepared(name="a", path="b", tokenizer="char", vocab_size=2, tokens={"train": 3}, elapsed_s=0.1)
    assert 1.6e9 < first.time <= second.time


def test_every_event_is_defined_in_one_file() -> None:
    """A result for a widget is a dataclass of its own, without the line of JSON that a record has."""
    root = Path(events.__file__).parents[1]
    others = [path for name in ("nanogpt", "nanogpt_tui") for path in (root / name).rglob("*.py")]
    elsewhere = [
        f"{path.relative_to(root)}:{node.name}"
        for path in others
        if path != Path(events.__file__)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        if {ast.unparse(base).rpartition(".")[2] for base in node.bases} & {"Event", *KINDS}
    ]
    assert elsewhere == []


def test_the_kinds_are_all_events_of_the_module() -> None:
    here = {name for name, kind in vars(events).items() if isinstance(kind, type) and issubclass(kind, Event)}
    assert KINDS.keys() == here - {"Event"}
    assert KINDS["Step"] is Step
