"""Tests for `tflearner.connectors.batching`."""

from types import SimpleNamespace

import numpy as np
import pytest

from tflearner.connectors.batching import (
    AgentToModuleMapping,
    BatchIndividualItems,
    module_id_of,
)
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import BatchError


def of_modules(*module_ids):
    return [
        SimpleNamespace(module_id=module_id, id_=f"e{index}")
        for index, module_id in enumerate(module_ids)
    ]


def mapped(batch, episodes, modules=("a", "b")):
    rl_module = dict.fromkeys(modules)
    return AgentToModuleMapping()(rl_module=rl_module, batch=batch, episodes=episodes)


def joined(batch):
    return BatchIndividualItems()(batch=batch)


def as_lists(by_module):
    return {
        module_id: {c: [a.tolist() for a in arrays] for c, arrays in columns.items()}
        for module_id, columns in by_module.items()
    }


# Sorting by module.

OBS = [np.array([1]), np.array([2, 3]), np.array([4])]


def test_every_module_gets_the_arrays_of_its_episodes_in_their_order():
    got = mapped({"obs": OBS}, of_modules("b", "a", "b"))
    assert as_lists(got) == {"b": {"obs": [[1], [4]]}, "a": {"obs": [[2, 3]]}}


def test_columns_that_no_episode_of_a_module_has_are_dropped():
    batch = {"obs": OBS, "of a": [None, OBS[1], None], "nobody": [None] * 3}
    got = mapped(batch, of_modules("b", "a", "b"))
    assert {module_id: list(columns) for module_id, columns in got.items()} == {
        "b": ["obs"],
        "a": ["obs", "of a"],
    }


def test_columns_that_some_episodes_of_a_module_lack_are_an_error():
    batch = {"obs": OBS, "logp": [OBS[0], OBS[1], None]}
    match = r"module 'b', column 'logp', episodes\[2\] \('e2'\): got no such column"
    with pytest.raises(BatchError, match=match):
        mapped(batch, of_modules("b", "a", "b"))


@pytest.mark.parametrize("entries", [OBS[:2], [*OBS, None]])
def test_columns_need_one_entry_per_episode(entries):
    match = rf"column 'own': got {len(entries)} entries, want 3, an array or None"
    with pytest.raises(BatchError, match=match):
        mapped({"own": entries}, of_modules("b", "a", "b"))


@pytest.mark.parametrize(
    ("own", "modules", "want"),
    [
        ("b", ["a", "b"], "b"),
        ("ghost", ["a"], "ghost"),
        (None, ["a"], "a"),
        (None, ["a", "b"], DEFAULT_MODULE_ID),
    ],
)
def test_the_module_of_an_episode(own, modules, want):
    assert module_id_of(of_modules(own)[0], dict.fromkeys(modules)) == want
    assert list(mapped({"obs": OBS[:1]}, of_modules(own), modules)) == [want]


# Joining.


def test_arrays_are_joined_in_their_order():
    batch = {
        "obs": [np.array([[1.0], [2.0]]), np.array([[3.0]])],
        "nested": [
            {"a": np.array([1, 2]), "b": (np.array([5, 6]),)},
            {"a": np.array([3]), "b": (np.array([7]),)},
        ],
    }
    got = joined({"m": batch, "n": {"obs": [np.array([4.0])]}})
    assert list(got) == ["m", "n"] and list(got["m"]) == ["obs", "nested"]
    assert got["m"]["obs"].tolist() == [[1.0], [2.0], [3.0]]
    assert got["m"]["nested"]["a"].tolist() == [1, 2, 3]
    assert got["m"]["nested"]["b"][0].tolist() == [5, 6, 7]
    assert got["n"]["obs"].tolist() == [4.0]


def test_no_episodes_make_no_batch():
    assert joined(mapped({"obs": []}, [])) == {}


def test_columns_of_unequal_lengths_are_an_error():
    columns = {"obs": OBS, "own": [np.zeros(1)] * 3, "actions": OBS}
    match = "module 'm', column 'own': got 3 rows, want 4, as column 'obs'.*bootstrap"
    with pytest.raises(BatchError, match=match):
        joined({"m": columns})


def test_columns_without_a_module_are_an_error():
    with pytest.raises(BatchError, match="column 'obs'.*put AgentToModuleMapping in"):
        joined({"obs": OBS})
