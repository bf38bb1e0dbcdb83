"""Tests for `tflearner.modules.inference`."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.modules import acting, inference
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.rl_module import RLModule
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.networks.distributions import Categorical
from tflearner.testing import assert_close

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS, ACT = Box(-1, 1, (4,)), Discrete(3)
CONFIG = {"fcnet_hiddens": (8,)}


class Traced(PPOTfRLModule):
    """Counts how often it is traced; has no NumPy copy."""

    traces = 0

    def _forward(self, batch, **kwargs):
        self.traces += 1
        return super()._forward(batch, **kwargs)


class Scripted(RLModule):
    """Acts without TensorFlow."""

    def _forward_inference(self, batch, **kwargs):
        return {Columns.ACTIONS: np.zeros(len(batch[Columns.OBS]), int)}

    def _forward_exploration(self, batch, **kwargs):
        return {Columns.ACTIONS: np.ones(len(batch[Columns.OBS]), int)}

    def get_state(self, components=None, *, not_components=None):
        return {}

    def set_state(self, state):
        pass


class FromDict(TfRLModule):
    """Takes nested observations and chooses the actions itself."""

    def setup(self):
        self.dense = keras.layers.Dense(1)

    def _forward(self, batch, **kwargs):
        a, b = batch[Columns.OBS]["a"], batch[Columns.OBS]["b"]
        features = tf.concat([a, tf.cast(b, tf.float32)[:, None]], -1)
        return {Columns.ACTIONS: self.dense(features)[:, 0]}


def batch_of(num=5, seed=0):
    rng = np.random.default_rng(seed)
    return {Columns.OBS: rng.uniform(-1, 1, (num, 4)).astype(np.float32)}


def act(actor, batch, explore=True, seed=0):
    return actor(batch, explore=explore, rng=np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("cls", "config", "want"),
    [
        (PPOTfRLModule, CONFIG, acting.NumpyActor),
        (PPOTfRLModule, CONFIG | {"fcnet_activation": "gelu"}, inference.TracedActor),
        (Traced, CONFIG, inference.TracedActor),
        (Scripted, None, acting.ModuleActor),
    ],
)
def test_the_fastest_way_to_act_is_chosen(cls, config, want):
    assert type(acting.make_actor(cls(OBS, ACT, model_config=config))) is want


def test_a_scripted_module_acts_itself():
    actor = acting.make_actor(Scripted(OBS, ACT))
    assert act(actor, batch_of(2))[Columns.ACTIONS].tolist() == [1, 1]
    assert act(actor, batch_of(2), explore=False)[Columns.ACTIONS].tolist() == [0, 0]


@pytest.mark.parametrize("explore", [True, False])
def test_numpy_actor_changes_with_refresh_only(explore):
    module = PPOTfRLModule(OBS, ACT, model_config=CONFIG)
    actor = acting.make_actor(module)
    before = act(actor, batch_of(), explore)
    for variable in module.trainable_variables:
        variable.assign_add(tf.ones(variable.shape))
    np.testing.assert_equal(act(actor, batch_of(), explore), before)
    actor.refresh()
    after = act(actor, batch_of(), explore)
    want = module.forward_inference(batch_of())
    assert set(want) == {Columns.ACTION_DIST_INPUTS} < set(after)
    for column in want:
        assert_close(after[column], want[column], rtol=1e-5, atol=1e-6)
        assert (after[column] != before[column]).any()


def test_traced_actor_returns_all_in_one_call():
    module = Traced(OBS, ACT, model_config=CONFIG)
    outputs = act(inference.TracedActor(module), batch_of())
    assert all(isinstance(column, np.ndarray) for column in outputs.values())
    inputs = module.forward_exploration(batch_of())[Columns.ACTION_DIST_INPUTS]
    assert_close(outputs[Columns.ACTION_DIST_INPUTS], inputs, rtol=1e-5, atol=1e-6)
    actions = outputs[Columns.ACTIONS]
    assert actions.shape == (5,) and set(actions) <= {0, 1, 2}
    logp = Categorical.logp_np(inputs.numpy(), actions)
    assert_close(outputs[Columns.ACTION_LOGP], logp, rtol=1e-5, atol=1e-6)


def test_traced_actor_returns_nested_actions():
    space = gym.spaces.Dict(go=Box(-1, 1, (2,)), say=gym.spaces.MultiDiscrete([2, 3]))
    module = Traced(OBS, space, model_config=CONFIG)
    outputs = act(inference.TracedActor(module), batch_of())
    actions = outputs[Columns.ACTIONS]
    assert actions["go"].shape == actions["say"].shape == (5, 2)
    dist_class = module.get_exploration_action_dist_cls()
    logp = dist_class.logp_np(outputs[Columns.ACTION_DIST_INPUTS], actions)
    assert_close(outputs[Columns.ACTION_LOGP], logp, rtol=1e-5, atol=1e-6)


def test_traced_actor_repeats_with_the_generator():
    actor = inference.TracedActor(Traced(OBS, ACT, model_config=CONFIG))
    first, again, other = (
        act(actor, batch_of(100), seed=seed)[Columns.ACTIONS] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    rng = np.random.default_rng(1)
    later = [actor(batch_of(100), explore=True, rng=rng) for _ in range(2)]
    assert (later[0][Columns.ACTIONS] != later[1][Columns.ACTIONS]).any()


def test_traced_actor_is_greedy_when_not_exploring():
    module = Traced(OBS, ACT, model_config=CONFIG)
    outputs = act(inference.TracedActor(module), batch_of(), explore=False)
    assert set(outputs) == {Columns.ACTION_DIST_INPUTS}


def test_traced_actor_traces_once_per_mode():
    module = Traced(OBS, ACT, model_config=CONFIG)
    actor = acting.make_actor(module)
    module.traces = 0
    for num in (1, 5, 16):
        for explore in (True, False):
            assert len(act(actor, batch_of(num), explore)["action_dist_inputs"]) == num
    assert module.traces == 2


def test_traced_actor_reads_the_present_weights():
    module = Traced(OBS, ACT, model_config=CONFIG)
    actor = inference.TracedActor(module)
    before = act(actor, batch_of(), explore=False)[Columns.ACTION_DIST_INPUTS]
    module.pi.weights[1].assign([1.0, 2.0, 3.0])
    actor.refresh()
    after = act(actor, batch_of(), explore=False)[Columns.ACTION_DIST_INPUTS]
    assert_close(after - before, [[1.0, 2.0, 3.0]] * 5, rtol=1e-5)


def test_traced_actor_takes_nested_observations_and_keeps_actions():
    space = gym.spaces.Dict({"b": Discrete(3), "a": Box(-1, 1, (2,))})
    module = FromDict(space, Box(-1, 1, ()))
    batch = {Columns.OBS: {"b": np.array([0, 2]), "a": np.ones((2, 2), np.float32)}}
    outputs = act(acting.make_actor(module), batch)
    assert set(outputs) == {Columns.ACTIONS}
    want = module.forward_inference(batch)[Columns.ACTIONS]
    assert_close(outputs[Columns.ACTIONS], want, rtol=1e-5)


class Chooses(PPOTfRLModule):
    """Puts out the actions next to the inputs of a distribution."""

    def _forward(self, batch, **kwargs):
        actions = tf.fill([tf.shape(batch[Columns.OBS])[0]], 2)
        return super()._forward(batch) | {Columns.ACTIONS: actions}


def test_traced_actor_keeps_actions_next_to_distribution_inputs():
    actor = acting.make_actor(Chooses(OBS, ACT, model_config=CONFIG))
    outputs = act(actor, batch_of(20))
    assert set(outputs) == {Columns.ACTION_DIST_INPUTS, Columns.ACTIONS}
    assert outputs[Columns.ACTIONS].tolist() == [2] * 20


class CountingValues(PPOTfRLModule):
    traces = 0

    def compute_values(self, batch, embeddings=None):
        self.traces += 1
        return super().compute_values(batch, embeddings)


def test_value_function_traces_once_per_layout():
    module = CountingValues(OBS, ACT, model_config=CONFIG)
    values = inference.ValueFunction(module)
    module.traces = 0
    for num in (1, 7, 300):
        batch = batch_of(num)
        got = values(batch)
        assert got.shape == (num,) and got.dtype == np.float32
        assert_close(got, values(batch))
    assert module.traces == 1
    want = module.compute_values(batch)
    assert_close(got, want, rtol=1e-5, atol=1e-6)
    doubles = {Columns.OBS: batch[Columns.OBS].astype(np.float64)}
    assert_close(values(doubles), want, rtol=1e-5, atol=1e-6)
    assert module.traces == 3  # One of them is the call for `want`.


@pytest.mark.parametrize("num_bytes", [1, 16, 100, 16 * 300])
def test_value_function_takes_many_rows_in_pieces(monkeypatch, num_bytes):
    module = PPOTfRLModule(OBS, ACT, model_config=CONFIG)
    values = inference.ValueFunction(module)
    batch = batch_of(300)
    whole = values(batch)
    sizes = []
    monkeypatch.setattr(inference, "BYTES_AT_ONCE", num_bytes)
    monkeypatch.setattr(
        inference, "from_numpy", lambda x: sizes.append(len(x)) or tf.constant(x)
    )
    assert_close(values(batch), whole, rtol=1e-5, atol=1e-6)
    assert sum(sizes) == 300
    assert max(sizes) == max(1, num_bytes // 16)


def test_value_function_reads_the_present_weights():
    module = PPOTfRLModule(OBS, ACT, model_config=CONFIG)
    values = inference.ValueFunction(module)
    before = values(batch_of())
    module.vf.weights[1].assign([3.0])
    assert_close(values(batch_of()) - before, [3.0] * 5, rtol=1e-5)


# Modules with a state.


class OwnState(TfRLModule):
    """Adds up what it sees; its outputs are nested."""

    def setup(self):
        self.dense = keras.layers.Dense(3)

    def get_initial_state(self):
        return {"sum": np.zeros(4, np.float32), "inner": {"steps": np.int32(0)}}

    def _forward(self, batch, **kwargs):
        obs, state = batch[Columns.OBS], batch[Columns.STATE_IN]
        assert obs.shape.rank == 3 and state["inner"]["steps"].shape.rank == 1
        sums = state["sum"][:, None] + tf.cumsum(obs, 1)
        steps = state["inner"]["steps"] + tf.shape(obs)[1]
        return {
            Columns.ACTION_DIST_INPUTS: self.dense(sums),
            "own": {"sums": sums},
            Columns.STATE_OUT: {"sum": sums[:, -1], "inner": {"steps": steps}},
        }


class ScriptedState(Scripted):
    """Counts without TensorFlow."""

    def get_initial_state(self):
        return {"steps": np.int32(0)}

    def _forward_exploration(self, batch, **kwargs):
        assert batch[Columns.OBS].shape[1:] == (1, 4)
        steps = batch[Columns.STATE_IN]["steps"] + 1
        return {Columns.ACTIONS: steps[:, None], Columns.STATE_OUT: {"steps": steps}}

    _forward_inference = _forward_exploration


def test_an_example_batch_has_one_step_and_the_initial_state():
    batch = OwnState(OBS, ACT).example_batch(2)
    assert batch[Columns.OBS].shape == (2, 1, 4)
    assert batch[Columns.ACTIONS].shape == (2, 1)
    state = batch[Columns.STATE_IN]
    assert state["sum"].numpy().tolist() == [[0.0] * 4] * 2
    assert state["inner"]["steps"].numpy().tolist() == [0, 0]


@pytest.mark.parametrize("explore", [True, False])
def test_own_modules_act_on_sequences_of_one_step(explore):
    actor = acting.make_actor(OwnState(OBS, ACT))
    batch = batch_of() | {
        Columns.STATE_IN: {
            "sum": np.ones((5, 4), np.float32),
            "inner": {"steps": np.arange(5, dtype=np.int32)},
        }
    }
    outputs = act(actor, batch, explore)
    assert_close(outputs["own"]["sums"], batch[Columns.OBS] + 1.0)
    assert_close(outputs[Columns.STATE_OUT]["sum"], batch[Columns.OBS] + 1.0)
    assert outputs[Columns.STATE_OUT]["inner"]["steps"].tolist() == [1, 2, 3, 4, 5]
    assert outputs[Columns.ACTION_DIST_INPUTS].shape == (5, 3)
    assert (Columns.ACTIONS in outputs) == explore
    assert not explore or outputs[Columns.ACTION_LOGP].shape == (5,)


@pytest.mark.parametrize("explore", [True, False])
def test_scripted_modules_act_on_sequences_of_one_step(explore):
    actor = acting.make_actor(ScriptedState(OBS, ACT))
    state = {"steps": np.arange(5, dtype=np.int32)}
    outputs = act(actor, batch_of() | {Columns.STATE_IN: state}, explore)
    assert outputs[Columns.ACTIONS].tolist() == [1, 2, 3, 4, 5]
    assert outputs[Columns.STATE_OUT]["steps"].tolist() == [1, 2, 3, 4, 5]


def test_one_trace_for_any_number_of_sequences():
    module = PPOTfRLModule(OBS, ACT, model_config=CONFIG | {"use_gru": True})
    values = inference.value_function_of(module)
    for num in (1, 2, 7):
        batch = {
            Columns.OBS: np.zeros((num, 5, 4), np.float32),
            Columns.STATE_IN: {"h": np.zeros((num, 256), np.float32)},
        }
        assert values(batch).shape == (num, 5)
    assert len(values._concrete) == 1
