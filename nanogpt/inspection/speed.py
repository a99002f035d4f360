"""Reports that a training on a CPU has had another speed for long.

Other programs that start or end change which number is fastest. A training keeps its number all the same: with another
one float32 sums have another order, and a resumed run would not continue exactly. A new trial is only done on request.
"""

from collections.abc import Iterator
from statistics import median

from nanogpt.events import Event, Notice, Started, Step
from nanogpt.inspection.observer import Observer

WINDOW_S = 120.0  # of training, in which the speed has to differ
FACTOR = 1.5  # by which the median speeds have to differ
MIN_LEFT_S = 600.0  # of the run, for a notice to be of use


class SpeedObserver(Observer):
    """Yields a `Notice` if the median speed of a window is far from that of the first one, and then starts over."""

    def __init__(self) -> None:
        self._is_active = False
        self._usual = 0.0  # tokens per second; 0 before the end of the first window
        self._since_s = 0.0
        self._speeds: list[float] = []

    def on_event(self, event: Event) -> Iterator[Notice]:
        if isinstance(event, Started):
            self._is_active, self._usual = event.device == "cpu", 0.0
            self._speeds.clear()
        if not isinstance(event, Step) or not self._is_active:
            return
        if not self._speeds:
            self._since_s = event.elapsed_s
        self._speeds.append(event.tokens_per_second)
        if event.elapsed_s - self._since_s < WINDOW_S:
            return
        now, before = median(self._speeds), self._usual
        self._speeds.clear()
        if before and event.eta_s > MIN_LEFT_S and not 1 / FACTOR < now / before < FACTOR:
            yield Notice(
                level="info",
                text=f"in the last {WINDOW_S / 60:.0f} minutes the speed was {now:,.0f} tokens/s, and {before:,.0f} "
                "before: other programs on this machine may have started or ended. To find the fastest number of "
                "threads again, stop the run and resume it with --threads=0",
            )
            before = 0.0
        self._usual = before or now
