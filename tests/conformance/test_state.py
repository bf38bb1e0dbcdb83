"""What `get_state` returns is all that the next update depends on."""

import numpy as np
import tree


def test_learner_with_the_state_of_another_goes_on_like_it(row):
    first = row.make_learner(run_eagerly=True)
    second = row.make_learner(run_eagerly=True, seed=5)
    settings = {"minibatch_size": 8, "shuffle_batch_per_epoch": True}
    first.update_from_batch(row.make_batches(first), **settings)
    second.set_state(first.get_state())
    states = []
    for learner in (first, second):
        learner.update_from_batch(row.make_batches(learner, seed=1), **settings)
        states.append(learner.get_state(("rl_module", "optimizer", "learner")))
    tree.map_structure(np.testing.assert_array_equal, *states)
