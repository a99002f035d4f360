"""The folders of the program on disk. The functions here create none of them.

An environment variable changes each of them, and a flag the folders of runs and data sets.
"""

import os
from collections.abc import Callable
from pathlib import Path

from platformdirs import PlatformDirs

from nanogpt.errors import UserError

_DIRS = PlatformDirs("nanogpt", appauthor=False)


def expanded(path: str | Path) -> Path:
    """Return the path with a leading `~` replaced by the home folder, which a shell does not do after `--option=`.

    `~name` is not changed if the user does not exist, because it is a file name then. Raise `UserError` if there is no
    home folder.
    """
    whole = Path(os.path.expanduser(path))  # noqa: PTH111 (pathlib's raises for ~name)
    if whole.parts[:1] == ("~",):
        raise UserError(f"{path}: this user has no home folder: set HOME, or give an absolute path")
    return whole


def _folder(variable: str, default: Callable[[], Path]) -> Path:
    chosen = os.environ.get(variable)
    if chosen:
        return expanded(chosen).absolute()
    try:
        return default()
    except RuntimeError:  # no HOME and no entry in the password file, as in some containers
        raise UserError(
            "this user has no home folder: set NANOGPT_HOME, NANOGPT_CACHE_DIR and NANOGPT_CONFIG_DIR to folders that "
            "can be written"
        ) from None


def data_home() -> Path:
    """Return the folder of runs and data sets; `NANOGPT_HOME` changes it."""
    return _folder("NANOGPT_HOME", lambda: _DIRS.user_data_path)


def runs_dir() -> Path:
    """Return the folder with one folder for each run; `NANOGPT_RUNS_DIR` changes it."""
    return _folder("NANOGPT_RUNS_DIR", lambda: data_home() / "runs")


def datasets_dir() -> Path:
    """Return the folder with one folder for each prepared data set; `NANOGPT_DATA_DIR` changes it."""
    return _folder("NANOGPT_DATA_DIR", lambda: data_home() / "datasets")


def cache_dir() -> Path:
    """Return the folder of downloads and measurements; `NANOGPT_CACHE_DIR` changes it."""
    return _folder("NANOGPT_CACHE_DIR", lambda: _DIRS.user_cache_path)


def config_dir() -> Path:
    """Return the folder of the user's recipes, presets and app settings; `NANOGPT_CONFIG_DIR` changes it."""
    return _folder("NANOGPT_CONFIG_DIR", lambda: _DIRS.user_config_path)


def toml_files(kind: str) -> dict[str, Path]:
    """Return the TOML files of a kind by their names, sorted: `presets`, or `datasets` for the recipes.

    Those that come with the program are beside the package in a source checkout, and inside it once installed. The
    user's own are in the folder of configuration, and take precedence. Hidden files are left out: editors and
    archivers make them beside others.
    """
    package = Path(__file__).parent
    installed = package / f"_{kind}"
    shipped = installed if installed.is_dir() else package.parent / kind
    found: dict[str, Path] = {}
    for folder in (shipped, config_dir() / kind):
        found |= {path.stem: path for path in folder.glob("[!.]*.toml")}
    return dict(sorted(found.items()))
