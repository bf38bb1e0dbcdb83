"""Saves, checks and restores the state of a `TransitionStore`."""

from typing import Any

import numpy as np

from tflearner.checkpoint import matching
from tflearner.data.transition_store import NONE, OpenEpisode, TransitionStore
from tflearner.errors import CheckpointMismatchError
from tflearner.types import StateDict

COLUMNS = ("rewards", "terminateds", "truncateds", "links")
NAMES = (
    *("capacity", "num_added", "num_steps_added"),
    *("observations", "actions", *COLUMNS, "open_episodes"),
)
HINT = "it is the state of a buffer with other settings, or of another kind"


def get_state(store: TransitionStore) -> StateDict:
    """Returns a copy of the stored rows and their bookkeeping."""
    num = store.num_rows
    return {
        "capacity": store.capacity,
        "num_added": store.num_added,
        "num_steps_added": store.num_steps_added,
        "observations": [leaf[:num].copy() for leaf in store.observations],
        "actions": [leaf[:num].copy() for leaf in store.actions],
        **{name: getattr(store, name)[:num].copy() for name in COLUMNS},
        "open_episodes": [[id_, *one] for id_, one in store.open.items()],
    }


def set_state(store: TransitionStore, state: StateDict) -> None:
    """Replaces the contents of a store by a checked state."""
    num, before = min(state["num_added"], store.capacity), store.num_rows
    for name in ("observations", "actions"):
        for leaf, saved in zip(getattr(store, name), state[name], strict=True):
            leaf[:num] = saved
            leaf[num:before] = (
                0  # The last row of a chunk has no action to overwrite it.
            )
    for name in COLUMNS:
        column = getattr(store, name)
        column[:num] = state[name]
        column[num:before] = 0
    store.num_added = state["num_added"]
    store.num_steps_added = state["num_steps_added"]
    store.num_transitions = int(np.count_nonzero(state["links"] != NONE))
    store.open = {id_: OpenEpisode(*one) for id_, *one in state["open_episodes"]}


def check(where: str, store: TransitionStore, state: Any) -> None:
    """Raises `CheckpointMismatchError` unless a state is consistent and fits a store.

    Args:
        where: The name of the state in errors.
        store: The store.
        state: The result of `get_state`, maybe of another store.
    """
    if not isinstance(state, dict):
        refuse(where, _kind(state), "a dict")
    matching.check(where, matching.problems_with_names(state, NAMES), HINT)
    if state["capacity"] != store.capacity:
        refuse(
            f"{where}, 'capacity'",
            f"{state['capacity']!r}",
            f"{store.capacity}",
            "make the buffer with the capacity that was saved",
        )
    for name in ("num_added", "num_steps_added"):
        check_count(f"{where}, {name!r}", state[name])
    num = min(state["num_added"], store.capacity)
    for name in ("observations", "actions"):
        leaves, saved = getattr(store, name), state[name]
        if not isinstance(saved, list) or len(saved) != len(leaves):
            refuse(f"{where}, {name!r}", _kind(saved), f"a list of {len(leaves)}")
        for i, (leaf, array) in enumerate(zip(leaves, saved, strict=True)):
            check_array(f"{where}, {name!r}[{i}]", array, leaf, num)
    for name in COLUMNS:
        check_array(f"{where}, {name!r}", state[name], getattr(store, name), num)
    _check_links(where, store, state, num)
    _check_open(where, state, num)


def _check_links(
    where: str, store: TransitionStore, state: StateDict, num: int
) -> None:
    links = state["links"]
    oldest = state["num_added"] - num
    has_next = links != NONE
    slots, after = np.flatnonzero(has_next), links[has_next]
    where = f"{where}, 'links'"
    if np.any((after < 0) | (after >= num)):
        refuse(where, "links to rows that are not there", f"rows below {num}")
    age = (np.arange(num) - oldest) % store.capacity  # 0 is the oldest row.
    if np.any(age[after] <= age[slots]) or len(np.unique(after)) < len(after):
        refuse(where, "rows that follow on newer ones, or on two", "one later row each")
    ends = state["terminateds"] | state["truncateds"]
    if np.any(has_next[after[ends[slots]]]):
        refuse(where, "steps after the end of an episode", "none")


def _check_open(where: str, state: StateDict, num: int) -> None:
    where, entries = f"{where}, 'open_episodes'", state["open_episodes"]
    oldest, end = state["num_added"] - num, state["num_added"]
    if not isinstance(entries, list):
        refuse(where, _kind(entries), "a list")
    before, ids = oldest - 1, set[str | int | tuple]()
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 3:
            refuse(where, f"{entry!r}", "[id, position, steps]")
        id_, position, t = entry
        check_count(where, position)
        check_count(where, t)
        # In a ring that is not full, slots and positions are equal.
        is_there = before < position < end
        if not is_there or state["links"][position % max(num, 1)] != NONE:
            refuse(where, f"{entry!r}", "the last rows of episodes, in order")
        if not isinstance(id_, str | int | tuple) or id_ in ids:
            refuse(where, f"id {id_!r}", "each episode's own")
        ids.add(id_)
        before = position


def check_count(where: str, value: Any) -> None:
    """Raises `CheckpointMismatchError` unless a value is an int of at least 0."""
    if type(value) is not int or not 0 <= value < 2**62:
        refuse(where, f"{value!r}", "an int >= 0")


def check_array(where: str, array: Any, like: np.ndarray, num: int) -> None:
    """Raises `CheckpointMismatchError` unless an array has `num` rows like `like`."""
    want = (num, *like.shape[1:])
    is_array = isinstance(array, np.ndarray)
    if not is_array or array.shape != want or array.dtype != like.dtype:
        refuse(
            where,
            f"{array.dtype} {array.shape}" if is_array else _kind(array),
            f"{like.dtype} {want}",
            HINT,
        )


def refuse(where: str, got: str, want: str, hint: str | None = None) -> None:
    """Raises `CheckpointMismatchError` with the given text."""
    raise CheckpointMismatchError(where, got, want, hint)


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
