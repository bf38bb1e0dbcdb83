"""Cases that RLlib's own tests and examples hold of learner connectors."""

import copy

import numpy as np
import pytest
import tensorflow as tf
import tree

from tflearner.columns import Columns
from tflearner.connectors.batching import AgentToModuleMapping, BatchIndividualItems
from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.episode_columns import (
    AddColumnsFromEpisodesToTrainBatch,
    AddNextObservationsFromEpisodesToTrainBatch,
    AddObservationsFromEpisodesToBatch,
    AddOneTsToEpisodesAndTruncate,
)
from tflearner.connectors.gae import GeneralAdvantageEstimation, StandardizeAdvantages
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.connectors.states import (
    AddStatesFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
)
from tflearner.data.multi_agent_episode import MultiAgentEpisode
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.errors import BatchError, ConfigError
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.rl_module import MultiRLModule, RLModule
from tflearner.testing import assert_close

GAMMA, LAMBDA = 0.9, 0.8


class Critic(RLModule, ValueFunctionAPI):
    """The value of an observation is its number, and 0.5 more."""

    def compute_values(self, batch, embeddings=None):
        return tf.cast(batch[Columns.OBS], tf.float32) + 0.5

    def get_state(self, *args, **kwargs):
        return {}

    def set_state(self, state):
        pass


class Remembering(Critic):
    """Its state after the step from observation x is x + 1."""

    def get_initial_state(self):
        return {"h": np.zeros(2, np.float32)}


def episode(length, *, start=0, module_id=None, lookback=0, **end):
    """Observations start, start + 1, ...; the action is the observation times 10."""
    t = np.arange(start - lookback, start + length + 1)
    return SingleAgentEpisode(
        observations=list(t),
        actions=list(10 * t[:-1]),
        rewards=list(0.25 * t[1:]),
        module_id=module_id,
        t_started=start,
        len_lookback_buffer=lookback,
        extra_model_outputs={
            "state_out": [{"h": np.full(2, x, "f")} for x in t[1:]],
            "action_logp": list(-t[1:]),
        },
        **end,
    )


def run(pieces, episodes, *, modules=None, batch=None):
    modules = MultiRLModule({"m": Critic()} if modules is None else modules)
    pipeline = LearnerConnectorPipeline(pieces)
    return pipeline(rl_module=modules, batch=batch or {}, episodes=episodes)


def lists(batch):
    return tree.map_structure(lambda x: x.tolist(), batch)


TO_COLUMNS = (AddObservationsFromEpisodesToBatch, AddColumnsFromEpisodesToTrainBatch)
TO_BATCH = (AgentToModuleMapping, BatchIndividualItems)


def made(*classes):
    return [cls() for cls in classes]


# Rows and columns.


def test_one_artificial_row_closes_each_episode_and_none_of_them_grows():
    episodes = [episode(2, truncated=True), episode(5, terminated=True), episode(1)]
    states = [copy.deepcopy(e.get_state()) for e in episodes]
    batch = run(made(AddOneTsToEpisodesAndTruncate, *TO_COLUMNS), episodes)
    assert [len(rows) for rows in batch[Columns.OBS]] == [3, 6, 2]
    assert lists(batch[Columns.LOSS_MASK]) == [
        [True, True, False],
        [True] * 5 + [False],
        [True, False],
    ]
    assert lists(batch[Columns.TERMINATEDS])[1] == [False] * 4 + [True, False]
    # The last episode goes on: it is cut off after its last real row.
    truncateds = [[False, True, False], [False] * 6, [True, False]]
    assert lists(batch[Columns.TRUNCATEDS]) == truncateds
    assert not any(np.any(flags) for flags in batch[Columns.TERMINATEDS][::2])
    assert [rewards[-1] for rewards in batch[Columns.REWARDS]] == [0.0] * 3
    np.testing.assert_equal([e.get_state() for e in episodes], states)


def test_columns_are_read_from_episodes():
    episodes = [episode(2, terminated=True), episode(1, start=3, lookback=1)]
    batch = run(made(*TO_COLUMNS), episodes)
    assert lists(batch) == {
        "obs": [[0, 1], [3]],
        "actions": [[0, 10], [30]],
        "rewards": [[0.25, 0.5], [1.0]],
        "terminateds": [[False, True], [False]],
        "truncateds": [[False, False], [False]],
        "action_logp": [[-1, -2], [-4]],
    }


def test_columns_that_are_there_are_left_alone():
    own = [np.array([7.0, 7.0])]
    batch = run(made(*TO_COLUMNS), [episode(2)], batch={Columns.REWARDS: own})
    assert batch[Columns.REWARDS] is own


def test_next_observations_follow_the_actions():
    pieces = made(TO_COLUMNS[0], AddNextObservationsFromEpisodesToTrainBatch)
    batch = run(pieces, [episode(3), episode(2, start=5, lookback=2)])
    assert lists(batch) == {"obs": [[0, 1, 2], [5, 6]], "new_obs": [[1, 2, 3], [6, 7]]}


# Modules.


def test_each_module_gets_the_rows_of_its_own_episodes():
    episodes = [
        episode(2, module_id="a"),
        episode(1, start=5, module_id="b"),
        episode(1, start=8, module_id="a"),
    ]
    pieces = made(*TO_COLUMNS, *TO_BATCH)
    batch = run(pieces, episodes, modules={"a": Critic(), "b": Critic()})
    assert {mid: own["obs"].tolist() for mid, own in batch.items()} == {
        "a": [0, 1, 8],
        "b": [5],
    }
    assert batch["a"]["actions"].tolist() == [0, 10, 80]


def test_items_of_one_agent_go_to_the_only_module():
    batch = run(made(*TO_COLUMNS, *TO_BATCH), [episode(2), episode(1)])
    assert [*batch] == ["m"] and batch["m"]["obs"].tolist() == [0, 1, 0]


def test_agents_of_one_episode_are_sorted_by_module():
    joint = MultiAgentEpisode(
        agent_to_module_mapping_fn=lambda agent, _: f"m{agent % 2}"
    )
    joint.add_env_reset({agent: agent for agent in range(3)})
    for t in (10, 20):
        seen = {agent: t + agent for agent in range(3)}
        joint.add_env_step(seen, seen, dict.fromkeys(range(3), 1.0))
    modules = {"m0": Critic(), "m1": Critic()}
    pieces = made(*TO_COLUMNS, *TO_BATCH)
    batch = run(pieces, joint.single_agent_episodes(), modules=modules)
    assert batch["m0"]["obs"].tolist() == [0, 10, 2, 12]
    assert batch["m1"]["obs"].tolist() == [1, 11]


# Sequences.

TO_SEQUENCES = (AddTimeDimToBatchAndZeroPad, AddStatesFromEpisodesToBatch)


def remembering(max_seq_len=3):
    return {"m": Remembering(model_config={"max_seq_len": max_seq_len})}


def test_episodes_become_sequences_with_states_lengths_and_a_mask():
    pieces = made(*TO_COLUMNS, *TO_SEQUENCES, *TO_BATCH)
    episodes = [episode(4), episode(2, start=6, lookback=1)]
    batch = run(pieces, episodes, modules=remembering())["m"]
    assert batch["obs"].tolist() == [[0, 1, 2], [3, 0, 0], [6, 7, 0]]
    assert batch["seq_lens"].tolist() == [3, 1, 2]
    assert (batch["loss_mask"].sum(axis=1) == [3, 1, 2]).all()
    # The initial one; that of the step before; that of the lookback.
    assert batch["state_in"]["h"].tolist() == [[0, 0], [3, 3], [6, 6]]


def test_a_mask_that_is_there_is_padded_and_kept():
    pieces = made(AddOneTsToEpisodesAndTruncate, *TO_COLUMNS, *TO_SEQUENCES, *TO_BATCH)
    batch = run(pieces, [episode(4)], modules=remembering())["m"]
    assert batch["seq_lens"].tolist() == [3, 2]
    assert batch["loss_mask"].tolist() == [[True, True, True], [True, False, False]]


def test_modules_without_a_state_get_no_time_axis():
    batch = run(made(*TO_COLUMNS, *TO_SEQUENCES, *TO_BATCH), [episode(4)])["m"]
    assert batch["obs"].shape == (4,) and "seq_lens" not in batch


def test_a_module_with_a_state_needs_a_length_of_sequences():
    pieces = made(*TO_COLUMNS, *TO_SEQUENCES)
    with pytest.raises(ValueError, match="max_seq_len"):
        run(pieces, [episode(4)], modules=remembering(None))


# Pipelines.


class Nothing(ConnectorV2):
    def __call__(self, **kwargs):
        return None


class Tag(ConnectorV2):
    def __call__(self, *, batch, **kwargs):
        return {**batch, "order": batch.get("order", []) + [type(self).__name__]}


class One(Tag):
    pass


class Two(Tag):
    pass


class Three(Tag):
    pass


def test_pieces_are_put_everywhere_and_run_in_order():
    pipeline = LearnerConnectorPipeline([Two()])
    pipeline.append(Three())
    pipeline.prepend(One())
    pipeline.insert_before("Three", Tag())
    pipeline.insert_after(One, Tag())
    pipeline.remove(Two)
    batch = pipeline(rl_module=MultiRLModule(), batch={}, episodes=[])
    assert batch["order"] == ["One", "Tag", "Tag", "Three"]
    with pytest.raises(ConfigError, match="'Four'"):
        pipeline.remove("Four")


def test_a_piece_has_to_return_the_batch():
    with pytest.raises(ConfigError, match="Nothing"):
        run([Nothing()], [])


# Advantages.


def estimates(episodes):
    """GAE one step at a time, by its recursion."""
    advantages, targets = [], []
    for one in episodes:
        later, own = 0.0, []
        for t in reversed(range(len(one))):
            value = one.get_observations(t) + 0.5
            is_end = t == len(one) - 1 and one.is_terminated
            next_value = 0.0 if is_end else one.get_observations(t + 1) + 0.5
            delta = one.get_rewards(t) + GAMMA * next_value - value
            later = delta + GAMMA * LAMBDA * later
            own.append((later, later + value))
        advantages += [a for a, _ in own[::-1]]
        targets += [v for _, v in own[::-1]]
    return np.float32(advantages), np.float32(targets)


EPISODES = {
    "termination": [{"terminated": True}],
    "truncation": [{"truncated": True}],
    "cut": [{}],
    "several": [{"terminated": True}, {"truncated": True}, {}, {"terminated": True}],
}


def with_advantages(episodes, *more, modules=None):
    sequences = TO_SEQUENCES if modules else ()
    pieces = made(AddOneTsToEpisodesAndTruncate, *TO_COLUMNS, *sequences, *TO_BATCH)
    gae = GeneralAdvantageEstimation(gamma=GAMMA, lambda_=LAMBDA)
    return run([*pieces, gae, *more], episodes, modules=modules)["m"]


@pytest.mark.parametrize("case", EPISODES)
def test_advantages_equal_their_recursion(case):
    ends = EPISODES[case]
    episodes = [episode(3 + i, start=i, **end) for i, end in enumerate(ends)]
    batch = with_advantages(episodes)
    advantages, targets = estimates(episodes)
    assert_close(batch["advantages"], advantages, rtol=1e-5)
    assert_close(batch["value_targets"], targets, rtol=1e-5)
    assert len(batch["obs"]) == sum(map(len, episodes))


def test_advantages_of_padded_sequences_are_those_of_the_rows():
    episodes = [episode(4, truncated=True), episode(2, start=6, lookback=1)]
    batch = with_advantages(episodes, modules=remembering())
    mask = batch["loss_mask"]
    assert mask.shape == (3, 3) and mask.sum() == 6
    advantages, targets = estimates(episodes)
    assert_close(batch["advantages"][mask], advantages, rtol=1e-5)
    assert_close(batch["value_targets"][mask], targets, rtol=1e-5)
    assert not batch["advantages"][~mask].any()


def test_advantages_are_standardised_over_real_rows_and_not_blown_up():
    episodes = [episode(4, truncated=True), episode(3, start=6, lookback=1)]
    for modules in (None, remembering()):
        batch = with_advantages(episodes, StandardizeAdvantages(), modules=modules)
        own = batch["advantages"]
        own = own[batch["loss_mask"]] if modules else own
        plain, _ = estimates(episodes)
        assert_close(own, (plain - plain.mean()) / plain.std(), rtol=1e-4, atol=1e-5)
    equal = {"m": {"advantages": np.full(3, 7.0, "f")}}
    StandardizeAdvantages()(batch=equal)
    assert equal["m"]["advantages"].tolist() == [0.0, 0.0, 0.0]


def test_episodes_without_artificial_rows_have_no_advantages():
    gae = GeneralAdvantageEstimation(gamma=GAMMA, lambda_=LAMBDA)
    with pytest.raises(BatchError, match="AddOneTsToEpisodesAndTruncate"):
        run([*made(*TO_COLUMNS, *TO_BATCH), gae], [episode(2)])
