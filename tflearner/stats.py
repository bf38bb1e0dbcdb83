"""`Stats`: the values of one metric, with the rule that reduces and merges them."""

import collections
import copy
import itertools
import math
import operator
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np

from tflearner.checks import is_int, is_real
from tflearner.errors import UsageError, shown
from tflearner.types import StateDict

DEFAULT_EMA_COEFF = 0.01
_REDUCTIONS = (None, "mean", "min", "max", "sum")
_FOLDS: dict[Any, Callable] = {"sum": operator.add, "min": min, "max": max}
_ARRAY_FOLDS: dict[Any, Callable] = {"sum": np.sum, "min": np.min, "max": np.max}
_MAX_INT = 2**63
_MISSING = object()
_MOST = 2**1000  # Much larger ints do not fit into a float.
_TIMER_LOCK = threading.Lock()


class Stats:
    """One metric: a series of values and the rule that reduces it to a number.

    With a window, the last `window` values are kept. Without one, a single number is
    kept: the sum, the smallest, the largest, or for `"mean"` the moving average

        ema = (1 - ema_coeff) * ema + ema_coeff * x,    starting with the first x.

    NaN values are ignored, except by the moving average. `reduce=None` keeps a list.

        >>> stats = Stats([1.0, 2.0], reduce="mean", window=2)
        >>> stats.push(3.0)
        >>> stats.peek()
        2.5

    A sum without a window that is not cleared is a lifetime sum. It remembers its total
    at the last `reduce()`, and a merge on the time axis adds only the increase since
    then. So no round is counted twice if every result of `reduce()` is merged once:

        >>> child, parent = Stats(30, reduce="sum"), Stats(reduce="sum")
        >>> parent.merge_on_time_axis(child.reduce())
        >>> child.push(20)
        >>> parent.merge_on_time_axis(child.reduce())
        >>> child.peek(), parent.peek()
        (50, 50)

    Args:
        init: A first value, or a list of them.
        reduce: `"mean"`, `"min"`, `"max"`, `"sum"` or `None`.
        window: The number of values to keep. `float("inf")` keeps all until `reduce()`
            and needs `clear_on_reduce`.
        ema_coeff: The weight of a new value in the moving average; 0.01 by default.
        clear_on_reduce: Whether `reduce()` empties the metric. With `reduce=None` and
            no finite window it always does.
        throughput: Whether to measure the growth per second between two calls of
            `reduce()`; only for sums without a window.
        name: The name of the metric in errors.
    """

    def __init__(
        self,
        init: Any = None,
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
        self.has_throughput = throughput
        self._rate = math.nan
        self._is_total = self._folds and reduce == "sum"
        self._reported: float = 0  # The total that earlier rounds have reported.
        self._reduced_at: float | None = None  # Seconds.
        self._start_times: dict[int, float] = {}  # By thread.
        if init is not None:
            for value in init if isinstance(init, list) else [init]:
                self.push(value)

    def __len__(self) -> int:
        """Returns the number of stored values."""
        return len(self.values)

    def __bool__(self) -> bool:  # Without values it is still a metric.
        return True

    def push(self, value: Any) -> None:
        """Adds one value: a number, or a scalar array or tensor."""
        if self.reduction is None:
            if getattr(value, "ndim", None) == 0:
                value = np.asarray(value).item()
        elif type(value) is not float and not (
            type(value) is int and -_MOST < value < _MOST
        ):
            value = _numbers(value, 0, self.name).item()
        if self._folds and self.values:
            value = self._fold(self.values[0], value)
        self.values.append(value)

    def push_many(self, values: Any) -> None:
        """Adds values in order, as one `push` per value would. Numbers [N]."""
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
        return _reduced(self.reduction, self.values)

    def reduce(self, *, return_stats_obj: bool = True) -> Any:
        """Ends a round: returns the metric, and empties it with `clear_on_reduce`.

        Args:
            return_stats_obj: Whether to return a copy of the metric, instead of its
                value.
        """
        if self.has_throughput:
            self._measure_throughput()
        value = self.peek()
        result = self.copy() if return_stats_obj else value
        if self.clear_on_reduce:
            self.clear()
        elif self._is_total:
            self._reported = value
        return result

    def merge_in_parallel(self, *others: "Stats") -> None:
        """Merges metrics that other components logged during the same time.

        Windows are merged from the newest to the oldest value, one value of each metric
        per depth. Means and extremes replace these values by their reduction, as often
        as there are values; sums and lists keep them. The merge ends when the window is
        full:

            mean, window 3:  [1, 2, 3] and [4, 5, 6]  ->  [3.5, 3.5, 4.5, 4.5]

        of which the last three are kept. Moving averages become their plain mean; sums
        without a window, and throughputs, are added.

        Args:
            *others: The metrics, which are not changed.

        Raises:
            UsageError: If a metric has another reduction.
        """
        self.check_mergeable(*others)
        series = [stats.values for stats in (self, *others)]
        merged = merged_by_depth(series, self.reduction, self.window)
        if self._is_total:
            merged = [_reduced("sum", merged)]
        self.values.clear()
        self.values.extend(merged)
        self._reported += sum(stats._reported for stats in others)
        rates = [s._rate for s in (self, *others) if not math.isnan(s._rate)]
        self._rate = sum(rates) if rates else math.nan

    def merge_on_time_axis(self, other: "Stats") -> None:
        """Merges a metric whose values were logged after those of this one.

        The other values are pushed one by one. Of a lifetime sum, only the increase
        since its previous `reduce()` is added. The other throughput replaces this one.

        Args:
            other: The metric, which is not changed.

        Raises:
            UsageError: If the metric has another reduction.
        """
        self.check_mergeable(other)
        values = list(other.values)
        if other._is_total:
            values = [other.peek() - other._reported]
        for value in values:
            self.push(value)
        if not math.isnan(other._rate):
            self._rate = other._rate

    def check_mergeable(self, *others: "Stats") -> None:
        """Raises `UsageError` for a metric with another reduction."""
        for other in others:
            if other.reduction != self.reduction:
                raise UsageError(
                    self.name,
                    f"a metric with reduce={other.reduction!r} to merge",
                    f"reduce={self.reduction!r}",
                    "log both with the same reduction, or under different keys",
                )

    def clear(self) -> None:
        """Deletes all values."""
        self.values.clear()
        self._reported = 0

    def copy(self) -> "Stats":
        """Returns an independent metric with the same values; its clocks start anew."""
        new = copy.copy(self)
        new.values = self.values.copy()
        new._reduced_at = None
        new._start_times = {}
        return new

    def similar(self) -> "Stats":
        """Returns an empty metric with the same settings."""
        return Stats(**self._settings(), name=self.name)

    @property
    def throughput(self) -> float:
        """The growth per second between the last two rounds; NaN before the second."""
        if not self.has_throughput:
            raise UsageError(
                self.name,
                "a metric without throughput",
                "one logged with reduce='sum', with_throughput=True",
            )
        return self._rate

    def get_state(self) -> StateDict:
        """Returns settings and values as plain Python.

        The throughput is excluded: it depends on this process' clock, and a resumed run
        must equal an uninterrupted one to the bit.
        """
        return {
            **self._settings(),
            "values": list(self.values),
            "reported": self._reported,
        }

    @classmethod
    def from_state(cls, state: StateDict, *, name: str = "metric") -> "Stats":
        """Returns a metric made from a state of `get_state`.

        Raises:
            UsageError: If the state is invalid.
        """
        empty = cls(reduce=None, window=1).get_state()
        if not isinstance(state, dict) or state.keys() != empty.keys():
            got = f"{sorted(map(str, state))}" if isinstance(state, dict) else "a value"
            raise UsageError(f"state of {name}", got, f"{sorted(empty)}")
        settings = dict(state)
        values, reported = settings.pop("values"), settings.pop("reported")
        stats = cls(**settings, name=name)
        numbers = values if stats.reduction is not None else []
        if not isinstance(values, list) or not all(
            map(_is_saved, [*numbers, reported])
        ):
            want = f"numbers, the whole ones below {_MAX_INT}"
            raise UsageError(f"state of {name}", "invalid values", want)
        stats.values.extend(values)
        stats._reported = reported
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
        seconds = time.perf_counter() - self._start_times.pop(threading.get_ident())
        with _TIMER_LOCK:  # Two threads that fold at once would lose a value.
            self.push(seconds)

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
        now, then = time.perf_counter(), self._reduced_at
        if then is not None and now > then:
            self._rate = (self.peek() - self._reported) / (now - then)
        self._reduced_at = now

    def _settings(self) -> dict[str, Any]:
        return {
            "reduce": self.reduction,
            "window": self.window,
            "ema_coeff": self.ema_coeff,
            "clear_on_reduce": self.clear_on_reduce,
            "throughput": self.has_throughput,
        }


def merged_by_depth(
    series: Iterable[collections.deque], reduce: str | None, window: float | None
) -> list:
    """Merges the values of parallel metrics into one series, oldest first.

    Args:
        series: The values of each metric, oldest first.
        reduce: The reduction of all metrics.
        window: The number of values after which to stop, at the end of a depth.
    """
    merged: list = []
    for depth in itertools.zip_longest(*map(reversed, series), fillvalue=_MISSING):
        values = [value for value in depth if value is not _MISSING]
        if reduce in ("mean", "min", "max"):
            values = [_reduced(reduce, values)] * len(values)
        merged += values
        if window is not None and len(merged) >= window:
            break
    return merged[::-1]


def _reduced(reduce: str, values: Iterable) -> Any:
    valid = [value for value in values if not math.isnan(value)]
    if not valid:
        return 0 if reduce == "sum" else math.nan
    if len(valid) == 1:
        return valid[0]
    if reduce == "sum":
        return sum(valid)
    if reduce == "mean":
        return sum(valid) / len(valid)
    return min(valid) if reduce == "min" else max(valid)


def _check_settings(
    name: str,
    reduce: str | None,
    window: float | None,
    ema_coeff: float | None,
    clear_on_reduce: bool,
    throughput: bool,
) -> None:
    is_inf = isinstance(window, float) and window == math.inf
    is_window = window is None or is_inf or is_int(window, 1, _MAX_INT - 1)
    has_ema = ema_coeff is not None
    is_coeff = is_real(ema_coeff) and 0 < ema_coeff <= 1
    are_bools = all(
        isinstance(b, bool | np.bool_) for b in (clear_on_reduce, throughput)
    )
    for wrong, got, want in (
        (
            not are_bools,
            f"clear_on_reduce={shown(clear_on_reduce)}, with_throughput={shown(throughput)}",
            "bools",
        ),
        (not _is_reduction(reduce), f"reduce={shown(reduce)}", f"one of {_REDUCTIONS}"),
        (not is_window, f"window={shown(window)}", "an int >= 1, inf or None"),
        (
            has_ema and window is not None,
            f"window={shown(window)} and ema_coeff={shown(ema_coeff)}",
            "one of them",
        ),
        (
            is_inf and not clear_on_reduce,
            "window=inf, which grows without bound",
            "clear_on_reduce=True with it",
        ),
        (
            has_ema and reduce != "mean",
            f"ema_coeff={shown(ema_coeff)} for reduce={shown(reduce)}",
            "reduce='mean'",
        ),
        (has_ema and not is_coeff, f"ema_coeff={shown(ema_coeff)}", "0 < it <= 1"),
        (
            are_bools and throughput and (reduce != "sum" or window is not None),
            f"with_throughput=True for reduce={shown(reduce)}, window={shown(window)}",
            "reduce='sum' without a window",
        ),
    ):
        if wrong:
            raise UsageError(name, got, want)


def _is_reduction(reduce: Any) -> bool:
    return reduce is None or (isinstance(reduce, str) and reduce in _REDUCTIONS)


def _is_saved(value: Any) -> bool:
    """Returns whether a value is a number that `push` can have stored."""
    return type(value) is float or (type(value) is int and abs(value) < _MAX_INT)


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
    except ValueError as error:  # From NumPy, for lists of unequal lengths.
        raise UsageError(name, shown(values), want) from error
    # Other float types, such as bfloat16, have the kind "V".
    if array.ndim != ndim or array.dtype.kind not in "biufV" or array.dtype.names:
        hint = "log a mean or sum, or use log_values" if array.ndim > ndim else None
        kind = type(values).__name__ if array.dtype.kind == "O" else array.dtype
        raise UsageError(name, f"{kind} with shape {array.shape}", want, hint)
    return array.astype(np.int64 if array.dtype.kind in "biu" else np.float64)
