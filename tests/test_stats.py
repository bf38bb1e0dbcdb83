"""Tests for `tflearner.stats`."""

import copy
import itertools
import json
import math
import pickle
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tflearner import stats as stats_module
from tflearner.errors import UsageError
from tflearner.stats import Stats

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
def clock(monkeypatch):
    """Returns a list of one number, the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(stats_module.time, "perf_counter", lambda: now[0])
    return now


def in_parallel(*series, **settings):
    merged = Stats(**settings)
    merged.merge_in_parallel(*(Stats(values, **settings) for values in series))
    return merged


def in_time(first, second, **settings):
    merged = Stats(first, **settings)
    merged.merge_on_time_axis(Stats(second, **settings))
    return merged


# Reducing one series.


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
        (7, {"reduce": "sum"}, 7),
        (0, {"window": 1}, 0),
    ],
)
def test_values_are_reduced(values, settings, want):
    assert Stats(values, **settings).peek() == want


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
    assert Stats([NAN, 2.0, 3.0, NAN, 5.0], **settings).peek() == want


@pytest.mark.parametrize("values", [[1.0, NAN, 1.0], [NAN, 1.0]])
def test_moving_average_does_not_skip_nan(values):
    assert math.isnan(Stats(values).peek())


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
    np.testing.assert_equal(in_parallel([], [], **settings).peek(), want)
    np.testing.assert_equal(in_time([], [], **settings).peek(), want)


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
def test_push_many_equals_pushing_one_by_one(blocks, name):
    many, single = Stats(**SETTINGS[name]), Stats(**SETTINGS[name])
    for block in blocks:
        many.push_many(np.array(block, np.float64))
        for value in block:
            single.push(float(value))
    np.testing.assert_allclose(many.peek(), single.peek(), rtol=1e-12, atol=1e-12)


# Ending rounds.


def test_reduced_copy_is_independent():
    stats = Stats([1, 2], reduce="sum", window=5)
    result = stats.reduce()
    stats.push(4)
    result.push(100)
    assert (stats.peek(), result.peek()) == (7, 103)


@pytest.mark.parametrize("name", ["sum", "min", "max", "ema"])
def test_without_a_window_only_the_reduced_value_is_kept(name):
    result = Stats([4.0, 2.0, 6.0], **SETTINGS[name]).reduce()
    assert list(result.values) == [result.peek()]


def test_copy_runs_a_timer_of_its_own():
    stats = Stats(reduce="sum")
    with stats, stats.copy() as other:
        pass
    assert len(stats.values) == len(other.values) == 1


def test_similar_is_empty_with_equal_settings():
    for own in SETTINGS.values():
        state = Stats(**own).get_state()
        assert state["values"] == []
        np.testing.assert_equal(Stats([1, 2], **own).similar().get_state(), state)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickle.loads])
def test_results_travel_between_processes(duplicate):
    result = Stats([10, 20], reduce="sum", throughput=True).reduce()
    sent = pickle.dumps(result) if duplicate is pickle.loads else result
    np.testing.assert_equal(duplicate(sent).get_state(), result.get_state())


# Throughput.


def test_throughput_is_growth_per_second(clock):
    stats = Stats(1000, reduce="sum", throughput=True)
    assert math.isnan(stats.reduce().throughput)
    stats.push(50)
    clock[0] += 2.0
    assert math.isnan(stats.throughput)
    assert stats.reduce().throughput == stats.throughput == 25.0


def test_throughput_of_a_cleared_sum(clock):
    stats = Stats(reduce="sum", clear_on_reduce=True, throughput=True)
    for amount in (10, 40):
        stats.push(amount)
        stats.reduce()
        clock[0] += 4.0
    assert stats.throughput == 10.0


def test_throughput_keeps_its_rate_while_the_clock_stands(clock):
    stats = Stats(0, reduce="sum", throughput=True)
    stats.reduce()
    stats.push(6)
    clock[0] += 3.0
    stats.reduce()
    stats.reduce()
    assert stats.throughput == 2.0


def test_copy_measures_throughput_by_a_clock_of_its_own(clock):
    stats = Stats(0, reduce="sum", throughput=True)
    stats.reduce()
    stats.push(6)
    clock[0] += 3.0
    result = stats.copy()
    assert math.isnan(result.reduce().throughput)
    result.push(5)
    clock[0] += 1.0
    assert result.reduce().throughput == 5.0


def test_throughput_must_be_asked_for():
    assert not Stats(reduce="sum").has_throughput
    with pytest.raises(UsageError, match="with_throughput=True"):
        Stats(reduce="sum").throughput  # noqa: B018


def test_merged_throughput(clock):
    runners = [Stats(reduce="sum", throughput=True) for _ in range(3)]
    for runner, amount in zip(runners, (8, 2, 0), strict=True):
        runner.reduce()
        runner.push(amount)
    clock[0] += 2.0
    results = [runner.reduce() for runner in runners[:2]]
    parent = Stats(reduce="sum", throughput=True)
    parent.merge_in_parallel(*results, runners[2])  # The last has no rate yet.
    assert parent.throughput == 5.0
    parent.merge_on_time_axis(results[0])
    assert parent.throughput == 4.0
    parent.merge_on_time_axis(Stats(1, reduce="sum"))
    assert parent.throughput == 4.0
    parent.reduce()
    parent.push(7)
    clock[0] += 1.0
    parent.reduce()
    assert parent.throughput == 7.0


# Timers.


def test_parallel_timers_lose_no_time(monkeypatch):
    fold = Stats._fold

    def slow_fold(self, old, new):
        time.sleep(0.02)
        return fold(self, old, new)

    monkeypatch.setattr(Stats, "_fold", slow_fold)
    stats, barrier = Stats(0.0, reduce="sum"), threading.Barrier(3)

    def run():
        with stats:
            time.sleep(0.01)
            barrier.wait()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stats.peek() >= 0.03


# Merging in parallel.


@pytest.mark.parametrize(
    ("series", "reduce", "window", "want"),
    [
        ([[0, 1, 2, 3], [4000, 4, 5, 6]], "mean", 3, [3.5, 3.5, 4.5, 4.5]),
        ([[50, 25, 10, 5], [75, 100]], "sum", 3, [75, 10, 100, 5]),
        (
            [[100, 200, 300, 400], [150, 250, 350, 450]],
            "mean",
            3,
            [325, 325, 425, 425],
        ),
        ([[1, 9], [5, 3], [7]], "min", 99, [1, 1, 3, 3, 3]),
        ([[1, 9], [5, 3], [7]], "max", 99, [5, 5, 9, 9, 9]),
        ([[1, 2, 3], [4]], None, 2, [4, 3]),
        ([["a"], [], ["b", "c"]], None, math.inf, ["b", "c", "a"]),
        ([[NAN, 1], [4, NAN]], "mean", 9, [4, 4, 1, 1]),
        ([[50], [75]], "sum", None, [75, 50]),
        ([[], []], "mean", 3, []),
        ([], "mean", 3, []),
    ],
)
def test_depths_are_merged_from_the_newest(series, reduce, window, want):
    assert stats_module.merged_by_depth(series, reduce, window) == want


@pytest.mark.parametrize(
    ("series", "settings", "want"),
    [
        ([[0, 1, 2, 3], [4000, 4, 5, 6]], {"window": 3}, 12.5 / 3),
        (
            [[100, 200, 300, 400], [150, 250, 350, 450]],
            {"window": 3},
            (325 + 425 + 425) / 3,
        ),
        ([[50, 25, 10, 5], [75, 100]], {"reduce": "sum", "window": 3}, 115),
        ([[50, 25], [75]], {"reduce": "sum"}, 150),
        ([[50, 25], [75]], {"reduce": "sum", "clear_on_reduce": True}, 150),
        ([[NAN, 2.5], [NAN]], {"reduce": "sum"}, 2.5),
        ([[0.1], [0.3], [NAN], []], {}, 0.2),
        ([[NAN], [NAN]], {}, NAN),
        ([[5, 3], [2, 9], []], {"reduce": "min"}, 2),
        ([[5, 3], [2, 9], []], {"reduce": "max"}, 9),
        ([[1, 2], [5]], {"reduce": "max", "window": 2}, 5),
        ([[1, 2], [3]], {"window": math.inf, "clear_on_reduce": True}, 2.0),
        ([[1, 2], [3]], {"reduce": None}, [1, 3, 2]),
        ([[1, 2], [3, 4]], {"reduce": None, "window": 3}, [1, 4, 2]),
        ([[7]], {"reduce": "sum", "window": 4}, 7),
    ],
)
def test_parallel_merge(series, settings, want):
    np.testing.assert_equal(in_parallel(*series, **settings).peek(), want)


def test_parallel_merge_cuts_to_the_window():
    merged = in_parallel([0, 1, 2, 3], [4000, 4, 5, 6], window=3)
    assert list(merged.values) == [3.5, 4.5, 4.5]
    assert list(in_parallel([1, 2], [3, 4], reduce="sum", window=9).values) == [
        *(3, 1),
        *(4, 2),
    ]


def test_plain_mean_of_moving_averages_is_exact():
    # 0.99 * 0.3 + 0.01 * 0.3 is not 0.3: folding the mean twice would show.
    assert in_parallel([0.3], [0.3]).peek() == 0.3
    assert in_parallel([0.3], [0.1]).peek() == 0.2


def test_parallel_merge_counts_its_own_values():
    merged = Stats([1, 2], reduce="sum", window=9)
    other = Stats([30, 40], reduce="sum", window=9)
    merged.merge_in_parallel(other)
    assert list(merged.values) == [30, 1, 40, 2]
    assert list(other.values) == [30, 40]


@settings(deadline=None, max_examples=60)
@given(
    series=st.lists(st.lists(st.integers(-9, 9), max_size=5), max_size=4),
    window=st.integers(1, 12),
    reduce=st.sampled_from(["mean", "min", "max", "sum", None]),
)
def test_parallel_merge_equals_a_walk_written_out(series, window, reduce):
    reductions = {"mean": np.mean, "min": np.min, "max": np.max}
    newest_first = []
    for depth in range(1, 6):
        if len(newest_first) < window:
            row = [values[-depth] for values in series if len(values) >= depth]
            if reduce in reductions and row:
                row = [reductions[reduce](row)] * len(row)
            newest_first += row
    want = newest_first[::-1][-window:]
    cut = [values[-window:] for values in series]
    merged = in_parallel(*cut, reduce=reduce, window=window)
    np.testing.assert_allclose(list(merged.values), want)


# Merging on the time axis.


@pytest.mark.parametrize(
    ("first", "second", "settings", "want"),
    [
        ([1, 2, 3], [4, 5], {"window": 3}, 4.0),
        ([1], [2, 3], {"window": math.inf, "clear_on_reduce": True}, 2.0),
        ([1, 2, 3], [4], {"reduce": "sum", "window": 3}, 9),
        ([1, 2], [4], {"reduce": "sum"}, 7),
        ([0.1], [0.2], {}, 0.101),
        ([8.0], [4.0], {"ema_coeff": 0.5}, 6.0),
        ([5], [3], {"reduce": "min"}, 3),
        ([5], [3], {"reduce": "max"}, 5),
        ([9, 1], [3, 4], {"reduce": "max", "window": 3}, 4),
        ([1], [2, 3], {"reduce": None}, [1, 2, 3]),
        ([1, 2], [3], {"reduce": None, "window": 2}, [2, 3]),
        ([4], [], {"window": 3}, 4),
        ([], [4], {"reduce": "sum"}, 4),
        ([2.0], [NAN], {"reduce": "sum"}, 2.0),
    ],
)
def test_time_merge(first, second, settings, want):
    assert in_time(first, second, **settings).peek() == want


def test_time_merge_leaves_the_other_alone():
    other = Stats([1, 2], reduce="sum", window=3)
    Stats(5, reduce="sum", window=3).merge_on_time_axis(other)
    assert list(other.values) == [1, 2]


def test_time_merge_with_itself_ends():
    stats = Stats([1, 2], reduce=None)
    stats.merge_on_time_axis(stats)
    assert stats.peek() == [1, 2, 1, 2]


@pytest.mark.parametrize("merge", ["merge_in_parallel", "merge_on_time_axis"])
def test_another_reduction_is_refused(merge):
    stats = Stats(1, reduce="max", name="metric 'x'")
    with pytest.raises(ValueError, match="'x': got .*reduce='sum'.*want reduce='max'"):
        getattr(stats, merge)(Stats(5, reduce="sum"))
    assert stats.peek() == 1


@pytest.mark.parametrize("merge", ["merge_in_parallel", "merge_on_time_axis"])
def test_other_windows_are_taken_in(merge):
    stats = Stats([1, 2], window=2)
    getattr(stats, merge)(Stats(4.0))
    assert len(stats.values) == 2
    assert stats.peek() == 3.0


# Lifetime sums.


def test_lifetime_sum_brings_each_round_once():
    child, parent = Stats(30, reduce="sum"), Stats(reduce="sum")
    parent.merge_on_time_axis(child.reduce())
    child.push(20)
    result = child.reduce()
    parent.merge_on_time_axis(result)
    assert (child.peek(), result.peek(), parent.peek()) == (50, 50, 50)
    parent.merge_on_time_axis(child.reduce())  # A round without a value.
    assert parent.peek() == 50


def test_lifetime_sum_that_is_still_running_brings_what_is_new():
    child, parent = Stats(30, reduce="sum"), Stats(reduce="sum")
    parent.merge_on_time_axis(child.reduce())
    child.push(5)
    parent.merge_on_time_axis(child)
    assert parent.peek() == 35


def test_cleared_sum_brings_its_whole_round_to_a_lifetime_sum():
    child, parent = Stats(reduce="sum", clear_on_reduce=True), Stats(reduce="sum")
    for amount in (30, 20):
        child.push(amount)
        parent.merge_on_time_axis(child.reduce())
    assert parent.peek() == 50


def test_lifetime_sum_brings_only_its_rounds_to_a_window():
    child, parent = Stats(reduce="sum"), Stats(reduce="sum", window=10)
    for amount in (30, 20):
        child.push(amount)
        parent.merge_on_time_axis(child.reduce())
    assert list(parent.values) == [30, 20]


def test_window_brings_all_its_values_to_a_lifetime_sum():
    child, both = Stats([1, 2], reduce="sum", window=5), Stats(reduce="sum")
    child.reduce()
    both.merge_in_parallel(child.reduce())
    parent = Stats(10, reduce="sum")
    parent.merge_on_time_axis(both)
    assert parent.peek() == 13


def test_cleared_lifetime_sum_starts_at_zero():
    child, parent = Stats(30, reduce="sum"), Stats(reduce="sum")
    parent.merge_on_time_axis(child.reduce())
    child.clear()
    child.push(4)
    parent.merge_on_time_axis(child.reduce())
    assert (child.peek(), parent.peek()) == (4, 34)


# Rounds of random amounts at three runners, merged by two hosts, merged by one root:
# every logger reduces and some restart from their state in between.
@settings(deadline=None, max_examples=40)
@given(
    rounds=st.lists(
        st.tuples(
            st.lists(st.integers(-3, 9), min_size=3, max_size=3),
            st.sets(st.integers(0, 5)),
        ),
        max_size=6,
    )
)
def test_lifetime_sums_of_a_tree_add_up(rounds):
    nodes = [Stats(reduce="sum") for _ in range(6)]
    for amounts, restarted in rounds:
        nodes = [
            Stats.from_state(node.get_state()) if i in restarted else node
            for i, node in enumerate(nodes)
        ]
        runners, hosts, root = nodes[:3], nodes[3:5], nodes[5]
        for runner, amount in zip(runners, amounts, strict=True):
            runner.push(amount)
        results = [runner.reduce() for runner in runners]
        both = Stats(reduce="sum")
        both.merge_in_parallel(*results[:2])
        hosts[0].merge_on_time_axis(both)
        hosts[1].merge_on_time_axis(results[2])
        both = Stats(reduce="sum")
        both.merge_in_parallel(*(host.reduce() for host in hosts))
        root.merge_on_time_axis(both)
        assert root.peek() == sum(runner.peek() for runner in runners)
    assert nodes[5].peek() == sum(itertools.chain(*(a for a, _ in rounds)))


# State.


@pytest.mark.parametrize("name", SETTINGS)
def test_state_round_trip(name):
    stats = Stats([1.0, 5, 2], **SETTINGS[name])
    other = Stats.from_state(json.loads(json.dumps(stats.get_state())))
    np.testing.assert_equal(other.get_state(), stats.get_state())
    for one in (stats, other):
        one.push(4)
        one.reduce()
        one.push(6)
    np.testing.assert_equal(other.get_state(), stats.get_state())


def test_restored_lifetime_sum_brings_each_round_once():
    child, parent = Stats(30, reduce="sum"), Stats(reduce="sum")
    parent.merge_on_time_axis(child.reduce())
    child.push(5)
    child = Stats.from_state(child.get_state())
    child.push(15)
    parent.merge_on_time_axis(child.reduce())
    assert (child.peek(), parent.peek()) == (50, 50)


def test_restored_throughput_is_measured_anew(clock):
    stats = Stats(0, reduce="sum", throughput=True)
    stats.reduce()
    state = stats.get_state()
    clock[0] += 3.0
    stats.reduce()
    assert stats.get_state() == state  # Holds nothing that only time changes.
    stats.push(6)
    other = Stats.from_state(stats.get_state())
    clock[0] = -1e6  # Another process, another clock.
    assert math.isnan(other.reduce().throughput)
    other.push(4)
    clock[0] += 1.0
    assert other.reduce().throughput == 4.0


@pytest.mark.parametrize("kind", [{}, {"window": 2}, {"reduce": None}])
def test_len_is_the_number_of_values_kept(kind):
    stats = Stats(**kind)
    assert len(stats) == 0 and bool(stats)
    for value in (1.0, 2.0, 3.0):
        stats.push(value)
    assert len(stats) == len(stats.values) > 0
