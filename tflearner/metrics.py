"""Metrics: values logged under nested keys, and reduced on request.

A `MetricsLogger` is a nested dict of `Stats`. No TensorFlow is imported here; tensors
of a traced function pass through `MetricsLogger.collect` unread.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tflearner.checkpoint import matching
from tflearner.checkpoint.builders import register_builder
from tflearner.checkpoint.checkpointable import Checkpointable
from tflearner.checkpoint.kinds import METRICS, of_kind
from tflearner.checkpoint.restoring import RestorePlan, RestoreReport
from tflearner.errors import UsageError, did_you_mean
from tflearner.stats import Stats
from tflearner.types import StateDict

MetricKey = str | tuple[str, ...]

_REQUIRED = object()


@dataclasses.dataclass
class Collected:
    """Values logged under one `MetricsLogger.collect()`.

    Attributes:
        values: Key -> the values logged under it, in order.
        settings: Key -> the settings of its first `log_value`, for `log_values`.
        rows: Key -> the per-row values of `collect_rows`.
    """

    values: dict[tuple[str, ...], list] = dataclasses.field(default_factory=dict)
    settings: dict[tuple[str, ...], dict] = dataclasses.field(default_factory=dict)
    rows: dict[tuple[str, ...], Any] = dataclasses.field(default_factory=dict)

    def add(self, key: tuple[str, ...], value: Any, settings: dict) -> None:
        """Keeps a value, and the settings of the first one under its key."""
        if key not in self.settings:
            _new_stats(key, **settings)  # Raises here, where the user's code is.
            self.settings[key] = settings
        self.values.setdefault(key, []).append(value)


@of_kind(METRICS)
class MetricsLogger(Checkpointable):
    """Logs values under nested keys and reduces them to metrics.

    The first value logged under a key creates its metric, a `Stats`, with the settings
    of that call; the settings of later calls are ignored.

        >>> metrics = MetricsLogger()
        >>> metrics.log_value(("p0", "loss"), 0.5, window=1)
        >>> metrics.log_value("steps", 20, reduce="sum")
        >>> metrics.reduce(return_stats_obj=False)
        {'p0': {'loss': 0.5}, 'steps': 20}

    Traced code logs tensors that have no value yet. Collect them, return them from the
    traced function, and log the resulting numbers:

        with metrics.collect() as collected:
            loss = compute_loss(...)  # Calls metrics.log_value(key, tensor).
        outputs = collected.values
        ...
        metrics.log_values(key, array, **collected.settings[key])

    Components log into their own loggers. In every round, merge their results:

        >>> runners = [MetricsLogger(), MetricsLogger()]
        >>> for runner, steps in zip(runners, (10, 20)):
        ...     runner.log_value("steps_lifetime", steps, reduce="sum")
        >>> metrics.merge_and_log_n_dicts([r.reduce() for r in runners], key="runners")
        >>> metrics.peek("runners")
        {'steps_lifetime': 30}

    Attributes:
        stats: The nested dict of `Stats`. Deleting a branch removes its metrics.
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
        """Logs one value, or collects it inside a `collect()` block.

        Args:
            key: The metric's name, or a tuple of names from the root of the tree.
            value: A number, or a scalar array or tensor. A `Stats` is copied with its
                settings if it is the first value, and later merged on the time axis.
            reduce: As for `Stats`, like the other settings.
            window: The number of values to keep.
            ema_coeff: The weight of a new value in a moving average.
            clear_on_reduce: Whether `reduce()` empties the metric.
            with_throughput: Whether to measure the growth per second.

        Raises:
            UsageError: If settings contradict each other, the value is not a scalar, a
                `Stats` has another reduction, or the key is a branch of the tree.
        """
        path = _path(key)
        stats = self._find_stats(path)
        if isinstance(value, Stats):
            self._merge(path, value)
            return
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
        """Logs values in order, faster than one call of `log_value` per value.

        Args:
            key: The key of the metric.
            values: Numbers [N].
            **settings: The settings of `log_value`.
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
            nested: Key -> value, `Stats` or nested dict.
            key: The key of the branch to log under; `None` is the root.
            **settings: The settings of `log_value`, for every leaf.
        """
        for path, value in _leaves(nested, () if key is None else _path(key)):
            self.log_value(path, value, **settings)

    def merge_and_log_n_dicts(
        self,
        stats_dicts: Iterable[dict],
        *,
        key: MetricKey | None = None,
        reduce: str | None = "mean",
        window: float | None = None,
        ema_coeff: float | None = None,
        clear_on_reduce: bool = False,
    ) -> None:
        """Merges and logs the metrics of components that run in parallel.

        For each key, the metrics of all dicts are merged in parallel. The result is
        then merged into this logger on the time axis (see `Stats`). A new metric starts
        as a copy of the result; a lifetime sum starts at its total. Merge the result of
        every round once.

        The settings apply to plain values, if neither this logger nor another dict has
        a `Stats` for the key.

        Args:
            stats_dicts: Nested dicts of `Stats` or values, such as results of
                `reduce()`. They are not changed.
            key: The key of the branch to log under; `None` is the root.
            reduce: As for `Stats`, like the other settings.
            window: The number of values to keep.
            ema_coeff: The weight of a new value in a moving average.
            clear_on_reduce: Whether `reduce()` empties the metric.

        Raises:
            UsageError: As in `log_value`.
        """
        found: dict[tuple[str, ...], list] = {}
        for nested in stats_dicts:
            if not isinstance(nested, dict):
                got = f"{type(nested).__name__} {nested!r}"
                raise UsageError("merge_and_log_n_dicts", got, "a list of dicts")
            for path, value in _leaves(nested, () if key is None else _path(key)):
                found.setdefault(path, []).append(value)
        merged = MetricsLogger()  # This logger changes only if all of them fit.
        for path, values in found.items():
            own = self._find_stats(path)
            given = (value for value in values if isinstance(value, Stats))
            like = next(given, own) or Stats(
                reduce=reduce,
                window=window,
                ema_coeff=ema_coeff,
                clear_on_reduce=clear_on_reduce,
                name=_name(path),
            )
            stats = like.similar()
            stats.name = _name(path)
            stats.merge_in_parallel(*(_as_stats(value, stats) for value in values))
            if own is not None:
                own.check_mergeable(stats)
            merged.log_value(path, stats)
        self.log_dict(merged.stats)

    def log_time(self, key: MetricKey, **settings: Any) -> Stats:
        """Returns a context manager that logs the duration of its block in seconds.

        Args:
            key: The metric.
            **settings: Those of `log_value`.
        """
        path = _path(key)
        return self._find_stats(path) or self._attach(
            path, _new_stats(path, **settings)
        )

    def set_value(self, key: MetricKey, value: Any, **settings: Any) -> None:
        """Replaces all values of a metric by one; creates a missing metric.

        Args:
            key: The metric.
            value: A number, or a scalar array or tensor.
            **settings: The settings of `log_value`, for a new metric.
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
        """Returns the current value of a metric, or a nested dict for a branch.

        Args:
            key: The metric or branch; `None` is the whole tree.
            default: The value to return for a key that was never logged.
            throughput: Whether to return the growth per second instead. For a branch,
                it is returned for all metrics logged with throughput.

        Raises:
            KeyError: If the key was never logged and there is no default.
            UsageError: If throughput is requested of a metric logged without it.
        """
        node = self.stats if key is None else self._find(_path(key))
        if node is None:
            if default is _REQUIRED:
                raise self._key_error(_path(key or ()))
            return default
        if throughput:
            return _throughputs(node)
        return _map_leaves(Stats.peek, node)

    def reduce(
        self, key: MetricKey | None = None, *, return_stats_obj: bool = True
    ) -> Any:
        """Ends a round: returns all metrics, and empties those with `clear_on_reduce`.

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
        """Deletes a metric or a branch, as in `delete("p0", "loss")`.

        Args:
            *key: The names from the root of the tree, or one tuple of them.
            key_error: Whether a key that was never logged raises a `KeyError`.
        """
        path = tuple(name for part in key for name in _path(part))
        if not path:
            hint = "reset() deletes all metrics"
            raise UsageError("metrics.delete", "0 names", "a key", hint)
        if self._find(path) is None:
            if key_error:
                raise self._key_error(path)
            return
        branch: dict = {}
        while path and not branch:  # An empty branch would stay in all results.
            branch = self._find(path[:-1])
            del branch[path[-1]]
            path = path[:-1]

    def reset(self) -> None:
        """Deletes all metrics."""
        self.stats = {}

    @contextlib.contextmanager
    def collect(self) -> Iterator[Collected]:
        """Collects the values that this thread logs in the block, without reading them.

        Blocks may be nested: the innermost one gets the values. When it ends, the
        enclosing block gets its settings, so that its code can log the values.
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

    def collect_rows(self, key: MetricKey, values: Any) -> None:
        """Adds per-row values to the outermost `collect()`; ignored outside of one."""
        if self._collectors.stack:
            self._collectors.stack[0].rows[_path(key)] = values

    def get_state(self, components=None, *, not_components=None) -> StateDict:
        """Returns all metrics with their settings as plain Python."""
        leaves = list(_leaves(self.stats))
        # A list, since names may contain any separator.
        return {"stats": [{"key": list(p), **s.get_state()} for p, s in leaves]}

    def set_state(self, state: StateDict) -> None:
        """Adds or replaces the metrics of `state`; others stay as they are.

        Raises:
            UsageError: If the state is invalid; nothing is changed then.
        """
        leaves = state.get("stats") if isinstance(state, dict) else None
        if not isinstance(leaves, list) or not all(map(_is_leaf, leaves)):
            got = f"{type(state).__name__} without such a list"
            want = "{'stats': [{'key': [str, ...], ...}, ...]}"
            raise UsageError("state of metrics", got, want)
        new = MetricsLogger()  # Replaces this logger's tree after all checks.
        new.stats = _map_leaves(lambda stats: stats, self.stats)
        for leaf in leaves:
            path = tuple(leaf["key"])
            settings = {name: value for name, value in leaf.items() if name != "key"}
            new._find_stats(path)  # Raises if the path does not fit into the tree.
            new._attach(path, Stats.from_state(settings, name=_name(path)))
        self.stats = new.stats

    def _plan_restore(self, state, component):
        if component:
            return super()._plan_restore(state, component)

        def apply() -> RestoreReport:
            self.replace_state(state)
            return RestoreReport(loaded=("stats",))

        return RestorePlan(matching.problems_with_names(state, ["stats"]), apply)

    def check_mergeable(self, other: "MetricsLogger") -> None:
        """Raises `UsageError` if a metric of both loggers has different settings."""
        for path, stats in _leaves(self.stats):
            theirs = other._find_stats(path)
            if theirs is not None:
                stats.check_mergeable(theirs)

    def replace_state(self, state: StateDict) -> None:
        """Replaces all metrics by those of `state`.

        Raises:
            UsageError: If a metric of both has different reductions; nothing is changed
                then.
        """
        new = MetricsLogger()
        new.set_state(state)
        self.check_mergeable(new)
        self.stats = new.stats

    def _find(self, path: tuple[str, ...]) -> Any:
        """Returns the `Stats` or branch at `path`, or `None`."""
        node: Any = self.stats
        try:
            for name in path:
                node = node[name]
        except (KeyError, TypeError):  # TypeError: below a `Stats`.
            return None
        return node

    def _find_stats(self, path: tuple[str, ...]) -> Stats | None:
        """Returns the metric at `path`; `None` if the path is free."""
        node = self._find(path)
        if isinstance(node, Stats):
            return node
        name = _name(path)
        if not all(isinstance(part, str) for part in path):
            raise UsageError("metrics", f"the key {path!r}", "a str or a tuple of str")
        if node is not None:
            raise UsageError(
                name, f"a branch with {sorted(node)}", "the key of one metric"
            )
        for depth in range(1, len(path)):
            if isinstance(self._find(path[:depth]), Stats):
                raise UsageError(
                    name,
                    f"a key below the {_name(path[:depth])}",
                    "a key that contains no metric's key",
                )
        return None

    def _attach(self, path: tuple[str, ...], stats: Stats) -> Stats:
        node = self.stats
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = stats
        return stats

    def _merge(self, path: tuple[str, ...], stats: Stats) -> None:
        if self._collectors.stack:
            raise UsageError(
                _name(path),
                "a Stats under `collect()`",
                "a number or tensor",
                "traced code runs once and would merge it once; merge it outside",
            )
        own = self._find_stats(path)
        if own is not None:
            own.merge_on_time_axis(stats)
        else:
            self._attach(path, stats.copy()).name = _name(path)

    def _key_error(self, path: tuple[str, ...]) -> KeyError:
        known = ["/".join(leaf) for leaf, _ in _leaves(self.stats)]
        hint = did_you_mean("/".join(path), known) or f"there is {sorted(known)[:20]}"
        return KeyError(f"{_name(path)}: never logged. Hint: {hint}")


register_builder("tflearner/MetricsLogger", MetricsLogger)


class _Collectors(threading.local):
    # A distribution strategy runs the step of each replica on a thread of its own.
    def __init__(self) -> None:
        self.stack: list[Collected] = []


def _new_stats(
    path: tuple[str, ...], *, with_throughput: bool = False, **settings: Any
) -> Stats:
    return Stats(**settings, throughput=with_throughput, name=_name(path))


def _as_stats(value: Any, like: Stats) -> Stats:
    if isinstance(value, Stats):
        return value
    stats = like.similar()
    stats.push(value)
    return stats


def _is_leaf(leaf: Any) -> bool:
    key = leaf.get("key") if isinstance(leaf, dict) else None
    return isinstance(key, list) and bool(key) and all(type(k) is str for k in key)


def _path(key: MetricKey) -> tuple[str, ...]:
    if isinstance(key, str):
        return (key,)
    if not isinstance(key, tuple | list):
        raise UsageError("metrics", f"the key {key!r}", "a str or a tuple of str")
    return tuple(key)


def _name(path: tuple[str, ...]) -> str:
    return f"metric {'/'.join(map(str, path))!r}"


def _map_leaves(function: Callable[[Stats], Any], node: Any) -> Any:
    if isinstance(node, Stats):
        return function(node)
    return {name: _map_leaves(function, child) for name, child in node.items()}


def _throughputs(node: Any) -> Any:
    if isinstance(node, Stats):
        return node.throughput
    rates = {
        name: _throughputs(child)
        for name, child in node.items()
        if isinstance(child, dict) or child.has_throughput
    }
    return {name: rate for name, rate in rates.items() if rate != {}}


def _leaves(
    node: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(node, dict):
        yield path, node
        return
    for key, child in node.items():
        yield from _leaves(child, path + _path(key))
