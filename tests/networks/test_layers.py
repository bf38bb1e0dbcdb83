"""Tests for `tflearner.networks.layers`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.networks import layers
from tflearner.networks.layers import (
    MLP,
    BoundedLogStd,
    FreeLogStd,
)
from tflearner.networks.numpy_forms import numpy_form
from tflearner.networks.numpy_layers import ACTIVATIONS, with_arrays
from tflearner.testing import assert_close


@pytest.mark.parametrize("name", sorted({*ACTIVATIONS} - {"exponential"}))
def test_numpy_activations_equal_keras(name):
    """Warnings are errors: large numbers must not overflow."""
    x = np.concatenate([np.linspace(-20, 20, 401), [-1e30, -1e4, -90, 90, 1e4, 1e30]])
    x = x.astype(np.float32)[None]
    got, want = ACTIVATIONS[name](x), getattr(keras.activations, name)(x)
    assert_close(got, np.asarray(want), rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32


def in_numpy(layer):
    """Returns a layer's NumPy form with its weights; `None` if it has none."""
    form = numpy_form(layer)
    return form and with_arrays(form, np.asarray)


@pytest.mark.parametrize("use_layernorm", [False, True])
@pytest.mark.parametrize("sizes", [(), (8,), (8, 4)])
@pytest.mark.parametrize("output_size", [None, 3])
def test_mlp_and_its_numpy_form(sizes, output_size, use_layernorm):
    mlp = MLP(
        sizes,
        "tanh",
        output_size=output_size,
        use_layernorm=use_layernorm,
        rng=np.random.default_rng(0),
    )
    x = np.random.default_rng(1).normal(size=(5, 2, 3)).astype(np.float32)
    mlp(x)
    for index, weight in enumerate(mlp.weights):
        weight.assign_add(np.full(weight.shape, 0.1 * index))
    got = in_numpy(mlp)(x)
    assert_close(got, mlp(x), rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32
    assert got.shape == (5, output_size or (*sizes, 6)[len(sizes) - 1])


def test_layernorm_is_between_a_layer_and_its_activation():
    mlp = MLP((64,), "relu", use_layernorm=True, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    hidden = mlp(x).numpy()
    z = x @ mlp.dense[0].kernel.numpy()
    z = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-3)
    assert_close(hidden, np.maximum(z, 0.0), rtol=1e-3, atol=1e-3)


def test_a_subclass_may_have_weights_of_its_own():
    class Scaled(MLP):
        def build(self, input_shape):
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

        def call(self, x):
            return self.scale * super().call(x)

    network = Scaled((4,), rng=np.random.default_rng(0))
    network(np.zeros((1, 3)))
    assert [w.name for w in network.weights] == ["scale", "kernel", "bias"]


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
@pytest.mark.parametrize("use_layernorm", [False, True])
def test_other_activations_have_no_numpy_form(activation, use_layernorm):
    if isinstance(activation, type):
        activation = activation()
    rng = np.random.default_rng(0)
    mlp = MLP((4,), activation, use_layernorm=use_layernorm, rng=rng)
    mlp(np.zeros((1, 3)))
    assert numpy_form(mlp) is None


def test_bounded_log_std_and_its_numpy_twin(compiled):
    layer = BoundedLogStd(-2, 2)
    inputs = np.float32([[-9.0, 9.0, -9.0, 9.0], [1.0, -1.0, 1.0, -1.0]])
    want = [[-9.0, 9.0, -2.0, 2.0], [1.0, -1.0, 1.0, -1.0]]
    assert_close(compiled(lambda x: layer(x))(x=inputs), want)
    assert_close(in_numpy(layer)(inputs), want)


def test_free_log_std_and_its_numpy_form(compiled):
    layer = FreeLogStd(2, bound=2)
    layer.log_std.assign([-9.0, 0.5])
    means = np.float32([[7.0, 8.0], [-7.0, 1.0]])
    want = [[7.0, 8.0, -2.0, 0.5], [-7.0, 1.0, -2.0, 0.5]]
    assert_close(compiled(lambda x: layer(x))(x=means), want)
    assert_close(in_numpy(layer)(means), want)


@pytest.mark.parametrize("initializer", ["glorot_uniform", "orthogonal", "zeros"])
def test_seeded_initializers_repeat(initializer):
    def draw(seed):
        rng = np.random.default_rng(seed)
        return [layers.seeded(initializer, rng)((3, 3)).numpy() for _ in range(2)]

    np.testing.assert_array_equal(draw(0), draw(0))
    if initializer != "zeros":
        first, second = draw(0)
        assert (first != second).any() and (first != draw(1)[0]).any()


def test_settings_of_an_initializer_are_kept():
    given = keras.initializers.RandomUniform(2.0, 3.0)
    values = layers.seeded(given, np.random.default_rng(0))((100,)).numpy()
    assert values.min() >= 2.0 and values.max() <= 3.0


def test_a_function_may_be_an_initializer():
    def initializer(shape, dtype=None):
        return tf.fill(shape, 7.0)

    rng = np.random.default_rng(0)
    mlp = MLP((2,), kernel_initializer=initializer, rng=rng)
    mlp(np.zeros((1, 3)))
    assert (mlp.dense[0].kernel.numpy() == 7.0).all()
