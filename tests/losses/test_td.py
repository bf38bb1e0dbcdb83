"""Tests for `tflearner.losses.td`."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.losses import td
from tflearner.testing import assert_close

GAMMA = 0.9
ERRORS = np.float32([-3.0, -1.0, -0.4, 0.0, 0.25, 1.0, 2.5, 1e30])


def oracle(*, rewards, next_values, terminateds, n_step):
    """Looks on from each row, discounting once per step."""
    targets = []
    for reward, value, terminated, n in zip(rewards, next_values, terminateds, n_step):
        discount = 1.0
        for _ in range(int(n)):
            discount *= GAMMA
        targets.append(float(reward) + (0.0 if terminated else discount * float(value)))
    return targets


@pytest.fixture
def batch():
    return {
        "rewards": np.float32([1.0, -2.0, 0.5, 3.0, 0.0]),
        "next_values": np.float32([2.0, 5.0, np.nan, -1.5, np.inf]),
        "terminateds": np.array([False, False, True, False, True]),
        "n_step": np.float32([1, 3, 2, 5, 1]),
    }


def test_targets_match_the_oracle(compiled, batch):
    got = compiled(td.td_targets)(**batch, gamma=GAMMA)
    assert_close(got, oracle(**batch))


def test_targets_have_no_gradient(batch):
    batch = {name: tf.constant(values) for name, values in batch.items()}
    with tf.GradientTape() as tape:
        tape.watch(batch["next_values"])
        targets = td.td_targets(**batch, gamma=GAMMA)
    assert tape.gradient(targets, batch["next_values"]) is None


@pytest.mark.parametrize("name", ["next_values", "terminateds", "n_step"])
def test_column_vector_is_rejected(batch, name):
    batch[name] = batch[name][:, None]
    with pytest.raises(ValueError, match=rf"`{name}` has shape \(5, 1\).*\(5,\)"):
        td.td_targets(**batch, gamma=GAMMA)


def test_huber_is_a_square_that_goes_on_as_a_line(compiled):
    want = [2.5, 0.5, 0.08, 0.0, 0.03125, 0.5, 2.0, 1e30]
    assert_close(compiled(td.huber)(errors=ERRORS), want)


def test_gradient_of_huber_is_the_bounded_error(compiled):
    def gradient(errors):
        with tf.GradientTape() as tape:
            tape.watch(errors)
            losses = td.huber(errors)
        return tape.gradient(losses, errors)

    errors = np.append(ERRORS, np.float32([np.inf, -np.inf]))
    assert_close(compiled(gradient)(errors=errors), np.clip(errors, -1.0, 1.0))


def test_mse_has_no_factor():
    assert_close(td.LOSS_FUNCTIONS["mse"](np.float32([3.0, -0.5])), [9.0, 0.25])
