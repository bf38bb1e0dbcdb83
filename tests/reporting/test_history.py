"""Tests for `tflearner.reporting.history`."""

import math

import pytest

from tflearner.errors import UsageError
from tflearner.reporting.history import History


def test_each_interval_is_kept():
    history = History(params={"total_steps": 10})
    history.append(0, {"loss": 1.0})
    history.append(1, {"loss": 2.0, "val_episode_return": 5.0})
    assert history.history == {"loss": [1.0, 2.0], "val_episode_return": [5.0]}
    assert history.epoch == [0, 1]
    assert history.params == {"total_steps": 10}


def test_interval_without_an_episode_that_ended_has_no_episode_values():
    history = History()
    history.append(4, {"loss": math.nan, "episode_return": math.nan})
    assert history.history["episode_return"] == []
    history.append(5, {"loss": 1.0, "episode_return": 7.0})
    history.append(6, {"loss": 2.0, "episode_return": 5.0})
    assert history.history["episode_return"] == [7.0, 5.0]
    assert max(history.history["episode_return"]) == 7.0
    assert len(history.history["loss"]) == len(history.epoch) == 3


def test_series_are_values_and_where_they_were_measured():
    history = History()
    for epoch in (4, 5, 6):
        logs = {
            "steps": 100 * epoch,
            "episode_return": epoch if epoch > 4 else math.nan,
        }
        history.append(epoch, logs | ({"val_loss": 9.0} if epoch == 5 else {}))
    assert history.series("episode_return") == ([5, 6], [5, 6])
    assert history.series("episode_return", over="steps") == ([500, 600], [5, 6])
    assert history.series("val_loss", over="steps") == ([500], [9.0])
    assert history.series("steps", over="val_loss") == ([9.0], [500])


@pytest.mark.parametrize("names", [("episode_retrun", "epoch"), ("loss", "step")])
def test_unknown_series_is_an_error(names):
    history = History()
    history.append(0, {"steps": 1, "loss": 2.0, "episode_return": 3.0})
    with pytest.raises(UsageError, match="did you mean '(episode_return|steps)'"):
        history.series(names[0], over=names[1])


def test_copy_is_not_changed_by_later_intervals():
    history = History()
    history.append(0, {"loss": 1.0})
    copied = history.copy({"total_steps": 3})
    history.append(1, {"loss": 2.0})
    copied.append(7, {"loss": 9.0})
    assert copied.history == {"loss": [1.0, 9.0]} and copied.epoch == [0, 7]
    assert copied.params == {"total_steps": 3}
    assert copied.series("loss") == ([0, 7], [1.0, 9.0])
    assert history.series("loss") == ([0, 1], [1.0, 2.0])


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
