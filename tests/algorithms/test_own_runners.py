"""Runners of other classes than `SingleAgentEnvRunner`, written from the contract."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.algorithms.dqn import DQNConfig
from tflearner.algorithms.ppo import PPOConfig
from tflearner.columns import Columns
from tflearner.constants import DEFAULT_MODULE_ID, INPUT_ENV_SINGLE_SPACES
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.env.env_runner import EnvRunner
from tflearner.env.single_agent_env_runner import SingleAgentEnvRunner
from tflearner.errors import BuilderError, ConfigError

CONTEXTS = gym.spaces.Box(0.0, 1.0, (2,), np.float32)
ARMS = gym.spaces.Discrete(3)
LENGTH = 4


class BanditRunner(EnvRunner):
    """Plays episodes of a bandit whose best arm is in the observation."""

    stopped = 0

    def get_spaces(self):
        return {
            INPUT_ENV_SINGLE_SPACES: (CONTEXTS, ARMS),
            DEFAULT_MODULE_ID: (CONTEXTS, ARMS),
        }

    def sample(
        self,
        *,
        num_timesteps=None,
        num_episodes=None,
        explore=None,
        random_actions=False,
        force_reset=False,
    ):
        num = num_episodes or -(-(num_timesteps or LENGTH) // LENGTH)
        explore = self.config.explore if explore is None else explore
        contexts = self._rng.integers(2, size=(num, LENGTH + 1))
        outputs = self._act(contexts[:, :-1].ravel(), explore)
        columns = {k: v.reshape(num, LENGTH, *v.shape[1:]) for k, v in outputs.items()}
        episodes = [
            self._episode(own, {k: v[i] for k, v in columns.items()})
            for i, own in enumerate(contexts)
        ]
        returns = [episode.get_return() for episode in episodes]
        self.log_sampled(returns, [LENGTH] * num, num * LENGTH, {"sample_s": 0.1})
        return episodes

    def _act(self, contexts, explore):
        batch = {Columns.OBS: np.eye(2, dtype=np.float32)[contexts]}
        forward = self.module.forward_inference
        if explore:
            forward = self.module.forward_exploration
        return self.module_to_env(
            rl_module=self.module,
            batch={k: np.asarray(v) for k, v in forward(batch).items()},
            episodes=[],
            explore=explore,
            shared_data={"rng": self._rng},
        )

    def _episode(self, contexts, outputs):
        actions = outputs.pop(Columns.ACTIONS)
        return SingleAgentEpisode(
            observations=np.eye(2, dtype=np.float32)[contexts],
            actions=actions,
            rewards=(actions == contexts[:-1]).astype(np.float32),
            terminated=True,
            extra_model_outputs=outputs,
            len_lookback_buffer=0,
            observation_space=CONTEXTS,
            action_space=ARMS,
        )

    def end_episodes(self, seed):
        self._rng = np.random.default_rng(seed)

    def stop(self):
        BanditRunner.stopped += 1


CONFIGS = {
    "ppo": lambda: PPOConfig().training(
        train_batch_size_per_learner=64, minibatch_size=32, num_epochs=4, lr=0.02
    ),
    "dqn": lambda: (
        DQNConfig()
        .env_runners(epsilon=[[0, 1.0], [400, 0.1]], rollout_fragment_length=40)
        .training(
            train_batch_size_per_learner=32,
            num_steps_sampled_before_learning_starts=32,
            training_intensity=2.0,
            replay_buffer_config={"capacity": 1000},
            lr=0.02,
        )
    ),
}


def make_config(name):
    config = CONFIGS[name]().environment("bandit").debugging(seed=4)
    config.env_runners(env_runner_cls=BanditRunner).framework(jit_compile=False)
    return config.rl_module(model_config={"fcnet_hiddens": [8]})


@pytest.mark.parametrize("name", CONFIGS)
def test_a_runner_without_gymnasium_trains_evaluates_and_resumes(name, tmp_path):
    algo = make_config(name).build_algo()
    assert type(algo.env_runner) is BanditRunner
    history = algo.fit(1_200, verbose=0, log_dir=tmp_path / "runs")
    assert algo.num_env_steps_sampled_lifetime >= 1_200
    assert "bandit" in str(next((tmp_path / "runs").iterdir()))
    assert history.history["episode_return"][-1] > 2.5
    assert algo.evaluate(episodes=5).episode_return_mean == LENGTH
    algo.save(tmp_path / "saved")
    with pytest.raises(BuilderError, match="env_runner_cls"):  # No file names a class.
        type(algo).from_checkpoint(tmp_path / "saved")
    again = type(algo).from_checkpoint(tmp_path / "saved", env_runner_cls=BanditRunner)
    for _ in range(2):
        own, restored = algo.train(), again.train()
        assert own["learners"] == restored["learners"]
        assert own["env_runners"] == restored["env_runners"]
    report = algo.export(tmp_path / "policy")
    assert report.max_difference < 1e-5
    algo.stop()
    again.stop()


def test_evaluation_stops_its_own_runner():
    algo = make_config("ppo").build_algo()
    before = BanditRunner.stopped
    algo.evaluate(episodes=1)
    assert BanditRunner.stopped == before + 1
    algo.stop()


def test_a_runner_is_stopped_if_the_algorithm_cannot_be_built():
    config = make_config("ppo").environment(action_space=gym.spaces.Discrete(2))
    before = BanditRunner.stopped
    with pytest.raises(ValueError, match="action_space"):
        config.build_algo()
    assert BanditRunner.stopped == before + 1


class TwoSpacesRunner(BanditRunner):
    """Has other spaces for a module that it names."""

    def get_spaces(self):
        return super().get_spaces() | {"guide": (CONTEXTS, gym.spaces.Discrete(7))}


def test_modules_get_the_spaces_that_the_runner_has_for_them():
    config = make_config("ppo").env_runners(env_runner_cls=TwoSpacesRunner)
    config.multi_agent(policies=[DEFAULT_MODULE_ID, "guide", "other"])
    algo = config.build_algo()
    sizes = {k: m.unwrapped().action_space.n for k, m in algo.learner.module.items()}
    assert sizes == {DEFAULT_MODULE_ID: 3, "guide": 7, "other": 3}
    algo.stop()


class Unfinished(EnvRunner):
    def sample(self, **kwargs):
        return []


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        ("SingleAgentEnvRunner", "got 'SingleAgentEnvRunner', want a subclass of EnvR"),
        (dict, "want a subclass of EnvRunner"),
        (
            Unfinished,
            "got Unfinished, which lacks end_episodes, get_spaces, stop, want a class",
        ),
    ],
)
def test_what_is_no_runner_class_is_refused(cls, text):
    config = PPOConfig().environment("CartPole-v1").env_runners(env_runner_cls=cls)
    with pytest.raises(ConfigError, match=rf"env_runner_cls.*{text}"):
        config.build_algo()


def test_the_default_class_may_be_named():
    config = PPOConfig().environment("CartPole-v1", action_masks=False)
    config.env_runners(env_runner_cls=SingleAgentEnvRunner)
    algo = config.build_algo()
    assert type(algo.env_runner) is SingleAgentEnvRunner
    algo.stop()
