"""The characters in nanoGPT's `meta.pkl`, read without unpickling it (`plain_pickle`)."""

from pathlib import Path

from nanogpt.data.plain_pickle import READ_ERRORS, plain_values
from nanogpt.errors import UserError
from nanogpt.files import read_bytes, why

MOST_BYTES = 1 << 22  # all characters of Unicode, twice


def read_characters(path: Path) -> str:
    """Return the characters by id, in order, as the tokenizer `char` has them.

    Raise `UserError` if the file has anything else than nanoGPT's two dictionaries, or gives the ids in another order.
    """
    try:
        values = plain_values(read_bytes(path, MOST_BYTES))
        by_id = values["itos"]
        characters = [by_id[id] for id in range(len(by_id))]
        if not all(isinstance(character, str) and len(character) == 1 for character in characters):
            raise ValueError("its `itos` does not have one character for each id")
    except READ_ERRORS as error:
        problem = why(error) if isinstance(error, OSError | ValueError) else "its `itos` is missing or damaged"
        raise UserError(f"{path} does not have the characters of a nanoGPT data set: {problem}") from None
    if characters != sorted(set(characters)):
        raise UserError(
            f"the characters in {path} are not sorted, as nanoGPT's are, and the tokenizer char would give them other "
            "ids: prepare the text itself with `nanogpt prepare textfile`, and train on that"
        )
    return "".join(characters)
