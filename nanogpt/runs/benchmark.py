"""`nanogpt bench`: the speed of training by part, of sampling and of preparing data, as events. Writes no run.

The training is timed by `nanogpt/training/step_timing.py`; sampling and preparing are those of the commands.
"""

import json
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from nanogpt import data, hardware, sampling, tokenizers
from nanogpt.config import Config, SamplingConfig
from nanogpt.errors import UserError
from nanogpt.events import Benchmark, Event, Measuring, Prepared, Stopped
from nanogpt.runs.run_dataset import splits, with_dataset
from nanogpt.training.step_timing import time_step_parts

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel

PARTS = ("data", "forward", "backward", "optimizer")
PARALLEL_SAMPLES = 32
SAMPLING_S = 1.5  # approximate duration of each of the two measurements
PREPARED_BYTES = 1 << 25


def run_benchmark(
    config: Config, dataset: data.Dataset, *, burn_in: int = 10, steps: int = 50, limit_s: float = 6.0
) -> Generator[Event, None, None]:
    """Yield `Started` and `Step` of the training, `Measuring` for each further part, and `Benchmark` at the end.

    Closing the iterator cancels. `steps` iterations are measured after `burn_in` others, fewer of each if they take
    longer than `limit_s` seconds. Raise `UserError`.
    """
    config = with_dataset(config, dataset)
    started, first_s, parts = yield from time_step_parts(
        config, splits(dataset), burn_in=burn_in, steps=steps, limit_s=limit_s
    )
    if not parts:
        why = "its loss is not finite; lower learning_rate"
        if config.model.capabilities.counted:
            why = f"the text has only {started.max_iters} steps; lower batch_size"
        raise UserError(f"training ended before anything could be measured: {why}")
    step_s = median(part["step"] for part in parts)  # robust to steps that other programs disturb
    total = {name: sum(part.get(name, 0.0) for part in parts) for name in (*PARTS, "step")}
    import torch

    yield Measuring(what="sampling")
    torch.set_num_threads(hardware.resolve_threads(0))  # as `nanogpt sample` has them, not as the training chose
    model = config.model.build().to(hardware.resolve_device(config.system.device)).eval()
    sampling_dtype, why_sampling_dtype = sampling.resolve_sampling_dtype("auto", model)
    alone = sampling_rate(model, dataset.tokenizer, 1)
    yield Measuring(what=f"sampling {PARALLEL_SAMPLES} at once")
    together = sampling_rate(model, dataset.tokenizer, PARALLEL_SAMPLES)
    yield Measuring(what="preparing")
    per_second = config.tokens_per_iteration / step_s
    yield Benchmark(
        cpu=hardware.cpu_model(),
        device=started.device,
        dtype=started.dtype,
        compile=started.compile,
        threads=started.threads,
        choices=started.choices | {"sampling": f"in {sampling_dtype}: {why_sampling_dtype}"},
        n_parameters=started.n_parameters,
        tokens_per_iteration=config.tokens_per_iteration,
        iterations=len(parts),
        first_iteration_s=first_s,
        ms_per_iteration=1000 * step_s,
        parts_ms={name: 1000 * step_s * total[name] / total["step"] for name in PARTS},
        tokens_per_second=per_second,
        mfu=per_second * started.flops_per_token / started.peak_flops if started.peak_flops else None,
        peak_flops=started.peak_flops,
        peak_from="the maker's data sheet" if started.device.startswith("cuda") else "products of matrices, timed here",
        sampling_tokens_per_second=alone,
        sampling_together=PARALLEL_SAMPLES,
        sampling_together_tokens_per_second=together,
        tokenizer=dataset.tokenizer.name,
        preparation_mb_per_second=preparation_rate(dataset),
    )


def sampling_rate(model: "LanguageModel", tokenizer: tokenizers.Tokenizer, num_samples: int) -> float | None:
    """Return the tokens/s of all samples together, from an empty prompt; None if there is not enough memory."""
    try:
        few = _measure_sampling(model, tokenizer, num_samples, 8)
        affordable = int(few * SAMPLING_S / num_samples)
        return _measure_sampling(model, tokenizer, num_samples, max(8, min(affordable, 4 * model.config.block_size)))
    except (RuntimeError, MemoryError) as error:
        if not hardware.is_out_of_memory(error):
            raise
        return None


def _measure_sampling(
    model: "LanguageModel", tokenizer: tokenizers.Tokenizer, num_samples: int, max_new_tokens: int
) -> float:
    knobs = SamplingConfig(max_new_tokens=max_new_tokens)
    events = sampling.generate(model, tokenizer, "", knobs, num_samples=num_samples)
    ends = [event for event in events if isinstance(event, Stopped)]
    # All samples are generated in parallel, so the slowest took as long as all of them.
    return sum(end.tokens for end in ends) / max(end.tokens / end.tokens_per_second for end in ends)


def preparation_rate(dataset: data.Dataset) -> float | None:
    """Return the MB of text prepared per second, with the data set's tokenizer and its text repeated.

    Return None if there is not enough space on the disk.
    """
    text = dataset.tokenizer.decode(dataset.split("train")[: 1 << 18]).encode()
    with tempfile.TemporaryDirectory(prefix="nanogpt-bench-") as folder:
        if shutil.disk_usage(folder).free < 10 * PREPARED_BYTES:
            return None
        path, tokenizer = Path(folder, "text.txt"), Path(folder, "tokenizer.json")
        path.write_bytes(text * (PREPARED_BYTES // len(text) + 1))
        tokenizer.write_text(json.dumps(dataset.tokenizer.to_json()), encoding="utf-8")  # it is not trained again
        recipe = data.textfile_recipe([path], tokenizer=f"hf:{tokenizer}")
        events = data.prepare(recipe, data_dir=Path(folder, "prepared"))
        elapsed_s = sum(event.elapsed_s for event in events if isinstance(event, Prepared))
        return path.stat().st_size / 1e6 / elapsed_s
