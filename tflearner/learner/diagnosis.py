"""Diagnosis of a skipped gradient step: the first non-finite tensor."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
import tree

from tflearner.columns import Columns
from tflearner.constants import ALL_MODULES
from tflearner.engine import gradients
from tflearner.engine.loss_scale import LossScale
from tflearner.engine.optimizers import OptimizerRecord, state_variables
from tflearner.intake import batch_checks
from tflearner.types import ColumnDict, ColumnsByModule, ModuleID, ParamDict, ParamRef

if TYPE_CHECKING:
    from tflearner.learner.tf_learner import TfLearner

NOT_SEEN = "not seen again when the minibatch was run once more"


def first_bad_tensor(
    learner: "TfLearner",
    module_id: ModuleID,
    columns: ColumnsByModule,
    rows: Mapping[ModuleID, np.ndarray],
) -> str:
    """Describes the first non-finite tensor of a gradient step.

    A skipped step changed no weights of its module, so running the minibatch again
    shows the cause. It runs line by line, in the order of a step, up to the gradients.
    Nothing is updated or logged; weights that a forward pass moves, and generators, are
    put back. What an own loss does besides, it does again.

    Args:
        learner: A `TfLearner` that is built.
        module_id: The module, or `ALL_MODULES` for optimizers under that name.
        columns: The batch, with all of its modules: a loss may span some.
        rows: Which rows, or sequences, make up the minibatch. int [N] by module.

    Returns:
        A description, such as "forward output 'action_dist_inputs', first in row 17".
    """
    minibatch = {
        mid: tree.map_structure(lambda column, at=rows[mid]: column[at], dict(own))
        for mid, own in columns.items()
    }
    weights, generators = learner.module.get_state(), learner._rng_states()
    try:
        here = " with the rows of this process" if learner.distributed else ""
        return next(_bad(learner, module_id, minibatch, rows), NOT_SEEN + here)
    except Exception as error:  # noqa: BLE001 - it is the user's code.
        return f"not found, for the minibatch run once more raised {error!r}"
    finally:
        learner.module.set_state(weights)
        learner._set_rng_states(generators)


def name_of(learner: "TfLearner", module_id: ModuleID, variable: tf.Variable) -> str:
    """Returns a readable name for a variable of a module or of its optimizers."""
    keys, ref = learner._weight_keys(), variable.ref()
    if ref in keys:
        return f"weight {keys[ref].removeprefix(f'{module_id}/')!r}"
    for record in learner._optimizers.values():
        for role, slot in state_variables(record, keys).items():
            if slot.value is variable:
                return f"slot {role!r} of optimizer {record.name!r}"
    return f"variable {variable.name!r}"


def _bad(
    learner: "TfLearner", module_id: ModuleID, columns: ColumnsByModule, rows: Mapping
) -> Iterator[str]:
    """Yields descriptions of non-finite tensors, in the order of a gradient step."""
    spans = module_id == ALL_MODULES
    searched = [*columns] if spans else [module_id]
    own = {mid: f" of module {mid!r}" if spans else "" for mid in searched}
    for mid, of in own.items():
        for key, weight in learner.module[mid].get_state().items():
            if _has_bad(weight):
                yield f"weight {key!r}{of}"
    for mid, of in own.items():
        for name, where in _bad_rows(learner, mid, columns[mid], rows[mid]):
            yield f"column {name!r}{of}{where}"

    minibatch = {
        mid: tree.map_structure(tf.constant, part) for mid, part in columns.items()
    }
    # As in `TfLearner._update`.
    with learner.metrics.collect() as logged, tf.GradientTape() as tape:
        fwd_out, losses = learner._forward_and_losses(minibatch)
        scale = LossScale(learner._optimizers.of_modules(losses))
        computed = learner.compute_gradients(scale.scaled(losses), gradient_tape=tape)

    for mid, of in own.items():
        for name, where in _bad_rows(learner, mid, fwd_out[mid], rows[mid]):
            yield f"forward output {name!r}{of}{where}"
    for mid, of in own.items():
        if not _has_bad(losses[mid]):  # Then a term may be NaN and do no harm.
            continue
        for path, values in logged.values.items():
            if path[0] == mid and any(_has_bad(value) for value in values):
                yield f"loss term {'/'.join(path[1:])!r}{of}"
        yield f"the loss{of}"
    yield from _bad_gradients(learner, module_id, computed)
    for record in learner._optimizers.for_module(module_id):
        for role, slot in state_variables(record, learner._weight_keys()).items():
            if _has_bad(slot.value):
                yield f"slot {role!r} of optimizer {record.name!r}"


def _bad_gradients(
    learner: "TfLearner", module_id: ModuleID, computed: ParamDict
) -> Iterator[str]:
    """Yields non-finite gradients; the largest one if only their norm is non-finite."""
    keys = learner._weight_keys()

    def name(record: OptimizerRecord, ref: ParamRef) -> str:
        key = keys.get(ref, record.params[ref].name)
        return repr(key.removeprefix(f"{module_id}/"))

    records = learner._optimizers.for_module(module_id)
    given = [
        (record, {r: computed[r] for r in record.params if computed.get(r) is not None})
        for record in records
    ]
    for record, own in given:
        for ref, gradient in own.items():
            if _has_bad(gradient):
                yield f"gradient of weight {name(record, ref)}"
    for record, own in given:
        is_clipped = learner._is_clipped(record.module_id)
        size = gradients.global_norm if is_clipped else gradients.sum_of_squares
        if own and _has_bad(size([*own.values()])):  # As `AskingGuard` has it.
            largest = max(own, key=lambda ref: float(tf.reduce_max(tf.abs(own[ref]))))
            yield f"norm of the gradients, largest in weight {name(record, largest)}"


def _bad_rows(
    learner: "TfLearner", module_id: ModuleID, nests: ColumnDict, rows: np.ndarray
) -> Iterator[tuple[str, str]]:
    """Yields names of non-finite columns or outputs, with the first row."""
    module = learner.module[module_id].unwrapped()
    for name, nest in nests.items():
        for path, leaf in tree.flatten_with_path(nest):
            is_bad = _is_bad(leaf)
            if name == Columns.ACTION_DIST_INPUTS and is_bad.any():
                # Beside others it is the logit of an action that is forbidden.
                has_others = ~is_bad.all(axis=-1, keepdims=True)
                is_forbidden = np.isneginf(np.asarray(leaf)) & has_others
                is_bad &= ~(is_forbidden & batch_checks.may_be_minus_inf(module))
            if is_bad.any():
                yield "/".join(map(str, (name, *path))), _first_of(is_bad, rows)


def _first_of(is_bad: np.ndarray, rows: np.ndarray) -> str:
    """Says which row of the batch is the first, if there is something for each row."""
    if is_bad.ndim == 0 or len(is_bad) != len(rows):
        return ""
    first = rows[is_bad.reshape(len(rows), -1).any(axis=1)].min()
    return f", first in row {first}"


def _has_bad(value: np.ndarray | tf.Tensor) -> bool:
    return bool(_is_bad(value).any())


def _is_bad(value: np.ndarray | tf.Tensor) -> np.ndarray:
    """Returns where numbers are non-finite: bool, in the shape of `value`."""
    try:
        return ~np.isfinite(np.asarray(value))
    except TypeError:
        return np.zeros((), bool)
