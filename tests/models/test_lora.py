"""LoRA: what is trained, what is frozen, and that merging changes nothing."""

import pytest
import torch

from nanogpt.errors import SettingError, UserError
from nanogpt.models.lora import LowRankLinear, adapter_tensors, add_adapters, load_adapters, merged_copy
from tests.architectures import TRAINED, build

IDS = torch.randint(0, 17, (2, 8), generator=torch.Generator().manual_seed(1))


def model(architecture="gpt2", **settings):
    torch.manual_seed(1)
    built = build(architecture=architecture, vocab_size=17, block_size=8, n_layer=2, n_head=2, n_embd=8, **settings)
    for parameter in built.parameters():  # some start at zero, and would hide what comes after them
        torch.nn.init.normal_(parameter, std=0.3)
    return built.eval()


def adapted(architecture="gpt2", rank=2, **settings):
    plain = model(architecture, **settings)
    before = loss(plain)
    add_adapters(plain, rank, 4.0)
    return plain, before


def loss(of):
    return of(IDS, IDS)[1]


def with_random_adapters(of):
    for layer in of.adapters:
        torch.nn.init.normal_(layer.lora_B, std=0.3)
    return of


@pytest.mark.parametrize("architecture", TRAINED)
def test_new_adapters_change_nothing_and_are_all_that_is_trained(architecture):
    lora, before = adapted(architecture)
    after = loss(lora)
    assert after.item() == pytest.approx(before.item(), rel=1e-6)
    after.backward()
    trained = {name for name, p in lora.named_parameters() if p.grad is not None}
    assert trained == {name for name in adapter_tensors(lora) if not name.endswith("scale")}
    assert {id(p) for group in lora.trained_groups() for p in group.parameters} == {
        id(p) for p in lora.parameters() if p.requires_grad
    }


@pytest.mark.parametrize("architecture", TRAINED)
def test_the_merged_copy_is_a_plain_model_with_the_same_results(architecture):
    lora, before = adapted(architecture)
    with_random_adapters(lora)
    merged = merged_copy(lora)
    assert loss(lora).item() != pytest.approx(before.item(), rel=1e-5)
    assert loss(merged).item() == pytest.approx(loss(lora).item(), rel=2e-6)
    assert merged.state_dict().keys() == model(architecture).state_dict().keys()
    assert not any(isinstance(module, LowRankLinear) for module in merged.modules())


def test_a_merged_copy_leaves_the_random_state_of_a_training_as_it_is():
    lora, _ = adapted()
    before = torch.get_rng_state()
    merged_copy(lora)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_product_has_the_scale_alpha_by_rank():
    linear = torch.nn.Linear(3, 5)
    layer = LowRankLinear(linear, rank=2, alpha=6.0)
    torch.nn.init.normal_(layer.lora_B)
    x = torch.randn(4, 3)
    expected = x @ (linear.weight + 3.0 * layer.lora_B @ layer.lora_A).T + linear.bias
    torch.testing.assert_close(layer(x), expected)


def test_the_number_of_trained_parameters_follows_from_the_rank():
    lora, _ = adapted(rank=3)
    shapes = [(24, 8), (8, 8), (32, 8), (8, 32)]  # c_attn, attn.c_proj, c_fc, mlp.c_proj
    assert sum(p.numel() for p in lora.parameters() if p.requires_grad) == 2 * sum(3 * (o + i) for o, i in shapes)


def test_an_architecture_without_linear_layers_is_refused():
    with pytest.raises(SettingError, match="no linear layers between hidden states"):
        add_adapters(model("ngram"), 2, 4.0)


def test_adapters_of_another_rank_are_refused():
    lora, other = adapted(rank=2)[0], adapted(rank=3)[0]
    with pytest.raises(UserError, match="of another model or rank"):
        load_adapters(lora, adapter_tensors(other), "the checkpoint")
