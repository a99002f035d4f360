"""Models of other kinds than GPT-2 exchanged with transformers, on random weights, and what cannot be expressed."""

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nanogpt import tokenizers
from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError
from nanogpt.events import Token
from nanogpt.interop.huggingface import from_huggingface, write_huggingface
from nanogpt.sampling import generate
from tests import architectures
from tests.lazy import transformers
from tests.narrowing import expect

V, T = 97, 48
GPT2: dict[str, Any] = {"n_layer": 3, "n_head": 4, "n_embd": 64, "n_positions": T}
NEO: dict[str, Any] = {"num_layers": 3, "num_heads": 4, "hidden_size": 64, "max_position_embeddings": T}
LOCAL: dict[str, Any] = {
    "attention_layers": ["global", "local", "global"],
    "attention_types": [[["global", "local"], 1], [["global"], 1]],
}
GLOBAL: dict[str, Any] = {"attention_layers": ["global"] * 3, "attention_types": [[["global"], 3]]}
LLAMA: dict[str, Any] = {
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "hidden_size": 64,
    "intermediate_size": 100,
    "max_position_embeddings": T,
}
WINDOW: dict[str, Any] = {"sliding_window": T}  # as long as the context, which is no limit
KINDS: dict[str, Any] = {
    "gpt2": lambda: transformers.GPT2Config(**GPT2),
    "gpt2, other numbers": lambda: transformers.GPT2Config(
        **GPT2, n_inner=80, activation_function="relu", layer_norm_epsilon=1e-3, tie_word_embeddings=False
    ),
    "gpt_neo, local attention": lambda: transformers.GPTNeoConfig(**NEO, **LOCAL, window_size=7),
    "gpt_neo, global attention": lambda: transformers.GPTNeoConfig(**NEO, **GLOBAL, intermediate_size=80),
    "llama": lambda: transformers.LlamaConfig(**LLAMA),
    "llama, grouped heads": lambda: transformers.LlamaConfig(**LLAMA, num_key_value_heads=2, tie_word_embeddings=True),
    "llama, other numbers": lambda: transformers.LlamaConfig(
        **LLAMA, num_key_value_heads=1, rms_norm_eps=1e-3, rope_parameters={"rope_type": "default", "rope_theta": 500.0}
    ),
    "llama, biases": lambda: transformers.LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True),
    "llama, biases in attention": lambda: transformers.LlamaConfig(**LLAMA, attention_bias=True),
    "mistral": lambda: transformers.MistralConfig(**LLAMA, num_key_value_heads=2, **WINDOW),
    "qwen2": lambda: transformers.Qwen2Config(**LLAMA, num_key_value_heads=2, tie_word_embeddings=True),
}
IDS = torch.randint(V, (3, T), generator=torch.Generator().manual_seed(2))


def their_model(config: Any) -> Any:
    """A model far from its initial weights, so that an error anywhere moves the logits by more than the tolerance."""
    config.vocab_size, config.initializer_range, config.bos_token_id, config.eos_token_id = V, 0.12, 0, 0
    torch.manual_seed(11)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) / 10)
    return model


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_their_weights_give_their_logits_here(kind, tmp_path):
    theirs = their_model(KINDS[kind]())
    theirs.save_pretrained(tmp_path)
    ours = from_huggingface(tmp_path)
    torch.testing.assert_close(ours.logits(IDS), theirs(IDS).logits, rtol=0, atol=1e-4)
    assert ours.config.n_parameters() == ours.n_parameters()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.inference_mode()
def test_shards_in_16_bits_are_read_as_float32(dtype, tmp_path):
    theirs = their_model(KINDS["llama, grouped heads"]()).to(dtype)
    theirs.save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    again: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    torch.testing.assert_close(from_huggingface(tmp_path).logits(IDS), again(IDS).logits, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_configurations_of_earlier_versions_are_read_alike(tmp_path):
    """They have the base of the rotary positions by itself, and say nothing of what Llama does by default."""
    theirs = their_model(KINDS["llama, other numbers"]())
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    for name in ("rope_parameters", "attention_bias", "mlp_bias", "head_dim", "tie_word_embeddings"):
        del values[name]
    path.write_text(json.dumps(values | {"rope_theta": 500.0, "rope_scaling": None}))
    torch.testing.assert_close(from_huggingface(tmp_path).logits(IDS), theirs(IDS).logits, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_the_hub_has_some_models_without_prefix_and_with_buffers(tmp_path):
    theirs = their_model(KINDS["gpt_neo, local attention"]())
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    stored = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    stored["h.0.attn.attention.bias"] = torch.ones(1, 1, T, T)
    stored["h.0.attn.attention.masked_bias"] = torch.tensor(-1e9)
    save_file(stored, path)
    torch.testing.assert_close(from_huggingface(tmp_path).logits(IDS), theirs(IDS).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "rope_type='llama3': scaled rotary"),
        ("llama", {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}}, "rope_type='linear'"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5: only heads that are rotated as a whole"),
        ("llama", {"head_dim": 32}, "head_dim=32: only hidden_size / num_attention_heads = 16"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act='gelu': only 'silu' can be read"),
        ("llama", {"hidden_size": None}, "its numbers are not those of a model"),
        ("llama", {"num_attention_heads": 0}, "its numbers are not those of a model"),
        ("llama", {"num_key_value_heads": 3}, "n_kv_head=3 does not divide n_head=4"),
        ("llama", {"rope_parameters": [1]}, "its numbers are not those of a model"),
        ("llama", {"vocab_size": 10**30}, "vocab_size=1000000000000000000000000000000: has to be"),
        ("mistral", {"sliding_window": 8}, "sliding_window=8: local attention in all blocks"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8}, "sliding_window=8: local attention in all"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "only full attention"),
        ("llama", {"model_type": "mixtral", "num_local_experts": 8}, "model_type='mixtral': a mixture of experts"),
        (
            "llama",
            {"model_type": "mamba"},
            "not known here; gpt2, gpt_neo, llama, mistral, qwen2 can be read",
        ),
        ("gpt_neo, local attention", {"attention_types": [[["local"], 3]]}, "only global and local blocks in turn"),
        ("gpt_neo, local attention", {"attention_types": [[["global", "local"], 10**18]]}, "attention_types="),
        ("gpt_neo, local attention", {"attention_types": [[[], 10**18]]}, "attention_types="),
        ("gpt_neo, local attention", {"attention_types": 3}, "its numbers are not those of a model"),
        ("gpt_neo, local attention", {"attention_types": "all"}, "its numbers are not those of a model"),
        ("gpt_neo, local attention", {"attention_types": [[]]}, "its numbers are not those of a model"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config={'bits': 4}: only None can be read"),
    ],
)
def test_what_our_layers_cannot_express_is_refused_in_one_line(kind, changes, said, tmp_path):
    config = KINDS[kind]()
    config.vocab_size = V
    config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError) as caught:
        from_huggingface(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_number_and_a_bias_too_many_are_refused_by_name(tmp_path):
    their_model(KINDS["llama"]()).save_pretrained(tmp_path)
    weights, path = tmp_path / "model.safetensors", tmp_path / "config.json"
    stored, values = load_file(weights), json.loads(path.read_text())
    save_file(stored | {"model.layers.0.mlp.up_proj.bias": torch.zeros(100)}, weights)
    with pytest.raises(UserError, match=r"layers\.0\.mlp\.up_proj\.bias does not belong to the model"):
        from_huggingface(tmp_path)
    save_file(stored | {"model.norm.weight": torch.zeros(64, dtype=torch.int8)}, weights)
    with pytest.raises(UserError, match=r"norm\.weight is in I8: only float32, float16 and bfloat16"):
        from_huggingface(tmp_path)
    del values["intermediate_size"]
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="intermediate_size is missing"):
        from_huggingface(tmp_path)


# ---- ours there

ROTARY: dict[str, Any] = {"positions": "rotary", "norm": "rms", "activation": "swiglu"}
CHARACTERS = bytes(range(32, 32 + V - 1)).decode("latin-1") + "\n"


def our_model(**settings: Any) -> Any:
    torch.manual_seed(12)
    shape = {"n_layer": 3, "n_head": 4, "n_embd": 64, "block_size": 256, "vocab_size": V}
    model = architectures.build(**shape | settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6) if parameter.dim() == 2 else parameter.add_(torch.randn_like(parameter) / 10)
        model.get_parameter("wte.weight").mul_(0.3)  # otherwise a tied head repeats the last token
    return model


@pytest.mark.parametrize(
    ("spec", "settings"),
    [
        ("gpt2", {}),
        ("char", {"bias": True, "activation": "relu", "mlp_width": 80, "norm_eps": 1e-3, "tied_head": False}),
        ("bpe:300", ROTARY),
        ("char", ROTARY | {"bias": True, "n_kv_head": 2, "tied_head": False, "rotary_base": 500.0}),
    ],
)
@torch.inference_mode()
def test_our_models_have_the_same_logits_and_greedy_text_there(spec, settings, tmp_path, text):
    """200 tokens of greedy text; embedding and head are padded."""
    tokenizer = tokenizers.create(spec, [text])
    size = tokenizer.vocab_size
    ours, ids = our_model(**settings, vocab_size=size + 31), IDS % size
    write_huggingface(ours, tokenizer, tmp_path / "hf")
    theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    torch.testing.assert_close(theirs(ids).logits, ours.logits(ids)[..., :size], rtol=0, atol=1e-4)
    theirs_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    start = torch.tensor([theirs_tokenizer(text[:9])["input_ids"]])
    expected = theirs.generate(start, max_new_tokens=200, do_sample=False, attention_mask=torch.ones_like(start))
    *tokens, _ = generate(ours, tokenizer, text[:9], SamplingConfig(temperature=0, max_new_tokens=200))
    written = [expect(Token, token) for token in tokens]
    assert [token.id for token in written] == expected[0, start.size(1) :].tolist()
    assert len(written) == 200
    assert len({token.id for token in written}) > 3
    if spec == "char":  # elsewhere the bytes need not be text
        assert text[:9] + "".join(token.text for token in written) == theirs_tokenizer.decode(expected[0])
    again = from_huggingface(tmp_path / "hf")
    torch.testing.assert_close(again.logits(ids), ours.logits(ids)[..., :size], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "only"),
    [
        ({"norm": "layer"}, "norm=rms"),
        ({"activation": "gelu"}, "activation=swiglu"),
        ({"qk_norm": True}, "qk_norm=False"),
        ({"local_window": 8}, "local_window=0"),
    ],
)
def test_what_a_llama_cannot_express_is_refused_in_one_line(changes, only, tmp_path):
    ((name, value),) = changes.items()
    with pytest.raises(UserError, match=rf"^{name}={value}: a Hugging Face Llama has only {only}; .*exported$"):
        write_huggingface(our_model(**ROTARY | changes), tokenizers.create("char", [CHARACTERS]), tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
