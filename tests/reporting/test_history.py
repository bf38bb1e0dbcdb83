"""Tests for `tflearner.reporting.history`."""

import math

from tflearner.reporting.history import History


def test_each_interval_is_kept():
    history = History(params={"total_steps": 10})
    history.append(0, {"loss": 1.0})
    history.append(1, {"loss": 2.0, "val_episode_return": 5.0})
    assert history.history == {"loss": [1.0, 2.0], "val_episode_return": [5.0]}
    assert history.epoch == [0, 1]
    assert history.params == {"total_steps": 10}


def test_repr_tells_how_it_went():
    history = History()
    for i, value in enumerate([math.nan, 20.0, 475.25, 460.0, math.nan]):
        history.append(i, {"steps": 100 * (i + 1), "episode_return": value})
    assert repr(history) == (
        "History(5 iterations, 500 steps, episode_return: last 460.0, best 475.2)"
    )


def test_repr_without_anything():
    history = History()
    assert repr(history) == "History(0 iterations)"
    history.append(0, {"steps": 5, "episode_return": math.nan})
    assert repr(history) == "History(1 iterations, 5 steps)"
