"""Vector environments: made from what a config names, checked, and closed again.

An environment runner always steps N environments at once. Those that are made here are
each wrapped in a `GuardedEnv`, so that a failure is known by environment and step.
"""

import contextlib
import inspect
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from tflearner.env.guarded_env import GuardedEnv
from tflearner.env.masked_env import MaskedEnv, find_masks, no_masks
from tflearner.errors import ConfigError, EnvContractError, EnvError, did_you_mean
from tflearner.modules.mask_spaces import has_action_mask

EnvSource = str | EnvSpec | VectorEnv | Callable[..., gym.Env | VectorEnv]

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
    )


def make_vector_env(
    env: EnvSource,
    *,
    env_config: Mapping[str, Any] | None = None,
    num_envs: int = 1,
    vectorize_mode: str = "sync",
    autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
    action_masks: str | bool = False,
) -> VectorEnv:
    """Returns a checked vector environment for whatever describes an environment.

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

    Raises:
        EnvError: If there is no such environment or it cannot be made.
        EnvContractError: If it lacks what a gymnasium environment has.
        ConfigError: If a mode is unknown.
    """
    vectorize_mode = getattr(vectorize_mode, "value", vectorize_mode)
    if vectorize_mode not in _VECTORIZE_MODES:
        raise ConfigError(
            "gym_env_vectorize_mode", repr(vectorize_mode), f"one of {_VECTORIZE_MODES}"
        )
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
            env, kwargs, made, num_envs, vectorize_mode, mode, action_masks
        )
    elif action_masks is True:
        spaces = made.single_observation_space, made.single_action_space
        if not has_action_mask(*spaces):
            raise no_masks(_name(made), *spaces)
    get_autoreset_mode(made)
    return made


def shown_name(env: EnvSource, made: VectorEnv) -> str:
    """Returns what people see an environment called: its id, or else its class.

    Args:
        env: What described it.
        made: What `make_vector_env` made of that.
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
    """Returns when a vector environment resets, as its metadata say.

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

    Args:
        env: The vector environment.
        broken: Whether an error came out of it. Worker processes are then ended without
            waiting for an answer, and whatever else fails is of no interest.
    """
    if isinstance(env, AsyncVectorEnv):
        if not broken:
            with contextlib.suppress(Exception):  # A worker may be dead already.
                env.close()
        _end_processes(env)
    elif broken:
        with contextlib.suppress(Exception):
            env.close()
    else:
        env.close()


def _end_processes(env: AsyncVectorEnv) -> None:
    for process in env.processes:
        process.terminate()
    for process in env.processes:
        process.join()
    for pipe in env.parent_pipes:
        if pipe is not None:
            pipe.close()
    env.closed = True


def _make_one(env: Any, kwargs: dict[str, Any]) -> Any:
    """Returns one environment, or a vector environment, and checks what it is."""
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
        # The runner copies what it keeps, so nobody else needs to.
        if not is_async:
            return SyncVectorEnv(env_fns, copy=False, autoreset_mode=mode)
        return AsyncVectorEnv(
            env_fns, copy=False, autoreset_mode=mode, context=_start_method()
        )


class _SubEnvFactory:
    """Makes one environment of a vector environment, in whatever process.

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
        if made is None:
            made = _make_one(self._env, self._kwargs)
        if self._masks is not None:  # Inside, so that a wrong mask is reported, too.
            made = MaskedEnv(made, self._masks)
        return GuardedEnv(made, index=self._index, portable=self._portable)


def _start_method() -> str | None:
    # A fork of a process with TensorFlow's threads may inherit a lock that nobody will
    # ever release, so workers start from a clean process.
    methods = multiprocessing.get_all_start_methods()
    return "forkserver" if "forkserver" in methods else None


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
