"""Changes weights with TensorFlow."""

import contextlib
import functools
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tflearner import constants
from tflearner.columns import Columns
from tflearner.connectors.connector import ConnectorV2
from tflearner.constants import ALL_MODULES
from tflearner.engine import optimizers, side_effects
from tflearner.engine.compiled_update import CompiledUpdate, UpdateOutputs
from tflearner.engine.guard import AskingGuard, NoGuard, RevertingGuard
from tflearner.engine.loss_scale import LossScale
from tflearner.engine.optimizers import tf_variable
from tflearner.engine.overflow_guard import OverflowGuard
from tflearner.errors import LossError, ModuleError
from tflearner.export.report import ExportReport
from tflearner.intake.update_plan import UpdatePlan
from tflearner.learner import diagnosis, layer_losses
from tflearner.learner.exporting import export_learner
from tflearner.learner.learner import Learner
from tflearner.learner.turns import in_turn
from tflearner.modules.rl_module import RLModule
from tflearner.networks.recurrent import apply_per_step
from tflearner.types import ColumnDict, ColumnsByModule, ModuleID, Param, ParamDict


class TfLearner(Learner):
    """Learner for TensorFlow: subclass it to train with a loss of your own.

    Only `_update` is traced, together with the loop over minibatches around it.
    Everything it calls is ordinary Python, so with `config.framework(run_eagerly=True)`
    a debugger can walk an update line by line. Tracing is without autograph: on
    tensors, write `tf.where` or `tf.cond`, not `if`.

        class BehaviorCloning(TfLearner):
            def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
                dist_class = self.module[module_id].get_train_action_dist_cls()
                dist = dist_class.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
                return -tf.reduce_mean(dist.logp(batch[Columns.ACTIONS]))
    """

    framework = "tf2"

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._compiled = CompiledUpdate(
            self._update,
            self._overflow_guard,
            self.metrics,
            self._replicas,
            jit_compile=self.config.jit_compile,
            run_eagerly=self.config.run_eagerly,
            loss_key=self.TOTAL_LOSS_KEY,
            tracing=lambda: side_effects.watched(self, self.module),
        )

    @property
    def num_traces(self) -> int:
        """How often an update was traced so far."""
        return self._compiled.num_traces

    @property
    def num_compilations(self) -> int:
        """How many shapes were given to XLA so far."""
        return self._compiled.num_compilations

    def describe_updates(self) -> list[str]:
        """Returns one line per traced set of modules: how its updates run."""
        return self._compiled.describe()

    @in_turn
    def export(
        self,
        path: str | os.PathLike,
        *,
        module_id: ModuleID | None = None,
        format: str | None = None,
        env_to_module: ConnectorV2 | None = None,
        module_to_env: ConnectorV2 | None = None,
        include_update: bool = False,
        example_batch: object = None,
    ) -> ExportReport:
        """Writes a policy that runs without this library.

        It takes raw observations and returns actions as the environment wants them,
        any number at a time. A SavedModel runs with TensorFlow alone:

            policy = tf.saved_model.load(path)
            actions = policy.act_greedy(obs)
            actions = policy.act(obs, seed)  # int32 [2]; equal seeds, equal actions.
            values = policy.value(obs)  # Where the module predicts values.

        A policy with a state takes it behind the observations and returns it behind the
        actions: `actions, state = policy.act_greedy(obs, state)`. Its first state is
        `policy.initial_state(batch_size)`. The state is the module's. With a connector
        piece that has a memory, it is a dict: "module" is the module's state, if any,
        and "env_to_module" has the memory of each such piece by its class name.
        Signatures of the same names take and return flat tensors, whose names are in
        `spec.json`.

        With `include_update` a SavedModel can learn as well, see `export_update`:

            metrics = policy.update(columns)  # One gradient step, of the optimizer, too.
            actions = policy.act_greedy(obs)  # Of the new weights.

        Args:
            path: Where to: a directory, or a file that ends in `.tflite` or `.keras`.
                An older export there is replaced in one step.
            module_id: Which module; by default the only one, or "default_policy".
            format: "tf_saved_model"; "tflite" and "keras" hold the greedy policy alone.
                By default the path's suffix decides.
            env_to_module: The connector pipeline between environment and module; needed
                if `config.env_to_module_connector` is set.
            module_to_env: The one between module and environment; made from the config
                by default.
            include_update: Whether a SavedModel gets the endpoint "update", and the
                attributes "trainable_variables" and "optimizer_variables".
            example_batch: A batch as for `update_from_batch`, with the columns that
                "update" is to take; by default they are those of the last update.

        Returns:
            What was written, and how far from the module it is on sampled observations.

        Raises:
            ExportError: If a connector piece or the module cannot be exported, if the
                export would not act like the module, or if something else is at `path`.
                Nothing was changed.
        """
        return export_learner(
            self,
            path,
            module_id=module_id,
            format=format,
            env_to_module=env_to_module,
            module_to_env=module_to_env,
            include_update=include_update,
            example_batch=example_batch,
        )

    # The traced step.

    def _update(self, batch: ColumnsByModule, **kwargs: object) -> tuple:
        """Takes one gradient step; traced.

        With several devices it runs once on each, on that device's part of the
        minibatch, and is traced once for each.

        Args:
            batch: {module id: {column: tensor [minibatch_size, ...]}}.
            **kwargs: Room for later additions.

        Returns:
            The forward outputs by module, the loss by module, and the logged tensors
            as {key: [tensors]}.
        """
        # The tape keeps recording, for a `compute_gradients` that adds up losses.
        step, tape = optimizers.step_of(batch), tf.GradientTape()
        with self.metrics.collect() as logged, step, tape:
            fwd_out, losses = self._forward_and_losses(batch)
            shares = self._replicas.weighted(losses, batch)
            scale = LossScale(self._optimizers.stepping())
            gradients = self.compute_gradients(scale.scaled(shares), gradient_tape=tape)
            self._check_gradients(losses, gradients)
            gradients = scale.unscaled(self._replicas.sum_dict(gradients))
            guard = self._guard(shares, gradients)
            gradients = self.postprocess_gradients(gradients)
            guard.step(self.apply_gradients, gradients)
            self._after_gradient_step(
                {mid: guard.is_healthy.get(mid, True) for mid in losses}
            )
            self._log_skipped(guard.is_healthy)
        return fwd_out, losses, logged.values

    def _forward_and_losses(self, batch: ColumnsByModule) -> tuple[dict, dict]:
        """Returns forward outputs, and losses including the losses of Keras layers."""
        modules = {module_id: self._tf_module(module_id) for module_id in batch}
        layer_losses.forget(modules.values())
        with _no_new_weights(modules):
            if self.needs_trajectories:
                fwd_out = {
                    mid: _forward_trajectories(self.module[mid], own)
                    for mid, own in batch.items()
                }
            else:
                fwd_out = self.module.forward_train(batch)
        losses = self.compute_losses(fwd_out=fwd_out, batch=batch)
        self._check_losses(losses, fwd_out)
        for module_id, added in layer_losses.collect(modules).items():
            key = (module_id, constants.REGULARIZATION_LOSS_KEY)
            self.metrics.log_value(key, added, window=1)
            own = losses[module_id]
            losses = {**losses, module_id: own + tf.cast(added, own.dtype)}
        layer_losses.forget(modules.values())
        return fwd_out, losses

    def put_out_rows(self, module_id: ModuleID, name: str, values: tf.Tensor) -> None:
        """Hands per-row values of a traced loss to `row_outputs`.

        A replay buffer makes priorities of such values, for example of TD errors. Metrics
        hold single numbers only.

        Args:
            module_id: The module.
            name: The name of the values, such as "td_error".
            values: float [B], one for each row of the minibatch.

        Raises:
            LossError: If the values have another rank.
        """
        if values.shape.rank != 1:
            raise LossError(
                f"put_out_rows({module_id!r}, {name!r})",
                f"values of shape {values.shape}",
                "one number for each row, [B]",
            )
        self.metrics.collect_rows((module_id, name), values)

    def _guard(self, losses: dict, gradients_dict: ParamDict) -> NoGuard:
        """Returns the guard of a step, on what all devices have of it together."""
        if self.config.non_finite_updates == "off":
            return NoGuard()
        records = self._optimizers.stepping()
        losses = self._replicas.sum_dict(losses)
        # An own `apply_gradients` does not ask. Devices must not exchange anything inside
        # of a `tf.cond`, and an optimizer with a loss scale has to see what overflows.
        can_ask = (
            type(self).apply_gradients is TfLearner.apply_gradients
            and not self._replicas.is_mirrored
            and all(optimizers.loss_scale(r.optimizer) is None for r in records)
        )
        if can_ask:
            return AskingGuard(losses, gradients_dict, records, self._is_clipped)
        assign = self._replicas.assign
        return RevertingGuard(
            losses, gradients_dict, records, self._is_clipped, assign=assign
        )

    def _after_gradient_step(self, is_healthy: dict[ModuleID, tf.Tensor]) -> None:
        """Runs inside of the traced step, when the optimizers have stepped. Override it.

        Args:
            is_healthy: Whether each module made its step, bool scalar by module. A
                module with non-finite loss or gradients must not be changed.
        """

    def compute_gradients(self, loss_per_module, *, gradient_tape=None, **kwargs):
        params = {
            ref: tf_variable(param) for ref, param in self._optimizers.params().items()
        }
        computed = gradient_tape.gradient(list(loss_per_module.values()), params)
        stepped = {ref for r in self._optimizers.stepping() for ref in r.params}
        return {
            ref: None
            if gradient is None or ref not in stepped
            else _dense(gradient, params[ref])
            for ref, gradient in computed.items()
        }

    def apply_gradients(self, gradients_dict: ParamDict) -> None:
        may_step = getattr(gradients_dict, "may_step", None)
        for record in self._optimizers.stepping():
            own = self.filter_param_dict_for_optimizer(gradients_dict, record.optimizer)
            if not own:
                continue
            step = functools.partial(self._replicas.step, record, own)
            if may_step is None:
                step()
            else:
                tf.cond(may_step(record), _without_result(step), lambda: None)

    def _is_clipped(self, module_id: ModuleID) -> bool:
        return self.config.get_config_for_module(module_id).grad_clip is not None

    def _log_skipped(self, is_healthy: Mapping[ModuleID, tf.Tensor]) -> None:
        for module_id, healthy in is_healthy.items():
            key = (module_id, constants.NUM_NON_FINITE_UPDATES_LIFETIME)
            # Every replica counts the same step.
            skipped = tf.where(healthy, 0.0, 1.0 / self._replicas.num)
            self.metrics.log_value(key, skipped, reduce="sum")

    def _check_losses(self, losses: object, fwd_out: dict) -> None:
        """Raises `LossError` for losses that cannot be differentiated."""
        if not isinstance(losses, dict) or set(losses) != set(fwd_out):
            got = sorted(losses) if isinstance(losses, dict) else repr(type(losses))
            raise LossError(
                "compute_losses()", f"losses for {got}", f"one for each of {[*fwd_out]}"
            )
        for module_id, loss in losses.items():
            where = f"loss for module {module_id!r}"
            if not tf.is_tensor(loss):
                raise LossError(where, f"{loss!r}", "a scalar tensor")
            if loss.shape.rank != 0 or not loss.dtype.is_floating:
                raise LossError(
                    where,
                    f"{loss.dtype.name} of shape {loss.shape}",
                    "a float scalar",
                    "average it over the batch with tf.reduce_mean",
                )

    def _check_gradients(self, losses: dict, gradients_dict: ParamDict) -> None:
        """Raises `LossError` for a module that its loss does not reach."""
        shared = any(
            gradients_dict.get(ref) is not None
            for record in self._optimizers.for_module(constants.ALL_MODULES)
            for ref in record.params
        )
        for module_id in losses:
            refs = [
                ref
                for record in self._optimizers.for_module(module_id)
                for ref in record.params
            ]
            reached = any(gradients_dict.get(ref) is not None for ref in refs)
            if refs and not reached and not shared:
                raise LossError(
                    f"loss for module {module_id!r}",
                    f"no gradient for any of its {len(refs)} variables",
                    "a loss computed from outputs of forward_train",
                    "look for tf.stop_gradient, NumPy or integer casts on the way",
                )

    def _run_update(self, plan: UpdatePlan) -> UpdateOutputs:
        run: Callable = self._compiled
        if self._replicas.num_workers > 1:
            run = self._replicas.names_lost_workers()(run)
        outputs = run(plan.columns, plan.minibatches, full_batch=plan.full_batch)
        for module_ids, variable in outputs.put_back:
            name = constants.NUM_NON_FINITE_UPDATES_LIFETIME
            # Steps are counted by optimizer; a module put back may not have its own.
            counting = [mid for mid in module_ids if (mid, name) in outputs.values]
            for module_id in counting or module_ids:
                where = diagnosis.name_of(self, module_id, variable)
                outputs.overflowed[module_id] = where
                self._after_undone_steps(
                    module_id, outputs, plan.minibatches.num_minibatches
                )
        return outputs

    def _overflow_guard(self, module_ids: Collection[ModuleID]) -> OverflowGuard:
        """Returns a guard of the variables that an update of modules may change."""
        variables: dict[ModuleID, list[Param]] = {}
        if self.config.non_finite_updates != "off":
            variables = {mid: [*self._tf_module(mid).weights] for mid in module_ids}
            for record in self._optimizers.of_modules(module_ids):
                own = optimizers.variables_of_steps(record.optimizer)
                known = variables.setdefault(record.module_id, [])
                known += [*record.params.values(), *own]
        return OverflowGuard(
            {mid: [tf_variable(v) for v in own] for mid, own in variables.items()}
        )

    def _after_undone_steps(
        self, module_id: ModuleID, outputs: UpdateOutputs, num_steps: int
    ) -> None:
        """Corrects the metrics of the gradient steps of a module that was put back."""
        key = (module_id, constants.NUM_NON_FINITE_UPDATES_LIFETIME)
        outputs.values[key] = np.ones(num_steps, np.float32)
        outputs.settings.setdefault(key, {"reduce": "sum"})

    def _first_bad_tensor(
        self, module_id: ModuleID, plan: UpdatePlan, minibatch: int
    ) -> str:
        rows = {mid: own[minibatch] for mid, own in plan.minibatches.indices.items()}
        return diagnosis.first_bad_tensor(self, module_id, plan.columns, rows)

    def configure_optimizers_for_module(self, module_id, config=None):
        """Registers Adam over the module's trainable variables, at `config.lr`.

        For a module that computes in float16 it is wrapped in a `LossScaleOptimizer`.
        """
        params = self.get_parameters(self.module[module_id])
        if not params:
            return
        if config is None:
            config = self.config.get_config_for_module(module_id)
        module = self._tf_module(module_id)
        in_float16 = "float16" in module.compute_dtypes()
        self.register_optimizer(
            module_id=module_id,
            optimizer=optimizers.new_adam(params, scales_loss=in_float16),
            params=params,
            lr_or_lr_schedule=config.lr,
        )

    def _tear_down_module(self, module_id):
        super()._tear_down_module(module_id)
        self._forget_traces([module_id])

    def _forget_traces(self, module_ids):
        reached = self.module if ALL_MODULES in module_ids else module_ids
        for module_id in [*reached]:
            self._compiled.forget_module(module_id)


@contextlib.contextmanager
def _no_new_weights(module_ids: Collection[ModuleID]) -> Iterator[None]:
    """Raises `ModuleError` for new trainable variables: no optimizer updates them."""
    names = " or ".join(map(repr, module_ids))

    def refuse(next_creator: Callable, **kwargs: object) -> tf.Variable:
        if kwargs.get("trainable") is False:
            return next_creator(**kwargs)
        raise ModuleError(
            f"module {names}, forward_train()",
            f"a new variable {kwargs.get('name')!r}, which no optimizer knows",
            "variables that exist when the module is built",
            "make it in setup(), for example by self.layer.build((None, num_inputs))",
        )

    with tf.variable_creator_scope(refuse):
        yield


def _forward_trajectories(module: RLModule, batch: ColumnDict) -> ColumnDict:
    """Returns outputs [S, T, ...] of columns [S, T, ...], whatever the module."""
    if module.is_stateful():
        return module.forward_train(batch)
    columns = {k: own for k, own in batch.items() if k != Columns.SEQ_LENS}
    return apply_per_step(module.forward_train, columns)


def _without_result(function: Callable[[], object]) -> Callable[[], None]:
    def call() -> None:
        function()

    return call


def _dense(gradient: tf.Tensor, param: tf.Variable) -> tf.Tensor:
    """Returns a gradient as clipping and the guard want it.

    That of an embedding is sparse, and that of a layer behind an unrolled recurrent one
    comes with unknown sizes.
    """
    gradient = tf.convert_to_tensor(gradient)
    gradient.set_shape(param.shape)
    return gradient
