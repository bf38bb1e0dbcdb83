"""An export acts like its module, and takes the gradient steps of its learner."""

import json
import pathlib

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.testing import assert_close

ME = "default_policy"


@pytest.fixture(scope="module")
def learner(row):
    """A learner after an update."""
    learner = row.learner()
    row.train(learner)
    return learner


@pytest.fixture(scope="module")
def exported(learner, tmp_path_factory):
    """The path of its export, with the update inside."""
    path = tmp_path_factory.mktemp("export") / "policy"
    learner.export(path, include_update=True)
    return str(path)


def test_greedy_actions_are_those_of_the_module(row, learner, exported):
    policy, observations = tf.saved_model.load(exported), row.observations(16)
    state = (policy.initial_state(16),) if hasattr(policy, "initial_state") else ()
    got = policy.act_greedy(tf.constant(observations), *state)
    got, want = got[0] if state else got, row.act(learner.module[ME], observations)
    assert_close(got, want, rtol=1e-5, atol=1e-6)


def as_tensors(columns, specs):
    """Returns columns as the tensors that an export says it takes."""
    if "dtype" in specs:
        return tf.cast(columns, specs["dtype"])
    return {name: as_tensors(columns[name], own) for name, own in specs.items()}


def test_a_gradient_step_is_that_of_the_learner(row, learner, exported):
    columns = row.make_batches(learner, seed=7)[ME]
    if Columns.NEXT_OBS in columns and isinstance(row.spaces[1], gym.spaces.Box):
        rng = np.random.default_rng(0)  # SAC's noise: else each would draw its own.
        for name in (Columns.NOISE, Columns.NEXT_NOISE):
            shape = np.shape(columns[Columns.ACTIONS])
            columns[name] = rng.standard_normal(shape, np.float32)
    policy = tf.saved_model.load(exported)
    spec = json.loads((pathlib.Path(exported) / "spec.json").read_text())["update"]
    policy.update(as_tensors(columns, spec["columns"]))
    learner.update_from_batch({ME: columns})
    wanted = [weight.numpy() for weight in learner.module[ME].trainable_variables]
    for got, want in zip(policy.trainable_variables, wanted, strict=True):
        assert_close(got, want, rtol=1e-5, atol=1e-6)
