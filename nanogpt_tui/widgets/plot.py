"""Draw a loss chart: from curves, validation points and marks to a canvas.

The layers from back to front: grid, line of the uniform guess, raw band, lines of changes, validation line, overlays,
smoothed line, validation points, crosshair. The row above them is the legend, with the values at the crosshair if there
is one. The rows below them are the x axis with its marks, and the axis labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nanogpt.loss_units import LossUnit
from nanogpt_tui.widgets.canvas import BLANK, GLYPHS, Canvas, plain, polyline
from nanogpt_tui.widgets.curve import Columns, Curve, in_unit
from nanogpt_tui.widgets.scales import LABEL_WIDTH, Scale, loss_text, x_end, x_step, x_text, y_labels, y_scale, y_ticks

Floats = NDArray[np.float64]
Entry = tuple[str, int, str]  # of the legend: text, style, value
OVERLAYS = 6
STYLES = (
    *("base", "line", "raw", "validation", "axis", "label", "value", "grid", "cursor", "saved", "best", "change"),
    *("validation-line", "uniform"),
    *(f"overlay-{number}" for number in range(1, OVERLAYS + 1)),
)
(BASE, LINE, RAW, VALIDATION, AXIS, LABEL, VALUE, GRID, CURSOR, SAVED, BEST, CHANGE) = range(12)
VALIDATION_LINE, UNIFORM, OVERLAY = range(12, 15)
MARGIN = LABEL_WIDTH + 1  # columns left of the plot
HEADER, FOOTER = 1, 2  # rows above and below the plot
INITIAL_DROP = 0.25  # the fraction of a curve at its start that `trim` may cut off at the top
HEADROOM = 1.5  # with `trim`: the height of the y axis, relative to the height of the rest of the curve
MIN_SIZE = (MARGIN + 8, HEADER + FOOTER + 2)


@dataclass(frozen=True)
class Mark:
    """Something that happened at `step`; `kind` is "saved", "best", "change" or "spike"."""

    step: float
    kind: str
    text: str = ""


@dataclass
class Picture:
    """Everything that a chart shows. `validation` is two arrays, (n,) steps and losses; `window` is in units of `axis`;
    `uniform` is the loss of a model that gives every token the same probability; `cursor` is a step. All losses are in
    nats per token, and are drawn in `unit`."""

    curve: Curve = field(default_factory=Curve)
    overlays: dict[str, Curve] = field(default_factory=dict)
    validation: tuple[Floats, Floats] = field(default_factory=lambda: (np.empty(0), np.empty(0)))
    marks: Sequence[Mark] = ()
    uniform: float | None = None
    axis: str = "step"
    unit: LossUnit = "loss"
    window: tuple[float, float] | None = None
    log_y: bool = False
    show_raw: bool = True
    trim: bool = True
    cursor: float | None = None
    glyphs: str = "braille"

    def reference(self) -> Curve:
        """Return the curve that the crosshair follows: the run's own, or else the longest overlay."""
        return self.curve if len(self.curve) else max(self.overlays.values(), key=len, default=self.curve)

    def extent(self) -> tuple[float, float]:
        """Return the visible range of x, in units of `axis`."""
        if self.window:
            return self.window
        ends = [curve.field(self.axis)[-1] for curve in (self.curve, *self.overlays.values()) if len(curve)]
        if len(self.validation[0]):
            ends.append(self.curve.locate(self.axis, self.validation[0][-1:])[0])
        return 0.0, x_end(self.axis, float(max(ends, default=0.0)))

    def empty(self) -> bool:
        """Return whether there is nothing to draw."""
        return not len(self.curve) and not any(map(len, self.overlays.values())) and not len(self.validation[0])


def draw(picture: Picture, width: int, height: int) -> Canvas:
    """Return the picture as a canvas of `width` × `height` cells, at least MIN_SIZE."""
    return _Drawing(picture, width, height).canvas


class _Drawing:
    """The canvas, and the two scales that every layer needs."""

    def __init__(self, picture: Picture, width: int, height: int) -> None:
        self.picture = picture
        self.glyphs = GLYPHS[picture.glyphs]
        self.canvas = Canvas(width, height, self.glyphs)
        self.width, self.height = width - MARGIN, height - HEADER - FOOTER
        self.columns, self.rows = self.width * self.glyphs.across, self.height * self.glyphs.down
        self.x = Scale(*picture.extent())
        self.edges = np.linspace(self.x.low, self.x.high, self.columns + 1)
        self.parts = {name: self._columns(curve) for name, curve in picture.overlays.items()}
        self.own = self._columns(picture.curve)
        self.validation = self._in_unit(picture.validation[1], picture.curve)
        self.y = self._y_scale()
        self.marks = self._visible_marks()
        self._axes()
        self._uniform()
        if picture.show_raw and len(picture.curve):
            raw = self._row(self.own.high), self._row(self.own.low)
            self.canvas.area(*raw, self.rows, RAW, MARGIN, HEADER)
        self._changes()
        shown = np.isfinite(self.y.fraction(self.validation))
        self.validation_x = self._validation_x()[shown]
        self.validation_loss = self.validation[shown]
        self.validation_row = self._row(self.validation_loss)
        if len(self.validation_x) > 1:
            self._draw_validation_line()
        for number, (name, curve) in enumerate(picture.overlays.items()):
            self._line(curve, self.parts[name], OVERLAY + number % OVERLAYS)
        self._line(picture.curve, self.own, LINE)
        self._clear_raw_beside_line()
        self._validation()
        self._draw_marks()
        self._header()

    def _in_unit(self, losses: Floats, curve: Curve) -> Floats:
        return in_unit(losses, self.picture.unit, curve.text)

    def _columns(self, curve: Curve) -> Columns:
        """Return the summary of a curve for each dot column, in the unit that is shown."""
        part = curve.columns(self.picture.axis, self.edges)
        return Columns(*(self._in_unit(values, curve) for values in (part.low, part.high, part.smooth)))

    def _row(self, values: Floats) -> Floats:
        """Return the dot row of each loss, 0 at the top; beyond the plot for a loss outside the y range."""
        return np.rint((1.0 - self.y.fraction(values)) * (self.rows - 1))

    def _column(self, x: Floats | float) -> Floats:
        """Return the dot column of each x, as a real number."""
        return self.x.fraction(x) * self.columns - 0.5

    def _cells(self, x: Floats) -> NDArray[np.intp]:
        """Return the canvas column of each x; beyond the plot for an x outside the window."""
        fraction = self.x.fraction(x)
        column = np.minimum(np.floor(fraction * self.width), self.width - (fraction <= 1.0))
        return np.asarray(MARGIN + column, np.intp)

    def _visible_marks(self) -> list[tuple[int, Mark]]:
        """Return (column, mark) of the marks in the window. Earlier "best" marks become "saved"."""
        marks = self.picture.marks
        at = self._cells(self.picture.curve.locate(self.picture.axis, [mark.step for mark in marks]))
        best = max((mark.step for mark in marks if mark.kind == "best"), default=None)
        return [
            (column, Mark(mark.step, "saved", mark.text) if mark.kind == "best" and mark.step != best else mark)
            for column, mark in zip(at.tolist(), marks, strict=True)
            if MARGIN <= column < self.canvas.width
        ]

    def _validation_x(self) -> Floats:
        return self.picture.curve.locate(self.picture.axis, self.picture.validation[0])

    def _y_scale(self) -> Scale:
        """Return a y scale for the visible values.

        The lowest and the highest 2 % of the raw band are ignored, so that one spike does not flatten the curves. With
        `trim`, the axis is at most HEADROOM times as high as the curves without their first part (INITIAL_DROP);
        larger losses are cut off at the top.
        """
        values = self._y_values(0)
        if not len(values):
            return y_scale(*((1.0, 10.0) if self.picture.log_y else (0.0, 1.0)), self.picture.log_y)
        low, high = float(values.min()), float(values.max())
        later = self._y_values(INITIAL_DROP)
        if self.picture.trim and self.x.low == 0.0 and len(later):
            bottom, top = self._to_linear(low), self._to_linear(float(later.max()))
            high = min(high, self._from_linear(bottom + HEADROOM * (top - bottom)))
        return y_scale(low, high, self.picture.log_y)

    def _to_linear(self, value: float) -> float:
        """Return log10 of `value` on a log axis, else `value`."""
        return float(np.log10(value)) if self.picture.log_y else value

    def _from_linear(self, power: float) -> float:
        return float(10.0**power) if self.picture.log_y else power

    def _y_values(self, start: float) -> Floats:
        """Return the values that the y axis must include, without the first fraction `start` of each curve."""
        own, at = self._first_column_after(self.picture.curve, start), self._validation_x()
        others = [
            self.parts[name].smooth[self._first_column_after(curve, start) :]
            for name, curve in self.picture.overlays.items()
        ]
        shown = [self.own.smooth[own:], *others]
        shown.append(self.validation[(at >= self.edges[own]) & (at <= self.x.high)])
        if self.picture.show_raw:
            for band, outer in ((self.own.low[own:], 2), (self.own.high[own:], 98)):
                known = band[~np.isnan(band)]
                if len(known):
                    shown.append(np.percentile(known, [outer], method="nearest"))
        values = np.concatenate(shown)
        return values[np.isfinite(values) & ((values > 0) | (not self.picture.log_y))]

    def _first_column_after(self, curve: Curve, start: float) -> int:
        """Return the first dot column after the fraction `start` of a curve, or 0 if that part is not visible.

        The length of a curve is rounded up to the end of an x axis, so the column changes rarely during training.
        """
        axis = self.picture.axis
        at = start * min(x_end(axis, curve.newest(axis)), self.x.high)
        return max(0, int(self.x.fraction(at) * self.columns))

    def _axes(self) -> None:
        canvas, plot = self.canvas, slice(MARGIN, None)
        ticks = y_ticks(self.y, max(4, min(9, self.height // 3)))
        for tick, label in zip(ticks, y_labels(ticks), strict=True):
            y = HEADER + int(self._row(np.array(tick))) // self.glyphs.down
            canvas.fill(y, plot, self.glyphs.grid, GRID)
            canvas.text(0, y, label.rjust(LABEL_WIDTH), LABEL)
        bottom = HEADER + self.height
        canvas.fill(bottom, plot, self.glyphs.axis, AXIS)
        step = x_step(self.picture.axis, self.x.high - self.x.low, max(1, self.width // 14))
        names = {"time": "h:m:s" if self.x.high >= 3600 else "m:s", "flops": "FLOPs"}
        name = names.get(self.picture.axis, self.picture.axis)
        free, end = 0, canvas.width - len(name) - 1
        canvas.text(end + 1, bottom + 1, name, LABEL)
        for number in range(int(np.ceil(self.x.low / step - 1e-9)), int(self.x.high / step + 1e-9) + 1):
            text, at = x_text(self.picture.axis, number * step, step), int(self._cells(np.array(number * step)))
            canvas.text(at, bottom, self.glyphs.tick, AXIS)
            start = max(0, at - len(text) // 2)
            if start >= free and start + len(text) <= end:
                canvas.text(start, bottom + 1, text, LABEL)
                free = start + len(text) + 1

    def _uniform(self) -> None:
        """Draw the loss of the uniform guess, if it is in the y range."""
        uniform = np.array(np.nan if self.picture.uniform is None else self.picture.uniform)
        row = self._row(self._in_unit(uniform, self.picture.curve))
        if 0 <= row < self.rows:
            self.canvas.fill(HEADER + int(row) // self.glyphs.down, slice(MARGIN, None), self.glyphs.uniform, UNIFORM)

    def _changes(self) -> None:
        for at in {at for at, mark in self.marks if mark.kind in ("change", "spike")}:
            self.canvas.codes[HEADER : HEADER + self.height, at] = ord(self.glyphs.change_line)
            self.canvas.styles[HEADER : HEADER + self.height, at] = LABEL

    def _line(self, curve: Curve, part: Columns, style: int) -> None:
        if not len(curve):
            return
        columns = np.flatnonzero(~np.isnan(part.smooth))
        at, y = columns.astype(float), self._row(part.smooth[columns])
        x, smooth = curve.field(self.picture.axis), curve.field("smooth")
        # draw the line up to the nearest points outside the window
        for side, index in ((0, np.searchsorted(x, self.x.low) - 1), (-1, np.searchsorted(x, self.x.high, "right"))):
            if 0 <= index < len(curve) and not np.isnan(smooth[index]):
                outside = self._column(float(x[index])), self._row(self._in_unit(smooth[index : index + 1], curve))[0]
                at, y = (
                    (np.r_[outside[0], at], np.r_[outside[1], y])
                    if side == 0
                    else (np.r_[at, outside[0]], np.r_[y, outside[1]])
                )
        dots = polyline(at, y, self.columns, self.rows)
        if style == LINE and self.glyphs.down >= 4:  # small dots: two of them thick
            dots[1:] |= dots[:-1].copy()
        self.canvas.dots(dots, style, MARGIN, HEADER)

    def _draw_validation_line(self) -> None:
        """Draw a dotted line through the validation points."""
        dots = polyline(self._column(self.validation_x), self.validation_row, self.columns, self.rows)
        ordinal = np.cumsum(dots.ravel(order="F")).reshape(dots.shape, order="F")  # of each dot along the line
        dots &= ordinal % 3 == 1
        self.canvas.dots(dots, VALIDATION_LINE, MARGIN, HEADER)

    def _clear_raw_beside_line(self) -> None:
        """Clear the raw band beside the smoothed line, for contrast and for fewer style changes in a row."""
        line = self.canvas.styles == LINE
        near = np.zeros_like(line)
        near[:, 1:] |= line[:, :-1]
        near[:, :-1] |= line[:, 1:]
        near &= self.canvas.styles == RAW
        self.canvas.codes[near] = BLANK
        self.canvas.styles[near] = BASE

    def _validation(self) -> None:
        column, y = self._cells(self.validation_x), HEADER + self.validation_row // self.glyphs.down
        inside = (column >= MARGIN) & (column < self.canvas.width) & (y >= HEADER) & (y < HEADER + self.height)
        at = y[inside].astype(np.intp), column[inside]
        self.canvas.codes[at] = ord(self.glyphs.diamond)
        self.canvas.styles[at] = VALIDATION
        if inside.any() and inside[best := int(np.argmin(self.validation_loss))]:
            self.canvas.styles[int(y[best]), column[best]] = BEST

    def _draw_marks(self) -> None:
        bottom = HEADER + self.height
        for kind, char, style in (
            ("saved", self.glyphs.saved, SAVED),
            ("best", self.glyphs.best, BEST),
            ("change", self.glyphs.change, CHANGE),
            ("spike", "!", CHANGE),
        ):
            at = [at for at, mark in self.marks if mark.kind == kind]
            self.canvas.fill(bottom, np.array(at, np.intp), char, style)

    def _header(self) -> None:
        """Draw the legend, or with a crosshair its position, the values there and the change that was made there."""
        readout = self._crosshair()
        x = self._write(0, readout["x"] if readout else self.picture.unit, VALUE)
        if self.picture.log_y and not readout:
            x = self._write(x, "log", LABEL)
        for text, style, value in self._entries_that_fit(self._legend(readout), self.canvas.width - x):
            self.canvas.text(x, 0, text[:1], style)
            self.canvas.text(x + 1, 0, text[1:], LABEL)
            x = self._write(x + len(text), value, VALUE)
        if readout and readout["note"]:
            room = self.canvas.width - x
            note = readout["note"]
            self.canvas.text(x, 0, note if len(note) <= room else note[: max(0, room - 1)] + "…"[:room], CHANGE)

    def _write(self, x: int, text: str, style: int) -> int:
        """Write in the header, and return the column for the next text."""
        self.canvas.text(x, 0, text, style)
        return x + len(text) + 2

    def _entries_that_fit(self, entries: list[Entry], room: int) -> list[Entry]:
        """Return the entries that fit. Leave out, in this order: smoothing, uniform guess, raw band, last overlays."""
        if _length(entries) > room:
            entries = [(text.partition(" (EMA")[0], style, value) for text, style, value in entries]
        for dispensable in (UNIFORM, RAW):
            if _length(entries) > room:
                entries = [each for each in entries if each[1] != dispensable]
        while len(entries) > 1 and _length(entries) > room:
            entries = entries[:-1]
        return entries

    def _legend(self, readout: Mapping[str, str]) -> list[Entry]:
        """Return the entries; the first character of a text is its symbol and has the style."""
        picture, entries = self.picture, []
        if len(picture.curve):
            smoothing = f" (EMA {picture.curve.smoothing:g})" if picture.curve.smoothing and not readout else ""
            entries.append((f"{self.glyphs.line} train{smoothing}", LINE, readout.get("train", "")))
            if picture.show_raw and picture.curve.smoothing:
                entries.append((f"{self.glyphs.shade or '⢕'} raw", RAW, readout.get("raw", "")))
        if len(picture.validation[0]):
            entries.append((f"{self.glyphs.diamond} validation", VALIDATION, readout.get("validation", "")))
        if picture.uniform is not None:
            uniform = float(self._in_unit(np.array(picture.uniform), picture.curve))
            entries.append((f"{self.glyphs.uniform} uniform guess {uniform:.2f}", UNIFORM, ""))
        for number, (name, curve) in enumerate(picture.overlays.items()):
            text = f"{self.glyphs.line} {plain(name)[:24]}"
            entries.append((text, OVERLAY + number % OVERLAYS, readout.get(f"run {name}", "" if len(curve) else " –")))
        return entries

    def _line_row(self, curve: Curve, index: int) -> float:
        """Return the dot row of the line of `curve` at its point `index`; NaN if it is not drawn there."""
        part = self._columns(curve)
        x = float(self.x.fraction(float(curve.field(self.picture.axis)[index])))
        return float(self._row(part.smooth[min(int(x * self.columns), self.columns - 1)]))

    def _crosshair(self) -> dict[str, str]:
        """Draw the crosshair, and return the texts of the values there; empty without a crosshair."""
        picture, curve = self.picture, self.picture.reference()
        if picture.cursor is None or not len(curve):
            return {}
        index = curve.nearest("step", picture.cursor)
        step, x = float(curve.field("step")[index]), float(curve.field(picture.axis)[index])
        at = int(self._cells(np.array(x)))
        if MARGIN <= at < self.canvas.width:
            for y in range(HEADER, HEADER + self.height):
                free = self.canvas.styles[y, at] in (BASE, GRID, RAW, UNIFORM)
                if free:
                    self.canvas.text(at, y, self.glyphs.cursor, CURSOR)
            drawn = self._line_row(curve, index)
            if 0 <= drawn < self.rows:
                self.canvas.text(at, HEADER + int(drawn) // self.glyphs.down, self.glyphs.point, VALUE)
            self.canvas.text(at, HEADER + self.height, self.glyphs.point, VALUE)
        readout = {"x": f"step {step:,.0f}", "note": ""}
        if picture.axis != "step":
            readout["x"] += f"  {x_text(picture.axis, x, max(x / 100, 1e-9))}"
        cell = (self.x.high - self.x.low) / self.width
        notes = [plain(mark.text) for column, mark in self.marks if mark.text and column == at]
        readout["note"] = notes[-1] if notes else ""
        for key, name, source in (("train", "smooth", picture.curve), ("raw", "loss", picture.curve)):
            readout[key] = self._value_near(source, name, x, cell)
        steps = picture.validation[0]
        if len(steps):  # the last one up to this step
            last = int(np.searchsorted(steps, step, "right")) - 1
            readout["validation"] = " " + loss_text(float(self.validation[last]) if last >= 0 else np.nan)
        for name, other in picture.overlays.items():
            readout[f"run {name}"] = self._value_near(other, "smooth", x, cell)
        return readout

    def _value_near(self, curve: Curve, name: str, x: float, reach: float) -> str:
        """Return the value of the point nearest to `x`, or a dash if no point is within `reach`."""
        if not len(curve):
            return ""
        axis = self.picture.axis
        index = curve.nearest(axis, x)
        near = abs(float(curve.field(axis)[index]) - x) <= reach
        return " " + loss_text(float(self._in_unit(curve.field(name)[index], curve)) if near else np.nan)


def _length(entries: Sequence[Entry]) -> int:
    return sum(len(text) + len(value) + 2 for text, _, value in entries) - 2
