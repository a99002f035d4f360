"""Sampling speed, batch 1, beside nanoGPT's `generate`: the two take turns in one process on the same weights.

    python benchmarks/sample.py --nanogpt=PATH [--presets macbook baby] [--tokens 500] [--rounds 3]

PATH is a checkout of https://github.com/karpathy/nanoGPT. Prints for each preset the tokens/s of the best round, as a
`for` over the events sees them (probabilities and alternatives included), and how often nanoGPT's they are.
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import torch

from nanogpt import models, tokenizers
from nanogpt.config import ModelConfig, SamplingConfig, resolve
from nanogpt.sampling import generate

CHARACTERS = "".join(map(chr, range(32, 97)))  # 65, as tiny Shakespeare has


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True)
    parser.add_argument("--presets", nargs="+", default=["macbook", "baby"])
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    reference = imported(options.nanogpt / "model.py")
    tokenizer = tokenizers.create("char", [CHARACTERS])
    knobs = SamplingConfig(max_new_tokens=options.tokens)
    print(f"{'preset':<12}{'nanoGPT':>12}{'cache':>12}{'no cache':>12}{'ratio':>8}   tokens/s, batch 1")
    for preset in options.presets:
        config = resolve(preset=preset, flags={"vocab_size": tokenizer.vocab_size, "dropout": 0}).config.model
        torch.manual_seed(0)
        model = models.create(config).eval()
        theirs = nanogpt_model(reference, config, model)
        contenders = {
            "nanogpt": lambda theirs=theirs: theirs.generate(
                torch.zeros(1, 1, dtype=torch.long), options.tokens, temperature=knobs.temperature, top_k=knobs.top_k
            ),
            "cache": lambda model=model: list(generate(model, tokenizer, "A", knobs)),
            "no cache": lambda model=model: list(generate(model, tokenizer, "A", knobs, use_cache=False)),
        }
        best = dict.fromkeys(contenders, 0.0)
        for _ in range(options.rounds):
            for name, work in contenders.items():
                began = time.perf_counter()
                work()
                best[name] = max(best[name], options.tokens / (time.perf_counter() - began))
        figures = "".join(f"{best[name]:>12,.0f}" for name in contenders)
        print(f"{preset:<12}{figures}{best['cache'] / best['nanogpt']:>7.1f}×", flush=True)


def imported(path: Path) -> Any:
    """A Python file as a module, wherever it lies."""
    spec = importlib.util.spec_from_file_location("nanogpt_reference_model", path)
    if spec is None or spec.loader is None or not path.is_file():
        sys.exit(f"no {path}: --nanogpt takes a checkout of nanoGPT")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def nanogpt_model(reference: Any, config: ModelConfig, model: Any) -> Any:
    """nanoGPT's model with the same weights."""
    shape = {
        name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size")
    }
    theirs = reference.GPT(reference.GPTConfig(**shape, dropout=0.0)).eval()
    theirs.load_state_dict({f"transformer.{name}": tensor for name, tensor in model.state_dict().items()}, strict=False)
    return theirs


if __name__ == "__main__":
    main()
