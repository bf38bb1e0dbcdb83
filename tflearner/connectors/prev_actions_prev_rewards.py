"""A connector piece that adds the last actions and rewards to observations."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import tree
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

from tflearner.checkpoint.builders import register_builder
from tflearner.connectors.connector import ConnectorV2
from tflearner.errors import ConfigError, SpaceError
from tflearner.spaces.leaves import leaf_spaces
from tflearner.spaces.mask_spaces import ACTION_MASK, is_masked


class PrevActionsPrevRewards(ConnectorV2):
    """Connector that adds the last actions and rewards to each observation.

        config = PPOConfig().environment("CartPole-v1").env_runners(
            env_to_module_connector=tfl.PrevActionsPrevRewards
        )

    Observations become a Dict: "_orig_obs" is the observation, "prev_n_actions" the
    actions of the module and "prev_n_rewards" the rewards, the oldest first, and zeros
    before the start of the episode. Discrete actions are one-hot, those of a Box flat.
    A mask of actions stays at the top of the Dict.

    An exported policy remembers its actions but gets no rewards. Write the reward of
    each step into the last column of the state that `act` returns:
    `state["env_to_module"]["PrevActionsPrevRewards"]["prev_n_rewards"]`, or set
    `n_prev_rewards=0`.

    Reads:  OBS.
    Writes: OBS. The new entries are float32.

    Args:
        input_observation_space: Space of the observations that come in.
        input_action_space: Space of the environment's actions.
        n_prev_actions: The number of actions.
        n_prev_rewards: The number of rewards.

    Raises:
        SpaceError: If actions have parts that are not numbers.
        ConfigError: If a number is not an int of at least 0, or both are 0.
    """

    ORIG_OBS_KEY: ClassVar[str] = "_orig_obs"
    PREV_ACTIONS_KEY: ClassVar[str] = "prev_n_actions"
    PREV_REWARDS_KEY: ClassVar[str] = "prev_n_rewards"

    def __init__(
        self,
        input_observation_space: gym.Space | None = None,
        input_action_space: gym.Space | None = None,
        *,
        n_prev_actions: int = 1,
        n_prev_rewards: int = 1,
    ):
        super().__init__(input_observation_space, input_action_space)
        self.n_prev_actions = n_prev_actions
        self.n_prev_rewards = n_prev_rewards
        numbers = {"n_prev_actions": n_prev_actions, "n_prev_rewards": n_prev_rewards}
        for name, number in numbers.items():
            if type(number) is not int or number < 0:
                where = f"PrevActionsPrevRewards({name}=...)"
                raise ConfigError(where, repr(number), "an int >= 0")
        if not any(numbers.values()):
            where = "PrevActionsPrevRewards"
            raise ConfigError(where, "two numbers of 0", "one of them above 0")
        self._leaves: Any = leaf_spaces(input_action_space)  # type: ignore[arg-type]
        self._parts: list[Any] = tree.flatten(self._leaves)
        self._is_masked = is_masked(input_observation_space, input_action_space)
        self._size = sum(map(_size_of, self._parts))  # Of one action, encoded.

    @property
    def observation_space(self) -> gym.Space:
        is_one_hot = all(isinstance(p, Discrete | MultiDiscrete) for p in self._parts)
        bounds = (0.0, 1.0) if is_one_hot else (-np.inf, np.inf)
        remembered = {
            name: Box(
                *(bounds if name == self.PREV_ACTIONS_KEY else (-np.inf, np.inf)),
                zeros.shape,
                np.float32,
            )
            for name, zeros in self.get_initial_memory().items()
        }
        space: Any = self.input_observation_space
        if not self._is_masked:
            return Dict({self.ORIG_OBS_KEY: space, **remembered})
        rest = {k: own for k, own in space.spaces.items() if k != ACTION_MASK}
        mask = {ACTION_MASK: space.spaces[ACTION_MASK]}
        return Dict({self.ORIG_OBS_KEY: Dict(rest), **remembered, **mask})

    def get_initial_memory(self):
        """Returns zeros for the actions and rewards, as in the observations."""
        sizes = {
            self.PREV_ACTIONS_KEY: self.n_prev_actions * self._size,
            self.PREV_REWARDS_KEY: self.n_prev_rewards,
        }
        return {name: np.zeros(n, np.float32) for name, n in sizes.items() if n}

    def recall(self, x, memory, xp):
        if not self._is_masked:
            return {self.ORIG_OBS_KEY: x, **memory}, memory
        rest = {key: own for key, own in x.items() if key != ACTION_MASK}
        obs = {self.ORIG_OBS_KEY: rest, ACTION_MASK: x[ACTION_MASK], **memory}
        return obs, memory

    def remember(self, memory, actions, rewards, xp):
        new = {self.PREV_REWARDS_KEY: xp.expand_dims(rewards, -1)}
        if self.n_prev_actions:
            parts = tree.flatten_up_to(self._leaves, actions, check_types=False)
            encoded = [_encoded(*part, xp) for part in zip(self._parts, parts)]
            new[self.PREV_ACTIONS_KEY] = xp.concatenate(encoded, axis=-1)
        return {
            name: xp.concatenate(
                [old[:, new[name].shape[-1] :], xp.array(new[name], "float32")], axis=-1
            )
            for name, old in memory.items()
        }

    def get_ctor_args_and_kwargs(self):
        _, kwargs = super().get_ctor_args_and_kwargs()
        return (), {
            **kwargs,
            "n_prev_actions": self.n_prev_actions,
            "n_prev_rewards": self.n_prev_rewards,
        }


register_builder(
    "tflearner/PrevActionsPrevRewards",
    PrevActionsPrevRewards,
    arguments=lambda piece: piece.get_ctor_args_and_kwargs()[1],
)


def _choices(space: Any) -> list[int]:
    """Returns how many choices there are for each number of a one-hot action."""
    if isinstance(space, Discrete):
        return [int(space.n)]
    return space.nvec.ravel().tolist() if isinstance(space, MultiDiscrete) else []


def _size_of(space: Any) -> int:
    """Returns how many numbers encode an action."""
    shape = getattr(space, "shape", None)
    if shape is None:
        want = "actions that are numbers"
        raise SpaceError("PrevActionsPrevRewards", f"action space {space}", want)
    return sum(_choices(space)) or int(np.prod(shape))


def _encoded(space: Any, actions: Any, xp: Any) -> Any:
    """Returns encoded actions, which a module counts from 0. float32 [B, size]."""
    choices = _choices(space)
    flat = xp.reshape(actions, (-1, len(choices) or _size_of(space)))
    if not choices:
        return xp.array(flat, "float32")
    one_hot = [
        xp.equal(flat[:, i : i + 1], xp.arange(n)) for i, n in enumerate(choices)
    ]
    return xp.array(xp.concatenate(one_hot, axis=-1), "float32")
