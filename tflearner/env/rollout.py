"""Collects vector steps and cuts them into episodes.

Shapes: `N` environments, `T` vector steps. Steps are kept as they come, one dict of
arrays [N, ...] each, and cut into episodes once, so that no Python code runs for each
step of each environment.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from tflearner.columns import Columns
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.env.vector_stepper import Infos, VectorStep, info_of, map_arrays


class Cut(NamedTuple):
    """The episodes of one `Rollout.cut`, and the results of those that ended.

    Attributes:
        episodes: Whole episodes and parts, in the order of environments, then time.
        returns: The return of each episode that ended, steps of earlier parts included.
        lengths: The number of its steps.
    """

    episodes: list[SingleAgentEpisode]
    returns: list[float]
    lengths: list[int]


class Rollout:
    """Keeps the steps of N environments until they are cut into episodes.

    An episode that has not ended continues in the next cut: the same id, a later
    `t_started`, and the last steps before that as lookback.

    Args:
        num_envs: The number of environments.
        lookback: How many steps of lookback a part gets, as far as there are any.
        resets_in_next_step: See `VectorStepper`.
        observation_space: The space of one observation, as it is kept.
        action_space: The space of one action.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        lookback: int,
        resets_in_next_step: bool,
        observation_space: gym.Space | None = None,
        action_space: gym.Space | None = None,
    ):
        self._num_envs = num_envs
        self._lookback = lookback
        self._gap = 1 if resets_in_next_step else 0  # Steps between two episodes.
        self._observation_space = observation_space
        self._action_space = action_space
        self._steps: list[dict[str, Any]] = []

    def start(self, obs: Any, infos: Infos) -> None:
        """Forgets all steps; new episodes begin with the given observations. [N, ...]."""
        num = self._num_envs
        self._steps = []
        self._obs = [obs]  # One more than steps; so are the infos.
        self._infos = [infos]
        self._num_old = 0  # The steps that are in an earlier cut.
        self._finals: list[tuple[int, VectorStep]] = []  # With the index of the step.
        self._starts = [0] * num  # Index of the first step of the next cut.
        # What earlier cuts have of the episodes that continue:
        self._ids: list[str | None] = [None] * num
        self._lengths = [0] * num
        self._returns = [0.0] * num

    @property
    def obs(self) -> Any:
        """The observations to act on next. [N, ...]."""
        return self._obs[-1]

    def add(self, outputs: dict[str, Any], step: VectorStep, obs: Any) -> None:
        """Adds a vector step.

        Args:
            outputs: What the module computed, ACTIONS among it: arrays [N, ...] that
                nobody changes later.
            step: What the environments gave.
            obs: `step.obs` as they are to be kept. [N, ...].
        """
        row = outputs | {
            Columns.REWARDS: step.rewards,
            Columns.TERMINATEDS: step.terminateds,
            Columns.TRUNCATEDS: step.truncateds,
        }
        is_first = len(self._steps) == self._num_old
        if is_first and self._steps and self._steps[0].keys() != row.keys():
            # No lookback: random actions, say, come without the module's outputs.
            self._forget_old(0)
        if step.final_obs is not None:
            self._finals.append((len(self._steps), step))
        self._steps.append(row)
        self._obs.append(obs)
        self._infos.append(step.infos)

    def cut(
        self,
        keep_final_obs: Callable[[Any], Any] | None = None,
        *,
        max_episodes: Sequence[int] | None = None,
    ) -> Cut:
        """Returns the steps since the last cut as episodes.

        Args:
            keep_final_obs: Turns `VectorStep.final_obs` [D, ...] into what is kept.
            max_episodes: If given, only that many whole episodes of each environment
                are returned, and nothing else.
        """
        columns = {
            key: _by_env([r[key] for r in self._steps]) for key in self._steps[-1]
        }
        observations = _by_env(self._obs)
        rewards = columns.pop(Columns.REWARDS)
        terminateds = columns.pop(Columns.TERMINATEDS)
        truncateds = columns.pop(Columns.TRUNCATEDS)
        actions = columns.pop(Columns.ACTIONS)
        rewards_f32 = rewards.astype(np.float32)
        finals = self._final_rows(keep_final_obs)
        has_infos = any(self._infos)

        result = Cut([], [], [])
        for i, start, stop, ends in self._parts(terminateds | truncateds, max_episodes):
            lookback = min(self._lookback, self._lengths[i], self._num_old)
            rows = i, slice(start - lookback, stop)
            states = i, slice(start - lookback, stop + 1)
            obs = _take(observations, states)
            infos: list[dict[str, Any]] | None = None
            if has_infos:
                infos = [info_of(given, i) for given in self._infos[states[1]]]
            if (i, stop - 1) in finals:
                final_obs, final_info = finals[i, stop - 1]
                obs = map_arrays(_with_last, obs, final_obs)
                if has_infos or final_info:
                    infos = infos or [{} for _ in range(lookback + stop - start + 1)]
                    infos[-1] = final_info
            episode = SingleAgentEpisode(
                self._ids[i],
                observations=obs,
                actions=_take(actions, rows),
                rewards=rewards_f32[rows],
                infos=infos,
                terminated=ends and bool(terminateds[i, stop - 1]),
                truncated=ends and bool(truncateds[i, stop - 1]),
                extra_model_outputs={k: _take(v, rows) for k, v in columns.items()},
                t_started=self._lengths[i],
                len_lookback_buffer=lookback,
                observation_space=self._observation_space,
                action_space=self._action_space,
            )
            result.episodes.append(episode)
            self._ids[i] = episode.id_
            self._lengths[i] += stop - start
            self._returns[i] += float(np.add.reduce(rewards[i, start:stop]))
            if ends:
                result.returns.append(self._returns[i])
                result.lengths.append(self._lengths[i])
                self._ids[i], self._lengths[i], self._returns[i] = None, 0, 0.0
        self._forget_old(self._lookback)
        return result

    def _parts(
        self, is_done: np.ndarray, max_episodes: Sequence[int] | None
    ) -> Iterator[tuple[int, int, int, bool]]:
        """Yields environment, first and last step + 1 and whether an episode ends."""
        num_steps = len(self._steps)
        is_done[:, : self._num_old] = False
        ends: list[list[int]] = [[] for _ in range(self._num_envs)]
        for i, t in np.argwhere(is_done).tolist():
            ends[i].append(t)
        for i in range(self._num_envs):
            whole = ends[i] if max_episodes is None else ends[i][: max_episodes[i]]
            for t in whole:
                yield i, self._starts[i], t + 1, True
                self._starts[i] = t + 1 + self._gap
            if self._starts[i] < num_steps and max_episodes is None:
                yield i, self._starts[i], num_steps, False
                self._starts[i] = num_steps

    def _final_rows(self, keep: Callable | None) -> dict[tuple[int, int], tuple]:
        """Returns last observation and info by environment and step."""
        if not self._finals:
            return {}
        final_obs = map_arrays(
            lambda *leaves: np.concatenate(leaves),
            *[step.final_obs for _, step in self._finals],
        )
        if keep is not None:
            final_obs = keep(final_obs)
        keys = [(i, t) for t, step in self._finals for i in step.done.tolist()]
        infos = [info for _, step in self._finals for info in step.final_infos or ()]
        return {key: (_take(final_obs, k), infos[k]) for k, key in enumerate(keys)}

    def _forget_old(self, num_kept: int) -> None:
        """Forgets all steps except the last ones, which become lookback."""
        num_forgotten = max(len(self._steps) - num_kept, 0)
        for rows in (self._steps, self._obs, self._infos):
            del rows[:num_forgotten]
        self._starts = [start - num_forgotten for start in self._starts]
        self._num_old = len(self._steps)
        self._finals = []


def _by_env(rows: list) -> Any:
    """Returns [N, T, ...] for T arrays [N, ...], which may be nested."""
    return map_arrays(
        lambda *arrays: np.ascontiguousarray(np.swapaxes(np.array(arrays), 0, 1)), *rows
    )


def _take(arrays: Any, index: Any) -> Any:
    if isinstance(arrays, np.ndarray):  # Half of the time a call would take.
        return arrays[index]
    return map_arrays(lambda array: array[index], arrays)


def _with_last(array: np.ndarray, last: Any) -> np.ndarray:
    array = array.copy()
    array[-1] = last
    return array
