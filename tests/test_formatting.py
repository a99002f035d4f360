"""Figures and counts in the words of a colleague."""

import pytest

from nanogpt.formatting import counted, significant, token_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00001234, "0.000012"),
        (0.069, "0.069"),
        (1.0, "1.0"),
        (42.04, "42.0"),
        (130.2, "130"),
        (12_345.6, "12,346"),
        (3e12, "3,000,000,000,000"),
    ],
)
def test_a_figure_has_digits_and_no_exponent(value: float, text: str) -> None:
    assert significant(value) == text


def test_one_is_no_plural() -> None:
    assert [counted(count, "token") for count in (0, 1, 2000)] == ["0 tokens", "1 token", "2,000 tokens"]


def test_a_token_is_shown_in_one_line_of_visible_characters() -> None:
    shown = {
        b"a b": "a b",
        b"\n\t\r": r"\n\t\r",
        b"\\n": r"\\n",
        b"\xe6\x97": r"\xe6\x97",
        "\u200b".encode(): r"\u200b",
    }
    assert {token: token_text(token) for token in shown} == shown
    assert token_text(b"\x1b[31m") == "␛[31m"
    assert token_text("é".encode() * 9, 9) == "é" * 9
    assert token_text("🤖".encode() * 10, 9) == "🤖" * 9 + "…"
