"""The tokenizers that can be compared: those of data sets, the published ones, and those that were trained here."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from nanogpt import tokenizers
from nanogpt.data.catalog import DatasetInfo
from nanogpt.data.store import open_dataset
from nanogpt.errors import UserError
from nanogpt.tokenizers import Tokenizer, available_offline
from nanogpt_tui.text import one_line

OF_DATASET, OF_SPEC, TRAINED = "dataset", "spec", "trained"
NEEDS_NETWORK = " (needs the network)"  # the end of a label


@dataclass
class Tokenizers:
    """Loaded tokenizers by key, "dataset NAME", "spec SPEC" or "trained SPEC"; called in threads.

    `trained` are those that were trained here, by spec; `typed` are specs that the user typed.
    """

    typed: list[str] = field(default_factory=list)
    trained: dict[str, Tokenizer] = field(default_factory=dict)
    _loaded: dict[str, Tokenizer] = field(default_factory=dict)

    def load(self, key: str) -> Tokenizer:
        """Return a tokenizer; read or download it at the first time. Raise `UserError`."""
        kind, _, name = key.partition(" ")
        if kind == TRAINED:
            return self.trained[name]
        if key not in self._loaded:
            made = open_dataset(name).tokenizer if kind == OF_DATASET else tokenizers.create(name)
            self._loaded[key] = made
        return self._loaded[key]

    def options(self, infos: list[DatasetInfo]) -> list[tuple[str, str]]:
        """Return (key, label) of all tokenizers that can be chosen."""
        own = [
            (f"{TRAINED} {name}", f"{name}, trained here: {made.vocab_size:,}") for name, made in self.trained.items()
        ]
        typed = [(f"{OF_SPEC} {spec}", one_line(spec)) for spec in self.typed]
        labels: dict[str, str] = {}
        for key, label in (*own, *typed, *_of_datasets(infos), *_published()):
            labels.setdefault(key, label)  # one that was typed may be in the list
        return list(labels.items())


def _of_datasets(infos: list[DatasetInfo]) -> Iterator[tuple[str, str]]:
    for info in infos:
        if info.prepared and not info.problem:
            yield f"{OF_DATASET} {info.name}", f"{info.name}: {info.tokenizer}, {info.vocab_size or 0:,}"


def _published() -> Iterator[tuple[str, str]]:
    """Yield the kinds that need no text."""
    for name in tokenizers.names_without_argument():
        spec = tokenizers.parse_spec(name)
        if spec.kind.needs == "nothing":
            network = "" if available_offline(name) else NEEDS_NETWORK
            yield f"{OF_SPEC} {name}", f"{name}, {spec.vocab_size or 0:,}{network}"


def check_spec(spec: str) -> str:
    """Return the canonical form of a spec that can be compared as it is. Raise `UserError` if it needs a text."""
    parsed = tokenizers.parse_spec(spec)
    if parsed.kind.needs != "nothing":
        raise UserError(f"{spec} is made from a text: train it here, or choose a data set that has it")
    return tokenizers.canonical(spec)


def default_pair(options: list[tuple[str, str]], dataset: str) -> tuple[str, str]:
    """Return the keys to compare first: the tokenizer of a data set and a published one that is on this machine."""
    keys = [key for key, label in options if not label.endswith(NEEDS_NETWORK)]
    first = f"{OF_DATASET} {dataset}" if f"{OF_DATASET} {dataset}" in keys else keys[0]
    others = [key for key in keys if key != first and key.startswith(OF_SPEC)]
    return first, others[-1] if others else first
