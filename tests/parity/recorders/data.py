"""What RLlib's schedules, minibatch iterators and shards come to."""

import itertools

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils import minibatch_utils
from ray.rllib.utils.schedules.scheduler import Scheduler

SCHEDULES = [
    0.25,
    [[0, 0.1], [100, 0.3]],
    [[0, 1.0], [10, 0.5], [30, 0.5], [1000, 0.01]],
    [[0, 3e-4], [1_000_000, 0.0]],
    [[0, 0.0], [7, -1.0], [8, 2.5]],
    [[0, 1.0], [50, 0.5], [50, 0.1], [100, 0.0]],
]


def record_schedules():
    """Returns the values of schedules at their points, between and behind them."""
    recorded = []
    for schedule in SCHEDULES:
        scheduler = Scheduler(fixed_value_or_schedule=schedule, framework="torch")
        points = schedule if isinstance(schedule, list) else [[0, 0], [10, 0]]
        timesteps = {int(t) for t, _ in points} | {1, 3, 49, 51, 10**9}
        timesteps |= {
            int(t + f * (u - t))
            for (t, _), (u, _) in itertools.pairwise(points)
            for f in (0.25, 0.5, 0.9)
        }
        timesteps = sorted(timesteps)
        values = [float(scheduler.update(timestep=t)) for t in timesteps]
        recorded.append(
            {"schedule": schedule, "timesteps": timesteps, "values": values}
        )
    return recorded


# Rows of each module, and the iterator's settings.
MINIBATCHES = [
    ({"p0": 5}, {"minibatch_size": 2}),
    ({"p0": 6}, {"minibatch_size": 2, "num_epochs": 2}),
    ({"p0": 7}, {"minibatch_size": 3, "num_epochs": 4}),
    ({"p0": 3}, {"minibatch_size": 8}),
    ({"p0": 3}, {"minibatch_size": 8, "num_epochs": 5}),
    ({"p0": 4}, {"minibatch_size": 4, "num_epochs": 3}),
    ({"p0": 10, "p1": 4}, {"minibatch_size": 3}),
    ({"p0": 10, "p1": 4, "p2": 1}, {"minibatch_size": 4, "num_epochs": 3}),
    ({"p0": 9}, {"minibatch_size": 2, "num_total_minibatches": 3}),
    ({"p0": 4, "p1": 7}, {"minibatch_size": 5, "num_total_minibatches": 6}),
    ({"p0": 4000}, {"minibatch_size": 128, "num_epochs": 30}),
]
# Lengths of sequences, and the iterator's settings; a minibatch holds whole sequences.
SEQUENCES = [
    ([3, 2, 3, 1, 3], {"minibatch_size": 4}),
    ([3, 2, 3, 1, 3], {"minibatch_size": 6, "num_epochs": 2}),
    ([4, 4, 4, 4, 4, 4, 4], {"minibatch_size": 8, "num_epochs": 3}),
    ([1, 1, 5], {"minibatch_size": 3, "num_epochs": 2}),
    ([2, 2, 1], {"minibatch_size": 5, "num_total_minibatches": 2}),
]
SHARDS_OF_EPISODES = [
    ([10, 21, 3, 4, 35, 41, 5, 15, 44], 3),
    ([10, 21, 3, 4, 35, 41, 5, 15, 44], 4),
    ([10], 4),
    ([1, 1, 1], 2),
    ([7, 7, 7, 7], 2),
    ([100, 1, 1, 1], 3),
    ([5, 3], 1),
    ([13, 8, 2, 9], 5),
]
SHARDS_OF_ROWS = [(12, 3), (13, 3), (5, 4), (1, 1), (9, 2)]


def record_minibatches():
    """Returns which rows make up which minibatch, and how many there are."""
    minibatches = []
    for rows, settings in MINIBATCHES:
        entry = {"rows": rows, "settings": settings}
        for shuffled in (False, True):
            batch = MultiAgentBatch(
                {mid: SampleBatch({"row": np.arange(n)}) for mid, n in rows.items()},
                env_steps=max(rows.values()),
            )
            iterator = minibatch_utils.MiniBatchCyclicIterator(
                batch, shuffle_batch_per_epoch=shuffled, **settings
            )
            taken = [
                {mid: own["row"].tolist() for mid, own in each.policy_batches.items()}
                for each in iterator
            ]
            entry["count_shuffled" if shuffled else "count"] = len(taken)
            if not shuffled and max(rows.values()) < 100:
                entry["order"] = {mid: [each[mid] for each in taken] for mid in rows}
        minibatches.append(entry)

    of_sequences = []
    for lengths, settings in SEQUENCES:
        num_seqs, num_steps = len(lengths), max(lengths)
        columns = {
            "seq": np.repeat(np.arange(num_seqs)[:, None], num_steps, axis=1),
            "seq_lens": np.array(lengths, np.int32),
        }
        batch = SampleBatch(columns, _zero_padded=True, _max_seq_len=num_steps)
        batch.enable_slicing_by_batch_id()
        iterator = minibatch_utils.MiniBatchCyclicIterator(
            MultiAgentBatch({"p0": batch}, env_steps=sum(lengths)),
            shuffle_batch_per_epoch=False,
            **settings,
        )
        order = [each["p0"]["seq"][:, 0].tolist() for each in iterator]
        of_sequences.append({"lengths": lengths, "settings": settings, "order": order})
    return {"rows": minibatches, "sequences": of_sequences}


def record_shards():
    """Returns how episodes and rows are split in shards."""
    episode_shards = []
    for lengths, num_shards in SHARDS_OF_EPISODES:
        # Observations count on, so that they tell where a piece comes from.
        firsts = [1000 * i for i in range(len(lengths))]
        episodes = [
            SingleAgentEpisode(
                observations=list(range(first, first + n + 1)),
                actions=[0] * n,
                rewards=[0.0] * n,
                len_lookback_buffer=0,
            )
            for first, n in zip(firsts, lengths)
        ]
        shards = minibatch_utils.ShardEpisodesIterator(episodes, num_shards)
        pieces = [
            [[divmod(int(e.get_observations(0)), 1000), len(e)] for e in shard]
            for shard in shards
        ]
        episode_shards.append(
            {
                "lengths": lengths,
                "num_shards": num_shards,
                "pieces": [[[*at, n] for at, n in shard] for shard in pieces],
            }
        )

    row_shards = []
    for rows, num_shards in SHARDS_OF_ROWS:
        batch = MultiAgentBatch({"p0": SampleBatch({"row": np.arange(rows)})}, rows)
        shards = minibatch_utils.ShardBatchIterator(batch, num_shards)
        refs = minibatch_utils.ShardObjectRefIterator(list(range(rows)), num_shards)
        row_shards.append(
            {
                "rows": rows,
                "num_shards": num_shards,
                "batch": [each["p0"]["row"].tolist() for each in shards],
                "refs": [list(each) for each in refs],
            }
        )
    return {"episodes": episode_shards, "rows": row_shards}
