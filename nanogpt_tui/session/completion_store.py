"""The texts that were written, kept from one start of the app to the next. Knows no screen and no model.

A file of one JSON line a round. A line is appended whole, and a later line on a round replaces an earlier one; what
cannot be read is passed over, so a torn line costs itself alone. What else could have come is not kept.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanogpt import paths
from nanogpt.config import resolve_sampling
from nanogpt.errors import UserError
from nanogpt.events import Token
from nanogpt.files import check_regular, lines, open_regular, why, write_atomically
from nanogpt_tui.session.completions import LIVE, Completion, CompletionGroup, Source, described

MOST = 200  # rounds; when there are twice as many lines, the older ones go
LONGEST = 20_000  # tokens of a round: a longer one is for its export
LONGEST_LINE, LARGEST = 1 << 24, 1 << 30  # bytes: far more than such rounds take


def file() -> Path:
    return paths.data_home() / "samples.jsonl"


def keep(group: CompletionGroup) -> None:
    """Appends a round, if it has ended, without an error, and has a text. Raises `UserError` where it cannot be
    written."""
    tokens = sum(len(completion.tokens) for completion in group)
    if not 0 < tokens <= LONGEST or any(completion.error or not completion.reason for completion in group):
        return
    known = {
        "began": max(completion.began for completion in group),
        "takes": [described(completion) for completion in group],
    }
    line = json.dumps(known, ensure_ascii=True) + "\n"
    try:
        file().parent.mkdir(parents=True, exist_ok=True)
        check_regular(file())
        handle = os.open(file(), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)  # less what the umask takes away
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, (b"\n" if torn else b"") + line.encode("ascii"))
        finally:
            os.close(handle)
    except OSError as error:
        raise UserError(f"cannot keep the text in {file()}: {why(error)}") from None


def groups() -> list[CompletionGroup]:
    """Those of earlier sessions, the oldest first, at most MOST. Makes a file that has grown twice as long shorter.

    Raises `UserError` where they cannot be read.
    """
    try:
        with open_regular(file(), LARGEST) as known:
            written = list(lines(known, LONGEST_LINE))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read the texts of earlier sessions in {file()}: {why(error)}") from None
    found: dict[float, tuple[bytes, CompletionGroup]] = {}
    for line in written:
        with suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, UserError):
            began, group = _read(json.loads(line))
            found[began] = line, group
    kept = sorted(found.items())[-MOST:]
    if len(written) >= 2 * MOST:
        with suppress(OSError):
            write_atomically(file(), b"".join(line for _, (line, _) in kept))
    return [group for _, (_, group) in kept]


def _read(line: dict[str, Any]) -> tuple[float, CompletionGroup]:
    """The round of a line. Raises whatever it takes for one that is not of this kind."""
    began = float(line["began"])
    group = [_completion(each, began) for each in line["takes"]]
    if not 1 <= len(group) <= 2:
        raise ValueError("a round is one take or two")
    return began, group


def _completion(known: dict[str, Any], began: float) -> Completion:
    run, step = str(known["run"] or ""), known["step"]
    which = LIVE if known["weights"] == "live" else "best" if step is None else str(int(step))
    completion = Completion(
        prompt=str(known["prompt"]),
        source=Source(run or None, which),
        knobs=_knobs(known["knobs"]),
        run=run,
        step=None if step is None else int(step),
        val_loss=None if known["val_loss"] is None else float(known["val_loss"]),
        device=str(known["device"]),
        turns=[(int(turn["from_token"]), _knobs(turn["knobs"])) for turn in known["turned"]],
        branched_at=None if known["branched_at"] is None else int(known["branched_at"]),
        reason=str(known["ended"]) or "esc",
        tokens_per_second=float(known["tokens_per_second"]),
        began=began,
    )
    for token in known["tokens"]:
        probability = float(token["probability"])
        completion.tokens.append(
            Token(sample=0, id=int(token["id"]), text=str(token["text"]), probability=probability, alternatives=())
        )
    return completion


def _knobs(values: dict[str, Any]) -> Any:
    """Checked like those that a person types. Raises `UserError`."""
    stop = tuple(str(text) for text in values["stop"])
    return resolve_sampling({name: value for name, value in values.items() if name != "stop"}, stop)
