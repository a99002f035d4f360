"""The decoding loop: with and without the cache, within the window and past it."""

import numpy as np
import pytest
import torch

from nanogpt.config import resolve
from nanogpt.models.base import evaluation_mode
from nanogpt.models.layers import cpu_decoding
from nanogpt.sampling import decoding
from nanogpt.sampling.decoding import MIN_WORK_FOR_THREADS, decode, extend_window, threads_for


def some_ids(rows, length):
    return np.random.default_rng(1).integers(28, size=(rows, length))


def history(model, prompt, count, use_cache):
    """The logits of `count` steps, each continued with its likeliest tokens."""
    steps = decode(model, prompt, use_cache)
    logits = next(steps)
    for _ in range(count - 1):
        yield logits
        logits = steps.send(logits.argmax(1))
    yield logits


@pytest.mark.parametrize("block_size", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("prompt_length", [1, 7, 16, 40])
@pytest.mark.parametrize("rows", [1, 3])
@torch.inference_mode()
def test_cached_logits_are_those_of_a_full_forward_pass(new_model, block_size, prompt_length, rows):
    model = new_model(block_size=block_size, bias=block_size % 2 == 0)
    prompt = some_ids(rows, prompt_length)
    count = 3 * block_size + 5
    pairs = zip(history(model, prompt, count, True), history(model, prompt, count, False), strict=True)
    for cached, full in pairs:
        np.testing.assert_allclose(cached, full, rtol=1e-4, atol=1e-3)


MODELS = [
    {"bias": True},
    {"logit_cap": 0.5},
    {"architecture": "modern", "ngram": 1, "temperature_scaling": 1.3},
    {"architecture": "modern", "ngram": 4},  # 28⁴ n-grams share 2¹⁵ rows: the products that find them exceed 64 bits
    {"architecture": "transformer"},
    {"architecture": "gpt2_nano"},
    {"architecture": "lstm"},
    # as Llama has them
    {"positions": "rotary", "norm": "rms", "activation": "swiglu", "n_kv_head": 1, "qk_norm": True, "tied_head": False},
    {"positions": "alibi", "local_window": 3, "norm_position": "after", "activation": "relu2"},
    {
        "positions": "sinusoidal",
        "norm": "none",
        "feed_forward": False,
        "n_head": 4,
        "n_kv_head": 2,
        "activation": "relu",
    },
]
some_models = pytest.mark.parametrize("changes", MODELS, ids=lambda changes: "-".join(map(str, changes.values())))


def new_full_model(new_model, **changes):
    """A model in which everything adds something, also what starts at zero."""
    model = new_model(**changes)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any() or parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


@some_models
@pytest.mark.parametrize("rows", [1, 3])
@torch.inference_mode()
def test_the_models_own_step_is_a_pass_over_a_prompt_or_one_position(new_model, rows, changes, monkeypatch):
    model, ids = new_full_model(new_model, **changes), some_ids(rows, 9)
    cache = model.new_cache(rows)
    step = model.decoding_backend(cache)
    for begin, end in [(0, 4), *zip(range(4, 9), range(5, 10), strict=True)]:
        monkeypatch.setattr(cpu_decoding, "KEYS_FROM_MEMORY", 0 if end == 6 else 10**9)
        expected, _ = model(torch.from_numpy(ids[:, :end]))
        np.testing.assert_allclose(step(ids[:, begin:end]), expected[:, 0], rtol=1e-3, atol=1e-3)
    assert cache.length == 9
    following, _ = model(torch.from_numpy(ids[:, :1]), cache=cache)  # which reads what the steps have stored
    expected, _ = model(torch.from_numpy(np.concatenate((ids, ids[:, :1]), 1)))
    torch.testing.assert_close(following, expected, rtol=1e-3, atol=1e-3)


@some_models
@pytest.mark.parametrize("rows", [1, 3])
@torch.inference_mode()
def test_every_backend_writes_the_tokens_of_full_forward_passes(new_model, rows, changes):
    """From a prompt longer than the window, and past the end of the next one."""
    model, prompt = new_full_model(new_model, **changes), some_ids(rows, 20)
    cached, full = (np.stack(list(history(model, prompt, 20, use_cache))) for use_cache in (True, False))
    np.testing.assert_array_equal(cached.argmax(-1), full.argmax(-1))


@some_models
@torch.inference_mode()
def test_weights_that_changed_in_place_between_two_samples_count(new_model, changes):
    """As those of a training do between its steps."""
    model, prompt = new_full_model(new_model, **changes), some_ids(1, 5)
    before = list(history(model, prompt, 3, True))
    for parameter in model.parameters():
        parameter.data.mul_(1.5)
    after, full = (list(history(model, prompt, 3, use_cache)) for use_cache in (True, False))
    np.testing.assert_allclose(after, full, rtol=1e-3, atol=1e-3)
    assert not np.allclose(after, before, rtol=1e-2, atol=1e-2)


def test_a_full_window_restarts_on_its_last_half():
    window, sizes, config = np.array([[0]]), [], resolve(flags={"vocab_size": 7, "block_size": 8}).config.model
    for token in range(1, 17):
        window = extend_window(window, np.array([token]), config)
        assert window.tolist() == [list(range(token + 1 - window.shape[1], token + 1))]
        sizes.append(window.shape[1])
    assert sizes == [2, 3, 4, 5, 6, 7, 8, 4, 5, 6, 7, 8, 4, 5, 6, 7]


def test_a_window_of_one_token_holds_the_newest():
    config = resolve(flags={"vocab_size": 7, "block_size": 1}).config.model
    assert extend_window(np.array([[5]]), np.array([6]), config).tolist() == [[6]]


def test_a_window_without_a_cache_keeps_its_length():
    config = resolve(flags={"architecture": "mlp", "vocab_size": 7, "block_size": 3}).config.model
    assert extend_window(np.array([[1, 2]]), np.array([3]), config).tolist() == [[1, 2, 3]]
    assert extend_window(np.array([[1, 2, 3]]), np.array([4]), config).tolist() == [[2, 3, 4]]


@torch.inference_mode()
def test_of_a_long_prompt_the_last_part_counts(model):
    prompt = some_ids(1, 50)
    expected, _ = model(torch.from_numpy(prompt[:, -16:]))
    np.testing.assert_allclose(next(decode(model, prompt)), expected[:, 0], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("alike", [False, True])
def test_one_pass_over_a_half_window_is_made_each_half_window(model, monkeypatch, alike):
    """With the cache all other steps see one position; samples that begin alike share the first pass."""
    shapes, make_decode_step = [], decoding.make_decode_step

    def watched(*args):
        step = make_decode_step(*args)

        def watched_step(ids):
            shapes.append(ids.shape)
            return step(ids)

        return watched_step

    monkeypatch.setattr(decoding, "make_decode_step", watched)
    prompt = some_ids(2, 3)
    steps = decode(model, prompt[:1].repeat(2, 0) if alike else prompt)
    next(steps)
    for token in range(49):
        steps.send(np.array([token % 28, token // 2]))
    assert [shape for shape in shapes if shape[1] > 1] == [(1 if alike else 2, 3), (2, 8), (2, 8), (2, 8), (2, 8)]


def test_evaluation_mode_lasts_for_the_step_only_and_every_module_gets_its_own_mode_back(new_model):
    model = new_model(dropout=0.5).train()
    model.h[0].eval()
    before = [module.training for module in model.modules()]
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before


@pytest.fixture
def three_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(threads)


def test_a_small_pass_takes_one_thread_and_a_large_one_all(three_threads):
    with threads_for(MIN_WORK_FOR_THREADS - 1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with threads_for(MIN_WORK_FOR_THREADS):
        assert torch.get_num_threads() == 3


@torch.inference_mode()
def test_a_small_model_decodes_on_one_thread_and_leaves_their_number_alone(new_model, three_threads):
    model, seen = new_model(architecture="wavenet"), []
    model.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    steps = decode(model, some_ids(2, 3))
    logits = next(steps)
    assert torch.get_num_threads() == 3
    steps.send(logits.argmax(1))
    assert seen == [1, 1]
