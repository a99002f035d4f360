"""The Tokenizers screen: a sentence cut by two tokenizers, the training of one, and what is drawn of it."""

from pathlib import Path
from threading import Event
from typing import Any

import pytest

from nanogpt import tokenizers
from nanogpt.data import open_dataset, prepare, textfile_recipe
from nanogpt.data.split_text import split_text
from nanogpt.events import TokenizerTraining, VocabularyPoint
from nanogpt.inspection.tokenization import cut
from nanogpt.tokenizers import gpt2
from nanogpt_tui.screens.tokenizers.chart import VocabularyChart, draw
from nanogpt_tui.screens.tokenizers.choices import Tokenizers, default_pair
from nanogpt_tui.screens.tokenizers.cut_view import CutView
from nanogpt_tui.screens.tokenizers.merges import Merges
from nanogpt_tui.screens.tokenizers.training import held_out
from nanogpt_tui.widgets.path_input import PathInput
from nanogpt_tui.widgets.tokenizer_field import TokenizerField
from tests.generators import outcome


async def opened(at: Any, name: str) -> Any:
    """The Tokenizers screen of a data set, with both sides cut."""
    await at.press("1")
    await at.until(lambda: at.app.screen.entries)
    at.app.screen.highlight(name)
    await at.until(lambda: at.app.screen.entry and at.app.screen.entry.name == name)
    await at.press("t")
    await at.until(lambda: type(at.app.screen).__name__ == "TokenizersScreen" and not at.app.screen.is_reading)
    screen = at.app.screen
    await at.until(lambda: all(view.cut or view.error for view in screen.query(CutView)))
    return screen


async def typed(at: Any, screen: Any, text: str) -> None:
    screen.query_one("#sentence").value = text
    await at.until(lambda: all(view.cut and view.cut.characters == len(text) for view in screen.query(CutView)))


@pytest.fixture
def small(home: Path, text_file: Path) -> None:
    list(prepare(textfile_recipe([text_file], tokenizer="char")))


async def test_a_sentence_is_cut_by_two_tokenizers_side_by_side(lab: Any, small: None) -> None:
    async with lab() as at:
        screen = await opened(at, "small")
        left, right = screen.query(CutView)
        screen.query_one("#right-tokenizer").value = "spec gpt2"
        await at.until(lambda: right.cut and right.cut.vocab_size == 50_257)
        await typed(at, screen, "the lazy dog")
        # characters: 12 tokens of one byte; GPT-2: "the", " lazy", " dog", 4 bytes a token
        assert (len(left.cut.ids), len(right.cut.ids)) == (12, 3)
        await at.sees("12 tokens", "1.00 a character", "3 tokens", "0.25 a character", "4.00 bytes a token")
        left.focus()
        await at.press(*["right"] * 5)  # on "a", the sixth character, inside " lazy"
        assert (left.cursor, right.cursor) == (5, 1)
        await at.sees("token 6 of 12", "token 2 of 3", f"id {right.cut.ids[1]:,}", "5 bytes: 20 6C 61 7A 79")
        await at.press("end", "right")
        assert (left.cursor, right.cursor) == (11, 2)
        await at.press("escape")
        await at.until(lambda: at.app.screen is not screen)


async def test_a_character_outside_the_vocabulary_is_said_where_it_is(lab: Any, small: None) -> None:
    async with lab() as at:
        screen = await opened(at, "small")
        await typed(at, screen, "the \N{SNOWMAN}")
        assert "unknown character" in screen.query_one("#left-cut").cut.problem
        await at.sees("unknown character")
        await typed(at, screen, "the")
        assert not screen.query_one("#left-cut").cut.problem


async def test_a_tokenizer_that_cannot_be_had_says_why(lab: Any, small: None) -> None:
    async with lab() as at:
        screen = await opened(at, "small")
        screen.tokenizers._loaded.clear()
        screen.query_one("#right-tokenizer").value = "dataset gone"
        await at.sees("no data set 'gone'")
        assert screen.query_one("#left-cut").cut is not None


def test_the_pieces_join_to_the_text_and_parts_of_characters_are_bytes() -> None:
    made = cut(gpt2.Tokenizer.create(None), "né 日\n")
    assert b"".join(made.pieces).decode() == "né 日\n"
    assert (made.characters, made.utf8_bytes) == (5, 8)


def test_those_that_are_made_from_a_text_are_trained_and_not_listed_as_published() -> None:
    keys = [key for key, _ in Tokenizers().options([])]
    assert {"spec byte", "spec gpt2"} <= set(keys)
    assert not {"spec bpe", "spec char", "spec sentencepiece"} & set(keys)


def test_the_first_comparison_is_of_the_data_set_and_a_published_tokenizer_that_is_here() -> None:
    options = [("dataset a", "a: char, 65"), ("dataset b", "b: char, 9"), ("spec byte", "byte, 256")]
    far = ("spec gpt2", "gpt2, 50,257 (needs the network)")
    assert default_pair([*options, far], "b") == ("dataset b", "spec byte")
    named = ("dataset network", "network: char, 65")
    assert default_pair([*options, far, named], "network") == ("dataset network", "spec byte")
    assert default_pair([*options, far], "") == ("dataset a", "spec byte")
    assert default_pair([options[2]], "a") == ("spec byte", "spec byte")


# ---- training


async def training(at: Any, screen: Any, spec: str) -> Any:
    await at.press("ctrl+t")
    train = screen.training
    train.query_one(TokenizerField).query_one("Input").value = spec
    return train


async def test_a_tokenizer_is_trained_with_its_merges_and_its_curve_and_can_then_be_compared(
    lab: Any, small: None
) -> None:
    async with lab() as at:
        screen = await opened(at, "small")
        train = await training(at, screen, "300")
        await at.until(lambda: "small" in train.query_one(VocabularyChart).marks)
        await at.press("ctrl+s")
        await at.until(lambda: train.trained is not None and not train.is_training)
        made = train.trained.tokenizer
        assert made.vocab_size == 300
        # 256 bytes, 43 merges and the end of text
        shown = train.query_one(Merges)._entries
        assert [number for number, _ in shown] == list(range(256, 299))
        await at.sees(shown[-1][1], "bytes per token", "bpe:300")
        chart = train.query_one(VocabularyChart)
        assert [point.vocab_size for point in chart.curve][-1] == 300
        assert [each.bytes_per_token for each in chart.curve] == sorted(each.bytes_per_token for each in chart.curve)
        *_, held = outcome(held_out("dataset small"))
        assert chart.curve[-1].bytes_per_token == len(held.encode()) / len(made.encode(held))
        await at.press("ctrl+t")
        right = screen.query_one("#right-cut")
        await at.until(lambda: right.cut and right.cut.vocab_size == 300)


async def test_other_glyphs_reach_the_comparison_and_the_chart(lab: Any, small: None) -> None:
    async with lab(size=(120, 60)) as at:
        screen = await opened(at, "small")
        chart = screen.query_one(VocabularyChart)
        await at.until(lambda: "small" in chart.marks and not at.seen().isascii())
        at.app.change_settings({"glyphs": "ascii"})
        await at.until(lambda: at.seen().isascii())
        assert chart.render().plain.isascii()  # nothing is left for the filter of the app to replace
        assert all(view.render().plain.isascii() for view in screen.query(CutView))


def endless(spec: str, texts: Any, total_bytes: int) -> Any:
    """A training of a tokenizer that does not end."""
    while True:
        yield TokenizerTraining(phase="merge", done_bytes=1, total_bytes=1, vocab_size=256, target=300)


async def test_a_training_is_cancelled(lab: Any, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = Event()

    def until_closed(*given: Any) -> Any:
        try:
            yield from endless(*given)
        finally:
            closed.set()

    async with lab() as at:
        screen = await opened(at, "small")
        train = await training(at, screen, "300")
        monkeypatch.setattr(tokenizers, "build", until_closed)
        await at.press("ctrl+s")
        await at.sees("merging")
        await at.press("escape")
        await at.sees("cancelled")
        await at.until(lambda: not train.is_training)
        assert closed.is_set()
        assert at.app.screen is screen  # escape cancelled, and did not leave
        await at.press("escape")
        await at.until(lambda: at.app.screen is not screen)


async def test_a_tokenizer_that_is_not_saved_outlasts_a_cancelled_training(
    lab: Any, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab() as at:
        screen = await opened(at, "small")
        train = await training(at, screen, "280")
        await at.press("ctrl+s")
        await at.until(lambda: train.trained is not None and not train.is_training)
        monkeypatch.setattr(tokenizers, "build", endless)
        train.query_one(TokenizerField).query_one("Input").value = "300"
        await at.press("ctrl+s")
        await at.sees("merging")
        assert screen.check_action("save_tokenizer", ())
        await at.press("escape")
        await at.sees("cancelled")
        await at.until(lambda: not train.is_training)
        await at.press("escape")
        await at.sees("The tokenizer bpe:280 is not saved")


async def test_a_file_is_a_text_and_what_is_wrong_is_said(lab: Any, small: None, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("low lower lowest " * 400)
    async with lab() as at:
        screen = await opened(at, "small")
        train = await training(at, screen, "200")
        await at.sees("has to be at least 257")
        train.query_one(TokenizerField).query_one("Input").value = "260"
        train.query_one("#text").value = "file"
        await at.press("ctrl+s")
        await at.sees("enter a file or a folder")
        train.query_one(PathInput).query_one("Input").value = str(tmp_path / "words.txt")
        await at.press("ctrl+s")
        await at.until(lambda: train.trained is not None)
        # “lo”, “low” (400 of each, the lower ids first)
        assert "“lo” + “w” → “low”" in [text for _, text in train.query_one(Merges)._entries]


async def test_a_trained_tokenizer_is_saved_and_compared_again_by_its_file(
    lab: Any, small: None, tmp_path: Path
) -> None:
    file = tmp_path / "mine.json"
    async with lab() as at:
        screen = await opened(at, "small")
        assert not screen.check_action("save_tokenizer", ())
        train = await training(at, screen, "280")
        await at.press("ctrl+s")
        await at.until(lambda: train.trained is not None and not train.is_training)
        await at.press("escape")
        await at.sees("The tokenizer bpe:280 is not saved")
        await at.press("escape")
        assert at.app.screen is screen
        await at.app.show_item("data", "rhymes")
        await at.sees("The tokenizer bpe:280 is not saved.")
        assert at.app.screen is screen
        await at.app.switch_mode("train")
        await at.press("q")
        await at.sees("The tokenizer bpe:280 is not saved.", "quit, losing what is not saved")
        await at.press("escape")
        await at.app.switch_mode("data")
        assert at.app.screen is screen
        await at.press("escape", "s")
        at.app.screen.query_one("Input").value = str(file)
        await at.press("enter")
        await at.until(file.exists)
        assert tokenizers.load(file).to_json() == train.trained.tokenizer.to_json()
        await at.press("ctrl+t", "ctrl+o")
        await at.paste("bpe:300")
        await at.press("enter")
        await at.sees("bpe:300 is made from a text")
        at.app.screen.query_one("Input").value = f"hf:/{300 * 'x'}"  # longer than a name may be
        await at.press("enter")
        await at.sees("cannot read the tokenizer")
        at.app.screen.query_one("Input").value = f"hf:{file}"
        await at.press("enter")
        right = screen.query_one("#right-cut")
        await at.until(lambda: screen.query_one("#right-tokenizer").value.startswith("spec hf:"))
        await at.until(lambda: right.cut and right.cut.vocab_size == 280)
        await at.press("escape")
        await at.until(lambda: at.app.screen is not screen)


def at(vocab_size: int, bytes_per_token: float) -> VocabularyPoint:
    return VocabularyPoint(vocab_size=vocab_size, bytes_per_token=bytes_per_token)


def test_the_chart_has_the_curve_and_the_marks_in_its_cells() -> None:
    curve = [at(264, 1.0), at(512, 2.0), at(1024, 3.0)]
    for glyphs in ("braille", "block", "ascii"):
        lines = draw(curve, {"bytes": at(256, 1.0), "one": at(1024, 3.0)}, 60, 20, glyphs).lines()
        assert "bytes per token" in lines[0]
        assert "bytes" in "".join(lines[1:])
        assert {"256", "512"} <= set(lines[-1].split())
        assert lines[-1].endswith("entries")
    assert all(len(line) == 27 for line in draw([], {"漢字": at(65, 1.0)}, 27, 6, "ascii").lines())


def test_the_text_of_a_split_is_decoded_from_its_tokens(small: None, text_file: Path) -> None:
    dataset = open_dataset("small")
    text = text_file.read_text()
    assert "".join(split_text(dataset, "train")) + "".join(split_text(dataset, "val")) == text
    *_, held = outcome(held_out("dataset small"))
    assert held == "".join(split_text(dataset, "val"))[: 1 << 18]


async def test_a_tokenizer_that_is_typed_twice_is_listed_once(lab: Any, small: None) -> None:
    async with lab() as at:
        screen = await opened(at, "small")
        for _ in range(2):
            await at.press("ctrl+o")
            at.app.screen.query_one("Input").value = "gpt2"
            await at.press("enter")
            await at.until(lambda: at.app.screen is screen and not screen.is_reading)
        keys = [key for key, _ in screen.tokenizers.options([])]
        assert keys.count("spec gpt2") == 1
        assert screen.tokenizers.typed == ["gpt2", "gpt2"]
