"""What an export is compared with, and what counts as a difference."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.connectors.actions import GetActions, NormalizeAndClipActions
from tflearner.connectors.pipeline import ModuleToEnvPipeline
from tflearner.errors import ExportError
from tflearner.export.check import largest_difference, sample_observations
from tflearner.export.endpoints import Policy
from tflearner.modules.tf_rl_module import TfRLModule

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS = Box(-1.0, 1.0, (3,), np.float32)


class Passes(TfRLModule):
    """Puts out its observations, times a factor, as `ACTION_DIST_INPUTS`."""

    def setup(self):
        self.factor = self.add_weight(shape=(), initializer="ones")

    def _forward(self, batch, **kwargs):
        inputs = batch[Columns.OBS] * self.factor
        if isinstance(self.action_space, Box):
            inputs = tf.concat([inputs, inputs], -1)
        return {Columns.ACTION_DIST_INPUTS: inputs}


def policy_for(actions, factor=1.0):
    module = Passes(OBS, actions)
    module.factor.assign(factor)
    pieces = [GetActions(OBS, actions), NormalizeAndClipActions(OBS, actions)]
    return Policy(module, None, ModuleToEnvPipeline(pieces, OBS, actions))


def difference(policy, act_greedy):
    return largest_difference(policy, {"act_greedy": act_greedy})


def test_equal_actions_have_no_difference():
    policy = policy_for(Discrete(3, start=5))
    assert difference(policy, lambda obs: (obs.argmax(-1) + 5).astype(np.int32)) == 0.0


def test_other_actions_are_refused():
    policy = policy_for(Discrete(3))
    with pytest.raises(ExportError, match="a difference of 1.0e"):
        difference(policy, lambda obs: obs.argmin(-1).astype(np.int32))


class HalfPrecision(Passes):
    """Multiplies in the dtype that layers compute in."""

    def setup(self):
        super().setup()
        self.layer = keras.layers.Rescaling(1.0)

    def _forward(self, batch, **kwargs):
        return super()._forward({Columns.OBS: self.layer(batch[Columns.OBS])})


@pytest.mark.parametrize(
    ("dtype", "allowed"), [("bfloat16", 6e-3), ("float16", 8e-4), ("float32", 9e-6)]
)
def test_half_precision_may_be_rounded_elsewhere(dtype, allowed):
    keras.config.set_dtype_policy(dtype if dtype == "float32" else f"mixed_{dtype}")
    module = HalfPrecision(OBS, OBS)
    keras.config.set_dtype_policy("float32")
    to_env = ModuleToEnvPipeline([GetActions(OBS, OBS)], OBS, OBS)
    policy = Policy(module, None, to_env)

    def plus(difference):
        def act_greedy(obs):
            inputs = module.forward_inference({Columns.OBS: obs})
            return inputs[Columns.ACTION_DIST_INPUTS][:, :3] + difference

        return act_greedy

    assert difference(policy, plus(2 * allowed)) == pytest.approx(allowed, rel=0.1)
    with pytest.raises(ExportError, match="want"):
        difference(policy, plus(4 * allowed))


def test_of_equally_likely_actions_any_second_one_will_do():
    policy = policy_for(Discrete(3), factor=1e-8)
    assert difference(policy, lambda obs: np.argsort(obs)[:, 1].astype(np.int32)) == 0.0


def test_whole_numbers_may_be_rounded_either_way():
    space = Box(0, 254, (3,), np.uint8)
    policy = policy_for(space)
    exact = lambda obs: np.clip(obs * 127 + 127, 0, 254)
    nudged = lambda obs: np.rint(exact(obs) + 5e-4).astype(np.uint8)
    assert difference(policy, nudged) == 0.0
    with pytest.raises(ExportError):
        difference(policy, lambda obs: np.rint(exact(obs) + 0.3).astype(np.uint8))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_differences_are_relative_to_the_range_of_actions(size):
    policy = policy_for(Box(-size, size, (3,), np.float32))
    shifted = lambda by: lambda obs: (obs * size + by * size).astype(np.float32)
    found = difference(policy, shifted(4e-6))
    np.testing.assert_allclose(found, 2e-6, rtol=0.2)
    with pytest.raises(ExportError):
        difference(policy, shifted(1e-4))


@pytest.mark.parametrize(
    "act_greedy",
    [
        lambda obs: obs[:, :2],
        lambda obs: obs.astype(np.float64),
        lambda obs: obs * np.nan,
        lambda obs: 1 / 0,
    ],
)
def test_other_shapes_dtypes_and_failures_are_refused(act_greedy):
    policy = policy_for(Box(-1.0, 1.0, (3,), np.float32))
    with pytest.raises(ExportError, match=r"exported act_greedy\(\)"):
        difference(policy, act_greedy)


def test_observations_are_of_the_space():
    wide = np.finfo(np.float32).max
    box = Box(
        np.float32([-1, -np.inf, -wide, 0]), np.float32([1, np.inf, wide, np.inf])
    )
    space = gym.spaces.Dict(a=box, b=Discrete(3, start=1), c=Box(0, 255, (2, 2), "u1"))
    sampled = sample_observations(space, 200)
    again = sample_observations(space, 200)
    np.testing.assert_equal(sampled, again)
    a = sampled["a"]
    assert a.shape == (200, 4) and a.dtype == np.float32
    assert np.abs(a[:, 0]).max() <= 1.0 and a[:, 3].min() >= 0.0
    for column in (1, 2):
        assert 0.8 < a[:, column].std() < 1.2
    assert set(sampled["b"]) == {1, 2, 3}
    assert sampled["c"].dtype == np.uint8 and sampled["c"].max() > 200


def test_the_state_of_a_pipeline_stays_as_it_is(kinds):
    made = kinds["normalized"]
    (piece,) = made.env_to_module
    before = piece.get_state()
    policy = Policy(
        made.module,
        made.env_to_module,
        made.learner.config.build_module_to_env_connector(
            made.module.observation_space, made.module.action_space
        ),
    )
    endpoints = {each.name: each.function for each in policy.endpoints()}
    as_tensors = lambda call: lambda *x: call(*tf.nest.map_structure(tf.constant, x))
    functions = {name: as_tensors(call) for name, call in endpoints.items()}
    assert largest_difference(policy, functions) < 1e-6
    np.testing.assert_equal(piece.get_state(), before)
