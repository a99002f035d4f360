"""The figures of the Train screen: numbers that have no room lose digits that matter little, never the last ones."""

import math
from dataclasses import replace
from typing import Any

import pytest

from nanogpt.events import Evaluated
from nanogpt.loss_units import LossUnit
from nanogpt_tui.screens.train import figures
from nanogpt_tui.session.history import History
from tests.made_events import started

LARGE = (
    "12,345,678", "4 d 02 h", "20.3 M", "interrupted", "10.0578", "10.8345", "50,743,123.45", "1.19e-4", "1234.567",
    "1,200,000.25", "41.0%", "123.45 GB",
)  # fmt: skip


def evaluated(step: int, val_loss: float, average: float | None = None) -> Evaluated:
    return Evaluated(
        step=step,
        train_loss=2.0,
        val_loss=val_loss,
        best_val_loss=1.9,
        is_best=True,
        tokens=100,
        elapsed_s=1.0,
        ema_val_loss=average,
    )


@pytest.mark.parametrize(
    ("text", "room", "shown"),
    [
        ("50,743.34", 9, "50,743.34"),
        ("50,743.34", 8, "50,743"),
        ("1,200,000", 8, "1.2 M"),
        ("1234.567", 7, "1,235"),
        ("∞", 1, "∞"),
        ("training", 4, "training"),
    ],
)
def test_a_number_that_does_not_fit_has_fewer_digits(text: str, room: int, shown: str) -> None:
    assert figures.fit_number(text, room) == shown


@pytest.mark.parametrize(
    ("average", "unit", "value", "note"),
    [
        (None, "loss", "1.9000", "best 1.900 @ 10"),
        (1.75, "loss", "1.9000", "EMA 1.7500  best 1.750"),
        (None, "bits per byte", "–", "best – @ 10"),  # the size of the text is not known
    ],
)
def test_the_validation_loss_has_the_best_one_and_that_of_averaged_weights_beside_it(
    average: float | None, unit: LossUnit, value: str, note: str
) -> None:
    history = History("r")
    history.add(evaluated(10, 1.9, average))
    values = dict(zip((row.label for row in figures.ROWS), figures.figure_values(history, "", None, unit), strict=True))
    assert values["val loss"] == (value, note, "value")
    assert len(note) <= 22, "the room beside the figures on 120 columns"


def test_a_validation_loss_that_is_no_number_is_never_the_best() -> None:
    history = History("r")
    for step, loss in ((10, math.nan), (20, 1.9), (30, 2.1)):
        history.add(evaluated(step, loss))
    assert "best 1.900 @ 20" in [note for _, note, _ in figures.figure_values(history, "", None, "loss")]


def test_a_validation_loss_that_is_no_number_has_no_perplexity_and_no_bits() -> None:
    history = History("r")
    history.add(replace(started(), val_characters=10, val_bytes=10))
    history.add(evaluated(10, math.nan))
    values = dict(
        zip((row.label for row in figures.ROWS), figures.figure_values(history, "", None, "loss"), strict=True)
    )
    assert values["perplexity"] == ("–", "", "value")


async def test_tiles_cut_no_number_and_keep_values_and_labels_apart(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("g")
        await at.until(lambda: at.session.history and at.session.history.phase == "finished")
        monkeypatch.setattr(figures, "figure_values", lambda *_: ((text, "", "value") for text in LARGE))
        at.app.screen.run_view.figures.show(at.session.history, "", None, "loss")
        await at.sees("step       12.3 M    ")
        lines = [" ".join(line.split()) for line in at.seen().splitlines()]
        assert "train loss 10.0578 val loss 10.8345 perplexity 50.7 M lr 1.19e-4" in lines
        assert "grad norm 1234.567 tokens/s 1,200,000 MFU 41.0% memory 123.45 GB" in lines
