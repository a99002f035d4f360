"""Paging through the documents of a data set, or through its text, before and after it is prepared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanogpt.data import prepare, textfile_recipe
from nanogpt.data.store import Dataset
from nanogpt_tui.screens.data.document_readers import DatasetReader
from tests.stories import prepare_stories


@pytest.fixture
def stories(home: Path, tmp_path: Path) -> Dataset:
    return prepare_stories(tmp_path)


async def opened(at: Any, name: str) -> Any:
    await at.press("1")
    screen = at.app.screen
    await at.until(lambda: screen.entries)
    screen.highlight(name)
    await at.until(lambda: screen.entry and screen.entry.name == name)
    await at.press("v")
    await at.until(lambda: getattr(at.app.screen, "page", None))
    return at.app.screen


async def test_documents_are_paged_with_the_arrows(lab: Any, stories: Dataset) -> None:
    async with lab() as at:
        screen = await opened(at, "stories")
        await at.sees("3 documents", "at 0.0%", "One fish.", "end of the document")
        await at.press("right")
        await at.sees("Two fish, red fish.")
        await at.press("left", "left")  # and not before the first one
        await at.sees("One fish.")
        await at.press("end")
        await at.until(lambda: screen.page.end == stories.meta.tokens["train"] - 1)
        await at.press("s")
        await at.sees("val: 0 documents")
        await at.press("h", "escape")
        await at.until(lambda: at.app.screen is not screen)


def test_a_jump_back_within_a_long_document_goes_back(stories: Dataset) -> None:
    ids = np.asarray(stories.split("train")[:])
    third = int(np.flatnonzero(ids == stories.tokenizer.end_of_text)[1]) + 1
    np.roll(ids, -third).astype("<u2").tofile(stories.path / "train.bin")  # the long one is the first
    reader = DatasetReader("stories")
    reader.first()
    second, back, further = reader.next(), reader.jump(-0.1), reader.jump(0.1)
    assert second is not None
    assert back is not None
    assert further is not None
    assert 0 < back.start < second.start
    assert further.start == len(ids) - third  # the next document


async def test_a_recipe_is_read_before_it_is_prepared(lab: Any, text_file: Path) -> None:
    async with lab() as at:
        screen = await opened(at, "rhymes")
        beginning = text_file.read_text().splitlines()[0]
        await at.sees("1 file", "small.txt", beginning)
        assert not screen.check_action("jump", (0.1,))
        first = screen.page
        await at.press("right")
        await at.until(lambda: screen.page is not first)
        await at.press("home")
        await at.until(lambda: screen.page is first)


async def test_what_cannot_be_read_is_said_and_hostile_text_does_nothing(lab: Any, tmp_path: Path) -> None:
    odd = tmp_path / "odd.txt"
    odd.write_text("[bold]x[/x] \x1b]0;owned\x07 \u202eabc\n" * 40, newline="")
    list(prepare(textfile_recipe([odd])))
    async with lab() as at:
        await opened(at, "odd")
        await at.sees("[bold]x[/x]")
        await at.press("h")
        await at.sees("[bold]x[/x]")
        assert not any(control in at.seen() for control in "\x1b\x07\u202e")
