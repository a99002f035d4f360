"""Components of an installed package are listed, trained, resumed and sampled, and nothing here knows their names.

Those of a broken package cost only what would use them.
"""

import asyncio
import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import Pipe
from pathlib import Path

import pytest

from nanogpt.cli import main
from tests.forked import Forked

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).parent / "plugin"
SETTINGS = ["--architecture=bigram", "--optimizer=signum", "--schedule=rise_and_fall", "--rise_iters=5"]
KINDS = ("architectures", "optimizers", "schedules", "formats", "tokenizers")
RUN = ["--dataset=text", "--device=cpu", "--dtype=float32", "--block_size=8", "--batch_size=4", "--threads=1"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the package is installed in, by pip, without a network."""
    place = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source")
    for path in PLUGIN.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            copy = source / path.relative_to(PLUGIN)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--disable-pip-version-check", f"--target={place}", str(source)], check=True, timeout=300)
    return place


@pytest.fixture
def broken(tmp_path):
    """The folder with an installed package that has a component of each kind, none of which can be imported."""
    facts = tmp_path / "site" / "broken_components-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-components\nVersion: 1.0\n")
    groups = (f"[nanogpt.{kind}]\nbroken = broken_components:Component\n" for kind in KINDS)
    (facts / "entry_points.txt").write_text("\n".join(groups))
    return facts.parent


def call_main(installed, calls):
    """Answer each list of arguments that arrives with the exit code, the output and the errors of the command."""
    sys.path.insert(0, str(installed))
    while words := calls.recv():
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(words)
        calls.send((code, out.getvalue(), err.getvalue()))


@pytest.fixture
def nanogpt(installed, tmp_path):
    """The command, in a process that has the package, with a home of its own."""
    yield from command(installed, tmp_path)


@pytest.fixture
def with_broken(broken, tmp_path):
    """The command, in a process that has the broken package."""
    yield from command(broken, tmp_path)


def command(installed, tmp_path):
    folders = {"NANOGPT_HOME": str(tmp_path / "home"), "NANOGPT_RUNS_DIR": str(tmp_path / "home" / "runs")}
    folders |= {f"NANOGPT_{name}_DIR": str(tmp_path / name.lower()) for name in ("DATA", "CACHE", "CONFIG")}
    calls, theirs = Pipe()
    process = Forked(call_main, installed, theirs, environment=folders)
    theirs.close()

    def call(*words: str, code: int = 0) -> str:
        calls.send(list(words))
        ended, out, err = calls.recv()
        assert ended == code, err
        return str(err if code else out)

    yield call
    process.kill()


def test_its_components_and_their_settings_are_listed(nanogpt):
    listed = nanogpt("config", "--components")
    for name in ("bigram", "signum", "rise_and_fall", "nibble", "numbers"):
        assert name in listed
    shown = json.loads(nanogpt("config", "--json", *SETTINGS))
    assert shown["spread"]["bounds"] == "at least 0 and at most 10"
    assert (shown["momentum"]["default"], shown["rise_iters"]["value"]) == (0.9, 5)
    assert "n_layer" not in shown
    assert "spread" in nanogpt("train", "--help")
    refused = nanogpt("config", "--spread=11", *SETTINGS, code=2)
    assert "spread=11: has to be at least 0 and at most 10" in refused
    assert "spread is a setting of the architecture bigram" in nanogpt("config", "--spread=1", code=2)


def test_it_is_trained_resumed_exactly_and_sampled(nanogpt, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox\n" * 60)
    nanogpt("prepare", "textfile", str(text), "--output=text", "--tokenizer=nibble")

    def losses(name: str) -> list[float]:
        lines = (tmp_path / "home" / "runs" / name / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return [event["loss"] for event in events if event["event"] == "Step"]

    length = ["--eval_interval=10", "--eval_iters=2", "--sample_tokens=0"]
    nanogpt("train", *RUN, *SETTINGS, *length, "--max_iters=40", "--name=whole", "--learning_rate=0.1")
    nanogpt("train", *RUN, *SETTINGS, *length, "--max_iters=20", "--name=halves", "--learning_rate=0.1")
    nanogpt("train", "--init_from=resume", "--name=halves", "--max_iters=40")
    assert losses("halves") == losses("whole")
    assert losses("whole")[-1] < 0.8 * losses("whole")[0]
    written = nanogpt("sample", "whole", "--max_new_tokens=20", "--start=the ", "--temperature=0")
    assert set(written.strip()) <= set("0123456789abcdef the ")


def test_a_recipe_takes_its_text_from_the_source_of_the_package(nanogpt, tmp_path):
    recipe = tmp_path / "config" / "datasets" / "count.toml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text('tokenizer = "char"\n[source]\nkind = "numbers"\nlast = 999\n')
    assert "count" in nanogpt("datasets")
    prepared = json.loads(nanogpt("prepare", "count", "--json"))
    # 9 numbers of one digit, 90 of two and 900 of three, each with a line feed: 3,888 characters, 10 % for validation
    assert prepared["tokens"] == {"train": 3499, "val": 389}
    meta = json.loads(Path(prepared["path"], "meta.json").read_text())
    assert meta["source"]["kind"] == "numbers"
    recipe.write_text(recipe.read_text().replace("999", "0"))
    assert "last = 0 must be at least 1" in nanogpt("prepare", "count", "--force", code=2)
    recipe.write_text(recipe.read_text().replace("numbers", "numbrs"))
    refused = nanogpt("prepare", "count", "--force", code=2)
    assert (
        "no source 'numbrs'; known sources: files, hub, mirror, numbers, package, stdlib, url. Did you mean numbers?"
        in refused
    )


async def settings_in_the_form():
    from nanogpt_tui.app import LabApp  # which the other processes do without
    from nanogpt_tui.screens.new_run.fields import Field
    from nanogpt_tui.screens.new_run.screen import NewRunScreen
    from nanogpt_tui.settings import Settings

    app = LabApp(Settings())
    async with app.run_test(size=(120, 40)) as pilot:
        screen = NewRunScreen()
        await app.push_screen(screen)
        for name, value in (("architecture", "bigram"), ("optimizer", "signum"), ("schedule", "rise_and_fall")):
            while not screen.query(Field):
                await pilot.pause()
            screen.choice(name).value = value
        for _ in range(200):
            await pilot.pause(0.05)
            fields = {field.name: field for field in screen.query(Field)}
            if {"spread", "momentum", "rise_iters"} <= fields.keys() and "n_layer" not in fields:
                break
        print(sorted({"spread", "momentum", "rise_iters", "n_layer"} & fields.keys()), fields["spread"].about)


def in_the_app(scenario, installed):
    """Run a scenario with the packages of a folder installed. For a process of its own."""
    sys.path.insert(0, str(installed))
    asyncio.run(scenario())


def test_the_form_of_a_new_run_shows_its_settings(installed, tmp_path):
    output = tmp_path / "output"
    assert Forked(in_the_app, settings_in_the_form, installed, output=output).wait(300) == 0, output.read_text()
    assert output.read_text().startswith("['momentum', 'rise_iters', 'spread'] ")
    assert "at least 0 and at most 10" in output.read_text()


def test_a_broken_package_is_told_where_it_is_chosen_and_costs_nothing_else(with_broken, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox\n" * 60)
    with_broken("prepare", "textfile", str(text), "--output=text")
    assert "--n_layer" in with_broken("train", "--help")
    assert json.loads(with_broken("config", "--json", "--n_layer=3"))["n_layer"]["value"] == 3
    elsewhere = with_broken("config", "--momentum=0.9", "--optimizer=adamw", code=2)
    assert "momentum is a setting of the optimizer" in elsewhere
    for kind in ("architecture", "optimizer", "schedule"):
        refused = with_broken("config", f"--{kind}=broken", code=2)
        assert f"the {kind} broken of an installed package cannot be loaded" in refused
    refused = with_broken("prepare", "textfile", str(text), "--output=other", "--tokenizer=broken", code=2)
    assert "the tokenizer broken of an installed package cannot be loaded" in refused


async def kinds_of_tokenizers():
    from nanogpt import tokenizers
    from nanogpt_tui.app import LabApp  # which the other processes do without
    from nanogpt_tui.screens.data.add_text import AddText
    from nanogpt_tui.screens.tokenizers.screen import TokenizersScreen
    from nanogpt_tui.settings import Settings
    from nanogpt_tui.widgets.choice import Choice
    from nanogpt_tui.widgets.tokenizer_field import TokenizerField

    app = LabApp(Settings())
    async with app.run_test(size=(120, 40)) as pilot:
        for screen in (TokenizersScreen(), AddText(app.session, [], tokenizers.loadable_names())):
            await app.push_screen(screen)
            while app.is_running and not screen.query("TokenizerField Choice"):
                await pilot.pause()
            print(screen.query_one(TokenizerField).query_one(Choice).options)


def test_the_forms_of_tokenizers_leave_a_broken_one_out(broken, tmp_path):
    output = tmp_path / "output"
    assert Forked(in_the_app, kinds_of_tokenizers, broken, output=output).wait(300) == 0, output.read_text()
    trained, added = output.read_text().splitlines()
    assert "('bpe', 'bpe: trained on the text')" in trained
    assert "('char', 'char: one token per character')" in added
    assert "broken" not in trained + added
