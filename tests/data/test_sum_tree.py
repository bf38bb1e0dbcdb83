"""Tests for `tflearner.data.sum_tree`."""

import numpy as np
import pytest

from tflearner.data.sum_tree import SumTree

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 31, 100, 1000]


def place(weights, wanted):
    """The first position at which the running sum exceeds `wanted`."""
    total = 0.0
    for position, weight in enumerate(weights):
        total += weight
        if total > wanted:
            return position
    raise AssertionError("the sum is not below the total")


def weights_of(tree, num):
    return tree.get(np.arange(num)).tolist()


@pytest.mark.parametrize("num", SIZES)
def test_sums_places_and_smallest_of_random_weights(num):
    rng = np.random.default_rng(num)
    tree, weights = SumTree(num), [0.0] * num
    for count in (1, 2, 3, num, num // 2 + 1, 1):
        positions = rng.integers(num, size=count)  # Some twice.
        new = rng.integers(0, 5, size=count) / 4.0  # Exact in sums; some are 0.
        tree.set(positions, new)
        for position, weight in zip(positions.tolist(), new.tolist()):
            weights[position] = weight
        assert weights_of(tree, num) == weights
        assert tree.total == sum(weights)
        assert tree.smallest == min([w for w in weights if w], default=np.inf)
        if tree.total:
            sums = np.concatenate([rng.random(50) * tree.total, [0.0]])
            edges = np.cumsum(weights)[:-1]
            sums = np.concatenate([sums, edges[edges < tree.total]])
            assert tree.find(sums).tolist() == [place(weights, s) for s in sums]


def test_few_and_many_positions_make_the_same_tree():
    rng = np.random.default_rng(0)
    weights = rng.random(1000)
    at_once, one_by_one = SumTree(1000), SumTree(1000)
    at_once.set(np.arange(1000), weights)
    for position in rng.permutation(1000):
        one_by_one.set(np.array([position]), weights[[position]])
    assert at_once.total == one_by_one.total and at_once.smallest == weights.min()
    sums = rng.random(500) * at_once.total
    assert at_once.find(sums).tolist() == one_by_one.find(sums).tolist()


def test_of_two_weights_for_one_position_the_last_counts():
    tree = SumTree(3)
    tree.set(np.array([1, 2, 1]), np.array([0.5, 2.0, 4.0]))
    assert weights_of(tree, 3) == [0.0, 4.0, 2.0]
    assert (tree.total, tree.smallest) == (6.0, 2.0)


def test_sums_do_not_drift():
    rng = np.random.default_rng(0)
    tree = SumTree(64)
    for _ in range(2000):
        tree.set(rng.integers(64, size=8), rng.random(8) * 10.0 ** rng.integers(-9, 9))
    tree.set(np.arange(64), np.zeros(64))
    assert (tree.total, tree.smallest) == (0.0, np.inf)
    tree.set(np.arange(64), np.ones(64))
    assert (tree.total, tree.smallest) == (64.0, 1.0)


@pytest.mark.parametrize("num", [3, 8, 100])
def test_rounded_sums_never_find_a_position_without_weight(num):
    rng = np.random.default_rng(num)
    for _ in range(50):
        tree = SumTree(num)
        positions = rng.permutation(num)[: rng.integers(1, num + 1)]
        tree.set(positions, rng.random(len(positions)) + 1e-9)
        ends = tree.total * np.array([0.0, 1.0 - 2**-53, 1.0, 1.0 + 1e-12])
        found = tree.find(np.concatenate([ends, rng.random(20) * tree.total]))
        assert set(found.tolist()) <= set(positions.tolist())


def test_size_is_known_before():
    for num in SIZES:
        tree = SumTree(num)
        assert SumTree.nbytes_of(num) == tree._sums.nbytes + tree._least.nbytes
