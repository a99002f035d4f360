"""The progress of reading, downloading or encoding a text, in one line."""

from textual.content import Content

from nanogpt.events import Downloading, Encoding, Event
from nanogpt_tui.text import duration

PHASES = {"scan": "reading", "encode": "encoding", "download": "downloading"}


class Progress:
    """The last event of a preparation, and the first one of its phase, from which its rate is measured."""

    def __init__(self) -> None:
        self._first: Downloading | Encoding | None = None  # of the phase, or after a pause
        self._last: Downloading | Encoding | None = None
        self.paused = False

    def add(self, event: Event) -> None:
        """Take a new event; those without a progress are ignored."""
        if isinstance(event, Downloading | Encoding):
            if self._first is None or _phase(event) != _phase(self._first):
                self._first = event
            self._last = event

    def pause(self, paused: bool) -> None:
        """Show the preparation as paused, or as running; the rate is measured anew after a pause."""
        self.paused, self._first = paused, None

    @property
    def share(self) -> float:
        """The progress from 0 to 1 over reading and encoding, which take about as long; 0 if it is not known."""
        last = self._last
        if last is None or not last.total_bytes:
            return 0.0
        part = min(1.0, last.done_bytes / last.total_bytes)
        return {"download": part, "scan": part / 2, "encode": 0.5 + part / 2}[_phase(last)]

    def line(self, width: int, ascii_only: bool) -> Content:
        """Return a line of `width` cells: encoding ━━━━━━────  45 %  12.3 MB/s  0:12 left."""
        last, first = self._last, self._first
        if last is None:
            return Content.styled("paused" if self.paused else "starting …", "$warning" if self.paused else "$quiet")
        elapsed, done = (last.time - first.time, last.done_bytes - first.done_bytes) if first else (0.0, 0)
        rate = done / elapsed if elapsed > 0.2 else 0.0
        left = (last.total_bytes - last.done_bytes) / rate if rate and last.total_bytes else None
        share = last.done_bytes / last.total_bytes if last.total_bytes else 0.0
        figures = "" if self.paused else f"  {rate / 1e6:6.1f} MB/s  {duration(left):>5} left"
        figures = f" {min(1.0, share):4.0%}{figures}"
        room = max(0, min(40, width - len(figures) - 13))
        filled = round(min(1.0, share) * room)
        on, off = ("=", "-") if ascii_only else ("━", "─")
        phase, style = ("paused", "$warning") if self.paused else (PHASES[_phase(last)], "$quiet")
        return Content.assemble(
            (f"{phase:<12}", style),
            (on * filled, "$warning" if self.paused else "$alive"),
            (off * (room - filled), "$rule"),
            (figures, "$foreground"),
        )


def _phase(event: Downloading | Encoding) -> str:
    return "download" if isinstance(event, Downloading) else event.phase
