"""Tests for `tflearner.connectors.batching`."""

from types import SimpleNamespace

import numpy as np
import pytest

from tflearner.connectors.batching import BatchIndividualItems, module_id_of
from tflearner.constants import DEFAULT_MODULE_ID


def of_modules(*module_ids):
    return [SimpleNamespace(module_id=module_id) for module_id in module_ids]


def batched(batch, episodes, modules=("m",)):
    rl_module = dict.fromkeys(modules)
    return BatchIndividualItems()(rl_module=rl_module, batch=batch, episodes=episodes)


def test_arrays_are_joined_in_the_order_of_their_episodes():
    batch = {
        "obs": [np.array([[1.0], [2.0]]), np.array([[3.0]])],
        "nested": [
            {"a": np.array([1, 2]), "b": (np.array([5, 6]),)},
            {"a": np.array([3]), "b": (np.array([7]),)},
        ],
    }
    got = batched(batch, of_modules(None, None))
    assert list(got) == ["m"] and list(got["m"]) == ["obs", "nested"]
    assert got["m"]["obs"].tolist() == [[1.0], [2.0], [3.0]]
    assert got["m"]["nested"]["a"].tolist() == [1, 2, 3]
    assert got["m"]["nested"]["b"][0].tolist() == [5, 6, 7]


def test_episodes_are_sorted_by_their_module():
    batch = {"obs": [np.array([1]), np.array([2, 3]), np.array([4])]}
    got = batched(batch, of_modules("b", "a", "b"), modules=("a", "b"))
    assert {mid: columns["obs"].tolist() for mid, columns in got.items()} == {
        "b": [1, 4],
        "a": [2, 3],
    }


def test_no_episodes_make_no_batch():
    assert batched({"obs": []}, []) == {}


@pytest.mark.parametrize(
    ("own", "modules", "want"),
    [
        ("b", ["a", "b"], "b"),
        (None, ["a"], "a"),
        (None, ["a", "b"], DEFAULT_MODULE_ID),
    ],
)
def test_the_module_of_an_episode(own, modules, want):
    assert module_id_of(of_modules(own)[0], dict.fromkeys(modules)) == want
