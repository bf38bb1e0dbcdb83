"""Checks a train batch at the door, before anything changes.

Every column is checked for its kind of dtype, shape, length and finite values; actions
and discrete observations for their range. Errors name module, column and first bad row.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import tree

from tflearner.columns import Columns
from tflearner.errors import BatchError, did_you_mean
from tflearner.modules.rl_module import RLModule

IGNORED = (Columns.INFOS, Columns.EPS_ID, Columns.AGENT_ID, Columns.MODULE_ID)
FLOAT_COLUMNS = (
    Columns.REWARDS,
    Columns.ACTION_LOGP,
    Columns.ACTION_PROB,
    Columns.VF_PREDS,
    Columns.VALUES_BOOTSTRAPPED,
    Columns.ADVANTAGES,
    Columns.VALUE_TARGETS,
    Columns.INTRINSIC_REWARDS,
    Columns.RETURNS_TO_GO,
)
FLAG_COLUMNS = (Columns.TERMINATEDS, Columns.TRUNCATEDS, Columns.LOSS_MASK)
KINDS = {"f": "float", "i": "int", "u": "int", "b": "bool"}


@dataclasses.dataclass(frozen=True)
class ColumnSpec:
    """What a column must look like.

    Attributes:
        kind: "float" (ints are welcome), "int" or "bool".
        dtype: What it is cast to.
        shapes: Shapes one row may have; `None` allows any.
        low: Smallest allowed value, inclusive; `None` does not bound.
        high: Largest allowed value, inclusive.
        minus_inf: Whether -inf is a value, as in the logit of a forbidden action.
    """

    kind: str
    dtype: Any
    shapes: tuple[tuple[int, ...], ...] | None = ((),)
    low: Any = None
    high: Any = None
    minus_inf: bool = False


def column_specs(module: RLModule) -> dict[str, Any]:
    """Returns the specs of the columns whose form a module's spaces decide."""
    specs: dict[str, Any] = {
        column: ColumnSpec("float", np.float32) for column in FLOAT_COLUMNS
    }
    specs |= {column: ColumnSpec("bool", np.bool_) for column in FLAG_COLUMNS}
    for column in (Columns.OBS, Columns.NEXT_OBS):
        spec = _observation_spec(module.observation_space)
        if spec is not None:
            specs[column] = spec
    space = module.action_space
    if isinstance(space, gym.spaces.Discrete):
        specs[Columns.ACTIONS] = ColumnSpec("int", np.int32, ((),), 0, int(space.n) - 1)
    elif isinstance(space, gym.spaces.Box):
        flat = (int(np.prod(space.shape, dtype=int)),)
        specs[Columns.ACTIONS] = ColumnSpec("float", np.float32, (flat, space.shape))
    if isinstance(space, gym.spaces.Discrete | gym.spaces.Box):
        size = module.get_train_action_dist_cls().required_input_dim(space)
        is_discrete = isinstance(space, gym.spaces.Discrete)
        specs[Columns.ACTION_DIST_INPUTS] = ColumnSpec(
            "float", np.float32, ((size,),), minus_inf=is_discrete
        )
    return specs


def check_columns(
    module_id: str,
    columns: Mapping[str, Any],
    *,
    specs: Mapping[str, ColumnSpec],
    required: Collection[str],
) -> dict[str, Any]:
    """Returns the columns as NumPy arrays of the dtypes the learner trains on.

    float64 becomes float32 and int64 becomes int32; columns that only describe rows
    (infos, ids) are left out.

    Args:
        module_id: The module the columns belong to.
        columns: Arrays [N, ...], or nests of them.
        specs: What known columns must look like.
        required: Columns that must be there.

    Raises:
        BatchError: If a column cannot be trained on.
    """
    for column in required:
        if column not in columns:
            raise BatchError(
                f"module {module_id!r}",
                f"no column {column!r} (have {[*columns]})",
                f"{sorted(required)}",
                did_you_mean(column, set(columns) - set(required)),
            )
    checked = {
        column: _map_leaves(
            lambda leaf, column=column: _check_leaf(
                f"module {module_id!r}, column {column!r}", leaf, specs.get(column)
            ),
            values,
        )
        for column, values in columns.items()
        if column not in IGNORED
    }
    lengths = [(c, len(leaf)) for c, v in checked.items() for leaf in tree.flatten(v)]
    lengths.sort(key=lambda item: item[0] != Columns.OBS)  # What others compare with.
    for column, length in lengths:
        reference, wanted = lengths[0]
        if length != wanted:
            raise BatchError(
                f"module {module_id!r}, column {column!r}",
                f"{length} rows",
                f"{wanted}, as in column {reference!r}",
            )
    return checked


def _observation_spec(space: gym.Space | None) -> ColumnSpec | None:
    if isinstance(space, gym.spaces.Box):
        small = space.dtype == np.uint8
        dtype = np.uint8 if small else np.float32
        return ColumnSpec("int" if small else "float", dtype, (space.shape,))
    if isinstance(space, gym.spaces.Discrete):
        low = int(space.start)
        return ColumnSpec("int", np.int32, ((),), low, low + int(space.n) - 1)
    if isinstance(space, gym.spaces.MultiDiscrete):
        high = space.start + space.nvec - 1
        return ColumnSpec("int", np.int32, (space.shape,), space.start, high)
    return None


def _check_leaf(where: str, leaf: Any, spec: ColumnSpec | None) -> np.ndarray:
    array = _as_array(where, leaf)
    if array.ndim == 0:
        raise BatchError(where, "a scalar", "an array with a leading axis of rows")
    kind = KINDS.get(array.dtype.kind)
    if kind is None:
        raise BatchError(
            where, f"dtype {array.dtype}", "numbers", _first_odd_item(array)
        )
    if spec is None:
        narrow = {"float64": np.float32, "int64": np.int32, "uint64": np.int32}
        return _cast(where, array, narrow.get(array.dtype.name, array.dtype))
    if kind != spec.kind and (kind, spec.kind) != ("int", "float"):
        raise BatchError(where, f"dtype {array.dtype}", f"values of kind {spec.kind}")
    if spec.shapes is not None and array.shape[1:] not in spec.shapes:
        raise BatchError(
            where,
            f"{array.dtype} {array.shape}",
            " or ".join(str(("N", *s)).replace("'", "") for s in spec.shapes),
            _shape_hint(array, spec.shapes),
        )
    if spec.low is not None:
        _check_range(where, array, spec.low, spec.high)
    return _cast(where, array, spec.dtype, minus_inf=spec.minus_inf)


def _as_array(where: str, leaf: Any) -> np.ndarray:
    if isinstance(leaf, np.ndarray):
        return leaf
    if type(leaf).__module__.startswith("tensorflow") and hasattr(leaf, "numpy"):
        return leaf.numpy()
    raise BatchError(
        where,
        f"{type(leaf).__module__}.{type(leaf).__qualname__}",
        "a NumPy array or an eager TensorFlow tensor",
        "convert it with np.asarray first",
    )


def _cast(
    where: str, array: np.ndarray, dtype: Any, *, minus_inf: bool = False
) -> np.ndarray:
    """Returns the array as `dtype`; raises for numbers that this would spoil."""
    with np.errstate(over="ignore"):  # What float32 cannot hold becomes infinite.
        cast = array.astype(dtype, copy=False)
    if cast.dtype.kind == "f":
        _check_finite(where, array, cast, minus_inf=minus_inf)
    elif cast.dtype.kind in "iu" and cast.dtype != array.dtype:
        limits = np.iinfo(cast.dtype)
        _check_range(where, array, limits.min, limits.max)
    return cast


def _check_finite(
    where: str, given: np.ndarray, array: np.ndarray, *, minus_inf: bool
) -> None:
    finite = np.isfinite(array)
    if finite.all():
        return
    bad = ~finite & ~np.isneginf(given) if minus_inf else ~finite
    if bad.any():
        row, *rest = (int(i) for i in np.argwhere(bad)[0])
        place = f", index {tuple(rest)}" if rest else ""
        raise BatchError(
            where,
            f"{int(bad.sum())} non-finite values, the first ({given[bad][0]}) at row "
            f"{row}{place}",
            f"finite {array.dtype} numbers",
        )


def _check_range(where: str, array: np.ndarray, low: Any, high: Any) -> None:
    outside = (array < low) | (array > high)
    if outside.any():
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        raise BatchError(
            where,
            f"{array[index]} at row {index[0]}",
            f"values in [{np.min(low)}, {np.max(high)}]",
        )


def _shape_hint(array: np.ndarray, shapes) -> str | None:
    if array.shape in shapes:
        return "add the axis of rows: array[None]"
    if array.shape[-1:] == (1,) and array.shape[1:-1] in shapes:
        return "drop the last axis: array[..., 0]"
    return None


def _first_odd_item(array: np.ndarray) -> str | None:
    for row, item in enumerate(array.ravel()):
        if not isinstance(item, int | float | np.number):
            return f"row {row} is {type(item).__name__!r}"
    return None


def _map_leaves(function, nest):
    if isinstance(nest, dict | tuple) and not hasattr(nest, "dtype"):
        return tree.map_structure(function, nest)
    return function(nest)
