"""The contract between an algorithm and what samples its episodes."""

import abc
import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from tflearner.checkpoint import random_state
from tflearner.checkpoint.builders import Given
from tflearner.checkpoint.checkpointable import Checkpointable, telling
from tflearner.checkpoint.kinds import CONFIG, CONNECTOR, ENV_RUNNER, of_kind
from tflearner.constants import (
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_METRICS_LOGGER,
    COMPONENT_MODULE_TO_ENV_CONNECTOR,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    INPUT_ENV_SINGLE_SPACES,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
    TIMERS,
)
from tflearner.errors import UsageError
from tflearner.metrics import MetricsLogger
from tflearner.types import ModuleID, ResultDict, StateDict

RNG = "rng"  # Its key in the state.
_TIMERS = ("env_step_s", "act_s", "sample_s")


class BrokenOff(BaseException):
    """Raised to end sampling early, when its `StopWatch` has run out."""


class StopWatch:
    """Signals that sampling has to end early.

    Attributes:
        has_run_out: Whether sampling has to end; checked between vector steps.
        is_in_env: Whether an environment is running. If so, a signal handler may raise
            `BrokenOff` inside it.
    """

    def __init__(self) -> None:
        self.has_run_out = self.is_in_env = False

    def check(self) -> None:
        """Raises `BrokenOff` if sampling has to end."""
        if self.has_run_out:
            raise BrokenOff


class ModulesById(Protocol):
    """Modules by id: a dict, or a `MultiRLModule`."""

    def __getitem__(self, module_id: ModuleID, /) -> Any: ...

    def __iter__(self) -> Iterator[ModuleID]: ...

    def __len__(self) -> int: ...


@of_kind(
    ENV_RUNNER,
    takes={
        "config": (CONFIG,),
        "env_to_module": (CONNECTOR,),
        "module_to_env": (CONNECTOR,),
    },
)
class EnvRunner(Checkpointable):
    """Base class of environment runners, which sample episodes with modules.

    An algorithm uses a runner in this order:

        runner = config.build_env_runner()        # Makes its environments.
        spaces = runner.get_spaces()              # Those of the environments.
        runner.make_connectors()
        spaces = runner.get_spaces()              # Those of the modules, too.
        runner.set_modules({"default_policy": module})
        episodes = runner.sample(num_timesteps=1_000)
        results = runner.get_metrics()
        runner.stop()

    A class of your own defines `get_spaces`, `sample`, `end_episodes` and `stop`.
    `sample` reports what it has sampled with `log_sampled`. Name the class in the
    config: `config.env_runners(env_runner_cls=MyEnvRunner)`.

    Args:
        config: The settings; each subclass documents which ones it reads.
        module: The module that acts; `set_modules` may give it later.
        env_to_module: The connector pipeline from observations to the module.
        module_to_env: The connector pipeline from the module's outputs to actions.
        stop_watch: Sampling raises `BrokenOff` once this watch has run out.

    Attributes:
        config: The settings.
        module: The module that acts, or `None`.
        env_to_module: The pipeline in front of the module, or `None`.
        module_to_env: The pipeline behind the module, or `None`.
        metrics: The `MetricsLogger` that connectors may log to as well.
        num_envs: How many environments the runner steps.
        env_name: The name of the environment in output.
    """

    num_envs: int = 1

    def __init__(
        self,
        *,
        config: Any,
        module: Any = None,
        env_to_module: Any = None,
        module_to_env: Any = None,
        stop_watch: StopWatch | None = None,
    ):
        self.config = config
        self.module = module
        self.env_to_module = env_to_module
        self.module_to_env = module_to_env
        self.metrics = MetricsLogger()
        self._stop_watch = stop_watch or StopWatch()
        self._rng = np.random.default_rng(np.random.SeedSequence(config.seed))
        self.log_sampled([], [], 0, dict.fromkeys(_TIMERS, 0.0))

    @property
    def env_name(self) -> str:
        """The name of the environment in output, such as its id."""
        env = self.config.env
        return env if isinstance(env, str) else getattr(env, "__name__", "environment")

    # What each class defines.

    @abc.abstractmethod
    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """Returns pairs of an observation space and an action space.

        Returns:
            Under "__env_single__" the spaces of one environment. Under a module's id
            the spaces of that module, which lie behind `env_to_module`. The spaces
            under "default_policy" hold for all modules without an entry.
        """

    @abc.abstractmethod
    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[Any]:
        """Returns episodes, or parts of episodes, that it has just made."""

    @abc.abstractmethod
    def end_episodes(self, seed: int) -> None:
        """Ends all running episodes, as truncated.

        Args:
            seed: With it the next `sample()` resets every environment.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """Gives back what the runner holds; harmless when called again."""

    # What a class may change.

    def abandon(self) -> None:
        """Gives back what the runner holds after an error; raises nothing."""
        with contextlib.suppress(Exception):
            self.stop()

    def make_connectors(self) -> None:
        """Makes the connector pipelines of the config for the environments' spaces."""
        spaces = self.get_spaces()[INPUT_ENV_SINGLE_SPACES]
        self.env_to_module = self.config.build_env_to_module_connector(*spaces)
        self.module_to_env = self.config.build_module_to_env_connector(*spaces)

    def connectors_of(self, module_id: ModuleID) -> tuple[Any, Any]:
        """Returns the pipelines in front of a module and behind it."""
        return self.env_to_module, self.module_to_env

    def set_modules(self, modules: ModulesById) -> None:
        """Gives the runner the modules that act, by id.

        They are not copied: weights that a learner changes are used from the next
        `sample()` on. Here the only module acts, or the one called "default_policy".
        """
        self.module = modules[acting_id(modules)].unwrapped()

    def warnings(self) -> Iterable[str]:
        """Returns what the user should know about the environments, in sentences."""
        return ()

    # What all classes share.

    def log_sampled(
        self,
        returns: Sequence[float],
        lengths: Sequence[int],
        num_env_steps: int,
        seconds: Mapping[str, float],
    ) -> None:
        """Logs what `sample` has just made.

        Args:
            returns: The return of each episode that ended, earlier parts included.
            lengths: The number of steps of each of these episodes.
            num_env_steps: How many steps were taken in all environments.
            seconds: Timers of the results, such as {"sample_s": 0.5}.
        """
        log_value, log_values = self.metrics.log_value, self.metrics.log_values
        window = self.config.metrics_num_episodes_for_smoothing
        log_values(EPISODE_RETURN_MEAN, returns, reduce="mean", window=window)
        log_values(EPISODE_RETURN_MIN, returns, reduce="min", window=window)
        log_values(EPISODE_RETURN_MAX, returns, reduce="max", window=window)
        log_values(EPISODE_LEN_MEAN, lengths, reduce="mean", window=window)
        for count, name, lifetime in (
            (len(returns), NUM_EPISODES, NUM_EPISODES_LIFETIME),
            (num_env_steps, NUM_ENV_STEPS_SAMPLED, NUM_ENV_STEPS_SAMPLED_LIFETIME),
        ):
            log_value(name, count, reduce="sum", clear_on_reduce=True)
            log_value(lifetime, count, reduce="sum")
        for name, value in seconds.items():
            log_value((TIMERS, name), value, reduce="sum", clear_on_reduce=True)

    def get_metrics(self) -> ResultDict:
        """Returns what was measured since the last call, and ends the interval.

        Returns:
            `episode_return_mean`, `_min`, `_max` and `episode_len_mean` over the last
            `metrics_num_episodes_for_smoothing` episodes (NaN before the first one has
            ended), `num_episodes` and `num_env_steps_sampled` of the interval and, with
            `_lifetime`, in all; under `timers` the seconds of the interval spent in
            environments, in acting and in all of `sample()`. Returns and lengths are
            those of the environment's own rewards and steps.
        """
        return self.metrics.reduce(return_stats_obj=False)

    # The state.

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
    ) -> StateDict:
        """Returns the random numbers' state, metrics, connectors' states and weights.

        Environments have no state that could be read, so a runner that restores this
        state starts new episodes, but with other seeds than this one began with.

        Args:
            components: `"rl_module"` among them, or `None`, includes the weights.
            not_components: Components to exclude.
        """
        state = {
            RNG: self._rng.bit_generator.state,
            **{k: p.get_state() for k, p in self.get_checkpointable_components()},
        }
        wanted = components is None or COMPONENT_RL_MODULE in _names(components)
        if wanted and COMPONENT_RL_MODULE not in _names(not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state()
        return state

    def get_ctor_args_and_kwargs(self):
        return (), {
            "config": self.config,
            "module": self.module,
            "env_to_module": self.env_to_module,
            "module_to_env": self.module_to_env,
        }

    def get_checkpointable_components(self):
        connectors = {
            COMPONENT_ENV_TO_MODULE_CONNECTOR: self.env_to_module,
            COMPONENT_MODULE_TO_ENV_CONNECTOR: self.module_to_env,
        }
        return [
            (COMPONENT_METRICS_LOGGER, self.metrics),
            *[(k, own) for k, own in connectors.items() if own and own.has_state],
        ]

    def _arguments_to_save(self):
        # A module built anew would act with other weights: it is the learner's.
        return super()._arguments_to_save() | {"module": Given("the module that acts")}

    def _state_before(self, state):
        # In an algorithm's checkpoint the weights are the learner's.
        has_weights = COMPONENT_RL_MODULE in state
        return self.get_state(not_components=() if has_weights else COMPONENT_RL_MODULE)

    def set_state(self, state: StateDict) -> None:
        """Sets the parts that a state from `get_state` contains.

        Running episodes continue, now with the new weights.

        Raises:
            TFLearnerError: If the state is invalid; nothing is changed then.
        """
        with telling(f"{type(self).__name__}.set_state()"):
            self._check_state(state)
            before = self._state_before(state)
            try:
                self._take_state(state)
            except BaseException:
                self._take_state(before)
                raise

    def _plan_restore(self, state, component):
        # The state of one part, by name as in `get_state`.
        of_runner = {component[0]: state} if len(component) == 1 else {}
        self._check_state(of_runner if component else state)
        return super()._plan_restore(state, component)

    def _check_state(self, state: StateDict) -> None:
        if RNG in state:
            random_state.checked("'rng'", self._rng, state[RNG])
        if COMPONENT_METRICS_LOGGER in state:
            metrics = MetricsLogger()
            metrics.replace_state(state[COMPONENT_METRICS_LOGGER])
            self.metrics.check_mergeable(metrics)
            lifetime = metrics.peek(NUM_ENV_STEPS_SAMPLED_LIFETIME, default=None)
            if type(lifetime) is not int or not 0 <= lifetime < 2**53:
                where = f"metric {NUM_ENV_STEPS_SAMPLED_LIFETIME!r}"
                raise UsageError(where, repr(lifetime), "an int in [0, 2**53)")

    def _take_state(self, state: StateDict) -> None:
        if COMPONENT_RL_MODULE in state:
            self.module.set_state(state[COMPONENT_RL_MODULE])
        if COMPONENT_METRICS_LOGGER in state:
            self.metrics.replace_state(state[COMPONENT_METRICS_LOGGER])
        for name, part in self.get_checkpointable_components():
            if name in state and part is not self.metrics:
                part.set_state(state[name])
        if RNG in state:
            self._rng.bit_generator.state = state[RNG]


def acting_id(modules: ModulesById) -> ModuleID:
    """Returns the id of the module that acts for a single agent."""
    return next(iter(modules)) if len(modules) == 1 else DEFAULT_MODULE_ID


def _names(components: str | Collection[str] | None) -> Collection[str]:
    return (components,) if isinstance(components, str) else components or ()
