"""IMPALA: its settings, the age of the weights that act, and what V-trace gets."""

import gymnasium as gym
import keras
import numpy as np
import pytest

import tflearner as tfl
from tflearner.columns import Columns
from tflearner.errors import BatchError, ConfigError
from tflearner.testing import CountingEnv, random_episodes, random_trajectories

OBS, ACTIONS = gym.spaces.Box(-1.0, 1.0, (4,), np.float32), gym.spaces.Discrete(2)
ME = tfl.DEFAULT_MODULE_ID
AGE = tfl.DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY
TINY = {
    "run_eagerly": True,
    "jit_compile": False,
    "seed": 1,
    "model_config": {"fcnet_hiddens": [8]},
}


def make_learner(**settings):
    config = tfl.IMPALAConfig(observation_space=OBS, action_space=ACTIONS)
    return config.update_from_dict(TINY | settings).build_learner()


@pytest.fixture
def make_algo(owned):
    """Returns a function from settings to a tiny algorithm: 8 steps per update."""

    def make(**settings):
        config = tfl.IMPALAConfig().environment(CountingEnv)
        config.update_from_dict(TINY | {"rollout_fragment_length": 4, "lr": 0.1})
        config.update_from_dict({"train_batch_size_per_learner": 8} | settings)
        return owned(config.build_algo())

    return make


def weights_of(module):
    return np.concatenate([w.numpy().ravel() for w in module.unwrapped().weights])


def test_defaults_are_those_of_rllib():
    config = tfl.IMPALAConfig()
    defaults = {
        "lr": 5e-4,
        "grad_clip": 40.0,
        "grad_clip_by": "global_norm",
        "train_batch_size_per_learner": 500,
        "rollout_fragment_length": 50,
        "num_epochs": 1,
        "minibatch_size": None,
        "vtrace": True,
        "vtrace_clip_rho_threshold": 1.0,
        "vtrace_clip_pg_rho_threshold": 1.0,
        "broadcast_interval": 1,
        "vf_loss_coeff": 0.5,
        "entropy_coeff": 0.01,
    }
    assert {name: getattr(config, name) for name in defaults} == defaults


def test_batches_are_pieces_of_fragments_that_reach_the_size(make_algo):
    algo = make_algo(num_envs_per_env_runner=2, train_batch_size_per_learner=20)
    lengths = []
    update = algo.learner.update_from_episodes

    def counted(episodes, **kwargs):
        lengths.extend(map(len, episodes))
        return update(episodes, **kwargs)

    algo.learner.update_from_episodes = counted
    results = algo.train()["learners"][ME]
    assert sum(lengths) == 24 and max(lengths) <= 4
    assert results["module_train_batch_size_mean"] == 24
    names = {"policy_loss", "vf_loss", "entropy", "curr_entropy_coeff", AGE}
    assert names <= results.keys()


@pytest.mark.parametrize("interval", [1, 3])
def test_weights_that_act_are_of_the_last_broadcast(make_algo, interval):
    algo = make_algo(broadcast_interval=interval)
    ages, acting, learned = [], [], [weights_of(algo.get_module())]
    for _ in range(2 * interval):
        ages.append(algo.train()["learners"][ME][AGE])
        acting.append(weights_of(algo.env_runner.module))
        learned.append(weights_of(algo.get_module()))
    assert ages == [*range(1, interval + 1)] * 2
    if interval > 1:
        for update in range(2 * interval):
            last_broadcast = update - update % interval
            np.testing.assert_array_equal(acting[update], learned[last_broadcast])
    assert (learned[0] != learned[-1]).any()


def test_a_save_hands_over_the_weights_too(make_algo, tmp_path):
    algo = make_algo(broadcast_interval=5)
    algo.train()
    algo.save(tmp_path)
    acting = weights_of(algo.env_runner.module)
    np.testing.assert_array_equal(acting, weights_of(algo.get_module()))
    assert algo.train()["learners"][ME][AGE] == 1


def test_one_keras_model_cannot_be_of_two_ages(make_algo):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    with pytest.raises(ConfigError, match="one Keras model.*a function"):
        make_algo(broadcast_interval=2, model=model)


def test_episodes_get_a_closing_row_each_and_no_more():
    learner, seen = make_learner(), []
    compute = learner.compute_loss_for_module

    def looked_at(*, batch, **kwargs):
        seen.append(batch)
        return compute(batch=batch, **kwargs)

    learner.compute_loss_for_module = looked_at
    ends = [(3, "terminated"), (1, "truncated"), (5, "cut")]
    learner.update_from_episodes(random_episodes(OBS, ACTIONS, ends=ends))
    batch = seen[0]
    assert batch[Columns.SEQ_LENS].numpy().tolist() == [4, 2, 6]
    assert batch[Columns.LOSS_MASK].numpy().sum(axis=1).tolist() == [3, 1, 5]
    assert batch[Columns.TERMINATEDS].numpy().sum(axis=1).tolist() == [1, 0, 0]


def test_a_sequence_that_is_not_closed_is_refused():
    learner = make_learner()
    batch = random_trajectories(learner.module[ME], 12)
    last = batch[Columns.SEQ_LENS][1] - 1
    batch[Columns.LOSS_MASK][1, last] = True
    with pytest.raises(BatchError, match="sequence 1.*False in 'loss_mask'"):
        learner.update_from_batch(batch)
    batch[Columns.TERMINATEDS][1, last] = True
    learner.update_from_batch(batch)


def test_without_vtrace_steps_are_taken_as_the_current_policys():
    losses = []
    for vtrace in (True, False):
        learner = make_learner(vtrace=vtrace)
        batch = random_trajectories(learner.module[ME], 12)
        for shift in (0.0, 0.7):
            shifted = batch | {
                Columns.ACTION_LOGP: batch[Columns.ACTION_LOGP] - np.float32(shift)
            }
            _, loss = learner._forward_and_losses({ME: shifted})
            losses.append(float(loss[ME]))
    assert losses[0] != losses[1] and losses[2] == losses[3]


def test_the_entropy_bonus_follows_its_schedule_before_each_update():
    learner = make_learner(entropy_coeff=[[0, 0.5], [100, 0.1]])
    batch = random_trajectories(learner.module[ME], 12)
    now = {"num_env_steps_sampled_lifetime": 50}
    results = learner.update_from_batch(batch, timesteps=now)[ME]
    assert results["curr_entropy_coeff"] == pytest.approx(0.3)
    want = results["policy_loss"] + 0.5 * results["vf_loss"]
    want -= 0.3 * results["entropy"]
    assert results["total_loss"] == pytest.approx(want, rel=1e-5)
    other = make_learner(entropy_coeff=[[0, 0.5], [100, 0.1]])
    other.set_state(learner.get_state(), force=True)
    assert float(other._entropy_coeffs[ME].get_current_value()) == pytest.approx(0.3)
