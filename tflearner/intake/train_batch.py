"""Brings whatever an update is given into one form: a batch of columns by module."""

from collections.abc import Mapping

import numpy as np

from tflearner.columns import Columns
from tflearner.connectors.connector import HAS_SEQUENCES
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.connectors.states import NEEDS_TRAJECTORIES
from tflearner.data.multi_agent_episode import MultiAgentEpisode
from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.errors import BatchError, UsageError
from tflearner.intake import update_plan
from tflearner.intake.items import DEEPEST, is_reference, unwrapped
from tflearner.metrics import MetricsLogger
from tflearner.modules.rl_module import MultiRLModule
from tflearner.types import Column, ColumnDict

_EPISODES = (SingleAgentEpisode, MultiAgentEpisode)


def from_columns(batch: object, modules: MultiRLModule) -> MultiAgentBatch:
    """Returns a batch by module.

    Args:
        batch: A `MultiAgentBatch`, or a mapping of module ids to columns, or, with one
            module, its columns alone.
        modules: The modules of the learner.

    Raises:
        BatchError: If it is something else, or names no module where there are several.
    """
    if isinstance(batch, MultiAgentBatch):
        return batch
    if not isinstance(batch, Mapping):
        raise BatchError(
            "batch",
            repr(type(batch)),
            "a MultiAgentBatch, a SampleBatch or a dict of columns",
        )
    if not batch.keys() or _is_by_module(batch, modules):
        by_module = dict(batch)
    elif len(modules) == 1:
        by_module = {next(iter(modules)): batch}
    else:
        raise BatchError(
            "batch",
            f"columns {[*batch]} without a module id",
            f"columns by module id, one of {sorted(modules)}",
        )
    result = MultiAgentBatch(
        {
            module_id: _as_columns(module_id, own)
            for module_id, own in by_module.items()
        },
        env_steps=0,
    )
    result.count = max(map(_num_steps, result.policy_batches.values()), default=0)
    return result


def from_episodes(
    episodes: object,
    connector: LearnerConnectorPipeline | None,
    modules: MultiRLModule,
    metrics: MetricsLogger,
    *,
    trajectories: bool,
    sequences: bool,
) -> MultiAgentBatch:
    """Returns the batch that the connector pipeline makes of episodes.

    Args:
        episodes: A list of `SingleAgentEpisode`s and `MultiAgentEpisode`s; the pipeline
            gets the former and the agents of the latter, without those that took no
            step.
        connector: The pipeline.
        modules: The modules of the learner.
        metrics: The logger of the pieces.
        trajectories: Whether every episode has to become one sequence.
        sequences: Whether any module trains on sequences.

    Raises:
        BatchError: If `episodes` is no list of episodes.
        UsageError: If there is no pipeline.
    """
    if not isinstance(episodes, list | tuple):
        raise BatchError("episodes", repr(type(episodes)), "a list of episodes")
    if connector is None:
        raise UsageError(
            "update_from_episodes()",
            "episodes, but this learner has no connector",
            hint="give it batches, or num_aggregator_actors_per_learner=0",
        )
    for index, episode in enumerate(episodes):
        if not isinstance(episode, _EPISODES):
            raise BatchError(
                f"episodes[{index}]",
                repr(type(episode)),
                "a SingleAgentEpisode or MultiAgentEpisode",
            )
    of_agents: list[SingleAgentEpisode] = []
    for episode in episodes:
        if isinstance(episode, MultiAgentEpisode):
            of_agents += episode.single_agent_episodes()
        elif len(episode):
            of_agents.append(episode)
    if not of_agents:
        return MultiAgentBatch({}, env_steps=0)
    by_module = connector(
        rl_module=modules,
        batch={},
        episodes=of_agents,
        shared_data={NEEDS_TRAJECTORIES: trajectories, HAS_SEQUENCES: sequences},
        metrics=metrics,
    )
    return MultiAgentBatch(by_module, env_steps=sum(map(len, episodes)))


def holds_data(batch: object, depth: int = 0) -> bool:
    """Returns whether a batch holds its data itself, with nothing deferred in it.

    Args:
        batch: Anything that an update may be given.
        depth: How many dicts it is in.
    """
    if isinstance(batch, dict) and depth < DEEPEST:
        return all(holds_data(column, depth + 1) for column in batch.values())
    return not (isinstance(batch, dict) or callable(batch) or is_reference(batch))


def are_episodes(episodes: object) -> bool:
    """Returns whether `episodes` is a list of episodes, none of them deferred."""
    if not isinstance(episodes, list | tuple):
        return False
    return {*map(type, episodes)} <= {*_EPISODES}


def ready(item: object) -> object:
    """Returns the batch in an item of an iterator; `None` if something is deferred."""
    batch = unwrapped(item) if holds_data(item) else None
    return batch if holds_data(batch) else None


def is_empty(columns: ColumnDict) -> bool:
    """Returns whether no column has any row, of columns of any form."""
    for name, column in columns.items():
        if name != Columns.INFOS and not _has_no_items(column):
            return False
    return True


def num_valid_rows(columns: ColumnDict) -> int:
    """Returns the number of rows, or of steps of sequences, that a loss counts.

    Args:
        columns: Checked columns.
    """
    mask = columns.get(Columns.LOSS_MASK)
    if not isinstance(mask, np.ndarray):
        return update_plan.num_rows(columns)
    return int(np.count_nonzero(mask))


def _is_by_module(batch: Mapping, modules: MultiRLModule) -> bool:
    if any(key in modules for key in batch):
        return True
    # Module ids that nobody knows, unless all columns are nested observations.
    is_nested = all(isinstance(value, Mapping) for value in batch.values())
    return is_nested and Columns.OBS not in batch


def _as_columns(module_id: object, columns: object) -> SampleBatch:
    where = f"module {module_id!r}"
    if not isinstance(columns, Mapping):
        raise BatchError(where, repr(type(columns)), "a dict of columns")
    for name in columns:
        if not isinstance(name, str):
            raise BatchError(where, f"a column called {name!r}", "a name")
    if isinstance(columns, SampleBatch):
        return columns
    result = SampleBatch()
    for name, column in columns.items():
        try:
            result.update(SampleBatch({name: column}))
        except ValueError as error:  # NumPy's, for a list of unlike rows.
            raise BatchError(
                f"{where}, column {name!r}", "a ragged list", "rows of one shape"
            ) from error
    return result


def _num_steps(columns: SampleBatch) -> int:
    try:
        return len(columns)
    except (TypeError, ValueError, ArithmeticError):
        return 0  # Lengths that are none: they are refused later, with their names.


def _has_no_items(nest: Column) -> bool:
    if isinstance(nest, Mapping | tuple):
        inner = nest.values() if isinstance(nest, Mapping) else nest
        return all(_has_no_items(own) for own in inner)
    try:
        return len(nest) == 0
    except TypeError:  # None, or a scalar.
        return False
