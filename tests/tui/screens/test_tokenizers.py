"""The Tokenizers screen: a sentence cut by two tokenizers."""

from pathlib import Path
from typing import Any

import pytest

from nanogpt.data import prepare, textfile_recipe
from nanogpt.inspection.tokenization import cut
from nanogpt.tokenizers import gpt2
from nanogpt_tui.screens.tokenizers.choices import default_pair
from nanogpt_tui.screens.tokenizers.cut_view import CutView
from nanogpt_tui.token_views import piece_text


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
    assert [piece_text(piece, False) for piece in ("é".encode(), b" " + "日".encode()[:2], b"\n")] == [
        "é",
        " <E6><97>",
        "↵",
    ]
    assert piece_text(b"\x1b[0m\n", True).isprintable()


def test_the_first_comparison_is_of_the_data_set_and_a_published_tokenizer_that_is_here() -> None:
    options = [("dataset a", "a: char, 65"), ("dataset b", "b: char, 9"), ("spec byte", "byte, 256")]
    far = ("spec gpt2", "gpt2, 50,257 (needs the network)")
    assert default_pair([*options, far], "b") == ("dataset b", "spec byte")
    assert default_pair([*options, far], "") == ("dataset a", "spec byte")
    assert default_pair([options[2]], "a") == ("spec byte", "spec byte")
