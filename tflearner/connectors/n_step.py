"""A connector piece that turns transitions into transitions over several steps."""

import numpy as np
import tree

from tflearner.checks import check_fraction, check_range
from tflearner.columns import Columns
from tflearner.connectors.batching import check_one_entry_per_episode, name_of
from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.episode_columns import BOOTSTRAP_ROWS
from tflearner.errors import BatchError

READ = (Columns.REWARDS, Columns.NEXT_OBS, Columns.TERMINATEDS, Columns.TRUNCATEDS)
ADDED = (Columns.N_STEP, Columns.WEIGHTS)


class NStepTransitions(ConnectorV2):
    """Turns rows into n-step transitions, for learners that bootstrap.

        reward_t = r_t + gamma r_(t+1) + .. + gamma^(n - 1) r_(t+n-1)

    and the next observation and both flags are those of step t + n - 1. The last rows
    of an episode have fewer steps n. A replay buffer draws such transitions itself; with
    this piece a learner takes episodes as they are.

    Belongs behind `AddNextObservationsFromEpisodesToTrainBatch` and
    `AddColumnsFromEpisodesToTrainBatch`, in front of `AgentToModuleMapping`.

    Reads:  REWARDS, NEXT_OBS, TERMINATEDS, TRUNCATEDS.
    Writes: the same, and N_STEP, float32 [T], the number of steps n, and WEIGHTS, float32
    [T], all 1, unless they are there. All per episode.

    Args:
        gamma: Discount per step.
        n_step: The number of steps; of a pair, as for a replay buffer, the larger
            number.

    Raises:
        UsageError: If `gamma` is not a number from 0 to 1, or `n_step` is not an int of
            at least 1 or a pair of them.
    """

    def __init__(self, *, gamma: float, n_step: int | tuple[int, int] = 1, **kwargs):
        super().__init__(**kwargs)
        self.gamma = check_fraction("gamma", gamma)
        _, self.n_step = check_range("n_step", n_step)

    def __call__(self, *, batch, episodes, shared_data, **kwargs):
        self._check(batch, episodes, shared_data)
        of_episodes = [
            self._of_episode(*own)
            for own in zip(*(batch[column] for column in READ), strict=True)
        ]
        for number, column in enumerate((*READ, *ADDED)):
            if column in READ or column not in batch:
                batch[column] = [columns[number] for columns in of_episodes]
        return batch

    def _of_episode(self, rewards, next_obs, terminateds, truncateds):
        length = len(rewards)
        last = np.minimum(np.arange(length) + self.n_step, length) - 1
        sums = rewards.astype(np.float64)
        for k in range(1, min(self.n_step, length)):
            sums[:-k] += self.gamma**k * rewards[k:].astype(np.float64)
        return (
            sums.astype(np.float32),
            tree.map_structure(lambda leaf: leaf.take(last, axis=0), next_obs),
            terminateds[last],
            truncateds[last],
            (last - np.arange(length) + 1).astype(np.float32),
            np.ones(length, np.float32),
        )

    def _check(self, batch, episodes, shared_data) -> None:
        check_one_entry_per_episode(batch, episodes)
        where = f"connector piece {type(self).__name__}"
        lacking = [column for column in READ if column not in batch]
        if lacking:
            raise BatchError(
                where,
                f"a batch without {lacking}",
                f"the columns {[*READ]}",
                "put it behind AddNextObservationsFromEpisodesToTrainBatch and "
                "AddColumnsFromEpisodesToTrainBatch",
            )
        if shared_data.get(BOOTSTRAP_ROWS):
            raise BatchError(
                where,
                "episodes with artificial last rows",
                "rows of steps alone",
                "leave out AddOneTsToEpisodesAndTruncate",
            )
        for index, episode in enumerate(episodes):
            if not episode.is_done and len(episode) < self.n_step:
                raise BatchError(
                    name_of(episode, index),
                    f"{len(episode)} steps of an episode that continues",
                    f"at least n_step={self.n_step}",
                    "sample longer fragments, or let a replay buffer join them",
                )

    def get_ctor_args_and_kwargs(self):
        _, kwargs = super().get_ctor_args_and_kwargs()
        return (), {"gamma": self.gamma, "n_step": self.n_step, **kwargs}
