"""A ring buffer of observations, linked to transitions."""

import math
from typing import Any, NamedTuple

import numpy as np

from tflearner.columns import Columns
from tflearner.data import allocation, arrays
from tflearner.data.space_leaves import SpaceLeaves
from tflearner.types import EpisodeID

NONE = -1  # The link of a row without a successor.


class Chunk(NamedTuple):
    """A checked part of an episode.

    Attributes:
        id_: The id of the episode.
        t_started: The number of steps before the chunk.
        observations: One array per leaf. [T + 1, ...].
        actions: One array per leaf. [T, ...].
        rewards: float32 [T].
        terminated: Whether the last step ended the task.
        truncated: Whether the episode was cut off after the last step.
    """

    id_: EpisodeID
    t_started: int
    observations: list[np.ndarray]
    actions: list[np.ndarray]
    rewards: np.ndarray
    terminated: bool
    truncated: bool


class OpenEpisode(NamedTuple):
    """An episode that may continue.

    Attributes:
        position: The position of its last row.
        t: The number of steps before that row.
    """

    position: int
    t: int


class TransitionStore:
    """Keeps the newest `capacity` observations, and links them to transitions.

    Each observation is one row; rows of several episodes interleave as they arrive. A
    row with an action also has the reward, both flags and a link to the row with the
    next observation: together they are a transition. So every observation is stored
    once, and a transition finds its successor in a later chunk, too.

    Rows are numbered in order of arrival, their *position*, and row p lies in *slot*
    p mod capacity. A successor arrives later than the row before it, so it also leaves
    later: the link of a stored row never points to an overwritten one.

    Args:
        capacity: The number of rows to keep; at least 2.
        observations: The leaves of the observations.
        actions: The leaves of the actions.
        directory: The directory of files with observations and actions; `None` keeps
            them in memory.

    Attributes:
        num_added: The number of rows added so far: the position of the next one.
        num_steps_added: The number of steps added so far.
        num_transitions: The number of stored rows with a successor.
        open: The episodes that may continue, by id, in the order of their last rows.
        links: The slots of the rows' successors; arbitrary in slots without a row. int
            [capacity].
    """

    def __init__(
        self,
        capacity: int,
        observations: SpaceLeaves,
        actions: SpaceLeaves,
        directory: str | None = None,
    ):
        self.capacity = capacity
        self.num_added = self.num_steps_added = self.num_transitions = 0
        self.open: dict[EpisodeID, OpenEpisode] = {}
        self.observations, self.actions = (
            [
                allocation.zeros((capacity, *leaf.shape), leaf.dtype, directory)
                for leaf in column.leaves
            ]
            for column in (observations, actions)
        )
        self.rewards = np.zeros(capacity, np.float32)
        self.terminateds = np.zeros(capacity, bool)
        self.truncateds = np.zeros(capacity, bool)
        self.links = np.zeros(capacity, _link_dtype(capacity))

    @staticmethod
    def nbytes_of(
        capacity: int, observations: SpaceLeaves, actions: SpaceLeaves
    ) -> tuple[int, int]:
        """Returns the bytes of observations and actions, and of everything else."""
        of_leaves = sum(
            math.prod(leaf.shape) * leaf.dtype.itemsize
            for leaf in [*observations.leaves, *actions.leaves]
        )
        of_rest = 4 + 1 + 1 + _link_dtype(capacity).itemsize
        return capacity * of_leaves, capacity * of_rest

    @property
    def num_rows(self) -> int:
        """The number of stored rows."""
        return min(self.num_added, self.capacity)

    @property
    def oldest(self) -> int:
        """The position of the oldest stored row."""
        return max(0, self.num_added - self.capacity)

    def append(self, chunk: Chunk) -> tuple[np.ndarray, np.ndarray]:
        """Adds a part of an episode.

        The chunk continues the open episode of its id if that ends at `t_started`.
        Otherwise it starts a new part.

        Returns:
            The slots that were overwritten, and those that got a successor.
        """
        num_steps, last = len(chunk.rewards), self.open.get(chunk.id_)
        goes_on = last is not None and last.t == chunk.t_started
        if goes_on and not num_steps:  # Keeps its place in `open`.
            return np.empty(0, np.int64), np.empty(0, np.int64)
        first = self.num_added - 1 if goes_on else self.num_added
        num_rows = self.num_rows
        rows = np.arange(first, first + num_steps + 1)  # Positions.
        if last is not None:
            del self.open[chunk.id_]
            if goes_on:
                rows[0] = last.position
        self.num_added = first + num_steps + 1
        self.num_steps_added += num_steps

        written = self._write_observations(rows[int(goes_on) :], chunk, num_rows)
        linked = self._write_steps(rows, chunk)
        if not (chunk.terminated or chunk.truncated):
            end = OpenEpisode(int(rows[-1]), chunk.t_started + num_steps)
            self.open[chunk.id_] = end
        self._forget_what_left()
        return written, linked

    def end_episodes(self) -> None:
        """Closes all episodes; their last rows get no successors."""
        self.open.clear()

    def draw(self, num: int, rng: np.random.Generator) -> np.ndarray:
        """Draws the slots of transitions uniformly.

        Args:
            num: The number of slots. The store must have a transition.
            rng: The random generator.

        Returns:
            int64 [num].
        """
        num_rows = self.num_rows
        share = self.num_transitions / num_rows
        found = np.empty(0, np.int64)
        if share > 0.1:
            # Drawn rows without a successor are dropped. Enough are drawn that too few
            # remain in less than one of 1,000 batches.
            num_drawn = int((num + 5 * math.sqrt(num)) / share) + 16
            found = rng.integers(num_rows, size=num_drawn)
            found = found[self._has_link(found)][:num]
        if len(found) < num:
            rest = np.flatnonzero(self.links[:num_rows] != NONE)
            more = rest[rng.integers(len(rest), size=num - len(found))]
            found = np.concatenate([found, more])
        return found

    def positions(self, slots: np.ndarray) -> np.ndarray:
        """Returns the positions of stored rows. int64 [M]."""
        return self.oldest + (slots - self.oldest) % self.capacity

    def transitions(
        self, slots: np.ndarray, *, num_steps: Any, most: int, gamma: float
    ) -> dict[str, Any]:
        """Returns the columns of transitions over several steps.

            reward = r_0 + gamma r_1 + .. + gamma^(n - 1) r_(n - 1)

        n is the given number of steps, or less where the stored part of the episode
        ends earlier.

        Args:
            slots: The first rows; each has a successor. int [B].
            num_steps: The number of steps: an int, or int [B].
            most: The largest number of steps.
            gamma: Discount per step.

        Returns:
            New arrays: OBS, NEXT_OBS and ACTIONS (each a list of leaves), REWARDS
            float32 [B], TERMINATEDS and TRUNCATEDS bool [B], N_STEP float32 [B].
        """
        last = slots
        rewards = self.rewards.take(slots)
        used = np.ones(len(slots), np.int64)
        if most > 1:
            rewards = rewards.astype(np.float64)
        for k in range(1, most):
            after = self.links.take(last)
            goes_on = (num_steps > k) & self._has_link(after)
            if not goes_on.any():
                break
            last = np.where(goes_on, after, last)
            used += goes_on
            later = self.rewards.take(last).astype(np.float64)
            rewards += np.where(goes_on, gamma**k * later, 0.0)
        return {
            Columns.OBS: _taken(self.observations, slots),
            Columns.ACTIONS: _taken(self.actions, slots),
            Columns.REWARDS: _aligned(rewards.astype(np.float32)),
            Columns.NEXT_OBS: _taken(self.observations, self.links.take(last)),
            Columns.TERMINATEDS: _taken([self.terminateds], last)[0],
            Columns.TRUNCATEDS: _taken([self.truncateds], last)[0],
            Columns.N_STEP: _aligned(used.astype(np.float32)),
        }

    def _write_observations(
        self, rows: np.ndarray, chunk: Chunk, num_before: int
    ) -> np.ndarray:
        rows = rows[-self.capacity :]
        slots = rows % self.capacity
        had_row = slots[slots < num_before]
        self.num_transitions -= int(np.count_nonzero(self._has_link(had_row)))
        for leaf, values in zip(self.observations, chunk.observations):
            leaf[slots] = values[len(values) - len(rows) :]
        self.links[slots] = NONE
        return slots

    def _write_steps(self, rows: np.ndarray, chunk: Chunk) -> np.ndarray:
        skip = 0
        if rows[0] < self.oldest:  # Overwritten by the rows of this very chunk.
            skip = int(np.searchsorted(rows, self.oldest))
        rows = rows[skip:]
        slots = rows[:-1] % self.capacity
        for leaf, values in zip(self.actions, chunk.actions):
            leaf[slots] = values[skip:]
        self.rewards[slots] = chunk.rewards[skip:]
        self.terminateds[slots] = self.truncateds[slots] = False
        if len(slots):
            self.terminateds[slots[-1]] = chunk.terminated
            self.truncateds[slots[-1]] = chunk.truncated
        self.links[slots] = rows[1:] % self.capacity
        self.num_transitions += len(slots)
        return slots

    def _has_link(self, slots: np.ndarray) -> np.ndarray:
        return self.links[slots] != NONE

    def _forget_what_left(self) -> None:
        """Removes the open episodes whose last row was overwritten: the first ones."""
        oldest = self.oldest
        while self.open:
            id_ = next(iter(self.open))
            if self.open[id_].position >= oldest:
                return
            del self.open[id_]


def _link_dtype(capacity: int) -> np.dtype:
    return np.dtype(np.int32 if capacity < 2**31 else np.int64)


def _taken(leaves: list[np.ndarray], slots: np.ndarray) -> list[np.ndarray]:
    """Returns rows of all leaves in new aligned arrays."""
    slots = slots.astype(np.int64, copy=False)
    taken = []
    for leaf in leaves:
        out = arrays.empty((len(slots), *leaf.shape[1:]), leaf.dtype)
        # All slots exist; with mode="raise", NumPy would write to a copy of `out` first.
        taken.append(np.take(leaf, slots, axis=0, out=out, mode="clip"))
    return taken


def _aligned(array: np.ndarray) -> np.ndarray:
    out = arrays.empty(array.shape, array.dtype)
    out[...] = array
    return out
