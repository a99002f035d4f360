"""The app's settings: read, checked with the reason, written, and obeyed."""

from pathlib import Path
from typing import Any

import pytest

from nanogpt.errors import UserError
from nanogpt_tui import main
from nanogpt_tui.settings import Settings, load, path, save, with_changes


def test_without_a_file_the_defaults_hold() -> None:
    assert load() == Settings()


@pytest.mark.parametrize(
    ("changes", "low_bandwidth", "repaints"),
    [
        ({}, True, 1.0),
        ({"repaints_per_second": 4.0}, True, 1.0),
        ({"repaints_per_second": 0.5}, True, 0.5),
        ({"ssh_mode": "off"}, False, 2.0),
    ],
)
def test_over_ssh_it_repaints_once_a_second(
    changes: dict[str, Any], low_bandwidth: bool, repaints: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 22 10.0.0.2 22")
    settings = with_changes(load(), changes)
    assert (settings.low_bandwidth, settings.repaint_rate) == (low_bandwidth, repaints)


def test_ssh_mode_can_be_had_without_ssh() -> None:
    assert not Settings().low_bandwidth
    assert Settings(ssh_mode="on").repaint_rate == 1.0


def test_what_is_saved_is_read_back() -> None:
    settings = Settings(theme="light", glyphs="ascii", keymap={"train.save": "w"}, quickstart={"max_iters": 50})
    save(settings)
    assert load() == settings


def test_glyphs_that_were_chosen_stay_where_they_are_the_default_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    save(Settings(glyphs="ascii"))
    monkeypatch.setenv("TERM", "linux")
    save(with_changes(load(), {"theme": "light"}))
    monkeypatch.setenv("TERM", "xterm")
    assert load() == Settings(theme="light", glyphs="ascii")


def test_a_linked_file_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "dotfiles" / "tui.toml"  # whose folder does not exist yet
    path().parent.mkdir(parents=True)
    path().symlink_to(target)
    save(Settings(theme="light"))
    assert path().is_symlink()
    assert target.read_text(encoding="utf-8") == 'theme = "light"\n'


def test_a_link_to_itself_is_refused_and_stays() -> None:
    path().parent.mkdir(parents=True)
    path().symlink_to(path())
    with pytest.raises(UserError, match="cannot write the settings"):
        save(Settings(theme="light"))
    assert path().is_symlink()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('theme = "pink"', "theme=pink: has to be one of dark, light, ansi"),
        ('thme = "dark"', "Did you mean theme"),
        ("repaints_per_second = 1000", "has to be from 0.1 to 30"),
        ('keymap = "x"', "has to be a table"),
        ("theme =", "cannot read the settings"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_2(text: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    path().parent.mkdir(parents=True)
    path().write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=reason):
        load()
    assert main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_line_wins_over_the_file() -> None:
    assert with_changes(Settings(theme="light"), {"theme": "ansi"}).theme == "ansi"
