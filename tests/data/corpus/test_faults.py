"""Corpora from servers that fail, preparations that are killed: the files are those of an undisturbed preparation."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from nanogpt.data import open_dataset, prepare
from nanogpt.data import sources as kinds
from nanogpt.data.corpus.fetch import Fetcher
from nanogpt.data.document_settings import DocumentSettings
from nanogpt.data.download import download
from nanogpt.data.names import unfinished_folder
from nanogpt.data.recipes import Recipe, read_recipe
from nanogpt.data.sources.base import Shard
from nanogpt.errors import UserError
from nanogpt.events import CorpusEncoding, Downloading, Event, Prepared
from nanogpt.processes import is_running
from tests.data.corpus.conftest import Corpus, make_corpus
from tests.faulty_server import FaultyServer

SETTINGS = DocumentSettings(shuffle_tokens=3000)


def recipe(source: kinds.Source, name: str = "c") -> Recipe:
    return Recipe(name=name, source=source, tokenizer="byte", val_ratio=0.05, documents=SETTINGS)


def hashes(corpus: Corpus) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(corpus.folder.iterdir())}


def mirror(server: FaultyServer, corpus: Corpus, **values: Any) -> kinds.Source:
    found = hashes(corpus)
    values = {"names": tuple(found), "sha256": tuple(found.values()), "timeout_s": 0.3} | values
    return kinds.create("mirror", **{"urls": (server.url,)} | values)


def token_files(folder: Path, name: str = "c") -> dict[str, bytes]:
    dataset = open_dataset(name, folder, verify=True)
    return {path.name: path.read_bytes() for path in dataset.path.iterdir() if path.suffix == ".bin"}


@pytest.fixture
def expected(corpus: Corpus, tmp_path: Path) -> dict[str, bytes]:
    """The files of a preparation of the same shards from their folder."""
    list(prepare(recipe(kinds.create("files", paths=(corpus.folder,))), data_dir=tmp_path / "undisturbed", workers=1))
    return token_files(tmp_path / "undisturbed")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    from nanogpt.data import download

    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(download, "LONGEST_WAIT_S", 0.05)
    monkeypatch.setattr(download, "REPORT_INTERVAL_S", 0.01)


def test_dropped_and_stalled_connections_are_continued(
    corpus: Corpus, tmp_path: Path, expected: dict[str, bytes], impatient: None
) -> None:
    with FaultyServer(corpus.folder, drop=0.4, stall=0.3, least=500) as server:
        events = list(prepare(recipe(mirror(server, corpus)), data_dir=tmp_path, workers=2))
        progress = [event for event in events if isinstance(event, CorpusEncoding)]
        assert progress[-1].downloaded_bytes == sum(path.stat().st_size for path in corpus.folder.iterdir())
        assert server.dropped > 0
        assert server.stalled > 0
        # what was received is not requested again: stalled bytes may be sent after the client has given up
        assert server.sent_bytes < 2 * sum(path.stat().st_size for path in corpus.folder.iterdir())
    assert token_files(tmp_path) == expected
    names = {path.name for path in (tmp_path / "c").iterdir()}
    assert names == {"meta.json", "tokenizer.json", *expected}


def test_downloads_are_removed_once_they_are_read_or_kept_in_the_cache(
    corpus: Corpus, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    most = 0
    with FaultyServer(corpus.folder) as server:
        for _ in prepare(recipe(mirror(server, corpus)), data_dir=tmp_path / "a"):
            stored = unfinished_folder(tmp_path / "a" / "c") / "shards"
            most = max(most, len(list(stored.glob("*[!t]"))) if stored.exists() else 0)  # without *.part
        list(prepare(recipe(mirror(server, corpus)), data_dir=tmp_path / "b", keep_shards=True))
        kept = sorted((tmp_path / "cache" / "corpora" / "c").iterdir())
        digests = hashes(corpus)
        assert sorted(path.name[17:] for path in kept) == sorted(digests)
        requests = len(server.names)
        list(prepare(recipe(mirror(server, corpus)), data_dir=tmp_path / "b", keep_shards=True, force=True))
        assert len(server.names) == requests
        assert token_files(tmp_path / "b") == expected
        changed = make_corpus(tmp_path / "changed", documents=200)  # files of the same names
    with FaultyServer(changed.folder) as server:
        list(prepare(recipe(mirror(server, changed)), data_dir=tmp_path / "b", keep_shards=True, force=True))
        assert (
            open_dataset("c", tmp_path / "b").meta.source["documents"]
            != open_dataset("c", tmp_path / "a").meta.source["documents"]
        )
    # the one that is read, two ahead, and those that the open window has documents of
    assert 1 <= most <= 4
    assert token_files(tmp_path / "a") == expected


def test_a_shard_has_the_same_path_in_any_order(tmp_path: Path) -> None:
    of_a, of_others = "0" * 64, "1" * 64
    shards = [
        Shard(name=f"{folder}/part-0.jsonl", sha256=sha256, urls=("http://localhost",))
        for folder, sha256 in (("a", of_a), ("b", of_others), ("c", of_others))
    ]
    orders = [Fetcher(order, tmp_path, {}, 1.0, keep=True) for order in (shards, shards[::-1])]
    first, second = ({fetcher.path(number) for number in range(3)} for fetcher in orders)
    assert len(first) == 3
    assert first == second


def test_a_manifest_names_the_files_and_their_hashes(
    corpus: Corpus, tmp_path: Path, expected: dict[str, bytes], impatient: None
) -> None:
    own = make_corpus(tmp_path / "own")
    lines = [f"{digest}  ./{name}" for name, digest in hashes(own).items()]
    (own.folder / "SHA256SUMS").write_text("\n".join([*lines, f"{'0' * 64} *README.txt", "# a comment"]) + "\n")
    with FaultyServer(own.folder, drop=0.5, least=100) as server:
        source = kinds.create("mirror", urls=(server.url.rstrip("/"),), manifest="SHA256SUMS", glob="part-*")
        list(prepare(recipe(source), data_dir=tmp_path))
        assert token_files(tmp_path) == expected
        wrong = kinds.create("mirror", urls=(server.url,), manifest="no-such-file")
        said = complaint(prepare(recipe(wrong, "d"), data_dir=tmp_path))
        assert "no-such-file could not be downloaded (Not Found): check the recipe's urls and manifest" in said
        other = kinds.create("mirror", urls=(server.url,), manifest="part-1.parquet")
        assert "part-1.parquet is not a manifest" in complaint(prepare(recipe(other, "d"), data_dir=tmp_path))


def test_another_server_is_asked_if_one_does_not_have_a_file(
    corpus: Corpus, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    (tmp_path / "empty").mkdir()
    with FaultyServer(tmp_path / "empty") as first, FaultyServer(corpus.folder) as second:
        list(prepare(recipe(mirror(second, corpus, urls=(first.url, second.url))), data_dir=tmp_path))
    assert token_files(tmp_path) == expected


def complaint(work: Iterator[Event]) -> str:
    with pytest.raises(UserError) as raised:
        list(work)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_file_with_another_hash_is_refused_and_named(tmp_path: Path, corpus: Corpus) -> None:
    with FaultyServer(corpus.folder) as server:
        source = mirror(server, corpus, sha256=("0" * 64,) * len(corpus.documents))
        said = complaint(prepare(recipe(source), data_dir=tmp_path))
        assert "part-" in said
        assert "is not the expected file" in said
        assert "run the same command again to continue, or use a local copy with --source FOLDER" in said


def test_a_server_that_is_gone_is_an_error_after_the_retries(tmp_path: Path, corpus: Corpus, impatient: None) -> None:
    with FaultyServer(corpus.folder) as server:
        source = mirror(server, corpus)
    said = complaint(prepare(recipe(source), data_dir=tmp_path))
    assert "could not be downloaded" in said
    with FaultyServer(corpus.folder) as server:
        server.folder = tmp_path
        assert "(Not Found)" in complaint(prepare(recipe(mirror(server, corpus), "d"), data_dir=tmp_path))
        # two servers would be asked once each; retries are for answers that may become better
        assert len(server.names) <= 3


def test_a_source_folder_replaces_downloads(corpus: Corpus, tmp_path: Path, expected: dict[str, bytes]) -> None:
    source = kinds.create("mirror", urls=("http://localhost:9/",), names=("a.jsonl",))
    list(prepare(recipe(source), data_dir=tmp_path, source=corpus.folder))
    assert token_files(tmp_path) == expected


def test_a_preparation_that_is_not_continued_downloads_nothing_more(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    size = 1 << 31  # far more than the buffers of a connection and what a busy machine sends before the first event
    with (folder / "a.jsonl").open("wb") as file:
        file.truncate(size)
    with FaultyServer(folder) as server:
        source = kinds.create("mirror", urls=(server.url,), names=("a.jsonl",))
        with closing(prepare(recipe(source), data_dir=tmp_path)) as work:
            assert any(isinstance(event, Downloading) for event in work)
            before = -1
            while before != server.sent_bytes:
                before = server.sent_bytes
                time.sleep(1)
            assert 0 < before < size


def test_a_token_is_not_sent_to_a_server_that_a_download_is_redirected_to(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    with FaultyServer(tmp_path) as other:

        class Redirect(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.headers.get("Authorization", ""))
                self.send_response(302)
                self.send_header("Location", f"{other.url}a")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        seen: list[str] = []
        with HTTPServer(("127.0.0.1", 0), Redirect) as server:
            threading.Thread(target=server.handle_request, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/"
            list(download(url, tmp_path / "copy", sha256=None, headers={"Authorization": "Bearer secret"}))
        assert (seen, other.tokens) == (["Bearer secret"], [""])
    assert (tmp_path / "copy").read_bytes() == b"text"


RECIPE = """
tokenizer = "byte"
[splits]
val_ratio = 0.05
[source]
{source}
[documents]
shuffle_tokens = 3000
"""


def write_recipe(folder: Path, source: str) -> dict[str, str]:
    """Write the recipe `c` and return the environment of a command that finds it."""
    (folder / "config" / "datasets").mkdir(parents=True)
    (folder / "config" / "datasets" / "c.toml").write_text(RECIPE.format(source=source))
    return {**os.environ, "NANOGPT_CONFIG_DIR": str(folder / "config"), "NANOGPT_DATA_DIR": str(folder / "data")}


def children(pid: int) -> list[int]:
    """The processes that a process has started; none if it has ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(status.parent.name))
        except OSError:
            continue
    return found


def modified(path: Path) -> int:
    """Returns when a file was changed last, in ns; 0 if there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_preparation_that_is_killed_again_and_again_gives_the_same_files(
    corpus: Corpus, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    draw, kills, started = random.Random(1), 0, set[int]()
    names, sums = json.dumps(list(hashes(corpus))), json.dumps(list(hashes(corpus).values()))
    with FaultyServer(corpus.folder, drop=0.3, least=1000) as server:
        source = f'kind = "mirror"\nurls = ["{server.url}"]\nnames = {names}\nsha256 = {sums}'
        environment = write_recipe(tmp_path, source)
        progress = unfinished_folder(tmp_path / "data" / "c") / "progress.json"
        while True:
            before = modified(progress)
            command = [sys.executable, "-m", "nanogpt", "prepare", "c", "--workers=2"]
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                # one window more than before, and then some moment; the last ones come to their end
                while process.poll() is None and kills < 4:
                    if modified(progress) not in (0, before):
                        started.update(children(process.pid))
                        time.sleep(draw.random() * 0.05)
                        process.send_signal(signal.SIGKILL)
                        kills += 1
                        break
                    time.sleep(0.01)
                output, errors = process.communicate()
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, (output, errors)
            deadline = time.monotonic() + 60
            while any(is_running(pid) for pid in started):  # they end because their pipes are closed
                assert time.monotonic() < deadline
                time.sleep(0.01)
    assert kills >= 1  # fewer than four if the test was held up until all was done
    assert token_files(tmp_path / "data") == expected


def test_the_hub_lists_the_files_of_one_commit(corpus: Corpus, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """The real client asks a stand-in of the hub on this machine."""
    commit = "c0ffee" + "0" * 34
    tree = [
        {
            "type": "file",
            "oid": "0" * 40,
            "path": f"data/{name}",
            "size": (corpus.folder / name).stat().st_size,
            "lfs": {"oid": digest, "size": (corpus.folder / name).stat().st_size, "pointerSize": 100},
        }
        for name, digest in hashes(corpus).items()
    ]
    tree += [{"type": "directory", "oid": "0" * 40, "path": "data/more"}]
    tree += [{"type": "file", "oid": "0" * 40, "path": "data/README.md", "size": 1}]
    info = {"id": "someone/texts", "sha": commit, "private": False, "downloads": 0, "likes": 0, "tags": []}
    root = tmp_path / "hub"
    files = root / "datasets" / "someone" / "texts" / "resolve" / commit / "data"
    files.parent.mkdir(parents=True)
    files.symlink_to(corpus.folder)
    api = root / "api" / "datasets" / "someone" / "texts"
    (api / "revision").mkdir(parents=True)
    (api / "revision" / "main").write_text(json.dumps(info))
    (api / "tree" / commit).mkdir(parents=True)
    (api / "tree" / commit / "data").write_text(json.dumps(tree))
    with FaultyServer(root, drop=0.3, least=1000) as server:
        environment = write_recipe(tmp_path, 'kind = "hub"\nrepo = "someone/texts"\nglob = "data/part-*"')
        environment |= {"HF_ENDPOINT": server.url.rstrip("/"), "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_secret"}
        command = [sys.executable, "-m", "nanogpt", "prepare", "c"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        requests = zip(server.names, server.tokens, strict=True)
        assert {token for name, token in requests if name.startswith("datasets/")} == {"Bearer hf_secret"}
    found = token_files(tmp_path / "data")
    # the order of the shards is drawn by their names, which have a folder here
    assert {split: len(content) for split, content in found.items()}.keys() == expected.keys()
    assert sum(map(len, found.values())) == sum(map(len, expected.values()))
    assert "hf_secret" not in (tmp_path / "data" / "c" / "meta.json").read_text()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('kind = "hub"\nrepo = "no-owner"\nglob = "*"', "must be the owner and the name"),
        ('kind = "mirror"\nurls = []', "urls is empty"),
        ('kind = "mirror"\nurls = ["ftp://x"]\nnames = ["a"]', "must begin with https:// or http://"),
        ('kind = "mirror"\nurls = ["http://x"]', "names or a manifest must say what to download"),
        ('kind = "mirror"\nurls = ["http://x"]\nnames = ["a"]\nsha256 = ["0", "1"]', "2 hashes for 1 names"),
        ('kind = "mirror"\nurls = ["http://x"]\nnames = ["a"]\nsha256 = ["0"]', "must be 64 hexadecimal digits"),
        ('kind = "mirror"\nurls = ["http://x"]\nnames = ["a"]\ntimeout_s = 0', "must be above 0"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_when_its_recipe_is_read(
    tmp_path: Path, source: str, said: str
) -> None:
    write_recipe(tmp_path, source)
    with pytest.raises(UserError, match=said):
        read_recipe(tmp_path / "config" / "datasets" / "c.toml")


def test_a_corpus_needs_a_table_of_documents(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('tokenizer = "byte"\n[source]\nkind = "hub"\nrepo = "a/b"\nglob = "*"\n')
    with pytest.raises(UserError, match=r"a source of kind hub needs a table \[documents\], which may be empty"):
        read_recipe(tmp_path / "c.toml")


def test_a_local_copy_is_read_in_place_of_a_download_that_failed(
    corpus: Corpus, tmp_path: Path, expected: dict[str, bytes], impatient: None
) -> None:
    with FaultyServer(corpus.folder) as server:
        source = mirror(server, corpus)
    assert "could not be downloaded" in complaint(prepare(recipe(source), data_dir=tmp_path))
    list(prepare(recipe(source), data_dir=tmp_path, source=corpus.folder))
    assert token_files(tmp_path) == expected


def test_other_files_of_a_mirror_are_another_corpus(corpus: Corpus, tmp_path: Path) -> None:
    one, two, *_ = corpus.documents
    with FaultyServer(corpus.folder) as server:
        list(prepare(recipe(mirror(server, corpus, names=(one,), sha256=())), data_dir=tmp_path, workers=1))
        more = recipe(mirror(server, corpus, names=(one, two), sha256=()))
        assert f"exists with files={one}, not {one}, {two}" in complaint(prepare(more, data_dir=tmp_path))
    meta = open_dataset("c", tmp_path).path / "meta.json"
    content = json.loads(meta.read_text())
    del content["source"]["settings"]["files"]  # as earlier versions wrote it
    meta.write_text(json.dumps(content))
    assert isinstance(list(prepare(more, data_dir=tmp_path))[-1], Prepared)
