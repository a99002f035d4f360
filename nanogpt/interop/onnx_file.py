"""A model as one ONNX file, from ids (B, T) to logits (B, T, V), written by torch's own exporter."""

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from nanogpt import extras
from nanogpt.errors import UserError
from nanogpt.files import new_file, why
from nanogpt.models.base import LanguageModel

LARGEST = 2_000_000_000  # bytes of weights in one file


class _Logits(nn.Module):
    """The logits of every position as a forward pass, which is what the exporter takes."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        """Return (B, T, V) for ids (B, T)."""
        return self.model.logits(ids)


def write_onnx(model: LanguageModel, path: Path) -> None:
    """Write the model, on the CPU, into a new file, for any batch and up to block_size positions.

    The input is `ids` (B, T) int64, the output `logits` (B, T, V) float32. Raise `UserError` for an architecture that
    the exporter cannot express, and for a file that exists or cannot be written.
    """
    for module in ("onnx", "onnxscript"):
        extras.load(module, "onnx", "the export to ONNX")
    config = model.config
    if not config.capabilities.every_position or config.block_size < 2:
        raise UserError(f"architecture={config.name}: a model of one position only cannot be exported to ONNX")
    if 4 * model.n_parameters() > LARGEST:
        raise UserError("an ONNX file has at most 2 GB: export this model with --to=hf or --to=gguf")
    # As long as the context: what the exporter decides for this length, such as to mask, is right for shorter ones too.
    ids = torch.zeros(2, config.block_size, dtype=torch.int64)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("positions", min=2, max=config.block_size)}
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        with new_file(path) as partial, warnings.catch_warnings(action="ignore"):
            logger.setLevel(logging.ERROR)  # it reports operators of packages that are not installed
            try:
                program = torch.onnx.export(
                    _Logits(model).eval(),
                    (ids,),
                    dynamo=True,
                    input_names=["ids"],
                    output_names=["logits"],
                    dynamic_shapes={"ids": sizes},
                    verbose=False,
                )
            except torch.onnx.errors.OnnxExporterError as error:
                reason = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0]
                raise UserError(
                    f"architecture={config.name}: torch's exporter cannot express it in ONNX ({reason[:200]})"
                ) from None
            assert program is not None
            program.save(partial)
    except OSError as error:
        raise UserError(f"cannot write {path}: {why(error)}; choose another place") from None
    finally:
        logger.setLevel(level)
