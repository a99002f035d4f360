"""Train a model for a fixed time and evaluate it on whole splits, without a run on disk: for comparisons."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from nanogpt.config import Config
from nanogpt.events import Event, Started, Step


@dataclass(frozen=True, slots=True)
class TimedResult:
    """A model after `steps` steps in `elapsed_s` seconds, in which it saw `tokens` tokens.

    losses: by split, in nats per token. dtype: the number format of the training; it is evaluated in float32.
    """

    n_parameters: int
    steps: int
    tokens: int
    elapsed_s: float
    losses: Mapping[str, float]
    device: str
    dtype: str
    threads: int


def train_and_evaluate(
    config: Config, tokens: Mapping[str, Any], seconds: float, splits: Sequence[str] = ("val",)
) -> Generator[Event, None, TimedResult]:
    """Yield the events of a training of `seconds` and of its evaluations, and return the result.

    tokens: the token ids of "train", "val" and each of `splits`. See `train_for` for the time, `evaluation_stride` for
    the windows. Closing the iterator cancels. Raise `UserError`.
    """
    from nanogpt.runs.load import model_from
    from nanogpt.training.evaluation import evaluate_split
    from nanogpt.training.timed import train_for

    started: Started | None = None
    last: Step | None = None
    with closing(train_for(config, tokens, seconds)) as training:
        while True:
            try:
                event = next(training)
            except StopIteration as end:
                snapshot = end.value
                break
            started = event if isinstance(event, Started) else started
            last = event if isinstance(event, Step) else last
            yield event
    if started is None or last is None:
        raise RuntimeError("training ended before its first step")
    model = model_from(snapshot, "the trained model").to(started.device).eval()
    model.document_separator = config.data.separator
    stride, losses = evaluation_stride(config), dict[str, float]()
    for split in splits:
        losses[split], _ = yield from evaluate_split(
            model,
            tokens[split],
            stride=stride,
            batch_size=config.data.batch_size,
            device=started.device,
            dtype="float32",
            step=last.step,
        )
    return TimedResult(
        n_parameters=model.n_parameters(),
        steps=last.step,
        tokens=last.tokens,
        elapsed_s=last.elapsed_s,
        losses=losses,
        device=started.device,
        dtype=started.dtype,
        threads=started.threads,
    )


def evaluation_stride(config: Config) -> int:
    """Return half the window, so that short and long windows compare: each token is predicted from half of it or more.

    1 for an architecture that predicts only the last position of a window.
    """
    return max(1, config.model.block_size // 2) if config.model.capabilities.every_position else 1
