"""Losses that need whole trajectories get sequences of every module."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import BatchError
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import random_episodes

LENGTHS = (3, 7, 5)


class LastOutput(TfLearner):
    """Fits the logits of each trajectory's last step, and logs what it was given."""

    needs_trajectories = True

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        logits, mask = fwd_out[Columns.ACTION_DIST_INPUTS], batch[Columns.LOSS_MASK]
        last = tf.gather(logits, batch[Columns.SEQ_LENS] - 1, batch_dims=1)
        self.metrics.log_value((module_id, "num_steps"), tf.shape(logits)[1], window=1)
        self.metrics.log_value(
            (module_id, "num_valid"), tf.math.count_nonzero(mask), window=1
        )
        return tf.reduce_mean(tf.reduce_sum(tf.square(last), axis=-1))


@pytest.fixture
def make_trajectory_learner(make_config):
    def make(**model):
        config = make_config(learner_class=LastOutput, jit_compile="auto")
        model = {"fcnet_hiddens": [8], **model}
        config.rl_module(model_config=DefaultModelConfig(**model))
        return config.build_learner()

    return make


def episodes_of(learner, lengths=LENGTHS):
    module = learner.module[DEFAULT_MODULE_ID]
    ends = [(length, "terminated") for length in lengths]
    return random_episodes(module.observation_space, module.action_space, ends=ends)


def expected_loss(learner, episodes):
    module = learner.module[DEFAULT_MODULE_ID]
    losses = []
    for episode in episodes:
        obs = np.asarray(episode.get_observations(slice(0, len(episode))))
        outputs = module.forward_train({Columns.OBS: tf.constant(obs)})
        last = outputs[Columns.ACTION_DIST_INPUTS].numpy()[-1]
        losses.append(np.square(last).sum())
    return np.mean(losses)


def test_stateless_modules_get_one_sequence_per_episode(make_trajectory_learner):
    learner = make_trajectory_learner()
    episodes = episodes_of(learner)
    want = expected_loss(learner, episodes)
    own = learner.update_from_episodes(episodes)[DEFAULT_MODULE_ID]
    assert own["total_loss"] == pytest.approx(want, rel=1e-5)
    assert own["num_steps"] == 7
    assert own["num_valid"] == sum(LENGTHS)


def test_lengths_are_rounded_so_that_few_are_traced(make_trajectory_learner):
    learner = make_trajectory_learner()
    for length in (17, 18, 19, 20):
        episodes = episodes_of(learner, [length, length])
        own = learner.update_from_episodes(episodes)[DEFAULT_MODULE_ID]
        assert own["num_steps"] == 20
    assert learner.num_traces == 1


def test_dense_networks_keep_xla(make_trajectory_learner):
    learner = make_trajectory_learner()
    episodes = episodes_of(learner, (4,) * 8)
    learner.update_from_episodes(episodes, minibatch_size=16, num_epochs=2)
    assert "XLA around the loop (dense layers)" in learner.describe_updates()[0]


@pytest.mark.parametrize("steps", [5, 40])  # Unrolled, and a loop in the graph.
def test_recurrent_networks_keep_the_plain_loop(make_trajectory_learner, steps):
    learner = make_trajectory_learner(use_lstm=True, lstm_cell_size=4)
    episodes = episodes_of(learner, (steps,) * 4)
    learner.update_from_episodes(episodes, minibatch_size=2 * steps)
    assert "plain loop (recurrent layers)" in learner.describe_updates()[0]


def test_recurrent_modules_are_not_cut_at_max_seq_len(make_trajectory_learner):
    learner = make_trajectory_learner(use_lstm=True, lstm_cell_size=4, max_seq_len=2)
    own = learner.update_from_episodes(episodes_of(learner))[DEFAULT_MODULE_ID]
    assert own["num_steps"] == 7


def test_columns_may_be_sequences_or_rows_with_lengths(make_trajectory_learner):
    learner, rows = make_trajectory_learner(), np.random.default_rng(0)
    obs = rows.uniform(-1.0, 1.0, (6, 4)).astype(np.float32)
    lengths = np.array([2, 4], np.int32)
    padded = np.zeros((2, 4, 4), np.float32)
    padded[0, :2], padded[1] = obs[:2], obs[2:]
    state = learner.get_state()
    batches = [
        {Columns.OBS: obs, Columns.SEQ_LENS: lengths},
        {Columns.OBS: padded, Columns.SEQ_LENS: lengths},
    ]
    losses = []
    for batch in batches:
        learner.set_state(state, force=True)
        results = learner.update_from_batch(batch)
        losses.append(results[DEFAULT_MODULE_ID]["total_loss"])
    assert losses[0] == losses[1]
    with pytest.raises(BatchError, match="seq_lens"):
        learner.update_from_batch({Columns.OBS: obs})
