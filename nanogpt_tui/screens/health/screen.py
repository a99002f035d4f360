"""The Health screen: a heat map of the layers over time, and the chosen layer."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
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
    axis,
    column_of,
    columns_of,
    histogram_lines,
    label,
    shaded,
    table,
)
from nanogpt_tui.text import safe_content
from nanogpt_tui.widgets.canvas import GLYPHS
from nanogpt_tui.widgets.shades import SHADES

VALUE = 9  # columns of a value
TALL_HISTOGRAM = 6  # rows, if there is room


class HealthScreen(LabScreen):
    """On top of Train. The rows are layers, the columns measurements, the newest at the right."""

    CSS_PATH = "health.tcss"
    SHOWS_A_RUN = True
    AUTO_FOCUS = ""
    HELP = (
        "What each layer does while it learns: one row a layer, one column a measurement, the newest at the right. All "
        "layers share one scale, so a layer that differs from the others stands out. The right side describes the "
        "chosen layer; {health.earlier} and {health.later} go through its measurements. Below are the problems that "
        "the run has now, with what to try."
    )
    MOUSE = "The wheel chooses a layer"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,f", "figure(1)", "next figure", id="health.next_figure", tooltip="Show the next figure"),
        Binding("left,F", "figure(-1)", "figure before", id="health.previous_figure", tooltip="Show the one before"),
        Binding("down,j", "layer(1)", "layer", id="health.next_layer", tooltip="The next layer"),
        Binding("up,k", "layer(-1)", "layer", id="health.previous_layer", tooltip="The layer before"),
        Binding("left_square_bracket", "time(-1)", "step", id="health.earlier", tooltip="The measurement before"),
        Binding("right_square_bracket", "time(1)", "step", id="health.later", tooltip="The next measurement"),
        Binding("home", "time(-1000000000)", "first step", id="health.first", show=False),
        Binding("end", "time(1000000000)", "newest step", id="health.last", show=False),
        Binding("escape,h", "close", "back", id="health.close", tooltip="Back to the run"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._figure, self._layer = 0, 0
        self._step: int | None = None  # of the chosen measurement; None: the newest, also while the run is trained
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

    def action_time(self, by: int) -> None:
        """Choose the measurement `by` places later. The newest one is followed."""
        events = self.measured
        if events:
            at = max(0, min(len(events) - 1, self._chosen(events) + by))
            self._step = None if at == len(events) - 1 else events[at].step
            self.training_changed()
            self.refresh_bindings()

    def _chosen(self, events: list[LayerHealth]) -> int:
        """Return the index of the chosen measurement."""
        if self._step is None:
            return len(events) - 1
        return max(0, bisect_right(events, self._step, key=lambda event: event.step) - 1)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether the action has an effect now; else its key is neither shown nor handled."""
        if action == "time" and self.is_whole:
            events, by = self.measured, int(str(parameters[0]))
            return bool(events) and 0 <= self._chosen(events) + by // abs(by) < len(events)
        return True

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
        newest = events[-1] if events else None  # of many events it is replaced, and their number stays
        state = (history, len(events), newest, self._figure, self._layer, self._step, problems, glyphs, size)
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
        values, chosen_at = table(events, figure), self._chosen(events)
        columns = columns_of(values, max(1, width - names - VALUE - 4))
        lines, (low, high) = shaded(columns, figure, ascii_only)
        room = max(1, height - 2)
        first = max(0, min(self._layer - room // 2, len(layers) - room))
        rows: list[Content] = []
        for at in range(first, min(first + room, len(layers))):
            chosen = at == self._layer
            name = f"{'>' if chosen else ' '} {label(layers[at]):<{min(names, LABEL)}} "
            value = f" {figure.text(float(values[at, chosen_at])):>{VALUE - 1}}"
            rows.append(
                Content.assemble(
                    safe_content(name).stylize("bold" if chosen else ""),
                    (lines[at], "$accent" if chosen else "$quiet"),
                    (value, "bold" if chosen else ""),
                )
            )
        pointer = f"▲ {events[chosen_at].step:,}"
        at_column = None if self._step is None else column_of(chosen_at, len(events), columns.shape[1])
        steps = axis(f"step {events[0].step:,}", f"{events[-1].step:,}", pointer, at_column, columns.shape[1])
        rows.append(Content.styled(f"  {'':<{names}} {steps}", "$quiet"))
        shades = SHADES["ascii" if ascii_only else ""]
        scale = f"{shades[1]} {figure.text(low)}   {shades[-1]} {figure.text(high)}"
        rows.append(Content.styled(f"  {'':<{names}} {scale}", "$quiet"))
        return Content("\n").join(rows)

    def _details(self, events: list[LayerHealth], glyphs: str) -> Content:
        if not events:
            return Content("")
        shown, layers = events[self._chosen(events)], events[-1].layers
        layer = layers[min(self._layer, len(layers) - 1)]
        lines = [safe_content(label(layer)).stylize("bold"), Content("")]
        if layer not in shown.layers:  # the run was resumed with other layers
            return Content("\n").join([*lines, Content(f"not measured at step {shown.step:,}")])
        at = shown.layers.index(layer)
        is_brief = self.has_class("-narrow")  # the histogram alone, below the heat map
        for figure in () if is_brief else FIGURES:
            lines.append(Content.assemble((f"{figure.title:<18}", "$quiet"), figure.text(figure.values(shown)[at])))
        heads = next(islice(shown.attention_entropy, at, None), ())  # a record of another program may have too few
        if heads and not is_brief:
            each = " ".join("–" if entropy is None else f"{entropy:.0%}" for entropy in heads)
            lines.append(Content.assemble(("  by head          ", "$quiet"), each))
        rows = TALL_HISTOGRAM if self.has_class("-tall") and not is_brief else 2
        shape = histogram_lines(next(islice(shown.histograms, at, None), ()), 48, GLYPHS[glyphs].bars, rows)
        if shape:
            title = Content.styled(f"its output at step {shown.step:,}", "$quiet")
            lines = [Content.assemble(lines[0], "  ", title)] if is_brief else [*lines, Content(""), title]
            lines += [Content.styled(line, "$accent") for line in shape]
            ends = f"{'-4σ':<{len(shape[0]) // 2 - 1}}0{'4σ':>{len(shape[0]) - len(shape[0]) // 2}}"
            lines.append(Content.styled(ends if glyphs != "ascii" else ends.replace("σ", "s"), "$quiet"))
        return Content("\n").join(lines)


def _problems(events: list[LayerHealth], problems: tuple[str, ...]) -> Content:
    """Return the problems of the run, or that there are none."""
    if problems:
        return Content("\n").join(Content.assemble(("! ", "$warning"), safe_content(text)) for text in problems)
    return Content.styled("no problem in any layer", "$quiet") if events else Content("")
