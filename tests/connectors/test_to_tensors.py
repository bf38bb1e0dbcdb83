"""Every piece that has a rule in TensorFlow does the same as in NumPy."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
import tree

from tflearner.columns import Columns
from tflearner.connectors import tensor_forms
from tflearner.connectors.actions import NormalizeAndClipActions
from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.observations import MeanStdFilter
from tflearner.errors import ExportError
from tflearner.modules.rl_module import action_dist_class
from tflearner.testing import assert_close

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
INF = np.inf

BOXES = {
    "bounded": Box(np.float32([-2, 0]), np.float32([3, 0.1])),
    "unbounded": Box(-INF, INF, (2,), np.float32),
    "bounded below": Box(0.0, INF, (2,), np.float32),
    "bounded above": Box(-INF, 1.0, (2,), np.float32),
    "mixed": Box(np.float32([-1, -INF, 0, -INF]), np.float32([1, INF, INF, 2])),
    "float64": Box(-0.1, 0.1, (2,), np.float64),
    "matrix": Box(-1.0, 2.0, (2, 3), np.float32),
    "integers": Box(-5, 9, (2,), np.int64),
    "unbounded integers": Box(-(2**31), 2**31 - 1, (2,), np.int32),
    "pixels": Box(0, 255, (3, 3, 1), np.uint8),
}
DISCRETE = {
    "discrete": Discrete(4),
    "discrete from 3": Discrete(4, start=3),
    "discrete from -2": Discrete(4, start=-2),
}
FLOATS = {name: box for name, box in BOXES.items() if box.dtype != np.uint8}
NESTED = {
    "dict": gym.spaces.Dict(a=BOXES["bounded"], b=Discrete(3)),
    "tuple": gym.spaces.Tuple([BOXES["pixels"], Discrete(3)]),
}


def module_actions(space, rng, num=40):
    """Returns what a module may put out: wider than [-1, 1], and its edges."""
    if not isinstance(space, Box):
        dist_class = action_dist_class(space)
        size = dist_class.required_input_dim(space)
        inputs = rng.normal(size=(num, size)).astype(np.float32)
        return dist_class.sample_np(inputs, rng)
    size = int(np.prod(space.shape))
    actions = rng.normal(0.0, 2.0, (num, size)).astype(np.float32)
    actions[0], actions[1], actions[2] = -1.0, 1.0, 0.0
    return actions


def normalize(**settings):
    def make(space, rng):
        return NormalizeAndClipActions(None, space, **settings), module_actions(
            space, rng
        )

    return make


def mean_std(space, rng, **settings):
    space.seed(int(rng.integers(100)))
    samples = [space.sample() for _ in range(40)]
    empty = gym.vector.utils.create_empty_array(space, 40)
    observations = gym.vector.utils.concatenate(space, samples, empty)
    piece = MeanStdFilter(space, **settings)
    piece(batch={Columns.OBS: observations}, explore=True)
    return piece, observations


# Piece: (column, function of space and generator that makes piece and input, spaces).
PIECES = {
    "normalize": (Columns.ACTIONS, normalize(), BOXES | DISCRETE),
    "clip": (
        Columns.ACTIONS,
        normalize(normalize_actions=False, clip_actions=True),
        BOXES | DISCRETE,
    ),
    "leave": (
        Columns.ACTIONS,
        normalize(normalize_actions=False),
        FLOATS | DISCRETE,
    ),
    "mean-std": (Columns.OBS, mean_std, BOXES | NESTED),
}
CASES = [(piece, space) for piece, row in PIECES.items() for space in row[2]]


def assert_tensors_equal_numpy(name, space):
    column, make, _ = PIECES[name]
    piece, values = make(space, np.random.default_rng(0))
    given = tree.map_structure(np.copy, values)
    batch = piece(batch={column: given}, explore=False)
    want = batch.get(Columns.ACTIONS_FOR_ENV, batch.get(column))
    tensors = tree.map_structure(tf.constant, values)
    for rule in (piece.to_tensors, tf.function(piece.to_tensors)):
        got = tree.map_structure(np.asarray, rule(tensors))
        tree.assert_same_structure(got, want)
        for a, b in zip(tree.flatten(got), tree.flatten(want)):
            assert a.dtype == b.dtype
            if a.dtype.kind == "f":
                assert_close(a, b, rtol=1e-6, atol=1e-6)
            else:
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("name", "space"), CASES)
def test_tensors_equal_numpy(name, space):
    assert_tensors_equal_numpy(name, PIECES[name][2][space])


@pytest.mark.parametrize("name", ["normalize", "clip"])
def test_tensors_of_actions_equal_numpy(name, action_space):
    assert_tensors_equal_numpy(name, action_space)


def test_the_table_has_every_piece_with_a_rule():
    rng = np.random.default_rng(0)
    in_table = {
        type(make(next(iter(spaces.values())), rng)[0])
        for _, make, spaces in PIECES.values()
    }
    assert set(tensor_forms.RULES) == in_table


def test_a_piece_without_a_rule_says_what_to_write():
    class Own(ConnectorV2):
        def __call__(self, *, batch, **kwargs):
            return batch

    with pytest.raises(ExportError, match=r"piece Own: .* write to_tensors\(self, x\)"):
        Own().to_tensors(tf.zeros([1]))
