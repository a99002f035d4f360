"""The picture of a loss chart: curves, validation points and marks in, a canvas out.

From back to front: grid, the line of the uniform guess, the raw band, lines of changes, the validation's line, other
runs, the smoothed line, validation points, the crosshair. Above them one row of legend, which with a crosshair becomes
the readout; below them the axis with its marks, and its labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nanogpt_tui.widgets.canvas import BLANK, GLYPHS, Canvas, plain, polyline
from nanogpt_tui.widgets.curve import Columns, Curve
from nanogpt_tui.widgets.scales import LABEL_WIDTH, Scale, loss_text, x_end, x_step, x_text, y_labels, y_scale, y_ticks

Floats = NDArray[np.float64]
Entry = tuple[str, int, str]  # of the legend
OVERLAYS = 6
STYLES = (
    *("base", "line", "raw", "validation", "axis", "label", "value", "grid", "cursor", "saved", "best", "change"),
    *("validation-line", "uniform"),
    *(f"overlay-{number}" for number in range(1, OVERLAYS + 1)),
)
(BASE, LINE, RAW, VALIDATION, AXIS, LABEL, VALUE, GRID, CURSOR, SAVED, BEST, CHANGE, JOIN, UNIFORM, OVERLAY) = range(15)
MARGIN = LABEL_WIDTH + 1  # columns left of the plot
HEADER, FOOTER = 1, 2  # rows above and below it
FALL = 0.25  # part of a curve at its start, in which it falls: that alone does not decide what the y axis shows
HEADROOM = 1.5  # how far the y axis reaches at most above the lowest value, in heights of what comes after that part
SMALLEST = (MARGIN + 8, HEADER + FOOTER + 2)


@dataclass(frozen=True)
class Mark:
    """Something that happened at `step`; `kind` is "saved", "best" or "change"."""

    step: float
    kind: str
    text: str = ""


@dataclass
class Picture:
    """All that a chart shows. `validation` is two arrays, (n,) steps and losses; `window` is in units of `axis`;
    `uniform` is the loss of a model that finds every token equally likely, in nats."""

    curve: Curve = field(default_factory=Curve)
    overlays: dict[str, Curve] = field(default_factory=dict)
    validation: tuple[Floats, Floats] = field(default_factory=lambda: (np.empty(0), np.empty(0)))
    marks: Sequence[Mark] = ()
    uniform: float | None = None
    axis: str = "step"
    window: tuple[float, float] | None = None
    log_y: bool = False
    show_raw: bool = True
    trim: bool = True
    cursor: float | None = None
    glyphs: str = "braille"

    def reference(self) -> Curve:
        """The curve that the crosshair walks along: the run's own, or else the longest other."""
        return self.curve if len(self.curve) else max(self.overlays.values(), key=len, default=self.curve)

    def extent(self) -> tuple[float, float]:
        """The visible range of x."""
        if self.window:
            return self.window
        ends = [curve.field(self.axis)[-1] for curve in (self.curve, *self.overlays.values()) if len(curve)]
        if len(self.validation[0]):
            ends.append(self.curve.locate(self.axis, self.validation[0][-1:])[0])
        return 0.0, x_end(self.axis, float(max(ends, default=0.0)))

    def empty(self) -> bool:
        return not len(self.curve) and not any(map(len, self.overlays.values())) and not len(self.validation[0])


def draw(picture: Picture, width: int, height: int) -> Canvas:
    """The whole picture, `width` × `height` cells, at least SMALLEST."""
    return _Drawing(picture, width, height).canvas


class _Drawing:
    """One drawing in progress: the canvas with the two scales that every layer needs."""

    def __init__(self, picture: Picture, width: int, height: int) -> None:
        self.picture = picture
        self.glyphs = GLYPHS[picture.glyphs]
        self.canvas = Canvas(width, height, self.glyphs)
        self.width, self.height = width - MARGIN, height - HEADER - FOOTER
        self.columns, self.rows = self.width * self.glyphs.across, self.height * self.glyphs.down
        self.x = Scale(*picture.extent())
        self.edges = np.linspace(self.x.low, self.x.high, self.columns + 1)
        self.parts = {name: curve.columns(picture.axis, self.edges) for name, curve in picture.overlays.items()}
        self.own = picture.curve.columns(picture.axis, self.edges)
        self.y = self._y_scale()
        self.marks = self._visible_marks()
        self._axes()
        self._uniform()
        if picture.show_raw and len(picture.curve):
            raw = self._row(self.own.high), self._row(self.own.low)
            self.canvas.area(*raw, self.rows, RAW, MARGIN, HEADER)
        self._changes()
        shown = np.isfinite(self.y.fraction(picture.validation[1]))
        self.validation_x = self._validation_x()[shown]
        self.validation_loss = picture.validation[1][shown]
        self.validation_row = self._row(self.validation_loss)
        if len(self.validation_x) > 1:
            self._join_validation()
        for number, (name, curve) in enumerate(picture.overlays.items()):
            self._line(curve, self.parts[name], OVERLAY + number % OVERLAYS)
        self._line(picture.curve, self.own, LINE)
        self._clear_around_line()
        self._validation()
        self._draw_marks()
        self._header()

    def _row(self, values: Floats) -> Floats:
        """The row of dots, 0 at the top, of losses; outside the plot where they are off the scale."""
        return np.rint((1.0 - self.y.fraction(values)) * (self.rows - 1))

    def _column(self, x: Floats | float) -> Floats:
        """The column of dots, as a real number."""
        return self.x.fraction(x) * self.columns - 0.5

    def _cells(self, x: Floats) -> NDArray[np.intp]:
        """The columns of cells of the canvas; outside of the plot where `x` is."""
        fraction = self.x.fraction(x)
        column = np.minimum(np.floor(fraction * self.width), self.width - (fraction <= 1.0))
        return np.asarray(MARGIN + column, np.intp)

    def _visible_marks(self) -> list[tuple[int, Mark]]:
        """The marks inside of the window, each with its column. What was the best once is by now merely saved."""
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
        """From all that is visible, but of the raw band without its outermost fiftieth, so that one spike does not
        flatten the rest. Nor may the first fall: with `trim` the axis ends at HEADROOM times the height that the curves
        need after their first FALL, and what is above that leaves the plot at the top."""
        values = self._y_values(0)
        if not len(values):
            return y_scale(*((1.0, 10.0) if self.picture.log_y else (0.0, 1.0)), self.picture.log_y)
        low, high = float(values.min()), float(values.max())
        later = self._y_values(FALL)
        if self.picture.trim and self.x.low == 0.0 and len(later):
            bottom, top = self._power(low), self._power(float(later.max()))
            high = min(high, self._value(bottom + HEADROOM * (top - bottom)))
        return y_scale(low, high, self.picture.log_y)

    def _power(self, value: float) -> float:
        """Where `value` is on an even axis."""
        return float(np.log10(value)) if self.picture.log_y else value

    def _value(self, power: float) -> float:
        return float(10.0**power) if self.picture.log_y else power

    def _y_values(self, start: float) -> Floats:
        """What the y axis has to show, of each curve without the part `start` of it at its beginning."""
        own, at = self._after(self.picture.curve, start), self._validation_x()
        others = [self.parts[name].smooth[self._after(curve, start) :] for name, curve in self.picture.overlays.items()]
        seen = [self.own.smooth[own:], *others]
        seen.append(self.picture.validation[1][(at >= self.edges[own]) & (at <= self.x.high)])
        if self.picture.show_raw:
            for band, outer in ((self.own.low[own:], 2), (self.own.high[own:], 98)):
                known = band[~np.isnan(band)]
                if len(known):
                    seen.append(np.percentile(known, [outer], method="nearest"))
        values = np.concatenate(seen)
        return values[np.isfinite(values) & ((values > 0) | (not self.picture.log_y))]

    def _after(self, curve: Curve, start: float) -> int:
        """The first column after the part `start` of a curve, as far as that is visible. It moves no more often than
        the end of an x axis does."""
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
        name = {"time": "h:m:s" if self.x.high >= 3600 else "m:s"}.get(self.picture.axis, self.picture.axis)
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
        """What a model would lose that knows nothing, where that is in sight."""
        row = self._row(np.array(np.nan if self.picture.uniform is None else self.picture.uniform))
        if 0 <= row < self.rows:
            self.canvas.fill(HEADER + int(row) // self.glyphs.down, slice(MARGIN, None), self.glyphs.uniform, UNIFORM)

    def _changes(self) -> None:
        for at in {at for at, mark in self.marks if mark.kind == "change"}:
            self.canvas.codes[HEADER : HEADER + self.height, at] = ord(self.glyphs.change_line)
            self.canvas.styles[HEADER : HEADER + self.height, at] = LABEL

    def _line(self, curve: Curve, part: Columns, style: int) -> None:
        if not len(curve):
            return
        columns = np.flatnonzero(~np.isnan(part.smooth))
        at, y = columns.astype(float), self._row(part.smooth[columns])
        x, smooth = curve.field(self.picture.axis), curve.field("smooth")
        # the line comes from and goes on to the points just outside of the window
        for side, index in ((0, np.searchsorted(x, self.x.low) - 1), (-1, np.searchsorted(x, self.x.high, "right"))):
            if 0 <= index < len(curve) and not np.isnan(smooth[index]):
                outside = self._column(float(x[index])), self._row(smooth[index : index + 1])[0]
                at, y = (
                    (np.r_[outside[0], at], np.r_[outside[1], y])
                    if side == 0
                    else (np.r_[at, outside[0]], np.r_[y, outside[1]])
                )
        dots = polyline(at, y, self.columns, self.rows)
        if style == LINE and self.glyphs.down >= 4:  # where dots are small, this line is two of them thick
            dots[1:] |= dots[:-1].copy()
        self.canvas.dots(dots, style, MARGIN, HEADER)

    def _join_validation(self) -> None:
        """A dotted line: between its points nothing was measured."""
        dots = polyline(self._column(self.validation_x), self.validation_row, self.columns, self.rows)
        along = np.cumsum(dots.ravel(order="F")).reshape(
            dots.shape, order="F"
        )  # the how-maniest of its dots each one is
        dots &= along % 3 == 1
        self.canvas.dots(dots, JOIN, MARGIN, HEADER)

    def _clear_around_line(self) -> None:
        """Takes the raw band away beside the smoothed line: it stands out, and a row changes style less often."""
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
        ):
            at = [at for at, mark in self.marks if mark.kind == kind]
            self.canvas.fill(bottom, np.array(at, np.intp), char, style)

    def _header(self) -> None:
        """What is drawn and its legend, or where the crosshair stands, the values there, and what was changed."""
        readout = self._crosshair()
        x = self._write(0, readout["x"] if readout else "loss", VALUE)
        if self.picture.log_y and not readout:
            x = self._write(x, "log", LABEL)
        for text, style, value in self._fitting(self._legend(readout), self.canvas.width - x):
            self.canvas.text(x, 0, text[:1], style)
            self.canvas.text(x + 1, 0, text[1:], LABEL)
            x = self._write(x + len(text), value, VALUE)
        if readout and readout["note"]:
            room = self.canvas.width - x
            note = readout["note"]
            self.canvas.text(x, 0, note if len(note) <= room else note[: max(0, room - 1)] + "…"[:room], CHANGE)

    def _write(self, x: int, text: str, style: int) -> int:
        """Writes in the header, and returns where what comes next begins."""
        self.canvas.text(x, 0, text, style)
        return x + len(text) + 2

    def _fitting(self, entries: list[Entry], room: int) -> list[Entry]:
        """The entries for which there is room. What does not fit is left out: how the line was smoothed, the uniform
        guess, what the raw band is, then from the end other runs."""
        if _length(entries) > room:
            entries = [(text.partition(" (EMA")[0], style, value) for text, style, value in entries]
        for dispensable in (UNIFORM, RAW):
            if _length(entries) > room:
                entries = [each for each in entries if each[1] != dispensable]
        while len(entries) > 1 and _length(entries) > room:
            entries = entries[:-1]
        return entries

    def _legend(self, readout: Mapping[str, str]) -> list[Entry]:
        """(text that begins with its sign, style of the sign, value at the crosshair or "")."""
        picture, entries = self.picture, []
        if len(picture.curve):
            smoothing = f" (EMA {picture.curve.smoothing:g})" if picture.curve.smoothing and not readout else ""
            entries.append((f"{self.glyphs.line} train{smoothing}", LINE, readout.get("train", "")))
            if picture.show_raw and picture.curve.smoothing:
                entries.append((f"{self.glyphs.shade or '⢕'} raw", RAW, readout.get("raw", "")))
        if len(picture.validation[0]):
            entries.append((f"{self.glyphs.diamond} validation", VALIDATION, readout.get("validation", "")))
        if picture.uniform is not None:
            entries.append((f"{self.glyphs.uniform} uniform guess {picture.uniform:.2f}", UNIFORM, ""))
        for number, name in enumerate(picture.overlays):
            text = f"{self.glyphs.line} {plain(name)[:24]}"
            entries.append((text, OVERLAY + number % OVERLAYS, readout.get(f"run {name}", "")))
        return entries

    def _drawn(self, curve: Curve, index: int) -> float:
        """The row of dots where the line of `curve` passes its point `index`; NaN where it has none."""
        part = curve.columns(self.picture.axis, self.edges)
        x = float(self.x.fraction(float(curve.field(self.picture.axis)[index])))
        return float(self._row(part.smooth[min(int(x * self.columns), self.columns - 1)]))

    def _crosshair(self) -> dict[str, str]:
        """Draws the crosshair, and returns the texts of what it stands on; empty without one."""
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
            drawn = self._drawn(curve, index)
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
            readout[key] = _at(source, name, picture.axis, x, cell)
        steps, losses = picture.validation
        if len(steps):  # the last one that was known there
            last = int(np.searchsorted(steps, step, "right")) - 1
            readout["validation"] = " " + loss_text(float(losses[last]) if last >= 0 else np.nan)
        for name, other in picture.overlays.items():
            readout[f"run {name}"] = _at(other, "smooth", picture.axis, x, cell)
        return readout


def _length(entries: Sequence[Entry]) -> int:
    return sum(len(text) + len(value) + 2 for text, _, value in entries) - 2


def _at(curve: Curve, name: str, axis: str, x: float, reach: float) -> str:
    """The curve's value at its point nearest to `x`, or a dash where none is within `reach`: nothing is invented."""
    if not len(curve):
        return ""
    index = curve.nearest(axis, x)
    near = abs(float(curve.field(axis)[index]) - x) <= reach
    return " " + loss_text(float(curve.field(name)[index]) if near else np.nan)
