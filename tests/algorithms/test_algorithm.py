"""The loop around runner and learner, as users meet it."""

import errno
import io
import json
import math
import multiprocessing
import random

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

import tflearner as tfl
from tflearner.errors import (
    CheckpointError,
    ConfigError,
    EnvContractError,
    EnvError,
    EnvStepError,
    ModuleError,
    SpaceError,
    UsageError,
)
from tflearner.testing import CountingEnv, CountingVectorEnv, EvilEnv

TINY = {
    "train_batch_size_per_learner": 32,
    "minibatch_size": 16,
    "num_epochs": 1,
    "model_config": tfl.DefaultModelConfig(fcnet_hiddens=[8]),
    "run_eagerly": True,
    "jit_compile": False,
    "seed": 1,
}


@pytest.fixture
def make_algo(owned):
    """Returns a function that makes tiny algorithms."""
    return lambda env="CartPole-v1", **settings: owned(tfl.PPO(env, **TINY | settings))


@pytest.fixture(scope="module")
def idle():
    """An algorithm that has trained once; tests of this module do not change it."""
    algo = tfl.PPO("CartPole-v1", **TINY)
    algo.train()
    yield algo
    algo.stop()


def weights(algo):
    return tf.nest.flatten(algo.learner.get_state("rl_module")["rl_module"])


def same_weights(one, other):
    return all((a == b).all() for a, b in zip(weights(one), weights(other)))


# Making one.


def test_both_ways_to_an_algorithm_mean_the_same(make_algo):
    algo = make_algo(lr=3e-4, num_envs_per_env_runner=2)
    config = (
        tfl.PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_envs_per_env_runner=2)
        .training(
            lr=3e-4, train_batch_size_per_learner=32, minibatch_size=16, num_epochs=1
        )
        .rl_module(model_config=TINY["model_config"])
        .framework(run_eagerly=True, jit_compile=False)
        .debugging(seed=1)
    )
    chained = config.build_algo()
    assert isinstance(chained, tfl.PPO)
    assert repr(chained.config) == repr(algo.config)
    assert algo.config.is_frozen and not config.is_frozen
    assert same_weights(algo, chained)
    chained.stop()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"clip_parm": 0.1}, ConfigError, "'clip_parm'.*did you mean 'clip_param'"),
        ({"n_steps": 64}, ConfigError, "train_batch_size_per_learner="),
        ({"env": None}, ConfigError, r'no environment.*PPO\("CartPole-v1"\)'),
        ({"minibatch_size": 64}, ConfigError, "minibatch_size=64 larger than.*=32"),
        ({"env": "CartPole-v99"}, EnvError, "CartPole-v99"),
        ({"env": 7}, EnvError, "int.*registered id"),
        ({"env": object}, EnvError, "object"),
        ({"model": lambda: None}, ModuleError, "model.*NoneType"),
    ],
)
def test_impossible_algorithms_say_why(make_algo, arguments, error, text):
    with pytest.raises(error, match=text):
        make_algo(**arguments)


class Spaces(CountingEnv):
    def __init__(self, observation_space=None, action_space=None):
        super().__init__()
        self.observation_space = observation_space or self.observation_space
        self.action_space = action_space or self.action_space


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (
            {"observation_space": gym.spaces.Dict(camera=gym.spaces.Text(2))},
            r"observation space: got Dict.*leaf 'camera': Text",
        ),
        (
            {"observation_space": gym.spaces.Text(5)},
            "observation space: got Text.*Box, Discrete, MultiDiscrete, MultiBinary",
        ),
        (
            {"action_space": gym.spaces.Dict({"say": gym.spaces.Text(3)})},
            "action space, leaf 'say': got Text.*want Discrete, Box, MultiDiscrete",
        ),
    ],
)
def test_unsupported_spaces_are_named_at_once(make_algo, space, text):
    with pytest.raises(SpaceError, match=text):
        make_algo(Spaces, env_config=space)


# Training.


def test_normalizing_inside_an_environment_is_warned_of_once(make_algo):
    def make_env():
        return gym.wrappers.NormalizeObservation(gym.make("CartPole-v1"))

    with pytest.warns(UserWarning, match="NormalizeObs.*MeanStdFilter"):
        algo = make_algo(make_env)
    algo.evaluate(1)  # Warnings are errors.


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"env_step_timeout_s": 0}, "env_step_timeout_s: got 0, want a number"),
        ({"env_step_timeout_s": "5"}, "'5', want a number"),
        ({"env_step_timeout_s": 5.0}, "5.0 with gym_env_vectorize_mode='sync'"),
    ],
)
def test_time_limits_of_steps_that_cannot_be(make_algo, settings, text):
    with pytest.raises(ConfigError, match=text):
        make_algo(**settings)


def test_a_worker_that_imports_the_script_builds_nothing(make_algo, monkeypatch):
    process = multiprocessing.current_process()
    monkeypatch.setattr(process, "_inheriting", True, raising=False)
    monkeypatch.setattr(process, "name", "Worker<WorkerVectorEnv>-0")
    script = compile("make()", "script.py", "exec")
    with pytest.raises(UsageError, match="PPO.*if __name__ == '__main__'"):
        exec(script, {"__name__": "__mp_main__", "make": make_algo})  # noqa: S102


def test_train_returns_exactly_these_keys(idle):
    result = idle.train()
    assert set(result) == {
        "env_runners",
        "learners",
        "timers",
        "training_iteration",
        "num_env_steps_sampled_lifetime",
        "time_total_s",
    }
    assert set(result["env_runners"]) >= {
        "episode_return_mean",
        "episode_return_min",
        "episode_return_max",
        "episode_len_mean",
        "num_episodes",
        "num_env_steps_sampled",
        "num_env_steps_sampled_lifetime",
    }
    assert "timers" not in result["env_runners"]
    assert set(result["learners"]) == {tfl.DEFAULT_MODULE_ID, tfl.ALL_MODULES}
    assert {"learn_s", "sample_s", "act_s", "env_step_s"} <= set(result["timers"])
    assert all(seconds >= 0.0 for seconds in result["timers"].values())


def test_results_count_steps_and_iterations(make_algo):
    algo = make_algo(num_envs_per_env_runner=2)
    for iteration in (1, 2):
        result = algo.train()
        assert result["training_iteration"] == iteration
        assert result["num_env_steps_sampled_lifetime"] == 32 * iteration
        assert result["env_runners"]["num_env_steps_sampled"] == 32
        trained = result["learners"][tfl.ALL_MODULES]
        assert trained["num_env_steps_trained_lifetime"] == 32 * iteration
    assert algo.num_env_steps_sampled_lifetime == 64


def test_schedules_count_environment_steps(make_algo):
    algo = make_algo(lr=[[0, 1e-3], [64, 0.0]])
    rates = [
        algo.train()["learners"][tfl.DEFAULT_MODULE_ID][
            "default_optimizer_learning_rate"
        ]
        for _ in range(2)
    ]
    assert rates == pytest.approx([5e-4, 0.0])


def test_continuous_actions_train(make_algo):
    algo = make_algo("Pendulum-v1", num_envs_per_env_runner=2, run_eagerly=False)
    before = weights(algo)
    for _ in range(2):
        own = algo.train()["learners"][tfl.DEFAULT_MODULE_ID]
        assert own["num_non_finite_updates_lifetime"] == 0
        assert all(math.isfinite(value) for value in own.values())
    assert all((a != b).any() for a, b in zip(weights(algo), before))
    assert algo.evaluate(1).episode_len_mean == 200


@pytest.mark.parametrize(
    ("settings", "how"),
    [
        ({}, "NumPy copy of the policy"),
        (
            {"model": lambda: keras.Sequential([keras.layers.Dense(6, "gelu")])},
            "one TensorFlow function",
        ),
    ],
)
def test_summary_says_how_things_run(make_algo, capsys, settings, how):
    algo = make_algo(**settings)
    algo.summary()
    printed = capsys.readouterr().out
    assert "PPO on CartPole-v1" in printed and how in printed
    assert "Discrete(2)" in printed and "32 steps, passes over them: 1" in printed
    assert "2 gradient steps of 16 rows" in printed
    count = sum(w.size for w in weights(algo))
    assert f"{count:,} parameters" in printed


def test_several_modules_need_an_id_and_one_does_not(make_algo, idle):
    assert idle.get_module() is idle.learner.module[tfl.DEFAULT_MODULE_ID]
    algo = make_algo(policies=["player"])
    assert algo.get_module() is algo.learner.module["player"]
    assert algo.train()["learners"]["player"]["weights_seq_no"] == 1
    with pytest.raises(KeyError, match="'x'"):
        algo.get_module("x")


# Environments that fail.


class FirstIsEvil:
    """Makes an environment that fails, and good ones afterwards."""

    def __init__(self, kind):
        self.kind, self.made = kind, 0

    def __call__(self):
        self.made += 1
        return EvilEnv(self.kind, at=4) if self.made == 1 else CountingEnv()


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("raise", EnvStepError, "step.*100 % evil"),
        ("nan_observation", EnvContractError, "nan"),
        ("inf_reward", EnvContractError, "inf"),
    ],
)
def test_error_of_an_environment_is_named_and_training_goes_on(
    make_algo, kind, error, text
):
    algo = make_algo(FirstIsEvil(kind))
    before = weights(algo)
    with pytest.raises(error, match=text) as raised:
        algo.train()
    if kind == "raise":
        assert isinstance(raised.value.__cause__, ValueError)
    assert all((a == b).all() for a, b in zip(weights(algo), before))
    result = algo.train()
    assert result["training_iteration"] == 1
    assert result["num_env_steps_sampled_lifetime"] == 32
    assert not all((a == b).all() for a, b in zip(weights(algo), before))


# Evaluating.


def test_evaluation_acts_greedily_on_a_fresh_environment(make_algo):
    ends, made = [(4, "terminated"), (2, "truncated")], []

    def make_env():
        made.append(CountingEnv(ends))
        return made[-1]

    algo = make_algo(make_env)
    result = algo.evaluate(5)
    first, fresh = made
    assert first is not fresh
    wanted, lengths = [], []
    for episode in range(5):
        length, _ = ends[(fresh.tag + episode) % 2]
        steps = np.arange(length)
        obs = np.stack([[fresh.tag, episode, step] for step in steps])
        batch = {"obs": obs.astype(np.float32)}
        logits = algo.get_module().forward_inference(batch)["action_dist_inputs"]
        actions = np.argmax(logits, axis=1)
        wanted.append(np.sum(100.0 * episode + 10.0 * (steps + 1) + actions))
        lengths.append(length)
    assert result == tfl.EvaluationResult(
        episode_return_mean=pytest.approx(np.mean(wanted)),
        episode_return_std=pytest.approx(np.std(wanted)),
        episode_return_min=min(wanted),
        episode_return_max=max(wanted),
        episode_len_mean=np.mean(lengths),
        num_episodes=5,
        num_env_steps=sum(lengths),
    )


def test_evaluations_repeat_with_the_seed(make_algo):
    def results(seed):
        algo = make_algo("Pendulum-v1", seed=seed)
        return [algo.evaluate(1).episode_return_mean for _ in range(2)]

    first = results(1)
    assert first == results(1)
    assert len({*first, *results(2)}) == 4


@pytest.mark.parametrize("episodes", [0, -1, 2.5, True, "3", None])
def test_episodes_are_a_count(idle, episodes):
    with pytest.raises(UsageError, match="episodes=.*int >= 1"):
        idle.evaluate(episodes)


def test_environment_in_use_cannot_be_evaluated_on(make_algo):
    algo = make_algo(CountingVectorEnv(2), num_envs_per_env_runner=2)
    with pytest.raises(UsageError, match="in use.*function that returns it"):
        algo.evaluate(2)


# Fitting.


@pytest.fixture
def quiet(tmp_path, monkeypatch):
    """Keyword arguments of `fit` that keep it silent, and its files in one place."""
    monkeypatch.chdir(tmp_path)
    return {"verbose": 0, "log_dir": tmp_path / "logs"}


def test_fit_takes_the_steps_it_was_asked_for(make_algo, quiet):
    algo = make_algo()
    history = algo.fit(total_steps=70, **quiet)
    assert isinstance(history, tfl.History)
    assert history.history["steps"] == [32, 64, 96]
    assert {
        "episode_return",
        "episode_length",
        "loss",
        "policy_loss",
        "vf_loss",
        "entropy",
        "learning_rate",
    } <= set(history.history)
    history = algo.fit(total_steps=10, **quiet)
    assert history.history["steps"] == [32, 64, 96, 128]
    assert history.params == {"total_steps": 10}


class Epochs(keras.callbacks.Callback):
    """Notes the epochs it is told of."""

    def __init__(self):
        super().__init__()
        self.begun, self.ended = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append(epoch)


def test_epochs_continue_from_one_fit_to_the_next(make_algo, quiet):
    algo, epochs = make_algo(), Epochs()
    first = algo.fit(64, callbacks=[epochs], **quiet)
    algo.train()
    second = algo.fit(64, callbacks=[epochs], **quiet)
    assert epochs.begun == epochs.ended == second.epoch == [0, 1, 3, 4]
    assert second.history["training_iteration"] == [1, 2, 4, 5]
    assert first.epoch == [0, 1] and len(first.history["loss"]) == 2


def test_epochs_continue_in_a_restored_run_and_its_history_begins_there(
    make_algo, quiet
):
    algo = make_algo()
    algo.fit(64, **quiet)
    path, state = algo.save("c"), algo.get_state()
    algo.fit(32, **quiet)
    restored = tfl.PPO.from_checkpoint(path)
    histories = [restored.fit(32, **quiet)]
    restored.stop()
    algo.restore_from_path(path)
    histories.append(algo.fit(32, **quiet))
    algo.set_state(state)
    histories.append(algo.fit(32, **quiet))
    for history in histories:
        assert history.epoch == [2] and history.history["steps"] == [96]


def test_restoring_weights_alone_keeps_the_history(make_algo, quiet):
    algo = make_algo()
    algo.fit(64, **quiet)
    path = algo.save("c")
    algo.restore_from_path(path, component="learner")
    algo.set_state({"learner": algo.get_state("learner")["learner"]})
    assert algo.fit(32, **quiet).epoch == [0, 1, 2]


def test_history_of_returns_has_no_nan(make_algo, quiet):
    algo = make_algo(lambda: CountingEnv([(80, "terminated")]))
    history = algo.fit(160, **quiet)
    returns = history.history["episode_return"]
    assert 0 < len(returns) < len(history.epoch) == 5
    assert math.isfinite(max(returns))
    assert history.series("episode_return") == (history.epoch[2:], returns)


def test_fit_writes_results_under_log_dir_only(make_algo, quiet, tmp_path):
    algo = make_algo()
    history = algo.fit(total_steps=64, **quiet)
    algo.fit(total_steps=1, **quiet)
    runs = sorted(path.name for path in quiet["log_dir"].iterdir())
    assert runs == ["ppo-CartPole-v1-1", "ppo-CartPole-v1-2"]
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    text = (quiet["log_dir"] / runs[0] / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert "NaN" not in text and len(lines) == 2
    steps = [line["num_env_steps_sampled_lifetime"] for line in lines]
    assert steps == history.history["steps"]
    loss = lines[-1]["learners"][tfl.DEFAULT_MODULE_ID]["total_loss"]
    assert loss == history.history["loss"][-1]


def test_fit_writes_to_runs_by_default(make_algo, quiet, tmp_path):
    make_algo(lambda: CountingEnv()).fit(total_steps=1, verbose=0)
    (run,) = (tmp_path / "runs").iterdir()
    assert [path.name for path in run.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    "log_dir",
    ["file", "file/below", "a\0b", "a" * 300, "\ud800", "~nobody-of-that-name/x"]
    + [5, 0, False, b"logs", ["logs"]],
    ids=lambda log_dir: repr(log_dir)[:12],
)
def test_impossible_log_dir_is_named(idle, quiet, tmp_path, log_dir):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"fit\(\): got log_dir="):
        idle.fit(64, **quiet | {"log_dir": log_dir})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_log_dir_without_permission_is_named(idle, quiet, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(UsageError, match="log_dir=.*Permission denied"):
        idle.fit(64, **quiet)


def test_current_directory_that_is_gone(make_algo, tmp_path, monkeypatch):
    algo = make_algo()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="log_dir='runs' .*an absolute path works"):
        algo.fit(32, verbose=0)
    with pytest.raises(CheckpointError, match=r"save\(\): got log_dir='runs'"):
        algo.save()
    with pytest.warns(RuntimeWarning, match="not saved: directory 'c'"):
        algo.fit(
            32,
            verbose=0,
            log_dir=tmp_path,
            callbacks=[tfl.CheckpointCallback("c", every=1)],
        )
    assert algo.num_env_steps_sampled_lifetime == 32


def test_run_stays_in_its_directory_when_the_current_one_changes(
    make_algo, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    algo = make_algo()
    algo.fit(32, verbose=0)
    monkeypatch.chdir("other")
    assert algo.save().startswith(f"{tmp_path}/runs/")


def test_full_disk_and_closed_output_do_not_end_fit(make_algo, quiet, monkeypatch):
    def fail(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    closed = io.StringIO()
    closed.close()
    algo = make_algo()
    monkeypatch.setattr("sys.stdout", closed)
    monkeypatch.setattr("tflearner.reporting.run_directory.os.write", fail)
    with pytest.warns(RuntimeWarning) as told:
        history = algo.fit(96, **quiet | {"verbose": 2})
    assert history.history["steps"] == [32, 64, 96]
    told = sorted(str(warning.message) for warning in told)
    assert len(told) == 2
    assert "metrics.jsonl: [Errno 28]" in told[0] and "closed file" in told[1]


def test_fit_tells_once_that_value_errors_are_cut_off(
    make_algo, quiet, capsys, monkeypatch
):
    monkeypatch.setattr("tflearner.algorithms.value_errors.NUM_UPDATES", 3)
    algo = make_algo(CountingEnv)  # Its returns are in hundreds.
    algo.fit(64, **quiet | {"verbose": 2})
    assert "vf_clip_param" not in capsys.readouterr().out
    algo.fit(64, **quiet | {"verbose": 2})
    assert capsys.readouterr().out.count("exceeded vf_clip_param=10") == 1


def test_fit_evaluates_between_iterations(make_algo, quiet):
    algo = make_algo(evaluation_interval=2, evaluation_duration=1)
    history = algo.fit(total_steps=128, **quiet).history
    assert len(history["steps"]) == 4
    assert len(history["val_episode_return"]) == 2


def test_callbacks_see_flat_names_and_can_stop(make_algo, quiet):
    seen = []
    callbacks = [
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append((epoch, dict(logs)))
        ),
        keras.callbacks.EarlyStopping("steps", mode="min", patience=2),
    ]
    history = make_algo().fit(total_steps=10_000, callbacks=callbacks, **quiet)
    assert [epoch for epoch, _ in seen] == history.epoch == [0, 1, 2]
    assert {"steps", "loss", "vf_loss", "timers/learn_s"} <= set(seen[0][1])


# Keras itself, when NumPy is 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_callbacks_may_set_the_learning_rate(make_algo, quiet):
    algo = make_algo(lr=1e-3)
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, lr: lr / 2)
    history = algo.fit(total_steps=64, callbacks=schedule, **quiet)
    assert history.history["learning_rate"] == pytest.approx([5e-4, 2.5e-4])


def interrupt(epoch, logs):
    if epoch == 1:
        raise KeyboardInterrupt


def test_ctrl_c_ends_fit_with_the_history_so_far(make_algo, quiet):
    algo, ended = make_algo(), []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=interrupt, on_train_end=lambda logs: ended.append(dict(logs))
    )
    history = algo.fit(total_steps=10_000, callbacks=[callback], **quiet)
    assert history.history["steps"] == [32]
    assert [logs["steps"] for logs in ended] == [32]
    history = algo.fit(total_steps=1, **quiet)
    assert history.history["steps"] == [32, 96] and history.epoch == [0, 2]


class Interrupted(CountingEnv):
    """Its user presses Ctrl-C once, amid an episode."""

    steps = 0

    def step(self, action):
        Interrupted.steps += 1
        if Interrupted.steps == 50:
            raise KeyboardInterrupt
        return super().step(action)


def test_ctrl_c_in_an_environment_ends_fit_and_training_can_go_on(make_algo, quiet):
    algo = make_algo(Interrupted)
    assert algo.fit(total_steps=10_000, **quiet).history["steps"] == [32]
    assert algo.train()["num_env_steps_sampled_lifetime"] == 64


def test_error_in_a_callback_comes_out(make_algo, quiet):
    def fail(epoch, logs):
        raise ZeroDivisionError("a user's bug")

    callback = keras.callbacks.LambdaCallback(on_epoch_end=fail)
    with pytest.raises(ZeroDivisionError, match="a user's bug"):
        make_algo().fit(total_steps=64, callbacks=[callback], **quiet)


@pytest.mark.parametrize("total_steps", [0, -5, 1.5, True, "100", None])
def test_total_steps_are_a_count(idle, quiet, tmp_path, total_steps):
    with pytest.raises(UsageError, match="total_steps=.*int >= 1"):
        idle.fit(total_steps, **quiet)
    assert not [*tmp_path.iterdir()]


def test_what_is_no_callback_is_refused_before_anything_starts(idle, quiet, tmp_path):
    with pytest.raises(UsageError, match=r"callbacks\[0\]"):
        idle.fit(64, callbacks=[print], **quiet)
    assert not [*tmp_path.iterdir()]


def test_fit_prints_lines_without_a_terminal(make_algo, quiet, capsys):
    make_algo().fit(total_steps=64, **quiet | {"verbose": 2})
    printed = capsys.readouterr()
    assert "PPO on CartPole-v1" in printed.out and "return" in printed.out
    labels = ("policy", "value", "entropy", "kl")
    assert all(f"  {label} " in printed.out for label in labels)
    assert printed.err == ""


def test_a_vector_environment_of_the_user_stays_open_when_building_fails():
    made = gym.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    with pytest.raises(tfl.TFLearnerError, match="embedding"):
        tfl.PPO(made, model=lambda: keras.layers.Reshape((2, 2)))
    assert not made.closed
    made.close()


def test_spaces_that_are_not_the_environments_are_refused():
    with pytest.raises(SpaceError, match="observation_space.*the environment's"):
        tfl.PPO("CartPole-v1", observation_space=gym.spaces.Box(-1, 1, (9,)))


def test_fit_with_a_wrong_verbose_leaves_no_directory(idle, tmp_path):
    with pytest.raises(tfl.TFLearnerError, match="verbose"):
        idle.fit(10, verbose="loud", log_dir=tmp_path)
    assert not list(tmp_path.iterdir())


class NeverLeft(tfl.ConnectorV2):
    """Forbids action 0 before actions are drawn."""

    def __call__(self, *, batch, **kwargs):
        inputs = batch[tfl.Columns.ACTION_DIST_INPUTS].copy()
        inputs[:, 0] = -1e9
        return batch | {tfl.Columns.ACTION_DIST_INPUTS: inputs}


@pytest.mark.parametrize("activation", ["tanh", "gelu"])  # In NumPy, and traced.
def test_actions_are_drawn_behind_own_connector_pieces(activation):
    config = tfl.PPOConfig().environment("CartPole-v1").debugging(seed=1)
    config.env_runners(module_to_env_connector=lambda *spaces: NeverLeft(*spaces))
    model = tfl.DefaultModelConfig(fcnet_hiddens=[4], fcnet_activation=activation)
    algo = config.rl_module(model_config=model).build_algo()
    episodes = algo.env_runner.sample(num_timesteps=40)
    algo.stop()
    assert all((episode.get_actions() == 1).all() for episode in episodes)


def unseeded_model():
    return keras.Sequential(
        [
            keras.layers.Dense(8, "relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(4),
        ]
    )


@pytest.mark.parametrize(
    ("algorithm", "env", "model", "is_plain"),
    [
        (tfl.PPO, "CartPole-v1", None, True),
        *[
            pytest.param(algorithm, env, model, False, marks=pytest.mark.deep)
            for algorithm, env, model in [
                (tfl.PPO, "Pendulum-v1", unseeded_model),
                (tfl.DQN, "CartPole-v1", unseeded_model),
                (tfl.SAC, "CartPole-v1", unseeded_model),
                (tfl.SAC, "Pendulum-v1", None),
            ]
        ],
    ],
)
def test_global_random_numbers_stay_where_they_are(
    tmp_path, algorithm, env, model, is_plain
):
    def now():
        return random.getstate(), np.random.get_state()[1].tolist()

    before = now()
    settings = {"model_config": {"fcnet_hiddens": [8]}} if model is None else {}
    settings |= {} if model is None else {"model": model}
    config = algorithm.config_class().environment(env).update_from_dict(settings)
    config.framework(run_eagerly=True, jit_compile=False)
    if algorithm is tfl.PPO:
        config.training(train_batch_size_per_learner=32, minibatch_size=16)
        config.training(num_epochs=1)
    else:
        config.training(num_steps_sampled_before_learning_starts=16)
        config.training(replay_buffer_config={"capacity": 500})
        config.reporting(min_sample_timesteps_per_iteration=32)
    algo = config.build_algo()
    assert now() == before
    algo.fit(32, verbose=0, log_dir=tmp_path / "runs")
    algo.evaluate(episodes=1)
    algo.save(tmp_path / "saved")
    assert now() == before
    algo.stop()
    if is_plain:
        return
    algo.export(tmp_path / "exported")
    assert now() == before
    algorithm.from_checkpoint(tmp_path / "saved", **settings).stop()
    assert now() == before
