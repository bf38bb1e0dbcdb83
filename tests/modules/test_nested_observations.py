"""What default modules do with masks of actions, images and models of the user's."""

import gymnasium as gym
import keras
import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.errors import ConfigError, ModuleError, SpaceError
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.networks.layers import MLP
from tflearner.networks.mixed_encoder import MixedEncoder
from tflearner.spaces.mask_spaces import ACTION_MASK
from tflearner.testing import assert_close, random_batch

LSTM = {"use_lstm": True, "lstm_cell_size": 4, "max_seq_len": 3}
FILTERS = {"conv_filters": [(4, 3, 1)]}
Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
Dict, Tuple = gym.spaces.Dict, gym.spaces.Tuple


@pytest.fixture
def masked(observation_spaces):
    """A vector with a mask."""
    return observation_spaces["masked"]


@pytest.fixture
def with_image(observation_spaces):
    """A goal and an image with a mask."""
    return observation_spaces["masked-image"]


def make(space, **settings):
    config = DefaultModelConfig(**{"fcnet_hiddens": (8,), **settings})
    module = PPOTfRLModule(space, Discrete(4), model_config=config, seed=0)
    rng = np.random.default_rng(1)
    for weight in module.weights:  # Biases, too, are something.
        weight.assign_add(rng.uniform(-0.5, 0.5, weight.shape))
    return module


@pytest.mark.parametrize("settings", [{}, LSTM])
def test_values_and_embeddings_do_not_depend_on_masks(settings, masked):
    module = make(masked, **settings)
    batch = random_batch(module, 12)
    before = module.compute_values(batch)
    batch[Columns.OBS] = batch[Columns.OBS] | {
        ACTION_MASK: 1 - batch[Columns.OBS][ACTION_MASK]
    }
    np.testing.assert_array_equal(module.compute_values(batch), before)
    outputs = module.forward_train(batch)
    np.testing.assert_array_equal(outputs[Columns.VF_PREDS], before)


@pytest.mark.parametrize("settings", [{}, LSTM])
def test_rows_that_forbid_everything_stay_as_they_are(settings, masked):
    module = make(masked, **settings)
    batch = random_batch(module, 6)
    masks = batch[Columns.OBS][ACTION_MASK]
    outputs = []
    for value in (0, 1):
        batch[Columns.OBS] = batch[Columns.OBS] | {
            ACTION_MASK: np.full_like(masks, value)
        }
        outputs.append(module.forward_train(batch)[Columns.ACTION_DIST_INPUTS])
    np.testing.assert_array_equal(*outputs)


def test_mask_that_does_not_fit_is_refused():
    space = Dict({"o": Discrete(2), ACTION_MASK: gym.spaces.MultiBinary(3)})
    with pytest.raises(SpaceError, match=r"want .* shape \(4,\)"):
        make(space)


# Images among other things.


def test_each_image_goes_through_its_own_convolutions():
    image = Box(0, 255, (6, 5, 2), np.uint8)
    space = Tuple([image, Discrete(3), image])
    module = make(space, fcnet_activation="linear", **FILTERS)
    actor = module.encoder.actor
    assert type(actor) is MixedEncoder and list(actor.convolutions) == ["0", "2"]
    obs = random_batch(module, 5)[Columns.OBS]
    parts = []
    for image, part in ((obs[0], "0"), (obs[2], "2")):
        convolution = actor.convolutions[part].convolutions[0]
        kernel, bias = convolution.kernel.numpy(), convolution.bias.numpy()
        windows = np.lib.stride_tricks.sliding_window_view(
            image / np.float32(255.0), (3, 3), (1, 2)
        )  # [B, 4, 3, C, 3, 3].
        features = np.einsum("bxycij,ijcf->bxyf", windows, kernel) + bias
        parts.append(np.maximum(features, 0.0).reshape(5, -1))
    parts.insert(1, np.eye(3, dtype=np.float32)[obs[1]])
    dense = actor.dense.dense[0]
    want = np.concatenate(parts, 1) @ dense.kernel.numpy() + dense.bias.numpy()
    assert_close(module.encoder.embed_for_actor(obs), want, rtol=1e-3, atol=1e-4)


def test_default_filters_follow_each_image():
    small, large = Box(0, 255, (8, 8, 1), np.uint8), Box(0, 1, (40, 40, 1))
    module = make(Dict({"a": small, "b": large}))
    sizes = [len(c.convolutions) for c in module.encoder.actor.convolutions.values()]
    assert sizes == [1, 3]


def test_no_filters_leave_the_pixels_to_the_dense_layers(with_image):
    module = make(with_image, conv_filters=[])
    assert type(module.encoder.actor) is MLP and module.numpy_policy() is not None
    obs = random_batch(module, 4)[Columns.OBS]
    want = np.concatenate(
        [obs["camera"].reshape(4, -1) / np.float32(255), np.eye(3)[obs["goal"]]], 1
    )
    assert_close(module.encoder.encoding(obs), want, rtol=1e-6)


def test_filters_without_an_image_are_refused(observation_spaces):
    with pytest.raises(ConfigError, match=r"conv_filters.*\(H, W, C\) among them"):
        make(observation_spaces["dict"], **FILTERS)


# A model of the user's.


def test_own_model_reads_one_vector(observation_spaces):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)])
    module = make(observation_spaces["dict"], model=model)
    assert module.encoder.actor is model
    with pytest.raises(ModuleError, match=r"shape \(6,\), float32"):
        make(observation_spaces["dict"], model=keras.Sequential([keras.Input((7,))]))


def own_model(names=("camera", "goal")):
    camera = keras.Input((6, 5, 2), name=names[0])
    goal = keras.Input((3,), name=names[1])
    features = keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(camera / 255.0))
    both = keras.layers.Concatenate()([features, goal])
    inputs = dict(zip(names, (camera, goal)))
    return keras.Model(inputs, keras.layers.Dense(5)(both))


def test_own_model_reads_images_and_all_else_by_name(with_image):
    module = make(with_image, model=own_model)
    batch = random_batch(module, 4)
    obs = batch[Columns.OBS]
    want = module.encoder.actor(
        {
            "camera": obs["camera"].astype(np.float32),
            "goal": np.eye(3, dtype=np.float32)[obs["goal"]],
        }
    )
    assert_close(module.encoder.embed_for_actor(obs), want, rtol=1e-5, atol=1e-4)


def test_own_model_of_other_inputs_is_refused_with_the_shapes_wanted(with_image):
    match = r"a dict of observations, float32, of shapes {'camera': \(6, 5, 2\), 'goal'"
    with pytest.raises(ModuleError, match=match):
        make(with_image, model=lambda: keras.Sequential([keras.layers.Dense(3)]))
    with pytest.raises(ModuleError, match=match):
        make(with_image, model=lambda: own_model(("camera", "aim")))
