"""The environment runner for single agents: one module, N environments."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import tree
from gymnasium.vector import VectorEnv

from tflearner.checks import is_int
from tflearner.columns import Columns
from tflearner.connectors.actions import GetActions
from tflearner.connectors.connector import MEMORY, STARTS, ConnectorV2
from tflearner.constants import DEFAULT_MODULE_ID, INPUT_ENV_SINGLE_SPACES
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.env import blas_threads, normalizing, vector_env
from tflearner.env.env_runner import RNG, EnvRunner, ModulesById, StopWatch
from tflearner.env.rollout import Cut, Rollout
from tflearner.env.vector_stepper import VectorStep, VectorStepper
from tflearner.errors import ModuleError, UsageError
from tflearner.modules import acting
from tflearner.spaces import mask_spaces
from tflearner.spaces.mask_spaces import ACTION_MASK


class SingleAgentEnvRunner(EnvRunner):
    """Samples episodes with one module in N environments at once.

    Each vector step is one call of the policy for all environments. An episode that is
    not over when `sample()` returns continues in the next call, under the same id.
    Episodes hold the observations that the module saw, behind the connectors. They hold
    the module's actions, in front of the connectors, and all its other outputs.

    A module with a state gets its initial state at the start of each episode, and after
    that the state it has output last. Episodes keep the states as STATE_OUT. Continued
    episodes have at least one step of lookback, which holds the state they start from.
    Memories of connector pieces begin and continue in the same way.

    After an error nothing of that `sample()` is kept. The next call starts new
    episodes, in new environments if the runner made the old ones.

    Args:
        config: An `AlgorithmConfig`, or the `RunnerSettings` of one.
        module: The `RLModule` that acts, or a `NumpyPolicy`. It is not copied: weights
            that a learner changes are used from the next `sample()` on.
        env_to_module: The connector pipeline from observations to the module.
        module_to_env: The connector pipeline from the module's outputs to actions; not
            needed if the module outputs actions.
        env: A vector environment that `make_vector_env` has made for this config; the
            runner uses and closes it. By default the runner makes one.
        stop_watch: Sampling raises `BrokenOff` once this watch has run out.

    Attributes:
        env: The vector environment; `None` after an error, until the next `sample()`.
    """

    def __init__(
        self,
        *,
        config: Any,
        module: Any = None,
        env_to_module: Any = None,
        module_to_env: Any = None,
        env: VectorEnv | None = None,
        stop_watch: StopWatch | None = None,
    ):
        super().__init__(
            config=config,
            module=module,
            env_to_module=env_to_module,
            module_to_env=module_to_env,
            stop_watch=stop_watch,
        )
        # If the config brings a vector environment, its maker closes it.
        self._owns_env = not isinstance(config.env, VectorEnv)
        self._stopped = False
        self._seed_of_reset: int | None = None
        self._set_actor()
        self._use(self._make_env() if env is None else env)

    @property
    def env_name(self) -> str:
        return self._env_name

    def get_spaces(self):
        """Returns the environments' spaces, and those of every module that may act."""
        spaces = self._spaces
        seen = getattr(self.env_to_module, "observation_space", None)
        return {
            INPUT_ENV_SINGLE_SPACES: spaces,
            DEFAULT_MODULE_ID: (spaces[0] if seen is None else seen, spaces[1]),
        }

    def set_modules(self, modules: ModulesById) -> None:
        super().set_modules(modules)
        self._set_actor()

    def _set_actor(self) -> None:
        module = self.module
        # Own pieces in front of `GetActions`, or in its place, may change what actions are
        # drawn from.
        pieces = getattr(self.module_to_env, "connectors", ())
        draws = not pieces or type(pieces[0]) is GetActions
        self._actor: Any = (
            None if module is None else acting.make_actor(module, draws=draws)
        )
        self._is_stateful = module is not None and module.is_stateful()

    def warnings(self) -> Iterable[str]:
        return normalizing.warnings_of(self.env, self.env_name)

    def _make_env(self) -> VectorEnv:
        self._stop_watch.is_in_env = True
        try:
            return vector_env.make_configured(self.config)
        finally:
            self._stop_watch.is_in_env = False

    def _use(self, env: VectorEnv) -> None:
        self.env: Any = env
        self.num_envs = env.num_envs
        self._env_name = vector_env.shown_name(self.config.env, env)
        self._spaces = env.single_observation_space, env.single_action_space
        self._stepper: Any = None  # Made for the first reset.
        self._needs_reset = self._needs_seed = True

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[SingleAgentEpisode]:
        """Steps the environments and returns every step taken, exactly once.

        Args:
            num_timesteps: Stop at the first vector step with which the environments
                have taken so many steps together, and return whole and unfinished
                episodes. Steps that only reset an environment do not count.
                `rollout_fragment_length` steps of each environment by default.
            num_episodes: Reset, and return exactly so many whole episodes. How many of
                each environment is fixed beforehand: with the first ones to end, short
                episodes would be preferred.
            explore: Whether to explore; `config.explore` by default.
            random_actions: Whether to draw actions from the action space, and not by
                the module. Masks of actions are respected. With a stateful module, the
                next call starts new episodes, because it has not seen these steps.
            force_reset: Whether to abandon unfinished episodes and start new ones.

        Returns:
            Episodes in NumPy form, in the order of environments, then time.

        Raises:
            EnvStepError: If an environment raised in `reset` or `step`.
            EnvContractError: If it returned what its spaces or gymnasium forbid.
            UsageError: For arguments that do not fit, or after `stop()`.
        """
        if self._stopped:
            raise UsageError("sample()", "a call after stop()")
        if self._actor is None and not random_actions:
            raise UsageError(
                "sample()",
                "no module",
                "one, or random_actions=True for acting without",
            )
        if num_timesteps is not None and num_episodes is not None:
            raise UsageError(
                "sample()", "num_timesteps and num_episodes", "one of them"
            )
        for name, num in zip(
            ("num_timesteps", "num_episodes"), (num_timesteps, num_episodes)
        ):
            if num is not None and not is_int(num, 1):
                raise UsageError("sample()", f"{name}={num!r}", "an int >= 1")
        explore = self.config.explore if explore is None else explore
        if not random_actions:
            self._actor.refresh()
        started = time.perf_counter()
        try:
            if self.env is None:
                self._use(self._make_env())
            if force_reset or num_episodes is not None or self._needs_reset:
                self._reset(explore)
            if random_actions:
                self.env.action_space.seed(int(self._rng.integers(2**31)))
            with blas_threads.controller().limit(limits=1, user_api="blas"):
                cut, seconds = self._sample(
                    num_timesteps, num_episodes, explore, random_actions
                )
        except BaseException:
            self._stop_watch.is_in_env = False
            self.abandon()
            raise
        seconds["sample_s"] = time.perf_counter() - started
        num_env_steps = sum(map(len, cut.episodes))
        self.log_sampled(cut.returns, cut.lengths, num_env_steps, seconds)
        return cut.episodes

    def _reset(self, explore: bool) -> None:
        # Cleared before use: a seed with which `reset()` fails would fail every time.
        seed, self._seed_of_reset = self._seed_of_reset, None
        if seed is None and self._needs_seed:
            seed = int(self._rng.integers(2**31))
        watch = self._stop_watch
        if self._stepper is None:
            self._stepper = VectorStepper(self.env)
        if watch.has_run_out:
            watch.check()
        watch.is_in_env = True
        obs, infos = self._stepper.reset(seed=seed)
        watch.is_in_env = False
        spaces = self.get_spaces()[DEFAULT_MODULE_ID]
        self._rollout = Rollout(
            self.num_envs,
            lookback=max(self.config.episode_lookback_horizon, self._is_stateful),
            resets_in_next_step=self._stepper.resets_in_next_step,
            observation_space=spaces[0],
            action_space=spaces[1],
        )
        self._first_memory = None
        if isinstance(self.env_to_module, ConnectorV2):
            first = self.env_to_module.get_initial_memory()
            self._first_memory = None if first is None else self._for_each_env(first)
        self._ended_memories: list[Any] = []
        obs, self._memory = self._through(
            obs, explore, np.ones(self.num_envs, bool), self._first_memory
        )
        self._rollout.start(obs, infos)
        self._state = self._initial_state()
        self._needs_reset = self._needs_seed = False

    def _sample(
        self,
        num_timesteps: int | None,
        num_episodes: int | None,
        explore: bool,
        random_actions: bool,
    ) -> tuple[Cut, dict[str, float]]:
        rollout, stepper, clock = self._rollout, self._stepper, time.perf_counter
        num_envs, watch = self.num_envs, self._stop_watch
        episodes_left = None
        if num_episodes is None:
            left = num_timesteps or self.config.rollout_fragment_length * num_envs
        else:
            left = num_episodes
            episodes_left = [(left + i) // num_envs for i in range(num_envs)]
        act_s = env_step_s = 0.0
        max_episodes = episodes_left and list(episodes_left)
        while left > 0:
            t_0 = clock()
            outputs, actions = self._act(rollout.obs, explore, random_actions)
            t_1 = clock()
            if watch.has_run_out:
                watch.check()
            watch.is_in_env = True
            step = stepper.step(actions)
            watch.is_in_env = False
            t_2 = clock()
            rollout.add(outputs, step, self._module_obs(outputs, step, explore))
            if self._is_stateful and not random_actions:
                state = outputs[Columns.STATE_OUT]
                if len(step.starting):
                    state = _restarted(state, self._initial_state(), step.starting)
                self._state = state
            if episodes_left is None:
                left -= step.num_env_steps
            else:
                for i in step.done.tolist():
                    left -= episodes_left[i] > 0
                    episodes_left[i] -= 1
            act_s += t_1 - t_0 + clock() - t_2
            env_step_s += t_2 - t_1
        cut = rollout.cut(
            lambda obs: self._final_obs(obs, explore), max_episodes=max_episodes
        )
        # Other environments may be amid an episode of which nothing was returned.
        self._needs_reset = num_episodes is not None or (
            random_actions and self._is_stateful
        )
        return cut, {"act_s": act_s, "env_step_s": env_step_s}

    def _module_obs(self, outputs: dict, step: VectorStep, explore: bool) -> Any:
        """Returns the observations after a step as the module sees them."""
        memory = self._memory
        if memory is not None:
            memory = self.env_to_module.remember(
                memory, outputs[Columns.ACTIONS], step.rewards, np
            )
            if step.final_obs is not None:
                rows = tree.map_structure(lambda x: x[step.done], memory)
                self._ended_memories.append(rows)
            if len(step.starting):
                memory = _restarted(memory, self._first_memory, step.starting)
        starts = np.zeros(self.num_envs, bool)
        starts[step.starting] = True
        obs, self._memory = self._through(step.obs, explore, starts, memory)
        return obs

    def _final_obs(self, obs: Any, explore: bool) -> Any:
        """Returns the last observations of episodes as the module would see them."""
        memory, ended = None, self._ended_memories
        if ended:
            memory = tree.map_structure(lambda *rows: np.concatenate(rows), *ended)
            self._ended_memories = []
        starts = np.zeros(len(tree.flatten(obs)[0]), bool)
        return self._through(obs, explore, starts, memory)[0]

    def _through(
        self, obs: Any, explore: bool, starts: np.ndarray, memory: Any
    ) -> tuple[Any, Any]:
        """Returns observations behind `env_to_module`, and the memory after them."""
        if not self.env_to_module:  # `None` or no piece in it.
            return obs, memory
        shared_data = {RNG: self._rng, STARTS: starts}
        if memory is not None:
            shared_data[MEMORY] = memory
        batch = {Columns.OBS: obs}
        batch = self._connect(self.env_to_module, batch, explore, shared_data)
        return batch[Columns.OBS], shared_data.get(MEMORY)

    def _act(
        self, obs: Any, explore: bool, random_actions: bool
    ) -> tuple[dict[str, Any], Any]:
        """Returns the columns to keep and the actions for the environments."""
        if random_actions:
            if self._stepper.has_masks:
                space = self.env.single_action_space
                actions = mask_spaces.random_actions(obs[ACTION_MASK], space, self._rng)
            else:
                actions = self.env.action_space.sample()
            return {Columns.ACTIONS: actions}, actions
        batch = {Columns.OBS: obs}
        if self._is_stateful:
            batch[Columns.STATE_IN] = self._state
        outputs = self._actor(batch, explore=explore, rng=self._rng)
        if self.module_to_env:
            outputs = self._connect(
                self.module_to_env, outputs, explore, {RNG: self._rng}
            )
        if Columns.ACTIONS not in outputs:
            raise ModuleError(
                f"module {type(self.module).__name__}",
                f"outputs {sorted(outputs)}",
                f"{Columns.ACTIONS!r} among them",
                "put it out, or pass a module_to_env pipeline that draws actions",
            )
        if self._is_stateful and Columns.STATE_OUT not in outputs:
            raise ModuleError(
                f"module {type(self.module).__name__}",
                f"outputs {sorted(outputs)} of a module with a state",
                f"{Columns.STATE_OUT!r} among them",
                "put the next state out under that name, in the structure of "
                "get_initial_state()",
            )
        return outputs, outputs.get(Columns.ACTIONS_FOR_ENV, outputs[Columns.ACTIONS])

    def _initial_state(self) -> Any:
        """Returns the state at the start of an episode, for all environments."""
        if not self._is_stateful:
            return None
        return self._for_each_env(self.module.get_initial_state())

    def _for_each_env(self, nest: Any) -> Any:
        """Returns the arrays of a nest once for each environment. [N, ...]."""
        return tree.map_structure(
            lambda x: np.repeat(np.asarray(x)[None], self.num_envs, axis=0), nest
        )

    def _connect(
        self, pipeline: Any, batch: dict[str, Any], explore: bool, shared_data: dict
    ) -> dict[str, Any]:
        return pipeline(
            rl_module=self.module,
            batch=batch,
            episodes=[],
            explore=explore,
            shared_data=shared_data,
            metrics=self.metrics,
        )

    def end_episodes(self, seed: int) -> None:
        """Ends all running episodes, as truncated.

        Their steps were returned by `sample()` already. They do not count as episodes:
        their returns are not those of whole ones.

        Args:
            seed: With it the next `sample()` resets every environment.
        """
        self._needs_reset, self._seed_of_reset = True, seed

    def stop(self) -> None:
        """Closes the environments, unless the config brought a vector environment."""
        self._stopped = True
        env, self.env = self.env, None
        if self._owns_env and env is not None:
            vector_env.close_vector_env(env)

    def abandon(self) -> None:
        """Closes the environments after an error; the next `sample()` makes new ones."""
        self._needs_reset = True
        if self._owns_env and self.env is not None:
            env, self.env = self.env, None
            vector_env.close_vector_env(env, broken=True)


def _restarted(nest: Any, first: Any, starting: np.ndarray) -> Any:
    """Returns a copy of a nest of [N, ...] with other rows where episodes start."""

    def with_first(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[starting] = rows[starting]
        return array

    return tree.map_structure(with_first, nest, first)
