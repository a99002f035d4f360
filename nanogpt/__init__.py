"""The engine: data preparation, training and sampling of small language models.

The names below load on first use, because importing torch takes seconds and `nanogpt --help` does not need it.
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

if TYPE_CHECKING:
    from nanogpt.config import Config as Config
    from nanogpt.config import SamplingConfig as SamplingConfig
    from nanogpt.config import preset_names as preset_names
    from nanogpt.config import resolve as resolve
    from nanogpt.data import list_datasets as list_datasets
    from nanogpt.data import load_recipe as load_recipe
    from nanogpt.data import open_dataset as open_dataset
    from nanogpt.data import prepare as prepare
    from nanogpt.data import textfile_recipe as textfile_recipe
    from nanogpt.errors import SettingError as SettingError
    from nanogpt.errors import UserError as UserError
    from nanogpt.runs import list_runs as list_runs
    from nanogpt.runs import load_model as load_model
    from nanogpt.sampling import generate as generate
    from nanogpt.training import CommandQueue as CommandQueue
    from nanogpt.training import train as train

__version__ = "0.1.0"

_HOME = {
    "Config": "config",
    "CommandQueue": "training",
    "SamplingConfig": "config",
    "SettingError": "errors",
    "UserError": "errors",
    "generate": "sampling",
    "list_datasets": "data",
    "list_runs": "runs",
    "load_model": "runs",
    "load_recipe": "data",
    "open_dataset": "data",
    "prepare": "data",
    "preset_names": "config",
    "resolve": "config",
    "textfile_recipe": "data",
    "train": "training",
}

__getattr__ = exports(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
