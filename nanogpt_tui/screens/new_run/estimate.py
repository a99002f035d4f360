"""The estimate of a run: parameters, memory, tokens and time. The time comes from a few measured steps."""

from collections.abc import Iterator

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from nanogpt.config import Config, with_settings
from nanogpt.data.catalog import DatasetInfo
from nanogpt.formatting import significant
from nanogpt.tokenizers import known_vocab_size
from nanogpt.training import estimate
from nanogpt_tui.session.speed_measurement import Speed
from nanogpt_tui.text import count, duration, format_bytes, safe_content

LABEL, VALUE = 16, 9  # widths in cells
TERMS = {
    "parameters": "parameters",
    "memory": "memory",
    "iteration": "iteration",
    "epochs": "epoch",
    "tokens": "token",
    "guess": "uniform guess",
    "time": "ETA",
}


def vocabulary(config: Config, dataset: DatasetInfo | None) -> int | None:
    """Return the size of the model's vocabulary; None if it is not known before the data set is prepared."""
    if config.model.vocab_size:
        return config.model.vocab_size
    if dataset is None:
        return None
    return dataset.vocab_size or known_vocab_size(dataset.tokenizer)


def figures(
    config: Config, dataset: DatasetInfo | None, speed: Speed, first_step: int = 0
) -> Iterator[tuple[str, str, str, str]]:
    """Yield (name, value, note, style) of each figure. Tokens, epochs and time are those after `first_step`."""
    vocab = vocabulary(config, dataset)
    full = with_settings(config, {"vocab_size": vocab or 100})  # a typical one of a character model
    train_tokens = dataset.tokens.get("train") if dataset else None
    if config.model.capabilities.counted:
        yield "parameters", f"≤ {count(train_tokens)}" if train_tokens else "–", "known once counted", "$foreground"
    else:
        yield "parameters", ("" if vocab else "≈ ") + count(full.model.n_parameters()), "", "$foreground"
    device = speed.memory.device if speed.memory else "cpu"
    memory = estimate.memory(full, speed.dtype, device.partition(":")[0])
    free = speed.memory.free if speed.memory else None
    note = f"of {format_bytes(free)} free" if free is not None else f"{format_bytes(memory.activations)} activations"
    processes = config.system.processes
    tight = free is not None and memory.total * (processes if device == "cpu" else 1) > free  # a GPU has one of them
    times = f"{processes} × " if processes > 1 else "≈ "  # both do not fit in 80 columns
    yield "memory", f"{times}{format_bytes(memory.total)}", note, "$error" if tight else "$foreground"
    data, model, max_iters = config.data, config.model, config.schedule.max_iters
    batches = [str(data.gradient_accumulation_steps)] if data.gradient_accumulation_steps > 1 else []
    product = " × ".join([*batches, str(data.batch_size), str(model.block_size)])
    yield "iteration", f"{config.tokens_per_iteration:,}", f"= {product}", "$foreground"
    left = 1 - min(1.0, first_step / max(1, max_iters))  # the part of the steps
    span = "left" if first_step else "in total"
    if config.model.capabilities.counted:
        yield "tokens", count(train_tokens) if train_tokens else "–", "in total", "$foreground"
    else:
        yield "tokens", count(left * max_iters * config.tokens_per_iteration), span, "$foreground"
    if train_tokens:
        epochs = left * estimate.epochs(config, train_tokens)
        yield "epochs", significant(epochs), f"of {count(train_tokens)}", "$foreground"
    else:
        yield "epochs", "–", "known once prepared", "$quiet"
    if vocab:
        yield "guess", f"{estimate.uniform_loss(vocab):.3f}", f"= ln {vocab:,}", "$foreground"
    else:
        yield "guess", "–", "known once prepared", "$quiet"
    if speed.seconds_per_step is not None and dataset and train_tokens:
        seconds = left * speed.seconds_per_step * estimate.equivalent_steps(config, dataset.tokens)
        each = f"{1000 * speed.seconds_per_step:,.0f} ms per step" if speed.seconds_per_step < 10 else ""
        yield "time", f"≈ {duration(seconds)}", each or f"{speed.seconds_per_step:,.0f} s per step", "$foreground"
    else:
        yield "time", "–", "", "$quiet"


class EstimateRow(Widget):
    """One figure, with its note if it fits."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.glossary = TERMS[name]
        self._shown: tuple[str, str, str] = ("", "", "")

    def show(self, value: str, note: str, style: str) -> None:
        if (value, note, style) != self._shown:
            self._shown = (value, note, style)
            self.refresh()

    def render(self) -> Content:
        value, note, style = self._shown
        label = Content.styled(f"{LABELS[self.name or '']:<{LABEL}}", "$quiet")
        shown = f"{value:<{VALUE}} "
        fits = self.size.width >= LABEL + len(shown) + len(note)
        return Content.assemble(label, (shown, style), (note if fits else "", "$quiet"))


LABELS = {name: name for name in TERMS} | {"iteration": "tokens per step", "guess": "uniform guess"}


class Estimate(Vertical):
    """All figures, and a line on how the time was measured."""

    HELP = (
        "An estimate for the present values of the form. The time comes from a few steps on this machine, one "
        "second after the last key; the memory is for weights, gradients, AdamW's moments and activations."
    )

    def __init__(self) -> None:
        super().__init__(id="estimate")
        self._rows = {name: EstimateRow(name) for name in TERMS}

    def compose(self) -> ComposeResult:
        yield from self._rows.values()
        yield Static(id="how")

    def show(
        self, config: Config, dataset: DatasetInfo | None, speed: Speed, working: bool, first_step: int = 0
    ) -> None:
        for name, value, note, style in figures(config, dataset, speed, first_step):
            self._rows[name].show(value, note, style)
        text = "measuring …" if working else speed.problem or speed.note
        if config.model.capabilities.counted:
            text = f"{estimate.COUNTED}. {text}" if text else estimate.COUNTED
        self.query_one("#how", Static).update(
            safe_content(text, "$warning" if speed.problem and not working else "$quiet")
        )
