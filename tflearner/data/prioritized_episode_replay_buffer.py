"""A replay buffer that draws steps with large TD errors more often."""

import os
from typing import Any

import numpy as np

from tflearner.checkpoint import matching
from tflearner.checkpoint.builders import register_builder
from tflearner.checks import check_fraction
from tflearner.columns import Columns
from tflearner.data import arrays, transition_state
from tflearner.data.episode_replay_buffer import EpisodeReplayBuffer
from tflearner.data.sum_tree import SumTree
from tflearner.data.transition_store import NONE
from tflearner.errors import BatchError, UsageError
from tflearner.types import StateDict

EPSILON = 1e-6  # So that a step without error is drawn again; RLlib's number.


class PrioritizedEpisodeReplayBuffer(EpisodeReplayBuffer):
    """Replay buffer that draws transitions in proportion to their priorities.

    The proportional variant of Schaul et al., 2016, Prioritized Experience Replay,
    https://arxiv.org/abs/1511.05952, equations (1) and, in section 3.4, that of w:

        p_i = |td_error_i| + 1e-6
        P(i) = p_i^alpha / sum_k p_k^alpha
        w_i = (N P(i))^-beta / max_k (N P(k))^-beta = (min_k p_k^alpha / p_i^alpha)^beta

    A new step gets the largest priority seen so far, 1 at first. Weights are divided by
    the largest weight of all stored steps; in the paper, by that of the batch. Rows are
    drawn independently of each other, as in RLlib; the paper draws one from each of N
    equal parts of the sum.

        batch = buffer.sample(32, beta=0.5)
        ...  # An update with batch["weights"] that computes TD errors.
        buffer.update_priorities(td_errors)

    Args:
        capacity: As in `EpisodeReplayBuffer`, like the arguments not listed here.
        alpha: The exponent of priorities, from 0 (uniform) to 1. The paper's default.
        beta: The correction of the bias by the weights, from 0 (none) to 1 (full). The
            paper anneals it from 0.4 to 1.
        **kwargs: Other arguments of `EpisodeReplayBuffer`.

    Raises:
        ConfigError: As in `EpisodeReplayBuffer`, like the other errors.
        UsageError: Also if `alpha` or `beta` is not a number from 0 to 1.
    """

    def __init__(
        self,
        capacity: int,
        *,
        observation_space: Any,
        action_space: Any,
        alpha: float = 0.6,
        beta: float = 0.4,
        memmap_dir: str | os.PathLike | None = None,
        seed: int | None = None,
    ):
        self.alpha = check_fraction("alpha", alpha)
        self.beta = check_fraction("beta", beta)
        super().__init__(
            capacity,
            observation_space=observation_space,
            action_space=action_space,
            memmap_dir=memmap_dir,
            seed=seed,
        )
        self._tree = SumTree(self.capacity)  # Holds p^alpha by slot.
        self._largest = 1.0
        # The positions of the rows of the last batch.
        self._drawn = np.empty(0, np.int64)

    def _nbytes(self):
        of_leaves, of_rest = super()._nbytes()
        return of_leaves, of_rest + SumTree.nbytes_of(self.capacity)

    def sample(
        self,
        num_items: int,
        *,
        n_step: int | tuple[int, int] = 1,
        gamma: float = 0.99,
        beta: float | None = None,
    ) -> dict[str, Any]:
        """Draws transitions in proportion to their priorities.

        Args:
            num_items: As in `EpisodeReplayBuffer.sample`.
            n_step: As in `EpisodeReplayBuffer.sample`. The priority of a transition is
                that of its first step.
            gamma: As in `EpisodeReplayBuffer.sample`.
            beta: Replaces the buffer's own for this batch.

        Returns:
            As `EpisodeReplayBuffer.sample`, with "weights" float32 [N] above 0 and up
            to 1.

        Raises:
            UsageError: If the buffer is empty, or an argument is out of range.
        """
        exponent = self.beta if beta is None else check_fraction("beta", beta)
        batch, slots = self._sample(num_items, n_step, gamma)
        self._drawn = self._store.positions(slots)
        weights = arrays.empty((num_items,), np.float32)
        weights[:] = (self._tree.smallest / self._tree.get(slots)) ** exponent
        return batch | {Columns.WEIGHTS: weights}

    def update_priorities(self, td_errors: Any) -> None:
        """Sets the priorities of the rows of the last batch.

        Rows that were overwritten since are skipped. If a row occurs several times, its
        last error counts.

        Args:
            td_errors: One for each row of the last batch, in its order. float [N], or
                any shape with as many numbers.

        Raises:
            BatchError: If their number differs, or one is non-finite in float32.
            UsageError: If no batch was drawn yet.
        """
        where = f"{type(self).__name__}.update_priorities()"
        if not len(self._drawn):
            raise UsageError(where, "a call before sample()", "a call after sample()")
        errors = np.asarray(td_errors)
        if errors.dtype.kind not in "fiu" or errors.size != len(self._drawn):
            raise BatchError(
                f"{where}, td_errors",
                f"{errors.dtype} {errors.shape}",
                f"one number for each of the {len(self._drawn)} rows of the last batch",
            )
        errors = np.abs(errors.reshape(-1), dtype=np.float64, casting="unsafe")
        is_bad = ~(errors <= np.finfo(np.float32).max)
        if is_bad.any():
            first = int(np.flatnonzero(is_bad)[0])
            raise BatchError(
                f"{where}, td_errors",
                f"{np.count_nonzero(is_bad)} non-finite in float32, the first "
                f"at {first}",
                "finite numbers",
                "skip updates whose loss is non-finite",
            )
        priorities = errors + EPSILON
        is_here = self._drawn >= self._store.oldest
        priorities = priorities[is_here]
        if len(priorities):
            slots = self._drawn[is_here] % self.capacity
            self._tree.set(slots, priorities**self.alpha)
            self._largest = max(self._largest, float(priorities.max()))

    def _draw(self, num):
        return self._tree.find(self._rng.random(num) * self._tree.total)

    def _note_changes(self, slots):
        changed = np.concatenate(slots)
        has_next = self._store.links[changed] != NONE
        self._tree.set(changed, np.where(has_next, self._largest**self.alpha, 0.0))

    # State.

    def get_state(self, components=None, *, not_components=None) -> StateDict:
        """Returns a copy of contents, priorities and the random generator's state."""
        slots = np.arange(self._store.num_rows)
        priorities = {
            "alpha": self.alpha,
            "largest": self._largest,
            "powers": self._tree.get(slots),  # p^alpha.
            "drawn": self._drawn.copy(),
        }
        return super().get_state() | {"priorities": priorities}

    def _state_names(self):
        return [*super()._state_names(), "priorities"]

    def _check_state(self, state):
        super()._check_state(state)
        where = f"state of a {type(self).__name__}, 'priorities'"
        own, refuse = state["priorities"], transition_state.refuse
        if not isinstance(own, dict):
            refuse(where, f"a {type(own).__name__}", "a dict")
        names = ["alpha", "largest", "powers", "drawn"]
        matching.check(where, matching.problems_with_names(own, names))
        if own["alpha"] != self.alpha:
            refuse(
                f"{where}, 'alpha'",
                f"{own['alpha']!r}",
                f"{self.alpha}",
                "make the buffer with the alpha that was saved",
            )
        links = state["transitions"]["links"]
        powers, like = own["powers"], np.empty(0)
        transition_state.check_array(f"{where}, 'powers'", powers, like, len(links))
        largest = own["largest"]
        if type(largest) is not float or not 0.0 < largest < np.inf:
            refuse(f"{where}, 'largest'", f"{largest!r}", "a finite float above 0")
        has_next = links != NONE
        if not np.isfinite(powers).all() or np.any(powers < 0.0):
            refuse(f"{where}, 'powers'", "impossible numbers", "finite ones >= 0")
        if np.any((powers > 0.0) != has_next):
            refuse(f"{where}, 'powers'", "those of other rows", "one for each step")
        drawn, like = own["drawn"], np.empty(0, np.int64)
        num_drawn = drawn.size if isinstance(drawn, np.ndarray) else 0
        transition_state.check_array(f"{where}, 'drawn'", drawn, like, num_drawn)
        end = state["transitions"]["num_added"]
        if np.any((drawn < 0) | (drawn >= end)):
            refuse(f"{where}, 'drawn'", "rows that were never there", f"below {end}")

    def _take_state(self, state):
        before = self._store.num_rows
        super()._take_state(state)
        own = state["priorities"]
        powers = np.zeros(max(before, self._store.num_rows))
        powers[: len(own["powers"])] = own["powers"]
        self._tree.set(np.arange(len(powers)), powers)
        self._largest, self._drawn = own["largest"], own["drawn"].copy()

    def get_ctor_args_and_kwargs(self):
        args, kwargs = super().get_ctor_args_and_kwargs()
        return args, {**kwargs, "alpha": self.alpha, "beta": self.beta}


register_builder(
    "tflearner/PrioritizedEpisodeReplayBuffer", PrioritizedEpisodeReplayBuffer
)
