"""The tokenizers that the contract tests cover: each kind, with each choice of its settings."""

import atexit
import json
import shutil
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from nanogpt import tokenizers
from nanogpt.config.setting import declared_settings
from nanogpt.interop.huggingface_tokenizer import tokenizer_files

SAMPLE = "To be, or not to be?\n\n  That  is\tthe question — naïve 日本語 🤖 don't 12345 \r\n<|endoftext|> x\n"
SAMPLE += "\tdef f(x):\n        return x \n  "


def _specs() -> list[str]:
    """Return the spec of each kind with default settings, and one for each other value of a choice or a switch."""
    found = []
    for kind in tokenizers.names_without_argument():
        found.append(kind)
        for each in declared_settings(tokenizers.tokenizer_class(kind).settings, ""):
            values = each.choices or ((True, False) if each.value_type is bool else ())
            found += [f"{kind},{each.name}={str(value).lower()}" for value in values if value != each.default]
    return found


# Files of the kind `hf`, in a folder of this process; the specs have only their names.
HF_SPECS = [f"hf:{name}" for name in ("bytes", "gpt4", "characters", "fallback")]
SPECS = [*_specs(), *HF_SPECS]


@cache
def _files() -> Path:
    """A folder of tokenizers of other programs: bytes, characters, words that fall back to bytes."""
    folder = Path(tempfile.mkdtemp(prefix="nanogpt-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, spec in (("bytes", "bpe:300"), ("gpt4", "bpe:300,pattern=gpt4"), ("characters", "char")):
        files = tokenizer_files(tokenizers.create(spec, [SAMPLE]), None)
        (folder / f"{name}.json").write_text(json.dumps(files["tokenizer.json"]))
    words: Any = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True))
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    words.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 0, 0)]
    )
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    words.train_from_iterator(
        ["to be or not to be that is the question"] * 9,
        trainers.BpeTrainer(vocab_size=320, special_tokens=["</s>", *bytes_], show_progress=False),
    )
    content = json.loads(words.to_str())
    content["added_tokens"] = content["added_tokens"][:1]  # the bytes are in the model's vocabulary
    (folder / "fallback.json").write_text(json.dumps(content))
    return folder


def kind_of(spec: str) -> type[tokenizers.Tokenizer]:
    """Return the class of a spec's kind."""
    return tokenizers.parse_spec(spec).kind


@cache
def made(spec: str) -> tokenizers.Tokenizer:
    """The tokenizer, for `SAMPLE`; for a vocabulary that needs the network, its own pattern over GPT-2's vocabulary."""
    if spec in HF_SPECS:
        return tokenizers.create(f"hf:{_files()}/{spec.removeprefix('hf:')}.json")
    if tokenizers.available_offline(spec):
        return tokenizers.create(spec, [SAMPLE])
    module = import_module(f"nanogpt.tokenizers.{spec}")
    vocabulary = [made("gpt2").token_bytes(id) for id in range(50256)]
    tokenizer: tokenizers.Tokenizer = module.Tokenizer(module.GPT4, vocabulary, module.SPECIAL_TOKENS)
    return tokenizer
