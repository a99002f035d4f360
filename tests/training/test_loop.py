"""What a training does, seen through its events."""

import gc
import math
import re
import threading
import time
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from nanogpt import heap
from nanogpt.config import ARCHITECTURE, OPTIMIZER, component, names
from nanogpt.data.batches import count_evaluation_batches, evaluation_batches
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Acknowledged, Evaluated, Evaluating, Finished, Health, Notice, Sampled, Saved, Started, Step
from nanogpt.training import (
    CommandQueue,
    Pause,
    Resume,
    Sample,
    Save,
    ScaleLearningRate,
    SetEvalInterval,
    SetMaxIters,
    Stop,
    async_checkpoint,
    evaluation,
    loop,
    train,
)
from nanogpt.training.distributed import World
from nanogpt.training.optimizer_step import OptimizerStep
from nanogpt.training.runtime import memory_advice
from tests.narrowing import expect


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def losses(events):
    return [event.loss for event in of(Step, events)]


class Saves:
    """Keeps snapshots as a file would: copied at the moment of saving."""

    def __init__(self):
        self.by_step = {}

    def __call__(self, snapshot, is_best):
        copies = [
            {name: tensor.clone() for name, tensor in part.items()} for part in (snapshot.model, snapshot.optimizer)
        ]
        self.by_step[snapshot.progress.step] = type(snapshot)(
            snapshot.model_config, *copies, snapshot.progress, snapshot.position
        )
        return f"step-{snapshot.progress.step}"


def test_after_a_rollback_each_process_drops_units_of_its_own(tiny, tokens, monkeypatch):
    """A checkpoint has the random state of the main process only."""
    steps, run = [], OptimizerStep.run

    def seen(self):
        steps.append(self)
        return run(self)

    monkeypatch.setattr(OptimizerStep, "run", seen)
    saves, drawn = Saves(), []
    list(train(tiny(max_iters=2), tokens, save=saves))
    step, snapshot = steps[0], saves.by_step[2]
    for rank in range(3):
        step.runtime = replace(step.runtime, world=World(rank, 3))
        step.go_back(snapshot, elapsed_s=0.0)
        drawn.append(torch.rand(()).item())
    assert len(set(drawn)) == 3
    torch.set_rng_state(snapshot.optimizer["random.cpu"])
    assert torch.rand(()).item() == drawn[0]


def test_it_starts_steps_evaluates_and_finishes_in_that_order(tiny, tokens):
    events = list(train(tiny(), tokens))
    assert isinstance(events[0], Started)
    assert [event.step for event in of(Step, events)] == list(range(1, 13))
    assert [event.step for event in of(Evaluated, events)] == [0, 6, 12]
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].step) == ("max_iters", 12)


def test_where_the_interval_is_longer_than_the_run_its_end_alone_is_evaluated(tiny, tokens):
    assert [event.step for event in of(Evaluated, train(tiny(eval_interval=13), tokens))] == [12]


def test_it_learns(tiny, tokens):
    evaluated = of(Evaluated, train(tiny(max_iters=150, eval_interval=150), tokens))
    assert evaluated[0].val_loss == pytest.approx(math.log(11), abs=0.1)
    # A tenth of the steps are uniform over 11: the entropy of that rule is 0.61 nats.
    assert 0.5 < evaluated[-1].val_loss < 1.0


def test_the_first_loss_of_a_model_that_knows_nothing_is_ln_of_the_vocabulary(tiny, tokens):
    assert losses(train(tiny(), tokens))[0] == pytest.approx(math.log(11), abs=0.1)


def test_evaluating_more_often_changes_no_training_loss(tiny, tokens):
    often, seldom = (losses(train(tiny(dropout=0.3, eval_interval=every), tokens)) for every in (1, 100))
    assert often == seldom


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(tiny, tokens):
    first, again, other = (losses(train(tiny(seed=seed, dropout=0.1), tokens)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_micro_batches_accumulate_to_the_same_step_as_one_large_batch(tiny, tokens):
    whole = losses(train(tiny(batch_size=8), tokens))
    parts = losses(train(tiny(batch_size=2, gradient_accumulation_steps=4), tokens))
    assert parts == pytest.approx(whole, abs=1e-5)


def is_counted(architecture):
    return component(ARCHITECTURE, architecture).capabilities.counted


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.2},
        pytest.param({"dropout": 0.2, "dtype": "bfloat16"}, marks=pytest.mark.slow),
        pytest.param({"dtype": "float16"}, marks=pytest.mark.slow),
        {"architecture": "modern", "optimizer": "muon"},
        {"architecture": "ensemble", "dropout": 0.2, "threads": 2},
        *({"architecture": name} for name in names(ARCHITECTURE) if not is_counted(name)),
    ],
    ids=str,
)
def test_a_resumed_training_gives_bit_identical_losses_and_weights(tiny, tokens, changes):
    config = tiny(**changes, checkpoint_interval=5)
    saves, resumed_saves = Saves(), Saves()
    whole = list(train(config, tokens, save=saves))
    torch.manual_seed(0)  # whatever went on in between
    rest = list(train(config, tokens, save=resumed_saves, start=saves.by_step[5], resume=True))
    assert losses(rest) == losses(whole)[5:]
    assert [e.val_loss for e in of(Evaluated, rest)] == [e.val_loss for e in of(Evaluated, whole)][1:]
    final, resumed_final = saves.by_step[12].model, resumed_saves.by_step[12].model
    assert all(torch.equal(final[name], resumed_final[name]) for name in final)


def test_saved_are_the_best_the_latest_and_every_n_steps(tiny, tokens):
    events = list(train(tiny(checkpoint_interval=4), tokens, save=Saves()))
    assert [event.step for event in of(Saved, events)] == [4, 6, 8, 12]


def test_without_always_save_checkpoint_an_evaluation_that_is_no_better_saves_nothing(tiny, tokens):
    config = tiny(learning_rate=1e-12, min_lr=0, eval_interval=3, always_save_checkpoint=False)
    best = [event.step for event in of(Evaluated, train(config, tokens)) if event.is_best]
    saved = [event.step for event in of(Saved, train(config, tokens, save=Saves()))]
    assert saved == [step for step in best if step > 0] + [12] * (12 not in best)


def test_the_gradient_norm_is_reported_before_clipping_and_clipping_changes_the_steps(tiny, tokens):
    free, clipped = (list(train(tiny(grad_clip=limit), tokens)) for limit in (0, 1e-4))
    assert of(Step, clipped)[0].grad_norm == pytest.approx(of(Step, free)[0].grad_norm)
    assert of(Step, free)[0].grad_norm > 1e-3
    assert losses(free)[:1] == losses(clipped)[:1]
    assert losses(free)[1:] != losses(clipped)[1:]


def test_eval_only_evaluates_once_and_trains_nothing(tiny, tokens):
    events = list(train(tiny(eval_only=True), tokens))
    assert len(of(Evaluated, events)) == 1
    assert not of(Step, events)
    assert expect(Finished, events[-1]).reason == "eval_only"


def test_eval_iters_zero_covers_the_whole_validation_split(tiny, tokens):
    assert of(Evaluated, train(tiny(eval_iters=0), tokens))[0].tokens == len(tokens["val"]) - 1


def test_log_interval_thins_the_steps_that_are_reported_and_nothing_else(tiny, tokens):
    every, third = (list(train(tiny(log_interval=n), tokens)) for n in (1, 3))
    assert losses(third) == losses(every)[2::3]


def test_a_loss_that_is_not_finite_ends_the_run_and_saves_nothing_more(tiny, tokens):
    saves = Saves()
    high = {"learning_rate": 1000, "min_lr": 1000, "warmup_iters": 0, "decay_lr": False, "weight_decay": 1000}
    config = tiny(**high, grad_clip=0, max_iters=300, checkpoint_interval=1)
    events = list(train(config, tokens, save=saves))
    assert expect(Finished, events[-1]).reason == "nan"
    assert of(Health, events)[0].state == "nan"
    assert saves.by_step
    assert all(torch.isfinite(t).all() for s in saves.by_step.values() for t in s.model.values())


def test_stop_saves_and_ends_and_stop_without_saving_only_ends(tiny, tokens):
    for save, expected in ((True, [3]), (False, [])):
        commands = CommandQueue()
        events = []
        for event in train(tiny(), tokens, commands=commands, save=Saves()):
            events.append(event)
            if isinstance(event, Step) and event.step == 3:
                commands.put(Stop(save=save))
        assert [event.step for event in of(Saved, events)] == expected
        finished = expect(Finished, events[-1])
        assert (finished.reason, finished.step) == ("stopped", 3)


def steered(config, tokens, at_step, *sent, **more):
    commands, events = CommandQueue(), []
    for event in train(config, tokens, commands=commands, **more):
        events.append(event)
        if isinstance(event, Step) and event.step == at_step:
            for command in sent:
                commands.put(command)
    return events


def test_every_command_is_acknowledged_in_order(tiny, tokens):
    commands = [ScaleLearningRate(0.5), SetEvalInterval(2), SetMaxIters(8), Save(), Pause(), Resume()]
    events = steered(tiny(), tokens, 3, *commands, save=Saves())
    assert [e.command for e in of(Acknowledged, events)] == [type(command).__name__ for command in commands]
    assert {e.step for e in of(Acknowledged, events)} == {3}


def test_a_change_at_a_step_that_has_a_checkpoint_is_saved_with_the_next_stop(tiny, tokens):
    saves = Saves()
    events = steered(tiny(), tokens, 3, Save(), ScaleLearningRate(0.5), Stop(), save=saves)
    assert [event.step for event in of(Saved, events)] == [3, 3]
    assert saves.by_step[3].progress.learning_rate_scale == 0.5


def test_a_change_at_a_step_that_is_saved_does_not_save_it_again_while_training_goes_on(tiny, tokens):
    config = tiny(checkpoint_interval=4, eval_interval=100, max_iters=6)
    events = steered(config, tokens, 4, ScaleLearningRate(0.5), save=Saves())
    assert [event.step for event in of(Saved, events)] == [4, 6]


def test_a_change_while_a_checkpoint_cannot_be_written_is_saved_with_the_next_stop(tiny, tokens, monkeypatch):
    monkeypatch.setattr(async_checkpoint, "RETRY_S", 0.1)
    saves, refusals = Saves(), iter([True, True])
    commands = CommandQueue()

    def save(snapshot, is_best):
        if next(refusals, False):
            raise OSError("the disk is full")
        return saves(snapshot, is_best)

    for event in train(tiny(), tokens, commands=commands, save=save):
        if isinstance(event, Step) and event.step == 3:
            commands.put(Save())
        if isinstance(event, Health) and event.state == "waiting":
            for command in (Pause(), ScaleLearningRate(0.5), Save()):
                commands.put(command)
        if isinstance(event, Saved):
            commands.put(Stop())
    assert saves.by_step[3].progress.learning_rate_scale == 0.5


@pytest.mark.parametrize(("command", "last", "scale"), [(SetMaxIters(14), 14, 1.0), (ScaleLearningRate(0.5), 12, 0.5)])
def test_a_command_that_comes_while_the_last_checkpoint_is_written_is_applied(tiny, tokens, command, last, scale):
    saves, to_send = Saves(), iter([command])
    is_at_end, has_looked = threading.Event(), threading.Event()

    class Commands(CommandQueue):
        def take(self, *, is_last=False):
            taken = super().take(is_last=is_last)
            if is_at_end.is_set():
                has_looked.set()
            return taken

    commands = Commands()

    def save(snapshot, is_best):
        if snapshot.progress.step == 12:
            assert has_looked.wait(60)
            for each in to_send:
                commands.put(each)
        return saves(snapshot, is_best)

    for event in train(tiny(), tokens, commands=commands, save=save):
        if isinstance(event, Evaluated) and event.step == 12:
            is_at_end.set()
    end = expect(Finished, event)
    assert (end.reason, end.step) == ("max_iters", last)
    assert saves.by_step[last].progress.learning_rate_scale == scale


def test_a_save_is_acknowledged_after_the_checkpoint_before_it_is_on_disk(tiny, tokens):
    release, commands, answers = threading.Event(), CommandQueue(), []

    class SaveAndRelease(Save):
        def apply(self, training):
            release.set()
            yield from super().apply(training)

    def save(snapshot, is_best):
        assert release.wait(60)
        return "saved"

    for event in train(tiny(), tokens, commands=commands, save=save):
        if isinstance(event, Step) and event.step in (3, 5):
            commands.put(Save() if event.step == 3 else SaveAndRelease())
        if isinstance(event, Acknowledged | Saved) and event.step <= 5:
            answers.append((type(event), event.step))
    assert answers == [(Acknowledged, 3), (Saved, 3), (Acknowledged, 5), (Saved, 5)]


def test_a_save_that_is_not_possible_says_why(tiny, tokens):
    (answer,) = of(Acknowledged, steered(tiny(), tokens, 3, Save()))
    assert answer.text == "not saved: this training saves no checkpoints"


def test_the_learning_rate_is_scaled_from_the_next_step_on(tiny, tokens):
    plain = of(Step, train(tiny(), tokens))
    scaled = of(Step, steered(tiny(), tokens, 3, ScaleLearningRate(0.5)))
    ratios = [b.learning_rate / a.learning_rate for a, b in zip(plain, scaled, strict=True)]
    assert ratios == pytest.approx([1.0] * 3 + [0.5] * 9)


def test_the_last_step_and_the_evaluation_interval_change_while_it_runs(tiny, tokens):
    events = steered(tiny(), tokens, 3, SetMaxIters(9), SetEvalInterval(4))
    assert [event.step for event in of(Evaluated, events)] == [0, 4, 8, 9]
    assert events[-1].step == 9


def test_a_last_step_that_is_past_already_ends_after_an_evaluation(tiny, tokens):
    events = steered(tiny(), tokens, 5, SetMaxIters(2), save=Saves())
    assert [event.step for event in of(Evaluated, events)][-1] == 5
    assert [event.step for event in of(Saved, events)] == [5]
    assert (events[-1].reason, events[-1].step) == ("max_iters", 5)


@pytest.fixture
def commands(monkeypatch):
    """A queue: when a training waits for commands, an hour passes; it gets a save, then the end of a pause."""
    in_pause, hours, now = [Save(), Resume()], list[int](), time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 3600 * len(hours))

    class Commands(CommandQueue):
        def wait(self, timeout_s):
            hours.append(1)
            self.put(in_pause[len(hours) - 1])

    return Commands()


def test_a_pause_lasts_until_it_is_ended_and_does_not_count_as_training_time(tiny, tokens, commands):
    events = []
    for event in train(tiny(), tokens, commands=commands):
        events.append(event)
        if isinstance(event, Step) and event.step == 3:
            commands.put(Pause())
    answers = [(event.step, event.command) for event in of(Acknowledged, events)]
    assert answers == [(3, "Pause"), (3, "Save"), (3, "Resume")]
    assert of(Step, events)[-1].elapsed_s < 3600


def test_a_pause_in_an_evaluation_does_not_lengthen_what_is_left(tiny, tokens, commands):
    commands.put(Pause())  # applied after the first batch that is evaluated
    events = list(train(tiny(), tokens, commands=commands))
    assert [type(event) for event in events[:4]] == [Started, *[Acknowledged] * 3]
    assert of(Step, events)[0].eta_s < 3600


def test_commands_are_applied_in_the_middle_of_an_evaluation_and_its_checkpoint_has_its_losses(tiny, tokens):
    saves = Saves()
    events = steered(tiny(eval_iters=50), tokens, 6, Save(), save=saves)
    after = [type(event) for event in events if isinstance(event, Acknowledged) or getattr(event, "step", 0) == 6][1:5]
    assert after == [Acknowledged, Saved, Evaluated, Saved]
    assert saves.by_step[6].progress.evaluated_at == 6
    assert losses(events) == losses(train(tiny(eval_iters=50), tokens))


def test_a_long_evaluation_says_how_far_it_is(tiny, tokens, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "REPORT_INTERVAL_S", 0.0)
        events = list(train(tiny(max_iters=0, eval_iters=3), tokens))
    assert [(event.done, event.total) for event in of(Evaluating, events)] == [(n, 6) for n in range(1, 7)]
    assert not of(Evaluating, train(tiny(max_iters=0, eval_iters=3), tokens))


@pytest.mark.parametrize("eval_iters", [0, 1, 15, 16, 17])
def test_how_many_batches_an_evaluation_has_is_known_before(tiny, tokens, eval_iters):
    for n in range(490, 500):
        batches = list(evaluation_batches(tokens["val"][:n], 8, 4, eval_iters, seed=1))
        assert len(batches) == count_evaluation_batches(n, 8, 4, eval_iters)


def test_weights_that_an_evaluation_found_bad_are_not_saved(tiny, tokens):
    saves, bad = Saves(), {"vocab_size": 11}
    real = evaluation.evaluate

    def evaluate(*given, **named):
        result = yield from real(*given, **named)
        return (math.nan, result[1]) if len(losses_seen) else result

    losses_seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "evaluate", evaluate)
        for event in train(tiny(always_save_checkpoint=True, **bad), tokens, save=saves):
            if isinstance(event, Saved):
                losses_seen.append(event.step)
    assert list(saves.by_step) == [6]


def test_a_token_that_the_model_lacks_is_one_line(tiny, tokens):
    tokens["train"][1000:] = 60_000
    with pytest.raises(UserError, match=r"token id 60,000, but the model's last id is 10.*--force"):
        list(train(tiny(), tokens))


@pytest.mark.parametrize("before", names(OPTIMIZER))
def test_each_optimizer_goes_on_where_another_was(tiny, tokens, before):
    saves = Saves()
    list(train(tiny(optimizer=before), tokens, save=saves))
    for after in names(OPTIMIZER):
        events = list(train(tiny(optimizer=after), tokens, start=saves.by_step[6], resume=True))
        assert len(of(Step, events)) == 6, after


@pytest.mark.slow
def test_a_compiled_training_asks_for_one_order_of_adding_and_gives_it_back(tiny, tokens, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # 30 s less than making machine code
    asked = []

    def sample(model, prompt, seed):
        asked.append(torch.are_deterministic_algorithms_enabled())
        return ""

    compiled = tiny(compile="true", max_iters=1, sample_interval=1)
    list(train(compiled, tokens, sample=sample))
    assert asked == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_stop_in_the_middle_of_an_evaluation_ends_it(tiny, tokens):
    commands, saves = CommandQueue(), Saves()
    commands.put(Stop())
    events = list(train(tiny(eval_iters=10**6), tokens, commands=commands, save=saves))
    assert [type(event) for event in events] == [Started, Acknowledged, Saved, Finished]
    assert saves.by_step[0].progress.evaluated_at == -1


def test_a_sample_is_written_with_the_present_weights_and_disturbs_nothing(tiny, tokens):
    def sample(model, prompt, seed):
        torch.rand(3, generator=torch.Generator().manual_seed(seed))
        return f"{prompt}{sum(p.sum().item() for p in model.parameters()):.6f}"

    events = steered(tiny(dropout=0.1), tokens, 3, Sample("a"), sample=sample)
    assert len(of(Sampled, events)) == 1
    assert of(Sampled, events)[0].step == 3
    assert losses(events) == losses(train(tiny(dropout=0.1), tokens))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UserError("unknown character 'é'"), "unknown character 'é'"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory: no sample is written, training continues"),
    ],
    ids=["prompt", "memory"],
)
def test_a_sample_that_cannot_be_written_is_a_notice_and_training_goes_on(tiny, tokens, error, text):
    def sample(model, prompt, seed):
        raise error

    events = steered(tiny(), tokens, 3, Sample("é"), sample=sample)
    assert [notice.text for notice in of(Notice, events)] == [text]
    assert expect(Finished, events[-1]).reason == "max_iters"


def test_samples_are_taken_every_sample_interval_steps(tiny, tokens):
    events = list(train(tiny(sample_interval=5), tokens, sample=lambda *_: "text"))
    assert [event.step for event in of(Sampled, events)] == [0, 5, 10]


def test_a_sample_that_a_stop_during_an_evaluation_left_out_is_taken_on_resume(tiny, tokens):
    commands, saves, config = CommandQueue(), Saves(), tiny(sample_interval=6)
    for event in train(config, tokens, commands=commands, save=saves, sample=lambda *_: "text"):
        if isinstance(event, Step) and event.step == 6:
            commands.put(Stop())
    assert saves.by_step[6].progress.evaluated_at == 0
    events = list(train(config, tokens, start=saves.by_step[6], resume=True, sample=lambda *_: "text"))
    assert [event.step for event in of(Sampled, events)] == [6, 12]


def test_a_last_step_that_is_lowered_to_the_present_one_takes_no_second_sample_there(tiny, tokens):
    events = steered(tiny(sample_interval=5), tokens, 5, SetMaxIters(5), sample=lambda *_: "text")
    assert [event.step for event in of(Sampled, events)] == [0, 5]


@pytest.mark.parametrize("refused", [{"block_size": 10_000}, {"device": "cuda:7"}, {"n_embd": 10**6}])
def test_a_training_that_is_refused_or_over_keeps_no_memory(tiny, tokens, refused):
    gc.collect()  # of tests that left theirs in the middle
    before = heap._users
    with pytest.raises(UserError):
        list(train(tiny(**refused), tokens))
    list(train(tiny(max_iters=1), tokens))
    assert heap._users == before


def test_closing_the_iterator_ends_training(tiny, tokens):
    with closing(train(tiny(), tokens)) as training:
        next(training)
    assert list(training) == []


def test_speed_and_time_left_are_positive_and_the_tokens_are_counted(tiny, tokens):
    steps = of(Step, train(tiny(), tokens))
    assert steps[-1].tokens == 12 * 4 * 8
    assert all(step.tokens_per_second > 0 and step.memory_bytes > 0 for step in steps)
    assert steps[-1].eta_s == 0
    assert steps[0].mfu is not None


def test_a_split_that_is_too_short_is_an_error_before_anything_starts(tiny, tokens):
    with pytest.raises(UserError, match="val split"):
        list(train(tiny(), {"train": tokens["train"], "val": tokens["val"][:8]}))


def test_a_compiler_that_fails_is_told_in_one_line(tiny, tokens, monkeypatch):
    from torch._inductor.exc import InductorError

    def forward(*_):
        raise InductorError(RuntimeError("C++ compile error\n\nCommand:\ng++ …"), None)

    monkeypatch.setattr(torch, "compile", lambda model: forward)
    failure = "the model cannot be compiled (RuntimeError: C++ compile error); use compile=false"
    with pytest.raises(UserError, match=f"^{re.escape(failure)}$"):
        list(train(tiny(compile="true"), tokens))


@pytest.mark.slow
def test_a_compiled_training_takes_the_same_steps_up_to_rounding(tiny, tokens):
    plain, compiled = (losses(train(tiny(compile=asked, max_iters=5), tokens)) for asked in ("false", "true"))
    assert compiled == pytest.approx(plain, abs=1e-4)


def test_bfloat16_trains_the_same_model_about_as_well(tiny, tokens):
    exact = of(Evaluated, train(tiny(), tokens))[-1].val_loss
    half = of(Evaluated, train(tiny(dtype="bfloat16"), tokens))[-1].val_loss
    assert half == pytest.approx(exact, abs=0.05)
    assert half != exact


def test_float16_trains_the_same_model_about_as_well(tiny, tokens):
    exact = of(Evaluated, train(tiny(), tokens))[-1].val_loss
    half = of(Evaluated, train(tiny(dtype="float16"), tokens))[-1].val_loss
    assert half == pytest.approx(exact, abs=0.05)
    assert half != exact


def test_gradients_that_float16_cannot_hold_move_nothing_and_halve_the_scale(tiny, tokens):
    config = tiny(dtype="float16", checkpoint_interval=1)
    saves, later = Saves(), Saves()
    list(train(config, tokens, save=saves))
    begin = saves.by_step[1]
    begin.optimizer["scaler.scale"] = torch.tensor(2.0**60)  # a gradient above 2**-44 is infinite in 16 bits
    events = list(train(config, tokens, save=later, start=begin, resume=True))
    assert expect(Finished, events[-1]).reason == "max_iters", "an overflow does not end a training"
    assert not of(Health, events)
    scales = [later.by_step[step].optimizer["scaler.scale"].item() for step in (2, 3, 4)]
    assert scales == [2.0**59, 2.0**58, 2.0**57]
    for name, tensor in later.by_step[4].model.items():
        assert torch.equal(tensor, begin.model[name])
    assert not math.isfinite(of(Step, events)[0].grad_norm)


def test_a_model_that_cannot_fit_is_refused_before_it_takes_any_memory(tiny, tokens):
    with pytest.raises(UserError, match=r"out of memory: .*choose a smaller model"):
        list(train(tiny(n_embd=200_000, n_layer=1000), tokens))
    with pytest.raises(UserError, match=r"out of memory: .*lower batch_size \(now 1000000\)"):
        list(train(tiny(batch_size=1_000_000, block_size=100, n_embd=64), tokens))


@pytest.mark.parametrize(
    ("batch_size", "block_size", "words"),
    [
        (4, 8, ["lower batch_size (now 4)", "lower block_size (now 8)", "choose a smaller model"]),
        (1, 8, ["lower block_size (now 8)", "choose a smaller model"]),
        (1, 1, ["choose a smaller model"]),
    ],
)
def test_what_takes_less_memory_is_something_that_can_be_done(tiny, batch_size, block_size, words):
    ways = memory_advice(tiny(batch_size=batch_size, block_size=block_size)).split(", or ")
    assert len(ways) == len(words)
    assert all(way.startswith(word) for way, word in zip(ways, words, strict=True))


def test_an_unknown_architecture_is_an_error_that_names_those_that_there_are(tiny, tokens):
    with pytest.raises(SettingError, match=r"gpt2"):
        list(train(tiny(architecture="gpt3"), tokens))


def test_window_order_does_not_depend_on_numpy_s_global_state(tiny, tokens):
    np.random.seed(1)
    first = losses(train(tiny(), tokens))
    np.random.seed(2)
    assert losses(train(tiny(), tokens)) == first
