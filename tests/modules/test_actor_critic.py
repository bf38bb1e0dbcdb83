"""Tests for `tflearner.modules.actor_critic`."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.errors import ConfigError, SpaceError
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.catalog import PPOCatalog
from tflearner.networks.encoders import ActorCriticEncoder
from tflearner.networks.layers import MLP
from tflearner.networks.observation_encoding import ObservationEncoding
from tflearner.testing import assert_close

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
MultiDiscrete = gym.spaces.MultiDiscrete
OBS, ACT = Box(-1, 1, (4,)), Discrete(2)
SMALL = {"fcnet_hiddens": (8, 8)}
FAR = {"fcnet_kernel_initializer": "ones", "fcnet_activation": "linear"}


def make(observation_space=OBS, action_space=ACT, **settings):
    config = SMALL | settings
    return PPOTfRLModule(observation_space, action_space, model_config=config, seed=0)


def observations(space, num=16):
    space.seed(0)
    return np.stack([space.sample() for _ in range(num)])


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
def test_forward_passes(shared):
    module = make(vf_share_layers=shared)
    batch = {Columns.OBS: observations(OBS)}
    train = module.forward_train(batch)
    assert set(train) == {Columns.ACTION_DIST_INPUTS, Columns.VF_PREDS}
    assert train[Columns.ACTION_DIST_INPUTS].shape == (16, 2)
    assert_close(module.compute_values(batch), train[Columns.VF_PREDS], rtol=1e-5)
    for forward in (module.forward_inference, module.forward_exploration):
        acting = forward(batch)
        assert set(acting) == {Columns.ACTION_DIST_INPUTS}
        want = train[Columns.ACTION_DIST_INPUTS]
        assert_close(acting[Columns.ACTION_DIST_INPUTS], want, rtol=1e-5)


def test_values_take_embeddings():
    module = make(vf_share_layers=False)
    batch = {Columns.OBS: observations(OBS)}
    embeddings = module.encoder.embed_for_critic(batch[Columns.OBS])
    assert_close(module.compute_values({}, embeddings), module.compute_values(batch))


def layers_with_gradients(module, output):
    """Whether each trainable variable gets a gradient other than zero."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(module.forward_train(module.example_batch(3))[output])
    gradients = tape.gradient(loss, [v.value for v in module.trainable_variables])
    return [g is not None and bool(tf.reduce_any(g != 0)) for g in gradients]


@pytest.mark.parametrize(
    ("shared", "own"), [(True, False), (False, False), (True, True), (False, True)]
)
def test_all_trainable_variables_receive_gradients(shared, own):
    def model():
        return keras.Sequential(
            [keras.layers.Dense(8, "tanh", bias_initializer="ones")]
        )

    module = make(
        Discrete(1),
        Box(-1, 1, (2,)),
        vf_share_layers=shared,
        model=model if own else None,
    )
    for variable in module.trainable_variables:
        variable.assign(variable + 0.1)
    by_policy = layers_with_gradients(module, Columns.ACTION_DIST_INPUTS)
    by_values = layers_with_gradients(module, Columns.VF_PREDS)
    assert all(a or b for a, b in zip(by_policy, by_values))
    both = sum(a and b for a, b in zip(by_policy, by_values))
    assert both == (0 if not shared else 2 if own else 4), "shared layers alone"


@pytest.mark.parametrize(
    "space",
    [gym.spaces.Dict({"a": gym.spaces.Text(3)}), gym.spaces.Text(3)],
    ids=["dict", "text"],
)
def test_unsupported_observation_space_is_named(space):
    with pytest.raises(
        SpaceError, match=r"observation space: got .*FlattenObservation"
    ):
        make(space)


def test_unsupported_action_space_is_named():
    space = gym.spaces.Tuple([Discrete(2), gym.spaces.Text(3)])
    match = r"action space, leaf '1': got Text.*want Discrete, Box, MultiDiscrete"
    with pytest.raises(SpaceError, match=match) as info:
        make(action_space=space)
    assert "FlattenObservation" not in str(info.value)


EMPTY = Box(0, 1, (0,))


@pytest.mark.parametrize(
    ("observations", "actions", "text"),
    [
        (
            EMPTY,
            Discrete(2),
            r"observation space: got Box.* of 0 numbers, want at least 1",
        ),
        (Box(0, 1, (3, 0, 2)), Discrete(2), "observation space: got"),
        (
            gym.spaces.Dict({"a": gym.spaces.Tuple([Discrete(2), EMPTY])}),
            Discrete(2),
            r"observation space\['a'\]\[1\]: got Box",
        ),
        (
            gym.spaces.Dict({}),
            Discrete(2),
            r"observation space: got Dict\(\) of 0 parts",
        ),
        (
            gym.spaces.Dict({"a": gym.spaces.Tuple([]), "b": Discrete(2)}),
            Discrete(2),
            r"observation space\['a'\]: got Tuple\(\)",
        ),
        (Discrete(2), EMPTY, "action space: got Box"),
        (Discrete(2), gym.spaces.Tuple([]), "action space: got Tuple"),
        (Discrete(2), gym.spaces.MultiDiscrete([]), "action space: got MultiDisc"),
        (
            Discrete(2),
            gym.spaces.Dict({"a": EMPTY}),
            r"action space\['a'\]: got Box",
        ),
    ],
)
def test_spaces_without_numbers_are_refused(observations, actions, text):
    with pytest.raises(SpaceError, match=text):
        make(observations, actions)


# The NumPy copy of the policy.

OBSERVATION_SPACES = [
    Box(-1, 1, (4,)),
    Box(-1, 1, (2, 3), np.float64),
    Box(0, 1, ()),
    Box(0, 255, (3, 2), np.uint8),
    Discrete(5, start=2),
    MultiDiscrete([[3, 2], [1, 4]], start=[[1, 0], [0, 2]]),
]
NESTED = gym.spaces.Tuple([Box(-1, 1, (2,)), MultiDiscrete([2, 3]), Box(-1, 1, ())])
ACTION_SPACES = [Discrete(3, start=1), Box(-1, 1, ()), Box(-1, 1, (2, 3))]


def assert_numpy_policy_equals_forward(module):
    batch = {Columns.OBS: observations(module.observation_space)}
    got = module.numpy_policy()(batch[Columns.OBS])
    want = module.forward_exploration(batch)[Columns.ACTION_DIST_INPUTS]
    assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert got.dtype == np.float32


@pytest.mark.parametrize("space", OBSERVATION_SPACES, ids=str)
def test_numpy_policy_takes_observations_of(space):
    assert_numpy_policy_equals_forward(make(space))


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_numpy_policy_gives_actions_of(space):
    assert_numpy_policy_equals_forward(make(action_space=space))


@pytest.mark.parametrize(
    "settings",
    [
        {"fcnet_activation": "relu", "head_fcnet_hiddens": (5,)},
        {"fcnet_hiddens": ()},
        {"vf_share_layers": False, "head_fcnet_activation": "silu"},
        {"log_std_clip_param": 0.5, **FAR},
        {"free_log_std": True, "log_std_clip_param": 0.5},
        {
            "fcnet_use_layernorm": True,
            "head_fcnet_use_layernorm": True,
            "head_fcnet_hiddens": (5,),
        },
    ],
    ids=str,
)
def test_numpy_policy_follows_the_settings(settings):
    module = make(action_space=Box(-1, 1, (2,)), **settings)
    assert_numpy_policy_equals_forward(module)


def test_log_std_is_bounded():
    module = make(action_space=Box(-1, 1, (1,)), log_std_clip_param=0.5, **FAR)
    outputs = module.forward_train({Columns.OBS: observations(OBS)})
    log_std = outputs[Columns.ACTION_DIST_INPUTS][:, 1].numpy()
    assert np.abs(log_std).max() == 0.5


def test_log_stds_of_parts_are_bounded():
    module = make(action_space=NESTED, log_std_clip_param=0.5, **FAR)
    batch = {Columns.OBS: observations(OBS)}
    inputs = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS].numpy()
    is_log_std = [False, False, True, True, *5 * [False], False, True]
    largest = np.abs(inputs).max(0)
    assert (largest[is_log_std] == 0.5).all()
    assert (largest[~np.array(is_log_std)] > 0.5).all()
    assert_close(module.numpy_policy()(batch[Columns.OBS]), inputs, rtol=1e-4)


def test_forbidden_numbers_pass_the_bound():
    bound = make(action_space=NESTED).log_std_bound
    inputs = np.full((1, 11), -np.inf, np.float32)
    for outputs in (bound(inputs).numpy(), bound.numpy_form()(inputs)):
        assert np.isneginf(outputs[0]).sum() == 8
        assert np.isfinite(outputs[0, [2, 3, 10]]).all()


def test_free_log_std_of_parts_is_refused():
    with pytest.raises(ConfigError, match="free_log_std.*Tuple.*a Box of actions"):
        make(action_space=NESTED, free_log_std=True)


def test_numpy_policy_keeps_the_weights_of_its_moment():
    module = make()
    x, policy = observations(OBS), module.numpy_policy()
    before = policy(x)
    for variable in module.trainable_variables:
        variable.assign_add(tf.ones(variable.shape))
    np.testing.assert_array_equal(policy(x), before)
    assert (module.numpy_policy()(x) != before).any()


class Louder(PPOTfRLModule):
    def _forward(self, batch, **kwargs):
        outputs = super()._forward(batch, **kwargs)
        return {name: 2.0 * value for name, value in outputs.items()}


class Logging(PPOTfRLModule):
    def forward_exploration(self, batch, **kwargs):
        return super().forward_exploration(batch, **kwargs)


class Scaled(ObservationEncoding):
    def call(self, observations):
        return super().call(observations) / 255.0


class Noisy(ActorCriticEncoder):
    def embed_for_actor(self, observations):
        return 2.0 * super().embed_for_actor(observations)


class Deeper(MLP):
    def call(self, x):
        return tf.tanh(super().call(x))


class OtherEncoding(PPOCatalog):
    def build_actor_critic_encoder(self, framework="tf2"):
        encoding = Scaled(self.observation_space)
        return ActorCriticEncoder(encoding, self.build_encoder((4,)))


class OtherEncoder(PPOCatalog):
    def build_actor_critic_encoder(self, framework="tf2"):
        encoding = ObservationEncoding(self.observation_space)
        return Noisy(encoding, self.build_encoder((4,)))


class OtherHead(PPOCatalog):
    def build_pi_head(self, framework="tf2"):
        return Deeper((), output_size=2, rng=self.rng)


@pytest.mark.parametrize("catalog_class", [OtherEncoding, OtherEncoder, OtherHead])
def test_other_networks_of_a_catalog_have_no_numpy_policy(catalog_class):
    module = PPOTfRLModule(OBS, ACT, model_config=SMALL, catalog_class=catalog_class)
    assert module.numpy_policy() is None


@pytest.mark.parametrize("cls", [Louder, Logging])
def test_other_forward_passes_have_no_numpy_policy(cls):
    assert cls(OBS, ACT, model_config=SMALL).numpy_policy() is None


@pytest.mark.parametrize(
    "settings",
    [
        {"fcnet_activation": "gelu"},
        {"fcnet_activation": tf.sin},
    ],
)
def test_settings_without_numpy_twins_have_no_numpy_policy(settings):
    assert make(**settings).numpy_policy() is None


class OwnSetup(PPOTfRLModule):
    """Keeps no layer of the default module."""

    def setup(self):
        self.policy = keras.layers.Dense(int(self.action_space.n))

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS])}

    def _forward_train(self, batch, **kwargs):
        return self._forward(batch)

    def compute_values(self, batch, embeddings=None):
        return tf.zeros(len(batch[Columns.OBS]))


def test_a_subclass_without_default_layers_has_no_numpy_policy():
    assert OwnSetup(OBS, ACT).numpy_policy() is None
