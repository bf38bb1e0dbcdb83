"""A run that is saved, and one that goes on from the files."""

import pathlib

import gymnasium as gym
import keras
import numpy as np
import pytest

import tflearner as tfl
from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.errors import (
    BuilderError,
    CheckpointError,
    CheckpointMismatchError,
    TFLearnerError,
    UnknownArgumentError,
    UsageError,
)
from tflearner.testing import CountingEnv, learner_digest, run_digest, state_digest

TINY = {
    "train_batch_size_per_learner": 32,
    "minibatch_size": 16,
    "num_epochs": 1,
    "num_envs_per_env_runner": 2,
    "model_config": tfl.DefaultModelConfig(fcnet_hiddens=[4]),
    "run_eagerly": True,
    "jit_compile": False,
    "seed": 1,
}
POLICY = tfl.DEFAULT_MODULE_ID


@pytest.fixture(autouse=True)
def directory(monkeypatch, tmp_path):
    """Tests run in a directory of their own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make_algo(owned):
    """Returns a function that makes tiny algorithms."""
    return lambda env="CartPole-v1", **settings: owned(tfl.PPO(env, **TINY | settings))


@pytest.fixture
def continued(owned):
    """Returns `PPO.from_checkpoint` of algorithms that are stopped after the test."""
    return lambda path, **given: owned(tfl.PPO.from_checkpoint(path, **given))


def weights_digest(algo):
    return state_digest(algo.learner.get_state(("rl_module", "optimizer", "learner")))


# Going on.


def test_a_run_without_a_seed_goes_on_like_the_uninterrupted_one(make_algo, continued):
    algo = make_algo(seed=None, entropy_coeff=[[0, 0.1], [200, 0.0]])
    algo.train()
    again = continued(algo.save("checkpoints"))
    assert run_digest(again) == run_digest(algo)
    for run in (algo, again):
        run.train()
    assert run_digest(again) == run_digest(algo)
    assert again.train()["training_iteration"] == 3
    assert again.num_env_steps_sampled_lifetime == 96


def test_runs_with_another_number_of_saves_are_others(make_algo):
    plain, saved = make_algo(), make_algo()
    for algo in (plain, saved):
        algo.train()
    assert run_digest(saved) == run_digest(plain)
    saved.save("checkpoints")
    for algo in (plain, saved):
        algo.train()
    assert weights_digest(saved) != weights_digest(plain)


def test_save_is_an_episode_boundary(make_algo, continued):
    def sample_tags():
        """The seeds of the last resets, by run."""
        sampled = [run.env_runner.sample(num_timesteps=4) for run in (algo, again)]
        assert all(e.t_started == 0 for episodes in sampled for e in episodes)
        return [[float(e.get_observations(0)[0]) for e in run] for run in sampled]

    algo = make_algo(CountingEnv, env_config={"ends": [(1000, "terminated")]})
    running = {episode.id_ for episode in algo.env_runner.sample(num_timesteps=4)}
    again = continued(algo.save("a"), env=CountingEnv)
    first, first_again = sample_tags()
    assert first == first_again and len(first) == 2
    for run in (algo, again):
        run.save("b")
    second, second_again = sample_tags()
    assert second == second_again and second != first
    assert not running & {e.id_ for e in algo.env_runner.sample(num_timesteps=4)}


def test_evaluating_does_not_disturb_what_comes(make_algo, continued):
    algo = make_algo()
    path = algo.save("checkpoints")
    evaluated = continued(path)
    results = [evaluated.evaluate(1)]
    for run in (algo, evaluated):
        run.train()
    assert weights_digest(evaluated) == weights_digest(algo)
    results.append(algo.evaluate(1))
    later = continued(algo.save("checkpoints"))
    assert later.evaluate(1) == algo.evaluate(1)


def test_observation_statistics_go_on(make_algo, continued):
    algo = make_algo(env_to_module_connector=tfl.MeanStdFilter)
    algo.train()
    again = continued(algo.save("checkpoints"))
    counts = []
    for run in (algo, again):
        run.train()
        (piece,) = run.env_runner.env_to_module
        counts.append(piece.count)
        np.testing.assert_array_less(0.0, piece.std)
    assert counts[0] == counts[1] > 64
    assert run_digest(again) == run_digest(algo)


# Where checkpoints are.


def test_an_untrained_run_is_saved_as_step_0(make_algo, continued, tmp_path):
    algo = make_algo(lambda: gym.make("CartPole-v1"))
    saved = pathlib.Path(algo.save())
    assert saved == tmp_path / "runs/ppo-CartPole-v1-1/checkpoints/step-000000000000"
    assert algo._headline().startswith("PPO on CartPole-v1 ")
    again = continued(saved.parent, env="CartPole-v1")
    assert weights_digest(again) == weights_digest(algo)
    assert algo.save().endswith("step-000000000001")
    algo.train()
    assert algo.save().endswith("step-000000000032")


def test_names_of_exports_are_refused(make_algo, tmp_path):
    algo = make_algo()
    before = run_digest(algo)
    for path in ("agent.keras", tmp_path / "a" / "b.TFLITE", "agent.keras/"):
        for save in (
            algo.save,
            algo.save_to_path,
            algo.learner.save_to_path,
            tfl.CheckpointCallback,
            lambda path: CheckpointDirectory(path).save({}, {}),
        ):
            with pytest.raises(UsageError, match=r"export\(path\) writes"):
                save(path)
    assert run_digest(algo) == before and not [*tmp_path.iterdir()]


def test_steps_are_named_by_environment_steps(make_algo, continued):
    algo = make_algo()
    saved = [algo.save("c")]
    algo.train()
    saved += [algo.save("c"), algo.save("c")]
    algo.train()
    saved.append(algo.save("c"))
    names = [f"step-{step:012}" for step in (0, 32, 33, 64)]
    assert [pathlib.Path(path).name for path in saved] == names
    assert run_digest(continued("c")) == run_digest(algo)
    assert run_digest(continued(saved[2])) != run_digest(algo)


def test_keep_leaves_the_newest(make_algo):
    algo = make_algo()
    for _ in range(4):
        algo.save("c", keep=2)
    assert CheckpointDirectory("c").steps() == [2, 3]
    algo.save("c")
    assert CheckpointDirectory("c").steps() == [2, 3, 4]


def test_checkpoints_are_in_the_directory_of_the_run_by_default(make_algo, tmp_path):
    algo = make_algo()
    first = pathlib.Path(algo.save())
    assert first.parent == tmp_path / "runs" / "ppo-CartPole-v1-1" / "checkpoints"
    algo.fit(1, verbose=0, log_dir="logs")
    second = pathlib.Path(algo.save())
    assert second.parent == tmp_path / "logs" / "ppo-CartPole-v1-1" / "checkpoints"
    assert first.is_dir() and second.is_dir()


# In the background.


def test_error_of_a_background_save_comes_with_the_next_call(make_algo, tmp_path):
    algo = make_algo()
    (tmp_path / "file").touch()
    for call in (lambda: algo.save("c"), algo.stop):
        algo.save("file", background=True)
        with pytest.raises(CheckpointError, match="file"):
            call()
    algo.save("c", background=True)
    algo.stop()
    assert CheckpointDirectory("c").steps()


# What files cannot hold.


class OwnLearner(tfl.PPOTfLearner):
    pass


def test_all_that_has_to_be_given_again_is_named(make_algo, continued):
    given = {
        "env": lambda: gym.make("CartPole-v1"),
        "learner_class": OwnLearner,
        "env_to_module_connector": lambda *spaces: tfl.MeanStdFilter(*spaces),
    }
    algo = make_algo(**given)
    algo.train()
    algo.save("c")
    with pytest.raises(BuilderError) as raised:
        continued("c")
    text = str(raised.value)
    assert all(f"{name}: " in text and f"{name}=..." in text for name in given)
    assert "3 settings" in text and "<lambda>" in text and "OwnLearner" in text
    with pytest.raises(BuilderError, match="1 settings.*env:"):
        continued("c", **{k: v for k, v in given.items() if k != "env"})
    again = continued("c", **given)
    assert type(again.learner) is OwnLearner
    assert again.config.learner_class is OwnLearner
    again.train()
    algo.train()
    assert state_digest(again.learner.get_state()) == state_digest(
        algo.learner.get_state()
    )


def test_settings_that_are_unknown_or_other_are_said_and_taken(make_algo, continued):
    make_algo().save("c")
    with pytest.raises(UnknownArgumentError, match="did you mean 'num_epochs'"):
        continued("c", num_epoch=3)
    assert continued("c", num_epochs=3).config.num_epochs == 3


def test_own_keras_model_has_to_be_given_again(make_algo, continued):
    def make_model():
        return keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(5, "relu", name="mine")]
        )

    algo = make_algo(model=make_model())
    algo.train()
    algo.save("c")
    with pytest.raises(BuilderError, match=r"model: .*from_checkpoint\(path, model="):
        continued("c")
    again = continued("c", model=make_model())
    for run in (algo, again):
        run.train()
    assert weights_digest(again) == weights_digest(algo)
    with pytest.raises(TFLearnerError):
        continued("c", model=keras.Sequential([keras.layers.Dense(6)]))


# Modules that came and went.


def test_module_set_overrides_and_trainable_set_are_restored(make_algo, continued):
    algo = make_algo()
    learner = algo.learner
    spec = algo.config.get_rl_module_spec(env=gym.make("CartPole-v1"))
    for name in ("gone", "guest"):
        learner.add_module(
            module_id=name,
            module_spec=spec,
            config_overrides={"lr": 0.02, "clip_param": 0.1},
            new_should_module_be_updated=[POLICY, name],
        )
    algo.train()
    learner.remove_module("gone")
    algo.save("c")
    again = continued("c")
    assert [*again.learner.module] == [POLICY, "guest"]
    config = again.learner.config
    assert config.policies_to_train == [POLICY, "guest"]
    assert config.get_config_for_module("guest").clip_param == 0.1
    assert config.get_config_for_module(POLICY).clip_param != 0.1
    assert again.get_module() is again.env_runner.module
    for run in (algo, again):
        run.train()
        run.learner.add_module(module_id="gone", module_spec=spec)  # Drawn anew.
    assert state_digest(again.learner.get_state()) == state_digest(learner.get_state())


def test_function_of_what_to_train_is_given_again(make_algo, continued):
    only = lambda module_id, batch=None: True
    make_algo(policies_to_train=only).save("c")
    with pytest.raises(BuilderError, match="policies_to_train: .*lambda"):
        continued("c")
    assert continued("c", policies_to_train=only).config.policies_to_train is only


# Restoring into what is there.


def test_what_does_not_fit_changes_nothing(make_algo):
    make_algo(model_config=tfl.DefaultModelConfig(fcnet_hiddens=[6])).save("wide")
    make_algo(env_to_module_connector=tfl.MeanStdFilter).save("filtered")
    algo, twin = make_algo(), make_algo()
    for run in (algo, twin):
        run.train()
    before = run_digest(algo)
    for path in ("wide", "filtered"):
        with pytest.raises(CheckpointMismatchError, match="Nothing was changed"):
            algo.restore_from_path(path)
        assert run_digest(algo) == before
    for run in (algo, twin):  # Running episodes have gone on, too.
        run.train()
    assert run_digest(algo) == run_digest(twin)


def test_what_breaks_amid_a_restore_is_put_back(make_algo, monkeypatch):
    algo, twin, saved = make_algo(), make_algo(), make_algo(seed=3)
    saved.train()
    saved.save("c")
    for run in (algo, twin):
        run.train()

    def fail(state):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(algo.env_runner, "set_state", fail)
    with pytest.raises(CheckpointError, match="ZeroDivisionError: a bug"):
        algo.restore_from_path("c")
    monkeypatch.undo()
    assert run_digest(algo) == run_digest(twin)
    for run in (algo, twin):
        run.train()
    assert run_digest(algo) == run_digest(twin)


def test_learner_alone_can_be_restored(make_algo):
    algo, other = make_algo(), make_algo(seed=5)
    algo.train()
    algo.save("c")
    report = other.restore_from_path("c", component="learner")
    assert learner_digest(other.learner) != learner_digest(algo.learner)  # Its seed.
    assert state_digest(other.learner.get_state()) == state_digest(
        algo.learner.get_state()
    )
    assert all(path.startswith("learner/") for path in report.loaded)
    assert not (report.kept or report.ignored or report.reset)
    assert other.num_env_steps_sampled_lifetime == 0


def test_weights_alone_can_be_restored_and_the_optimizer_starts_anew(make_algo):
    algo, other = make_algo(), make_algo(seed=5)
    for run in (algo, other):
        run.train()
    algo.save("c")
    optimizer = other.learner.get_optimizer(POLICY)
    assert int(optimizer.iterations) > 0
    seq_no = other.learner.get_state()["weights_seq_no"]
    path = f"learner/rl_module/{POLICY}"
    report = other.restore_from_path("c", component=path)
    assert report.reset == (f"learner/optimizer/{POLICY}/default_optimizer",)
    assert all(name.startswith(f"{path}/") for name in report.loaded)
    assert "1 reset" in str(report)
    states = [run.learner.get_state() for run in (algo, other)]
    assert state_digest(states[0]["rl_module"]) == state_digest(states[1]["rl_module"])
    slots = [v for v in optimizer.variables if "velocity" in v.path]
    assert int(optimizer.iterations) == 0 and slots
    assert not any(np.any(slot.numpy()) for slot in slots)
    assert states[1]["weights_seq_no"] == seq_no + 1
    other.train()


@pytest.mark.parametrize(
    ("component", "text"),
    [
        ("lerner", "did you mean 'learner'"),
        ("learner/rl_module/nobody", "nobody"),
    ],
)
def test_component_that_is_not_there_is_named(make_algo, component, text):
    algo = make_algo()
    algo.save("c")
    before = run_digest(algo)
    with pytest.raises((UsageError, CheckpointMismatchError), match=text):
        algo.restore_from_path("c", component=component)
    assert run_digest(algo) == before


# What is given wins over what was saved.


@pytest.mark.deep_but_first
@pytest.mark.parametrize("lr", [[[0, 1e-5], [100, 1e-5]], 1e-5])
def test_given_settings_take_effect(make_algo, continued, tmp_path, lr):
    algo = make_algo(lr=1e-2, kl_coeff=0.3)
    algo.train()
    algo.save(tmp_path / "saved")
    again = continued(tmp_path / "saved", lr=lr, kl_coeff=0.7)
    rate = again.learner.get_optimizer().learning_rate
    np.testing.assert_allclose(np.asarray(rate), 1e-5)
    state = again.learner.get_state("learner")["learner"]
    np.testing.assert_allclose(state["kl_coeffs"][POLICY], 0.7)
    same = continued(tmp_path / "saved")
    np.testing.assert_allclose(
        np.asarray(same.learner.get_optimizer().learning_rate), 1e-2
    )


# `set_state`, and parts of an algorithm's checkpoint.


def test_components_go_back_by_set_state(make_algo):
    algo = make_algo()
    state = algo.get_state("learner/rl_module")
    before = state_digest(state["learner"]["rl_module"])
    algo.train()
    algo.set_state(state)
    weights = algo.get_state("learner/rl_module")["learner"]["rl_module"]
    assert state_digest(weights) == before
    algo.train()


def test_what_is_no_state_of_a_run_changes_nothing(make_algo):
    algo = make_algo()
    before = run_digest(algo)
    for state in (
        {"run_seed": "x"},
        {"iteration": -1},
        {"num_saves": 1.5},
        {"seconds": None},
        {"learner": 3},
        {"env_runner": 3},
        {"unknown": {}},
        3,
    ):
        with pytest.raises(TFLearnerError, match=r"set_state\(\)"):
            algo.set_state(state)
        assert run_digest(algo) == before, state
    algo.train()


def test_parts_restore_from_an_algorithms_checkpoint(make_algo, tmp_path):
    algo = make_algo()
    algo.train()
    path = algo.save(tmp_path / "saved")
    wanted = learner_digest(algo.learner)
    algo.train()
    algo.learner.restore_from_path(path, component="learner")
    assert learner_digest(algo.learner) == wanted
    module = algo.get_module()
    report = module.restore_from_path(path, component=f"learner/rl_module/{POLICY}")
    assert len(report.loaded) == len(module.get_state())
    with pytest.raises(CheckpointMismatchError, match="component='learner'"):
        algo.learner.restore_from_path(path)


def test_saving_by_path_waits_for_the_background(make_algo, tmp_path):
    algo = make_algo()
    algo.save(tmp_path, background=True)
    algo.save_to_path(tmp_path)
    assert len(CheckpointDirectory(tmp_path).steps()) == 2
