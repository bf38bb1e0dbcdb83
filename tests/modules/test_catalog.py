"""Tests for `tflearner.modules.catalog`."""

import gymnasium as gym
import keras
import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.errors import ModuleError
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.catalog import PPOCatalog, checked_model
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.networks.distributions import Categorical, DiagGaussian
from tflearner.networks.layers import MLP

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS, ACT = Box(-1, 1, (4,)), Discrete(2)


def functional(shape=(4,)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten()(inputs)))


def images():
    inputs = keras.Input((None, None, 1))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(5, "relu")

    def call(self, x):
        return self.dense(x)


def make(observation_space=OBS, action_space=ACT, **settings):
    model_config = DefaultModelConfig(**settings)
    return PPOCatalog(observation_space, action_space, model_config, seed=0)


def test_encoder_has_the_layers_of_the_config():
    encoder = make(fcnet_hiddens=(8, 3), fcnet_activation="relu").build_encoder((4,))
    assert isinstance(encoder, MLP)
    assert [layer.units for layer in encoder.dense] == [8, 3]
    assert {layer.activation for layer in encoder.dense} == {keras.activations.relu}


def test_heads_have_the_layers_of_the_config():
    catalog = make(head_fcnet_hiddens=(7,), head_fcnet_activation="elu")
    for head, size in ((catalog.build_pi_head(), 2), (catalog.build_vf_head(), 1)):
        assert [layer.units for layer in head.dense] == [7, size]
        assert head.dense[0].activation is keras.activations.elu


def test_initializers_of_encoder_and_policy_head():
    catalog = make(
        fcnet_hiddens=(8,),
        fcnet_kernel_initializer="ones",
        head_fcnet_kernel_initializer=keras.initializers.Constant(0.01),
    )
    networks = [catalog.build_encoder((4,)), catalog.build_pi_head()]
    for network, want in zip(networks, (1.0, 0.01)):
        network(np.zeros((1, 4)))
        np.testing.assert_allclose(network.weights[0].numpy(), want, rtol=1e-6)
    vf = catalog.build_vf_head()
    vf(np.zeros((1, 4)))
    assert np.unique(vf.weights[0].numpy()).size > 1


@pytest.mark.parametrize(
    ("space", "dist_class", "size", "bounded"),
    [
        (Discrete(3), Categorical, 3, False),
        (Box(-1, 1, (2, 3)), DiagGaussian, 12, True),
        (Box(-1, 1, ()), DiagGaussian, 2, True),
    ],
)
def test_policy_head_fits_the_action_space(space, dist_class, size, bounded):
    catalog = make(action_space=space, log_std_clip_param=3)
    assert catalog.action_dist_class is dist_class
    assert catalog.build_pi_head().dense[-1].units == size
    bound = catalog.build_log_std_bound()
    assert (bound is not None) == bounded
    assert bound is None or bound.high == 3.0


@pytest.mark.parametrize(
    ("shared", "num_encoders"), [(True, 1), (False, 2)], ids=["shared", "separate"]
)
def test_encoders_are_shared_or_separate(shared, num_encoders):
    encoder = make(vf_share_layers=shared, fcnet_hiddens=(8,))
    encoder = encoder.build_actor_critic_encoder()
    observations = OBS.sample()[None]
    for_actor, for_critic = encoder(observations)
    assert len(encoder.weights) == 2 * num_encoders
    assert (for_actor is for_critic) == shared
    np.testing.assert_array_equal(encoder.embed_for_actor(observations), for_actor)
    np.testing.assert_array_equal(encoder.embed_for_critic(observations), for_critic)


class OwnHeads(PPOCatalog):
    def build_vf_head(self, framework="tf2"):
        return keras.layers.Dense(1, kernel_initializer="zeros")


def test_a_subclass_replaces_one_network():
    module = PPOTfRLModule(OBS, ACT, catalog_class=OwnHeads)
    assert module.compute_values(module.example_batch(3)).numpy().tolist() == [0, 0, 0]


# Own Keras models.


@pytest.mark.parametrize("make_model", [functional, Subclassed])
@pytest.mark.parametrize("as_function", [True, False], ids=["function", "model"])
def test_own_model_is_the_encoder(make_model, as_function):
    model = make_model if as_function else make_model()
    module = PPOTfRLModule(OBS, ACT, model_config={"model": model})
    outputs = module.forward_train(module.example_batch(3))
    assert outputs[Columns.ACTION_DIST_INPUTS].shape == (3, 2)
    assert outputs[Columns.VF_PREDS].shape == (3,)
    assert len(module.trainable_variables) == 6
    assert as_function or module.encoder.actor is model


def test_function_is_called_once_per_encoder():
    model_config = {"model": functional, "vf_share_layers": False}
    module = PPOTfRLModule(OBS, ACT, model_config=model_config)
    assert module.encoder.actor is not module.encoder.critic
    assert len(module.trainable_variables) == 8


@pytest.mark.parametrize("as_function", [True, False], ids=["function", "model"])
def test_one_model_cannot_be_two_encoders(as_function):
    model = functional()
    own = (lambda: model) if as_function else model
    model_config = {"model": own, "vf_share_layers": False}
    with pytest.raises(ModuleError, match=r"two encoders \(vf_share_layers=False\)"):
        PPOTfRLModule(OBS, ACT, model_config=model_config)


def test_own_model_gets_discrete_observations_as_one_hot():
    model = functional((6,))
    module = PPOTfRLModule(Discrete(6), ACT, model_config={"model": model})
    module.encoder.actor.layers[-1].set_weights([np.eye(6, 5), np.zeros(5)])
    embedding = module.encoder.embed_for_actor(np.array([3]))
    assert embedding.numpy().tolist() == [[0, 0, 0, 1, 0]]


def test_sizes_that_a_model_leaves_open_fit():
    model = images()
    assert checked_model(model, (8, 8, 1)) is model


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (3, "got <class 'int'>, want a Keras model or a function returning one"),
        (lambda: "model", "got a function returning <class 'str'>"),
        (
            lambda: functional((5,)),
            r"input is \(None, 5\), want .*shape \(4,\).*Input\(\(4,\)",
        ),
        (lambda: functional((4, 1)), r"input is \(None, 4, 1\), want .*\(4,\)"),
        (images, r"input is \(None, None, None, 1\), want .*\(4,\)"),
        (
            lambda: keras.layers.Reshape((2, 2)),
            r"output of shape \(2, 2, 2\).*\(2, d\)",
        ),
        (lambda: keras.layers.Lambda(lambda x: x[0]), r"output of shape \(4,\)"),
        (lambda: keras.layers.Lambda(lambda x: x[:1]), r"output of shape \(1, 4\)"),
        (lambda: keras.layers.Lambda(lambda x: (x, x)), "output of .* <class 'tuple'>"),
    ],
)
def test_what_is_wrong_with_a_model_is_named(model, match):
    with pytest.raises(ModuleError, match=f"model: got .*{match}|model: {match}"):
        checked_model(model, (4,))


def test_error_of_a_model_is_shown():
    model = Subclassed()
    model(np.zeros((1, 5)))
    with pytest.raises(ModuleError, match=r"ValueError.*shape \(4,\)") as info:
        checked_model(model, (4,))
    assert "expected axis -1" in str(info.value.__cause__)
