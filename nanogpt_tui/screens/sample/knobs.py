"""The knobs of the Sample screen: the sampling settings, each with two keys, its value and a scale."""

import dataclasses
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from nanogpt.config import SamplingConfig, resolve_sampling, sampling_settings
from nanogpt.errors import SettingError
from nanogpt_tui.text import short
from nanogpt_tui.token_views import visible


@dataclass(frozen=True, slots=True)
class Knob:
    """One sampling setting.

    `scale` has the values that the keys step through; if it is empty, these are all whole numbers. `off` is the value
    that switches the setting off. `keys` are two letters, down and up.
    """

    name: str
    label: str
    term: str
    keys: str
    scale: tuple[float, ...] = ()
    off: float | None = None
    tile: str = ""  # a shorter label

    @property
    def short_label(self) -> str:
        """The label on a tile."""
        return self.tile or self.label


def _twentieths(first: int, last: int) -> tuple[float, ...]:
    return tuple(number / 20 for number in range(first, last + 1))


KNOBS = (
    Knob("temperature", "temperature", "temperature", "tT", _twentieths(0, 40), tile="temp"),
    Knob("top_k", "top-k", "top-k", "kK", (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000), off=0),
    Knob("top_p", "top-p", "top-p", "pP", (*_twentieths(1, 19), 0.98, 0.99), off=1.0),
    Knob("min_p", "min-p", "min-p", "mM", (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5), off=0.0),
    Knob("repetition_penalty", "repetition", "repetition penalty", "rR", _twentieths(16, 40), tile="repeat"),
    Knob("seed", "seed", "seed", "sS"),
    Knob("max_new_tokens", "length", "sampling", "nN", (10, 20, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000)),
    Knob("stop", "stop", "sampling", "x"),
)
STOP_HELP = "the text ends at any of these strings; | separates them"
BY_NAME = {knob.name: knob for knob in KNOBS}


def turn(knobs: SamplingConfig, knob: Knob, by: int) -> SamplingConfig:
    """Return the settings with one knob turned up (1) or down (-1) by a step.

    Beyond the end of its scale a knob is off, if it can be: min-p below its scale, top-k and top-p above theirs. Others
    stay as they are.
    """
    value = getattr(knobs, knob.name)
    if not knob.scale:
        with suppress(SettingError):
            return dataclasses.replace(knobs, **{knob.name: sampling_settings()[knob.name].parse(value + by)})
        return knobs
    off_above = knob.name in ("top_k", "top_p")
    ends = () if knob.off is None else (knob.off,)
    positions = (*knob.scale, *ends) if off_above else (*ends, *knob.scale)
    if value in positions:
        place = positions.index(value) + by
    else:  # typed, between two values or beyond all
        ordered = knob.scale if off_above else positions
        place = bisect_right(ordered, value) if by > 0 else bisect_left(ordered, value) - 1
    return dataclasses.replace(knobs, **{knob.name: positions[place]}) if 0 <= place < len(positions) else knobs


def no_effect(knobs: SamplingConfig, name: str, vocab_size: int) -> str:
    """Return why a knob that is not off has no effect, or "" if it has one; `vocab_size` is 0 if it is not known."""
    value = getattr(knobs, name)
    if name == "top_k" and 0 < vocab_size <= value:
        return f"{value} of {vocab_size}: no effect"
    draws = name in ("temperature", "top_k", "top_p", "min_p", "seed") and value != BY_NAME[name].off
    if draws and knobs.temperature == 0 and name != "temperature":
        return f"{as_typed(knobs, name)}: no effect at T 0"
    if draws and knobs.top_k == 1 and name != "top_k":
        return f"{as_typed(knobs, name)}: no effect at k 1"
    return ""


def set_typed(knobs: SamplingConfig, name: str, text: str) -> SamplingConfig:
    """Return the settings with one set to the text that a person typed. Raise `SettingError` for a bad value."""
    if name == "stop":
        texts = (part.replace("\\n", "\n").replace("\\t", "\t") for part in text.split("|"))
        return dataclasses.replace(knobs, stop=tuple(part for part in texts if part))
    off, text = BY_NAME[name].off, text.strip()
    value = sampling_settings()[name].parse(off if text == "off" and off is not None else text)
    known = {item.name: getattr(knobs, item.name) for item in dataclasses.fields(knobs) if item.name != "stop"}
    return resolve_sampling(known | {name: value}, knobs.stop)


def as_typed(knobs: SamplingConfig, name: str) -> str:
    """Return the value of a knob as a person would type it."""
    value = getattr(knobs, name)
    if name == "stop":
        return "|".join(text.replace("\n", "\\n").replace("\t", "\\t") for text in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


class KnobRow(Widget, can_focus=True):
    """One knob. Left and right or the mouse wheel turn it, enter or a click asks for a value."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "turn(-1)", "less", show=False, id="knob.less"),
        Binding("right", "turn(1)", "more", show=False, id="knob.more"),
        Binding("enter", "ask", "type a value", show=False, id="knob.type"),
    ]

    class Turned(Message):
        """The knob was turned by a step up (1) or down (-1)."""

        def __init__(self, knob: Knob, by: int) -> None:
            super().__init__()
            self.knob, self.by = knob, by

    class ValueRequested(Message):
        """The user wants to type a value."""

        def __init__(self, knob: Knob) -> None:
            super().__init__()
            self.knob = knob

    def __init__(self, knob: Knob, ascii_only: bool) -> None:
        super().__init__(id=knob.name)
        known = sampling_settings().get(knob.name)
        self.knob, self.glossary = knob, knob.term
        self.HELP = known.help if known else STOP_HELP  # type: ignore[misc]  # each row's own
        self.ascii_only = ascii_only
        self._value: Any = None
        self._no_effect = ""

    def show(self, value: Any, no_effect: str) -> None:
        """Show the value; `no_effect` says why it has no effect, if so."""
        if (value, no_effect) != (self._value, self._no_effect):
            self._value, self._no_effect = value, no_effect
            self.refresh()

    def action_turn(self, by: int) -> None:
        self.post_message(self.Turned(self.knob, by) if self.knob.name != "stop" else self.ValueRequested(self.knob))

    def action_ask(self) -> None:
        self.post_message(self.ValueRequested(self.knob))

    def on_click(self) -> None:
        self.action_ask()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._scrolled(event, 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._scrolled(event, -1)

    def _scrolled(self, event: events.MouseEvent, by: int) -> None:
        event.stop()
        if self.knob.name != "stop":  # strings have no next value
            self.post_message(self.Turned(self.knob, by))

    def render(self) -> Content:
        knob, width = self.knob, self.size.width
        keys = " ".join(knob.keys)
        off = self._value == knob.off or self._value == ()
        text, style = ("off", "$quiet") if off else (self._shown(), "$quiet" if self._no_effect else "bold $foreground")
        if width < 30:
            label = Content.styled(f"{knob.short_label:<7}", "$quiet")
            return Content.assemble((f"{keys:<4}", "$accent"), label, (f"{short(text, 7):>7}", style))
        room = width - 12 - 9 - 6
        if self._no_effect:
            reason = f"{short(self._no_effect, room + 9):<{room + 9}}"
            return Content.assemble((f"{knob.label:<12}{reason}", "$quiet"), (f"{keys:>6}", "$accent"))
        return Content.assemble(
            (f"{knob.label:<12}", "$quiet"),
            (f"{short(text, 8):<9}" if knob.scale or off else f"{short(text, room + 8):<{room + 9}}", style),
            self._bar(room) if knob.scale or off else "",
            (f"{keys:>6}", "$accent"),
        )

    def _shown(self) -> str:
        value = self._value
        if isinstance(value, tuple):
            return " ".join(visible(text, self.ascii_only) for text in value)
        return f"{value:.2f}" if isinstance(value, float) else f"{value}"

    def _bar(self, room: int) -> Content:
        """Return a bar for the place of the value on its scale, blank if the knob is off."""
        scale = self.knob.scale
        if not scale or self._value == self.knob.off or self._value is None:
            return Content(" " * room)
        share = bisect_left(scale, self._value) / (len(scale) - 1)
        filled = round(min(1.0, share) * room)
        full, rest = ("#", "-") if self.ascii_only else ("━", "─")
        return Content.assemble((full * filled, "$accent"), (rest * (room - filled), "$rule"))


class Knobs(Container):
    """All knobs, in rows, or on a narrow terminal as a grid of tiles."""

    def __init__(self, ascii_only: bool) -> None:
        super().__init__(id="knobs")
        self._rows = {knob.name: KnobRow(knob, ascii_only) for knob in KNOBS}

    def compose(self) -> ComposeResult:
        yield from self._rows.values()

    def show(self, knobs: SamplingConfig, vocab_size: int) -> None:
        """Show the settings. `vocab_size` is that of the weights, 0 if it is not known yet."""
        for name, row in self._rows.items():
            row.show(getattr(knobs, name), no_effect(knobs, name, vocab_size))


def knob_bindings() -> Iterator[Binding]:
    """Yield the keys of all knobs for the screen: the small letter turns down, the capital turns up."""
    for knob in KNOBS:
        if knob.name == "stop":
            yield Binding("x", "type_knob('stop')", "stop strings", id="sample.stop", show=False)
            continue
        less, more = tuple(knob.keys)
        yield Binding(less, f"turn('{knob.name}', -1)", f"{knob.label} down", id=f"sample.{knob.name}_down", show=False)
        yield Binding(more, f"turn('{knob.name}', 1)", f"{knob.label} up", id=f"sample.{knob.name}_up", show=False)
