"""Recipes: what is shipped, a person's own, and everything that can be wrong in one."""

import math
from pathlib import Path

import pytest

from nanogpt.data import prepare, sources
from nanogpt.data.inspection import forecast
from nanogpt.data.recipes import Recipe, load_recipe, read_recipe, recipe_paths, textfile_recipe
from nanogpt.data.sources import files
from nanogpt.data.streams import SUFFIXES
from nanogpt.errors import SettingError, UserError
from tests.narrowing import expect

SOUND = """
title = "My text"
tokenizer = "byte"
[splits]
val_ratio = 0.2
[source]
kind = "files"
paths = ["a.txt"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_every_shipped_recipe_can_be_read() -> None:
    assert {"shakespeare_char", "shakespeare", "python_stdlib", "shakespeare_plays"} <= set(recipe_paths())
    for name in recipe_paths():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.title
        assert recipe.description
        assert recipe.licence


def test_a_persons_own_recipe_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOGPT_CONFIG_DIR", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "shakespeare_char.toml").write_text(SOUND)
    recipe = load_recipe("shakespeare_char")
    assert (recipe.title, recipe.tokenizer, recipe.val_ratio) == ("My text", "byte", 0.2)
    assert expect(files.Source, recipe.source).paths == (tmp_path / "datasets" / "a.txt",)  # relative to the recipe
    (tmp_path / "datasets" / ".#mine.toml").symlink_to("user@host.1234")  # Emacs' lock of a file that is edited
    assert not [name for name in recipe_paths() if "mine" in name]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("title =", "titel ="), "unknown key 'titel'.* Did you mean title"),
        (("val_ratio", "val_ration"), r"\[splits\]: unknown key 'val_ration'.* Did you mean val_ratio"),
        (("paths =", "path ="), r"\[source\]: unknown key 'path'"),
        (('"byte"', '"bite"'), "no tokenizer 'bite'.* Did you mean byte"),
        (('"byte"', "3"), "tokenizer = 3 must be a text"),
        (("0.2", '"much"'), "val_ratio = 'much' must be a number"),
        (("0.2", "true"), "val_ratio = True must be a number"),
        (("0.2", "nan"), "val_ratio=nan must be above 0 and below 1"),
        (("0.2", "1"), "val_ratio=1 must be"),
        (("0.2", f"0x{'f' * 5000}"), "cannot be read: it has a number of thousands of digits"),
        (
            ('"files"', '"file"'),
            "no source 'file'; known sources: files, hub, .*, url. Did you mean files",
        ),
        (('["a.txt"]', "[1]"), "paths must be a list of texts"),
        (('["a.txt"]', "[]"), "paths is empty"),
        (('kind = "files"', ""), "'kind' is missing; known sources: files, "),
        (('"files"', "[1]"), r"kind = \[1\] must be a text"),
        (('tokenizer = "byte"', ""), "'tokenizer' is missing"),
        (("[source]", "[source"), "cannot be read"),
        (('kind = "files"\npaths = ["a.txt"]', 'kind = "url"\nurl = "https://a.example/b"'), "'sha256' is missing"),
        (
            ('kind = "files"\npaths = ["a.txt"]', 'kind = "url"\nurl = "file:///etc"\nsha256 = ""'),
            "must begin with http",
        ),
        (('kind = "files"\npaths = ["a.txt"]', 'kind = "url"\nurl = "http://a"\nsha256 = "f"'), "64 hexadecimal"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_named(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    assert change[0] in SOUND
    with pytest.raises(UserError, match=complaint) as refusal:
        read_recipe(written(tmp_path, SOUND.replace(*change)))
    assert "mine.toml" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match="Did you mean shakespeare_char"):
        load_recipe("shakespear_char")


def test_what_is_prepared_is_listed_with_the_recipes_where_a_name_is_unknown(home: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("a text of one's own\n" * 20)
    list(prepare(textfile_recipe([tmp_path / "own.txt"])))
    with pytest.raises(UserError, match=r"no data set 'onw'; existing data sets: .*, own, .*Did you mean own"):
        load_recipe("onw")
    with pytest.raises(UserError, match=r"own was made from your own text.*--output=own.*documents PATH"):
        load_recipe("own")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", ".hidden", "-x", "a b", "a\n", "é", "x" * 65])
def test_a_name_must_be_a_plain_folder_name(name: str) -> None:
    with pytest.raises(UserError, match="cannot name a data set"):
        Recipe(name=name, source=sources.create("stdlib"))


@pytest.mark.parametrize(
    ("val_ratio", "test_ratio"),
    [(0, 0), (1, 0), (-0.1, 0), (math.nan, 0), (math.inf, 0), (0.1, -1), (0.1, math.nan), (0.5, 0.5)],
)
def test_ratios_outside_their_bounds_are_refused(val_ratio: float, test_ratio: float) -> None:
    with pytest.raises(SettingError, match="ratio"):
        Recipe(name="x", source=sources.create("stdlib"), val_ratio=val_ratio, test_ratio=test_ratio)


def test_a_file_that_the_tokenizer_is_in_is_read_when_the_data_set_is_prepared(home: Path) -> None:
    recipe = Recipe(name="x", source=sources.create("stdlib"), tokenizer="hf:/no/such/tokenizer.json")
    for work in (prepare(recipe), forecast(recipe)):
        with pytest.raises(SettingError, match=r"cannot read the tokenizer /no/such/tokenizer\.json"):
            next(work)


def test_a_text_files_recipe_is_named_after_it() -> None:
    assert textfile_recipe(["/tmp/My Novel (2).txt"]).name == "My_Novel_2_"
    assert {textfile_recipe([f"book.txt{suffix}"]).name for suffix in ("", *SUFFIXES)} == {"book"}
    assert textfile_recipe(["a.txt", "b.txt"], name="both").name == "both"
    with pytest.raises(UserError, match="no text given"):
        textfile_recipe([])
