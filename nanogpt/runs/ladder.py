"""The ladder: small models from a bigram to a modern GPT, each trained for the same time on the same text.

The rungs are data, in `ladder.toml`.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanogpt import hardware
from nanogpt.config import Config, resolve, with_settings
from nanogpt.data.text_size import text_size
from nanogpt.errors import UserError, nearest
from nanogpt.events import Event, RungFailed, RungFinished, RungStarted
from nanogpt.files import read_toml
from nanogpt.loss_units import TextSize, bits_per
from nanogpt.runs.run_dataset import open_or_prepare, splits, with_dataset
from nanogpt.runs.timed import train_and_evaluate

RUNGS = Path(__file__).with_name("ladder.toml")


@dataclass(frozen=True, slots=True)
class Rung:
    """A model of the ladder. `adds`: what it adds to the rung before; `changes`: the settings that it changes there.

    `source`: who described it first, or made it known.
    """

    name: str
    adds: str
    source: str
    changes: Mapping[str, Any]
    config: Config


def load_rungs(names: Sequence[str] = ()) -> list[Rung]:
    """Return the rungs with these names, from the bottom up; all of them without names. Raise `UserError`."""
    tables = read_toml(RUNGS)
    config = resolve(flags=tables["base"]).config
    rungs: list[Rung] = []
    for table in tables["rung"]:
        config = with_settings(config, table["settings"])
        rungs.append(Rung(table["name"], table["adds"], table["source"], table["settings"], config))
    known = [rung.name for rung in rungs]
    for name in names:
        if name not in known:
            raise UserError(f"no rung {name!r}; the rungs are {', '.join(known)}.{nearest(name, known)}")
    return [rung for rung in rungs if not names or rung.name in names]


def climb_ladder(
    dataset: str,
    *,
    seconds: float = 60.0,
    names: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    data_dir: Path | None = None,
) -> Generator[Event, None, None]:
    """Train and evaluate the rungs with these names (none: all) one after another, each for `seconds` of training.

    Prepare a missing data set first. Yield RungStarted, the events of the training, Evaluating, and RungFinished for
    each rung, or RungFailed if it cannot be trained; the others go on. `changes` are settings of all rungs, by name.
    Writes no run. Closing the iterator cancels. Raise `UserError` before the first rung.
    """
    rungs = load_rungs(names)
    common = dict(changes or {})
    hardware.resolve_device(common.get("device", "auto"))  # refuse a bad one here, not in each rung
    opened = yield from open_or_prepare(dataset, data_dir)
    tokens, text = splits(opened), (yield from text_size(opened, "val"))
    common |= {"dataset": dataset, "vocab_size": 0}
    for number, rung in enumerate(rungs, 1):
        yield RungStarted(name=rung.name, adds=rung.adds, number=number, total=len(rungs))
        try:
            yield from _train_rung(
                rung, with_dataset(with_settings(rung.config, common), opened), tokens, text, seconds
            )
        except UserError as error:
            yield RungFailed(name=rung.name, reason=str(error))
        except (RuntimeError, MemoryError) as error:
            if not hardware.is_out_of_memory(error):
                raise
            yield RungFailed(name=rung.name, reason="out of memory")


def _train_rung(
    rung: Rung, config: Config, tokens: Mapping[str, Any], text: TextSize, seconds: float
) -> Generator[Event, None, None]:
    result = yield from train_and_evaluate(config, tokens, seconds)
    loss = result.losses["val"]
    yield RungFinished(
        name=rung.name,
        adds=rung.adds,
        n_parameters=result.n_parameters,
        steps=result.steps,
        tokens_per_second=result.tokens / result.elapsed_s,
        loss=loss,
        nats_per_character=loss * text.tokens / text.characters,
        bits_per_byte=bits_per(loss, text.tokens, text.bytes),
        elapsed_s=result.elapsed_s,
        device=result.device,
        threads=result.threads,
    )
