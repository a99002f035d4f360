"""The Data screen, driven by keys over real files: listing, preparing, adding, looking, deleting."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any

import pytest

from nanogpt import data, paths, tokenizers
from nanogpt.data import open_dataset, prepare, sources, textfile_recipe
from nanogpt.data.corpus import meter
from nanogpt.data.document_settings import DocumentSettings
from nanogpt.data.recipes import Recipe
from nanogpt.errors import UserError
from nanogpt.events import CorpusEncoding, Downloading, Encoding, Notice, TokenizerTraining
from nanogpt_tui import token_views
from nanogpt_tui.progress import Progress
from nanogpt_tui.screens.data.dataset_facts import Entry, facts_text, list_entries, recorded_origin
from nanogpt_tui.screens.new_run.screen import NewRunScreen
from nanogpt_tui.widgets.path_input import PathInput, common_prefix, completions
from nanogpt_tui.widgets.tokenizer_field import TokenizerField
from tests.ending_worker import EndingWorker


async def opened(at: Any, name: str) -> Any:
    """The Data screen, with the cursor on a data set."""
    await at.press("1")
    screen = at.app.screen
    await at.until(lambda: screen.entries)
    screen.highlight(name)
    await at.until(lambda: screen.entry and screen.entry.name == name)
    return screen


async def test_recipes_are_listed_with_what_keeps_them_from_being_ready(lab: Any) -> None:
    async with lab() as at:
        await opened(at, "shakespeare_char")
        words = [line.split() for line in at.seen().splitlines()]
        rows = {line[1]: line[0] for line in words if line and line[0] in "○⊘"}
        assert (rows["rhymes"], rows["python_stdlib"], rows["shakespeare_char"]) == ("○", "○", "⊘")
        await at.sees("needs the network")
        await at.until(lambda: "use local file" in at.seen().splitlines()[-1])


async def test_preparing_turns_a_recipe_into_tokens_and_shows_them(lab: Any) -> None:
    async with lab() as at:
        screen = await opened(at, "rhymes")
        await at.press("p")
        await at.until(lambda: "rhymes" in screen.details.previews)
        meta = open_dataset("rhymes").meta
        await at.sees(f"train {meta.tokens['train']:,}", "● ready", "the text, token by token", "most common of")
        await at.until(lambda: "prepare" not in at.seen().splitlines()[-1])


async def test_a_cancelled_preparation_leaves_nothing(
    lab: Any, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanogpt.data import preparation

    monkeypatch.setattr(preparation, "REPORT_INTERVAL_S", 0.0)  # an event, and a chance to cancel, for every block
    big = tmp_path / "big.txt"
    big.write_text(text * 800)  # 32 MB
    async with lab() as at:
        screen = await opened(at, "rhymes")
        screen._add(textfile_recipe([big], tokenizer="gpt2"))
        await at.until(lambda: screen.preparation.progress.share > 0)
        await at.sees("MB/s")
        await at.until(lambda: "cancel" in at.seen().splitlines()[-1])
        await at.press("escape")
        await at.until(lambda: screen.preparation is None and not any(entry.name == "big" for entry in screen.entries))
        assert list(paths.datasets_dir().glob("*big*")) == []


async def test_a_preparation_is_paused_and_resumed_with_one_key(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled: list[int] = []
    enough = Event()

    def counting(recipe: Any, **options: Any) -> Iterator[Encoding]:
        while not enough.is_set():
            pulled.append(1)
            yield Encoding(phase="encode", done_bytes=25, total_bytes=100, tokens=25)

    monkeypatch.setattr(data, "prepare", counting)
    async with lab() as at:
        screen = await opened(at, "rhymes")
        await at.press("p")
        await at.until(lambda: pulled)
        await at.press("space")
        held = len(pulled)  # one item more at most: the one that was asked for when the key was pressed
        await at.sees("‖ rhymes", "paused  ", " 25%")
        await at.press("ctrl+r")  # the list is read again meanwhile
        assert len(pulled) <= held + 1
        enough.set()
        await at.press("space")
        await at.until(lambda: screen.preparation is None)


async def test_the_last_warning_of_a_preparation_is_not_lost_if_its_thread_ends_while_they_are_read(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_events: list[Callable[[], None]] = []
    worker = EndingWorker(Notice(level="warning", text="half of it is empty"))

    def prepare(recipe: Any, on_change: Callable[[], None]) -> EndingWorker:
        on_events.append(on_change)
        return worker

    async with lab() as at:
        screen = await opened(at, "rhymes")
        monkeypatch.setattr(at.session, "prepare", prepare)
        screen.prepare("rhymes", "rhymes")
        on_events[0]()
        assert screen.preparation is not None
        on_events[0]()
        assert screen.preparation is None
        await at.sees("half of it is empty")


async def test_a_paused_preparation_is_cancelled(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = Event()

    def endless(recipe: Any, **options: Any) -> Iterator[Encoding]:
        try:
            while True:
                yield Encoding(phase="encode", done_bytes=1, total_bytes=100, tokens=1)
        finally:
            closed.set()

    monkeypatch.setattr(data, "prepare", endless)
    async with lab() as at:
        screen = await opened(at, "rhymes")
        await at.press("p")
        await at.sees("encoding")
        await at.press("space")
        await at.sees("paused  ")
        await at.press("escape")
        await at.until(lambda: screen.preparation is None)
        assert closed.is_set()


CORPUS = """
tokenizer = "byte"
[splits]
val_ratio = 0.2
[source]
kind = "files"
paths = ["{folder}"]
[documents]
shuffle_tokens = 2000
"""


@pytest.fixture
def stories(home: Path, rhymes: Any, tmp_path: Path) -> None:
    """The recipe of a corpus of two files with 200 documents each, of about 20 bytes."""
    folder = tmp_path / "stories"
    folder.mkdir()
    for file in "ab":
        lines = [json.dumps({"text": f"story {number} of {file}, in short"}) for number in range(200)]
        (folder / f"{file}.jsonl").write_text("\n".join(lines))
    (home / "config" / "datasets" / "stories.toml").write_text(CORPUS.format(folder=folder))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Preparations of corpora wait for this with something on disk, and something left to do."""
    monkeypatch.setattr(meter, "REPORT_INTERVAL_S", 0.0)
    real, go_on = data.prepare, Event()

    def prepare(recipe: Any, **options: Any) -> Iterator[Any]:
        for event in real(recipe, **options):
            yield event
            if isinstance(event, CorpusEncoding) and event.committed_tokens > 0 and event.shards_done < event.shards:
                go_on.wait(60)

    monkeypatch.setattr(data, "prepare", prepare)
    return go_on


async def test_an_interrupted_corpus_is_shown_as_such_and_continued_with_the_same_key(
    lab: Any, stories: None, held: Event
) -> None:
    async with lab() as at:
        screen = await opened(at, "stories")
        await at.press("p")
        await at.sees("file        1 of 2", "committed", "documents", "disk")
        await at.press("escape")
        held.set()
        await at.until(lambda: screen.preparation is None)
        await at.sees("‖ stories", "it can be continued", "of a part", "p continues")
        assert list(paths.datasets_dir().glob(".stories*/train*"))
        await at.press("p")
        await at.sees("continuing the preparation of stories")
        await at.until(lambda: screen.entry.info.prepared)
        counts = open_dataset("stories").meta.source["documents"]
        assert sum(counts.values()) == 400
        await at.sees(f"documents   train {counts['train']}  val {counts['val']}")


async def test_own_documents_that_were_interrupted_continue_in_a_later_session(
    lab: Any, stories: None, held: Event, tmp_path: Path
) -> None:
    settings = DocumentSettings(shuffle_tokens=2000)
    recipe = textfile_recipe([tmp_path / "stories"], name="own", tokenizer="byte", val_ratio=0.2, documents=settings)
    async with lab() as at:
        screen = await opened(at, "stories")
        screen._add(recipe)
        await at.sees("◌ is being prepared", "committed")
        await at.press("space")
        await at.sees("‖ preparing is paused")
        await at.press("escape")
        held.set()
        await at.until(lambda: screen.preparation is None)
    async with lab() as at:
        screen = await opened(at, "own")
        await at.sees("‖ own", "it can be continued", "of a part", "p continues", "validation 20%")
        await at.press("p")
        await at.sees("continuing the preparation of own")
        await at.until(lambda: screen.entry.info.prepared)
        assert sum(open_dataset("own").meta.source["documents"].values()) == 400


async def test_deleting_interrupted_documents_of_ones_own_says_that_only_the_text_stays(
    lab: Any, stories: None, held: Event, tmp_path: Path
) -> None:
    settings = DocumentSettings(shuffle_tokens=2000)
    async with lab() as at:
        screen = await opened(at, "stories")
        screen._add(textfile_recipe([tmp_path / "stories"], name="own", tokenizer="byte", documents=settings))
        await at.sees("◌ is being prepared", "committed")
        await at.press("escape")
        held.set()
        await at.until(lambda: screen.preparation is None and screen.entry.info.unfinished)
        await at.press("d")
        await at.sees("Delete the tokens of own?", "only the text stays")
        await at.press("y")
        await at.until(lambda: all(entry.name != "own" for entry in screen.entries))


async def test_a_corpus_from_a_local_copy_is_continued_from_it(
    lab: Any, stories: None, held: Event, home: Path, tmp_path: Path
) -> None:
    toml = home / "config" / "datasets" / "stories.toml"
    download = 'kind = "mirror"\nurls = ["http://localhost:9/"]\nnames = ["a.jsonl", "b.jsonl"]'
    toml.write_text(CORPUS.replace('kind = "files"\npaths = ["{folder}"]', download))
    async with lab() as at:
        screen = await opened(at, "stories")
        await at.press("f")
        await at.paste(str(tmp_path / "stories"))
        await at.press("enter")
        await at.until(lambda: screen.preparation and screen.preparation.progress.is_committed)
        await at.press("escape")
        held.set()
        await at.until(lambda: screen.preparation is None and screen.entry.info.unfinished)
        await at.sees("p continues")
        await at.press("p")
        await at.until(lambda: screen.entry.info.prepared or screen.problems)
        assert not screen.problems
        assert sum(open_dataset("stories").meta.source["documents"].values()) == 400


async def test_a_corpus_with_other_settings_is_continued_or_deleted_too(lab: Any, stories: None, held: Event) -> None:
    async with lab() as at:
        screen = await opened(at, "stories")
        await at.press("S")
        await at.sees("with other settings")
        await at.press("ctrl+s")
        await at.until(lambda: screen.preparation and screen.preparation.progress.is_committed)
        await at.press("escape")
        held.set()
        await at.until(lambda: screen.preparation is None)
        await at.sees("‖ stories-2", "p continues")
        await at.press("p")
        await at.until(lambda: screen.entry.name == "stories-2" and screen.entry.info.prepared)
        await at.press("d", "y")
        await at.until(lambda: all(entry.name != "stories-2" for entry in screen.entries))
        assert not list(paths.datasets_dir().glob("*stories-2*"))


async def test_a_corpus_is_prepared_with_other_settings_of_its_documents(lab: Any, stories: None) -> None:
    async with lab() as at:
        screen = await opened(at, "stories")
        await at.press("S")
        await at.sees("deduplicate", "2 files, 400 documents", "vocabulary 256")
        form = at.app.screen
        form.query_one("#max_docs").value = "2"
        await at.until(lambda: "has to be at least 3" in form.query_one("#max_docs-error").render().plain)
        form.query_one("#max_docs").value = "50"
        await at.sees("2 files, 50 documents")
        form.query_one("#deduplicate").value = "false"
        await at.press("ctrl+s")
        await at.until(lambda: screen.entry.name == "stories-2" and screen.entry.info.prepared)
        source = open_dataset("stories-2").meta.source
        assert sum(source["documents"].values()) == 50
        assert source["settings"]["deduplicate"] is False


async def test_own_files_are_added_as_documents(lab: Any, stories: None, tmp_path: Path) -> None:
    async with lab() as at:
        screen = await opened(at, "rhymes")
        await at.press("a")
        await at.paste(str(tmp_path / "stories"))
        form = at.app.screen
        form.query_one("#name").value = "mine"
        form.query_one("#content").value = "documents"
        form.query_one("#val_ratio").value = "0.5"
        await at.sees("2 files, 400 documents")
        await at.press("ctrl+s")
        await at.until(lambda: screen.entry.name == "mine" and screen.entry.info.prepared)
        counts = open_dataset("mine").meta.source["documents"]
        assert sum(counts.values()) == 400
        assert min(counts.values()) > 100


async def test_the_kinds_of_tokenizers_are_imported_in_a_thread(
    lab: Any, rhymes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known, threads = tokenizers.loadable_names, list[Any]()

    def loadable_names() -> list[str]:
        threads.append(current_thread())
        return known()

    monkeypatch.setattr(tokenizers, "loadable_names", loadable_names)
    async with lab() as at:
        await opened(at, "rhymes")
        await at.press("a")
        await at.sees("add your own text")
        assert threads
        assert main_thread() not in threads


def test_a_corpus_shows_its_files_documents_and_disk_and_a_text_its_line_alone() -> None:
    progress = Progress()
    progress.add(Encoding(phase="encode", done_bytes=1, total_bytes=4, tokens=1))
    assert "\n" not in progress.lines(60, ascii_only=True).plain
    progress.add(
        CorpusEncoding(
            phase="encode", done_bytes=10**9, total_bytes=4 * 10**9, tokens=3_000_000, shard="\x1b[31mdata/000.parquet",
            shards_done=2, shards=8, documents=1234, duplicates=5, skipped=0, committed_tokens=2_500_000,
            downloaded_bytes=1_200_000_000, disk_bytes=950_000_000, bytes_per_second=1e6, elapsed_s=9.0,
        )
    )  # fmt: skip
    assert progress.share == 0.25
    _, *rows = progress.lines(45, ascii_only=True).plain.splitlines()
    assert rows == [
        "file        3 of 8  ␛[31mdata/000.parquet",
        "documents   1,234  5 duplicates",
        "tokens      3,000,000, 2.5 M committed",
        "disk        950.0 MB, 1.2 GB downloaded",
    ]
    assert all(line.cell_length <= 45 for line in progress.lines(45, ascii_only=True).split("\n"))


async def test_what_goes_wrong_stands_beside_the_data_set(lab: Any, text_file: Path) -> None:
    async with lab() as at:
        screen = await opened(at, "rhymes")
        text_file.write_bytes(b"\0\1\2" * 100)
        await at.press("p")
        await at.until(lambda: "rhymes" in screen.problems)
        await at.sees("is not text")
        await at.until(lambda: "prepare" in at.seen().splitlines()[-1])  # and can be tried again


async def test_a_file_given_by_hand_is_checked_against_the_recipe(lab: Any, text_file: Path) -> None:
    async with lab() as at:
        screen = await opened(at, "shakespeare_char")
        await at.press("f")
        await at.paste(str(text_file))
        await at.press("enter")
        await at.until(lambda: "shakespeare_char" in screen.problems)
        assert "not the expected file" in screen.problems["shakespeare_char"]


async def test_a_recipe_is_prepared_with_other_settings_under_another_name(lab: Any, text_file: Path) -> None:
    async with lab() as at:
        screen = await opened(at, "rhymes")
        await at.press("S")
        await at.sees("prepare rhymes with other settings", f"{len(text_file.read_text()):,} tokens")
        form = at.app.screen
        for value, problem in (("0,1", "has to be a fraction"), ("0.95", "leave nothing to train on")):
            form.query_one("#test_ratio").value = value
            await at.until(lambda problem=problem: problem in form.query_one("#test_ratio-error").render().plain)
            assert form.query_one("#test_ratio-error").has_class("-shown")
        form.query_one("#test_ratio").value = "0.1"
        form.query_one("#val_ratio").value = "0.2"
        await at.sees("test ")  # the sizes of all splits, before anything is written
        assert form.query_one("#name").placeholder == "rhymes-test"
        form.query_one("#name").value = "shakespeare"
        await at.sees("the data set shakespeare already exists")
        form.query_one("#name").value = ""
        assert not (paths.datasets_dir() / "rhymes-test").exists()
        await at.press("ctrl+s")
        await at.until(lambda: (paths.datasets_dir() / "rhymes-test" / "meta.json").exists())
        await at.until(lambda: screen.entry.name == "rhymes-test" and screen.entry.info.prepared)
        meta = open_dataset("rhymes-test").meta
        assert (meta.val_ratio, meta.test_ratio, set(meta.tokens)) == (0.2, 0.1, {"train", "val", "test"})
        assert meta.split_bytes.keys() == meta.tokens.keys()
        await at.sees(f"test {meta.tokens['test']:,}")


async def test_the_sizes_follow_the_tokenizer_that_is_chosen(lab: Any, text_file: Path) -> None:
    text = text_file.read_text()
    async with lab() as at:
        screen = await opened(at, "rhymes")
        await at.press("S")
        await at.sees(f"{len(text):,} tokens")
        form = at.app.screen
        form.query_one(TokenizerField).query_one("Choice").value = "gpt2"
        tokens = len(tokenizers.create("gpt2").encode(text))
        await at.sees("vocabulary 50,257")
        # the splits are cut apart, so a piece of a word at the cut may be one token more
        counted = int(form.query_one("#outcome").render().plain.split(" tokens")[0].split()[-1].replace(",", ""))
        assert tokens <= counted <= tokens + 2
        await at.press("ctrl+s")
        await at.until(lambda: screen.entry.name == "rhymes-gpt2" and screen.entry.info.prepared)
        assert sum(open_dataset("rhymes-gpt2").meta.tokens.values()) == counted


async def test_nothing_is_downloaded_to_tell_sizes(lab: Any) -> None:
    async with lab() as at:
        screen = await opened(at, "shakespeare_char")
        await at.press("S")
        await at.sees("the sizes are known once the text is downloaded")
        await at.press("escape")
        screen.highlight("tinystories")
        await at.press("S")
        await at.sees("validation ", "of the documents, test 0%; tokens are counted while")


async def test_an_own_text_gets_a_test_split(lab: Any, text_file: Path) -> None:
    async with lab() as at:
        screen = await opened(at, "rhymes")
        await at.press("a")
        await at.paste(str(text_file))
        at.app.screen.query_one("#test_ratio").value = "0.1"
        await at.press("ctrl+s")
        await at.until(lambda: screen.entry.name == "small" and screen.entry.info.prepared)
        tokens = open_dataset("small").meta.tokens
        await at.sees(f"test {tokens['test']:,}")


async def test_an_own_text_is_counted_before_it_is_prepared(lab: Any, text_file: Path) -> None:
    async with lab() as at:
        await opened(at, "rhymes")
        await at.press("a")
        await at.paste(str(text_file))
        await at.until(lambda: "tokens" in at.seen() and "vocabulary" in at.seen())
        characters = len(text_file.read_text())
        await at.sees(f"{characters:,} tokens")
        assert not (paths.datasets_dir() / "small").exists()  # nothing is written yet
        await at.press("ctrl+s")
        await at.until(lambda: (paths.datasets_dir() / "small" / "meta.json").exists())
        await at.until(lambda: at.app.screen.entry.name == "small" and at.app.screen.entry.info.prepared)
        assert sum(open_dataset("small").meta.tokens.values()) == characters


async def test_what_is_wrong_with_an_own_text_is_marked_where_it_stands(lab: Any, text_file: Path) -> None:
    list(prepare(textfile_recipe([text_file])))
    async with lab() as at:
        await opened(at, "small")
        await at.press("a")
        await at.paste(str(text_file))
        said = "the data set small already exists"
        await at.until(lambda: said in at.app.screen.query_one("#name-error").render().plain)
        await at.press("tab")
        await at.until(lambda: at.app.focused.id == "name")
        await at.press(*"other")
        assert not at.app.screen.query_one("#name-error").has_class("-shown")
        at.app.screen.query_one("#val_ratio").value = "1.5"
        await at.settle()
        assert "below 1" in at.app.screen.query_one("#val_ratio-error").render().plain
        await at.press("ctrl+s")
        assert at.app.screen.query("#val_ratio")  # it stays


async def test_a_text_in_a_foreign_encoding_is_shown_as_it_reads_and_its_encoding_can_be_given(
    lab: Any, tmp_path: Path
) -> None:
    (tmp_path / "tao.txt").write_bytes(("道可道，非常道。" * 30).encode("gbk"))
    async with lab() as at:
        await opened(at, "rhymes")
        await at.press("a")
        await at.paste(str(tmp_path / "tao.txt"))
        await at.sees("GB18030, detected", "道可道，非常道。", "240 tokens")
        at.app.screen.query_one("#encoding").focus()
        await at.press(*"gb")
        await at.until(lambda: "no such encoding" in at.app.screen.query_one("#encoding-error").render().plain)
        await at.press("k")
        await at.until(lambda: "detected" not in at.app.screen.query_one("#outcome").render().plain)
        await at.sees("240 tokens")
        assert "道可道，非常道。" in at.app.screen.query_one("#outcome").render().plain
        assert not at.app.screen.query_one("#encoding-error").has_class("-shown")
        await at.press("ctrl+s")
        await at.until(lambda: (paths.datasets_dir() / "tao" / "meta.json").exists())
        assert open_dataset("tao").meta.source["encoding"] == "gbk"
        await at.sees("read as     gbk")


async def test_a_text_that_counting_refused_stays_in_the_form_until_it_is_mended(lab: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    async with lab() as at:
        await opened(at, "rhymes")
        await at.press("a")
        await at.paste(str(empty))
        await at.sees("is empty; give some text")
        form, counted = at.app.screen, at.app.screen._worker
        await at.press("ctrl+s")
        await at.until(lambda: form._worker is not counted and form._worker.done)  # counted anew
        await at.sees("add your own text", "is empty; give some text")
        empty.write_text("no longer empty\n" * 10)
        await at.press("ctrl+s")
        await at.sees("1 file, 0.2 kB, 160 characters")
        assert "is empty" not in at.seen()
        await at.press("ctrl+s")
        await at.until(lambda: (paths.datasets_dir() / "empty" / "meta.json").exists())


async def test_an_own_text_that_cannot_be_prepared_keeps_its_row_and_says_why(lab: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_bytes(b"\0\1\2" * 100)
    async with lab() as at:
        screen = await opened(at, "rhymes")
        screen._add(textfile_recipe([own]))
        await at.until(lambda: "own" in screen.problems)
        await at.press("ctrl+r")
        await at.sees("is not text")
        assert screen.entry.name == "own"
        assert screen.check_action("new_run", ()) is False
        own.write_text("it is text now\n" * 50)
        await at.press("p")
        await at.until(lambda: screen.entry.name == "own" and screen.entry.info.prepared)
        assert not screen.own_recipes


async def test_what_a_preparation_refuses_is_said_where_the_person_is(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = Event()

    def refused(recipe: Any, **options: Any) -> Iterator[Encoding]:
        yield Encoding(phase="scan", done_bytes=40, total_bytes=100, tokens=0)
        go_on.wait(60)
        raise UserError("own.txt changed while it was being read")

    monkeypatch.setattr(data, "prepare", refused)
    (tmp_path / "own.txt").write_text("some text\n")
    async with lab() as at:
        screen = await opened(at, "rhymes")
        for elsewhere in ("end", "2"):  # another row, another screen
            screen._add(textfile_recipe([tmp_path / "own.txt"]))
            await at.until(lambda: screen.preparation.progress.share > 0)
            await at.press(elsewhere)
            there = screen.entry.name
            assert there != "own" or elsewhere == "2"
            go_on.set()
            await at.sees("own: own.txt changed while it was being read")
            await at.until(lambda: "own" in screen.problems and screen.preparation is None)
            assert screen.entry.name == there  # the cursor stays where it was put
            go_on.clear()
            await at.press("1")


async def test_an_own_text_that_cannot_be_prepared_is_taken_off_the_list(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "own.txt").touch()
    async with lab() as at:
        screen = await opened(at, "rhymes")
        screen._add(textfile_recipe([tmp_path / "own.txt"]))
        await at.until(lambda: "own" in screen.problems)
        await at.press("d")
        await at.until(lambda: all(entry.name != "own" for entry in screen.entries))


async def test_an_own_text_has_its_row_and_its_progress_while_it_is_prepared(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = Event()

    def slow(recipe: Any, **options: Any) -> Iterator[Encoding]:
        yield Encoding(phase="encode", done_bytes=40, total_bytes=100, tokens=40)
        go_on.wait(60)
        yield from ()

    monkeypatch.setattr(data, "prepare", slow)
    own = tmp_path / "own.txt"
    own.write_text("some text of one's own\n" * 100)
    async with lab() as at:
        screen = await opened(at, "rhymes")
        await at.press("a")
        await at.paste(str(own))
        await at.press("ctrl+s")
        await at.sees("70%", "encoding")
        await at.press("ctrl+r")  # the list is read again, and it is not on disk yet
        await at.pilot.pause(0.3)
        assert screen.entry.name == "own"
        await at.sees("70%", "encoding")
        go_on.set()


async def test_tab_leaves_a_whole_path_for_the_next_field(lab: Any, tmp_path: Path) -> None:
    for name in ("texts/a.txt", "tales.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    async with lab() as at:
        await opened(at, "rhymes")
        await at.press("a")
        await at.paste(f"{tmp_path}/te")
        await at.press("tab")
        path = at.app.screen.query_one(PathInput)
        await at.until(lambda: path.value == f"{tmp_path}/texts/")
        await at.press("tab")
        await at.until(lambda: at.app.focused.id == "name")
        assert path.value == f"{tmp_path}/texts/"
        await at.press("shift+tab", "end", "a", "backspace")
        await at.until(lambda: path.suggests and path.exists)
        await at.press("down", "tab")
        assert path.value == f"{tmp_path}/texts/a.txt"


async def test_after_deleting_the_cursor_stays_where_it_was(lab: Any, text_file: Path) -> None:
    for name in ("sa", "sb"):
        list(prepare(textfile_recipe([text_file], name=name)))
    async with lab() as at:
        screen = await opened(at, "sa")
        await at.press("d", "y")
        await at.until(lambda: all(entry.name != "sa" for entry in screen.entries))
        assert screen.entry.name == "sb"


async def test_deleting_asks_and_keeps_the_recipe(lab: Any, rhymes: Any) -> None:
    list(prepare("rhymes"))
    async with lab() as at:
        screen = await opened(at, "rhymes")
        await at.press("d", "d", "escape")
        assert open_dataset("rhymes")
        await at.press("d", "y")
        await at.until(lambda: screen.entry and not screen.entry.info.prepared)
        assert screen.entry.name == "rhymes"
        await at.sees("not prepared")


async def test_a_data_set_that_another_process_prepared_again_is_shown_anew(lab: Any, text_file: Path) -> None:
    list(prepare("rhymes"))
    (paths.datasets_dir() / "rhymes" / "tokenizer.json").write_text("nonsense")
    async with lab() as at:
        screen = await opened(at, "rhymes")

        async def reload() -> None:
            before = screen.entries
            await at.press("ctrl+r")
            await at.until(lambda: screen.entries is not before)

        problem = screen.details.query_one("#problem")
        await at.until(lambda: problem.display and "cannot be read" in problem.render().plain)
        list(prepare("rhymes", force=True))
        await reload()
        await at.until(lambda: "rhymes" in screen.details.previews)
        await reload()
        assert not problem.display
        text_file.write_text("quite another text\n" * 400)
        list(prepare("rhymes", force=True))
        await reload()
        await at.sees("quite another text")


async def test_enter_opens_a_new_run_with_the_data_set(lab: Any) -> None:
    async with lab() as at:
        await opened(at, "rhymes")
        await at.press("enter")
        assert isinstance(at.app.screen, NewRunScreen)
        assert at.app.screen.draft.shown("dataset") == "rhymes"


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_it_fits_every_size(lab: Any, size: tuple[int, int], rhymes: Any) -> None:
    list(prepare("rhymes"))
    async with lab(size) as at:
        screen = await opened(at, "rhymes")
        await at.until(lambda: "rhymes" in screen.details.previews)
        await at.sees("rhymes", "tokenizer", "CC0-1.0", "train on it")


async def test_text_that_looks_like_markup_or_controls_is_shown_as_it_is(lab: Any, tmp_path: Path) -> None:
    file = tmp_path / "odd.txt"
    file.write_text("[bold]x[/x] \x1b]0;owned\x07 \u202eabc 😀\n" * 40, newline="")
    list(prepare(textfile_recipe([file])))
    async with lab() as at:
        screen = await opened(at, "odd")
        await at.until(lambda: "odd" in screen.details.previews)
        await at.sees("[bold]x[/x]")
        assert not any(control in at.seen() for control in "\x1b\x07\u202e")


@pytest.mark.parametrize(
    ("source", "words"), [({"files": 1}, "1 file"), ({"files": 2000}, "2,000 files"), ({}, "files")]
)
def test_where_a_text_of_several_files_was_from_is_counted(source: dict[str, Any], words: str) -> None:
    assert recorded_origin(source) == words


def test_a_record_whose_numbers_are_none_is_shown_without_them(rhymes: Any) -> None:
    list(prepare("rhymes"))
    path = paths.datasets_dir() / "rhymes" / "meta.json"
    meta = json.loads(path.read_text())
    meta["source"]["documents"] = {"train": "many", "val": 3}
    path.write_text(json.dumps(meta))
    (entry,) = (each for each in list_entries() if each.name == "rhymes")
    assert "documents   val 3" in facts_text(entry, 60).plain


def test_completions_are_what_is_on_disk_folders_with_a_slash(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for name in ("tea.txt", ".hidden", "odd\x1b.txt"):
        (tmp_path / name).write_text("x")
    assert completions(f"{tmp_path}/") == [f"{tmp_path}/tea.txt", f"{tmp_path}/texts/"]
    assert completions(f"{tmp_path}/tex") == [f"{tmp_path}/texts/"]
    assert completions(f"{tmp_path}/.h") == [f"{tmp_path}/.hidden"]
    assert completions(f"{tmp_path}/nothing/") == []
    assert common_prefix(completions(f"{tmp_path}/")) == f"{tmp_path}/te"


def test_a_link_that_leads_to_itself_takes_no_completion_away(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "song.txt").touch()
    assert completions(f"{tmp_path}/") == [f"{tmp_path}/link/", f"{tmp_path}/loop", f"{tmp_path}/song.txt"]


def test_a_character_in_several_tokens_stands_at_its_last_one() -> None:
    euro = "€".encode()
    assert list(token_views.texts([b"a", euro[:1], euro[1:2], euro[2:], b"b"])) == ["a", "", "", "€", "b"]


def test_the_progress_of_a_corpus_does_not_fall_after_its_tokenizer_is_trained() -> None:
    progress = Progress()
    progress.add(TokenizerTraining(phase="read", done_bytes=1, total_bytes=2, vocab_size=0, target=512))
    assert progress.share == 0.5
    progress.add(
        CorpusEncoding(
            phase="encode", done_bytes=1, total_bytes=5, tokens=3, shard="a", shards_done=0, shards=1, documents=1,
            duplicates=0, skipped=0, committed_tokens=0, downloaded_bytes=0, disk_bytes=1, bytes_per_second=1.0,
            elapsed_s=1.0,
        )
    )  # fmt: skip
    assert progress.share == 0.6  # half of it is encoding, of which a fifth is done
    assert "downloaded" not in progress.lines(60, ascii_only=True).plain


def test_the_rate_is_that_of_the_present_phase() -> None:
    progress = Progress()
    progress.add(Downloading(source="x", done_bytes=0, total_bytes=10**8, time=0.0))
    progress.add(Encoding(phase="encode", done_bytes=0, total_bytes=10**8, tokens=0, time=10.0))
    progress.add(Encoding(phase="encode", done_bytes=20_000_000, total_bytes=10**8, tokens=5, time=12.0))
    line = progress.line(80, ascii_only=False).plain
    assert " 20%    10.0 MB/s   0:08 left" in line
    assert progress.line(45, ascii_only=False).cell_length <= 45  # the details in a terminal of 80 columns
    assert progress.share == pytest.approx(0.6)


def test_the_rate_of_reading_does_not_count_the_search_for_files() -> None:
    progress = Progress()
    progress.add(Encoding(phase="scan", done_bytes=0, total_bytes=0, tokens=0, time=0.0))
    assert progress.line(80, ascii_only=True).plain.startswith("reading ")
    assert progress.share == 0.0
    progress.add(Encoding(phase="scan", done_bytes=0, total_bytes=10**8, tokens=0, time=100.0))
    progress.add(Encoding(phase="scan", done_bytes=2 * 10**7, total_bytes=10**8, tokens=0, time=102.0))
    assert " 20%    10.0 MB/s   0:08 left" in progress.line(80, ascii_only=True).plain


def test_the_rate_after_a_pause_does_not_count_the_pause() -> None:
    progress = Progress()
    progress.add(Encoding(phase="encode", done_bytes=0, total_bytes=10**8, tokens=0, time=0.0))
    progress.add(Encoding(phase="encode", done_bytes=10**7, total_bytes=10**8, tokens=0, time=1.0))
    progress.pause(True)
    assert "MB/s" not in progress.line(80, ascii_only=False).plain
    progress.pause(False)
    progress.add(Encoding(phase="encode", done_bytes=10**7, total_bytes=10**8, tokens=0, time=1000.0))
    progress.add(Encoding(phase="encode", done_bytes=2 * 10**7, total_bytes=10**8, tokens=0, time=1002.0))
    assert " 20%     5.0 MB/s   0:16 left" in progress.line(80, ascii_only=False).plain


async def test_an_own_text_that_another_process_has_prepared_is_ready_here(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("to be or not to be\n" * 100)
    recipe = textfile_recipe([tmp_path / "own.txt"], name="own")
    async with lab() as at:
        screen = await opened(at, "rhymes")
        screen.own_recipes["own"] = recipe  # which could not be prepared here
        list(prepare(recipe))
        await at.press("ctrl+r")
        await at.until(lambda: any(entry.name == "own" for entry in screen.entries))
        screen.highlight("own")
        await at.until(lambda: screen.entry and screen.entry.name == "own")
        assert screen.check_action("new_run", ())
        await at.press("d")
        await at.sees("Delete the tokens of own?")


def test_a_recipe_of_downloads_needs_the_network_under_any_name() -> None:
    source = sources.create("mirror", urls=("http://localhost:9/",), names=("a.jsonl",))
    entry = Entry.of_recipe(Recipe(name="mine", source=source, tokenizer="byte", documents=DocumentSettings()))
    assert not entry.info.offline
    assert entry.corpus


def test_a_damaged_data_set_of_ones_own_can_be_deleted(home: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("to be or not to be\n" * 100)
    list(prepare(textfile_recipe([tmp_path / "own.txt"], name="own")))
    (paths.datasets_dir() / "own" / "train.bin").write_bytes(b"")
    (entry,) = [each for each in list_entries() if each.name == "own"]
    assert entry.info.problem
    assert entry.deletable


async def test_the_problem_of_a_data_set_that_was_prepared_elsewhere_meanwhile_is_gone(lab: Any) -> None:
    async with lab() as at:
        await opened(at, "rhymes")
        at.app.screen.problems["rhymes"] = "it could not be downloaded"
        list(prepare("rhymes"))
        await at.press("ctrl+r")
        await at.until(lambda: at.app.screen.entry.info.prepared)
        assert not at.app.screen.problems
        assert "could not be downloaded" not in at.seen()
