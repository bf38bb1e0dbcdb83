"""The table of algorithms: each row is held to every promise of this directory."""

import copy
import dataclasses
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import tree

from tflearner.algorithms.bc import BCConfig
from tflearner.algorithms.dqn import DQNConfig
from tflearner.algorithms.impala import IMPALAConfig
from tflearner.algorithms.marwil import MARWILConfig
from tflearner.algorithms.off_policy import UNIFORM
from tflearner.algorithms.ppo import PPOConfig
from tflearner.algorithms.sac import SACConfig
from tflearner.columns import Columns
from tflearner.config import AlgorithmConfig
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.modules import acting
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import random_batch, random_trajectories, random_transitions


class MatchEnv(gym.Env):
    """One-step episodes; the reward is 1 for the best action and less for others.

    Discrete actions are to be what the observation shows first; continuous ones half of
    it.
    """

    def __init__(self, observation_space, action_space):
        self.observation_space = observation_space
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._target = int(self.np_random.integers(2))
        return self._obs(), {}

    def step(self, action):
        if isinstance(self.action_space, gym.spaces.Discrete):
            reward = float(action == self._target)
        else:
            reward = 1.0 - min(1.0, abs(float(action[0]) - 0.5 * self._target))
        return self._obs(), reward, True, False, {}

    def _obs(self):
        space = self.observation_space
        return np.full(
            space.shape, self._target * min(space.high.max(), 255), space.dtype
        )


# (Row, settings): learner, its first state, and the row.
LEARNERS: dict[tuple, tuple] = {}


@dataclasses.dataclass(frozen=True)
class Row:
    """One algorithm, on one kind of module.

    Attributes:
        config: Makes its config; networks are tiny.
        spaces: Observation and action space.
        make_batch: Function of (module, number of rows, seed=...) returning columns.
        learns: Settings under which it masters `MatchEnv` in seconds, and the steps.
        tolerance: Largest difference of a weight after one update between eager, traced
            and XLA, relative to the largest weight.
        run_eagerly: Whether its learners run line by line unless told otherwise.
        acts_in_data: What took the actions in the data it learns from: function of an
            environment. `None` if it samples itself.
    """

    config: Callable[[], AlgorithmConfig]
    spaces: tuple[gym.Space, gym.Space]
    make_batch: Callable = random_batch
    learns: tuple[dict, int] = ({}, 3_000)
    tolerance: float = 1e-5
    run_eagerly: bool = False
    acts_in_data: Callable | None = None

    def data(self, env, num_episodes):
        """Returns settings: the data of an algorithm that samples none."""
        if self.acts_in_data is None:
            return {}
        seeds = range(num_episodes)
        return {"data": [make_episode(env, self.acts_in_data, seed) for seed in seeds]}

    def make_learner(self, **settings):
        """Returns a built learner with seed 1."""
        config = self.config().environment(
            observation_space=self.spaces[0], action_space=self.spaces[1]
        )
        own = {"seed": 1, "jit_compile": False, "run_eagerly": self.run_eagerly}
        config.update_from_dict(own | settings)
        return config.build_learner()

    def learner(self, **settings):
        """Returns a learner like a new one of `make_learner`; its traces are kept.

        Each is built once and set back to its first state whenever it is asked for.
        """
        key = (id(self), repr(sorted(settings.items())))
        if key not in LEARNERS:
            learner = self.make_learner(**settings)
            # The row stays as well, so that no other one gets its address.
            LEARNERS[key] = learner, learner.get_state(), self
        learner, first_state, _ = LEARNERS[key]
        learner.set_state(first_state, force=True)
        return learner

    def masked(self):
        """Returns this row with three actions and a mask of them in observations.

        Returns:
            `None` for actions that no mask goes along with.
        """
        space, action_space = self.spaces
        if not isinstance(action_space, gym.spaces.Discrete):
            return None
        mask = gym.spaces.MultiBinary(3)
        observation_space = gym.spaces.Dict(action_mask=mask, observations=space)
        spaces = (observation_space, gym.spaces.Discrete(3))
        return dataclasses.replace(self, spaces=spaces)

    def act(self, module, observations, *, explore=False, seed=0):
        """Returns the actions of a module for observations [N, ...] at first steps."""
        batch = {Columns.OBS: observations}
        if module.is_stateful():
            batch[Columns.STATE_IN] = initial_state(module, num_rows(observations))
        rng = np.random.default_rng(seed)
        outputs = acting.make_actor(module)(batch, explore=explore, rng=rng)
        if Columns.ACTIONS in outputs:
            return outputs[Columns.ACTIONS]
        inputs = outputs[Columns.ACTION_DIST_INPUTS]
        if explore:
            return module.get_exploration_action_dist_cls().sample_np(inputs, rng)
        return module.get_inference_action_dist_cls().deterministic_np(inputs)

    def observations(self, num, seed=0):
        """Returns observations of the space, drawn at random. [num, ...]."""
        space = copy.deepcopy(self.spaces[0])
        space.seed(seed)
        samples = [space.sample() for _ in range(num)]
        empty = gym.vector.utils.create_empty_array(space, num)
        return gym.vector.utils.concatenate(space, samples, empty)

    def make_batches(self, learner, num_rows=24, seed=0):
        """Returns {module id: columns}."""
        return {
            mid: self.make_batch(module, num_rows, seed=seed)
            for mid, module in learner.module.items()
        }

    def train(self, learner, *, seed=0, batches=None):
        """Returns the results of an update in shuffled minibatches of 8 rows."""
        batches = batches or self.make_batches(learner, seed=seed)
        return learner.update_from_batch(
            batches, minibatch_size=8, shuffle_batch_per_epoch=True
        )


def ppo(**model_config):
    """Returns a function that makes a PPO config with tiny networks."""
    return lambda: (
        PPOConfig()
        .training(lr=3e-3, minibatch_size=64, num_epochs=5, lambda_=0.95)
        .training(train_batch_size_per_learner=256)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[16], **model_config))
    )


def impala(**model_config):
    """Returns a function that makes a config of IMPALA with tiny networks."""
    return lambda: (
        IMPALAConfig()
        .training(lr=1e-2, train_batch_size_per_learner=64)
        .env_runners(rollout_fragment_length=8)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[16], **model_config))
    )


def offline(config_class, **settings):
    """Returns a function that makes a config of BC or MARWIL with tiny networks."""
    return lambda: (
        config_class()
        .training(lr=3e-2, train_batch_size_per_learner=50, **settings)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[16]))
    )


def make_episode(env, act, seed):
    """Returns an episode of an environment, with actions of a function of it."""
    observations, actions, rewards = [env.reset(seed=seed)[0]], [], []
    env.action_space.seed(seed)
    is_done = (False, False)
    while not any(is_done):
        action = act(env)
        observation, reward, *is_done, _ = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
    return SingleAgentEpisode(
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminated=is_done[0],
        truncated=is_done[1],
        observation_space=env.observation_space,
        action_space=env.action_space,
        len_lookback_buffer=0,
    )


def at_random(env):
    """Returns an action drawn at random."""
    return env.action_space.sample()


def rightly(env):
    """Returns the best action in `MatchEnv`, one at random elsewhere."""
    best = getattr(env, "_target", None)
    return at_random(env) if best is None else np.int64(best)


def off_policy(config_class, model_config=None, **settings):
    """Returns a function that makes a config of DQN or SAC with tiny networks."""
    model_config = {"fcnet_hiddens": [16]} | (model_config or {})
    return lambda: (
        config_class()
        .env_runners(rollout_fragment_length=4)
        .training(num_steps_sampled_before_learning_starts=100, lr=1e-2)
        .training(replay_buffer_config={"capacity": 2_000})
        .training(**settings)
        .reporting(min_sample_timesteps_per_iteration=250)
        .rl_module(model_config=model_config)
    )


def dqn(**settings):
    """Returns a function that makes a config of DQN with tiny networks."""
    defaults = {"training_intensity": 8.0, "target_network_update_freq": 100}
    return off_policy(DQNConfig, **defaults | settings)


def sac(**settings):
    """Returns a function that makes a config of SAC with tiny networks."""
    defaults = {"training_intensity": 16.0, "train_batch_size_per_learner": 64}
    defaults |= {"tau": 0.05, "initial_alpha": 0.1}
    return off_policy(SACConfig, **defaults | settings)


VECTOR = gym.spaces.Box(0.0, 1.0, (3,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (10, 10, 1), np.uint8)
BINARY = gym.spaces.Discrete(2)
CONTINUOUS = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

TABLE = {
    "ppo": Row(ppo(), (VECTOR, BINARY)),
    "ppo-continuous": Row(
        ppo(free_log_std=True), (VECTOR, CONTINUOUS), learns=({"lr": 1e-2}, 8_000)
    ),
    "ppo-image": Row(ppo(conv_filters=[[4, 4, 2]]), (IMAGE, BINARY)),
    "ppo-lstm": Row(
        ppo(use_lstm=True, lstm_cell_size=8, max_seq_len=3),
        (VECTOR, BINARY),
        learns=({"lr": 1e-2}, 2_500),
    ),
    "ppo-gru-layernorm": Row(
        ppo(use_gru=True, lstm_cell_size=8, max_seq_len=3, fcnet_use_layernorm=True),
        (VECTOR, BINARY),
        learns=({"lr": 1e-2}, 2_500),
    ),
    "dqn": Row(
        dqn(),
        (VECTOR, BINARY),
        random_transitions,
        learns=({"epsilon": [[0, 1.0], [500, 0.05]]}, 1_500),
    ),
    "dqn-distributional": Row(
        dqn(num_atoms=11, v_min=-2.0, v_max=2.0, dueling=False),
        (VECTOR, BINARY),
        random_transitions,
        learns=({"epsilon": [[0, 1.0], [500, 0.05]]}, 1_500),
    ),
    "dqn-image": Row(
        dqn(
            model_config={"conv_filters": [[4, 4, 2]]},
            replay_buffer_config={"type": UNIFORM},
            double_q=False,
            target_network_update_freq=0,
            tau=0.1,
        ),
        (IMAGE, BINARY),
        random_transitions,
        learns=({"epsilon": [[0, 1.0], [500, 0.05]]}, 1_500),
    ),
    "bc": Row(
        offline(BCConfig), (VECTOR, BINARY), learns=({}, 2_000), acts_in_data=rightly
    ),
    "marwil": Row(
        offline(MARWILConfig, moving_average_sqd_adv_norm_start=1.0),
        (VECTOR, BINARY),
        learns=({}, 3_000),
        acts_in_data=at_random,
    ),
    "impala": Row(impala(), (VECTOR, BINARY), random_trajectories, learns=({}, 4_000)),
    "impala-lstm": Row(
        impala(use_lstm=True, lstm_cell_size=8, max_seq_len=3),
        (VECTOR, BINARY),
        random_trajectories,
        learns=({}, 4_000),
    ),
    "sac": Row(sac(), (VECTOR, CONTINUOUS), random_transitions, learns=({}, 2_000)),
    "sac-discrete": Row(
        sac(twin_q=False, target_entropy=0.1),
        (VECTOR, BINARY),
        random_transitions,
        learns=({}, 2_000),
    ),
}


# These rows are in the plain run, with all properties.
PLAIN = ("ppo", "dqn", "sac")
PARAMS = [
    pytest.param(name, marks=() if name in PLAIN else pytest.mark.deep)
    for name in TABLE
]


@pytest.fixture(scope="module", params=PARAMS)
def row(request):
    """Each row of the table in turn."""
    return TABLE[request.param]


EAGER = {name: dataclasses.replace(TABLE[name], run_eagerly=True) for name in PLAIN}
BOTH = [
    *(pytest.param(row, id=f"{name}-eager") for name, row in EAGER.items()),
    *(
        pytest.param(row, id=f"{name}-traced", marks=pytest.mark.deep)
        for name, row in TABLE.items()
    ),
]


@pytest.fixture(scope="module", params=BOTH)
def eager_or_traced(request):
    """Each row of the plain run line by line, and all rows of the table traced.

    For properties that hold or break in Python, whether it is traced or not.
    """
    return request.param


def initial_state(module, num):
    """Returns the state of `num` episodes that begin. [num, ...] each."""
    return tree.map_structure(
        lambda x: np.repeat(np.asarray(x)[None], num, axis=0),
        module.get_initial_state(),
    )


def num_rows(observations):
    """Returns the number of observations."""
    return len(tree.flatten(observations)[0])


@pytest.fixture
def match_env():
    """Returns a function from a row to the environment it learns."""
    return lambda row: lambda: MatchEnv(*row.spaces)
