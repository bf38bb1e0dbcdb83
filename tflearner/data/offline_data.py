"""The data of an offline algorithm: episodes, columns, or an iterator of batches."""

import copy
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from tflearner.columns import Columns
from tflearner.data.multi_agent_episode import MultiAgentEpisode
from tflearner.data.sample_batch import MultiAgentBatch
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.errors import SpaceError, UsageError, shown

EPISODES, COLUMNS, BATCHES = "episodes", "columns", "batches"
_WANTED = "a list of episodes, columns by name, or an iterable of batches"
_EPISODE = SingleAgentEpisode | MultiAgentEpisode


class OfflineData:
    """Recognises the kind of given data, and draws from them.

    Args:
        data: A list of episodes, a batch as for `update_from_batch`, or an iterable as
            for `update_from_iterator`. Not changed.

    Attributes:
        kind: `EPISODES`, `COLUMNS` or `BATCHES`.
        data: The data; episodes in NumPy form.
        num_steps: The number of steps; 0 for batches, which come one by one.
    """

    def __init__(self, data: Any):
        self.data = data
        self.num_steps = 0
        is_list = isinstance(data, list | tuple)
        if is_list and all(isinstance(item, _EPISODE) for item in data):
            self.kind = EPISODES
            self.data = [_in_numpy_form(episode) for episode in data]
            self.num_steps = sum(map(len, data))
        elif isinstance(data, Mapping | MultiAgentBatch):
            self.kind = COLUMNS
            try:
                self.num_steps = _num_rows(data)
            except (
                TypeError,
                AttributeError,
                ValueError,
                LookupError,
                StopIteration,
            ) as error:
                raise UsageError(
                    "data", shown(data), "columns by name, or by module id and name"
                ) from error
        elif isinstance(data, np.ndarray):
            raise UsageError("data", shown(data), _WANTED)
        else:
            self.kind = BATCHES
        if self.kind != BATCHES and not self.num_steps:
            raise UsageError("data", "0 steps", "episodes or columns with steps")

    def drawn(self, num_steps: int, rng: np.random.Generator) -> list[Any]:
        """Draws episodes at random, each at most once.

        Args:
            num_steps: The least number of steps that the episodes have together, if
                there are as many.
            rng: The random generator.
        """
        if num_steps >= self.num_steps:
            return self.data
        order = rng.permutation(len(self.data))
        ends = np.cumsum([len(self.data[index]) for index in order])
        number = int(np.searchsorted(ends, num_steps)) + 1
        return [self.data[index] for index in order[:number]]

    def get_spaces(self) -> tuple[gym.Space, gym.Space]:
        """Returns an observation space and an action space that fit the data.

        If the first episode has spaces, these are returned. Otherwise observations get
        a Box, from 0 to 255 if they are uint8, else without bounds. Integer actions get
        a Discrete, others a Box without bounds.

        Raises:
            SpaceError: If the data do not determine the spaces.
        """
        if self.kind == EPISODES and isinstance(self.data[0], SingleAgentEpisode):
            first = self.data[0]
            spaces = first.observations.space, first.actions.space
            if None not in spaces:
                return spaces
            columns: list[Mapping[str, Any]] = [
                {
                    Columns.OBS: episode.get_observations(),
                    Columns.ACTIONS: episode.get_actions(),
                }
                for episode in self.data
            ]
        else:
            columns = [self.data] if isinstance(self.data, Mapping) else [{}]
        names = Columns.OBS, Columns.ACTIONS
        observations, actions = ([own.get(n) for own in columns] for n in names)
        return _box_of(observations), _space_of(actions)


def _in_numpy_form(episode: Any) -> Any:
    return episode if episode.is_numpy else copy.deepcopy(episode).to_numpy()


def _num_rows(data: Any) -> int:
    if isinstance(data, MultiAgentBatch):
        return max(map(len, data.policy_batches.values()), default=0)
    if Columns.OBS not in data:  # By module.
        return max((_num_rows(own) for own in data.values()), default=0)
    if Columns.SEQ_LENS in data:
        return int(np.sum(data[Columns.SEQ_LENS]))
    column = data.get(Columns.ACTIONS, data[Columns.OBS])
    while isinstance(column, Mapping | tuple):
        column = (
            next(iter(column.values())) if isinstance(column, Mapping) else column[0]
        )
    return len(column)


def _box_of(arrays: list[Any]) -> gym.Space:
    first = arrays[0]
    if not isinstance(first, np.ndarray) or first.dtype.kind not in "fiub":
        raise _unknown("observations", first)
    if first.dtype == np.uint8:
        return gym.spaces.Box(0, 255, first.shape[1:], np.uint8)
    return gym.spaces.Box(-np.inf, np.inf, first.shape[1:], np.float32)


def _space_of(arrays: list[Any]) -> gym.Space:
    first = arrays[0]
    if isinstance(first, np.ndarray) and first.dtype.kind == "f":
        return gym.spaces.Box(-np.inf, np.inf, first.shape[1:], np.float32)
    is_number = isinstance(first, np.ndarray) and first.dtype.kind in "iu"
    if not is_number or first.ndim != 1:
        raise _unknown("actions", first)
    return gym.spaces.Discrete(1 + max(int(own.max()) for own in arrays))


def _unknown(what: str, found: Any) -> SpaceError:
    return SpaceError(
        f"data, {what}",
        f"a {type(found).__name__} and an unknown space",
        "arrays of numbers",
        "name the spaces: config.environment(observation_space=..., action_space=...)",
    )
