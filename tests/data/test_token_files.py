"""Shards: their format, their writer after kills, and their reader as one sequence."""

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt.data import token_files
from nanogpt.data.shards import TokenFile, combined_sha256
from nanogpt.data.token_files import TokenFiles, TokenWriter
from nanogpt.errors import UserError
from nanogpt.files import sha256
from nanogpt.tokenizers import TokenDtype

MAGIC_AND_VERSION: dict[TokenDtype, tuple[int, int]] = {"uint16": (20240520, 1), "uint32": (20240801, 7)}  # of llm.c


def llm_c_bytes(ids: list[int], dtype: TokenDtype) -> bytes:
    """Return llm.c's file: 256 int32, of which the first three are used, and the ids."""
    header = struct.pack("<256i", *MAGIC_AND_VERSION[dtype], len(ids), *[0] * 253)
    return header + struct.pack(f"<{len(ids)}{'H' if dtype == 'uint16' else 'I'}", *ids)


def written(
    folder: Path, ids: list[int], shard_tokens: int, dtype: TokenDtype = "uint16", raw: bool = False
) -> list[TokenFile]:
    writer = TokenWriter(folder, "train", dtype, shard_tokens)
    for start in range(0, len(ids), 7):
        writer.append(np.array(ids[start : start + 7]))
        writer.append(np.empty(0, np.int64))
    return writer.finish(raw=raw)


def opened(folder: Path, files: list[TokenFile], dtype: TokenDtype = "uint16") -> TokenFiles:
    return TokenFiles([folder / file.name for file in files], [file.tokens for file in files], dtype)


@pytest.mark.parametrize("dtype", MAGIC_AND_VERSION)
def test_shards_are_files_of_llm_c(tmp_path: Path, dtype: TokenDtype) -> None:
    ids = [65_535 if dtype == "uint16" else 100_000, *range(24)]
    files = written(tmp_path, ids, 10, dtype)
    assert [(file.name, file.tokens) for file in files] == [
        ("train-00000.bin", 10),
        ("train-00001.bin", 10),
        ("train-00002.bin", 5),
    ]
    for number, file in enumerate(files):
        assert (tmp_path / file.name).read_bytes() == llm_c_bytes(ids[10 * number : 10 * number + 10], dtype)
        assert file.sha256 == sha256(tmp_path / file.name)
        assert file.modified_ns == (tmp_path / file.name).stat().st_mtime_ns
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name for file in files]
    assert list(opened(tmp_path, files, dtype)) == ids


@pytest.mark.parametrize("ids", [[], [1, 2, 3], list(range(10))])
def test_a_split_that_fits_into_one_file_can_be_raw(tmp_path: Path, ids: list[int]) -> None:
    (file,) = written(tmp_path, ids, 10, raw=True)
    assert (tmp_path / "train.bin").read_bytes() == struct.pack(f"<{len(ids)}H", *ids)
    assert (file.name, file.tokens, file.sha256) == ("train.bin", len(ids), sha256(tmp_path / "train.bin"))
    assert combined_sha256([file]) == file.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["train.bin"]


def test_a_longer_split_is_in_shards_although_it_may_be_raw(tmp_path: Path) -> None:
    assert [file.tokens for file in written(tmp_path, list(range(11)), 10, raw=True)] == [10, 1]


IDS = np.arange(103, dtype=np.uint16) * 601


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TokenFiles:
    folder = tmp_path_factory.mktemp("shards")
    return opened(folder, written(folder, IDS.tolist(), 10))


places = st.one_of(st.none(), st.integers(-120, 120))


@given(start=places, stop=places, step=st.one_of(st.none(), st.integers(-15, 15).filter(bool)))
def test_a_slice_over_shards_is_that_of_the_whole_array(
    shards: TokenFiles, start: int | None, stop: int | None, step: int | None
) -> None:
    part = shards[start:stop:step]
    assert part.dtype == IDS.dtype
    assert part.tolist() == IDS[start:stop:step].tolist()


@given(index=st.lists(st.lists(st.integers(-103, 102), min_size=3, max_size=3), max_size=5))
def test_an_array_of_places_over_shards_gives_the_ids_at_them(shards: TokenFiles, index: list[list[int]]) -> None:
    chosen = np.array(index, np.int64).reshape(-1, 3)
    assert shards[chosen].tolist() == IDS[chosen].tolist()


def test_a_place_over_shards(shards: TokenFiles) -> None:
    assert [shards[place] for place in (0, 9, 10, 102, -1, -103)] == [IDS[p] for p in (0, 9, 10, 102, -1, -103)]
    for wrong in (103, -104, np.array([3, 103]), np.array([-104])):
        with pytest.raises(IndexError):
            shards[wrong]


WRITE_UNTIL_KILLED = """
import sys
import numpy as np
from pathlib import Path
from nanogpt.data.token_files import TokenWriter

writer = TokenWriter(Path(sys.argv[1]), "train", "uint16", 1000, committed=int(sys.argv[2]))
random = np.random.default_rng(0)
while writer.tokens < 20_000:
    last = writer.tokens
    writer.append(np.arange(last, last + 1 + int(random.integers(700))))
    print(writer.tokens if random.random() < 0.5 and writer.commit() else "-", flush=True)
print("end", flush=True)
sys.stdin.read()
"""


def test_a_writer_killed_at_any_point_continues_to_the_same_files(tmp_path: Path) -> None:
    whole, folder, committed, kills = tmp_path / "whole", tmp_path / "killed", 0, 0
    whole.mkdir()
    folder.mkdir()
    expected = written(whole, list(range(20_000)), 1000)
    random = np.random.default_rng(1)
    while committed < 19_000:
        arguments = [sys.executable, "-c", WRITE_UNTIL_KILLED, str(folder), str(committed)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(int(random.integers(5, 25))):
                if (line := process.stdout.readline().strip()).isdecimal():
                    committed = int(line)
                if line == "end":
                    break
            os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        kills += 1
    assert kills > 2
    writer = TokenWriter(folder, "train", "uint16", 1000, committed=committed)
    writer.append(np.arange(committed, 20_000))
    files = writer.finish(raw=True)
    assert [(file.name, file.tokens, file.sha256) for file in files] == [
        (file.name, file.tokens, file.sha256) for file in expected
    ]
    assert [(folder / file.name).read_bytes() for file in files] == [
        (whole / file.name).read_bytes() for file in expected
    ]


@pytest.mark.parametrize("committed", [0, 3, 10, 13, 20, 25])
def test_a_writer_continues_from_any_commit_of_complete_files(tmp_path: Path, committed: int) -> None:
    expected = written(tmp_path, list(range(25)), 10)  # killed after this, before meta.json was written
    writer = TokenWriter(tmp_path, "train", "uint16", 10, committed=committed)
    assert writer.tokens == committed
    writer.append(np.arange(committed, 25))
    assert [file.sha256 for file in writer.finish(raw=False)] == [file.sha256 for file in expected]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("committed", [0, 4, 10])
def test_a_writer_continues_after_its_only_shard_became_raw(tmp_path: Path, committed: int) -> None:
    written(tmp_path, list(range(10)), 10, raw=True)
    writer = TokenWriter(tmp_path, "train", "uint16", 10, committed=committed)
    writer.append(np.arange(committed, 12))
    assert list(opened(tmp_path, writer.finish(raw=True))) == list(range(12))


def test_a_writer_refuses_files_with_fewer_ids_than_were_committed(tmp_path: Path) -> None:
    written(tmp_path, list(range(25)), 10)
    os.truncate(tmp_path / "train-00001.bin", 1024 + 19)
    with pytest.raises(UserError, match=r"train-00001\.bin has 1,043 bytes, not 1,044: delete the folder"):
        TokenWriter(tmp_path, "train", "uint16", 10, committed=20)


def test_a_shard_with_another_header_is_refused_when_it_is_read(tmp_path: Path) -> None:
    files = written(tmp_path, list(range(25)), 10)
    content = bytearray((tmp_path / "train-00001.bin").read_bytes())
    content[8] = 9  # of 10 ids
    (tmp_path / "train-00001.bin").write_bytes(content)
    tokens = opened(tmp_path, files)
    assert tokens[3] == 3
    with pytest.raises(UserError, match=r"the header of .*train-00001\.bin does not say that it has 10 ids"):
        tokens[5:15]


READ_MANY = """
import resource, sys
from pathlib import Path
from nanogpt.data.token_files import TokenFiles

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
paths = [Path(sys.argv[1], f"train-{number:05}.bin") for number in range(600)]
tokens = TokenFiles(paths, [10] * 600, "uint16")
assert list(tokens) == list(range(6000))
assert [tokens[10 * number] for number in range(600)] == list(range(0, 6000, 10))
"""


def test_more_shards_than_a_process_may_open_files(tmp_path: Path) -> None:
    assert len(written(tmp_path, list(range(6000)), 10)) == 600 > 2 * token_files.FEWEST_MAPPED
    subprocess.run([sys.executable, "-c", READ_MANY, str(tmp_path)], check=True)
