"""The result of a ladder as a table, a chart of characters, and a page of Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from nanogpt.cli.tables import UNKNOWN
from nanogpt.events import RungFailed, RungFinished
from nanogpt.formatting import counted, printable

if TYPE_CHECKING:
    from nanogpt.runs.ladder import Rung

HEADER = ("rung", "parameters", "steps", "tokens/s", "nats/char", "bits/byte", "gain", "what it adds")
RIGHT = range(1, 7)  # the columns of figures
CHART_COLUMNS = 48


@dataclass
class Report:
    """The rungs of a ladder of `total` rungs so far, and the command that trains them, each for `seconds`."""

    command: str
    dataset: str
    seconds: float
    total: int
    finished: list[RungFinished] = field(default_factory=list)
    failed: list[RungFailed] = field(default_factory=list)

    @property
    def missing(self) -> str:
        """How many of the rungs were trained, as text; empty if all were, or failed."""
        done = len(self.finished)
        return "" if done + len(self.failed) == self.total else f"{done} of {counted(self.total, 'rung')} finished"

    def to_dict(self) -> dict[str, Any]:
        """Return the conditions, the finished rungs and the failed ones as plain values for JSON."""
        return {"dataset": self.dataset, "seconds": self.seconds, "total": self.total} | {
            "rungs": [asdict(rung) for rung in self.finished],
            "failed": [asdict(rung) for rung in self.failed],
        }


def table_rows(rungs: Sequence[RungFinished], ladder: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each rung; its gain is how much lower its bits per byte are than those of the rung before.

    ladder: the names of all rungs, from the bottom up. The gain is unknown if the rung before is not among `rungs`.
    """
    finished = {rung.name: rung for rung in rungs}
    name_before = dict(pairwise(reversed(ladder)))
    for rung in rungs:
        before = finished.get(name_before.get(rung.name, ""))
        yield (
            rung.name,
            f"{rung.n_parameters:,}",
            f"{rung.steps:,}",
            f"{rung.tokens_per_second:,.0f}",
            f"{rung.nats_per_character:.4f}",
            f"{rung.bits_per_byte:.4f}",
            UNKNOWN if before is None else f"{before.bits_per_byte - rung.bits_per_byte:+.4f}",
            rung.adds,
        )


def chart_lines(rungs: Sequence[RungFinished], is_unicode: bool) -> Iterator[str]:
    """Yield a chart of the bits per byte: a line for each rung, with a mark that is further left the lower they are."""
    values = [rung.bits_per_byte for rung in rungs]
    low, high = min(values), max(values)
    width = max(len(rung.name) for rung in rungs)
    axis, dot, mark = ("│", "·", "●") if is_unicode else ("|", ".", "o")
    yield f"{'bits per byte':{width + 10}}{low:<{CHART_COLUMNS - 6}.4f}{high:>8.4f}"
    for rung in rungs:
        column = round((CHART_COLUMNS - 1) * (rung.bits_per_byte - low) / ((high - low) or 1))
        yield f"{rung.name:{width}}  {rung.bits_per_byte:6.4f} {axis}{dot * column}{mark}"


def page(report: Report, rungs: Sequence["Rung"]) -> str:
    """Return the page of Markdown: the command, the conditions, the table, the chart, and the settings of each rung.

    rungs: the whole ladder, because a rung has the settings of those below.
    """
    return "\n".join(_page_lines(report, rungs)) + "\n"


def _page_lines(report: Report, rungs: Sequence["Rung"]) -> Iterator[str]:
    yield "# The ladder: from a bigram to a modern GPT"
    yield ""
    yield "Each rung adds one idea to the rung before. This page is the output of one command:"
    yield ""
    yield "```sh"
    yield report.command
    yield "```"
    yield ""
    if report.finished:
        last = report.finished[-1]
        threads = sorted({rung.threads for rung in report.finished})
        cores = f"{threads[0]} to {threads[-1]} CPU cores" if len(threads) > 1 else counted(threads[0], "CPU core")
        machine = cores if last.device == "cpu" else "one GPU"
        yield (
            f"Every rung was trained for {report.seconds:g} seconds on {printable(report.dataset)}, on {machine} in "
            "float32, with the same seed."
        )
    if report.missing:
        yield f"It was interrupted: {report.missing}."
    for failure in report.failed:
        yield f"The rung `{failure.name}` failed: {printable(failure.reason)}."
    yield ""
    if report.finished:
        yield "| " + " | ".join(HEADER) + " |"
        yield "|" + "|".join("---:" if column in RIGHT else "---" for column in range(len(HEADER))) + "|"
        for row in table_rows(report.finished, [rung.name for rung in rungs]):
            yield "| " + " | ".join(row) + " |"
        yield ""
        yield "```text"
        yield from chart_lines(report.finished, is_unicode=True)
        yield "```"
        yield ""
    yield READING
    yield ""
    yield "| rung | settings that it changes | source |"
    yield "|---|---|---|"
    for rung in rungs:
        changes = ", ".join(f"`{name}={value}`" for name, value in rung.changes.items())
        yield f"| {rung.name} | {changes} | {rung.source} |"


READING = """\
The loss is over the whole validation split. Each token is predicted from at least half of the model's window, so that
short and long windows compare. The gain is in bits per byte, over the rung before. In a fixed time an idea also pays
for itself: a larger model takes fewer steps, and what helps in a long run can lose in a short one. The learning rate
follows the share of the time that has passed, so it reaches its end at any speed. On a machine that is busy with other
programs all rungs take fewer steps, and the large ones lose most by that.

The bigram is an MLP with a window of one token: with more hidden units than tokens it can learn any table of bigrams,
by its gradient like all other rungs. `one-head` starts again: it has no hidden layer, residual stream or norm, and what
the head reads replaces the token. The parts return one by one. A rung has the settings of the rung before, with these
changes:"""
