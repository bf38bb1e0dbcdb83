"""Records of one agent between a reset and the end: observations, actions and rewards."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tree

from tflearner.data import lookback_buffer
from tflearner.data.lookback_buffer import Indices, LookbackBuffer
from tflearner.errors import BatchError, UsageError, did_you_mean
from tflearner.types import AgentID, EpisodeID, ModuleID, StateDict

Slice = slice  # In the class below `slice` is a method.


class SingleAgentEpisode:
    """A trajectory of one agent: T steps and the T + 1 observations around them.

    An episode has two forms. The growing form keeps lists and takes further steps. The
    NumPy form keeps arrays with one row per step; training reads it, and it takes no
    more steps. If a column is given as an array, the constructor makes the NumPy form
    without copying arrays. No method writes into arrays, so slices and copies share
    them.

    An episode may be a part (chunk) of a longer one, starting at `t_started`. The last
    steps before that may be kept as lookback, which `len()` and indices from 0 upwards
    exclude.

    >>> episode = SingleAgentEpisode()
    >>> episode.add_env_reset(observation=0)
    >>> episode.add_env_step(observation=1, action=7, reward=0.5, terminated=True)
    >>> len(episode), episode.is_done, episode.get_return()
    (1, True, 0.5)
    >>> episode.to_numpy().get_observations()
    array([0, 1])

    Args:
        id_: The episode's id, shared by all its chunks; random by default.
        observations: Lookback + T + 1 observations. Every column is a list or (nested)
            arrays.
        observation_space: Gymnasium space of one observation, used to fill items.
        actions: Lookback + T actions.
        action_space: Gymnasium space of one action, used to fill items.
        rewards: Lookback + T rewards.
        infos: Lookback + T + 1 dicts, always a list; empty dicts by default.
        terminated: Whether the task ended with the last observation.
        truncated: Whether the episode was cut off after the last observation.
        extra_model_outputs: By name, lookback + T further outputs of the module.
        t_started: The number of steps before this chunk; 0 by default.
        len_lookback_buffer: The number of given steps that are lookback; "auto", as in
            RLlib, makes all of them lookback. Pass 0 if the data are the episode
            itself.
        agent_id: The agent's name in a multi-agent environment.
        module_id: The module that acts for this agent.
        multi_agent_episode_id: The id of the `MultiAgentEpisode` with this episode.

    Raises:
        BatchError: If the columns' lengths disagree.
        UsageError: If the lookback is not a count, or all steps of a finished episode
            would be lookback.
    """

    def __init__(
        self,
        id_: EpisodeID | None = None,
        *,
        observations: Any = None,
        observation_space: Any = None,
        actions: Any = None,
        action_space: Any = None,
        rewards: Any = None,
        infos: list[dict] | None = None,
        terminated: bool = False,
        truncated: bool = False,
        extra_model_outputs: Mapping[str, Any] | None = None,
        t_started: int | None = None,
        len_lookback_buffer: int | str = "auto",
        agent_id: AgentID | None = None,
        module_id: ModuleID | None = None,
        multi_agent_episode_id: EpisodeID | None = None,
    ):
        # Unique across processes, forked ones too, at a fifth of what a UUID costs.
        self.id_ = id_ or os.urandom(16).hex()
        self.agent_id = agent_id
        self.module_id = module_id
        self.multi_agent_episode_id = multi_agent_episode_id
        self.t_started = int(t_started or 0)
        self.is_terminated = bool(terminated)
        self.is_truncated = bool(truncated)

        steps = 0 if rewards is None else lookback_buffer.num_rows(rewards)
        lookback = self._checked_lookback(len_lookback_buffer, steps)
        extra = extra_model_outputs or {}
        self.observations = LookbackBuffer(observations, lookback, observation_space)
        self.actions = LookbackBuffer(actions, lookback, action_space)
        self.rewards = LookbackBuffer(rewards, lookback)
        self.extra_model_outputs = {
            key: LookbackBuffer(column, lookback) for key, column in extra.items()
        }
        # Made on first use: a dict per step costs more than everything else.
        self._infos = None if infos is None else LookbackBuffer(list(infos), lookback)
        self._unify_forms()
        self.validate()

    def _unify_forms(self) -> None:
        """Converts all columns to arrays if one is an array, else to own lists."""
        extra = self.extra_model_outputs.values()
        buffers = [self.observations, self.actions, self.rewards, *extra]
        lists = [b for b in buffers if b.data is None or isinstance(b.data, list)]
        for buffer in lists:
            buffer.data = list(buffer.data or ())
            if len(lists) < len(buffers):
                buffer.data = buffer.as_arrays()

    def _checked_lookback(self, lookback: int | str, steps: int) -> int:
        if lookback == "auto":
            if steps and self.is_done:
                raise UsageError(
                    "SingleAgentEpisode(len_lookback_buffer='auto')",
                    f"a finished episode whose {steps} steps would all be lookback",
                    "at least 1 step after the lookback",
                    "pass len_lookback_buffer=0",
                )
            return steps
        if isinstance(lookback, str) or lookback < 0:
            raise UsageError(
                "len_lookback_buffer", repr(lookback), "'auto' or int >= 0"
            )
        return min(lookback, steps)

    def __len__(self) -> int:
        """Returns the number of steps, without the lookback."""
        return len(self.rewards)

    def __repr__(self) -> str:
        return (
            f"SingleAgentEpisode(len={len(self)}, t_started={self.t_started}, "
            f"done={self.is_done}, return={self.get_return():g}, id_={self.id_!r})"
        )

    @property
    def infos(self) -> LookbackBuffer:
        """The info dicts, one per observation."""
        if self._infos is None:
            num = lookback_buffer.num_rows(self.observations.data)
            self._infos = LookbackBuffer(
                [{} for _ in range(num)], self.observations.lookback
            )
        return self._infos

    @property
    def t(self) -> int:
        """The number of steps since the reset, including those before this chunk."""
        return self.t_started + len(self)

    @property
    def is_done(self) -> bool:
        """Whether the episode was terminated or truncated."""
        return self.is_terminated or self.is_truncated

    @property
    def is_reset(self) -> bool:
        """Whether the episode was reset, so that it has an observation."""
        return len(self.observations) > 0

    @property
    def is_numpy(self) -> bool:
        """Whether the columns are arrays."""
        return not isinstance(self.observations.data, list)

    def validate(self) -> None:
        """Checks that the columns' lengths agree.

        Raises:
            BatchError: If they disagree; names the first column that is too short or
                long.
        """
        steps = lookback_buffer.num_rows(self.rewards.data)
        states = lookback_buffer.num_rows(self.observations.data)
        if states != steps + 1 and (states or steps):
            raise self._unequal("observations", states, steps + 1)
        if lookback_buffer.num_rows(self.actions.data) != steps:
            raise self._unequal(
                "actions", lookback_buffer.num_rows(self.actions.data), steps
            )
        for key, buffer in self.extra_model_outputs.items():
            if lookback_buffer.num_rows(buffer.data) != steps:
                raise self._unequal(key, lookback_buffer.num_rows(buffer.data), steps)
        if self._infos is not None and len(self._infos.data) != states:
            raise self._unequal("infos", len(self._infos.data), states)

    def _unequal(self, column: str, got: int, want: int) -> BatchError:
        steps = lookback_buffer.num_rows(self.rewards.data)
        return BatchError(
            f"episode {self.id_!r}, column {column!r}",
            f"{got} items",
            f"{want} for {steps} rewards (lookback included)",
        )

    # Growing.

    def add_env_reset(self, observation: Any, infos: dict | None = None) -> None:
        """Adds the results of `env.reset()`, without copying.

        Raises:
            UsageError: If the episode was reset before, or is in NumPy form.
        """
        self._check_growing("add_env_reset")
        if self.is_reset:
            raise UsageError(
                f"episode {self.id_!r}.add_env_reset()",
                f"a second reset, at t={self.t}",
                "one reset per episode",
                "make a new SingleAgentEpisode after each reset of the environment",
            )
        self.infos.data.append(infos or {})  # First: by default one per observation.
        self.observations.data.append(observation)

    def add_env_step(
        self,
        observation: Any,
        action: Any,
        reward: float,
        infos: dict | None = None,
        *,
        terminated: bool = False,
        truncated: bool = False,
        extra_model_outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds the results of one `env.step(action)`, without copying.

        Args:
            observation: The observation after the action.
            action: The module's action.
            reward: The reward of the action.
            infos: The info dict that came with the observation.
            terminated: Whether the task ended with this observation.
            truncated: Whether the episode was cut off after this observation.
            extra_model_outputs: Further outputs of the module by name, equal names in
                each step.

        Raises:
            UsageError: If the episode is done, not reset or in NumPy form, or the names
                in `extra_model_outputs` differ between steps.
        """
        self._check_growing("add_env_step")
        self._check_open("add_env_step")
        extra = extra_model_outputs or {}
        if extra.keys() != self.extra_model_outputs.keys():
            if self.rewards.data or self.extra_model_outputs:
                raise UsageError(
                    f"episode {self.id_!r}, extra_model_outputs",
                    str(sorted(extra)),
                    f"{sorted(self.extra_model_outputs)}, as in the steps before",
                )
            self.extra_model_outputs = {key: LookbackBuffer([]) for key in extra}
        self.infos.data.append(infos or {})  # First: by default one per observation.
        self.observations.data.append(observation)
        self.actions.data.append(action)
        self.rewards.data.append(reward)
        for key, value in extra.items():
            self.extra_model_outputs[key].data.append(value)
        self.is_terminated = bool(terminated)
        self.is_truncated = bool(truncated)

    def to_numpy(self) -> "SingleAgentEpisode":
        """Converts all columns except infos to arrays in place; returns the episode."""
        extra = self.extra_model_outputs.values()
        buffers = [self.observations, self.actions, self.rewards, *extra]
        # All are stacked before the first is replaced: an error changes nothing.
        arrays = [buffer.as_arrays() for buffer in buffers]
        for buffer, data in zip(buffers, arrays, strict=True):
            buffer.data = data
        return self

    # Reading. `None` stands for all items except the lookback.

    def get_observations(
        self,
        indices: Indices = None,
        *,
        neg_index_as_lookback: bool = False,
        fill: Any = None,
    ) -> Any:
        """Returns one observation for an int index, else a list or arrays of them.

        Args:
            indices: An int, a slice or a list of ints; `None` selects all except the
                lookback. Negative indices count from the end and reach into the
                lookback.
            neg_index_as_lookback: Whether negative indices count from the end of the
                lookback instead: -1 is the item before item 0.
            fill: A number that fills items out of range. Without it, a slice returns
                the existing items, and an int out of range raises.

        Raises:
            IndexError: If an int is out of range and there is no `fill`.
        """
        return self.observations.get(indices, neg_index_as_lookback, fill)

    def get_infos(
        self,
        indices: Indices = None,
        *,
        neg_index_as_lookback: bool = False,
        fill: dict | None = None,
    ) -> Any:
        """Returns infos; arguments as for `get_observations`, with a dict as `fill`."""
        return self.infos.get(indices, neg_index_as_lookback, fill)

    def get_actions(
        self,
        indices: Indices = None,
        *,
        neg_index_as_lookback: bool = False,
        fill: Any = None,
    ) -> Any:
        """Returns actions; arguments as for `get_observations`."""
        return self.actions.get(indices, neg_index_as_lookback, fill)

    def get_rewards(
        self,
        indices: Indices = None,
        *,
        neg_index_as_lookback: bool = False,
        fill: Any = None,
    ) -> Any:
        """Returns rewards; arguments as for `get_observations`."""
        return self.rewards.get(indices, neg_index_as_lookback, fill)

    def get_extra_model_outputs(
        self,
        key: str | None = None,
        indices: Indices = None,
        *,
        neg_index_as_lookback: bool = False,
        fill: Any = None,
    ) -> Any:
        """Returns extra model outputs.

        Arguments are those of `get_observations`, and `key`, the name of an output.
        Without it the outputs are returned by name.

        Raises:
            KeyError: If there is no output of that name.
        """
        if key is None:
            return {
                name: buffer.get(indices, neg_index_as_lookback, fill)
                for name, buffer in self.extra_model_outputs.items()
            }
        if key not in self.extra_model_outputs:
            known = sorted(self.extra_model_outputs)
            raise KeyError(
                f"episode {self.id_!r}: no extra model output {key!r} in {known}; "
                f"{did_you_mean(key, known) or 'nothing like it'}"
            )
        return self.extra_model_outputs[key].get(indices, neg_index_as_lookback, fill)

    def get_return(self) -> float:
        """Returns the sum of the rewards, without the lookback."""
        return float(np.sum(self.get_rewards(), dtype=np.float64))

    # Changing. `None` stands for all items except the lookback.

    def set_observations(
        self,
        new_data: Any,
        at_indices: Indices = None,
        neg_index_as_lookback: bool = False,
    ) -> None:
        """Replaces observations, without writing into the former arrays.

        Args:
            new_data: One observation for an int index, else a list or arrays of them.
            at_indices: Indices as in `get_observations`; all of them must exist.
            neg_index_as_lookback: As in `get_observations`.

        Raises:
            BatchError: If number, shape or kind of the new items do not fit.
            IndexError: If an index is out of range.
        """
        self.observations.set(new_data, at_indices, neg_index_as_lookback)

    def set_actions(
        self,
        new_data: Any,
        at_indices: Indices = None,
        neg_index_as_lookback: bool = False,
    ) -> None:
        """Replaces actions; arguments as for `set_observations`."""
        self.actions.set(new_data, at_indices, neg_index_as_lookback)

    def set_rewards(
        self,
        new_data: Any,
        at_indices: Indices = None,
        neg_index_as_lookback: bool = False,
    ) -> None:
        """Replaces rewards; arguments as for `set_observations`."""
        self.rewards.set(new_data, at_indices, neg_index_as_lookback)

    def set_extra_model_outputs(
        self,
        key: str,
        new_data: Any,
        at_indices: Indices = None,
        neg_index_as_lookback: bool = False,
    ) -> None:
        """Replaces extra model outputs; arguments as for `set_observations`.

        A new `key` makes a new column, whose lookback is filled with zeros.
        """
        if key in self.extra_model_outputs:
            self.extra_model_outputs[key].set(
                new_data, at_indices, neg_index_as_lookback
            )
            return
        if at_indices is not None or lookback_buffer.num_rows(new_data) != len(self):
            raise BatchError(
                f"episode {self.id_!r}, new extra model output {key!r}",
                f"{lookback_buffer.num_rows(new_data)} items at {at_indices}",
                f"{len(self)}, one per step, at None",
            )
        buffer = LookbackBuffer(new_data)
        buffer.data = buffer.as_arrays() if self.is_numpy else list(buffer)
        lookback = self.rewards.lookback
        filled = buffer.get(Slice(-lookback, None), neg_index_as_lookback=True, fill=0)
        self.extra_model_outputs[key] = LookbackBuffer(filled, lookback)

    # Parts and joins.

    def cut(self, len_lookback_buffer: int = 0) -> "SingleAgentEpisode":
        """Returns a new empty chunk that continues this episode, in growing form.

        The chunk starts with the last observation of this one. Its lookback is the last
        `len_lookback_buffer` steps of this one.

        Raises:
            UsageError: If the episode is done or not reset.
        """
        self._check_open("cut")
        lookback = min(len_lookback_buffer, lookback_buffer.num_rows(self.rewards.data))

        def tail(buffer, num):
            last = lookback_buffer.num_rows(buffer.data)
            return lookback_buffer.unstacked(
                lookback_buffer.rows(buffer.data, Slice(last - num, last))
            )

        return self._chunk(
            observations=tail(self.observations, lookback + 1),
            actions=tail(self.actions, lookback),
            rewards=tail(self.rewards, lookback),
            infos=tail(self.infos, lookback + 1),
            extra_model_outputs={
                key: tail(buffer, lookback)
                for key, buffer in self.extra_model_outputs.items()
                if lookback
            },
            t_started=self.t,
            len_lookback_buffer=lookback,
        )

    def slice(
        self, slice_: Slice, *, len_lookback_buffer: int | None = None
    ) -> "SingleAgentEpisode":
        """Returns a range of steps as an episode of the same form, sharing arrays.

        Args:
            slice_: The steps, lookback excluded, as in `episode[2:5]`.
            len_lookback_buffer: The number of earlier steps to keep as lookback, if
                they exist; by default as many as in this episode.

        Raises:
            UsageError: If `slice_` is not a slice or has a step other than 1.
        """
        lookback_buffer.check_slice(f"episode {self.id_!r}", slice_)
        start, stop, _ = slice_.indices(len(self))
        stop = max(start, stop)
        before = self.rewards.lookback
        lookback = before if len_lookback_buffer is None else len_lookback_buffer
        lookback = min(lookback, before + start)
        steps = Slice(before + start - lookback, before + stop)
        states = Slice(steps.start, steps.stop + 1)
        return self._chunk(
            observations=lookback_buffer.rows(self.observations.data, states),
            actions=lookback_buffer.rows(self.actions.data, steps),
            rewards=lookback_buffer.rows(self.rewards.data, steps),
            infos=None if self._infos is None else self._infos.data[states],
            extra_model_outputs={
                key: lookback_buffer.rows(buffer.data, steps)
                for key, buffer in self.extra_model_outputs.items()
            },
            terminated=self.is_terminated and stop == len(self),
            truncated=self.is_truncated and stop == len(self),
            t_started=self.t_started + start,
            len_lookback_buffer=lookback,
        )

    def __getitem__(self, slice_: Slice) -> "SingleAgentEpisode":
        return self.slice(slice_)

    def copy(self) -> "SingleAgentEpisode":
        """Returns a copy that changes independently; arrays are shared."""
        return self.slice(Slice(None))

    def concat_episode(self, other: "SingleAgentEpisode") -> None:
        """Appends the next chunk of this episode, and keeps the form.

        Raises:
            UsageError: If this episode is done or not reset, or `other` has another id,
                does not start where this one ends or has other extra model outputs.
            BatchError: If arrays differ in shape or kind.
        """
        self._check_open("concat_episode")
        where = f"episode {self.id_!r}.concat_episode()"
        if other.id_ != self.id_:
            raise UsageError(where, f"a chunk of {other.id_!r}", f"one of {self.id_!r}")
        if other.t_started != self.t:
            raise UsageError(
                where, f"a chunk from t={other.t_started}", f"one from t={self.t}"
            )
        other.validate()
        if not other.is_reset or not _equal(
            self.get_observations(-1), other.get_observations(0)
        ):
            raise UsageError(
                where,
                "a chunk with another first observation",
                "the last observation of this chunk",
            )
        extra = self.extra_model_outputs
        if not lookback_buffer.num_rows(self.rewards.data):
            none = lookback_buffer.zeros(None, 0) if self.is_numpy else []
            extra = {key: LookbackBuffer(none) for key in other.extra_model_outputs}
        elif len(other) and extra.keys() != other.extra_model_outputs.keys():
            raise UsageError(
                where,
                f"extra_model_outputs {sorted(other.extra_model_outputs)}",
                str(sorted(extra)),
            )
        # All columns are joined before the first is replaced: an error changes nothing.
        after = Slice(1, None)
        pairs = [
            (self.observations, other.get_observations(after)),
            (self.actions, other.get_actions()),
            (self.rewards, other.get_rewards()),
            (self.infos, other.get_infos(after)),
        ]
        if len(other):
            pairs += [(extra[key], other.get_extra_model_outputs(key)) for key in extra]
        new = [
            (buffer, lookback_buffer.joined(buffer.data, data))
            for buffer, data in pairs
        ]
        for buffer, data in new:
            buffer.data = data
        self.extra_model_outputs = extra
        self.is_terminated = other.is_terminated
        self.is_truncated = other.is_truncated

    # State.

    def get_state(self) -> StateDict:
        """Returns the episode as plain Python and NumPy, without its spaces."""
        return {
            "id_": self.id_,
            "agent_id": self.agent_id,
            "module_id": self.module_id,
            "multi_agent_episode_id": self.multi_agent_episode_id,
            "t_started": self.t_started,
            "len_lookback_buffer": self.rewards.lookback,
            "terminated": self.is_terminated,
            "truncated": self.is_truncated,
            "observations": _unshared(self.observations.data),
            "actions": _unshared(self.actions.data),
            "rewards": _unshared(self.rewards.data),
            "infos": list(self.infos.data),
            "extra_model_outputs": {
                key: _unshared(buffer.data)
                for key, buffer in self.extra_model_outputs.items()
            },
        }

    @classmethod
    def from_state(
        cls,
        state: StateDict,
        *,
        observation_space: Any = None,
        action_space: Any = None,
    ) -> "SingleAgentEpisode":
        """Returns an episode made from a state of `get_state`."""
        return cls(
            **state, observation_space=observation_space, action_space=action_space
        )

    def _chunk(self, **columns: Any) -> "SingleAgentEpisode":
        """Returns an episode with this episode's id and other data."""
        return type(self)(
            self.id_,
            observation_space=self.observations.space,
            action_space=self.actions.space,
            agent_id=self.agent_id,
            module_id=self.module_id,
            multi_agent_episode_id=self.multi_agent_episode_id,
            **columns,
        )

    def _check_growing(self, method: str) -> None:
        if self.is_numpy:
            raise UsageError(
                f"episode {self.id_!r}.{method}()",
                "an episode in NumPy form",
                "one in growing form",
                "add steps before `to_numpy()`, or to the chunk that `cut()` returns",
            )

    def _check_open(self, method: str) -> None:
        if self.is_done or not self.is_reset:
            raise UsageError(
                f"episode {self.id_!r}.{method}()",
                "an episode that is done" if self.is_done else "an unreset episode",
                "an episode that is reset and not done",
            )


def _unshared(data: Any) -> Any:
    """Returns a copy of a list; arrays, which are never written to, as they are."""
    return list(data) if isinstance(data, list) else data


def _equal(first: Any, second: Any) -> bool:
    """Returns whether two observations have the same structure and numbers."""
    try:
        same = tree.map_structure(np.array_equal, first, second)
    except (TypeError, ValueError):  # Another structure.
        return False
    return all(tree.flatten(same))
