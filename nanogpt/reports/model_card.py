"""The model card of a run: the README.md of its repository on the Hugging Face Hub, in Markdown with a YAML head.

All text of the run is printable, and stands in code spans, table cells or fences that it cannot leave.
"""

import re
from collections.abc import Sequence

from nanogpt import __version__, data
from nanogpt.config import ArchitectureConfig
from nanogpt.errors import UserError
from nanogpt.events import Evaluated, Sampled, Started
from nanogpt.formatting import duration, printable, significant
from nanogpt.interop.huggingface_config import config_json
from nanogpt.interop.huggingface_tokenizer import tokenizer_files
from nanogpt.reports.evenly import evenly
from nanogpt.reports.record import RunRecord
from nanogpt.runs.manage import changed
from nanogpt.tokenizers import Tokenizer

CURVE = "curve.svg"
LONGEST_SAMPLE = 2_000  # characters
EVALUATIONS = 12  # in the table of the curve, at most


def model_card(record: RunRecord, tokenizer: Tokenizer, repository: str, step: int, licence: str = "") -> str:
    """Return the text of README.md.

    tokenizer: that of the run. step: that of the weights. licence: the identifier of their licence; empty: none is
    stated.
    """
    sections = (
        _head(record, licence),
        _title(record, step),
        f"![Losses in nats per token over the steps]({CURVE})",
        _results(record),
        _use(record, tokenizer, repository),
        _data(record),
        _training(record),
        _sample(record.last(Sampled)),
        _licence(record, licence),
    )
    return "\n\n".join(filter(None, sections)) + "\n"


def _head(record: RunRecord, licence: str) -> str:
    lines = ["---", "library_name: nanogpt-tui", "pipeline_tag: text-generation", "tags:", "- nanogpt"]
    if record.config is not None:
        lines.append(f"- {re.sub(r'[^a-z0-9-]', '-', record.config.model.name)}")
    return "\n".join([*lines, *([f"license: {licence}"] if licence else []), "---"])


def _title(record: RunRecord, step: int) -> str:
    state, config = record.state, record.config
    size = f" with {state.n_parameters:,} parameters" if state.n_parameters else ""
    kind = f" of the architecture {code(config.model.name)}" if config is not None else ""
    text = f" on the data set {code(state.dataset)}" if state.dataset else ""
    begun = ""
    if config is not None and config.checkpoint.init_from not in ("scratch", "resume"):
        begun = f" It started from the weights of {code(config.checkpoint.init_from)}."
    about = f"A language model{kind}{size}, trained with nanogpt-tui {__version__}{text}.{begun}"
    return f"# {cell(state.name)}\n\n{about} These are the weights of step {step:,}."


def _results(record: RunRecord) -> str:
    """Return the best losses and the curve of the validation loss as tables."""
    state, evaluations = record.state, record.all(Evaluated)
    best = {
        "validation loss, nats per token": "" if state.best_val_loss is None else f"{state.best_val_loss:.4f}",
        "bits per byte": _number(state.best_val_loss_in("bits per byte")),
        "perplexity": "" if state.best_val_loss is None else significant(state.best_val_loss_in("perplexity") or 0),
    }
    rows = [(name, value) for name, value in best.items() if value]
    if not rows:
        return ""
    curve = [
        (f"{event.step:,}", f"{event.train_loss:.4f}", f"{event.val_loss:.4f}")
        for event in evenly(evaluations, EVALUATIONS)
    ]
    tables = [table(("best", ""), rows), table(("step", "training loss", "validation loss"), curve) if curve else ""]
    return "## Results\n\n" + "\n\n".join(filter(None, tables))


def _use(record: RunRecord, tokenizer: Tokenizer, repository: str) -> str:
    name = repository.rpartition("/")[2]
    commands = [f"nanogpt pull {repository}", f"nanogpt sample {name}"]
    if record.config is not None and _is_exportable(record.config.model, tokenizer):
        commands.append(f"nanogpt export {name} {name}-hf --to=hf")
    return (
        "## Use\n\n" + fenced("\n".join(commands), "sh") + "\n\n"
        f"`nanogpt train --init_from={name}` fine-tunes it on a data set with the same tokenizer. The weights are "
        "safetensors: loading them runs no code."
    )


def _is_exportable(config: ArchitectureConfig, tokenizer: Tokenizer) -> bool:
    """Return whether transformers has this model and its tokenizer."""
    try:
        config_json(config, None)
        tokenizer_files(tokenizer, None)
    except UserError:
        return False
    return True


def _data(record: RunRecord) -> str:
    started, rows = record.last(Started), list[tuple[str, str]]()
    about = _about_data(record.state.dataset)
    if record.state.dataset:
        rows.append(("data set", code(record.state.dataset)))
    if about is not None and about.title:
        rows.append(("title", cell(about.title)))
    if about is not None and about.licence:
        rows.append(("licence of the text", cell(about.licence)))
    if started is not None and started.train_tokens:
        rows.append(("tokens", f"{started.train_tokens:,} for training, {started.val_tokens:,} for validation"))
    return "## Data\n\n" + table(("", ""), rows) if rows else ""


def _about_data(name: str) -> data.DatasetInfo | None:
    """Return what is known here of a data set; None for one that is neither prepared nor a recipe."""
    try:
        return next((each for each in data.list_datasets() if each.name == name), None)
    except (UserError, OSError):
        return None


def _training(record: RunRecord) -> str:
    state, tokens = record.state, record.steps["tokens"]
    rows = [("steps", f"{state.step:,}")]
    rows += [("tokens", f"{tokens[-1]:,.0f}")] if tokens else []
    rows += [("time", duration(state.elapsed_s))] if state.elapsed_s else []
    hardware = [str(record.facts[name]) for name in ("gpu", "cpu") if record.facts.get(name)]
    rows += [("hardware", cell(", ".join(hardware[:1])))] if hardware else []
    if record.config is not None:
        rows += [
            (code(name), code(str(value)) if value != "" else "") for name, value in changed(record.config).items()
        ]
    return "## Training\n\n" + table(("", ""), rows)


def _sample(sample: Sampled | None) -> str:
    if sample is None:
        return ""
    text = sample.text[:LONGEST_SAMPLE]
    prompt = f" from the prompt {code(sample.prompt)}" if sample.prompt.strip() else ""
    return f"## Sample\n\nThe last sample of the training, at step {sample.step:,}{prompt}, not selected:\n\n" + fenced(
        text
    )


def _licence(record: RunRecord, licence: str) -> str:
    stated = f"The weights have the licence {code(licence)}." if licence else "No licence is stated for the weights."
    return f"## Licence\n\n{stated} The text that they were trained on has its own."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; the cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """Return text in one line, without a meaning in Markdown or HTML."""
    plain = " ".join(printable(text).split())
    return re.sub(r"([\\`*_{}\[\]<>()#!|~&])", r"\\\1", plain)


def code(text: str) -> str:
    """Return text as a code span that can stand in a cell of a table."""
    plain = " ".join(printable(text).split()).replace("|", "\N{BROKEN BAR}")
    ticks = "`" * (1 + _longest_run(plain))
    space = " " if plain.startswith("`") or plain.endswith("`") or not plain else ""
    return f"{ticks}{space}{plain}{space}{ticks}"


def fenced(text: str, language: str = "") -> str:
    """Return text as a code block."""
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}{language or 'text'}\n{printable(text)}\n{fence}"


def _longest_run(text: str) -> int:
    """Return the length of the longest run of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
