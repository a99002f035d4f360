"""The list of data sets."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import OptionList


class DatasetList(OptionList, inherit_bindings=False):
    """A list without OptionList's own keys: enter belongs to the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor_down", "down", show=False, id="data.down"),
        Binding("up,k", "cursor_up", "up", show=False, id="data.up"),
        Binding("home,g", "first", "first", show=False, id="data.first"),
        Binding("end,G", "last", "last", show=False, id="data.last"),
    ]
    HELP = (
        "The data sets: ● is ready, ○ can be prepared now, ‖ is paused or interrupted, ⊘ needs the network first. "
        "{data.new_run} starts a run on one."
    )
    glossary = "data set"

    class Resized(Message):
        """The rows have another width."""

    @property
    def row_width(self) -> int:
        """Cells of a row, at least 20."""
        return max(20, self.scrollable_content_region.width)

    def on_resize(self) -> None:
        self.post_message(self.Resized())
