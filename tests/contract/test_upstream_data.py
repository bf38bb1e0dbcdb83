"""Cases that RLlib's own tests hold of minibatches, shards and episodes."""

import math

import gymnasium as gym
import numpy as np
import pytest

from tflearner.data.iterators import (
    MiniBatchCyclicIterator,
    ShardBatchIterator,
    ShardEpisodesIterator,
    ShardObjectRefIterator,
)
from tflearner.data.multi_agent_episode import MultiAgentEpisode
from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.data.single_agent_episode import SingleAgentEpisode

# Minibatches.


def rows_of(**num_rows):
    """A batch in which each row of a module holds its own number."""
    batches = {
        m: {"obs": np.arange(n), "x": -np.arange(n)} for m, n in num_rows.items()
    }
    return MultiAgentBatch(batches, env_steps=max(num_rows.values()))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    ("num_rows", "size", "num_epochs"),
    [
        ({"p": 32}, 256, 30),
        ({"p": 64}, 256, 3),
        ({"p": 128}, 256, 1),
        ({"p": 256}, 256, 4),
        ({"p": 512}, 128, 2),
        ({"p": 100}, 32, 3),
        ({"p": 30, "q": 90}, 16, 2),
        ({"p": 30, "q": 30}, 30, 2),
        ({"p": 1, "q": 100}, 10, 3),
        ({"p": 128, "q": 64, "r": 32}, 32, 2),
        ({"p": 7, "q": 5}, 3, 5),
    ],
)
def test_minibatches_of_all_modules_are_full_and_cover_every_epoch(
    num_rows, size, num_epochs, shuffle
):
    widest = max(num_rows, key=num_rows.get)
    minibatches = list(
        MiniBatchCyclicIterator(
            rows_of(**num_rows),
            minibatch_size=size,
            num_epochs=num_epochs,
            shuffle_batch_per_epoch=shuffle,
            rng=np.random.default_rng(0),
        )
    )
    assert len(minibatches) == math.ceil(num_epochs * num_rows[widest] / size)
    seen = {m: [] for m in num_rows}
    for minibatch in minibatches:
        for m in num_rows:
            rows = minibatch[m]["obs"]
            assert rows.shape == (size,) and (minibatch[m]["x"] == -rows).all()
            seen[m] += rows.tolist()
    counts = np.bincount(seen[widest], minlength=num_rows[widest])
    assert set(counts[: num_rows[widest]]) <= set(
        range(num_epochs, math.ceil(len(seen[widest]) / num_rows[widest]) + 1)
    )
    if num_epochs * num_rows[widest] % size == 0:
        assert set(counts) == {num_epochs}
    for m, n in num_rows.items():
        assert set(seen[m]) == set(range(n))


@pytest.mark.parametrize(
    ("num_rows", "size", "num_epochs", "want"),
    [
        ({"p": 512}, 128, 1, 4),
        ({"p": 96}, 16, 2, 12),
        ({"p": 100}, 32, 3, 10),
        ({"p": 32}, 128, 1, 1),
        ({"p": 128, "q": 64}, 32, 2, 8),
    ],
)
def test_counts_of_minibatches(num_rows, size, num_epochs, want):
    iterator = MiniBatchCyclicIterator(
        rows_of(**num_rows), minibatch_size=size, num_epochs=num_epochs
    )
    assert sum(1 for _ in iterator) == want


def test_minibatches_hold_whole_sequences():
    seq_lens = np.int32([3, 1, 2, 3, 3])
    steps = np.arange(5)[:, None] * 10 + np.arange(3)
    batch = SampleBatch({"obs": steps, "seq_lens": seq_lens}, _zero_padded=True)
    iterator = MiniBatchCyclicIterator(
        MultiAgentBatch({"p": batch}, env_steps=12), minibatch_size=5, num_epochs=2
    )
    minibatches = [minibatch["p"] for minibatch in iterator]
    assert [len(m["seq_lens"]) for m in minibatches] == [2] * 5
    whole = np.concatenate([m["obs"] for m in minibatches])
    assert sorted(whole.tolist()) == sorted(steps.tolist() * 2)
    lengths = np.concatenate([m["seq_lens"] for m in minibatches])
    assert (lengths == seq_lens[whole[:, 0] // 10]).all()


def test_minibatches_shorter_than_a_sequence_hold_one():
    batch = SampleBatch({"obs": np.ones((3, 9)), "seq_lens": np.int32([9, 9, 9])})
    iterator = MiniBatchCyclicIterator(
        MultiAgentBatch({"p": batch}, env_steps=27), minibatch_size=2
    )
    assert [minibatch["p"]["obs"].shape for minibatch in iterator] == [(1, 9)] * 3


def test_shards_of_unequal_size_make_equally_many_minibatches():
    shards = ShardBatchIterator(rows_of(p=10, q=50), num_shards=3)
    rows = [len(shard["q"]) for shard in shards]
    assert rows == [17, 17, 16]
    counts = {
        sum(
            1
            for _ in MiniBatchCyclicIterator(
                s, minibatch_size=4, num_total_minibatches=5
            )
        )
        for s in shards
    }
    assert counts == {5}


# Shards.

LENGTHS = [10, 21, 3, 4, 35, 41, 5, 15, 44]


def episode_of(length, lookback=0):
    numbers = np.arange(lookback + length + 1)
    return SingleAgentEpisode(
        observations=numbers,
        actions=numbers[1:],
        rewards=np.ones(lookback + length),
        len_lookback_buffer=lookback,
    )


@pytest.mark.parametrize(
    ("num_shards", "want"),
    [
        (3, [[44, 10, 5], [41, 15, 3], [35, 21, 1, 3]]),
        (4, [[44], [41, 3], [35, 10], [21, 15, 5, 1, 3]]),
    ],
)
def test_episodes_are_split_exactly_so(num_shards, want):
    episodes = [episode_of(length) for length in LENGTHS]
    shards = ShardEpisodesIterator(episodes, num_shards)
    assert [[len(episode) for episode in shard] for shard in shards] == want


@pytest.mark.parametrize("num_shards", [1, 2, 5, 8])
def test_shards_of_episodes_lose_no_step_and_none_is_empty(num_shards):
    episodes = [episode_of(length, lookback=2) for length in LENGTHS]
    shards = list(ShardEpisodesIterator(episodes, num_shards, len_lookback_buffer=2))
    totals = [sum(map(len, shard)) for shard in shards]
    assert sum(totals) == sum(LENGTHS) and min(totals) > 0
    for episode in (episode for shard in shards for episode in shard):
        first = episode.get_observations(0)
        assert episode.get_observations(-1, neg_index_as_lookback=True) == first - 1


def test_references_are_split_with_the_longer_parts_first():
    shards = ShardObjectRefIterator([*range(8)], 3)
    assert [*shards] == [[0, 1, 2], [3, 4, 5], [6, 7]]


# Episodes of one agent.


def grown(num_steps=4, **end):
    """Observation t, action 10 t, reward t, logp -t."""
    episode = SingleAgentEpisode()
    episode.add_env_reset(0, {"at": 0})
    for t in range(1, num_steps + 1):
        flags = end if t == num_steps else {}
        episode.add_env_step(
            t, 10 * t, float(t), {"at": t}, extra_model_outputs={"logp": -t}, **flags
        )
    return episode


def test_episode_begins_empty_and_grows_by_reset_and_steps():
    episode = SingleAgentEpisode()
    assert (len(episode), episode.is_reset, episode.t) == (0, False, 0)
    episode.add_env_reset(0)
    assert (len(episode), episode.is_reset, episode.is_done) == (0, True, False)
    episode = grown(3, terminated=True)
    assert (len(episode), episode.t, episode.get_return()) == (3, 3, 6.0)
    assert episode.is_terminated and not episode.is_truncated and episode.is_done
    assert episode.get_infos(-1) == {"at": 3}
    with pytest.raises(ValueError, match="done"):
        episode.add_env_step(4, 40, 4.0)


def test_length_leaves_the_lookback_out():
    numbers = [*range(6)]
    for lookback, want in ((0, 5), (2, 3), ("auto", 0)):
        episode = SingleAgentEpisode(
            observations=numbers,
            actions=numbers[1:],
            rewards=[1.0] * 5,
            len_lookback_buffer=lookback,
        )
        assert len(episode) == want
        assert episode.get_observations(0) == 5 - want


def test_cut_goes_on_where_the_chunk_ended():
    episode = grown(4)
    chunk = episode.cut(len_lookback_buffer=2)
    assert chunk.id_ == episode.id_ and (len(chunk), chunk.t_started) == (0, 4)
    chunk.add_env_step(5, 50, 5.0, extra_model_outputs={"logp": -5})
    assert chunk.get_observations() == [4, 5] and chunk.get_actions() == [50]
    before = chunk.get_actions([-2, -1], neg_index_as_lookback=True)
    assert before == [30, 40] and chunk.t == 5
    with pytest.raises(ValueError, match="done"):
        grown(2, truncated=True).cut()


def test_slices_keep_lookback_and_the_end():
    episode = grown(6, terminated=True)
    part = episode.slice(slice(2, 4), len_lookback_buffer=1)
    assert part.get_observations() == [2, 3, 4] and part.get_actions() == [30, 40]
    assert part.get_actions(-1, neg_index_as_lookback=True) == 20
    assert part.t_started == 2 and not part.is_done
    assert episode[4:].is_terminated and len(episode[-2:]) == 2


@pytest.mark.parametrize("is_numpy", [False, True])
def test_chunks_join_to_the_whole(is_numpy):
    first = grown(3)
    second = first.cut()
    for t in (4, 5):
        second.add_env_step(
            t,
            10 * t,
            float(t),
            truncated=t == 5,
            extra_model_outputs={"logp": -t},
        )
    other = grown(3).cut()
    if is_numpy:
        for chunk in (first, second):
            chunk.to_numpy()
    for stranger in (other, grown(2)):
        with pytest.raises(ValueError):
            first.concat_episode(stranger)
    first.concat_episode(second)
    assert list(first.get_observations()) == [0, 1, 2, 3, 4, 5]
    assert list(first.get_extra_model_outputs("logp")) == [-1, -2, -3, -4, -5]
    assert first.is_truncated and first.t == 5
    with pytest.raises(ValueError, match="done"):
        first.concat_episode(second)


@pytest.mark.parametrize("is_numpy", [False, True])
@pytest.mark.parametrize(
    ("indices", "more", "want"),
    [
        (0, {}, 2),
        (-1, {}, 6),
        ([0, -1], {}, [2, 6]),
        (slice(1, 3), {}, [3, 4]),
        (None, {}, [2, 3, 4, 5, 6]),
        (-1, {"neg_index_as_lookback": True}, 1),
        (slice(-2, 1), {"neg_index_as_lookback": True}, [0, 1, 2]),
        (slice(3, 7), {"fill": 9}, [5, 6, 9, 9]),
        ([-3, 0], {"neg_index_as_lookback": True, "fill": 9}, [9, 2]),
    ],
)
def test_items_are_found_by_every_kind_of_index(is_numpy, indices, more, want):
    episode = SingleAgentEpisode(
        observations=[*range(7)],
        actions=[*range(6)],
        rewards=[0.0] * 6,
        len_lookback_buffer=2,
        observation_space=gym.spaces.Discrete(10),
    )
    if is_numpy:
        episode.to_numpy()
    got = episode.get_observations(indices, **more)
    assert np.array_equal(got, want)
    assert isinstance(got, np.ndarray) == (is_numpy and isinstance(want, list))


def test_arrays_and_states_make_an_equal_episode():
    episode = grown(4, terminated=True)
    as_lists = episode.get_state()
    rebuilt = SingleAgentEpisode.from_state(as_lists)
    assert rebuilt.get_state() == as_lists
    episode.to_numpy()
    assert episode.is_numpy and episode.get_observations().tolist() == [0, 1, 2, 3, 4]
    rebuilt = SingleAgentEpisode.from_state(episode.get_state())
    assert rebuilt.is_numpy and rebuilt.is_terminated
    np.testing.assert_equal(rebuilt.get_state(), episode.get_state())
    assert rebuilt.get_infos() == [{"at": t} for t in range(5)]


# Episodes of many agents.


def conversation(num_steps=6):
    """Two agents act in turn, each on what it saw two steps before; rewards go to both."""
    episode = MultiAgentEpisode(
        agent_to_module_mapping_fn=lambda agent, _: f"m_{agent}"
    )
    episode.add_env_reset({"a": 0, "b": 100})
    for t in range(num_steps):
        actor, base = ("a", 0) if t % 2 == 0 else ("b", 100)
        episode.add_env_step({actor: base + t + 1}, {actor: t}, {"a": 1.0, "b": 10.0})
    return episode


def test_agents_step_at_different_times_and_rewards_wait_for_them():
    episode = conversation(5)
    a, b = (episode.agent_episodes[agent] for agent in "ab")
    assert (len(episode), len(a), len(b)) == (5, 3, 2)
    assert a.get_observations() == [0, 1, 3, 5] and a.get_actions() == [0, 2, 4]
    assert b.get_observations() == [100, 102, 104] and b.get_actions() == [1, 3]
    assert a.get_rewards() == [1.0, 2.0, 2.0] and b.get_rewards() == [20.0, 20.0]
    assert (a.module_id, b.module_id) == ("m_a", "m_b")
    assert {a.multi_agent_episode_id, b.multi_agent_episode_id} == {episode.id_}


def test_hanging_action_and_rewards_complete_with_the_next_observation():
    episode = MultiAgentEpisode()
    episode.add_env_reset({"a": 0, "b": 0})
    episode.add_env_step({"b": 1}, {"a": 7, "b": 1}, {"a": 0.5, "b": 0.0})
    assert len(episode.agent_episodes["a"]) == 0
    assert episode.get_agents_to_act() == ["b"]
    chunk = episode.cut()
    chunk.add_env_step({"a": 2, "b": 2}, {"b": 2}, {"a": 0.25, "b": 0.0})
    a = chunk.agent_episodes["a"]
    assert (a.get_observations(), a.get_actions()) == ([0, 2], [7])
    assert a.get_rewards() == [0.75] and chunk.get_agents_to_act() == ["a", "b"]


def test_agents_end_alone_or_with_the_episode():
    episode = MultiAgentEpisode()
    episode.add_env_reset({"a": 0, "b": 0})
    step = {"a": 1, "b": 1}
    episode.add_env_step(step, step, {"a": 0.0, "b": 0.0}, terminateds={"a": True})
    assert episode.agent_episodes["a"].is_terminated and not episode.is_done
    assert episode.get_agents_to_act() == ["b"]
    episode.add_env_step({"b": 2}, {"b": 1}, {"b": 0.0}, truncateds={"__all__": True})
    assert episode.is_truncated and episode.agent_episodes["b"].is_truncated
    assert not episode.agent_episodes["a"].is_truncated


def test_parts_of_many_agents_join_to_the_whole():
    whole = conversation(6)
    first, second = whole[:3], whole[3:]
    assert [len(e) for e in first.single_agent_episodes()] == [2, 1]
    first.concat_episode(second)
    assert first.get_state() == whole.get_state()
    assert MultiAgentEpisode.from_state(whole.get_state()).get_state() == (
        whole.get_state()
    )
