"""Twelve odd inputs: `nanogpt prepare` gives the exact text back from the tokens, or one line that says what to do."""

import gzip
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nanogpt.data import open_dataset

BLOCK_IDS = 1 << 20  # a character is one token here, so that blocks can be decoded by themselves
PROSE = "It was the best of times, it was the worst of times.\n"
CHINESE = "道可道，非常道。名可名，非常名。\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。\n"


def prepare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `nanogpt prepare textfile` in a process of its own. Its data set is `odd`."""
    return subprocess.run(
        [sys.executable, "-m", "nanogpt", "prepare", "textfile", *arguments, "--output=odd"],
        cwd=folder,
        env=os.environ | {"NANOGPT_DATA_DIR": str(folder / "data")},
        capture_output=True,
        text=True,
    )


def decoded(folder: Path) -> str:
    """Return the text of all splits of the data set, from its tokens."""
    dataset = open_dataset("odd", folder / "data", verify=True)
    blocks = (
        dataset.split(split)[first : first + BLOCK_IDS].tolist()
        for split, tokens in dataset.meta.tokens.items()
        for first in range(0, tokens, BLOCK_IDS)
    )
    return "".join(map(dataset.tokenizer.decode, blocks))


def written(content: bytes, name: str = "odd.txt") -> Callable[[Path], list[str]]:
    """Return a function that writes a file, and returns the arguments for it."""

    def write(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return [name]

    return write


def write_pipe(folder: Path) -> list[str]:
    os.mkfifo(folder / "odd")
    threading.Thread(target=(folder / "odd").write_bytes, args=(PROSE.encode() * 99,), daemon=True).start()
    return ["odd"]


def write_epub(folder: Path) -> list[str]:
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
        '<item id="b" href="b.xhtml" media-type="application/xhtml+xml"/>'
        '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>'
    )
    with zipfile.ZipFile(folder / "odd.epub", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr(
            "META-INF/container.xml", '<container><rootfiles><rootfile full-path="p.opf"/></rootfiles></container>'
        )
        archive.writestr("p.opf", package)
        archive.writestr("a.xhtml", "<html><head><title/></head><body><h1>A</h1><p>The caf&#233;.</p></body></html>")
        archive.writestr("b.xhtml", "<html><body><p>The <i>end</i>.</p><script>no()</script></body></html>")
    return ["odd.epub"]


def write_folder(folder: Path) -> list[str]:
    (folder / "odd" / "sub").mkdir(parents=True)
    (folder / "odd" / "sub" / "up").symlink_to("..", target_is_directory=True)
    (folder / "odd" / "loop.txt").symlink_to("loop.txt")
    (folder / "odd" / "a.txt").write_text("first")
    (folder / "odd" / "sub" / "b.md").write_text("second")
    (folder / "odd" / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    (folder / "odd" / "noise").write_bytes(bytes(range(256)) * 99)
    return ["odd"]


EXACT: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "UTF-16 without a byte order mark": (written((PROSE * 9).encode("utf-16-le")), PROSE * 9),
    "GBK": (written((CHINESE * 9).encode("gbk")), CHINESE * 9),
    "Shift-JIS": (written((JAPANESE * 9).encode("shift_jis")), JAPANESE * 9),
    "lone CR": (written(b"one\rtwo\r\rthree\r" * 9), "one\rtwo\r\rthree\r" * 9),
    "a pipe": (write_pipe, PROSE * 99),
    "a gz file": (written(gzip.compress(PROSE.encode() * 99), "odd.txt.gz"), PROSE * 99),
    "a book": (write_epub, "A\n\nThe café.\n\nThe end.\n"),
    "a folder with binaries and a circle of links": (write_folder, "first\nsecond"),
    "a character that only the last line has": (written((PROSE * 99 + "ß").encode()), PROSE * 99 + "ß"),
}


@pytest.mark.parametrize("name", EXACT)
def test_an_odd_input_comes_back_exactly(tmp_path: Path, name: str) -> None:
    make, expected = EXACT[name]
    done = prepare(tmp_path, *make(tmp_path))
    assert done.returncode == 0, done.stderr
    assert decoded(tmp_path) == expected


def test_one_very_long_line_comes_back_exactly(tmp_path: Path) -> None:
    text = "".join(f"{number:x}é " for number in range(20_000)) * 40 + "end"  # 5 MB, five times what is read at a time
    (tmp_path / "odd.txt").write_text(text)
    done = prepare(tmp_path, "odd.txt")
    assert done.returncode == 0, done.stderr
    assert decoded(tmp_path) == text


def test_zero_bytes_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_bytes(PROSE.encode() + b"\0\0" + PROSE.encode())
    done = prepare(tmp_path, "odd.txt")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"nanogpt prepare: odd.txt is not text: it has binary data at byte {len(PROSE)}; give a text file\n"
    )


def test_a_file_that_grows_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "odd.txt"
    path.write_text(PROSE * 200_000)  # 10 MB
    stop = threading.Event()

    def grow() -> None:
        with path.open("a", buffering=1) as file:
            while not stop.wait(0.001):
                file.write(PROSE)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        done = prepare(tmp_path, "odd.txt")
    finally:
        stop.set()
        writer.join()
    assert (done.returncode, done.stdout) == (2, "")
    advice = "try again when no program writes to it, or prepare a copy"
    assert done.stderr == f"nanogpt prepare: odd.txt changed while it was being read; {advice}\n"
    assert not (tmp_path / "data" / "odd").exists()
