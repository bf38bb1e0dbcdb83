"""What `get_state` returns is all that the next update depends on."""

import numpy as np
import tree

SETTINGS = {"minibatch_size": 8, "shuffle_batch_per_epoch": True}
RATES = [[0, 1e-2], [1000, 1e-4]]


def update(learner, row, *, seed, timestep):
    now = {"num_env_steps_sampled_lifetime": timestep}
    batches = row.make_batches(learner, seed=seed)
    return learner.update_from_batch(batches, timesteps=now, **SETTINGS)


def test_learner_with_the_state_of_another_goes_on_like_it(row):
    first = row.learner(run_eagerly=True, lr=RATES)
    second = row.make_learner(run_eagerly=True, lr=RATES, seed=5)
    update(first, row, seed=0, timestep=300)
    report = second.set_state(first.get_state())
    assert "rl_module" in report["applied"] and not report["ignored"]
    equal = np.testing.assert_array_equal
    tree.map_structure(equal, second.get_state(), first.get_state())
    results = [update(x, row, seed=1, timestep=600) for x in (first, second)]
    assert results[0] == results[1]
    tree.map_structure(equal, second.get_state(), first.get_state())
