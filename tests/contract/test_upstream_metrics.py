"""Cases that RLlib's own tests hold of the metrics logger."""

import math
import time

import numpy as np
import pytest

from tflearner.metrics import MetricsLogger
from tflearner.stats import Stats


@pytest.fixture
def metrics():
    return MetricsLogger()


def log(metrics, key, values, **settings):
    for value in values:
        metrics.log_value(key, value, **settings)
    return metrics


def test_the_first_settings_win(metrics):
    metrics.log_value("x", 2.0, reduce="sum")
    metrics.log_value("x", 3.0, reduce="max", window=1)
    assert metrics.peek("x") == 5.0


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ({}, 0.101),
        ({"ema_coeff": 0.25}, 0.125),
        ({"window": 1}, 0.2),
        ({"window": 5}, 0.15),
        ({"reduce": "sum"}, 0.3),
        ({"reduce": "min"}, 0.1),
        ({"reduce": "max"}, 0.2),
    ],
)
def test_two_values_are_reduced_so(metrics, settings, want):
    log(metrics, "x", [0.1, 0.2], **settings)
    assert metrics.peek("x") == pytest.approx(want)


@pytest.mark.parametrize(
    ("reduce", "want"), [("mean", 4.0), ("sum", 8.0), ("min", 3.0), ("max", 5.0)]
)
def test_windows_hold_the_latest_values(metrics, reduce, want):
    log(metrics, "x", [100.0, -100.0, 5.0, 3.0], reduce=reduce, window=2)
    assert metrics.peek("x") == want


def test_without_a_reduction_there_is_a_list_until_the_round_ends(metrics):
    log(metrics, "x", [1, 2, 3], reduce=None)
    assert metrics.reduce(return_stats_obj=False) == {"x": [1, 2, 3]}
    assert metrics.peek("x") == []


def test_keys_nest_and_branches_are_peeked(metrics):
    log(metrics, ("a", "b", "c"), [1.0], window=1)
    metrics.log_dict({"b": {"d": 2.0}, ("e", "f"): 3.0}, key="a", window=1)
    assert metrics.peek(("a", "b")) == {"c": 1.0, "d": 2.0}
    assert metrics.peek("a") == {"b": {"c": 1.0, "d": 2.0}, "e": {"f": 3.0}}


def test_time_of_a_block_is_logged(metrics):
    for _ in range(3):
        with metrics.log_time("block", window=10):
            time.sleep(0.01)
    assert 0.01 <= metrics.peek("block") < 0.2


@pytest.mark.parametrize(
    ("reduce", "want"), [("mean", math.nan), ("min", math.nan), ("sum", 0)]
)
def test_cleared_metrics_are_empty_in_the_next_round(metrics, reduce, want):
    log(metrics, "x", [3.0, 3.0], reduce=reduce, window=2, clear_on_reduce=True)
    result = metrics.reduce(return_stats_obj=False)["x"]
    assert result == (6.0 if reduce == "sum" else 3.0)
    np.testing.assert_equal(metrics.peek("x"), want)


def test_lifetime_sums_go_on_and_merge_without_counting_twice(metrics):
    log(metrics, "n", [30], reduce="sum")
    metrics.reduce()
    assert log(metrics, "n", [20]).peek("n") == 50
    runners = [MetricsLogger(), MetricsLogger()]
    for wanted in (30, 60, 90):
        for runner, steps in zip(runners, (10, 20)):
            runner.log_value("steps", steps, reduce="sum")
        metrics.merge_and_log_n_dicts([r.reduce() for r in runners])
        assert metrics.peek("steps") == wanted


def stats_of(values, **settings):
    stats = Stats(**settings)
    for value in values:
        stats.push(value)
    return stats


@pytest.mark.parametrize(
    ("series", "settings", "values", "want"),
    [
        (
            ([0, 1, 2, 3], [4000, 4, 5, 6]),
            {"reduce": "mean", "window": 3},
            [3.5, 4.5, 4.5],
            12.5 / 3,
        ),
        (([50, 25, 10, 5], [75, 100]), {"reduce": "sum", "window": 3}, None, 115),
        (([50, 25], [75]), {"reduce": "sum"}, [150], 150),
        (
            ([100, 200, 300, 400], [150, 250, 350, 450]),
            {"reduce": "mean", "window": 3},
            None,
            (325 + 425 + 425) / 3,
        ),
        (([1.0, math.nan], [3.0, 5.0]), {"reduce": "max", "window": 4}, None, 5.0),
    ],
)
def test_metrics_of_parallel_components_merge_so(series, settings, values, want):
    first, *others = (stats_of(own, **settings) for own in series)
    merged = first.similar()
    merged.merge_in_parallel(first, *others)
    if values is not None:
        assert list(merged.values) == pytest.approx(values)
    assert merged.peek() == pytest.approx(want)


def test_merged_moving_averages_are_their_mean(metrics):
    runners = [MetricsLogger(), MetricsLogger()]
    for runner, values in zip(runners, ([0.1, 0.2], [0.3, 0.4])):
        log(runner, "x", values)
    metrics.merge_and_log_n_dicts([r.reduce() for r in runners])
    assert metrics.peek("x") == pytest.approx((0.101 + 0.301) / 2)


@pytest.mark.parametrize(
    "settings", [{"window": 9}, {"reduce": "sum"}, {"reduce": "max"}]
)
def test_nan_is_ignored(metrics, settings):
    log(metrics, "x", [2.0, math.nan], **settings)
    assert metrics.peek("x") == 2.0


@pytest.mark.parametrize(
    "settings",
    [
        {"reduce": "median"},
        {"window": 3, "ema_coeff": 0.1},
        {"reduce": "sum", "ema_coeff": 0.1},
        {"window": math.inf},
        {"with_throughput": True},
    ],
    ids=str,
)
def test_settings_that_contradict_are_value_errors(metrics, settings):
    with pytest.raises(ValueError):
        metrics.log_value("x", 1.0, **settings)
    assert "x" not in metrics


def test_peek_of_an_unknown_key_wants_a_default(metrics):
    with pytest.raises(KeyError):
        metrics.peek(("a", "b"))
    assert metrics.peek(("a", "b"), default=None) is None
    assert metrics.peek("x", default=7) == 7 and "x" not in metrics


def test_state_makes_an_equal_logger(metrics):
    log(metrics, ("a", "ema"), [0.1, 0.2])
    log(metrics, ("a", "sum"), [1, 2], reduce="sum")
    log(metrics, "window", [5.0, 7.0], window=2, reduce="min")
    metrics.reduce()
    other = MetricsLogger()
    other.set_state(metrics.get_state())
    for logger in (metrics, other):
        log(logger, ("a", "ema"), [0.4])
        log(logger, ("a", "sum"), [8])
        log(logger, "window", [9.0])
    assert other.peek() == metrics.peek()
    assert other.get_state() == metrics.get_state()


def test_throughput_is_the_rate_of_growth(metrics):
    log(metrics, "n", [0], reduce="sum", with_throughput=True)
    assert math.isnan(metrics.peek("n", throughput=True))
    metrics.reduce()
    started = time.perf_counter()
    log(metrics, "n", [50, 50])
    time.sleep(0.05)
    metrics.reduce()
    rate = 100 / (time.perf_counter() - started)
    assert metrics.peek("n", throughput=True) == pytest.approx(rate, rel=0.5)


def test_contains_delete_set_and_reset(metrics):
    log(metrics, ("a", "b"), [1.0])
    assert ("a", "b") in metrics and "a" in metrics and "b" not in metrics
    metrics.set_value(("a", "b"), 5.0)
    assert metrics.peek(("a", "b")) == 5.0
    metrics.delete("a", "b")
    assert ("a", "b") not in metrics
    with pytest.raises(KeyError):
        metrics.delete("a", "b")
    metrics.delete("a", "b", key_error=False)
    log(metrics, "x", [1.0])
    metrics.reset()
    assert metrics.peek() == {}
