"""What DQN and SAC share: the settings of replay, and the loop that replays."""

from typing import ClassVar

import gymnasium as gym
import keras
import numpy as np
import pytest

import tflearner as tfl
from tflearner.data import allocation
from tflearner.errors import ConfigError, UsageError
from tflearner.testing import CountingEnv, random_episodes

ME = tfl.DEFAULT_MODULE_ID
TINY = {
    "rollout_fragment_length": 4,
    "num_envs_per_env_runner": 2,
    "train_batch_size_per_learner": 8,
    "num_steps_sampled_before_learning_starts": 16,
    "min_sample_timesteps_per_iteration": 8,
    "training_intensity": None,
    "replay_buffer_config": {"capacity": 500},
    "model_config": {"fcnet_hiddens": [4]},
    "run_eagerly": True,
    "jit_compile": False,
    "seed": 1,
}


@pytest.fixture
def make_algo(owned, monkeypatch, tmp_path):
    """Returns a function that makes tiny algorithms."""
    monkeypatch.chdir(tmp_path)

    def make(env=CountingEnv, algorithm=tfl.DQN, **settings):
        return owned(algorithm(env, **TINY | settings))

    return make


@pytest.fixture
def count_updates(monkeypatch):
    """Returns a function that lets an algorithm count gradient steps, not take them."""

    def count(algo):
        counts = []
        monkeypatch.setattr(algo, "_learn", lambda num, _: counts.append(num) or {})
        return counts

    return count


# Settings.


@pytest.mark.parametrize("config_class", [tfl.DQNConfig, tfl.SACConfig])
@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"num_steps_sampled_before_learning_starts": -1}, "learning_starts.*>= 0"),
        ({"target_network_update_freq": 0.5}, "update_freq.*0.5.*int"),
        ({"min_sample_timesteps_per_iteration": 0}, "per_iteration.*>= 1"),
        ({"rollout_fragment_length": 0}, "rollout_fragment_length.*>= 1"),
        ({"tau": 1.5}, "tau.*1.5"),
        ({"tau": float("nan")}, "tau.*nan"),
        ({"tau": None}, "tau.*None"),
        ({"training_intensity": -1.0}, "training_intensity.*-1"),
        ({"training_intensity": float("inf")}, "training_intensity.*inf.*a number"),
        ({"store_buffer_in_checkpoints": 1}, "store_buffer_in_checkpoints.*a bool"),
        ({"minibatch_size": 16}, "minibatch_size=16.*train_batch_size_per_learner"),
        ({"num_epochs": 2}, "num_epochs=2.*training_intensity"),
        ({"shuffle_batch_per_epoch": True}, "shuffle_batch_per_epoch=True.*False"),
        ({"n_step": 0}, "n_step.*0.*int >= 1"),
        ({"n_step": True}, "n_step.*True"),
        ({"n_step": (3, 2)}, r"n_step.*\(3, 2\).*low <= high"),
        ({"n_step": (1, 2, 3)}, r"n_step.*\(1, 2, 3\)"),
        ({"n_step": ()}, r"n_step.*\(\)"),
        ({"replay_buffer_config": 500}, "replay_buffer_config.*500.*a dict"),
        ({"replay_buffer_config": {"type": "Replay"}}, "'type'.*'Replay'.*want one of"),
        (
            {"replay_buffer_config": {"type": "EpisodeReplayBufer"}},
            "did you mean 'EpisodeReplayBuffer'",
        ),
        ({"replay_buffer_config": {"type": ["x"]}}, r"'type'.*\['x'\]"),
        ({"replay_buffer_config": {"memmap_dir": 5}}, "'memmap_dir'.*5.*a directory"),
        ({"replay_buffer_config": {"alpha": 2.0}}, r"'alpha'.*2.0.*in \[0, 1\]"),
        ({"replay_buffer_config": {"beta": True}}, "'beta'.*True"),
        ({"replay_buffer_config": {"capacity": 1}}, "'capacity'.*int >= 2"),
        ({"replay_buffer_config": {"capacity": 1e6}}, "'capacity'.*1000000.0"),
        (
            {"replay_buffer_config": {"capasity": 9}},
            "'capasity'.*did you mean 'capacity'",
        ),
        (
            {"replay_buffer_config": {"prioritized_replay_alpha": 0.5}},
            "it is called 'alpha' here",
        ),
        (
            {"replay_buffer_config": {"type": "EpisodeReplayBuffer", "beta": 0.5}},
            "unknown setting 'beta'.*some of type, capacity, memmap_dir",
        ),
        (
            {"n_step": 3, "replay_buffer_config": {"capacity": 3}},
            "capacity of 3 with n_step=3.*above 3",
        ),
        (
            {"n_step": (1, 5), "replay_buffer_config": {"capacity": 4}},
            r"capacity of 4 with n_step=\(1, 5\).*above 5",
        ),
    ],
)
def test_settings_that_cannot_be(config_class, setting, text):
    with pytest.raises(ConfigError, match=text):
        config_class().update_from_dict(setting).validate()


def test_settings_that_can():
    tfl.DQNConfig().training(
        tau=0,
        training_intensity=0.5,
        n_step=(2, 2),
        num_steps_sampled_before_learning_starts=0,
        replay_buffer_config={"type": tfl.EpisodeReplayBuffer, "capacity": 3},
    ).validate()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("learning_starts", "'num_steps_sampled_before_learning_starts' here"),
        ("buffer_size", 'replay_buffer_config={"capacity": ...}'),
        ("train_freq", "'rollout_fragment_length' here"),
        ("gradient_steps", "training_intensity=... counts rows"),
        ("target_update_interval", "'target_network_update_freq' here"),
        ("batch_size", "'train_batch_size_per_learner' here"),
        ("n_steps", "'n_step' here"),
        ("traning_intensity", "did you mean 'training_intensity'"),
    ],
)
def test_names_of_other_libraries_get_hints(name, text):
    with pytest.raises(ConfigError, match=text):
        tfl.DQN("CartPole-v1", **{name: 1})


def test_parts_of_the_buffers_settings_keep_the_rest():
    config = tfl.DQNConfig().training(replay_buffer_config={"capacity": 9})
    defaults = tfl.DQNConfig().replay_buffer_config
    assert config.replay_buffer_config == defaults | {"capacity": 9}
    config.training(replay_buffer_config={"alpha": 0.1})
    assert config.replay_buffer_config == defaults | {"capacity": 9, "alpha": 0.1}
    config.training(replay_buffer_config={"type": "EpisodeReplayBuffer"})
    wanted = {"type": "EpisodeReplayBuffer", "capacity": 9}
    assert config.replay_buffer_config == wanted
    assert tfl.DQNConfig().replay_buffer_config == defaults
    config.validate()


@pytest.mark.parametrize("name", ["n_step", "training_intensity"])
def test_what_all_modules_share_is_no_override(name):
    config = tfl.DQNConfig(algorithm_config_overrides_per_module={"p": {name: 2}})
    with pytest.raises(ConfigError, match=f"'{name}', which all modules share"):
        config.validate()


def test_a_buffer_larger_than_the_machine_is_refused(make_algo, monkeypatch):
    made = []
    monkeypatch.setattr(allocation, "machine_memory", lambda: 10**6)
    monkeypatch.setattr(allocation, "zeros", lambda *args: made.append(args))
    text = (
        r"capacity=1,000,000.*a buffer of .* MB.*1.0 MB, this machine's memory.*memmap"
    )
    with pytest.raises(ConfigError, match=text):
        make_algo(replay_buffer_config={"capacity": 1_000_000})
    assert not made


def test_a_buffer_that_no_checkpoint_could_copy_is_refused(make_algo, monkeypatch):
    monkeypatch.setattr(allocation, "machine_memory", lambda: 50_000)
    with pytest.raises(ConfigError, match="store_buffer_in_checkpoints=False"):
        make_algo(replay_buffer_config={"capacity": 500})
    make_algo(replay_buffer_config={"capacity": 500}, store_buffer_in_checkpoints=False)


@pytest.mark.parametrize(
    "given", [{"num_atoms": 7}, tfl.DQNModelConfig(num_atoms=7)], ids=["dict", "object"]
)
def test_settings_of_the_module_alone_are_refused(make_algo, given):
    with pytest.raises(ConfigError, match=r"num_atoms=1 and, for the module, .*=7"):
        make_algo(model_config=given)


def test_added_modules_get_the_settings_of_the_config(make_algo):
    algo = make_algo(double_q=False, num_atoms=7, v_max=20.0)
    module = algo.get_module()
    spec = tfl.RLModuleSpec(
        module_class=tfl.DQNTfRLModule,
        observation_space=module.observation_space,
        action_space=module.action_space,
        model_config={"fcnet_hiddens": [3]},
    )
    algo.learner.add_module(
        module_id="b", module_spec=spec, config_overrides={"double_q": True}
    )
    own = algo.learner.module["b"].model_config
    assert (own.double_q, own.num_atoms, own.v_max) == (True, 7, 20.0)
    assert own.fcnet_hiddens == [3]


def test_whether_checkpoints_hold_the_buffer_may_change(make_algo, tmp_path):
    algo = make_algo()
    for _ in range(4):
        algo.train()
    algo.save(tmp_path / "with")
    without = tfl.DQN.from_checkpoint(
        tmp_path / "with", store_buffer_in_checkpoints=False, env=CountingEnv
    )
    without.save(tmp_path / "without")
    again = tfl.DQN.from_checkpoint(
        tmp_path / "without", store_buffer_in_checkpoints=True, env=CountingEnv
    )
    assert len(algo.replay_buffer) > 16
    assert len(without.replay_buffer) == len(again.replay_buffer) == 0
    without.stop()
    again.stop()


def test_errors_of_an_earlier_batch_are_no_priorities(make_algo):
    algo = make_algo(policies_to_train=lambda module_id, batch: trains[0])
    trains = [True]
    for _ in range(3):
        algo.train()
    assert algo.learner.row_outputs
    trains[0] = False
    algo.train()
    assert not algo.learner.row_outputs


def test_a_learner_connector_is_refused(make_algo):
    with pytest.raises(UsageError, match="DQN: got a learner_connector.*env_to_module"):
        make_algo(learner_connector=lambda *spaces: tfl.MeanStdFilter(*spaces))


@pytest.mark.parametrize("algorithm", [tfl.DQN, tfl.SAC])
@pytest.mark.parametrize("name", ["use_lstm", "use_gru"])
def test_modules_with_a_state_are_refused(make_algo, algorithm, name):
    with pytest.raises(ConfigError, match="use_lstm or use_gru.*without a state"):
        make_algo(algorithm=algorithm, model_config={name: True})


# When it learns, and how much.


def test_learning_starts_with_enough_steps(make_algo, count_updates):
    algo = make_algo(num_steps_sampled_before_learning_starts=20)
    counts, steps = count_updates(algo), []
    for _ in range(5):
        result = algo.train()
        steps.append(result["num_env_steps_sampled_lifetime"])
    assert steps == [8, 16, 24, 32, 40] and counts == [1, 1, 1]


def test_results_before_learning_starts_have_no_learner(make_algo, tmp_path):
    algo = make_algo(num_steps_sampled_before_learning_starts=1000)
    result = algo.train()
    assert result["learners"] == {} and result["timers"]["learn_s"] == 0.0
    history = algo.fit(16, verbose=0, log_dir=tmp_path).history
    assert "loss" not in history and history["steps"][-1] == 24


@pytest.mark.deep_but_first
@pytest.mark.parametrize("intensity", [1.7, 0.3, 8.0, 25.0])
def test_rows_per_step_are_exact_over_many_rounds(make_algo, count_updates, intensity):
    algo = make_algo(training_intensity=intensity, num_envs_per_env_runner=1)
    counts = count_updates(algo)
    for _ in range(60):
        algo.train()
    steps = algo.num_env_steps_sampled_lifetime - 12  # Before learning started.
    assert sum(counts) == int(steps * intensity / 8)
    assert max(counts) <= np.ceil(2 * 4 * intensity / 8)


def test_no_rows_at_all_are_possible(make_algo, count_updates):
    algo = make_algo(training_intensity=0)
    counts = count_updates(algo)
    for _ in range(4):
        algo.train()
    assert counts == []


def test_an_iteration_takes_as_many_rounds_as_it_needs(make_algo, count_updates):
    algo = make_algo(min_sample_timesteps_per_iteration=30)
    counts = count_updates(algo)
    assert algo.train()["num_env_steps_sampled_lifetime"] == 32
    assert counts == [1, 1, 1]  # After 16, 24 and 32 steps.


def test_all_due_steps_are_one_update_on_rows_of_their_own(make_algo, monkeypatch):
    algo = make_algo(training_intensity=3.0, n_step=(2, 4), gamma=0.5)
    given = []

    def update(batch, **how):
        given.append((batch[ME], how))
        return {}

    monkeypatch.setattr(algo.learner, "update_from_batch", update)
    for _ in range(2):
        algo.train()
    ((batch, how),) = given
    assert how["minibatch_size"] == 8 and len(batch["obs"]) == 24
    assert how["timesteps"] == {"num_env_steps_sampled_lifetime": 16}
    assert set(batch["n_step"]) <= {1.0, 2.0, 3.0, 4.0} and batch["n_step"].max() > 1
    # Observations count steps of episodes, of which DEFAULT_ENDS lists the lengths.
    np.testing.assert_array_equal(
        batch["new_obs"][:, 2], batch["obs"][:, 2] + batch["n_step"]
    )


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_errors_of_rows_decide_which_rows_come_again(make_algo, monkeypatch, bad):
    algo = make_algo(
        num_steps_sampled_before_learning_starts=10**6,
        replay_buffer_config={"capacity": 500, "alpha": 1.0},
        min_sample_timesteps_per_iteration=64,
    )
    algo.train()
    is_wanted = lambda batch: batch["obs"][:, 2] == 2.0

    def update(batch, **how):
        errors = np.where(is_wanted(batch[ME]), 100.0, bad)
        algo.learner.row_outputs = {(ME, "td_error"): errors.reshape(-1, 8)}
        return {}

    monkeypatch.setattr(algo.learner, "update_from_batch", update)
    share = is_wanted(algo.replay_buffer.sample(500)).mean()
    algo._learn(100, {"replay_s": 0.0, "learn_s": 0.0})
    again = is_wanted(algo.replay_buffer.sample(500)).mean()
    assert share < 0.4 and again > 0.95


def test_a_uniform_buffer_has_no_priorities(make_algo):
    algo = make_algo(
        replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 100}
    )
    assert type(algo.replay_buffer) is tfl.EpisodeReplayBuffer
    for _ in range(3):
        algo.train()
    assert algo.learner.row_outputs
    np.testing.assert_array_equal(algo.replay_buffer.sample(9)["weights"], 1.0)


def test_buffers_draw_with_a_seed_of_their_own(make_algo):
    drawn = []
    for seed in (1, 1, 2):
        algo = make_algo(seed=seed)
        algo.replay_buffer.add(
            random_episodes(CountingEnv.observation_space, CountingEnv.action_space)
        )
        drawn.append(algo.replay_buffer.sample(20)["rewards"].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


# What people see.


@pytest.mark.parametrize(
    ("algorithm", "env", "names"),
    [
        (tfl.DQN, CountingEnv, ["qf_loss", "curr_epsilon", "learning_rate"]),
        (
            tfl.SAC,
            "Pendulum-v1",
            ["policy_loss", "qf_twin_loss", "alpha_value", "policy_learning_rate"],
        ),
    ],
)
def test_history_callbacks_and_lines_of_a_run(
    make_algo, capsys, tmp_path, algorithm, env, names
):
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(dict(logs))
    )
    algo = make_algo(env, algorithm, min_sample_timesteps_per_iteration=24)
    history = algo.fit(24, callbacks=[callback], verbose=2, log_dir=tmp_path).history
    names = [*names, "loss", "qf_mean", "td_error_mean", "num_target_updates"]
    names += ["timers/replay_s", "timers/learn_s", "num_module_steps_trained_lifetime"]
    if algorithm is tfl.DQN:
        names.remove("num_target_updates")  # None so far.
    assert set(names) <= set(history) and set(names) <= set(seen[-1])
    printed = capsys.readouterr().out
    assert f"{algorithm.__name__} on " in printed
    assert f"replay of {algo.replay_buffer.describe()}" in printed
    assert "500 observations, " in printed


def test_summary_says_how_replay_and_updates_go(make_algo, capsys):
    make_algo(training_intensity=3.0).summary()
    printed = capsys.readouterr().out
    assert "500 observations" in printed
    assert "3 gradient steps of 8 rows, one traced call" in printed
    assert "per 8 environment steps" in printed
    assert "every 500 steps, tau 1" in printed
    make_algo(target_network_update_freq=0, tau=0.25).summary()
    printed = capsys.readouterr().out
    assert "1 gradient steps" in printed
    assert "after each gradient step, tau 0.25" in printed


def test_spaces_of_dicts_with_masks_run(make_algo):
    """Forbidden actions are never taken, whatever epsilon is."""

    class Masked(CountingEnv):
        observation_space = gym.spaces.Dict(
            action_mask=gym.spaces.MultiBinary(3),
            observations=CountingEnv.observation_space,
        )
        taken: ClassVar[list[int]] = []

        def _observation(self):
            self.mask = np.int8([self._step % 2 == 0, 1, 0])
            return {"action_mask": self.mask, "observations": super()._observation()}

        def step(self, action):
            assert self.mask[action]
            self.taken.append(int(action))
            return super().step(action)

    for algorithm, most in ((tfl.DQN, {0, 1}), (tfl.SAC, {1})):
        Masked.taken.clear()
        algo = make_algo(Masked, algorithm)
        for _ in range(4):
            algo.train()
        assert most <= set(Masked.taken) <= {0, 1}
        assert algo.learner.row_outputs


def test_bools_take_a_byte_in_the_buffer_and_are_learned_from(make_algo):
    class Grid(CountingEnv):  # As those of MinAtar.
        observation_space = gym.spaces.Box(0, 1, (5, 5, 2), np.bool_)

        def _observation(self):
            return np.full((5, 5, 2), self._step % 2 == 0)

    algo = make_algo(Grid)
    results = [algo.train() for _ in range(3)][-1]["learners"][ME]
    assert np.isfinite(results["total_loss"])
    assert results["num_non_finite_updates_lifetime"] == 0
    assert algo.replay_buffer.sample(4)["obs"].dtype == np.bool_
    assert algo.evaluate(1).num_episodes == 1
