"""The history of what was written, as a few lines around the one that is shown. Knows nothing of writing."""

import time

from rich.cells import cell_len
from textual.content import Content
from textual.style import Style
from textual.widgets import Static

from nanogpt_tui.keys import with_keys
from nanogpt_tui.session.completions import Completion, CompletionGroup
from nanogpt_tui.text import printable, short, short_weights

LISTED = 5  # at least
EMPTY = "no text yet: {sample.write} starts"


class CompletionList(Static):
    """`show` takes all rounds, and which of them is on the screen (their number where that is a new, empty one)."""

    glossary = "sampling"
    HELP = (
        "The texts written so far, also in earlier sessions. {sample.earlier} and {sample.later} go back and "
        "forth, {sample.use} uses the prompt and knobs of the text again."
    )

    def __init__(self) -> None:
        super().__init__(id="history")
        self._lines = Content()

    def show(self, groups: list[CompletionGroup], shown: int) -> None:
        place = f"{shown + 1} of " if 0 <= shown < len(groups) else ""
        lines = [Content.styled(f"history  {place}{len(groups)}", "$quiet")]
        most = max(LISTED, min(4 * LISTED, self.app.size.height - 30))
        first = max(0, min(shown - most // 2, len(groups) - most))
        for number, group in enumerate(groups[first : first + most], first):
            here = number == shown
            line = Content.assemble(
                ("▸ " if here else "  ", "$accent"),
                (about(group, max(10, self.size.width - 2)), "$foreground" if here else "$quiet"),
            )
            lines.append(line.stylize(Style.from_meta({"act": f"history({number - shown})"})))
        self.update(Content("\n").join(lines) if groups else Content.styled(with_keys(EMPTY, self.app), "$quiet"))


def about(group: CompletionGroup, width: int) -> str:
    """One line of at most `width` cells on a round."""
    completion: Completion = group[0]
    when = time.localtime(completion.started_at)
    clock = time.strftime("%H:%M" if when[:3] == time.localtime()[:3] else "%m-%d", when)
    prompt = short(printable(completion.prompt).replace("\n", "↵") or "–", 8)
    both = f" and {group[1].weights}" if len(group) > 1 else ""
    start = f"{clock} {prompt:<8} T {completion.knobs.temperature:g} seed {completion.knobs.seed} "
    weights = short_weights(printable(completion.weights).replace("step ", ""), max(0, width - cell_len(start)))
    return short(start + weights + printable(both), width)
