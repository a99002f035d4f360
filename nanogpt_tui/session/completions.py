"""Completions with everything that is needed to generate them again, and their export as Markdown or JSON.

A group is one completion, or two side by side from the same prompt, knobs and seed.
"""

import dataclasses
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError
from nanogpt.events import Token
from nanogpt.files import new_file, why
from nanogpt.formatting import counted, printable

LIVE = "live"


@dataclass(frozen=True, slots=True)
class Source:
    """Weights to sample from. `run` is None for the newest run; `which` is "best", "latest", a step, or LIVE for the
    weights that are being trained."""

    run: str | None = None
    which: str = "best"

    @property
    def label(self) -> str:
        """The weights in words, before they are loaded."""
        if self.which == LIVE:
            return "live weights"
        name = self.run or "the newest run"
        return f"{name} · {'step ' + format(int(self.which), ',') if self.which.isdigit() else self.which}"


@dataclass(slots=True)
class Completion:
    """One generated text.

    `reason` says why generation ended and is empty before. `knob_changes` holds (index of the first token, knobs) for
    each change during generation. `started_at` is in seconds since the epoch.

    `step` and `val_loss` are those of the weights that generated the last tokens. Live weights can be later ones when
    generation is continued: then the tokens before `weights_since` are by earlier weights, from step `first_step` on.
    """

    prompt: str
    source: Source
    knobs: SamplingConfig
    run: str = ""
    step: int | None = None
    val_loss: float | None = None
    device: str = ""
    tokens: list[Token] = field(default_factory=list)
    knob_changes: list[tuple[int, SamplingConfig]] = field(default_factory=list)
    branched_at: int | None = None
    reason: str = ""
    error: str = ""
    tokens_per_second: float = 0.0
    started_at: float = field(default_factory=time.time)
    vocab_size: int = 0  # 0 until the weights are loaded
    tokenizer: str = ""  # its fingerprint; empty until the weights are loaded, and in records of earlier versions
    is_continued: bool = False  # whether generation was continued, from an end or from a branch
    is_average: bool = False  # whether the weights are the averaged ones of their checkpoint
    first_step: int | None = None  # None: all tokens are by the weights of `step`
    weights_since: int = 0

    @property
    def text(self) -> str:
        """The generated text, without the prompt."""
        return "".join(token.text for token in self.tokens)

    @property
    def weights(self) -> str:
        """The weights in words: run and step once they are loaded."""
        if self.step is None:
            return self.source.label
        live = "live weights, " if self.source.which == LIVE else ""
        steps = f"step {self.step:,}" if self.first_step is None else f"steps {self.first_step:,} to {self.step:,}"
        return f"{self.run} · {live}{steps}"

    @property
    def exact_source(self) -> Source:
        """The checkpoint that generated it, also where "best" or "latest" is another one by now; before the weights are
        loaded, and for live ones, `source`."""
        if self.source.which == LIVE or self.step is None:
            return self.source
        return Source(self.source.run or self.run, str(self.step))


CompletionGroup = list[Completion]


def to_record(completion: Completion) -> dict[str, Any]:
    """Return a completion as plain values for JSON."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(completion.started_at)),
        "run": completion.run or completion.source.run,
        "step": completion.step,
        "weights": "live" if completion.source.which == LIVE else "checkpoint",
        "averaged": completion.is_average,
        "first_step": completion.first_step,
        "weights_since": completion.weights_since,
        "val_loss": completion.val_loss,
        "device": completion.device,
        "tokenizer": completion.tokenizer,
        "knobs": dataclasses.asdict(completion.knobs),
        "turned": [{"from_token": at, "knobs": dataclasses.asdict(knobs)} for at, knobs in completion.knob_changes],
        "branched_at": completion.branched_at,
        "continued": completion.is_continued,
        "prompt": completion.prompt,
        "text": completion.text,
        "ended": completion.reason,
        "tokens_per_second": round(completion.tokens_per_second, 1),
        "tokens": [
            {"id": token.id, "text": token.text, "probability": token.probability} for token in completion.tokens
        ],
    }


def to_json(groups: Iterable[CompletionGroup]) -> str:
    """Return the groups as one JSON object, without control characters."""
    rounds = [[to_record(completion) for completion in group] for group in groups]
    text = json.dumps({"rounds": rounds}, ensure_ascii=False, indent=1) + "\n"
    return text.translate({code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)})  # JSON escapes the others itself


def to_markdown(groups: Iterable[CompletionGroup]) -> str:
    """Return the groups as Markdown: each text in a code block, without control characters, with its weights and knobs.

    A code block's fence is longer than any fence in its text, so that the text cannot end the block.
    """
    parts = ["# Samples\n"]
    for number, group in enumerate(groups, 1):
        for index, completion in enumerate(group):
            side = f" ({'left' if index == 0 else 'right'})" if len(group) > 1 else ""
            text = printable(completion.prompt + completion.text)
            fence = "`" * max(3, 1 + longest_run(text, "`"))
            parts.append(f"## {number}{side}: {completion.weights}\n")
            parts.append(f"{settings_text(completion.knobs)}\n")
            parts += [
                f"- from token {at}: {settings_text(knobs, completion.knobs)}" for at, knobs in completion.knob_changes
            ]
            parts.append(f"{'' if not completion.knob_changes else chr(10)}{fence}text\n{text}\n{fence}\n")
            parts.append(
                f"{counted(len(completion.tokens), 'token')}, ended by: {completion.reason or 'still generating'}\n"
            )
    return "\n".join(parts)


def settings_text(knobs: SamplingConfig, before: SamplingConfig | None = None) -> str:
    """Return the knobs as `name=value`; with `before`, only those that differ from it."""
    values = dataclasses.asdict(knobs)
    old_values = dataclasses.asdict(before) if before else {}
    parts = [
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value!r}"
        for name, value in values.items()
        if (value or name != "stop") and old_values.get(name, None) != value
    ]
    return ", ".join(parts) or "as at the start"


def settings_changed_at(completion: Completion, number: int) -> str:
    """Return the knobs that changed before token `number`, as `name=value`; empty if none did."""
    before = completion.knobs
    for at, knobs in completion.knob_changes:
        if at == number:
            return settings_text(knobs, before)
        before = knobs
    return ""


def longest_run(text: str, character: str) -> int:
    """Return the length of the longest run of `character` in `text`."""
    longest = length = 0
    for each in text:
        length = length + 1 if each == character else 0
        longest = max(longest, length)
    return longest


def export(groups: Iterable[CompletionGroup], file: Path) -> None:
    """Write the groups to a new file as Markdown or JSON, by its suffix.

    Raise `UserError` for another suffix, or if the file exists or cannot be written.
    """
    if file.suffix not in (".md", ".json"):
        raise UserError(f"{file.name}: must end in .md (Markdown) or .json")
    text = to_markdown(groups) if file.suffix == ".md" else to_json(groups)
    try:
        with new_file(file) as partial:
            partial.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise UserError(f"cannot write {file}: {why(error)}; choose another place") from None
