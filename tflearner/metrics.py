"""Metrics: values logged under nested keys, reduced when somebody asks.

A `MetricsLogger` is a nested dict of `Stats`. No TensorFlow is imported here; tensors
of a traced function pass through `MetricsLogger.collect` without being looked at.
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
        values: Key -> the values logged under it, in order, untouched.
        settings: Key -> the settings of its first `log_value`; they fit `log_values`.
        rows: Key -> the values of `collect_rows`, one per row.
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

    Components log into loggers of their own. Every round, merge what all `reduce()`:

        >>> runners = [MetricsLogger(), MetricsLogger()]
        >>> for runner, steps in zip(runners, (10, 20)):
        ...     runner.log_value("steps_lifetime", steps, reduce="sum")
        >>> metrics.merge_and_log_n_dicts([r.reduce() for r in runners], key="runners")
        >>> metrics.peek("runners")
        {'steps_lifetime': 30}

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
            value: A number, or a scalar array or tensor. Or a `Stats`: the first is
                copied with its settings, later ones are merged on the time axis.
            reduce: See `Stats`, as the other settings.
            window: How many values to keep.
            ema_coeff: The weight of a new value in a moving average.
            clear_on_reduce: Whether `reduce()` empties the metric.
            with_throughput: Whether to measure the growth per second.

        Raises:
            UsageError: For settings that contradict each other, a value that is not a
                scalar, a `Stats` with another reduction, or a key that is a branch of
                the tree.
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
            nested: Key -> value, `Stats` or another such dict.
            key: Where the tree is put; `None` is the root.
            **settings: Those of `log_value`, for every leaf.
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
        """Logs what components that work side by side returned from `reduce()`.

        For each key, the metrics of all dicts that have it are merged in parallel, and
        the outcome is merged into ours on the time axis (see `Stats`). A metric that is
        new here starts as a copy of the outcome, a lifetime sum at its total. Merge the
        result of every round once.

        The settings are for values that have no `Stats` to go by, neither ours nor that
        of another dict.

        Args:
            stats_dicts: Nested dicts of `Stats`, or of values. They stay as they are.
            key: Where the tree is put; `None` is the root.
            reduce: See `Stats`, as the other settings.
            window: How many values to keep.
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
        merged = MetricsLogger()  # Ours change when everything fits together.
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
            throughput: Whether to return the growth per second instead; of a branch,
                that of the metrics logged with throughput.

        Raises:
            KeyError: For a key that was never logged, unless there is a default.
            UsageError: For the throughput of a metric logged without.
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
        if not path:
            hint = "reset() forgets everything"
            raise UsageError("metrics.delete", "no key", "a key", hint)
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

    def collect_rows(self, key: MetricKey, values: Any) -> None:
        """Hands per-row values to the outermost `collect()`; without one, drops them."""
        if self._collectors.stack:
            self._collectors.stack[0].rows[_path(key)] = values

    def get_state(self, components=None, *, not_components=None) -> StateDict:
        """Returns all metrics with their settings as plain Python."""
        leaves = list(_leaves(self.stats))
        # A list: names may contain any separator one could join them with.
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
        new = MetricsLogger()  # Takes the place of our tree when all went well.
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
            UsageError: If a metric of both has another reduction there; nothing is
                changed then.
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
        """Returns the metric at `path`, or `None` if it could be put there."""
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
                    "a key that no metric is part of",
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
                "traced code runs once, so it would be merged once; merge it outside",
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
