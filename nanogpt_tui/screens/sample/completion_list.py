"""The list of the texts so far, as a few lines around the one that is shown."""

import time

from rich.cells import cell_len
from textual.content import Content
from textual.style import Style
from textual.widgets import Static

from nanogpt_tui.keys import with_keys
from nanogpt_tui.session.completions import Completion, CompletionGroup
from nanogpt_tui.text import one_line, printable, short, short_weights

MIN_LINES = 5
PROMPT_WIDTH, MIN_WEIGHTS = 8, 18  # cells; settings are left out before the weights get fewer than these
EMPTY = "no text yet: {sample.write} starts"


class CompletionList(Static):
    """One line for each group of completions; a click shows it."""

    glossary = "sampling"
    HELP = (
        "The texts so far, also of earlier sessions. {sample.earlier} and {sample.later} go back and forth, "
        "{sample.use} uses the prompt and knobs of the text again."
    )

    def __init__(self) -> None:
        super().__init__(id="history")

    def show(self, groups: list[CompletionGroup], shown: int) -> None:
        """Show all groups. `shown` is the index of the one on the screen; it is out of range if there is none."""
        place = f"{shown + 1} of " if 0 <= shown < len(groups) else ""
        lines = [Content.styled(f"history  {place}{len(groups)}", "$quiet")]
        most = max(MIN_LINES, min(4 * MIN_LINES, self.app.size.height - 30))
        first = max(0, min(shown - most // 2, len(groups) - most))
        for number, group in enumerate(groups[first : first + most], first):
            here = number == shown
            line = Content.assemble(
                ("▸ " if here else "  ", "$accent"),
                (summary(group, max(10, self.size.width - 2)), "$foreground" if here else "$quiet"),
            )
            lines.append(line.stylize(Style.from_meta({"act": f"history({number - shown})"})))
        self.update(Content("\n").join(lines) if groups else Content.styled(with_keys(EMPTY, self.app), "$quiet"))


def summary(group: CompletionGroup, width: int) -> str:
    """Return one line of at most `width` cells: time, prompt, settings and weights of a group.

    If the weights do not fit, the seed is left out, then the temperature; only then are they cut.
    """
    completion = group[0]
    weights = weights_of(group)
    settings = [f"T {completion.knobs.temperature:g}", f"seed {completion.knobs.seed}"]
    prompt = short(one_line(completion.prompt) or "–", PROMPT_WIDTH)
    wanted = cell_len(weights) if len(group) > 1 else min(cell_len(weights), MIN_WEIGHTS)
    while True:
        start = " ".join((date_of(completion), f"{prompt:<{PROMPT_WIDTH}}", *settings, ""))
        room = width - cell_len(start)
        if room >= wanted or not settings:
            return short(start + (weights if len(group) > 1 else short_weights(weights, max(0, room))), width)
        settings.pop()


def date_of(completion: Completion) -> str:
    """Return the time of day if the completion was started today, else month and day."""
    started = time.localtime(completion.started_at)
    return time.strftime("%H:%M" if started[:3] == time.localtime()[:3] else "%m-%d", started)


def weights_of(group: CompletionGroup) -> str:
    """Return run and step of a group, of both completions if there are two; the run only once if it is the same."""
    first, *others = (printable(completion.weights).replace("step ", "") for completion in group)
    run = first.rpartition(" · ")[0]
    return " and ".join([first, *(each.removeprefix(f"{run} · ") for each in others)])
