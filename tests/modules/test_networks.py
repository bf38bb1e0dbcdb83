"""Tests for `tflearner.modules.networks`."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.errors import SpaceError
from tflearner.modules import networks
from tflearner.modules.networks import MLP, BoundedLogStd, ObservationEncoding
from tflearner.testing import assert_close

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
MultiDiscrete = gym.spaces.MultiDiscrete


@pytest.mark.parametrize(
    ("space", "observations", "want"),
    [
        (Box(-1, 1, (2,), np.float64), [[0.5, 1.0]], [[0.5, 1.0]]),
        (Box(0, 255, (1, 2), np.uint8), [[[0, 255]]], [[[0.0, 255.0]]]),
        (Box(-1, 1, ()), [0.5, -0.5], [0.5, -0.5]),
        (Discrete(3), [0, 2], [[1, 0, 0], [0, 0, 1]]),
        (Discrete(3, start=-1), [-1, 1], [[1, 0, 0], [0, 0, 1]]),
        (MultiDiscrete([2, 3]), [[1, 0], [0, 2]], [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]),
        (MultiDiscrete([2, 3], start=[5, -1]), [[6, -1]], [[0, 1, 1, 0, 0]]),
        (
            MultiDiscrete([[2, 3], [1, 2]]),
            [[[1, 2], [0, 1]]],
            [[0, 1, 0, 0, 1, 1, 0, 1]],
        ),
        (
            MultiDiscrete([[2, 3], [1, 2]], start=[[1, 0], [7, 1]]),
            [[[2, 0], [7, 1]]],
            [[0, 1, 1, 0, 0, 1, 1, 0]],
        ),
    ],
)
def test_encoding_and_its_numpy_twin(compiled, space, observations, want):
    encoding = ObservationEncoding(space)
    observations = np.array(observations, space.dtype)
    for index in range(len(observations)):
        assert space.contains(observations[index, ...])
    got = compiled(lambda x: encoding(x))(x=observations)
    for encoded in (got, encoding.numpy_forward(observations)):
        np.testing.assert_array_equal(encoded, want)
        assert encoded.dtype == np.float32 and encoded.shape == np.shape(want)
    assert encoding.encoded_shape == np.shape(want)[1:]


@pytest.mark.parametrize(
    ("space", "leaf"),
    [
        (gym.spaces.Dict({"cam": Box(0, 1, (2,))}), "leaf 'cam': Box"),
        (gym.spaces.Tuple([Discrete(2)]), r"leaf '0': Discrete\(2\)"),
        (gym.spaces.Dict(), "Dict"),
        (gym.spaces.Text(3), "Text"),
        (None, "None"),
    ],
)
def test_unsupported_spaces_are_named(space, leaf):
    match = f"camera.*{leaf}.*want Box, Discrete or MultiDiscrete.*FlattenObservation"
    with pytest.raises(SpaceError, match=match):
        ObservationEncoding(space, where="camera")


@pytest.mark.parametrize(
    "activation", networks.NUMPY_ACTIVATIONS, ids=lambda f: f.__name__
)
def test_numpy_activations_equal_keras(activation):
    """Warnings are errors: large numbers must not overflow."""
    x = np.concatenate([np.linspace(-20, 20, 401), [-1e30, -1e4, -90, 90, 1e4, 1e30]])
    x = x.astype(np.float32)
    got = networks.NUMPY_ACTIVATIONS[activation](x)
    assert_close(got, activation(x), rtol=1e-6, atol=1e-6)
    assert got.dtype == np.float32


def numpy_forward(layers, x):
    x = x.reshape(len(x), -1)
    for kernel, bias, activation in layers:
        x = activation(x @ kernel + bias)
    return x


@pytest.mark.parametrize("sizes", [(), (8,), (8, 4)])
@pytest.mark.parametrize("output_size", [None, 3])
def test_mlp_and_its_numpy_layers(sizes, output_size):
    mlp = MLP(sizes, "tanh", output_size=output_size, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(5, 2, 3)).astype(np.float32)
    want = mlp(x)
    got = numpy_forward(mlp.numpy_layers(), x)
    assert_close(got, want, rtol=1e-5, atol=1e-6)
    assert got.shape == (5, output_size or (*sizes, 6)[len(sizes) - 1])


def test_output_layer_is_linear():
    mlp = MLP((4,), "relu", output_size=2, rng=np.random.default_rng(0))
    assert (mlp(np.ones((64, 3)) * np.linspace(-1, 1, 64)[:, None]).numpy() < 0).any()


def test_one_unit_per_size_not_counting_nothing():
    mlp = MLP((8, 4), rng=np.random.default_rng(0))
    mlp(np.zeros((1, 3)))
    assert [tuple(w.shape) for w in mlp.weights] == [(3, 8), (8,), (8, 4), (4,)]


def relu(x):
    """Has the name of one of Keras' activations, and does something else."""
    return -tf.nn.relu(x)


@pytest.mark.parametrize(
    "activation", ["gelu", relu, lambda x: x, keras.layers.LeakyReLU]
)
def test_other_activations_have_no_numpy_layers(activation):
    if isinstance(activation, type):
        activation = activation()
    mlp = MLP((4,), activation, rng=np.random.default_rng(0))
    mlp(np.zeros((1, 3)))
    assert mlp.numpy_layers() is None


def test_bounded_log_std_and_its_numpy_twin(compiled):
    layer = BoundedLogStd(2)
    inputs = np.float32([[-9.0, 9.0, -9.0, 9.0], [1.0, -1.0, 1.0, -1.0]])
    want = [[-9.0, 9.0, -2.0, 2.0], [1.0, -1.0, 1.0, -1.0]]
    assert_close(compiled(lambda x: layer(x))(x=inputs), want)
    assert_close(layer.numpy_forward(inputs), want)


@pytest.mark.parametrize("initializer", ["glorot_uniform", "orthogonal", "zeros"])
def test_seeded_initializers_repeat(initializer):
    def draw(seed):
        rng = np.random.default_rng(seed)
        return [networks.seeded(initializer, rng)((3, 3)).numpy() for _ in range(2)]

    np.testing.assert_array_equal(draw(0), draw(0))
    if initializer != "zeros":
        first, second = draw(0)
        assert (first != second).any() and (first != draw(1)[0]).any()


def test_settings_of_an_initializer_are_kept():
    given = keras.initializers.RandomUniform(2.0, 3.0)
    values = networks.seeded(given, np.random.default_rng(0))((100,)).numpy()
    assert values.min() >= 2.0 and values.max() <= 3.0


def test_a_function_may_be_an_initializer():
    def initializer(shape, dtype=None):
        return tf.fill(shape, 7.0)

    rng = np.random.default_rng(0)
    mlp = MLP((2,), kernel_initializer=initializer, rng=rng)
    mlp(np.zeros((1, 3)))
    assert (mlp.dense[0].kernel.numpy() == 7.0).all()
