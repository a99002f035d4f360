"""`nanogpt info --health` and `nanogpt spikes`: what a run recorded about its layers, as text and as JSON."""

import json
import math
from dataclasses import replace

import pytest

from nanogpt import runs
from nanogpt.cli import main
from nanogpt.events import LayerHealth, LayerProblem, Spike, from_json, to_json
from nanogpt.runs.state import reduce
from tests.made_events import started, stepped


def health(step: int) -> LayerHealth:
    return LayerHealth(
        step=step,
        layers=("wte", "h.0.attn"),
        gradient_norm=(0.25, 0.5),
        weight_norm=(1.5, 2.0),
        update_ratio=(-3.125, None),
        dead_units=(None, 0.375),
        activation_mean=(0.0, 0.1),
        activation_std=(0.02, 0.3),
        activation_kurtosis=(3.0, 4.0),
        attention_entropy=((), (1.0, 0.25)),
        histograms=((), (1, 2, 3)),
        clipped=0.5,
    )


def spike(step: int) -> Spike:
    return Spike(
        step=step,
        loss=4.5,
        usual_loss=2.5,
        grad_norm=9.0,
        usual_grad_norm=0.5,
        learning_rate=1e-3,
        layer="h.0.attn",
        layer_growth=12.0,
        texts=("\x1b[31mred\nblue",),
        text_losses=(6.0,),
    )


@pytest.fixture
def recorded(small, capsys):
    """A run whose events are replaced by made-up ones."""
    assert main(["train", *small, "--max_iters=2", "--name=one"]) == 0
    folder = runs.find("one")
    capsys.readouterr()

    def record(*events):
        with (folder / "events.jsonl").open("w") as file:
            file.writelines(to_json(event) + "\n" for event in events)

    return record


def test_the_last_measurement_is_a_table_and_all_are_json(recorded, capsys):
    recorded(started(), health(1), health(50))
    assert main(["info", "one", "--health"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "step 50" in shown[0]
    assert "50% of the gradients were clipped" in shown[0]
    assert [line.split() for line in shown[2:4]] == [
        ["wte", "0.25", "1.5", "-3.1", "–", "0", "0.02", "3"],
        ["h.0.attn", "0.5", "2", "–", "38%", "0.1", "0.3", "4", "1.00", "0.25"],
    ]
    assert main(["info", "one", "--health", "--json"]) == 0
    measured = [from_json(line) for line in capsys.readouterr().out.splitlines()]
    assert [replace(event, time=0.0) for event in measured] == [replace(health(step), time=0.0) for step in (1, 50)]


def test_a_record_with_fewer_figures_than_layers_or_texts_is_shown(recorded, capsys):
    recorded(
        started(),
        replace(health(1), gradient_norm=(0.25,), activation_std=(), attention_entropy=()),
        replace(spike(5), text_losses=()),
    )
    assert main(["info", "one", "--health"]) == main(["spikes", "one"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[3].split() == ["h.0.attn", "–", "2", "–", "38%", "0.1", "–", "4"]
    assert "spike at step 5" in shown[4]


def test_a_run_without_measurements_or_spikes_says_so(recorded, capsys):
    recorded(started(), stepped(1))
    assert main(["info", "one", "--health"]) == main(["spikes", "one"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "one has no measurement of its layers: they are made every health_interval steps, from step 1 on",
        "one has no spikes",
    ]


def test_a_spike_is_shown_with_the_steps_around_it_and_its_text_without_control_characters(recorded, capsys):
    recorded(started(), *(stepped(step) for step in range(1, 9)), spike(5))
    assert main(["spikes", "one"]) == 0
    shown = capsys.readouterr().out
    assert "spike at step 5: the loss jumped from 2.5 to 4.5; the gradient of h.0.attn grew most, 12-fold" in shown
    assert [line.split()[0] for line in shown.splitlines()[2:9]] == ["2", "3", "4", "5", "6", "7", "8"]
    assert "\x1b" not in shown
    assert main(["spikes", "one", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["texts"] == ["\x1b[31mred\nblue"]


def test_a_problem_is_shown_without_control_characters(recorded, capsys):
    recorded(started(), health(1))
    status = runs.find("one") / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"problems": ["h\x1b[31m: dead units"]}))
    assert main(["info", "one", "--health"]) == 0
    out = capsys.readouterr().out
    assert "dead units" in out
    assert "\x1b" not in out


def test_what_a_resume_undid_is_not_shown(recorded, capsys):
    recorded(started(), health(1), spike(5), started(step=3), health(4))
    assert main(["info", "one", "--health", "--json"]) == 0
    measured = [from_json(line) for line in capsys.readouterr().out.splitlines()]
    assert [event.step for event in measured if isinstance(event, LayerHealth)] == [1, 4]
    assert main(["spikes", "one"]) == 0
    assert capsys.readouterr().out == "one has no spikes\n"


def test_the_state_of_a_run_has_its_present_problems():
    def problem(over: bool) -> LayerProblem:
        return LayerProblem(step=1, layer="h.0", problem="dead units", message="half", advice="try", over=over)

    state = reduce(reduce(runs.RunState(), started()), problem(False))
    assert state.problems == ("h.0: dead units: half (try)",)
    assert reduce(state, problem(True)).problems == ()
    assert reduce(state, started()).problems == ()


def test_a_training_records_its_layers(small, capsys):
    assert main(["train", *small, "--max_iters=6", "--health_interval=3", "--name=one"]) == 0
    capsys.readouterr()
    assert main(["info", "one", "--health", "--json"]) == 0
    measured = [from_json(line) for line in capsys.readouterr().out.splitlines()]
    assert [event.step for event in measured if isinstance(event, LayerHealth)] == [1, 2, 3, 6]
    last = measured[-1]
    assert isinstance(last, LayerHealth)
    assert all(ratio is not None and math.isfinite(ratio) for ratio in last.update_ratio)
