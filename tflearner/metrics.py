"""Metrics: values logged under nested keys, reduced when somebody asks.

A `Stats` is one metric: the values it still needs and the rule that reduces them. A
`MetricsLogger` is a nested dict of them. No TensorFlow is imported here; tensors of a
traced function pass through `MetricsLogger.collect` without being looked at.
"""

import collections
import contextlib
import copy
import dataclasses
import math
import operator
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from tflearner.errors import UsageError, did_you_mean
from tflearner.types import StateDict

MetricKey = str | tuple[str, ...]

DEFAULT_EMA_COEFF = 0.01
_REDUCTIONS = (None, "mean", "min", "max", "sum")
_FOLDS: dict[Any, Callable] = {"sum": operator.add, "min": min, "max": max}
_ARRAY_FOLDS: dict[Any, Callable] = {"sum": np.sum, "min": np.min, "max": np.max}
_REQUIRED = object()


class Stats:
    """One metric: a series of values and how it becomes one number.

    With a window the last `window` values are kept. Without one a single number is:
    the sum, the smallest, the largest, or for `"mean"` the moving average

        ema = (1 - ema_coeff) * ema + ema_coeff * x,    starting with the first x.

    NaN values are ignored, except by the moving average. `reduce=None` keeps a list.

        >>> stats = Stats(reduce="mean", window=2)
        >>> for x in (1.0, 2.0, 3.0):
        ...     stats.push(x)
        >>> stats.peek()
        2.5

    Args:
        reduce: `"mean"`, `"min"`, `"max"`, `"sum"` or `None`.
        window: How many values to keep. `float("inf")` keeps all until `reduce()` and
            needs `clear_on_reduce`.
        ema_coeff: The weight of a new value. 0.01 for a mean without a window.
        clear_on_reduce: Whether `reduce()` empties the metric. Always the case for
            `reduce=None` without a finite window, which would grow for ever.
        throughput: Whether to measure the growth per second between two `reduce()`;
            only for sums without a window.
        name: What error messages call the metric.
    """

    def __init__(
        self,
        *,
        reduce: str | None = "mean",
        window: float | None = None,
        ema_coeff: float | None = None,
        clear_on_reduce: bool = False,
        throughput: bool = False,
        name: str = "metric",
    ):
        _check_settings(name, reduce, window, ema_coeff, clear_on_reduce, throughput)
        if reduce == "mean" and window is None and ema_coeff is None:
            ema_coeff = DEFAULT_EMA_COEFF
        unbounded = window is None or math.isinf(window)
        self.reduction = reduce
        self.window = window
        self.ema_coeff = ema_coeff
        self.clear_on_reduce = clear_on_reduce or (reduce is None and unbounded)
        self.name = name
        # Sums, extremes and averages without a window live in a window of one.
        self._folds = window is None and reduce is not None
        maxlen = 1 if self._folds else None if unbounded else int(window or 0)
        self.values: collections.deque = collections.deque(maxlen=maxlen)
        self._throughput = math.nan if throughput else None
        self._last_reduce: tuple[float | None, float] = (None, 0)  # Seconds, value.
        self._start_times: dict[int, float] = {}  # By thread.

    def push(self, value: Any) -> None:
        """Adds one value: a number, or a scalar array or tensor."""
        if self.reduction is None:
            if getattr(value, "ndim", None) == 0:
                value = np.asarray(value).item()
        elif type(value) is not float and type(value) is not int:
            value = _numbers(value, 0, self.name).item()
        if self._folds and self.values:
            value = self._fold(self.values[0], value)
        self.values.append(value)

    def push_many(self, values: Any) -> None:
        """Adds values in order, as `push` would one by one. Numbers [N]."""
        array = _numbers(values, 1, self.name)
        if not array.size:
            return
        if not self._folds:
            self.values.extend(array.tolist())
        elif self.ema_coeff is not None:
            self.values.append(self._fold_ema(array, self.ema_coeff))
        else:
            valid = array[~np.isnan(array)]
            fold = _ARRAY_FOLDS[self.reduction]
            self.push(fold(valid).item() if valid.size else math.nan)

    def peek(self) -> Any:
        """Returns the reduced value: a Python number, or a list for `reduce=None`."""
        if self.reduction is None:
            return list(self.values)
        valid = [value for value in self.values if not math.isnan(value)]
        if not valid:
            return 0 if self.reduction == "sum" else math.nan
        if len(valid) == 1:
            return valid[0]
        if self.reduction == "sum":
            return sum(valid)
        if self.reduction == "mean":
            return sum(valid) / len(valid)
        return min(valid) if self.reduction == "min" else max(valid)

    def reduce(self, *, return_stats_obj: bool = True) -> Any:
        """Ends a round: returns what was logged, and empties `self` if so set.

        Args:
            return_stats_obj: `False` returns the value instead of a copy of `self`.
        """
        if self._throughput is not None:
            self._measure_throughput()
        result = self.copy() if return_stats_obj else self.peek()
        if self.clear_on_reduce:
            self.clear()
        return result

    def clear(self) -> None:
        """Forgets all values."""
        self.values.clear()

    def copy(self) -> "Stats":
        """Returns an independent metric with the same settings and values."""
        new = copy.copy(self)
        new.values = self.values.copy()
        return new

    @property
    def throughput(self) -> float:
        """Growth per second between the last two `reduce()`; NaN before the second."""
        if self._throughput is None:
            raise UsageError(
                self.name,
                "a metric without throughput",
                "one logged with reduce='sum', with_throughput=True",
            )
        return self._throughput

    def get_state(self) -> StateDict:
        """Returns settings and values as plain Python."""
        return {
            "reduce": self.reduction,
            "window": self.window,
            "ema_coeff": self.ema_coeff,
            "clear_on_reduce": self.clear_on_reduce,
            "throughput": self._throughput is not None,
            "values": list(self.values),
        }

    @classmethod
    def from_state(cls, state: StateDict, *, name: str = "metric") -> "Stats":
        """Returns the metric that `get_state` described."""
        settings = {key: value for key, value in state.items() if key != "values"}
        stats = cls(**settings, name=name)
        stats.values.extend(state["values"])
        return stats

    def __enter__(self) -> Self:
        thread = threading.get_ident()
        if thread in self._start_times:
            raise UsageError(
                self.name,
                "a timer that already runs on this thread",
                hint="log nested blocks under different keys",
            )
        self._start_times[thread] = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.push(time.perf_counter() - self._start_times.pop(threading.get_ident()))

    def __repr__(self) -> str:
        return (
            f"Stats({self.peek()}, reduce={self.reduction!r}, len={len(self.values)})"
        )

    def _fold(self, old: float, new: float) -> float:
        if self.ema_coeff is not None:
            return (1.0 - self.ema_coeff) * old + self.ema_coeff * new
        if math.isnan(new):
            return old
        return new if math.isnan(old) else _FOLDS[self.reduction](old, new)

    def _fold_ema(self, array: np.ndarray, coeff: float) -> float:
        # Unrolled: ema_n = (1 - c)^n ema_0 + sum_i c (1 - c)^(n - i) x_i.
        if self.values:
            ema, rest = self.values[0], array
        else:
            ema, rest = array[0].item(), array[1:]
        if not rest.size:
            return ema
        keep = 1.0 - coeff
        weights = coeff * keep ** np.arange(len(rest) - 1, -1, -1)
        return keep ** len(rest) * ema + float(weights @ rest)

    def _measure_throughput(self) -> None:
        now, total = time.perf_counter(), self.peek()
        then, last = self._last_reduce
        if then is not None and now > then:
            self._throughput = (total - last) / (now - then)
        self._last_reduce = (now, 0 if self.clear_on_reduce else total)


@dataclasses.dataclass
class Collected:
    """What was logged under one `MetricsLogger.collect()`.

    Attributes:
        values: Key -> the values logged under it, in order, untouched.
        settings: Key -> the settings of its first `log_value`; they fit `log_values`.
    """

    values: dict[tuple[str, ...], list] = dataclasses.field(default_factory=dict)
    settings: dict[tuple[str, ...], dict] = dataclasses.field(default_factory=dict)

    def add(self, key: tuple[str, ...], value: Any, settings: dict) -> None:
        """Keeps a value, and the settings of the first one under its key."""
        if key not in self.settings:
            _new_stats(key, **settings)  # Raises here, where the user's code is.
            self.settings[key] = settings
        self.values.setdefault(key, []).append(value)


class MetricsLogger:
    """A nested dict of metrics that creates each on its first value.

    The settings of a metric (see `Stats`) are those of the call that logs it first;
    later ones are ignored.

        >>> metrics = MetricsLogger()
        >>> metrics.log_value(("p0", "loss"), 0.5, window=1)
        >>> metrics.log_value("steps", 20, reduce="sum")
        >>> metrics.reduce(return_stats_obj=False)
        {'p0': {'loss': 0.5}, 'steps': 20}

    Code that is traced logs tensors that have no value yet. Collect them, let the
    traced function return them, and log the numbers that come out:

        with metrics.collect() as collected:
            loss = compute_loss(...)  # Calls metrics.log_value(key, tensor).
        outputs = collected.values
        ...
        metrics.log_values(key, array, **collected.settings[key])

    Attributes:
        stats: The nested dict. Deleting a branch of it forgets its metrics.
    """

    def __init__(self) -> None:
        self.stats: dict[str, Any] = {}
        self._collectors = _Collectors()

    def __contains__(self, key: MetricKey) -> bool:
        return self._find(_path(key)) is not None

    def log_value(
        self,
        key: MetricKey,
        value: Any,
        *,
        reduce: str | None = "mean",
        window: float | None = None,
        ema_coeff: float | None = None,
        clear_on_reduce: bool = False,
        with_throughput: bool = False,
    ) -> None:
        """Logs one value; under `collect()` it is collected instead.

        Args:
            key: The metric: a name, or the names from the root of the tree.
            value: A number, or a scalar array or tensor.
            reduce: See `Stats`, as the other settings.
            window: How many values to keep.
            ema_coeff: The weight of a new value in a moving average.
            clear_on_reduce: Whether `reduce()` empties the metric.
            with_throughput: Whether to measure the growth per second.

        Raises:
            UsageError: For settings that contradict each other, a value that is not a
                scalar, or a key that is a branch of the tree.
        """
        path = _path(key)
        stats = self._find_stats(path)
        if stats is not None and not self._collectors.stack:
            stats.push(value)
            return
        settings: dict[str, Any] = {
            "reduce": reduce,
            "window": window,
            "ema_coeff": ema_coeff,
            "clear_on_reduce": clear_on_reduce,
            "with_throughput": with_throughput,
        }
        if self._collectors.stack:
            self._collectors.stack[-1].add(path, value, settings)
        else:
            stats = _new_stats(path, **settings)
            stats.push(value)
            self._attach(path, stats)

    def log_values(self, key: MetricKey, values: Any, **settings: Any) -> None:
        """Logs values in order, as `log_value` would one by one, in one cheap call.

        Args:
            key: The metric.
            values: Numbers [N].
            **settings: Those of `log_value`.
        """
        path = _path(key)
        stats = self._find_stats(path)
        if stats is not None:
            stats.push_many(values)
        else:
            stats = _new_stats(path, **settings)
            stats.push_many(values)
            self._attach(path, stats)

    def log_dict(
        self, nested: dict, *, key: MetricKey | None = None, **settings: Any
    ) -> None:
        """Logs every leaf of a nested dict; its keys may be tuples.

        Args:
            nested: Key -> value, or another such dict.
            key: Where the tree is put; `None` is the root.
            **settings: Those of `log_value`, for every leaf.
        """
        prefix = () if key is None else _path(key)
        for name, value in nested.items():
            path = prefix + _path(name)
            if isinstance(value, dict):
                self.log_dict(value, key=path, **settings)
            else:
                self.log_value(path, value, **settings)

    def log_time(self, key: MetricKey, **settings: Any) -> Stats:
        """Returns a context manager that logs the seconds its block takes.

        Args:
            key: The metric.
            **settings: Those of `log_value`.
        """
        path = _path(key)
        return self._find_stats(path) or self._attach(
            path, _new_stats(path, **settings)
        )

    def set_value(self, key: MetricKey, value: Any, **settings: Any) -> None:
        """Replaces all values of a metric by one, creating it if need be.

        Args:
            key: The metric.
            value: A number, or a scalar array or tensor.
            **settings: Those of `log_value`, for a new metric.
        """
        old = self._find_stats(_path(key))
        if old is None:
            self.log_value(key, value, **settings)
            return
        new = old.copy()
        new.clear()
        new.push(value)
        old.values = new.values

    def peek(
        self,
        key: MetricKey | None = None,
        *,
        default: Any = _REQUIRED,
        throughput: bool = False,
    ) -> Any:
        """Returns the current value of a metric, or a dict for a branch.

        Args:
            key: The metric or branch; `None` is the whole tree.
            default: What to return for a key that was never logged.
            throughput: Whether to return the growth per second instead.

        Raises:
            KeyError: For a key that was never logged, unless there is a default.
        """
        node = self.stats if key is None else self._find(_path(key))
        if node is None:
            if default is _REQUIRED:
                raise self._key_error(_path(key or ()))
            return default
        if throughput:
            return _map_leaves(lambda stats: stats.throughput, node)
        return _map_leaves(Stats.peek, node)

    def reduce(
        self, key: MetricKey | None = None, *, return_stats_obj: bool = True
    ) -> Any:
        """Ends a round: returns all metrics and empties those logged so.

        Args:
            key: The metric or branch to end; `None` is the whole tree.
            return_stats_obj: Whether the leaves are `Stats` (copies), or Python
                numbers.

        Returns:
            A dict with the structure of the logged keys.
        """
        node = self.stats if key is None else self._find(_path(key))
        if node is None:
            raise self._key_error(_path(key or ()))
        return _map_leaves(
            lambda stats: stats.reduce(return_stats_obj=return_stats_obj), node
        )

    def delete(self, *key: str | tuple[str, ...], key_error: bool = True) -> None:
        """Forgets a metric or a branch, as `delete("p0", "loss")`.

        Args:
            *key: The names from the root of the tree, or one tuple of them.
            key_error: Whether a key that was never logged is a `KeyError`.
        """
        path = tuple(name for part in key for name in _path(part))
        if self._find(path) is not None:
            del self._find(path[:-1])[path[-1]]
        elif key_error:
            raise self._key_error(path)

    def reset(self) -> None:
        """Forgets everything."""
        self.stats = {}

    @contextlib.contextmanager
    def collect(self) -> Iterator[Collected]:
        """Collects what this thread logs in the block, without looking at the values.

        Blocks nest: the innermost one gets the values. When it ends, the enclosing one
        learns its settings, so that whoever returns the values outwards can log them.
        """
        stack, collected = self._collectors.stack, Collected()
        stack.append(collected)
        try:
            yield collected
        finally:
            stack.pop()
        if stack:
            for path, settings in collected.settings.items():
                stack[-1].settings.setdefault(path, settings)

    def get_state(self) -> StateDict:
        """Returns all metrics with their settings as plain Python."""
        leaves = list(_leaves(self.stats))
        # A list: names may contain any separator one could join them with.
        return {"stats": [{"key": list(p), **s.get_state()} for p, s in leaves]}

    def set_state(self, state: StateDict) -> None:
        """Adds or replaces the metrics of `state`; others stay as they are."""
        new = MetricsLogger()  # Takes the place of our tree when all went well.
        new.stats = _map_leaves(lambda stats: stats, self.stats)
        for leaf in state["stats"]:
            path = tuple(leaf["key"])
            settings = {name: value for name, value in leaf.items() if name != "key"}
            new._find_stats(path)  # Raises if the path is a branch.
            new._attach(path, Stats.from_state(settings, name=_name(path)))
        self.stats = new.stats

    def _find(self, path: tuple[str, ...]) -> Any:
        """Returns the `Stats` or branch at `path`, or `None`."""
        node: Any = self.stats
        for name in path:
            if type(node) is not dict:
                return None
            node = node.get(name)
        return node

    def _find_stats(self, path: tuple[str, ...]) -> Stats | None:
        node = self._find(path)
        if node is not None and not isinstance(node, Stats):
            raise UsageError(
                _name(path), f"a branch with {sorted(node)}", "the key of one metric"
            )
        return node

    def _attach(self, path: tuple[str, ...], stats: Stats) -> Stats:
        node = self.stats
        for depth, name in enumerate(path[:-1]):
            node = node.setdefault(name, {})
            if isinstance(node, Stats):
                raise UsageError(
                    _name(path),
                    f"a key below the metric {_name(path[: depth + 1])}",
                    "a key that no metric is part of",
                )
        node[path[-1]] = stats
        return stats

    def _key_error(self, path: tuple[str, ...]) -> KeyError:
        known = ["/".join(leaf) for leaf, _ in _leaves(self.stats)]
        hint = did_you_mean("/".join(path), known) or f"there is {sorted(known)[:20]}"
        return KeyError(f"{_name(path)}: never logged. Hint: {hint}")


class _Collectors(threading.local):
    # A distribution strategy runs the step of each replica on a thread of its own.
    def __init__(self) -> None:
        self.stack: list[Collected] = []


def _check_settings(
    name: str,
    reduce: str | None,
    window: float | None,
    ema_coeff: float | None,
    clear_on_reduce: bool,
    throughput: bool,
) -> None:
    is_count = isinstance(window, (int, np.integer)) and not isinstance(window, bool)
    is_window = window in (None, math.inf) or (is_count and window >= 1)
    has_ema = ema_coeff is not None
    for wrong, got, want in (
        (reduce not in _REDUCTIONS, f"reduce={reduce!r}", f"one of {_REDUCTIONS}"),
        (not is_window, f"window={window!r}", "an int >= 1, inf or None"),
        (has_ema and window is not None, f"{window=} and {ema_coeff=}", "one of them"),
        (
            window == math.inf and not clear_on_reduce,
            "window=inf, which grows for ever",
            "clear_on_reduce=True with it",
        ),
        (has_ema and reduce != "mean", f"{ema_coeff=} for {reduce=}", "reduce='mean'"),
        (has_ema and not 0 < (ema_coeff or 0) <= 1, f"{ema_coeff=}", "0 < it <= 1"),
        (
            throughput and (reduce != "sum" or window is not None),
            f"with_throughput=True for {reduce=}, {window=}",
            "reduce='sum' without a window",
        ),
    ):
        if wrong:
            raise UsageError(name, got, want)


def _new_stats(
    path: tuple[str, ...], *, with_throughput: bool = False, **settings: Any
) -> Stats:
    if not path or not all(isinstance(name, str) for name in path):
        raise UsageError("metrics", f"the key {path!r}", "a str or a tuple of str")
    return Stats(**settings, throughput=with_throughput, name=_name(path))


def _numbers(values: Any, ndim: int, name: str) -> np.ndarray:
    """Returns values as an array of ints or float64, or raises `UsageError`."""
    want = "a number" if ndim == 0 else "numbers [N]"
    try:
        array = np.asarray(values)
    except NotImplementedError as error:  # TensorFlow's, for a symbolic tensor.
        raise UsageError(
            name,
            f"{values!r}, which has no value yet",
            want,
            "log tensors of a traced function under `collect()`",
        ) from error
    # Other float types, such as bfloat16, say that they are "V".
    if array.ndim != ndim or array.dtype.kind not in "biufV" or array.dtype.names:
        hint = "log a mean or sum, or use log_values" if array.ndim > ndim else None
        shown = type(values).__name__ if array.dtype.kind == "O" else array.dtype
        raise UsageError(name, f"{shown} with shape {array.shape}", want, hint)
    return array.astype(np.int64 if array.dtype.kind in "biu" else np.float64)


def _path(key: MetricKey) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key)


def _name(path: tuple[str, ...]) -> str:
    return f"metric {'/'.join(map(str, path))!r}"


def _map_leaves(function: Callable[[Stats], Any], node: Any) -> Any:
    if isinstance(node, Stats):
        return function(node)
    return {name: _map_leaves(function, child) for name, child in node.items()}


def _leaves(
    node: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Stats]]:
    if isinstance(node, Stats):
        yield path, node
        return
    for name, child in node.items():
        yield from _leaves(child, (*path, name))
