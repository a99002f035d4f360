"""The Train screen: is it learning, how fast, how long still."""

from collections.abc import Iterator

from textual.widget import Widget
from textual.widgets import Static

from nanogpt_tui.screens.base import LabScreen


class TrainScreen(LabScreen):
    HELP = "Train"

    def body(self) -> Iterator[Widget]:
        yield Static("No run yet. Press g for the quick start.", id="empty")
