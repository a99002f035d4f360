"""The base class of all experiments, and how they are found: one module of `experiments/` for each.

The module has a class `Experiment`, a subclass of the one here. Installed packages add experiments through entry points
of the group `nanogpt.experiments`. Importing an experiment imports no torch; running one may.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from nanogpt.config.setting import Setting, declared_settings, setting
from nanogpt.errors import SettingError, UserError, nearest
from nanogpt.learn.figures import Update
from nanogpt.registry import Registry

REGISTRY = Registry("experiment", "nanogpt.learn.experiments", "nanogpt.experiments", "Experiment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings that every experiment has; a lesson sets them in its table `[values]`."""

    seed: int = setting(1337, "seed of all that is random in the experiment", low=0, high=2**31 - 1)


@dataclass(frozen=True, slots=True)
class Action:
    """What a key does now. `key` is one printable character or "enter", `label` says what it does, `name` is for `act`.

    Keys that the app or the screen of lessons use are not free: 1 to 5, q, ?, space and the arrows.
    """

    key: str
    label: str
    name: str


SettingsT = TypeVar("SettingsT", bound=Settings)


class Experiment(ABC, Generic[SettingsT]):
    """An experiment: it yields figures when it starts, and after each action and answer.

    `start`, `act` and `answer` compute while they are iterated, in a worker thread of the app: they yield at least
    every 0.3 s, and closing the iterator cancels. Only one of them is iterated at a time. They do not change torch's
    global random state, number of threads or default dtype, because the process may train a run at the same time. The
    same settings, actions and answers give the same figures.
    """

    name: ClassVar[str]
    settings_class: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: SettingsT, data_dir: Path | None = None) -> None:
        """`data_dir`: the folder of the prepared data sets; None for the default one."""
        self.settings = settings
        self.data_dir = data_dir
        self.done = False  # whether the learner has done what the lesson asks

    @abstractmethod
    def start(self) -> Iterator[Update]:
        """Begin, or begin again, and yield the figures. Raise `UserError` if the experiment cannot run."""

    @property
    def actions(self) -> tuple[Action, ...]:
        """The actions that are possible now; they change with each call of `start`, `act` and `answer`."""
        return ()

    @property
    def question(self) -> str:
        """The prompt of the line that the learner may type now, such as "Type a text"; empty if there is none."""
        return ""

    def act(self, name: str) -> Iterator[Update]:
        """Do the action of this name, which is among `actions`, and yield the figures."""
        yield from ()

    def answer(self, text: str) -> Iterator[Update]:
        """Take the line that the learner typed, and yield the figures."""
        yield from ()


def names() -> tuple[str, ...]:
    """Return the names of all experiments, sorted. Import none of them."""
    return REGISTRY.names()


def experiment_class(name: str) -> type[Experiment[Any]]:
    """Return the class of an experiment. Raise `UserError` for an unknown name."""
    if name not in names():
        shown = name[:80] if name.isprintable() else repr(name[:80])
        raise UserError(f"no experiment {shown}; known experiments: {', '.join(names())}.{nearest(name, names())}")
    loaded: type[Experiment[Any]] = REGISTRY.load(name, Experiment)
    return loaded


def settings_of(name: str) -> dict[str, Setting]:
    """Return the settings of an experiment by name. Raise `UserError` for an unknown experiment."""
    declared = declared_settings(experiment_class(name).settings_class, "values")
    return {item.name: item for item in declared}


def check_values(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a lesson sets, parsed. Raise `UserError` for an unknown setting and a bad value."""
    known = settings_of(name)
    for key in values:
        if key not in known:
            shown = key[:80] if key.isprintable() else repr(key[:80])
            raise SettingError(
                key,
                f"the experiment {name} has no setting {shown}; known settings: {', '.join(known)}."
                f"{nearest(key, list(known))}",
            )
        if isinstance(values[key], dict | list):
            raise known[key].error(values[key], "has to be one value, not a list or table")
    return {key: known[key].parse(value) for key, value in values.items()}


def create(name: str, values: Mapping[str, Any] | None = None, data_dir: Path | None = None) -> Experiment[Any]:
    """Return an experiment with these settings. Raise `UserError` for an unknown one and for bad values."""
    chosen = experiment_class(name)
    return chosen(chosen.settings_class(**check_values(name, values or {})), data_dir)
