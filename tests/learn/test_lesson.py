"""Lessons as files: those of the program are in order, a learner's own join them, and a bad one gets one line."""

from pathlib import Path

import pytest

from nanogpt.errors import UserError
from nanogpt.learn.experiment import create, names, settings_of
from nanogpt.learn.lesson import find_lesson, lessons, own_folder, read_lesson

HEAD = '+++\ntitle = "Mine"\nexperiment = "cut_text"\n+++\n'


@pytest.fixture
def own(home: Path) -> Path:
    folder = own_folder()
    folder.mkdir(parents=True)
    return folder


def test_the_lessons_of_the_program_are_usable_and_in_order() -> None:
    known, problems = lessons()
    assert not problems
    assert [lesson.number for lesson in known] == list(range(1, len(known) + 1))
    assert [lesson.name for lesson in known][:5] == [
        "tokens",
        "predicting",
        "one_step",
        "learning_rate",
        "embeddings",
    ]
    for lesson in known:
        assert 50 <= len(f"{lesson.text} {lesson.task}".split()) <= 130, lesson.name
        assert lesson.task, lesson.name
        assert lesson.create().settings is not None


def test_a_lesson_is_found_by_number_name_and_file(own: Path) -> None:
    assert find_lesson("3") == find_lesson("one_step")
    path = own / "9_mine.md"
    path.write_text(HEAD + "A text.\n\nTry: this.")
    count = len(lessons().lessons)
    assert (find_lesson("mine").number, find_lesson("mine").task) == (count, "this.")
    assert find_lesson(str(path)).number == 0
    with pytest.raises(
        UserError, match=r"no lesson 'one_stepp'; `nanogpt learn` lists the \d+ lessons. Did you mean one_step\?"
    ):
        find_lesson("one_stepp")


def test_a_lesson_of_ones_own_cannot_take_the_name_of_another(own: Path) -> None:
    (own / "tokens.md").write_text(HEAD)
    (own / "useful.md").write_text(HEAD)
    known, problems = lessons()
    assert [lesson.name for lesson in known][-1] == "useful"
    assert len(problems) == 1
    assert "another lesson is called tokens; rename the file" in problems[0]


def test_hidden_files_of_an_editor_or_a_file_system_are_no_lessons(own: Path) -> None:
    (own / "mine.md").write_text(HEAD)
    (own / ".#mine.md").symlink_to("me@here.1:2")
    (own / "._mine.md").write_bytes(b"\0\5\x16\7")
    known, problems = lessons()
    assert known[-1].name == "mine"
    assert not problems


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("no head", "first lines must be a head in TOML between two lines +++"),
        ("+++\ntitle = \n+++\n", "cannot be read: Invalid value"),
        ('+++\nexperiment = "cut_text"\n+++\n', "'title' is missing"),
        ('+++\ntitle = "a"\n+++\n', "'experiment' is missing"),
        ('+++\ntitle = ""\nexperiment = "cut_text"\n+++\n', "the title must have 1 to 60 characters; it has 0"),
        ('+++\ntitle = 3\nexperiment = "cut_text"\n+++\n', "title = 3 must be a text"),
        (
            '+++\ntitle = "a"\nexperiment = "cut_txt"\n+++\n',
            "no experiment cut_txt; known experiments: attention, cut_text",
        ),
        ('+++\ntitle = "a"\nexperiment = "os.system"\n+++\n', "no experiment os.system"),
        ('+++\ntitle = "a"\nexperiment = "../cut_text"\n+++\n', "no experiment ../cut_text"),
        ('+++\ntitle = "a"\nexperiment = "\\u001b[2J"\n+++\n', r"no experiment '\x1b[2J'"),
        (HEAD.replace("+++\n", "", 1), "must be a head in TOML"),
        (HEAD.replace('"cut_text"\n', '"cut_text"\n[values]\nmerges = 0\n'), "merges=0: has to be at least 1"),
        (HEAD.replace('"cut_text"\n', '"cut_text"\n[values]\nmerges = "x"\n'), "has to be a whole number"),
        (HEAD.replace('"cut_text"\n', '"cut_text"\n[values]\nmerges = [1]\n'), "has to be one value"),
        (HEAD.replace('"cut_text"\n', '"cut_text"\n[values]\nmerge = 9\n'), "has no setting merge; known settings: "),
        (HEAD.replace('"cut_text"\n', '"cut_text"\nauthor = "me"\n'), "unknown key 'author'"),
        (HEAD.replace('"cut_text"\n', '"cut_text"\n[values]\na = ' + "[" * 9999 + "\n"), "cannot be read: "),
    ],
)
def test_a_bad_file_gets_one_line(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "bad.md"
    path.write_text(content)
    with pytest.raises(UserError) as raised:
        read_lesson(path)
    assert reason in str(raised.value)
    assert str(path) in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_a_file_that_is_not_text_or_missing_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "bytes.md").write_bytes(b"+++\n\xff\n+++\n")
    for name, reason in (("bytes.md", "not UTF-8 text"), ("none.md", "No such file"), ("folder.md", "not a regular")):
        if name == "folder.md":
            (tmp_path / name).mkdir()
        with pytest.raises(UserError, match=reason):
            read_lesson(tmp_path / name)


def test_a_file_of_an_editor_that_writes_a_byte_order_mark_is_a_lesson(tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text(HEAD + "A text.", encoding="utf-8-sig")
    assert read_lesson(tmp_path / "mine.md").text == "A text."


def test_a_text_that_would_stop_the_screen_while_it_is_laid_out_gets_one_line(tmp_path: Path) -> None:
    path = tmp_path / "long.md"
    path.write_text(HEAD + "word " * 20_000)
    with pytest.raises(UserError, match=r"cannot be read: larger than 65,536 bytes$"):
        read_lesson(path)


def test_control_characters_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "odd.md"
    path.write_bytes(
        HEAD.replace("Mine", "a\\u001b[2Jb\\nc").encode() + b"x\x1b]0;y\x07z\r\nnew\x9b\n\nTry: \x1b[31mred"
    )
    path.write_text(path.read_bytes().decode("latin-1"), encoding="utf-8")
    lesson = read_lesson(path)
    assert lesson.title == "a␛[2Jb c"
    assert lesson.text == "x␛]0;y␇z\nnew\\x9b"
    assert lesson.task == "␛[31mred"


def test_every_experiment_is_in_a_lesson_or_can_be_made() -> None:
    for name in names():
        made = create(name)
        assert made.name == name
        assert "seed" in settings_of(name)
        assert not made.done


def test_no_lesson_imports_torch_before_its_experiment_runs() -> None:
    import subprocess
    import sys

    script = (
        "import sys; from nanogpt.learn.lesson import lessons; [each.create() for each in lessons().lessons];"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
