"""Modules that compute in 16 bits learn with weights and outputs of 32."""

import keras
import numpy as np
import pytest
import tree

ME = "default_policy"


@pytest.fixture(autouse=True)
def global_policy():
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


DTYPES = ["float16", pytest.param("bfloat16", marks=pytest.mark.deep)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_update_is_that_of_float32_within_rounding(row, dtype):
    wanted = row.learner()
    keras.config.set_dtype_policy(f"mixed_{dtype}")
    learner = row.make_learner()
    learner.module[ME].set_state(wanted.module[ME].get_state())
    assert dtype in learner.module[ME].compute_dtypes()
    losses = [row.train(each)[ME]["total_loss"] for each in (learner, wanted)]
    np.testing.assert_allclose(*losses, rtol=0.1, atol=0.1)
    weights = learner.get_state("rl_module")["rl_module"][ME]
    assert all(x.dtype == np.float32 for x in tree.flatten(weights))
    actions = row.act(learner.module[ME], row.observations(8), explore=True)
    assert np.isfinite(actions).all() and actions.dtype != np.float16


def test_updates_lower_the_loss_of_values(row):
    keras.config.set_dtype_policy("mixed_bfloat16")
    learner = row.make_learner()
    batches = row.make_batches(learner)
    if "terminateds" in batches[ME]:  # Of transitions: targets stay where they are.
        batches[ME]["terminateds"][:] = True
        if "action_logp" in batches[ME]:  # So do V-trace's weights, at 1.
            batches[ME]["action_logp"][:] = -50.0
    results = [learner.update_from_batch(batches)[ME] for _ in range(30)]
    names = ("qf_loss", "vf_loss", "total_loss")  # The first that there is.
    (name, *_) = [name for name in names if name in results[0]]
    first, *_, last = [each[name] for each in results]
    assert last < 0.98 * first
    assert results[-1]["num_non_finite_updates_lifetime"] == 0
