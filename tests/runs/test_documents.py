"""The setting `document_mask` in a run: its separator, its evaluations, its resume, and what refuses it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nanogpt import runs
from nanogpt.config import ARCHITECTURE, Config, component, names, with_settings
from nanogpt.data import open_dataset, prepare, textfile_recipe
from nanogpt.errors import SettingError
from nanogpt.events import Evaluated, Event, Notice, SplitEvaluated, Step
from nanogpt.runs import checkpoints
from nanogpt.training import CommandQueue, Stop
from tests.sharding import cut_into_shards

# Each line is a document, which begins with the line feed before it.
TEXT = "".join(f"\n{number} plus {number} is {2 * number}." for number in range(400))


@pytest.fixture
def lines(tmp_path: Path) -> str:
    (tmp_path / "lines.txt").write_text(TEXT)
    list(prepare(textfile_recipe([tmp_path / "lines.txt"])))
    return "lines"


@pytest.fixture
def masked(small: Callable[..., Config], lines: str) -> Callable[..., Config]:
    """Make the small configuration with a document mask on the lines; the line feed is token 0."""
    assert open_dataset(lines).tokenizer.encode("\n") == [0]

    def make(**changes: Any) -> Config:
        return small(**{"dataset": lines, "document_mask": "true", "document_separator": 0} | changes)

    return make


def trained(config: Config, name: str) -> list[Event]:
    return list(runs.start(config, runs.new_folder(name)))


def losses(events: list[Event]) -> list[tuple[int, float]]:
    return [(event.step, event.loss) for event in events if isinstance(event, Step)]


def weights(name: str) -> dict[str, torch.Tensor]:
    found = runs.latest(runs.find(name))
    assert found is not None
    return checkpoints.read(found.path).model


def test_the_mask_changes_training_and_what_is_evaluated(masked: Callable[..., Config]) -> None:
    with_mask, without = trained(masked(eval_iters=0), "with"), trained(masked(document_mask="false"), "without")
    assert losses(with_mask) != losses(without)
    assert [runs.load_model(name, device="cpu").model.document_separator for name in ("with", "without")] == [0, None]
    (*_, last) = (event for event in with_mask if isinstance(event, Evaluated))
    (*_, whole) = runs.evaluate_run("with", checkpoint="latest", device="cpu")
    assert isinstance(whole, SplitEvaluated)
    assert whole.loss == pytest.approx(last.val_loss, abs=1e-6)  # the run's own evaluation has the same mask


def test_a_masked_run_resumes_bit_for_bit_also_over_shards(masked: Callable[..., Config], lines: str) -> None:
    whole = trained(masked(), "whole")
    cut_into_shards(open_dataset(lines).path, 100)
    commands, folder = CommandQueue(), runs.new_folder("parts")
    first = []
    for event in runs.start(masked(), folder, commands=commands):
        first.append(event)
        if isinstance(event, Step) and event.step == 6:
            commands.put(Stop())
    second = list(runs.resume(folder))
    assert losses(first) + losses(second) == losses(whole)
    for key, weight in weights("whole").items():
        assert torch.equal(weights("parts")[key], weight), key


def test_a_tokenizer_without_end_of_text_needs_a_separator(masked: Callable[..., Config]) -> None:
    with pytest.raises(SettingError, match="the tokenizer of lines has no end-of-text token; set document_separator"):
        trained(masked(document_separator=-1), "one")
    with pytest.raises(SettingError, match=r"document_separator=99: the tokenizer's last id is \d+"):
        trained(masked(document_separator=99), "one")


def test_the_end_of_text_is_the_separator(masked: Callable[..., Config], tmp_path: Path) -> None:
    list(prepare(textfile_recipe([tmp_path / "lines.txt"], name="pieces", tokenizer="gpt2")))
    events = trained(masked(dataset="pieces", document_separator=-1, n_embd=8, max_iters=2), "pieces")
    assert runs.folder.run_config(runs.find("pieces")).data.document_separator == 50_256
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert notices == [
        "document_mask has no effect: the beginning of pieces does not have the token 50256, which separates documents"
    ]


UNABLE = [name for name in names(ARCHITECTURE) if not component(ARCHITECTURE, name).capabilities.document_mask]


@pytest.mark.parametrize("architecture", UNABLE)
def test_an_architecture_that_cannot_refuses_it(masked: Callable[..., Config], architecture: str) -> None:
    with pytest.raises(SettingError, match=f"document_mask=true: the architecture {architecture} cannot limit"):
        with_settings(masked(), {"architecture": architecture})
