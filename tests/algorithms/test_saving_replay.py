"""Runs that replay: saved with their buffer, and going on from the files."""

import threading

import numpy as np
import pytest

import tflearner as tfl
from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.errors import CheckpointMismatchError, TFLearnerError
from tflearner.testing import CountingEnv, run_digest, state_digest

TINY = {
    "rollout_fragment_length": 4,
    "num_envs_per_env_runner": 2,
    "train_batch_size_per_learner": 8,
    "num_steps_sampled_before_learning_starts": 16,
    "min_sample_timesteps_per_iteration": 16,
    "training_intensity": 1.7,
    "n_step": (1, 3),
    "model_config": {"fcnet_hiddens": [4]},
    "run_eagerly": True,
    "jit_compile": False,
    "seed": 1,
}
DQN = {
    "env": "CartPole-v1",
    "epsilon": [[0, 1.0], [100, 0.1]],
    "lr": [[0, 1e-2], [200, 1e-3]],
    "target_network_update_freq": 24,
    "replay_buffer_config": {"capacity": 60},  # Full after four iterations.
}
SAC = {
    "env": "Pendulum-v1",
    "actor_lr": [[0, 1e-2], [200, 1e-3]],
    "replay_buffer_config": {"type": "EpisodeReplayBuffer", "capacity": 60},
}
KINDS = {"dqn": (tfl.DQN, DQN), "sac": (tfl.SAC, SAC)}
every_kind = pytest.mark.parametrize("kind", KINDS)
ME = tfl.DEFAULT_MODULE_ID


@pytest.fixture
def owned(monkeypatch, tmp_path):
    """Takes algorithms, and stops them after the test."""
    monkeypatch.chdir(tmp_path)
    algos = []

    def own(algo):
        algos.append(algo)
        return algo

    yield own
    for algo in algos:
        algo.stop()


@pytest.fixture
def make_algo(owned):
    """Returns a function that makes tiny algorithms."""

    def make(kind="dqn", **settings):
        algorithm, own = KINDS[kind]
        return owned(algorithm(**TINY | own | settings))

    return make


@pytest.fixture
def continued(owned):
    """Returns a function from a path to an algorithm that goes on from it."""
    return lambda path, kind="dqn", **given: owned(
        KINDS[kind][0].from_checkpoint(path, **given)
    )


def buffer_digest(algo):
    state = algo.replay_buffer.get_state()
    open_episodes = state["transitions"].pop("open_episodes")
    running = [own for _, *own in open_episodes]  # No seed decides their ids.
    return state_digest([state, running])


# Going on.


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("dqn", {}),
        ("sac", {}),
        ("dqn", {"seed": None, "replay_buffer_config": {"memmap_dir": "mapped"}}),
    ],
)
def test_saved_run_goes_on_like_the_uninterrupted_one(
    make_algo, continued, kind, settings
):
    if "replay_buffer_config" in settings:
        capacity = {"capacity": 60}
        config = capacity | settings["replay_buffer_config"]
        settings = settings | {"replay_buffer_config": config}
    algo = make_algo(kind, **settings)
    for _ in range(2):
        algo.train()
    again = continued(algo.save("checkpoints"), kind)
    assert run_digest(again) == run_digest(algo)
    assert again.replay_buffer.memmap_dir is None  # A directory is given again.
    for run, place in ((algo, "checkpoints"), (again, "of-another")):
        run.train()
        run.train()
        run.save(place)
        run.train()
    assert run_digest(again) == run_digest(algo)
    assert algo.replay_buffer.get_added_timesteps() == 80
    assert algo.learner.get_state()["weights_seq_no"] > 5


@every_kind
def test_a_run_saved_before_it_learns_goes_on(make_algo, continued, kind):
    algo = make_algo(kind, num_steps_sampled_before_learning_starts=20)
    again = continued(algo.save("empty"), kind)
    algo.train()
    again.train()
    assert run_digest(again) == run_digest(algo)
    later = continued(algo.save("filling"), kind)
    for run in (algo, later):
        run.train()
    assert run_digest(later) == run_digest(algo)


def test_chunks_around_a_save_are_not_joined(make_algo):
    algo = make_algo(
        env=CountingEnv,
        env_config={"ends": [(1000, "terminated")]},
        num_steps_sampled_before_learning_starts=10**6,
        n_step=1,
    )
    algo.train()
    algo.save("c")
    algo.train()
    batch = algo.replay_buffer.sample(400)
    np.testing.assert_array_equal(batch["new_obs"][:, 2] - batch["obs"][:, 2], 1.0)
    assert not batch["terminateds"].any()
    assert len(algo.replay_buffer) == 32


@every_kind
def test_background_save_is_of_the_moment_it_was_asked_for(
    make_algo, continued, monkeypatch, kind
):
    save, may_write = CheckpointDirectory.save, threading.Event()

    def save_late(*args, **kwargs):
        assert may_write.wait(60)
        return save(*args, **kwargs)

    monkeypatch.setattr(CheckpointDirectory, "save", save_late)
    algo = make_algo(kind)
    for _ in range(2):
        algo.train()
    algo.save("c", background=True)
    then = run_digest(algo)
    algo.train()
    may_write.set()
    algo.wait_until_saved()
    again = continued("c", kind)
    assert run_digest(again) == then
    again.train()
    assert run_digest(again) == run_digest(algo)


# Without the buffer.


@every_kind
def test_a_run_without_its_buffer_fills_a_new_one_first(make_algo, continued, kind):
    algo = make_algo(kind, store_buffer_in_checkpoints=False)
    for _ in range(2):
        algo.train()
    path = algo.save("c")
    again = continued(path, kind)
    assert "replay_buffer" not in again.get_state()
    assert len(again.replay_buffer) == 0
    for part in ("rl_module", "optimizer", "learner"):
        states = [run.learner.get_state(part)[part] for run in (algo, again)]
        assert state_digest(states[0]) == state_digest(states[1])
    before = state_digest(again.learner.get_state("optimizer"))
    again._learn = None  # Not to be called.
    with pytest.raises(TypeError):
        again.train()  # The second round has 16 steps.
    assert state_digest(again.learner.get_state("optimizer")) == before
    assert again.replay_buffer.get_added_timesteps() == 16


# Other runs.


def test_a_run_can_be_restored_into_another(make_algo):
    algo, other = make_algo(), make_algo(seed=5)
    for run in (algo, other, other):
        run.train()
    report = other.restore_from_path(algo.save("c"))
    assert not (report.kept or report.ignored or report.reset)
    assert any(path.startswith("replay_buffer/") for path in report.loaded)
    for run in (algo, other):
        run.train()
    assert state_digest(other.learner.get_state()) == state_digest(
        algo.learner.get_state()
    )
    assert buffer_digest(other) == buffer_digest(algo)


@pytest.mark.parametrize(
    "settings",
    [
        {"replay_buffer_config": {"capacity": 59}},
        {"replay_buffer_config": {"capacity": 60, "alpha": 0.5}},
        {"replay_buffer_config": {"type": "EpisodeReplayBuffer", "capacity": 60}},
        {"num_atoms": 3},
        {"dueling": False},
    ],
)
def test_what_does_not_fit_changes_nothing(make_algo, settings):
    saved = make_algo(**settings)
    saved.train()
    path = saved.save("c")
    algo = make_algo()
    algo.train()
    before = run_digest(algo)
    with pytest.raises(CheckpointMismatchError, match="Nothing was changed"):
        algo.restore_from_path(path)
    assert run_digest(algo) == before
    algo.train()


@pytest.mark.parametrize("component", ["learner", "replay_buffer"])
def test_one_component_can_be_restored(make_algo, component):
    algo, other = make_algo(), make_algo(seed=5)
    for _ in range(2):
        algo.train()
    other.train()
    path = algo.save("c")
    before = {
        "learner": state_digest(other.learner.get_state()),
        "replay_buffer": buffer_digest(other),
    }
    report = other.restore_from_path(path, component=component)
    assert report.loaded and not (report.kept or report.ignored)
    wanted = {
        "learner": state_digest(algo.learner.get_state()),
        "replay_buffer": buffer_digest(algo),
    }
    now = {
        "learner": state_digest(other.learner.get_state()),
        "replay_buffer": buffer_digest(other),
    }
    for name in before:
        assert now[name] == (wanted if name == component else before)[name], name
    other.train()


def test_weights_alone_come_with_targets_and_epsilon(make_algo):
    algo, other = make_algo(), make_algo(seed=5)
    for _ in range(3):
        algo.train()
    path = algo.save("c")
    other.restore_from_path(path, component=f"learner/rl_module/{ME}")
    weights = [run.learner.get_state("rl_module")["rl_module"] for run in (algo, other)]
    assert state_digest(weights[0]) == state_digest(weights[1])


def test_learners_of_other_algorithms_are_refused(make_algo):
    make_algo("sac", env=CountingEnv).save("c")
    algo = make_algo()
    before = run_digest(algo)
    with pytest.raises(TFLearnerError):
        algo.restore_from_path("c", component="learner")
    assert run_digest(algo) == before


@pytest.mark.parametrize("rows_due", ["x", None, float("nan"), -1.0])
def test_what_is_no_state_of_a_run_changes_nothing(make_algo, rows_due):
    algo = make_algo()
    algo.train()
    before = run_digest(algo)
    with pytest.raises(TFLearnerError, match=r"set_state\(\).*rows_due"):
        algo.set_state({"rows_due": rows_due})
    assert run_digest(algo) == before
    algo.train()


def test_state_goes_back_by_set_state(make_algo):
    algo = make_algo()
    for _ in range(2):
        algo.train()
    state = algo.get_state()
    before = state_digest(state["replay_buffer"])
    algo.train()
    algo.set_state(state)
    after = algo.get_state()["replay_buffer"]
    after["transitions"]["open_episodes"] = []  # Going back ends episodes.
    state["replay_buffer"]["transitions"]["open_episodes"] = []
    for name in ("observations", "actions", "rewards"):
        own, saved = (s["transitions"][name] for s in (after, state["replay_buffer"]))
        assert state_digest(own) == state_digest(saved)
    assert state_digest(algo.learner.get_state()) == state_digest(state["learner"])
    assert before
    algo.train()


# What is given wins over what was saved.


def test_given_settings_of_dqn_take_effect(make_algo, continued):
    algo = make_algo()
    algo.train()
    path = algo.save("c")
    again = continued(path, epsilon=0.25, lr=1e-4, target_network_update_freq=0)
    assert float(again.learner.get_optimizer().learning_rate) == pytest.approx(1e-4)
    for _ in range(2):
        result = again.train()["learners"][ME]
    assert result["curr_epsilon"] == 0.25 and result["num_target_updates"] > 1


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"critic_lr": 1e-5}, {"policy": 1e-2, "qf": 1e-5, "alpha": 3e-4}),
        ({"actor_lr": [[0, 1e-5], [9, 1e-5]]}, {"policy": 1e-5, "qf": 3e-4}),
        ({"actor_lr": 2e-5, "alpha_lr": 1e-6}, {"policy": 2e-5, "alpha": 1e-6}),
    ],
)
def test_given_rates_of_sac_take_effect(make_algo, continued, given, wanted):
    algo = make_algo("sac", actor_lr=[[0, 1e-2], [9, 1e-2]])
    algo.train()
    again = continued(algo.save("c"), "sac", **given)
    found = dict(again.learner.get_optimizers_for_module(ME))
    rates = {name: float(found[name].learning_rate) for name in wanted}
    assert rates == pytest.approx(wanted)


def test_one_rate_for_all_of_sac_can_be_given(make_algo, continued):
    algo = make_algo("sac", actor_lr=3e-5)
    algo.train()
    path = algo.save("c")
    again = continued(path, "sac", lr=1e-6)
    for _, optimizer in again.learner.get_optimizers_for_module(ME):
        assert float(optimizer.learning_rate) == pytest.approx(1e-6)


def test_temperature_is_saved(make_algo, continued):
    algo = make_algo("sac", initial_alpha=0.5, lr=0.1, actor_lr=3e-5)
    for _ in range(2):
        algo.train()
    again = continued(algo.save("c"), "sac")
    alphas = [run.learner.curr_log_alpha[ME].numpy() for run in (algo, again)]
    assert alphas[0] == alphas[1] != pytest.approx(np.log(0.5))
