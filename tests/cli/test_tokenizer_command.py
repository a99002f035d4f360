"""`nanogpt tokenizer`, as a person calls it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from nanogpt import tokenizers
from nanogpt.cli import main
from nanogpt.data import open_dataset, prepare, textfile_recipe
from nanogpt.data.split_text import split_text
from nanogpt.runs import find


@pytest.fixture
def story(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "story.txt"
    path.write_text(text + "The end – é日.\n")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("[" * 100_000)
    return path


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["tokenizer", *words]) == 0
    return capsys.readouterr().out


def test_a_tokenizer_is_trained_looked_at_and_used(
    story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(output(capsys, "train", "bpe,vocab_size=400", f"--text={story}", "--output=own.json", "--json"))
    assert found == {"path": str(tmp_path / "own.json"), "tokenizer": "bpe:400", "vocab_size": 400}
    saved = tokenizers.load(tmp_path / "own.json")
    assert tokenizers.fingerprint(saved) == tokenizers.fingerprint(tokenizers.create("bpe:400", [story.read_text()]))
    out = output(capsys, "show", "own.json", f"--text={story}", "--sentence=a\x1bb", "--curve", "--entries=3")
    tokens = len(saved.encode(story.read_text()))
    assert f"tokens              {tokens:,}\n" in out
    assert "a|␛|b" in out
    assert f"\n400  {story.stat().st_size / tokens:.3f}\n" in out
    assert main(["prepare", "textfile", str(story), "--tokenizer=hf:own.json"]) == 0
    assert open_dataset("story").tokenizer.name == "bpe"


def test_a_file_is_shown_without_torch(story: Path) -> None:
    code = "import sys; from nanogpt.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    assert main(["tokenizer", "train", "bpe:300", f"--text={story}", "--output=own.json"]) == 0
    words = ["tokenizer", "show", "own.json", f"--text={story}"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr


def test_the_figures_are_json(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = json.loads(output(capsys, "show", "byte", f"--text={story}", "--sentence=é\x1b", "--json"))
    assert (found["tokens"], found["text_bytes"]) == (story.stat().st_size, story.stat().st_size)
    assert (found["bytes_per_token"], found["vocab_size"]) == (1, 256)
    assert found["sentence"] == [
        {"id": 0xC3, "text": r"\xc3"},
        {"id": 0xA9, "text": r"\xa9"},
        {"id": 0x1B, "text": "␛"},
    ]


def test_several_are_compared_on_a_data_set_and_trained_on_its_training_split(
    story: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    list(prepare(textfile_recipe([story], tokenizer="gpt2")))
    dataset = open_dataset("story")
    train, val = ("".join(split_text(dataset, split)) for split in ("train", "val"))
    assert train + val == story.read_text()
    found = json.loads(output(capsys, "compare", "story", "char", "bpe:300", "--dataset=story", "--json"))
    assert [each["tokenizer"] for each in found] == ["story", "char", "bpe:300"]
    assert [each["characters"] for each in found] == [len(val)] * 3
    assert found[2]["tokens"] == len(tokenizers.create("bpe:300", [train]).encode(val))
    assert found[0]["vocab_size"] == 50257
    table = output(capsys, "compare", "story", "byte", "--sentence=To be")  # on the data set that is compared
    assert f"story, val: {len(val):,} characters" in table
    assert "byte: 5 tokens: T|o| |b|e" in table


@pytest.mark.parametrize("spec", ["char", "byte", "gpt2", "bpe:300", "bpe:300,pattern=gpt4"])
def test_what_is_exported_encodes_equally(
    story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: str
) -> None:
    output(capsys, "train", spec, f"--text={story}", "--output=own.json")
    out = output(capsys, "export", "own.json", "exported")
    assert out.splitlines() == [str(tmp_path / "exported" / f"tokenizer{part}.json") for part in ("", "_config")]
    theirs = Tokenizer.from_file("exported/tokenizer.json")
    assert theirs.encode(story.read_text()).ids == tokenizers.load(Path("own.json")).encode(story.read_text())
    output(capsys, "export", "own.json", "one.json")
    assert Path("one.json").read_text() == Path("exported/tokenizer.json").read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["train"], "train takes one spec"),
        (["train", "bpe:4"], "at least 257"),
        (["train", "bpe:400"], "no text: give --text=FILE, or --dataset=NAME"),
        (["train", "bpe:400", "--text=story.txt", "--dataset=x"], "not both"),
        (["train", "bpe:400", "--text=story.txt", "--output=story.txt"], "exists; choose another place"),
        (["train", "bpe:400", "--text=story.txt", "--output=.", "--force"], "Is a directory"),
        (["train", "bpe:400", "--text=story.txt", "--output=/proc/x/y.json"], "cannot write /proc/x/y.json"),
        (["show", "gtp2", "--text=story.txt"], "no tokenizer, data set, run or file 'gtp2'. Did you mean gpt2?"),
        (["show", 300 * "x", "--text=story.txt"], "no tokenizer, data set, run or file"),
        (["show", "gpt2", "--text=absent.txt"], "absent.txt"),
        (["show", "gpt2", "--dataset=absent"], "no data set 'absent'"),
        (["show", "story.txt", "--text=story.txt"], "cannot read the tokenizer"),
        (["show", "broken", "--text=story.txt"], "nested too deeply"),
        (["compare", "gpt2", "--text=story.txt"], "two tokenizers or more"),
        (["export", "gpt2"], "a tokenizer and a place"),
        (["export", "bpe:300", "x"], "made from a text"),
        (["look", "gpt2"], "invalid choice"),
    ],
)
def test_what_is_wrong_is_one_line(
    story: Path, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert main(["tokenizer", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert complaint in err


def test_the_tokenizer_of_a_run_is_found_and_a_damaged_one_is_said_to_be_damaged(
    story: Path, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *small, "--max_iters=1", "--name=one"]) == 0
    Path("one").mkdir()  # another folder of the same name, which has no tokenizer
    output(capsys, "export", "one", "exported")
    (find("one") / "tokenizer.json").write_text("{")
    capsys.readouterr()
    assert main(["tokenizer", "show", "one", f"--text={story}"]) == 2
    assert "cannot read the tokenizer" in capsys.readouterr().err
