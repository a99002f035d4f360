"""The loss chart: it holds the data, handles keys and mouse, and repaints only the cells that changed.

Changes within one turn of the event loop are drawn once. The caller limits how often it adds data.
"""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from nanogpt.loss_units import UNITS, LossUnit, TextSize
from nanogpt_tui.widgets.canvas import GLYPHS, Canvas, plain
from nanogpt_tui.widgets.curve import Curve, Floats, merged
from nanogpt_tui.widgets.plot import MARGIN, MIN_SIZE, STYLES, Mark, Picture, draw
from nanogpt_tui.widgets.scales import AXES

SMOOTHINGS = (0.0, 0.9, 0.95, 0.99, 0.998)
PICTURE_FIELDS = ("glyphs", "log_y", "show_raw", "trim", "window")  # reactive attributes that are fields of `Picture`
MIN_WINDOW = 4.0  # the least width of a zoomed window, in units of the x axis


class LossChart(Widget, can_focus=True):
    """Training loss over steps, tokens, time or FLOPs. The screen with the chart binds keys to its actions.

    Losses are given in nats per token and drawn in `unit`, if it is known for a curve: see `shown_unit`. `cursor` is a
    step. `uniform` is the loss of a model that gives every token the same probability. `window` is in units of
    `x_axis`; None shows the whole run. A window that shows the newest point moves with the training.
    """

    DEFAULT_CSS = """
    LossChart {
        height: 1fr; width: 1fr; color: $foreground;
        & > .losschart--line { color: $alive; }
        & > .losschart--raw { color: $raw; }
        & > .losschart--validation { color: $warning; }
        & > .losschart--validation-line { color: $warning-darken-3; }
        & > .losschart--best { color: $warning; text-style: bold; }
        & > .losschart--axis, & > .losschart--grid { color: $rule; }
        & > .losschart--label, & > .losschart--cursor, & > .losschart--saved, & > .losschart--uniform { color: $quiet; }
        & > .losschart--value { color: $foreground; }
        & > .losschart--change, & > .losschart--overlay-1 { color: $secondary; }
        & > .losschart--overlay-2 { color: #af87d7; }
        & > .losschart--overlay-3 { color: #d75f87; }
        & > .losschart--overlay-4 { color: #5f87af; }
        & > .losschart--overlay-5 { color: #af875f; }
        & > .losschart--overlay-6 { color: #87875f; }
    }
    """
    glossary = "loss"
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"losschart--{name}" for name in STYLES if name != "base"}
    glyphs: reactive[str] = reactive("braille", repaint=False)
    x_axis: reactive[str] = reactive("step", repaint=False)
    unit: reactive[LossUnit] = reactive("loss", repaint=False)
    log_y: reactive[bool] = reactive(False, repaint=False)
    smoothing: reactive[float] = reactive(0.95, repaint=False)
    show_raw: reactive[bool] = reactive(True, repaint=False)
    trim: reactive[bool] = reactive(True, repaint=False)
    cursor: reactive[float | None] = reactive(None, repaint=False)
    window: reactive[tuple[float, float] | None] = reactive(None, repaint=False)
    uniform: reactive[float | None] = reactive(None, repaint=False)
    empty_text: reactive[str] = reactive("the loss appears here with the first step", repaint=False)

    class CursorMoved(Message):
        """The crosshair is on another point: `step` is its step, or None if there is no crosshair."""

        def __init__(self, chart: "LossChart", step: float | None) -> None:
            super().__init__()
            self.chart, self.step = chart, step

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LossChart.CursorMoved)

    def __init__(self, *, glyphs: str = "braille", **options: Any) -> None:
        """`options` are passed to `Widget`: name, id, classes."""
        super().__init__(**options)
        self._curve = Curve(0.95)
        self._overlays: dict[str, Curve] = {}
        self._validation: tuple[Floats, Floats] = (np.empty(0), np.empty(0))
        self._marks: list[Mark] = []
        self._canvas: Canvas | None = None
        self._strips: dict[int, Strip] = {}
        self._styles: list[Style] = []
        self._pending = False
        self._newest_drawn_x, self._half_cell = 0.0, 0.0  # in units of the x axis
        self._hover: float | None = None
        self._last_reported_step: float | None = None
        self._drag: tuple[int, tuple[float, float]] | None = None
        self.set_reactive(LossChart.glyphs, glyphs)

    def append(self, steps: ArrayLike, tokens: ArrayLike, elapsed_s: ArrayLike, losses: ArrayLike) -> None:
        """Add training points, given as scalars or as (n,) arrays.

        If the first new step is not after the last known one, the new points replace all from that step on. New points
        are drawn when they fill half a cell, or at `flush`.
        """
        before = self._curve.newest(self.x_axis) if len(self._curve) else self._newest_drawn_x
        self._curve.append(steps, tokens, elapsed_s, losses)
        if self.window and len(self._curve):
            low, high = self.window
            if low <= before <= high < self._curve.newest(self.x_axis):
                # follow in steps of an eighth of the window, so that most frames do not move
                shift = self._curve.newest(self.x_axis) - high + (high - low) / 8
                self.window = (low + shift, high + shift)
        if not 0 <= self._curve.newest(self.x_axis) - self._newest_drawn_x < self._half_cell:
            self._schedule_redraw()

    @property
    def smoothed(self) -> float | None:
        """The smoothed loss at the last point, or None without one."""
        return self._curve.average

    def flush(self) -> None:
        """Draw the points that `append` has deferred. Call it when no more points are expected for now."""
        if self._curve.newest(self.x_axis) != self._newest_drawn_x:
            self._schedule_redraw()

    def add_validation(self, steps: ArrayLike, losses: ArrayLike) -> None:
        """Add validation points; a point at a known step replaces the old one."""
        self._validation = merged(self._validation, steps, losses)
        self._schedule_redraw()

    def add_mark(self, step: float, kind: str, text: str = "") -> None:
        """Add a mark to the x axis; `kind` is "saved", "best", "change" or "spike"."""
        self._marks.append(Mark(step, kind, text))
        self._schedule_redraw()

    def clear(self, *, keep_view: bool = False) -> None:
        """Remove the run, and reset the window and the crosshair. Overlays stay.

        keep_view: the points of the same run follow, so that the window and the crosshair stay.
        """
        self._curve = Curve(self.smoothing, self._curve.text, self._curve.flops_per_token)
        self._validation = np.empty(0), np.empty(0)
        self._marks = []
        self.uniform = None
        if not keep_view:
            self._hover, self.cursor, self.window = None, None, None
        self._schedule_redraw()

    def describe(self, text: TextSize | None, flops_per_token: int) -> None:
        """Tell the size of the validation text and the FLOPs of training a token: see `Curve`."""
        if (text, flops_per_token) != (self._curve.text, self._curve.flops_per_token):
            self._curve.text, self._curve.flops_per_token = text, flops_per_token
            if self.x_axis == "flops" and not flops_per_token:
                self.x_axis = "step"
            self._schedule_redraw()

    def set_overlay(
        self,
        name: str,
        steps: ArrayLike,
        tokens: ArrayLike,
        elapsed_s: ArrayLike,
        loss: ArrayLike,
        *,
        text: TextSize | None = None,
        flops_per_token: int = 0,
    ) -> None:
        """Draw another run behind this one, or replace the overlay of that name."""
        curve = Curve(self.smoothing, text, flops_per_token)
        curve.append(steps, tokens, elapsed_s, loss)
        self._overlays[name] = curve
        self._schedule_redraw()

    def remove_overlay(self, name: str) -> None:
        """Remove an overlay, if it exists."""
        self._overlays.pop(name, None)
        if self.x_axis not in self._known_axes:
            self.x_axis = "step"
        self._schedule_redraw()

    @property
    def overlays(self) -> list[str]:
        """The names of the overlays, in the order in which they were added."""
        return list(self._overlays)

    @property
    def picture(self) -> Picture:
        """Everything that is shown now. A curve that cannot be drawn in the unit or over the x axis is empty; if it is
        the run's own, its validation losses, marks and uniform guess are left out too."""
        unit, axis = self.shown_unit, self.x_axis
        is_shown = self._curve.supports(axis, unit)
        return Picture(
            curve=self._curve if is_shown else Curve(),
            overlays={name: each if each.supports(axis, unit) else Curve() for name, each in self._overlays.items()},
            validation=self._validation if is_shown else (np.empty(0), np.empty(0)),
            marks=self._marks if is_shown else (),
            uniform=self.uniform if is_shown else None,
            axis=axis,
            unit=unit,
            cursor=self.cursor if self._hover is None else self._hover,
            **{name: getattr(self, name) for name in PICTURE_FIELDS},
        )

    @property
    def shown_unit(self) -> LossUnit:
        """`unit`, or "loss" if no curve can be drawn in it: earlier versions did not record the size of the text."""
        known = any(curve.supports("step", self.unit) for curve in (self._curve, *self._overlays.values()))
        return self.unit if known else "loss"

    @property
    def _known_axes(self) -> list[str]:
        """The x axes that a curve can be drawn over."""
        curves = (self._curve, *self._overlays.values())
        return [axis for axis in AXES if any(curve.supports(axis, "loss") for curve in curves)]

    def _schedule_redraw(self) -> None:
        if self.is_mounted and not self._pending:
            self._pending = True
            self.call_next(self._redraw)

    def _redraw(self) -> None:
        """Draw the picture, and refresh only the cells that differ from the last one."""
        self._pending = False
        before, self._canvas = self._canvas, self._draw()
        for y, first, end in self._canvas.changes(before):
            self._strips.pop(y, None)
            self.refresh(Region(first, y, end - first, 1))

    def _draw(self) -> Canvas:
        width, height = self.size
        picture = self.picture
        low, high = picture.extent()
        self._newest_drawn_x, self._half_cell = (
            self._curve.newest(self.x_axis),
            (high - low) / max(1, (width - MARGIN) * 2),
        )
        if width >= MIN_SIZE[0] and height >= MIN_SIZE[1] and not picture.empty():
            return draw(picture, width, height)
        canvas = Canvas(width, height, GLYPHS[self.glyphs])
        text = plain(self.empty_text if picture.empty() else "too small for a chart")
        canvas.text(max(0, (width - len(text)) // 2), max(0, (height - 1) // 2), text, STYLES.index("label"))
        return canvas

    def render_line(self, y: int) -> Strip:
        if self._canvas is None or (self._canvas.width, self._canvas.height) != self.size:
            self._canvas = self._draw()
            self._strips.clear()
        if y >= self._canvas.height:
            return Strip.blank(self.size.width)
        if y not in self._strips:
            if not self._styles:
                components = (self.get_component_rich_style(f"losschart--{name}") for name in STYLES[1:])
                self._styles = [self.rich_style, *components]
            self._strips[y] = Strip(self._canvas.segments(y, self._styles), self._canvas.width)
        return self._strips[y]

    def notify_style_update(self) -> None:
        """Drop cached colours: the theme or the focus may have changed."""
        super().notify_style_update()
        self._styles.clear()
        self._strips.clear()

    def on_mount(self) -> None:
        for name in (*PICTURE_FIELDS, "uniform", "unit", "empty_text"):
            self.watch(self, name, self._schedule_redraw, init=False)
        self._redraw()

    def on_resize(self) -> None:
        self._schedule_redraw()

    def watch_smoothing(self, decay: float) -> None:
        for curve in (self._curve, *self._overlays.values()):
            curve.smoothing = decay
        self._schedule_redraw()

    def watch_x_axis(self, before: str, after: str) -> None:
        """Convert the window to the new axis."""
        curve = self.picture.reference()
        if self.window and len(curve):
            low, high = curve.locate(after, np.interp(self.window, curve.field(before), curve.field("step"))).tolist()
            self.window = (low, high) if high > low else None
        self._schedule_redraw()

    def watch_cursor(self) -> None:
        self._update_cursor()

    def _full_extent(self) -> tuple[float, float]:
        return replace(self.picture, window=None).extent()

    def action_zoom(self, factor: float, around: float | None = None) -> None:
        """Make the window `factor` times as wide. `around`, in units of the x axis, stays at its place on the screen.

        By default it is the crosshair, or else the newest point.
        """
        picture = self.picture
        low, high = picture.extent()
        curve = picture.reference()
        if around is None and len(curve):
            at = len(curve) - 1 if picture.cursor is None else curve.nearest("step", picture.cursor)
            around = float(curve.field(self.x_axis)[at])
        around = (low + high) / 2 if around is None else min(max(around, low), high)
        if (high - low) * factor >= MIN_WINDOW:
            self._set_window(around - (around - low) * factor, around + (high - around) * factor)

    def action_pan(self, fraction: float) -> None:
        """Move the window by a fraction of its width, at most to either end of the run."""
        if self.window:
            low, high = self.window
            self._set_window(low + (high - low) * fraction, high + (high - low) * fraction)

    def action_reset_view(self) -> None:
        self.window = None

    def _set_window(self, low: float, high: float) -> None:
        first, last = self._full_extent()
        shift = max(first - low, 0.0) - max(high - last, 0.0)
        self.window = None if high - low >= last - first else (low + shift, high + shift)

    def action_toggle_log_y(self) -> None:
        self.log_y = not self.log_y

    def action_toggle_raw(self) -> None:
        self.show_raw = not self.show_raw

    def action_toggle_trim(self) -> None:
        """Toggle whether the y axis cuts off the initial drop of the loss, to show the rest of the curve larger."""
        self.trim = not self.trim

    def action_next_x_axis(self) -> None:
        known = self._known_axes
        self.x_axis = known[(known.index(self.x_axis) + 1) % len(known)]

    def action_next_unit(self) -> None:
        """Show the losses in the next unit that is known for a curve."""
        curves = (self._curve, *self._overlays.values())
        known = [unit for unit in UNITS if any(curve.supports("step", unit) for curve in curves)]
        self.unit = known[(known.index(self.shown_unit) + 1) % len(known)]

    def action_next_smoothing(self) -> None:
        self.smoothing = next((decay for decay in SMOOTHINGS if decay > self.smoothing), SMOOTHINGS[0])

    def action_move_cursor(self, columns: int) -> None:
        """Move the crosshair by about `columns` cells, to the nearest recorded point; the window follows. Without a
        crosshair, set it on the newest visible point."""
        curve = self.picture.reference()
        if not len(curve):
            return
        x = curve.field(self.x_axis)
        low, high = self.picture.extent()
        if self.cursor is None:
            index = curve.nearest(self.x_axis, high)
        else:
            now = curve.nearest("step", self.cursor)
            cell = (high - low) / max(self.size.width - MARGIN, 1)
            target = curve.nearest(self.x_axis, float(x[now]) + columns * cell)
            index = max(target, now + 1) if columns > 0 else min(target, now - 1)
        self._set_cursor_index(index)

    def action_cursor_start(self) -> None:
        self._set_cursor_index(0)

    def action_cursor_end(self) -> None:
        self._set_cursor_index(len(self.picture.reference()) - 1)

    def action_hide_cursor(self) -> None:
        self._hover, self.cursor = None, None
        self._update_cursor()

    def _set_cursor_index(self, index: int) -> None:
        curve = self.picture.reference()
        if not len(curve):
            return
        index = min(max(index, 0), len(curve) - 1)
        self._hover, self.cursor = None, float(curve.field("step")[index])
        if self.window:
            low, high = self.window
            x = float(curve.field(self.x_axis)[index])
            shift = min(x - low, 0.0) + max(x - high, 0.0)
            if shift:
                self._set_window(low + shift, high + shift)

    def _update_cursor(self) -> None:
        """Redraw the crosshair, and post `CursorMoved` if it is on another point."""
        curve, cursor = self.picture.reference(), self.picture.cursor
        step = float(curve.field("step")[curve.nearest("step", cursor)]) if cursor is not None and len(curve) else None
        if step != self._last_reported_step:
            self._last_reported_step = step
            self.post_message(self.CursorMoved(self, step))
        self._schedule_redraw()

    def _x_at(self, event: events.MouseEvent) -> float | None:
        """Return the x under the pointer, in units of the x axis; None outside the plot."""
        offset = event.get_content_offset(self)
        if offset is None or offset.x < MARGIN or self.picture.empty():
            return None
        low, high = self.picture.extent()
        return low + (offset.x - MARGIN + 0.5) / max(self.size.width - MARGIN, 1) * (high - low)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._drag:
            start, (low, high) = self._drag
            moved = (start - event.screen_x) / max(self.size.width - MARGIN, 1) * (high - low)
            if moved and self.window:
                self._set_window(low + moved, high + moved)
            return
        self._hover_at(event)

    def _hover_at(self, event: events.MouseEvent) -> None:
        x, curve = self._x_at(event), self.picture.reference()
        self._hover = None if x is None or not len(curve) else float(curve.field("step")[curve.nearest(self.x_axis, x)])
        self._update_cursor()

    def on_leave(self) -> None:
        self._hover = None
        self._update_cursor()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self._drag = event.screen_x, self.picture.extent()
        self.capture_mouse()

    def on_mouse_up(self, event: events.MouseUp) -> None:
        self.release_mouse()
        drag, self._drag = self._drag, None
        if drag and drag[0] == event.screen_x:
            self._hover_at(event)  # a terminal may report clicks without motion
            self.cursor = self.cursor if self._hover is None else self._hover

    def on_click(self, event: events.Click) -> None:
        if event.chain == 2:
            self.action_reset_view()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_zoom(0.8, self._x_at(event))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_zoom(1.25, self._x_at(event))
