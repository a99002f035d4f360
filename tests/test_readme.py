"""Every command of the README runs, in the README's order, as it is written; what would take long is made small."""

import pickle
import re
import shlex
import struct
from pathlib import Path

import pytest

from nanogpt.cli import main

README = Path(__file__).parents[1] / "README.md"

# Set-up: what these do to a bare clone cannot be done within the tests that they run.
OF_THE_SHELL = {
    "make run",
    "make test",
    "source .venv/bin/activate",
    "nanogpt-tui",
    "nanogpt-tui watch away --readonly",
    "nanogpt-tui serve",
    "nanogpt-tui serve away --port=8001",
}

# Commands that need the network or whole minutes, and what is run for each, so that the later ones find what it leaves.
STAND_INS = {
    "nanogpt prepare shakespeare_char": "nanogpt prepare textfile book.txt --output=shakespeare_char",
    "nanogpt quickstart": "nanogpt quickstart --help",
    "nanogpt train --init_from=gpt2 --dataset=book --block_size=256 --learning_rate=3e-5 --max_iters=200": (
        "nanogpt train --init_from=hf:first-hf --dataset=shakespeare_char --max_iters=1 --block_size=16 --dropout=0.1 "
        "--compile=false --eval_iters=1 --sample_tokens=5"
    ),
    "nanogpt pull me/first --name=pulled": "nanogpt pull --help",
    "nanogpt learn 3": "nanogpt learn --json",
    "nanogpt ladder": "nanogpt ladder --only=bigram --seconds=0.1",
}
SMALL = "--n_layer=1 --n_head=2 --n_embd=16 --block_size=32 --compile=false --eval_iters=1 --sample_tokens=5".split()  # noqa: SIM905
FEWER = {"train": [*SMALL, "--max_iters=3"], "bench": [*SMALL, "--burn_in=1", "--steps=2"]}
RESUMED = ["--max_iters=5", "--compile=false"]
DETACHED = [*SMALL, "--max_iters=100000"]  # it shall still train when it is watched and steered


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def write_token_files(nanogpt: Path, fineweb: Path) -> None:
    """Write what two other programs would have written: raw files with their characters, and shards."""
    for folder in (nanogpt, fineweb):
        folder.mkdir(parents=True)
    for split in ("train", "val"):
        (nanogpt / f"{split}.bin").write_bytes(struct.pack("<3H", 0, 1, 0))
        (fineweb / f"fineweb_{split}_000001.bin").write_bytes(
            struct.pack("<256i2H", 20240520, 1, 2, *[0] * 253, 50256, 0)
        )
    (nanogpt / "meta.pkl").write_bytes(pickle.dumps({"itos": {0: "a", 1: "b"}}))


@pytest.mark.slow
def test_every_command_of_the_readme_works(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nanogpt.runs.benchmark.SAMPLING_S", 0.05)
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text(text + "\nROMEO:\n", encoding="utf-8")
    Path("prompt.txt").write_text(text[:50], encoding="utf-8")
    write_token_files(Path("nanoGPT/data/shakespeare_char"), Path("fineweb10B"))
    for line in commands():
        if line in OF_THE_SHELL:
            continue
        command, _, output = STAND_INS.get(line, line).partition(" > ")
        program, *words = shlex.split(command)
        assert program == "nanogpt", line
        special = {"--init_from=resume": RESUMED, "--detach": DETACHED}
        fewer = next((special[word] for word in words if word in special), FEWER.get(words[0], []))
        code = main([*words, *fewer])
        out, err = capsys.readouterr()
        assert code == 0, f"{line}\n{err}"
        assert out, line
        if output:
            Path(output).write_text(out, encoding="utf-8")


def test_every_command_that_there_is_has_its_place_in_the_readme() -> None:
    from nanogpt.cli import COMMANDS

    shown = {line.split()[1] for line in commands() if line.startswith("nanogpt ")}
    assert shown == set(COMMANDS)


def test_what_is_left_out_or_made_small_is_still_in_the_readme() -> None:
    assert OF_THE_SHELL | STAND_INS.keys() <= set(commands())


def test_every_preset_and_data_set_is_explained() -> None:
    from nanogpt.config import preset_names
    from nanogpt.data import list_datasets

    readme = README.read_text(encoding="utf-8")
    assert [
        name for name in [*preset_names(), *(known.name for known in list_datasets())] if f"`{name}`" not in readme
    ] == []
