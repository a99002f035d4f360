"""Looks at text before and after it is prepared: they say what preparing then does."""

from pathlib import Path
from typing import Any

import pytest

from nanogpt.data import inspection, open_dataset, prepare, textfile_recipe
from nanogpt.data.inspection import forecast, preview_dataset
from nanogpt.errors import UserError
from nanogpt.events import Forecast, Prepared


def foretold(file: Path, tokenizer: str, **ratios: Any) -> Forecast:
    *_, last = forecast(textfile_recipe([file], tokenizer=tokenizer, **ratios))
    assert isinstance(last, Forecast)
    return last


@pytest.mark.parametrize("tokenizer", ["char", "byte", "gpt2", "bpe:300"])
def test_what_is_foretold_is_what_preparing_makes(text_file: Path, tokenizer: str) -> None:
    text_file.write_text(text_file.read_text() + "é€😀\n" * 50)
    before = foretold(text_file, tokenizer, test_ratio=0.05)
    *_, after = prepare(textfile_recipe([text_file], tokenizer=tokenizer, test_ratio=0.05))
    assert isinstance(after, Prepared)
    assert (before.tokens, before.vocab_size) == (after.tokens, after.vocab_size)
    assert before.exact
    assert before.text_bytes == text_file.stat().st_size


def test_a_long_text_is_estimated_from_pieces_and_said_to_be(
    text_file: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_file.write_text(text * 60)  # 2.4 MB in blocks of 1 MB
    whole = foretold(text_file, "gpt2")
    monkeypatch.setattr(inspection, "ENCODED", 1 << 20)
    part = foretold(text_file, "gpt2")
    assert not part.exact
    assert sum(part.tokens.values()) == pytest.approx(sum(whole.tokens.values()), rel=0.02)


def test_what_cannot_be_prepared_is_not_foretold(tmp_path: Path) -> None:
    binary = tmp_path / "picture.png"
    binary.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(UserError, match="not text"):
        foretold(binary, "char")


def test_a_look_shows_the_first_tokens_and_the_most_frequent(tmp_path: Path) -> None:
    file = tmp_path / "letters.txt"
    file.write_text("aaab" * 500)
    list(prepare(textfile_recipe([file])))
    seen = preview_dataset("letters", first=6)
    assert seen.beginning == (b"a", b"a", b"a", b"b", b"a", b"a")
    assert [token for token, _ in seen.common] == [b"a", b"b"]
    assert [share for _, share in seen.common] == pytest.approx([0.75, 0.25], abs=0.01)
    assert seen.counted == len(open_dataset("letters").split("train")) == 1800  # all of a short one
