"""The errors that a person can cause and can mend. Knows nothing of what raises them.

A `UserError` is shown as one line (what is wrong, the value, the bound, what to do) and ends a command with exit
code 2. Anything else that is raised is a programming error and keeps its traceback.
"""


class UserError(Exception):
    """Something the person can put right; `str(error)` is the one line to show."""


class SettingError(UserError):
    """A setting with an unusable value; `setting` names it, so that a form can mark the field."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


def nearest(name: str, known: "list[str] | tuple[str, ...]") -> str:
    """` Did you mean …?` for the closest of the known names, or nothing where none is close."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""
