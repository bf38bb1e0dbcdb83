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
    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Returns the batch for the next piece.

        Called with keywords; a piece names those it needs and takes `**kwargs`.

        Args:
            *args: Never given.
            **kwargs: `rl_module`: the module that acts, or the `MultiRLModule` that
                learns. `batch`: acting, {column: array [num_envs, ...]}; learning, up
                to `BatchIndividualItems`, {column: [array [T, ...] per episode]};
                behind it, {module_id: {column: array [N, ...]}}. `episodes`: those the
                batch is made from. `explore`: whether actions are explored.
                `shared_data`: a dict of what pieces tell later pieces. `metrics`: a
                `MetricsLogger` to log to.
        """
