"""A seed decides everything that a learner draws."""

import numpy as np
import tree

from tflearner.testing import learner_digest

SETTINGS = {
    "minibatch_size": 8,
    "num_epochs": 2,
    "shuffle_batch_per_epoch": True,
}


def trained(row, **settings):
    learner = row.make_learner(**settings)
    for step in range(3):
        learner.update_from_batch(row.make_batches(learner, seed=step), **SETTINGS)
    learner.metrics.reset()  # Throughput is measured in seconds.
    return learner_digest(learner)


def test_same_seed_same_learner(row):
    assert trained(row) == trained(row)


def test_another_seed_draws_other_weights(row):
    weights = [
        np.concatenate([w.ravel() for w in tree.flatten(learner.module.get_state())])
        for learner in (row.make_learner(seed=1), row.make_learner(seed=2))
    ]
    assert (weights[0] != weights[1]).mean() > 0.5
