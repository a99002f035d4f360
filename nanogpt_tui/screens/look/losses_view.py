"""The losses by position in the context and by token, and how they changed. Pure functions of an inspection."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from textual.content import Content

from nanogpt_tui.screens.look.parts import GAP, Frame, beside, fit, quoted, token_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanogpt.inspection.token_losses import TokenLosses
    from nanogpt.tokenizers.base import Tokenizer
    from nanogpt_tui.session.inspector import LossesFound

MAX_BAR = 24  # columns


def losses_view(found: "LossesFound", tokenizer: "Tokenizer", frame: Frame) -> Content:
    """Return the view in the size of the frame."""
    width = (frame.width - GAP) // 2
    left = _positions(found, frame.sized(width, frame.height))
    right = _tokens(found, tokenizer, frame.sized(frame.width - GAP - width, frame.height))
    return Content("\n").join(beside(left, right, width)[: frame.height])


def ranges(count: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of 1, 2, 3 to 4, 5 to 8, … up to `count`."""
    start, stop = 1, 1
    while start <= count:
        yield start, min(stop, count)
        start, stop = stop + 1, stop * 2


def mean_at(by_position: "NDArray[np.float64]", first: int, last: int) -> float:
    """Return the mean loss at the positions `first` to `last`, which count from 1; NaN if nothing was predicted."""
    values = by_position[first - 1 : last]
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def mean_loss(losses: "TokenLosses", id: int) -> float:
    """Return the mean loss of a token as a target; NaN if it was none."""
    count = losses.counts[id]
    return float(losses.by_token[id] / count) if count else np.nan


def _positions(found: "LossesFound", frame: Frame) -> list[Content]:
    losses, before = found.losses.by_position, found.before.by_position if found.before is not None else None
    rows = [
        (f"{first:,}" if first == last else f"{first:,}–{last:,}", first, last) for first, last in ranges(len(losses))
    ]
    means = [mean_at(losses, first, last) for _, first, last in rows]
    highest = max((mean for mean in means if mean == mean), default=0.0) or 1.0
    label = max(len("position"), *(len(text) for text, _, _ in rows))
    room = max(0, min(MAX_BAR, frame.width - label - 8 - (9 if before is not None else 0) - 2))
    head = f"{'position':<{label}} {'loss':>7}"
    lines = [Content.styled(head + (f" {'change':>8}" if before is not None else ""), "$quiet")]
    for (text, first, last), mean in zip(rows, means, strict=True):
        length = round(mean / highest * room) if mean == mean else 0
        lines.append(
            Content.assemble(
                (f"{text:<{label}} ", "$quiet"),
                f"{_figure(mean):>7}",
                change(mean, mean_at(before, first, last)) if before is not None else "",
                ("  " + "━" * length, "$accent"),
            )
        )
    return lines[: frame.height]


def _tokens(found: "LossesFound", tokenizer: "Tokenizer", frame: Frame) -> list[Content]:
    losses, before = found.losses, found.before
    total = float(losses.by_token.sum()) or 1.0
    costliest = losses.costliest(max(1, frame.height - 4))
    texts = [quoted(token_label(tokenizer, id, frame.ascii_only)) for id, _, _ in costliest]
    figures = 30 if before is not None else 21  # columns
    label = max(5, min(14, frame.width - figures - 1, max(map(len, texts), default=0)))
    head = f"{'token':<{label}} {'loss':>7}"
    head += (f" {'change':>8}" if before is not None else "") + f" {'share':>6} {'times':>6}"
    lines = [Content.styled(fit(head, frame.width).rstrip(), "$quiet")]
    for text, (id, mean, count) in zip(texts, costliest, strict=True):
        lines.append(
            Content.assemble(
                fit(text, label) + " ",
                f"{_figure(mean):>7}",
                change(mean, mean_loss(before, id)) if before is not None else "",
                (f" {mean * count / total:>6.1%}", "$accent"),
                (f" {count:>6,}", "$quiet"),
            )
        )
    tokens = int(losses.counts.sum())
    lines += [Content(), Content.styled(fit(f"{tokens:,} tokens of the validation split", frame.width), "$quiet")]
    if before is not None:
        text = f"change: since step {found.before_step:,}"
        lines.append(Content.styled(fit(text, frame.width), "$quiet"))
    return lines


def change(now: float, before: float) -> Content:
    """Return how much a loss changed, in nine cells; blank if one of the two is not known."""
    if np.isnan(now) or np.isnan(before):
        return Content(" " * 9)
    return Content.styled(
        f" {now - before:>+8.3f}", "$success" if now < before else "$warning" if now > before else "$quiet"
    )


def _figure(loss: float) -> str:
    return "–" if np.isnan(loss) else f"{loss:.3f}"
