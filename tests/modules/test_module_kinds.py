"""One table of default modules, and the promises that hold for each of them."""

import functools

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOConfig
from tflearner.columns import Columns
from tflearner.errors import BatchError, ConfigError, ModuleError
from tflearner.modules import acting, inference
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import assert_close

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS, IMAGE = Box(-1, 1, (4,)), Box(0, 255, (12, 13, 2), np.uint8)
ACT, CONTINUOUS = Discrete(3), Box(-1, 1, (2,))
LSTM = {"use_lstm": True, "lstm_cell_size": 6}
GRU = {"use_gru": True, "lstm_cell_size": 6}
SEPARATE = {"vf_share_layers": False}
NORM = {"fcnet_use_layernorm": True}
FREE = {"free_log_std": True}
SMALL_CNN = {"conv_filters": [(3, 4, 2), (4, 2, 1)]}


def own_model():
    layers = keras.layers
    kernel_initializer = keras.initializers.GlorotUniform(seed=0)
    dense = layers.Dense(5, "tanh", kernel_initializer=kernel_initializer)
    return keras.Sequential([layers.Rescaling(1 / 255), layers.Flatten(), dense])


KINDS = {
    "dense": (OBS, ACT, {}),
    "layer norm": (OBS, ACT, NORM),
    "free log std": (OBS, CONTINUOUS, FREE),
    "cnn": (IMAGE, ACT, SMALL_CNN),
    "cnn, default filters": (IMAGE, ACT, SEPARATE),
    "no convolution": (IMAGE, ACT, {"conv_filters": []}),
    "lstm": (OBS, ACT, LSTM),
    "gru": (OBS, CONTINUOUS, GRU),
    "lstm, separate": (OBS, CONTINUOUS, LSTM | SEPARATE | NORM | FREE),
    "gru, separate": (Discrete(4), ACT, GRU | SEPARATE),
    "lstm, multi-discrete": (gym.spaces.MultiDiscrete([2, 3]), ACT, LSTM),
    "lstm behind a cnn": (IMAGE, ACT, LSTM | SMALL_CNN),
    "gru behind own model": (IMAGE, ACT, GRU | SEPARATE | {"model": own_model}),
}
STATEFUL = [name for name, (*_, config) in KINDS.items() if {*LSTM, *GRU} & {*config}]
# Those whose layers all have a NumPy form: convolutions do not.
WITH_NUMPY_POLICY = [name for name in KINDS if "cnn" not in name]

# One of each layer that the others are put together from.
PLAIN = ("dense", "free log std", "cnn", "lstm", "gru behind own model")


def params(names):
    return [
        pytest.param(name, marks=() if name in PLAIN else pytest.mark.deep)
        for name in names
    ]


every_kind = pytest.mark.parametrize("kind", params(KINDS))
every_stateful_kind = pytest.mark.parametrize("kind", params(STATEFUL))


def make(kind, seed=0, **settings):
    observation_space, action_space, config = KINDS[kind]
    config = {"fcnet_hiddens": (8,), "fcnet_activation": "tanh"} | config | settings
    return PPOTfRLModule(
        observation_space, action_space, model_config=config, seed=seed
    )


@functools.cache
def built(kind):
    """One module for all tests that leave it as it is: building takes longest."""
    return make(kind)


def batch_of(module, num=3, steps=4, seed=0):
    """Random observations [num, ...], or [num, steps, ...] and states."""
    space, shape = module.observation_space, (num,)
    space.seed(seed)
    if module.is_stateful():
        shape = (num, steps)
    rows = [space.sample() for _ in range(np.prod(shape))]
    batch = {Columns.OBS: np.reshape(rows, (*shape, *space.shape))}
    if module.is_stateful():
        rng = np.random.default_rng(seed)
        batch[Columns.STATE_IN] = tf.nest.map_structure(
            lambda x: rng.normal(size=(num, *x.shape)).astype(np.float32),
            module.get_initial_state(),
        )
    return batch


def assert_states_close(got, want):
    tf.nest.assert_same_structure(got, want)
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(want)):
        assert_close(a, b, rtol=1e-5, atol=1e-5)


@every_kind
def test_columns_and_shapes(kind):
    module = built(kind)
    batch = batch_of(module)
    leading = (3, 4) if kind in STATEFUL else (3,)
    size = 3 if module.action_space is ACT else 4
    outputs = module.forward_train(batch)
    assert outputs[Columns.ACTION_DIST_INPUTS].shape == (*leading, size)
    assert outputs[Columns.VF_PREDS].shape == leading
    assert module.is_stateful() == (kind in STATEFUL) == (Columns.STATE_OUT in outputs)
    if kind in STATEFUL:
        tf.nest.assert_same_structure(
            outputs[Columns.STATE_OUT], module.get_initial_state()
        )
    acting = module.forward_exploration(batch)
    assert acting.keys() == outputs.keys() - {Columns.VF_PREDS}


@every_kind
def test_values_are_those_of_the_train_pass(kind):
    module = built(kind)
    batch = batch_of(module)
    want = module.forward_train(batch)[Columns.VF_PREDS]
    assert_close(module.compute_values(batch), want, rtol=1e-5, atol=1e-6)
    got = inference.value_function_of(module)(batch)
    assert_close(got, want, rtol=1e-5, atol=1e-6)


@every_kind
def test_every_trainable_variable_gets_a_gradient(kind):
    # Steps enough for gradients through the state; spread, so that no ReLU is dead.
    module = make(kind, conv_activation="tanh")
    with tf.GradientTape() as tape:
        outputs = module.forward_train(batch_of(module))
        loss = sum(
            tf.reduce_sum(outputs[column] ** 2)
            for column in (Columns.ACTION_DIST_INPUTS, Columns.VF_PREDS)
        )
        loss += tf.reduce_sum(outputs[Columns.ACTION_DIST_INPUTS])
    variables = module.trainable_variables
    gradients = tape.gradient(loss, [v.value for v in variables])
    dead = [
        v.path
        for v, g in zip(variables, gradients)
        if g is None or not tf.reduce_any(g != 0)
    ]
    assert not dead


@every_kind
def test_builds_repeat_by_seed(kind):
    first, again, other = (
        m.get_state() for m in (built(kind), make(kind), make(kind, 1))
    )
    assert first.keys() == again.keys()
    for key, weight in first.items():
        np.testing.assert_array_equal(weight, again[key])
    assert any((first[key] != other[key]).any() for key in first)


@every_kind
def test_weights_make_the_module(kind):
    module, other = built(kind), make(kind, seed=1)
    other.set_state(module.get_state())
    batch = batch_of(module)
    want, got = module.forward_train(batch), other.forward_train(batch)
    assert_states_close(got, want)


def act(actor, batch, explore=True):
    return actor(batch, explore=explore, rng=np.random.default_rng(0))


@every_kind
@pytest.mark.parametrize("explore", [True, False])
def test_acting_step_by_step_equals_the_whole_sequence(kind, explore):
    module = built(kind)
    actor = acting.make_actor(module)
    is_numpy = isinstance(actor, acting.NumpyActor)
    assert is_numpy == (kind in WITH_NUMPY_POLICY)
    batch = batch_of(module)
    want = module.forward_train(batch)
    if kind not in STATEFUL:
        got = act(actor, batch, explore)
        got, want = got["action_dist_inputs"], want["action_dist_inputs"]
        assert_close(got, want, rtol=1e-5, atol=1e-5)
        return
    state = batch[Columns.STATE_IN]
    for t in range(4):
        columns = {Columns.OBS: batch[Columns.OBS][:, t], Columns.STATE_IN: state}
        outputs = act(actor, columns, explore)
        inputs = outputs[Columns.ACTION_DIST_INPUTS]
        wanted = want[Columns.ACTION_DIST_INPUTS][:, t]
        assert_close(inputs, wanted, rtol=1e-5, atol=1e-5)
        state = outputs[Columns.STATE_OUT]
    assert_states_close(state, want[Columns.STATE_OUT])


@every_stateful_kind
def test_traced_acting_has_no_time_axis_in_sight(kind):
    module = built(kind)
    batch = batch_of(module)
    columns = batch | {Columns.OBS: batch[Columns.OBS][:, 0]}
    outputs = act(inference.TracedActor(module), columns)
    assert outputs[Columns.ACTION_DIST_INPUTS].ndim == 2
    assert outputs[Columns.ACTION_LOGP].shape == (3,)
    assert outputs[Columns.ACTIONS].shape == (3, *module.action_space.shape)
    one_step = batch | {Columns.OBS: batch[Columns.OBS][:, :1]}
    want = module.forward_exploration(one_step)
    assert_states_close(outputs[Columns.STATE_OUT], want[Columns.STATE_OUT])


@every_stateful_kind
def test_what_follows_does_not_change_what_was(kind):
    """Padding at the end of a sequence is harmless."""
    module = built(kind)
    batch = batch_of(module)
    padded = np.array(batch[Columns.OBS])
    padded[:, 2:] = 0
    got = module.forward_train(batch | {Columns.OBS: padded})
    want = module.forward_train(batch)
    for column in (Columns.ACTION_DIST_INPUTS, Columns.VF_PREDS):
        assert_close(got[column][:, :2], want[column][:, :2])
        assert (got[column][:, 2:].numpy() != want[column][:, 2:].numpy()).any()


@every_stateful_kind
def test_the_state_matters(kind):
    module = built(kind)
    batch = batch_of(module)
    other = batch_of(module, seed=1)[Columns.STATE_IN]
    want = module.forward_train(batch)
    got = module.forward_train(batch | {Columns.STATE_IN: other})
    inputs, values = Columns.ACTION_DIST_INPUTS, Columns.VF_PREDS
    assert (got[inputs].numpy() != want[inputs].numpy())[..., 0].all()
    assert (got[values].numpy() != want[values].numpy()).all()


@pytest.mark.deep_but_first
@pytest.mark.parametrize("kind", ["gru, separate", "lstm, separate"])
def test_separate_encoders_have_separate_states(kind):
    module = built(kind)
    assert module.get_initial_state().keys() == {"actor", "critic"}
    batch = batch_of(module)
    other = batch_of(module, seed=1)[Columns.STATE_IN]
    mixed = batch[Columns.STATE_IN] | {"critic": other["critic"]}
    want = module.forward_train(batch)
    got = module.forward_train(batch | {Columns.STATE_IN: mixed})
    inputs = Columns.ACTION_DIST_INPUTS
    np.testing.assert_array_equal(got[inputs], want[inputs])
    changed = got[Columns.VF_PREDS].numpy() != want[Columns.VF_PREDS].numpy()
    assert changed[:, 0].all()


def test_a_missing_state_is_named():
    module = built("lstm")
    batch = {Columns.OBS: batch_of(module)[Columns.OBS]}
    for function in (module.forward_train, module.compute_values, module._forward):
        with pytest.raises(BatchError, match=r"\['obs'\], want 'state_in' among them"):
            function(batch)


def test_one_model_cannot_be_two_tokenizers():
    with pytest.raises(ModuleError, match="one Keras model for two encoders"):
        make("gru behind own model", model=own_model())


# Images.


def test_uint8_images_equal_scaled_ones():
    space = Box(0, 1, IMAGE.shape, np.float32)
    module = make("cnn")
    config = module.model_config
    floats = PPOTfRLModule(space, ACT, model_config=config, seed=0)
    batch = batch_of(module)
    scaled = {Columns.OBS: batch[Columns.OBS].astype(np.float32) / 255.0}
    assert batch[Columns.OBS].dtype == np.uint8
    got = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    want = floats.forward_train(scaled)[Columns.ACTION_DIST_INPUTS]
    assert_close(got, want, rtol=1e-6, atol=1e-6)
    unscaled = {Columns.OBS: batch[Columns.OBS].astype(np.float32)}
    other = floats.forward_train(unscaled)[Columns.ACTION_DIST_INPUTS]
    assert np.abs(other - want).max() > 0.01


def test_an_own_model_gets_images_as_they_are():
    seen = []

    class Spy(keras.layers.Layer):
        def call(self, x):
            seen.append(float(tf.reduce_max(x)))
            return tf.reshape(x, [tf.shape(x)[0], int(np.prod(x.shape[1:]))])

    module = PPOTfRLModule(IMAGE, ACT, model_config={"model": Spy})
    module.forward_train({Columns.OBS: np.full((1, *IMAGE.shape), 200, np.uint8)})
    assert seen[-1] == 200.0


@pytest.mark.parametrize("filters", [None, SMALL_CNN["conv_filters"]])
def test_matrices_are_images_if_filters_are_given(filters):
    space = Box(0, 255, (12, 13), np.uint8)
    module = PPOTfRLModule(space, ACT, model_config={"conv_filters": filters})
    shape = module.trainable_variables[0].shape
    assert shape == ((12 * 13, 256) if filters is None else (4, 4, 1, 3))


@pytest.mark.parametrize("space", [OBS, Discrete(3)], ids=str)
def test_filters_without_images_are_an_error(space):
    with pytest.raises(
        ConfigError, match="conv_filters: got filters for .*want images"
    ):
        PPOTfRLModule(space, ACT, model_config=SMALL_CNN)


# Layer norm and log standard deviations.


@pytest.mark.parametrize(
    ("encoder", "heads", "shared", "want"),
    [
        (True, False, True, 2),
        (True, False, False, 4),
        (False, True, True, 2),
        (False, True, False, 2),
        (True, True, True, 4),
        (True, True, False, 6),
        (False, False, True, 0),
        (False, False, False, 0),
    ],
)
def test_number_of_normalised_layers(encoder, heads, shared, want):
    module = make(
        "dense",
        fcnet_hiddens=(8, 7),
        head_fcnet_hiddens=(5,),
        fcnet_use_layernorm=encoder,
        head_fcnet_use_layernorm=heads,
        vf_share_layers=shared,
    )
    gammas = [v for v in module.trainable_variables if v.name == "gamma"]
    assert len(gammas) == want
    sizes = [8, 7] * encoder * (1 if shared else 2) + [5, 5] * heads
    assert sorted(v.shape[0] for v in gammas) == sorted(sizes)


def test_free_log_std_ignores_observations_and_is_bounded():
    module = make("free log std", log_std_clip_param=2.0)
    inputs = module.forward_train(batch_of(module))[Columns.ACTION_DIST_INPUTS].numpy()
    assert not inputs[:, 2:].any() and np.ptp(inputs[:, :2], axis=0).all()
    module.log_std_bound.log_std.assign([0.5, -7.0])
    inputs = module.forward_train(batch_of(module))[Columns.ACTION_DIST_INPUTS].numpy()
    assert (inputs[:, 2:] == [0.5, -2.0]).all()
    assert module.pi.dense[-1].units == 2


def test_free_log_std_of_discrete_actions_is_an_error():
    with pytest.raises(ConfigError, match="free_log_std: got True for .*want a Box"):
        make("dense", free_log_std=True)


# In an algorithm.


class Glimpses(gym.Env):
    """Shows random observations; episodes are longer than one sequence and a half."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        self.observation_space.seed(seed)
        self.num_steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.num_steps += 1
        reward = float(np.sum(action))
        return self.observation_space.sample(), reward, self.num_steps == 7, False, {}


@pytest.mark.deep_but_first
@pytest.mark.parametrize(
    ("kind", "loop"),
    [
        ("lstm", "plain loop"),
        ("layer norm", "XLA around the loop"),
        ("cnn", "XLA per step, plain loop"),
        ("gru, separate", "plain loop"),
    ],
)
def test_an_update_changes_every_weight(kind, loop):
    observation_space, action_space, model_config = KINDS[kind]
    settings = {"fcnet_hiddens": (8,), "max_seq_len": 4}
    config = PPOConfig().environment(lambda: Glimpses(observation_space, action_space))
    config.env_runners(num_envs_per_env_runner=2).debugging(seed=0)
    config.rl_module(model_config=DefaultModelConfig(**settings | model_config))
    config.training(train_batch_size_per_learner=40, minibatch_size=16, num_epochs=2)
    algorithm = config.build_algo()
    module = algorithm.learner.module["default_policy"]
    before = module.get_state()
    results = algorithm.train()["learners"]["default_policy"]
    (program,) = algorithm.learner._compiled.describe()
    assert program.startswith(f"default_policy: {loop}")
    assert np.isfinite(results["total_loss"])
    assert results["num_module_steps_trained"] == 40
    for key, weight in module.get_state().items():
        assert (weight != before[key]).any(), key
    algorithm.stop()
