"""The Makefile: what it does about a virtual environment that has another Python than the one that is named."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with a virtual environment in which all is installed; its programs only say what they are."""
    shutil.copy(MAKEFILE, tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for path, said in (
        (".venv/bin/python", "Python 3.11.9"),
        (".venv/bin/nanogpt-tui", "started"),
        ("same", "Python 3.11.9"),
        ("other", "Python 3.12.1"),
    ):
        (tmp_path / path).write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / path).chmod(0o755)
    (tmp_path / ".venv" / ".installed").touch()
    return tmp_path


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "PYTHON")}
    return subprocess.run(["make", *words], cwd=folder, env=ours, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [[], ["PYTHON=./same"]])
def test_what_is_installed_is_started(clone: Path, words: list[str]) -> None:
    assert make(clone, *words, "run").stdout == "started\n"


def test_another_python_than_the_environments_is_refused_and_clean_removes_the_environment(clone: Path) -> None:
    refused = make(clone, "PYTHON=./other", "run")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert ".venv has Python 3.11.9, which is not that of ./other: run 'make clean' first" in refused.stderr
    assert make(clone, "PYTHON=./other", "clean").returncode == 0
    assert not (clone / ".venv").exists()
