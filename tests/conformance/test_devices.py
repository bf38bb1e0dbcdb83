"""Several devices train the weights that one trains."""

import numpy as np
import pytest
import tensorflow as tf
import tree

SETTINGS = {"num_epochs": 2, "minibatch_size": 12, "shuffle_batch_per_epoch": True}


def trained(row, **settings):
    learner = row.make_learner(**settings)
    for step in range(2):
        learner.update_from_batch(row.make_batches(learner, seed=step), **SETTINGS)
    return learner.get_state("rl_module")["rl_module"]


@pytest.mark.deep
def test_two_devices_train_the_weights_of_one(row):
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
    )
    one, two = trained(row), trained(row, strategy=strategy)
    tree.map_structure(
        lambda a, b: np.testing.assert_allclose(
            a, b, rtol=0, atol=row.tolerance * max(1.0, np.abs(b).max())
        ),
        two,
        one,
    )
