"""Models as llama.cpp reads them: one GGUF file with weights, settings and tokenizer, written by the package `gguf`.

A GPT-2 becomes the architecture `gpt2`, one with rotary positions `llama`. llama.cpp knows byte pair encodings that
split text by patterns it has itself; a `char` tokenizer becomes one whose only merges are those of the bytes of a
character.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nanogpt import extras
from nanogpt.errors import UserError
from nanogpt.files import new_file, why
from nanogpt.interop.huggingface import split_tensors
from nanogpt.interop.huggingface_config import config_json
from nanogpt.interop.huggingface_names import GPT2, LLAMA, MLP_IN, QKV
from nanogpt.interop.huggingface_tokenizer import tokenizer_files
from nanogpt.models.base import LanguageModel
from nanogpt.models.gpt2 import Config
from nanogpt.tokenizers import Tokenizer
from nanogpt.tokenizers import _pieces as pieces
from nanogpt.tokenizers._bpe import END_OF_TEXT
from nanogpt.tokenizers._published import byte_characters

FORMATS = ("float32", "float16", "q8_0")
Q8_BLOCK = 32  # numbers that share a scale; rows of another length stay in float16
_COMMON = {
    "wte": ("token_embd",),
    "wpe": ("position_embd",),
    "ln_1": ("attn_norm",),
    "attn.c_proj": ("attn_output",),
    "ln_2": ("ffn_norm",),
    "mlp.c_proj": ("ffn_down",),
    "ln_f": ("output_norm",),
    "head": ("output",),
}
NAMING = {
    GPT2: replace(
        GPT2,
        prefix="",
        layer="blk",
        modules=_COMMON | {QKV: ("attn_qkv",), MLP_IN: ("ffn_up",)},
        transposed=False,
    ),
    LLAMA: replace(
        LLAMA,
        prefix="",
        layer="blk",
        modules=_COMMON | {QKV: ("attn_q", "attn_k", "attn_v"), MLP_IN: ("ffn_gate", "ffn_up")},
    ),
}
_BY_TOKEN = ("token_embd.weight", "output.weight")  # tensors with a row for each token
# llama.cpp does not load a tokenizer without merges. Two zero bytes are no token, so it takes this merge back.
_NO_MERGES = ["Ā Ā"]
# llama.cpp's names of the patterns by which text is split before bytes are merged.
_PATTERNS = {pieces.oniguruma(pieces.GPT2): "gpt-2", pieces.oniguruma(pieces.GPT4): "llama-bpe"}


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """tokens: by id, bytes written as GPT-2's characters. pattern: llama.cpp's name of it. special: their ids."""

    tokens: list[str]
    merges: list[str]
    pattern: str
    special: frozenset[int]


def write_gguf(model: LanguageModel, tokenizer: Tokenizer, path: Path, number_format: str = "float32") -> None:
    """Write model and tokenizer into a new file, which appears whole or not at all.

    number_format: of matrices, one of `FORMATS`; vectors and positions stay in float32. Rows of embedding and head that
    stand for no token are left out. llama.cpp ends a text at token 11 if the file names no other: a tokenizer without
    an end of text gets one as its last token. Its rows are the means of all others, so its logit is their mean, and it
    is never more probable than a uniform guess. Raise `UserError` for a model or a tokenizer that llama.cpp does not
    have, and for a file that exists or cannot be written.
    """
    gguf = extras.load("gguf", "gguf", "the export to GGUF")
    config = cast(Config, model.config)
    described, naming = config_json(config, tokenizer.end_of_text)
    if naming is GPT2 and config.activation != "gelu":
        raise UserError(f"activation={config.activation}: llama.cpp's GPT-2 has only gelu; export it with --to=hf")
    vocabulary, end_of_text = gguf_tokenizer(tokenizer), tokenizer.end_of_text
    if end_of_text is None:
        vocabulary, end_of_text = _with_end_of_text(vocabulary), tokenizer.vocab_size
    try:
        with new_file(path) as partial:
            writer = gguf.GGUFWriter(partial, described["model_type"])
            try:
                _add_settings(writer, config, path.stem, rotary=naming is LLAMA)
                _add_tokenizer(writer, gguf, vocabulary, end_of_text)
                for name, tensor in split_tensors(model, NAMING[naming], tokenizer.vocab_size):
                    if naming is LLAMA and ".attn_q." in name:
                        tensor = _interleave(tensor, config.n_head)
                    if naming is LLAMA and ".attn_k." in name:
                        tensor = _interleave(tensor, config.kv_heads)
                    if name in _BY_TOKEN and len(tensor) < len(vocabulary.tokens):
                        tensor = torch.cat((tensor, tensor.mean(dim=0, keepdim=True)))
                    _add_tensor(writer, gguf, name, tensor, number_format)
                writer.add_file_type(getattr(gguf.LlamaFileType, _FILE_TYPES[number_format]))
                writer.write_header_to_file()
                writer.write_kv_data_to_file()
                writer.write_tensors_to_file()
            finally:
                writer.close()
    except OSError as error:
        # numpy, which writes the tensors, says how many numbers it has written, and not why
        problem = why(error) if error.errno else "the disk is full"
        raise UserError(f"cannot write {path}: {problem}; choose another place") from None


_FILE_TYPES = {"float32": "ALL_F32", "float16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}


def gguf_tokenizer(tokenizer: Tokenizer) -> GgufTokenizer:
    """Return the tokenizer as llama.cpp has it. Raise `UserError` if it is not a byte pair encoding or `char`."""
    content = tokenizer_files(tokenizer, None)["tokenizer.json"]
    model, special = content["model"], {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
    if model.get("type") == "WordLevel" and all(len(character) == 1 for character in model["vocab"]):
        ids = {_in_bytes(character): id for character, id in model["vocab"].items()}
        merges = [merge for character in model["vocab"] for merge in _merges_of_bytes(character)]
        return GgufTokenizer(_by_id(ids, tokenizer.vocab_size), list(dict.fromkeys(merges)), "gpt-2", frozenset())
    pattern = _pattern(content.get("pre_tokenizer"))
    if model.get("type") != "BPE" or pattern is None or content.get("normalizer") is not None:
        raise UserError(
            f"the tokenizer {tokenizer.name} cannot be exported to GGUF: only characters, and byte pair encodings with "
            "the pattern of GPT-2 or GPT-4, can be"
        )
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    tokens = _by_id(model["vocab"] | special, tokenizer.vocab_size)
    return GgufTokenizer(tokens, merges, pattern, frozenset(special.values()))


def _with_end_of_text(vocabulary: GgufTokenizer) -> GgufTokenizer:
    """Return the tokenizer with one more token, which ends a text and has a name that no other has."""
    token = END_OF_TEXT
    while token in vocabulary.tokens:
        token = f"<{token}>"
    special = vocabulary.special | {len(vocabulary.tokens)}
    return replace(vocabulary, tokens=[*vocabulary.tokens, token], special=special)


def _by_id(ids: dict[str, int], size: int) -> list[str]:
    """Return the tokens in the order of their ids; ids without a token get a text that no other has."""
    token_of = {id: token for token, id in ids.items()}
    return [token_of.get(id, f"[unused {id}]") for id in range(size)]


def _pattern(part: Any) -> str | None:
    """Return llama.cpp's name for a `pre_tokenizer`; None if it has none."""
    steps = part.get("pretokenizers") if isinstance(part, dict) and part.get("type") == "Sequence" else [part]
    *splits, last = steps or [None]
    if not isinstance(last, dict) or last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        return None
    if last.get("use_regex", True):
        return None if splits else "gpt-2"
    if not splits:
        return "gpt-2"  # single bytes, which no pattern changes
    pattern = splits[0].get("pattern") if len(splits) == 1 else None
    return _PATTERNS.get(pattern.get("Regex", "")) if isinstance(pattern, dict) else None


def _in_bytes(text: str) -> str:
    return "".join(byte_characters()[byte] for byte in text.encode("utf-8"))


def _merges_of_bytes(character: str) -> Iterator[str]:
    """Yield the merges that put the bytes of a character together, from the left."""
    written = _in_bytes(character)
    for at in range(1, len(written)):
        yield f"{written[:at]} {written[at]}"


def _add_settings(writer: Any, config: Config, name: str, *, rotary: bool) -> None:
    writer.add_name(name)
    writer.add_context_length(config.block_size)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.hidden_width)
    writer.add_head_count(config.n_head)
    if rotary:
        writer.add_head_count_kv(config.kv_heads)
        writer.add_layer_norm_rms_eps(config.norm_eps)
        writer.add_rope_dimension_count(config.n_embd // config.n_head)
        writer.add_rope_freq_base(config.rotary_base)
    else:
        writer.add_layer_norm_eps(config.norm_eps)


def _add_tokenizer(writer: Any, gguf: Any, vocabulary: GgufTokenizer, end_of_text: int) -> None:
    kinds = gguf.TokenType
    writer.add_vocab_size(len(vocabulary.tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pattern)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(
        [kinds.CONTROL if id in vocabulary.special else kinds.NORMAL for id in range(len(vocabulary.tokens))]
    )
    writer.add_token_merges(vocabulary.merges or _NO_MERGES)
    writer.add_bos_token_id(end_of_text)
    writer.add_eos_token_id(end_of_text)
    writer.add_add_bos_token(False)


def _add_tensor(writer: Any, gguf: Any, name: str, tensor: Tensor, number_format: str) -> None:
    array = tensor.numpy()
    if array.ndim == 1 or name.startswith("position_embd") or number_format == "float32":
        writer.add_tensor(name, array)
    elif number_format == "float16" or array.shape[1] % Q8_BLOCK:
        writer.add_tensor(name, array.astype("float16"))
    else:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)


def _interleave(tensor: Tensor, n_head: int) -> Tensor:
    """Return rows of queries or keys so that the pairs of rotary positions, i and i + hs / 2 here, are neighbours."""
    halves = tensor.reshape(n_head, 2, -1, *tensor.shape[1:])  # (nh, 2, hs / 2, …)
    return halves.transpose(1, 2).reshape(tensor.shape).contiguous()
