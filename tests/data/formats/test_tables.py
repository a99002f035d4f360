"""Documents of Parquet tables and JSON lines: which column, what is skipped, what is refused."""

import gzip
import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nanogpt.data.formats import _columns, documents, jsonl
from nanogpt.data.formats import parquet as parquet_format
from nanogpt.errors import UserError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
zstd = pytest.importorskip("backports.zstd")

TEXTS = ["one\ntwo", "naïve café 道\r\n\tend", "a\0b", "  "]


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_a_parquet_table_gives_its_texts(tmp_path: Path, kind: str) -> None:
    column = pyarrow.array(TEXTS)
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(getattr(pyarrow, kind)())
    path = write_parquet(tmp_path / "a.parquet", {"id": [1, 2, 3, 4], "text": column}, row_group_size=3)
    assert list(documents(path)) == TEXTS


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress], ids=["plain", "gz", "zst"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_lines_give_their_texts(tmp_path: Path, compress: Any, codec: str) -> None:
    content = "".join(json.dumps({"id": 1, "text": text}, ensure_ascii=False) + "\n" for text in TEXTS)
    path = tmp_path / "a.JSONL.gz"  # the content decides whether it is compressed
    path.write_bytes(compress(content.encode(codec)))
    assert list(documents(path)) == TEXTS


def test_a_line_may_be_a_text_itself_and_the_last_one_may_have_no_end(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text('"one"\n\n"two"')
    assert list(documents(tmp_path / "a.ndjson")) == ["one", "two"]


def test_what_is_no_text_is_skipped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "LONGEST_LINE", 200_000)
    lines = [
        b'{"text": "first"}',
        b'{"text": ',
        b'{"text": null}',
        b'{"text": ""}',
        b'{"title": "no text"}',
        b"17",
        b'{"text": "bad \xff byte"}',
        b'{"text": "half \\ud800 pair"}',
        b'{"text": ' + b"[" * 90_000,
        b'{"text": "' + b"x" * 500_000 + b'"}',
        b'{"text": "' + b"y" * 199_987 + b'"}',  # with its line end as long as a line may be
        b'{"text": "last"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    skipped: Counter[str] = Counter()
    assert list(documents(tmp_path / "a.jsonl", skipped=skipped)) == ["first", "y" * 199_987, "last"]
    deep = skipped.pop("nested too deeply", 0)  # some versions of Python parse it until its end is missing
    assert deep + skipped.pop("not JSON") == 2
    assert skipped == {
        "without text": 3,
        "not a JSON object": 1,
        "not Unicode": 2,
        "longer than 200,000 characters": 1,
    }


def test_empty_cells_and_bad_texts_of_a_parquet_table_are_skipped_and_counted(tmp_path: Path) -> None:
    bad = pyarrow.array([b"a", b"\xff", None, b"", b"b"]).cast(pyarrow.string(), safe=False)
    path = write_parquet(tmp_path / "a.parquet", {"text": bad})
    skipped: Counter[str] = Counter()
    assert list(documents(path, skipped=skipped)) == ["a", "b"]
    assert skipped == {"not UTF-8": 1, "without text": 2}


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize(
    ("row", "asked", "expected"),
    [
        ({"text": "t", "url": "u"}, None, "t"),
        ({"url": "u", "text": "t"}, "url", "u"),
        ({"id": 1, "content": "c"}, None, "c"),
        (
            {"title": "t", "body": "b", "n": 1},
            None,
            "several columns of texts; name one with --text_column; its columns: title, body, n",
        ),
        ({"n": 1}, None, "no column of texts"),
        ({"text": "t", "n": 1}, "txt", r"no column 'txt'; its columns: text, n\. Did you mean text\?"),
    ],
)
def test_the_text_column(tmp_path: Path, suffix: str, row: dict[str, Any], asked: str | None, expected: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        write_parquet(path, {name: [value] for name, value in row.items()})
    else:
        write_lines(path, row)
    if len(expected) == 1:
        assert list(documents(path, text_column=asked)) == [expected]
    else:
        with pytest.raises(UserError, match=expected):
            list(documents(path, text_column=asked))


def test_a_column_of_json_lines_may_be_missing_in_the_first_lines(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"n": 1}, {"body": "b"})
    assert list(documents(path, text_column="body")) == ["b"]


def test_a_column_that_has_no_texts_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": [1, 2], "title": ["a", "b"]})
    with pytest.raises(UserError, match="column 'text' has no texts but int64 values"):
        list(documents(path))


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress], ids=["gz", "zst"])
@pytest.mark.parametrize(("damage", "complaint"), [("cut", "is cut off"), ("changed", "is damaged")])
def test_a_damaged_archive_is_refused_in_one_line(tmp_path: Path, compress: Any, damage: str, complaint: str) -> None:
    rows = [json.dumps({"text": f"document {number}"}) for number in range(20_000)]
    content = bytearray(compress("\n".join(rows).encode()))
    if damage == "cut":
        del content[-20:]
    else:
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(64)
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.jsonl\.gz {complaint}[^\n]*; copy or download it again$"):
        list(documents(tmp_path / "a.jsonl.gz"))


@pytest.mark.parametrize("damage", ["cut", "zeros", "no table"])
def test_a_damaged_parquet_table_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    texts = [f"document {number * 7919 % 10007}" for number in range(20_000)]
    path = write_parquet(tmp_path / "a.parquet", {"text": texts})
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[-20:]
    elif damage == "zeros":
        content[5:5000] = bytes(4995)
    else:
        content[:] = b"text"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^[^\n]*a\.parquet is a damaged Parquet table[^\n]*download it again$"):
        list(documents(path))


@pytest.mark.parametrize("package", ["pyarrow", "backports.zstd"])
def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    if package == "pyarrow":
        path = write_parquet(tmp_path / "a.parquet", {"text": ["a"]})
        monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    else:
        path = tmp_path / "a.jsonl.zst"
        path.write_bytes(zstd.compress(b'{"text": "a"}'))
        monkeypatch.setitem(__import__("sys").modules, "backports.zstd", None)
    with pytest.raises(UserError, match=rf"needs {package}.*: pip install 'nanogpt-tui\[corpora\]'"):
        list(documents(path))


def test_the_memory_does_not_grow_with_a_file_of_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb", 1) as file:
        for _ in range(100):
            file.write((json.dumps({"text": "x" * 1000}) + "\n").encode() * 400)  # 40 MB in all
    tracemalloc.start()
    total = sum(map(len, documents(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 100 * 400 * 1000
    assert peak < 20 << 20  # the buffers are 1 MB each; other threads of this process are counted too


def test_a_row_group_of_a_parquet_table_is_not_read_at_once(tmp_path: Path) -> None:
    texts = [f"{number:06}" * 500 for number in range(30_000)]  # 90 MB in one row group
    path = write_parquet(tmp_path / "a.parquet", {"text": texts}, use_dictionary=False, compression="none")
    del texts
    reading = documents(path)
    before = pyarrow.total_allocated_bytes()
    peak = 0
    for number, _ in enumerate(reading):
        if number % 1000 == 0:
            peak = max(peak, pyarrow.total_allocated_bytes() - before)
    assert number == 29_999
    assert peak < 20 << 20


def test_a_small_parquet_table_of_long_texts_is_read_some_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_format, "BATCH_BYTES", 4 << 20)
    text = "a" * (1 << 20)
    path = write_parquet(tmp_path / "a.parquet", {"text": [text] * 100})
    assert path.stat().st_size < 1 << 20  # the text is stored once, in a dictionary
    before, peak, count = pyarrow.total_allocated_bytes(), 0, 0
    for each in documents(path):
        assert each == text
        count += 1
        peak = max(peak, pyarrow.total_allocated_bytes() - before)
    assert count == 100
    assert peak < 20 << 20  # a batch of 4 MB, the dictionary, and buffers that grow by doubling; not 100 MB


def test_a_text_that_is_too_long_is_skipped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_columns, "LONGEST", 1000)
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a" * 1001, "b" * 1000]})
    skipped: Counter[str] = Counter()
    assert list(documents(path, skipped=skipped)) == ["b" * 1000]
    assert skipped == {_columns.TOO_LONG: 1}
