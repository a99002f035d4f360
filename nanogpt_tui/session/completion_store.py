"""Completions stored on disk, so that the next session can show them.

The file has one JSON line per completion group. Each line is appended in one write, and a later line about a group
replaces an earlier one. A line that cannot be read is skipped, so a torn line costs only itself. The alternatives of
each token are not stored.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanogpt import paths
from nanogpt.config import SamplingConfig, resolve_sampling
from nanogpt.errors import UserError
from nanogpt.events import Token
from nanogpt.files import check_regular, lines, open_regular, why, write_atomically
from nanogpt_tui.session.completions import LIVE, Completion, CompletionGroup, Source, to_record

MAX_GROUPS = 200  # with twice as many lines in the file, the older ones are removed
MAX_TOKENS = 20_000  # of a group: a longer one is not stored, only exported
MAX_LINE_BYTES, MAX_FILE_BYTES = 1 << 24, 1 << 30  # far more than the groups above need


def store_path() -> Path:
    """Return the path of the file."""
    return paths.data_home() / "samples.jsonl"


def append(group: CompletionGroup) -> None:
    """Append a group that has ended and has tokens, without a completion that has an error instead of tokens.

    Ignore other groups, and one with errors alone. Raise `UserError` if the file cannot be written.
    """
    tokens = sum(len(completion.tokens) for completion in group)
    has_ended = all(completion.reason for completion in group)
    if not has_ended or not 0 < tokens <= MAX_TOKENS or all(completion.error for completion in group):
        return
    record = {
        "began": max(completion.started_at for completion in group),
        "takes": [to_record(each) for each in group if each.tokens or not each.error],
    }
    line = json.dumps(record, ensure_ascii=True) + "\n"
    try:
        store_path().parent.mkdir(parents=True, exist_ok=True)
        check_regular(store_path())
        descriptor = os.open(store_path(), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)  # the umask applies
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            data = (b"\n" if torn else b"") + line.encode("ascii")
            while data:  # an almost full disk takes a part, and then says why not the rest
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UserError(f"cannot save the text in {store_path()}: {why(error)}") from None


def load(shorten: bool = True) -> list[CompletionGroup]:
    """Return the stored groups, oldest first, at most MAX_GROUPS. If the file has twice as many lines, shorten it.

    The order is that of the file: the clock may have been set back. Raise `UserError` if the file cannot be read.
    """
    try:
        with open_regular(store_path(), MAX_FILE_BYTES) as file:
            stored_lines = list(lines(file, MAX_LINE_BYTES))
            size = file.tell()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read the texts of earlier sessions in {store_path()}: {why(error)}") from None
    found: dict[float, tuple[bytes, CompletionGroup]] = {}
    for line in stored_lines:
        with suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, UserError):
            started_at, group = _parse_group(json.loads(line))
            found[started_at] = line, group
    newest = list(found.values())[-MAX_GROUPS:]
    if shorten and len(stored_lines) >= 2 * MAX_GROUPS:
        with suppress(OSError):
            with open_regular(store_path()) as file:
                file.seek(size)
                appended = file.read()  # meanwhile
            write_atomically(store_path(), b"".join(line for line, _ in newest) + appended)
    return [group for _, group in newest]


def _parse_group(record: dict[str, Any]) -> tuple[float, CompletionGroup]:
    """Return when the group was started, and its completions. A malformed record raises any of several exceptions."""
    started_at = float(record["began"])
    group = [_parse_completion(each, started_at) for each in record["takes"]]
    if not 1 <= len(group) <= 2:
        raise ValueError("a group has one or two completions")
    return started_at, group


def _parse_completion(record: dict[str, Any], started_at: float) -> Completion:
    run, step = str(record["run"] or ""), record["step"]
    which = LIVE if record["weights"] == "live" else "best" if step is None else str(int(step))
    completion = Completion(
        prompt=str(record["prompt"]),
        source=Source(run or None, which),
        knobs=_parse_knobs(record["knobs"]),
        run=run,
        step=None if step is None else int(step),
        val_loss=None if record["val_loss"] is None else float(record["val_loss"]),
        device=str(record["device"]),
        knob_changes=[(int(change["from_token"]), _parse_knobs(change["knobs"])) for change in record["turned"]],
        branched_at=None if record["branched_at"] is None else int(record["branched_at"]),
        reason=str(record["ended"]) or "esc",
        tokens_per_second=float(record["tokens_per_second"]),
        started_at=started_at,
        # earlier versions wrote none of these
        tokenizer=str(record.get("tokenizer", "")),
        is_continued=bool(record.get("continued", False)),
        is_average=bool(record.get("averaged", False)),
        first_step=None if record.get("first_step") is None else int(record["first_step"]),
        weights_since=int(record.get("weights_since", 0)),
    )
    for token in record["tokens"]:
        probability = float(token["probability"])
        completion.tokens.append(
            Token(sample=0, id=int(token["id"]), text=str(token["text"]), probability=probability, alternatives=())
        )
    return completion


def _parse_knobs(values: dict[str, Any]) -> SamplingConfig:
    """Check the values like the flags of a command. Raise `UserError` if one is out of bounds."""
    stop = tuple(str(text) for text in values["stop"])
    return resolve_sampling({name: value for name, value in values.items() if name != "stop"}, stop)
