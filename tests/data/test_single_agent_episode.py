"""Tests for `tflearner.data.single_agent_episode`."""

import copy
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
import tree
from hypothesis import given, settings
from hypothesis import strategies as st

from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.errors import BatchError, UsageError


def grown(num_steps=5, *, observe=lambda t: np.float32([t, -t]), **done):
    """An episode that counts: observation t, action 10 + t, reward t / 2."""
    episode = SingleAgentEpisode(agent_id="a0", module_id="m0")
    episode.add_env_reset(observe(0), infos={"t": 0})
    for t in range(num_steps):
        episode.add_env_step(
            observe(t + 1),
            10 + t,
            t / 2,
            infos={"t": t + 1},
            extra_model_outputs={"action_logp": np.float32(-t)},
            **(done if t == num_steps - 1 else {}),
        )
    return episode


def nested(t):
    return {"image": np.full((2, 2), t, np.uint8), "rest": (np.float32([t]), t)}


def both_forms(**kwargs):
    return [grown(**kwargs), grown(**kwargs).to_numpy()]


def assert_same(first, second):
    """Everything that a state holds is equal, forms and dtypes included."""
    assert first.is_numpy == second.is_numpy
    states = first.get_state(), second.get_state()
    tree.assert_same_structure(*states)
    for got, want in zip(*map(tree.flatten, states), strict=True):
        np.testing.assert_array_equal(got, want)
        assert np.asarray(got).dtype == np.asarray(want).dtype


def test_new_episode_is_empty():
    episode = SingleAgentEpisode()
    assert len(episode) == episode.t == episode.t_started == 0
    assert not (episode.is_reset or episode.is_done or episode.is_numpy)
    assert episode.id_ != SingleAgentEpisode().id_


def test_steps_are_counted_and_kept():
    episode = grown(3, terminated=True)
    assert len(episode) == episode.t == 3
    assert len(episode.observations) == 4 and len(episode.infos) == 4
    assert episode.get_actions() == [10, 11, 12]
    assert episode.get_rewards(-1) == 1.0 and episode.get_return() == 1.5
    assert episode.get_extra_model_outputs("action_logp", [0, 2]) == [0.0, -2.0]
    assert list(episode.get_extra_model_outputs()) == ["action_logp"]
    assert episode.get_infos(-1) == {"t": 3}
    assert episode.is_terminated and not episode.is_truncated and episode.is_done


def test_to_numpy_stacks_all_but_infos():
    episode = grown(3)
    assert episode.to_numpy() is episode and episode.is_numpy
    assert episode.get_observations().shape == (4, 2)
    assert episode.get_observations().dtype == np.float32
    assert episode.get_actions().tolist() == [10, 11, 12]
    assert episode.get_infos(slice(0, 2)) == [{"t": 0}, {"t": 1}]
    episode.validate()


def test_to_numpy_of_nested_observations():
    episode = grown(3, observe=nested).to_numpy()
    observations = episode.get_observations()
    assert observations["image"].shape == (4, 2, 2)
    assert observations["rest"][1].tolist() == [0, 1, 2, 3]
    assert episode.get_observations(2)["rest"][0] == [2.0]


def test_to_numpy_without_steps_takes_shapes_from_the_spaces():
    episode = SingleAgentEpisode(action_space=gym.spaces.Box(-1, 1, (3,)))
    episode.add_env_reset(np.zeros(2))
    episode.to_numpy()
    assert episode.get_actions().shape == (0, 3)
    assert episode.get_observations().shape == (1, 2)


def test_to_numpy_of_ragged_observations_changes_nothing():
    episode = grown(2, observe=lambda t: np.zeros(t + 1))
    with pytest.raises(BatchError, match=r"unequal shapes \[\(1,\), \(2,\), \(3,\)\]"):
        episode.to_numpy()
    assert not episode.is_numpy and isinstance(episode.actions.data, list)


def test_arrays_are_taken_without_copying():
    columns = {
        "observations": {"x": np.zeros((6, 2)), "y": np.zeros(6)},
        "actions": np.arange(5),
        "rewards": np.ones(5, np.float32),
    }
    logp = np.zeros(5)
    episode = SingleAgentEpisode(
        **columns, extra_model_outputs={"action_logp": logp}, len_lookback_buffer=2
    )
    assert episode.is_numpy and len(episode) == 3
    assert np.shares_memory(
        episode.get_observations()["x"], columns["observations"]["x"]
    )
    assert np.shares_memory(episode.get_actions(), columns["actions"])
    assert np.shares_memory(episode[1:].get_rewards(), columns["rewards"])
    assert np.shares_memory(episode.get_extra_model_outputs("action_logp"), logp)
    assert episode.get_infos() == [{}, {}, {}, {}]


def test_lists_beside_arrays_become_arrays():
    episode = SingleAgentEpisode(
        observations=np.zeros((3, 1)),
        actions=[1, 0],
        rewards=[1.0, 2.0],
        infos=[{}] * 3,
    )
    assert episode.get_actions(slice(-2, None)).tolist() == [1, 0]


def test_lists_given_are_not_the_lists_that_grow():
    observations = [0]
    episode = SingleAgentEpisode(observations=observations)
    episode.add_env_step(1, 0, 0.0)
    assert observations == [0]


def test_all_data_are_lookback_by_default():
    episode = SingleAgentEpisode(
        observations=[0, 1, 2], actions=[0, 1], rewards=[0.0, 1.0], t_started=7
    )
    assert len(episode) == 0 and episode.t == 7
    assert episode.get_observations() == [2]
    assert episode.get_actions(-1) == 1
    episode.add_env_step(3, 2, 2.0)
    assert (len(episode), episode.t, episode.get_rewards()) == (1, 8, [2.0])


def test_a_finished_episode_of_lookback_only_is_an_error():
    with pytest.raises(UsageError, match="pass len_lookback_buffer=0"):
        SingleAgentEpisode(
            observations=[0, 1], actions=[0], rewards=[0.0], terminated=True
        )


def test_lookback_is_cut_to_the_steps_given():
    episode = SingleAgentEpisode(
        observations=[0, 1], actions=[0], rewards=[0.0], len_lookback_buffer=10
    )
    assert len(episode) == 0 and episode.rewards.lookback == 1


@pytest.mark.parametrize("lookback", [-1, "all"])
def test_lookback_must_be_a_count(lookback):
    with pytest.raises(UsageError, match="want 'auto' or int >= 0"):
        SingleAgentEpisode(len_lookback_buffer=lookback)


@pytest.mark.parametrize(
    ("column", "data"),
    [
        ("observations", np.zeros(3)),
        ("actions", np.zeros(2)),
        ("infos", [{}]),
        ("extra_model_outputs", {"action_logp": np.zeros(2)}),
    ],
)
def test_unequal_lengths_are_an_error(column, data):
    columns = {"observations": np.zeros(4), "actions": [0] * 3, "rewards": [0.0] * 3}
    SingleAgentEpisode(**columns).validate()
    name = "action_logp" if column == "extra_model_outputs" else column
    with pytest.raises(BatchError, match=f"column '{name}': got . items, want"):
        SingleAgentEpisode(**{**columns, column: data})


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_a_done_episode_takes_nothing_more(end):
    episode = grown(2, **{end: True})
    before = copy.deepcopy(episode)
    for call in (
        lambda: episode.add_env_step(0, 0, 0.0),
        lambda: episode.cut(),
        lambda: episode.concat_episode(grown(1)),
        lambda: episode.add_env_reset(0),
    ):
        with pytest.raises(UsageError, match="Nothing was changed"):
            call()
    assert_same(episode, before)


def test_nothing_goes_before_the_reset():
    for call in (
        lambda: SingleAgentEpisode().add_env_step(0, 0, 0.0),
        lambda: SingleAgentEpisode().cut(),
        lambda: SingleAgentEpisode(id_="e").concat_episode(SingleAgentEpisode(id_="e")),
    ):
        with pytest.raises(UsageError, match="an unreset episode"):
            call()


def test_an_episode_in_numpy_form_does_not_grow():
    episode = grown(2).to_numpy()
    with pytest.raises(UsageError, match=r"add steps before `to_numpy\(\)`"):
        episode.add_env_step(np.zeros(2), 0, 0.0)
    assert len(episode) == 2


def test_extra_model_outputs_are_the_same_in_each_step():
    episode = grown(2)
    with pytest.raises(UsageError, match=r"\['action_logp'\], as in the steps before"):
        episode.add_env_step(0, 0, 0.0, extra_model_outputs={"vf_preds": 1.0})
    assert len(episode) == 2 and len(episode.observations) == 3


def test_unknown_extra_model_output_names_the_closest():
    with pytest.raises(KeyError, match="did you mean 'action_logp'"):
        grown(1).get_extra_model_outputs("action_logps")


@pytest.mark.parametrize("episode", both_forms(num_steps=3), ids=["list", "numpy"])
def test_the_last_actions_before_each_step_are_filled_and_looked_up(episode):
    chunk = episode.slice(slice(1, None), len_lookback_buffer=1)
    got = [
        list(chunk.get_actions(slice(t - 3, t), neg_index_as_lookback=True, fill=0))
        for t in range(len(chunk) + 1)
    ]
    assert got == [[0, 0, 10], [0, 10, 11], [10, 11, 12]]


def test_missing_infos_are_filled_with_the_dict_given():
    assert grown(1).get_infos(slice(-1, 1), neg_index_as_lookback=True, fill={}) == [
        {},
        {"t": 0},
    ]


@pytest.mark.parametrize("episode", both_forms(), ids=["list", "numpy"])
def test_columns_can_be_replaced(episode):
    episode.set_rewards(new_data=[5.0, 4.0, 3.0, 2.0, 1.0])
    episode.set_actions(99, at_indices=-1)
    episode.set_observations(np.zeros((2, 2), np.float32), at_indices=slice(0, 2))
    episode.set_extra_model_outputs("action_logp", [0.5], [0])
    assert episode.get_return() == 15
    assert list(episode.get_actions()) == [10, 11, 12, 13, 99]
    assert np.sum(episode.get_observations(slice(0, 2))) == 0
    assert episode.get_extra_model_outputs("action_logp", 0) == 0.5
    episode.validate()


@pytest.mark.parametrize("whole", both_forms(), ids=["list", "numpy"])
def test_a_new_column_gets_zeros_as_lookback(whole):
    episode = whole.slice(slice(2, None), len_lookback_buffer=2)
    episode.set_extra_model_outputs("advantages", np.float32([1, 2, 3]))
    got = episode.get_extra_model_outputs("advantages", slice(-5, None))
    assert list(got) == [0, 0, 1, 2, 3]
    episode.validate()
    with pytest.raises(BatchError, match="want 3, one per step"):
        episode.set_extra_model_outputs("other", [1.0])


@pytest.mark.parametrize("episode", both_forms(), ids=["list", "numpy"])
def test_cut_continues_in_growing_form(episode):
    chunk = episode.cut(len_lookback_buffer=2)
    assert (chunk.id_, chunk.agent_id, chunk.module_id) == (episode.id_, "a0", "m0")
    assert (len(chunk), chunk.t_started, chunk.t) == (0, 5, 5)
    assert not chunk.is_numpy and not chunk.is_done
    np.testing.assert_array_equal(chunk.get_observations(0), [5, -5])
    assert chunk.get_actions([-2, -1], neg_index_as_lookback=True) == [13, 14]
    assert chunk.get_infos(-1, neg_index_as_lookback=True) == {"t": 4}
    chunk.add_env_step(
        np.zeros(2), 15, 9.0, extra_model_outputs={"action_logp": np.float32(0)}
    )
    assert (chunk.t, chunk.get_return(), len(episode)) == (6, 9.0, 5)


def test_cut_keeps_as_much_lookback_as_there_is():
    chunk = grown(2).cut(len_lookback_buffer=10).cut(len_lookback_buffer=10)
    assert chunk.get_actions(slice(-9, None)) == [10, 11]
    with pytest.raises(UsageError, match="len_lookback_buffer: got -1"):
        chunk.cut(-1)


def test_after_a_cut_without_lookback_the_module_may_compute_other_outputs():
    chunk = grown(2).cut()
    chunk.add_env_step(0, 0, 0.0, extra_model_outputs={"vf_preds": 1.0})
    assert list(chunk.extra_model_outputs) == ["vf_preds"]


@pytest.mark.parametrize("observe", [lambda t: np.float32([t, -t]), nested])
@pytest.mark.parametrize("first_is_numpy", [False, True])
@pytest.mark.parametrize("second_is_numpy", [False, True])
def test_cut_then_concat_is_the_unbroken_episode(
    observe, first_is_numpy, second_is_numpy
):
    whole = grown(5, observe=observe, truncated=True)
    first = grown(2, observe=observe)
    second = first.cut(len_lookback_buffer=1)
    for t in range(2, 5):
        second.add_env_step(
            observe(t + 1),
            10 + t,
            t / 2,
            infos={"t": t + 1},
            truncated=t == 4,
            extra_model_outputs={"action_logp": np.float32(-t)},
        )
    first = first.to_numpy() if first_is_numpy else first
    first.concat_episode(second.to_numpy() if second_is_numpy else second)
    whole.id_ = first.id_
    assert_same(first, whole.to_numpy() if first_is_numpy else whole)


@settings(deadline=None, max_examples=60)
@given(at=st.integers(0, 6), lookback=st.integers(0, 6), is_numpy=st.booleans())
def test_slices_join_to_the_whole(at, lookback, is_numpy):
    whole = both_forms(num_steps=6, terminated=True)[is_numpy]
    first, second = (
        whole[:at],
        whole.slice(slice(at, None), len_lookback_buffer=lookback),
    )
    assert (len(first), len(second), second.t_started) == (at, 6 - at, at)
    assert first.is_done == (at == 6) and second.is_terminated
    assert second.rewards.lookback == min(at, lookback)
    if at < 6:
        first.concat_episode(second)
    assert_same(first, whole)


@pytest.mark.parametrize("episode", both_forms(), ids=["list", "numpy"])
def test_slices_count_like_lists_and_keep_the_lookback(episode):
    assert list(episode[-2:].get_actions()) == [13, 14]
    assert list(episode[3:100].get_actions()) == [13, 14]
    assert len(episode[4:1]) == 0
    chunk = episode.slice(slice(3, 5), len_lookback_buffer=2)
    assert list(chunk.get_actions(slice(-2, 0), neg_index_as_lookback=True)) == [11, 12]
    again = chunk[1:]
    assert again.t_started == 4 and again.rewards.lookback == 2
    assert list(again.get_actions(slice(-3, None))) == [12, 13, 14]


@pytest.mark.parametrize("index", [0, slice(None, None, 2)])
def test_only_slices_without_a_step_make_episodes(index):
    with pytest.raises(UsageError, match="want a slice without a step"):
        grown(3)[index]


def test_concat_refuses_other_chunks_and_changes_nothing():
    episode = grown(3)
    before = copy.deepcopy(episode)
    other_id = grown(3).cut()
    gap = episode[2:]
    other_start = SingleAgentEpisode(
        episode.id_, observations=[np.zeros(2)], t_started=3, len_lookback_buffer=0
    )
    other_outputs = episode.cut()
    other_outputs.add_env_step(np.zeros(2), 0, 0.0, extra_model_outputs={"x": 1.0})
    for other, match in [
        (other_id, "got a chunk of .*, want one of"),
        (gap, "a chunk from t=2, want one from t=3"),
        (other_start, "another first observation"),
        (other_outputs, r"got extra_model_outputs \['x'\], want \['action_logp'\]"),
    ]:
        with pytest.raises(UsageError, match=match):
            episode.concat_episode(other)
    assert_same(episode, before)


def test_concat_of_unlike_arrays_changes_nothing():
    episode = grown(3).to_numpy()
    before = copy.deepcopy(episode)
    for action, logp in [(0, np.float32([1, 2])), (0.5, np.float32(1))]:
        other = episode.cut()
        outputs = {"action_logp": logp}
        other.add_env_step(np.zeros(2), action, 0.0, extra_model_outputs=outputs)
        with pytest.raises(BatchError, match="unequal arrays"):
            episode.concat_episode(other)
        assert_same(episode, before)


def test_concat_to_a_chunk_without_steps_takes_over_the_columns():
    whole = grown(3).to_numpy()
    start = whole[:0]
    del start.extra_model_outputs["action_logp"]
    start.concat_episode(whole)
    assert_same(start, whole)


def chunks():
    numpy_nested = grown(3, observe=nested, truncated=True).to_numpy()
    return [
        SingleAgentEpisode(),
        *both_forms(terminated=True),
        numpy_nested[1:],
        grown().cut(2),
    ]


@pytest.mark.parametrize("episode", chunks())
def test_state_round_trip(episode):
    state = episode.get_state()
    assert_same(SingleAgentEpisode.from_state(state), episode)
    scalars = {
        k: v for k, v in state.items() if not isinstance(v, (np.ndarray, list, dict))
    }
    json.dumps({k: v for k, v in scalars.items() if k != "observations"})
    assert_same(pickle.loads(pickle.dumps(episode)), episode)


@pytest.mark.parametrize("episode", both_forms(), ids=["list", "numpy"])
def test_copies_and_states_do_not_follow_later_changes(episode):
    copied, state = episode.copy(), episode.get_state()
    assert_same(copied, episode)
    episode.set_rewards(100.0, at_indices=0)
    if not episode.is_numpy:
        episode.add_env_step(0, 0, 0.0, extra_model_outputs={"action_logp": 0.0})
    for other in (copied, SingleAgentEpisode.from_state(state)):
        assert len(other) == 5 and other.get_return() == 5.0


# Actions of several parts.


def grown_with_nested_actions(num_steps=5, space=None):
    episode = SingleAgentEpisode(action_space=space)
    episode.add_env_reset(np.float32(0))
    for t in range(num_steps):
        episode.add_env_step(np.float32(t + 1), nested(t), 1.0)
    return episode


def test_nested_actions_in_both_forms():
    growing = grown_with_nested_actions()
    arrays = grown_with_nested_actions().to_numpy()
    assert arrays.get_actions()["image"].shape == (5, 2, 2)
    for t in (0, 3, -1):
        for episode in (growing, arrays):
            tree.map_structure(
                np.testing.assert_array_equal, episode.get_actions(t), nested(t % 5)
            )
    assert growing.get_actions(slice(1, 3)) == growing.actions.data[1:3]
    assert arrays.get_actions(slice(1, 3))["rest"][1].tolist() == [1, 2]


def test_nested_actions_go_through_parts_joins_and_states():
    for whole in (grown_with_nested_actions(), grown_with_nested_actions().to_numpy()):
        front, back = whole[:2], whole[2:]
        front.concat_episode(back)
        assert_same(front, whole)
        assert_same(SingleAgentEpisode.from_state(whole.get_state()), whole)
        chunk = whole.cut(2)
        assert not len(chunk) and not chunk.is_numpy
        chunk.add_env_step(np.float32(6), nested(5), 1.0)
        assert chunk.to_numpy().get_actions([-3, -1])["rest"][1].tolist() == [3, 5]


def test_missing_nested_actions_are_filled():
    space = gym.spaces.Dict(
        image=gym.spaces.Box(0, 255, (2, 2), np.uint8),
        rest=gym.spaces.Tuple([gym.spaces.Box(0, 9, (1,)), gym.spaces.Discrete(9)]),
    )
    for whole in (
        grown_with_nested_actions(space=space),
        grown_with_nested_actions(space=space).to_numpy(),
    ):
        filled = whole.get_actions(slice(-7, -4), fill=7)
        if isinstance(filled, list):
            filled = [action["rest"][1] for action in filled]
        else:
            filled = filled["rest"][1].tolist()
        assert filled == [7, 7, 0]
