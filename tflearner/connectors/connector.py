"""One piece of a connector pipeline."""

import abc
from typing import Any

import gymnasium as gym


class ConnectorV2(abc.ABC):
    """Turns one form of data into the next; a pipeline calls its pieces in order.

    A piece gets the batch, changes or replaces it and returns it. It never changes
    episodes. Pieces that change observations on their way in, or actions on their way
    out, also have `to_tensors`, the same rule in TensorFlow, so that an exported policy
    can contain them.

    Args:
        input_observation_space: Space of the observations that come in.
        input_action_space: Space of the environment's actions.
    """

    def __init__(
        self,
        input_observation_space: gym.Space | None = None,
        input_action_space: gym.Space | None = None,
    ):
        self.input_observation_space = input_observation_space
        self.input_action_space = input_action_space

    @property
    def observation_space(self) -> gym.Space | None:
        """The space of the observations that go out."""
        return self.input_observation_space

    @abc.abstractmethod
    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        metrics: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Returns the batch for the next piece.

        Args:
            rl_module: The module that acts, or the `MultiRLModule` that learns.
            batch: Acting: {column: array [num_envs, ...]}. Learning, up to
                `BatchIndividualItems`: {column: [array [T, ...] per episode]}; behind
                it: {module_id: {column: array [N, ...]}}.
            episodes: The episodes the batch is made from.
            explore: Whether actions are explored.
            shared_data: What pieces tell later pieces.
            metrics: A `MetricsLogger` to log to.
            **kwargs: Room for later additions.
        """
