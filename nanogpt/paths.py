"""Where things live on disk: every folder of the project in one place. Creates nothing.

Each can be moved by an environment variable, and the runs and data folders by a flag as well.
"""

import os
from pathlib import Path

from platformdirs import PlatformDirs

_DIRS = PlatformDirs("nanogpt", appauthor=False)


def _folder(variable: str, default: Path) -> Path:
    chosen = os.environ.get(variable)
    return Path(chosen).expanduser().absolute() if chosen else default


def data_home() -> Path:
    """Everything that is worth keeping; `NANOGPT_HOME` moves it."""
    return _folder("NANOGPT_HOME", _DIRS.user_data_path)


def runs_dir() -> Path:
    """One folder a run; `NANOGPT_RUNS_DIR` moves it."""
    return _folder("NANOGPT_RUNS_DIR", data_home() / "runs")


def datasets_dir() -> Path:
    """One folder a prepared data set; `NANOGPT_DATA_DIR` moves it."""
    return _folder("NANOGPT_DATA_DIR", data_home() / "datasets")


def cache_dir() -> Path:
    """What can be fetched or measured again: downloads, the measured peak of this CPU; `NANOGPT_CACHE_DIR` moves it."""
    return _folder("NANOGPT_CACHE_DIR", _DIRS.user_cache_path)


def config_dir() -> Path:
    """The person's own recipes and the app's settings; `NANOGPT_CONFIG_DIR` moves it."""
    return _folder("NANOGPT_CONFIG_DIR", _DIRS.user_config_path)
