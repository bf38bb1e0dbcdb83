"""The learner's whole pipeline: several modules in one update, against an oracle.

Four modules: with and without a value function, with and without a state. The oracle
goes through the episodes of each one step at a time.
"""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
import tree
from hypothesis import given, settings
from hypothesis import strategies as st

from tflearner.columns import Columns
from tflearner.config import AlgorithmConfig
from tflearner.connectors.episode_columns import (
    AddNextObservationsFromEpisodesToTrainBatch,
    AddObservationsFromEpisodesToBatch,
    AddOneTsToEpisodesAndTruncate,
)
from tflearner.connectors.gae import GeneralAdvantageEstimation
from tflearner.errors import BatchError
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.rl_module import MultiRLModule, RLModule
from tflearner.testing import assert_close, random_episodes

GAMMA, LAMBDA = 0.9, 0.8
SPACE = gym.spaces.Box(-1, 1, (2,))
START, DECAY = 0.7, 0.5  # Of the states.


class Policy(RLModule):
    def get_state(self, *args, **kwargs):
        return {}

    def set_state(self, state):
        pass


class Critic(Policy, ValueFunctionAPI):
    """The value is the sum of an observation's numbers, plus 1."""

    def compute_values(self, batch, embeddings=None):
        return tf.reduce_sum(batch[Columns.OBS], -1) + 1.0


class StatefulPolicy(Policy):
    """A state that each step halves before it adds the observation's sum."""

    def get_initial_state(self):
        return {"in": {"x": np.full(1, START, np.float32)}}


class StatefulCritic(StatefulPolicy, ValueFunctionAPI):
    """The value is the state after the step."""

    def compute_values(self, batch, embeddings=None):
        state, values = batch[Columns.STATE_IN]["in"]["x"][:, 0], []
        for x in tf.unstack(tf.reduce_sum(batch[Columns.OBS], -1), axis=1):
            state = DECAY * state + x
            values.append(state)
        return tf.stack(values, axis=1)


MODULES = {
    "policy": Policy(),
    "critic": Critic(),
    "stateful policy": StatefulPolicy(model_config={"max_seq_len": 3}),
    "stateful critic": StatefulCritic(model_config={"max_seq_len": 4}),
}


class Part:
    """A part of an episode as it comes to the learner, and what happened before it."""

    def __init__(self, module_id, length, end, t_started, to_numpy, seed):
        ends = [(t_started + length, end)]
        whole = random_episodes(SPACE, gym.spaces.Discrete(3), ends=ends, seed=seed)[0]
        whole.module_id = module_id
        state = START
        self.states = [state]  # Before each step since the reset.
        for observation in whole.get_observations():
            state = DECAY * state + float(np.sum(observation))
            self.states.append(state)
        self.module = MODULES[module_id]
        if self.module.is_stateful():
            states = [{"in": {"x": np.float32([x])}} for x in self.states[1:-1]]
            whole.set_extra_model_outputs("state_out", states)
            del whole.extra_model_outputs["action_dist_inputs"]
        part = whole.slice(slice(t_started, None), len_lookback_buffer=1)
        self.episode = part.to_numpy() if to_numpy else part

    def value(self, t):
        if self.module.is_stateful():
            return self.states[self.episode.t_started + t + 1]
        return float(np.sum(self.episode.get_observations(t))) + 1.0


# The oracle: rows are dicts, the artificial one of each part included.


def rows_of(part):
    episode, rows = part.episode, []
    length = len(episode)
    cut = episode.is_truncated or not episode.is_terminated
    for t in range(length + 1):
        step = min(t, length - 1)
        rows.append(episode.get_extra_model_outputs(indices=step))
        rows[t].pop(Columns.STATE_OUT, None)
        rows[t] |= {
            Columns.OBS: episode.get_observations(t),
            Columns.NEXT_OBS: episode.get_observations(min(t + 1, length)),
            Columns.ACTIONS: episode.get_actions(step),
            Columns.REWARDS: episode.get_rewards(t) if t < length else 0.0,
            Columns.TERMINATEDS: t == length - 1 and episode.is_terminated,
            Columns.TRUNCATEDS: t == length - 1 and cut,
            Columns.LOSS_MASK: t < length,
        }
    if isinstance(part.module, ValueFunctionAPI):
        rows[length] |= {Columns.ADVANTAGES: 0.0, Columns.VALUE_TARGETS: 0.0}
        advantage = 0.0
        for t in reversed(range(length)):
            next_value = 0.0 if rows[t][Columns.TERMINATEDS] else part.value(t + 1)
            delta = rows[t][Columns.REWARDS] + GAMMA * next_value - part.value(t)
            advantage = delta + GAMMA * LAMBDA * advantage
            rows[t][Columns.ADVANTAGES] = advantage
            rows[t][Columns.VALUE_TARGETS] = advantage + part.value(t)
    return rows


def batch_of_rows(parts):
    rows = [row for part in parts for row in rows_of(part)]
    if isinstance(parts[0].module, ValueFunctionAPI):
        rows = [row for row in rows if row.pop(Columns.LOSS_MASK)]
    return stacked(rows)


def batch_of_sequences(parts):
    sequences = []
    length = parts[0].module.max_seq_len
    for part in parts:
        rows = rows_of(part)
        nothing = tree.map_structure(np.zeros_like, rows[0])
        for start in range(0, len(rows), length):
            own = rows[start : start + length]
            is_kept = any(row[Columns.LOSS_MASK] for row in own)
            if is_kept or not isinstance(part.module, ValueFunctionAPI):
                sequence = stacked(own + [nothing] * (length - len(own)))
                sequence[Columns.SEQ_LENS] = len(own)
                state = part.states[part.episode.t_started + start]
                sequence[Columns.STATE_IN] = {"in": {"x": np.array([state])}}
                sequences.append(sequence)
    return stacked(sequences)


def stacked(rows):
    return tree.map_structure(lambda *leaves: np.stack(leaves), *rows)


# What the learner does.


def pipeline():
    made = AlgorithmConfig().build_learner_connector()
    made.prepend(AddOneTsToEpisodesAndTruncate())
    made.insert_after(
        AddObservationsFromEpisodesToBatch,
        AddNextObservationsFromEpisodesToTrainBatch(),
    )
    made.append(GeneralAdvantageEstimation(gamma=GAMMA, lambda_=LAMBDA))
    return made


def batches_of(parts):
    return pipeline()(
        rl_module=MultiRLModule(MODULES),
        batch={},
        episodes=[part.episode for part in parts],
    )


def check(parts):
    before = [digest(part.episode) for part in parts]
    batches = batches_of(parts)
    assert [digest(part.episode) for part in parts] == before
    assert set(batches) == {part.episode.module_id for part in parts}
    for module_id, batch in batches.items():
        own = [part for part in parts if part.episode.module_id == module_id]
        is_stateful = MODULES[module_id].is_stateful()
        want = (batch_of_sequences if is_stateful else batch_of_rows)(own)
        assert set(batch) == set(want)
        for column in want:
            tree.map_structure(
                lambda got, wanted: assert_close(got, wanted, rtol=1e-5, atol=1e-5),
                batch[column],
                want[column],
                check_types=False,
            )


def digest(episode):
    leaves = tree.flatten(episode.get_state())
    return [np.asarray(x).tobytes() if np.ndim(x) else repr(x) for x in leaves]


PARTS = st.builds(
    Part,
    module_id=st.sampled_from(sorted(MODULES)),
    length=st.integers(1, 9),
    end=st.sampled_from(["terminated", "truncated", "both", "cut"]),
    t_started=st.sampled_from([0, 0, 1, 5]),
    to_numpy=st.booleans(),
    seed=st.integers(0, 99),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(PARTS, min_size=1, max_size=8))
def test_batches_match_the_oracle(parts):
    check(parts)


@pytest.mark.parametrize("end", ["terminated", "truncated", "both", "cut"])
@pytest.mark.parametrize("t_started", [0, 5])
@pytest.mark.parametrize("module_id", MODULES)
def test_every_length_matches_the_oracle(module_id, end, t_started):
    """All remainders of the sequences' lengths, each end, as a first and a later part."""
    check([Part(module_id, n, end, t_started, n % 2, seed=n) for n in range(1, 10)])


def test_advantages_of_sequences_are_zero_where_the_mask_is_false():
    batch = batches_of([Part("stateful critic", 5, "cut", 0, True, 0)])
    batch = batch["stateful critic"]
    mask = batch[Columns.LOSS_MASK]
    assert mask.tolist() == [[True] * 4, [True, False, False, False]]
    for column in (Columns.ADVANTAGES, Columns.VALUE_TARGETS):
        assert batch[column].dtype == np.float32
        assert ((batch[column] != 0) == mask).all()


def test_a_sequence_of_the_artificial_row_alone_is_used_and_taken_out():
    part = Part("stateful critic", 4, "cut", 0, True, 0)
    batch = batches_of([part])["stateful critic"]
    assert batch[Columns.SEQ_LENS].tolist() == [4]
    assert all(len(leaf) == 1 for leaf in tree.flatten(batch))
    last = part.episode.get_rewards(3) + GAMMA * part.value(4) - part.value(3)
    assert batch[Columns.ADVANTAGES][0, 3] == pytest.approx(last, rel=1e-5)


def test_unlike_outputs_within_a_module_are_an_error():
    parts = [Part("critic", 3, "cut", 0, False, seed) for seed in range(3)]
    del parts[1].episode.extra_model_outputs["action_logp"]
    match = r"module 'critic', column 'action_logp', episodes\[1\]"
    with pytest.raises(BatchError, match=match):
        batches_of(parts)


@pytest.mark.parametrize("module_id", ["critic", "stateful critic"])
def test_values_need_artificial_rows(module_id):
    made = pipeline()
    made.remove(AddOneTsToEpisodesAndTruncate)
    episodes = [Part(module_id, 3, "cut", 0, False, 0).episode]
    with pytest.raises(BatchError, match="put AddOneTsToEpisodesAndTruncate in front"):
        made(rl_module=MultiRLModule(MODULES), batch={}, episodes=episodes)
