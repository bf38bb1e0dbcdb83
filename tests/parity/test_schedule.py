"""Piecewise schedules against those of RLlib."""

import pytest

from tflearner.schedule import Scheduler


def test_values_are_those_of_rllib(load):
    recorded = load("schedules.json")
    assert len(recorded) >= 6
    for entry in recorded:
        scheduler = Scheduler(fixed_value_or_schedule=entry["schedule"])
        for timestep, value in zip(entry["timesteps"], entry["values"], strict=True):
            ours = scheduler.update(timestep=timestep)
            assert ours == pytest.approx(value, rel=1e-12, abs=1e-18), entry["schedule"]
