"""The epsilon-greedy policy, as logits."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.modules import exploration, numpy_policy
from tflearner.spaces.mask_spaces import FORBIDDEN

Q = np.float32(
    [
        [1.0, 3.0, 2.0],
        [FORBIDDEN, -5.0, -7.0],
        [FORBIDDEN, FORBIDDEN, 4.0],
        [2.0, 2.0, 2.0],  # The first of equals.
        [FORBIDDEN, FORBIDDEN, FORBIDDEN],
    ]
)


def probabilities_of(q, epsilon):
    """Row by row, from the definition. Slow on purpose."""
    wanted = np.zeros_like(q)
    for i, row in enumerate(q):
        allowed = [a for a, value in enumerate(row) if value > FORBIDDEN]
        for a in allowed:
            wanted[i, a] += epsilon / len(allowed)
        wanted[i, int(np.argmax(row))] += 1.0 - epsilon
    return wanted


XLA = pytest.param("xla", marks=pytest.mark.deep)


@pytest.fixture(params=["eager", "traced", XLA, "numpy"])
def logits_of(request):
    """Returns the function in each of its forms."""
    if request.param == "numpy":
        return numpy_policy.epsilon_greedy_logits_np
    function = exploration.epsilon_greedy_logits
    if request.param != "eager":
        function = tf.function(function, jit_compile=request.param == "xla")
    return lambda q, epsilon: function(tf.constant(q), tf.constant(epsilon)).numpy()


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 0.05, 0.5, 1.0])
def test_probabilities(logits_of, epsilon):
    logits = logits_of(Q, epsilon)
    assert logits.dtype == np.float32 and np.isfinite(logits).all()
    wanted = probabilities_of(Q, epsilon)
    # Nobody acts where everything is forbidden.
    np.testing.assert_allclose(np.exp(logits)[:4], wanted[:4], rtol=1e-5, atol=1e-9)
    assert (logits[:4][wanted[:4] == 0.0] == FORBIDDEN).all()


def test_forbidden_actions_are_never_drawn(logits_of):
    logits = logits_of(np.repeat(Q[1:2], 4_000, 0), 1.0)
    drawn = tf.random.stateless_categorical(logits, 1, [1, 2]).numpy()
    counts = np.bincount(drawn.ravel(), minlength=3)
    assert counts[0] == 0 and abs(counts[1] - 2_000) < 200


def test_a_variable_may_be_epsilon():
    epsilon = tf.Variable(0.5)
    wanted = probabilities_of(Q, 0.5)[:4]
    logits = exploration.epsilon_greedy_logits(tf.constant(Q), epsilon)
    np.testing.assert_allclose(np.exp(logits)[:4], wanted, rtol=1e-6)
