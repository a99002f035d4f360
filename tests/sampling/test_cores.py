"""How many threads a step gets, by what the steps before took."""

import numpy as np

from nanogpt.sampling.cores import MOST_PATIENCE, blas_threads, by_trial


def tried(cores, seconds, steps):
    """The threads of each step; `seconds(step, threads)` says how long it takes."""
    plan = by_trial(cores)
    used = [next(plan)]
    for step in range(steps - 1):
        used.append(plan.send(seconds(step, used[-1])))
    return used


def test_a_machine_with_one_core_never_shares():
    assert set(tried(1, lambda step, threads: 1.0, 50)) == {1}


def test_all_cores_are_used_while_that_is_faster():
    assert tried(2, lambda step, threads: 1.0 / threads, 50) == [1] * 4 + [2] * 46


def test_beside_a_busy_process_sharing_is_tried_ever_more_rarely():
    used = tried(4, lambda step, threads: 90.0 if threads > 1 else 1.0, 8 * MOST_PATIENCE)
    tries = [step for step, threads in enumerate(used) if threads > 1]
    between = np.diff(tries)
    assert tries[0] == 4
    assert between.tolist()[:4] == [17, 65, 257, MOST_PATIENCE + 1]
    assert set(between.tolist()[4:]) == {MOST_PATIENCE + 1}


def test_one_slow_step_costs_a_few_steps_alone():
    used = tried(2, lambda step, threads: 9.0 if step == 20 else 1.0 / threads, 60)
    assert used[4:21] == [2] * 17
    assert used[21:25] == [1] * 4
    assert set(used[25:]) == {2}


def test_the_number_of_threads_is_as_before_afterwards_and_products_are_the_same():
    weights = np.random.default_rng(0).standard_normal((1600, 400), np.float32)
    with blas_threads(1):
        alone = weights @ weights[0]
    with blas_threads(2):
        together = weights @ weights[0]
        with blas_threads(1):
            pass
        np.testing.assert_allclose(weights @ weights[0], together)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)
