"""A wrapper that reports which environment failed, and at which step."""

import copy
import dataclasses
import traceback
from multiprocessing.reduction import ForkingPickler
from typing import Any

import gymnasium as gym
import numpy as np

from tflearner.errors import EnvContractError, EnvError, EnvStepError
from tflearner.spaces.leaves import WHOLE, bounds_of

FAILURE = "tflearner_failure"  # The key under which a `Failure` travels in infos.
NEW_EPISODES = "the next sample() starts new episodes"


@dataclasses.dataclass(frozen=True)
class Failure:
    """The failure of one environment of a vector environment.

    Attributes:
        index: Which environment.
        step: The step of its episode, counted from 1; 0 is the reset.
        got: What it did.
        want: What it should have done; `None` if it raised.
        error: What it raised, if it did.
    """

    index: int
    step: int
    got: str
    want: str | None = None
    error: Exception | None = None

    def as_error(self) -> EnvError:
        """Returns the error to raise, `from failure.error`."""
        error_class = EnvStepError if self.want is None else EnvContractError
        where = name_of_step(self.index, self.step)
        return error_class(where, self.got, self.want, NEW_EPISODES)


class GuardedEnv(gym.Wrapper):
    """Reports failures of an environment in its info dict instead of raising.

    An exception would come out of a vector environment without the index of the
    environment, and would end a worker process of `AsyncVectorEnv`. Here the dict holds
    a `Failure`, and everything else in the result means nothing.

    Args:
        env: The environment.
        index: Its number in the vector environment.
        portable: Whether failures cross a process border; an exception that cannot is
            then replaced by one that says the same.
    """

    def __init__(self, env: gym.Env, *, index: int, portable: bool = False):
        super().__init__(env)
        self._index = index
        self._portable = portable
        self._step = 0
        self._checked_form: Any = None

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Resets the environment; passes only those arguments that are given."""
        self._step = 0
        given: dict[str, Any] = {} if seed is None else {"seed": seed}
        if options:
            given["options"] = options
        try:
            result = self.env.reset(**given)
            _check_arity(result, "observation, info")
            observation, info = result
            _check_info(info)
            self._check_observation(observation)
        except Exception as error:  # noqa: BLE001 - it is the user's code.
            return self.observation_space.sample(), self._failure("reset()", error)
        return observation, info

    def step(self, action: Any):
        """Steps the environment; the last observation of an episode is a copy.

        A reset in the same step would overwrite it in an environment that returns one
        and the same array again and again.
        """
        self._step += 1
        try:
            result = self.env.step(action)
            _check_arity(result, "observation, reward, terminated, truncated, info")
            observation, reward, terminated, truncated, info = result
            _check_info(info)
            reward = _number(reward)
            terminated = _flag("terminated", terminated)
            truncated = _flag("truncated", truncated)
            if _form(observation) != self._checked_form:
                self._check_observation(observation)
            if terminated or truncated:
                observation = copy.deepcopy(observation)
        except Exception as error:  # noqa: BLE001 - as above.
            nothing = self.observation_space.sample()
            return nothing, 0.0, False, False, self._failure("step()", error)
        return observation, reward, terminated, truncated, info

    def _check_observation(self, observation: Any) -> None:
        """Checks an observation; needed only when shape or dtype change.

        If a cast to the space's dtype may change values, every observation is checked.
        """
        is_exact = _check_fits(observation, self.observation_space, "observation")
        self._checked_form = _form(observation) if is_exact else None

    def _failure(self, call: str, error: Exception) -> dict[str, Failure]:
        if isinstance(error, BrokenContract):
            failure = Failure(
                self._index, self._step, f"{call} with {error.got}", error.want
            )
        else:
            got = f"{call} raised {type(error).__name__}: {error}"
            error = _portable(error) if self._portable else error
            failure = Failure(self._index, self._step, got, error=error)
        return {FAILURE: failure}


class BrokenContract(Exception):
    """Raised when an environment returns what its spaces or gymnasium forbid.

    Args:
        got: What it returned.
        want: What it should have returned.
    """

    def __init__(self, got: str, want: str):
        super().__init__(got, want)
        self.got, self.want = got, want


def name_of_step(index: int, step: int) -> str:
    """Returns the name of a step of one environment in errors."""
    return f"environment {index}, " + (f"episode step {step}" if step else "reset")


def _check_fits(observation: Any, space: Any, name: str) -> bool:
    """Returns whether all observations of this form are exact in their space's dtype.

    Raises:
        BrokenContract: If the observation does not have the form of its space.
    """
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(observation, dict) or space.spaces.keys() - observation:
            want = f"a dict with keys {[*space.spaces]}"
            raise BrokenContract(f"the {name} {_short(observation)}", want)
        parts: list[Any] = [(key, observation[key]) for key in space.spaces]
    elif isinstance(space, gym.spaces.Tuple):
        num = len(space.spaces)
        if not isinstance(observation, tuple | list) or len(observation) != num:
            raise BrokenContract(
                f"the {name} {_short(observation)}", f"a tuple of {num}"
            )
        parts = list(enumerate(observation))
    else:
        return _check_leaf_fits(observation, space, name)
    are_exact = [_check_fits(x, space[key], f"{name}[{key!r}]") for key, x in parts]
    return all(are_exact)


def _check_leaf_fits(observation: Any, space: Any, name: str) -> bool:
    if space.shape is None:  # A Sequence, for example: there is nothing to compare.
        return True
    try:
        array = np.asarray(observation)
    except ValueError as error:
        raise BrokenContract(f"a ragged {name}", f"shape {space.shape}") from error
    fits = space.dtype is None or np.can_cast(array.dtype, space.dtype, "same_kind")
    if array.shape != space.shape or not fits:
        got = f"an {name} {array.dtype} {array.shape}"
        raise BrokenContract(got, f"{space.dtype} {space.shape}, as in its space")
    if not isinstance(space, WHOLE) or np.can_cast(array.dtype, space.dtype):
        return True
    low, high = bounds_of(space)
    if ((array < low) | (array > high)).any():
        raise BrokenContract(f"the {name} {_short(observation)}", f"one of {space}")
    return False


def _form(observation: Any) -> tuple:
    if isinstance(observation, np.ndarray):
        return type(observation), observation.shape, observation.dtype
    if isinstance(observation, dict):
        return tuple((key, _form(own)) for key, own in observation.items())
    if isinstance(observation, tuple | list):
        return tuple(map(_form, observation))
    return (
        type(observation),
        getattr(observation, "shape", None),
        getattr(observation, "dtype", None),
    )


def _check_arity(result: Any, want: str) -> None:
    num = want.count(",") + 1
    if not isinstance(result, tuple) or len(result) != num:
        got = f"{len(result)} values" if isinstance(result, tuple) else _short(result)
        raise BrokenContract(got, f"{num}: {want}")


def _check_info(info: Any) -> None:
    if not isinstance(info, dict):
        raise BrokenContract(f"the info {_short(info)}", "a dict")


def _number(reward: Any) -> float:
    try:
        return float(reward)
    except (TypeError, ValueError) as error:
        raise BrokenContract(f"the reward {_short(reward)}", "a number") from error


def _flag(name: str, value: Any) -> bool:
    if value is True or value is False:
        return value
    if isinstance(value, int | np.generic):  # Many environments return `np.bool_`.
        return bool(value)
    raise BrokenContract(f"{name}={_short(value)}", "a bool")


def _short(value: Any) -> str:
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return f"{text} ({type(value).__name__})"


def _portable(error: Exception) -> Exception:
    try:
        # Exceptions with arguments of their own are often sent but not received: the
        # parent would get a TypeError, or never stop waiting for what cannot be sent.
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:  # noqa: BLE001 - pickling runs the user's code, too.
        error = RuntimeError(f"{type(error).__name__}: {error}")
    # A traceback stays behind; notes travel.
    error.add_note(f"In the environment's process:\n{traceback.format_exc()}")
    return error
