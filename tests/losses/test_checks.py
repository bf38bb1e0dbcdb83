"""Tests for `tflearner.losses.checks`."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.losses import checks


def test_equal_shapes_pass():
    checks.same_shape(a=np.zeros((3, 2)), b=tf.zeros([3, 2]), c=np.ones((3, 2), bool))


@pytest.mark.parametrize("shape", [(3, 1), (1,), (4,), ()])
def test_first_other_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"`c` has shape .* but `a` has shape \(3,\)"):
        checks.same_shape(a=np.zeros(3), b=tf.zeros(3), c=tf.zeros(shape))


def traced_check(first, second):
    """Traces the check with these static shapes."""
    function = tf.function(lambda a, b: checks.same_shape(a=a, b=b))
    function.get_concrete_function(tf.TensorSpec(first), tf.TensorSpec(second))


def test_unknown_sizes_agree_with_every_number():
    traced_check([None], [5])
    traced_check([5, None], [None, 2])


@pytest.mark.parametrize("second", [[None, 1], [None, None], [3, None]])
def test_unknown_sizes_do_not_excuse_another_rank(second):
    with pytest.raises(ValueError, match=r"`b` has shape .* but `a` .*\(None,\)"):
        traced_check([None], second)
