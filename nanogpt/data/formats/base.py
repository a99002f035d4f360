"""The base class of all document formats: how the texts in a file are found."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

from nanogpt.data.streams import Stream


class Format(ABC):
    """A kind of file, chosen by the end of its name. A subclass has no state.

    `name` is that of its module. `suffixes` are in lower case, and also match before one of a compression, as in
    `a.jsonl.gz`. `is_text`: the file is a text as it is, and one document. `has_columns`: a document is a value of a
    text column of a table.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    is_text: ClassVar[bool] = False
    has_columns: ClassVar[bool] = False

    @abstractmethod
    def documents(
        self, stream: Stream, *, text_column: str | None, encoding: str | None, skipped: Counter[str]
    ) -> Iterator[str]:
        """Yield the texts of the documents of an open file, in their order, in memory that does not grow with the file.

        text_column: of a table; None: the column `text`, or else the only one of texts. encoding: of the bytes; None:
        detect it. A document that is broken, empty or not a text is left out, and its reason counted in `skipped`.
        Raise `UserError` if the file cannot be read to its end, and if no text column is found.
        """
