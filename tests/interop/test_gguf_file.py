"""What is written for llama.cpp, read back by the package `gguf`."""

import resource
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, TokenType
from gguf.quants import dequantize

from nanogpt import tokenizers
from nanogpt.errors import UserError
from nanogpt.interop.gguf_file import gguf_tokenizer, write_gguf
from nanogpt.interop.huggingface_tokenizer import tokenizer_files
from nanogpt.tokenizers import bpe, hf
from nanogpt.tokenizers._pieces import GPT2
from tests import architectures
from tests.tokenizer_specs import made

SHAPE: dict[str, Any] = {"n_layer": 2, "n_head": 4, "n_embd": 64, "block_size": 32, "vocab_size": 300}
BYTES = [bytes([byte]) for byte in range(256)]
ROTARY: dict[str, Any] = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "n_kv_head": 2}


def written(tmp_path: Path, number_format: str = "float32", **settings: Any) -> Any:
    torch.manual_seed(5)
    model = architectures.build(**SHAPE | settings).eval()
    path = tmp_path / "model.gguf"
    write_gguf(model, tokenizers.create("byte"), path, number_format)
    reader = GGUFReader(path)
    return model.state_dict(), {each.name: each for each in reader.tensors}, reader


def value(reader: Any, key: str) -> Any:
    return reader.get_field(key).contents()


def numbers(tensor: Any) -> Any:
    return torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())


def test_a_gpt2_has_all_of_its_tensors_and_settings(tmp_path):
    ours, theirs, reader = written(tmp_path)
    assert value(reader, "general.architecture") == "gpt2"
    assert value(reader, "gpt2.context_length") == 32
    assert value(reader, "gpt2.feed_forward_length") == 256
    assert value(reader, "gpt2.attention.head_count") == 4
    assert value(reader, "gpt2.attention.layer_norm_epsilon") == pytest.approx(1e-5)
    rows = numbers(theirs["token_embd.weight"])
    assert torch.equal(rows[:256], ours["wte.weight"][:256])
    assert len(rows) == 257, "no padded rows, and one for the end of text"
    assert torch.equal(numbers(theirs["position_embd.weight"]), ours["wpe.weight"])
    assert torch.equal(numbers(theirs["blk.1.attn_qkv.weight"]), ours["h.1.attn.c_attn.weight"])
    assert torch.equal(numbers(theirs["blk.1.ffn_down.weight"]), ours["h.1.mlp.c_proj.weight"])
    assert not numbers(theirs["blk.1.ffn_up.bias"]).any(), "llama.cpp asks for biases that this one does not have"
    assert len(theirs) == 2 + 2 * 12 + 2


def test_a_tokenizer_without_merges_has_one_that_llama_cpp_takes_back(tmp_path):
    """It does not load a file without any; the text of this one is no token, so both bytes are written again."""
    _, _, reader = written(tmp_path)
    (merge,) = value(reader, "tokenizer.ggml.merges")
    left, right = merge.split(" ")
    tokens = value(reader, "tokenizer.ggml.tokens")
    assert left == right == tokens[0]
    assert left + right not in tokens


def test_a_tokenizer_without_an_end_of_text_gets_one_that_no_text_is_made_of(tmp_path):
    """Without it llama.cpp takes token 11 for it. The mean of the rows has the mean of the logits."""
    ours, theirs, reader = written(tmp_path)
    assert value(reader, "tokenizer.ggml.eos_token_id") == value(reader, "tokenizer.ggml.bos_token_id") == 256
    assert value(reader, "tokenizer.ggml.tokens")[256] == "<|endoftext|>"
    assert value(reader, "tokenizer.ggml.token_type")[255:] == [TokenType.NORMAL, TokenType.CONTROL]
    assert value(reader, "gpt2.vocab_size") == 257
    assert torch.equal(numbers(theirs["token_embd.weight"])[256], ours["wte.weight"][:256].mean(dim=0))


def test_an_end_of_text_of_its_own_stays_the_only_one(tmp_path):
    own = bpe.Tokenizer(GPT2, BYTES, {"<|endoftext|>": 256})
    write_gguf(architectures.build(**SHAPE), own, tmp_path / "model.gguf")
    reader = GGUFReader(tmp_path / "model.gguf")
    assert value(reader, "tokenizer.ggml.eos_token_id") == 256
    assert len(value(reader, "tokenizer.ggml.tokens")) == 257
    assert next(each for each in reader.tensors if each.name == "token_embd.weight").shape[1] == 257


def test_the_added_end_of_text_has_a_name_that_is_free(tmp_path):
    content = tokenizer_files(bpe.Tokenizer(GPT2, BYTES, {"<|endoftext|>": 256}), None)["tokenizer.json"]
    own = hf.Tokenizer(content, None)  # a token of that name, and nothing says that it ends a text
    write_gguf(architectures.build(**SHAPE), own, tmp_path / "model.gguf")
    reader = GGUFReader(tmp_path / "model.gguf")
    assert value(reader, "tokenizer.ggml.tokens")[256:] == ["<|endoftext|>", "<<|endoftext|>>"]
    assert value(reader, "tokenizer.ggml.eos_token_id") == 257


def test_a_llama_has_its_pairs_side_by_side(tmp_path):
    """llama.cpp rotates numbers 2i and 2i + 1 of a head of 16, which are i and i + 8 here."""
    ours, theirs, reader = written(tmp_path, **ROTARY, rotary_base=500.0, tied_head=False)
    assert value(reader, "general.architecture") == "llama"
    assert value(reader, "llama.attention.head_count_kv") == 2
    assert value(reader, "llama.rope.freq_base") == 500
    q, k, v = ours["h.0.attn.c_attn.weight"].split([64, 32, 32])
    order = [16 * head + i + half * 8 for head in range(4) for i in range(8) for half in range(2)]
    assert torch.equal(numbers(theirs["blk.0.attn_q.weight"]), q[order])
    assert torch.equal(numbers(theirs["blk.0.attn_k.weight"]), k[order[:32]])
    assert torch.equal(numbers(theirs["blk.0.attn_v.weight"]), v)
    gate, up = ours["h.0.mlp.c_fc.weight"].chunk(2)
    assert torch.equal(numbers(theirs["blk.0.ffn_gate.weight"]), gate)
    assert torch.equal(numbers(theirs["blk.0.ffn_up.weight"]), up)
    rows = numbers(theirs["output.weight"])
    assert torch.equal(rows[:256], ours["head.weight"][:256])
    assert torch.equal(rows[256], ours["head.weight"][:256].mean(dim=0))


@pytest.mark.parametrize(
    ("number_format", "kind", "error"),
    [("float16", GGMLQuantizationType.F16, 2**-11), ("q8_0", GGMLQuantizationType.Q8_0, 1 / 127)],
)
def test_matrices_are_rounded_and_vectors_are_not(tmp_path, number_format, kind, error):
    """Half a unit in the last place of 11 bits, and half a step of 1/127 of a block's largest, rounded up."""
    ours, theirs, _ = written(tmp_path, number_format)
    tensor = theirs["blk.0.ffn_up.weight"]
    assert tensor.tensor_type == kind
    exact = ours["h.0.mlp.c_fc.weight"]
    assert (numbers(tensor) - exact).abs().max() <= error * exact.abs().max()
    assert torch.equal(numbers(theirs["blk.0.ffn_norm.weight"]), ours["h.0.ln_2.weight"])


def test_rows_that_have_no_whole_blocks_are_in_16_bits(tmp_path):
    _, theirs, _ = written(tmp_path, "q8_0", n_embd=40)
    assert theirs["blk.0.ffn_up.weight"].tensor_type == GGMLQuantizationType.F16
    assert theirs["blk.0.ffn_down.weight"].tensor_type == GGMLQuantizationType.Q8_0, "4 · 40 numbers are five blocks"


def merged(found: Any, text: str) -> list[int]:
    """A byte pair encoding of one piece by its rules: the neighbours of the earliest merge first."""
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(found.merges)}
    byte_of = made("byte")
    parts = [gguf_tokenizer(byte_of).tokens[byte] for byte in text.encode()]
    while True:
        pairs = [(ranks.get((left, right), len(ranks)), at) for at, (left, right) in enumerate(pairwise(parts))]
        rank, at = min(pairs, default=(len(ranks), 0))
        if rank == len(ranks):
            return [found.tokens.index(part) for part in parts]
        parts[at : at + 2] = ["".join(parts[at : at + 2])]


def test_characters_are_put_together_from_their_bytes():
    own = tokenizers.create("char", ["naïve 日本語 🤖 ab"])
    assert merged(gguf_tokenizer(own), "日本 🤖ïa") == own.encode("日本 🤖ïa")


@pytest.mark.parametrize("spec", ["byte", "bpe:300", "bpe:300,pattern=gpt4", "gpt2", "hf:bytes"])
def test_byte_pair_encodings_have_their_tokens_merges_and_pattern(spec):
    own = made(spec)
    found = gguf_tokenizer(own)
    assert found.pattern == ("llama-bpe" if "gpt4" in spec else "gpt-2")
    assert len(found.tokens) == own.vocab_size
    assert len(set(found.tokens)) == own.vocab_size
    for word in ("question", " that", "naïve"):
        assert merged(found, word) == own.encode(word)


def test_what_llama_cpp_does_not_have_is_refused_in_one_line(tmp_path):
    model = architectures.build(**SHAPE)
    with pytest.raises(UserError, match=r"the tokenizer hf cannot be exported to GGUF"):
        write_gguf(model, made("hf:fallback"), tmp_path / "a.gguf")
    with pytest.raises(UserError, match="qk_norm=True: a Hugging Face GPT-2 has only"):
        write_gguf(architectures.build(**SHAPE, qk_norm=True), made("byte"), tmp_path / "a.gguf")
    with pytest.raises(UserError, match=r"activation=relu: llama\.cpp's GPT-2 has only gelu"):
        write_gguf(architectures.build(**SHAPE, activation="relu"), made("byte"), tmp_path / "a.gguf")
    (tmp_path / "there.gguf").touch()
    with pytest.raises(UserError, match="it already exists; choose another place"):
        write_gguf(model, made("byte"), tmp_path / "there.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["there.gguf"]


def test_a_full_disk_is_said_and_nothing_stays(tmp_path):
    """A limit of file sizes stands for it: numpy reports both as fewer numbers than requested."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))  # of some 400 kB, more than the header
    try:
        with pytest.raises(UserError, match=r"cannot write .*model.gguf: the disk is full; choose another place"):
            written(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
