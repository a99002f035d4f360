"""Converts a checkpoint of karpathy/nanoGPT (`ckpt.pt`) into a folder that `nanogpt train --init_from=FOLDER` takes.

    python docs/from_nanogpt.py out/ckpt.pt FOLDER                    trained with GPT-2's tokenizer
    python docs/from_nanogpt.py out/ckpt.pt FOLDER --text=input.txt   trained on the characters of that text

A `ckpt.pt` is a pickle. torch reads it here in its restricted way (`weights_only`); do it with files that you trust.
"""

import argparse
from pathlib import Path

import torch

from nanogpt import tokenizers
from nanogpt.interop.huggingface import write_huggingface
from nanogpt.models.gpt2.config import Config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", type=Path, help="the text whose characters are the vocabulary")
    words = parser.parse_args()
    saved = torch.load(words.checkpoint, map_location="cpu", weights_only=True)
    model = Config(**saved["model_args"]).build()
    stored = {name.removeprefix("_orig_mod."): tensor for name, tensor in saved["model"].items()}  # of torch.compile
    ours = model.state_dict().keys()
    model.load_state_dict({name: stored[f"transformer.{name}"] for name in ours})
    if words.text:
        tokenizer = tokenizers.create("char", [words.text.read_text(encoding="utf-8")])
    else:
        tokenizer = tokenizers.create("gpt2")
    write_huggingface(model, tokenizer, words.folder)
    print(words.folder)


if __name__ == "__main__":
    main()
