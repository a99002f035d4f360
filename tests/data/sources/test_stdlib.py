"""The standard library as a text."""

from nanogpt.data import sources
from tests.generators import outcome


def test_excluded_files_and_folders_are_skipped() -> None:
    *_, files = outcome(sources.create("stdlib", exclude=("test", "site-packages", "a*.py")).files())
    assert any(path.name == "textwrap.py" for path in files)
    assert not any(path.name == "argparse.py" or {"test", "site-packages"} & set(path.parts) for path in files)
