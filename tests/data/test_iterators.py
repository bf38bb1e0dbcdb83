"""Tests for `tflearner.data.shards`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tflearner.data import iterators
from tflearner.data.multi_agent_episode import MultiAgentEpisode
from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.errors import BatchError, UsageError

LENGTHS = [10, 21, 3, 4, 35, 41, 5, 15, 44]


def single(length, *, id_=None, lookback=0):
    """An episode whose observations and actions are its time steps."""
    return SingleAgentEpisode(
        id_,
        observations=np.arange(-lookback, length + 1),
        actions=np.arange(-lookback, length),
        rewards=np.ones(lookback + length),
        terminated=True,
        len_lookback_buffer=lookback,
    )


def multi(length, *, id_=None):
    """An episode of agents that act in turn, in NumPy form."""
    episode = MultiAgentEpisode(id_)
    episode.add_env_reset({0: 0})
    for t in range(length):
        mover = t % 3
        seen = {(t + 1) % 3: t + 1}
        episode.add_env_step(seen, {mover: t}, {mover: 1.0})
    return episode.to_numpy()


def lengths(parts):
    return [[len(episode) for episode in part] for part in parts]


@pytest.mark.parametrize("make", [single, multi])
@pytest.mark.parametrize(
    ("num_shards", "want"),
    [
        (3, [[44, 10, 5], [41, 15, 3], [35, 21, 1, 3]]),
        (4, [[44], [41, 3], [35, 10], [21, 15, 5, 1, 3]]),
    ],
)
def test_known_splits_of_episodes(make, num_shards, want):
    episodes = [make(length) for length in LENGTHS]
    assert lengths(iterators.ShardEpisodesIterator(episodes, num_shards)) == want


@settings(deadline=None, max_examples=80)
@given(
    sizes=st.lists(st.integers(0, 30), max_size=6),
    num_shards=st.integers(1, 8),
    is_multi=st.booleans(),
)
def test_no_step_is_lost_and_shards_are_equal(sizes, num_shards, is_multi):
    make = multi if is_multi else single
    episodes = [make(size, id_=f"e{i}") for i, size in enumerate(sizes)]
    iterator = iterators.ShardEpisodesIterator(episodes, num_shards)
    parts = list(iterator)
    totals = [sum(row) for row in lengths(parts)]
    assert len(parts) == num_shards and totals == sorted(totals)
    assert sum(totals) == sum(sizes) and max(totals) - min(totals) <= 1
    assert lengths(iterator) == lengths(parts) and [len(e) for e in episodes] == sizes
    by_id = {}
    for episode in [episode for part in parts for episode in part]:
        by_id.setdefault(episode.id_, []).append(episode)
    start = "env_t_started" if is_multi else "t_started"
    for whole in episodes:
        pieces = sorted(by_id[whole.id_], key=lambda e: getattr(e, start))
        first, *others = [piece.copy() for piece in pieces]
        for other in others:
            first.concat_episode(other)
        assert first.is_done == whole.is_done
        assert repr(first.get_state()) == repr(whole.get_state())


def test_pieces_keep_time_and_lookback():
    episode = single(10, lookback=3)
    for given_lookback, want in [(None, 3), (5, 5), (0, 0)]:
        iterator = iterators.ShardEpisodesIterator([episode], 2, given_lookback)
        (first,), (second,) = iterator
        assert (first.t_started, first.t, first.is_done) == (0, 5, False)
        assert (second.t_started, second.t, second.is_terminated) == (5, 10, True)
        assert (first.rewards.lookback, second.rewards.lookback) == (3, want)
        assert second.get_actions(slice(-5 - want, None)).tolist() == list(
            range(5 - want, 10)
        )
        assert np.shares_memory(second.get_actions(), episode.get_actions())


def test_pieces_of_many_agents_keep_each_agents_lookback():
    (first,), (second,) = iterators.ShardEpisodesIterator([multi(20)], 2, 2)
    assert (first.env_t, second.env_t_started, second.env_t) == (10, 10, 20)
    # A step ends three environment steps after it began, in the part where it counts.
    assert first.agent_steps() + second.agent_steps() == multi(20).agent_steps() == 18
    for episode in second.single_agent_episodes():
        assert episode.t_started > 0 and episode.rewards.lookback == 2
        assert episode.get_actions(-1) - episode.get_actions(0) == 3 * len(episode) - 3


def test_both_kinds_of_episodes_and_too_few_steps():
    parts = list(iterators.ShardEpisodesIterator([single(1), multi(2)], 4))
    assert lengths(parts) == [[], [1], [1], [1]]
    assert lengths(iterators.ShardEpisodesIterator([], 2)) == [[], []]


def test_batches_are_split_by_rows_of_each_module():
    batch = MultiAgentBatch(
        {
            "a": {"obs": np.arange(20).reshape(10, 2), "infos": [{}] * 10},
            "b": {"obs": {"x": np.arange(4)}},
        },
        env_steps=10,
    )
    batch["b"].enable_slicing_by_batch_id()  # Without sequences it says nothing.
    parts = list(iterators.ShardBatchIterator(batch, 4))
    assert [len(part["a"]) for part in parts] == [3, 3, 3, 1]
    assert [len(part["a"]["infos"]) for part in parts] == [3, 3, 3, 1]
    assert [part["b"]["obs"]["x"].tolist() for part in parts] == [[0], [1], [2], [3]]
    assert [len(part) for part in parts] == [3, 3, 3, 1]
    assert np.shares_memory(parts[1]["a"]["obs"], batch["a"]["obs"])


def test_batches_of_sequences_are_split_by_sequences():
    sequences = SampleBatch(
        {
            "obs": np.arange(15).reshape(5, 3),
            "state_in": {"h": np.arange(5)},
            "seq_lens": np.int32([3, 1, 2, 3, 3]),
        },
        _zero_padded=True,
    )
    batch = MultiAgentBatch({"a": sequences}, env_steps=12)
    first, second = (part["a"] for part in iterators.ShardBatchIterator(batch, 2))
    assert first["seq_lens"].tolist() == [3, 1, 2] and len(first) == 6
    assert second["obs"].tolist() == [[9, 10, 11], [12, 13, 14]]
    assert second["state_in"]["h"].tolist() == [3, 4] and second.zero_padded


@settings(deadline=None, max_examples=60)
@given(
    num_rows=st.dictionaries(st.sampled_from("abc"), st.integers(0, 20)),
    env_steps=st.integers(0, 30),
    num_shards=st.integers(1, 9),
)
def test_no_row_of_a_batch_is_lost(num_rows, env_steps, num_shards):
    batch = MultiAgentBatch(
        {m: {"obs": np.arange(num)} for m, num in num_rows.items()}, env_steps
    )
    parts = list(iterators.ShardBatchIterator(batch, num_shards))
    assert len(parts) == num_shards and sum(map(len, parts)) == env_steps
    for module_id, num in num_rows.items():
        rows = [part[module_id]["obs"] for part in parts]
        assert np.concatenate(rows).tolist() == list(range(num))
        assert max(map(len, rows)) == -(-num // num_shards)


def test_columns_of_unequal_lengths_are_an_error():
    batch = MultiAgentBatch({"a": {"obs": np.zeros(4), "rewards": np.zeros(3)}}, 4)
    with pytest.raises(BatchError, match="column 'rewards'"):
        list(iterators.ShardBatchIterator(batch, 2))


@settings(deadline=None, max_examples=40)
@given(num=st.integers(0, 20), num_shards=st.integers(1, 7))
def test_references_are_split_in_order(num, num_shards):
    parts = list(iterators.ShardObjectRefIterator(list(range(num)), num_shards))
    assert [item for part in parts for item in part] == list(range(num))
    short, longer = divmod(num, num_shards)
    assert [len(part) for part in parts] == [
        short + (i < longer) for i in range(num_shards)
    ]


@pytest.mark.parametrize("num_shards", [0, -1, 2.0, True, None])
@pytest.mark.parametrize(
    ("cls", "data"),
    [
        (iterators.ShardBatchIterator, MultiAgentBatch({}, 0)),
        (iterators.ShardEpisodesIterator, []),
        (iterators.ShardObjectRefIterator, []),
    ],
)
def test_the_number_of_shards_is_checked(cls, data, num_shards):
    with pytest.raises(UsageError, match="num_shards: got .*, want int >= 1"):
        cls(data, num_shards)
