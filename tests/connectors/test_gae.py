"""Tests for `tflearner.connectors.gae` and all that comes before it."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
import tree

from tflearner.columns import Columns
from tflearner.connectors import gae
from tflearner.connectors.batching import AgentToModuleMapping, BatchIndividualItems
from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.episode_columns import (
    AddColumnsFromEpisodesToTrainBatch,
    AddObservationsFromEpisodesToBatch,
    AddOneTsToEpisodesAndTruncate,
)
from tflearner.connectors.gae import GeneralAdvantageEstimation, StandardizeAdvantages
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.data import arrays
from tflearner.errors import BatchError, ModuleError
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.rl_module import MultiRLModule, RLModule
from tflearner.testing import assert_close, random_episodes

GAMMA, LAMBDA = 0.9, 0.8
Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
ENDS = (
    (3, "terminated"),
    (1, "truncated"),
    (5, "cut"),
    (1, "terminated"),
    (1, "cut"),
    (4, "both"),
    (2, "truncated"),
)
OBSERVATION_SPACES = {
    "box": Box(-1, 1, (3,)),
    "discrete": Discrete(5, start=1),
    "dict": gym.spaces.Dict({"a": Box(-1, 1, (2,)), "b": Discrete(4)}),
}


class Policy(RLModule):
    """Has no value function."""

    def get_state(self, components=None, *, not_components=None):
        return {}

    def set_state(self, state):
        pass


class Critic(Policy, ValueFunctionAPI):
    """The value is the sum of an observation's numbers, plus 1."""

    def compute_values(self, batch, embeddings=None):
        leaves = [tf.cast(x, tf.float32) for x in tf.nest.flatten(batch[Columns.OBS])]
        sums = [tf.reduce_sum(tf.reshape(x, [tf.shape(x)[0], -1]), 1) for x in leaves]
        return tf.add_n(sums) + 1.0


def value_of(observation):
    return 1.0 + sum(float(np.sum(leaf)) for leaf in tree.flatten(observation))


def oracle(episodes):
    """The rows of the train batch, one step at a time, advantages as they are."""
    rows = []
    for episode in episodes:
        length, advantage = len(episode), 0.0
        own = []
        for t in reversed(range(length)):
            is_last = t == length - 1
            cut = episode.is_truncated or not episode.is_terminated
            value = value_of(episode.get_observations(t))
            next_value = value_of(episode.get_observations(t + 1))
            if is_last and episode.is_terminated:
                next_value = 0.0
            delta = episode.get_rewards(t) + GAMMA * next_value - value
            advantage = delta + GAMMA * LAMBDA * (0.0 if is_last else advantage)
            row = {
                Columns.OBS: episode.get_observations(t),
                Columns.ACTIONS: episode.get_actions(t),
                Columns.REWARDS: episode.get_rewards(t),
                Columns.TERMINATEDS: is_last and episode.is_terminated,
                Columns.TRUNCATEDS: is_last and cut,
                Columns.ADVANTAGES: advantage,
                Columns.VALUE_TARGETS: advantage + value,
            }
            own.append(row | episode.get_extra_model_outputs(indices=t))
        rows += reversed(own)
    return rows


def pipeline(*more):
    return LearnerConnectorPipeline(
        [
            AddOneTsToEpisodesAndTruncate(),
            AddObservationsFromEpisodesToBatch(),
            AddColumnsFromEpisodesToTrainBatch(),
            AgentToModuleMapping(),
            BatchIndividualItems(),
            GeneralAdvantageEstimation(gamma=GAMMA, lambda_=LAMBDA),
            *more,
        ]
    )


def call(connector, episodes=(), batch=None, **modules):
    modules = MultiRLModule(modules or {"m": Critic()})
    return connector(
        rl_module=modules, batch=batch or {}, episodes=list(episodes), shared_data={}
    )


def make_episodes(space="box", *, lookback=0, to_numpy=False, seed=0, ends=ENDS):
    episodes = random_episodes(
        OBSERVATION_SPACES[space], Discrete(3), ends=ends, lookback=lookback, seed=seed
    )
    return [e.to_numpy() if to_numpy else e for e in episodes]


def digest(episodes):
    """All that the episodes hold, as text and bytes."""
    leaves = tree.flatten([episode.get_state() for episode in episodes])
    return [np.asarray(x).tobytes() if np.ndim(x) else repr(x) for x in leaves]


@pytest.mark.parametrize("space", OBSERVATION_SPACES)
@pytest.mark.parametrize("lookback", [0, 2])
@pytest.mark.parametrize("to_numpy", [False, True], ids=["lists", "arrays"])
def test_train_batch_matches_the_oracle(space, lookback, to_numpy):
    episodes = make_episodes(space, lookback=lookback, to_numpy=to_numpy)
    before = digest(episodes)
    batch = call(pipeline(), episodes)["m"]
    assert digest(episodes) == before
    rows = oracle(episodes)
    assert set(batch) == set(rows[0])
    for column, values in batch.items():
        want = tree.map_structure(lambda *x: np.stack(x), *[r[column] for r in rows])
        tree.map_structure(
            lambda got, leaf: assert_close(got, leaf, rtol=1e-5, atol=1e-5),
            values,
            want,
        )
    assert batch[Columns.ADVANTAGES].dtype == np.float32
    assert batch[Columns.VALUE_TARGETS].dtype == np.float32


def test_episodes_take_every_branch():
    """Guards the test above: an oracle only sees what its inputs exercise."""
    episodes = make_episodes()
    ends = {(e.is_terminated, e.is_truncated, len(e) == 1) for e in episodes}
    both_and_short = (True, True, True)
    assert len(ends) == 7 and both_and_short not in ends
    last = [value_of(e.get_observations(len(e))) for e in episodes]
    assert all(abs(value) > 0.1 for value in last), "bootstrap values that matter"


def test_both_forms_of_episodes_make_equal_batches():
    lists = call(pipeline(), make_episodes("dict", lookback=1))
    arrays = call(pipeline(), make_episodes("dict", lookback=1, to_numpy=True))
    tree.map_structure(np.testing.assert_array_equal, lists, arrays)
    dtypes = [[x.dtype for x in tree.flatten(batch)] for batch in (lists, arrays)]
    assert dtypes[0] == dtypes[1]


class AddColumns(ConnectorV2):
    """Adds columns that share memory with another one, or belong to somebody."""

    def __init__(self):
        super().__init__()
        self.kept = self.before = None

    def __call__(self, *, batch, **kwargs):
        columns = batch["m"]
        columns["same"] = columns["out"]
        columns["half"] = columns["other"][..., :1]
        columns["kept"] = self.kept = columns[Columns.OBS].copy()
        self.before = self.kept.copy()
        return batch


@pytest.mark.parametrize("shared", [False, True])
def test_large_columns_lose_their_artificial_rows_in_place(monkeypatch, shared):
    monkeypatch.setattr(gae, "LARGE", 1)
    packed, pack = [], arrays.pack
    monkeypatch.setattr(
        arrays, "pack", lambda x, kept: packed.append(x) or pack(x, kept)
    )
    episodes = make_episodes("dict" if not shared else "box", to_numpy=True)
    for episode in episodes:
        t = np.arange(len(episode), dtype=np.float32)
        episode.set_extra_model_outputs("out", np.stack([t, -t], axis=1))
        episode.set_extra_model_outputs("other", np.stack([t, 2 * t], axis=1))
    before = digest(episodes)
    connector, adding = pipeline(), AddColumns()
    if shared:
        connector.insert_after(BatchIndividualItems, adding)
    got = call(connector, episodes)["m"]
    assert digest(episodes) == before
    monkeypatch.setattr(gae, "LARGE", 2**40)
    want = call(pipeline(), episodes)["m"]
    for column, values in want.items():
        tree.map_structure(np.testing.assert_array_equal, got[column], values)
    # All but the mask and, where others share their memory, "out" and "other".
    assert len(packed) == (7 if shared else 10)
    if shared:
        np.testing.assert_array_equal(got["same"], want["out"])
        np.testing.assert_array_equal(got["half"], want["other"][..., :1])
        np.testing.assert_array_equal(got["kept"], want[Columns.OBS])
        np.testing.assert_array_equal(adding.kept, adding.before)


def test_modules_are_kept_apart():
    episodes = make_episodes(ends=((3, "terminated"), (2, "cut"), (4, "truncated")))
    for episode, module_id in zip(episodes, ("a", "b", "a")):
        episode.module_id = module_id
    got = call(pipeline(StandardizeAdvantages()), episodes, a=Critic(), b=Critic())
    for module_id, own in (("a", episodes[::2]), ("b", episodes[1:2])):
        for episode in own:
            episode.module_id = None
        alone = call(pipeline(StandardizeAdvantages()), own)["m"]
        for column, values in got[module_id].items():
            np.testing.assert_array_equal(values, alone[column])


def test_no_episodes_make_no_batch():
    assert call(pipeline(StandardizeAdvantages())) == {}


def test_modules_without_a_value_function_pass_untouched():
    episodes = make_episodes()
    batch = call(pipeline(StandardizeAdvantages()), episodes, m=Policy())["m"]
    assert Columns.ADVANTAGES not in batch
    mask = batch[Columns.LOSS_MASK]
    assert len(mask) == sum(map(len, episodes)) + len(episodes)
    assert (~mask).sum() == len(episodes)


def test_a_module_that_was_replaced_gives_the_values():
    class Other(Critic):
        def compute_values(self, batch, embeddings=None):
            return 2.0 * super().compute_values(batch)

    connector, episodes = pipeline(), make_episodes()
    first = call(connector, episodes, m=Critic())["m"]
    second = call(connector, episodes, m=Other())["m"]
    again = call(connector, episodes, m=Critic())["m"]
    column = Columns.VALUE_TARGETS
    assert (first[column] != second[column]).any()
    np.testing.assert_array_equal(first[column], again[column])


def test_values_of_another_shape_are_an_error():
    class Column(Critic):
        def compute_values(self, batch, embeddings=None):
            return super().compute_values(batch)[:, None]

    match = r"module 'm', compute_values\(\): got shape \(24, 1\), want \(24,\)"
    with pytest.raises(ModuleError, match=match):
        call(pipeline(), make_episodes(), m=Column())


def test_missing_artificial_rows_are_an_error():
    connector = pipeline()
    connector.remove(AddOneTsToEpisodesAndTruncate)
    match = "module 'm': got episodes without artificial.*AddOneTsToEpisodesAndTruncate"
    with pytest.raises(BatchError, match=match):
        call(connector, make_episodes())


# Standardising.


def standardized(advantages, mask=None):
    columns = {Columns.ADVANTAGES: np.float32(advantages)}
    if mask is not None:
        columns[Columns.LOSS_MASK] = np.array(mask, bool)
    return call(StandardizeAdvantages(), batch={"m": columns})["m"]["advantages"]


def test_train_batch_is_standardized():
    episodes = make_episodes()
    before = call(pipeline(), episodes)["m"]
    after = call(pipeline(StandardizeAdvantages()), episodes)["m"]
    raw = before[Columns.ADVANTAGES].astype(np.float64)
    want = (raw - raw.mean()) / raw.std()
    assert_close(after[Columns.ADVANTAGES], want, rtol=1e-5, atol=1e-6)
    assert after[Columns.ADVANTAGES].dtype == np.float32
    targets = before[Columns.VALUE_TARGETS]
    np.testing.assert_array_equal(after[Columns.VALUE_TARGETS], targets)


def test_masked_rows_do_not_count():
    got = standardized([1.0, 1e6, 3.0, np.nan], [1, 0, 1, 0])
    assert_close(got, [-1.0, 1e6, 1.0, np.nan])


def test_sequences_are_standardized_over_the_steps_that_count():
    got = standardized([[1.0, 3.0], [8.0, 0.0]], [[1, 1], [1, 0]])
    raw = np.array([1.0, 3.0, 8.0])
    want = (raw - raw.mean()) / raw.std()
    assert_close(got, [[want[0], want[1]], [want[2], 0.0]])


def test_nothing_to_standardize():
    assert_close(standardized([1.0, 2.0], [0, 0]), [1.0, 2.0])
    assert_close(standardized([]), np.zeros(0))


def test_equal_advantages_become_zero():
    assert_close(standardized([5.0, 5.0, 5.0]), [0.0, 0.0, 0.0])


def test_small_deviations_are_not_blown_up():
    assert_close(standardized([0.0, 1e-6]), [-0.005, 0.005], rtol=1e-5)


def test_arrays_of_the_batch_before_stay_as_they_are():
    advantages = np.float32([1.0, 2.0])
    advantages.flags.writeable = False
    batch = {"m": {Columns.ADVANTAGES: advantages}, "n": {Columns.OBS: np.ones(2)}}
    assert set(call(StandardizeAdvantages(), batch=batch)["n"]) == {Columns.OBS}
