"""Makes, checks and closes vector environments.

An environment runner always steps N environments at once. Those that are made here are
each wrapped in a `GuardedEnv`, so that a failure is known by environment and step.
"""

import contextlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from tflearner.env import worker_env
from tflearner.env.guarded_env import GuardedEnv
from tflearner.env.masked_env import MaskedEnv, find_masks, no_masks
from tflearner.env.time_limit import time_limit
from tflearner.env.worker_env import WorkerVectorEnv
from tflearner.errors import ConfigError, EnvContractError, EnvError, did_you_mean
from tflearner.spaces.mask_spaces import has_action_mask

EnvSource = str | EnvSpec | VectorEnv | Callable[..., gym.Env | VectorEnv]

_LEAST_S = 0.2  # Time to close one environment, however long others took.
_VECTORIZE_MODES = ("sync", "async", "vector_entry_point")
_CONFIG_NAMES = ("config", "env_config")


def make_configured(config: Any) -> VectorEnv:
    """Returns the vector environment that an `AlgorithmConfig` describes."""
    return make_vector_env(
        config.env,
        env_config=config.env_config,
        num_envs=config.num_envs_per_env_runner,
        vectorize_mode=config.gym_env_vectorize_mode,
        autoreset_mode=config.autoreset_mode,
        action_masks=config.action_masks,
        step_timeout_s=config.env_step_timeout_s,
    )


def make_vector_env(
    env: EnvSource,
    *,
    env_config: Mapping[str, Any] | None = None,
    num_envs: int = 1,
    vectorize_mode: str = "sync",
    autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
    action_masks: str | bool = False,
    step_timeout_s: float | None = None,
) -> VectorEnv:
    """Returns a checked vector environment, made from any description of one.

    Args:
        env: A registered id or its spec; or a class or function that makes an environment or a
            vector environment; or a vector environment, which is returned as it is.
        env_config: Keyword arguments of a registered environment. A class or function
            gets them as one dict if its first argument is required or is called
            `config` or `env_config`, otherwise as keyword arguments.
        num_envs: How many environments to make; of no effect on what is a vector
            environment already.
        vectorize_mode: `"sync"` steps one after the other, `"async"` each in a process
            of its own, `"vector_entry_point"` with the vector environment that is
            registered for the id.
        autoreset_mode: When environments of the first two modes are reset after an
            episode: `"same_step"`, `"next_step"` or `"disabled"` (by the runner).
        action_masks: Whether to put masks of actions that environments of the first two
            modes have elsewhere into their observations: `"auto"` does if there are
            any, which takes a reset to find out, `True` demands masks.
        step_timeout_s: The most seconds that a step or reset of environments in worker
            processes may take; `None` for no limit.

    Raises:
        UsageError: If a worker process is importing the script that started it.
        EnvError: If there is no such environment or it cannot be made.
        EnvContractError: If it lacks what a gymnasium environment has.
        ConfigError: If a mode is unknown.
    """
    vectorize_mode = getattr(vectorize_mode, "value", vectorize_mode)
    if vectorize_mode not in _VECTORIZE_MODES:
        raise ConfigError(
            "gym_env_vectorize_mode", repr(vectorize_mode), f"one of {_VECTORIZE_MODES}"
        )
    if vectorize_mode == "async":
        worker_env.refuse_in_import_of_script(_name(env), any_module=True)
    mode = _as_autoreset_mode(autoreset_mode)
    kwargs = dict(env_config or {})
    if isinstance(env, VectorEnv):
        made: Any = env
    elif isinstance(env, str) and vectorize_mode == "vector_entry_point":
        with _making(env):
            made = gym.make_vec(env, num_envs, vectorize_mode, **kwargs)
    else:
        made = _make_one(env, kwargs)
        if isinstance(env, str):
            # A worker process may not know what was registered at run time.
            env = gym.spec(made.spec.id)
    if not isinstance(made, VectorEnv):
        made = _vectorize(
            env,
            kwargs,
            made,
            num_envs,
            vectorize_mode,
            mode,
            action_masks,
            step_timeout_s,
        )
    elif action_masks is True:
        spaces = made.single_observation_space, made.single_action_space
        if not has_action_mask(*spaces):
            raise no_masks(_name(made), *spaces)
    get_autoreset_mode(made)
    return made


def shown_name(env: EnvSource, made: VectorEnv) -> str:
    """Returns the name of an environment in output: its id, or else its class.

    Args:
        env: The setting that describes it.
        made: The vector environment that `make_vector_env` made from `env`.
    """
    if isinstance(env, str):
        return env
    if isinstance(env, type):
        return env.__name__
    spec = env if isinstance(env, EnvSpec) else made.spec
    if spec is not None:
        return spec.id
    innermost: Any = made.unwrapped
    maker = next(iter(getattr(innermost, "env_fns", ())), None)
    if isinstance(maker, _SubEnvFactory):
        return maker.name
    return _name_of_one(next(iter(getattr(innermost, "envs", ())), innermost))


def _name_of_one(env: Any) -> str:
    spec = getattr(env, "spec", None)
    return type(env.unwrapped).__name__ if spec is None else spec.id


def get_autoreset_mode(env: VectorEnv) -> AutoresetMode:
    """Returns the autoreset mode in the metadata of a vector environment.

    Raises:
        EnvContractError: If they do not.
    """
    mode = (env.metadata or {}).get("autoreset_mode")
    try:
        return _as_autoreset_mode(mode)
    except ConfigError as error:
        raise EnvContractError(
            _name(env),
            f"metadata['autoreset_mode'] = {mode!r}",
            "a gymnasium.vector.AutoresetMode",
            "a wrong guess would put observations of one episode into another",
        ) from error


def close_vector_env(env: VectorEnv, *, broken: bool = False) -> None:
    """Closes a vector environment; harmless when called again.

    All environments together have 5 seconds, or 1 if `broken`. Then worker processes
    are ended, and a `close()` in this process is interrupted if `time_limit` can do so.

    Args:
        env: The vector environment.
        broken: Whether it has raised an error; errors in closing are then ignored.

    Raises:
        Exception: The first error of a `close()`, after all environments are closed;
            unless `broken`.
    """
    errors: list[Exception] = []
    seconds = worker_env.CLOSING_AFTER_ERROR_S if broken else worker_env.CLOSING_S
    innermost = env.unwrapped
    if isinstance(innermost, AsyncVectorEnv) and not innermost.closed:
        worker_env.end_workers(innermost, seconds)
    elif isinstance(innermost, SyncVectorEnv) and not innermost.closed:
        errors = _close_each(innermost.envs, seconds)
        innermost.closed = True
    try:
        with time_limit(seconds):
            env.close()  # Its wrappers, or a vector environment of another class.
    except Exception as error:  # noqa: BLE001 - it is the user's code.
        errors.append(error)
    if errors and not broken:
        raise errors[0]


def _close_each(envs: Sequence[gym.Env], seconds: float) -> list[Exception]:
    """Closes environments in this process; returns the errors they raised."""
    errors: list[Exception] = []
    deadline = time.monotonic() + seconds
    for index, env in enumerate(envs):
        left = deadline - time.monotonic()
        try:
            with time_limit(max(left, _LEAST_S)):
                env.close()
        except Exception as error:  # noqa: BLE001 - as above.
            error.add_note(f"It was raised by close() of environment {index}.")
            errors.append(error)
    return errors


def _make_one(env: Any, kwargs: dict[str, Any]) -> Any:
    """Makes and checks one environment, which may be a vector environment."""
    if isinstance(env, gym.Env) or not (
        isinstance(env, str | EnvSpec) or callable(env)
    ):
        raise EnvError(
            "env",
            f"an object of type {type(env).__name__}",
            "a registered id, or a class or function that makes an environment",
            "several copies may be needed: pass env=lambda: MyEnv(...)"
            if isinstance(env, gym.Env)
            else None,
        )
    with _making(env):
        if isinstance(env, str | EnvSpec):
            # Its checks of the first step are warnings; `GuardedEnv` makes its own.
            made = gym.make(env, **{"disable_env_checker": True, **kwargs})
        elif _takes_config(env):
            made = env(kwargs)
        else:
            made = env(**kwargs)
    _check_is_env(made, _name(env))
    return made


def _takes_config(env: Callable) -> bool:
    try:
        parameters = list(inspect.signature(env).parameters.values())
    except ValueError:  # Some built-in callables have no signature.
        return False
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        return False
    first = parameters[0]
    return first.default is inspect.Parameter.empty or first.name in _CONFIG_NAMES


@contextlib.contextmanager
def _making(env: Any) -> Iterator[None]:
    try:
        yield
    except EnvError:
        raise
    except (EOFError, ConnectionError) as error:
        raise EnvError(
            _name(env),
            "a worker process that ended before it was ready",
            hint="a script that makes environments in processes of their own must do "
            "so under `if __name__ == '__main__':`",
        ) from error
    except Exception as error:
        text = str(error).removesuffix(".")
        if not isinstance(env, str) or env in gym.registry:
            got = f"{type(error).__name__} while it was made: {text}"
            raise EnvError(_name(env), got) from error
        known = did_you_mean(env, gym.registry)
        hint = "import the package that registers it, or pass a function that makes it"
        got = f"an id that cannot be found: {text}"
        raise EnvError(_name(env), got, hint=known or hint) from error


def _check_is_env(made: Any, name: str) -> None:
    if not isinstance(made, gym.Env | VectorEnv):
        old = any(cls.__module__.split(".")[0] == "gym" for cls in type(made).__mro__)
        raise EnvError(
            name,
            "None" if made is None else f"an object of type {type(made).__name__}",
            "a gymnasium.Env or gymnasium.vector.VectorEnv",
            "environments of the old `gym` need a wrapper, such as shimmy's"
            if old
            else None,
        )
    prefix = "single_" if isinstance(made, VectorEnv) else ""
    for attribute in (f"{prefix}observation_space", f"{prefix}action_space"):
        space = getattr(made, attribute, None)
        if not isinstance(space, gym.Space):
            raise EnvContractError(
                name, f"{attribute} = {space!r}", "a gymnasium.spaces.Space"
            )


def _vectorize(
    env: Any,
    kwargs: dict[str, Any],
    first: gym.Env,
    num_envs: int,
    vectorize_mode: str,
    mode: AutoresetMode,
    action_masks: str | bool,
    step_timeout_s: float | None,
) -> VectorEnv:
    if vectorize_mode == "vector_entry_point":
        first.close()
        raise EnvError(
            _name(env),
            "one environment",
            "a vector environment for gym_env_vectorize_mode='vector_entry_point'",
            "use 'sync' or 'async'",
        )
    is_async = vectorize_mode == "async"
    masks = find_masks(first, action_masks, _name(env))
    env_fns = [_SubEnvFactory(env, kwargs, i, is_async, masks) for i in range(num_envs)]
    env_fns[0].ready = first
    env_fns[0].name = _name_of_one(first)
    with _making(env):
        # The runner copies the observations that it keeps, so no other copy is needed.
        if not is_async:
            return SyncVectorEnv(env_fns, copy=False, autoreset_mode=mode)
        return WorkerVectorEnv(
            env_fns, copy=False, autoreset_mode=mode, timeout_s=step_timeout_s
        )


class _SubEnvFactory:
    """Makes one environment of a vector environment, in any process.

    The first call returns the environment that was made to see what it is.
    `AsyncVectorEnv` asks for it before it sends this object to a worker.
    """

    def __init__(
        self,
        env: Any,
        kwargs: dict[str, Any],
        index: int,
        portable: bool,
        masks: str | None,
    ):
        self._env, self._kwargs = env, kwargs
        self._index, self._portable = index, portable
        self._masks = masks
        self.ready: gym.Env | None = None
        self.name = ""

    def __call__(self) -> gym.Env:
        made, self.ready = self.ready, None
        is_first = made is not None
        if made is None:
            if self._portable:  # In a worker.
                worker_env.follow_parent()
            made = _make_one(self._env, self._kwargs)
        if self._masks is not None:  # Inside, so that a wrong mask is reported, too.
            made = MaskedEnv(made, self._masks)
        made_of = _ExampleEnv if is_first and self._portable else GuardedEnv
        return made_of(made, index=self._index, portable=self._portable)


class _ExampleEnv(GuardedEnv):
    """An environment from which `AsyncVectorEnv` reads spaces before it closes it."""

    def close(self) -> None:
        with contextlib.suppress(TimeoutError), time_limit(worker_env.CLOSING_S):
            super().close()


def _as_autoreset_mode(mode: Any) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    for known in AutoresetMode:
        if str(mode).lower() in (known.name.lower(), known.value.lower()):
            return known
    names = tuple(known.name.lower() for known in AutoresetMode)
    raise ConfigError("autoreset_mode", repr(mode), f"one of {names}")


def _name(env: Any) -> str:
    if isinstance(env, str | EnvSpec):
        return f"environment {getattr(env, 'id', env)!r}"
    if isinstance(env, VectorEnv):
        return f"vector environment {type(env).__name__}"
    return f"environment {getattr(env, '__qualname__', None) or repr(env)}"
