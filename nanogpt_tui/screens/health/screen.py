"""The Health screen: a heat map of the layers over time, and the chosen layer."""

from collections.abc import Iterator
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from nanogpt.events import LayerHealth
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.health.heat_map import (
    FIGURES,
    LABEL,
    SHADES,
    columns_of,
    histogram_lines,
    label,
    shaded,
    table,
)
from nanogpt_tui.text import safe_content
from nanogpt_tui.widgets.canvas import GLYPHS

VALUE = 9  # columns of the newest value


class HealthScreen(LabScreen):
    """On top of Train. The rows are layers, the columns measurements, the newest at the right."""

    CSS_PATH = "health.tcss"
    AUTO_FOCUS = ""
    HELP = (
        "What each layer does while it learns: one row a layer, one column a measurement, the newest at the right. All "
        "layers share one scale, so a layer that differs from the others stands out. The right side describes the "
        "chosen layer; below are the problems that the run has now, with what to try."
    )
    MOUSE = "The wheel chooses a layer"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,f", "figure(1)", "next figure", id="health.next_figure", tooltip="Show the next figure"),
        Binding("left,F", "figure(-1)", "figure before", id="health.previous_figure", tooltip="Show the one before"),
        Binding("down,j", "layer(1)", "layer", id="health.next_layer", tooltip="The next layer"),
        Binding("up,k", "layer(-1)", "layer", id="health.previous_layer", tooltip="The layer before"),
        Binding("escape,h", "close", "back", id="health.close", tooltip="Back to the run"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._figure, self._layer = 0, 0
        self._shown: tuple[object, ...] = ()

    def body(self) -> Iterator[Widget]:
        yield Static(id="figures")
        with Horizontal(id="panes"):
            yield Static(id="map")
            yield Static(id="layer")
        yield Static(id="problems")

    @property
    def measured(self) -> list[LayerHealth]:
        """The measurements of the run that is shown."""
        history = self.session.history
        return history.layer_health if history is not None else []

    # ---- actions

    def action_figure(self, by: int) -> None:
        self._figure = (self._figure + by) % len(FIGURES)
        self.training_changed()

    def action_layer(self, by: int) -> None:
        layers = len(self.measured[-1].layers) if self.measured else 1
        self._layer = max(0, min(layers - 1, self._layer + by))
        self.training_changed()

    def action_close(self) -> None:
        self.dismiss()

    def on_mouse_scroll_down(self) -> None:
        self.action_layer(1)

    def on_mouse_scroll_up(self) -> None:
        self.action_layer(-1)

    # ---- what is shown

    def settings_changed(self) -> None:
        self.training_changed()

    def on_resize(self, event: object) -> None:
        super().on_resize(event)
        self.call_after_refresh(self.training_changed)

    def training_changed(self) -> None:
        if not self.is_whole:
            return
        events, history = self.measured, self.session.history
        problems = history.run_state.problems if history is not None else ()
        glyphs, size = self.lab.settings.glyphs, self.query_one("#map").size
        state = (history, len(events), self._figure, self._layer, problems, glyphs, size)
        if state == self._shown:
            return
        self._shown = state
        titles = [(each.title, "bold $accent" if at == self._figure else "$quiet") for at, each in enumerate(FIGURES)]
        spaced = [part for title in titles for part in (title, "   ")]
        figures = Content.assemble(*spaced, "\n", (FIGURES[self._figure].help, "$quiet"))
        self.query_one("#figures", Static).update(figures)
        self.query_one("#map", Static).update(self._map(events, size.width, size.height, glyphs == "ascii"))
        self.query_one("#layer", Static).update(self._details(events, glyphs))
        self.query_one("#problems", Static).update(_problems(events, problems))

    def _map(self, events: list[LayerHealth], width: int, height: int, ascii_only: bool) -> Content:
        if not events:
            return Content("No layer has been measured yet: that is done at step 1, and every health_interval steps.")
        figure, layers = FIGURES[self._figure], events[-1].layers
        self._layer = min(self._layer, len(layers) - 1)
        names = max(len(label(layer)) for layer in layers)
        values = table(events, figure)
        columns = columns_of(values, max(1, width - names - VALUE - 4))
        lines, (low, high) = shaded(columns, figure, ascii_only)
        room = max(1, height - 2)
        first = max(0, min(self._layer - room // 2, len(layers) - room))
        rows: list[Content] = []
        for at in range(first, min(first + room, len(layers))):
            chosen = at == self._layer
            name = f"{'>' if chosen else ' '} {label(layers[at]):<{min(names, LABEL)}} "
            value = f" {figure.text(float(values[at, -1])):>{VALUE - 1}}"
            rows.append(
                Content.assemble(
                    safe_content(name).stylize("bold" if chosen else ""),
                    (lines[at], "$accent" if chosen else "$quiet"),
                    (value, "bold" if chosen else ""),
                )
            )
        span = f"step {events[0].step:,}"
        last = f"{events[-1].step:,}"
        axis = f"{span:<{max(0, columns.shape[1] - len(last) - 1)}} {last}"
        rows.append(Content.styled(f"  {'':<{names}} {axis}", "$quiet"))
        shades = SHADES["ascii" if ascii_only else ""]
        scale = f"{shades[1]} {figure.text(low)}   {shades[-1]} {figure.text(high)}"
        rows.append(Content.styled(f"  {'':<{names}} {scale}", "$quiet"))
        return Content("\n").join(rows)

    def _details(self, events: list[LayerHealth], glyphs: str) -> Content:
        if not events:
            return Content("")
        last = events[-1]
        at = min(self._layer, len(last.layers) - 1)
        lines = [safe_content(label(last.layers[at])).stylize("bold"), Content("")]
        for figure in FIGURES:
            lines.append(Content.assemble((f"{figure.title:<18}", "$quiet"), figure.text(figure.values(last)[at])))
        heads = last.attention_entropy[at]
        if heads:
            each = " ".join("–" if entropy is None else f"{entropy:.0%}" for entropy in heads)
            lines.append(Content.assemble(("  by head          ", "$quiet"), each))
        shape = histogram_lines(last.histograms[at], 48, GLYPHS[glyphs].bars)
        if shape:
            lines += [Content(""), Content.styled(f"what it puts out at step {last.step:,}", "$quiet")]
            lines += [Content.styled(line, "$accent") for line in shape]
            ends = f"{'-4σ':<{len(shape[0]) // 2 - 1}}0{'4σ':>{len(shape[0]) - len(shape[0]) // 2}}"
            lines.append(Content.styled(ends if glyphs != "ascii" else ends.replace("σ", "s"), "$quiet"))
        return Content("\n").join(lines)


def _problems(events: list[LayerHealth], problems: tuple[str, ...]) -> Content:
    """Return the problems of the run, or that there are none."""
    if problems:
        return Content("\n").join(Content.assemble(("! ", "$warning"), safe_content(text)) for text in problems)
    return Content.styled("no problem in any layer", "$quiet") if events else Content("")
