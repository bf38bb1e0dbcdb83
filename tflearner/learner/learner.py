"""The learner: changes the weights of its modules from batches and episodes.

It clips gradients, asks each module for its loss, and surrounds gradient steps with hooks.
`module_owner.py` has the modules and optimizers, `learner_state.py` the state to save,
`tf_learner.py` the gradient step.
"""

import abc
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar, cast

import numpy as np

from tflearner import constants, forks
from tflearner.checks import check_count, is_float32
from tflearner.columns import Columns
from tflearner.config import AlgorithmConfig
from tflearner.constants import ALL_MODULES
from tflearner.data.sample_batch import MultiAgentBatch
from tflearner.engine import gradients
from tflearner.engine.compiled_update import UpdateOutputs
from tflearner.engine.optimizers import tf_variable
from tflearner.errors import (
    ModuleError,
    TFLearnerError,
    UnknownArgumentError,
    UnknownModuleError,
    UsageError,
    did_you_mean,
)
from tflearner.intake import agreement, batch_checks, train_batch
from tflearner.intake.deferred import LOST, Lost
from tflearner.intake.groups import grouped
from tflearner.intake.items import items_of, only_one
from tflearner.intake.update_plan import UpdatePlan, UpdateSettings, plan_update
from tflearner.learner.learner_state import LearnerState
from tflearner.learner.skipped_steps import count_runs
from tflearner.learner.turns import in_turn
from tflearner.learner.update_run import UpdateRun, log_steps_trained
from tflearner.modules.apis import SelfSupervisedLossAPI
from tflearner.types import (
    ColumnDict,
    ColumnsByModule,
    ModuleID,
    Optimizer,
    ParamDict,
    ResultDict,
    Tensor,
    Timesteps,
)

UPDATE_ARGUMENTS = (
    "timesteps",
    "num_epochs",
    "minibatch_size",
    "shuffle_batch_per_epoch",
    "num_total_minibatches",
    "return_stats",
)
ITERATOR_ARGUMENTS = ("timesteps", "minibatch_size", "num_iters", "return_stats")


class Learner(LearnerState):
    """Owns modules and optimizers, and updates weights from batches or episodes.

    Subclass `TfLearner`, not this class. The hooks to override are
    `compute_loss_for_module`, `configure_optimizers_for_module`,
    `postprocess_gradients_for_module`, and, calling super, `build`, `add_module`,
    `remove_module`, `before_gradient_based_update`, `after_gradient_based_update`.

        learner = PPOConfig().build_learner(env=env)
        results = learner.update_from_episodes(episodes)
        weights = learner.get_state(components="rl_module")

    Args:
        config: The settings; copied, never changed.
        module_spec: The specification of the module or modules to build.
        module: A built module, used as it is, in place of `module_spec`.
    """

    TOTAL_LOSS_KEY = constants.TOTAL_LOSS_KEY
    # The metrics of a module that progress shows, in this order: {key: label}.
    metric_labels: ClassVar[Mapping[str, str]] = {
        constants.POLICY_LOSS_KEY: "policy",
        constants.VF_LOSS_KEY: "value",
        constants.ENTROPY_KEY: "entropy",
    }
    # Whether `compute_loss_for_module` gets whole trajectories of every module: columns
    # and forward outputs [S, T, ...], one sequence per episode, and LOSS_MASK [S, T].
    needs_trajectories: bool = False
    # The most items of an iterator that one traced call trains on.
    items_per_call: int = 1

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._column_specs: dict[ModuleID, dict] = {}
        self.updated_module_ids: tuple[ModuleID, ...] = ()
        # (module id, name) -> float32 [num_minibatches, rows per minibatch], of the last
        # batch: what its loss handed to `put_out_rows`.
        self.row_outputs: dict[tuple[str, ...], np.ndarray] = {}

    def _tear_down_module(self, module_id: ModuleID) -> None:
        super()._tear_down_module(module_id)
        self._column_specs.pop(module_id, None)
        self._counters.non_finite_in_a_row.pop(module_id, None)
        self.updated_module_ids = tuple(
            mid for mid in self.updated_module_ids if mid != module_id
        )

    # Gradients.

    def postprocess_gradients(self, gradients_dict: ParamDict) -> ParamDict:
        """Clips and logs gradients, module by module.

        Optimizers under `ALL_MODULES`, if there are any, come last, with the global
        config.

        Returns:
            A dict with the same references, without those whose gradient is `None`.
        """
        postprocessed: ParamDict = {}
        has_shared = bool(self.get_optimizers_for_module(ALL_MODULES))
        for module_id in [*self.module.keys(), *[ALL_MODULES] * has_shared]:
            own: ParamDict = {}
            for record in self._optimizers.stepping():
                if record.module_id == module_id:
                    own |= self.filter_param_dict_for_optimizer(
                        gradients_dict, record.optimizer
                    )
            own = self.postprocess_gradients_for_module(
                module_id=module_id,
                config=self.config.get_config_for_module(module_id),
                module_gradients_dict=own,
            )
            if not isinstance(own, dict):
                raise UsageError(
                    "postprocess_gradients_for_module()",
                    repr(type(own)),
                    "a dict of gradients by parameter reference",
                )
            postprocessed |= own
        return postprocessed

    def postprocess_gradients_for_module(
        self,
        *,
        module_id: ModuleID,
        config: AlgorithmConfig | None = None,
        module_gradients_dict: ParamDict,
    ) -> ParamDict:
        """Clips the gradients of one module as its config says.

        Logs the global norm before clipping, per optimizer; with `log_gradients` the
        one after clipping as well.

        Args:
            module_id: The module.
            config: Its config; looked up if `None`.
            module_gradients_dict: Its gradients by parameter reference; empty if the
                module is not part of this update.

        Returns:
            A new dict with the same references.
        """
        if config is None:
            config = self.config.get_config_for_module(module_id)
        postprocessed: ParamDict = {}
        for name, optimizer in self.get_optimizers_for_module(module_id):
            own = self.filter_param_dict_for_optimizer(module_gradients_dict, optimizer)
            if not own:
                continue
            before = list(own.values())
            norm = self._get_clip_function()(
                own, grad_clip=config.grad_clip, grad_clip_by=config.grad_clip_by
            )
            if norm is None:
                norm = self._get_global_norm_function()(before)
            key = f"gradients_{name}_global_norm"
            self.metrics.log_value((module_id, key), norm, window=1)
            if config.log_gradients:
                clipped = self._get_global_norm_function()(list(own.values()))
                self.metrics.log_value((module_id, f"{key}_clipped"), clipped, window=1)
            postprocessed |= own
        return postprocessed

    @staticmethod
    def _get_clip_function():
        return gradients.clip_gradients

    @staticmethod
    def _get_global_norm_function():
        return gradients.global_norm

    @abc.abstractmethod
    def compute_gradients(
        self, loss_per_module: dict[ModuleID, Tensor], **kwargs: object
    ) -> ParamDict:
        """Returns the gradients of the sum of all losses, by parameter reference.

        `loss_per_module` holds the modules' losses and no total. The gradient of a
        parameter that no loss reaches is `None`.
        """

    @abc.abstractmethod
    def apply_gradients(self, gradients_dict: ParamDict) -> None:
        """Lets every optimizer step that has gradients; the others stay untouched."""

    # Losses.

    def compute_losses(
        self, *, fwd_out: dict[ModuleID, dict], batch: ColumnsByModule
    ) -> dict[ModuleID, Tensor]:
        """Returns one loss per module; override for losses that span modules.

        A module with `SelfSupervisedLossAPI` brings its own, every other one gets
        `compute_loss_for_module`.

        Args:
            fwd_out: The outputs of `forward_train`, by module.
            batch: The columns, by module.
        """
        losses = {}
        for module_id, own in fwd_out.items():
            module = self.module[module_id].unwrapped()
            arguments: dict[str, Any] = {
                "module_id": module_id,
                "config": self.config.get_config_for_module(module_id),
                "batch": batch[module_id],
                "fwd_out": own,
            }
            if isinstance(module, SelfSupervisedLossAPI):
                losses[module_id] = module.compute_self_supervised_loss(
                    learner=self, **arguments
                )
            else:
                losses[module_id] = self.compute_loss_for_module(**arguments)
        return losses

    @abc.abstractmethod
    def compute_loss_for_module(
        self,
        *,
        module_id: ModuleID,
        config: AlgorithmConfig,
        batch: ColumnDict,
        fwd_out: dict[str, Tensor],
    ) -> Tensor:
        """Returns the loss of one module, a scalar.

        Log terms of it with `self.metrics.log_value((module_id, name), tensor)`. With
        several optimizers return the sum of their losses.

        Args:
            module_id: The module.
            config: Its config.
            batch: Its columns.
            fwd_out: The outputs of its `forward_train`.
        """

    def get_required_columns(self, module_id: ModuleID) -> Collection[str]:
        """Returns the columns a module's loss needs; a batch without one is refused."""
        return (Columns.OBS,)

    def get_required_outputs(self, module_id: ModuleID) -> Collection[str]:
        """Returns the output keys that `forward_train` must return."""
        return ()

    def _check_module(self, module_id: ModuleID) -> None:
        module = self._tf_module(module_id)
        weights = [tf_variable(weight) for weight in module.weights]
        self._replicas.check_is_ours(f"module {module_id!r}", weights)
        required = self.get_required_outputs(module_id)
        if not required or isinstance(module, SelfSupervisedLossAPI):
            return
        was_run, outputs = module.try_forward_train(2)
        if not was_run:
            return  # It reads columns that only train batches have.
        where = f"module {module_id!r}, forward_train()"
        if not isinstance(outputs, dict) or not set(required) <= outputs.keys():
            got = sorted(outputs) if isinstance(outputs, dict) else type(outputs)
            raise ModuleError(where, f"outputs {got}", f"{sorted(required)} among them")
        name = Columns.ACTION_DIST_INPUTS
        if name in required:
            space: Any = module.action_space
            size = module.get_train_action_dist_cls().required_input_dim(space)
            axes = ("B", "T") if module.is_stateful() else ("B",)
            shape, want = tuple(outputs[name].shape), (*axes, size)
            if len(shape) != len(want) or shape[-1] != size:
                shape = (*axes[: len(shape)], *shape[len(axes) :])
                raise ModuleError(
                    f"{where}, output {name!r}", str(shape), f"{want} for {space}"
                )

    # Updates.

    def update(
        self,
        batch: object = None,
        episodes: object = None,
        data_iterators: object = None,
        **kwargs: Any,
    ) -> ResultDict:
        """Updates from a batch, from episodes or from an iterator of batches.

        Args:
            batch: As for `update_from_batch`.
            episodes: As for `update_from_episodes`.
            data_iterators: As for `update_from_iterator`, or a list with one iterator.
            **kwargs: As for the method it calls.

        Raises:
            UsageError: Unless exactly one of the three is given.
        """
        given = {"batch": batch, "episodes": episodes, "data_iterators": data_iterators}
        name = only_one("update()", given)
        if name == "batch":
            return self.update_from_batch(batch, **kwargs)
        if name == "episodes":
            return self.update_from_episodes(episodes, **kwargs)
        if isinstance(data_iterators, list) and len(data_iterators) == 1:
            data_iterators = data_iterators[0]
        return self.update_from_iterator(data_iterators, **kwargs)

    def update_from_batch(
        self,
        batch: object,
        *,
        timesteps: Timesteps | None = None,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        shuffle_batch_per_epoch: bool = False,
        num_total_minibatches: int = 0,
        return_stats: bool = False,
        **kwargs: object,
    ) -> ResultDict:
        """Takes gradient steps on a train batch; one traced call.

        Args:
            batch: A `MultiAgentBatch`; with one module also a `SampleBatch` or a dict of
                columns. Columns are NumPy arrays or tensors [N, ...], or sequences [S,
                T, ...] with "seq_lens" [S]. The batch, and each column of a dict, may
                be a function without arguments or a Ray object reference that returns
                it. Not changed.
            timesteps: Schedules read "num_env_steps_sampled_lifetime" from it; without
                it they stay where they are.
            num_epochs: Passes over the batch.
            minibatch_size: Rows of every module per gradient step, as whole sequences
                where there are some; `None` takes all rows at once.
            shuffle_batch_per_epoch: Whether rows are shuffled before every pass.
            num_total_minibatches: Gradient steps instead of `num_epochs`, if above 0.
            return_stats: Whether leaves of the result are `Stats` instead of numbers.
            **kwargs: Refused.

        Returns:
            Metrics by module id and name.

        Raises:
            BatchError: If the batch cannot be trained on; nothing is changed then.
        """
        self._check_call("update_from_batch", kwargs, return_stats)
        settings = UpdateSettings(
            num_epochs, minibatch_size, shuffle_batch_per_epoch, num_total_minibatches
        )

        def batches():
            found = batch
            if not train_batch.holds_data(batch):
                lost = self._lost()
                found = lost.resolve(batch)
                lost.check(found)
            yield train_batch.from_columns(found, self.module)

        self._update_from(batches(), settings, timesteps)
        return self.metrics.reduce(return_stats_obj=return_stats)

    def update_from_episodes(
        self,
        episodes: object,
        *,
        timesteps: Timesteps | None = None,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        shuffle_batch_per_epoch: bool = False,
        num_total_minibatches: int = 0,
        return_stats: bool = False,
        **kwargs: object,
    ) -> ResultDict:
        """Turns episodes into a train batch and takes gradient steps on it.

        Args:
            episodes: `SingleAgentEpisode`s and `MultiAgentEpisode`s; not changed. The
                list and its items may be functions without arguments, or Ray object
                references. They return an episode, a list, or another function or
                reference. Lost episodes are counted and skipped; so are references that
                take longer than `deferred_data_timeout_s`. An empty list is a skipped
                update.
            timesteps: As for `update_from_batch`, like the other settings.
            num_epochs: Passes over the batch.
            minibatch_size: Rows per gradient step.
            shuffle_batch_per_epoch: Whether rows are shuffled before every pass.
            num_total_minibatches: Gradient steps instead of `num_epochs`.
            return_stats: Whether leaves of the result are `Stats`.
            **kwargs: Refused.

        Returns:
            Metrics by module id and name.

        Raises:
            NoTrainingDataError: If all of the episodes are lost.
        """
        self._check_call("update_from_episodes", kwargs, return_stats)
        settings = UpdateSettings(
            num_epochs, minibatch_size, shuffle_batch_per_epoch, num_total_minibatches
        )
        lost = None

        def batches():
            nonlocal lost
            found = episodes
            if not train_batch.are_episodes(episodes):
                lost = self._lost()
                found = lost.resolve_all(episodes)
                lost.check(found)
            yield train_batch.from_episodes(
                found,
                self._learner_connector,
                self.module,
                self.metrics,
                trajectories=self.needs_trajectories,
                sequences=bool(self._stateful_ids) or self.needs_trajectories,
            )

        self._update_from(batches(), settings, timesteps)
        if lost is not None:
            self.log_lost(lost)
        return self.metrics.reduce(return_stats_obj=return_stats)

    def update_from_iterator(
        self,
        iterator: object,
        *,
        timesteps: Timesteps | None = None,
        minibatch_size: int | None = None,
        num_iters: int | None = None,
        return_stats: bool = False,
        **kwargs: object,
    ) -> ResultDict:
        """Takes gradient steps on the train batches of an iterator, one after the other.

        Hooks run once around them all, and the weights get one new sequence number.

        Args:
            iterator: Anything with `iter_batches()`, a `tf.data.Dataset`, or anything
                that can be iterated over. Each item is a batch as
                `update_from_batch` takes it, or {"batch": [batch]}; batches lost on the
                way are counted and skipped.
            timesteps: As for `update_from_batch`.
            minibatch_size: Rows of each item per gradient step; `None` takes one step
                per item.
            num_iters: How many items to train on; they are passed over again if there
                are fewer, unless they are used up. `None` passes over them once.
            return_stats: Whether leaves of the result are `Stats`.
            **kwargs: Refused.

        Returns:
            Metrics by module id and name, "dataset_num_iters_trained" among them.

        Raises:
            BatchError: If an item cannot be trained on. What was trained on before
                stays, and the error says so.
        """
        self._check_call(
            "update_from_iterator", kwargs, return_stats, ITERATOR_ARGUMENTS
        )
        if num_iters is not None:
            check_count("num_iters", num_iters)
        settings = UpdateSettings(minibatch_size=minibatch_size)
        lost = None

        def batches():
            nonlocal lost
            for item in items_of(iterator, num_iters):
                found = train_batch.ready(item)
                if found is None:
                    lost = lost or self._lost()
                    found = lost.resolve_item(item)
                if found is not LOST:
                    yield train_batch.from_columns(found, self.module)

        self._update_from(batches(), settings, timesteps, of_iterator=True)
        if lost is not None:
            self.log_lost(lost)
        return self.metrics.reduce(return_stats_obj=return_stats)

    @in_turn
    def _update_from(
        self,
        batches: Iterable[MultiAgentBatch],
        settings: UpdateSettings,
        timesteps: Timesteps | None,
        *,
        of_iterator: bool = False,
    ) -> None:
        """Takes gradient steps on each batch."""
        run, draws = UpdateRun(), self._rng.bit_generator
        random_state = draws.state
        try:
            plans = self._plans(batches, settings, timesteps, of_iterator)
            if of_iterator and self._replicas.num_workers == 1:
                plans = grouped(plans, self.items_per_call)
            for plan in plans:
                if plan is None:
                    run.num_skipped += 1
                    continue
                if not run.num_trained:
                    self.updated_module_ids = tuple(plan.columns)
                    self.before_gradient_based_update(timesteps=timesteps or {})
                outputs = self._run_update(plan)
                random_state = draws.state
                run.add(plan)
                self._log_update(plan, outputs, run)
        except BaseException as error:
            draws.state = random_state
            if run.num_trained:
                run.log(self.metrics, of_iterator=of_iterator)
                self._finish_update(run, timesteps or {})
                if isinstance(error, TFLearnerError):
                    error.withdraw_promise(
                        f"{run.num_trained} batches were trained on before."
                    )
            raise
        run.log(self.metrics, of_iterator=of_iterator)
        if run.num_trained:
            self._finish_update(run, timesteps or {})
            if run.not_finite:
                module_id = run.not_finite.module_id
                self._counters.non_finite_in_a_row.pop(module_id, None)
                raise run.not_finite
        elif self.config.never_skip_update:
            self.updated_module_ids = ()
            self.before_gradient_based_update(timesteps=timesteps or {})
            self.after_gradient_based_update(timesteps=timesteps or {})

    def _plans(
        self,
        batches: Iterable[MultiAgentBatch],
        settings: UpdateSettings,
        timesteps: Timesteps | None,
        of_iterator: bool,
    ) -> Iterator[UpdatePlan | None]:
        """Yields a plan for each batch, and `None` for one without data."""
        checked = self._checked(batches, settings, timesteps)
        if self._replicas.num_workers > 1:
            checked = agreement.agreed(checked, settings, self._replicas, of_iterator)
        for env_steps, columns, own in checked:
            plan = plan_update(columns, env_steps, own, self._rng) if columns else None
            yield plan

    def _checked(
        self,
        batches: Iterable[MultiAgentBatch],
        settings: UpdateSettings,
        timesteps: Timesteps | None,
    ) -> Iterator[agreement.Checked]:
        """Yields environment steps, columns and settings of each batch."""
        settings.check()
        if not isinstance(timesteps, dict | None):
            raise UsageError("timesteps", repr(timesteps), "a dict")
        name = constants.NUM_ENV_STEPS_SAMPLED_LIFETIME
        now = (timesteps or {}).get(name, 0)
        if not is_float32(now):
            raise UsageError(f"timesteps[{name!r}]", repr(now), "a finite number")
        self.row_outputs = {}
        for batch in batches:
            columns = self._checked_columns(batch)
            own = settings
            # Several processes have to take minibatches of one size.
            if self._replicas.num_workers == 1:
                own = settings.fitted_to(columns)
            if self._replicas.num_local > 1:
                agreement.check_devices(columns, own, self._replicas.num_local)
            yield batch.env_steps(), columns, own

    def _lost(self) -> Lost:
        return Lost(self.config.deferred_data_timeout_s)

    def log_lost(self, lost: Lost) -> None:
        """Logs how many references could not be resolved, by kind of error."""
        for kind, number in lost.by_kind.items():
            key = (ALL_MODULES, constants.NUM_LOST_REFERENCES_LIFETIME, kind)
            self.metrics.log_value(key, number, reduce="sum")

    def _log_update(
        self, plan: UpdatePlan, outputs: UpdateOutputs, run: UpdateRun
    ) -> None:
        seq_no = self._counters.weights_seq_no + 1
        for part in plan.parts or (plan,):
            log_steps_trained(self.metrics, part.columns, part.env_steps, seq_no)
        self.row_outputs = outputs.rows
        skipped: dict[ModuleID, np.ndarray] = {}
        for key, values in outputs.values.items():
            self.metrics.log_values(key, values, **outputs.settings[key])
            if key[1:] == (constants.NUM_NON_FINITE_UPDATES_LIFETIME,):
                skipped[key[0]] = values > 0.0
        if self._counters.non_finite_in_a_row or any(map(np.any, skipped.values())):
            self._count_skipped(plan, outputs, skipped, run)

    def _count_skipped(
        self,
        plan: UpdatePlan,
        outputs: UpdateOutputs,
        skipped: dict[ModuleID, np.ndarray],
        run: UpdateRun,
    ) -> None:
        """Notes the error to raise for the first module that skipped too many steps."""
        limit = {
            "skip": self.config.max_non_finite_updates_in_a_row,
            "raise": 1,
            "off": None,
        }[self.config.non_finite_updates]
        runs = count_runs(self._counters.non_finite_in_a_row, skipped)
        too_long = [own for own in runs if limit is not None and own.num_steps >= limit]
        if too_long and run.not_finite is None:
            module_id = too_long[0].module_id
            first_bad = outputs.overflowed.get(module_id)
            overflowed = first_bad is not None
            if first_bad is None:
                first_bad = self._first_bad_tensor(module_id, plan, too_long[0].last)
            run.not_finite = too_long[0].error(first_bad, overflowed=overflowed)

    def _finish_update(self, run: UpdateRun, timesteps: Timesteps) -> None:
        self.updated_module_ids = tuple(run.module_ids)
        self._counters.weights_seq_no += 1
        for module_id in run.module_ids:
            key = (module_id, constants.WEIGHTS_SEQ_NO)
            self.metrics.log_value(key, self._counters.weights_seq_no, window=1)
        try:
            self.after_gradient_based_update(timesteps=timesteps)
        except TFLearnerError as error:
            error.withdraw_promise("The gradient steps before it were taken.")
            raise

    def _checked_columns(self, batch: MultiAgentBatch) -> ColumnsByModule:
        """The columns of the modules that will be updated, ready to train on."""
        for module_id in batch.policy_batches:
            if module_id not in self.module:
                raise UnknownModuleError(
                    f"module {module_id!r}",
                    "a batch for a module that is not in this learner",
                    f"one of {sorted(self.module.keys())}",
                    did_you_mean(module_id, self.module.keys()),
                )
        checked = {}
        for module_id, own in batch.policy_batches.items():
            if (
                not train_batch.is_empty(own)
                and self.rl_module_is_compatible(self.module[module_id])
                and self.should_module_be_updated(module_id, batch)
            ):
                checked[module_id] = self._checked_own(module_id, own)
        completed = {}
        for module_id, columns in checked.items():
            if train_batch.num_valid_rows(columns):
                completed[module_id] = self.complete_columns(module_id, columns)
        return completed

    def _checked_own(self, module_id: ModuleID, columns: ColumnDict) -> ColumnDict:
        module = self.module[module_id].unwrapped()
        if module_id not in self._column_specs:
            self._column_specs[module_id] = batch_checks.column_specs(
                module, self.needs_trajectories
            )
        brings_loss = isinstance(module, SelfSupervisedLossAPI)
        return batch_checks.check_columns(
            module_id,
            columns,
            specs=self._column_specs[module_id],
            required=(Columns.OBS,)
            if brings_loss
            else self.get_required_columns(module_id),
            mode=self.config.batch_checks,
        )

    def complete_columns(self, module_id: ModuleID, columns: ColumnDict) -> ColumnDict:
        """Returns a module's columns with those that its loss needs besides.

        Override it for columns that are drawn or filled in, such as weights of 1; random
        numbers come from `self._rng`, so that a seed and a checkpoint decide them.

        Args:
            module_id: The module.
            columns: Checked columns, NumPy arrays [N, ...].
        """
        return columns

    @abc.abstractmethod
    def _run_update(self, plan: UpdatePlan) -> UpdateOutputs:
        """Takes one gradient step per minibatch of the plan."""

    @abc.abstractmethod
    def _first_bad_tensor(
        self, module_id: ModuleID, plan: UpdatePlan, minibatch: int
    ) -> str:
        """Returns the first non-finite tensor of a skipped step."""

    # Hooks around an update.

    @staticmethod
    def _get_optimizer_lr(optimizer: Optimizer) -> float:
        """Returns the learning rate of this moment."""
        return float(np.asarray(optimizer.learning_rate))

    def before_gradient_based_update(self, *, timesteps: Timesteps) -> None:
        """Runs before the gradient steps of an update that is not skipped."""

    def after_gradient_based_update(self, *, timesteps: Timesteps) -> None:
        """Runs after the gradient steps: moves learning rates along their schedules.

        The learning rate that an update reports is the one of the next update.
        """
        self._counters.timestep = timesteps.get(
            constants.NUM_ENV_STEPS_SAMPLED_LIFETIME, self._counters.timestep
        )
        for record in self._optimizers.values():
            if record.schedule is not None:
                rate = cast(
                    float, record.schedule.update(timestep=self._counters.timestep)
                )
                self._set_optimizer_lr(record.optimizer, lr=rate)
            self.metrics.log_value(
                (record.module_id, f"{record.name}_{constants.LR_KEY}"),
                self._get_optimizer_lr(record.optimizer),
                window=1,
            )

    # Parts of the above.

    def _check_call(
        self,
        method: str,
        kwargs: Collection[str],
        return_stats: object,
        known: tuple = UPDATE_ARGUMENTS,
    ) -> None:
        if forks.has_lost_threads:
            forks.check(f"{method}()")
        if not isinstance(return_stats, bool):
            raise UsageError(
                f"{method}(return_stats=...)", repr(return_stats), "a bool"
            )
        for name in kwargs:
            hint = did_you_mean(name, known)
            if name == "num_iters":
                hint = "it is called num_epochs"
            if name == "num_epochs":
                hint = "each item is a batch of its own; num_iters says how many"
            raise UnknownArgumentError(
                f"{method}()",
                f"unknown argument {name!r}",
                f"one of {', '.join(known)}",
                hint,
            )
        self._check_is_built()
