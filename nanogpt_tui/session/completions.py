"""What was written: takes with all that is needed to write them again, and their export. Knows no screen and no model.

A round is one take, or two side by side from the same prompt, knobs and seed.
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
from nanogpt.files import why, write_atomically
from nanogpt.formatting import counted, printable

LIVE = "live"


@dataclass(frozen=True, slots=True)
class Source:
    """Weights to write with. `run` is None for the newest run; `which` is "best", "latest", a step, or LIVE: those that
    are being trained."""

    run: str | None = None
    which: str = "best"

    @property
    def label(self) -> str:
        if self.which == LIVE:
            return "live weights"
        name = self.run or "the newest run"
        return f"{name} · {'step ' + format(int(self.which), ',') if self.which.isdigit() else self.which}"


@dataclass(slots=True)
class Completion:
    """One text. `reason` says why it ended and is empty while it is written; `turns` are the knobs from a token on."""

    prompt: str
    source: Source
    knobs: SamplingConfig
    run: str = ""
    step: int | None = None
    val_loss: float | None = None
    device: str = ""
    tokens: list[Token] = field(default_factory=list)
    turns: list[tuple[int, SamplingConfig]] = field(default_factory=list)
    branched_at: int | None = None
    reason: str = ""
    error: str = ""
    tokens_per_second: float = 0.0
    began: float = field(default_factory=time.time)
    vocab_size: int = 0  # 0 until the weights are there

    @property
    def text(self) -> str:
        """What was written, without the prompt."""
        return "".join(token.text for token in self.tokens)

    @property
    def weights(self) -> str:
        """Which weights wrote it: run and step once they are loaded."""
        if self.step is None:
            return self.source.label
        live = "live weights, " if self.source.which == LIVE else ""
        return f"{self.run} · {live}step {self.step:,}"


CompletionGroup = list[Completion]


def described(completion: Completion) -> dict[str, Any]:
    """All of a take as plain values."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(completion.began)),
        "run": completion.run or completion.source.run,
        "step": completion.step,
        "weights": "live" if completion.source.which == LIVE else "checkpoint",
        "val_loss": completion.val_loss,
        "device": completion.device,
        "knobs": dataclasses.asdict(completion.knobs),
        "turned": [{"from_token": at, "knobs": dataclasses.asdict(knobs)} for at, knobs in completion.turns],
        "branched_at": completion.branched_at,
        "prompt": completion.prompt,
        "text": completion.text,
        "ended": completion.reason,
        "tokens_per_second": round(completion.tokens_per_second, 1),
        "tokens": [
            {"id": token.id, "text": token.text, "probability": token.probability} for token in completion.tokens
        ],
    }


def to_json(groups: Iterable[CompletionGroup]) -> str:
    everything = [[described(completion) for completion in group] for group in groups]
    written = json.dumps({"rounds": everything}, ensure_ascii=False, indent=1) + "\n"
    return written.translate({code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)})  # JSON escapes the others itself


def to_markdown(groups: Iterable[CompletionGroup]) -> str:
    """The texts, made harmless, in code blocks, which no text can end early, each under what wrote it."""
    parts = ["# Samples\n"]
    for number, group in enumerate(groups, 1):
        for place, completion in enumerate(group):
            side = f" ({'left' if place == 0 else 'right'})" if len(group) > 1 else ""
            text = printable(completion.prompt + completion.text)
            fence = "`" * max(3, 1 + longest_run(text, "`"))
            parts.append(f"## {number}{side}: {completion.weights}\n")
            parts.append(f"{settings_text(completion.knobs)}\n")
            parts += [f"- from token {at}: {settings_text(knobs, completion.knobs)}" for at, knobs in completion.turns]
            parts.append(f"{'' if not completion.turns else chr(10)}{fence}text\n{text}\n{fence}\n")
            parts.append(f"{counted(len(completion.tokens), 'token')}, ended by: {completion.reason or 'still job'}\n")
    return "\n".join(parts)


def settings_text(knobs: SamplingConfig, before: SamplingConfig | None = None) -> str:
    """The knobs as `name=value`; those that differ from `before` where it is given."""
    values = dataclasses.asdict(knobs)
    known = dataclasses.asdict(before) if before else {}
    shown = [
        f"{name}={value!r}" if name == "stop" else f"{name}={value:g}"
        for name, value in values.items()
        if (value or name != "stop") and known.get(name, None) != value
    ]
    return ", ".join(shown) or "as at the start"


def settings_changed_at(completion: Completion, number: int) -> str:
    """The knobs that were turned before token `number`, as `name=value`; empty where none were."""
    known = completion.knobs
    for at, knobs in completion.turns:
        if at == number:
            return settings_text(knobs, known)
        known = knobs
    return ""


def longest_run(text: str, character: str) -> int:
    """The length of the longest run of `character` in `text`."""
    longest = length = 0
    for each in text:
        length = length + 1 if each == character else 0
        longest = max(longest, length)
    return longest


def export(groups: Iterable[CompletionGroup], file: Path) -> None:
    """Writes the rounds as the file's suffix says. Raises `UserError`."""
    if file.suffix not in (".md", ".json"):
        raise UserError(f"{file.name}: has to end in .md (Markdown) or .json")
    text = to_markdown(groups) if file.suffix == ".md" else to_json(groups)
    try:
        write_atomically(file, text.encode("utf-8", "replace"))
    except OSError as error:
        raise UserError(f"cannot write {file}: {why(error)}") from None
