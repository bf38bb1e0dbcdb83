"""A connector piece that stacks observations."""

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from tflearner.checkpoint.builders import register_builder
from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.observations import (
    check_has_boxes,
    map_box_spaces,
    map_boxes,
)
from tflearner.errors import ConfigError


class FrameStacking(ConnectorV2):
    """Connector that stacks the last observations of an episode.

        config = PPOConfig().environment("CartPole-v1").env_runners(
            env_to_module_connector=tfl.FrameStacking
        )

    Frames are joined along the last axis, the oldest first: of shape [84, 84, 1], four
    make [84, 84, 4]. Frames before the start of the episode are zeros. Leaves that are
    no Boxes, and an "action_mask" at the top of a Dict, pass as they are. Episodes hold
    the stacks, so learners and replay buffers need no piece of their own.

    Reads:  OBS.
    Writes: OBS. In the dtypes of the space.

    Args:
        input_observation_space: A Box, or a Dict or Tuple with Boxes in it.
        input_action_space: Space of the environment's actions.
        num_frames: The number of observations in a stack.

    Raises:
        SpaceError: If there is no Box in the space.
        ConfigError: If `num_frames` is not an int of at least 2.
    """

    def __init__(
        self,
        input_observation_space: gym.Space | None = None,
        input_action_space: gym.Space | None = None,
        *,
        num_frames: int = 4,
    ):
        super().__init__(input_observation_space, input_action_space)
        if type(num_frames) is not int or num_frames < 2:
            got = repr(num_frames)
            raise ConfigError("FrameStacking(num_frames=...)", got, "an int >= 2")
        check_has_boxes("FrameStacking", input_observation_space)
        self.num_frames = num_frames
        self._space_out = map_box_spaces(self._stack_of, input_observation_space)

    def _stack_of(self, box: Box) -> Box:
        low, high = np.atleast_1d(box.low), np.atleast_1d(box.high)
        older = self.num_frames - 1  # Any of them may be zeros.
        lows = [np.minimum(low, 0).astype(box.dtype)] * older
        highs = [np.maximum(high, 0).astype(box.dtype)] * older
        low, high = (np.concatenate(own, -1) for own in ([*lows, low], [*highs, high]))
        return Box(low, high, dtype=box.dtype)  # type: ignore[arg-type]

    @property
    def observation_space(self) -> gym.Space:
        return self._space_out

    def get_initial_memory(self):
        """Returns zeros, all frames of a stack but one, by the name of each Box."""
        memory = {}

        def forget(name: str, box: Box) -> None:
            *shape, size = box.shape or (1,)
            memory[name] = np.zeros((*shape, size * (self.num_frames - 1)), box.dtype)

        map_boxes(forget, self.input_observation_space)
        return memory

    def recall(self, x, memory, xp):
        memory = dict(memory)

        def stacked(name: str, box: Box, frame):
            frame = frame if box.shape else xp.expand_dims(frame, -1)
            stack = xp.concatenate([memory[name], frame], axis=-1)
            memory[name] = stack[..., frame.shape[-1] :]
            return stack

        return map_boxes(stacked, self.input_observation_space, x), memory

    def get_ctor_args_and_kwargs(self):
        _, kwargs = super().get_ctor_args_and_kwargs()
        return (), {**kwargs, "num_frames": self.num_frames}


register_builder(
    "tflearner/FrameStacking",
    FrameStacking,
    arguments=lambda piece: piece.get_ctor_args_and_kwargs()[1],
)
