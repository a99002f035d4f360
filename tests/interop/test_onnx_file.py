"""What torch's exporter writes, run by ONNX's own reference implementation."""

from typing import Any

import pytest
import torch
from onnx.reference import ReferenceEvaluator

from nanogpt.errors import UserError
from nanogpt.interop.onnx_file import write_onnx
from tests import architectures

SHAPE: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 12, "vocab_size": 30}
ROTARY: dict[str, Any] = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "n_kv_head": 1}


@torch.inference_mode()
def test_any_batch_and_length_has_the_same_logits_there(tmp_path, capfd):
    """With a window that is shorter than some of the lengths."""
    torch.manual_seed(6)
    model = architectures.build(**SHAPE, **ROTARY, local_window=3).eval()
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) / 4)
    write_onnx(model, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    session = ReferenceEvaluator(str(tmp_path / "model.onnx"))
    for batch, length in ((1, 12), (3, 5), (2, 2), (1, 1)):
        ids = torch.randint(30, (batch, length), generator=torch.Generator().manual_seed(length))
        [logits] = session.run(None, {"ids": ids.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), model.logits(ids), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_large_model_is_one_file_too(tmp_path, monkeypatch):
    """torch's own `save` divides models above a threshold, which is lowered here."""
    monkeypatch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 0)
    model = architectures.build(**SHAPE | {"n_layer": 1}).eval()
    write_onnx(model, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    ids = torch.tensor([[3, 5]])
    [logits] = ReferenceEvaluator(str(tmp_path / "model.onnx")).run(None, {"ids": ids.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model.logits(ids), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_exported_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "there.onnx").touch()
    with pytest.raises(UserError, match="it already exists; choose another place"):
        write_onnx(architectures.build(**SHAPE), tmp_path / "there.onnx")
    for block_size in (1, 2):
        with pytest.raises(UserError, match=rf"^block_size={block_size}: ONNX needs .* with --to=safetensors$"):
            write_onnx(architectures.build(**SHAPE | {"block_size": block_size}), tmp_path / "model.onnx")
    monkeypatch.setattr("nanogpt.interop.onnx_file.LARGEST", 100)
    with pytest.raises(UserError, match="an ONNX file has at most 2 GB"):
        write_onnx(architectures.build(**SHAPE), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]


@pytest.mark.parametrize(
    ("architecture", "why"),
    [
        ("megabyte", "torch's exporter cannot express it in ONNX for any batch and length"),
        ("lstm", "torch's exporter cannot express it in ONNX for any batch and length"),
        ("ngram", "it looks its counts up in tables"),
    ],
)
def test_an_architecture_that_onnx_cannot_express_is_one_line_with_advice(architecture, why, tmp_path, capfd):
    """Nor does the exporter print its graph, or write a file for one length only."""
    model = architectures.build(architecture=architecture, **SHAPE, patch_size=4)
    with pytest.raises(UserError, match=rf"^architecture={architecture}: {why}.*; export .* with --to=safetensors$"):
        write_onnx(model, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


@torch.inference_mode()
def test_the_mask_of_documents_is_exported(tmp_path):
    torch.manual_seed(6)
    model = architectures.build(**SHAPE).eval()
    model.document_separator = 0
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) / 4)
    write_onnx(model, tmp_path / "model.onnx")
    session = ReferenceEvaluator(str(tmp_path / "model.onnx"))
    ids = torch.tensor([[3, 0, 5, 6, 0, 7, 8], [0, 1, 2, 3, 4, 5, 6]])
    [logits] = session.run(None, {"ids": ids.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model.logits(ids), rtol=1e-4, atol=1e-4)
