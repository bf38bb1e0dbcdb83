"""Compares an export with the environment runner's actions and values.

Observations go through the connectors' NumPy path, and actions are chosen as in acting.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import ml_dtypes
import numpy as np
import tensorflow as tf
import tree

from tflearner.columns import Columns
from tflearner.connectors.actions import GetActions
from tflearner.connectors.connector import MEMORY
from tflearner.errors import ExportError
from tflearner.export.endpoints import (
    ACT,
    ACT_GREEDY,
    ENV_TO_MODULE,
    INITIAL_STATE,
    MODULE,
    VALUE,
    Policy,
    choose,
)
from tflearner.metrics import MetricsLogger
from tflearner.modules.acting import ModuleActor, make_actor
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.networks.distributions import Categorical
from tflearner.networks.half_precision import HALF_DTYPES
from tflearner.networks.product_distributions import (
    MultiCategorical,
    MultiDistribution,
)
from tflearner.spaces.leaves import leaf_spaces
from tflearner.spaces.mask_spaces import FORBIDDEN

NUM_OBSERVATIONS = 64
TOLERANCE = 1e-5

_WIDE = 1e3  # Bounds further out than this are no bounds to sample between.


def tolerance_of(module: TfRLModule) -> float:
    """Returns how far an export may be from the module it was made from.

    Where TensorFlow rounds depends on the kernels that it takes, and these on the
    program around them. A module that computes in 16 bits may differ by the distance
    of 1 to the next number of that dtype.
    """
    halves = module.compute_dtypes() & HALF_DTYPES
    return max([TOLERANCE, *(float(ml_dtypes.finfo(name).eps) for name in halves)])


def largest_difference(policy: Policy, functions: Mapping[str, Callable]) -> float:
    """Compares an export with the module it was made from, on sampled observations.

    Differences are relative: of an action to the range of its Box, and of all else to
    the largest number of the column, but never to less than 1.

    Args:
        policy: The module and its connectors.
        functions: The export's endpoints by name; `ACT_GREEDY` must be among them. They
            take arrays and return what `Policy.endpoints` says.

    Returns:
        The largest difference.

    Raises:
        ExportError: If it is above `tolerance_of(policy.module)`, or an endpoint fails.
    """
    # TensorFloat-32, a GPU's default, would round products to three digits on one side.
    had_tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        return _Comparison(policy, functions).run()
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(had_tf32)


class _Comparison:
    def __init__(self, policy: Policy, functions: Mapping[str, Callable]):
        self._policy, self._functions = policy, functions
        self._largest, self._tolerance = 0.0, tolerance_of(policy.module)

    def run(self) -> float:
        policy, count = self._policy, NUM_OBSERVATIONS
        obs = sample_observations(policy.observation_space, count)
        inputs: tuple = (obs,)
        if policy.is_stateful:
            inputs = (obs, _arrays(policy.initial_state(count)))
            if INITIAL_STATE in self._functions:
                self._compare(INITIAL_STATE, (np.int32(count),), inputs[1:])
            # From here on the state is not zero.
            inputs = (obs, self._compare_step(*inputs))
        self._compare_step(*inputs)
        # Any number of rows will do.
        self._compare_step(*tree.map_structure(lambda x: x[:1], inputs))
        return self._largest

    def _compare_step(self, *inputs: Any) -> Any:
        """Compares all endpoints for one step, and returns the state after it."""
        runner, seed = _Runner(self._policy, *inputs), np.array([20, 26], np.int32)
        greedy = runner.act(None)
        self._compare(ACT_GREEDY, inputs, greedy, runner.near(None))
        if ACT in self._functions:
            near = runner.near(seed)
            self._compare(ACT, (*inputs, seed), runner.act(seed), near)
        if VALUE in self._functions:
            self._compare(VALUE, inputs, (runner.values(),))
        return greedy[-1]

    def _compare(
        self, name: str, inputs: tuple, wanted: tuple, near: list | None = None
    ) -> None:
        try:
            got = _arrays(self._functions[name](*inputs))
        except Exception as error:
            raise ExportError(
                f"exported {name}()", f"{type(error).__name__}: {error}"
            ) from error
        differences = [0.0]
        for index, nest in enumerate(wanted):
            have = got[index] if len(wanted) > 1 else got
            is_action = index == 0 and near is not None
            choices = [nest, *(other[index] for other in near or ())]
            leaves = [tree.flatten(x) for x in (have, *choices)]
            if len(leaves[0]) != len(leaves[1]):
                differences.append(np.inf)
                continue
            spaces = [None] * len(leaves[0])
            if is_action:
                spaces = _spaces_of(self._policy.action_space, spaces)
            differences += [
                _difference(*leaf) for leaf in zip(spaces, *leaves, strict=True)
            ]
        self._largest = max(self._largest, *differences)
        if not self._largest <= self._tolerance:
            raise ExportError(
                f"exported {name}()",
                f"a difference of {self._largest:.1e} from the module on sampled "
                "observations",
                f"{self._tolerance:g} at most, relative to the size of the numbers",
                "to_tensors of a connector piece may do something else than its "
                "__call__, or the module draws random numbers",
            )


class _Runner:
    """Acts and predicts values as an environment runner does."""

    def __init__(self, policy: Policy, obs: Any, state: Any = None):
        self._policy = policy
        self._rng = np.random.default_rng(0)
        parts = policy.parts(state)
        self._shared: dict[str, Any] = {"rng": self._rng}
        if ENV_TO_MODULE in parts:
            self._shared[MEMORY] = parts[ENV_TO_MODULE]
        columns = {Columns.OBS: tree.map_structure(np.copy, obs)}
        # Not exploring: statistics stay as they are.
        self._columns = self._connect(policy.on_way_in, columns, explore=False)
        if MODULE in parts:
            self._columns[Columns.STATE_IN] = parts[MODULE]
        self._by_mode: dict[bool, dict[str, Any]] = {}

    def _outputs(self, explore: bool) -> dict[str, Any]:
        """Returns the module's outputs."""
        if explore not in self._by_mode:
            module = self._policy.module
            actor: Any = (
                ModuleActor(module) if explore else make_actor(module, draws=False)
            )
            outputs = actor(dict(self._columns), explore=explore, rng=self._rng)
            self._by_mode[explore] = _arrays(dict(outputs))
        return self._by_mode[explore]

    def act(self, seed: np.ndarray | None, nudge: float = 0.0) -> tuple:
        """Returns the environment's actions and, with a state, the next one.

        Args:
            seed: Of the actions that are drawn; `None` for the likeliest.
            nudge: How far to move `ACTION_DIST_INPUTS`, relative to their size.
        """
        module, explore = self._policy.module, seed is not None
        outputs = dict(self._outputs(explore))
        parts = {MODULE: outputs.get(Columns.STATE_OUT)}
        if nudge and Columns.ACTIONS not in outputs:
            inputs = outputs[Columns.ACTION_DIST_INPUTS]
            dist_class = module.get_inference_action_dist_cls()
            outputs[Columns.ACTION_DIST_INPUTS] = _nudged(dist_class, inputs, nudge)
        for piece in self._policy.on_way_out:
            if explore and isinstance(piece, GetActions):
                if Columns.ACTIONS not in outputs:
                    # As GetActions, but with TensorFlow's random numbers.
                    inputs = tf.constant(outputs[Columns.ACTION_DIST_INPUTS])
                    outputs[Columns.ACTIONS] = _arrays(choose(module, inputs, seed))
            else:
                outputs = self._connect(piece, outputs, explore)
        actions = outputs.get(Columns.ACTIONS_FOR_ENV, outputs.get(Columns.ACTIONS))
        if MEMORY in self._shared:
            chosen = outputs[Columns.ACTIONS]
            rewards = np.zeros(len(tree.flatten(chosen)[0]), np.float32)
            parts[ENV_TO_MODULE] = self._policy.on_way_in.remember(
                self._shared[MEMORY], chosen, rewards, np
            )
        parts = {name: part for name, part in parts.items() if part is not None}
        return (actions, self._policy.joined(parts)) if parts else (actions,)

    def near(self, seed: np.ndarray | None) -> list:
        """Returns what `act` may return after rounding.

        Of two likeliest actions that are equally likely but for rounding, either may be
        taken, and 2.49999 may be rounded to 2 or 3.
        """
        nudge = tolerance_of(self._policy.module)
        return [self.act(seed, by) for by in (-nudge, nudge)]

    def values(self) -> np.ndarray:
        """Returns predicted values. float32 [B]."""
        columns = dict(self._columns)
        compute_values = self._policy.module.compute_values
        if Columns.STATE_IN not in columns:
            return _arrays(compute_values(columns))
        obs = columns[Columns.OBS]
        columns[Columns.OBS] = tree.map_structure(lambda x: x[:, None], obs)
        return _arrays(compute_values(columns))[:, 0]

    def _connect(self, piece: Any, columns: dict, explore: bool) -> dict[str, Any]:
        return piece(
            rl_module=self._policy.module,
            batch=columns,
            episodes=[],
            explore=explore,
            shared_data=self._shared,
            metrics=MetricsLogger(),
        )


def sample_observations(space: gym.Space, num: int, seed: int = 0) -> Any:
    """Returns random elements of a space. [num, ...].

    Components of a Box without bounds, or with very wide ones, are normal numbers.
    """
    source = _narrowed(space)
    source.seed(seed)
    batch: Any = gym.vector.utils.create_empty_array(space, num)
    samples = [source.sample() for _ in range(num)]
    return gym.vector.utils.concatenate(space, samples, batch)


def _narrowed(space: Any) -> Any:
    if isinstance(space, gym.spaces.Dict):
        return gym.spaces.Dict({k: _narrowed(v) for k, v in space.spaces.items()})
    if isinstance(space, gym.spaces.Tuple):
        return gym.spaces.Tuple([_narrowed(part) for part in space.spaces])
    if isinstance(space, gym.spaces.Box) and space.dtype.kind == "f":
        low = np.where(space.low < -_WIDE, -np.inf, space.low).astype(space.dtype)
        high = np.where(space.high > _WIDE, np.inf, space.high).astype(space.dtype)
        return gym.spaces.Box(low, high, space.shape, space.dtype)
    return copy.deepcopy(space)


def _arrays(nest: Any) -> Any:
    return tree.map_structure(np.asarray, nest)


def _size(x: np.ndarray) -> np.ndarray:
    """Returns the unit of differences: the largest absolute number, at least 1.

    What stands for a forbidden action is no number to measure by.
    """
    finite = np.abs(np.where(np.isfinite(x) & (x != FORBIDDEN), x, 0.0))
    return np.maximum(1.0, finite.max(initial=0.0)).astype(np.float32)


def _nudged(dist_class: Any, inputs: np.ndarray, nudge: float) -> np.ndarray:
    if issubclass(dist_class, MultiDistribution):
        sizes = [part.size for part in dist_class.parts]
        pieces = np.split(inputs, np.cumsum(sizes[:-1]), -1)
        parts = zip(dist_class.parts, pieces, strict=True)
        return np.concatenate(
            [_nudged(part.dist_class, piece, nudge) for part, piece in parts], -1
        )
    if issubclass(dist_class, MultiCategorical):
        pieces = np.split(inputs, np.cumsum(dist_class.sizes[:-1]), -1)
        return np.concatenate(
            [_nudged(Categorical, piece, nudge) for piece in pieces], -1
        )
    step = np.float32(nudge) * _size(inputs)
    if dist_class is not Categorical:
        return inputs + step
    is_largest = inputs == inputs.max(-1, keepdims=True)
    return np.where(is_largest, inputs - 2.0 * np.abs(step), inputs)


def _spaces_of(space: Any, leaves: list) -> list:
    """Returns the space of each leaf of actions; `None` if they are not of `space`."""
    spaces = tree.flatten(leaf_spaces(space))
    return spaces if len(spaces) == len(leaves) else [None] * len(leaves)


def _difference(space: Any, got: np.ndarray, wanted: np.ndarray, *near) -> float:
    """Returns the largest relative difference of two columns.

    Args:
        space: The action space, of actions.
        got: The export's output.
        wanted: The module's output.
        *near: Other outputs that are right as well, if the numbers are whole ones.
    """
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return np.inf
    equal = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    is_whole = not np.issubdtype(wanted.dtype, np.floating)
    if near and (is_whole or np.isin(wanted, (0, 1)).all()):  # One-hot actions, say.
        equal |= np.any([got == other for other in near], axis=0)
    if is_whole:
        return float(not equal.all())
    size: Any = _size(wanted)
    if isinstance(space, gym.spaces.Box) and space.shape == wanted.shape[1:]:
        bounded = space.bounded_below & space.bounded_above
        size = np.where(bounded, space.high - space.low, size)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.abs(got - wanted) / size
    return float(
        np.where(equal, 0.0, np.nan_to_num(difference, nan=np.inf)).max(initial=0.0)
    )
