"""`nanogpt look`: what a trained model does, as text and as JSON; and what it cannot show."""

import json
from shutil import copytree
from xml.etree import ElementTree

import numpy as np
import pytest

from nanogpt.cli import main
from nanogpt.formatting import token_text
from nanogpt.inspection import embeddings, token_losses
from nanogpt.paths import datasets_dir
from nanogpt.runs import find


@pytest.fixture
def trained(small, capsys):
    def train(*changes):
        words = [word for word in small if "--architecture=lstm" not in changes or "n_head" not in word]
        assert main(["train", *words, "--max_iters=2", "--name=one", *changes]) == 0
        capsys.readouterr()

    return train


@pytest.fixture
def look(capsys):
    def run(*words, code=0):
        assert main(["look", "one", *words]) == code
        out, err = capsys.readouterr()
        return (json.loads(out) if "--json" in words else out.splitlines()) if code == 0 else err

    return run


def test_every_head_has_its_scores(trained, look):
    trained()
    rows = look("--attention")
    assert rows[0].split() == ["head", "previous", "token", "first", "token", "induction", "kind"]
    assert [row.split()[0] for row in rows[1:]] == ["h.0.attn.0", "h.0.attn.1"]
    assert [head["head"] for head in look("--attention", "--json")["heads"]] == [0, 1]


def test_one_head_shows_where_it_looks(trained, look, text):
    trained()
    prompt = text[:6]
    rows = look("--attention", "--head=h.0.attn.1", f"--prompt={prompt}")
    assert len(rows) == 1 + len(prompt)
    figures = look("--attention", "--head=h.0.attn.1", f"--prompt={prompt}", "--json")
    assert "".join(figures["tokens"]) == prompt
    assert sum(figures["weights"][-1]) == pytest.approx(1.0, abs=1e-4)
    assert "no head 'h.9.attn.1'; the heads are h.0.attn.0 to h.0.attn.1" in look(
        "--attention", "--head=h.9.attn.1", f"--prompt={prompt}", code=2
    )


def test_each_layer_predicts_after_each_token(trained, look, text):
    trained("--n_layer=2")
    rows = look("--lens", f"--prompt={text[:5]}")
    assert rows[0].split() == ["token", "h.0", "h.1", "next"]
    assert len(rows) == 6
    layers = look("--lens", f"--prompt={text[:5]}", "--top=3", "--json")["layers"]
    assert [len(layer["ids"][0]) for layer in layers] == [3, 3]
    assert "a prompt is needed" in look("--lens", code=2)


def test_neighbours_and_losses(trained, look, text):
    trained()
    assert look("--neighbours", text[0], "--top=2")[0].count("“") == 3
    distinct = list(dict.fromkeys(text))
    assert len(distinct) > 16, "more than the window"
    assert len(look("--neighbours", "".join(distinct), "--top=1")) == len(distinct)
    rows = look("--losses", "--top=3")
    assert rows[0].split() == ["position", "loss"]
    figures = look("--losses", "--json")
    assert len(figures["by_position"]) == 16
    assert sum(figures["counts"].values()) > 0


def test_the_rows_that_pad_a_vocabulary_are_no_neighbours(trained, look, text, monkeypatch):
    """They are more like each token (by 1 / √128) than the other tokens are (0)."""
    trained("--vocab_size=128")
    known = len(set(text))
    vectors = np.eye(128, dtype=np.float32)
    vectors[known:] = 1.0
    monkeypatch.setattr(embeddings, "embeddings_of", lambda model: vectors)
    (token,) = look("--neighbours", text[0], "--top=3", "--json")["tokens"]
    assert len(token["nearest"]) == 3
    assert all(each["id"] < known for each in token["nearest"])


def test_losses_of_zero_have_no_share(trained, look, monkeypatch):
    """In float32 a prediction that is certain costs exactly nothing."""
    trained()
    certain = token_losses.TokenLosses(np.zeros(16), np.zeros(2), np.array([0, 8]))
    monkeypatch.setattr(token_losses, "token_losses", lambda model, batches: certain)
    assert look("--losses")[-1].split()[-4:] == ["0.000", "0.0%", "(8", "times)"]


def test_the_losses_of_a_run_that_is_named_by_its_path(trained, look, capsys, tmp_path):
    trained()
    folder = tmp_path / "copied"
    copytree(find("one"), folder)
    assert main(["look", str(folder), "--losses"]) == 0
    assert "position" in capsys.readouterr().out


def test_the_losses_on_a_damaged_data_set_are_refused_in_one_line(trained, look):
    trained()
    ids = datasets_dir() / "small" / "val.bin"
    ids.write_bytes(b"\xff" * ids.stat().st_size)
    error = look("--losses", code=2)
    assert "has the token id 65,535" in error
    assert error.count("\n") == 1


def test_what_a_model_cannot_show_is_said(trained, look):
    trained("--architecture=lstm")
    assert look("--attention", code=2) == "nanogpt look: attention is not shown for the architecture lstm\n"
    assert "predictions of each layer are not shown" in look("--lens", "--prompt=a", code=2)


def test_a_character_that_the_model_does_not_know_is_one_line(trained, look):
    trained()
    error = look("--lens", "--prompt=€", code=2)
    assert "unknown character" in error
    assert "--unknown" not in error


def drawn(file):
    """The texts and the number of paths of a picture."""
    root = ElementTree.parse(file).getroot()
    names = [each.tag.rpartition("}")[2] for each in root.iter()]
    return [each.text for each in root.iter() if each.tag.endswith("}text")], names.count("path")


def test_pictures_have_the_tokens_and_the_heads(trained, look, text, tmp_path):
    trained("--n_layer=2")
    file, prompt = tmp_path / "picture.svg", text[:6]
    rows = look("--attention", f"--prompt={prompt}", f"--picture={file}")
    assert rows[-1] == f"picture: {file}"
    texts, paths = drawn(file)
    assert {"h.0.attn", "h.1.attn"} <= set(texts)
    assert sum(each[0] in "01" for each in texts) == 4
    assert paths >= 4, "each of the four heads has squares"

    look("--attention", "--head=h.1.attn.0", f"--prompt={prompt}", f"--picture={file}")
    texts, _ = drawn(file)
    labels = [token_text(letter.encode()).replace(" ", "␣") for letter in prompt]
    assert texts == ["h.1.attn head 0", *(label for label in labels for _ in range(2))]

    figures = look("--lens", f"--prompt={prompt}", f"--picture={file}", "--json")
    texts, _ = drawn(file)
    assert [each["layer"] for each in figures["layers"]] == texts[:-3:-1]
    assert len(texts) == len(prompt) * 3 + 2

    look("--neighbours", text[0], f"--picture={file}")
    texts, _ = drawn(file)
    assert labels[0] in texts
    assert "of the variance" in texts[-1]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--attention", "--prompt=a", "--picture=a.png"], "it is drawn as SVG, so its name has to end in .svg"),
        (["--losses", "--picture=a.svg"], "--losses has no picture"),
        (["--attention", "--picture=a.svg"], "needs a prompt"),
        (["--attention", "--prompt=a", "--picture=no/such/folder/a.svg"], "cannot write"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_one_line(trained, look, text, words, problem):
    trained()
    known = [word.replace("--prompt=a", f"--prompt={text[0]}") for word in words]
    error = look(*known, code=2)
    assert problem in error
    assert error.count("\n") == 1
