"""The trends: charts of a growing history are drawn again when there is something new to see."""

import pytest
from textual.app import App, ComposeResult

from nanogpt_tui.screens.train.trends import Trends
from nanogpt_tui.session.history import History
from tests.made_events import started, stepped


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        yield Trends("braille")


@pytest.mark.painted
async def test_a_long_history_is_drawn_again_once_it_has_half_a_column_of_dots_more() -> None:
    history = History()
    history.add(started())
    async with Shown().run_test(size=(60, 20)) as pilot:
        trends = pilot.app.query_one(Trends)
        # 60 cells are 120 columns of braille dots; of 2,400 rows each has 20, half of which are 10
        drawings = []
        for rows in (2400, 2409, 2410):
            for step in range(history.step + 1, rows + 1):
                history.add(stepped(step))
            trends.show(history)
            await pilot.pause()
            drawings.append(trends.drawings)
    assert drawings[0] > 0
    assert [drawings[1] - drawings[0], drawings[2] - drawings[1]] == [0, 1]
