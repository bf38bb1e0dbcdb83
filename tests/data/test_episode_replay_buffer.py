"""Tests for `tflearner.data.episode_replay_buffer` and the ring below it."""

import collections
import copy
import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import tree

from tflearner.checkpoint.directory import CheckpointDirectory, read_checkpoint
from tflearner.data import allocation, arrays
from tflearner.data.episode_replay_buffer import EpisodeReplayBuffer
from tflearner.data.multi_agent_episode import MultiAgentEpisode
from tflearner.data.prioritized_episode_replay_buffer import (
    PrioritizedEpisodeReplayBuffer,
)
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.errors import (
    BatchError,
    CheckpointMismatchError,
    ConfigError,
    SpaceError,
    UsageError,
)

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
NUMBER = Box(-1e6, 1e6, (), np.float32)
BOTH = pytest.mark.parametrize(
    "kind", [EpisodeReplayBuffer, PrioritizedEpisodeReplayBuffer]
)


def make(capacity=50, *, kind=EpisodeReplayBuffer, seed=0, **settings):
    settings = {"observation_space": NUMBER, "action_space": Discrete(1000)} | settings
    return kind(capacity, seed=seed, **settings)


def chunk(id_, start, steps, *, first=0, lookback=0, numpy=False, **flags):
    """Observation, action and reward of step t follow from `first` + t.

    They are: itself, modulo 1000, and plus 0.5.
    """
    t = first + np.arange(start - lookback, start + steps + 1)
    episode = SingleAgentEpisode(
        id_,
        observations=[np.float32(x) for x in t],
        actions=[np.int64(x % 1000) for x in t[:-1]],
        rewards=[float(x) + 0.5 for x in t[:-1]],
        t_started=start,
        len_lookback_buffer=lookback,
        **flags,
    )
    return episode.to_numpy() if numpy else episode


class Oracle:
    """Keeps all pieces of episodes for ever, and looks up what should be there."""

    def __init__(self, capacity):
        self.capacity, self.num_rows = capacity, 0
        self.pieces, self.open = [], {}
        self.met = collections.Counter()

    def is_here(self, arrival):
        return arrival >= self.num_rows - self.capacity

    def add(self, episode):
        piece = self.open.get(episode.id_)
        observations = list(episode.get_observations())
        if piece is not None and not self.is_here(piece["arrivals"][-1]):
            self.met["the open row was overwritten"] += 1
            piece = None
        elif piece is not None and piece["t"] != episode.t_started:
            self.met["a gap"] += 1
            piece = None
        if piece is None:
            piece = {"obs": [], "actions": [], "rewards": [], "arrivals": []}
            piece |= {"flags": (False, False), "t": episode.t_started}
            self.pieces.append(piece)
            new = observations
        else:
            self.met["went on"] += 1
            self.met["without a step"] += len(episode) == 0
            new = observations[1:]
        if len(new) > self.capacity:
            self.met["longer than the ring"] += 1
        before = piece["arrivals"][-1:]
        for observation in new:
            piece["obs"].append(observation)
            piece["arrivals"].append(self.num_rows)
            self.num_rows += 1
        if before and len(new) and not self.is_here(before[0]):
            self.met["overwrote the row it went on from"] += 1
        piece["actions"] += list(episode.get_actions())
        piece["rewards"] += [float(r) for r in episode.get_rewards()]
        piece["t"] += len(episode)
        piece["flags"] = (episode.is_terminated, episode.is_truncated)
        self.open[episode.id_] = piece
        if episode.is_done:
            del self.open[episode.id_]

    def rows(self, n, gamma):
        """{observation: the n-step row that starts there}, by the definition."""
        found = {}
        for piece in self.pieces:
            length = len(piece["actions"])
            for t in range(length):
                if not self.is_here(piece["arrivals"][t]):
                    continue
                m = min(n, length - t)
                is_last = t + m == length
                found[float(piece["obs"][t])] = {
                    "actions": int(piece["actions"][t]),
                    "rewards": sum(
                        gamma**k * piece["rewards"][t + k] for k in range(m)
                    ),
                    "new_obs": float(piece["obs"][t + m]),
                    "terminateds": is_last and piece["flags"][0],
                    "truncateds": is_last and piece["flags"][1],
                    "n_step": m,
                }
        return found

    def num_episodes(self):
        return sum(self.is_here(piece["arrivals"][-1]) for piece in self.pieces)


def stream(seed, rounds=40, envs=4):
    """Yields what is added together: chunks of interleaved episodes, with gaps.

    And `None` where all episodes end without a word.
    """
    rng = np.random.default_rng(seed)
    number = 0  # Of episodes; each has its own thousands of observations.
    now = {}
    for _ in range(rounds):
        together = []
        for env in rng.integers(envs, size=rng.integers(1, 5)):
            if env not in now:
                number += 1
                now[env] = (f"e{number}", 1000 * number, 0)
            id_, first, t = now[env]
            steps = int(
                rng.choice([0, 1, 1, 2, 3, 5, 8, 40], p=[0.1] + [0.15] * 6 + [0])
            )
            steps = 40 if rng.random() < 0.02 else steps
            flag = rng.choice(["terminated", "truncated", "", ""]) if steps else ""
            episode = chunk(
                id_,
                t,
                steps,
                first=first,
                lookback=int(rng.integers(0, min(t, 3) + 1)),
                numpy=bool(rng.integers(2)),
                **({flag: True} if flag else {}),
            )
            now[env] = (id_, first, t + steps)
            if flag or rng.random() < 0.05:  # Or nothing more is heard of it.
                del now[env]
            if rng.random() < 0.95:  # Otherwise this chunk is lost.
                together.append(episode)
        yield together
        if rng.random() < 0.05:
            yield None


def run(buffer, oracle, together):
    if together is None:
        buffer.end_episodes()
        oracle.open.clear()
        return
    buffer.add(together)
    for episode in together:
        oracle.add(episode)


def assert_same(batch, rows):
    columns = {name: column.tolist() for name, column in batch.items()}
    for i, observation in enumerate(columns["obs"]):
        want = rows[observation]
        got = {name: columns[name][i] for name in want}
        assert got == {**want, "rewards": pytest.approx(want["rewards"], rel=1e-6)}


@BOTH
@pytest.mark.parametrize("capacity", [2, 3, 7, 20, 1000])
@pytest.mark.parametrize("seed", [0, 1])
def test_draws_all_that_a_slow_oracle_has_and_nothing_else(kind, capacity, seed):
    buffer, oracle = make(capacity, kind=kind), Oracle(capacity)
    for step, together in enumerate(stream(seed)):
        run(buffer, oracle, together)
        n = 1 + step % min(4, capacity - 1)
        rows = oracle.rows(n, 0.9)
        assert len(buffer) == buffer.get_num_timesteps() == len(rows)
        assert buffer.get_num_episodes() == oracle.num_episodes()
        assert buffer.get_added_timesteps() == sum(
            len(piece["actions"]) for piece in oracle.pieces
        )
        if rows:
            batch = buffer.sample(200, n_step=n, gamma=0.9)
            assert_same(batch, rows)
            if len(rows) < 12:  # Each is missed with a probability of (11 / 12)^200.
                assert set(batch["obs"].tolist()) == set(rows)


def test_the_streams_cross_every_branch():
    met = collections.Counter()
    for capacity in (2, 3, 7, 20):
        for seed in (0, 1):
            oracle = Oracle(capacity)
            for together in stream(seed):
                for episode in together or ():
                    oracle.add(episode)
                if together is None:
                    oracle.open.clear()
            met += oracle.met
    assert len(met) == 6 and min(met.values()) > 0, met


def test_a_chunk_without_a_step_does_not_renew_the_row_it_goes_on_from():
    buffer, oracle = make(4), Oracle(4)
    resets = [chunk("a", 0, 0), chunk("b", 0, 0, first=100), chunk("a", 0, 0)]
    later = [chunk("c", 0, 2, first=200), chunk("a", 0, 1), chunk("b", 0, 1, first=100)]
    for episode in [*resets, *later]:
        run(buffer, oracle, [episode])
        assert len(buffer) == len(oracle.rows(1, 1.0))
        assert buffer.get_num_episodes() == oracle.num_episodes()
    assert oracle.met["the open row was overwritten"] == 2


@pytest.mark.parametrize("seed", range(3))
def test_links_never_point_to_rows_that_were_overwritten(seed):
    buffer = make(17)
    for together in stream(seed, rounds=100):
        run(buffer, Oracle(17), together)
        store = buffer._store
        slots = np.flatnonzero(store.links[: store.num_rows] >= 0)
        here, after = store.positions(slots), store.positions(store.links[slots])
        assert np.all(after > here) and np.all(after < store.num_added)
        assert np.all(here >= store.oldest)
        assert store.observations[0][store.links[slots]].tolist() == [
            x + 1 for x in store.observations[0][slots]
        ]


def test_a_pair_draws_the_number_of_steps_uniformly():
    buffer = make()
    buffer.add(chunk("a", 0, 40))
    batch = buffer.sample(4000, n_step=(2, 5), gamma=1.0)
    inside = batch["obs"] < 36
    counts = np.bincount(batch["n_step"][inside].astype(int), minlength=7)
    assert counts[:2].sum() == counts[6] == 0
    assert chi_square(counts[2:6], np.full(4, inside.sum() / 4)) < 16.3  # p = 0.001.
    np.testing.assert_array_equal(batch["new_obs"] - batch["obs"], batch["n_step"])


def chi_square(counts, wanted):
    return float(np.sum((counts - wanted) ** 2 / wanted))


@pytest.mark.parametrize(("length", "share"), [(99, 0.99), (1, 0.5), (0, 0.02)])
def test_all_steps_are_equally_likely(length, share):
    """Where nearly all rows start a step, half of them, and hardly any."""
    buffer = make(100)
    lengths = [length] * (100 // (length + 1)) if length else [0] * 97 + [2]
    for i, steps in enumerate(lengths):
        buffer.add(chunk(f"e{i}", 0, steps, first=1000 * i))
    assert len(buffer) == round(100 * share)
    drawn = buffer.sample(20_000)["obs"]
    _, counts = np.unique(drawn, return_counts=True)
    num = len(buffer)
    assert len(counts) == num
    # The sum has the mean num - 1 and the variance 2 (num - 1); four deviations.
    limit = num - 1 + 4 * np.sqrt(2 * (num - 1))
    assert chi_square(counts, np.full(num, 20_000 / num)) < limit


def test_draws_that_find_too_few_steps_take_the_rest_from_all():
    class Unlucky:
        """Finds the first row, and then the last, on which nothing follows."""

        def integers(self, high, size):
            return np.array([0] + [high - 1] * (size - 1))

    buffer = make()
    buffer.add(chunk("a", 0, 5))
    assert buffer._store.draw(3, Unlucky()).tolist() == [0, 0, 4]


def test_observations_are_stored_once_and_sizes_are_known_before():
    space = Box(0, 255, (84, 84), np.uint8)
    buffer = make(64, observation_space=space)
    per_row = 84 * 84 + 8 + 4 + 1 + 1 + 4  # Frame, action, reward, flags, link.
    store = buffer._store
    held = [*store.observations, *store.actions, store.rewards, store.links]
    held += [store.terminateds, store.truncateds]
    assert buffer.nbytes == 64 * per_row == sum(array.nbytes for array in held)
    assert buffer.describe() == "64 observations, 452.7 kB"
    frame = np.zeros((84, 84), np.uint8)
    for t in range(50):  # 51 frames, if the one that chunks share is stored once.
        buffer.add(
            SingleAgentEpisode(
                "a",
                observations=[frame + t, frame + t + 1],
                actions=[0],
                rewards=[0.0],
                t_started=t,
                len_lookback_buffer=0,
            )
        )
    assert (store.num_rows, len(buffer)) == (51, 50)
    batch = buffer.sample(8, n_step=2)
    assert batch["obs"].dtype == batch["new_obs"].dtype == np.uint8
    assert batch["obs"].shape == batch["new_obs"].shape == (8, 84, 84)
    gap = batch["new_obs"].astype(int) - batch["obs"]
    assert (gap == batch["n_step"][:, None, None]).all()


NEST = gym.spaces.Dict(
    {
        "b": gym.spaces.Tuple([Discrete(2**20), Box(0, 255, (2, 1), np.uint8)]),
        "a": Box(-1e6, 1e6, (3,), np.float64),
        "c": gym.spaces.MultiBinary(4),
    }
)
NEST_OF_ACTIONS = gym.spaces.Tuple([Discrete(1000), Box(-1, 1, (2,), np.float32)])


def nested(x):
    bits = np.array([x >> i & 1 for i in range(4)], np.int8)
    frame = np.full((2, 1), x % 256, np.uint8)
    return {"a": np.full(3, x / 3), "b": (np.int64(x), frame), "c": bits}


@pytest.mark.parametrize("numpy", [False, True], ids=["lists", "arrays"])
def test_nested_observations_and_actions(numpy):
    buffer = make(20, observation_space=NEST, action_space=NEST_OF_ACTIONS)
    for start, steps in [(0, 5), (5, 1), (6, 12)]:
        times = range(start, start + steps)
        episode = SingleAgentEpisode(
            "a",
            observations=[nested(t) for t in [*times, start + steps]],
            actions=[(t, np.full(2, t / 50, np.float32)) for t in times],
            rewards=[0.0] * steps,
            t_started=start,
            len_lookback_buffer=0,
        )
        buffer.add(episode.to_numpy() if numpy else episode)
    batch = buffer.sample(30)
    for i, x in enumerate(batch["obs"]["b"][0].tolist()):
        for column, number in (("obs", x), ("new_obs", x + 1)):
            got = tree.map_structure(lambda leaf, i=i: leaf[i], batch[column])
            tree.map_structure(np.testing.assert_array_equal, got, nested(number))
        assert batch["actions"][0][i] == x
        assert batch["actions"][1][i].tolist() == [np.float32(x / 50)] * 2
    dtypes = tree.map_structure(lambda leaf: leaf.dtype.name, batch["obs"])
    assert dtypes == {"a": "float64", "b": ("int64", "uint8"), "c": "int8"}


@BOTH
def test_batches_are_fresh_aligned_arrays_with_fixed_dtypes(kind):
    buffer = make(kind=kind, observation_space=Box(0, 99, (3,), np.float32))
    observations = np.arange(36, dtype=np.float32).reshape(12, 3)
    episode = SingleAgentEpisode(
        observations=observations,
        actions=np.arange(11),
        rewards=np.ones(11),
        truncated=True,
        len_lookback_buffer=0,
    )
    buffer.add(episode)
    first, again = buffer.sample(7, n_step=3), buffer.sample(7, n_step=3)
    assert {name: column.dtype.name for name, column in first.items()} == {
        "obs": "float32",
        "new_obs": "float32",
        "actions": "int64",
        "rewards": "float32",
        "terminateds": "bool",
        "truncateds": "bool",
        "n_step": "float32",
        "weights": "float32",
    }
    held = [*buffer._store.observations, *buffer._store.actions]
    for name, column in first.items():
        assert len(column) == 7 and arrays.is_aligned(column)
        assert not any(np.shares_memory(column, x) for x in [*held, again[name]])
        column[...] = 0
    before = buffer.get_state()["transitions"]["observations"][0]
    np.testing.assert_array_equal(before, observations)
    assert buffer.get_sampled_timesteps() == 14


def test_a_seed_repeats_what_is_drawn():
    def drawn(seed):
        buffer = make(seed=seed)
        buffer.add(chunk("a", 0, 30))
        return buffer.sample(20, n_step=(1, 3))["obs"].tolist()

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(None) != drawn(None)


def test_ends_are_kept_and_other_ends_close_no_row():
    buffer = make()
    buffer.add([chunk("a", 0, 1, terminated=True), chunk("b", 0, 1, first=100)])
    buffer.end_episodes()
    buffer.add(chunk("b", 1, 1, first=100, truncated=True))
    batch = buffer.sample(100, n_step=3)
    ends = set(
        zip(
            *(
                batch[name].tolist()
                for name in ("obs", "n_step", "terminateds", "truncateds")
            )
        )
    )
    assert ends == {
        (0.0, 1.0, True, False),
        (100.0, 1.0, False, False),
        (101.0, 1.0, False, True),
    }


# What is refused.


def refused(error, match, function, *args, **kwargs):
    with pytest.raises(error, match=match) as caught:
        function(*args, **kwargs)
    assert "Nothing was changed" in str(caught.value)


def bad_episode(**columns):
    columns = {
        "observations": [np.float32(0), np.float32(1)],
        "actions": [0],
        "rewards": [0.0],
        "len_lookback_buffer": 0,
    } | columns
    return SingleAgentEpisode("bad", **columns)


BAD_EPISODES = {
    "shape": (bad_episode(observations=np.zeros((2, 3), np.float32)), "observations"),
    "ragged": (
        bad_episode(observations=[np.zeros(1), np.zeros(2)]),
        "'bad', column 'observations': got items of unequal shapes",
    ),
    "structure": (bad_episode(observations=[{"a": 1}, {"a": 2}]), "a dict"),
    "unequal items": (
        bad_episode(observations=[{"a": 1}, {"b": 2}]),
        "unequal structure",
    ),
    "texts": (bad_episode(observations=["x", "y"]), "got <U1"),
    "kind of action": (bad_episode(actions=np.zeros(1, np.float32)), "'actions'"),
    "column of rewards": (bad_episode(rewards=np.zeros((1, 1))), "'rewards'"),
    "texts as rewards": (bad_episode(rewards=["x"]), "'rewards'"),
    "ragged rewards": (bad_episode(rewards=[[1.0, 2.0], [1.0]][:1]), "'rewards'"),
    "end without a step": (
        SingleAgentEpisode("bad", observations=[np.float32(0)], terminated=True),
        "the end of an episode without its last step",
    ),
    "many agents": (MultiAgentEpisode(), "single_agent_episodes"),
    "no episode": ("x", "a str"),
}


@BOTH
@pytest.mark.parametrize("name", BAD_EPISODES)
def test_bad_episodes_are_refused_and_nothing_is_added(kind, name):
    buffer = make(kind=kind)
    buffer.add(chunk("a", 0, 3))
    before = repr(buffer.get_state())
    episode, match = BAD_EPISODES[name]
    refused(BatchError, match, buffer.add, [chunk("a", 3, 2), episode])
    assert repr(buffer.get_state()) == before


def test_columns_that_were_cut_behind_the_episodes_back_are_refused():
    episode = chunk("a", 0, 3)
    episode.actions.data.pop()
    refused(BatchError, r"'actions': got int64 \(2,\), want int64 \(3,\)", add, episode)
    episode = chunk("a", 0, 3)
    episode.observations.data.pop()
    refused(BatchError, "'observations'", add, episode)


def add(episode):
    make().add(episode)


def test_numbers_of_other_dtypes_are_taken_where_none_is_lost():
    buffer = make(observation_space=Box(0, 255, (), np.uint8))
    buffer.add(bad_episode(observations=np.array([0, 255])))
    assert buffer.sample(1)["obs"].dtype == np.uint8
    for numbers in ([0, 256], [-1, 0], [0.0, 1.0]):
        episode = bad_episode(observations=np.array(numbers))
        refused(BatchError, "want uint8", buffer.add, episode)
    buffer = make()
    buffer.add(bad_episode(observations=np.array([0.1, 2.0])))
    assert set(buffer.sample(9)["obs"].tolist()) == {float(np.float32(0.1))}


def test_episodes_without_a_reset_and_empty_lists_add_nothing():
    buffer = make()
    buffer.add([])
    buffer.add([SingleAgentEpisode(), SingleAgentEpisode("a")])
    assert (len(buffer), buffer.get_num_episodes()) == (0, 0)
    buffer.add(chunk("a", 0, 0))
    assert (len(buffer), buffer.get_num_episodes()) == (0, 1)


@BOTH
def test_impossible_draws_are_refused(kind):
    buffer = make(10, kind=kind)
    refused(UsageError, "0 observations and 0 steps.*add episodes", buffer.sample, 1)
    buffer.add(chunk("a", 0, 0))
    refused(UsageError, "1 observations and 0 steps", buffer.sample, 1)
    buffer.add(chunk("a", 0, 5))
    before = repr(buffer.get_state())
    for num in (0, -1, 2.0, True, None):
        refused(UsageError, "num_items", buffer.sample, num)
    for n_step in (0, 1.5, None, (1, 2, 3), (3, 2), (0, 2), 10, (1, 10), "12"):
        refused(UsageError, "n_step", buffer.sample, 1, n_step=n_step)
    for gamma in (-0.1, 1.1, np.nan, None, "1"):
        refused(UsageError, "gamma", buffer.sample, 1, gamma=gamma)
    assert repr(buffer.get_state()) == before
    assert len(buffer.sample(1, n_step=9, gamma=1)["obs"]) == 1


def test_impossible_buffers_are_refused():
    for capacity in (1, 0, 2.5, None):
        refused(UsageError, "capacity", make, capacity)
    refused(UsageError, "seed", make, seed=-1)
    refused(SpaceError, "observation_space", make, observation_space=gym.spaces.Text(3))
    refused(SpaceError, "action_space", make, action_space=gym.spaces.Dict({}))
    space = gym.spaces.Dict({"x": gym.spaces.Text(3)})
    refused(SpaceError, r"observation_space\['x'\]", make, observation_space=space)


@BOTH
def test_more_than_the_machine_has_is_refused_before_it_is_made(kind, monkeypatch):
    monkeypatch.setattr(allocation, "machine_memory", lambda: 1_000_000)
    monkeypatch.setattr(allocation, "zeros", None)
    with pytest.raises(
        ConfigError,
        match=r"capacity=1,000,000.*got a buffer of .* MB, want 1.0 MB, this machine's "
        r"memory.*at most .*memmap_dir",
    ):
        make(1_000_000, kind=kind)
    monkeypatch.undo()
    largest = allocation.machine_memory() // 18  # One row has more.
    refused(ConfigError, "memory", make, largest, kind=kind)


# On a disk.


@BOTH
def test_a_buffer_on_a_disk_draws_the_same_and_leaves_nothing_behind(kind, tmp_path):
    room = tmp_path / "new" / "room"
    mapped, plain = make(30, kind=kind, memmap_dir=room), make(30, kind=kind)
    assert mapped.describe() == f"{plain.describe()} in {room}"
    is_mapped = [isinstance(a.base, np.memmap) for a in mapped._store.observations]
    assert is_mapped == [True] and type(mapped._store.observations[0]) is np.ndarray
    for together in stream(0):
        for buffer in (mapped, plain):
            run(buffer, Oracle(30), together)
    batches = mapped.sample(50, n_step=3), plain.sample(50, n_step=3)
    tree.map_structure(np.testing.assert_array_equal, *batches)
    assert repr(mapped.get_state()) == repr(plain.get_state())
    assert os.listdir(room) == []


def test_a_disk_that_is_too_small_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(allocation, "free_disk", lambda path: 10_000)
    monkeypatch.setattr(allocation, "zeros", None)
    refused(
        ConfigError,
        r"12\.0 kB, want 10\.0 kB, what is free in .*at most 833",
        make,
        1000,
        memmap_dir=tmp_path,
    )


def test_a_disk_that_refuses_is_told_so(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    refused(ConfigError, "No space left", make, memmap_dir=tmp_path)
    monkeypatch.delattr(os, "posix_fallocate")
    assert len(make(memmap_dir=tmp_path)) == 0
    (tmp_path / "file").touch()
    refused(ConfigError, "a directory to write", make, memmap_dir=tmp_path / "file")


# State.


def assert_goes_on_alike(first, second, *, seed=5):
    for together in stream(seed, rounds=15):
        for buffer in (first, second):
            run(buffer, Oracle(1), together)
        if len(first):
            batches = [b.sample(20, n_step=(1, 2)) for b in (first, second)]
            tree.map_structure(np.testing.assert_array_equal, *batches)
            if isinstance(first, PrioritizedEpisodeReplayBuffer):
                errors = batches[0]["obs"]
                first.update_priorities(errors), second.update_priorities(errors)
    assert repr(first.get_state()) == repr(second.get_state())


def used(kind, capacity=30, seed=0, rounds=15):
    buffer = make(capacity, kind=kind, seed=seed)
    for together in stream(seed, rounds=rounds):
        run(buffer, Oracle(1), together)
    buffer.sample(40, n_step=(1, 3))
    if kind is PrioritizedEpisodeReplayBuffer:
        buffer.update_priorities(np.arange(40) / 7)
    return buffer


@BOTH
@pytest.mark.parametrize("rounds", [1, 3, 25], ids=["few", "some", "full"])
def test_a_state_goes_into_a_buffer_with_other_content(kind, rounds):
    saved, other = used(kind, rounds=rounds), used(kind, seed=7)
    state = saved.get_state()
    other.set_state(state)
    before = repr(state)
    assert repr(other.get_state()) == repr(saved.get_state())
    assert len(other) == len(saved)
    assert_goes_on_alike(saved, other)
    assert repr(state) == before != repr(saved.get_state())  # It is a copy.


def test_what_was_saved_can_be_rebuilt_on_a_disk(tmp_path):
    saved = used(EpisodeReplayBuffer)
    saved.save_to_path(tmp_path / "saved")
    room = str(tmp_path / "room")
    rebuilt = EpisodeReplayBuffer.from_checkpoint(tmp_path / "saved", memmap_dir=room)
    assert rebuilt.describe().endswith(room)
    assert_goes_on_alike(saved, rebuilt)


@BOTH
def test_no_file_decides_where_a_buffer_is(kind, tmp_path):
    saved, room = used(kind), tmp_path / "room"
    saved.memmap_dir = str(room)  # As if it had been made there.
    path = saved.save_to_path(tmp_path / "saved")
    own = kind.from_checkpoint(path)  # Nothing to warn of: no file holds the directory.
    checkpoint = read_checkpoint(path)
    checkpoint.about["arguments"]["memmap_dir"] = str(room)
    path = CheckpointDirectory(tmp_path / "b").save(checkpoint.state, checkpoint.about)
    with pytest.warns(UserWarning, match="sets memmap_dir"):
        forged = kind.from_checkpoint(path)
    for buffer in (own, forged):
        assert buffer.memmap_dir is None and not room.exists()
        assert buffer.restore_report.dropped == ("memmap_dir",)
        assert_goes_on_alike(used(kind), buffer)


@BOTH
def test_checkpoints_restore_and_rebuild_exactly(kind, tmp_path):
    saved, other = used(kind), used(kind, seed=7)
    saved.save_to_path(tmp_path)
    rebuilt = kind.from_checkpoint(tmp_path)
    report = other.restore_from_path(tmp_path)
    assert "transitions" in report.loaded and not report.kept
    assert rebuilt.get_ctor_args_and_kwargs() == saved.get_ctor_args_and_kwargs()
    assert_goes_on_alike(saved, rebuilt)
    again = kind.from_checkpoint(tmp_path)
    assert_goes_on_alike(other, again)


def test_rebuilding_needs_no_tensorflow(tmp_path):
    used(EpisodeReplayBuffer).save_to_path(tmp_path)
    code = (
        "import sys\n"
        "from tflearner.data.episode_replay_buffer import EpisodeReplayBuffer\n"
        f"buffer = EpisodeReplayBuffer.from_checkpoint({str(tmp_path)!r})\n"
        "print(len(buffer), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(len(used(EpisodeReplayBuffer))), "False"]


@BOTH
def test_a_checkpoint_that_does_not_fit_changes_nothing(kind, tmp_path):
    used(kind).save_to_path(tmp_path)
    other = used(kind, capacity=31, seed=3)
    before = repr(other.get_state())
    with pytest.raises(CheckpointMismatchError, match="'capacity'.*30.*31"):
        other.restore_from_path(tmp_path)
    report = other.restore_from_path(tmp_path, strict=False)
    assert "transitions" in report.kept and not report.loaded
    assert repr(other.get_state()) == before


def changed(state, path, value):
    state = copy.deepcopy(state)
    *parents, name = path
    node = state
    for parent in parents:
        node = node[parent]
    if value is KeyError:
        del node[name]
    else:
        node[name] = value(node[name]) if callable(value) else value
    return state


def with_item(index, value):
    def change(array):
        array = array.copy()
        array[index] = value
        return array

    return change


def with_first_linked_to_itself(links):
    firsts = np.setdiff1d(np.flatnonzero(links >= 0), links)
    return with_item(firsts[0], firsts[0])(links)


def with_two_before_one(links):
    """Lets the oldest step of a ring that is full end where the newest one does."""
    end = used(EpisodeReplayBuffer).get_state()["transitions"]["num_added"]
    by_age = (end + np.arange(30)) % 30
    linked = by_age[links[by_age] >= 0]
    return with_item(linked[0], links[linked[-1]])(links)


BAD_STATES = {
    "no dict": ([], 3),
    "missing": (["rng"], KeyError),
    "unexpected": (["more"], 1),
    "count": (["num_sampled"], -1),
    "rng": (["rng", "state"], 5),
    "other rng": (["rng", "bit_generator"], "MT19937"),
    "huge rng": (["rng", "state", "state"], 2**130),
    "no store": (["transitions"], []),
    "store without a part": (["transitions", "links"], KeyError),
    "capacity": (["transitions", "capacity"], 7),
    "bool": (["transitions", "num_steps_added"], True),
    "leaves": (["transitions", "observations"], lambda x: x * 2),
    "no leaves": (["transitions", "actions"], None),
    "dtype": (
        ["transitions", "observations", 0],
        lambda x: x.astype(np.float64),
    ),
    "rows": (["transitions", "rewards"], lambda x: x[1:]),
    "list": (["transitions", "rewards"], lambda x: x.tolist()),
    "link out of range": (["transitions", "links"], with_item(0, 30)),
    "link below": (["transitions", "links"], with_item(0, -2)),
    "link to itself": (["transitions", "links"], with_first_linked_to_itself),
    "links to one row": (["transitions", "links"], with_two_before_one),
    "flag in the middle": (["transitions", "terminateds"], lambda x: x | True),
    "open": (["transitions", "open_episodes"], 0),
    "open entry": (["transitions", "open_episodes"], [["a", 1]]),
    "open evicted": (["transitions", "open_episodes"], [["a", 1, 1]]),
    "open time": (["transitions", "open_episodes", 0, 2], -1),
    "open id": (["transitions", "open_episodes", 0, 0], lambda x: [x]),
    "open twice": (["transitions", "open_episodes"], lambda x: [x[0], x[0]]),
    "open in the future": (["transitions", "open_episodes", -1, 1], 10**6),
}


@BOTH
@pytest.mark.parametrize("name", BAD_STATES)
def test_bad_states_are_refused_and_nothing_is_changed(kind, name):
    path, value = BAD_STATES[name]
    saved = used(kind)
    assert saved.get_state()["transitions"]["open_episodes"]
    state = changed(saved.get_state(), path, value) if path else value
    other = used(kind, seed=7)
    before = repr(other.get_state())
    refused(
        CheckpointMismatchError, f"state of a {kind.__name__}", other.set_state, state
    )
    assert repr(other.get_state()) == before
