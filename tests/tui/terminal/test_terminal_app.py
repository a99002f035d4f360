"""The app on a slow line, and the reading of what goes over it."""

from typing import Any

import pytest
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual._compositor import LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from nanogpt_tui.app import LabApp
from nanogpt_tui.settings import Settings

ROW = LayoutUpdate([[Strip([Segment("x", Style.parse("#5fd7af on #121212"))])]], Region(0, 0, 1, 1))


def test_ssh_mode_sends_colours_that_survive_256_and_the_normal_one_what_the_terminal_has() -> None:
    app = LabApp(Settings(ssh_mode="off"))
    app.console._color_system = ColorSystem.TRUECOLOR
    assert "38;2;95;215;175" in app.render_diff(ROW)
    app.low_bandwidth = True
    assert "38;5;79;48;5;233" in app.render_diff(ROW)


async def test_ssh_mode_is_switched_while_the_app_runs(lab: Any) -> None:
    async with lab() as at:
        assert at.app.animation_level == "full"
        at.app.change_settings({"ssh_mode": "on"})
        assert at.app.animation_level == "none"
        assert at.session._throttle.interval_s == 1.0
        at.app.change_settings({"ssh_mode": "off"})
        assert at.app.animation_level == "full"
        assert at.session._throttle.interval_s < 1.0
        assert at.saved().ssh_mode == "off"


async def test_over_ssh_it_is_on_by_itself(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22")
    async with lab() as at:
        assert at.app.animation_level == "none"
        assert at.session._throttle.interval_s == 1.0


async def test_the_traffic_is_shown_on_request(lab: Any) -> None:
    async with lab() as at:
        assert "kB/s" not in at.seen()
        await at.press("f3")
        await at.until(lambda: "0.00 kB/s" in at.seen())
        assert at.saved().traffic == "shown"
        await at.press("f3")
        await at.until(lambda: "kB/s" not in at.seen())


async def test_the_reading_is_of_the_last_seconds(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab() as at:
        now, sent = [100.0], [0]
        monkeypatch.setattr("nanogpt_tui.terminal.terminal_app.time.monotonic", lambda: now[0])
        monkeypatch.setattr(type(at.app), "bytes_sent", property(lambda app: sent[0]))
        monkeypatch.setattr(at.app, "set_interval", lambda *args: at.app.set_timer(1e6, lambda: None))
        at.app.measure_traffic(True)
        assert at.app.traffic == 0.0
        for _ in range(20):
            now[0] += 1
            sent[0] += 1500
            at.app._sample()
        assert at.app.traffic == 1500.0
        for _ in range(20):
            now[0] += 1
            at.app._sample()
        assert at.app.traffic == 0.0
        at.app.measure_traffic(False)
        assert at.app.traffic is None


async def test_no_cursor_blinks(lab: Any) -> None:
    async with lab() as at:
        await at.press("3", "i")
        await at.until(lambda: at.app.focused is not None and hasattr(at.app.focused, "cursor_blink"))
        assert not at.app.focused.cursor_blink
