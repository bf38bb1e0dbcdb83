"""Steps vector environments in the same way for all autoreset modes.

gymnasium's vector environments start the next episode in the step that ends the last
one (SAME_STEP), in the step after it (NEXT_STEP), or when they are told to (DISABLED).

Shapes: `N` is the number of environments, `D` of those whose episode a step ended.
"""

import multiprocessing.connection
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tree
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv

from tflearner.env import vector_env
from tflearner.env.guarded_env import FAILURE, NEW_EPISODES, name_of_step
from tflearner.env.worker_env import LateError
from tflearner.errors import EnvContractError, EnvError, EnvStepError
from tflearner.spaces import mask_spaces
from tflearner.spaces.leaves import WHOLE, bounds_of, leaf_spaces, named_leaves
from tflearner.spaces.mask_spaces import ACTION_MASK

Infos = dict[str, Any] | list[dict[str, Any]]  # gymnasium's form, or one dict each.

_FINAL_KEYS = ("final_obs", "final_info", "_final_obs", "_final_info")
_NO_INDEX: np.ndarray = np.zeros(0, np.int64)


class VectorStep(NamedTuple):
    """The results of one step of a vector environment; all arrays are copies.

    Attributes:
        obs: What to act on next. [N, ...].
        rewards: float64 [N].
        terminateds: bool [N].
        truncateds: bool [N].
        infos: The infos that belong to `obs`.
        num_env_steps: How many environments took a step; the others were reset.
        done: Indices of the environments whose episode ended. int [D].
        final_obs: The last observations of these episodes, [D, ...]; `None` if `obs`
            has them, because the next step will be the reset.
        final_infos: The infos that belong to `final_obs`, D dicts; or `None`.
        starting: Indices of the environments of which `obs` is the first of an episode.
    """

    obs: Any
    rewards: np.ndarray
    terminateds: np.ndarray
    truncateds: np.ndarray
    infos: Infos
    num_env_steps: int
    done: np.ndarray
    final_obs: Any = None
    final_infos: list[dict[str, Any]] | None = None
    starting: np.ndarray = _NO_INDEX


class VectorStepper:
    """Steps a vector environment and checks the results.

    Args:
        env: The vector environment; its metadata say when it resets.

    Attributes:
        resets_in_next_step: Whether an environment spends a step on its reset. That step
            ignores its action, has no reward and is not a step of any episode.
        resetting: Which environments will do so in the next step. bool [N].
        has_masks: Whether observations hold masks of the actions.
    """

    def __init__(self, env: VectorEnv):
        self.env = env
        self.num_envs: int = env.num_envs
        self._mode = vector_env.get_autoreset_mode(env)
        self.resets_in_next_step = self._mode is AutoresetMode.NEXT_STEP
        self._action_dtypes = tree.map_structure(
            lambda space: space.dtype, leaf_spaces(env.action_space)
        )
        spaces = env.single_observation_space, env.single_action_space
        self._ranges = [
            (name, path, leaf, *bounds_of(leaf))
            for name, path, leaf in named_leaves(spaces[0], "observation")
            if isinstance(leaf, WHOLE)
        ]
        self.has_masks = mask_spaces.is_masked(*spaces)
        self._forget_episodes()

    def _forget_episodes(self) -> None:
        self.resetting = np.zeros(self.num_envs, bool)
        self._num_resetting = 0
        self._episode_steps = np.zeros(self.num_envs, np.int64)  # For messages.

    def reset(self, *, seed: int | None = None) -> tuple[Any, Infos]:
        """Starts a new episode in every environment.

        Returns:
            Observations [N, ...] and the infos that belong to them.

        Raises:
            EnvStepError: If an environment raised.
            EnvContractError: If it returned what it must not.
        """
        self._forget_episodes()
        obs, infos = self._call("reset", 2, seed=seed)
        obs = map_arrays(np.array, obs)
        self._check_observations(obs)
        self._check_masks(obs)
        return obs, infos

    def step(self, actions: Any) -> VectorStep:
        """Takes a step with actions [N, ...].

        The actions are copied, because environments may change them in place.

        Raises:
            EnvStepError: If an environment raised.
            EnvContractError: If it returned what it must not.
        """
        obs, rewards, terminateds, truncateds, infos = self._call(
            "step", 5, self._copied(actions)
        )
        # Vector environments may return the same arrays again and again.
        obs = map_arrays(np.array, obs)
        rewards = self._column("rewards", rewards, np.float64)
        terminateds = self._column("terminations", terminateds, np.bool_)
        truncateds = self._column("truncations", truncateds, np.bool_)
        self._episode_steps += 1
        num_env_steps = self.num_envs - self._num_resetting
        if self._num_resetting:
            for column in (rewards, terminateds, truncateds, self._episode_steps):
                column[self.resetting] = 0
        self._check_finite("reward", rewards)

        is_done = terminateds | truncateds
        num_done = np.count_nonzero(is_done)
        done, final_obs, final_infos = _NO_INDEX, None, None
        if num_done:
            done = np.nonzero(is_done)[0]
        starting = done
        if self.resets_in_next_step:
            starting = _NO_INDEX
            if self._num_resetting:
                starting = np.nonzero(self.resetting)[0]
            self.resetting, self._num_resetting = is_done, int(num_done)
        elif num_done:
            if self._mode is AutoresetMode.SAME_STEP:
                final_obs, final_infos = self._finals(obs, infos, done)
                infos = {k: v for k, v in infos.items() if k not in _FINAL_KEYS}
            else:
                final_obs, final_infos, infos = self._reset_done(obs, infos, is_done)
            self._check_observations(final_obs, done)
            self._episode_steps[done] = 0
        self._check_observations(obs)
        self._check_masks(obs)
        return VectorStep(
            obs,
            rewards,
            terminateds,
            truncateds,
            infos,
            num_env_steps,
            done,
            final_obs,
            final_infos,
            starting,
        )

    def _finals(self, obs: Any, infos: dict, done: np.ndarray) -> tuple[Any, list]:
        """Returns final observations and infos, read from the infos of the next episodes."""
        finals = infos.get("final_obs")
        if finals is None:
            raise self._contract_error(
                "step() that ended an episode without infos['final_obs']",
                "the last observation, as AutoresetMode.SAME_STEP promises",
            )
        try:
            final_obs = _stack_like(obs, finals, done)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise self._contract_error(
                "step() with infos['final_obs'] of another form than observations"
            ) from error
        final_infos = infos.get("final_info") or {}
        return final_obs, [info_of(final_infos, i) for i in done.tolist()]

    def _reset_done(
        self, obs: Any, infos: Infos, is_done: np.ndarray
    ) -> tuple[Any, list, Infos]:
        """Resets environments whose episode ended, and writes new observations to `obs`."""
        done = np.nonzero(is_done)[0]
        final_obs = map_arrays(lambda x: x[done], obs)
        final_infos = [info_of(infos, i) for i in done.tolist()]
        reset_obs, reset_infos = self._call(
            "reset", 2, options={"reset_mask": is_done.copy()}
        )
        map_arrays(lambda x, new: _put(x, done, new), obs, reset_obs)
        if infos or reset_infos:
            infos = [
                info_of(reset_infos if is_done[i] else infos, i)
                for i in range(self.num_envs)
            ]
        return final_obs, final_infos, infos

    def _copied(self, actions: Any) -> Any:
        dtypes = self._action_dtypes
        if not isinstance(dtypes, dict | tuple):
            return np.array(actions, dtypes)
        return tree.map_structure(
            lambda dtype, own: np.array(own, dtype), dtypes, actions, check_types=False
        )

    def _call(self, name: str, num_values: int, *args: Any, **kwargs: Any) -> tuple:
        try:
            result = getattr(self.env, name)(*args, **kwargs)
        except Exception as error:
            raise self._step_error(name, error) from error
        if not isinstance(result, tuple) or len(result) != num_values:
            got = len(result) if isinstance(result, tuple) else type(result).__name__
            raise self._contract_error(f"{name}() with {got}", f"{num_values} values")
        infos = result[-1]
        if infos:
            if not isinstance(infos, dict):
                got = f"{name}() with infos in a {type(infos).__name__}"
                raise self._contract_error(got, "a dict of arrays [num_envs, ...]")
            if FAILURE in infos:
                failure = next(f for f in infos[FAILURE] if f is not None)
                raise failure.as_error() from failure.error
        return result

    def _column(self, name: str, values: Any, dtype: type) -> np.ndarray:
        column: np.ndarray = np.array(values, dtype)
        if column.shape != (self.num_envs,):
            got = f"step() with {name} of shape {column.shape}"
            raise self._contract_error(got, f"({self.num_envs},)")
        return column

    def _check_observations(self, obs: Any, index: np.ndarray | None = None) -> None:
        """Checks that observations are finite and in the ranges of their spaces.

        Args:
            obs: Observations [N, ...], or [D, ...] of some environments.
            index: The environments that they are from; `None` for all.
        """
        self._check_finite("observation", obs, index)
        for name, path, space, low, high in self._ranges:
            leaf = obs
            for key in path:
                leaf = leaf[key]
            outside = (leaf < low) | (leaf > high)
            if outside.any():
                row, *place = np.argwhere(outside)[0].tolist()
                env = row if index is None else int(index[row])
                raise EnvContractError(
                    name_of_step(env, int(self._episode_steps[env])),
                    f"{name}{''.join(f'[{at}]' for at in place)} = "
                    f"{leaf[(row, *place)]}",
                    f"an element of {space}",
                    NEW_EPISODES,
                )

    def _check_finite(self, what: str, values: Any, index: Any = None) -> None:
        # For few environments this takes half the time of `np.isfinite(values).all()`.
        if isinstance(values, np.ndarray) and (
            values.dtype.kind != "f"
            or np.count_nonzero(np.isfinite(values)) == values.size
        ):
            return
        for path, leaf in tree.flatten_with_path(values):
            leaf = np.asarray(leaf)
            if leaf.dtype.kind != "f" or np.isfinite(leaf).all():
                continue
            row, *place = np.argwhere(~np.isfinite(leaf))[0].tolist()
            env = row if index is None else int(index[row])
            where = "".join(f"[{key!r}]" for key in (*path, *place))
            raise EnvContractError(
                name_of_step(env, int(self._episode_steps[env])),
                f"{what}{where} = {leaf[(row, *place)]}",
                "finite numbers",
                NEW_EPISODES,
            )

    def _check_masks(self, obs: Any) -> None:
        """Checks that masks of running episodes allow an action."""
        if not self.has_masks:
            return
        space = self.env.single_action_space
        bad = mask_spaces.allows_nothing(obs[ACTION_MASK], space) & ~self.resetting
        if bad.any():
            index = int(bad.argmax())
            raise EnvContractError(
                name_of_step(index, int(self._episode_steps[index])),
                "a mask that forbids every action",
                f"one allowed action or more of {space}",
                f"where nothing can be done an episode ends; {NEW_EPISODES}",
            )

    def _contract_error(self, got: str, want: str | None = None) -> EnvContractError:
        return EnvContractError("vector environment", got, want, NEW_EPISODES)

    def _step_error(self, name: str, error: Exception) -> EnvError:
        got = f"{name}() raised {type(error).__name__}: {error}"
        where = "vector environment"
        if isinstance(error, LateError):
            return self._late_error(name, error)
        if isinstance(self.env, AsyncVectorEnv):
            sentinels: list[Any] = [process.sentinel for process in self.env.processes]
            ended = multiprocessing.connection.wait(sentinels, timeout=1.0)
            if ended:
                index = min(sentinels.index(sentinel) for sentinel in ended)
                where = self._name_of_next_step(name, index)
                if isinstance(error, EOFError | ConnectionError):
                    exit_code = self.env.processes[index].exitcode
                    got = f"{name}() that ended its process with exit code {exit_code}"
        return EnvStepError(where, got, hint=NEW_EPISODES)

    def _late_error(self, name: str, error: LateError) -> EnvError:
        where = "vector environment"
        if error.indices:
            where = self._name_of_next_step(name, error.indices[0])
        return EnvStepError(
            where,
            f"{name}() of more than {error.seconds:g} seconds",
            f"at most env_step_timeout_s={error.seconds:g}",
            f"its process was ended; {NEW_EPISODES}",
        )

    def _name_of_next_step(self, name: str, index: int) -> str:
        step = 0 if name == "reset" else int(self._episode_steps[index]) + 1
        return name_of_step(index, step)


def info_of(infos: Infos, index: int) -> dict[str, Any]:
    """Returns the info dict of one environment.

    Args:
        infos: Of all environments. In gymnasium's form "_key" tells which of them have
            "key".
        index: Which environment.
    """
    if isinstance(infos, list):
        return infos[index]
    info = {}
    for key, values in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue
        has_key = infos.get(f"_{key}")
        if has_key is not None and not has_key[index]:
            continue
        info[key] = (
            info_of(values, index) if isinstance(values, dict) else values[index]
        )
    return info


def _put(array: np.ndarray, index: np.ndarray, new: Any) -> None:
    array[index] = np.asarray(new)[index]


def _stack_like(obs: Any, finals: Any, done: np.ndarray) -> Any:
    """Returns final observations of some environments in the form of `obs`.

    Args:
        obs: Observations of all environments. [N, ...].
        finals: An object array of N observations or `None`, as gymnasium makes it; or
            the same form as `obs`.
        done: Which environments. int [D].
    """
    if isinstance(finals, np.ndarray) and finals.dtype == object:
        rows = [finals[i] for i in done.tolist()]
        if not isinstance(obs, np.ndarray):
            rows = tree.map_structure(lambda *leaves: np.array(leaves), *rows)
        return map_arrays(_like, obs, rows)
    return map_arrays(lambda old, new: _like(old, np.asarray(new)[done]), obs, finals)


def _like(obs: np.ndarray, final_obs: Any) -> np.ndarray:
    array = np.array(final_obs, obs.dtype)
    if array.shape[1:] != obs.shape[1:]:
        raise ValueError(f"got shape {array.shape[1:]}, want {obs.shape[1:]}")
    return array


def map_arrays(function: Callable, arrays: Any, *others: Any) -> Any:
    """Applies a function to an array, or to each leaf of nested arrays.

    For one array it is a plain call; `tree.map_structure` takes 5 us.
    """
    if isinstance(arrays, np.ndarray):
        return function(arrays, *others)
    return tree.map_structure(function, arrays, *others, check_types=False)
