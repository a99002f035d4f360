"""Text for people, on whatever screen: made harmless, and durations in figures. Knows nothing of who shows it."""

from functools import cache


def printable(text: str) -> str:
    """`text` with whatever could steer a terminal, or hide or reorder text, replaced visibly; newline and tab stay."""
    return text.translate(_visible())


@cache
def _visible() -> dict[int, str]:
    controls = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}  # ␀ to ␟
    c1 = {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
    layout = (0x200E, 0x200F, 0x061C, 0x2028, 0x2029, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    surrogates = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
    return {**controls, 0x7F: "␡", **c1, **{code: f"\\u{code:04x}" for code in layout}, **surrogates}


def duration(seconds: float | None) -> str:
    """12:41, or 3:07:09, or 4 d 02 h; – where it is not known."""
    if seconds is None or seconds != seconds or seconds < 0 or seconds == float("inf"):
        return "–"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 86400:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 86400} d {whole // 3600 % 24:02} h"
