"""What `get_state` returns is all that the next update depends on."""

import numpy as np
import tree


def test_learner_with_the_state_of_another_goes_on_like_it(row):
    first = row.learner(run_eagerly=True)
    second = row.make_learner(run_eagerly=True, seed=5)
    row.train(first)
    second.set_state(first.get_state())
    states = []
    for learner in (first, second):
        row.train(learner, seed=1)
        states.append(learner.get_state(("rl_module", "optimizer", "learner")))
    tree.map_structure(np.testing.assert_array_equal, *states)
