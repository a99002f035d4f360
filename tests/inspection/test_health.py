"""The lamps, from made-up events whose story is known."""

import math
import random

from nanogpt.events import Evaluated, Health, Started, Step
from nanogpt.inspection import HealthObserver, observed
from nanogpt.inspection.health import MESSAGES, WINDOW, HealthMonitor


def started(step=0):
    counts = (
        "n_parameters",
        "tokens_per_iteration",
        "train_tokens",
        "val_tokens",
        "vocab_size",
        "max_iters",
        "threads",
    )
    return Started(
        run="",
        step=step,
        device="cpu",
        dtype="",
        compile=False,
        peak_flops=None,
        choices={},
        **dict.fromkeys(counts, 1),
    )


def stepped(losses, data_share=0.0):
    figures = dict.fromkeys(("learning_rate", "grad_norm", "tokens_per_second", "elapsed_s", "eta_s"), 1.0)
    for step, loss in enumerate(losses, start=1):
        yield Step(step=step, loss=loss, tokens=1, mfu=None, memory_bytes=1, data_share=data_share, **figures)


def evaluated(*pairs):
    for step, (train_loss, val_loss) in enumerate(pairs):
        yield Evaluated(
            step=step,
            train_loss=train_loss,
            val_loss=val_loss,
            best_val_loss=0.0,
            is_best=False,
            tokens=1,
            elapsed_s=1.0,
        )


def lamps(*events):
    return [event.state for event in observed(events, [HealthObserver()]) if isinstance(event, Health)]


FALLING = [4 - step / 50 for step in range(100)]  # from 4 to 2


def test_a_training_that_learns_lights_no_lamp():
    falling = [(4 - n / 4, 4 - n / 4) for n in range(10)]
    assert lamps(*stepped(FALLING), *evaluated(*falling)) == []
    assert lamps(*stepped([loss + 0.2 * math.sin(9 * n) for n, loss in enumerate(FALLING)])) == []


def test_a_loss_that_rises_by_half_of_what_it_had_come_down_diverges_and_one_that_comes_back_learns():
    assert lamps(*stepped([*FALLING, *[3.5] * WINDOW, *[2.0] * WINDOW])) == ["diverging", "learning"]
    assert lamps(*stepped([*FALLING, *[2.2] * WINDOW])) == []
    assert lamps(*stepped([*FALLING, 9.0, *[2.0] * WINDOW])) == [], "a single step is no trend"


def test_a_loss_that_wavers_far_without_rising_lights_no_lamp():
    draw = random.Random(1)
    wavering = [draw.gauss(2.0, 0.5) for _ in range(5000)]
    assert lamps(*stepped(wavering)) == []


def test_a_loss_on_the_brink_does_not_flicker():
    brink = [value for _ in range(20) for value in [2.85] * WINDOW + [2.75] * WINDOW]
    assert lamps(*stepped([*[3.8] * WINDOW, *[2.0] * WINDOW, *brink])) == []
    brink = [value for _ in range(20) for value in [2.95] * WINDOW + [2.85] * WINDOW]
    assert lamps(*stepped([*[3.8] * WINDOW, *[2.0] * WINDOW, *brink])) == ["diverging"]


def test_a_validation_loss_that_rises_while_the_training_loss_falls_overfits():
    up = [(3.0, 3.0), (2.0, 2.0), (1.8, 2.05), (1.6, 2.1)]
    assert lamps(*evaluated(*up)) == ["overfitting"]
    assert lamps(*evaluated(*up, (1.5, 1.9))) == ["overfitting", "learning"]
    assert lamps(*evaluated((3.0, 3.0), (2.0, 2.0), (2.1, 2.05), (2.2, 2.1))) == [], "both rise: not that"


def test_evaluations_that_hardly_fall_are_a_plateau():
    assert lamps(*evaluated((4, 4), *[(2.0, 2.0 - n / 1000) for n in range(5)])) == ["plateau"]
    assert lamps(*evaluated((4, 4), *[(2.0, 2.0 - n / 50) for n in range(9)])) == []


def test_steps_do_not_go_through_all_evaluations_again():
    class Unread(list[tuple[float, float]]):
        def __getitem__(self, place):
            raise AssertionError

    monitor = HealthMonitor()
    for event in evaluated((3.0, 3.0), (2.0, 2.0), (1.8, 2.05), (1.6, 2.1)):
        monitor.add(event)
    monitor.evaluations = Unread(monitor.evaluations)
    for event in stepped(FALLING):
        monitor.add(event)
        assert monitor.state() == "overfitting"


def test_a_training_that_waits_for_data_is_data_bound():
    assert lamps(*stepped(FALLING, data_share=0.4)) == ["data-bound"]
    assert lamps(*stepped(FALLING, data_share=0.2)) == []


def test_after_a_return_to_a_checkpoint_it_is_judged_anew():
    assert lamps(*stepped([*FALLING, *[5.0] * WINDOW]), started(3), *stepped([3.0] * WINDOW)) == [
        "diverging",
        "learning",
    ]


def test_losses_that_are_not_numbers_are_left_to_whoever_ends_training():
    assert lamps(*stepped([math.nan, math.inf] * WINDOW), *evaluated((1.0, math.nan), (1.0, 1.0))) == []


def test_every_lamp_has_its_message():
    for state, message in MESSAGES.items():
        assert message, state
