"""Characters for shares from 0 to 1, which can be told apart without colour."""

import math

import numpy as np
from numpy.typing import NDArray

SHADES = {"ascii": " .:-=+*#%@", "": " ░▒▓█"}


def shade(share: float, ascii_only: bool) -> str:
    """Return the character for a share. Its square root is shaded, so that small shares can be seen."""
    shades = SHADES["ascii" if ascii_only else ""]
    return shades[round(math.sqrt(min(1.0, max(0.0, share))) * (len(shades) - 1))]


def shade_lines(shares: NDArray[np.float32], ascii_only: bool) -> list[str]:
    """Return a line of characters for each row of shares, as `shade` does for one."""
    shades = np.array([ord(each) for each in SHADES["ascii" if ascii_only else ""]], "<u4")
    places = np.rint(np.sqrt(np.clip(shares, 0.0, 1.0)) * (len(shades) - 1)).astype(np.intp)
    return [row.tobytes().decode("utf-32-le") for row in shades[places]]


def shade_legend(ascii_only: bool) -> str:
    """Return some of the characters, each with its share."""
    shades = SHADES["ascii" if ascii_only else ""]
    last = len(shades) - 1
    places = range(1, last + 1) if last <= 4 else (3, 6, last)
    return "  ".join(f"{shades[place]} {(place / last) ** 2:.0%}" for place in places)


def shade_rows(shares: NDArray[np.float64], ascii_only: bool, lightest: int = 0) -> list[str]:
    """Return a line of shades for each row of (rows, columns) shares; NaN is a blank.

    lightest: which of the characters stands for 0; with 0 that is a blank too.
    """
    shades = SHADES["ascii" if ascii_only else ""]
    index = np.rint(np.clip(shares, 0, 1) * (len(shades) - 1 - lightest)) + lightest
    return ["".join(" " if np.isnan(at) else shades[int(at)] for at in row) for row in index]
