"""nanochat's models become runs with the same logits; what a pickle could do besides is not done."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import torch
from torch import Tensor
from torch.nn import functional as F

from nanogpt import runs
from nanogpt.cli import main
from nanogpt.errors import UserError
from nanogpt.interop.nanochat_checkpoint import find_model, read_nanochat, read_nanochat_tokenizer
from nanogpt.runs.importing import import_nanochat

L, NH, NKV, C, T = 2, 4, 2, 32, 24
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
    r"|\s+(?!\S)|\s+"
)
SPECIAL = ["<|bos|>", "<|user_start|>"]
RANKS = {bytes([b]): b for b in range(256)} | {b"th": 256, b" the": 257, b"12": 258}
V = len(RANKS) + len(SPECIAL)
PADDED = 320  # a multiple of 64


class Dangerous:
    """Whoever unpickles this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def reference_logits(weights: dict[str, Tensor], ids: Tensor) -> Tensor:
    """nanochat's model of 2025 in its own words, from its description: logits (B, T, V) for ids (B, T)."""

    def norm(x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).rsqrt()

    def rotated(x: Tensor) -> Tensor:  # (B, T, heads, hs), by the negative angle
        half = x.size(-1) // 2
        angle = torch.arange(x.size(1))[:, None, None] * 10_000.0 ** (-torch.arange(half) / half)
        pairs = torch.complex(x[..., :half], x[..., half:]) * torch.exp(-1j * angle)
        return torch.cat((pairs.real, pairs.imag), -1)

    x = norm(weights["transformer.wte.weight"][ids])
    causal = torch.ones(ids.size(1), ids.size(1)).tril().bool()
    for layer in range(L):
        matrix = {name: weights[f"transformer.h.{layer}.{name}.weight"].T for name in BLOCK}
        y = norm(x)
        q = norm(rotated((y @ matrix["attn.c_q"]).view(*ids.shape, NH, -1)))
        k = norm(rotated((y @ matrix["attn.c_k"]).view(*ids.shape, NKV, -1)))
        v = (y @ matrix["attn.c_v"]).view(*ids.shape, NKV, -1)
        k, v = (each.repeat_interleave(NH // NKV, 2) for each in (k, v))
        scores = torch.einsum("bqhc,bkhc->bhqk", q, k) / (C // NH) ** 0.5
        mixed = torch.einsum("bhqk,bkhc->bqhc", scores.masked_fill(~causal, -torch.inf).softmax(-1), v)
        x = x + mixed.flatten(2) @ matrix["attn.c_proj"]
        x = x + F.relu(norm(x) @ matrix["mlp.c_fc"]).square() @ matrix["mlp.c_proj"]
    return 15 * torch.tanh(norm(x) @ weights["lm_head.weight"][:V].T / 15)


KV = C * NKV // NH
BLOCK = {
    "attn.c_q": (C, C),
    "attn.c_k": (KV, C),
    "attn.c_v": (KV, C),
    "attn.c_proj": (C, C),
    "mlp.c_fc": (4 * C, C),
    "mlp.c_proj": (C, 4 * C),
}


@pytest.fixture
def nanochat(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """nanochat's folder with a model of a compiled training, and the weights of its last step."""
    torch.manual_seed(1)
    shapes = {f"transformer.h.{layer}.{name}.weight": shape for layer in range(L) for name, shape in BLOCK.items()}
    shapes |= {"transformer.wte.weight": (PADDED, C), "lm_head.weight": (PADDED, C)}
    weights = {name: 0.3 * torch.randn(*shape) for name, shape in shapes.items()}
    weights["transformer.wte.weight"] = weights["transformer.wte.weight"].bfloat16()
    weights["lm_head.weight"] *= 20  # logits near the cap
    folder = tmp_path / "nanochat" / "base_checkpoints" / "d2"
    folder.mkdir(parents=True)
    write(folder, weights)
    (folder / "model_000005.pt").write_bytes(b"an earlier step")
    (folder / "optim_001000_rank0.pt").write_bytes(b"no model")
    encoding = tiktoken.Encoding(
        "rustbpe", pat_str=PATTERN, mergeable_ranks=RANKS, special_tokens={t: V - 2 + i for i, t in enumerate(SPECIAL)}
    )
    tokenizer = tmp_path / "nanochat" / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.pkl").write_bytes(pickle.dumps(encoding))
    return folder, {name: tensor.float() for name, tensor in weights.items()}


def write(folder: Path, weights: dict[str, Any], **shape: Any) -> Path:
    config = {"sequence_len": T, "vocab_size": V, "n_layer": L, "n_head": NH, "n_kv_head": NKV, "n_embd": C} | shape
    file = folder / "model_000650.pt"
    torch.save({f"_orig_mod.{name}": tensor for name, tensor in weights.items()}, file)
    (folder / "meta_000650.json").write_text(json.dumps({"step": 650, "model_config": config}), encoding="utf-8")
    return file


def test_a_model_of_nanochat_has_the_same_logits_and_tokens(nanochat, tmp_path, capsys):
    folder, weights = nanochat
    assert main(["import", "nanochat", str(folder), "--name=chat"]) == 0
    assert "block_size=24; next: nanogpt sample chat" in capsys.readouterr().err
    run = runs.load_model("chat")
    model, tokenizer = run.model.eval(), run.tokenizer
    torch.manual_seed(2)
    ids = torch.randint(V, (2, T))
    with torch.inference_mode():
        ours, theirs = model.logits(ids), reference_logits(weights, ids)
        assert theirs.abs().max() > 10, "the cap of 15 does not count"
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
        cache = model.new_cache(2)
        model(ids[:, :-1], cache=cache)
        torch.testing.assert_close(model(ids[:, -1:], cache=cache)[0], theirs[:, -1:], atol=1e-4, rtol=0)
        wrong = reference_logits(weights | {"lm_head.weight": -weights["lm_head.weight"]}, ids)
        assert (ours - wrong).abs().max() > 1
    text = "12345 the <|bos|> theory's naïve"
    encoding = pickle.loads((tmp_path / "nanochat" / "tokenizer" / "tokenizer.pkl").read_bytes())
    assert tokenizer.encode(text) == encoding.encode_ordinary(text)
    assert tokenizer.end_of_text == V - 2  # <|bos|> comes before each document
    assert main(["sample", "chat", "--max_new_tokens=5", "--seed=1"]) == 0
    capsys.readouterr()
    assert main(["info", "chat"]) == 0
    assert "650" in capsys.readouterr().out


def test_one_file_is_read_too_and_a_folder_gives_its_latest(nanochat, tmp_path):
    folder, _ = nanochat
    assert find_model(folder) == find_model(folder / "model_000650.pt") == folder / "model_000650.pt"
    moved = (tmp_path / "nanochat" / "tokenizer").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="give nanochat's with --tokenizer=PATH"):
        import_nanochat(folder, tmp_path / "run")
    for given in (moved, moved / "tokenizer.pkl"):
        import_nanochat(folder / "model_000650.pt", tmp_path / f"run-{given.name}", tokenizer=given)


ONES = torch.ones(L)


@pytest.mark.parametrize(
    ("more", "shape", "said"),
    [
        ({"resid_lambdas": ONES, "x0_lambdas": ONES}, {}, "the first embedding in each block, weights of the residual"),
        ({"value_embeds.1.weight": ONES}, {}, "value embeddings. nanochat's models have them since 2026-01-11"),
        ({"transformer.h.1.attn.ve_gate.weight": ONES}, {}, "value embeddings"),
        (
            {"smear_gate.weight": ONES, "smear_lambda": ONES, "backout_lambda": ONES},
            {},
            "a mix with the position before",
        ),
        ({"other.weight": ONES}, {}, "other.weight is no part of a model of nanochat"),
        ({}, {"window_pattern": "SSSL"}, "window_pattern=SSSL: only L"),
        ({}, {"n_layer": L + 1}, "transformer.h.2.attn.c_q.weight is missing"),
        ({}, {"n_layer": 10**9}, "n_layer"),
        ({}, {"n_head": 0}, "n_head"),
        ({}, {"n_head": 5, "n_kv_head": 5}, "n_head"),
        ({}, {"n_kv_head": 1}, "c_k.weight has 16 rows, and meta_000650.json means 8"),
        ({}, {"vocab_size": PADDED + 1}, "transformer.wte.weight has 320 rows"),
        ({}, {"vocab_size": "many"}, "no whole number"),
        ({"lm_head.weight": torch.zeros(1, 1).expand(PADDED, C)}, {}, "lm_head.weight is missing, or is no matrix"),
        ({"lm_head.weight": torch.zeros(PADDED, C, device="meta")}, {}, "lm_head.weight is missing, or is no matrix"),
        ({"lm_head.weight": 5}, {}, "lm_head.weight is missing, or is no matrix"),
    ],
)
def test_what_cannot_be_expressed_is_refused_with_the_reason(nanochat, tmp_path, more, shape, said):
    folder, weights = nanochat
    file = write(folder, weights | more, **shape)
    with pytest.raises(UserError, match=said) as caught:
        read_nanochat(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_tokenizer_that_would_create_a_file_creates_none(tmp_path, protocol):
    proof, path = tmp_path / "proof", tmp_path / "tokenizer.pkl"
    path.write_bytes(pickle.dumps({"mergeable_ranks": Dangerous(proof)}, protocol=protocol))
    with pytest.raises(UserError, match="could run code"):
        read_nanochat_tokenizer(path)
    assert not proof.exists()


CHANGES: list[Callable[[dict[str, Any]], object]] = [
    lambda state: state.pop("mergeable_ranks"),
    lambda state: state["mergeable_ranks"].update({b"zz": 400}),
    lambda state: state["mergeable_ranks"].update({b"zz": "259"}),
    lambda state: state["mergeable_ranks"].update({"zz": 259}),
    lambda state: state.update(pat_str="("),
    lambda state: state.update(pat_str=5),
    lambda state: state.update(special_tokens={"<|bos|>": -1}),
    lambda state: state.update(special_tokens=None),
    lambda state: state["mergeable_ranks"].clear(),
]


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_a_damaged_tokenizer_is_refused_in_one_line(tmp_path, number):
    state = {"name": "x", "pat_str": PATTERN, "mergeable_ranks": dict(RANKS), "special_tokens": {"<|bos|>": 259}}
    CHANGES[number](state)
    path = tmp_path / "tokenizer.pkl"
    path.write_bytes(pickle.dumps(state))
    with pytest.raises(UserError) as caught:
        read_nanochat_tokenizer(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_would_create_a_file_creates_none(nanochat, tmp_path, capsys):
    folder, weights = nanochat
    proof = tmp_path / "proof"
    write(folder, weights | {"lm_head.weight": Dangerous(proof)})
    assert main(["import", "nanochat", str(folder), "--name=bad"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "which could run code" in line
    assert not proof.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model_config": 5}', "[" * 100_000])
def test_a_damaged_meta_is_refused_in_one_line(nanochat, tmp_path, content):
    folder, _ = nanochat
    (folder / "meta_000650.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"meta_000650\.json") as caught:
        import_nanochat(folder, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_models_and_options_of_others_are_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for words in (["empty"], ["missing"], ["empty", "--meta=meta.pkl"]):
        assert main(["import", "nanochat", str(tmp_path / words[0]), *words[1:]]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
