"""Several devices train what one trains."""

import numpy as np
import pytest
import tensorflow as tf
import tree

ME = "default_policy"
SETTINGS = {"num_epochs": 2, "minibatch_size": 12, "shuffle_batch_per_epoch": True}
PARTS = ("rl_module", "optimizer", "learner")


def trained(row, **settings):
    """Returns a learner after two updates, and the results of the last one."""
    learner = row.make_learner(grad_clip=0.1, grad_clip_by="global_norm", **settings)
    for step in range(2):
        batches = row.make_batches(learner, seed=step)
        results = learner.update_from_batch(batches, **SETTINGS)
    return learner, results[ME]


def assert_near(a, b, tolerance):
    if isinstance(b, (np.ndarray, np.floating, float)):
        atol = tolerance * max(1.0, np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)
    else:
        assert a == b


@pytest.mark.deep
def test_two_devices_train_what_one_trains(row):
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
    )
    one, wanted = trained(row)
    two, results = trained(row, strategy=strategy)
    states = [{p: x.get_state(p)[p] for p in PARTS} for x in (two, one)]
    tree.map_structure(lambda a, b: assert_near(a, b, row.tolerance), *states)
    assert two.row_outputs.keys() == one.row_outputs.keys()
    for key, rows in one.row_outputs.items():
        np.testing.assert_allclose(two.row_outputs[key], rows, rtol=1e-4, atol=1e-5)
    # That of parts, averaged, is no explained variance of the whole.
    names = wanted.keys() - {"vf_explained_var", "vf_explained_variance"}
    assert results.keys() == wanted.keys()
    for name in names:
        assert results[name] == pytest.approx(wanted[name], rel=1e-4, abs=1e-4), name
