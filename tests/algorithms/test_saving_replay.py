"""Runs that replay: saved with their buffer, and going on from the files."""

import numpy as np
import pytest

import tflearner as tfl
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
ME = tfl.DEFAULT_MODULE_ID


@pytest.fixture(autouse=True)
def directory(monkeypatch, tmp_path):
    """Tests run in a directory of their own."""
    monkeypatch.chdir(tmp_path)


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


def test_a_run_in_files_and_without_a_seed_goes_on(make_algo, continued):
    mapped = DQN["replay_buffer_config"] | {"memmap_dir": "mapped"}
    algo = make_algo(seed=None, replay_buffer_config=mapped)
    for _ in range(2):
        algo.train()
    again = continued(algo.save("checkpoints"))
    assert run_digest(again) == run_digest(algo)
    assert again.replay_buffer.memmap_dir is None  # A directory is given again.
    for run in (algo, again):
        for _ in range(2):
            run.train()
    assert run_digest(again) == run_digest(algo)
    assert algo.replay_buffer.get_added_timesteps() == 64


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


# Without the buffer.


@pytest.mark.deep_but_first
@pytest.mark.parametrize("kind", KINDS)
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


DEEP = pytest.mark.deep
UNIFORM = {
    "replay_buffer_config": {"type": "EpisodeReplayBuffer", "capacity": 60},
}


@pytest.mark.parametrize(
    "settings",
    [
        {"replay_buffer_config": {"capacity": 59}},
        {"replay_buffer_config": {"capacity": 60, "alpha": 0.5}},
        {"num_atoms": 3},
        pytest.param({"dueling": False}, marks=DEEP),
        pytest.param(UNIFORM, marks=DEEP),
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


@pytest.mark.deep_but_first
@pytest.mark.parametrize("component", ["replay_buffer", "learner"])
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


def test_what_is_no_state_of_a_run_changes_nothing(make_algo):
    algo = make_algo()
    algo.train()
    before = run_digest(algo)
    for rows_due in ("x", None, float("nan"), -1.0):
        with pytest.raises(TFLearnerError, match=r"set_state\(\).*rows_due"):
            algo.set_state({"rows_due": rows_due})
        assert run_digest(algo) == before, rows_due
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


@pytest.mark.deep_but_first
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"actor_lr": [[0, 1e-5], [9, 1e-5]]}, {"policy": 1e-5, "qf": 3e-4}),
        ({"critic_lr": 1e-5}, {"policy": 1e-2, "qf": 1e-5, "alpha": 3e-4}),
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
