"""The size of the text of a split: recorded, or counted from its tokens."""

import json
from pathlib import Path

import pytest

from nanogpt.data.preparation import prepare
from nanogpt.data.recipes import textfile_recipe
from nanogpt.data.store import open_dataset
from nanogpt.data.text_size import known_text_size
from nanogpt.errors import UserError

# One, two, three and four bytes a character, in different shares in each split.
TEXT = "plain words. " * 60 + "größer über Öl. " * 20 + "日本語の文。" * 20 + "🙂🙃 ok " * 20


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_each_split_records_its_characters_and_bytes_and_an_earlier_version_s_are_counted(
    tmp_path: Path, tokenizer: str
) -> None:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    recipe = textfile_recipe([path], name="text")
    for _ in prepare(recipe, data_dir=tmp_path, tokenizer=tokenizer, val_ratio=0.25, test_ratio=0.25):
        pass
    dataset = open_dataset("text", tmp_path)
    begin, parts = 0, {}
    for split, end in {"train": int(len(TEXT) * 0.5), "val": int(len(TEXT) * 0.75), "test": len(TEXT)}.items():
        parts[split], begin = TEXT[begin:end], end
    expected = {split: (len(part), len(part.encode())) for split, part in parts.items()}
    sizes = {split: known_text_size(dataset, split) for split in parts}
    assert {split: (size.characters, size.bytes) for split, size in sizes.items()} == expected

    meta = tmp_path / "text" / "meta.json"
    values = json.loads(meta.read_text())
    del values["split_characters"], values["split_bytes"]
    meta.write_text(json.dumps(values))
    old = open_dataset("text", tmp_path)
    assert {split: known_text_size(old, split) for split in parts} == sizes


def test_a_damaged_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    for _ in prepare(textfile_recipe([path], name="text"), data_dir=tmp_path):
        pass
    meta = tmp_path / "text" / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"split_bytes": {"val": 0}}))
    with pytest.raises(UserError, match="does not describe a data set"):
        open_dataset("text", tmp_path)
