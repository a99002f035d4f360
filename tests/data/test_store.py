"""Prepared data sets: opening, damage, deleting, and the list of what there is."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from nanogpt.data import delete_dataset, is_prepared, list_datasets, open_dataset, prepare, store, textfile_recipe
from nanogpt.data.names import unfinished_folder
from nanogpt.data.store import remove_stale_folders
from nanogpt.data.token_files import TokenFiles
from nanogpt.errors import UserError
from tests.sharding import cut_into_shards

TEXT = "It was a dark and stormy night. " * 20


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Holds one data set, `night`."""
    (tmp_path / "night.txt").write_text(TEXT)
    for _ in prepare(textfile_recipe([tmp_path / "night.txt"]), data_dir=tmp_path / "data"):
        pass
    return tmp_path / "data"


def test_it_opens_by_name_and_by_path(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOGPT_DATA_DIR", str(data_dir))
    for name_or_path in ("night", data_dir / "night", str(data_dir / "night")):
        dataset = open_dataset(name_or_path)
        assert (dataset.name, dataset.path) == ("night", data_dir / "night")
        assert isinstance(dataset.split("train"), np.memmap)
        assert dataset.tokenizer.decode(dataset.split("train")) == TEXT[:576]  # nine tenths of 640
    for read in (dataset.split, dataset.check_ids):
        with pytest.raises(UserError, match="no split 'test'; it has train, val"):
            read("test")


def test_a_folder_here_that_bears_the_name_of_a_recipe_does_not_stand_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python_stdlib").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not is_prepared("python_stdlib", tmp_path / "data")


def test_what_is_not_there_says_how_to_get_it(data_dir: Path) -> None:
    with pytest.raises(UserError, match="not prepared: run `nanogpt prepare shakespeare_char`"):
        open_dataset("shakespeare_char", data_dir)
    with pytest.raises(UserError, match=r"no data set 'nigth'\. Did you mean night"):
        open_dataset("nigth", data_dir)
    with pytest.raises(UserError, match="cannot name"):
        open_dataset("", data_dir)


def test_a_folder_of_nanogpt_is_recognised(data_dir: Path) -> None:
    (data_dir / "night" / "meta.json").unlink()
    with pytest.raises(UserError, match=r"has no meta.json.*nanogpt prepare tokens "):
        open_dataset("night", data_dir)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (
            lambda folder: os.truncate(folder / "val.bin", 100),
            r"val.bin is truncated: 28 of 128 bytes are missing; prepare",
        ),
        (lambda folder: (folder / "train.bin").unlink(), "train.bin is truncated: 1152 of 1152"),
        (lambda folder: os.truncate(folder / "val.bin", 130), "has 2 bytes more than the 128"),
        (lambda folder: (folder / "meta.json").write_text("{}"), "does not describe a data set"),
        (lambda folder: (folder / "meta.json").write_text("[" * 9), "cannot be read"),
        (lambda folder: (folder / "meta.json").write_text('{"format": 3}'), "newer version"),
        (lambda folder: changed(folder, dtype="float64"), "does not describe"),
        (lambda folder: changed(folder, tokens={"../../train": 1, "train": 1, "val": 1}), "does not describe"),
        (lambda folder: changed(folder, tokens={"train": -1, "val": 1}), "does not describe"),
        (lambda folder: changed(folder, tokens=None), "does not describe"),
        (lambda folder: changed(folder, source="a text"), "does not describe"),
        (lambda folder: changed(folder, characters="many"), "does not describe"),
        (lambda folder: changed(folder, title=None), "does not describe"),
    ],
)
def test_damage_is_seen_on_opening(data_dir: Path, damage: Callable[[Path], object], complaint: str) -> None:
    damage(data_dir / "night")
    with pytest.raises(UserError, match=complaint) as refusal:
        open_dataset("night", data_dir)
    assert "\n" not in str(refusal.value)


def changed(folder: Path, **values: object) -> None:
    path = folder / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_flipped_bit_is_seen_by_verifying(data_dir: Path) -> None:
    path = data_dir / "night" / "val.bin"
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    open_dataset("night", data_dir)
    with pytest.raises(UserError, match=r"val\.bin has changed"):
        open_dataset("night", data_dir, verify=True)


def test_another_tokenizer_than_its_own_is_refused(data_dir: Path) -> None:
    path = data_dir / "night" / "tokenizer.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"characters": "".join(sorted(saved["characters"] + "z"))}))
    with pytest.raises(UserError, match="not the tokenizer of its tokens"):
        _ = open_dataset("night", data_dir).tokenizer
    path.write_text("nonsense")
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read"):
        _ = open_dataset("night", data_dir).tokenizer


def test_deleting_leaves_nothing(data_dir: Path) -> None:
    delete_dataset("night", data_dir)
    assert list(data_dir.iterdir()) == []
    with pytest.raises(UserError, match="no data set 'night'"):
        delete_dataset("night", data_dir)
    with pytest.raises(UserError, match="cannot name"):
        delete_dataset("../prepared", data_dir)


def test_a_data_set_that_is_being_prepared_again_is_not_deleted(data_dir: Path) -> None:
    unfinished = unfinished_folder(data_dir / "night")
    unfinished.mkdir()
    with FileLock(unfinished / "lock"), pytest.raises(UserError, match="being prepared"):
        delete_dataset("night", data_dir)
    assert is_prepared("night", data_dir)
    delete_dataset("night", data_dir)
    assert list(data_dir.iterdir()) == []


def test_on_a_disk_without_locks_a_killed_preparation_keeps_no_data_set_from_being_deleted(
    data_dir: Path, no_locks: None
) -> None:
    unfinished = unfinished_folder(data_dir / "night")
    unfinished.mkdir()
    (unfinished / "lock").touch()
    delete_dataset("night", data_dir)
    assert list(data_dir.iterdir()) == []


def test_of_two_preparations_of_one_name_at_once_the_second_replaces_nothing(tmp_path: Path) -> None:
    first, second = ((tmp_path / name / "night.txt") for name in ("a", "b"))
    for path, content in ((first, TEXT), (second, TEXT[::-1])):
        path.parent.mkdir()
        path.write_text(content)
    slow = prepare(textfile_recipe([first]), data_dir=tmp_path / "data")
    next(slow)
    list(prepare(textfile_recipe([second]), data_dir=tmp_path / "data"))
    made = open_dataset("night", tmp_path / "data").meta.sha256
    with pytest.raises(UserError, match="made by another process meanwhile"):
        list(slow)
    assert open_dataset("night", tmp_path / "data", verify=True).meta.sha256 == made
    list(prepare(textfile_recipe([first]), data_dir=tmp_path / "data", force=True))
    assert open_dataset("night", tmp_path / "data").meta.sha256 != made


def test_what_a_killed_process_had_moved_away_is_put_back(data_dir: Path) -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    from nanogpt.data.store import _host

    (data_dir / "night").rename(data_dir / f".night~{_host()}~{child.stdout.strip()}~old~abc")
    elsewhere = data_dir / f".night~another-host~{child.stdout.strip()}~part~abc"
    elsewhere.mkdir()
    remove_stale_folders(data_dir)
    assert open_dataset("night", data_dir, verify=True).name == "night"
    assert elsewhere.exists()  # of what another machine does nothing is known


def test_the_list_has_recipes_and_prepared_data_sets(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NANOGPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NANOGPT_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config" / "datasets").mkdir(parents=True)
    (tmp_path / "config" / "datasets" / "broken.toml").write_text("tokenizer = ")
    found = {info.name: info for info in list_datasets(data_dir)}
    assert list(found) == sorted(found)
    night = found["night"]
    assert (night.prepared, night.offline, night.tokens, night.problem) == (True, True, {"train": 576, "val": 64}, "")
    assert night.vocab_size == len(set(TEXT))
    assert night.size_bytes > 2 * 640
    assert (found["python_stdlib"].prepared, found["python_stdlib"].offline) == (False, True)
    assert (found["shakespeare_char"].prepared, found["shakespeare_char"].offline) == (False, False)
    assert "cannot be read" in found["broken"].problem
    (tmp_path / "config" / "datasets" / "broken.toml").rename(tmp_path / "config" / "datasets" / "night.toml")
    assert {info.name: info for info in list_datasets(data_dir)}["night"] == night  # prepared, whatever its recipe is
    os.truncate(data_dir / "night" / "val.bin", 0)
    assert "truncated" in {info.name: info for info in list_datasets(data_dir)}["night"].problem


def test_listing_imports_neither_torch_nor_numpy() -> None:
    listing = "import sys; from nanogpt.data import list_datasets; list_datasets()"
    code = f"{listing}; print({{'torch', 'numpy'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def linked(data_dir: Path, tmp_path: Path) -> Path:
    """The data set `night` as a link to a folder elsewhere."""
    (data_dir / "night").rename(tmp_path / "disk")
    (data_dir / "night").symlink_to(tmp_path / "disk")
    return tmp_path / "disk"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_of_a_data_set_that_is_a_link_the_link_alone_is_deleted(data_dir: Path, linked: Path) -> None:
    before = contents(linked)
    delete_dataset("night", data_dir)
    assert list(data_dir.iterdir()) == []
    assert contents(linked) == before


def test_a_data_set_that_is_a_link_is_replaced_and_its_target_stays(
    data_dir: Path, linked: Path, tmp_path: Path
) -> None:
    before = contents(linked)
    (tmp_path / "night.txt").write_text("Another text. " * 50)
    list(prepare(textfile_recipe([tmp_path / "night.txt"]), data_dir=data_dir, force=True))
    assert not (data_dir / "night").is_symlink()
    assert "Another" in open_dataset("night", data_dir).tokenizer.decode(open_dataset("night", data_dir).split("train"))
    assert contents(linked) == before
    assert [each.name for each in data_dir.iterdir()] == ["night"]


def test_a_link_that_a_killed_process_left_is_removed_as_a_link(data_dir: Path, linked: Path) -> None:
    before, gone = contents(linked), 2**22 + 1  # Linux has no process of such a number
    (data_dir / f".night~{os.uname().nodename}~{gone}~old~abcd").symlink_to(linked)
    remove_stale_folders(data_dir)
    assert [each.name for each in data_dir.iterdir()] == ["night"]
    assert contents(linked) == before


def put_id(path: Path, place: int, id: int) -> None:
    """Puts one id into a token file, in place, and sees to it that its time tells."""
    before = path.stat().st_mtime_ns
    ids = np.memmap(path, dtype="<u2", mode="r+")
    ids[place] = id
    ids.flush()
    os.utime(path, ns=(before, before + 1))  # a clock may tick only every few milliseconds


@pytest.mark.parametrize(("split", "place"), [("train", 0), ("train", -1), ("val", 40)])
def test_an_id_outside_the_vocabulary_is_found_in_one_look(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, split: str, place: int
) -> None:
    monkeypatch.setattr(store, "CHECKED_IDS", 100)  # train has 576, val 64
    dataset = open_dataset("night", data_dir)
    last = dataset.meta.vocab_size - 1
    put_id(dataset.path / f"{split}.bin", place, last)
    dataset.check_ids(split)
    put_id(dataset.path / f"{split}.bin", place, last + 1)
    with pytest.raises(UserError, match=rf"{split}\.bin has the token id {last + 1}, but the last id .* is {last}"):
        dataset.check_ids(split)


def test_the_advice_for_a_missing_test_split_can_be_followed(data_dir: Path) -> None:
    with pytest.raises(UserError) as caught:
        open_dataset("night", data_dir).split("test")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("data set night has no split 'test'; it has train, val, because")
    assert "--val_ratio=0.1 --test_ratio=0.1 --output=night-test" in str(caught.value)


def test_token_files_that_are_as_they_were_written_are_not_read_for_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset("night", data_dir)
    monkeypatch.setattr(store.Dataset, "split", lambda self, name: pytest.fail("it was read"))
    dataset.check_ids("train")


def test_a_data_set_of_an_earlier_version_opens_and_is_checked(data_dir: Path) -> None:
    meta = data_dir / "night" / "meta.json"
    values = json.loads(meta.read_text())
    del values["modified_ns"]
    meta.write_text(json.dumps(values))
    path = data_dir / "night" / "val.bin"
    ids = np.fromfile(path, "<u2")
    open_dataset("night", data_dir).check_ids("val")
    ids[-1] = 60_000
    ids.tofile(path)
    with pytest.raises(UserError, match="has the token id 60,000"):
        open_dataset("night", data_dir).check_ids("val")


@pytest.mark.usefixtures("unprivileged")
def test_a_refused_permission_is_called_that_and_nobody_is_told_to_prepare_anew(data_dir: Path) -> None:
    night = data_dir / "night"
    for path, read in (
        (night / "meta.json", lambda: open_dataset("night", data_dir)),
        (night / "tokenizer.json", lambda: open_dataset("night", data_dir).tokenizer),
        (night / "train.bin", lambda: open_dataset("night", data_dir).split("train")),
        (night, lambda: open_dataset("night", data_dir)),
        (night, lambda: delete_dataset("night", data_dir)),
        (night / "meta.json", lambda: list(prepare(textfile_recipe([data_dir], name="night"), data_dir=data_dir))),
    ):
        mode = path.stat().st_mode
        path.chmod(0)
        try:
            with pytest.raises(UserError, match="permission denied") as caught:
                read()
        finally:
            path.chmod(mode)
        assert "damaged" not in str(caught.value)
        assert "--force" not in str(caught.value)


@pytest.mark.parametrize("name", ["meta.json", "tokenizer.json", "train.bin"])
def test_a_pipe_in_its_place_is_refused(data_dir: Path, name: str) -> None:
    (data_dir / "night" / name).unlink()
    os.mkfifo(data_dir / "night" / name)
    with pytest.raises(UserError, match=r"not a regular file|has no meta.json|missing"):
        open_dataset("night", data_dir).tokenizer.encode("a")


def shard(data_dir: Path, name: str) -> Path:
    """Cut `night` into shards of 100 tokens (train has 576, val 64), and return one of its files."""
    cut_into_shards(data_dir / "night", 100)
    return data_dir / "night" / name


def test_a_data_set_in_shards_opens_like_another(data_dir: Path) -> None:
    shard(data_dir, "")
    files = sorted(path.name for path in (data_dir / "night").glob("*.bin"))
    assert files == [*(f"train-0000{number}.bin" for number in range(6)), "val-00000.bin"]
    dataset = open_dataset("night", data_dir, verify=True)
    assert isinstance(dataset.split("train"), TokenFiles)
    assert isinstance(dataset.split("val"), np.ndarray)  # of one file
    assert dataset.tokenizer.decode(dataset.split("train")) == TEXT[:576]
    assert dataset.tokenizer.decode(dataset.split("val")) == TEXT[576:]
    (info,) = [info for info in list_datasets(data_dir) if info.name == "night"]
    assert info.tokens == {"train": 576, "val": 64}
    assert info.size_bytes >= 640 * 2 + 7 * 1024


def test_an_earlier_version_does_not_take_shards_for_damage(data_dir: Path) -> None:
    before = json.loads((data_dir / "night" / "meta.json").read_text())
    shard(data_dir, "")
    after = json.loads((data_dir / "night" / "meta.json").read_text())
    assert (before["format"], before["shards"], after["format"]) == (1, {}, 2)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda path: os.truncate(path, 1024 + 190), r"train-00004.bin is truncated: 10 of 1224 bytes are missing"),
        (lambda path: path.unlink(), r"train-00004.bin is truncated: 1224 of 1224 bytes"),
        (lambda path: path.write_bytes(bytes(1224)), r"train-00004.bin has changed since it was prepared"),
    ],
)
def test_a_damaged_shard_is_named(data_dir: Path, damage: Callable[[Path], object], complaint: str) -> None:
    damage(shard(data_dir, "train-00004.bin"))
    with pytest.raises(UserError, match=complaint):
        open_dataset("night", data_dir, verify=True)


def test_a_list_of_shards_that_cannot_be_is_no_data_set(data_dir: Path) -> None:
    shard(data_dir, "")
    path = data_dir / "night" / "meta.json"
    whole = path.read_text()
    for key, wrong in (("name", "../other.bin"), ("tokens", 99), ("tokens", "100"), ("sha256", None), ("more", 1)):
        meta = json.loads(whole)
        meta["shards"]["train"][0][key] = wrong
        path.write_text(json.dumps(meta))
        with pytest.raises(UserError, match="does not describe a data set"):
            open_dataset("night", data_dir)
    path.write_text(json.dumps({**json.loads(whole), "shards": {"train": []}}))
    with pytest.raises(UserError, match="does not describe a data set"):
        open_dataset("night", data_dir)


def test_only_shards_that_changed_are_read_to_check_their_ids(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shard(data_dir, "train-00002.bin")
    dataset = open_dataset("night", data_dir)
    put_id(path, 1024 // 2 + 99, dataset.meta.vocab_size)
    read = []
    original = TokenFiles.__getitem__

    def recorded(tokens: TokenFiles, index: slice) -> np.ndarray:
        read.append(index)
        return original(tokens, index)

    monkeypatch.setattr(TokenFiles, "__getitem__", recorded)
    with pytest.raises(UserError, match=r"train-00002\.bin has the token id"):
        dataset.check_ids("train")
    assert read == [slice(200, 300)]


def test_a_data_set_in_shards_is_deleted_whole(data_dir: Path) -> None:
    shard(data_dir, "")
    delete_dataset("night", data_dir)
    assert list(data_dir.iterdir()) == []
