"""Tests for `tflearner.networks.cnn`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.errors import ConfigError, SpaceError
from tflearner.networks import cnn
from tflearner.networks.cnn import CNN
from tflearner.networks.layers import MLP
from tflearner.testing import assert_close


def make(filters, sizes=(8,), seed=0, **settings):
    rng = np.random.default_rng(seed)
    return CNN(filters, dense=MLP(sizes, rng=rng), rng=rng, **settings)


def images(shape, num=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1, (num, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "num_features"),
    [
        ((84, 84, 4), 7 * 7 * 64),
        ((64, 64, 3), 4 * 4 * 64),
        ((42, 42, 1), 1 * 1 * 64),
        ((96, 64, 3), 8 * 4 * 64),
        ((32, 32, 3), 6 * 6 * 64),
        ((16, 12, 3), 2 * 1 * 64),
        ((10, 10, 4), 8 * 8 * 16),
        ((7, 7, 3), 5 * 5 * 16),
        ((3, 2, 1), 16),
        ((1, 1, 1), 16),
    ],
)
def test_default_filters_fit_images_of_all_sizes(shape, num_features):
    filters = cnn.default_conv_filters(shape)
    cnn.check_conv_filters(filters, shape)
    network = make(filters)
    assert network(images(shape)).shape == (3, 8)
    assert network.dense.dense[0].kernel.shape == (num_features, 8)


@pytest.mark.parametrize("shape", [(4, 84, 84), (3, 64, 64), (1, 42, 42)])
def test_channels_in_front_are_noticed(shape):
    with pytest.raises(SpaceError, match="channels seem to come first.*height, width"):
        cnn.default_conv_filters(shape)


@pytest.mark.parametrize(
    ("filters", "match"),
    [
        ([(8, 11, 1)], r"filters\[0\]: got a kernel of 11x11 .* where 10x10 are left"),
        ([(8, 4, 2), (8, 5, 1)], r"filters\[1\]: got .* 5x5 .* 4x4 are left of 10x10"),
        ([(8, (3, 10), 1), (8, 2, 1)], r"\[1\]: got .* 2x2 .* where 8x1 are left"),
    ],
)
def test_kernels_that_do_not_fit_are_named(filters, match):
    with pytest.raises(ConfigError, match=match):
        cnn.check_conv_filters(filters, (10, 10, 3))


@pytest.mark.parametrize("filters", [[(8, 10, 1)], [(8, 4, 3), (4, [3, 2], [1, 2])]])
def test_kernels_that_just_fit(filters):
    cnn.check_conv_filters(filters, (10, 10, 3))
    assert make(filters)(images((10, 10, 3))).shape == (3, 8)


def test_convolutions_equal_sums_over_windows():
    network = make([(2, 2, 1)], sizes=(), activation="relu")
    x = images((3, 4, 1))
    got = network(x).numpy().reshape(3, 2, 3, 2)
    layer = network.convolutions[0]
    layer.bias.assign([0.1, -0.2])
    kernel = layer.kernel.numpy()  # [2, 2, 1, 2].
    got = network(x).numpy().reshape(3, 2, 3, 2)
    want = np.zeros_like(got)
    for i, j in np.ndindex(2, 3):
        window = x[:, i : i + 2, j : j + 2]
        want[:, i, j] = np.einsum("bhwc,hwcf->bf", window, kernel) + [0.1, -0.2]
    assert_close(got, np.maximum(want, 0.0), rtol=1e-5, atol=1e-6)


def test_initial_kernels_are_those_of_pytorch():
    network = make([(64, 4, 2)])
    network(images((20, 20, 3)))
    kernel = network.convolutions[0].kernel.numpy()
    limit = 1 / np.sqrt(4 * 4 * 3)
    assert 0.98 * limit < np.abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)


def test_kernel_initializer_and_activation_are_used():
    network = make(
        [(2, 2, 1)], sizes=(), kernel_initializer="ones", activation=tf.math.negative
    )
    assert (network(np.ones((1, 3, 3, 1))).numpy() == -4.0).all()


def test_builds_repeat_by_seed():
    def weights(seed):
        network = make([(4, 2, 1), (4, 2, 1)], seed=seed)
        network(images((5, 5, 1)))
        return [w.numpy() for w in network.weights]

    first, again, other = weights(0), weights(0), weights(1)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first[0] != other[0]).any()
    assert keras.backend.image_data_format() == "channels_last"
