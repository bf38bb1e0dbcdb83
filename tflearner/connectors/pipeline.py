"""Connector pipelines, which call their pieces in order."""

from collections.abc import Iterable, Iterator
from typing import Any

from tflearner.checkpoint.checkpointable import Checkpointable
from tflearner.checkpoint.kinds import CONNECTOR, of_kind
from tflearner.connectors.connector import HAS_SEQUENCES, MEMORY, ConnectorV2
from tflearner.errors import ConfigError
from tflearner.types import StateDict


@of_kind(CONNECTOR, takes={"connectors": (CONNECTOR,)})
class ConnectorPipelineV2(ConnectorV2):
    """Calls its pieces one after the other.

        >>> pipeline = ConnectorPipelineV2()
        >>> len(pipeline)
        0

    Args:
        connectors: The pieces.
        input_observation_space: Space of the observations that come in.
        input_action_space: Space of the environment's actions.
    """

    def __init__(
        self,
        connectors: Iterable[ConnectorV2] = (),
        input_observation_space=None,
        input_action_space=None,
    ):
        super().__init__(input_observation_space, input_action_space)
        self.connectors: list[ConnectorV2] = []
        for piece in connectors:
            self.append(piece)

    @property
    def observation_space(self):
        spaces = [self.input_observation_space]
        spaces += [c.observation_space for c in self.connectors]
        return next((s for s in reversed(spaces) if s is not None), None)

    def __call__(
        self,
        *,
        rl_module,
        batch,
        episodes,
        explore=None,
        shared_data=None,
        metrics=None,
        **kwargs,
    ):
        shared_data = {} if shared_data is None else shared_data
        has_sequences = shared_data.get(HAS_SEQUENCES, True)
        memory = dict(shared_data.get(MEMORY) or ())
        names = [name for name, _ in self.named()] if memory else None
        for index, piece in enumerate(self.connectors):
            if piece.is_for_sequences and not has_sequences:
                continue
            name = names[index] if names else None
            if name in memory:
                shared_data[MEMORY] = memory[name]
            batch = piece(
                rl_module=rl_module,
                batch=batch,
                episodes=episodes,
                explore=explore,
                shared_data=shared_data,
                metrics=metrics,
                **kwargs,
            )
            if not isinstance(batch, dict):
                raise ConfigError(
                    f"connector piece {type(piece).__name__}",
                    f"a returned {type(batch).__name__}",
                    "the batch as a dict",
                    "end __call__ with `return batch`",
                )
            if name in memory:
                memory[name] = shared_data.pop(MEMORY)
        if memory:
            shared_data[MEMORY] = memory
        return batch

    def get_initial_memory(self):
        """Returns the memories of the pieces that have one, by the names of the pieces.

        `None` if no piece has a memory.
        """
        memories = {name: piece.get_initial_memory() for name, piece in self.named()}
        return {k: own for k, own in memories.items() if own is not None} or None

    def remember(self, memory, actions, rewards, xp):
        """Returns the memories of all pieces after a step of the environments."""
        return {
            name: piece.remember(memory[name], actions, rewards, xp)
            for name, piece in self.named()
            if name in memory
        }

    @property
    def has_state(self) -> bool:
        """Whether one of the pieces has statistics."""
        return any(piece.has_state for piece in self.connectors)

    def get_state(self, components=None, *, not_components=None) -> StateDict:
        """Returns the states of the pieces that have one, by the names of the pieces.

        A piece is called by its class, the second one of a class "Class_1" and so on.
        """
        return {name: p.get_state() for name, p in self.named() if p.has_state}

    def set_state(self, state: StateDict) -> None:
        """Restores the states of all pieces that have one.

        Raises:
            ConfigError: If it has not exactly those, or a piece refuses its own;
                nothing is changed then.
        """
        if not isinstance(state, dict):
            got = f"a {type(state).__name__}"
            raise ConfigError(f"state of {type(self).__name__}", got, "a dict")
        pieces, before = dict(self.named()), self.get_state()
        unknown, missing = (
            sorted(set(state) - set(pieces)),
            sorted(set(before) - set(state)),
        )
        if unknown or missing:
            raise ConfigError(
                f"state of {type(self).__name__}",
                f"unknown pieces {unknown}, missing pieces {missing}",
                f"the pieces with a state, {sorted(before)}",
                "configure the connectors that the state was taken from",
            )
        try:
            for name, part in state.items():
                pieces[name].set_state(part)
        except BaseException:
            for name, part in before.items():
                pieces[name].set_state(part)
            raise

    def get_ctor_args_and_kwargs(self):
        _, kwargs = super().get_ctor_args_and_kwargs()
        return (), {"connectors": list(self.connectors), **kwargs}

    def get_checkpointable_components(self):
        return [(name, piece) for name, piece in self.named() if piece.has_state]

    def _plan_restore(self, state, component):
        return Checkpointable._plan_restore(self, state, component)  # Piece by piece.

    def _set_own_state(self, state):
        pass  # Its state is that of its pieces.

    def named(self) -> Iterator[tuple[str, ConnectorV2]]:
        """Yields the pieces with their names in states and memories."""
        taken: set[str] = set()
        for piece in self.connectors:
            class_name = name = type(piece).__name__
            index = 0
            while name in taken:
                index += 1
                name = f"{class_name}_{index}"
            taken.add(name)
            yield name, piece

    def __len__(self) -> int:
        return len(self.connectors)

    def __iter__(self) -> Iterator[ConnectorV2]:
        return iter(self.connectors)

    def append(self, connector: ConnectorV2) -> None:
        """Adds a piece behind the others."""
        self._insert(len(self.connectors), connector)

    def prepend(self, connector: ConnectorV2) -> None:
        """Adds a piece in front of the others."""
        self._insert(0, connector)

    def insert_before(self, name_or_class: str | type, connector: ConnectorV2) -> None:
        """Adds a piece in front of the first piece of a class or class name."""
        self._insert(self._index(name_or_class), connector)

    def insert_after(self, name_or_class: str | type, connector: ConnectorV2) -> None:
        """Adds a piece behind the first piece of a class or class name."""
        self._insert(self._index(name_or_class) + 1, connector)

    def remove(self, name_or_class: str | type) -> None:
        """Removes the first piece of a class or class name."""
        del self.connectors[self._index(name_or_class)]

    def _insert(self, index: int, connector: ConnectorV2) -> None:
        if not isinstance(connector, ConnectorV2):
            is_class = isinstance(connector, type)
            raise ConfigError(
                f"{type(self).__name__}",
                repr(connector),
                "an instance of ConnectorV2",
                f"{connector.__name__}(...)" if is_class else None,
            )
        self.connectors.insert(index, connector)

    def _index(self, name_or_class: str | type) -> int:
        for index, piece in enumerate(self.connectors):
            if name_or_class in (type(piece), type(piece).__name__):
                return index
        raise ConfigError(
            f"{type(self).__name__}",
            f"no piece {name_or_class!r}",
            f"one of {[type(piece).__name__ for piece in self.connectors]}",
        )


class EnvToModulePipeline(ConnectorPipelineV2):
    """Pipeline of connectors that turns observations into a batch for a module.

    If `get_initial_memory` is not `None`, the caller keeps one row of memory for each
    environment. It sets a row to the initial one before an episode's first observation:

        shared_data = {"rng": rng, "starts": starts, "memory": memory}
        batch = pipeline(batch={"obs": obs}, shared_data=shared_data, ...)
        ...  # The module acts, and the environments step.
        memory = pipeline.remember(shared_data["memory"], actions, rewards, np)
    """


class ModuleToEnvPipeline(ConnectorPipelineV2):
    """Pipeline of connectors that turns a module's outputs into environment actions."""


class LearnerConnectorPipeline(ConnectorPipelineV2):
    """Pipeline of connectors that turns episodes into train batches."""


def as_connectors(made: Any) -> list[ConnectorV2]:
    """Returns the result of a user's connector function as a list of pieces."""
    if made is None:
        return []
    return list(made) if isinstance(made, list | tuple) else [made]
