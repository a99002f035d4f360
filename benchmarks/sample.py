"""Sampling speed beside nanoGPT's `generate` and transformers: all take turns in one process, on weights of one shape.

    python benchmarks/sample.py --nanogpt=PATH [--presets macbook baby gpt2] [--tokens 500] [--rounds 2] [--rows 32]
    python benchmarks/sample.py --beside_gpt2 [--presets speedrun shakespeare] [--tokens 60] [--rounds 40] [--training]

PATH is a checkout of https://github.com/karpathy/nanoGPT. The first command prints for each preset, for one sample with
the cache, the tokens/s of the best round of each side, ours as a `for` over the events sees them (probabilities and
alternatives included), in the number format that "auto" takes and in float32, and how often theirs both are; how much
more ROWS samples at once bring; and for the longest prompt that leaves a place for its answer how long the first token
takes, in forward passes over that prompt as the model itself makes them, in float32.

The second command compares one sample of each preset's or architecture's model, in float32, with one of a GPT-2 with as
many layers (those of all members), the same width, heads, vocabulary and window, and with its own `forward` in place of
its decoding backend: the tokens for each second of one core, which other processes change less than tokens/s, and the
median ratios over rounds in which they take turns. With --training it is the live weights of a training of the preset
that write, copied anew in each round, and the training goes on beside all three.
"""

import argparse
import importlib.util
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from nanogpt import tokenizers
from nanogpt.config import ARCHITECTURE, ArchitectureConfig, Config, SamplingConfig, architecture_from, names, resolve
from nanogpt.events import Token
from nanogpt.hardware import share_cores
from nanogpt.models.base import LanguageModel
from nanogpt.sampling import generate, resolve_sampling_dtype
from nanogpt.training import CommandQueue, Copy, Stop, train

CHARACTERS = "".join(map(chr, range(32, 97)))  # 65, as tiny Shakespeare has


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sides = parser.add_mutually_exclusive_group(required=True)
    sides.add_argument("--nanogpt", type=Path)
    sides.add_argument("--beside_gpt2", action="store_true")
    parser.add_argument("--training", action="store_true", help="beside GPT-2: the weights of a training that goes on")
    parser.add_argument("--presets", nargs="+")
    parser.add_argument("--tokens", type=int, help="of each sample; transformers ends with the window")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--rows", type=int, default=32)
    options = parser.parse_args()
    share_cores()
    if options.beside_gpt2:
        for name in options.presets or ("speedrun", "shakespeare", *names(ARCHITECTURE)):
            compare_with_gpt2(name, options.tokens or 60, options.rounds or 40, options.training)
        return
    options.tokens, options.rounds = options.tokens or 500, options.rounds or 2
    reference = imported(options.nanogpt / "model.py")
    for preset in options.presets or ("macbook", "baby", "gpt2"):
        compare(preset, reference, options)


def compare_with_gpt2(name: str, tokens: int, rounds: int, is_training: bool) -> None:
    """Compare a preset's or an architecture's model with a GPT-2 with the same matrices, and with its own `forward`."""
    tokenizer = tokenizers.create("char", [CHARACTERS])
    is_architecture = name in names(ARCHITECTURE)
    flags = {"vocab_size": tokenizer.vocab_size, "device": "cpu", "max_iters": 10**6, "eval_interval": 10**6}
    config = resolve(
        preset=None if is_architecture else name, flags=flags | ({"architecture": name} if is_architecture else {})
    ).config
    shape = config.model
    if not shape.capabilities.decoding_backend:
        return
    shared = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
    same = {each: getattr(shape, each) for each in shared if hasattr(shape, each)}
    if "n_layer" in same:
        same["n_layer"] *= getattr(shape, "members", 1)  # of an ensemble: the matrices of all its networks
    plain, gpt2 = shape.build().eval(), architecture_from(same).build().eval()
    plain.decoding_backend = lambda *_: None  # type: ignore[method-assign]
    torch.set_num_threads(1)
    knobs = SamplingConfig(max_new_tokens=tokens)

    def sampled(model: LanguageModel) -> tuple[float, list[int]]:
        began = time.thread_time()
        events = list(generate(model, tokenizer, "A", knobs, dtype="float32"))
        return time.thread_time() - began, [event.id for event in events if isinstance(event, Token)]

    turns, different = [], 0
    with weights_in_training(config) if is_training else nullcontext(shape.build().eval) as next_weights:
        for _ in range(rounds + 1):
            model = next_weights()
            plain.load_state_dict(model.state_dict())
            (ours, text), (theirs, _), (readable, same_text) = (sampled(each) for each in (model, gpt2, plain))
            turns.append((ours, theirs, readable))
            different += text != same_text
    del turns[0]
    ours, theirs, readable = (median(each) for each in zip(*turns, strict=True))
    print(
        f"{name}: {tokens / ours:,.0f} tokens/s; {median(b / a for a, b, _ in turns):.2f} times GPT-2's "
        f"{tokens / theirs:,.0f}; {median(c / a for a, _, c in turns):.2f} times its forward's "
        f"{tokens / readable:,.0f}; {different} of {rounds + 1} texts differ from that of its forward",
        flush=True,
    )


@contextmanager
def weights_in_training(config: Config) -> Iterator[Callable[[], LanguageModel]]:
    """Train on random characters in a thread of its own; the function that is yielded returns a copy of the weights."""
    ids = np.random.default_rng(0).integers(config.model.vocab_size, size=100_000).astype(np.uint16)
    commands = CommandQueue()
    copies: queue.SimpleQueue[LanguageModel | None] = queue.SimpleQueue()

    def work() -> None:
        for _ in train(config, {"train": ids, "val": ids}, commands=commands):
            pass

    def copied() -> LanguageModel:
        commands.put(Copy(lambda model, _: copies.put(model)))
        model = copies.get(timeout=120)
        if model is None:
            sys.exit("out of memory")
        return model

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield copied
    finally:
        commands.put(Stop())
        thread.join()


def compare(preset: str, reference: Any, options: argparse.Namespace) -> None:
    tokenizer = tokenizers.create("gpt2") if preset.startswith("gpt2") else tokenizers.create("char", [CHARACTERS])
    config = resolve(preset=preset, flags={"vocab_size": tokenizer.vocab_size, "dropout": 0}).config.model
    torch.manual_seed(0)
    model = config.build().eval()
    knobs = SamplingConfig()
    theirs = nanogpt_model(reference, config, model)
    start = torch.zeros(1, 1, dtype=torch.long)

    def ours(dtype: str, rows: int = 1) -> Callable[[int], Any]:
        return lambda count: list(
            generate(model, tokenizer, "A", SamplingConfig(max_new_tokens=count), num_samples=rows, dtype=dtype)
        )

    chosen, why = resolve_sampling_dtype("auto", model)
    formats = dict.fromkeys((chosen, "float32"))
    contenders: dict[str, Callable[[int], Any]] = {
        **{f"ours, {dtype}": ours(dtype) for dtype in formats},
        "nanoGPT, float32": lambda count: theirs.generate(
            start, count, temperature=knobs.temperature, top_k=knobs.top_k
        ),
        "transformers, float32": huggingface(config, torch.float32, knobs),
        "transformers, bfloat16": huggingface(config, torch.bfloat16, knobs),
        **{f"ours, {dtype}, {options.rows} at once": ours(dtype, options.rows) for dtype in formats},
    }
    best = dict.fromkeys(contenders, 0.0)
    longest = config.block_size - 1  # transformers ends there
    for _ in range(options.rounds):
        for name, work in contenders.items():
            rows = options.rows if name.endswith("at once") else 1
            count = min(longest, options.tokens) if name.startswith("transformers") else options.tokens
            began = time.perf_counter()
            work(count)
            best[name] = max(best[name], rows * count / (time.perf_counter() - began))
    print(f"{preset}, tokens/s (auto is {chosen}: {why}):")
    for name, rate in best.items():
        one = name.removesuffix(f", {options.rows} at once")
        if one != name:
            ratio = f"{rate / best[one]:.1f} of one"
        else:
            ratio = ", ".join(f"{best[f'ours, {dtype}'] / rate:.2f}× in {dtype}" for dtype in formats)
        print(f"    {name:<28}{rate:>10,.1f}    {'' if name.startswith('ours') and one == name else ratio}")
    for dtype in formats:
        passes = first_token(model, tokenizer, longest, dtype)
        print(f"    first token of {longest:,} in {dtype}: {passes:.2f} forward passes", flush=True)


@torch.inference_mode()
def first_token(model: Any, tokenizer: Any, length: int, dtype: str) -> float:
    """The time to the first event, in forward passes over the same prompt; the best of five of each."""
    prompt = "A" * length if tokenizer.name == "char" else " the" * length
    ids = torch.tensor([tokenizer.encode(prompt)])
    ours, passes = [], []
    for _ in range(5):
        began = time.perf_counter()
        next(generate(model, tokenizer, prompt, SamplingConfig(), dtype=dtype))
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        model(ids)
        passes.append(time.perf_counter() - began)
    return min(ours) / min(passes)


def huggingface(config: ArchitectureConfig, dtype: torch.dtype, knobs: SamplingConfig) -> Callable[[int], Any]:
    """transformers' GPT-2 of the same shape, with its cache."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape: dict[str, Any] = {name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd", "vocab_size")}
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
    theirs: Any = GPT2LMHeadModel(GPT2Config(n_positions=config.block_size, **shape, **ends))
    theirs = theirs.to(dtype).eval()
    start = torch.zeros(1, 1, dtype=torch.long)
    top_k = min(knobs.top_k, config.vocab_size)
    return lambda count: theirs.generate(
        start, max_new_tokens=count, do_sample=True, top_k=top_k, temperature=knobs.temperature, use_cache=True
    )


def imported(path: Path) -> Any:
    """A Python file as a module, wherever it lies."""
    spec = importlib.util.spec_from_file_location("nanogpt_reference_model", path)
    if spec is None or spec.loader is None or not path.is_file():
        sys.exit(f"no {path}: --nanogpt takes a checkout of nanoGPT")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def nanogpt_model(reference: Any, config: ArchitectureConfig, model: Any) -> Any:
    """nanoGPT's model with the same weights."""
    shape = {
        name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size")
    }
    theirs = reference.GPT(reference.GPTConfig(**shape, dropout=0.0)).eval()
    theirs.load_state_dict({f"transformer.{name}": tensor for name, tensor in model.state_dict().items()}, strict=False)
    return theirs


if __name__ == "__main__":
    main()
