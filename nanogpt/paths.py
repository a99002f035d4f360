"""Where things live on disk: every folder of the project in one place. Creates nothing.

Each can be moved by an environment variable, and the runs and data folders by a flag as well.
"""

import os
from collections.abc import Callable
from pathlib import Path

from platformdirs import PlatformDirs

from nanogpt.errors import UserError

_DIRS = PlatformDirs("nanogpt", appauthor=False)


def expanded(path: str | Path) -> Path:
    """Return the path with a `~` at its start replaced by the home folder: no shell does it after `--option=`.

    `~name` stays as it is where there is no such user: it is a file's name then. Raise `UserError` where there is no
    home.
    """
    whole = Path(os.path.expanduser(path))  # noqa: PTH111 (pathlib's raises for ~name)
    if whole.parts[:1] == ("~",):
        raise UserError(f"{path}: this user has no home folder: set HOME, or give the whole path")
    return whole


def _folder(variable: str, default: Callable[[], Path]) -> Path:
    chosen = os.environ.get(variable)
    if chosen:
        return expanded(chosen).absolute()
    try:
        return default()
    except RuntimeError:  # neither HOME nor an entry in the password file, as in some containers
        raise UserError(
            "this user has no home folder: set NANOGPT_HOME, NANOGPT_CACHE_DIR and NANOGPT_CONFIG_DIR to folders that "
            "can be written"
        ) from None


def data_home() -> Path:
    """Everything that is worth keeping; `NANOGPT_HOME` moves it."""
    return _folder("NANOGPT_HOME", lambda: _DIRS.user_data_path)


def runs_dir() -> Path:
    """One folder a run; `NANOGPT_RUNS_DIR` moves it."""
    return _folder("NANOGPT_RUNS_DIR", lambda: data_home() / "runs")


def datasets_dir() -> Path:
    """One folder a prepared data set; `NANOGPT_DATA_DIR` moves it."""
    return _folder("NANOGPT_DATA_DIR", lambda: data_home() / "datasets")


def cache_dir() -> Path:
    """What can be fetched or measured again: downloads, the measured peak of this CPU; `NANOGPT_CACHE_DIR` moves it."""
    return _folder("NANOGPT_CACHE_DIR", lambda: _DIRS.user_cache_path)


def config_dir() -> Path:
    """The person's own recipes and the app's settings; `NANOGPT_CONFIG_DIR` moves it."""
    return _folder("NANOGPT_CONFIG_DIR", lambda: _DIRS.user_config_path)
