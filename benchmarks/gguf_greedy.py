"""Greedy text of exported models in llama.cpp, against the text here.

    pip install llama-cpp-python            builds llama.cpp, half an hour on two cores
    python benchmarks/gguf_greedy.py [TOKENIZER …]

Random weights far from their initial values are exported with `--to=gguf`: a GPT-2 and a Llama with grouped heads, with
characters, GPT-2's tokens, and trained byte pairs. llama.cpp has to cut the prompt into the same tokens and to choose,
in float32, the same 200 tokens after it, or one that is less likely here by under 1 % of the logits' spread: llama.cpp
takes GELU from a table in 16 bits. In the other formats rounding changes the logits, so any number of tokens is right.
"""

import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import llama_cpp
import torch

from nanogpt import tokenizers
from nanogpt.config import SamplingConfig, architecture_from
from nanogpt.events import Token
from nanogpt.interop.gguf_file import FORMATS, write_gguf
from nanogpt.models.base import LanguageModel
from nanogpt.sampling import generate
from nanogpt.tokenizers import Tokenizer

ROTARY: dict[str, Any] = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "n_kv_head": 2}
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": ROTARY,
    "llama, biases, untied": ROTARY | {"bias": True, "tied_head": False},
}
TOKENS = 200


def main() -> None:
    words = ["naïve", "the", "light", "of", "日本", "day", "and", "1234", "isn't", "—", "\n"]
    text = " ".join(random.Random(1).choices(words, k=2000))
    failed = False
    for spec in sys.argv[1:] or ("char", "gpt2", "bpe:400", "bpe:400,pattern=gpt4", "byte"):
        tokenizer = tokenizers.create(spec, [text])
        for name, settings in MODELS.items():
            model = random_model(tokenizer.vocab_size, settings)
            prompt = text[:40]
            own = greedy(model, tokenizer, prompt)
            for number_format in FORMATS:
                same, gap, is_cut_alike = compare(model, tokenizer, prompt, own, number_format)
                failed |= not is_cut_alike or (number_format == "float32" and gap > 0.01)
                figures = f"{same:3} of {TOKENS} tokens, gap {gap:.4f}, prompt alike: {is_cut_alike}"
                print(f"{spec:20} {name:22} {number_format:8} {figures}", flush=True)
    sys.exit(failed)


def random_model(vocab_size: int, settings: dict[str, Any]) -> LanguageModel:
    torch.manual_seed(12)
    shape = {"n_layer": 3, "n_head": 4, "n_embd": 64, "block_size": 256, "vocab_size": vocab_size}
    model = architecture_from({"architecture": "gpt2"} | shape | settings).build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6) if parameter.dim() == 2 else parameter.add_(torch.randn_like(parameter) / 10)
        model.get_parameter("wte.weight").mul_(0.3)  # otherwise a tied head repeats the last token
    return model


def greedy(model: LanguageModel, tokenizer: Tokenizer, prompt: str) -> list[int]:
    events = generate(model, tokenizer, prompt, SamplingConfig(temperature=0, max_new_tokens=TOKENS))
    return [event.id for event in events if isinstance(event, Token)]


def compare(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str, own: list[int], number_format: str
) -> tuple[int, float, bool]:
    """Return how many tokens are the same from the first on, how far below ours the logit of their next one is, in
    standard deviations, and whether the prompt's tokens are the same."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.gguf"
        write_gguf(model, tokenizer, path, number_format)
        theirs = llama_cpp.Llama(
            str(path),
            n_ctx=256,
            n_batch=256,
            n_threads=1,
            verbose=False,
            type_k=0,
            type_v=0,  # 0: float32
        )
        ids = theirs.tokenize(prompt.encode(), add_bos=False, special=False)
        written = []
        for id in theirs.generate(tokenizer.encode(prompt), temp=0.0, top_k=1, repeat_penalty=1.0):
            written.append(int(id))
            if len(written) == len(own):  # fewer than `TOKENS` if the text ended
                break
    at = next((at for at, (a, b) in enumerate(zip(own, written, strict=True)) if a != b), TOKENS)
    gap = 0.0
    if at < TOKENS:
        with torch.inference_mode():
            logits = model.logits(torch.tensor([(tokenizer.encode(prompt) + own[:at])[-256:]]))[0, -1]  # (V)
        gap = float((logits[own[at]] - logits[written[at]]) / logits.std())
    return at, gap, ids == tokenizer.encode(prompt)


if __name__ == "__main__":
    main()
