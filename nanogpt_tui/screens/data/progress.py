"""How far some reading, fetching or encoding is, in one line. Knows the events, and nothing of who shows it."""

from textual.content import Content

from nanogpt.events import Downloading, Encoding, Event
from nanogpt_tui.text import duration

PHASES = {"scan": "reading", "encode": "encoding", "download": "downloading"}


class Progress:
    """Keeps what a rate needs: when the present phase began, and where."""

    def __init__(self) -> None:
        self._phase, self._began, self._from = "", 0.0, 0
        self._last: Downloading | Encoding | None = None

    def add(self, event: Event) -> None:
        if isinstance(event, Downloading | Encoding):
            phase = "download" if isinstance(event, Downloading) else event.phase
            if phase != self._phase:
                self._phase, self._began, self._from = phase, event.time, event.done_bytes
            self._last = event

    @property
    def share(self) -> float:
        """From 0 to 1, over reading and encoding (which take about as long); 0 where it is not known."""
        last = self._last
        if last is None or not last.total_bytes:
            return 0.0
        part = min(1.0, last.done_bytes / last.total_bytes)
        return {"download": part, "scan": part / 2, "encode": 0.5 + part / 2}[self._phase]

    def line(self, width: int, ascii_only: bool) -> Content:
        """encoding ━━━━━━────  45 %  12.3 MB/s  0:12 left"""
        last = self._last
        if last is None:
            return Content.styled("starting …", "$quiet")
        elapsed, done = last.time - self._began, last.done_bytes - self._from
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
