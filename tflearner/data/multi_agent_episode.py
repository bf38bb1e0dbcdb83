"""Records of all agents of one environment: observations, actions and rewards."""

import os
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.data import lookback_buffer
from tflearner.data.lookback_buffer import Indices, LookbackBuffer
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.errors import BatchError, UsageError
from tflearner.types import AgentID, EpisodeID, ModuleID, StateDict

Slice = slice  # In the class below `slice` is a method.
Who = AgentID | Collection[AgentID] | None  # One agent, or several; `None` for all.

MultiAgentDict = Mapping[AgentID, Any]
MappingFn = Callable[[AgentID, "MultiAgentEpisode"], ModuleID]
ALL = "__all__"  # The key that ends the episode for all agents.


class MultiAgentEpisode:
    """A trajectory of several agents that may join, act and leave at different times.

    Each agent has a `SingleAgentEpisode` of its own, in `agent_episodes`. For each of
    its observations the episode also stores the environment step, which connects the
    agent's steps with those of the environment. `len()` counts environment steps.

    A step of an agent begins with its action and is complete with its next observation.
    Until then the step is *hanging*, over one or more environment steps: its rewards
    add up, and it is not part of the agent's episode. Three more rules:

    * If the agent or the episode ends without an observation, the agent's last
      observation and info complete the hanging step. After a termination that
      observation has no effect. After a truncation it replaces the missing one; RLlib
      raises there.
    * A reward without a hanging step is added to the agent's next step, or to its last
      one if there is no next. If the agent never acts, it is ignored.
    * If an episode is cut or sliced, a step belongs to the part in which it is
      completed. That part starts with the observation on which the agent acted.

    >>> episode = MultiAgentEpisode()
    >>> episode.add_env_reset({"white": 0})
    >>> episode.add_env_step({"black": 1}, {"white": 7}, {"white": 0.5})
    >>> episode.add_env_step({"white": 2}, {"black": 8}, {"white": 0.25})
    >>> len(episode), episode.get_agents_to_act(), episode.get_rewards()
    (2, ['white'], {'white': [0.75]})
    >>> episode.add_env_step(
    ...     {}, {"white": 9}, {"white": 1.0, "black": -1.0}, terminateds={"__all__": True}
    ... )
    >>> [(e.agent_id, len(e)) for e in episode.single_agent_episodes()]
    [('white', 2), ('black', 1)]

    Args:
        id_: The episode's id, shared by all its chunks; random by default.
        agent_to_module_mapping_fn: Function of an agent's id and this episode that
            returns the id of the module that acts for the agent. It is called once per
            agent, at its first observation. By default the default module acts for all.
        observation_space: Gymnasium spaces of observations by agent, used to fill
            items.
        action_space: Gymnasium spaces of actions by agent, used to fill items.
    """

    def __init__(
        self,
        id_: EpisodeID | None = None,
        *,
        agent_to_module_mapping_fn: MappingFn | None = None,
        observation_space: Mapping[AgentID, Any] | None = None,
        action_space: Mapping[AgentID, Any] | None = None,
    ):
        self.id_ = id_ or os.urandom(16).hex()
        self.agent_to_module_mapping_fn = agent_to_module_mapping_fn
        self.observation_space = observation_space or {}
        self.action_space = action_space or {}
        self.env_t_started = 0  # Environment steps before this chunk.
        self.env_t = 0  # Environment steps up to the end of this chunk.
        self.is_terminated = False
        self.is_truncated = False
        self.agent_episodes: dict[AgentID, SingleAgentEpisode] = {}
        # When each observation came, lookback included: ascending environment steps.
        self._observed_at: dict[AgentID, list[int]] = {}
        self._hanging: dict[AgentID, tuple[Any, Mapping]] = {}  # Action, model outputs.
        self._hanging_rewards: dict[AgentID, float] = {}

    def __len__(self) -> int:
        """Returns the number of environment steps of this chunk."""
        return self.env_t - self.env_t_started

    def __repr__(self) -> str:
        steps = {agent_id: len(e) for agent_id, e in self.agent_episodes.items()}
        return (
            f"MultiAgentEpisode(len={len(self)}, agent_steps={steps}, "
            f"env_t_started={self.env_t_started}, done={self.is_done}, id_={self.id_!r})"
        )

    @property
    def agent_ids(self) -> list[AgentID]:
        """The agents with an observation so far, in the order of their first one."""
        return list(self.agent_episodes)

    @property
    def is_done(self) -> bool:
        """Whether the episode was terminated or truncated, for all agents."""
        return self.is_terminated or self.is_truncated

    @property
    def is_reset(self) -> bool:
        """Whether the episode was reset."""
        return bool(self.agent_episodes) or self.env_t > 0

    @property
    def is_numpy(self) -> bool:
        """Whether the columns of the agents' episodes are arrays."""
        episodes = self.agent_episodes.values()
        return bool(episodes) and all(episode.is_numpy for episode in episodes)

    def env_steps(self) -> int:
        """Returns the number of environment steps, as `len()`."""
        return len(self)

    def agent_steps(self) -> int:
        """Returns the number of complete steps of all agents, without the lookback."""
        return sum(len(episode) for episode in self.agent_episodes.values())

    def module_for(self, agent_id: AgentID) -> ModuleID:
        """Returns the id of the module that acts for an agent.

        Raises:
            BatchError: If `agent_to_module_mapping_fn` returns anything but a module
                id.
        """
        if agent_id in self.agent_episodes:
            return str(self.agent_episodes[agent_id].module_id)
        if self.agent_to_module_mapping_fn is None:
            return DEFAULT_MODULE_ID
        module_id = self.agent_to_module_mapping_fn(agent_id, self)
        if not isinstance(module_id, str) or not module_id:
            raise BatchError(
                f"agent_to_module_mapping_fn({agent_id!r}, episode)",
                repr(module_id),
                "the id of a module, a str",
            )
        return module_id

    def get_agents_to_act(self) -> list[AgentID]:
        """Returns the agents that have an observation to act on."""
        return [
            agent_id
            for agent_id, episode in self.agent_episodes.items()
            if not (self.is_done or episode.is_done or agent_id in self._hanging)
        ]

    def get_agents_that_stepped(self) -> list[AgentID]:
        """Returns the agents that got an observation in the last step or reset."""
        return [a for a, times in self._observed_at.items() if times[-1] == self.env_t]

    def single_agent_episodes(self) -> list[SingleAgentEpisode]:
        """Returns the agents' episodes that have complete steps, as used in training.

        Each has an `agent_id`, a `module_id` and a `multi_agent_episode_id`.
        """
        return [episode for episode in self.agent_episodes.values() if len(episode)]

    def validate(self) -> None:
        """Checks that the columns and environment steps of all agents agree.

        Raises:
            BatchError: If they disagree; names the agent or the column.
        """
        for agent_id, episode in self.agent_episodes.items():
            episode.validate()
            times = self._observed_at.get(agent_id, [])
            want = len(episode.observations) + episode.observations.lookback
            if len(times) != want or times != sorted({*times}):
                raise BatchError(
                    f"episode {self.id_!r}, agent {agent_id!r}",
                    f"observations at environment steps {times}",
                    f"{want} ascending steps, one for each observation",
                )

    # Growing.

    def add_env_reset(
        self, observations: MultiAgentDict, infos: MultiAgentDict | None = None
    ) -> None:
        """Adds the results of `env.reset()` by agent, without copying.

        Agents without an observation join later; their infos are ignored.

        Raises:
            BatchError: If there is no observation, or an argument is not a dict.
            UsageError: If the episode was reset before.
        """
        where = f"episode {self.id_!r}.add_env_reset()"
        if self.is_reset:
            raise UsageError(
                where,
                f"a second reset, at env_t={self.env_t}",
                "one reset per episode",
                "make a new MultiAgentEpisode after each reset of the environment",
            )
        infos = infos or {}
        _check_dicts(where, observations=observations, infos=infos)
        if not observations:
            raise BatchError(where, "no observations", "one for at least one agent")
        self._join(
            {a: self._begun(a, o, infos.get(a)) for a, o in observations.items()}
        )

    def add_env_step(
        self,
        observations: MultiAgentDict,
        actions: MultiAgentDict,
        rewards: MultiAgentDict,
        infos: MultiAgentDict | None = None,
        *,
        terminateds: MultiAgentDict | None = None,
        truncateds: MultiAgentDict | None = None,
        extra_model_outputs: MultiAgentDict | None = None,
    ) -> None:
        """Adds the results of one `env.step(actions)` by agent, without copying.

        Args:
            observations: Observations after this step. An agent joins with its first
                one. Infos without an observation are ignored.
            actions: Actions of the agents that had an observation to act on.
            rewards: Rewards of this step.
            infos: The info dicts that came with the observations.
            terminateds: Whether the task ended, by agent; "__all__" for the episode. If
                neither dict has that key, the episode ends when all its agents are
                done.
            truncateds: Whether it was cut off, by agent; "__all__" for the episode.
            extra_model_outputs: By acting agent, the other outputs of its module,
                {name: value}. The names are equal in all steps of an agent.

        Raises:
            BatchError: If an agent acts without a new observation, gets two
                observations without acting, gets data after its end, or completes a
                step without a reward. Also if an argument is not a dict, or the names
                in `extra_model_outputs` differ between steps.
            UsageError: If the episode is done, not reset or in NumPy form.
        """
        where = f"episode {self.id_!r}.add_env_step()"
        self._check_open("add_env_step")
        if self.is_numpy:
            raise UsageError(
                where,
                "an episode in NumPy form",
                "one in growing form",
                "add steps before `to_numpy()`, or to the chunk that `cut()` returns",
            )
        infos, extra = infos or {}, extra_model_outputs or {}
        terminateds, truncateds = terminateds or {}, truncateds or {}
        _check_dicts(where, observations=observations, actions=actions, rewards=rewards)
        _check_dicts(where, infos=infos, terminateds=terminateds, truncateds=truncateds)
        _check_dicts(where, extra_model_outputs=extra)
        self._check_agents(observations, actions, rewards, extra)
        new = {
            agent_id: self._begun(agent_id, observation, infos.get(agent_id))
            for agent_id, observation in observations.items()
            if agent_id not in self.agent_episodes
        }

        self.env_t += 1
        for agent_id, action in actions.items():
            self._hanging[agent_id] = action, extra.get(agent_id) or {}
        for agent_id, reward in rewards.items():
            if agent_id in self._hanging_rewards:
                reward = self._hanging_rewards[agent_id] + reward
            self._hanging_rewards[agent_id] = reward
        for agent_id, observation in observations.items():
            if agent_id not in new:
                self._complete(agent_id, observation, infos.get(agent_id))
        self._join(new)
        self._end(terminateds, truncateds)

    def _begun(
        self, agent_id: AgentID, observation: Any, info: dict | None
    ) -> SingleAgentEpisode:
        """Returns the new episode of an agent with its first observation."""
        episode = SingleAgentEpisode(
            observation_space=self.observation_space.get(agent_id),
            action_space=self.action_space.get(agent_id),
            agent_id=agent_id,
            module_id=self.module_for(agent_id),
            multi_agent_episode_id=self.id_,
        )
        episode.add_env_reset(observation, info)
        return episode

    def _join(self, new: dict[AgentID, SingleAgentEpisode]) -> None:
        """Adds agents whose episodes have just begun."""
        self.agent_episodes |= new
        self._observed_at |= {agent_id: [self.env_t] for agent_id in new}

    def _complete(self, agent_id: AgentID, observation: Any, info: Any) -> None:
        """Moves an agent's hanging step, with its rewards, into the agent's episode."""
        action, extra = self._hanging.pop(agent_id)
        self.agent_episodes[agent_id].add_env_step(
            observation,
            action,
            self._hanging_rewards.pop(agent_id, 0.0),
            info,
            extra_model_outputs=extra,
        )
        self._observed_at[agent_id].append(self.env_t)

    def _end(self, terminateds: Mapping, truncateds: Mapping) -> None:
        """Ends the agents' episodes that are over, and this one if all are over."""
        for agent_id, episode in self.agent_episodes.items():
            terminated, truncated = (
                bool(flags.get(agent_id) or flags.get(ALL))
                for flags in (terminateds, truncateds)
            )
            if episode.is_done or not (terminated or truncated):
                continue
            if agent_id in self._hanging:
                self._complete(
                    agent_id, episode.get_observations(-1), episode.get_infos(-1)
                )
            reward = self._hanging_rewards.pop(agent_id, None)
            if reward is not None and len(episode):
                episode.set_rewards(episode.get_rewards(-1) + reward, at_indices=-1)
            episode.is_terminated, episode.is_truncated = terminated, truncated
        self.is_terminated = bool(terminateds.get(ALL))
        self.is_truncated = bool(truncateds.get(ALL))
        if ALL not in {**terminateds, **truncateds}:
            episodes = self.agent_episodes.values()
            if all(episode.is_done for episode in episodes):
                self.is_terminated = any(episode.is_terminated for episode in episodes)
                self.is_truncated = not self.is_terminated

    def to_numpy(self) -> "MultiAgentEpisode":
        """Converts all agents' columns to arrays in place and returns the episode."""
        # All are converted before the first is replaced: an error changes nothing.
        self.agent_episodes = {
            agent_id: episode.copy().to_numpy()
            for agent_id, episode in self.agent_episodes.items()
        }
        return self

    # Reading. `None` stands for all items except the lookback.

    def get_observations(
        self,
        indices: Indices = None,
        agent_ids: Who = None,
        *,
        env_steps: bool = True,
        neg_index_as_lookback: bool = False,
    ) -> dict[AgentID, Any]:
        """Returns observations by agent: one for an int index, else a list or arrays.

        Agents without an observation at these indices are omitted.

        Args:
            indices: An int, a slice or a list of ints; `None` selects all except the
                lookback. Negative indices count from the end and reach into the
                lookback.
            agent_ids: One agent or several; by default all.
            env_steps: Whether the indices count environment steps. Then 0 is the
                observation of the reset (or of the step before this chunk), and -1 that
                of the last step. Otherwise indices count each agent's own steps.
            neg_index_as_lookback: Whether negative indices count from the end of the
                lookback instead: -1 is the environment step before 0.

        Raises:
            IndexError: If an int is out of range of the environment steps.
        """
        where = indices, neg_index_as_lookback
        return self._get("get_observations", 1, where, agent_ids, env_steps)

    def get_infos(
        self,
        indices: Indices = None,
        agent_ids: Who = None,
        *,
        env_steps: bool = True,
        neg_index_as_lookback: bool = False,
    ) -> dict[AgentID, Any]:
        """Returns infos by agent; arguments as for `get_observations`."""
        where = indices, neg_index_as_lookback
        return self._get("get_infos", 1, where, agent_ids, env_steps)

    def get_actions(
        self,
        indices: Indices = None,
        agent_ids: Who = None,
        *,
        env_steps: bool = True,
        neg_index_as_lookback: bool = False,
    ) -> dict[AgentID, Any]:
        """Returns actions of complete steps by agent.

        Arguments are those of `get_observations`. An environment step as index finds
        the actions that were taken in it: index 0 stands for the actions on
        observations 0.
        """
        where = indices, neg_index_as_lookback
        return self._get("get_actions", 0, where, agent_ids, env_steps)

    def get_rewards(
        self,
        indices: Indices = None,
        agent_ids: Who = None,
        *,
        env_steps: bool = True,
        neg_index_as_lookback: bool = False,
    ) -> dict[AgentID, Any]:
        """Returns summed rewards of agents' steps; arguments as in `get_actions`."""
        where = indices, neg_index_as_lookback
        return self._get("get_rewards", 0, where, agent_ids, env_steps)

    def get_extra_model_outputs(
        self,
        key: str | None = None,
        indices: Indices = None,
        agent_ids: Who = None,
        *,
        env_steps: bool = True,
        neg_index_as_lookback: bool = False,
    ) -> dict[AgentID, Any]:
        """Returns extra model outputs by agent.

        Arguments are those of `get_actions`, and `key`, the name of an output. Without
        it the outputs are nested by name.

        Raises:
            KeyError: If a selected agent has no output of that name.
        """
        method, where = "get_extra_model_outputs", (indices, neg_index_as_lookback)
        return self._get(method, 0, where, agent_ids, env_steps, key)

    def get_return(self) -> float:
        """Returns the sum of all agents' rewards in complete steps."""
        return sum(episode.get_return() for episode in self.agent_episodes.values())

    def _get(
        self,
        method: str,
        extra_items: int,
        where: tuple[Indices, bool],
        agent_ids: Who,
        env_steps: bool,
        *args: Any,
    ) -> dict[AgentID, Any]:
        """Calls a getter of the agents' episodes and returns its results by agent.

        Args:
            extra_items: 1 for columns with one item more than there are steps, else 0.
            where: Indices, and whether negative ones count from the lookback's end.
            *args: The method's arguments before the indices.
        """
        if isinstance(agent_ids, str) or not isinstance(agent_ids, Collection | None):
            agent_ids = [agent_ids]
        steps = self._env_steps(extra_items).get(*where) if env_steps else None
        items = {}
        for agent_id, episode in self.agent_episodes.items():
            if agent_ids is not None and agent_id not in agent_ids:
                continue
            if steps is not None:
                lookback = episode.observations.lookback
                num = lookback + len(episode) + extra_items
                times = self._observed_at[agent_id][:num]
                at = {time: i - lookback for i, time in enumerate(times)}
                found = [at[time] for time in np.ravel(steps).tolist() if time in at]
                if not found:
                    continue
                where = found if np.ndim(steps) else found[0], True
            indices, from_lookback = where
            items[agent_id] = getattr(episode, method)(
                *args, indices, neg_index_as_lookback=from_lookback
            )
        return items

    def _env_steps(self, extra_items: int) -> LookbackBuffer:
        """Returns the environment steps of a column, with the longest lookback."""
        now = self.env_t_started
        first = min((times[0] for times in self._observed_at.values()), default=now)
        first = min(first, now)
        return LookbackBuffer(np.arange(first, self.env_t + extra_items), now - first)

    # Parts and joins.

    def cut(self, len_lookback_buffer: int = 0) -> "MultiAgentEpisode":
        """Returns a new empty chunk that continues this episode, in growing form.

        The chunk has the agents that are not done. Each has its last observation, its
        hanging step and, as lookback, its last `len_lookback_buffer` steps.

        Raises:
            UsageError: If the episode is done or not reset.
        """
        self._check_open("cut")
        return self._chunk(
            {
                agent_id: episode.cut(len_lookback_buffer)
                for agent_id, episode in self.agent_episodes.items()
                if not episode.is_done
            },
            self.env_t,
            self.env_t,
        )

    def slice(
        self, slice_: Slice, *, len_lookback_buffer: int | None = None
    ) -> "MultiAgentEpisode":
        """Returns a range of environment steps as an episode, sharing arrays.

        Agents that were done before the range or joined after it are omitted.

        Args:
            slice_: The environment steps, lookback excluded, as in `episode[2:5]`.
            len_lookback_buffer: The number of each agent's earlier steps to keep as
                lookback, if they exist; by default as many as in this episode.

        Raises:
            UsageError: If `slice_` is not a slice or has a step other than 1.
        """
        lookback_buffer.check_slice(f"episode {self.id_!r}", slice_)
        first, last, _ = slice_.indices(len(self))
        begin = self.env_t_started + first
        end = self.env_t_started + max(first, last)
        parts = {}
        for agent_id, episode in self.agent_episodes.items():
            times = self._observed_at[agent_id][episode.observations.lookback :]
            was_done = episode.is_done and times[-1] <= begin and first > 0
            if times[0] <= end and not was_done:
                steps = [max(0, bisect_right(times, at) - 1) for at in (begin, end)]
                parts[agent_id] = episode.slice(
                    Slice(*steps), len_lookback_buffer=len_lookback_buffer
                )
        return self._chunk(parts, begin, end)

    def __getitem__(self, slice_: Slice) -> "MultiAgentEpisode":
        return self.slice(slice_)

    def copy(self) -> "MultiAgentEpisode":
        """Returns a copy that changes independently; arrays are shared."""
        return self.slice(Slice(None))

    def _chunk(
        self, agent_episodes: dict[AgentID, SingleAgentEpisode], begin: int, end: int
    ) -> "MultiAgentEpisode":
        """Returns a chunk of the environment steps from `begin` to `end`."""
        chunk = type(self)(
            self.id_,
            agent_to_module_mapping_fn=self.agent_to_module_mapping_fn,
            observation_space=self.observation_space,
            action_space=self.action_space,
        )
        chunk.env_t_started, chunk.env_t = begin, end
        chunk.agent_episodes = agent_episodes
        for agent_id, part in agent_episodes.items():
            whole, times = self.agent_episodes[agent_id], self._observed_at[agent_id]
            # Where the first observation of the part, lookback included, is in `times`.
            first = part.t_started - part.rewards.lookback
            first -= whole.t_started - whole.rewards.lookback
            num = len(part.observations) + part.observations.lookback
            chunk._observed_at[agent_id] = times[first : first + num]
        if end == self.env_t:
            chunk.is_terminated = self.is_terminated
            chunk.is_truncated = self.is_truncated
            chunk._hanging = dict(self._hanging)
            chunk._hanging_rewards = dict(self._hanging_rewards)
        return chunk

    def concat_episode(self, other: "MultiAgentEpisode") -> None:
        """Appends the next chunk; the episode is in NumPy form if either is.

        Raises:
            UsageError: If this episode is done or not reset, or `other` is not its next
                chunk, for one agent or for all.
            BatchError: If arrays differ in shape or kind.
        """
        self._check_open("concat_episode")
        where = f"episode {self.id_!r}.concat_episode()"
        live = [a for a, episode in self.agent_episodes.items() if not episode.is_done]
        missing = [
            agent_id for agent_id in live if agent_id not in other.agent_episodes
        ]
        got_t = f"a chunk from env_t={other.env_t_started}"
        for fits, got, want in (
            (
                other.id_ == self.id_,
                f"a chunk of {other.id_!r}",
                f"one of {self.id_!r}",
            ),
            (other.env_t_started == self.env_t, got_t, f"one from env_t={self.env_t}"),
            (not missing, f"a chunk without {missing}", "all agents that are not done"),
        ):
            if not fits:
                raise UsageError(where, got, want)
        other.validate()
        # All agents are joined before the first is replaced: an error changes nothing.
        joined = self.copy()
        for agent_id, part in other.agent_episodes.items():
            times = other._observed_at[agent_id]
            if agent_id not in joined.agent_episodes:
                joined.agent_episodes[agent_id] = part.copy()
                joined._observed_at[agent_id] = list(times)
                continue
            joined.agent_episodes[agent_id].concat_episode(part)
            joined._observed_at[agent_id] += times[part.observations.lookback + 1 :]
        if self.is_numpy or other.is_numpy:
            joined.to_numpy()
        joined._hanging = dict(other._hanging)
        joined._hanging_rewards = dict(other._hanging_rewards)
        joined.env_t = other.env_t
        joined.is_terminated = other.is_terminated
        joined.is_truncated = other.is_truncated
        vars(self).update(vars(joined))

    # State.

    def get_state(self) -> StateDict:
        """Returns the episode as plain Python and NumPy, without spaces and mapping."""
        return {
            "id_": self.id_,
            "env_t_started": self.env_t_started,
            "env_t": self.env_t,
            "is_terminated": self.is_terminated,
            "is_truncated": self.is_truncated,
            "agent_episodes": {
                a: e.get_state() for a, e in self.agent_episodes.items()
            },
            "observed_at": {a: list(times) for a, times in self._observed_at.items()},
            "hanging": dict(self._hanging),
            "hanging_rewards": dict(self._hanging_rewards),
        }

    @classmethod
    def from_state(cls, state: StateDict, **kwargs: Any) -> "MultiAgentEpisode":
        """Returns an episode made from a state of `get_state`.

        Args:
            state: The result of `get_state`.
            **kwargs: Mapping and spaces, as for the constructor.
        """
        episode = cls(state["id_"], **kwargs)
        for name in ("env_t_started", "env_t", "is_terminated", "is_truncated"):
            setattr(episode, name, state[name])
        for agent_id, agent_state in state["agent_episodes"].items():
            episode.agent_episodes[agent_id] = SingleAgentEpisode.from_state(
                agent_state,
                observation_space=episode.observation_space.get(agent_id),
                action_space=episode.action_space.get(agent_id),
            )
        episode._observed_at = {a: list(t) for a, t in state["observed_at"].items()}
        episode._hanging = {a: tuple(step) for a, step in state["hanging"].items()}
        episode._hanging_rewards = dict(state["hanging_rewards"])
        episode.validate()
        return episode

    def _check_open(self, method: str) -> None:
        if self.is_done or not self.is_reset:
            raise UsageError(
                f"episode {self.id_!r}.{method}()",
                "an episode that is done" if self.is_done else "an unreset episode",
                "an episode that is reset and not done",
            )

    def _check_agents(
        self,
        observations: MultiAgentDict,
        actions: MultiAgentDict,
        rewards: MultiAgentDict,
        extra: MultiAgentDict,
    ) -> None:
        """Checks that each agent may get the data of a step."""
        for agent_id in {**observations, **actions, **rewards}:
            episode = self.agent_episodes.get(agent_id)
            acts, sees = agent_id in actions, agent_id in observations
            hangs = agent_id in self._hanging
            names, names_before = (extra.get(agent_id) or {}).keys(), None
            if episode is not None and len(episode.rewards.data):
                names_before = episode.extra_model_outputs.keys()
            hint = None
            if episode is not None and episode.is_done:
                got, want = "data for an agent that is done", "none"
            elif episode is None and acts:
                got, want = "an action", "an observation before it"
            elif acts and hangs:
                got, want = "a second action", "an observation after the first"
            elif acts and sees and agent_id not in rewards:
                got, want = "an action and an observation", "a reward with them"
            elif episode is not None and sees and not (acts or hangs):
                got, want = "a second observation", "an action on the first"
                hint = "give observations only to agents that are to act on them"
            elif acts and names_before is not None and names != names_before:
                got = f"extra_model_outputs {sorted(names)}"
                want = f"{sorted(names_before)}, as in the steps before"
            else:
                continue
            where = f"episode {self.id_!r}, agent {agent_id!r} at env_t={self.env_t}"
            raise BatchError(where, got, want, hint)


def _check_dicts(where: str, **arguments: Any) -> None:
    for name, value in arguments.items():
        if not isinstance(value, Mapping):
            raise BatchError(
                f"{where}, {name}", type(value).__name__, "a dict by agent id"
            )
