"""The pane “watch it learn”: the samples that a run takes during training, one at a time."""

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Click
from textual.style import Style
from textual.widgets import Static

from nanogpt.events import Sampled
from nanogpt_tui.keys import with_keys
from nanogpt_tui.text import one_line, safe_content, short

EVERY = "the setting sample_interval takes them regularly"
# by (running, can_sample) of `show`
EMPTY = {
    (True, True): f"no sample yet: {{train.sample}} takes one now, and {EVERY}",
    (True, False): f"no sample yet: {EVERY}",
    (False, True): f"no sample was taken in this run: {EVERY}; {{app.sample}} writes with its weights now",
    (False, False): f"no sample was taken in this run: {EVERY}",
}


class SamplesPane(Vertical):
    """Shows the newest sample, or the older one that was chosen."""

    glossary = "sampling"
    HELP = (
        "The same prompt and seed, sampled as the model learns. {train.earlier} and {train.later} go back "
        "and forth in time, {train.sample} samples the current weights, {train.scroll_up} and "
        "{train.scroll_down} scroll."
    )

    def __init__(self) -> None:
        super().__init__(id="watch")
        self._title_line = Static(Content(), id="watch-title")
        self._text = Static(id="watch-text")
        self._scroll = VerticalScroll(self._text, can_focus=False)
        self._samples: list[Sampled] = []
        self._chosen: int | None = None
        self._shown: tuple[int, Sampled | str] = (-1, "")
        self._empty = EMPTY[True, False]

    def compose(self) -> ComposeResult:
        yield self._title_line
        yield self._scroll

    def on_click(self, event: Click) -> None:
        if "move" in event.style.meta:
            self.move(event.style.meta["move"])

    def show_newest(self) -> None:
        """Show the newest sample from now on."""
        self._chosen = None

    def show(self, samples: list[Sampled], running: bool, can_sample: bool) -> None:
        """Show the samples so far, in order of step; more may follow if `running`.

        If `can_sample`, the text of an empty pane names the key that samples the weights.
        """
        self._samples, self._empty = samples, EMPTY[running, can_sample]
        if self._chosen is not None and self._chosen >= len(samples) - 1:
            self._chosen = None
        self._repaint()

    def move(self, by: int) -> None:
        """Show an earlier (-1) or later (1) sample."""
        last = len(self._samples) - 1
        to = max(0, min(last, (last if self._chosen is None else self._chosen) + by))
        self._chosen = None if to >= last else to
        self._repaint()

    def move_to_step(self, step: float) -> None:
        """Show the last sample that was taken at or before `step`."""
        before = [i for i, sample in enumerate(self._samples) if sample.step <= step]
        if before:
            self._chosen = before[-1] if before[-1] < len(self._samples) - 1 else None
            self._repaint()

    def scroll_text(self, pages: int) -> None:
        """Scroll by pages, up if negative."""
        self._scroll.scroll_relative(y=pages * max(1, self._scroll.size.height - 1), animate=False)

    def on_resize(self) -> None:
        self._shown = (-1, "")
        self._repaint()

    def _repaint(self) -> None:
        index = len(self._samples) - 1 if self._chosen is None else self._chosen
        sample = self._samples[index] if self._samples else None
        shown = (len(self._samples), sample or with_keys(self._empty, self.app))
        if shown == self._shown:
            return
        new_text = shown[1] != self._shown[1]
        self._shown = shown
        self._title_line.update(self._title(index), layout=False)
        if new_text:
            if sample is None:
                self._text.update(Content.styled(with_keys(self._empty, self.app), "$quiet"))
            else:
                self._text.update(
                    Content.assemble(safe_content(sample.prompt, "$quiet"), safe_content(sample.text, "$foreground"))
                )
            self._scroll.scroll_home(animate=False)

    def _title(self, index: int) -> Content:
        if not self._samples:
            return Content.styled("watch it learn", "$quiet")
        sample = self._samples[index]
        back, forth = (Style.from_meta({"move": by}) for by in (-1, 1))
        prompt = short(one_line(sample.prompt), 20)
        left = Content.assemble(
            ("watch it learn  ", "$quiet"),
            Content.styled("◀ ", "$accent").stylize(back),
            (f"step {sample.step:,}", "bold $foreground"),
            Content.styled(" ▶", "$accent").stylize(forth),
            (f"  {index + 1} of {len(self._samples)}  prompt “{prompt}”  seed {sample.seed}", "$quiet"),
        )
        return left.truncate(max(1, self.size.width), ellipsis=True)
