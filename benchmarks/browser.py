"""The app in a real browser: a quick start in headless Chromium, seen by a second viewer, with pictures of the screens.

    python benchmarks/browser.py [FOLDER]     needs chromium (apt-get install chromium) and the extra `serve`

Starts `nanogpt-tui serve --writable` on a free port with a home of its own, opens its page in Chromium through the
DevTools protocol, and presses keys as a keyboard does. Writes pictures to FOLDER, and prints what was seen.
"""

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

TIMEOUT_S = 240.0
KEYS = {  # DOM name: (Windows key code, text)
    "Escape": (27, ""),
    "Enter": (13, "\r"),
    "Tab": (9, ""),
    "ArrowUp": (38, ""),
    "ArrowDown": (40, ""),
    "ArrowRight": (39, ""),
    "Backspace": (8, ""),
}
CTRL = 2
QUICK_START = "[quickstart]\nmax_iters = 400\neval_interval = 40\nn_layer = 2\nn_embd = 64\nbatch_size = 8\n"


class Page:
    """A tab of Chromium, by the DevTools protocol."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket, self._numbers = websocket, itertools.count(1)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        number = next(self._numbers)
        await self._websocket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await asyncio.wait_for(self._websocket.receive_json(), TIMEOUT_S)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    async def value(self, expression: str) -> Any:
        """Evaluate JavaScript."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return result["result"].get("value")

    async def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key."""
        await self.call("Page.bringToFront")  # a tab behind another one draws nothing
        code, text = KEYS.get(key) or (ord(key.upper()), "" if modifiers else key)
        event = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        await self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **event)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    async def click(self, x: float, y: float) -> None:
        """Click at a place in CSS pixels."""
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def picture(self, path: Path) -> None:
        """Write what the page shows as a PNG file."""
        await self.call("Page.bringToFront")
        shot = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    end = time.monotonic() + TIMEOUT_S
    while not (value := await condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {TIMEOUT_S:.0f} s: {what}")
        await asyncio.sleep(0.2)
    return value


def status(home: Path) -> dict[str, Any]:
    """Return the status of the quick start's run; empty if there is none yet."""
    for path in home.glob("runs/*/status.json"):
        with suppress(OSError, ValueError):  # it is being written
            return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}


async def open_page(session: aiohttp.ClientSession, port: int, url: str) -> Page:
    """Open a tab and wait until the terminal in it shows something."""
    async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
        target = await answer.json()
    page = Page(await session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=1 << 26))
    await page.call("Emulation.setDeviceMetricsOverride", width=1300, height=760, deviceScaleFactor=1, mobile=False)
    await page.call("Page.navigate", url=url)
    await until(lambda: page.value("document.body && document.body.classList.contains('-first-byte')"), "a frame")
    return page


async def drive(home: Path, pictures: Path, url: str, devtools: int) -> None:
    async with aiohttp.ClientSession() as session:
        began = time.monotonic()
        page = await open_page(session, devtools, url)
        print(f"first frame after {time.monotonic() - began:.1f} s")
        assert "token" not in await page.value("location.href"), "the token stays in the address"
        font = await page.value("document.fonts.check('16px \"Roboto Mono\"')")
        focus = await page.value("document.activeElement.className")
        print(f"font loaded: {font}; keys go to: {focus}")
        await asyncio.sleep(2)
        await page.picture(pictures / "1_welcome.png")
        await page.press("Enter")  # the quick start
        await until(lambda: _status(home, lambda state: state.get("step", 0) > 20), "20 steps")
        other = await open_page(session, devtools, url)
        await asyncio.sleep(3)
        await page.picture(pictures / "2_training.png")
        await other.picture(pictures / "3_training_second_viewer.png")
        await other.press(" ")  # the second viewer pauses the training in the first viewer's process
        await until(lambda: _status(home, lambda state: state.get("state") == "paused"), "paused by the second viewer")
        await asyncio.sleep(2)
        await page.picture(pictures / "4_paused_by_second_viewer.png")
        await other.press(" ")
        await until(lambda: _status(home, lambda state: state.get("state") == "finished"), "the end of the training")
        print(f"trained: {status(home).get('step')} steps")
        await page.press("p", CTRL)
        await asyncio.sleep(1.5)
        await page.picture(pictures / "5_palette_with_ctrl_p.png")
        await page.press("Escape")
        for key, name in (("4", "6_runs"), ("3", "7_sample"), ("1", "8_data")):
            await page.press(key)
            await asyncio.sleep(3)
            await page.picture(pictures / f"{name}.png")
        await page.press("ArrowDown")
        await page.press("ArrowDown")
        await asyncio.sleep(1)
        await page.picture(pictures / "9_data_after_two_arrows.png")
        await page.call("Emulation.setDeviceMetricsOverride", width=420, height=320, deviceScaleFactor=1, mobile=False)
        await asyncio.sleep(2)
        await page.picture(pictures / "10_small_window.png")
        await other.press("q")
        await until(lambda: other.value("document.body.classList.contains('-closed')"), "the end of the session")
        await other.picture(pictures / "11_ended.png")


async def _status(home: Path, holds: Callable[[dict[str, Any]], bool]) -> bool:
    return holds(status(home))


def main() -> None:
    pictures = Path(sys.argv[1] if len(sys.argv) > 1 else "browser_pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "config").mkdir()
        (home / "config" / "tui.toml").write_text(QUICK_START, encoding="utf-8")
        environment = os.environ | {"NANOGPT_HOME": str(home)}
        environment |= {f"NANOGPT_{name.upper()}_DIR": str(home / name) for name in ("runs", "data", "cache", "config")}
        server = subprocess.Popen(
            [sys.executable, "-m", "nanogpt_tui", "serve", "--writable", "--port=0"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        browser = subprocess.Popen(
            [
                chromium,
                "--headless=new",
                "--no-sandbox",
                "--remote-debugging-port=0",
                f"--user-data-dir={home}/browser",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            port_file, end = home / "browser" / "DevToolsActivePort", time.monotonic() + TIMEOUT_S
            while not port_file.exists() or not port_file.read_text(encoding="utf-8").strip():
                if time.monotonic() > end:
                    sys.exit("Chromium does not start")
                time.sleep(0.1)
            asyncio.run(drive(home, pictures, url, int(port_file.read_text(encoding="utf-8").split()[0])))
        finally:
            browser.terminate()
            server.terminate()
            browser.wait(30)
            print(f"the server ended with exit code {server.wait(30)}")


if __name__ == "__main__":
    main()
