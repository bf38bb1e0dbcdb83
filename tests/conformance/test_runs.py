"""A seed decides a run, and one that goes on from a checkpoint is as if uninterrupted."""

import threading

import pytest

from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.errors import CheckpointNotFoundError
from tflearner.testing import CountingEnv, run_digest, state_digest

SETTINGS = {"num_envs_per_env_runner": 2, "run_eagerly": True, "jit_compile": False}
ON_POLICY = {
    "train_batch_size_per_learner": 32,
    "minibatch_size": 16,
    "num_epochs": 1,
    "lr": [[0, 1e-2], [200, 1e-4]],
    "kl_target": 1e-6,  # The coefficient grows with every update.
}
OFF_POLICY = {
    "train_batch_size_per_learner": 8,
    "num_steps_sampled_before_learning_starts": 20,
    "min_sample_timesteps_per_iteration": 16,
    "training_intensity": 1.7,
    "n_step": (1, 3),
    "replay_buffer_config": {"capacity": 60},  # Full after four iterations.
    "lr": [[0, 1e-2], [200, 1e-3]],
}


class Wandering(CountingEnv):
    """Episodes of several lengths; observations are drawn from their space."""

    def __init__(self, observation_space, action_space):
        super().__init__()
        self.observation_space, self.action_space = observation_space, action_space

    def step(self, action):
        assert self.action_space.contains(action)
        return super().step(0.0)

    def _observation(self):
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample()


@pytest.fixture
def env(row):
    """The function that makes the environments of all runs of a test."""
    return lambda: Wandering(*row.spaces)


@pytest.fixture
def data(row, env):
    """The data of rows that learn from some, as a setting."""
    return row.data(env(), 12)


@pytest.fixture
def make_algo(row, env, data, owned):
    """Returns a function that makes small algorithms of the row."""

    def make(seed=1):
        config = row.config().environment(env)
        is_replayed = hasattr(config, "replay_buffer_config")
        own = OFF_POLICY if is_replayed else ON_POLICY
        own = {name: value for name, value in own.items() if hasattr(config, name)}
        if row.acts_in_data is not None:
            own |= data | {"minibatch_size": None, "dataset_num_iters_per_learner": 2}
        config.update_from_dict(SETTINGS | own | {"seed": seed})
        return owned(config.build_algo())

    return make


@pytest.fixture
def continued(row, env, data, owned):
    """Returns a function from a path to an algorithm that goes on from there."""
    algorithm = row.config().get_default_algorithm_class()
    return lambda path: owned(algorithm.from_checkpoint(path, env=env, **data))


def test_same_seed_same_run(make_algo):
    runs = [make_algo(seed) for seed in (5, 5, 6)]
    for run in runs:
        run.train()
        run.train()
    first, second, third = map(run_digest, runs)
    assert first == second != third
    weights = [state_digest(run.learner.get_state("rl_module")) for run in runs]
    assert weights[0] != weights[2]


def test_a_saved_run_goes_on_like_the_uninterrupted_one(make_algo, continued, tmp_path):
    algo = make_algo()
    for step in range(2):  # Off-policy algorithms fill their buffer, and learn then.
        again = continued(algo.save(tmp_path / f"before-{step}"))
        for run in (algo, again):
            run.train()
        assert run_digest(again) == run_digest(algo)
    again = continued(algo.save(tmp_path / "trained"))
    assert run_digest(again) == run_digest(algo)
    for run in (algo, again):
        run.train()
        run.train()
        run.save(tmp_path / f"of-{id(run)}")
        run.train()
    assert run_digest(again) == run_digest(algo)
    assert algo.learner.get_state()["weights_seq_no"] >= 4


def test_a_background_save_is_of_the_moment_it_was_asked_for(
    make_algo, continued, monkeypatch, tmp_path
):
    save, may_write = CheckpointDirectory.save, threading.Event()

    def save_late(*args, **kwargs):
        assert may_write.wait(60)
        return save(*args, **kwargs)

    monkeypatch.setattr(CheckpointDirectory, "save", save_late)
    algo = make_algo()
    for _ in range(2):
        algo.train()
    path = algo.save(tmp_path, background=True)
    then = run_digest(algo)
    algo.train()
    with pytest.raises(CheckpointNotFoundError):
        continued(path)
    may_write.set()
    algo.wait_until_saved()
    again = continued(tmp_path)
    assert run_digest(again) == then
    again.train()
    assert run_digest(again) == run_digest(algo)


def test_a_run_can_be_restored_into_another(make_algo, tmp_path):
    algo, other = make_algo(), make_algo(seed=5)
    for run in (algo, algo, other):
        run.train()
    path = algo.save(tmp_path)
    report = other.restore_from_path(path)
    assert report.path == path and not (report.kept or report.ignored or report.reset)
    for run in (algo, other):
        run.train()
    # Configs differ: that of `other` keeps its seed.
    states = [run.get_state() for run in (algo, other)]
    assert states[0]["run_seed"] == states[1]["run_seed"] == 1
    learners = [state_digest(state["learner"]) for state in states]
    assert learners[0] == learners[1]
    if "replay_buffer" in states[0]:
        assert any(name.startswith("replay_buffer/") for name in report.loaded)
        buffers = [state["replay_buffer"] for state in states]
        # Columns, and of episodes that go on all but their ids, which are random.
        for buffer in buffers:
            running = buffer["transitions"].pop("open_episodes")
            buffer["running"] = [own for _, *own in running]
        assert state_digest(buffers[0]) == state_digest(buffers[1])
