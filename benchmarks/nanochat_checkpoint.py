"""Our logits against those of nanochat's own code, for a random model of the shape of its d4.

    python benchmarks/nanochat_checkpoint.py NANOCHAT_REPOSITORY [COMMIT]

The repository is a clone; the commit, by default the last one whose models can be imported, is read from it. Its
`gpt.py` saves a model, which is imported. nanochat computes with cosines and sines in bfloat16; the difference is shown
with these, and with the same angles in float32, where it has to be below 1e-4.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from nanogpt.interop.nanochat_checkpoint import read_nanochat

LAST_EXPRESSED = "2c4473dd1b"  # of 2026-01-11, before the parts that no architecture here has
FILES = ("common", "muon", "adamw", "gpt")
SHAPE = {"sequence_len": 256, "vocab_size": 1000, "n_layer": 4, "n_head": 4, "n_kv_head": 2, "n_embd": 256}


def nanochat_gpt(repository: Path, commit: str, folder: Path) -> ModuleType:
    """Import nanochat's `gpt.py` of a commit."""
    package = folder / "nanochat"
    package.mkdir()
    for name in FILES:
        source = subprocess.run(
            ["git", "-C", str(repository), "show", f"{commit}:nanochat/{name}.py"], capture_output=True, check=True
        )
        # it refuses other angles than those in bfloat16
        text = source.stdout.replace(b"assert self.cos.dtype == torch.bfloat16", b"assert True")
        (package / f"{name}.py").write_bytes(text)
    sys.path.insert(0, str(folder))
    from nanochat import gpt  # type: ignore[import-not-found]

    module: ModuleType = gpt
    return module


def difference(ours: Any, theirs: Any, ids: torch.Tensor) -> float:
    with torch.inference_mode():
        return float((ours.logits(ids) - theirs(ids)).abs().max())


def main() -> None:
    repository, commit = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else LAST_EXPRESSED
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gpt = nanochat_gpt(repository, commit, folder)
        torch.manual_seed(1)
        theirs = gpt.GPT(gpt.GPTConfig(**SHAPE))
        theirs.init_weights()
        with torch.no_grad():
            for parameter in theirs.parameters():  # some start at zero
                parameter.copy_(torch.randn_like(parameter, dtype=torch.float32) * 0.1)
            theirs.lm_head.weight.mul_(5)
        theirs = theirs.float()
        torch.save(theirs.state_dict(), folder / "model_000001.pt")
        (folder / "meta_000001.json").write_text(json.dumps({"model_config": SHAPE}), encoding="utf-8")
        read = read_nanochat(folder / "model_000001.pt")
        ours = read.config.build()
        ours.load_state_dict(read.tensors)
        ids = torch.randint(SHAPE["vocab_size"], (2, SHAPE["sequence_len"]))
        theirs.cos, theirs.sin = theirs.cos.bfloat16(), theirs.sin.bfloat16()
        print(f"largest logit {float(theirs(ids).abs().max()):.2f}")
        print(f"with nanochat's angles in bfloat16: {difference(ours, theirs, ids):.2e}")
        half = SHAPE["n_embd"] // SHAPE["n_head"] // 2
        angles = torch.outer(torch.arange(SHAPE["sequence_len"]).float(), 10_000.0 ** (-torch.arange(half) / half))
        theirs.cos, theirs.sin = angles.cos()[None, :, None], angles.sin()[None, :, None]
        found = difference(ours, theirs, ids)
        print(f"with float32 angles: {found:.2e}")
        sys.exit(found > 1e-4)


if __name__ == "__main__":
    main()
