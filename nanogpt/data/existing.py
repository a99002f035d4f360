"""What preparing does with a data set that has the name already."""

import os
import time
from pathlib import Path

from nanogpt.data import store
from nanogpt.errors import UserError
from nanogpt.events import Prepared

REPLACE_ADVICE = "choose another name with --output=NAME, or replace it with --force"


def can_keep(folder: Path, force: bool) -> bool:
    """Return whether `folder` has a data set that is not to be replaced. Raise `UserError` if it is something else."""
    if not os.path.lexists(folder):
        return False
    if not store.is_dataset(folder):
        raise UserError(f"{folder} exists and is not a data set; choose another name with --output=NAME")
    return not force


def check_free(folder: Path) -> None:
    """Raise `UserError` if a data set is there, which another process has made since this preparation was asked for."""
    if os.path.lexists(folder):
        raise UserError(
            f"{folder} was made by another process meanwhile: choose another name with --output=NAME, or replace it "
            "with --force"
        )


def prepared_event(meta: store.Meta, folder: Path, began: float) -> Prepared:
    """Return the last event of a preparation that began at `began` (monotonic, seconds)."""
    return Prepared(
        name=meta.name,
        path=str(folder),
        tokenizer=meta.tokenizer,
        vocab_size=meta.vocab_size,
        tokens=meta.tokens,
        elapsed_s=time.monotonic() - began,
    )
