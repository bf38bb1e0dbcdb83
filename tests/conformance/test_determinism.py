"""A seed decides everything that a learner draws."""

import numpy as np
import tree

from tflearner.testing import learner_digest


def trained(row, learner):
    """Returns the digest of a learner after three updates."""
    for step in range(3):
        row.train(learner, seed=step)
    learner.metrics.reset()  # Throughput is measured in seconds.
    return learner_digest(learner)


def test_same_seed_same_learner(eager_or_traced):
    row = eager_or_traced
    assert trained(row, row.make_learner()) == trained(row, row.learner())


def test_another_seed_draws_other_weights(row):
    weights = [
        np.concatenate([w.ravel() for w in tree.flatten(learner.module.get_state())])
        for learner in (row.learner(), row.make_learner(seed=2))
    ]
    assert (weights[0] != weights[1]).mean() > 0.5
