"""Reading a data set or the files of a recipe page by page. All methods read the disk: call them in a thread."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nanogpt.formatting import counted
from nanogpt_tui.text import printable

if TYPE_CHECKING:
    from nanogpt.data.pages import Page
    from nanogpt.data.recipes import Recipe
    from nanogpt.data.store import Dataset


class DatasetReader:
    """The pages of the splits of a prepared data set."""

    def __init__(self, name: str) -> None:
        self.name, self.split, self.splits = name, "train", list[str]()
        self.share = 0.0  # of the split: where the page begins
        self._total, self._documents = 0, dict[str, int | None]()
        self._start, self._next = 0, 0

    def first(self) -> "Page | None":
        """Return the first page of the split."""
        return self.go_to(0.0)

    def jump(self, by: float) -> "Page | None":
        """Return a page about so far from this one, as a share of the split; one before it if `by` is negative."""
        return self.go_to(max(0.0, min(1.0, self.share + by)), before=self._start if by < 0 else None)

    def go_to(self, share: float, before: int | None = None) -> "Page | None":
        """Return a page near a place from 0 to 1 of the split, one that begins before a token if that is given."""
        from nanogpt.data.pages import count_documents, document_start

        dataset = self._dataset()
        if self.split not in self._documents:
            self._documents[self.split] = count_documents(dataset, self.split)
        return self._page(document_start(dataset, self.split, share, before))

    def next(self) -> "Page | None":
        """Return the next page; None after the last one."""
        return self._page(self._next)

    def previous(self) -> "Page | None":
        """Return the page before; None before the first one."""
        from nanogpt.data.pages import start_before

        return self._page(start_before(self._dataset(), self.split, self._start)) if self._start else None

    def next_split(self) -> "Page | None":
        """Return the first page of the next split."""
        self.split = self.splits[(self.splits.index(self.split) + 1) % len(self.splits)]
        return self.first()

    def _dataset(self) -> "Dataset":
        from nanogpt.data.store import open_dataset

        dataset = open_dataset(self.name)
        self.splits, self._total = list(dataset.meta.tokens), dataset.meta.tokens[self.split]
        return dataset

    def _page(self, start: int) -> "Page | None":
        from nanogpt.data.pages import dataset_pages

        page = next(dataset_pages(self._dataset(), self.split, start), None)
        if page is not None:
            self._start, self._next, self.share = page.start, page.end, page.start / self._total
        return page

    def where(self, page: "Page") -> str:
        """Return in words what a page is and where."""
        documents = self._documents.get(self.split)
        inside = f"{counted(documents, 'document')}, " if documents is not None else ""
        tokens, characters = counted(page.end - page.start, "token"), counted(len(page.text), "character")
        return (
            f"{self.split}: {inside}{self._total:,} tokens   at {page.start / self._total:.1%}: {tokens}, {characters}"
        )

    def ending(self, page: "Page") -> str:
        """Return what comes after a page, in words; "" if the text simply goes on."""
        return "end of the document" if page.ends_document else "end of the split" if page.end == self._total else ""


class RecipeReader:
    """The pages of the files of a recipe, which is not prepared."""

    share = 0.0  # of the text: it cannot be told how long that is

    def __init__(self, name: str, recipe: "Recipe | None") -> None:
        """recipe: None: it is read by its name."""
        self.name, self._recipe = name, recipe
        self._pages: list[Page] = []
        self._at = -1
        self._more: Iterator[Page] = iter(())
        self._files = 0

    def first(self) -> "Page | None":
        """Return the first page; the files are found at the first call."""
        if not self._pages:
            self._more = self._open()
            return self.next()
        self._at = 0
        return self._pages[0]

    def next(self) -> "Page | None":
        """Return the next page; None after the last one."""
        if self._at + 1 == len(self._pages):
            page = next(self._more, None)
            if page is None:
                return None
            self._pages.append(page)
        self._at += 1
        return self._pages[self._at]

    def previous(self) -> "Page | None":
        """Return the page before; None before the first one."""
        if self._at < 1:
            return None
        self._at -= 1
        return self._pages[self._at]

    def _open(self) -> Iterator["Page"]:
        from nanogpt.data.pages import file_pages
        from nanogpt.data.recipes import load_recipe

        recipe = self._recipe or load_recipe(self.name)
        found = recipe.source.files(recipe.encoding)
        while True:
            try:
                next(found)
            except StopIteration as end:
                self._files = len(end.value)
                return file_pages(end.value, recipe.encoding, recipe.source.text_column)

    def where(self, page: "Page") -> str:
        """Return in words what a page is and where."""
        return f"{counted(self._files, 'file')}   {printable(page.origin)}: {counted(len(page.text), 'character')}"

    def ending(self, page: "Page") -> str:
        """Return what comes after a page, in words."""
        return "end of the document" if page.ends_document else ""
