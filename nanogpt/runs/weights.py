"""Weights that a new run starts from: of another run, a checkpoint, a Hugging Face folder, or a model on its hub.

They determine the shape of the model; only block_size can be made smaller. Reading the shape imports no torch.
"""

import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanogpt import data, paths, tokenizers
from nanogpt.config import ARCHITECTURE, ArchitectureConfig, Config, with_settings
from nanogpt.errors import SettingError, UserError
from nanogpt.interop import hub
from nanogpt.interop.huggingface_config import is_huggingface, read_config
from nanogpt.runs import checkpoints
from nanogpt.runs.folder import NO_WEIGHTS

if TYPE_CHECKING:
    from nanogpt.training.snapshot import Snapshot

HUGGINGFACE = "hf:"  # before a folder, or a repository of the hub


def with_shape_of_weights(
    config: Config, sources: Mapping[str, str] | None = None, runs_dir: str | Path | None = None
) -> Config:
    """Return the configuration with the shape of the weights that `init_from` names, unchanged if it names none.

    `sources` says where each setting comes from, as in `Resolved`; a "default" is replaced without an error (None: no
    setting is a default). Raise `SettingError` if the weights do not exist or a chosen setting does not fit them: only
    settings that do not shape them, such as `dropout`, and a smaller `block_size` may differ; the latter only if the
    architecture has the capability `crop`.
    """
    source = config.checkpoint.init_from
    if source in NO_WEIGHTS:
        return config
    model = shape_of(source, runs_dir)
    wanted, cropped = model.shape(), dict[str, Any]()
    for name, asked in config.model.shape().items():
        is_free = sources is not None and sources.get(name, "default") == "default"
        if is_free or asked == wanted.get(name) or (name == "vocab_size" and asked == 0):
            continue
        if name == "block_size" and asked < wanted[name] and model.capabilities.crop:
            cropped[name] = asked
        else:
            raise _shape_mismatch(name, config, wanted, sources)
    return with_settings(config, wanted | cropped)


def shape_of(source: str, runs_dir: str | Path | None = None) -> ArchitectureConfig:
    """Return the configuration of the model whose weights `source` names. Raise `SettingError`."""
    place = _locate(source, runs_dir)
    return read_config(place) if is_huggingface(place) else checkpoints.model_config(place)


def read_weights(source: str, dataset: data.Dataset, runs_dir: str | Path | None = None) -> tuple["Snapshot", bool]:
    """Return the weights, and whether they are averaged: of a run those with the lower validation loss.

    Raise `SettingError` if they do not exist or their tokens are not those of the data set.
    """
    from nanogpt.interop.huggingface import from_huggingface
    from nanogpt.runs.load import load_tokenizer, read_chosen_weights
    from nanogpt.training.snapshot import Snapshot

    place = _locate(source, runs_dir)
    if is_huggingface(place):
        _check_huggingface_tokens(source, place, dataset)
        model = from_huggingface(place)
        return Snapshot(model.config, model.state_dict()), False
    tokenizer = load_tokenizer(place.parent.parent)
    if tokenizers.fingerprint(tokenizer) != dataset.meta.tokenizer_fingerprint:
        raise _tokenizer_mismatch(source, dataset, tokenizer.name, place.parent.parent)
    snapshot, _, is_average = read_chosen_weights(place, "auto")
    return snapshot, is_average


def _check_huggingface_tokens(source: str, place: Path, dataset: data.Dataset) -> None:
    """Raise `SettingError` unless the data set's ids mean the same tokens in that folder."""
    from nanogpt.interop.huggingface_tokenizer import GPT2_SIZES, read_vocabulary, tokenizer_kind, vocabulary

    theirs = read_vocabulary(place)
    if theirs is None:  # the oldest folders of GPT-2 have none
        if read_config(place).vocab_size not in GPT2_SIZES:
            raise SettingError(
                "init_from",
                f"init_from={source}: it has no tokenizer.json, and what its tokens stand for is not known; export it "
                "again with `nanogpt export`, or save its tokenizer into the folder with transformers",
            )
        fits = dataset.tokenizer.name == "gpt2"
    else:
        fits = theirs == vocabulary(dataset.tokenizer)
    if not fits:
        raise _tokenizer_mismatch(source, dataset, "gpt2" if theirs is None else tokenizer_kind(theirs), place)


def _locate(source: str, runs_dir: str | Path | None) -> Path:
    """Return the folder of the weights: a Hugging Face folder or a checkpoint. Raise `SettingError`.

    A run or a folder with the name of a GPT-2 comes before that on the hub, which is downloaded.
    """
    name = source.removeprefix(HUGGINGFACE)
    folder = paths.expanded(name)
    if is_huggingface(folder):
        return folder
    try:
        if source != name:
            return huggingface_folder(source)
        try:
            return checkpoints.locate(source, "best", runs_dir)[1]
        except UserError:
            if source not in hub.GPT2 or folder.exists():
                raise
            return huggingface_folder(source)
    except UserError as error:
        raise SettingError("init_from", f"init_from={source}: {_how_to_get(source) or error}") from None


def absolute_source(source: str) -> str:
    """Return where weights are, a folder by its absolute path: who reads it later may have another working directory.

    A run's name, and that of a repository on the hub, stay.
    """
    name = source.removeprefix(HUGGINGFACE)
    path = paths.expanded(name)
    is_path = path.exists() and (os.sep in name or is_huggingface(path) or checkpoints.is_checkpoint(path))
    return f"{source.removesuffix(name)}{path.absolute()}" if is_path else source


def is_on_hub(source: str) -> bool:
    """Return whether weights of this name may have to be downloaded."""
    name = source.removeprefix(HUGGINGFACE)
    if name == source and name in hub.GPT2:
        with suppress(UserError):
            checkpoints.locate(source)
            return False
    is_named = name in hub.GPT2 or (name != source and hub.is_repository(name))
    return is_named and not paths.expanded(name).exists()


def huggingface_folder(source: str) -> Path:
    """Return the folder of `hf:FOLDER`, or the downloaded one of `hf:OWNER/NAME` or of a GPT-2 on the hub.

    `hf:` may be missing. Raise `UserError`.
    """
    name = source.removeprefix(HUGGINGFACE)
    folder = paths.expanded(name)
    if is_huggingface(folder):
        return folder
    if folder.exists() or not (name in hub.GPT2 or hub.is_repository(name)):
        raise UserError(
            f"{folder} has no config.json: name a folder with config.json and model.safetensors, or a model on the hub "
            "by its owner and name"
        )
    return hub.download(hub.GPT2.get(name, name))


def _how_to_get(source: str) -> str:
    """Return how to get weights that are in another format or only on Hugging Face; empty for other names."""
    folder = paths.expanded(source)
    if (folder / "ckpt.pt").is_file():
        return f"it has a ckpt.pt, a pickle, which can run code when it is loaded; {checkpoints.PICKLE_ADVICE}"
    if hub.is_repository(source) and not folder.exists():
        return f"no such run or folder; --init_from={HUGGINGFACE}{source} downloads the model of this name from the hub"
    return ""


def _shape_mismatch(
    name: str, config: Config, wanted: dict[str, Any], sources: Mapping[str, str] | None
) -> SettingError:
    """Return the error for a setting that does not fit the weights, with settings that do."""
    values, have = config.values(), wanted.get(name)
    asked = values[name]
    weights = f"the weights of {config.checkpoint.init_from}"
    if name not in wanted:
        knows = f"are of the architecture {wanted[ARCHITECTURE.name]}, which has no such setting"
        return SettingError(name, f"{name}={_format(asked)}: {weights} {knows}; leave {name} out")
    knows = (
        f"know {have:,} positions, not more"
        if name == "block_size" and asked > have
        else f"have {name}={_format(have)}"
    )
    origin = sources[name] if sources is not None else "flag"
    if origin == "flag":
        return SettingError(
            name, f"{name}={_format(asked)}: {weights} {knows}; leave {name} out, or train from scratch"
        )
    others = [
        f"--{other}={_format(known)}"
        for other, known in wanted.items()
        if sources is not None and sources.get(other) == origin and values.get(other) != known
    ]
    return SettingError(
        name,
        f"{name}={_format(asked)}, from {origin}: {weights} {knows}; give {' '.join(others)} too, "
        f"or leave {origin} out",
    )


def _format(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _tokenizer_mismatch(source: str, dataset: data.Dataset, name: str, folder: Path) -> SettingError:
    """Return the error; `name` is the kind of the weights' tokenizer, empty if not known, and `folder` has its file."""
    is_published = bool(name) and tokenizers.tokenizer_class(name).known_vocab_size is not None
    advice = f"prepare the text with --tokenizer={name if is_published else shlex.quote(f'hf:{folder}')}"
    if name == "char":
        advice = "a char tokenizer has the characters of its own text: choose a data set with the same characters"
    theirs = f", {name}," if name else ""
    return SettingError(
        "init_from", f"init_from={source}: its tokenizer{theirs} is not that of the data set {dataset.name}; {advice}"
    )
