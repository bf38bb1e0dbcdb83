"""Batches of an iterator are joined, and trained on as if each came alone."""

import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.errors import BatchError
from tflearner.intake import groups
from tflearner.intake.groups import grouped
from tflearner.intake.update_plan import UpdateSettings, plan_update

ME = "default_policy"


def plan_of(num_rows, start=0, **settings):
    columns = {Columns.OBS: np.arange(start, start + num_rows, dtype=np.float32)}
    rng = np.random.default_rng(0)
    return plan_update({ME: columns}, num_rows, UpdateSettings(**settings), rng)


def steps_of(plans):
    """Returns the rows of every gradient step, in order."""
    return [
        plan.columns[ME][Columns.OBS][rows].tolist()
        for plan in plans
        if plan is not None
        for rows in plan.minibatches.indices[ME]
    ]


def items_of(plans):
    """Returns how many plans each plan joins; 0 is no plan."""
    return [0 if plan is None else len(plan.parts) or 1 for plan in plans]


@pytest.mark.parametrize(
    ("rows", "most", "wanted"),
    [
        ([4, 4, 4], 8, [3]),
        ([4, 4, 4, 4, 4], 2, [2, 2, 1]),
        ([4, 4, 3, 3, 4], 8, [2, 2, 1]),
        ([4, None, 4, 4], 8, [1, 0, 2]),
        ([4, 4], 1, [1, 1]),
        ([], 8, []),
    ],
)
def test_batches_of_one_form_are_joined_in_their_order(rows, most, wanted):
    plans = [n if n is None else plan_of(n, 10 * i) for i, n in enumerate(rows)]
    joined = [*grouped(iter(plans), most)]
    assert items_of(joined) == wanted
    assert steps_of(joined) == steps_of(plans)
    assert sum(plan.env_steps for plan in joined if plan) == sum(filter(None, rows))


def test_minibatches_of_joined_batches_keep_their_rows():
    plans = [plan_of(4, start, minibatch_size=2) for start in (0, 10)]
    (joined,) = grouped(iter(plans), 8)
    assert steps_of([joined]) == [[0, 1], [2, 3], [10, 11], [12, 13]]
    assert joined.minibatches.num_minibatches == 4


def test_large_batches_stay_alone(monkeypatch):
    monkeypatch.setattr(groups, "MOST_BYTES", 40)
    plans = [plan_of(4), plan_of(4), plan_of(20), plan_of(4)]
    assert items_of(grouped(iter(plans), 8)) == [2, 1, 1]


def test_an_error_comes_behind_the_batches_before_it():
    def plans():
        yield plan_of(4)
        yield plan_of(4)
        raise BatchError("item 2", "bad", "good")

    found = grouped(plans(), 8)
    assert items_of([next(found)]) == [2]
    with pytest.raises(BatchError, match="item 2"):
        next(found)


@pytest.mark.parametrize("most", [1, 3])
def test_a_full_group_is_trained_on_before_the_next_batch_is_waited_for(most):
    pulled = []

    def plans():
        for number in range(6):
            pulled.append(number)
            yield plan_of(4)

    found = grouped(plans(), most)
    for number in range(1, 6 // most + 1):
        next(found)
        assert len(pulled) == number * most
