"""The learner: changes the weights of its modules from batches and episodes.

This file knows no TensorFlow: it is gradients after they are computed, losses by module,
the order of an update and the hooks around it. `module_owner.py` has the modules and
optimizers, `learner_state.py` what is saved, `tf_learner.py` computes gradients and
applies them.
"""

import abc
import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, cast

from tflearner import constants, forks
from tflearner.columns import Columns
from tflearner.config import AlgorithmConfig
from tflearner.constants import ALL_MODULES
from tflearner.data.minibatches import check_count
from tflearner.data.sample_batch import MultiAgentBatch
from tflearner.errors import (
    TFLearnerError,
    UnknownArgumentError,
    UnknownModuleError,
    UsageError,
    did_you_mean,
)
from tflearner.intake import batch_checks, deferred, train_batch
from tflearner.intake.update_plan import (
    Outlook,
    UpdatePlan,
    UpdateSettings,
    plan_update,
)
from tflearner.learner import step_metrics
from tflearner.learner.learner_state import LearnerState
from tflearner.learner.turns import in_turn
from tflearner.learner.update_progress import UpdateProgress
from tflearner.modules.apis import SelfSupervisedLossAPI
from tflearner.schedule import is_float32
from tflearner.types import ModuleID, ParamDict, ResultDict, Tensor

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
    """Owns modules and optimizers, and changes weights from batches or episodes.

    Subclass `TfLearner`, not this class. The hooks to override are
    `compute_loss_for_module`, `configure_optimizers_for_module`,
    `postprocess_gradients_for_module`, and, calling super, `build`, `add_module`,
    `remove_module`, `before_gradient_based_update`, `after_gradient_based_update`.

        learner = PPOConfig().build_learner(env=env)
        results = learner.update_from_episodes(episodes)
        weights = learner.get_state(components="rl_module")

    Args:
        config: The settings; copied, never changed.
        module_spec: What to build the module or modules from.
        module: The module itself, used as it is; wins over `module_spec`.
    """

    TOTAL_LOSS_KEY = constants.TOTAL_LOSS_KEY
    # Whether `compute_loss_for_module` gets whole trajectories of every module: columns
    # and forward outputs [S, T, ...], one sequence per episode, and LOSS_MASK [S, T].
    needs_trajectories: bool = False

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._column_specs: dict[ModuleID, dict] = {}
        self.updated_module_ids: tuple[ModuleID, ...] = ()
        # (module id, name) -> float32 [num_minibatches, rows per minibatch], of the last
        # batch: what its loss handed to `put_out_rows`.
        self.row_outputs: dict[tuple[ModuleID, str], Any] = {}

    def _tear_down_module(self, module_id: ModuleID) -> None:
        super()._tear_down_module(module_id)
        self._column_specs.pop(module_id, None)
        self._sick_steps.in_a_row.pop(module_id, None)
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
            for record in self._optimizers.stepping(gradients_dict):
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

    # Losses.

    def compute_losses(
        self, *, fwd_out: dict[ModuleID, dict], batch: dict[ModuleID, dict]
    ) -> dict[ModuleID, Tensor]:
        """Returns one loss per module; override for losses that span modules.

        A module with `SelfSupervisedLossAPI` brings its own, every other one gets
        `compute_loss_for_module`.

        Args:
            fwd_out: What `forward_train` put out, by module.
            batch: The columns, by module.
        """
        losses = {}
        for module_id, own in fwd_out.items():
            module: Any = self.module[module_id].unwrapped()
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
        batch: dict[str, Any],
        fwd_out: dict[str, Tensor],
    ) -> Tensor:
        """Returns the loss of one module, a scalar.

        Log terms of it with `self.metrics.log_value((module_id, name), tensor)`. With
        several optimizers return the sum of their losses.

        Args:
            module_id: The module.
            config: Its config.
            batch: Its columns.
            fwd_out: What its `forward_train` put out.
        """

    def get_required_columns(self, module_id: ModuleID) -> Collection[str]:
        """Returns the columns a module's loss needs; a batch without one is refused."""
        return (Columns.OBS,)

    def get_required_outputs(self, module_id: ModuleID) -> Collection[str]:
        """Returns what `forward_train` must put out; a module without is refused."""
        return ()

    # Updates.

    def update(
        self,
        batch: Any = None,
        episodes: Any = None,
        data_iterators: Any = None,
        **kwargs: Any,
    ) -> ResultDict:
        """Updates from a batch, from episodes or from an iterator of batches.

        Args:
            batch: As for `update_from_batch`.
            episodes: As for `update_from_episodes`.
            data_iterators: As for `update_from_iterator`, or a list of one such.
            **kwargs: As for the method it calls.

        Raises:
            UsageError: Unless exactly one of the three is given.
        """
        given = {
            "batch": batch,
            "episodes": episodes,
            "data_iterators": data_iterators,
        }
        name = deferred.only_one("update()", given)
        if name == "batch":
            return self.update_from_batch(batch, **kwargs)
        if name == "episodes":
            return self.update_from_episodes(episodes, **kwargs)
        if isinstance(data_iterators, list) and len(data_iterators) == 1:
            data_iterators = data_iterators[0]
        return self.update_from_iterator(data_iterators, **kwargs)

    def update_from_batch(
        self,
        batch: Any,
        *,
        timesteps: dict[str, Any] | None = None,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        shuffle_batch_per_epoch: bool = False,
        num_total_minibatches: int = 0,
        return_stats: bool = False,
        **kwargs: Any,
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
            lost = deferred.Lost(self.config.deferred_data_timeout_s)
            found = lost.resolve(batch)
            lost.check(found)
            yield train_batch.from_columns(found, self.module)

        self._update_from(batches(), settings, timesteps)
        return self.metrics.reduce(return_stats_obj=return_stats)

    def update_from_episodes(
        self,
        episodes: Any,
        *,
        timesteps: dict[str, Any] | None = None,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        shuffle_batch_per_epoch: bool = False,
        num_total_minibatches: int = 0,
        return_stats: bool = False,
        **kwargs: Any,
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
        lost = deferred.Lost(self.config.deferred_data_timeout_s)

        def batches():
            found = lost.resolve_all(episodes)
            lost.check(found)
            yield train_batch.from_episodes(
                found,
                self._learner_connector,
                self.module,
                self.metrics,
                trajectories=self.needs_trajectories,
            )

        self._update_from(batches(), settings, timesteps)
        self.log_lost(lost)
        return self.metrics.reduce(return_stats_obj=return_stats)

    def update_from_iterator(
        self,
        iterator: Any,
        *,
        timesteps: dict[str, Any] | None = None,
        minibatch_size: int | None = None,
        num_iters: int | None = None,
        return_stats: bool = False,
        **kwargs: Any,
    ) -> ResultDict:
        """Takes gradient steps on the train batches of an iterator, one after the other.

        Hooks run once around them all, and the weights get one new sequence number.

        Args:
            iterator: Anything with `iter_batches()`, a `tf.data.Dataset`, or anything
                that can be iterated over. Each item is a batch as
                `update_from_batch` takes it, or {"batch": [such a batch]}; those that
                are lost on the way are counted and left out.
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
        lost = deferred.Lost(self.config.deferred_data_timeout_s)
        items = lost.resolve_each(deferred.items_of(iterator, num_iters))
        batches = (train_batch.from_columns(item, self.module) for item in items)
        self._update_from(batches, settings, timesteps, of_iterator=True)
        self.log_lost(lost)
        return self.metrics.reduce(return_stats_obj=return_stats)

    @in_turn
    def _update_from(
        self,
        batches: Iterable[MultiAgentBatch],
        settings: UpdateSettings,
        timesteps: dict[str, Any] | None,
        *,
        of_iterator: bool = False,
    ) -> None:
        """Takes gradient steps on each batch."""
        with self._telling_other_processes(settings):
            settings.check()
            timesteps = self._checked_timesteps(timesteps)
        self.row_outputs = {}
        progress = UpdateProgress()
        random_state = self._rng.bit_generator.state
        try:
            for env_steps, columns, agreed in self._agreed(
                batches, settings, of_iterator
            ):
                if not columns:
                    progress.num_skipped += 1
                    continue
                plan = plan_update(columns, env_steps, agreed, self._rng)
                if not progress.num_trained:
                    self.updated_module_ids = tuple(columns)
                    self.before_gradient_based_update(timesteps=timesteps)
                outputs = self._run_update(plan)
                random_state = self._rng.bit_generator.state
                progress.add(plan)
                self._log_update(plan, outputs)
                self._count_sick_steps(plan, outputs, progress)
        except BaseException as error:
            self._rng.bit_generator.state = random_state
            if progress.num_trained:
                progress.log(self.metrics, of_iterator=of_iterator)
                self._finish_update(progress, timesteps)
                if isinstance(error, TFLearnerError):
                    error.withdraw_promise(
                        f"{progress.num_trained} batches were trained on before."
                    )
            raise
        progress.log(self.metrics, of_iterator=of_iterator)
        if progress.num_trained:
            self._finish_update(progress, timesteps)
            if progress.not_finite:
                self._sick_steps.in_a_row.pop(progress.not_finite.module_id, None)
                raise progress.not_finite
        elif self.config.never_skip_update:
            self.updated_module_ids = ()
            self.before_gradient_based_update(timesteps=timesteps)
            self.after_gradient_based_update(timesteps=timesteps)

    def log_lost(self, lost: deferred.Lost) -> None:
        """Logs how many references could not be resolved, by kind of error."""
        for kind, number in lost.by_kind.items():
            key = (ALL_MODULES, constants.NUM_LOST_REFERENCES_LIFETIME, kind)
            self.metrics.log_value(key, number, reduce="sum")

    def _log_update(self, plan: UpdatePlan, outputs: Any) -> None:
        step_metrics.log_steps_trained(
            self.metrics, plan.columns, plan.env_steps, self._weights_seq_no + 1
        )
        self.row_outputs = outputs.rows
        for key, values in outputs.values.items():
            self.metrics.log_values(key, values, **outputs.settings[key])

    def _count_sick_steps(
        self, plan: UpdatePlan, outputs: Any, progress: UpdateProgress
    ) -> None:
        """Notes what to raise for the first module that left too many steps out."""
        limit = {
            "skip": self.config.max_non_finite_updates_in_a_row,
            "raise": 1,
            "off": None,
        }[self.config.non_finite_updates]
        run = self._sick_steps.add(outputs.values, limit)
        if run is not None and progress.not_finite is None:
            first_bad = outputs.overflowed.get(run.module_id)
            overflowed = first_bad is not None
            if first_bad is None:
                first_bad = self._first_bad_tensor(run.module_id, plan, run.last)
            progress.not_finite = run.error(first_bad, overflowed=overflowed)

    def _finish_update(
        self, progress: UpdateProgress, timesteps: dict[str, Any]
    ) -> None:
        self.updated_module_ids = tuple(progress.module_ids)
        self._weights_seq_no += 1
        self.metrics.log_dict(
            {
                (mid, constants.WEIGHTS_SEQ_NO): self._weights_seq_no
                for mid in progress.module_ids
            },
            window=1,
        )
        try:
            self.after_gradient_based_update(timesteps=timesteps)
        except TFLearnerError as error:
            error.withdraw_promise("The gradient steps before it were taken.")
            raise

    def _checked_timesteps(self, timesteps: Any) -> dict[str, Any]:
        if not isinstance(timesteps, dict | None):
            raise UsageError("timesteps", repr(timesteps), "a dict")
        name = constants.NUM_ENV_STEPS_SAMPLED_LIFETIME
        now = (timesteps or {}).get(name, self._last_timestep)
        if not is_float32(now):
            raise UsageError(f"timesteps[{name!r}]", repr(now), "a finite number")
        return timesteps or {}

    def _agreed(
        self,
        batches: Iterable[MultiAgentBatch],
        settings: UpdateSettings,
        of_iterator: bool,
    ) -> Iterator[tuple[int, dict[ModuleID, dict], UpdateSettings]]:
        """Yields steps, columns and settings of batches that all processes train on."""
        remaining = iter(batches)
        while True:
            with self._telling_other_processes(settings):
                batch = next(remaining, None)
                own = settings
                if batch is not None:
                    columns = self._checked_columns(batch)
                    # Several processes have to take minibatches of one size.
                    if not self.distributed:
                        own = settings.fitted_to(columns)
                    self._check_minibatches(columns, own)
            if batch is None:
                if of_iterator:
                    self._agree(Outlook.END, settings)
                return
            yield batch.env_steps(), columns, self._agree(columns, own)

    @contextlib.contextmanager
    def _telling_other_processes(self, settings: UpdateSettings) -> Iterator[None]:
        """Lets them know of an error, or they would wait for this one's steps."""
        try:
            yield
        except Exception:
            with contextlib.suppress(TFLearnerError):
                self._agree(Outlook.ERROR, settings)
            raise

    def _checked_columns(self, batch: MultiAgentBatch) -> dict[ModuleID, dict]:
        """The columns of the modules that will be updated, ready to train on."""
        for module_id in batch.policy_batches:
            if module_id not in self.module:
                raise UnknownModuleError(
                    f"module {module_id!r}",
                    "a batch for a module that is not in this learner",
                    f"one of {sorted(self.module.keys())}",
                    did_you_mean(module_id, self.module.keys()),
                )
        checked = {
            module_id: self._checked(module_id, own)
            for module_id, own in batch.policy_batches.items()
            if not train_batch.is_empty(own)
            and self.rl_module_is_compatible(self.module[module_id])
            and self.should_module_be_updated(module_id, batch)
        }
        return {
            module_id: self.complete_columns(module_id, own)
            for module_id, own in checked.items()
            if train_batch.num_valid_rows(own)
        }

    def _checked(self, module_id: ModuleID, columns: Mapping[str, Any]) -> dict:
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

    def complete_columns(
        self, module_id: ModuleID, columns: dict[str, Any]
    ) -> dict[str, Any]:
        """Returns a module's columns with those that its loss needs besides.

        Override it for columns that are drawn or filled in, such as weights of 1; random
        numbers come from `self._rng`, so that a seed and a checkpoint decide them.

        Args:
            module_id: The module.
            columns: Checked columns, NumPy arrays [N, ...].
        """
        return columns

    # Hooks around an update.

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Runs before the gradient steps of an update that is not skipped."""

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Runs after the gradient steps: moves learning rates along their schedules.

        The learning rate that an update reports is the one of the next update.
        """
        self._last_timestep = timesteps.get(
            constants.NUM_ENV_STEPS_SAMPLED_LIFETIME, self._last_timestep
        )
        for record in self._optimizers:
            if record.schedule is not None:
                rate = cast(float, record.schedule.update(timestep=self._last_timestep))
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
        kwargs: dict[str, Any],
        return_stats: Any,
        known: tuple = UPDATE_ARGUMENTS,
    ) -> None:
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
