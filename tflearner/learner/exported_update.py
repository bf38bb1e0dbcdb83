"""Learning itself, exported: one gradient step that needs TensorFlow alone.

A SavedModel with the endpoint `update` resumes training from its learner's state:

    loaded = tf.saved_model.load(path)
    metrics = loaded.update(columns)
    actions = loaded.act_greedy(obs)  # Of the new weights.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tflearner.constants import ALL_MODULES, NUM_NON_FINITE_UPDATES_LIFETIME
from tflearner.engine import compiled_update, optimizers
from tflearner.engine.optimizers import param_ref, tf_variable
from tflearner.errors import ExportError
from tflearner.export.endpoints import Endpoint
from tflearner.intake import train_batch
from tflearner.types import ModuleID

if TYPE_CHECKING:
    from tflearner.learner.tf_learner import TfLearner

UPDATE = "update"
TRAINABLE_VARIABLES = "trainable_variables"
OPTIMIZER_VARIABLES = "optimizer_variables"

Variables = dict[str, tf.Variable]

_REDUCTIONS = {
    "sum": tf.reduce_sum,
    "min": tf.reduce_min,
    "max": tf.reduce_max,
    "mean": tf.reduce_mean,
}


@dataclasses.dataclass(frozen=True)
class ExportedUpdate:
    """A learner's gradient step for one module, ready to be exported.

    Attributes:
        endpoint: Takes `columns`, {name: tensor [N, ...]}, of sequences [S, T, ...] with
            any N and S; takes one gradient step on them all; returns the metrics of
            this step by name, float32 scalars.
        attributes: Those of the SavedModel: "trainable_variables", those of the module
            in the order of its weight keys, and "optimizer_variables", step counts,
            learning rates and slots.
        spec: What a program has to know, as plain JSON: the module id, names, dtypes and
            shapes of the columns (`None` for any number), and the keys of the variables
            in `attributes`.
    """

    endpoint: Endpoint
    attributes: dict[str, list[tf.Variable]]
    spec: dict[str, object]

    def arguments(self) -> dict[str, Any]:
        """Returns the endpoint in the form that `export_policy` takes."""
        return {
            "endpoints": (self.endpoint,),
            "attributes": self.attributes,
            "spec": {UPDATE: self.spec},
        }


def export_update(
    learner: "TfLearner", module_id: ModuleID, example_batch: object = None
) -> ExportedUpdate:
    """Returns the gradient step that a learner takes for one module.

    It is what `update_from_batch` runs once for each minibatch: forward pass, loss,
    gradients, clipping, optimizers and the guard against non-finite numbers, on the
    learner's own variables. What a learner does in Python around its gradient steps
    stays out: schedules do not move, so that learning rates and coefficients in the
    loss stay as they are at export, and columns are not checked. They are those of
    train batches: observations as the module saw them, behind the connector pieces in
    front of it, where the policy's own endpoints take raw ones.

    Args:
        learner: A `TfLearner` that is built.
        module_id: Whose step. Modules beside it take none.
        example_batch: A batch as for `update_from_batch`; the endpoint will take columns
            like those of this module in it. By default they are those of its last
            update.

    Raises:
        ExportError: If there was no update with the module, or no such module.
        BatchError: If the learner cannot train on `example_batch`.
    """
    if learner._replicas.num > 1:
        raise ExportError(
            "export(include_update=True)",
            f"a learner{learner._replicas.description}",
            "one on a single device",
            "restore a checkpoint into a learner without strategy, and export that",
        )
    specs = _column_specs(learner, module_id, example_batch)

    guard = learner._overflow_guard([module_id])

    def update(columns):
        saved = guard.save()
        values, keys, settings = learner._compiled.step([{module_id: columns}])
        undone = {
            (mid, NUM_NON_FINITE_UPDATES_LIFETIME): position >= 0
            for group, position in zip(guard.groups, tf.unstack(guard.put_back(saved)))
            for mid in group.module_ids
        }
        counted = [
            tf.where(undone[key], 1.0, value) if key in undone else value
            for key, value in zip(keys, tf.unstack(values), strict=True)
        ]
        return _by_name(module_id, counted, keys, settings)

    by_key = {
        TRAINABLE_VARIABLES: _trainable_variables(learner, module_id),
        OPTIMIZER_VARIABLES: _optimizer_variables(learner, module_id),
    }
    columns = tf.nest.map_structure(
        lambda x: {"dtype": x.dtype.name, "shape": x.shape.as_list()}, specs
    )
    return ExportedUpdate(
        Endpoint(UPDATE, update, {"columns": specs}),
        attributes={name: [*own.values()] for name, own in by_key.items()},
        spec={
            "module_id": module_id,
            "columns": columns,
            "observations": "as the module sees them, behind the connectors",
        }
        | {name: [*own] for name, own in by_key.items()},
    )


def _column_specs(
    learner: "TfLearner", module_id: ModuleID, example_batch: object
) -> dict[str, tf.TensorSpec]:
    if example_batch is None:
        specs = learner._compiled.column_specs.get(module_id)
        if specs is None:
            raise ExportError(
                "export(include_update=True)",
                f"no update of module {module_id!r} so far",
                "one, for the endpoint takes columns such as those",
                "update once, or pass example_batch=",
            )
        return specs
    given = train_batch.from_columns(example_batch, learner.module).policy_batches
    if module_id not in given:
        raise ExportError(
            "export(example_batch=...)",
            f"columns for {sorted(given)}",
            f"such for module {module_id!r}",
        )
    random_state = learner._rng.bit_generator.state
    columns = learner._checked_own(module_id, given[module_id])
    columns = learner.complete_columns(module_id, columns)
    learner._rng.bit_generator.state = random_state
    return compiled_update.column_specs({module_id: columns})[module_id]


def _by_name(
    module_id: ModuleID, values: list, keys: list, settings: dict
) -> dict[str, tf.Tensor]:
    """Returns one scalar for each key; what was logged several times is reduced."""
    logged: dict[tuple, list] = {}
    for key, value in zip(keys, values, strict=True):
        logged.setdefault(key, []).append(value)
    metrics = {}
    for key, own in logged.items():
        window, reduce = (settings[key].get(name) for name in ("window", "reduce"))
        recent = own[-int(window) :] if window else own
        name = "/".join(key[1:] if key[0] == module_id else key)
        metrics[name] = _REDUCTIONS[reduce or "mean"](tf.stack(recent))
    return metrics


def _trainable_variables(learner: "TfLearner", module_id: ModuleID) -> Variables:
    """By weight key."""
    module = learner.module[module_id]
    params = {param_ref(p): tf_variable(p) for p in learner.get_parameters(module)}
    keys = learner._tf_module(module_id).weight_keys()
    return {key: params[ref] for ref, key in keys.items() if ref in params}


def _optimizer_variables(learner: "TfLearner", module_id: ModuleID) -> Variables:
    """By optimizer, and then the parameter's weight key and the name of the slot."""
    keys, variables = learner._weight_keys(), {}
    for record in learner._optimizers.values():
        if record.module_id not in (module_id, ALL_MODULES):
            continue
        is_own = record.module_id == module_id
        prefix = record.name if is_own else record.full_name
        for role, variable in optimizers.state_variables(record, keys).items():
            variables[f"{prefix}/{role}"] = tf_variable(variable)
    return variables
