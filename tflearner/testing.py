"""Tools for tests: predictable environments, random data and digests.

Use them to test your own learners, modules and connectors.
"""

import copy
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from tflearner.checkpoint import machine
from tflearner.checkpoint.kinds import declaration_of
from tflearner.columns import Columns
from tflearner.constants import (
    COMPONENT_ENV_RUNNER,
    COMPONENT_METRICS_LOGGER,
    COMPONENT_REPLAY_BUFFER,
    TIMERS,
)
from tflearner.data.multi_agent_episode import MultiAgentEpisode
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.spaces.leaves import leaf_spaces
from tflearner.spaces.mask_spaces import (
    ACTION_MASK,
    is_masked,
    masked_np,
    places_of,
)
from tflearner.types import AgentID

End = tuple[int, str]  # The length of an episode and how it ends.

DEFAULT_ENDS: tuple[End, ...] = ((3, "terminated"), (1, "truncated"), (5, "truncated"))


class CountingEnv(gym.Env):
    """A deterministic environment that counts episodes and steps.

    The observation is (tag, episode, step), the reward 100 * episode + 10 * step +
    action. Lengths and ends of episodes are taken from a list in turn, beginning at
    item `tag`. Nothing is random.

    >>> env = CountingEnv(ends=[(2, "terminated")], tag=7)
    >>> env.reset()
    (array([7., 0., 0.], dtype=float32), {})
    >>> env.step(1)
    (array([7., 0., 1.], dtype=float32), 11.0, False, False, {})
    >>> env.step(0)
    (array([7., 0., 2.], dtype=float32), 20.0, True, False, {})

    Args:
        ends: Length and end of each episode; an end is "terminated", "truncated" or
            "both".
        tag: The first number of observations. A seed given to `reset` replaces it by
            its last three digits, and restarts the count of episodes.
        with_infos: Whether infos hold "episode", and "even" in every other step.
        reuse_array: Whether all observations are one array that changes in place.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def __init__(
        self,
        ends: Sequence[End] = DEFAULT_ENDS,
        *,
        tag: int = 0,
        with_infos: bool = False,
        reuse_array: bool = False,
    ):
        self.ends = tuple(ends)
        self.tag = tag
        self.with_infos = with_infos
        self._array = np.zeros(3, np.float32) if reuse_array else None
        self._episode = -1
        self._step = 0
        self._running = False

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Starts the next episode."""
        super().reset(seed=seed)
        if seed is not None:
            self.tag, self._episode = seed % 1000, -1
        self._episode += 1
        self._step = 0
        self._running = True
        return self._observation(), self._info()

    def step(self, action: Any):
        """Makes one step; raises if the episode is over."""
        if not self._running:
            raise RuntimeError("step() without reset()")
        self._step += 1
        length, end = self.ends[(self.tag + self._episode) % len(self.ends)]
        ends_now = self._step >= length
        self._running = not ends_now
        reward = 100.0 * self._episode + 10.0 * self._step + float(action)
        terminated = ends_now and end in ("terminated", "both")
        truncated = ends_now and end in ("truncated", "both")
        return self._observation(), reward, terminated, truncated, self._info()

    def _observation(self) -> np.ndarray:
        numbers = (self.tag, self._episode, self._step)
        if self._array is None:
            return np.array(numbers, np.float32)
        self._array[:] = numbers
        return self._array

    def _info(self) -> dict[str, Any]:
        if not self.with_infos:
            return {}
        info: dict[str, Any] = {"episode": self._episode}
        return info | ({"even": True} if self._step % 2 == 0 else {})


class CountingVectorEnv(VectorEnv):
    """`CountingEnv`s in a vector environment that is not gymnasium's.

    All its results are arrays that change in place with the next step, which gymnasium
    allows, and `infos["final_obs"]` is one array for all environments.

    Args:
        num_envs: The number of environments.
        autoreset_mode: When they reset; `None` omits it from the metadata.
        **kwargs: Arguments of `CountingEnv`.
    """

    def __init__(
        self,
        num_envs: int = 2,
        autoreset_mode: AutoresetMode | None = AutoresetMode.NEXT_STEP,
        **kwargs: Any,
    ):
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": autoreset_mode} if autoreset_mode else {}
        self._mode = autoreset_mode
        self.envs = [CountingEnv(**kwargs) for _ in range(num_envs)]
        self.single_observation_space = CountingEnv.observation_space
        self.single_action_space = CountingEnv.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._obs = np.zeros((num_envs, 3), np.float32)
        self._final_obs = np.zeros((num_envs, 3), np.float32)
        self._rewards = np.zeros(num_envs, np.float32)
        self._done = np.zeros((2, num_envs), bool)  # Terminated, truncated.

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Resets all environments, or those in `options["reset_mask"]`."""
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        infos: dict[str, Any] = {}
        for i in np.nonzero(mask)[0].tolist():
            self._reset_one(i, infos, None if seed is None else seed + i)
        self._done[:, mask] = False
        if options:  # Only the rows of the mask are valid.
            self._obs[~mask] = -1.0
        return self._obs, infos

    def step(self, actions: Any):
        """Steps all environments, except those that reset instead."""
        infos: dict[str, Any] = {}
        for i, env in enumerate(self.envs):
            if self._mode is AutoresetMode.NEXT_STEP and self._done[:, i].any():
                self._reset_one(i, infos)
                self._rewards[i] = np.nan  # No step, no reward.
                self._done[:, i] = False
                continue
            self._obs[i], self._rewards[i], *self._done[:, i], info = env.step(
                actions[i]
            )
            if self._done[:, i].any() and self._mode is AutoresetMode.SAME_STEP:
                self._final_obs[i] = self._obs[i]
                infos["final_obs"] = self._final_obs
                finals = self._add_info(infos.get("final_info", {}), info, i)
                infos["final_info"] = finals
                self._reset_one(i, infos)
            else:
                self._add_info(infos, info, i)
        return self._obs, self._rewards, self._done[0], self._done[1], infos

    def _reset_one(self, i: int, infos: dict, seed: int | None = None) -> None:
        self._obs[i], info = self.envs[i].reset(seed=seed)
        self._add_info(infos, info, i)


class OddError(Exception):
    """An exception that needs two arguments, and so does not survive pickling."""

    def __init__(self, what: str, why: str):
        super().__init__(f"{what}: {why}")


class EvilEnv(CountingEnv):
    """A `CountingEnv` with one fault, at a known step.

    Args:
        kind: The fault: one of `EvilEnv.KINDS`.
        at: The step of an episode with the fault, from 1; 0 is the reset.
        on_action: The only action with the fault; `None` for any.
        **kwargs: Arguments of `CountingEnv`.
    """

    KINDS = (
        "raise",
        "raise_odd",
        "exit",
        "arity",
        "nan_observation",
        "inf_reward",
        "no_reward",
        "no_flag",
        "no_info",
        "wrong_shape",
        "wrong_dtype",
    )

    def __init__(
        self, kind: str, at: int = 2, *, on_action: int | None = None, **kwargs: Any
    ):
        if kind not in self.KINDS:
            raise ValueError(f"kind={kind!r} is none of {self.KINDS}")
        super().__init__(**{"ends": [(10, "terminated")], **kwargs})
        self.kind, self.at, self.on_action = kind, at, on_action

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Resets the environment; with the fault if `at` is 0."""
        result = super().reset(seed=seed, options=options)
        return self._spoiled(*result) if self.at == 0 else result

    def step(self, action: Any):
        """Makes one step; with the fault in step `at`."""
        result = super().step(action)
        is_wrong = self._step == self.at and self.on_action in (None, int(action))
        return self._spoiled(*result) if is_wrong else result

    def _spoiled(self, observation: np.ndarray, *others: Any) -> Any:
        if self.kind == "raise":
            raise ValueError("100 % evil")
        if self.kind == "raise_odd":
            raise OddError("evil", "on purpose")
        if self.kind == "exit":
            os._exit(13)
        if self.kind == "arity":
            return (observation, *others[:-1])
        if self.kind == "nan_observation":
            observation[2] = np.nan
        elif self.kind == "wrong_shape":
            observation = observation[:2]
        elif self.kind == "wrong_dtype":
            observation = observation.astype(np.complex64)
        *rest, info = others
        if self.kind == "no_info":
            info = None
        elif self.kind == "inf_reward":
            rest[0] = np.inf
        elif self.kind == "no_reward":
            rest[0] = None
        elif self.kind == "no_flag":
            rest[1] = None
        return (observation, *rest, info)


def random_episodes(
    observation_space: gym.Space,
    action_space: gym.Space,
    *,
    ends: Sequence[End] = DEFAULT_ENDS,
    lookback: int = 0,
    seed: int = 0,
) -> list[SingleAgentEpisode]:
    """Returns episodes of random numbers, in growing form.

    Every step comes with an "action_logp" and an "action_dist_inputs" of two numbers.
    An action mask in the observations is random, but allows the action taken.

    Args:
        observation_space: Space of the observations.
        action_space: Space of the actions.
        ends: Length and end of each episode; an end is "terminated", "truncated",
            "both" or, for a chunk that goes on, "cut".
        lookback: The number of lookback steps of each episode.
        seed: Where the random numbers start; the spaces' own are left alone.
    """
    rng = np.random.default_rng(seed)
    observation_space = copy.deepcopy(observation_space)
    action_space = copy.deepcopy(action_space)
    observation_space.seed(seed)
    action_space.seed(seed + 1)
    episodes = []
    for length, end in ends:
        steps = lookback + length
        logp = -rng.random(steps, np.float32)
        dist_inputs = rng.standard_normal((steps, 2), np.float32)
        observations = [observation_space.sample() for _ in range(steps + 1)]
        actions = [action_space.sample() for _ in range(steps)]
        if is_masked(observation_space, action_space):
            start = getattr(action_space, "start", 0)
            for obs, action in zip(observations, [*actions, actions[-1]]):
                own = action - start
                obs[ACTION_MASK] = _random_masks(obs, own, action_space, (), rng)
        episode = SingleAgentEpisode(
            observations=observations,
            actions=actions,
            rewards=rng.standard_normal(steps).tolist(),
            terminated=end in ("terminated", "both"),
            truncated=end in ("truncated", "both"),
            extra_model_outputs={
                "action_logp": list(logp),
                "action_dist_inputs": list(dist_inputs),
            },
            len_lookback_buffer=lookback,
        )
        episodes.append(episode)
    return episodes


def random_multi_agent_episodes(
    spaces: Mapping[AgentID, tuple[gym.Space, gym.Space]],
    *,
    ends: Sequence[End] = DEFAULT_ENDS,
    mapping_fn: Callable[..., str] | None = None,
    see: float = 1.0,
    seed: int = 0,
) -> list[MultiAgentEpisode]:
    """Returns episodes of several agents with random numbers, in growing form.

    Every step comes with an "action_logp" and an "action_dist_inputs" of two numbers.

    Args:
        spaces: Observation and action space of each agent.
        ends: Length in environment steps and end of each episode; an end is
            "terminated", "truncated", "both" or, for a chunk that goes on, "cut".
        mapping_fn: The `agent_to_module_mapping_fn` of the episodes.
        see: The chance that an agent gets an observation in a step: below 1, agents join
            later, act at different times and have hanging steps.
        seed: Where the random numbers start; the spaces' own are left alone.
    """
    rng = np.random.default_rng(seed)
    spaces = copy.deepcopy(dict(spaces))
    for i, space in enumerate(space for pair in spaces.values() for space in pair):
        space.seed(seed + i)

    def observed():
        return {a: spaces[a][0].sample() for a in spaces if rng.random() < see}

    episodes = []
    for length, end in ends:
        episode = MultiAgentEpisode(agent_to_module_mapping_fn=mapping_fn)
        first = next(iter(spaces))
        episode.add_env_reset({first: spaces[first][0].sample(), **observed()})
        for t in range(length):
            acting, is_last = episode.get_agents_to_act(), t == length - 1
            episode.add_env_step(
                observed(),
                {a: spaces[a][1].sample() for a in acting},
                {a: float(rng.standard_normal()) for a in episode.agent_ids},
                terminateds={"__all__": is_last and end in ("terminated", "both")},
                truncateds={"__all__": is_last and end in ("truncated", "both")},
                extra_model_outputs={
                    a: {
                        "action_logp": -rng.random(dtype=np.float32),
                        "action_dist_inputs": rng.standard_normal(2, np.float32),
                    }
                    for a in acting
                },
            )
        episodes.append(episode)
    return episodes


def assert_close(actual: Any, wanted: Any, *, rtol: float = 1e-6, atol: float = 0.0):
    """Asserts that arrays or tensors have equal shapes and nearly equal numbers.

    Args:
        actual: The computed values: NumPy, TensorFlow or plain numbers.
        wanted: The expected values.
        rtol: Allowed difference relative to `wanted`.
        atol: Allowed absolute difference, added to the relative one.

    Raises:
        AssertionError: If they differ; NaN equals NaN.
    """
    actual, wanted = np.asarray(actual), np.asarray(wanted)
    assert actual.shape == wanted.shape, f"{actual.shape} is not {wanted.shape}"
    np.testing.assert_allclose(actual, wanted, rtol=rtol, atol=atol)


def random_batch(module: Any, num_rows: int, *, seed: int = 0) -> dict[str, Any]:
    """Returns a random train batch for PPO and other on-policy losses.

    For a stateful module the columns are sequences [S, T, ...] of `module.max_seq_len`
    steps, zero padded, with lengths that add up to `num_rows`.

    Args:
        module: The `RLModule` whose spaces decide their form.
        num_rows: Length of every column.
        seed: Where the random numbers start; the spaces' own are left alone.
    """
    rng, observed, actions = _sampled(module, num_rows, seed)
    size = module.get_train_action_dist_cls().required_input_dim(module.action_space)
    observations = observed()
    columns = {
        Columns.OBS: observations,
        Columns.ACTIONS: actions,
        Columns.REWARDS: rng.standard_normal(num_rows, np.float32),
        Columns.ACTION_LOGP: -rng.random(num_rows, np.float32),
        Columns.ACTION_DIST_INPUTS: rng.standard_normal((num_rows, size), np.float32),
        Columns.ADVANTAGES: rng.standard_normal(num_rows, np.float32),
        Columns.VALUE_TARGETS: rng.standard_normal(num_rows, np.float32),
    }
    if is_masked(module.observation_space, module.action_space):
        inputs = columns[Columns.ACTION_DIST_INPUTS]
        columns[Columns.ACTION_DIST_INPUTS] = masked_np(inputs, observations)
    if not module.is_stateful():
        return columns
    in_sequences = _in_sequences(columns, num_rows, module.max_seq_len)
    num_seqs = len(in_sequences[Columns.SEQ_LENS])
    return in_sequences | {
        Columns.STATE_IN: tree.map_structure(
            lambda leaf: (
                rng.standard_normal((num_seqs, *leaf.shape), np.float32)
                if leaf.dtype == np.float32
                else np.repeat(leaf[None], num_seqs, axis=0)
            ),
            module.get_initial_state(),
        )
    }


def _in_sequences(columns: dict[str, Any], num_rows: int, length: int) -> dict:
    """Returns rows as zero padded sequences [S, length, ...], and their lengths."""
    num_seqs = -(-num_rows // length)
    padding = num_seqs * length - num_rows
    seq_lens = np.full(num_seqs, length, np.int32)
    seq_lens[-1] -= padding

    def padded(column):
        zeros = np.zeros((padding, *column.shape[1:]), column.dtype)
        shape = (num_seqs, length, *column.shape[1:])
        return np.concatenate([column, zeros]).reshape(shape)

    return tree.map_structure(padded, columns) | {
        Columns.SEQ_LENS: seq_lens,
        Columns.LOSS_MASK: np.arange(length) < seq_lens[:, None],
    }


def random_trajectories(module: Any, num_rows: int, *, seed: int = 0) -> dict[str, Any]:
    """Returns random trajectories that IMPALA can train a module on.

    Pieces of episodes of four rows, or of `module.max_seq_len` for a stateful module.
    The last row of each does not count: it closes the piece. About one step in five of
    those in front of it terminated.

    Args:
        module: The `RLModule` whose spaces decide their form.
        num_rows: How many rows all pieces have, closing rows included.
        seed: Where the random numbers start; the spaces' own are left alone.

    Returns:
        The columns of `random_batch` as sequences [S, T, ...], "terminateds" and
        "loss_mask" bool [S, T], and "seq_lens" int32 [S].
    """
    columns = random_batch(module, num_rows, seed=seed)
    rng = np.random.default_rng([seed, 1])
    if Columns.SEQ_LENS not in columns:
        columns |= _in_sequences(columns, num_rows, 4)
    steps = np.arange(columns[Columns.LOSS_MASK].shape[1])
    last = columns[Columns.SEQ_LENS][:, None] - 1
    mask = steps < last
    ends = (steps == last - 1) & (rng.random(mask.shape) < 0.2)
    return columns | {Columns.LOSS_MASK: mask, Columns.TERMINATEDS: ends}


def random_transitions(module: Any, num_rows: int, *, seed: int = 0) -> dict[str, Any]:
    """Returns random transitions that DQN or SAC can train a module on.

    About one row in five terminated and one in ten was truncated.

    Args:
        module: The `RLModule` whose spaces decide their form; without a state.
        num_rows: Length of every column, N.
        seed: Where the random numbers start; the spaces' own are left alone.

    Returns:
        Columns as a replay buffer draws them: "obs" and "new_obs" [N, ...], "actions"
        [N, ...], "rewards" float32 [N], "terminateds" and "truncateds" bool [N],
        "n_step" float32 [N] from 1 to 3 and "weights" float32 [N] above 0 and up to 1.
    """
    rng, observed, actions = _sampled(module, num_rows, seed)
    ends = rng.random(num_rows)
    return {
        Columns.OBS: observed(),
        Columns.ACTIONS: actions,
        Columns.REWARDS: rng.standard_normal(num_rows, np.float32),
        Columns.NEXT_OBS: observed(),
        Columns.TERMINATEDS: ends < 0.2,
        Columns.TRUNCATEDS: ends > 0.9,
        Columns.N_STEP: rng.integers(1, 4, num_rows).astype(np.float32),
        Columns.WEIGHTS: 1.0 - rng.random(num_rows, np.float32),
    }


def _sampled(module: Any, num_rows: int, seed: int) -> tuple[Any, Callable, Any]:
    """Returns a generator, a function that draws observations, and drawn actions.

    Masks in observations allow the actions and, of the others, every second one.
    """
    rng = np.random.default_rng(seed)
    observation_space = copy.deepcopy(module.observation_space)
    action_space = copy.deepcopy(module.action_space)
    observation_space.seed(seed)
    action_space.seed(seed + 1)
    actions = tree.map_structure(
        lambda space, *rows: np.stack(rows) - getattr(space, "start", 0),
        leaf_spaces(action_space),
        *[action_space.sample() for _ in range(num_rows)],
    )  # Modules count actions from 0.

    def observed() -> Any:
        drawn = [observation_space.sample() for _ in range(num_rows)]
        observations = tree.map_structure(lambda *leaves: np.stack(leaves), *drawn)
        if is_masked(observation_space, action_space):
            observations[ACTION_MASK] = _random_masks(
                observations, actions, action_space, (num_rows,), rng
            )
        return observations

    return rng, observed, actions


def _random_masks(observations, actions, action_space, leading, rng) -> np.ndarray:
    """Returns masks that allow the actions and, of the others, every second one."""
    masks = observations[ACTION_MASK]
    masks = (rng.random(masks.shape) < 0.5).astype(masks.dtype)
    np.put_along_axis(masks, places_of(actions, action_space, leading), 1, axis=-1)
    return masks


def learner_digest(learner: Any) -> str:
    """Returns a hash of a learner's whole state, to show that nothing was changed.

    It covers weights, optimizers, metrics, random numbers, schedules and settings.

    Args:
        learner: A `Learner` that is built.
    """
    return state_digest({"config": repr(learner.config), "state": learner.get_state()})


def run_digest(algo: Any) -> str:
    """Returns a hash of a run's whole state: equal for runs that continue equally.

    It covers the learner as `learner_digest` does, the environment runner, connectors,
    counters and, where there is one, the replay buffer. It excludes measured times, ids
    of episodes, which no seed determines, and settings that belong to a machine.

    Args:
        algo: An `Algorithm`.
    """
    state = algo.get_state()
    del state["seconds"]
    metrics = state[COMPONENT_ENV_RUNNER][COMPONENT_METRICS_LOGGER]
    metrics["stats"] = [s for s in metrics["stats"] if s["key"][0] != TIMERS]
    if COMPONENT_REPLAY_BUFFER in state:
        transitions = state[COMPONENT_REPLAY_BUFFER]["transitions"]
        running = [own for _, *own in transitions["open_episodes"]]
        transitions["open_episodes"] = running
    settings = algo.learner.config.settings()
    defaults = declaration_of(type(algo.learner.config)).machine
    found = machine.found(settings, defaults)
    settings = machine.replaced(settings, {path: defaults[path] for path in found})
    return state_digest({"config": repr(settings), "state": state})


def state_digest(state: Any) -> str:
    """Returns a hash of a state: equal if all bits, types and names are equal.

    Args:
        state: Nested dicts, lists, tuples and sets of arrays and plain Python.
    """
    digest = hashlib.sha256()

    def add(node: Any) -> None:
        if isinstance(node, dict):
            digest.update(f"dict {len(node)}".encode())
            for key, child in node.items():
                digest.update(repr(key).encode())
                add(child)
        elif isinstance(node, list | tuple):
            digest.update(f"{type(node).__name__} {len(node)}".encode())
            for child in node:
                add(child)
        elif isinstance(node, set | frozenset):
            add(sorted(node, key=repr))
        elif isinstance(node, np.ndarray):
            digest.update(f"{node.dtype}{node.shape}".encode() + node.tobytes())
        else:
            digest.update(repr(node).encode())

    add(state)
    return digest.hexdigest()
