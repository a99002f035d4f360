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
    if config.capabilities.counted:
        raise UserError(
            f"architecture={config.name}: it looks its counts up in tables, and an ONNX file has matrix products; "
            "export the counts with --to=safetensors"
        )
    if not config.capabilities.every_position:
        raise UserError(f"architecture={config.name}: a model of one position only cannot be exported to ONNX")
    if config.block_size < 3:  # the exporter needs two lengths, and takes a length of 1 for the only one
        raise UserError(
            f"block_size={config.block_size}: ONNX needs a model of three positions or more; export the weights with "
            "--to=safetensors"
        )
    if 4 * model.n_parameters() > LARGEST:
        raise UserError("an ONNX file has at most 2 GB: export this model with --to=hf or --to=gguf")
    # As long as the context, and one less: what the exporter decides for these lengths, such as to mask, is right for
    # shorter ones too.
    longest = config.block_size
    ids = torch.zeros(2, longest, dtype=torch.int64)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("positions", min=longest - 1, max=longest)}
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        with new_file(path) as partial, warnings.catch_warnings(action="ignore"):
            logger.setLevel(logging.ERROR)  # it reports operators of packages that are not installed
            try:
                # `torch.onnx.export` itself would try other ways after the first: they print the graph of a model that
                # they cannot express, and write a loop over positions as a file for one length only.
                exported = torch.export.export(_Logits(model).eval(), (ids,), dynamic_shapes={"ids": sizes})
                program = torch.onnx.export(
                    exported, dynamo=True, input_names=["ids"], output_names=["logits"], verbose=False
                )
            except (RuntimeError, AssertionError, torch.onnx.errors.OnnxExporterError) as error:
                raise UserError(
                    f"architecture={config.name}: torch's exporter cannot express it in ONNX for any batch and length; "
                    "export the weights alone with --to=safetensors"
                ) from error
            assert program is not None
            # Above 1.5 GB `program.save` writes the weights into a second file, whose name would stay a partial one.
            partial.write_bytes(program.model_proto.SerializeToString())
    except OSError as error:
        raise UserError(f"cannot write {path}: {why(error)}; choose another place") from None
    finally:
        logger.setLevel(level)
