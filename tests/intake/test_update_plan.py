"""What an update is going to do: which rows and sequences, how often, in which order."""

import numpy as np
import pytest

from tflearner.errors import BatchError, UsageError
from tflearner.intake.update_plan import UpdateSettings, num_rows, plan_update


def rows(number):
    return {"obs": np.zeros((number, 3), np.float32)}


def sequences(*lengths, steps=5):
    return {
        "obs": np.zeros((len(lengths), steps, 3), np.float32),
        "seq_lens": np.array(lengths, np.int32),
        "loss_mask": np.arange(steps) < np.array(lengths)[:, None],
        "state_in": {"h": np.zeros((len(lengths), 2), np.float32)},
    }


def plan(columns, env_steps=20, seed=0, **settings):
    rng = np.random.default_rng(seed)
    return plan_update(columns, env_steps, UpdateSettings(**settings), rng)


def indices(planned):
    return {mid: own.tolist() for mid, own in planned.minibatches.indices.items()}


def test_the_plan_is_made_of_what_was_given():
    columns = {"p0": rows(4)}
    planned = plan(columns, env_steps=17)
    assert planned.columns is columns and planned.env_steps == 17


# Whole batches.


@pytest.mark.parametrize("shuffle", [False, True])
def test_full_batch_takes_every_row_in_order_in_every_epoch(shuffle):
    planned = plan({"p0": rows(4)}, num_epochs=3, shuffle=shuffle)
    assert indices(planned) == {"p0": [[0, 1, 2, 3]] * 3}
    assert planned.full_batch and planned.minibatches.num_minibatches == 3


def test_full_batch_of_unequal_modules_takes_each_whole():
    planned = plan({"p0": rows(5), "p1": rows(2)}, num_epochs=2)
    assert indices(planned) == {"p0": [[*range(5)]] * 2, "p1": [[0, 1]] * 2}


def test_full_batch_of_sequences_takes_every_sequence_once():
    planned = plan({"p0": sequences(5, 1, 3), "p1": rows(9)}, num_epochs=2)
    assert indices(planned) == {"p0": [[0, 1, 2]] * 2, "p1": [[*range(9)]] * 2}


def test_number_of_full_batches_may_be_given():
    planned = plan({"p0": rows(2)}, num_epochs=5, num_total_minibatches=3)
    assert indices(planned) == {"p0": [[0, 1]] * 3}


# Minibatches.


def test_minibatches_of_rows():
    planned = plan({"p0": rows(5)}, minibatch_size=2, num_epochs=2)
    assert indices(planned) == {"p0": [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4]]}
    assert not planned.full_batch


def test_a_minibatch_as_large_as_the_batch_is_no_full_batch():
    assert not plan({"p0": rows(5)}, minibatch_size=5).full_batch


@pytest.mark.parametrize(
    ("lengths", "minibatch_size", "wanted"),
    [
        ((5, 5, 5, 5), 10, [[0, 1], [2, 3]]),
        ((5, 5, 5, 5), 14, [[0, 1], [2, 3]]),
        ((5, 5, 5, 5), 3, [[0], [1], [2], [3]]),  # One at least.
        ((2, 3, 1, 4), 5, [[0, 1], [2, 3]]),  # Of 2.5 rows each, padding excluded.
        ((1, 1, 1, 1), 2, [[0, 1], [2, 3]]),
        ((5, 5), 100, [[0, 1] * 10]),
    ],
)
def test_sequences_are_planned_in_sequences(lengths, minibatch_size, wanted):
    planned = plan({"p0": sequences(*lengths)}, minibatch_size=minibatch_size)
    assert indices(planned) == {"p0": wanted}


def test_padding_makes_no_difference():
    short = plan({"p0": sequences(2, 3, 1, 4)}, minibatch_size=5)
    long = plan({"p0": sequences(2, 3, 1, 4, steps=50)}, minibatch_size=5)
    assert indices(short) == indices(long)


def test_short_module_starts_over_until_the_long_one_is_done():
    planned = plan({"p0": rows(6), "p1": rows(3)}, minibatch_size=2)
    assert indices(planned) == {
        "p0": [[0, 1], [2, 3], [4, 5]],
        "p1": [[0, 1], [2, 0], [1, 2]],
    }


def test_rows_beside_sequences():
    planned = plan({"p0": rows(8), "p1": sequences(4, 4)}, minibatch_size=4)
    assert indices(planned) == {"p0": [[0, 1, 2, 3], [4, 5, 6, 7]], "p1": [[0], [1]]}


@pytest.mark.parametrize("columns", [rows(12), sequences(*[3] * 12)])
def test_every_item_is_seen_once_per_epoch(columns):
    size = 4 if "seq_lens" not in columns else 4 * 3
    planned = plan({"p0": columns}, minibatch_size=size, num_epochs=3, shuffle=True)
    epochs = np.array(indices(planned)["p0"]).reshape(3, 12)
    assert (np.sort(epochs) == np.arange(12)).all()
    assert (epochs != np.arange(12)).any(axis=1).all()
    assert (epochs[0] != epochs[1]).any()


def test_one_shuffled_epoch_is_shuffled():
    planned = plan({"p0": rows(12)}, minibatch_size=4, shuffle=True)
    assert indices(planned)["p0"] != np.arange(12).reshape(3, 4).tolist()


@pytest.mark.parametrize(
    ("settings", "draws"),
    [
        ({}, False),
        ({"minibatch_size": 2, "num_epochs": 3}, False),
        ({"shuffle": True}, False),
        ({"shuffle": True, "minibatch_size": 2}, True),
    ],
)
def test_only_a_shuffled_plan_draws_random_numbers(settings, draws):
    rng = np.random.default_rng(3)
    before = rng.bit_generator.state
    plan_update({"p0": rows(6)}, 6, UpdateSettings(**settings), rng)
    assert (rng.bit_generator.state != before) == draws


def test_same_numbers_same_order():
    settings = {"minibatch_size": 3, "shuffle": True}
    first, same, other = (plan({"p0": rows(9)}, seed=s, **settings) for s in (1, 1, 2))
    assert indices(first) == indices(same) != indices(other)


# What is no plan.


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "8"])
@pytest.mark.parametrize("name", ["num_epochs", "minibatch_size"])
def test_sizes_are_counts(name, value):
    with pytest.raises(UsageError, match=f"{name}: got {value!r}, want int >= 1"):
        UpdateSettings(**{name: value}).check()


@pytest.mark.parametrize("value", [-1, None, 1.0, False])
def test_total_may_be_zero_but_is_a_count(value):
    UpdateSettings(num_total_minibatches=0).check()
    with pytest.raises(UsageError, match="num_total_minibatches.*int >= 0"):
        UpdateSettings(num_total_minibatches=value).check()


def test_module_without_rows_has_no_plan():
    with pytest.raises(BatchError, match="'p1'.*0 rows"):
        plan({"p0": rows(3), "p1": rows(0)}, minibatch_size=2)


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        (rows(7), 7),
        (sequences(2, 3, 1), 6),
        ({"obs": {"a": {"b": np.zeros((4, 2))}}, "actions": np.zeros(4)}, 4),
        ({"obs": (np.zeros((3, 2)), np.zeros(3))}, 3),
        ({"actions": np.zeros(5)}, 5),
        ({}, 0),
    ],
)
def test_number_of_rows(columns, wanted):
    assert num_rows(columns) == wanted


@pytest.mark.parametrize(
    "settings",
    [
        {"num_epochs": 2**70},
        {"num_epochs": 10**400},
        {"num_total_minibatches": 2**40},
        {"num_epochs": 2**40, "minibatch_size": 2**40},
        {"num_epochs": 2**50, "minibatch_size": 1, "shuffle": True},
    ],
)
def test_plans_that_no_memory_holds_are_refused(settings):
    with pytest.raises(UsageError, match="minibatches.*want at most [0-9,]+ minib"):
        UpdateSettings(**settings).fitted_to({"p0": rows(20), "p1": sequences(3, 2)})
    with pytest.raises(UsageError, match="want at most"):
        plan({"p0": rows(20)}, **settings)


def test_a_minibatch_far_beyond_the_batch_is_the_batch():
    settings = UpdateSettings(minibatch_size=2**40)
    columns = {"p0": rows(20), "p1": rows(7)}
    assert settings.fitted_to(columns).minibatch_size == 20
    assert settings.fitted_to({}) == settings
    for size in (3, 20, 64, 2**14):
        settings = UpdateSettings(minibatch_size=size)
        assert settings.fitted_to(columns) is settings


def test_shuffle_is_a_bool():
    with pytest.raises(UsageError, match="shuffle_batch_per_epoch.*a bool"):
        UpdateSettings(shuffle=np.ones(2)).check()
