"""RLlib's iterators over batches and episodes, for code written for RLlib.

This library calls none of them: a learner takes its minibatches from the plan in
`minibatches.py`, inside the traced update.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tflearner.checks import check_count
from tflearner.data.minibatches import (
    MinibatchPlan,
    items_per_minibatch,
    plan_minibatches,
)
from tflearner.data.multi_agent_episode import MultiAgentEpisode
from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.data.single_agent_episode import SingleAgentEpisode

Episode = SingleAgentEpisode | MultiAgentEpisode


class ShardBatchIterator:
    """Splits a batch into `num_shards` batches.

    Each shard has the next ceil(rows / num_shards) rows of every module; the last
    shards may have fewer or none. Modules with sequences are split into whole
    sequences. Environment steps are split in the same way, so that they add up. Arrays
    are shared with the batch, not copied.

    Args:
        batch: The batch to split.
        num_shards: The number of shards.

    Raises:
        BatchError: When iterated, if a module's columns have unequal lengths.
        UsageError: If `num_shards` is not an int >= 1.
    """

    def __init__(self, batch: MultiAgentBatch, num_shards: int):
        self.batch = batch
        self.num_shards = check_count("num_shards", num_shards)

    def __iter__(self) -> Iterator[MultiAgentBatch]:
        for i in range(self.num_shards):
            steps = self._part(len(self.batch), i)
            yield MultiAgentBatch(
                {
                    module_id: _taken(rows, self._part(rows.num_items, i))
                    for module_id, rows in self.batch.policy_batches.items()
                },
                env_steps=steps.stop - steps.start,
            )

    def _part(self, num_items: int, i: int) -> slice:
        size = -(-num_items // self.num_shards)
        return slice(min(i * size, num_items), min((i + 1) * size, num_items))


class ShardEpisodesIterator:
    """Splits episodes into `num_shards` lists with nearly equal numbers of steps.

    The longest episodes come first, each into the shard with the fewest steps. If an
    episode does not fit, the rest of it goes into the next shard. So every shard has
    steps // num_shards steps, the last ones one more.

    >>> episode = SingleAgentEpisode(
    ...     observations=[0] * 8, actions=[0] * 7, rewards=[0] * 7, len_lookback_buffer=0
    ... )
    >>> shards = ShardEpisodesIterator([episode], num_shards=2)
    >>> [[(e.t_started, e.t) for e in shard] for shard in shards]
    [[(0, 3)], [(3, 7)]]

    Args:
        episodes: Episodes of one agent, split by agent steps, or of many agents, split
            by environment steps. They are not changed.
        num_shards: The number of shards.
        len_lookback_buffer: The lookback steps of a part that was cut off; by default
            as many as its episode has.

    Raises:
        UsageError: If `num_shards` is not an int >= 1.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        num_shards: int,
        len_lookback_buffer: int | None = None,
    ):
        self.episodes = episodes
        self.num_shards = check_count("num_shards", num_shards)
        self.len_lookback_buffer = len_lookback_buffer

    def __iter__(self) -> Iterator[list[Episode]]:
        total, num = sum(map(len, self.episodes)), self.num_shards
        # The remainder goes to the last shards, one step each.
        room = [total // num + (i >= num - total % num) for i in range(num)]
        shards: list[list[Episode]] = [[] for _ in room]
        filled = [0] * num
        for episode in sorted(self.episodes, key=len, reverse=True):
            rest: Episode | None = episode
            while rest is not None:
                i = min(range(num), key=lambda k: (filled[k] >= room[k], filled[k]))
                fits = room[i] - filled[i]
                piece, rest = rest, None
                if len(piece) > fits:
                    piece, rest = self._cut(piece, fits)
                shards[i].append(piece)
                filled[i] += len(piece)
        yield from shards

    def _cut(self, episode: Episode, at: int) -> tuple[Episode, Episode]:
        rest = episode.slice(
            slice(at, None), len_lookback_buffer=self.len_lookback_buffer
        )
        return episode[:at], rest


class ShardObjectRefIterator:
    """Splits a list into `num_shards` contiguous parts of nearly equal length.

    Args:
        object_refs: A list of any objects.
        num_shards: The number of parts. The first ones may be one longer.

    Raises:
        UsageError: If `num_shards` is not an int >= 1.
    """

    def __init__(self, object_refs: Sequence[Any], num_shards: int):
        self.object_refs = object_refs
        self.num_shards = check_count("num_shards", num_shards)

    def __iter__(self) -> Iterator[Sequence[Any]]:
        size, longer = divmod(len(self.object_refs), self.num_shards)
        for i in range(self.num_shards):
            start = i * size + min(i, longer)
            yield self.object_refs[start : start + size + (i < longer)]


def plan_batch(
    batch: MultiAgentBatch,
    *,
    minibatch_size: int,
    num_epochs: int = 1,
    shuffle: bool = False,
    num_total_minibatches: int = 0,
    rng: np.random.Generator | None = None,
) -> MinibatchPlan:
    """Plans the minibatches of a batch; `minibatch_size` counts rows.

    Modules with sequences get whole sequences, as many as hold about `minibatch_size`
    rows.

    Raises:
        BatchError: If there is no module, a module has no rows, or its columns have
            unequal lengths.
        UsageError: If a size or count is not an int, or too small.
    """
    size = check_count("minibatch_size", minibatch_size)
    num_items, sizes = {}, {}
    for module_id, columns in batch.policy_batches.items():
        rows = len(columns)
        num_items[module_id] = columns.num_items if rows else 0
        sizes[module_id] = size
        if columns.has_sequences and rows:
            sizes[module_id] = items_per_minibatch(num_items[module_id], rows, size)
    return plan_minibatches(
        num_items,
        minibatch_size=sizes,
        num_epochs=num_epochs,
        shuffle=shuffle,
        num_total_minibatches=num_total_minibatches,
        rng=rng,
    )


class MiniBatchCyclicIterator:
    """Yields the minibatches of several epochs over a batch.

    Each minibatch is a `MultiAgentBatch` with all modules; its `env_steps` are those of
    the whole batch. The batch is not changed, and iterating again yields the same
    minibatches.

    Args:
        batch: The batch.
        num_epochs: As in `plan_minibatches`.
        minibatch_size: The rows of each module in a minibatch. Modules with sequences
            get as many sequences as hold about that many rows.
        shuffle_batch_per_epoch: As `shuffle` in `plan_minibatches`.
        num_total_minibatches: As in `plan_minibatches`.
        rng: As in `plan_minibatches`.

    Raises:
        BatchError: As `plan_batch`.
        UsageError: As `plan_batch`.
    """

    def __init__(
        self,
        batch: MultiAgentBatch,
        *,
        num_epochs: int = 1,
        minibatch_size: int,
        shuffle_batch_per_epoch: bool = True,
        num_total_minibatches: int = 0,
        rng: np.random.Generator | None = None,
    ):
        self.batch = batch
        self.plan = plan_batch(
            batch,
            minibatch_size=minibatch_size,
            num_epochs=num_epochs,
            shuffle=shuffle_batch_per_epoch,
            num_total_minibatches=num_total_minibatches,
            rng=rng,
        )

    def __iter__(self) -> Iterator[MultiAgentBatch]:
        for k in range(self.plan.num_minibatches):
            yield MultiAgentBatch(
                {
                    module_id: self.batch[module_id].take(indices[k])
                    for module_id, indices in self.plan.indices.items()
                },
                env_steps=len(self.batch),
            )


class MiniBatchDummyIterator:
    """Yields the whole batch once, in place of minibatches.

    Args:
        batch: The batch.
        **kwargs: Ignored: settings of `MiniBatchCyclicIterator`.
    """

    def __init__(self, batch: MultiAgentBatch, **kwargs: Any):
        self.batch = batch

    def __iter__(self) -> Iterator[MultiAgentBatch]:
        yield self.batch


def _taken(batch: SampleBatch, part: slice) -> SampleBatch:
    """Returns a slice of a batch's sequences if it has any, else of its rows."""
    view = SampleBatch(batch)
    if view.has_sequences:
        view.enable_slicing_by_batch_id()
    else:
        view.disable_slicing_by_batch_id()
    return view[part]
