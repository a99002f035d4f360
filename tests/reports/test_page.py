"""A run as one HTML page."""

import math
import time
from array import array
from dataclasses import replace
from html.parser import HTMLParser

from nanogpt.events import Acknowledged, Evaluated, Finished, LayerHealth, Notice, Sampled, Spike
from nanogpt.reports.curves import loss_chart
from nanogpt.reports.page import page
from nanogpt.reports.record import read_record
from nanogpt.training.control import REMOTE
from tests.made_events import started, stepped

HOSTILE = "</pre></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[2J\ud800"
SHOWN = "</pre></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&␛[2J\N{REPLACEMENT CHARACTER}"
TAGS = """html head meta title style body main h1 h2 p span dl dt dd div details summary pre b table tr th td footer
svg text line path rect circle"""


class Parsed(HTMLParser):
    """The tags, the attributes and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)


def health(step, layers=("wte", "blocks.0")):
    number = len(layers)
    return LayerHealth(
        step=step,
        layers=layers,
        gradient_norm=(0.5,) * number,
        weight_norm=(10.0,) * number,
        update_ratio=(-3.0,) * (number - 1) + (None,),
        dead_units=(0.0,) * number,
        activation_mean=(0.0,) * number,
        activation_std=(1.0,) * number,
        activation_kurtosis=(math.nan,) * number,
        attention_entropy=((),) * number,
        histograms=((1, 2),) * number,
        clipped=None,
    )


def spike(step, *texts):
    return Spike(
        step=step,
        loss=9.0,
        usual_loss=2.0,
        grad_norm=1.0,
        usual_grad_norm=1.0,
        learning_rate=1e-3,
        layer="",
        layer_growth=1.0,
        texts=texts,
        text_losses=(9.0,) * len(texts),
    )


def sampled(step, text, prompt=""):
    return Sampled(step=step, prompt=prompt, text=text, seed=1)


EVALUATED = Evaluated(step=2, train_loss=1.5, val_loss=1.75, best_val_loss=1.75, is_best=True, tokens=8, elapsed_s=1.0)


def test_a_page_has_losses_samples_spikes_layers_and_settings(recorded):
    events = [started(), stepped(1), health(1), stepped(2), EVALUATED, spike(2, "odd text"), sampled(2, "To be", "To")]
    parsed = Parsed(page(read_record(recorded(*events, n_embd=48, dropout=0.125))))
    for words in (
        "first",
        "1.7500",
        "Learning rate",
        "odd text",
        "blocks.0",
        "n_embd",
        "48",
        "0.125",
        "step 2",
        "To be",
    ):
        assert words in parsed.text, words


def test_text_of_a_run_is_never_markup_and_the_page_loads_nothing(recorded):
    events = [
        started(),
        stepped(1),
        EVALUATED,
        health(1, layers=("wte", HOSTILE)),
        spike(1, HOSTILE),
        sampled(1, HOSTILE, prompt=HOSTILE[:9]),
        Notice(level="warning", text=HOSTILE),
    ]
    clean = HOSTILE.replace("\ud800", "").replace("\x1b", "")
    written = page(read_record(recorded(*events, sample_start=clean, facts={"cpu": clean})))
    parsed = Parsed(written)
    assert parsed.tags <= set(TAGS.split())
    assert parsed.text.count(SHOWN[9:]) >= 3
    names = {name for name, _ in parsed.attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "href", "srcset", "style", "action")}
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in parsed.attributes
    assert "url(" not in written
    assert "@import" not in written
    assert "\x1b" not in written
    written.encode()  # no surrogates


def test_a_run_of_losses_that_are_not_numbers_and_one_of_a_single_step_have_pages(recorded):
    broken = [stepped(step, loss=math.nan) for step in (1, 2, 3)]
    nothing = replace(EVALUATED, train_loss=math.nan, val_loss=math.inf, best_val_loss=math.inf)
    assert "no values" in page(read_record(recorded(started(), *broken, nothing)))
    assert "Loss in nats" in page(read_record(recorded(started(), stepped(1), name="single")))


def test_a_page_of_many_steps_is_as_small_as_one_of_a_thousand(recorded):
    record = read_record(recorded(started(), stepped(1)))
    sizes = []
    for count in (1_000, 100_000):
        columns = {name: array("d", range(count)) for name in record.steps}
        sizes.append(len(page(replace(record, steps=columns))))
    assert sizes[1] < 1.1 * sizes[0]


def test_of_many_samples_the_first_and_the_last_are_among_those_shown(recorded):
    samples = [sampled(step, f"sample {step}.") for step in range(1, 101)]
    text = Parsed(page(read_record(recorded(started(), stepped(100), *samples)))).text
    assert "sample 1." in text
    assert "sample 100." in text
    assert text.count("sample ") == 8


def test_a_run_whose_settings_cannot_be_read_has_a_page_that_says_so(recorded):
    run = recorded(started(), stepped(1))
    (run / "run.toml").write_text("[model]\narchitecture = 'none'\n")
    assert "cannot be read" in page(read_record(run))


def test_of_many_measurements_of_the_layers_a_record_has_some_in_order_without_what_a_resume_undid(
    recorded, monkeypatch
):
    monkeypatch.setattr("nanogpt.runs.thinned.MAX_ITEMS", 4)
    measured = [event for step in range(1, 20) for event in (stepped(step), health(step))]
    resumed = [replace(started(), step=10), stepped(11), health(11)]
    record = read_record(recorded(started(), *measured, replace(EVALUATED, step=10), *resumed))
    # 1 to 5 are five, of which 1, 3, 5 stay; with 7 and 9 they are five again, of which 1, 5, 9 stay; with 13 and 17
    # 1, 9, 17. Step 10 is resumed: of these 1 and 9 stay
    assert [event.step for event in record.all(LayerHealth)] == [1, 9, 11]
    names = [type(event).__name__ for event in record.events]
    assert names == ["Started", "LayerHealth", "LayerHealth", "Evaluated", "Started", "LayerHealth"]
    assert list(record.steps["step"]) == list(range(1, 12))


def test_a_resumed_run_started_when_it_was_first_started(recorded):
    first, resumed = 1_700_000_000.0, 1_700_200_000.0  # seconds since 1970
    ended = Finished(step=2, reason="stopped", train_loss=None, val_loss=None, best_val_loss=None, elapsed_s=2.0)
    begun = replace(started(), time=first), stepped(1), replace(started(step=1), time=resumed), stepped(2)
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(first))
    assert f"Started {day}, ended" in page(read_record(recorded(*begun, ended)))


def test_a_sample_is_shown_whole_after_its_prompt(recorded):
    text = page(read_record(recorded(started(), stepped(1), sampled(1, "abab", prompt="ab"))))
    assert "<b>ab</b>abab" in text


def test_every_change_of_a_training_is_a_mark_in_the_chart_of_its_losses(recorded):
    answers = [Acknowledged(step=1, command=name, text=f"applied {name}") for name in REMOTE]
    chart = loss_chart(read_record(recorded(started(), stepped(1), stepped(2), *answers)))
    marked = {name for name in REMOTE if f"applied {name}<" in chart}
    assert marked == {"ScaleLearningRate", "SetLearningRateScale", "SetEvalInterval", "SetMaxIters"}
