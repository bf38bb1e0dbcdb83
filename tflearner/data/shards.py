"""How data are split among several learners."""

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

from tflearner.data.multi_agent_episode import MultiAgentEpisode
from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.errors import UsageError

Episode = SingleAgentEpisode | MultiAgentEpisode


class ShardBatchIterator:
    """Yields `num_shards` batches, each with its part of every module's rows.

    A part is the next ceil(rows / num_shards) rows, or as many as there are left: the
    last shards may have fewer, or none. Modules with sequences are split in whole ones.
    Environment steps are shared out in the same way, so that they add up. Arrays are
    shared with the batch, not copied.

    Args:
        batch: What to split.
        num_shards: Into how many.

    Raises:
        BatchError: When iterated, if a module's columns have unequal lengths.
        UsageError: If `num_shards` is not an int >= 1.
    """

    def __init__(self, batch: MultiAgentBatch, num_shards: int):
        self.batch = batch
        self.num_shards = _checked(num_shards)

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
    """Yields `num_shards` lists of episodes with as equal numbers of steps as possible.

    The longest episodes come first, each into the shard that has the fewest steps. What
    does not fit there is cut off and goes into the next one. So every shard has
    steps // num_shards steps, or a few more in the last ones; none is lost.

    >>> episode = SingleAgentEpisode(
    ...     observations=[0] * 8, actions=[0] * 7, rewards=[0] * 7, len_lookback_buffer=0
    ... )
    >>> shards = ShardEpisodesIterator([episode], num_shards=2)
    >>> [[(e.t_started, e.t) for e in shard] for shard in shards]
    [[(0, 3)], [(3, 7)]]

    Args:
        episodes: What to split: episodes of one agent, in agent steps, or of many, in
            environment steps. They and the list are left as they are.
        num_shards: Into how many.
        len_lookback_buffer: How many steps a piece that was cut off keeps as lookback;
            by default as many as its episode has.

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
        self.num_shards = _checked(num_shards)
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
    """Yields `num_shards` parts of a list, in order; the first ones may be one longer.

    Args:
        object_refs: What to split, whatever it holds.
        num_shards: Into how many.

    Raises:
        UsageError: If `num_shards` is not an int >= 1.
    """

    def __init__(self, object_refs: Sequence[Any], num_shards: int):
        self.object_refs = object_refs
        self.num_shards = _checked(num_shards)

    def __iter__(self) -> Iterator[Sequence[Any]]:
        size, longer = divmod(len(self.object_refs), self.num_shards)
        for i in range(self.num_shards):
            start = i * size + min(i, longer)
            yield self.object_refs[start : start + size + (i < longer)]


def _taken(batch: SampleBatch, part: slice) -> SampleBatch:
    """Returns these rows, or sequences if there are any."""
    view = SampleBatch(batch)
    if view.has_sequences:
        view.enable_slicing_by_batch_id()
    else:
        view.disable_slicing_by_batch_id()
    return view[part]


def _checked(num_shards: Any) -> int:
    is_int = isinstance(num_shards, Integral) and not isinstance(num_shards, bool)
    if not is_int or num_shards < 1:
        raise UsageError("num_shards", repr(num_shards), "int >= 1")
    return int(num_shards)
