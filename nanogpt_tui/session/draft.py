"""The draft of a run: where it starts, the values that were typed, and what is wrong with them."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanogpt import runs
from nanogpt.config import KINDS, Config, Setting, load_preset, resolve, with_settings
from nanogpt.data.catalog import DatasetInfo
from nanogpt.errors import SettingError, UserError
from nanogpt.runs import checkpoints
from nanogpt.runs.folder import NO_WEIGHTS, check_name, is_imported, run_config

NOT_IN_FORM = ("init_from", "eval_only")  # the first is the field "start"; the second does not train
SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Base:
    """What a draft without edits is. `config` is None if it cannot be read, and `problem` says why.

    `about` is the help of the preset, `step` the step of the checkpoint that is resumed, and `is_evaluated` whether its
    validation loss is known.
    """

    preset: str
    start: str
    config: Config | None
    problem: str = ""
    about: str = ""
    step: int = 0
    is_evaluated: bool = False


@dataclass(slots=True)
class Draft:
    """`start` is "scratch", "weights NAME" or "resume NAME". `edits` are the typed values that differ from those of
    the preset or the run."""

    preset: str = ""
    start: str = SCRATCH
    name: str = ""
    dataset: str = ""
    runs_dir: str | None = None
    edits: dict[str, str] = field(default_factory=dict)
    tokenizers: Mapping[str, str] = field(default_factory=dict)  # fingerprints of "run NAME" and "data set NAME"
    taken: frozenset[str] = frozenset()  # the names of all runs
    _base: Base | None = None

    def choose(self, base: Base) -> None:
        """Start from a base, which a thread has read."""
        self.preset, self.start, self._base = base.preset, base.start, base

    @property
    def about_preset(self) -> str:
        """The help of the preset, or why it cannot be loaded; "" if `base` has not been read."""
        return self._base.about if self._base is not None else ""

    @property
    def first_step(self) -> int:
        """The step that the run continues from, 0 for a new run."""
        return self._base.step if self._base is not None else 0

    @property
    def source(self) -> str:
        """The name of the run that it starts from or resumes; empty for none."""
        return source_of(self.start)

    @property
    def resumes(self) -> bool:
        """Whether it continues a run instead of starting a new one."""
        return is_resume(self.start)

    @property
    def fixed(self) -> tuple[str, ...]:
        """The settings that the run it starts from decides."""
        if not self.source:
            return ()
        model = self.base().model
        if self.resumes:
            return (*model.shape(), "dataset", "lora_rank", "lora_alpha")
        return tuple(name for name in model.shape() if name != "block_size" or not model.capabilities.crop)

    def folder(self) -> Path:
        """Return the folder of the run that it starts from or resumes. Raise `UserError` if it does not exist."""
        return runs.find(self.source, self.runs_dir)

    @property
    def has_base(self) -> bool:
        """Whether the preset and the run to start from can be read."""
        try:
            self.base()
        except UserError:
            return False
        return True

    def base(self) -> Config:
        """Return the configuration without edits. Raise `UserError` if the run or the preset cannot be read.

        Reads the disk if no base was chosen, and the draft starts from a preset or a run.
        """
        if self._base is None or (self._base.preset, self._base.start) != (self.preset, self.start):
            self._base = read_base(self.preset, self.start, self.runs_dir)
        if self._base.config is None:
            raise UserError(self._base.problem)
        return self._base.config

    def shown(self, name: str) -> str:
        """Return the value of a setting as text."""
        if name in self.edits and name not in self.fixed:
            return self.edits[name]
        if name == "dataset" and self.dataset and not self.resumes:
            return self.dataset
        return as_text(self.chosen().values()[name])

    def chosen(self) -> Config:
        """Return the base with the chosen components. Values that do not fit these are replaced by defaults.

        If a default does not fit the others, all values are replaced but those of the run that it starts from. A
        component that cannot be loaded is not chosen. Raise `UserError` if the run cannot be read.
        """
        base = self.base()
        chosen = {kind.name: self.edits[kind.name] for kind in KINDS if kind.name in self.edits}
        chosen = {name: text for name, text in chosen.items() if name not in self.fixed}
        if not chosen:
            return base
        values = base.values()
        kept = {name: values[name] for name in (*base.components(), *self.fixed, "init_from")}
        while True:
            try:
                return resolve(defaults=values, flags=chosen).config
            except SettingError as error:
                if error.setting in kept or error.setting not in values:
                    return resolve(defaults=kept, flags=chosen).config
                del values[error.setting]
            except UserError:
                return base

    def settings(self) -> dict[str, Setting]:
        """Return the settings of the chosen components, by name."""
        return self.chosen().settings()

    def prefer_prepared(self, datasets: Mapping[str, DatasetInfo]) -> None:
        """Choose a prepared data set, unless the user has chosen one or that of the preset is prepared."""
        wanted = datasets.get(self.shown("dataset"))
        ready = [info.name for info in datasets.values() if info.prepared and not info.problem]
        if ready and not self.dataset and not self.source and (wanted is None or not wanted.prepared):
            self.dataset = ready[0]

    def edit(self, name: str, text: str) -> None:
        """Store a typed value; the one that is shown without edits is not an edit."""
        if name == "dataset":
            self.dataset = text
        elif self.has_base and text.strip() == as_text(self._unedited(name).values().get(name)):
            self.edits.pop(name, None)
        else:
            self.edits[name] = text

    def _unedited(self, name: str) -> Config:
        """Return the configuration with the value of a setting that an edit replaces."""
        return self.base() if self.resumes or name in self.base().components() else self.chosen()

    def changes(self) -> dict[str, str]:
        """Return the typed values that differ from those without edits, by name; only those of the chosen components.

        A run that is resumed has these changes, and a new one in addition what `chosen` has replaced.
        """
        known, fixed = self.settings(), self.fixed
        changed = {name: text.strip() for name, text in self.edits.items() if name in known and name not in fixed}
        if self.dataset not in ("", self._unedited("dataset").data.dataset) and not self.resumes:
            changed["dataset"] = self.dataset
        return changed

    def checked(self, dataset: DatasetInfo | None) -> tuple[Config | None, dict[str, str]]:
        """Return the configuration, None if something is wrong; and the problems, by setting."""
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
                problems[name] = short_message(error)
        config: Config | None = None
        try:
            config = with_settings(base if self.resumes else self.chosen(), good)
            config.check_processes()
        except SettingError as error:
            problems.setdefault(error.setting, short_message(error))
        except UserError as error:  # a component that cannot be loaded
            problems["start"] = str(error)
        if self.start == SCRATCH and "lora_rank" in problems and good.get("lora_rank"):
            problems["lora_rank"] = "adapters are trained beside given weights: choose a run in “start from”"
        known_positions = base.model.block_size
        if config is not None and self.source and config.model.block_size > known_positions:
            problems["block_size"] = f"the weights know {known_positions:,} positions, not more"
        if config is not None and self._is_complete(config):
            problems["max_iters"] = f"the run is complete at step {self.first_step:,}: a higher number continues it"
        if config is not None and dataset is not None:
            problems |= self._other_tokenizer(dataset.name) or dataset_problems(config, dataset)
        problems |= self._name_problem()
        return (None if problems else config), problems

    def _is_complete(self, config: Config) -> bool:
        """Return whether a run to resume has no step left, nor an evaluation."""
        is_evaluated = self._base is not None and self._base.is_evaluated
        return self.resumes and is_evaluated and self.first_step >= config.schedule.max_iters

    def _other_tokenizer(self, dataset: str) -> Mapping[str, str]:
        """Return the problem of weights whose tokenizer is not that of the data set, if both are known."""
        theirs, ours = (self.tokenizers.get(name) for name in (f"run {self.source}", f"data set {dataset}"))
        if theirs is None or ours is None or theirs == ours:
            return {}
        return {"start": f"its tokenizer is not that of {dataset}: choose a text that was prepared with it"}

    def _name_problem(self) -> Mapping[str, str]:
        """Return the problem of a typed name; that of a folder which is no run is found when the run starts."""
        name = self.name.strip()
        if self.resumes or not name:
            return {}
        if name in self.taken:
            return {"name": f"{name} is already a run: resume it, or choose another name"}
        try:
            check_name(name)
        except UserError as error:
            return {"name": str(error)}
        return {}

    def suggested_name(self) -> str:
        """Return the name that the run will have if none is typed."""
        if self.resumes:
            return self.source
        base, number = self._base_name(), 1
        while (name := base if number == 1 else f"{base}-{number}") in self.taken:
            number += 1
        return name

    def _base_name(self) -> str:
        return f"{Path(self.shown('dataset')).name}-{self.preset or self.chosen().model.name}"

    def target(self) -> Path:
        """Return the folder that the run will have. Raise `UserError` for a name that is taken or not allowed.

        Reads the folder of runs.
        """
        if self.resumes:
            return self.folder()
        return runs.new_folder(self._base_name(), name=self.name.strip() or None, runs_dir=self.runs_dir)


def source_of(start: str) -> str:
    """Return the name of the run that a draft with this `start` starts from or resumes; "" for none."""
    return start.partition(" ")[2]


def is_resume(start: str) -> bool:
    """Return whether a draft with this `start` resumes a run."""
    return start.startswith("resume ")


def read_base(preset: str, start: str, runs_dir: str | None) -> Base:
    """Return what a draft with this preset and start is without edits. Reads the disk: for worker threads."""
    source, about, step, is_evaluated = source_of(start), "", 0, False
    try:
        about = load_preset(preset).help if preset else ""
        if is_resume(start):
            config, latest = resumed_config(runs.find(source, runs_dir))
            if latest is not None:
                step, is_evaluated = latest.step, latest.val_loss is not None
        else:
            config = with_samples(resolve(preset=preset or None).config)
            check_preset(preset, config, start)
            if source:
                run = runs.find(source, runs_dir)
                init_from = str(run) if source in NO_WEIGHTS else source  # an earlier version allowed such names
                config = with_settings(config, run_config(run).model.shape() | {"init_from": init_from})
    except UserError as error:
        return Base(preset, start, None, str(error), about or str(error))
    return Base(preset, start, config, about=about, step=step, is_evaluated=is_evaluated)


def check_preset(preset: str, config: Config, start: str) -> None:
    """Raise `UserError` if the preset's `config` has a value of `NOT_IN_FORM` that `start` does not replace."""
    changed = ""
    if start == SCRATCH and config.checkpoint.init_from != SCRATCH:
        changed = f"init_from={config.checkpoint.init_from}"
    elif config.evaluation.eval_only:
        changed = "eval_only=true"
    if changed:
        raise UserError(f"the preset has {changed}: use nanogpt train --preset={shlex.quote(preset)}")


def resumed_config(folder: Path) -> tuple[Config, checkpoints.Checkpoint | None]:
    """Return the configuration of a run to resume, and its latest checkpoint, None if it has none.

    The checkpoint has the settings that were changed during training. Raise `UserError`.
    """
    if is_imported(folder):
        raise UserError(f"{folder.name} was imported and has weights only: start from its weights")
    latest = checkpoints.latest(folder)
    return checkpoints.with_changes(run_config(folder), latest), latest


def with_samples(config: Config) -> Config:
    """Return `config` with a sample at each evaluation if it has none, for “watch it learn”."""
    if config.evaluation.sample_interval:
        return config
    return with_settings(config, {"sample_interval": config.evaluation.eval_interval})


def as_text(value: Any) -> str:
    """Return a value as a person types it; "" for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def short_message(error: SettingError) -> str:
    """Return the message without the setting's name and value, which the form shows next to it."""
    start, separator, rest = str(error).partition(": ")
    return rest if separator and start.startswith(f"{error.setting}=") and " " not in start else str(error)


def dataset_problems(config: Config, dataset: DatasetInfo) -> Mapping[str, str]:
    """Return why `config` cannot be trained on the data set, by setting."""
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
