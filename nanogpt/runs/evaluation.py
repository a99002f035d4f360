"""Evaluate a checkpoint of a run on a whole split of its data set, or of another one with the same tokenizer."""

import time
from collections.abc import Generator
from functools import partial
from pathlib import Path

from nanogpt import data, hardware, tokenizers
from nanogpt.config import ArchitectureConfig
from nanogpt.data.text_size import text_size
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Event, SplitEvaluated
from nanogpt.loss_units import bits_per, perplexity
from nanogpt.runs import checkpoints, folder
from nanogpt.runs.load import Weights, load_model
from nanogpt.training.evaluation import evaluate_split


def evaluate_run(
    source: str | None = None,
    *,
    split: str = "val",
    stride: int | None = None,
    checkpoint: str = "best",
    weights: Weights = "auto",
    dataset: str | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    data_dir: Path | None = None,
    runs_dir: str | Path | None = None,
) -> Generator[Event, None, None]:
    """Yield Encoding | Evaluating events and, at the end, SplitEvaluated. Closing the iterator cancels.

    source: a run's name or path (None: the newest), or a checkpoint's folder. stride: tokens from one window to the
    next, from 1 to block_size; None: block_size, so windows do not overlap (1 for an architecture that predicts
    only the last position). checkpoint: "best", "latest" or a step. weights: as for `load_model`. dataset: None for
    the data set of the run. batch_size: windows at a time; None for that of the run. dtype: number format of matrix
    products; "int8" measures float32 too, for the difference. Raise `UserError`.
    """
    import torch

    from nanogpt.sampling import resolve_sampling_dtype
    from nanogpt.sampling.int8_loss import int8_forward

    began = time.monotonic()
    run, path = checkpoints.locate(source, checkpoint, runs_dir)
    config = folder.run_config(run)
    opened = open_run_dataset(run, dataset, data_dir)
    tokens = opened.split(split)
    if len(tokens) < 2:
        raise UserError(f"the {split} split of {opened.name} has only one token: prepare more text")
    opened.check_ids(split)
    stride = _resolve_stride(stride, checkpoints.model_config(path))
    if dtype == "int8" and device == "auto":
        device = "cpu"  # which alone computes it
    loaded = load_model(str(path), device=device, weights=weights)
    rounded = None
    if dtype == "int8":
        resolve_sampling_dtype(dtype, loaded.model)
        rounded = int8_forward(loaded.model)
    torch.set_num_threads(hardware.resolve_threads(0))
    size = yield from text_size(opened, split)
    batch_size = batch_size or config.data.batch_size
    measure = partial(
        evaluate_split,
        loaded.model,
        tokens,
        stride=stride,
        batch_size=batch_size,
        device=loaded.device,
        dtype="float32" if rounded else dtype,
        step=loaded.step,
    )
    int8_cost = None
    try:
        loss, predicted = yield from measure()
        if rounded:
            exact = loss
            loss, predicted = yield from measure(forward=rounded)
            int8_cost = bits_per(loss - exact, size.tokens, size.bytes)
    except (RuntimeError, MemoryError) as error:
        if not hardware.is_out_of_memory(error):
            raise
        raise UserError(f"out of memory: lower batch_size (now {batch_size}), or use another device") from None
    yield SplitEvaluated(
        run=folder.run_name(run),
        step=loaded.step,
        dataset=opened.name,
        split=split,
        loss=loss,
        perplexity=perplexity(loss),
        bits_per_character=bits_per(loss, size.tokens, size.characters),
        bits_per_byte=bits_per(loss, size.tokens, size.bytes),
        tokens=size.tokens,
        characters=size.characters,
        bytes=size.bytes,
        predicted=predicted,
        block_size=loaded.model.config.block_size,
        stride=stride,
        device=loaded.device,
        dtype=dtype,
        elapsed_s=time.monotonic() - began,
        is_average=loaded.is_average,
        int8_cost=int8_cost,
    )


def open_run_dataset(run: Path, asked: str | None = None, data_dir: Path | None = None) -> data.Dataset:
    """Return the data set to evaluate a run on; asked: its name, None for that of the run.

    Raise `UserError` if it does not fit the run.
    """
    own = folder.run_config(run).data.dataset
    if not (asked or own):
        raise UserError(f"the run {run.name} was imported, without its data set: name one with --dataset")
    dataset = data.open_dataset(asked or own, data_dir)
    if dataset.meta.tokenizer_fingerprint != tokenizers.fingerprint(tokenizers.load(run / "tokenizer.json")):
        raise UserError(
            f"the data set {dataset.name} was prepared with another tokenizer than the run {run.name}: use a data set "
            f"with the run's own tokenizer{f', such as {own}' if own else ''}"
            if asked
            else f"the data set {dataset.name} was prepared again with another tokenizer than the run {run.name} was "
            "trained with: prepare the old one again, or name another with --dataset"
        )
    trained_on = folder.read_run_toml(run).get("run", {}).get("train_sha256")
    if asked is None and trained_on not in (None, dataset.meta.sha256["train"]):
        raise UserError(
            f"the data set {dataset.name} is not the one that {run.name} was trained on, so its splits may contain "
            f"text of the training: prepare the old text again, or say --dataset={dataset.name} to use it anyway"
        )
    return dataset


def _resolve_stride(asked: int | None, config: ArchitectureConfig) -> int:
    """Return the stride. Raise `SettingError` if it does not fit the model."""
    if not config.capabilities.every_position:
        if asked not in (None, 1):
            raise SettingError(
                "stride",
                f"stride={asked}: the architecture {config.name} predicts only the last position; use stride=1",
            )
        return 1
    if asked is not None and not 1 <= asked <= config.block_size:
        raise SettingError(
            "stride", f"stride={asked}: has to be from 1 to {config.block_size:,}, the block_size of the model"
        )
    return asked or config.block_size
