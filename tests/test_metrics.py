"""Tests for `tflearner.metrics`."""

import json
import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tflearner import metrics as metrics_module
from tflearner.errors import UsageError
from tflearner.metrics import MetricsLogger, Stats

NAN = float("nan")

SETTINGS = {
    "ema": {},
    "ema_half": {"ema_coeff": 0.5},
    "mean_1": {"window": 1},
    "mean_3": {"window": 3},
    "mean_inf": {"window": math.inf, "clear_on_reduce": True},
    "sum": {"reduce": "sum"},
    "sum_2": {"reduce": "sum", "window": 2},
    "sum_clear": {"reduce": "sum", "clear_on_reduce": True},
    "min": {"reduce": "min"},
    "min_2": {"reduce": "min", "window": 2},
    "max": {"reduce": "max"},
    "max_2": {"reduce": "max", "window": 2},
    "list": {"reduce": None},
    "list_2": {"reduce": None, "window": 2},
}


@pytest.fixture
def metrics():
    return MetricsLogger()


def logged(values, **settings):
    logger = MetricsLogger()
    for value in values:
        logger.log_value("x", value, **settings)
    return logger.peek("x")


@pytest.mark.parametrize(
    ("values", "settings", "want"),
    [
        ([0.1, 0.2], {}, 0.101),
        ([0.0, 10.0], {"ema_coeff": 0.5}, 5.0),
        ([1, 2, 3, 4, 5], {"window": 3}, 4.0),
        ([1, 2, 3, 4, 5], {"window": 1}, 5),
        ([1, 2], {"window": math.inf, "clear_on_reduce": True}, 1.5),
        ([5, 3, 1, 9], {"reduce": "min"}, 1),
        ([1, 5, 9], {"reduce": "min", "window": 2}, 5),
        ([5, 3, 9, 1], {"reduce": "max"}, 9),
        ([9, 3, 5], {"reduce": "max", "window": 2}, 5),
        ([1, 2, 3], {"reduce": "sum"}, 6),
        ([1, 2, 3], {"reduce": "sum", "window": 2}, 5),
        ([1, 2, 3], {"reduce": None}, [1, 2, 3]),
        ([1, 2, 3], {"reduce": None, "window": 2}, [2, 3]),
    ],
)
def test_values_are_reduced(values, settings, want):
    assert logged(values, **settings) == want


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ({"window": 3}, 4.0),
        ({"reduce": "min"}, 2.0),
        ({"reduce": "max"}, 5.0),
        ({"reduce": "sum"}, 10.0),
        ({"reduce": "sum", "window": 3}, 8.0),
        ({"reduce": "min", "window": 3}, 3.0),
    ],
)
def test_nan_is_ignored(settings, want):
    assert logged([NAN, 2.0, 3.0, NAN, 5.0], **settings) == want


@pytest.mark.parametrize("values", [[1.0, NAN, 1.0], [NAN, 1.0]])
def test_moving_average_does_not_skip_nan(values):
    assert math.isnan(logged(values))


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ({}, NAN),
        ({"window": 2}, NAN),
        ({"reduce": "min"}, NAN),
        ({"reduce": "max"}, NAN),
        ({"reduce": "sum"}, 0),
        ({"reduce": "sum", "window": 2}, 0),
        ({"reduce": None}, []),
    ],
)
def test_empty_metric_has_a_value(settings, want):
    np.testing.assert_equal(Stats(**settings).peek(), want)


def test_first_settings_win(metrics):
    metrics.log_value("x", 1, reduce="sum")
    metrics.log_value("x", 5, reduce="max", window=3)
    assert metrics.peek("x") == 6


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (3, int),
        (3.0, float),
        (np.int32(3), int),
        (np.float32(3.0), float),
        (np.array(3.0, np.float16), float),
        (np.bool_(True), int),
        (True, int),
    ],
)
@pytest.mark.parametrize("settings", [{"window": 1}, {"reduce": "sum"}])
def test_results_are_python_numbers(metrics, value, type_, settings):
    metrics.log_value("x", value, **settings)
    result = metrics.reduce(return_stats_obj=False)["x"]
    assert type(result) is type_
    assert result == (1 if value is True or isinstance(value, np.bool_) else 3)


def test_bfloat16_is_a_number(metrics):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    metrics.log_value("x", np.array(1.5, ml_dtypes.bfloat16), window=1)
    metrics.log_values("y", np.array([1.0, 1.5], ml_dtypes.bfloat16), window=2)
    assert metrics.reduce(return_stats_obj=False) == {"x": 1.5, "y": 1.25}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"reduce": "median"}, "reduce='median'"),
        ({"window": 3, "ema_coeff": 0.1}, "window=3 and ema_coeff=0.1"),
        ({"reduce": "sum", "ema_coeff": 0.1}, "ema_coeff=0.1 for reduce='sum'"),
        ({"ema_coeff": 0.0}, "ema_coeff=0.0"),
        ({"ema_coeff": 1.5}, "ema_coeff=1.5"),
        ({"window": math.inf}, "window=inf"),
        ({"window": 0}, "window=0"),
        ({"window": 2.5}, "window=2.5"),
        ({"window": True}, "window=True"),
        ({"with_throughput": True}, "with_throughput"),
        ({"reduce": "sum", "window": 2, "with_throughput": True}, "with_throughput"),
    ],
)
def test_contradicting_settings_are_refused(metrics, settings, text):
    with pytest.raises(ValueError, match=f"metric 'a/b': got {text}.*Nothing was"):
        metrics.log_value(("a", "b"), 1.0, **settings)
    with metrics.collect(), pytest.raises(UsageError, match=text):
        metrics.log_value(("a", "b"), object(), **settings)
    assert metrics.stats == {}


@pytest.mark.parametrize("value", ["1.0", None, [1.0, 2.0], np.zeros((1,)), Stats()])
def test_what_is_no_number_is_refused(metrics, value):
    with pytest.raises(UsageError, match="metric 'x': got .*want a number"):
        metrics.log_value("x", value)
    assert "x" not in metrics


def test_log_values_wants_one_dimension(metrics):
    with pytest.raises(UsageError, match=r"shape \(2, 2\), want numbers \[N\]"):
        metrics.log_values("x", np.zeros((2, 2)))


def test_keys_nest(metrics):
    metrics.log_value(("p0", "loss"), 1.0, window=1)
    metrics.log_value(("p0", "opt", "lr"), 0.1, window=1)
    metrics.log_value("steps", 5, reduce="sum")
    want = {"p0": {"loss": 1.0, "opt": {"lr": 0.1}}, "steps": 5}
    assert metrics.reduce(return_stats_obj=False) == want
    assert metrics.peek() == want
    assert metrics.peek("p0") == want["p0"]
    assert metrics.peek(("p0", "opt")) == {"lr": 0.1}
    assert metrics.stats["p0"]["loss"].peek() == 1.0


def test_log_dict_logs_every_leaf(metrics):
    nested = {"a": 1, "b": {"c": 2}, ("d", "e"): 3, "f": {("g", "h"): 4}}
    metrics.log_dict(nested, key="root", window=1)
    assert metrics.peek() == {
        "root": {"a": 1, "b": {"c": 2}, "d": {"e": 3}, "f": {"g": {"h": 4}}}
    }


def test_a_branch_is_no_metric(metrics):
    metrics.log_value(("a", "b"), 1.0)
    with pytest.raises(UsageError, match="metric 'a': got a branch"):
        metrics.log_value("a", 1.0)
    with pytest.raises(UsageError, match="below the metric 'a/b'|below the metric"):
        metrics.log_value(("a", "b", "c"), 1.0)
    assert metrics.peek() == {"a": {"b": 1.0}}


@pytest.mark.parametrize("key", [(), ("a", 1)])
def test_keys_are_strings(metrics, key):
    with pytest.raises(UsageError, match="want the key of|a str or a tuple"):
        metrics.log_value(key, 1.0)


def test_peek_of_an_unknown_key(metrics):
    metrics.log_value(("p0", "loss"), 1.0)
    with pytest.raises(KeyError, match="did you mean 'p0/loss'"):
        metrics.peek(("p0", "los"))
    with pytest.raises(KeyError, match="never logged"):
        metrics.peek(("p0", "loss", "deeper"))
    assert metrics.peek("x", default=None) is None
    assert metrics.peek("x", default=7) == 7


def test_reduce_of_an_unknown_key(metrics):
    with pytest.raises(KeyError, match="never logged"):
        metrics.reduce("x")


def test_peek_changes_nothing(metrics):
    metrics.log_value("x", 1, reduce="sum", clear_on_reduce=True)
    assert metrics.peek("x") == metrics.peek("x") == 1


@pytest.mark.parametrize(
    ("settings", "after"),
    [
        ({"reduce": "sum"}, 0),
        ({"window": 4}, NAN),
        ({"reduce": "max"}, NAN),
        ({"reduce": None}, []),
    ],
)
def test_clear_on_reduce_empties_the_logger_but_not_the_result(
    metrics, settings, after
):
    metrics.log_value("x", 3, clear_on_reduce=True, **settings)
    before = metrics.peek("x")
    result = metrics.reduce()["x"]
    np.testing.assert_equal(metrics.peek("x"), after)
    assert result.peek() == before


def test_list_without_a_window_is_always_cleared(metrics):
    metrics.log_value("x", 3, reduce=None)
    assert metrics.reduce(return_stats_obj=False) == {"x": [3]}
    assert metrics.reduce(return_stats_obj=False) == {"x": []}


def test_lifetime_sum_keeps_counting(metrics):
    metrics.log_value("x", 30, reduce="sum")
    assert metrics.reduce(return_stats_obj=False) == {"x": 30}
    metrics.log_value("x", 20, reduce="sum")
    assert metrics.reduce(return_stats_obj=False) == {"x": 50}


def test_reduced_stats_are_independent(metrics):
    metrics.log_value("x", 1, reduce="sum")
    result = metrics.reduce()["x"]
    metrics.log_value("x", 1)
    assert (result.peek(), metrics.peek("x")) == (1, 2)


def test_reduce_of_one_branch_leaves_the_others(metrics):
    metrics.log_value(("a", "x"), 1, reduce="sum", clear_on_reduce=True)
    metrics.log_value(("b", "x"), 2, reduce="sum", clear_on_reduce=True)
    assert metrics.reduce("a", return_stats_obj=False) == {"x": 1}
    assert metrics.reduce(("b", "x"), return_stats_obj=False) == 2
    assert metrics.peek() == {"a": {"x": 0}, "b": {"x": 0}}


def test_set_value_replaces(metrics):
    metrics.log_value("x", 1, reduce="sum")
    metrics.set_value("x", 10)
    metrics.log_value("x", 1)
    metrics.set_value("y", 4, reduce="max")
    assert metrics.peek() == {"x": 11, "y": 4}
    with pytest.raises(UsageError):
        metrics.set_value("x", "many")
    assert metrics.peek("x") == 11


def test_contains_delete_and_reset(metrics):
    metrics.log_dict({"a": {"b": 1, "c": 2}, "d": 3})
    assert "a" in metrics and ("a", "b") in metrics and ("a", "x") not in metrics
    metrics.delete("a", "b")
    assert ("a", "b") not in metrics and ("a", "c") in metrics
    metrics.delete(("a",))
    assert "a" not in metrics
    with pytest.raises(KeyError, match="'a'"):
        metrics.delete("a")
    metrics.delete("a", key_error=False)
    metrics.reset()
    assert metrics.stats == {}


def test_branch_deleted_from_stats_starts_anew(metrics):
    metrics.log_value(("p0", "x"), 1, reduce="sum")
    del metrics.stats["p0"]
    metrics.log_value(("p0", "x"), 2, reduce="max")
    metrics.log_value(("p0", "x"), 1)
    assert metrics.peek() == {"p0": {"x": 2}}


@pytest.mark.parametrize("name", SETTINGS)
def test_state_round_trip(metrics, name):
    key = ("p/0", "a--b")
    for value in (1.0, 5, 2):
        metrics.log_value(key, value, **SETTINGS[name])
    state = json.loads(json.dumps(metrics.get_state()))
    other = MetricsLogger()
    other.log_value("kept", 1)
    other.log_value(key, 77, reduce="max")
    other.set_state(state)
    assert other.peek("kept") == 1
    for logger in (metrics, other):
        logger.log_value(key, 4)
        logger.reduce()
        logger.log_value(key, 6)
    np.testing.assert_equal(other.peek(key), metrics.peek(key))


def test_state_that_does_not_fit_changes_nothing(metrics):
    metrics.log_value("a", 1, window=1)
    metrics.log_value(("b", "c"), 1, window=1)
    other = MetricsLogger()
    other.log_value("a", 2, window=1)
    other.log_value("b", 2, window=1)
    with pytest.raises(UsageError, match="branch"):
        metrics.set_state(other.get_state())
    assert metrics.peek() == {"a": 1, "b": {"c": 1}}


def test_log_time_measures_seconds(metrics):
    for _ in range(2):
        with metrics.log_time("x", reduce="sum"):
            time.sleep(0.01)
    assert 0.02 <= metrics.peek("x") < 5.0


def test_log_time_logs_a_block_that_raised_and_runs_again(metrics):
    with pytest.raises(ZeroDivisionError), metrics.log_time("x"):
        1 / 0  # noqa: B018
    with metrics.log_time("x"):
        pass
    assert metrics.peek("x") >= 0


def test_log_time_runs_once_per_thread(metrics):
    errors = []

    def run():
        try:
            with metrics.log_time("x", reduce=None, window=10):
                pass
        except UsageError as error:
            errors.append(error)

    with metrics.log_time("x", reduce=None, window=10):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert not errors
        run()
    assert "already runs on this thread" in str(errors[0])
    assert len(metrics.peek("x")) == 2


def test_throughput_is_growth_per_second(metrics, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(metrics_module.time, "perf_counter", lambda: now[0])
    metrics.log_value("x", 1000, reduce="sum", with_throughput=True)
    metrics.reduce()
    assert math.isnan(metrics.peek("x", throughput=True))
    metrics.log_value("x", 50)
    now[0] += 2.0
    result = metrics.reduce()["x"]
    assert result.throughput == metrics.peek("x", throughput=True) == 25.0


def test_throughput_of_a_cleared_sum(metrics, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(metrics_module.time, "perf_counter", lambda: now[0])
    for amount in (10, 40):
        settings = {"reduce": "sum", "clear_on_reduce": True, "with_throughput": True}
        metrics.log_value("x", amount, **settings)
        metrics.reduce()
        now[0] += 4.0
    assert metrics.peek("x", throughput=True) == 10.0


def test_throughput_must_be_asked_for(metrics):
    metrics.log_value("x", 1, reduce="sum")
    with pytest.raises(UsageError, match="with_throughput=True"):
        metrics.peek("x", throughput=True)


# NaN, repeated blocks and windows shorter and longer than a block.
@settings(deadline=None, max_examples=60)
@given(
    blocks=st.lists(
        st.lists(
            st.one_of(st.floats(-100, 100), st.integers(-5, 5), st.just(NAN)),
            max_size=6,
        ),
        min_size=1,
        max_size=3,
    ),
    name=st.sampled_from(sorted(SETTINGS)),
)
def test_log_values_equals_logging_one_by_one(blocks, name):
    many, single = MetricsLogger(), MetricsLogger()
    for block in blocks:
        many.log_values("x", np.array(block, np.float64), **SETTINGS[name])
        for value in block:
            single.log_value("x", float(value), **SETTINGS[name])
    want = single.peek("x", default=Stats(**SETTINGS[name]).peek())
    np.testing.assert_allclose(many.peek("x"), want, rtol=1e-12, atol=1e-12)


def test_log_values_keeps_ints(metrics):
    metrics.log_values("x", np.array([1, 2, 3], np.int32), reduce="sum")
    metrics.log_values("y", [4, 5], window=1)
    assert repr(metrics.peek()) == "{'x': 6, 'y': 5}"


def test_log_values_of_a_whole_update_is_cheap(metrics):
    arrays = np.ones((12, 320), np.float32)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        for i in range(12):
            metrics.log_values(("p0", f"k{i}"), arrays[i], window=1)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1e-3


def test_reduce_of_forty_metrics_is_cheap(metrics):
    metrics.log_dict({f"k{i}": float(i) for i in range(40)}, key="p0", window=1)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        metrics.reduce(return_stats_obj=False)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1e-3


class Opaque:
    """Stands for a symbolic tensor: whoever looks at it fails."""

    def __array__(self, *args, **kwargs):
        raise NotImplementedError("symbolic")

    def __eq__(self, other):
        raise NotImplementedError("symbolic")

    __hash__ = None


def test_collected_values_do_not_touch_the_stats(metrics):
    first, second = Opaque(), Opaque()
    with metrics.collect() as collected:
        metrics.log_value(("p0", "x"), first, reduce="sum")
        metrics.log_value(("p0", "x"), second, window=3)
        metrics.log_dict({"y": Opaque()}, key="p0", window=1)
    assert metrics.stats == {}
    assert list(collected.values) == [("p0", "x"), ("p0", "y")]
    assert collected.values["p0", "x"][0] is first
    assert collected.values["p0", "x"][1] is second
    metrics.log_values(("p0", "x"), [1, 2], **collected.settings["p0", "x"])
    metrics.log_values(("p0", "y"), [1, 2], **collected.settings["p0", "y"])
    assert metrics.peek() == {"p0": {"x": 3, "y": 2}}


def test_collecting_ends_with_the_block(metrics):
    with pytest.raises(ZeroDivisionError), metrics.collect():
        1 / 0  # noqa: B018
    metrics.log_value("x", 1.0)
    assert metrics.peek("x") == 1.0


def test_symbolic_value_outside_a_collector_is_explained(metrics):
    with pytest.raises(UsageError, match=r"no value yet.*collect\(\)"):
        metrics.log_value("x", Opaque())


def test_collectors_nest(metrics):
    with metrics.collect() as outer:
        metrics.log_value("a", 1, reduce="sum")
        with metrics.collect() as inner:
            metrics.log_value("a", 2, reduce="max")
            metrics.log_value("b", 3, reduce="min")
        metrics.log_value("c", 4)
    assert outer.values == {("a",): [1], ("c",): [4]}
    assert inner.values == {("a",): [2], ("b",): [3]}
    assert list(outer.settings) == [("a",), ("b",), ("c",)]
    assert outer.settings["a",]["reduce"] == "sum"
    assert outer.settings["b",]["reduce"] == "min"


def test_collectors_are_per_thread(metrics):
    collected_there = []

    def replica():
        with metrics.collect() as collected:
            metrics.log_value("x", "there", window=1)
        collected_there.append(collected)

    with metrics.collect() as here:
        threads = [threading.Thread(target=replica) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outside = threading.Thread(target=lambda: metrics.log_value("y", 1.0))
        outside.start()
        outside.join()
    assert here.values == {} and here.settings == {}
    assert [c.values for c in collected_there] == [{("x",): ["there"]}] * 2
    assert metrics.peek() == {"y": 1.0}


def test_collecting_leaves_an_existing_metric_alone(metrics):
    metrics.log_value("x", 1.0, window=1)
    with metrics.collect() as collected:
        metrics.log_value("x", "tensor", window=1)
    assert metrics.peek("x") == 1.0
    assert collected.values == {("x",): ["tensor"]}
