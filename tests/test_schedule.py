"""Tests for `tflearner.schedule`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tflearner.errors import ScheduleError
from tflearner.schedule import Scheduler

POINTS = [[0, 1.0], [50, 3.0], [100, -2.0]]


class FakeVariable:
    def __init__(self):
        self.assigned = []

    def assign(self, value):
        self.assigned.append(value)


def validate(value):
    Scheduler.validate(
        fixed_value_or_schedule=value, setting_name="lr", description="learning rate"
    )


@pytest.mark.parametrize("value", [0.1, 3, np.float32(0.5), None])
def test_fixed_value_never_changes(value):
    scheduler = Scheduler(fixed_value_or_schedule=value)
    assert scheduler.update(timestep=10**6) is value
    assert scheduler.get_current_value() is value


@pytest.mark.parametrize(
    ("timestep", "value"),
    [(-5, 1.0), (0, 1.0), (25, 2.0), (50, 3.0), (75, 0.5), (100, -2.0), (10**12, -2.0)],
)
def test_schedule_is_linear_between_its_points(timestep, value):
    assert Scheduler(fixed_value_or_schedule=POINTS).update(timestep) == value


def test_current_value_follows_the_timestep_in_both_directions():
    scheduler = Scheduler(fixed_value_or_schedule=POINTS, framework="tf2", device="cpu")
    assert scheduler.get_current_value() == 1.0
    scheduler.update(timestep=50)
    assert scheduler.get_current_value() == 3.0
    scheduler.update(timestep=0)
    assert scheduler.get_current_value() == 1.0


def test_equal_timesteps_make_a_jump():
    scheduler = Scheduler(fixed_value_or_schedule=[(0, 1), (10, 1), (10, 5), (20, 5)])
    assert scheduler.update(9.99) == 1.0
    assert scheduler.update(10) == 5.0


@settings(deadline=None, max_examples=50)
@given(
    steps=st.lists(st.integers(1, 1000), min_size=1, max_size=5),
    values=st.lists(st.floats(-10, 10), min_size=6, max_size=6),
    at=st.integers(-10, 6000),
)
def test_schedule_agrees_with_numpy(steps, values, at):
    timesteps = np.cumsum([0, *steps])
    points = [[int(t), v] for t, v in zip(timesteps, values, strict=False)]
    value = Scheduler(fixed_value_or_schedule=points).update(at)
    assert type(value) is float
    want = np.interp(at, timesteps, values[: len(points)])
    assert value == pytest.approx(want, abs=1e-12)


def test_variable_is_assigned_and_returned():
    variable = FakeVariable()
    scheduler = Scheduler(fixed_value_or_schedule=POINTS, variable=variable)
    assert scheduler.get_current_value() is variable
    assert scheduler.update(timestep=50) == 3.0
    assert variable.assigned == [1.0, 3.0]


def test_variable_takes_a_fixed_value():
    variable = FakeVariable()
    scheduler = Scheduler(fixed_value_or_schedule=0.25, variable=variable)
    assert scheduler.get_current_value() is variable
    assert variable.assigned == [0.25]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "lr: got True, want a number or"),
        ("0.1", "lr: got '0.1'"),
        (float("nan"), "lr: got nan"),
        (np.zeros((2, 2)), "lr: got array"),
        ([], "lr: got a schedule of 0 points"),
        ([[0, 1.0]], "lr: got a schedule of 1 points"),
        ([[5, 1.0], [10, 2.0]], "lr: got point 0: step 5"),
        ([[0, 1.0], [50, 2.0], [10, 3.0]], "lr: got point 2: step 10 after 50"),
        ([[0, 1.0], [-1, 2.0]], "lr: got point 1: step -1 after 0"),
        ([[0, 1.0], 5], "lr: got point 1: 5"),
        ([[0, 1.0], "10"], "lr: got point 1: '10'"),
        ([[0, 1.0], [10]], r"lr: got point 1: \[10\]"),
        ([[0, True], [10, 1.0]], r"lr: got point 0: \[0, True\]"),
        ([[0, 1.0], [10, float("nan")]], r"lr: got point 1: \[10, nan\]"),
        ([[0, 1.0], [float("inf"), 1.0]], r"lr: got point 1: \[inf, 1.0\]"),
    ],
)
def test_what_is_no_schedule_is_refused(value, text):
    with pytest.raises(ScheduleError, match=text):
        validate(value)
    with pytest.raises(ValueError):
        Scheduler(fixed_value_or_schedule=value)


@pytest.mark.parametrize("value", [None, 0, 1e-3, POINTS, ((0, 1), (0, 2), (5, 3))])
def test_schedules_are_accepted(value):
    validate(value)
