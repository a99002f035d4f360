"""The LSTM against torch's own."""

import torch

from tests.architectures import build


@torch.no_grad()
def test_it_equals_torch_nn_lstm_with_the_same_weights() -> None:
    torch.manual_seed(1)
    C = 24
    model = build(architecture="lstm", n_layer=3, n_embd=C, block_size=16, vocab_size=11)
    theirs = torch.nn.LSTM(C, C, num_layers=3, batch_first=True)
    ours = model.state_dict()
    for layer in range(3):
        for name, weight in {
            "weight_ih": ours[f"layers.{layer}.input.weight"],
            "weight_hh": ours[f"layers.{layer}.recurrent.weight"],
            "bias_ih": ours[f"layers.{layer}.input.bias"],
            "bias_hh": torch.zeros(4 * C),
        }.items():
            theirs.get_parameter(f"{name}_l{layer}").copy_(weight)
    ids = torch.randint(11, (5, 16))
    hidden, _ = theirs(ours["wte.weight"][ids])
    expected = hidden @ ours["head.weight"].T + ours["head.bias"]
    torch.testing.assert_close(model.logits(ids), expected, rtol=0, atol=1e-4)
