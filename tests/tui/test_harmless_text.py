"""Text that nobody vouches for: shown as it is, doing nothing; numbers and times in few cells."""

from typing import Any

import pytest
from textual.widgets import Static

from nanogpt_tui.terminal.ascii import to_ascii
from nanogpt_tui.text import count, duration, escaped, safe_content, short, short_weights, unescaped

HOSTILE = "[bold]b[/bold] [/x] \x1b]0;title\x07 \x00 \x9b31m ‮evil‬ \u200f 🎭 \ud83d [@click=app.quit]x[/]"


def test_markup_stays_text_and_controls_become_visible() -> None:
    shown = safe_content(HOSTILE).plain
    assert "[bold]b[/bold] [/x]" in shown
    assert "[@click=app.quit]x[/]" in shown
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in shown)
    assert not any(char in shown for char in "\u202e\u202c\u200f\ud83d")


async def test_hostile_text_sends_no_escape_to_the_terminal(lab: Any) -> None:
    async with lab() as at:
        await at.app.screen.mount(Static(safe_content(HOSTILE), id="hostile"))
        await at.pilot.pause()
        await at.until(lambda: "[bold]b[/bold]" in at.seen())
        await at.until(lambda: "\x1b" not in at.seen())
        await at.until(lambda: "\x00" not in at.seen())


@pytest.mark.parametrize("text", ["", "a\nb", "C:\\new", "\\", "\\\\n\n", "\\\n", "\\t"])
def test_a_text_that_is_edited_in_one_line_and_left_as_it_is_stays_the_same(text: str) -> None:
    assert "\n" not in escaped(text)
    assert unescaped(escaped(text)) == text


def test_a_typed_backslash_before_another_letter_stands_for_itself() -> None:
    assert unescaped("C:\\temp\\none \\") == "C:\\temp\none \\"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (9_999, "9,999"), (85_000, "85 k"), (20.3e6, "20.3 M"), (1.2e9, "1.2 G")],
)
def test_counts_are_short(number: float, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (float("nan"), "–"), (0, "0:00"), (761, "12:41"), (11_229, "3:07:09"), (352_800, "4 d 02 h")],
)
def test_durations_read_as_a_clock(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_what_is_too_long_ends_in_an_ellipsis() -> None:
    assert short("shakespeare-baby", 8) == "shakesp…"
    assert short("short", 8) == "short"
    assert short("漢字漢字", 8) == "漢字漢字"
    assert short("漢字漢字!", 8) == "漢字漢 …"


def test_of_weights_the_name_is_cut_before_the_step() -> None:
    assert short_weights("shakespeare-baby · step 15,240", 22) == "shakesp… · step 15,240"
    assert short_weights("tiny · best", 22) == "tiny · best"
    assert short_weights("live weights", 8) == "live we…"


def test_ascii_keeps_the_width_of_every_character() -> None:
    assert to_ascii("● run ━━ 12 × 3 cu…") == "* run == 12 x 3 cu~"
    assert to_ascii("漢") == "??"
