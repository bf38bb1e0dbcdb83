"""Connector pieces that change observations on their way into a module.

Shapes: `B` observations at a time, each of the shape of its space.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Tuple

from tflearner.checkpoint.builders import register_builder
from tflearner.checks import is_int
from tflearner.columns import Columns
from tflearner.connectors.connector import ConnectorV2
from tflearner.errors import ConfigError, SpaceError
from tflearner.spaces.mask_spaces import ACTION_MASK
from tflearner.types import StateDict

COUNT = "count"
MEAN = "mean"
SQUARED_DEVIATIONS = "squared_deviations"
_TOP = "observation"  # What a space is called; names of its leaves begin with it.


class MeanStdFilter(ConnectorV2):
    """Normalises observations by their running mean and standard deviation.

        config = PPOConfig().environment("CartPole-v1").env_runners(
            env_to_module_connector=tfl.MeanStdFilter
        )

        out = clip((x - mean) / (std + epsilon), -clip_by_value, clip_by_value)

    Statistics are kept in float64 for each component of each Box of the space. Leaves
    of other kinds, and an "action_mask" at the top of a Dict, are not changed.
    Exploration updates the statistics with each observation once, before it is
    normalised; `explore=False`, as in evaluation, does not. The standard deviation is
    that of the observations so far (divided by their number), and 1 as long as there
    are fewer than two.

    Two batches of n_a and n_b observations have together (Chan, Golub and LeVeque,
    "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979,
    https://doi.org/10.1007/978-3-642-51461-6_3, equation 2.1), with d = mean_b - mean_a
    and S the sum of squared deviations from the mean,

        mean = mean_a + d * n_b / n
        S    = S_a + S_b + d^2 * n_a * n_b / n,     std = sqrt(S / n)

    Reads:  OBS.
    Writes: OBS. float32 in the shape of the space.

    Args:
        input_observation_space: A Box, or a Dict or Tuple with Boxes in it.
        input_action_space: Space of the environment's actions.
        clip_by_value: Bound on the absolute output, in standard deviations; `None` is
            unbounded.
        epsilon: A number added to the standard deviation, for components that hardly
            change.
        update_stats: Whether observations update the statistics.

    Raises:
        SpaceError: If there is no Box in the space.
        ConfigError: If a number is not above 0.
    """

    def __init__(
        self,
        input_observation_space: gym.Space | None = None,
        input_action_space: gym.Space | None = None,
        *,
        clip_by_value: float | None = 10.0,
        epsilon: float = 1e-6,
        update_stats: bool = True,
    ):
        super().__init__(input_observation_space, input_action_space)
        for name, value in (("clip_by_value", clip_by_value), ("epsilon", epsilon)):
            if value is not None and not value > 0:
                raise ConfigError(f"MeanStdFilter({name}=...)", repr(value), "above 0")
        self.clip_by_value = clip_by_value
        self.epsilon = epsilon
        self.update_stats = update_stats
        self._mean: dict[str, np.ndarray] = {}  # By the name of a Box.
        self._squares: dict[str, np.ndarray] = {}  # Sums of squared deviations.
        map_boxes(self._start, input_observation_space)
        check_has_boxes("MeanStdFilter", input_observation_space)
        bound = np.inf if clip_by_value is None else clip_by_value
        self._space_out = map_box_spaces(
            lambda box: Box(-bound, bound, box.shape, np.float32),
            input_observation_space,
        )
        self._count = 0
        self._set_rule()

    def _start(self, name: str, space: Box) -> None:
        self._mean[name] = np.zeros(space.shape)
        self._squares[name] = np.zeros(space.shape)

    @property
    def observation_space(self) -> gym.Space:
        return self._space_out

    @property
    def count(self) -> int:
        """The number of observations counted so far."""
        return self._count

    @property
    def mean(self) -> Any:
        """The mean of the observations, float64, in the structure of the space.

        Leaves that are no Boxes are `None`.
        """
        return self._in_structure(self._mean)

    @property
    def std(self) -> Any:
        """The standard deviation of the observations, in the form of `mean`."""
        return self._in_structure({name: self._std(name) for name in self._squares})

    def __call__(self, *, batch, explore=None, **kwargs):
        obs = batch[Columns.OBS]
        if explore and self.update_stats:
            self._update(obs)
        batch[Columns.OBS] = map_boxes(
            self._normalized, self.input_observation_space, obs
        )
        return batch

    def merge(self, other: "MeanStdFilter") -> None:
        """Adds the statistics of another filter, which stays as it is.

        Args:
            other: A filter for a space of the same structure and shapes.

        Raises:
            ConfigError: If its observations are others.
        """
        state = other.get_state()
        _check_state(state, {k: v.shape for k, v in self._mean.items()})
        self._add(state[COUNT], state[MEAN], state[SQUARED_DEVIATIONS])

    def get_ctor_args_and_kwargs(self):
        _, kwargs = super().get_ctor_args_and_kwargs()
        return (), {
            **kwargs,
            "clip_by_value": self.clip_by_value,
            "epsilon": self.epsilon,
            "update_stats": self.update_stats,
        }

    def get_state(self, components=None, *, not_components=None) -> StateDict:
        """Returns the statistics.

        Returns:
            {"count": int, "mean": {name of a Box: float64 array}, "squared_deviations":
            the same}; names are such as "observation" and "observation['pixels']".
        """
        return {
            COUNT: self._count,
            MEAN: {name: value.copy() for name, value in self._mean.items()},
            SQUARED_DEVIATIONS: {k: value.copy() for k, value in self._squares.items()},
        }

    def set_state(self, state: StateDict) -> None:
        """Restores statistics that `get_state` returned.

        Raises:
            ConfigError: If they are those of other observations.
        """
        _check_state(state, {k: v.shape for k, v in self._mean.items()})
        self._count = int(state[COUNT])
        self._mean, self._squares = (
            {name: np.array(state[key][name], np.float64) for name in self._mean}
            for key in (MEAN, SQUARED_DEVIATIONS)
        )
        self._set_rule()

    # Statistics.

    def _update(self, obs: Any) -> None:
        counts: list[int] = []
        means: dict[str, np.ndarray] = {}
        squares: dict[str, np.ndarray] = {}

        def measure(name: str, space: Box, values: np.ndarray) -> None:
            counts.append(len(values))
            # Differences keep their digits however large the mean is; sums of the
            # observations, or of their squares, would not.
            first = values[0].astype(np.float64)
            differences = values - first
            shift = differences.mean(axis=0)
            means[name] = first + shift
            squares[name] = np.square(differences - shift).sum(axis=0)

        map_boxes(measure, self.input_observation_space, obs)
        self._add(counts[0], means, squares)

    def _add(self, count: int, means: dict, squares: dict) -> None:
        total = self._count + count
        if not total:
            return
        for name, mean in self._mean.items():
            delta = means[name] - mean
            self._mean[name] = np.asarray(mean + delta * (count / total))
            between = np.square(delta) * (self._count * (count / total))
            self._squares[name] = np.asarray(
                self._squares[name] + squares[name] + between
            )
        self._count = total
        self._set_rule()

    def _std(self, name: str) -> np.ndarray:
        if self._count < 2:
            return np.ones_like(self._squares[name])
        return np.sqrt(self._squares[name] / self._count)

    # The rule: (x - center) * scale, clipped. Numbers that do not fit into float32 are
    # centred in float64; all else is float32. `tensor_forms` has the rule in TensorFlow.

    def _set_rule(self) -> None:
        self.rule: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        map_boxes(self._set_rule_of, self.input_observation_space)

    def _set_rule_of(self, name: str, space: Box) -> None:
        center = self._mean[name].astype(np.result_type(space.dtype, np.float32))
        scale = 1.0 / (self._std(name) + self.epsilon)
        self.rule[name] = center, scale.astype(np.float32)

    def _normalized(self, name: str, space: Box, values: np.ndarray) -> np.ndarray:
        center, scale = self.rule[name]
        out = np.subtract(values, center, dtype=center.dtype).astype(np.float32) * scale
        if self.clip_by_value is None:
            return out
        return np.clip(out, -self.clip_by_value, self.clip_by_value)

    def _in_structure(self, arrays: dict[str, np.ndarray]) -> Any:
        return map_boxes(
            lambda name, space: arrays[name].copy(), self.input_observation_space
        )


register_builder(
    "tflearner/MeanStdFilter",
    MeanStdFilter,
    arguments=lambda piece: piece.get_ctor_args_and_kwargs()[1],
)


def _check_state(state: Any, shapes: dict[str, tuple]) -> None:
    """Raises `ConfigError` unless a state has statistics for Boxes of these shapes."""
    where, known = "state of a MeanStdFilter", {COUNT, MEAN, SQUARED_DEVIATIONS}

    def refuse(got: str, want: str, *path: str):
        hint = "it is the state of a filter for other observations" if path else None
        raise ConfigError(", ".join([where, *map(repr, path)]), got, want, hint)

    if not isinstance(state, dict) or state.keys() != known:
        keys = list(state) if isinstance(state, dict) else type(state).__name__
        refuse(str(keys), str(sorted(known)))
    count = state[COUNT]
    if not is_int(count, 0, 2**53 - 1):
        is_long = isinstance(count, int) and abs(count) >= 2**53
        got = "more digits" if is_long else repr(count)
        refuse(got, "an int >= 0 and below 2**53", COUNT)
    for key in (MEAN, SQUARED_DEVIATIONS):
        arrays = state[key]
        if not isinstance(arrays, dict):
            refuse(type(arrays).__name__, "arrays by name", key)
        given = {name: np.shape(array) for name, array in arrays.items()}
        if given != shapes:
            refuse(f"shapes {given}", str(shapes), key)
        for name, array in arrays.items():
            if np.asarray(array).dtype.kind not in "fiu":
                refuse("no numbers", "numbers", key, name)
            least = 0.0 if key == SQUARED_DEVIATIONS else -np.inf
            if not (np.isfinite(array) & (np.asarray(array) >= least)).all():
                refuse("numbers out of range", f"finite ones >= {least}", key, name)


def check_has_boxes(where: str, space: Any) -> None:
    """Raises `SpaceError` if there is no Box in an observation space."""
    found: list[str] = []
    map_boxes(lambda name, box: found.append(name), space)
    if not found:
        raise SpaceError(
            where,
            f"observation space {space}",
            "a Box, or a Dict or Tuple with a Box in it",
            "encode other observations as numbers before, or leave them as they are",
        )


def map_box_spaces(function: Callable[[Box], Box], space: Any, name: str = _TOP) -> Any:
    """Returns a space with another Box for each Box in it; masks of actions stay."""
    if isinstance(space, Box):
        return function(space)
    if isinstance(space, Dict):
        return Dict(  # Pairs keep their order, a dict's would be sorted.
            [
                (key, own)
                if key == ACTION_MASK and name == _TOP
                else (key, map_box_spaces(function, own, f"{name}[{key!r}]"))
                for key, own in space.spaces.items()
            ]
        )
    if isinstance(space, Tuple):
        parts = space.spaces
        return Tuple([map_box_spaces(function, own, f"{name}[...]") for own in parts])
    return space


def map_boxes(function: Callable, space: Any, *values: Any, name: str = _TOP) -> Any:
    """Applies a function to every Box in a space, and returns results in its structure.

    Args:
        function: Called with a Box's name, the Box and the values that belong to it.
        space: The space. Leaves that are no Boxes, and masks of actions, keep their
            value; without it: `None`.
        *values: At most one, such as observations. [B, ...].
        name: What the space is called.
    """
    if isinstance(space, Box):
        return function(name, space, *values)

    def mapped(key, part):
        below = [value[key] for value in values]
        if key == ACTION_MASK and name == _TOP:
            return below[0] if below else None
        return map_boxes(function, part, *below, name=f"{name}[{key!r}]")

    if isinstance(space, Dict):
        return {key: mapped(key, part) for key, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(mapped(key, part) for key, part in enumerate(space.spaces))
    return values[0] if values else None
