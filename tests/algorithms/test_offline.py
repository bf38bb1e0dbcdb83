"""BC and MARWIL: their data, with an environment and without, and what they learn."""

import gymnasium as gym
import numpy as np
import pytest

import tflearner as tfl
from tflearner.columns import Columns
from tflearner.errors import ConfigError, UsageError
from tflearner.testing import CountingEnv, random_episodes, state_digest

OBS, ACTIONS = gym.spaces.Box(-1.0, 1.0, (3,), np.float32), gym.spaces.Discrete(3)
ME = tfl.DEFAULT_MODULE_ID
ENDS = [(4, "terminated"), (2, "truncated"), (5, "terminated"), (3, "cut")]
NUM_STEPS = 14
TINY = {
    "run_eagerly": True,
    "jit_compile": False,
    "seed": 1,
    "lr": 0.01,
    "train_batch_size_per_learner": 4,
    "model_config": {"fcnet_hiddens": [8]},
}
BOTH = pytest.mark.parametrize("algorithm", [tfl.BC, tfl.MARWIL])


def episodes(ends=ENDS, seed=0):
    return random_episodes(OBS, ACTIONS, ends=ends, seed=seed)


def columns(num_rows=NUM_STEPS, seed=0):
    rng = np.random.default_rng(seed)
    return {
        Columns.OBS: rng.uniform(-1, 1, (num_rows, 3)).astype(np.float32),
        Columns.ACTIONS: rng.integers(3, size=num_rows),
        Columns.VALUE_TARGETS: rng.standard_normal(num_rows).astype(np.float32),
    }


@pytest.fixture
def make(owned):
    """Returns a function from an algorithm and settings to one that is tiny."""
    return lambda algorithm, **settings: owned(algorithm(**TINY | settings))


def steps_of(algo):
    """Returns a list to which every gradient step adds the rows it takes."""
    rows, compute = [], algo.learner.compute_loss_for_module

    def counted(*, batch, **kwargs):
        rows.append(len(batch[Columns.OBS]))
        return compute(batch=batch, **kwargs)

    algo.learner.compute_loss_for_module = counted
    return rows


def test_defaults_are_those_of_rllib_but_for_a_rate_that_moves():
    config = tfl.MARWILConfig()
    defaults = {
        "lr": 1e-4,
        "train_batch_size_per_learner": 2000,
        "grad_clip": None,
        "beta": 1.0,
        "vf_coeff": 1.0,
        "lambda_": 1.0,
        "moving_average_sqd_adv_norm_start": 100.0,
    }
    assert {name: getattr(config, name) for name in defaults} == defaults
    assert config.moving_average_sqd_adv_norm_update_rate == 0.01
    assert (tfl.BCConfig().lr, tfl.BCConfig().train_batch_size_per_learner) == (
        1e-4,
        2000,
    )


@BOTH
@pytest.mark.parametrize("make_data", [episodes, columns])
def test_an_iteration_passes_over_the_data_in_minibatches(
    make, algorithm, make_data, tmp_path
):
    algo = make(algorithm, data=make_data())
    rows = steps_of(algo)
    result = algo.train()
    assert rows == [4] * 4  # 14 steps.
    assert result["num_env_steps_sampled_lifetime"] == NUM_STEPS
    assert np.isfinite(result["learners"][ME]["policy_loss"])
    algo.fit(total_steps=30, verbose=0, log_dir=tmp_path)
    assert algo.num_env_steps_sampled_lifetime == 4 * NUM_STEPS


@BOTH
@pytest.mark.parametrize("make_data", [episodes, columns])
def test_a_number_of_gradient_steps_may_be_given(make, algorithm, make_data):
    algo = make(algorithm, data=make_data(), dataset_num_iters_per_learner=2)
    rows = steps_of(algo)
    for iteration in (1, 2):
        algo.train()
        assert rows == [4] * 2 * iteration
        assert algo.num_env_steps_sampled_lifetime == 8 * iteration


def test_episodes_are_drawn_until_they_suffice(make):
    data = tfl.testing.random_episodes(OBS, ACTIONS, ends=[(4, "terminated")] * 9)
    algo = make(tfl.BC, data=data, dataset_num_iters_per_learner=2)
    drawn = []
    update = algo.learner.update_from_episodes
    algo.learner.update_from_episodes = lambda own, **kwargs: (
        drawn.append([e.id_ for e in own]) or update(own, **kwargs)
    )
    for _ in range(3):
        algo.train()
    assert [len(ids) for ids in drawn] == [2, 2, 2]
    assert len({frozenset(ids) for ids in drawn}) > 1


@BOTH
def test_batches_may_come_one_by_one(make, algorithm):
    items = [columns(5, seed) for seed in range(7)]
    algo = make(algorithm, data=items, observation_space=OBS, action_space=ACTIONS)
    rows = steps_of(algo)
    results = algo.train()["learners"]
    assert rows == [5] * 7
    assert results[tfl.ALL_MODULES]["dataset_num_iters_trained"] == 7
    assert algo.num_env_steps_sampled_lifetime == 35


def test_a_generator_is_used_up_after_a_pass(make):
    items = (columns(5, seed) for seed in range(2))
    algo = make(tfl.BC, data=items, observation_space=OBS, action_space=ACTIONS)
    algo.train()
    with pytest.raises(UsageError, match="without a batch"):
        algo.train()


def test_spaces_are_those_of_the_data_or_fit_them(make):
    module = make(tfl.BC, data=columns()).get_module()
    assert module.observation_space == gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    assert module.action_space == gym.spaces.Discrete(3)
    known = make(tfl.BC, data=columns(), observation_space=OBS).get_module()
    assert known.observation_space == OBS
    continuous = columns() | {Columns.ACTIONS: np.zeros((NUM_STEPS, 2), np.float32)}
    module = make(tfl.BC, data=continuous).get_module()
    assert module.action_space == gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)


def test_without_data_or_spaces_there_is_no_algorithm(make):
    with pytest.raises(ConfigError, match="neither data nor an environment"):
        make(tfl.BC)
    algo = make(tfl.BC, env=CountingEnv)
    with pytest.raises(UsageError, match="no data"):
        algo.train()


def test_an_environment_is_for_evaluation_alone(make):
    data = random_episodes(CountingEnv.observation_space, ACTIONS, ends=ENDS)
    algo = make(tfl.BC, env=CountingEnv, data=data)
    result = algo.train()
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 0
    assert algo.evaluate(episodes=3).num_episodes == 3
    with pytest.raises(UsageError, match="no environment"):
        make(tfl.BC, data=data).evaluate()


@BOTH
def test_a_run_goes_on_from_its_checkpoint_with_the_data(make, algorithm, tmp_path):
    settings = {"data": episodes(), "dataset_num_iters_per_learner": 1}
    algo = make(algorithm, **settings)
    algo.train()
    again = algorithm.from_checkpoint(algo.save(tmp_path), data=settings["data"])
    digests = []
    for run in (algo, again):
        run.train()
        run.learner.metrics.reset()
        state = run.get_state()
        del state["seconds"], state["env_runner"]
        digests.append(state_digest(state))
    assert digests[0] == digests[1]
    assert again.num_env_steps_sampled_lifetime == 8
    without = algorithm.from_checkpoint(tmp_path)
    spaces = [x.get_module().observation_space for x in (without, algo)]
    assert spaces[0] == spaces[1]
    with pytest.raises(UsageError, match="no data"):
        without.train()


def test_outputs_of_unlike_modules_in_the_data_do_no_harm(make):
    one, *others = episodes()
    one.extra_model_outputs.clear()
    results = make(tfl.BC, data=[one, *others]).train()["learners"][ME]
    assert np.isfinite(results["total_loss"])


# MARWIL's value targets and average.


def test_value_targets_are_discounted_returns(make):
    algo = make(tfl.MARWIL, data=episodes([(3, "terminated")]), gamma=0.5)
    targets, compute = [], algo.learner.compute_loss_for_module

    def looked_at(*, batch, **kwargs):
        targets.extend(batch[Columns.VALUE_TARGETS].numpy().tolist())
        return compute(batch=batch, **kwargs)

    algo.learner.compute_loss_for_module = looked_at
    algo.train()
    r = algo.config.data[0].get_rewards()
    want = [r[0] + 0.5 * r[1] + 0.25 * r[2], r[1] + 0.5 * r[2], r[2]]
    np.testing.assert_allclose(sorted(targets), sorted(want), rtol=1e-5)


def marwil_learner(**settings):
    config = tfl.MARWILConfig(observation_space=OBS, action_space=ACTIONS)
    return config.update_from_dict(TINY | settings).build_learner()


def test_the_average_moves_with_every_step_and_is_saved():
    learner = marwil_learner(moving_average_sqd_adv_norm_update_rate=0.5)
    average = learner.moving_avg_sqd_adv_norms_per_module[ME]
    results = learner.update_from_batch(columns())[ME]
    want = 100.0 + 0.5 * (2.0 * results["vf_loss"] - 100.0)
    assert float(average) == pytest.approx(want, rel=1e-6)
    assert results["moving_avg_sqd_adv_norm"] == pytest.approx(want, rel=1e-5)
    other = marwil_learner()
    other.set_state(learner.get_state(), force=True)
    assert float(other.moving_avg_sqd_adv_norms_per_module[ME]) == float(average)


def test_a_step_that_is_skipped_leaves_the_average_alone():
    learner = marwil_learner(beta=1e6, moving_average_sqd_adv_norm_start=1e-6)
    batch = columns()  # The exponential overflows.
    results = learner.update_from_batch(batch)[ME]
    assert results["num_non_finite_updates_lifetime"] == 1
    assert float(learner.moving_avg_sqd_adv_norms_per_module[ME]) == 1e-6


def test_a_new_start_in_settings_replaces_the_average(tmp_path):
    learner = marwil_learner()
    learner.update_from_batch(columns())
    learner.save_to_path(tmp_path)
    again = tfl.MARWILTfLearner.from_checkpoint(
        tmp_path, moving_average_sqd_adv_norm_start=7.0
    )
    assert float(again.moving_avg_sqd_adv_norms_per_module[ME]) == 7.0
