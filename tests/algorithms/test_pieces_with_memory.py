"""Runs whose pieces in front of the module have a memory."""

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.dqn import DQNConfig
from tflearner.algorithms.ppo import PPOConfig
from tflearner.columns import Columns
from tflearner.connectors.frame_stacking import FrameStacking
from tflearner.connectors.observations import MeanStdFilter
from tflearner.connectors.pipeline import EnvToModulePipeline
from tflearner.connectors.prev_actions_prev_rewards import PrevActionsPrevRewards
from tflearner.errors import ExportError
from tflearner.testing import CountingEnv, run_digest


def stack_of_2(*spaces):
    return FrameStacking(*spaces, num_frames=2)


def three(observation_space, action_space):
    """Statistics, and two pieces with a memory behind them."""
    mean_std = MeanStdFilter(observation_space, action_space)
    stacks = stack_of_2(mean_std.observation_space, action_space)
    prev = PrevActionsPrevRewards(
        stacks.observation_space, action_space, n_prev_actions=2
    )
    return [mean_std, stacks, prev]


class Recorded(gym.Wrapper):
    """CartPole of at most 9 steps that keeps observations and rewards."""

    given: ClassVar[list] = []

    def __init__(self):
        super().__init__(gym.make("CartPole-v1", max_episode_steps=9))

    def reset(self, **kwargs):
        obs, info = super().reset(**kwargs)
        self.given.append([(obs, 0.0)])
        return obs, info

    def step(self, action):
        obs, reward, *rest = super().step(action)
        reward += float(obs[0])
        self.given[-1].append((obs, reward))
        return obs, reward, *rest


def make_ppo(connector=three, env="CartPole-v1", **model_config):
    config = PPOConfig().environment(env, action_masks=False).debugging(seed=2)
    config.training(train_batch_size_per_learner=48, minibatch_size=16, num_epochs=2)
    config.env_runners(
        num_envs_per_env_runner=2, env_to_module_connector=connector
    ).framework(jit_compile=False)
    return config.rl_module(
        model_config={"fcnet_hiddens": [8], "lstm_cell_size": 4, **model_config}
    )


@pytest.fixture(scope="module")
def recurrent():
    """A recurrent module behind statistics and two memories, after two updates."""
    algo = make_ppo(env=Recorded, use_lstm=True, max_seq_len=5).build_algo()
    for _ in range(2):
        algo.train()
    yield algo
    algo.stop()


def greedy_episodes(algo, num=3):
    """Returns whole greedy episodes, and what their environment gave."""
    config = algo.config.copy(copy_frozen=False)
    config.env_runners(num_envs_per_env_runner=1)
    runner = config.build_env_runner(
        env_to_module=algo.env_runner.env_to_module,
        module_to_env=algo.env_runner.module_to_env,
    )
    runner.set_modules(algo.learner.module)
    Recorded.given = []
    episodes = runner.sample(num_episodes=num, explore=False)
    runner.stop()
    return list(zip(episodes, Recorded.given))


def check_exported(algo, act, initial_state):
    """Acts with an export in the same environments, and compares the actions."""
    num = 0
    for episode, given in greedy_episodes(algo):
        state = initial_state(1)
        for t, action in enumerate(episode.get_actions()):
            obs, reward = given[t]
            if t:  # The newest reward has to be told.
                prev = state["env_to_module"]["PrevActionsPrevRewards"]
                rewards = np.array(prev["prev_n_rewards"])
                rewards[:, -1] = reward
                prev["prev_n_rewards"] = tf.constant(rewards)
            actions, state = act(tf.constant(obs[None]), state)
            assert actions.numpy()[0] == action
            num += 1
    assert num > 15


def test_a_saved_model_acts_like_the_runner(recurrent, tmp_path):
    report = recurrent.export(tmp_path / "policy")
    assert report.max_difference < 1e-5
    policy = tf.saved_model.load(str(tmp_path / "policy"))
    state = policy.initial_state(2)
    assert {*state} == {"module", "env_to_module"}
    assert {*state["env_to_module"]} == {"FrameStacking", "PrevActionsPrevRewards"}
    check_exported(recurrent, policy.act_greedy, policy.initial_state)
    obs = tf.constant(np.ones((2, 4), np.float32))
    actions, after = policy.act(obs, state, tf.constant([1, 2]))
    prev = after["env_to_module"]["PrevActionsPrevRewards"]["prev_n_actions"]
    assert prev.numpy()[:, :2].any() == 0
    np.testing.assert_array_equal(prev.numpy()[:, 2:].argmax(-1), actions.numpy())
    assert policy.value(obs, after).shape == (2,)


def test_a_module_without_a_state_gets_one_from_its_pieces(tmp_path):
    algo = make_ppo(env=Recorded).build_algo()
    algo.train()
    algo.export(tmp_path / "policy")
    policy = tf.saved_model.load(str(tmp_path / "policy"))
    assert {*policy.initial_state(1)} == {"env_to_module"}
    check_exported(algo, policy.act_greedy, policy.initial_state)
    algo.stop()


FORMATS = ("policy", "policy.tflite", "policy.keras")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_pieces_with_memory(recurrent, name, tmp_path):
    """The export compares two steps, with a state that is not zero in the second."""
    assert recurrent.export(tmp_path / name).max_difference < 1e-5


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_stacks_of_images(name, tmp_path):
    image = gym.spaces.Box(0, 255, (10, 10, 1), np.uint8)
    piece = FrameStacking(image, num_frames=3)
    config = PPOConfig().environment(
        observation_space=piece.observation_space,
        action_space=gym.spaces.Box(-2.0, 2.0, (2,), np.float32),
    )
    config.rl_module(
        model_config={"conv_filters": [[4, 4, 2]], "head_fcnet_hiddens": [8]}
    )
    learner = config.build_learner()
    pipeline = EnvToModulePipeline([piece], image, config.action_space)
    report = learner.export(tmp_path / name, env_to_module=pipeline)
    assert report.max_difference < 1e-5


def test_an_export_that_forgets_is_refused(tmp_path):
    class Forgetful(FrameStacking):
        def recall(self, x, memory, xp):
            out, after = super().recall(x, memory, xp)
            return out, after if xp is np else memory

    algo = make_ppo(Forgetful).build_algo()
    with pytest.raises(ExportError, match="a difference of"):
        algo.export(tmp_path / "policy")
    algo.stop()


def test_a_run_continues_to_the_bit(recurrent, tmp_path):
    recurrent.save(tmp_path)
    again = type(recurrent).from_checkpoint(
        tmp_path, env=Recorded, env_to_module_connector=three
    )
    for run in (recurrent, again):
        run.train()
        run.evaluate(episodes=2)
        run.train()
    assert run_digest(recurrent) == run_digest(again)
    again.stop()


def test_evaluation_changes_no_memory_of_training():
    runs = [make_ppo(stack_of_2, CountingEnv).build_algo() for _ in range(2)]
    for _ in range(3):
        sampled = [run.env_runner.sample(num_timesteps=7) for run in runs]
        runs[1].evaluate(episodes=2)
        for a, b in zip(*sampled, strict=True):
            np.testing.assert_array_equal(a.get_observations(), b.get_observations())
    for run in runs:
        run.stop()


def test_learners_see_what_the_module_saw():
    """Also in the artificial last rows, whose values close the episodes."""
    algo = make_ppo(stack_of_2, CountingEnv).build_algo()
    algo.env_runner.sample(num_timesteps=7)
    episodes = algo.env_runner.sample(num_timesteps=30)
    assert {e.t_started > 0 for e in episodes} == {True, False}
    batch = {}
    for piece in algo.learner._learner_connector.connectors[:3]:
        batch = piece(
            rl_module=algo.learner.module,
            batch=batch,
            episodes=episodes,
            shared_data={"bootstrap_rows": True},
        )
    for episode, rows in zip(episodes, batch[Columns.OBS], strict=True):
        steps = np.arange(episode.t_started, episode.t + 1)
        assert rows[:, 5].tolist() == steps.tolist()
        assert rows[:, 2].tolist() == np.maximum(steps - 1, 0).tolist()
        first = steps == 0
        assert not rows[first, :3].any()
        np.testing.assert_array_equal(rows[~first, :2], rows[~first, 3:5])
    results = algo.train()["learners"]
    assert np.isfinite(results["default_policy"]["total_loss"])
    algo.stop()


@pytest.mark.parametrize("mode", ["same_step", "next_step", "disabled"])
def test_replayed_steps_are_pairs_of_stacks(mode):
    config = (
        DQNConfig()
        .environment(CountingEnv, action_masks=False)
        .env_runners(
            env_to_module_connector=stack_of_2,
            num_envs_per_env_runner=3,
            autoreset_mode=mode,
        )
    )
    config.training(
        replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 1000}
    )
    algo = config.rl_module(model_config={"fcnet_hiddens": [4]}).build_algo()
    for _ in range(4):
        algo.replay_buffer.add(algo.env_runner.sample(num_timesteps=20))
    columns = algo.replay_buffer.sample(num_items=200)
    obs, following = (np.asarray(columns[c]) for c in (Columns.OBS, Columns.NEXT_OBS))
    np.testing.assert_array_equal(obs[:, 3:], following[:, :3])
    np.testing.assert_array_equal(obs[:, 5] + 1, following[:, 5])
    assert columns[Columns.TERMINATEDS].any() and not columns[Columns.TERMINATEDS].all()
    algo.stop()
