"""Forbidden actions are neither taken nor learned."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.spaces.mask_spaces import ACTION_MASK, FORBIDDEN

ME = "default_policy"


@pytest.fixture(scope="module")
def masked(row):
    """The row with a mask of three actions."""
    return row.masked() or pytest.skip("no mask goes along with a Box of actions")


@pytest.fixture(scope="module")
def learner(masked):
    return masked.make_learner()


@pytest.mark.parametrize("explore", [False, True])
def test_forbidden_actions_are_never_taken(masked, learner, explore):
    observations = masked.observations(200)
    mask = observations[ACTION_MASK]
    mask[~mask.any(-1)] = 1
    actions = masked.act(learner.module[ME], observations, explore=explore)
    assert np.take_along_axis(mask, actions[:, None], 1).all()
    assert len(set(actions.tolist())) > 1


def test_masked_batches_are_learned_from(masked, learner):
    before = learner.get_state("rl_module")["rl_module"][ME]
    results = masked.train(learner)[ME]
    after = learner.get_state("rl_module")["rl_module"][ME]
    assert np.isfinite(results["total_loss"])
    assert any((before[key] != after[key]).any() for key in before)


def test_outputs_of_forbidden_actions_are_out_of_reach(masked, learner):
    module, observations = learner.module[ME], masked.observations(20)
    mask = observations[ACTION_MASK]
    mask[~mask.any(-1)] = 1
    if module.is_stateful():
        pytest.skip("sequences have a time axis")
    outputs = module.forward_inference({Columns.OBS: observations})
    inputs = np.asarray(outputs[Columns.ACTION_DIST_INPUTS])
    assert (inputs[mask == 0] == FORBIDDEN).all() and (inputs[mask == 1] > -1e3).all()


@pytest.mark.deep
def test_an_export_never_takes_a_forbidden_action(masked, learner, tmp_path):
    learner.export(tmp_path / "policy")
    policy = tf.saved_model.load(str(tmp_path / "policy"))
    observations = masked.observations(200)
    mask = observations[ACTION_MASK]
    mask[~mask.any(-1)] = 1
    is_stateful = learner.module[ME].is_stateful()
    state = (policy.initial_state(200),) if is_stateful else ()
    for outputs in (
        policy.act_greedy(observations, *state),
        policy.act(observations, *state, [1, 2]),
    ):
        actions = (outputs[0] if is_stateful else outputs).numpy()
        assert np.take_along_axis(mask, actions[:, None], 1).all()
        assert len(set(actions.tolist())) > 1
