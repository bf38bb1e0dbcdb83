"""Tests for `tflearner.connectors.observations`."""

from typing import ClassVar

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf
from gymnasium.spaces import Box, Dict, Tuple

from tflearner.algorithms.ppo import PPOConfig
from tflearner.columns import Columns
from tflearner.connectors.observations import MeanStdFilter
from tflearner.connectors.pipeline import ConnectorPipelineV2
from tflearner.env.single_agent_env_runner import SingleAgentEnvRunner
from tflearner.errors import ConfigError, SpaceError
from tflearner.testing import CountingEnv, assert_close

INF = np.inf
POINT = Box(-INF, INF, (3,), np.float64)


def through(piece, obs, explore=True):
    return piece(batch={Columns.OBS: obs}, explore=explore)[Columns.OBS]


def seen(*batches, space=POINT, **settings):
    """Returns a filter that has counted these batches."""
    piece = MeanStdFilter(space, **settings)
    for batch in batches:
        through(piece, batch)
    return piece


def oracle(values):
    """Mean and standard deviation, one observation at a time, in long doubles."""
    values = np.asarray(values).astype(np.longdouble)
    mean = sum(values) / len(values)
    return mean, np.sqrt(sum((x - mean) ** 2 for x in values) / len(values))


def points(num, seed=0, mean=3.0, std=2.0):
    return np.random.default_rng(seed).normal(mean, std, (num, 3))


# Statistics.


@pytest.mark.parametrize("sizes", [[1000], [1] * 300, [7, 1, 100, 3], [2, 1]])
def test_statistics_are_those_of_all_observations(sizes):
    batches = [points(size, seed) for seed, size in enumerate(sizes)]
    piece, (mean, std) = seen(*batches), oracle(np.concatenate(batches))
    assert piece.count == sum(sizes)
    assert_close(piece.mean, mean.astype(float), rtol=1e-12)
    assert_close(piece.std, std.astype(float), rtol=1e-12)


@pytest.mark.parametrize("size", [1, 8, 4000])
def test_a_large_mean_leaves_the_deviation_its_digits(size):
    """Sums of squares would leave none: 1e8 squared has them all."""
    obs = points(4000, mean=1e8, std=1.0)
    piece, (mean, std) = seen(*np.split(obs, 4000 // size)), oracle(obs)
    assert_close(piece.mean, mean.astype(float), rtol=3e-15)
    assert_close(piece.std, std.astype(float), rtol=1e-8)


@pytest.mark.parametrize("sizes", [(500, 300), (1, 300), (300, 1), (0, 5), (5, 0)])
def test_merged_is_joined_in_either_order(sizes):
    batches = [points(size, seed, 5.0 * seed) for seed, size in enumerate(sizes)]
    mean, std = oracle(np.concatenate(batches))
    for first, second in ((0, 1), (1, 0)):
        piece, other = (seen(*[batches[i]][: sizes[i]]) for i in (first, second))
        before = other.get_state()
        piece.merge(other)
        assert piece.count == sum(sizes)
        assert_close(piece.mean, mean.astype(float), rtol=1e-12)
        assert_close(piece.std, std.astype(float), rtol=1e-12)
        assert_same_state(other.get_state(), before)


def test_merging_twenty_in_any_order():
    pieces = [seen(points(40 + i, i, mean=i)) for i in range(20)]
    results = []
    for order in (range(20), reversed(range(20))):
        merged = MeanStdFilter(POINT)
        for i in order:
            merged.merge(pieces[i])
        results.append(merged)
    assert_close(results[0].mean, results[1].mean, rtol=1e-12)
    assert_close(results[0].std, results[1].std, rtol=1e-12)


def test_only_exploring_counts():
    piece = seen(points(50))
    before = piece.get_state()
    through(piece, points(50, 1), explore=False)
    through(piece, points(50, 1), explore=None)
    assert_same_state(piece.get_state(), before)
    frozen = MeanStdFilter(POINT, update_stats=False)
    frozen.set_state(before)
    through(frozen, points(50, 1))
    assert_same_state(frozen.get_state(), before)


# What goes out.


def test_observations_come_out_normalised_by_what_was_counted_with_them():
    piece, obs = MeanStdFilter(POINT, clip_by_value=1.5), points(100)
    out = through(piece, obs)
    mean, std = oracle(obs)
    assert out.dtype == np.float32
    want = np.clip((obs - mean) / (std + 1e-6), -1.5, 1.5).astype(float)
    assert_close(out, want, rtol=1e-5, atol=1e-6)
    assert np.abs(out).max() == 1.5


def test_before_there_are_two_observations_the_deviation_is_one():
    obs = np.array([[1.0, 20.0, -3.0]])
    out = through(MeanStdFilter(POINT), obs, explore=False)
    assert_close(out, [[1.0, 10.0, -3.0]], rtol=1e-5)
    piece = MeanStdFilter(POINT)
    assert_close(through(piece, obs), np.zeros((1, 3)))
    assert_close(through(piece, obs + 0.5, False), np.full((1, 3), 0.5), rtol=1e-5)


def test_a_component_that_never_changes_is_zero():
    obs = points(100)
    obs[:, 1] = 0.1
    out = through(MeanStdFilter(POINT), obs)
    assert np.abs(out[:, 1]).max() < 1e-6 and np.abs(out[:, 0]).max() > 1


def test_batches_and_observations_stay_as_they_were():
    obs = points(10)
    kept = obs.copy()
    through(MeanStdFilter(POINT), obs)
    np.testing.assert_array_equal(obs, kept)


SPACES = {
    "float32": Box(-INF, INF, (4,)),
    "float64": POINT,
    "scalar": Box(-5, 5, ()),
    "pixels": Box(0, 255, (6, 5, 3), np.uint8),
    "int64": Box(-(2**60), 2**60, (2,), np.int64),
    "float16": Box(-5, 5, (2,), np.float16),
    "nested": Dict(
        near=Tuple([Box(-1, 1, (2,)), gym.spaces.Discrete(3)]),
        far=Dict(image=Box(0, 255, (2, 2), np.uint8)),
    ),
}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def samples(space, num=64, seed=0):
    space = gym.vector.utils.batch_space(space, num)
    space.seed(seed)
    return space.sample()


@every_space
def test_what_goes_out_is_in_its_space(space):
    piece = MeanStdFilter(space)
    out = through(piece, samples(space))
    for row in gym.vector.utils.iterate(
        gym.vector.utils.batch_space(piece.observation_space, 64), out
    ):
        row = tf.nest.map_structure(np.asarray, row)
        assert piece.observation_space.contains(row)


@every_space
@pytest.mark.parametrize("clip", [10.0, 0.5, None])
@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
def test_tensors_get_the_same(space, clip, traced):
    piece = seen(samples(space), space=space, clip_by_value=clip)
    obs = samples(space, seed=1)
    to_tensors = tf.function(piece.to_tensors) if traced else piece.to_tensors
    got = to_tensors(tf.nest.map_structure(tf.constant, obs))
    want = through(piece, obs, explore=False)
    tf.nest.assert_same_structure(got, want)
    for tensor, array in zip(tf.nest.flatten(got), tf.nest.flatten(want)):
        assert tensor.dtype == array.dtype
        assert_close(tensor.numpy(), array, rtol=1e-6, atol=1e-6)


def test_tensors_far_from_zero_get_the_same():
    float32 = Box(-INF, INF, (3,))
    for space, mean, std in ((POINT, 1e8, 1.0), (float32, 1e5, 50.0)):
        obs = points(200, 0, mean, std).astype(space.dtype)
        piece = seen(obs, space=space)
        want = through(piece, obs, explore=False)
        assert_close(piece.to_tensors(tf.constant(obs)), want, rtol=1e-6, atol=1e-6)
        assert_close(want.std(axis=0), np.ones(3), rtol=1e-3)


@every_space
def test_keras_models_can_contain_it(space):
    piece = seen(samples(space), space=space)
    obs = samples(space, seed=1)
    inputs = tf.nest.map_structure(
        lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), obs
    )
    model = keras.Model(inputs, piece.to_tensors(inputs))
    want = through(piece, obs, explore=False)
    for got, array in zip(tf.nest.flatten(model(obs)), tf.nest.flatten(want)):
        assert_close(got.numpy(), array, rtol=1e-6, atol=1e-6)


def test_tensors_keep_the_statistics_of_their_time():
    piece = seen(points(100))
    traced = tf.function(piece.to_tensors)
    obs = points(20, 1)
    before = traced(tf.constant(obs)).numpy()
    through(piece, points(100, 2, mean=50.0))
    np.testing.assert_array_equal(traced(tf.constant(obs)).numpy(), before)


def test_leaves_that_are_no_boxes_pass():
    space = SPACES["nested"]
    obs = samples(space)
    piece = MeanStdFilter(space)
    out = through(piece, obs)
    assert out["near"][1] is obs["near"][1]
    assert piece.observation_space["near"][1] == gym.spaces.Discrete(3)
    assert piece.observation_space["far"]["image"] == Box(-10, 10, (2, 2))
    assert_close(piece.mean["near"][0], oracle(obs["near"][0])[0].astype(float))
    assert piece.mean["near"][1] is None
    names = {"observation['near'][0]", "observation['far']['image']"}
    assert set(piece.get_state()["mean"]) == names


@pytest.mark.parametrize(
    "space", [gym.spaces.Discrete(4), Dict(a=gym.spaces.MultiBinary(3)), None]
)
def test_a_space_without_a_box_is_refused(space):
    with pytest.raises(SpaceError, match="want a Box, or a Dict or Tuple with a Box"):
        MeanStdFilter(space)


@pytest.mark.parametrize("setting", ["clip_by_value", "epsilon"])
@pytest.mark.parametrize("value", [0, -1.0, np.nan])
def test_impossible_numbers_are_refused(setting, value):
    with pytest.raises(ConfigError, match=rf"{setting}=.*want above 0"):
        MeanStdFilter(POINT, **{setting: value})


# State.


def assert_same_state(got, want):
    assert got["count"] == want["count"]
    for key in ("mean", "squared_deviations"):
        assert got[key].keys() == want[key].keys()
        for name, value in want[key].items():
            np.testing.assert_array_equal(got[key][name], value)


@every_space
def test_state_goes_round(space):
    piece, other = seen(samples(space), space=space), MeanStdFilter(space)
    state = piece.get_state()
    for leaf in tf.nest.flatten(state):
        assert isinstance(leaf, int | np.ndarray)
    other.set_state(state)
    assert_same_state(other.get_state(), state)
    for one in (piece, other):
        through(one, samples(space, seed=1))
    assert_same_state(other.get_state(), piece.get_state())
    obs = samples(space, seed=2)
    pairs = (tf.nest.flatten(through(one, obs, False)) for one in (piece, other))
    for got, want in zip(*pairs):
        np.testing.assert_array_equal(got, want)


def test_a_state_is_a_copy():
    piece = seen(points(20))
    state = piece.get_state()
    restored = MeanStdFilter(POINT)
    restored.set_state(state)
    before = restored.get_state()
    through(piece, points(20, 1))
    now = piece.get_state()
    for one in (state, now):
        one["mean"]["observation"][:] = 7
        one["squared_deviations"]["observation"][:] = 7
    assert_same_state(restored.get_state(), before)
    assert 7 not in piece.mean
    assert 7 not in piece.get_state()["squared_deviations"]["observation"]


def spoiled(**changes):
    return seen(points(20)).get_state() | changes


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ({}, r"got \[\], want \['count', 'mean', 'squared_deviations'\]"),
        ([1], "got list"),
        (spoiled(more=1), "'more'"),
        (spoiled(count=-1), "'count': got -1, want an int >= 0"),
        (spoiled(count=1.5), "'count': got 1.5"),
        (spoiled(mean=3), "'mean': got int"),
        (spoiled(mean={"observation": np.zeros(4)}), r"\(4,\)}, want .*\(3,\)}"),
        (spoiled(mean={"other": np.zeros(3)}), "'other'"),
        (spoiled(mean={"observation": np.array([0, np.nan, 0])}), "want finite ones"),
        (spoiled(mean={"observation": np.array(["a"] * 3)}), "no numbers"),
        (
            spoiled(squared_deviations={"observation": -np.ones(3)}),
            "want finite ones >= 0",
        ),
    ],
)
def test_other_states_are_refused(state, match):
    piece = seen(points(10))
    before = piece.get_state()
    with pytest.raises(ConfigError, match=match):
        piece.set_state(state)
    assert_same_state(piece.get_state(), before)


def test_only_filters_of_like_observations_merge():
    piece = seen(points(10))
    before = piece.get_state()
    with pytest.raises(ConfigError, match="other observations"):
        piece.merge(MeanStdFilter(Box(-1, 1, (2,))))
    assert_same_state(piece.get_state(), before)


# In an environment runner.


class Recorded(CountingEnv):
    """Keeps every observation that any of its instances has given."""

    given: ClassVar[list] = []

    def reset(self, **kwargs):
        obs, info = super().reset(**kwargs)
        self.given.append(obs)
        return obs, info

    def step(self, action):
        obs, *rest = super().step(action)
        self.given.append(obs)
        return obs, *rest


class Stepwise(MeanStdFilter):
    """Remembers what came in and what went out."""

    def __call__(self, *, batch, **kwargs):
        came = batch[Columns.OBS]
        batch = super().__call__(batch=batch, **kwargs)
        self.seen = [*getattr(self, "seen", []), *zip(came, batch[Columns.OBS])]
        return batch


def make_runner(env, connector=Stepwise, **settings):
    # A look for masks would be one more reset.
    config = PPOConfig().environment(env, action_masks=False).debugging(seed=3)
    config.env_runners(num_envs_per_env_runner=3, **settings)
    config.env_runners(env_to_module_connector=connector)
    spaces = (env().observation_space, env().action_space)
    pipeline = config.build_env_to_module_connector(*spaces)
    runner = SingleAgentEnvRunner(config=config, module=None, env_to_module=pipeline)
    return runner, pipeline.connectors[0]


@pytest.mark.parametrize("mode", ["same_step", "next_step", "disabled"])
@pytest.mark.parametrize("sampled", [{"num_timesteps": 97}, {"num_episodes": 7}])
def test_every_observation_is_counted_once(mode, sampled):
    """Also last ones of episodes, and those at the border of two calls."""
    Recorded.given = []
    runner, piece = make_runner(Recorded, autoreset_mode=mode)
    for _ in range(3):
        runner.sample(random_actions=True, **sampled)
    runner.stop()
    mean, std = oracle(Recorded.given)
    assert piece.count == len(Recorded.given) > 50
    assert_close(piece.mean, mean.astype(float), rtol=1e-12)
    assert_close(piece.std, std.astype(float), rtol=1e-12)


@pytest.mark.parametrize("mode", ["same_step", "next_step", "disabled"])
def test_episodes_hold_what_the_module_saw(mode):
    """So values that close a chunk are those of the observation acted on next."""
    runner, piece = make_runner(Recorded, autoreset_mode=mode)
    chunks = []
    for _ in range(4):
        chunks += runner.sample(random_actions=True, num_timesteps=24)
    runner.stop()
    went_out = {tuple(out) for _, out in piece.seen}
    last: dict = {}
    num_continued = 0
    for chunk in chunks:
        observations = chunk.observations.data
        assert {tuple(obs) for obs in observations} <= went_out
        if chunk.id_ in last:
            num_continued += 1
            continued = chunk.get_observations(0)
            np.testing.assert_array_equal(continued, last[chunk.id_])
        last[chunk.id_] = chunk.get_observations(-1)
    assert num_continued > 3


def test_evaluation_does_not_count():
    config = PPOConfig().environment("CartPole-v1").debugging(seed=1)
    config.env_runners(env_to_module_connector=MeanStdFilter)
    config.training(train_batch_size_per_learner=128, num_epochs=1)
    config.framework(run_eagerly=True, jit_compile=False)
    algo = config.build_algo()
    try:
        (piece,) = algo.env_runner.env_to_module
        algo.train()
        before = piece.get_state()
        assert before["count"] > 128
        algo.evaluate(episodes=2)
        assert_same_state(piece.get_state(), before)
        algo.train()
        assert piece.count > before["count"]
    finally:
        algo.stop()


class FarAway(gym.Env):
    """Reward is for the sign of a number that is hard to see beside its mean."""

    observation_space = Box(-INF, INF, (2,))
    action_space = gym.spaces.Discrete(2)

    def _observe(self):
        self.obs = self.np_random.normal(1000.0, 50.0, 2).astype(np.float32)
        return self.obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        reward = float(action == (self.obs[0] > 1000.0))
        return self._observe(), reward, False, self.t == 10, {}


@pytest.mark.deep
def test_far_away_observations_are_learnt():
    config = PPOConfig().environment(FarAway).debugging(seed=1)
    config.env_runners(num_envs_per_env_runner=8)
    config.env_runners(env_to_module_connector=MeanStdFilter)
    config.training(
        train_batch_size_per_learner=800,
        minibatch_size=200,
        num_epochs=5,
        lr=3e-3,
        gamma=0.0,
    )
    algo = config.build_algo()
    try:
        for _ in range(6):
            algo.train()
        assert algo.evaluate(episodes=20).episode_return_mean > 9.0
        obs = np.concatenate(
            [e.get_observations() for e in algo.env_runner.sample(num_timesteps=2000)]
        )
        assert np.abs(obs.mean(axis=0)).max() < 0.1
        assert np.abs(obs.std(axis=0) - 1.0).max() < 0.05
    finally:
        algo.stop()


# In a pipeline.


def test_a_pipeline_has_the_states_of_its_pieces():
    pieces = [seen(points(10, i)) for i in range(3)]
    state = ConnectorPipelineV2(pieces).get_state()
    assert list(state) == ["MeanStdFilter", "MeanStdFilter_1", "MeanStdFilter_2"]
    others = [MeanStdFilter(POINT) for _ in pieces]
    ConnectorPipelineV2(others).set_state(state)
    for other, piece in zip(others, pieces):
        assert_same_state(other.get_state(), piece.get_state())


def test_a_pipeline_whose_second_piece_refuses_changes_nothing():
    pieces = [seen(points(10, i)) for i in range(2)]
    pipeline = ConnectorPipelineV2(pieces)
    before = pipeline.get_state()
    state = ConnectorPipelineV2([seen(points(5)), seen(points(5))]).get_state()
    state["MeanStdFilter_1"]["mean"]["observation"] = np.zeros(4)
    with pytest.raises(ConfigError, match="other observations"):
        pipeline.set_state(state)
    for name, part in pipeline.get_state().items():
        assert_same_state(part, before[name])
