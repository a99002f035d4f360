"""Short labels for characters and numbers in figures and sentences."""

from nanogpt.formatting import token_text


def character_label(character: str) -> str:
    """Return a character as a label: itself if it is visible, else "space", "\\n" or its code."""
    return "space" if character == " " else token_text(character.encode("utf-8", "replace"))


def quoted(text: str | bytes) -> str:
    """Return a text, or the bytes of a token, in quotes, in one line of printable characters."""
    return f"“{token_text(text if isinstance(text, bytes) else text.encode('utf-8', 'replace'))}”"


def percent(share: float) -> str:
    """Return a share from 0 to 1 in percent, with a decimal if it is small: 42 %, 0.3 %."""
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"
