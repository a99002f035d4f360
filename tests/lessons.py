"""How tests run the parts of a lesson's experiment, and prepare the text that lessons use."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from nanogpt.data import prepare, textfile_recipe
from nanogpt.learn.experiment import Experiment, create
from nanogpt.learn.figures import Figure, Figures, Sentence, Update, Working

F = TypeVar("F", bound=Figure)


def prepare_text(folder: Path, name: str, text: str) -> None:
    """Prepare a data set of characters in the default folder."""
    source = folder / f"{name}.txt"
    source.write_text(text, encoding="utf-8")
    for _ in prepare(textfile_recipe([source], name=name)):
        pass


def last_figures(updates: Iterable[Update]) -> Figures:
    """The figures at the end of a part of an experiment. The share that is done must only grow."""
    last, share = None, 0.0
    for update in updates:
        if isinstance(update, Working):
            assert share <= update.share <= 1
            share = update.share
        else:
            last = update
    assert last is not None
    return last


def figures_of(kind: type[F], shown: Figures) -> list[F]:
    return [figure for figure in shown.figures if isinstance(figure, kind)]


def sentences(shown: Figures) -> str:
    return "\n".join(figure.text for figure in figures_of(Sentence, shown))


def all_figures(updates: Iterable[Update]) -> Iterator[Figures]:
    return (update for update in updates if isinstance(update, Figures))


def started(name: str, **values: Any) -> tuple[Any, Figures]:
    """An experiment with these settings that has started, of whatever class, and what it shows."""
    experiment = create(name, values)
    return experiment, last_figures(experiment.start())


def press(experiment: Experiment[Any], *names: str) -> Figures:
    """Do actions, each of which is offered then; what the last one shows."""
    for name in names:
        assert name in [action.name for action in experiment.actions]
        shown = last_figures(experiment.act(name))
    return shown


def one(kind: type[F], shown: Figures, title: str = "") -> F:
    """The only figure of a kind whose title begins so."""
    (found,) = (each for each in figures_of(kind, shown) if getattr(each, "title", "").startswith(title))
    return found
