"""Minibatches and shards against those of RLlib."""

import numpy as np

from tflearner.data import iterators, minibatches
from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.data.single_agent_episode import SingleAgentEpisode


def batch_of(rows):
    columns = {mid: SampleBatch({"row": np.arange(n)}) for mid, n in rows.items()}
    return MultiAgentBatch(columns, env_steps=max(rows.values()))


def test_rows_of_unshuffled_minibatches_are_those_of_rllib(load):
    for entry in load("minibatches.json")["rows"]:
        iterator = iterators.MiniBatchCyclicIterator(
            batch_of(entry["rows"]), shuffle_batch_per_epoch=False, **entry["settings"]
        )
        taken = list(iterator)
        assert len(taken) == entry["count"], entry["rows"]
        for mid, order in entry.get("order", {}).items():
            assert [each[mid]["row"].tolist() for each in taken] == order


def test_shuffling_leaves_the_number_of_minibatches(load):
    for entry in load("minibatches.json")["rows"]:
        plan = minibatches.plan_minibatches(
            entry["rows"], shuffle=True, **entry["settings"]
        )
        assert plan.num_minibatches == entry["count_shuffled"] == entry["count"]


def test_minibatches_of_sequences_are_those_of_rllib(load):
    for entry in load("minibatches.json")["sequences"]:
        num_seqs, num_steps = len(entry["lengths"]), max(entry["lengths"])
        columns = {
            "seq": np.repeat(np.arange(num_seqs)[:, None], num_steps, axis=1),
            "seq_lens": np.array(entry["lengths"], np.int32),
        }
        iterator = iterators.MiniBatchCyclicIterator(
            MultiAgentBatch({"p0": SampleBatch(columns)}, sum(entry["lengths"])),
            shuffle_batch_per_epoch=False,
            **entry["settings"],
        )
        order = [each["p0"]["seq"][:, 0].tolist() for each in iterator]
        assert order == entry["order"], entry["lengths"]


def test_updates_take_as_many_steps_as_rllibs(load):
    cases = load("ppo.json")["cases"].values()
    assert any("minibatch_size" in u for case in cases for u in case["updates"])
    for case in cases:
        rows = {mid: own["rows"] for mid, own in case["modules"].items()}
        for update, count in zip(case["updates"], case["steps_per_update"]):
            size = update.get("minibatch_size", max(rows.values()))
            epochs = update.get("num_epochs", 1)
            plan = minibatches.plan_minibatches(
                rows, minibatch_size=size, num_epochs=epochs
            )
            assert plan.num_minibatches == count


def make_episode(index, length):
    """An episode whose observations tell where a piece of it comes from."""
    return SingleAgentEpisode(
        observations=[1000 * index + t for t in range(length + 1)],
        actions=[0] * length,
        rewards=[0.0] * length,
        len_lookback_buffer=0,
    )


def pieces_of(entry):
    """Returns of each shard (episode, first step, number of steps) of its pieces."""
    episodes = [make_episode(i, n) for i, n in enumerate(entry["lengths"])]
    return [
        [[*divmod(int(e.get_observations(0)), 1000), len(e)] for e in part]
        for part in iterators.ShardEpisodesIterator(episodes, entry["num_shards"])
    ]


def num_steps(pieces):
    return [sum(n for _, _, n in shard) for shard in pieces]


def shares(entry):
    """The steps of each shard; the last ones get one more where they do not come out."""
    each, left = divmod(sum(entry["lengths"]), entry["num_shards"])
    return [each] * (entry["num_shards"] - left) + [each + 1] * left


def test_pieces_of_episodes_in_shards_are_those_of_rllib(load):
    entries = load("shards.json")["episodes"]
    even = [entry for entry in entries if num_steps(entry["pieces"]) == shares(entry)]
    assert len(even) >= 6
    for entry in even:
        assert pieces_of(entry) == entry["pieces"], entry["lengths"]


def test_no_shard_gets_more_than_its_share(load):
    """Where RLlib's shortest shard is full, it puts a further episode there."""
    entries = load("shards.json")["episodes"]
    assert any(num_steps(entry["pieces"]) != shares(entry) for entry in entries)
    for entry in entries:
        assert num_steps(pieces_of(entry)) == shares(entry)


def test_shards_of_rows_and_references_are_those_of_rllib(load):
    for entry in load("shards.json")["rows"]:
        rows, num_shards = entry["rows"], entry["num_shards"]
        parts = iterators.ShardBatchIterator(batch_of({"p0": rows}), num_shards)
        assert [part["p0"]["row"].tolist() for part in parts] == entry["batch"]
        refs = iterators.ShardObjectRefIterator(list(range(rows)), num_shards)
        assert [list(part) for part in refs] == entry["refs"]
