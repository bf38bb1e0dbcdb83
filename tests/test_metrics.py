"""Tests for `tflearner.metrics`."""

import json
import math
import threading
import time

import numpy as np
import pytest

from tflearner import stats as stats_module
from tflearner.errors import UsageError
from tflearner.metrics import MetricsLogger
from tflearner.stats import Stats

NAN = float("nan")


@pytest.fixture
def metrics():
    return MetricsLogger()


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


@pytest.mark.parametrize("value", ["1.0", None, [1.0, 2.0], np.zeros((1,))])
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
    with pytest.raises(UsageError, match="got a key below the metric 'a/b'"):
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
    with pytest.raises(UsageError, match="reset"):
        metrics.delete()
    metrics.reset()
    assert metrics.stats == {}


def test_delete_leaves_no_empty_branch(metrics):
    metrics.log_dict({"a": {"b": {"c": 1}}, "d": 2}, window=1)
    metrics.delete("a", ("b", "c"))
    assert metrics.reduce(return_stats_obj=False) == {"d": 2}
    metrics.delete("d")
    assert metrics.stats == {}


def test_branch_deleted_from_stats_starts_anew(metrics):
    metrics.log_value(("p0", "x"), 1, reduce="sum")
    del metrics.stats["p0"]
    metrics.log_value(("p0", "x"), 2, reduce="max")
    metrics.log_value(("p0", "x"), 1)
    assert metrics.peek() == {"p0": {"x": 2}}


def test_state_round_trip(metrics):
    metrics.log_value(("p/0", "a--b"), 30, reduce="sum", with_throughput=True)
    metrics.log_value("window", 2.0, window=3)
    metrics.reduce()
    metrics.log_value(("p/0", "a--b"), 20)
    state = json.loads(json.dumps(metrics.get_state()))
    other = MetricsLogger()
    other.log_value("kept", 1)
    other.log_value(("p/0", "a--b"), 77, reduce="max")
    other.set_state(state)
    assert other.peek("kept") == 1
    other.delete("kept")
    np.testing.assert_equal(other.get_state(), metrics.get_state())
    parent = MetricsLogger()
    parent.log_value(("p/0", "a--b"), 30, reduce="sum")
    parent.log_dict(other.reduce())
    assert parent.peek(("p/0", "a--b")) == 50


def test_state_that_does_not_fit_changes_nothing(metrics):
    metrics.log_value("a", 1, window=1)
    metrics.log_value(("b", "c"), 1, window=1)
    other = MetricsLogger()
    other.log_value("a", 2, window=1)
    other.log_value("b", 2, window=1)
    with pytest.raises(UsageError, match="branch"):
        metrics.set_state(other.get_state())
    other.reset()
    other.log_value("x", 2, window=1)
    other.log_value(("a", "b"), 2, window=1)
    with pytest.raises(UsageError, match="below the metric 'a'"):
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


def test_throughput_of_a_tree(metrics, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(stats_module.time, "perf_counter", lambda: now[0])
    rate = {"reduce": "sum", "with_throughput": True}
    metrics.log_value(("p0", "in", "x"), 0, **rate)
    metrics.log_value("y", 0, **rate)
    metrics.log_dict({"loss": 1.0, "other": {"z": 1.0}}, key="p0")
    metrics.reduce()
    metrics.log_dict({"p0": {"in": {"x": 6}}, "y": 8})
    now[0] += 2.0
    metrics.reduce()
    assert metrics.peek(throughput=True) == {"p0": {"in": {"x": 3.0}}, "y": 4.0}
    assert metrics.peek(("p0", "in"), throughput=True) == {"x": 3.0}
    assert metrics.peek(("p0", "in", "x"), throughput=True) == 3.0
    assert metrics.peek(("p0", "other"), throughput=True) == {}
    assert metrics.peek("new", default=None, throughput=True) is None
    with pytest.raises(UsageError, match="'p0/loss'.*with_throughput=True"):
        metrics.peek(("p0", "loss"), throughput=True)


def test_first_stats_is_copied_with_its_settings(metrics):
    child = Stats([1.0, 2.0, 3.0], window=2, name="another name")
    metrics.log_value(("p0", "x"), child, reduce="sum")
    metrics.log_value(("p0", "x"), 5.0)
    assert metrics.peek(("p0", "x")) == 4.0
    assert child.peek() == 2.5
    with pytest.raises(UsageError, match="metric 'p0/x'"):
        metrics.log_value(("p0", "x"), "five")


def test_later_stats_is_merged_on_the_time_axis(metrics):
    metrics.log_value("x", 1.0, window=3)
    metrics.log_value("x", Stats([2.0, 3.0, 7.0], window=2))
    assert list(metrics.stats["x"].values) == [1.0, 3.0, 7.0]


def test_stats_with_another_reduction_is_refused(metrics):
    metrics.log_value("x", 1.0, window=3)
    with pytest.raises(UsageError, match="metric 'x': got .*reduce='sum'"):
        metrics.log_value("x", Stats(2.0, reduce="sum"))
    with pytest.raises(UsageError, match="branch"):
        metrics.log_value((), Stats(2.0))
    with pytest.raises(UsageError, match="below the metric 'x'"):
        metrics.log_value(("x", "y"), Stats(2.0))
    assert metrics.peek() == {"x": 1.0}


def test_results_of_another_logger_are_logged_round_by_round(metrics):
    child = MetricsLogger()
    for total, loss in ((30, 1.0), (50, 2.0)):
        child.set_value("steps", total, reduce="sum")
        child.log_value(("p0", "loss"), loss, window=1)
        metrics.log_dict(child.reduce(), key="runner")
    assert metrics.peek("runner") == {"steps": 50, "p0": {"loss": 2.0}}
    assert metrics.peek(("runner", "p0")) == {"loss": 2.0}


def test_first_lifetime_sum_is_copied_at_its_total(metrics):
    child = MetricsLogger()
    child.log_value("steps", 1000, reduce="sum")
    child.reduce()
    for total in (1020, 1050):
        child.log_value("steps", total - child.peek("steps"))
        metrics.log_dict(child.reduce())
        assert metrics.peek("steps") == total


def make_loggers(*series, **settings):
    loggers = []
    for values in series:
        loggers.append(MetricsLogger())
        for value in values:
            loggers[-1].log_value(("p0", "x"), value, **settings)
    return loggers


@pytest.mark.parametrize(
    ("own", "series", "settings", "want"),
    [
        ([], [[0, 1, 2, 3], [4000, 4, 5, 6]], {"window": 3}, 12.5 / 3),
        ([90], [[0, 1, 2, 3], [4000, 4, 5, 6]], {"window": 3}, 12.5 / 3),
        ([1, 90], [[3], [5]], {"window": 3}, (90 + 4 + 4) / 3),
        ([], [[50, 25, 10, 5], [75, 100]], {"reduce": "sum", "window": 3}, 115),
        ([7], [[50, 25], [75]], {"reduce": "sum"}, 157),
        ([], [[0.1], [0.3]], {}, 0.2),
        ([1.0], [[2.0], [4.0]], {"ema_coeff": 0.5}, 2.0),
        ([2], [[5, 3], [4]], {"reduce": "min"}, 2),
        ([2], [[5, 3], [4]], {"reduce": "max"}, 5),
        ([0], [[1, 2], [3]], {"reduce": None}, [0, 1, 3, 2]),
        ([8], [[]], {"reduce": "sum"}, 8),
    ],
)
def test_dicts_are_merged_in_parallel_and_then_in_time(own, series, settings, want):
    (metrics,) = make_loggers(own, **settings)
    results = [logger.reduce() for logger in make_loggers(*series, **settings)]
    metrics.merge_and_log_n_dicts(results)
    assert metrics.peek(("p0", "x")) == want


def test_lifetime_sums_of_dicts_count_no_round_twice(metrics):
    runners = make_loggers([10], [20], reduce="sum")
    totals = []
    for _ in range(3):
        metrics.merge_and_log_n_dicts([runner.reduce() for runner in runners])
        totals.append(metrics.peek(("p0", "x")))
        for runner, amount in zip(runners, (5, 15), strict=True):
            runner.log_value(("p0", "x"), amount)
    assert totals == [30, 50, 70]


def test_key_that_only_some_dicts_have(metrics):
    dicts = [{"a": Stats(1, reduce="sum")}, {}, {"b": {"c": Stats(2, window=1)}}]
    metrics.merge_and_log_n_dicts(dicts, key=("runners", "all"))
    assert metrics.peek() == {"runners": {"all": {"a": 1, "b": {"c": 2}}}}
    metrics.merge_and_log_n_dicts([])
    metrics.merge_and_log_n_dicts(iter([{("a", "b"): 1}]), window=1)
    assert metrics.peek(("a", "b")) == 1


def test_merging_changes_no_dict_and_shares_no_stats(metrics):
    dicts = [{"a": Stats(1, reduce="sum")}, {"a": Stats(2, reduce="sum")}]
    for _ in range(2):
        metrics.merge_and_log_n_dicts(dicts)
        metrics.merge_and_log_n_dicts(dicts[:1])
    assert [d["a"].peek() for d in dicts] == [1, 2]
    assert metrics.peek("a") == 8


@pytest.mark.parametrize(
    ("dicts", "want"),
    [
        ([{"x": 1}, {"x": 5}], 3.0),  # Nothing else to go by: the settings given.
        ([{"x": 1}, {"x": Stats(5, reduce="sum")}], 6),
        ([{"x": Stats(5, reduce="max")}, {"x": 7}], 7),
    ],
)
def test_plain_values_go_by_the_stats_of_other_dicts(metrics, dicts, want):
    metrics.merge_and_log_n_dicts(dicts, window=4)
    assert metrics.peek("x") == want


def test_settings_of_a_merge_are_those_of_new_values(metrics):
    settings = {"reduce": None, "window": 3, "clear_on_reduce": True}
    metrics.merge_and_log_n_dicts([{"x": 1}, {"x": 2}], **settings)
    metrics.merge_and_log_n_dicts([{"y": 0.0}], ema_coeff=0.5)
    metrics.merge_and_log_n_dicts([{"x": 3, "y": 8.0}])
    assert metrics.peek() == {"x": [2, 1, 3], "y": 4.0}
    metrics.reduce()
    assert metrics.peek() == {"x": [], "y": 4.0}
    with pytest.raises(TypeError, match="windw"):
        metrics.merge_and_log_n_dicts([], windw=3)
    with pytest.raises(UsageError, match="metric 'z': got window=0"):
        metrics.merge_and_log_n_dicts([{"z": 3}], window=0)


def test_plain_values_go_by_our_stats(metrics):
    metrics.log_value("x", 1, reduce="sum")
    metrics.merge_and_log_n_dicts([{"x": 2}, {"x": 3}], reduce="max")
    assert metrics.peek("x") == 6


@pytest.mark.parametrize(
    ("dicts", "text"),
    [
        ([{"new": 1, "x": Stats(1, reduce="max")}], "metric 'x'.*reduce='max'"),
        ([{"y": Stats(1)}, {"y": Stats(1, reduce="max")}], "metric 'y'.*reduce='max'"),
        ([{"new": 1, "b": 1}], "metric 'b': got a branch"),
        ([{"new": 1, "x": {"y": 1}}], "below the metric 'x'"),
        ([{"new": 1}, {"new": {"y": 1}}], "below the metric 'new'"),
        ([{"new": {"y": 1}}, {"new": 1}], "metric 'new': got a branch"),
        ([{"new": 1, "y": "text"}], "metric 'y'.*want a number"),
        ({"new": 1}, "got str 'new', want a list of dicts"),
    ],
)
def test_dicts_that_do_not_fit_change_nothing(metrics, dicts, text):
    metrics.log_dict({"x": 1, "b": {"c": 1}}, reduce="sum")
    with pytest.raises(UsageError, match=text):
        metrics.merge_and_log_n_dicts(dicts)
    with metrics.collect(), pytest.raises(UsageError, match=r"under `collect\(\)`"):
        metrics.merge_and_log_n_dicts([{"x": 1}])
    assert metrics.peek() == {"x": 1, "b": {"c": 1}}


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


def test_stats_are_not_collected(metrics):
    explained = pytest.raises(UsageError, match=r"'x': got a Stats under `collect\(\)`")
    with metrics.collect() as collected, explained:
        metrics.log_value("x", Stats(1.0))
    assert metrics.stats == {} and collected.values == {}


def test_collecting_leaves_an_existing_metric_alone(metrics):
    metrics.log_value("x", 1.0, window=1)
    with metrics.collect() as collected:
        metrics.log_value("x", "tensor", window=1)
    assert metrics.peek("x") == 1.0
    assert collected.values == {("x",): ["tensor"]}


def test_metrics_without_values_keep_their_settings_in_a_merge():
    merged = MetricsLogger()
    merged.merge_and_log_n_dicts([{"x": Stats(reduce="max", window=3)}])
    merged.log_value("x", 1.0)
    assert merged.stats["x"].reduction == "max"
