"""Where updates of MARWIL differ from RLlib's, and what its recordings show."""

import numpy as np
import pytest

ALGORITHM = "marwil"


# Where numbers differ, on purpose.


def test_without_a_preference_values_are_learned_all_the_same(cases, start):
    """RLlib leaves the value function alone where beta is 0."""
    case = cases["discrete"]
    learner = start(case, run_eagerly=True)
    learner.config.beta = 0.0
    results = learner.update_from_batch(case.batch())["default_policy"]
    want = results["policy_loss"] + 0.5 * results["vf_loss"]
    assert results["total_loss"] == pytest.approx(want, rel=1e-6)
    assert results["vf_loss"] > 0.1


def test_explained_variance_leaves_masked_rows_out(cases, start):
    """RLlib's takes them in."""
    case = cases["discrete_masked"]
    batch = case.batch()["default_policy"]
    rows, shares = batch["loss_mask"], []
    for own in (batch, {column: values[rows] for column, values in batch.items()}):
        learner = start(case, run_eagerly=True)
        results = learner.update_from_batch(own)["default_policy"]
        shares.append(results["vf_explained_variance"])
    assert shares[0] == pytest.approx(shares[1], rel=1e-5)
    assert shares[0] != pytest.approx(case.term("vf_explained_variance")[0], abs=1e-3)


# The recordings see what they should.


def test_recordings_prefer_some_actions_and_disdain_others(cases, start):
    """Guards the other tests: weights far from 1 show an error in the exponent."""
    case = cases["discrete"]
    learner = start(case, run_eagerly=True)
    batch = case.batch()["default_policy"]
    values = learner.module["default_policy"].unwrapped().compute_values(batch)
    advantages = batch["value_targets"] - values.numpy()
    average = case.term("moving_avg_sqd_adv_norm")[0]
    weights = np.exp(advantages / np.sqrt(average))
    assert (weights < 0.6).any() and (weights > 2.0).any()
    assert average != pytest.approx(9.0, abs=0.05)
