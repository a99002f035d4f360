"""The app's themes: dark, light, and the terminal's own colours.

In addition to Textual's names there are `$quiet` (labels, axes), `$alive` (a running training), `$raw` (the unsmoothed
band) and `$rule` (lines). They remain distinct on a terminal with 256 colours.
"""

from textual.theme import BUILTIN_THEMES, Theme


def _bars(bar: str, ground: str) -> dict[str, str]:
    """Return the variables of scrollbars that do not change colour under the mouse."""
    grounds = dict.fromkeys(
        ("scrollbar-background", "scrollbar-background-hover", "scrollbar-background-active"), ground
    )
    return grounds | dict.fromkeys(("scrollbar", "scrollbar-hover", "scrollbar-active"), bar)


_DARK = {"quiet": "#8a8a8a", "alive": "#5fd7af", "raw": "#5f8787", "rule": "#3a3a3a"} | _bars("#3a3a3a", "#121212")
_LIGHT = {"quiet": "#6c6c6c", "alive": "#00875f", "raw": "#5f8787", "rule": "#d0d0d0"} | _bars("#d0d0d0", "#fdfdfd")
_ANSI = {"quiet": "ansi_bright_black", "alive": "ansi_cyan", "raw": "ansi_bright_black", "rule": "ansi_bright_black"}
_ANSI |= _bars("ansi_bright_black", "ansi_default")

NAMES = {"dark": "nanogpt-dark", "light": "nanogpt-light", "ansi": "nanogpt-ansi"}

THEMES = (
    Theme(
        name="nanogpt-dark",
        primary="#5fd7af",
        secondary="#87afd7",
        accent="#5fd7af",
        warning="#ffaf5f",
        error="#ff5f5f",
        success="#87d787",
        foreground="#e4e4e4",
        background="#121212",
        surface="#1c1c1c",
        panel="#262626",
        dark=True,
        variables=_DARK,
    ),
    Theme(
        name="nanogpt-light",
        primary="#00875f",
        secondary="#005faf",
        accent="#00875f",
        warning="#af5f00",
        error="#d70000",
        success="#008700",
        foreground="#1c1c1c",
        background="#fdfdfd",
        surface="#f2f2f2",
        panel="#e4e4e4",
        dark=False,
        variables=_LIGHT,
    ),
    Theme(
        name="nanogpt-ansi",
        ansi=True,
        primary="ansi_cyan",
        secondary="ansi_blue",
        accent="ansi_cyan",
        warning="ansi_yellow",
        error="ansi_red",
        success="ansi_green",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        boost="ansi_default",
        dark=True,
        variables=BUILTIN_THEMES["ansi-dark"].variables | _ANSI,
    ),
)

DEFAULTS = _DARK
