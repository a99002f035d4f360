"""The texts that were written, kept from one start of the app to the next. Knows no screen and no model.

A file of one JSON line a round. A line is appended whole, and a later line on a round replaces an earlier one; what
cannot be read is passed over, so a torn line costs itself alone. What else could have come is not kept.
"""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanogpt import paths
from nanogpt.config import resolve_sampling
from nanogpt.errors import UserError
from nanogpt.events import Token
from nanogpt_tui.takes import LIVE, Round, Source, Take, described

MOST = 200  # rounds; when there are twice as many lines, the older ones go
LONGEST = 20_000  # tokens of a round: a longer one is for its export


def file() -> Path:
    return paths.data_home() / "samples.jsonl"


def keep(takes: Round) -> None:
    """Appends a round, if it has ended, without an error, and has a text. Raises `UserError` where it cannot be
    written."""
    tokens = sum(len(take.tokens) for take in takes)
    if not 0 < tokens <= LONGEST or any(take.error or not take.reason for take in takes):
        return
    known = {"began": max(take.began for take in takes), "takes": [described(take) for take in takes]}
    line = json.dumps(known, ensure_ascii=True) + "\n"
    try:
        file().parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file(), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, (b"\n" if torn else b"") + line.encode("ascii"))
        finally:
            os.close(handle)
    except OSError as error:
        raise UserError(f"cannot keep the text in {file()}: {error.strerror}") from None


def rounds() -> list[Round]:
    """Those of earlier sessions, the oldest first, at most MOST. Makes a file that has grown twice as long shorter."""
    try:
        lines = file().read_bytes().splitlines(keepends=True)
    except OSError:
        return []
    found: dict[float, tuple[bytes, Round]] = {}
    for line in lines:
        with suppress(ValueError, TypeError, KeyError, AttributeError, UserError):
            began, takes = _read(json.loads(line))
            found[began] = line, takes
    kept = sorted(found.items())[-MOST:]
    if len(lines) >= 2 * MOST:
        with suppress(OSError):
            _replace(line for _, (line, _) in kept)
    return [takes for _, (_, takes) in kept]


def _replace(lines: Iterable[bytes]) -> None:
    beside = file().with_suffix(".new")
    beside.write_bytes(b"".join(lines))
    beside.chmod(0o600)
    beside.replace(file())


def _read(line: dict[str, Any]) -> tuple[float, Round]:
    """The round of a line. Raises whatever it takes for one that is not of this kind."""
    began = float(line["began"])
    takes = [_take(each, began) for each in line["takes"]]
    if not 1 <= len(takes) <= 2:
        raise ValueError("a round is one take or two")
    return began, takes


def _take(known: dict[str, Any], began: float) -> Take:
    run, step = str(known["run"] or ""), known["step"]
    which = LIVE if known["weights"] == "live" else "best" if step is None else str(int(step))
    take = Take(
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
        take.tokens.append(
            Token(sample=0, id=int(token["id"]), text=str(token["text"]), probability=probability, alternatives=())
        )
    return take


def _knobs(values: dict[str, Any]) -> Any:
    """Checked like those that a person types. Raises `UserError`."""
    stop = tuple(str(text) for text in values["stop"])
    return resolve_sampling({name: value for name, value in values.items() if name != "stop"}, stop)
