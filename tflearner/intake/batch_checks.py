"""Checks a train batch before anything changes.

Every column is checked for its kind of dtype, shape, length and finite values; actions
and discrete observations for their range. Errors name module, column and first bad row.
Numbers must be finite everywhere, also where a mask or a length leaves them out: a
masked NaN still spoils gradients. Padding may be 0 where 0 is out of range.

Where observations hold an "action_mask", it has to allow an action in every row that is
trained on, and the one that was taken: the log-probability of another is about -1e9.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import tree

from tflearner.columns import Columns
from tflearner.data import allocation
from tflearner.errors import BatchError, did_you_mean
from tflearner.intake import sequences
from tflearner.intake.sequences import PER_SEQUENCE, ROWS, Layout
from tflearner.modules.rl_module import RLModule
from tflearner.networks.distributions import Categorical
from tflearner.networks.product_distributions import (
    MultiCategorical,
    MultiDistribution,
)
from tflearner.spaces import mask_spaces
from tflearner.spaces.leaves import parts_of
from tflearner.spaces.mask_spaces import ACTION_MASK
from tflearner.types import Column, ColumnDict

MODES = ("full", "schema", "off", "strict")

IGNORED = (
    Columns.INFOS,
    Columns.EPS_ID,
    Columns.AGENT_ID,
    Columns.MODULE_ID,
    Columns.STATE_OUT,
)
KNOWN = frozenset(name for key, name in vars(Columns).items() if key.isupper())
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
    Columns.N_STEP,
    Columns.WEIGHTS,
)
FLAG_COLUMNS = (Columns.TERMINATEDS, Columns.TRUNCATEDS, Columns.LOSS_MASK)
KINDS = {"f": "float", "i": "int", "u": "int", "b": "bool"}
MAX_ROWS = np.iinfo(np.int32).max  # Minibatches are int32 indices of rows.


Bound = np.ndarray | int


@dataclasses.dataclass(frozen=True)
class ColumnSpec:
    """Required form of a column: its kind, dtype, shape and range.

    Attributes:
        kind: "number", "float" (ints are welcome), "int" or "bool".
        dtype: What it is cast to.
        shapes: Shapes one row may have; `None` allows any.
        low: Smallest allowed value, inclusive; `None` does not bound.
        high: Largest allowed value, inclusive.
        minus_inf: Whether -inf is a value, as in the logit of a forbidden action; or
            where, bool of the shape of a row.
    """

    kind: str
    dtype: np.typing.DTypeLike
    shapes: tuple[tuple[int, ...], ...] | None = ((),)
    low: Bound | None = None
    high: Bound | None = None
    minus_inf: np.ndarray | bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of values that are welcome."""
        kinds = {"number": ("float", "int", "bool"), "float": ("float", "int")}
        return kinds.get(self.kind, (self.kind,))


@dataclasses.dataclass(frozen=True)
class MaskSpec(ColumnSpec):
    """Required form of a mask of actions.

    Attributes:
        action_space: That of the actions.
    """

    action_space: gym.Space | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        return (*super().kinds, "bool")


# The form of a column; nested like it.
Spec: TypeAlias = (
    "ColumnSpec | sequences.SequenceSpec | Mapping[str, Spec] | tuple[Spec, ...] | None"
)


def column_specs(module: RLModule, trajectories: bool = False) -> dict[str, Spec]:
    """Returns the specs of the columns whose form a module decides.

    A spec is a `ColumnSpec`, or nested like the column; that of `seq_lens`, there for
    modules that train on sequences only, is a `SequenceSpec`.

    Args:
        module: The module.
        trajectories: Whether the loss needs sequences of stateless modules, too.
    """
    specs: dict[str, Spec] = {
        column: ColumnSpec("float", np.float32) for column in FLOAT_COLUMNS
    }
    specs |= {column: ColumnSpec("bool", np.bool_) for column in FLAG_COLUMNS}
    specs[Columns.WEIGHTS_SEQ_NO] = ColumnSpec("int", np.int32)
    observed, space = module.observation_space, module.action_space
    spec = _observation_spec(observed)
    if mask_spaces.is_masked(observed, space) and isinstance(spec, dict):
        spec = spec | {ACTION_MASK: _mask_spec(module)}
    if spec is not None:
        specs |= dict.fromkeys((Columns.OBS, Columns.NEXT_OBS), spec)
    spec = _action_spec(space)
    if spec is not None and space is not None:
        specs[Columns.ACTIONS] = spec
        dist_class = module.get_train_action_dist_cls()
        size = dist_class.required_input_dim(space)
        specs[Columns.ACTION_DIST_INPUTS] = ColumnSpec(
            "float", np.float32, ((size,),), minus_inf=may_be_minus_inf(module)
        )
    sequence_spec = sequences.sequence_spec(module, trajectories)
    if sequence_spec is not None:
        specs[Columns.SEQ_LENS] = sequence_spec
    if sequence_spec is not None and sequence_spec.initial_state:
        specs[Columns.STATE_IN] = tree.map_structure(
            _state_spec, sequence_spec.initial_state
        )
    return specs


def check_columns(
    module_id: str,
    columns: Mapping[str, Column],
    *,
    specs: Mapping[str, Spec],
    required: Collection[str],
    mode: str = "full",
) -> ColumnDict:
    """Returns the columns as NumPy arrays of the dtypes the learner trains on.

    float64 becomes float32 and int64 becomes int32; columns that only describe rows
    (infos, ids) are ignored. Those of a stateful module become sequences, see
    `sequences`.

    Args:
        module_id: The module the columns belong to.
        columns: Arrays [N, ...], or nests of them; [S, T, ...] for sequences.
        specs: What known columns must look like.
        required: Columns that must be there.
        mode: "full"; "schema", which looks at no values; "off", which checks only what
            it needs to make the result; or "strict", which is "full" and refuses
            columns that nobody knows.

    Raises:
        BatchError: If a column cannot be trained on.
    """
    where = f"module {module_id!r}"
    columns = dict(columns)  # The length of a `SampleBatch` may fail: it is unchecked.
    if mode != "off":
        _check_names(where, columns, specs, required, is_strict=mode == "strict")
    arrays = {
        column: _as_arrays(f"{where}, column {column!r}", values)
        for column, values in columns.items()
        if column not in IGNORED and not _is_absent(column, values)
    }
    _check_size(where, arrays)
    is_rows = Columns.SEQ_LENS not in specs and arrays.keys().isdisjoint(PER_SEQUENCE)
    if is_rows and arrays:
        layout = _rows_of(arrays)
    else:
        layout = sequences.read_layout(where, arrays, specs)
    arrays.pop(Columns.SEQ_LENS, None)
    checked = {}
    # First the one that the others are compared with.
    for column in dict.fromkeys([layout.reference, *arrays]):
        own_layout = layout
        if column == Columns.STATE_IN and layout.seq_lens is not None:
            own_layout = layout.per_sequence
        checked[column] = _checked(
            f"{where}, column {column!r}",
            arrays[column],
            specs.get(column),
            own_layout,
            mode,
        )
    if mode in ("full", "strict"):
        _check_masks(where, checked, specs, layout)
    spec = specs.get(Columns.SEQ_LENS)
    if not isinstance(spec, sequences.SequenceSpec):
        return checked
    return _as_sequences(where, checked, layout, spec, mode)


def _rows_of(arrays: ColumnDict) -> Layout:
    """Returns the layout of a stateless module's columns, at least one."""
    reference = Columns.OBS if Columns.OBS in arrays else next(iter(arrays))
    leaf = arrays[reference]
    while not isinstance(leaf, np.ndarray):
        leaf = next(iter(leaf.values())) if isinstance(leaf, Mapping) else leaf[0]
    return Layout(ROWS, leaf.shape[:1], reference)


@functools.cache
def max_bytes() -> int:
    """Returns the most bytes a batch may have: half of the machine's memory.

    An update holds a batch twice. NumPy declares more without having it: views with
    strides of 0.
    """
    return allocation.machine_memory() // 2


def _observation_spec(space: gym.Space | None) -> Spec:
    if isinstance(space, gym.spaces.Box):
        if space.dtype == np.uint8:
            return ColumnSpec("int", np.uint8, (space.shape,))
        kind = "number" if space.dtype == np.bool_ else "float"
        return ColumnSpec(kind, np.float32, (space.shape,))
    if isinstance(space, gym.spaces.Discrete):
        low = int(space.start)
        return ColumnSpec("int", np.int32, ((),), low, low + int(space.n) - 1)
    if isinstance(space, gym.spaces.MultiDiscrete):
        high = space.start + space.nvec - 1
        return ColumnSpec("int", np.int32, (space.shape,), space.start, high)
    if isinstance(space, gym.spaces.MultiBinary):
        return ColumnSpec("int", np.int8, (space.shape,), 0, 1)
    if isinstance(space, gym.spaces.Dict):
        return {key: _observation_spec(own) for key, own in space.items()} or None
    if isinstance(space, gym.spaces.Tuple):
        return tuple(_observation_spec(own) for own in space.spaces) or None
    return None


def _mask_spec(module: RLModule) -> MaskSpec:
    space: Any = module.observation_space
    mask = space[ACTION_MASK]
    is_float = mask.dtype.kind == "f"
    return MaskSpec(
        "float" if is_float else "int",
        np.float32 if is_float else np.int8,
        (mask.shape,),
        0,
        1,
        action_space=module.action_space,
    )


def _action_spec(space: gym.Space | None) -> Spec:
    """Returns the spec of actions as modules have them; `None` for other spaces."""
    if isinstance(space, gym.spaces.Discrete):
        return ColumnSpec("int", np.int32, ((),), 0, int(space.n) - 1)
    if isinstance(space, gym.spaces.MultiDiscrete):
        low = np.zeros(space.shape, np.int32)
        return ColumnSpec("int", np.int32, (space.shape,), low, space.nvec - 1)
    if isinstance(space, gym.spaces.MultiBinary):
        return ColumnSpec("int", np.int8, (tuple(space.shape),), 0, 1)
    if isinstance(space, gym.spaces.Box):
        flat = (int(np.prod(space.shape, dtype=int)),)
        return ColumnSpec("float", np.float32, (flat, space.shape))
    specs = {key: _action_spec(part) for key, part in parts_of(space)}
    if not specs or None in specs.values():
        return None
    return specs if isinstance(space, gym.spaces.Dict) else tuple(specs.values())


def may_be_minus_inf(module: RLModule) -> np.ndarray | bool:
    """Returns which inputs of its action distribution may be -inf. bool [inputs] or bool.

    Those are the logits of numbers, some of which may be forbidden. (The entropy of a
    bit that is forbidden has no gradient.)
    """
    space = module.action_space
    if not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        return isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete)
    dist_class = module.get_train_action_dist_cls()
    if not issubclass(dist_class, MultiDistribution):
        return False
    return np.concatenate(
        [
            np.full(size, issubclass(own, Categorical | MultiCategorical))
            for own, size in dist_class.leaves()
        ]
    )


def _state_spec(leaf: np.ndarray) -> ColumnSpec:
    array = np.asarray(leaf)
    return ColumnSpec(KINDS[array.dtype.kind], array.dtype, (array.shape,))


def _check_names(where, columns, specs, required, *, is_strict: bool) -> None:
    for column in columns:
        if not isinstance(column, str):
            raise BatchError(where, f"a column called {column!r}", "a name")
    for column in required:
        if column not in columns:
            raise BatchError(
                where,
                f"no column {column!r} (have {[*columns]})",
                f"{sorted(required)}",
                did_you_mean(column, set(columns) - set(required)),
            )
    if is_strict:
        known = KNOWN.union(specs, required)
        for column in columns:
            if column not in known:
                raise BatchError(
                    f"{where}, column {column!r}",
                    "a column that nobody knows",
                    f"one of {sorted(known)}",
                    did_you_mean(column, known),
                )


def _is_absent(column: str, values: object) -> bool:
    """Whether a column is there in name only, as stateless modules may have it."""
    if column == Columns.SEQ_LENS:
        return values is None
    return column == Columns.STATE_IN and isinstance(values, dict) and not values


def _as_arrays(where: str, nest: Column) -> Column:
    """Returns an array, or nested dicts and tuples of arrays; nothing is copied."""
    if type(nest) is np.ndarray and nest.ndim:
        return nest
    if isinstance(nest, Mapping | tuple):
        if not nest or len({type(key) for key in _keys(nest)}) > 1:
            raise BatchError(
                where,
                f"a {type(nest).__name__} with keys {[*_keys(nest)]}",
                "at least one array under keys that can be sorted",
            )
        return _map_items(lambda at, own: _as_arrays(f"{where}[{at!r}]", own), nest)
    array = nest
    is_tensor = type(nest).__module__.startswith("tensorflow")
    if is_tensor and hasattr(nest, "numpy") and not hasattr(nest, "to_tensor"):
        array = nest.numpy()
    # A masked array would hide what is under its mask from the checks.
    if not isinstance(array, np.ndarray | np.generic) or np.ma.isMaskedArray(array):
        raise BatchError(
            where,
            f"{type(nest).__module__}.{type(nest).__qualname__}",
            "a NumPy array or an eager TensorFlow tensor",
            "convert it with np.asarray first",
        )
    if array.ndim == 0:
        raise BatchError(where, "a scalar", "an array with a leading axis of rows")
    return np.asarray(array)


def _keys(nest: Mapping | tuple) -> Collection:
    return nest.keys() if isinstance(nest, Mapping) else range(len(nest))


def _map_items(function: Callable, nest: Mapping | tuple) -> Column:
    """Applies `function(key or index, value)` to the items of a dict or tuple."""
    if isinstance(nest, Mapping):
        return {key: function(key, value) for key, value in nest.items()}
    values = [function(index, value) for index, value in enumerate(nest)]
    return type(nest)(*values) if hasattr(nest, "_fields") else tuple(values)


def _check_size(where: str, arrays: ColumnDict) -> None:
    total, limit = 0, max_bytes()
    for column, nest in arrays.items():
        for leaf in [nest] if isinstance(nest, np.ndarray) else tree.flatten(nest):
            total += leaf.nbytes
            if len(leaf) > MAX_ROWS or total > limit:
                raise BatchError(
                    f"{where}, column {column!r}",
                    f"{leaf.dtype} {leaf.shape}, {leaf.nbytes / 1e9:.1f} GB",
                    f"at most {MAX_ROWS} rows, and {limit / 1e9:.1f} GB (half of this "
                    "machine's memory) in all columns",
                )


def _checked(where: str, nest: Column, spec: Spec, layout: Layout, mode: str) -> Column:
    """Returns the nest with its arrays checked and cast."""
    if isinstance(nest, np.ndarray):
        if isinstance(spec, ColumnSpec | None):
            return _checked_array(where, nest, spec, layout, mode)
    elif spec is None or (
        isinstance(spec, Mapping | tuple) and {*_keys(nest)} == {*_keys(spec)}
    ):
        return _map_items(
            lambda at, own: _checked(
                f"{where}[{at!r}]", own, spec and spec[at], layout, mode
            ),
            nest,
        )
    raise BatchError(where, _form_of(nest), _form_of(spec))


def _form_of(nest: object) -> str:
    if not isinstance(nest, Mapping | tuple):
        return "an array"
    return f"a {type(nest).__name__} with keys {[*_keys(nest)]}"


def _checked_array(
    where: str, array: np.ndarray, spec: ColumnSpec | None, layout: Layout, mode: str
) -> np.ndarray:
    if mode != "off":
        _check_form(where, array, spec, layout)
    cast = array
    dtype = _trained_dtype(array.dtype) if spec is None else spec.dtype
    if array.dtype != dtype:
        with np.errstate(over="ignore"):  # What float32 cannot hold becomes infinite.
            cast = array.astype(dtype)
    if mode in ("full", "strict") and array.size:
        _check_values(where, array, cast, spec, layout)
    return cast


def _trained_dtype(dtype: np.dtype) -> np.typing.DTypeLike:
    if dtype.kind == "f" and dtype.itemsize > 4:
        return np.float32
    if dtype.kind in "iu" and dtype.itemsize > 4:
        return np.int32
    return dtype.newbyteorder("=")


def _check_form(
    where: str, array: np.ndarray, spec: ColumnSpec | None, layout: Layout
) -> None:
    kind = KINDS.get(array.dtype.kind)
    if kind is None:
        got = f"dtype {array.dtype}{_first_odd_item(array)}"
        raise BatchError(where, got, "numbers")
    if spec is not None and kind not in spec.kinds:
        raise BatchError(where, f"dtype {array.dtype}", f"values of kind {spec.kind}")
    shape, axes = array.shape, len(layout.leading)
    shapes = None if spec is None else spec.shapes
    if len(shape) < axes or (shapes is not None and shape[axes:] not in shapes):
        letters = tuple(layout.names.values())
        wanted = " or ".join(str(letters + own) for own in shapes or [("...",)])
        raise BatchError(
            where,
            f"{array.dtype} {shape}",
            wanted.replace("'", ""),
            _shape_hint(shape, axes, shapes or ()),
        )
    if shape[:axes] != layout.leading:
        raise BatchError(
            where,
            layout.count(shape[:axes]),
            f"{layout.count(layout.leading)}, as in column {layout.reference!r}",
        )


def _shape_hint(shape: tuple, axes: int, shapes: tuple) -> str | None:
    if shape[axes - 1 :] in shapes:
        return "add axis 0, the one of rows: array[None]"
    if shape[-1:] == (1,) and shape[axes:-1] in shapes:
        return "drop the last axis: array[..., 0]"
    return None


def _first_odd_item(array: np.ndarray) -> str:
    for at, item in enumerate(array.flat):
        if not isinstance(item, int | float | np.number):
            row = at * len(array) // array.size
            return f", row {row} is {type(item).__name__!r}"
    return ""


def _check_values(
    where: str,
    given: np.ndarray,
    cast: np.ndarray,
    spec: ColumnSpec | None,
    layout: Layout,
) -> None:
    if cast.dtype.kind == "f":
        minus_inf = False if spec is None else spec.minus_inf
        _check_finite(where, given, cast, layout, minus_inf)
    if spec is not None and spec.low is not None and spec.high is not None:
        _check_range(where, given, spec.low, spec.high, layout)
    elif cast is not given and cast.dtype.kind in "iu":
        limits = np.iinfo(cast.dtype)
        _check_range(where, given, limits.min, limits.max, layout)


def _check_finite(
    where: str,
    given: np.ndarray,
    cast: np.ndarray,
    layout: Layout,
    minus_inf: np.ndarray | bool,
) -> None:
    # A sum of squares is finite only if all numbers are; it takes a third of the time.
    if math.isfinite(np.vdot(cast, cast)):
        return
    finite = np.isfinite(cast)
    bad = ~finite & ~(np.isneginf(given) & minus_inf)
    count = int(bad.sum())
    if count:
        raise BatchError(
            where,
            f"{count} non-finite value{'s' if count > 1 else ''}, the first "
            f"({given[bad][0]}) at {layout.place(_first(bad))}",
            f"finite {cast.dtype} numbers",
        )


def _check_range(
    where: str, array: np.ndarray, low: Bound, high: Bound, layout: Layout
) -> None:
    if isinstance(low, int) and array.min() >= low and array.max() <= high:
        return
    outside = (array < low) | (array > high)
    if layout.padding is not None:
        outside[layout.padding] &= array[layout.padding] != 0
    if outside.any():
        at = _first(outside)
        low, high = (np.broadcast_to(bound, array.shape)[at] for bound in (low, high))
        raise BatchError(
            where, f"{array[at]} at {layout.place(at)}", f"values in [{low}, {high}]"
        )


def _check_masks(where: str, columns: Mapping, specs: Mapping, layout: Layout) -> None:
    """Checks rows that are trained on; what follows on an episode may allow nothing."""
    spec = specs.get(Columns.OBS)
    spec = spec.get(ACTION_MASK) if isinstance(spec, Mapping) else None
    if not isinstance(spec, MaskSpec) or Columns.OBS not in columns:
        return
    masks, space = columns[Columns.OBS][ACTION_MASK], spec.action_space
    counts = columns.get(Columns.LOSS_MASK, np.True_)
    if layout.padding is not None:
        counts = counts & ~layout.padding
    bad = mask_spaces.allows_nothing(masks, space) & counts
    if bad.any():
        raise BatchError(
            f"{where}, column {Columns.OBS!r}[{ACTION_MASK!r}]",
            f"a mask that forbids every action at {layout.place(_first(bad))}",
            f"one allowed action or more of {space}",
            f"{Columns.LOSS_MASK!r} leaves out rows in which nothing is decided",
        )
    if Columns.ACTIONS not in columns or not isinstance(
        specs.get(Columns.ACTIONS), ColumnSpec
    ):
        return
    actions = columns[Columns.ACTIONS]
    bad = mask_spaces.forbids(masks, actions, space) & counts
    if bad.any():
        at = _first(bad)
        raise BatchError(
            f"{where}, column {Columns.ACTIONS!r}",
            f"action {actions[at]} at {layout.place(at)}",
            f"one that {Columns.OBS!r}[{ACTION_MASK!r}] allows there",
            "act with the mask: a module in the environment runner does",
        )


def _first(flags: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(flags)[0])


def _as_sequences(
    where: str, columns: dict, layout: Layout, spec: sequences.SequenceSpec, mode: str
) -> ColumnDict:
    if mode in ("full", "strict") and Columns.LOSS_MASK in columns:
        sequences.check_loss_mask(
            f"{where}, column {Columns.LOSS_MASK!r}", columns[Columns.LOSS_MASK], layout
        )
    num_bytes = sequences.padded_bytes(columns, layout, spec)
    if num_bytes > max_bytes():
        raise BatchError(
            f"{where}, column {Columns.SEQ_LENS!r}",
            f"lengths that pad the columns to {num_bytes / 1e9:.1f} GB",
            f"at most {max_bytes() / 1e9:.1f} GB, half of this machine's memory",
        )
    return sequences.complete(columns, layout, spec)
