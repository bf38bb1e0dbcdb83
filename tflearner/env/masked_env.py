"""Masks of actions that an environment gives beside its observations.

Some put them into `info["action_mask"]`, as gymnasium's Taxi does, others have a
method `action_masks()`, as sb3-contrib wants it. Here they become part of the
observation, which is where modules read them.
"""

from typing import Any

import gymnasium as gym
import numpy as np

from tflearner.env.guarded_env import BrokenContract
from tflearner.errors import EnvContractError, EnvError
from tflearner.spaces.mask_spaces import (
    ACTION_MASK,
    can_be_masked,
    has_action_mask,
    numbers_of_actions,
)

OBSERVATIONS = "observations"  # The key of what was the whole observation.
INFO, METHOD = f"info[{ACTION_MASK!r}]", "action_masks()"  # Where masks may be.


class MaskedEnv(gym.Wrapper):
    """Puts the mask of an environment's actions into its observations.

    An observation becomes {"observations": the observation, "action_mask": int8 [n]}; if
    it is a dict already, it gets the second key. An episode's last observation needs no
    mask: where the info has none, it allows everything, and the method of an environment
    that has terminated is not called.

    Args:
        env: The environment.
        source: Where it has its masks: `INFO` or `METHOD`.
    """

    def __init__(self, env: gym.Env, source: str):
        super().__init__(env)
        self._source = source
        self._size = sum(numbers_of_actions(env.action_space))
        space, mask = env.observation_space, gym.spaces.MultiBinary(self._size)
        self._is_dict = isinstance(space, gym.spaces.Dict)
        items: Any = [(OBSERVATIONS, space)]
        if isinstance(space, gym.spaces.Dict):
            items = space.spaces.items()
        self.observation_space = gym.spaces.Dict([*items, (ACTION_MASK, mask)])

    def reset(self, **kwargs: Any):
        """Resets the environment; the mask is in the observation."""
        result: Any = self.env.reset(**kwargs)
        if not _is_result(result, 2):
            return result  # `GuardedEnv` says what is wrong with it.
        observation, info = result
        return self._with_mask(observation, self._mask(info, False, False)), info

    def step(self, action: Any):
        """Steps the environment; the mask is in the observation."""
        result: Any = self.env.step(action)
        if not _is_result(result, 5):
            return result
        observation, reward, terminated, truncated, info = result
        mask = self._mask(info, bool(terminated), bool(truncated))
        observation = self._with_mask(observation, mask)
        return observation, reward, terminated, truncated, info

    def _mask(self, info: dict, terminated: bool, truncated: bool) -> np.ndarray:
        if self._source == METHOD:
            method: Any = self.env.get_wrapper_attr("action_masks")
            mask = None if terminated else method()
        else:
            mask = info.get(ACTION_MASK)
        if mask is None:
            if terminated or truncated:
                return np.ones(self._size, np.int8)
            raise BrokenContract(f"no mask of actions in {self._source}", "one")
        array = np.asarray(mask)
        if array.shape != (self._size,) or array.dtype.kind not in "biuf":
            got = f"{self._source} {array.dtype} {array.shape}"
            raise BrokenContract(got, f"numbers ({self._size},), one for each action")
        return (array != 0).astype(np.int8)

    def _with_mask(self, observation: Any, mask: np.ndarray) -> dict[str, Any]:
        if self._is_dict:
            return {**observation, ACTION_MASK: mask}
        return {OBSERVATIONS: observation, ACTION_MASK: mask}


def find_masks(env: gym.Env, wanted: str | bool, name: str) -> str | None:
    """Returns where an environment has masks outside of its observations, if it has any.

    Args:
        env: The environment. It is reset, to see the info of that.
        wanted: "auto" looks for masks, `False` does not, `True` demands them.
        name: What messages call the environment.

    Returns:
        `INFO`, `METHOD` or `None`: there are none, or they are in the observations.

    Raises:
        EnvContractError: If masks are demanded and there are none.
        SpaceError: If those of the observations do not fit the actions.
    """
    if wanted is False:
        return None
    observations, actions = env.observation_space, env.action_space
    if can_be_masked(actions):
        if ACTION_MASK in getattr(observations, "spaces", ()):
            if wanted is True:
                has_action_mask(observations, actions)
            return None
        if _has_mask_in_info(env):
            return INFO
        if env.has_wrapper_attr("action_masks"):
            return METHOD
    if wanted is True:
        raise no_masks(name, observations, actions)
    return None


def no_masks(name: str, observations: gym.Space, actions: gym.Space) -> EnvError:
    """Returns the error for an environment that should have masks and has none."""
    if not can_be_masked(actions):
        return EnvContractError(
            name, f"action_masks=True for actions of {actions}", "discrete actions"
        )
    return EnvContractError(
        name,
        f"no mask of actions: {observations} has none, nor has the info of a reset, and "
        f"there is no method {METHOD}",
        f"the key {ACTION_MASK!r} in a Dict of observations or in infos, or the method",
        "infos and methods of vector environments are not looked at; "
        "action_masks=False goes without masks",
    )


def _has_mask_in_info(env: gym.Env) -> bool:
    try:
        _, info = env.reset()
        return ACTION_MASK in info
    except Exception:  # noqa: BLE001 - whoever acts in it will see it, with its step.
        return False


def _is_result(result: Any, num: int) -> bool:
    is_tuple = isinstance(result, tuple) and len(result) == num
    return is_tuple and isinstance(result[-1], dict)
