"""Tests for `tflearner.connectors.connector`."""

import pytest

from tflearner.connectors.connector import ConnectorV2
from tflearner.data.multi_agent_episode import MultiAgentEpisode
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.errors import ConfigError

episodes_in = ConnectorV2.single_agent_episode_iterator


def two_agents():
    """An episode in which only "b" got an observation in the last step."""
    episode = MultiAgentEpisode()
    episode.add_env_reset({"a": 0})
    episode.add_env_step({"a": 1, "b": 1}, {"a": 0}, {"a": 1.0})
    episode.add_env_step({"b": 2}, {"a": 0, "b": 0}, {"a": 1.0, "b": 1.0})
    return episode


def test_episodes_of_single_agents_are_found_in_all_kinds_of_episodes():
    single, multi = SingleAgentEpisode(), two_agents()
    a, b = multi.agent_episodes.values()
    assert list(episodes_in([single, multi])) == [single, a, b]
    assert list(episodes_in([])) == []


def test_only_agents_that_stepped():
    single, multi = SingleAgentEpisode(), two_agents()
    found = list(episodes_in([single, multi], agents_that_stepped_only=True))
    assert found == [single, multi.agent_episodes["b"]]


def test_episodes_with_the_entries_of_a_column():
    single, multi = SingleAgentEpisode(), two_agents()
    a, b = multi.agent_episodes.values()
    pairs = episodes_in([single, multi], zip_with_batch_column=[1, None, 3])
    assert list(pairs) == [(single, 1), (a, None), (b, 3)]
    with pytest.raises(ValueError, match="shorter"):
        list(episodes_in([single, multi], zip_with_batch_column=[1]))


class Plain(ConnectorV2):
    def __call__(self, *, batch, **kwargs):
        return batch


def test_a_piece_has_no_state_unless_it_says_so():
    assert Plain().get_state() == {}
    Plain().set_state({})
    with pytest.raises(ConfigError, match=r"Plain: got a state \['a'\], want none"):
        Plain().set_state({"a": 1})
