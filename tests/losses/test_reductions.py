"""Tests for `tflearner.losses.reductions`."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.losses import reductions
from tflearner.testing import assert_close

TARGETS = np.float32([1.0, 2.0, 4.0, 9.0])


def test_mean_without_a_mask(compiled):
    mean = compiled(reductions.masked_mean)
    assert_close(mean(values=TARGETS), np.float32(4.0))
    assert_close(mean(values=TARGETS.reshape(2, 2)), np.float32(4.0))


def test_masked_steps_may_hold_anything(compiled):
    values = np.float32([[1.0, np.nan, 3.0], [np.inf, -np.inf, 8.0]])
    mask = np.isfinite(values)
    assert_close(compiled(reductions.masked_mean)(values=values, mask=mask), 4.0)


def test_mean_of_no_step_is_zero(compiled):
    mean = compiled(reductions.masked_mean)
    nothing = mean(values=np.float32([np.nan, 1.0]), mask=np.zeros(2, bool))
    assert_close(nothing, 0.0)
    assert_close(mean(values=np.zeros(0, np.float32)), 0.0)


@pytest.mark.parametrize(
    ("reduction", "want"),
    [(reductions.masked_min, -2.0), (reductions.masked_max, 5.0)],
)
def test_extremes_count_unmasked_steps_only(compiled, reduction, want):
    values = np.float32([[5.0, np.nan, 3.0], [np.inf, -np.inf, -2.0]])
    extreme = compiled(reduction)
    assert_close(extreme(values=values, mask=np.isfinite(values)), want)
    assert_close(extreme(values=values, mask=np.zeros((2, 3), bool)), 0.0)
    assert_close(extreme(values=values[::, ::2].ravel()[[0, 1, 3]]), want)


def test_masked_steps_get_no_gradient():
    values = tf.constant([1.0, np.nan, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        mean = reductions.masked_mean(values, tf.constant([True, False, True]))
    assert_close(tape.gradient(mean, values), [0.5, 0.0, 0.5])


@pytest.mark.parametrize(
    ("predictions", "want"),
    [
        (TARGETS, 1.0),
        (TARGETS + 5.0, 1.0),
        ([0.0, 0.0, 0.0, 0.0], 0.0),
        (TARGETS / 2, 0.75),
        (-TARGETS, -1.0),
    ],
)
def test_explained_variance(predictions, want):
    got = reductions.explained_variance(TARGETS, np.float32(predictions))
    assert_close(got, want, atol=1e-6)


@pytest.mark.parametrize(("predictions", "want"), [([3.0, 3.0], 1.0), ([3, 4], -1.0)])
def test_explained_variance_of_targets_that_do_not_vary(predictions, want):
    targets = np.ones(2, np.float32)
    got = reductions.explained_variance(targets, np.float32(predictions))
    assert_close(got, want)


def test_explained_variance_counts_unmasked_steps_only(compiled):
    got = compiled(reductions.explained_variance)(
        targets=np.append(TARGETS, np.float32([np.nan, 100.0])),
        predictions=np.append(TARGETS / 2, np.float32([1.0, np.nan])),
        mask=np.array([True] * 4 + [False] * 2),
    )
    assert_close(got, 0.75)
