"""The progress of reading, downloading or encoding a text, in a line or, for a corpus, in a few."""

from textual.content import Content

from nanogpt.events import CorpusEncoding, Downloading, Encoding, Event, TokenizerTraining
from nanogpt_tui.text import count, duration, format_bytes, one_line, short

PHASES = {"scan": "reading", "encode": "encoding", "download": "downloading", "read": "counting", "merge": "merging"}
WithProgress = Downloading | Encoding | TokenizerTraining


class Progress:
    """The last event of a preparation, and the first one of its phase, from which its rate is measured.

    A total is not known before the files of a text are found, which takes time of its own.
    """

    def __init__(self) -> None:
        self._first: WithProgress | None = None  # of the phase, or after a pause
        self._last: WithProgress | None = None
        self._trains_tokenizer = False
        self.paused = False

    def add(self, event: Event) -> None:
        """Take a new event; those without a progress are ignored."""
        if isinstance(event, WithProgress):
            first = self._first
            if first is None or _phase(event) != _phase(first) or (_total(event) and not _total(first)):
                self._first = event
            self._last = event
            self._trains_tokenizer |= isinstance(event, TokenizerTraining)

    def pause(self, paused: bool) -> None:
        """Show the preparation as paused, or as running; the rate is measured anew after a pause."""
        self.paused, self._first = paused, None

    @property
    def is_committed(self) -> bool:
        """Whether a part of the work stays on disk if it is interrupted now."""
        return isinstance(self._last, CorpusEncoding)

    @property
    def share(self) -> float:
        """The progress from 0 to 1 over reading and encoding, which take about as long; 0 if it is not known."""
        last = self._last
        if last is None or not _total(last):
            return 0.0
        part = min(1.0, _done(last) / (_total(last) or 1))
        if isinstance(last, CorpusEncoding):  # its documents are read and encoded in one pass
            return 0.5 + part / 2 if self._trains_tokenizer else part
        return {"download": part, "scan": part / 2, "encode": 0.5 + part / 2}.get(_phase(last), 0.5)

    def lines(self, width: int, ascii_only: bool) -> Content:
        """Return the line, and for a corpus below it what is read, what came of it, and the use of the disk."""
        last, line = self._last, self.line(width, ascii_only)
        if not isinstance(last, CorpusEncoding):
            return line
        kinds = (last.duplicates, "duplicates"), (last.skipped, "skipped")
        left_out = [f"{number:,} {what}" for number, what in kinds if number]
        downloaded = f", {format_bytes(last.downloaded_bytes)} downloaded" if last.downloaded_bytes else ""
        rows = (
            ("file", f"{min(last.shards_done + 1, last.shards):,} of {last.shards:,}  {one_line(last.shard)}"),
            ("documents", "  ".join([f"{last.documents:,}", *left_out])),
            ("tokens", f"{last.tokens:,}, {count(last.committed_tokens)} committed"),
            ("disk", f"{format_bytes(last.disk_bytes)}{downloaded}"),
        )
        return Content("\n").join(
            [line, *(Content.assemble((f"{label:<12}", "$quiet"), short(text, width - 12)) for label, text in rows)]
        )

    def line(self, width: int, ascii_only: bool) -> Content:
        """Return a line of `width` cells: encoding ━━━━━━────  45 %  12.3 MB/s  0:12 left."""
        last, first = self._last, self._first
        if last is None:
            return Content.styled("paused" if self.paused else "starting …", "$warning" if self.paused else "$quiet")
        done, total = _done(last), _total(last)
        elapsed, new = (last.time - first.time, done - _done(first)) if first else (0.0, 0)
        rate = new / elapsed if elapsed > 0.2 else 0.0
        left = (total - done) / rate if rate and total else None
        share = done / total if total else 0.0
        speed = f"{rate:7,.0f} per s" if _phase(last) == "merge" else f"{rate / 1e6:6.1f} MB/s"
        figures = "" if self.paused else f"  {speed}  {duration(left):>5} left"
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


def _phase(event: WithProgress) -> str:
    return "download" if isinstance(event, Downloading) else event.phase


def _done(event: WithProgress) -> int:
    """Return the progress of the event's phase in bytes; of merging in entries of the vocabulary."""
    return event.vocab_size if isinstance(event, TokenizerTraining) and event.phase == "merge" else event.done_bytes


def _total(event: WithProgress) -> int | None:
    return event.target if isinstance(event, TokenizerTraining) and event.phase == "merge" else event.total_bytes
