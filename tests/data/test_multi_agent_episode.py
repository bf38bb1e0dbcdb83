"""Tests for `tflearner.data.multi_agent_episode`."""

import copy
import itertools
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
import tree
from hypothesis import given, settings
from hypothesis import strategies as st

from tflearner.data.multi_agent_episode import MultiAgentEpisode
from tflearner.errors import BatchError, UsageError

SEEDS = st.integers(0, 2**32 - 1)
OVER = {"__all__": True}


def played(seed, num_steps, *, end=None, cut_at=()):
    """An episode of agents that come, act, wait and go at random, and what happened.

    Observations are (agent, environment step) and actions count up, so all differ.
    `cut_at` says after which steps to go on in a new chunk; all chunks are returned.
    """
    rng = np.random.default_rng(seed)
    episode = MultiAgentEpisode(agent_to_module_mapping_fn=lambda agent, _: f"m{agent}")
    agents = range(4)
    first = [a for a in agents if rng.random() < 0.6] or [0]
    episode.add_env_reset({a: np.float32([a, 0]) for a in first})
    log = {a: {"times": [0], "actions": [], "rewards": [0.0]} for a in first}
    chunks, done, num_actions = [], set(), 0
    for t in range(1, num_steps + 1):
        observations, actions, rewards, ends = {}, {}, {}, {}
        hanging = [a for a in log if len(log[a]["actions"]) == len(log[a]["times"])]
        for a in set(log) - done:
            if a not in hanging:
                actions[a] = num_actions = num_actions + 1
                log[a]["actions"].append(num_actions)
            rewards[a] = float(rng.integers(1, 9))
            log[a]["rewards"][-1] += rewards[a]
            if rng.random() < 0.5:
                observations[a] = np.float32([a, t])
                log[a]["times"].append(t)
                log[a]["rewards"].append(0.0)
            ends[a] = bool(rng.random() < 0.1)
        for a in set(agents) - set(log):
            if rng.random() < 0.2:
                observations[a] = np.float32([a, t])
                log[a] = {"times": [t], "actions": [], "rewards": [0.0]}
        for a in [a for a, ended in ends.items() if ended or (end and t == num_steps)]:
            done.add(a)
            if len(log[a]["actions"]) == len(log[a]["times"]):
                log[a]["times"].append(t)
        episode.add_env_step(
            observations,
            actions,
            rewards,
            infos={a: {"t": t} for a in observations},
            terminateds=ends | {"__all__": end == "terminated" and t == num_steps},
            truncateds={"__all__": end == "truncated" and t == num_steps},
            extra_model_outputs={a: {"twice": 2 * x} for a, x in actions.items()},
        )
        if t in cut_at:
            chunks.append(episode)
            episode = episode.cut()
    return [*chunks, episode], log


def chess(num_moves=3, *, over=False):
    """White and black see the board in turn; a move gives 1 and costs the other 0.25."""
    episode = MultiAgentEpisode()
    episode.add_env_reset({"white": 0}, {"white": {"move": 0}})
    for t in range(num_moves):
        mover, other = ("white", "black") if t % 2 == 0 else ("black", "white")
        is_last = over and t == num_moves - 1
        episode.add_env_step(
            {} if is_last else {other: t + 1},
            {mover: 10 + t},
            {mover: 1.0, other: -0.25},
            {} if is_last else {other: {"move": t + 1}},
            terminateds={"__all__": is_last},
        )
    return episode


def assert_same(first, second):
    """Everything that a state holds is equal, forms and dtypes included."""
    states = first.get_state(), second.get_state()
    tree.assert_same_structure(*states)
    for got, want in zip(*map(tree.flatten, states), strict=True):
        np.testing.assert_array_equal(got, want)
        assert np.asarray(got).dtype == np.asarray(want).dtype


def without_agent_ids(episode):
    """The episode, with the agents' random episode ids made equal among episodes."""
    for agent_id, agent_episode in episode.agent_episodes.items():
        agent_episode.id_ = f"{episode.id_} {agent_id}"
    return episode


def test_new_episode_is_empty():
    episode = MultiAgentEpisode()
    assert len(episode) == episode.env_t == episode.agent_steps() == 0
    assert not (episode.is_reset or episode.is_done or episode.is_numpy)
    assert episode.agent_ids == episode.get_agents_to_act() == []
    assert episode.get_return() == 0 and episode.id_ != MultiAgentEpisode().id_


def test_agents_that_act_at_once():
    episode = MultiAgentEpisode()
    episode.add_env_reset({"a": 0, "b": 5}, infos={"b": {"x": 1}})
    for t in range(3):
        assert episode.get_agents_to_act() == ["a", "b"]
        episode.add_env_step(
            {"a": t + 1, "b": t + 6}, {"a": 10 + t, "b": 20 + t}, {"a": 1.0, "b": 2.0}
        )
    assert len(episode) == episode.env_steps() == episode.env_t == 3
    assert episode.agent_steps() == 6 and episode.get_return() == 9
    assert episode.agent_episodes["a"].get_actions() == [10, 11, 12]
    assert episode.agent_episodes["b"].get_observations() == [5, 6, 7, 8]
    assert episode.agent_episodes["b"].get_infos(0) == {"x": 1}


def test_agents_that_act_in_turn_get_the_sum_of_rewards():
    episode = chess(4)
    white, black = (episode.agent_episodes[name] for name in ("white", "black"))
    assert (len(episode), len(white), len(black)) == (4, 2, 1)
    assert white.get_observations() == [0, 2, 4] and white.get_actions() == [10, 12]
    assert white.get_rewards() == [0.75, 0.75]
    # Black's reward before its first move went to that move.
    assert black.get_observations() == [1, 3] and black.get_rewards() == [0.5]
    assert episode.get_agents_to_act() == ["white"]
    assert episode.get_agents_that_stepped() == ["white"]


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_hanging_steps_are_completed_at_the_end_with_the_last_observation(end):
    episode = chess(3)
    episode.add_env_step(
        {}, {"black": 13}, {"black": 1.0, "white": -1.0}, **{f"{end}s": OVER}
    )
    white, black = (episode.agent_episodes[name] for name in ("white", "black"))
    assert white.get_observations() == [0, 2, 2] and white.get_rewards(-1) == 0.0
    assert white.get_infos(-1) == {"move": 2}
    assert black.get_observations() == [1, 3, 3] and black.get_rewards(-1) == 1.0
    for e in (episode, white, black):
        assert (e.is_terminated, e.is_truncated) == (
            end == "terminated",
            end == "truncated",
        )
    assert episode.get_agents_to_act() == []


def test_agents_join_later_with_the_module_of_their_first_observation():
    asked = []

    def mapping(agent_id, episode):
        asked.append((agent_id, episode.id_, episode.env_t))
        return f"m{len(asked)}"

    episode = MultiAgentEpisode(agent_to_module_mapping_fn=mapping)
    episode.add_env_reset({"a": 0})
    episode.add_env_step({"a": 1, "b": 5}, {"a": 0}, {"a": 1.0})
    episode.add_env_step({"a": 2, "b": 6}, {"a": 0, "b": 1}, {"a": 1.0, "b": 1.0})
    assert asked == [("a", episode.id_, 0), ("b", episode.id_, 0)]
    assert [episode.module_for(agent_id) for agent_id in "ab"] == ["m1", "m2"]
    later = episode.cut()
    assert later.module_for("b") == "m2" and len(asked) == 2
    assert episode.agent_episodes["b"].get_observations() == [5, 6]


def test_training_sees_the_agents_that_have_steps():
    episode = MultiAgentEpisode(agent_to_module_mapping_fn=lambda agent, _: f"m{agent}")
    episode.add_env_reset({"a": 0})
    episode.add_env_step({"a": 1, "b": 5}, {"a": 0}, {"a": 1.0})
    (only,) = episode.single_agent_episodes()
    assert only is episode.agent_episodes["a"]
    assert (only.agent_id, only.module_id) == ("a", "ma")
    assert only.multi_agent_episode_id == episode.id_


def test_the_default_module_acts_for_all():
    assert MultiAgentEpisode().module_for("a") == "default_policy"


@pytest.mark.parametrize("module_id", [None, "", 3])
def test_a_mapping_must_return_a_module_id(module_id):
    episode = MultiAgentEpisode(agent_to_module_mapping_fn=lambda *_: module_id)
    with pytest.raises(BatchError, match="want the id of a module"):
        episode.add_env_reset({"a": 0})
    assert not episode.is_reset


def test_an_agent_ends_early():
    episode = MultiAgentEpisode()
    episode.add_env_reset({"a": 0, "b": 5})
    episode.add_env_step(
        {"a": 1, "b": 6},
        {"a": 0, "b": 0},
        {"a": 1.0, "b": 1.0},
        terminateds={"b": True, "__all__": False},
    )
    assert episode.get_agents_to_act() == ["a"] and not episode.is_done
    assert episode.agent_episodes["b"].is_terminated
    episode.add_env_step({"a": 2}, {"a": 0}, {"a": 1.0}, truncateds=OVER)
    assert (len(episode), episode.agent_steps()) == (2, 3) and episode.is_truncated
    assert not episode.agent_episodes["b"].is_truncated


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_without_the_key_all_an_episode_ends_with_its_agents(end):
    episode = chess(2)
    acts = {"white": 12}, {"white": 0.0}
    episode.add_env_step({"black": 3}, *acts, **{f"{end}s": {"white": True}})
    assert not episode.is_done
    acts = {"black": 13}, {"black": 0.0}
    episode.add_env_step({}, *acts, truncateds={"black": True})
    assert episode.is_terminated == (end == "terminated")
    assert episode.is_truncated == (end == "truncated")


def test_an_environment_whose_agents_are_done_may_wait_for_others():
    episode = MultiAgentEpisode()
    episode.add_env_reset({"a": 0})
    ends = {"a": True, "__all__": False}
    episode.add_env_step({"a": 1}, {"a": 0}, {"a": 1.0}, terminateds=ends)
    later = episode.cut()
    later.add_env_step({"b": 0}, {}, {})
    assert later.get_agents_to_act() == ["b"] and not later.is_done


def test_rewards_without_a_step_go_to_the_next_or_the_last():
    episode = MultiAgentEpisode()
    episode.add_env_reset({"a": 0})
    episode.add_env_step({"a": 1}, {"a": 0}, {"a": 1.0, "b": 4.0})
    episode.add_env_step({}, {}, {"a": 0.5})
    episode.add_env_step({"a": 2}, {"a": 0}, {"a": 2.0})
    assert episode.get_rewards(env_steps=False) == {"a": [1.0, 2.5]}
    episode.add_env_step({}, {}, {"a": 8.0}, terminateds=OVER)
    assert episode.get_rewards(env_steps=False) == {"a": [1.0, 10.5]}


@pytest.mark.parametrize(
    ("observations", "actions", "rewards", "match"),
    [
        (
            {},
            {"x": 1},
            {"x": 0.0},
            "'x' at env_t=3: got an action, want an observation",
        ),
        ({}, {"white": 1}, {}, "'white' at env_t=3: got a second action"),
        ({"black": 4}, {}, {}, "got a second observation, want an action on the first"),
        ({"black": 4}, {"black": 1}, {}, "want a reward with them"),
        ({"gone": 4}, {}, {}, "'gone' at env_t=3: got data for an agent that is done"),
        (
            {},
            {},
            {"gone": 0.0},
            "'gone' at env_t=3: got data for an agent that is done",
        ),
        (
            [4],
            {},
            {},
            r"add_env_step\(\), observations: got list, want a dict by agent",
        ),
        ({"white": 4}, {"black": 1}, None, "rewards: got NoneType"),
    ],
)
def test_agents_out_of_order_are_an_error(observations, actions, rewards, match):
    episode = MultiAgentEpisode()
    episode.add_env_reset({"white": 0, "black": 0, "gone": 0})
    acts = dict.fromkeys(episode.agent_ids, 0), dict.fromkeys(episode.agent_ids, 1.0)
    episode.add_env_step(
        {"white": 1, "black": 1, "gone": 1},
        *acts,
        terminateds={"gone": True, "__all__": False},
    )
    episode.add_env_step({"black": 2}, {"black": 0, "white": 0}, {"black": 0.0})
    episode.add_env_step({"black": 3}, {"black": 0}, {"black": 0.0})
    before = episode.copy()
    with pytest.raises(BatchError, match=match):
        episode.add_env_step(observations, actions, rewards)
    assert_same(episode, before)


def test_extra_model_outputs_are_the_same_in_each_step_of_an_agent():
    episode = chess(3)
    before = episode.copy()
    extra = {"black": {"x": 1}}
    with pytest.raises(BatchError, match=r"got extra_model_outputs \['x'\], want \[\]"):
        episode.add_env_step({}, {"black": 0}, {}, extra_model_outputs=extra)
    assert_same(episode, before)
    episode.cut().add_env_step({}, {"black": 0}, {}, extra_model_outputs=extra)


def test_a_done_episode_takes_nothing_more():
    episode = chess(3, over=True)
    before = episode.copy()
    for call in (
        lambda: episode.add_env_step({}, {}, {}),
        lambda: episode.cut(),
        lambda: episode.concat_episode(chess(1)),
        lambda: episode.add_env_reset({"white": 0}),
    ):
        with pytest.raises(UsageError, match="Nothing was changed"):
            call()
    assert_same(episode, before)


def test_nothing_goes_before_the_reset():
    for call in (
        lambda: MultiAgentEpisode().add_env_step({}, {}, {}),
        lambda: MultiAgentEpisode().cut(),
        lambda: MultiAgentEpisode("e").concat_episode(MultiAgentEpisode("e")),
    ):
        with pytest.raises(UsageError, match="an unreset episode"):
            call()
    with pytest.raises(BatchError, match="want one for at least one agent"):
        MultiAgentEpisode().add_env_reset({})


def test_an_episode_in_numpy_form_does_not_grow():
    episode = chess(3).to_numpy()
    with pytest.raises(UsageError, match=r"add steps before `to_numpy\(\)`"):
        episode.add_env_step({}, {"black": 0}, {"black": 0.0})
    assert len(episode) == 3


@settings(deadline=None, max_examples=60)
@given(
    seed=SEEDS, num_steps=st.integers(0, 12), end=st.sampled_from([None, "truncated"])
)
def test_each_agent_gets_what_was_meant_for_it(seed, num_steps, end):
    (episode,), log = played(seed, num_steps, end=end)
    assert len(episode) == episode.env_t == num_steps
    assert set(episode.agent_ids) == set(log)
    for agent_id, want in log.items():
        got = episode.agent_episodes[agent_id]
        num = len(want["times"]) - 1
        assert len(got) == num
        assert got.get_actions() == want["actions"][:num]
        assert got.get_rewards() == want["rewards"][:num]
        outputs = got.get_extra_model_outputs("twice") if num else []
        assert outputs == [2 * action for action in got.get_actions()]
        assert episode._observed_at[agent_id] == want["times"]
        assert got.module_id == f"m{agent_id}"
    episode.validate()


def test_reading_by_environment_steps():
    episode = chess(4)
    assert episode.get_observations(0) == {"white": 0}
    assert episode.get_observations(-1) == {"white": 4}
    assert episode.get_observations() == {"white": [0, 2, 4], "black": [1, 3]}
    assert episode.get_observations(slice(1, 4)) == {"white": [2], "black": [1, 3]}
    assert episode.get_observations([3, 0], ["white"]) == {"white": [0]}
    assert episode.get_infos(1) == {"black": {"move": 1}}
    assert episode.get_actions(1) == {"black": 11}
    # The last move has no result yet.
    assert episode.get_actions(3) == {} and episode.get_rewards(2) == {"white": 0.75}
    with pytest.raises(IndexError):
        episode.get_actions(4)


def test_reading_by_agent_steps():
    episode = chess(4)
    assert episode.get_observations(-1, env_steps=False) == {"white": 4, "black": 3}
    assert episode.get_rewards(slice(0, 1), env_steps=False) == {
        "white": [0.75],
        "black": [0.5],
    }
    assert episode.get_actions(0, ["black"], env_steps=False) == {"black": 11}


def test_reading_extra_model_outputs():
    (episode,), log = played(3, 8)
    agent_id = max(log, key=lambda a: len(log[a]["times"]))
    want = [2 * a for a in episode.agent_episodes[agent_id].get_actions()]
    assert len(want) > 1
    got = episode.get_extra_model_outputs("twice", None, [agent_id])
    assert got == {agent_id: want}
    got = episode.get_extra_model_outputs(agent_ids=[agent_id], env_steps=False)
    assert got == {agent_id: {"twice": want}}
    with pytest.raises(KeyError, match="did you mean 'twice'"):
        episode.get_extra_model_outputs("twise")


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, at=st.integers(0, 8), is_numpy=st.booleans())
def test_reading_a_slice_is_reading_these_steps(seed, at, is_numpy):
    (episode,), _ = played(seed, 8, end="terminated")
    episode = episode.to_numpy() if is_numpy else episode
    later = episode[at:]
    for k in range(at, 9):
        want = episode.get_observations(k)
        got = later.get_observations(k - at)
        if k > at:  # At the border, agents that are done by then are left out.
            assert got.keys() == want.keys()
        for agent_id, observation in got.items():
            np.testing.assert_array_equal(observation, want[agent_id])
        if k < 8:
            assert later.get_rewards(k - at) == episode.get_rewards(k)


def test_to_numpy_stacks_all_but_infos():
    episode = chess(4)
    assert episode.to_numpy() is episode and episode.is_numpy
    assert episode.get_observations()["white"].tolist() == [0, 2, 4]
    assert episode.agent_episodes["black"].get_rewards().tolist() == [0.5]
    assert episode.get_infos([0]) == {"white": [{"move": 0}]}
    episode.validate()


def test_to_numpy_of_ragged_observations_changes_nothing():
    episode = MultiAgentEpisode()
    episode.add_env_reset({"a": np.zeros(2), "b": np.zeros(2)})
    episode.add_env_step(
        {"a": np.zeros(2), "b": np.zeros(3)}, {"a": 0, "b": 0}, {"a": 0.0, "b": 0.0}
    )
    with pytest.raises(BatchError, match="unequal shapes"):
        episode.to_numpy()
    assert not any(e.is_numpy for e in episode.agent_episodes.values())


def test_spaces_of_agents_are_those_of_their_columns():
    episode = MultiAgentEpisode(
        action_space=gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (3,))})
    )
    episode.add_env_reset({"a": np.zeros(2)})
    assert episode.to_numpy().agent_episodes["a"].get_actions().shape == (0, 3)


def test_validate_finds_columns_and_clocks_that_do_not_fit():
    episode = chess(4)
    episode.validate()
    broken = episode.copy()
    broken.agent_episodes["white"].rewards.data.append(0.0)
    with pytest.raises(BatchError, match="column 'observations': got 3 items, want 4"):
        broken.validate()
    broken = episode.copy()
    broken._observed_at["black"] = [1, 1]
    with pytest.raises(BatchError, match="agent 'black'.*want 2 ascending steps"):
        broken.validate()


def test_cut_goes_on_with_hanging_steps():
    episode = chess(3)
    later = episode.cut()
    assert (len(later), later.env_t_started, later.env_t) == (0, 3, 3)
    assert later.id_ == episode.id_ and later.get_agents_to_act() == ["black"]
    later.add_env_step({"white": 4}, {"black": 13}, {"white": -0.25, "black": 1.0})
    white = later.agent_episodes["white"]
    assert (white.t_started, white.t) == (1, 2)
    assert white.get_observations() == [2, 4] and white.get_actions() == [12]
    assert white.get_rewards() == [0.75]
    assert white.id_ == episode.agent_episodes["white"].id_
    assert len(episode.agent_episodes["white"]) == 1
    # It was not in this chunk that white moved.
    assert later.get_actions() == {} and later.get_observations(0) == {"black": 3}


def test_cut_keeps_lookback_of_each_agent_and_leaves_out_the_done():
    episode = chess(6)
    ends = {"white": True, "__all__": False}
    episode.add_env_step({"black": 7}, {"white": 16}, {"white": 0.0}, terminateds=ends)
    later = episode.cut(len_lookback_buffer=2)
    assert later.agent_ids == ["black"] and not later.is_numpy
    black = later.agent_episodes["black"]
    assert len(black) == 0 and black.rewards.lookback == 2
    assert black.get_actions([-2, -1], neg_index_as_lookback=True) == [13, 15]
    later.validate()


@settings(deadline=None, max_examples=60)
@given(
    seed=SEEDS,
    cut_at=st.sets(st.integers(1, 8)),
    end=st.sampled_from([None, "terminated", "truncated"]),
    numpy_from=st.integers(0, 9),
)
def test_cut_then_concat_is_the_unbroken_episode(seed, cut_at, end, numpy_from):
    (whole,), _ = played(seed, 8, end=end)
    chunks, _ = played(seed, 8, end=end, cut_at=cut_at - {8})
    for chunk in chunks[numpy_from:]:
        chunk.to_numpy()
    first, *others = chunks
    for other in others:
        before = other.copy()
        first.concat_episode(other)
        assert_same(other, before)
    whole.id_ = first.id_
    for agent_episode in whole.agent_episodes.values():
        agent_episode.multi_agent_episode_id = first.id_
    whole = whole.to_numpy() if first.is_numpy else whole
    assert_same(without_agent_ids(first), without_agent_ids(whole))


@settings(deadline=None, max_examples=60)
@given(
    seed=SEEDS,
    borders=st.lists(st.integers(0, 8), max_size=4).map(sorted),
    lookback=st.sampled_from([None, 0, 2]),
    is_numpy=st.booleans(),
)
def test_slices_join_to_the_whole(seed, borders, lookback, is_numpy):
    (whole,), _ = played(seed, 8, end="terminated")
    whole = whole.to_numpy() if is_numpy else whole
    borders = [0, *borders, 8]
    parts = [
        whole.slice(slice(a, b), len_lookback_buffer=lookback)
        for a, b in itertools.pairwise(borders)
    ]
    for part, (a, b) in zip(parts, itertools.pairwise(borders), strict=True):
        part.validate()
        assert (len(part), part.env_t_started, part.env_t) == (b - a, a, b)
        assert part.is_terminated == (b == 8)
    assert sum(p.get_return() for p in parts if len(p)) == whole.get_return()
    parts = [part for part in parts if len(part)]
    assert sum(part.agent_steps() for part in parts) == whole.agent_steps()
    joined = parts[0]
    for part in parts[1:]:
        joined.concat_episode(part)
    assert_same(joined, whole)


def test_slices_count_like_lists_and_keep_lookback():
    episode = chess(6)
    part = episode.slice(slice(2, 5), len_lookback_buffer=1)
    white, black = (part.agent_episodes[name] for name in ("white", "black"))
    assert (white.t_started, white.t, white.rewards.lookback) == (1, 2, 1)
    assert white.get_actions(slice(-2, None)) == [10, 12]
    assert (black.t_started, black.t, black.rewards.lookback) == (0, 2, 0)
    assert len(episode[-2:]) == 2 and len(episode[4:1]) == 0
    again = part[1:]
    assert again.env_t_started == 3 and again.agent_episodes["white"].t_started == 1
    again.validate()
    # A chunk's indices count from its own first step, whatever lookback it has.
    assert part.get_observations(slice(1, None)) == {"white": [4], "black": [3, 5]}
    assert again.get_observations() == {"white": [4], "black": [3, 5]}


@pytest.mark.parametrize("is_numpy", [False, True])
def test_negative_environment_steps_reach_the_lookback(is_numpy):
    later = chess(5).cut(len_lookback_buffer=2)
    later.add_env_step({"white": 6}, {"black": 15}, {"black": 0.5})
    if is_numpy:
        later.to_numpy()

    def read(method, *args, **kwargs):
        items = getattr(later, method)(*args, **kwargs)
        return {a: np.asarray(own).tolist() for a, own in items.items()}

    # The chunk has environment steps 5 and 6, and reaches back to step 0.
    assert read("get_observations") == {"white": [6], "black": [5]}
    assert read("get_observations", -1) == {"white": 6}
    assert read("get_observations", -3) == {"white": 4}
    assert read("get_observations", [-4, -6]) == {"black": [3, 1]}
    assert read("get_observations", slice(-4, None)) == {
        "white": [4, 6],
        "black": [3, 5],
    }
    assert read("get_actions", slice(-3, None)) == {"white": [14], "black": [13]}
    assert read("get_rewards", -2) == {"white": 1.0}
    assert read("get_observations", -1, neg_index_as_lookback=True) == {"white": 4}
    assert read("get_actions", [-2, -1], "black", neg_index_as_lookback=True) == {
        "black": [13]
    }
    with pytest.raises(IndexError, match="index -9 is outside"):
        later.get_observations(-9)


def test_slices_hold_the_agents_that_were_there():
    episode = MultiAgentEpisode()
    episode.add_env_reset({"a": 0, "b": 0})
    step = {"a": 0, "b": 0}, {"a": 0.0, "b": 0.0}
    ends = {"b": True, "__all__": False}
    episode.add_env_step({"a": 1, "b": 1}, *step, terminateds=ends)
    episode.add_env_step({"a": 2, "c": 2}, {"a": 0}, {"a": 0.0})
    assert [episode[t : t + 1].agent_ids for t in (0, 1)] == [["a", "b"], ["a", "c"]]
    assert episode[:1].agent_episodes["b"].is_terminated


def test_a_copy_holds_the_agents_that_ended_without_a_step():
    episode = chess(3).cut()
    ends = {"black": True, "__all__": False}
    episode.add_env_step({}, {}, {}, terminateds=ends)
    assert_same(episode.copy(), episode)
    assert episode.agent_ids == ["white", "black"]


@pytest.mark.parametrize("index", [0, slice(None, None, 2)])
def test_only_slices_without_a_step_make_episodes(index):
    with pytest.raises(UsageError, match="want a slice without a step"):
        chess(3)[index]


def test_concat_refuses_other_chunks_and_changes_nothing():
    episode = chess(3)
    before = episode.copy()
    less = episode.cut()
    del less.agent_episodes["white"], less._observed_at["white"]
    other_board = episode.cut()
    other_board.add_env_step({"white": 4}, {"black": 13}, {"black": 1.0})
    other_board.agent_episodes["black"].observations.data[0] = 99
    for other, match in [
        (chess(3).cut(), "got a chunk of .*, want one of"),
        (episode[2:], "a chunk from env_t=2, want one from env_t=3"),
        (less, r"a chunk without \['white'\]"),
        (other_board, "another first observation"),
    ]:
        with pytest.raises(UsageError, match=match):
            episode.concat_episode(other)
        assert_same(episode, before)


def test_after_a_concat_the_parts_change_independently():
    episode = MultiAgentEpisode()
    episode.add_env_reset({"a": 0})
    other = episode.cut()
    other.add_env_step({"a": 1, "b": 5}, {"a": 0}, {"a": 0.0})
    before = other.copy()
    episode.concat_episode(other)
    step = {"a": 2, "b": 6}, {"a": 0, "b": 0}, {"a": 0.0, "b": 0.0}
    episode.add_env_step(*step)
    assert_same(other, before)


@pytest.mark.parametrize("is_numpy", [False, True])
def test_state_round_trip(is_numpy):
    chunks, _ = played(5, 8, cut_at=[4])
    for episode in [MultiAgentEpisode(), chess(3), chess(3, over=True), *chunks]:
        episode = episode.to_numpy() if is_numpy else episode
        state = episode.get_state()
        assert_same(MultiAgentEpisode.from_state(state), episode)
    episode = chess(3)
    json.dumps(episode.get_state())
    assert_same(pickle.loads(pickle.dumps(episode)), episode)


def test_a_restored_episode_goes_on():
    spaces = {"white": gym.spaces.Discrete(9)}
    state = json.loads(json.dumps(chess(3).get_state()))
    episode = MultiAgentEpisode.from_state(state, action_space=spaces)
    episode.add_env_step({"white": 4}, {"black": 13}, {"white": 2.0, "black": 1.0})
    assert episode.agent_episodes["white"].get_rewards() == [0.75, 3.0]
    assert episode.agent_episodes["white"].actions.space is spaces["white"]


@pytest.mark.parametrize("is_numpy", [False, True])
def test_copies_and_states_do_not_follow_later_changes(is_numpy):
    episode = chess(3).to_numpy() if is_numpy else chess(3)
    copied, state, before = episode.copy(), episode.get_state(), copy.deepcopy(episode)
    assert_same(copied, episode)
    episode.agent_episodes["white"].set_rewards(100.0, at_indices=0)
    if not is_numpy:
        episode.add_env_step({"white": 4}, {"black": 0}, {"black": 0.0})
    assert_same(copied, before)
    assert_same(MultiAgentEpisode.from_state(state), before)
