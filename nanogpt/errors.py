"""The errors that a user can cause and fix.

A `UserError` is shown as one line (what is wrong, the value, the bound, what to do) and ends a command with exit
code 2. Any other exception is a programming error and keeps its traceback.
"""


class UserError(Exception):
    """An error that the user can fix; `str(error)` is the one line to show."""


class ReportedError(UserError):
    """An error that another process of the same training reports: this one ends without a line."""


class SettingError(UserError):
    """An unusable value of a setting; `setting` is its name, so that a form can mark the field."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


def nearest(name: str, known: "list[str] | tuple[str, ...]") -> str:
    """Return ` Did you mean …?` with the most similar of the known names; empty if none is similar."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""
