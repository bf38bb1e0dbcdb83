"""A replay buffer of episodes, from which train batches are drawn uniformly."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tflearner.checkpoint import matching, random_state, spaces
from tflearner.checkpoint.builders import register_builder
from tflearner.checkpoint.checkpointable import Checkpointable
from tflearner.checkpoint.kinds import BUFFER, SPACE, of_kind
from tflearner.checkpoint.restoring import RestorePlan, RestoreReport
from tflearner.checks import check_count, check_fraction, check_range
from tflearner.columns import Columns
from tflearner.data import allocation, arrays, lookback_buffer, transition_state
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.data.space_leaves import KINDS, SpaceLeaves
from tflearner.data.transition_store import Chunk, TransitionStore
from tflearner.errors import BatchError, CheckpointMismatchError, UsageError
from tflearner.types import StateDict


@of_kind(
    BUFFER,
    takes={"observation_space": (SPACE,), "action_space": (SPACE,)},
    machine={"memmap_dir": None},
)
class EpisodeReplayBuffer(Checkpointable):
    """Replay buffer that stores episodes and draws transitions uniformly.

    Add episodes whole, or in chunks with one `id_`, each of which starts with the last
    observation of the previous chunk. Every observation is stored once, with the dtype
    of its space. Transitions over several steps, across chunks too, are assembled when
    they are drawn. When the buffer is full, new observations replace the oldest ones.

    >>> import gymnasium as gym
    >>> buffer = EpisodeReplayBuffer(
    ...     1000,
    ...     observation_space=gym.spaces.Box(0, 9, (), np.float32),
    ...     action_space=gym.spaces.Discrete(2),
    ...     seed=0,
    ... )
    >>> buffer.describe()
    '1,000 observations, 22.0 kB'
    >>> episode = SingleAgentEpisode()
    >>> episode.add_env_reset(0.0)
    >>> for t in range(3):
    ...     episode.add_env_step(t + 1.0, action=0, reward=1.0, terminated=t == 2)
    >>> buffer.add(episode)
    >>> len(buffer)
    3
    >>> batch = buffer.sample(4, n_step=2, gamma=0.5)
    >>> batch["obs"].tolist(), batch["new_obs"].tolist()
    ([2.0, 2.0, 1.0, 1.0], [3.0, 3.0, 3.0, 3.0])
    >>> batch["rewards"].tolist(), batch["n_step"].tolist()
    ([1.0, 1.0, 1.5, 1.5], [1.0, 1.0, 2.0, 2.0])

    Args:
        capacity: The number of observations to keep. An episode of T steps takes T + 1.
        observation_space: The space of the episodes' observations, as the module sees
            them.
        action_space: The space of the episodes' actions, as the module chooses them.
        memmap_dir: A directory on a disk for observations and actions, for buffers
            larger than the memory. The space is reserved at once, in unnamed files, and
            freed with the buffer.
        seed: Seed of the draws; `None` draws differently each time.

    Raises:
        ConfigError: If memory or disk space is too small for a full buffer.
        SpaceError: If a part of a space is not an array of numbers with a fixed shape.
        UsageError: If the capacity is not an int of at least 2.
    """

    def __init__(
        self,
        capacity: int,
        *,
        observation_space: Any,
        action_space: Any,
        memmap_dir: str | os.PathLike | None = None,
        seed: int | None = None,
    ):
        self.capacity = check_count("capacity", capacity, at_least=2)
        self.observation_space = observation_space
        self.action_space = action_space
        self.memmap_dir = None if memmap_dir is None else os.fspath(memmap_dir)
        self.seed = None if seed is None else check_count("seed", seed, at_least=0)
        self._observations = SpaceLeaves(observation_space, "observation_space")
        self._actions = SpaceLeaves(action_space, "action_space")
        self._check_room()
        self._store = TransitionStore(
            self.capacity, self._observations, self._actions, self.memmap_dir
        )
        self._rng = np.random.default_rng(self.seed)
        self._num_sampled = 0

    @property
    def nbytes(self) -> int:
        """The bytes of the full buffer, in memory and on disk."""
        return sum(self._nbytes())

    def _nbytes(self) -> tuple[int, int]:
        """Returns the bytes of observations and actions, and of everything else."""
        return TransitionStore.nbytes_of(
            self.capacity, self._observations, self._actions
        )

    def _check_room(self) -> None:
        where = f"{type(self).__name__}(capacity={self.capacity:,})"
        of_leaves, of_rest = self._nbytes()
        memory, limit = of_leaves + of_rest, allocation.machine_memory()
        if self.memmap_dir is not None:
            memory = of_rest
            free = allocation.free_disk(self.memmap_dir)
            fits = self.capacity * free // max(of_leaves, 1)
            allocation.check_room(
                where,
                of_leaves,
                free,
                f"what is free in {self.memmap_dir}",
                f"a capacity of at most {fits:,}, or a memmap_dir with more room",
            )
        fits = self.capacity * limit // memory
        hint = f"a capacity of at most {fits:,}"
        if self.memmap_dir is None:
            hint += ", or memmap_dir=..., which keeps observations on a disk"
        allocation.check_room(where, memory, limit, "this machine's memory", hint)

    def describe(self) -> str:
        """Returns the buffer's capacity, size and place as a short text."""
        text = f"{self.capacity:,} observations, {allocation.as_text(self.nbytes)}"
        return text if self.memmap_dir is None else f"{text} in {self.memmap_dir}"

    def __len__(self) -> int:
        """Returns the number of steps that can be drawn."""
        return self._store.num_transitions

    def get_num_timesteps(self) -> int:
        """Returns the number of steps that can be drawn."""
        return len(self)

    def get_num_episodes(self) -> int:
        """Returns the number of episodes with at least one stored observation.

        An episode with missing chunks counts once for each contiguous part.
        """
        # The newest row of every part is the only one without a successor.
        return self._store.num_rows - self._store.num_transitions

    def get_added_timesteps(self) -> int:
        """Returns the number of steps added so far, removed ones included."""
        return self._store.num_steps_added

    def get_sampled_timesteps(self) -> int:
        """Returns the number of rows drawn so far."""
        return self._num_sampled

    def add(self, episodes: SingleAgentEpisode | Sequence[SingleAgentEpisode]) -> None:
        """Adds episodes or chunks of episodes; after an error none of them is added.

        A chunk continues the previous chunk of its `id_` if it starts at the step where
        that one ended (`t_started`) and that step is still stored. Otherwise it starts
        a new part: its steps can be drawn, but are not joined to earlier ones.
        Lookback, infos and the extra outputs of modules are not stored.

        Args:
            episodes: Episodes in growing or NumPy form; chunks of one id in their
                order.

        Raises:
            BatchError: If a column does not fit its space or the number of steps.
        """
        given = [episodes] if isinstance(episodes, SingleAgentEpisode) else episodes
        chunks = [self._checked(episode) for episode in given]
        changed: list[np.ndarray] = []
        for chunk in chunks:
            if chunk is not None:
                changed += self._store.append(chunk)
        if changed:
            self._note_changes(changed)

    def _checked(self, episode: Any) -> Chunk | None:
        """Returns an episode as a checked chunk; `None` if it was not reset."""
        if not isinstance(episode, SingleAgentEpisode):
            raise BatchError(
                f"{type(self).__name__}.add()",
                f"a {type(episode).__name__}",
                "SingleAgentEpisodes",
                "of a MultiAgentEpisode, add `episode.single_agent_episodes()`, "
                "to one buffer per module",
            )
        where, lookback = f"episode {episode.id_!r}, column", episode.rewards.lookback
        own = slice(lookback, None)
        num_steps = len(episode.rewards)
        if not num_steps:
            if episode.is_done:
                raise BatchError(
                    f"episode {episode.id_!r}",
                    "the end of an episode without its last step",
                    "the step that ended it",
                    "add it together with the previous steps",
                )
            if not episode.is_reset:
                return None
        seen, done = (
            lookback_buffer.rows(column.data, own)
            for column in (episode.observations, episode.actions)
        )
        return Chunk(
            episode.id_,
            episode.t_started,
            self._observations.arrays(f"{where} 'observations'", seen, num_steps + 1),
            self._actions.arrays(f"{where} 'actions'", done, num_steps)
            if num_steps
            else [],
            _rewards(
                f"{where} 'rewards'", lookback_buffer.rows(episode.rewards.data, own)
            ),
            episode.is_terminated,
            episode.is_truncated,
        )

    def end_episodes(self) -> None:
        """Marks all open episodes as truncated.

        Call it when environments are reset before their episodes have ended: later
        steps do not follow on the stored ones.
        """
        self._store.end_episodes()

    def sample(
        self,
        num_items: int,
        *,
        n_step: int | tuple[int, int] = 1,
        gamma: float = 0.99,
    ) -> dict[str, Any]:
        """Draws transitions uniformly and independently of each other.

            rewards = r_0 + gamma r_1 + .. + gamma^(n - 1) r_(n - 1)

        n is `n_step`, or less where the stored part of the episode ends earlier.

        Args:
            num_items: The number of transitions, N. It may exceed the number of steps.
            n_step: The number of steps of a transition. A pair draws the number for
                each row, uniformly from the first to the second, both included.
            gamma: Discount per step.

        Returns:
            New arrays by column. "obs" and "new_obs" [N, ...]: the observations before
            the first and after the last of the n steps. "actions" [N, ...]: the first
            action. "rewards" float32 [N]: the sum above. "terminateds" and "truncateds"
            bool [N]: the flags of the last step. "n_step" float32 [N]: n. "weights"
            float32 [N]: all 1.

        Raises:
            UsageError: If the buffer is empty, or an argument is out of range.
        """
        batch, _ = self._sample(num_items, n_step, gamma)
        weights = arrays.empty((num_items,), np.float32)
        weights.fill(1.0)
        return batch | {Columns.WEIGHTS: weights}

    def _sample(self, num_items: Any, n_step: Any, gamma: Any) -> tuple[dict, Any]:
        """Returns the columns except the weights, and the slots of the rows."""
        num = check_count("num_items", num_items)
        low, high = check_range("n_step", n_step)
        if high >= self.capacity:
            raise UsageError(
                "n_step",
                repr(n_step),
                f"at most {self.capacity - 1}, as capacity={self.capacity}",
            )
        gamma = check_fraction("gamma", gamma)
        if not len(self):
            raise UsageError(
                f"{type(self).__name__}.sample()",
                f"a buffer of {self._store.num_rows} observations and 0 steps",
                "at least 1 step",
                "add episodes first",
            )
        slots = self._draw(num)
        steps: Any = high
        if low < high:
            steps = self._rng.integers(low, high + 1, size=num)
        batch: dict[str, Any] = self._store.transitions(
            slots, num_steps=steps, most=high, gamma=gamma
        )
        for column in (Columns.OBS, Columns.NEXT_OBS):
            batch[column] = self._observations.nest(batch[column])
        batch[Columns.ACTIONS] = self._actions.nest(batch[Columns.ACTIONS])
        self._num_sampled += num
        return batch, slots

    # Methods that a buffer with other probabilities overrides.

    def _draw(self, num: int) -> np.ndarray:
        """Returns the slots of the rows of the next batch. int64 [num]."""
        return self._store.draw(num, self._rng)

    def _note_changes(self, slots: list[np.ndarray]) -> None:
        """Receives the slots that were overwritten or got a successor."""

    # State.

    def get_state(self, components=None, *, not_components=None) -> StateDict:
        """Returns a copy of the contents and of the random generator's state."""
        return {
            "transitions": transition_state.get_state(self._store),
            "num_sampled": self._num_sampled,
            "rng": self._rng.bit_generator.state,
        }

    def set_state(self, state: StateDict) -> None:
        """Restores the contents and the random generator's state.

        Raises:
            CheckpointMismatchError: If the state belongs to a buffer with another
                capacity or other spaces; nothing is changed then.
        """
        self._check_state(state)
        self._take_state(state)

    def _state_names(self) -> list[str]:
        return ["transitions", "num_sampled", "rng"]

    def _check_state(self, state: Any) -> None:
        where = f"state of a {type(self).__name__}"
        if not isinstance(state, dict):
            transition_state.refuse(where, f"a {type(state).__name__}", "a dict")
        problems = matching.problems_with_names(state, self._state_names())
        matching.check(where, problems, transition_state.HINT)
        transition_state.check(where, self._store, state["transitions"])
        transition_state.check_count(f"{where}, 'num_sampled'", state["num_sampled"])
        random_state.checked(f"{where}, 'rng'", self._rng, state["rng"])

    def _take_state(self, state: StateDict) -> None:
        transition_state.set_state(self._store, state["transitions"])
        self._num_sampled = state["num_sampled"]
        self._rng.bit_generator.state = state["rng"]

    def _plan_restore(self, state, component):
        if component:
            return super()._plan_restore(state, component)
        # Without the copy of the current state that the base class makes.
        problems = []
        try:
            self._check_state(state)
        except CheckpointMismatchError as error:
            want = "" if error.want is None else f" instead of {error.want}"
            problems = [f"{error.where}: {error.got}{want}"]

        def apply() -> RestoreReport:
            if problems:
                return RestoreReport(kept=tuple(self._state_names()))
            self._take_state(state)
            return RestoreReport(loaded=tuple(self._state_names()))

        return RestorePlan(problems, apply)

    def get_ctor_args_and_kwargs(self):
        return (), {
            "capacity": self.capacity,
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "memmap_dir": self.memmap_dir,
            "seed": self.seed,
        }


spaces.register_builders()
register_builder("tflearner/EpisodeReplayBuffer", EpisodeReplayBuffer)


def _rewards(where: str, rewards: Any) -> np.ndarray:
    try:
        array = np.asarray(rewards)
    except ValueError as error:
        raise BatchError(where, f"unequal items ({error})", "numbers") from error
    if array.ndim != 1 or array.dtype.kind not in KINDS:
        raise BatchError(
            where,
            f"{array.dtype} {array.shape}",
            f"numbers {(len(array) if array.ndim else 0,)}",
        )
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
