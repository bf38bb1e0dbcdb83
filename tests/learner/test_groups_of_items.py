"""Items of an iterator that share a traced call change a learner as single ones do."""

import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.constants import ALL_MODULES
from tflearner.errors import BatchError
from tflearner.testing import random_batch

ME = "default_policy"


@pytest.fixture
def learners(make_config):
    """Two learners alike; the second one joins up to 4 items."""
    one, other = (make_config(run_eagerly=True).build_learner() for _ in range(2))
    other.items_per_call = 4
    return one, other


def test_joined_items_change_weights_and_metrics_as_single_ones_do(learners):
    one, other = learners
    items = [random_batch(one.module[ME], 6, seed=seed) for seed in range(6)]
    calls = []
    run = other._run_update
    other._run_update = lambda plan: calls.append(plan) or run(plan)
    results = [learner.update_from_iterator(items) for learner in learners]
    assert [len(plan.parts) for plan in calls] == [4, 2]
    for mine, wanted in zip(*(x.module[ME].weights for x in (other, one)), strict=True):
        np.testing.assert_array_equal(mine.numpy(), wanted.numpy())
    for own in results:
        own[ALL_MODULES].pop("num_env_steps_trained_lifetime_throughput", None)
    assert results[0] == results[1]
    assert results[1][ALL_MODULES]["dataset_num_iters_trained"] == 6


def test_items_before_a_bad_one_are_trained_on(learners):
    _, other = learners
    items = [random_batch(other.module[ME], 6, seed=seed) for seed in range(3)]
    items[2][Columns.OBS] = items[2][Columns.OBS][:, :1]
    with pytest.raises(BatchError, match="2 batches were trained on"):
        other.update_from_iterator(items)
