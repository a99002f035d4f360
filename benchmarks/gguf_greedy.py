"""Greedy text of exported models in llama.cpp, against the text here.

    pip install llama-cpp-python            builds llama.cpp, half an hour on two cores
    python benchmarks/gguf_greedy.py [TOKENIZER …]
    python benchmarks/gguf_greedy.py --text FILE [--steps 150] [--models gpt2 …] [TOKENIZER …]

A GPT-2 and two Llamas with grouped heads are exported with `--to=gguf`, with characters, GPT-2's tokens, and trained
byte pairs. llama.cpp has to cut the prompt into the same tokens and to choose, in float32, the same 200 tokens after
it. In the other formats rounding changes the logits, so any number of tokens is right.

llama.cpp takes GELU from a table in 16 bits. That changes a text where the logits of two tokens are nearly equal. So
the text is compared with ours with that GELU too, and one of the two has to be identical.

With --text the models are trained on FILE first, for some seconds. Without it the weights are random and far from their
initial values, so that an error anywhere changes the text.

Seen with llama-cpp-python 0.3.36 in float32, with tiny Shakespeare: 200 tokens identical after 150 steps for char,
bpe:400 and gpt2 on GPT-2's shape, and after 500 steps for char and bpe:400 on Llama's and for char on GPT-2's. With
bpe:400 on GPT-2's shape after 500 steps the 70th was another, whose logit is 0.0001 standard deviations lower, and with
random weights and characters the 183rd; with llama.cpp's GELU all 200 are identical in both.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

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
            own, with_table = greedy(model, tokenizer, prompt), greedy_with_table(model, tokenizer, prompt)
            for number_format in FORMATS:
                same, gap, is_cut_alike = compare(model, tokenizer, prompt, own, number_format)
                is_exact = same == len(own)
                alike = "identical" if is_exact else f"{same} identical, the next is {gap:.4f} less likely"
                figures = f"{origin}{len(own)} tokens, {len(set(own))} different: {alike}"
                if number_format == "float32" and not is_exact:
                    same, _, _ = compare(model, tokenizer, prompt, with_table, number_format)
                    is_exact = same == len(with_table)
                    figures += f"; with llama.cpp's GELU {'all' if is_exact else same} identical"
                failed |= not is_cut_alike or (number_format == "float32" and not is_exact)
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


class TableGelu(TorchFunctionMode):
    """Inside this context `F.gelu` is that of llama.cpp on CPUs: a table from 16 bits to 16 bits within ±10."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.gelu:
            return func(*args, **(kwargs or {}))
        x = args[0]
        y = func(x.half().float(), **(kwargs or {})).half().float()
        return torch.where(x <= -10, 0.0, torch.where(x >= 10, x, y))


@torch.inference_mode()
def greedy_with_table(model: LanguageModel, tokenizer: Tokenizer, prompt: str) -> list[int]:
    ids = tokenizer.encode(prompt)
    start = len(ids)
    with TableGelu():
        for _ in range(TOKENS):
            ids.append(int(model.logits(torch.tensor([ids[-BLOCK_SIZE:]]))[0, -1].argmax()))
            if ids[-1] == tokenizer.end_of_text:
                break
    return ids[start:]


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
