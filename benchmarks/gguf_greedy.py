"""Greedy text of exported models in llama.cpp, against the text here.

    pip install llama-cpp-python            builds llama.cpp, half an hour on two cores
    python benchmarks/gguf_greedy.py [TOKENIZER …]
    python benchmarks/gguf_greedy.py --text FILE [--steps 150] [--models gpt2 …] [TOKENIZER …]

A GPT-2 and two Llamas with grouped heads are exported with `--to=gguf`, with characters, GPT-2's tokens, and trained
byte pairs. llama.cpp has to cut the prompt into the same tokens and to choose, in float32, the same 200 tokens after
it. In the other formats rounding changes the logits, so any number of tokens is right.

With --text the models are trained on FILE first, for some seconds, and the text has to be identical.

Without it the weights are random and far from their initial values, so that an error anywhere changes the text. The
logits of two tokens may then be nearly equal, and llama.cpp takes GELU from a table in 16 bits: the first other token
may be one that is less likely here by under 1 % of the logits' standard deviation.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import llama_cpp
import torch
from torch import Tensor

from nanogpt import tokenizers
from nanogpt.config import SamplingConfig, architecture_from
from nanogpt.events import Token
from nanogpt.interop.gguf_file import FORMATS, write_gguf
from nanogpt.models.base import LanguageModel, compute_loss
from nanogpt.sampling import generate
from nanogpt.tokenizers import Tokenizer

ROTARY: dict[str, Any] = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "n_kv_head": 2}
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": ROTARY,
    "llama, biases, untied": ROTARY | {"bias": True, "tied_head": False},
}
TOKENS, BLOCK_SIZE = 200, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizers", nargs="*", metavar="TOKENIZER")
    parser.add_argument("--text", type=Path, help="a text to train the models on")
    parser.add_argument("--steps", type=int, default=150, help="of training (default: 150)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    words = ["naïve", "the", "light", "of", "日本", "day", "and", "1234", "isn't", "—", "\n"]
    text = options.text.read_text() if options.text else " ".join(random.Random(1).choices(words, k=2000))
    failed = False
    for spec in options.tokenizers or ("char", "gpt2", "bpe:400", "bpe:400,pattern=gpt4", "byte"):
        tokenizer = tokenizers.create(spec, [text])
        ids = torch.tensor(tokenizer.encode(text)) if options.text else None
        for name, settings in ((name, MODELS[name]) for name in options.models):
            if ids is None:
                model, origin = random_model(tokenizer.vocab_size, settings), ""
            else:
                model, loss = trained_model(tokenizer.vocab_size, settings, ids, options.steps)
                origin = f"loss {loss:.2f}, "
            prompt = text[:40]
            own = greedy(model, tokenizer, prompt)
            for number_format in FORMATS:
                same, gap, is_cut_alike = compare(model, tokenizer, prompt, own, number_format)
                is_exact = same == len(own) or (options.text is None and gap < 0.01)
                failed |= not is_cut_alike or (number_format == "float32" and not is_exact)
                alike = "identical" if same == len(own) else f"{same} identical, the next is {gap:.4f} less likely"
                figures = f"{origin}{len(own)} tokens, {len(set(own))} different: {alike}"
                figures += "" if is_cut_alike else "; the prompt has other tokens there"
                print(f"{spec:20} {name:22} {number_format:8} {figures}", flush=True)
    sys.exit(failed)


def new_model(vocab_size: int, settings: dict[str, Any]) -> LanguageModel:
    torch.manual_seed(12)
    shape = {"n_layer": 3, "n_head": 4, "n_embd": 64, "block_size": BLOCK_SIZE, "vocab_size": vocab_size}
    return architecture_from({"architecture": "gpt2"} | shape | settings).build()


def random_model(vocab_size: int, settings: dict[str, Any]) -> LanguageModel:
    model = new_model(vocab_size, settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6) if parameter.dim() == 2 else parameter.add_(torch.randn_like(parameter) / 10)
        model.get_parameter("wte.weight").mul_(0.3)  # otherwise a tied head repeats the last token
    return model


def trained_model(vocab_size: int, settings: dict[str, Any], ids: Tensor, steps: int) -> tuple[LanguageModel, float]:
    """Return a model that was trained on a text's tokens (n,), and the loss of the last step."""
    model, loss = new_model(vocab_size, settings).train(), 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        starts = torch.randint(len(ids) - BLOCK_SIZE, (4,))
        windows = torch.stack([ids[start : start + BLOCK_SIZE + 1] for start in starts])  # (4, T + 1)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / steps)
        mean = compute_loss(model, windows[:, :-1], windows[:, 1:])
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        loss = mean.item()
    return model.eval(), loss


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
            n_ctx=BLOCK_SIZE,
            n_batch=BLOCK_SIZE,
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
            logits = model.logits(torch.tensor([(tokenizer.encode(prompt) + own[:at])[-BLOCK_SIZE:]]))[0, -1]  # (V)
        gap = float((logits[own[at]] - logits[written[at]]) / logits.std())
    return at, gap, ids == tokenizer.encode(prompt)


if __name__ == "__main__":
    main()
