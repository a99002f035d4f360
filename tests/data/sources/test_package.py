"""The files of an installed distribution as a text."""

from pathlib import Path

import pytest

from nanogpt.data import prepare, sources
from nanogpt.data.recipes import Recipe
from nanogpt.errors import UserError
from nanogpt.events import Prepared
from tests.generators import outcome


def test_a_package_is_read_where_it_is_installed(tmp_path: Path) -> None:
    source = sources.create("package", distribution="pytest", glob="_pytest/*.py")
    assert source.available_offline()
    *_, files = outcome(source.files())
    assert any(path.name == "fixtures.py" for path in files)
    *_, prepared = prepare(Recipe(name="package", source=source, tokenizer="byte"), data_dir=tmp_path)
    assert isinstance(prepared, Prepared)
    assert prepared.tokens["train"] > 100_000


def test_a_package_that_is_absent_or_has_no_such_files_is_refused() -> None:
    absent = sources.create("package", distribution="no-such-thing", glob="*")
    assert not absent.available_offline()
    with pytest.raises(UserError, match=r"no-such-thing is not installed: run `pip install --no-deps no-such-thing`"):
        outcome(absent.files())
    with pytest.raises(UserError, match="has no files"):
        outcome(sources.create("package", distribution="pytest", glob="*.nope").files())
