"""The base class of connector pieces."""

from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np

import tflearner
from tflearner.checkpoint.checkpointable import Checkpointable
from tflearner.checkpoint.kinds import CONNECTOR, SPACE, of_kind
from tflearner.checkpoint.restoring import RestorePlan, RestoreReport
from tflearner.columns import Columns
from tflearner.errors import ConfigError, ExportError
from tflearner.types import StateDict

# Entries of `shared_data` in front of a module.
STARTS = "starts"  # Which rows begin an episode. bool [N].
MEMORY = "memory"  # What the piece remembers, and then what it will remember next.
# In `shared_data`: whether any module trains on sequences; if not said, any may.
HAS_SEQUENCES = "has_sequences"


@of_kind(
    CONNECTOR,
    takes={"input_observation_space": (SPACE,), "input_action_space": (SPACE,)},
)
class ConnectorV2(Checkpointable):
    """Base class of connectors between environment, module and learner.

    A pipeline calls its pieces in order. A piece gets the batch, changes or replaces it
    and returns it. It never changes episodes. A learner's piece that adds a column
    gives it one entry per episode:

        class AddTimes(ConnectorV2):
            def __call__(self, *, batch, episodes, shared_data, **kwargs):
                # One more for the artificial last row, if episodes got such.
                more = 1 if shared_data.get("bootstrap_rows") else 0
                batch["t"] = [np.arange(e.t_started, e.t + more) for e in episodes]
                return batch

    A piece that changes observations or actions also has `to_tensors`, the same rule in
    TensorFlow, so that an exported policy can contain it.

    A piece may have statistics and a memory:

    * Statistics, such as a mean, belong to all environments. They are attributes of the
      piece, and saved: see `get_state`.
    * A memory, such as the last observation, belongs to one environment and begins anew
      with each episode. It is never saved. Environment runners and exported policies
      keep it: they pass it to the piece, which returns the next one.

    A piece with a memory has `recall` in place of `__call__` and `to_tensors`. It is
    written with functions that `numpy` and `keras.ops` share. This piece appends to each
    observation its change since the last one:

        class AddChange(ConnectorV2):
            @property
            def observation_space(self):
                size = self.input_observation_space.shape[0]
                return gym.spaces.Box(-np.inf, np.inf, (2 * size,), np.float32)

            def get_initial_memory(self):
                shape = self.input_observation_space.shape
                return {"last": np.zeros(shape, np.float32), "seen": np.float32(0)}

            def recall(self, x, memory, xp):
                change = (x - memory["last"]) * memory["seen"][:, None]
                memory = {"last": x, "seen": xp.ones_like(memory["seen"])}
                return xp.concatenate([x, change], axis=-1), memory

    Args:
        input_observation_space: Space of the observations that come in.
        input_action_space: Space of the environment's actions.
    """

    # Whether the piece does something only if a module trains on sequences.
    is_for_sequences: bool = False

    def __init__(
        self,
        input_observation_space: gym.Space | None = None,
        input_action_space: gym.Space | None = None,
    ):
        self.input_observation_space = input_observation_space
        self.input_action_space = input_action_space

    @property
    def observation_space(self) -> gym.Space | None:
        """The space of the observations that go out."""
        return self.input_observation_space

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Returns the batch for the next piece.

        Called with keywords; a piece names those it needs and takes `**kwargs`. Here
        it changes observations by `recall`, for pieces with a memory.

        Args:
            *args: Never given.
            **kwargs: `rl_module`: the module that acts, or the `MultiRLModule` that
                learns. `batch`: acting, {column: array [num_envs, ...]}; learning,
                {column: [array [T, ...] per episode, or None]}, behind
                `AgentToModuleMapping` the same for each module id, behind
                `BatchIndividualItems` {module_id: {column: array [N, ...]}}, arrays
                that later pieces may write into.
                `episodes`: those the batch is made from; learning, one of a single
                agent for each entry. `explore`: whether actions are explored.
                `shared_data`: a dict of what pieces tell later pieces; in front of a
                module `shared_data["starts"]`, bool [num_envs], says which rows begin
                an episode. `metrics`: a `MetricsLogger` to log to.
        """
        batch, shared_data = kwargs["batch"], kwargs.get("shared_data") or {}
        if MEMORY not in shared_data:
            raise ConfigError(
                f"connector piece {type(self).__name__}",
                f"no shared_data[{MEMORY!r}], and no method __call__",
                "one of them",
                "write __call__, or get_initial_memory and recall, which environment "
                "runners call with the memory of each environment",
            )
        batch[Columns.OBS], shared_data[MEMORY] = self.recall(
            batch[Columns.OBS], shared_data[MEMORY], np
        )
        return batch

    def get_initial_memory(self) -> Any:
        """Returns the memory of one environment at the start of an episode.

        Returns:
            A nest of NumPy arrays; `None`, as here, for pieces without a memory.
        """
        return None

    def recall(self, x: Any, memory: Any, xp: Any) -> tuple[Any, Any]:
        """Returns observations for the next piece, and the memory after them.

        It is called once for each observation. It must not change arrays in place.

        Args:
            x: An array [B, ...] or a nest of such: one row for each environment.
            memory: The nest of `get_initial_memory`, with rows. [B, ...] each.
            xp: The module with the operations: `numpy` in acting, and `keras.ops` in
                an exported policy.
        """
        raise ConfigError(
            f"connector piece {type(self).__name__}",
            "get_initial_memory without recall",
            "recall(self, x, memory, xp), which returns observations and a memory",
        )

    def remember(self, memory: Any, actions: Any, rewards: Any, xp: Any) -> Any:
        """Returns the memory after a step of the environments; by default unchanged.

        Args:
            memory: The memory after the observations that were acted on.
            actions: The module's actions. [B, ...].
            rewards: The environments' rewards, [B]; 0 in an exported policy, which is
                told none.
            xp: The module with the operations, as in `recall`.
        """
        return memory

    def to_tensors(self, x: Any) -> Any:
        """Applies the rule of the piece to tensors, inside an exported policy.

        A piece in front of the module gets the observations, a piece behind it the
        actions or, as long as there are none yet, the module's `ACTION_DIST_INPUTS`.
        A piece that changes none of these returns `x`. Written with `keras.ops` and
        operators, the rule works in Keras files as well.

        Args:
            x: A tensor [B, ...] or a nest of such.

        Raises:
            ExportError: Here: a piece without a rule cannot be exported.
        """
        # Through the front door, which loads TensorFlow no sooner than here.
        rule = tflearner.tensor_rule_of(type(self))
        if rule is not None:
            return rule(self, x)
        raise ExportError(
            f"connector piece {type(self).__name__}",
            "no method to_tensors",
            "its rule in TensorFlow",
            "write to_tensors(self, x), which returns x if the piece changes nothing",
        )

    @property
    def has_state(self) -> bool:
        """Whether the piece has statistics: whether its class defines `get_state`."""
        return type(self).get_state is not ConnectorV2.get_state

    def get_state(self, components=None, *, not_components=None) -> StateDict:
        """Returns the statistics of the piece as NumPy arrays and plain Python.

        Here it is empty.
        """
        return {}

    def set_state(self, state: StateDict) -> None:
        """Restores a state from `get_state`; an invalid one changes nothing."""
        if state:
            raise ConfigError(
                f"connector piece {type(self).__name__}",
                f"a state {sorted(state)}",
                "none: it has no state",
            )

    def get_ctor_args_and_kwargs(self):
        return (), {
            "input_observation_space": self.input_observation_space,
            "input_action_space": self.input_action_space,
        }

    def _plan_restore(self, state, component):
        if component:
            return super()._plan_restore(state, component)

        # What is no state of its own the piece says itself: it may have other names in
        # it from one moment to the next.
        def apply() -> RestoreReport:
            self.set_state(state)
            return RestoreReport(loaded=tuple(state))

        return RestorePlan([], apply)

    @staticmethod
    def single_agent_episode_iterator(
        episodes: Iterable[Any],
        agents_that_stepped_only: bool = False,
        zip_with_batch_column: Iterable[Any] | None = None,
    ) -> Iterator[Any]:
        """Yields the episodes of single agents, also those inside multi-agent ones.

        Args:
            episodes: `SingleAgentEpisode`s and `MultiAgentEpisode`s.
            agents_that_stepped_only: Whether to leave out agents of multi-agent episodes
                that got no observation in the last step.
            zip_with_batch_column: A column with one entry per yielded episode; makes
                the results pairs of episode and entry.
        """
        found = []
        for episode in episodes:
            agents = getattr(episode, "agent_episodes", None)
            if agents is None:
                found.append(episode)
            elif agents_that_stepped_only:
                found += [agents[a] for a in episode.get_agents_that_stepped()]
            else:
                found += agents.values()
        if zip_with_batch_column is None:
            return iter(found)
        return zip(found, zip_with_batch_column, strict=True)
