"""Tests for `tflearner.networks.recurrent`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.networks.layers import MLP
from tflearner.networks.numpy_forms import numpy_form
from tflearner.networks.numpy_layers import with_arrays
from tflearner.networks.recurrent import RecurrentEncoder, apply_per_step
from tflearner.testing import assert_close

CELLS = ("lstm", "gru")


def make(cell, units=6, seed=0, tokenizer=None):
    rng = np.random.default_rng(seed)
    tokenizer = tokenizer or MLP((5,), rng=rng)
    encoder = RecurrentEncoder(tokenizer, cell, units, rng=rng)
    encoder(np.zeros((1, 1, 3), np.float32), state_of(encoder, 1))
    return encoder


def state_of(encoder, num, seed=None):
    rng = np.random.default_rng(seed)
    return {
        key: rng.normal(size=(num, *zeros.shape)).astype(np.float32)
        if seed is not None
        else np.repeat(zeros[None], num, axis=0)
        for key, zeros in encoder.initial_state().items()
    }


def sequences(num=4, steps=5, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num, steps, 3)).astype(np.float32)


@pytest.mark.parametrize(("cell", "keys"), [("lstm", {"h", "c"}), ("gru", {"h"})])
def test_initial_state_is_zeros_without_batch_axis(cell, keys):
    state = make(cell, units=6).initial_state()
    assert state.keys() == keys
    for zeros in state.values():
        assert zeros.shape == (6,) and zeros.dtype == np.float32 and not zeros.any()


@pytest.mark.parametrize("cell", CELLS)
def test_steps_one_by_one_equal_the_whole_sequence(cell):
    encoder, x = make(cell), sequences()
    state = state_of(encoder, 4, seed=2)
    want, want_state = encoder(x, state)
    assert want.shape == (4, 5, 6)
    for t in range(5):
        got, state = encoder(x[:, t : t + 1], state)
        assert_close(got[:, 0], want[:, t], rtol=1e-5, atol=1e-6)
    for key, value in want_state.items():
        assert_close(state[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_numpy_form_equals_one_step(cell):
    encoder, x = make(cell), sequences(steps=1)
    for index, weight in enumerate(encoder.weights):
        weight.assign_add(np.full(weight.shape, 0.1 * index))
    state = state_of(encoder, 4, seed=2)
    want, want_state = encoder(x, state)
    got, got_state = with_arrays(numpy_form(encoder), np.asarray)(x[:, 0], state)
    assert_close(got, want[:, 0], rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32
    for key, value in want_state.items():
        assert_close(got_state[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_numpy_form_does_not_write_into_the_state(cell):
    encoder = make(cell)
    state = state_of(encoder, 4, seed=2)
    before = {key: value.copy() for key, value in state.items()}
    with_arrays(numpy_form(encoder), np.asarray)(sequences()[:, 0], state)
    for key, value in before.items():
        np.testing.assert_array_equal(state[key], value)


def test_other_tokenizers_have_no_numpy_form():
    for tokenizer in (
        keras.layers.UnitNormalization(),
        MLP((4,), "gelu", rng=np.random.default_rng(0)),
    ):
        assert numpy_form(make("lstm", tokenizer=tokenizer)) is None


@pytest.mark.parametrize("cell", CELLS)
def test_kernels_start_as_those_of_pytorch(cell):
    encoder = make(cell, units=64)
    kernel, recurrent_kernel, bias = (w.numpy() for w in encoder.rnn.weights)
    for weights in (kernel, recurrent_kernel):
        assert 0.98 / 8 < np.abs(weights).max() <= 1 / 8
        assert weights.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.1)
    assert (kernel[:5] != recurrent_kernel[:5]).any()
    forget_bias = bias[64:128] if cell == "lstm" else None
    assert bias.sum() == (64.0 if cell == "lstm" else 0.0)
    assert forget_bias is None or (forget_bias == 1.0).all()


@pytest.mark.parametrize("cell", CELLS)
def test_builds_repeat_by_seed(cell):
    first, again, other = (make(cell, seed=seed).weights for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert (first[-2].numpy() != other[-2].numpy()).any()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 1)])
def test_a_layer_is_applied_to_each_step(compiled, shape):
    def sums(rows):
        assert rows.shape.rank == len(shape) - 1
        return tf.reduce_sum(tf.reshape(rows, [tf.shape(rows)[0], -1]), -1)

    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    got = compiled(lambda x: apply_per_step(sums, x))(x=x)
    assert_close(got, x.reshape(2, 3, -1).sum(-1))


def test_shapes_that_are_known_stay_known():
    @tf.function(autograph=False)
    def apply(x):
        y = apply_per_step(lambda rows: tf.concat([rows, rows], -1), x)
        shapes.append(y.shape.as_list())
        return y

    shapes = []
    apply.get_concrete_function(tf.TensorSpec([None, 5, 3]))
    apply.get_concrete_function(tf.TensorSpec([None, None, 3]))
    assert shapes == [[None, 5, 6], [None, None, 6]]
