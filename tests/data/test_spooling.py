"""Standard input and named pipes as texts."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nanogpt.data import open_dataset, prepare, textfile_recipe
from nanogpt.errors import UserError
from nanogpt.events import Notice, Prepared, Receiving

TEXT = "naïve café — “quoted”\r\nsecond line\n" * 50


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def prepared_text(name: str, data_dir: Path) -> str:
    dataset = open_dataset(name, data_dir)
    return "".join(dataset.tokenizer.decode(dataset.split(split)) for split in dataset.meta.tokens)


def write_to(pipe: Path, content: bytes) -> threading.Thread:
    writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    writer.start()
    return writer


@pytest.fixture
def stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Return a function that puts bytes on standard input."""

    def put(content: bytes) -> None:
        (tmp_path / "input").write_bytes(content)
        monkeypatch.setattr(sys, "__stdin__", (tmp_path / "input").open())

    return put


def test_standard_input_is_a_text(data_dir: Path, stdin: Callable[[bytes], None]) -> None:
    stdin(TEXT.encode("utf-16"))
    events = list(prepare(textfile_recipe(["-"]), data_dir=data_dir))
    assert isinstance(events[-1], Prepared)
    assert [event.source for event in events if isinstance(event, Receiving)][-1] == "standard input"
    assert [event.text for event in events if isinstance(event, Notice)] == [
        f"standard input read as UTF-16-LE: “{' '.join(TEXT[:40].split())}”"
    ]
    assert prepared_text("stdin", data_dir) == TEXT
    meta = open_dataset("stdin", data_dir).meta
    assert (meta.title, meta.source["path"]) == ("standard input", "standard input")
    assert [path.name for path in data_dir.iterdir()] == ["stdin"]  # the copy is gone


def test_a_pipe_is_a_text_in_the_format_that_its_name_says(tmp_path: Path, data_dir: Path) -> None:
    pipe = tmp_path / "a.jsonl"
    os.mkfifo(pipe)
    writer = write_to(pipe, b'{"text": "one"}\n{"text": "two"}\nbad\n')
    events = list(prepare(textfile_recipe([pipe]), data_dir=data_dir))
    writer.join()
    assert prepared_text("a", data_dir) == "one\ntwo"
    assert f"skipped 1 document: 1 not JSON (in {pipe})" in [
        event.text for event in events if isinstance(event, Notice)
    ]
    assert open_dataset("a", data_dir).meta.source["skipped"] == {"documents": {"not JSON": 1}}


def test_the_same_text_again_is_the_same_data_set(data_dir: Path, stdin: Callable[[bytes], None]) -> None:
    stdin(TEXT.encode())
    list(prepare(textfile_recipe(["-"]), data_dir=data_dir))
    stdin(TEXT.encode())
    notices = [event for event in prepare(textfile_recipe(["-"]), data_dir=data_dir) if isinstance(event, Notice)]
    assert "already prepared" in notices[0].text
    stdin(b"another text")
    with pytest.raises(UserError, match="exists and has another text"):
        list(prepare(textfile_recipe(["-"]), data_dir=data_dir))


def test_cancelling_leaves_nothing(tmp_path: Path, data_dir: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = write_to(pipe, TEXT.encode())
    work = prepare(textfile_recipe([pipe]), data_dir=data_dir)
    assert isinstance(next(work), Receiving)
    assert list(data_dir.iterdir())
    work.close()
    writer.join()
    assert not list(data_dir.iterdir())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", r"^standard input is empty; give some text$"),
        (b"text\0" * 9, r"^standard input is not text: it has binary data at byte 4"),
        ("道可道，".encode("gbk"), r"^standard input is not UTF-8, and its encoding is not certain"),
    ],
)
def test_what_is_no_text_is_refused_by_its_name(
    data_dir: Path, stdin: Callable[[bytes], None], content: bytes, complaint: str
) -> None:
    stdin(content)
    with pytest.raises(UserError, match=complaint):
        list(prepare(textfile_recipe(["-"]), data_dir=data_dir))
    assert not list(data_dir.iterdir())


def test_standard_input_is_read_once(data_dir: Path) -> None:
    with pytest.raises(UserError, match="can be read only once"):
        list(prepare(textfile_recipe(["-", "-"]), data_dir=data_dir))
