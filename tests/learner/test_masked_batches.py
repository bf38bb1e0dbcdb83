"""Batches with masks of actions: what is trained on, and what is refused."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import BatchError
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.spaces.mask_spaces import ACTION_MASK
from tflearner.testing import random_batch

Box, Dict, Discrete = gym.spaces.Box, gym.spaces.Dict, gym.spaces.Discrete
MASKED = Dict(
    {"observations": Box(-1, 1, (3,)), ACTION_MASK: gym.spaces.MultiBinary(4)}
)
LSTM = {"use_lstm": True, "lstm_cell_size": 4, "max_seq_len": 5}


@pytest.fixture
def learner_of(get_learner):
    def make(space=MASKED, model_config=None, **settings):
        config = {"fcnet_hiddens": (8,), **(model_config or {})}
        return get_learner(
            spaces=(space, Discrete(4)),
            model_config=DefaultModelConfig(**config),
            **settings,
        )

    return make


def batch_of(learner, num_rows=16):
    return random_batch(learner.module[DEFAULT_MODULE_ID], num_rows)


def test_forbidden_actions_take_no_part_in_the_loss(learner_of):
    """With one action allowed, and that taken, nothing is left to decide."""
    learner = learner_of(run_eagerly=True)
    batch = batch_of(learner)
    masks = np.eye(4, dtype=np.int8)[batch[Columns.ACTIONS]]
    batch[Columns.OBS][ACTION_MASK] = masks
    batch[Columns.ACTION_LOGP] = np.zeros(16, np.float32)
    batch[Columns.ACTION_DIST_INPUTS] = np.where(masks, 3.0, -1e9).astype(np.float32)
    results = learner.update(batch)[DEFAULT_MODULE_ID]
    assert results["entropy"] == 0.0 and results["mean_kl_loss"] == 0.0
    want = -batch[Columns.ADVANTAGES].mean()
    np.testing.assert_allclose(results["policy_loss"], want, rtol=1e-4)


# What is refused. Each changes a batch of 16 rows.


def nothing_allowed(batch):
    batch[Columns.OBS][ACTION_MASK][3] = 0


def forbidden_action(batch):
    batch[Columns.OBS][ACTION_MASK][5, batch[Columns.ACTIONS][5]] = 0
    batch[Columns.OBS][ACTION_MASK][5, batch[Columns.ACTIONS][5] - 1] = 1


def out_of_range(batch):
    batch[Columns.OBS][ACTION_MASK][2, 1] = -1


def wrong_shape(batch):
    batch[Columns.OBS][ACTION_MASK] = batch[Columns.OBS][ACTION_MASK][:, :3]


def no_mask(batch):
    del batch[Columns.OBS][ACTION_MASK]


BAD = {
    nothing_allowed: r"'obs'\['action_mask'\]: got .*forbids every action at row 3, wa",
    forbidden_action: r"'actions': got action \d at row 5, want one that 'obs'",
    out_of_range: r"'obs'\['action_mask'\]: got -1 at row 2, index .1,.*in \[0, 1\]",
    wrong_shape: r"'obs'\['action_mask'\]: got int8 \(16, 3\), want \(N, 4\)",
    no_mask: r"'obs': got a dict with keys \['observations'\]",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
def test_bad_mask_is_refused(learner_of, spoil):
    learner = learner_of()
    batch = batch_of(learner)
    spoil(batch)
    match = rf"module '{DEFAULT_MODULE_ID}', column {BAD[spoil]}"
    with pytest.raises(BatchError, match=match):
        learner.update(batch)


@pytest.mark.parametrize("spoil", [nothing_allowed, forbidden_action])
def test_rows_that_are_left_out_may_be_masked_in_any_way(learner_of, spoil):
    learner = learner_of(run_eagerly=True)
    batch = batch_of(learner)
    batch[Columns.LOSS_MASK] = ~np.isin(np.arange(16), (3, 5))
    spoil(batch)
    results = learner.update(batch)[DEFAULT_MODULE_ID]
    assert results["num_non_finite_updates_lifetime"] == 0


def test_what_follows_may_allow_nothing(learner_of):
    learner = learner_of(run_eagerly=True)
    batch = batch_of(learner)
    following = {k: v.copy() for k, v in batch[Columns.OBS].items()}
    following[ACTION_MASK][:] = 0
    batch[Columns.NEXT_OBS] = following
    learner.update(batch)
    following[ACTION_MASK][7, 0] = 2
    with pytest.raises(BatchError, match=r"'new_obs'\['action_mask'\]: got 2 at row 7"):
        learner.update(batch)


def test_padding_may_allow_nothing(learner_of):
    learner = learner_of(model_config=LSTM, run_eagerly=True)
    batch = batch_of(learner, 13)  # [3, 5], the last two of which are padding.
    assert not batch[Columns.OBS][ACTION_MASK][2, 3:].any()
    learner.update(batch)
    batch[Columns.OBS][ACTION_MASK][1, 2] = 0
    with pytest.raises(BatchError, match="forbids every action at sequence 1, step 2"):
        learner.update(batch)


def test_masks_may_be_flags(learner_of):
    learner = learner_of(run_eagerly=True)
    batch = batch_of(learner)
    batch[Columns.OBS][ACTION_MASK] = batch[Columns.OBS][ACTION_MASK].astype(bool)
    learner.update(batch)


def test_checks_of_the_schema_look_at_no_mask(learner_of):
    learner = learner_of(batch_checks="schema", run_eagerly=True)
    batch = batch_of(learner)
    nothing_allowed(batch)
    learner.update(batch)


def test_order_of_keys_in_a_batch_does_not_matter(learner_of):
    results = []
    for turned in (False, True):
        learner = learner_of(seed=1, run_eagerly=True)
        batch = batch_of(learner)
        if turned:
            batch[Columns.OBS] = dict(reversed(batch[Columns.OBS].items()))
        results.append(learner.update(batch)[DEFAULT_MODULE_ID]["total_loss"])
    assert results[0] == results[1]
