"""Batches that a learner refuses: nothing of it changes. And what it does to good ones.

What columns may have wrong is in `test_bad_columns.py`; that a learner checks all of
them before it changes anything is here.
"""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.errors import BatchError, UnknownModuleError
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import learner_digest, random_batch

SKIPPED = "learner_update_skipped_empty_batch_lifetime"


@pytest.fixture(scope="module")
def learner(make_learner):
    """A PPO learner that has learned, and that no test of this module changes."""
    learner = make_learner(run_eagerly=True)
    learner.update(batch_of(learner))
    return learner


def batch_of(learner, num_rows=32, *, seed=0):
    return random_batch(learner.module[DEFAULT_MODULE_ID], num_rows, seed=seed)


def assert_refused(learner, batch, text, error=BatchError, **settings):
    """Checks class and text of the error, and that it keeps its promise."""
    before = learner_digest(learner)
    with pytest.raises(error, match=text) as raised:
        learner.update(batch, **settings)
    assert "Nothing was changed." in str(raised.value)
    assert learner_digest(learner) == before


# Wrong columns.


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"actions": np.full(32, 2)}, r"'actions': got 2 at row 0, want .*\[0, 1\]"),
        ({"obs": np.zeros((32, 5))}, r"'obs': got float64 \(32, 5\), want \(N, 4\)"),
        ({"value_targets": np.full(32, np.nan)}, "'value_targets': got 32 non-finite"),
        ({"seq_lens": np.array([20, 10])}, "'seq_lens': got a sum of 30, want 32"),
        ({3: np.zeros(32)}, "'default_policy'.*a column called 3, want a name"),
        ({"obs": None}, "'obs': got .*NoneType"),
    ],
    ids=["value", "shape", "NaN", "lengths", "name", "None"],
)
def test_wrong_columns_change_nothing(learner, wrong, text):
    assert_refused(learner, batch_of(learner) | wrong, text)


def test_required_columns_are_those_of_the_loss(learner):
    batch = batch_of(learner)
    del batch["advantages"]
    assert_refused(learner, batch, "'default_policy': got no column 'advantages'")


def test_wrong_columns_of_one_module_leave_the_others_alone(get_learner):
    learner = get_learner(policies=["p0", "p1"], run_eagerly=True)
    batch = {mid: random_batch(learner.module[mid], 8) for mid in ("p0", "p1")}
    batch["p1"]["rewards"][3] = np.inf
    assert_refused(learner, batch, "'p1', column 'rewards'.*at row 3")


def test_wrong_sequences_change_nothing(make_learner):
    settings = DefaultModelConfig(
        fcnet_hiddens=[8], use_lstm=True, lstm_cell_size=4, max_seq_len=5
    )
    learner = make_learner(run_eagerly=True, model_config=settings)
    batch = batch_of(learner, 20)
    batch["state_in"]["h"][2, 1] = np.inf
    assert_refused(learner, batch, r"'state_in'\['h'\]: got 1 .*sequence 2, index .1,")


def test_minibatches_after_a_wrong_row_are_not_begun(learner):
    batch = batch_of(learner)
    batch["obs"][31] = np.nan
    assert_refused(learner, batch, "'obs'.*at row 31", minibatch_size=4)


# Modules (B02).


@pytest.mark.parametrize(
    "wrap",
    [
        lambda own: {"default_polcy": own},
        lambda own: {DEFAULT_MODULE_ID: own, "default_polcy": own},
        lambda own: MultiAgentBatch({"default_polcy": own}, env_steps=32),
    ],
)
def test_unknown_module_is_named_with_the_closest_one(learner, wrap):
    text = "'default_polcy'.*'default_policy'.*did you mean 'default_policy'"
    assert_refused(learner, wrap(batch_of(learner)), text, UnknownModuleError)
    assert issubclass(UnknownModuleError, KeyError)


@pytest.mark.parametrize("batch", [3, "obs", [1.0], np.zeros(3)])
def test_what_is_no_batch_is_refused(learner, batch):
    assert_refused(learner, batch, "MultiAgentBatch.*dict of columns")


def test_columns_of_a_module_are_a_dict(learner):
    text = "'default_policy': got .*NoneType.*columns"
    assert_refused(learner, {DEFAULT_MODULE_ID: None}, text)


def test_columns_without_module_need_one_module(get_learner):
    learner = get_learner(policies=["p0", "p1"], run_eagerly=True)
    batch = random_batch(learner.module["p0"], 4)
    assert_refused(learner, batch, r"without a module id.*\['p0', 'p1'\]")


def test_columns_put_into_a_sample_batch_later_are_checked_too(learner):
    batch = SampleBatch(batch_of(learner))
    batch["obs"] = [[1.0], [1.0, 2.0]]
    assert_refused(learner, batch.as_multi_agent(), "'obs': got builtins.list")
    batch = SampleBatch(batch_of(learner), seq_lens=np.array(["a"]))
    assert_refused(learner, batch, "'seq_lens': got dtype <U1, want values of kind int")


# Columns that nobody knows (B04).


def test_own_columns_are_refused_when_strict(make_learner):
    learner = make_learner(run_eagerly=True, batch_checks="strict")
    batch = batch_of(learner) | {"rewrads": np.zeros(32, np.float32)}
    assert_refused(learner, batch, "'rewrads': got a column that nobody knows")
    del batch["rewrads"]
    learner.update(batch | {"eps_id": ["e"] * 32, "t": np.arange(32)})


def test_own_columns_reach_the_loss_by_default(make_learner):
    learner = make_learner(run_eagerly=True)
    seen = []
    compute_losses = learner.compute_losses
    learner.compute_losses = lambda **kwargs: (
        seen.append(kwargs["batch"][DEFAULT_MODULE_ID]["rewrads"].dtype),
        compute_losses(**kwargs),
    )[1]
    learner.update(batch_of(learner) | {"rewrads": np.zeros(32)})
    assert seen == [tf.float32]


# Nothing that counts (B15).


def test_module_whose_mask_is_all_false_is_skipped(get_learner):
    learner = get_learner(policies=["p0", "p1"], run_eagerly=True)
    batch = {mid: random_batch(learner.module[mid], 8) for mid in ("p0", "p1")}
    batch["p0"]["loss_mask"] = np.zeros(8, bool)
    before = learner.get_state(components="rl_module")["rl_module"]
    results = learner.update(batch)
    assert "total_loss" not in results["p0"] and "total_loss" in results["p1"]
    after = learner.get_state(components="rl_module")["rl_module"]
    np.testing.assert_equal(after["p0"], before["p0"])
    del batch["p1"]
    results = learner.update(batch)
    assert results["__all_modules__"][SKIPPED] == 1
    assert learner.get_state()["weights_seq_no"] == 1


def test_masked_batch_is_checked_before_it_is_skipped(learner):
    batch = batch_of(learner) | {"loss_mask": np.zeros(32, bool)}
    batch["obs"][3] = np.nan
    assert_refused(learner, batch, "'obs'.*at row 3")


# Whose arrays they are (B21).


def test_arrays_stay_the_callers(get_learner):
    learner, states = get_learner(), []
    start = learner.get_state()
    for are_reused in (False, True):
        learner.set_state(start, force=True)
        for seed in range(3):
            batch = batch_of(learner, seed=seed)
            for values in batch.values():
                values.setflags(write=False)
            given = {column: values.copy() for column, values in batch.items()}
            learner.update(given if are_reused else batch)
            for column, values in given.items():
                np.testing.assert_array_equal(values, batch[column])
                values[...] = 0  # As a collector does that fills its arrays again.
        states.append(learner.get_state(components="rl_module"))
    np.testing.assert_equal(*states)
