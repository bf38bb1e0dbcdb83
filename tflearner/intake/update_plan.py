"""What an update is going to do, decided before anything changes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tflearner.checks import check_count
from tflearner.columns import Columns
from tflearner.data import minibatches
from tflearner.data.minibatches import MinibatchPlan
from tflearner.errors import UsageError
from tflearner.types import ModuleID

# The most rows of a minibatch that repeats rows of its batch to keep its traced size.
MOST_REPEATED = 2**14


class UpdateSettings(NamedTuple):
    """How an update goes through its batch.

    Attributes:
        num_epochs: Passes over the batch.
        minibatch_size: Rows of every module per gradient step; `None` takes all rows.
        shuffle: Whether rows are shuffled before every pass.
        num_total_minibatches: Gradient steps instead of `num_epochs`, if above 0.
    """

    num_epochs: int = 1
    minibatch_size: int | None = None
    shuffle: bool = False
    num_total_minibatches: int = 0

    def check(self) -> None:
        """Raises `UsageError` if a count or `shuffle` has a wrong type or value."""
        if not isinstance(self.shuffle, bool | np.bool_):
            raise UsageError("shuffle_batch_per_epoch", repr(self.shuffle), "a bool")
        check_count("num_epochs", self.num_epochs)
        if self.minibatch_size is not None:
            check_count("minibatch_size", self.minibatch_size)
        check_count("num_total_minibatches", self.num_total_minibatches, at_least=0)

    def fitted_to(
        self, columns: Mapping[ModuleID, Mapping[str, Any]]
    ) -> "UpdateSettings":
        """Returns settings whose minibatch size suits the batch.

        A minibatch with more rows than its batch repeats rows, up to `MOST_REPEATED`
        rows. With a larger size, the whole batch is the minibatch.

        Raises:
            UsageError: If there are too many minibatches.
        """
        if not columns:
            return self
        settings, longest = self, max(map(num_rows, columns.values()))
        if (self.minibatch_size or 0) > max(longest, MOST_REPEATED):
            settings = self._replace(minibatch_size=longest)
        minibatches.check_fits(
            num_minibatches(columns, settings),
            max(plan_sizes(columns, settings).values()),
        )
        return settings


class UpdatePlan(NamedTuple):
    """What an update is going to do.

    Attributes:
        columns: Columns of the modules that learn, ready to train on.
        env_steps: The environment steps that the batch stands for.
        minibatches: Which rows, or sequences, make up each minibatch.
        full_batch: Whether each minibatch is the whole batch.
        parts: The plans that this one joins, see `groups`; none if it joins none.
    """

    columns: dict[ModuleID, dict[str, Any]]
    env_steps: int
    minibatches: MinibatchPlan
    full_batch: bool
    parts: tuple["UpdatePlan", ...] = ()


def plan_update(
    columns: dict[ModuleID, dict[str, Any]],
    env_steps: int,
    settings: UpdateSettings,
    rng: np.random.Generator,
) -> UpdatePlan:
    """Returns the plan of an update.

    Args:
        columns: Checked columns of at least one module, none without rows.
        env_steps: The environment steps that they stand for.
        settings: How to go through them.
        rng: Makes the orders; only a shuffled plan draws from it.
    """
    full_batch = settings.minibatch_size is None
    return UpdatePlan(
        columns,
        env_steps,
        minibatches.plan_minibatches(
            items_by_module(columns),
            minibatch_size=plan_sizes(columns, settings),
            num_epochs=settings.num_epochs,
            shuffle=settings.shuffle and not full_batch,
            num_total_minibatches=settings.num_total_minibatches,
            rng=rng,
        ),
        full_batch,
    )


def items_by_module(columns: Mapping[ModuleID, Mapping[str, Any]]) -> dict:
    """Returns the number of rows, or of sequences, of each module."""
    return {module_id: _num_items(own) for module_id, own in columns.items()}


def num_minibatches(
    columns: Mapping[ModuleID, Mapping[str, Any]], settings: UpdateSettings
) -> int:
    """Returns how many minibatches the plan of an update has."""
    return settings.num_total_minibatches or minibatches.count_minibatches(
        items_by_module(columns), plan_sizes(columns, settings), settings.num_epochs
    )


def plan_sizes(
    columns: Mapping[ModuleID, Mapping[str, Any]], settings: UpdateSettings
) -> dict[ModuleID, int]:
    """Returns how many rows, or sequences, of each module make up a minibatch."""
    size = settings.minibatch_size
    return {
        module_id: _num_items(own) if size is None else _items_per_minibatch(own, size)
        for module_id, own in columns.items()
    }


def _num_items(columns: Mapping[str, Any]) -> int:
    """The number of sequences, or of rows where there are none."""
    if Columns.SEQ_LENS in columns:
        return len(columns[Columns.SEQ_LENS])
    return num_rows(columns)


def _items_per_minibatch(columns: Mapping[str, Any], minibatch_size: int) -> int:
    if Columns.SEQ_LENS not in columns:
        return minibatch_size
    seq_lens = columns[Columns.SEQ_LENS]
    return minibatches.items_per_minibatch(
        len(seq_lens), int(seq_lens.sum()), minibatch_size
    )


def num_rows(columns: Mapping[str, Any]) -> int:
    """Returns the number of rows, that of the observations if there are any.

    Rows of sequences are counted without padding.
    """
    if Columns.SEQ_LENS in columns:
        return int(columns[Columns.SEQ_LENS].sum())
    column = columns.get(Columns.OBS)
    if column is None:
        column = next(iter(columns.values()), ())
    while isinstance(column, dict | tuple) and column:
        column = next(iter(column.values())) if isinstance(column, dict) else column[0]
    return len(column)
