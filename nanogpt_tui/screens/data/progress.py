"""The progress of reading, downloading or encoding a text, in one line."""

from textual.content import Content

from nanogpt.events import Downloading, Encoding, Event
from nanogpt_tui.text import duration

PHASES = {"scan": "reading", "encode": "encoding", "download": "downloading"}


class Progress:
    """The last event of a preparation, and where and when its phase began."""

    def __init__(self) -> None:
        self._phase, self._started_at, self._start_bytes = "", 0.0, 0
        self._last: Downloading | Encoding | None = None

    def add(self, event: Event) -> None:
        """Take a new event; those without a progress are ignored."""
        if isinstance(event, Downloading | Encoding):
            phase = "download" if isinstance(event, Downloading) else event.phase
            if phase != self._phase:
                self._phase, self._started_at, self._start_bytes = phase, event.time, event.done_bytes
            self._last = event

    @property
    def share(self) -> float:
        """The progress from 0 to 1 over reading and encoding, which take about as long; 0 if it is not known."""
        last = self._last
        if last is None or not last.total_bytes:
            return 0.0
        part = min(1.0, last.done_bytes / last.total_bytes)
        return {"download": part, "scan": part / 2, "encode": 0.5 + part / 2}[self._phase]

    def line(self, width: int, ascii_only: bool) -> Content:
        """Return a line of `width` cells: encoding ━━━━━━────  45 %  12.3 MB/s  0:12 left."""
        last = self._last
        if last is None:
            return Content.styled("starting …", "$quiet")
        elapsed, done = last.time - self._started_at, last.done_bytes - self._start_bytes
        rate = done / elapsed if elapsed > 0.2 else 0.0
        left = (last.total_bytes - last.done_bytes) / rate if rate and last.total_bytes else None
        share = last.done_bytes / last.total_bytes if last.total_bytes else 0.0
        figures = f" {min(1.0, share):4.0%}  {rate / 1e6:6.1f} MB/s  {duration(left):>5} left"
        room = max(0, min(40, width - len(figures) - 13))
        filled = round(min(1.0, share) * room)
        on, off = ("=", "-") if ascii_only else ("━", "─")
        return Content.assemble(
            (f"{PHASES[self._phase]:<12}", "$quiet"),
            (on * filled, "$alive"),
            (off * (room - filled), "$rule"),
            (figures, "$foreground"),
        )
