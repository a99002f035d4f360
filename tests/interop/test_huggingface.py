"""GPT-2 exchanged with transformers, both ways, on random weights; and folders that are not what they should be.

The other models that can be exchanged are in `test_huggingface_models.py`.
"""

import json
import os
import resource
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nanogpt import tokenizers
from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError
from nanogpt.events import Token
from nanogpt.interop.huggingface import from_huggingface, to_huggingface, write_huggingface
from nanogpt.sampling import generate
from tests import architectures
from tests.lazy import transformers
from tests.narrowing import expect

SHAPE: dict[str, Any] = {"n_layer": 3, "n_head": 4, "n_embd": 64}
V, T = 97, 32
DEEP = b'{"model_type": "gpt2", "n_embd": ' + b"[" * 900 + b"]" * 900 + b"}"
CHARACTERS = bytes(range(32, 32 + V - 1)).decode("latin-1") + "\n"


@pytest.fixture
def theirs():
    torch.manual_seed(11)
    # six times the usual spread, so that an error anywhere moves the logits by far more than the tolerance
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=T, initializer_range=0.12, bos_token_id=0, eos_token_id=0, **SHAPE
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return model


@pytest.fixture
def folder(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


def ids(rows=3, length=T):
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(2))


@torch.inference_mode()
def test_their_weights_give_their_logits_here(theirs, folder):
    ours = from_huggingface(folder)
    torch.testing.assert_close(ours.logits(ids()), theirs(ids()).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_our_weights_give_our_logits_there(bias, tmp_path):
    torch.manual_seed(12)
    ours = architectures.build(block_size=T, vocab_size=V, bias=bias, **SHAPE).eval()
    for parameter in ours.parameters():
        parameter.mul_(6) if parameter.dim() == 2 else parameter.add_(torch.randn_like(parameter) / 10)
    config, tensors = to_huggingface(ours)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded: Any = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    theirs, report = loaded
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    torch.testing.assert_close(theirs.eval()(ids()).logits, ours.logits(ids()), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "published"),
    [
        ({"positions": "none"}, "positions=learned"),
        ({"norm": "rms"}, "norm=layer"),
        ({"feed_forward": False}, "feed_forward=True"),
        ({"residual": False}, "residual=True"),
        ({"norm_position": "after"}, "norm_position=before"),
        ({"activation": "swiglu"}, "activation=gelu"),
        ({"qk_norm": True}, "qk_norm=False"),
        ({"n_kv_head": 2}, "n_kv_head=4"),
        ({"local_window": 8}, "local_window=0"),
    ],
)
def test_what_gpt2_cannot_express_is_refused_in_one_line(changes, published):
    model = architectures.build(block_size=T, vocab_size=V, **SHAPE, **changes)
    ((name, value),) = changes.items()
    with pytest.raises(UserError, match=rf"^{name}={value}: a Hugging Face GPT-2 has only {published};.*exported$"):
        to_huggingface(model)


def test_a_folder_that_was_written_is_whole_and_nothing_is_written_over(theirs, folder, tmp_path):
    first, tokenizer = from_huggingface(folder), tokenizers.create("char", [CHARACTERS])
    write_huggingface(first, tokenizer, tmp_path / "there" / "new")
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "there" / "new").eval()
    with torch.inference_mode():
        torch.testing.assert_close(again(ids()).logits, theirs(ids()).logits)
    assert again.generation_config.eos_token_id is None, "97 tokens have no end of text"
    assert [item.name for item in (tmp_path / "there").iterdir()] == ["new"]
    with pytest.raises(UserError, match="already exists"):
        write_huggingface(first, tokenizer, tmp_path / "there")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another place"):
        write_huggingface(first, tokenizer, tmp_path / "file" / "new")


def test_rows_of_the_embedding_that_stand_for_no_token_are_left_out(folder, tmp_path):
    write_huggingface(from_huggingface(folder), tokenizers.create("char", ["abc"]), tmp_path / "new")
    assert transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "new").config.vocab_size == 3
    torch.testing.assert_close(
        from_huggingface(tmp_path / "new").get_parameter("wte.weight"),
        from_huggingface(folder).get_parameter("wte.weight")[:3],
        rtol=0,
        atol=0,
    )


def test_a_model_that_goes_there_and_back_is_the_same(folder, tmp_path):
    first = from_huggingface(folder)
    config, tensors = to_huggingface(first)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors")
    second = from_huggingface(tmp_path)
    assert second.config == first.config
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


@torch.inference_mode()
def test_greedy_generation_equals_theirs_within_the_window(theirs, folder):
    tokenizer = tokenizers.create("char", [CHARACTERS])
    prompt = "Once upon"
    start = torch.tensor([tokenizer.encode(prompt)])
    knobs = SamplingConfig(temperature=0, max_new_tokens=T - start.size(1))
    *tokens, _stopped = generate(from_huggingface(folder), tokenizer, prompt, knobs)
    written = [expect(Token, token).id for token in tokens]
    theirs.generation_config.eos_token_id = None
    expected = theirs.generate(start, max_length=T, do_sample=False, attention_mask=torch.ones_like(start))
    assert written == expected[0, start.size(1) :].tolist()
    assert len(set(written)) > 3


@torch.inference_mode()
def test_files_as_the_hub_has_them_load_too(theirs, folder):
    """Without the prefix, with the causal masks that old versions stored, and with the head written out."""
    path = folder / "model.safetensors"
    stored = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    for layer in range(SHAPE["n_layer"]):
        stored[f"h.{layer}.attn.bias"] = torch.ones(1, 1, T, T).tril()
        stored[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    stored["lm_head.weight"] = stored["wte.weight"].clone()
    save_file(stored, path)
    torch.testing.assert_close(from_huggingface(folder).logits(ids()), theirs(ids()).logits, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_weights_in_several_files_load_too(theirs, folder, tmp_path):
    theirs.save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    files = sorted((tmp_path / "sharded").glob("model-*.safetensors"))
    assert len(files) > 1
    torch.testing.assert_close(from_huggingface(tmp_path / "sharded").logits(ids()), theirs(ids()).logits)
    files[0].unlink()
    assert "missing" in refusal(tmp_path / "sharded")
    index = tmp_path / "sharded" / "model.safetensors.index.json"
    for content in (
        "{",
        "[" * 100_000,
        "[]",
        '{"weight_map": {"a": "../model.safetensors"}}',
        '{"weight_map": {"a": 3}}',
        json.dumps({"weight_map": {"a": "x" * 5000}}),
    ):
        index.write_text(content)
        assert "model.safetensors.index.json" in refusal(tmp_path / "sharded")


def test_half_precision_weights_load_as_float32(folder):
    path = folder / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    assert {parameter.dtype for parameter in from_huggingface(folder).parameters()} == {torch.float32}


def test_a_loaded_model_can_be_trained_on(folder):
    model = from_huggingface(folder).train()
    _, loss = model(ids(), ids().roll(-1, 1))
    assert loss is not None
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_loading_leaves_the_random_state_alone(folder):
    before = torch.random.get_rng_state()
    from_huggingface(folder)
    assert torch.equal(torch.random.get_rng_state(), before)


def refusal(folder):
    with pytest.raises(UserError) as caught:
        from_huggingface(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_empty_folder_is_refused(tmp_path):
    assert "config.json" in refusal(tmp_path)


def test_a_folder_without_safetensors_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert f"AutoModelForCausalLM.from_pretrained('{folder}').save_pretrained('{folder}-new')" in refusal(folder)
    (folder / "pytorch_model.bin").unlink()
    assert "no model.safetensors: fetch the folder again" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"{}", b"\xff\xfe\x00", b"[" * 100_000, DEEP])
def test_a_configuration_that_is_none_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    assert "config.json" in refusal(folder)


def test_a_configuration_that_is_no_regular_file_is_refused(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert "not a regular file" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", "gpt_bigcode"),
        ("activation_function", "silu"),
        ("n_head", 7),
        ("n_embd", "wide"),
        ("n_layer", None),
        ("vocab_size", -1),
        ("vocab_size", 0),
        ("quantization_config", {"bits": 4}),
        ("scale_attn_by_inverse_layer_idx", True),
    ],
)
def test_another_kind_of_model_is_refused_by_name(folder, name, value):
    edit_config(folder, **{name: value})
    assert name in refusal(folder)


def test_weights_of_another_size_are_refused(folder):
    edit_config(folder, n_embd=128)
    assert "do not belong together" in refusal(folder)


def test_a_configuration_of_absurd_size_is_refused_without_taking_its_memory(folder):
    edit_config(folder, n_embd=400_000, n_positions=10_000_000)
    assert "shape" in refusal(folder)


def test_a_file_of_absurd_size_is_refused_by_its_header_alone(folder):
    """8 GB of zeros that are nowhere on the disk: reading them would take the memory that the header already denies."""
    rows = 8_000_000_000 // (4 * SHAPE["n_embd"])
    size = rows * 4 * SHAPE["n_embd"]
    about = {"dtype": "F32", "shape": [rows, SHAPE["n_embd"]], "data_offsets": [0, size]}
    header = json.dumps({"transformer.wte.weight": about}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert f"({rows}, 64), and config.json asks for (97, 64)" in refusal(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(folder, keep):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    assert "model.safetensors" in refusal(folder)


def test_a_missing_and_a_foreign_tensor_are_refused_by_name(folder):
    path = folder / "model.safetensors"
    stored = load_file(path)
    save_file({name: tensor for name, tensor in stored.items() if name != "transformer.wpe.weight"}, path)
    assert "wpe.weight" in refusal(folder)
    save_file(stored | {"transformer.adapter": torch.zeros(1)}, path)
    assert "adapter" in refusal(folder)


def test_a_tensor_that_is_there_twice_is_refused_by_name(folder):
    """With the prefix and without it, or in two files: which of them counts would depend on their order."""
    path = folder / "model.safetensors"
    stored = load_file(path)
    save_file(stored | {"wpe.weight": stored["transformer.wpe.weight"] * 2}, path)
    assert "wpe.weight is in the folder twice" in refusal(folder)
