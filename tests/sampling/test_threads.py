"""How many threads a step gets, by what the steps before took."""

from itertools import groupby

import numpy as np
import torch

from nanogpt.sampling.threads import MAX_SINGLE_STEPS, threads, trial_thread_counts


def tried(cores, seconds, steps):
    """The threads of each step; `seconds(step, threads)` says how long it takes."""
    plan = trial_thread_counts(cores)
    used = [next(plan)]
    for step in range(steps - 1):
        used.append(plan.send(seconds(step, used[-1])))
    return used


def test_a_machine_with_one_core_never_shares():
    assert set(tried(1, lambda step, threads: 1.0, 50)) == {1}


def test_all_cores_are_used_while_that_is_faster():
    assert tried(2, lambda step, threads: 1.0 / threads, 50) == [1] * 4 + [2] * 46


def test_beside_a_busy_process_sharing_is_tried_ever_more_rarely():
    used = tried(4, lambda step, threads: 90.0 if threads > 1 else 1.0, 8 * MAX_SINGLE_STEPS)
    alone = [len(list(steps)) for threads, steps in groupby(used) if threads == 1]
    assert used.count(4) == 3 * (len(alone) - 1)
    assert alone[:5] == [4, 16, 64, 256, MAX_SINGLE_STEPS]
    assert set(alone[5:-1]) == {MAX_SINGLE_STEPS}


def test_the_first_step_of_all_cores_may_take_longer():
    assert tried(2, lambda step, threads: 3.0 if step == 4 else 1.0 / threads, 50) == [1] * 4 + [2] * 46


def test_one_slow_step_costs_nothing_and_two_cost_a_few_steps_alone():
    used = tried(2, lambda step, threads: 9.0 if step in (12, 20, 21) else 1.0 / threads, 60)
    assert used[4:22] == [2] * 18
    assert used[22:26] == [1] * 4
    assert set(used[26:]) == {2}


def test_all_cores_may_take_hardly_longer_than_one_but_not_more():
    assert tried(2, lambda step, threads: 1.1 if threads > 1 else 1.0, 50) == [1] * 4 + [2] * 46
    assert tried(2, lambda step, threads: 1.5 if threads > 1 else 1.0, 104).count(2) < 10


def test_steps_that_grow_longer_keep_all_cores():
    """Each step takes longer than the one before; with all cores always half as long as with one."""
    used = tried(2, lambda step, threads: (1 + step / 50) / threads, 500)
    assert used.count(1) < 60


def test_steps_a_little_slower_now_and_then_keep_all_cores():
    used = tried(2, lambda step, threads: (1.5 if step % 7 == 0 else 1.0) * (0.7 if threads > 1 else 1.0), 100)
    assert used == [1] * 4 + [2] * 96


def test_the_number_of_threads_is_as_before_afterwards_and_products_are_the_same():
    weights = np.random.default_rng(0).standard_normal((1600, 400), np.float32)
    before = torch.get_num_threads()
    with threads(1):
        alone = weights @ weights[0]
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with threads(2):
        together = weights @ weights[0]
        with threads(1):
            pass
        np.testing.assert_allclose(weights @ weights[0], together)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)
