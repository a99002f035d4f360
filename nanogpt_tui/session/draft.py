"""A run that is being thought up: where it starts, what was typed, and what is wrong with it. Knows no screen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanogpt import runs
from nanogpt.config import KINDS, Config, Setting, resolve, with_settings
from nanogpt.data.catalog import DatasetInfo
from nanogpt.errors import SettingError, UserError
from nanogpt.runs import checkpoints
from nanogpt.runs.folder import run_config

NOT_IN_FORM = ("init_from", "eval_only")  # the first is the field "start"; the second is no run
SCRATCH = "scratch"


@dataclass(slots=True)
class Draft:
    """`start` is "scratch", "weights NAME" or "resume NAME"; `edits` are the settings as typed, where they differ from
    what the preset (or the run) has."""

    preset: str = ""
    start: str = SCRATCH
    name: str = ""
    dataset: str = ""
    runs_dir: str | None = None
    edits: dict[str, str] = field(default_factory=dict)
    tokenizers: Mapping[str, str] = field(default_factory=dict)  # fingerprints of "run NAME" and "data set NAME"
    _base: tuple[tuple[str, str], Config] | None = None

    @property
    def source(self) -> str:
        """The run that it starts from or goes on with; empty for none."""
        return self.start.partition(" ")[2]

    @property
    def resumes(self) -> bool:
        return self.start.startswith("resume ")

    @property
    def fixed(self) -> tuple[str, ...]:
        """Settings that cannot differ from those of the run that it starts from."""
        if not self.source:
            return ()
        shape = tuple(self.base().model.shape())
        return (*shape, "dataset") if self.resumes else tuple(name for name in shape if name != "block_size")

    def folder(self) -> Path:
        """Of the run that it starts from or goes on with. Raises `UserError`."""
        return runs.find(self.source, self.runs_dir)

    def base(self) -> Config:
        """The configuration before anything was typed. Raises `UserError` for a run that cannot be read."""
        if self._base is None or self._base[0] != (self.preset, self.start):
            config = resumed(self.folder()) if self.resumes else watched(resolve(preset=self.preset or None).config)
            if self.source and not self.resumes:
                shape = run_config(self.folder()).model.shape()
                config = with_settings(config, shape | {"init_from": self.source})
            self._base = ((self.preset, self.start), config)
        return self._base[1]

    def shown(self, name: str) -> str:
        """A setting as the form shows it."""
        if name in self.edits and name not in self.fixed:
            return self.edits[name]
        if name == "dataset" and self.dataset and not self.resumes:
            return self.dataset
        return spoken(self.chosen().values()[name])

    def chosen(self) -> Config:
        """The base with the components that were chosen since; where its values do not fit these, they have theirs.

        Raises `UserError` for a run that cannot be read.
        """
        base = self.base()
        chosen = {kind.name: self.edits[kind.name] for kind in KINDS if kind.name in self.edits}
        chosen = {name: text for name, text in chosen.items() if name not in self.fixed}
        if not chosen:
            return base
        try:
            return with_settings(base, chosen)
        except SettingError:
            return with_settings(Config(), base.components() | chosen)

    def settings(self) -> dict[str, Setting]:
        """The settings of the components that are chosen, by name."""
        return self.chosen().settings()

    def prefer_prepared(self, datasets: Mapping[str, DatasetInfo]) -> None:
        """Takes a data set that is prepared where nobody has said which, and the preset's own is not."""
        wanted = datasets.get(self.shown("dataset"))
        ready = [info.name for info in datasets.values() if info.prepared and not info.problem]
        if ready and not self.dataset and not self.source and (wanted is None or not wanted.prepared):
            self.dataset = ready[0]

    def edit(self, name: str, text: str) -> None:
        """Takes what was typed; what the base has anyway is no edit."""
        if name == "dataset":
            self.dataset = text
        elif text.strip() == spoken(self.base().values().get(name)):
            self.edits.pop(name, None)
        else:
            self.edits[name] = text

    def changes(self) -> dict[str, str]:
        """What differs from the base, by name, as typed; not what belongs to a component that is not chosen."""
        known, fixed = self.settings(), self.fixed
        changed = {name: text.strip() for name, text in self.edits.items() if name in known and name not in fixed}
        if self.dataset not in ("", self.base().data.dataset) and not self.resumes:
            changed["dataset"] = self.dataset
        return changed

    def checked(self, dataset: DatasetInfo | None) -> tuple[Config | None, dict[str, str]]:
        """The configuration, None where something is wrong with it; and what is wrong, by setting."""
        problems: dict[str, str] = {}
        try:
            base, known = self.base(), self.settings()
        except UserError as error:
            return None, {"start": str(error)}
        good: dict[str, Any] = {}
        for name, text in self.changes().items():
            try:
                good[name] = known[name].parse(text)
            except SettingError as error:
                problems[name] = reason(error)
        config: Config | None = None
        try:
            config = with_settings(base, good)
        except SettingError as error:
            problems.setdefault(error.setting, reason(error))
        known_positions = base.model.block_size
        if config is not None and self.source and config.model.block_size > known_positions:
            problems["block_size"] = f"the weights know {known_positions:,} positions, not more"
        if config is not None and dataset is not None:
            problems |= self._other_tokenizer(dataset.name) or unfit(config, dataset)
        try:
            self.target()
        except UserError as error:
            problems["name"] = str(error)
        return (None if problems else config), problems

    def _other_tokenizer(self, dataset: str) -> Mapping[str, str]:
        """What keeps the weights from reading the data set, where both have been read."""
        theirs, ours = (self.tokenizers.get(name) for name in (f"run {self.source}", f"data set {dataset}"))
        if theirs is None or ours is None or theirs == ours:
            return {}
        return {"start": f"its tokenizer is not that of {dataset}: choose a text that was prepared with it"}

    def target(self) -> Path:
        """The folder that the run will have. Raises `UserError` for a name that is taken or is none."""
        if self.resumes:
            return self.folder()
        base = f"{Path(self.shown('dataset')).name}-{self.preset or self.chosen().model.name}"
        return runs.new_folder(base, name=self.name.strip() or None, runs_dir=self.runs_dir)


def resumed(folder: Path) -> Config:
    """What a run goes on with: the settings that were changed while it was trained are in its latest checkpoint."""
    config, latest = run_config(folder), checkpoints.latest(folder)
    if latest is None:
        return config
    progress = checkpoints.progress(latest.path)
    return with_settings(config, {name: progress[name] for name in checkpoints.STEERED})


def watched(config: Config) -> Config:
    """With a sample at each evaluation where there would be none: who trains here wants to see what it learns."""
    if config.evaluation.sample_interval:
        return config
    return with_settings(config, {"sample_interval": config.evaluation.eval_interval})


def spoken(value: Any) -> str:
    """A setting's value as a person types it; nothing for none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def reason(error: SettingError) -> str:
    """The error without the setting's name and value, which stand beside it."""
    start, separator, rest = str(error).partition(": ")
    return rest if separator and start.startswith(f"{error.setting}=") and " " not in start else str(error)


def unfit(config: Config, dataset: DatasetInfo) -> Mapping[str, str]:
    """What the data set makes impossible, by setting."""
    from nanogpt.data.batches import check_length

    for split in ("train", "val"):
        try:
            check_length(dataset.tokens.get(split, 1 << 62), config.model.block_size, split)
        except UserError as error:
            return {"block_size": str(error)}
    needed = dataset.vocab_size or 0
    if 0 < config.model.vocab_size < needed:
        return {"vocab_size": f"the data set's tokenizer has {needed:,} tokens"}
    return {}
