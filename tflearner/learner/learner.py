"""The learner: owns modules and optimizers, and changes weights from batches.

This file knows no TensorFlow: it is the lifecycle, the order of an update, the hooks,
and state. `tf_learner.py` computes gradients and applies them.
"""

import abc
import dataclasses
import logging
import numbers
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

import numpy as np

from tflearner import constants
from tflearner.columns import Columns
from tflearner.config import AlgorithmConfig
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.constants import ALL_MODULES, DEFAULT_MODULE_ID, DEFAULT_OPTIMIZER
from tflearner.data.minibatches import MinibatchPlan, plan_minibatches
from tflearner.data.sample_batch import MultiAgentBatch
from tflearner.errors import (
    ModuleError,
    TFLearnerError,
    UnknownArgumentError,
    UnknownModuleError,
    UsageError,
    did_you_mean,
)
from tflearner.learner import batch_checks, step_metrics, train_batch
from tflearner.learner.components import (
    OF_THE_WEIGHTS,
    SHOULD_BE_UPDATED,
    Components,
    checked_state,
)
from tflearner.learner.optimizers import OptimizerRegistry
from tflearner.metrics import MetricsLogger
from tflearner.modules.rl_module import MultiRLModule, RLModule, validate_module_id
from tflearner.modules.rl_module_spec import MultiRLModuleSpec, RLModuleSpec
from tflearner.types import (
    LearningRateOrSchedule,
    ModuleID,
    Optimizer,
    Param,
    ParamDict,
    ParamRef,
    ResultDict,
    ShouldModuleBeUpdatedFn,
    StateDict,
    Tensor,
)

logger = logging.getLogger(__name__)

UPDATE_ARGUMENTS = (
    "timesteps",
    "num_epochs",
    "minibatch_size",
    "shuffle_batch_per_epoch",
    "num_total_minibatches",
    "return_stats",
)


class Learner(abc.ABC):
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

    framework: str | None = None
    TOTAL_LOSS_KEY = constants.TOTAL_LOSS_KEY

    def __init__(
        self,
        *,
        config: AlgorithmConfig,
        module_spec: RLModuleSpec | MultiRLModuleSpec | None = None,
        module: RLModule | None = None,
    ):
        config.validate()
        self.config = config.copy(copy_frozen=False)
        self.metrics = MetricsLogger()
        self._module_spec = module_spec
        self._module_obj = module
        self._module: MultiRLModule | None = None
        self._learner_connector: LearnerConnectorPipeline | None = None
        self._optimizers = OptimizerRegistry()
        self._weights_seq_no = 0
        self._last_timestep = 0
        self._rng = np.random.default_rng(config.seed)
        self._column_specs: dict[ModuleID, dict] = {}
        self.updated_module_ids: tuple[ModuleID, ...] = ()

    # Lifecycle.

    def build(self) -> None:
        """Builds connector pipeline, modules and optimizers; a second call does nothing.

        Override to add to it, calling super first.
        """
        if self._module is not None:
            logger.debug("Learner already built. Skipping build.")
            return
        if self.config.num_aggregator_actors_per_learner == 0:
            self._learner_connector = self.config.build_learner_connector(
                input_observation_space=None,
                input_action_space=None,
                device=self.device,
            )
        module = self._make_module()
        self._module = module
        try:
            self.configure_optimizers()
        except BaseException:
            self._module, self._optimizers = None, OptimizerRegistry()
            raise
        step_metrics.log_parameter_counts(self.metrics, module, self.get_parameters)

    @property
    def module(self) -> MultiRLModule:
        """The modules that learn, by id; `None` before `build()`."""
        return self._module  # type: ignore[return-value]

    @property
    def distributed(self) -> bool:
        """Whether several learners share the work."""
        return self.config.num_learners > 1

    @property
    def node(self) -> str:
        """The name of this host."""
        return platform.node()

    @property
    def device(self) -> Any:
        """The device weights live on."""
        return None

    def _make_module(self) -> MultiRLModule:
        module = self._module_obj
        if module is None:
            spec = self._module_spec or self.config.get_multi_rl_module_spec()
            module = spec.build(seed=self.config.seed)
        self._module_spec = MultiRLModuleSpec.from_module(module)
        return module.as_multi_rl_module()

    def _check_is_built(self, error: bool = True) -> bool:
        if self._module is None and error:
            raise UsageError(
                type(self).__name__,
                "a learner that is not built yet",
                hint="call build() once before any other method",
            )
        return self._module is not None

    # Optimizers.

    def configure_optimizers(self) -> None:
        """Registers the optimizers of every compatible module; called by `build()`."""
        self._check_is_built()
        for module_id in self.module:
            self._configure_optimizers_if_compatible(module_id)

    def _configure_optimizers_if_compatible(self, module_id: ModuleID) -> None:
        if self.rl_module_is_compatible(self.module[module_id]):
            self.configure_optimizers_for_module(
                module_id=module_id, config=self.config.get_config_for_module(module_id)
            )

    @abc.abstractmethod
    def configure_optimizers_for_module(
        self, module_id: ModuleID, config: AlgorithmConfig | None = None
    ) -> None:
        """Registers the optimizers of one module through `register_optimizer`."""

    def register_optimizer(
        self,
        *,
        module_id: ModuleID = ALL_MODULES,
        optimizer_name: str = DEFAULT_OPTIMIZER,
        optimizer: Optimizer,
        params: list[Param],
        lr_or_lr_schedule: LearningRateOrSchedule | None = None,
    ) -> None:
        """Registers an optimizer for variables of a module.

        Args:
            module_id: The module; `ALL_MODULES` for variables of several.
            optimizer_name: Tells the optimizers of one module apart.
            optimizer: A Keras optimizer that is registered nowhere else.
            params: The variables it updates; a list.
            lr_or_lr_schedule: A learning rate, or `[[timestep, value], ...]`, that the
                learner keeps; `None` leaves the learning rate to you.

        Raises:
            OptimizerError: If name, optimizer or variables do not fit; nothing is
                registered then.
            ScheduleError: If the schedule is invalid.
        """
        self._check_registered_optimizer(optimizer, params)
        self._optimizers.register(
            module_id=module_id,
            name=optimizer_name,
            optimizer=optimizer,
            params={self.get_param_ref(param): param for param in params},
            lr_or_lr_schedule=lr_or_lr_schedule,
        )

    def get_optimizer(
        self,
        module_id: ModuleID = DEFAULT_MODULE_ID,
        optimizer_name: str = DEFAULT_OPTIMIZER,
    ) -> Optimizer:
        """Returns an optimizer by module and name, or by its full name.

        Raises:
            KeyError: If there is none.
        """
        return self._optimizers.find(module_id, optimizer_name).optimizer

    def get_optimizers_for_module(
        self, module_id: ModuleID = ALL_MODULES
    ) -> list[tuple[str, Optimizer]]:
        """Returns the (name, optimizer) pairs of a module; none for an unknown id."""
        return [(r.name, r.optimizer) for r in self._optimizers.for_module(module_id)]

    def filter_param_dict_for_optimizer(
        self, param_dict: ParamDict, optimizer: Optimizer
    ) -> ParamDict:
        """Returns the entries of `param_dict` that `optimizer` updates and has.

        Raises:
            KeyError: If the optimizer is not registered.
        """
        refs = self._optimizers.of(optimizer).params
        return {r: param_dict[r] for r in refs if param_dict.get(r) is not None}

    @abc.abstractmethod
    def _check_registered_optimizer(
        self, optimizer: Optimizer, params: list[Param]
    ) -> None:
        """Raises `OptimizerError` unless both can be registered."""

    # What the framework does.

    @abc.abstractmethod
    def compute_gradients(
        self, loss_per_module: dict[ModuleID, Tensor], **kwargs: Any
    ) -> ParamDict:
        """Returns the gradients of the sum of all losses, by parameter reference.

        `loss_per_module` holds the modules' losses and no total.
        """

    @abc.abstractmethod
    def apply_gradients(self, gradients_dict: ParamDict) -> None:
        """Lets every optimizer step that has gradients; the others stay untouched."""

    @abc.abstractmethod
    def get_param_ref(self, param: Param) -> ParamRef:
        """Returns the hashable reference of a variable."""

    @abc.abstractmethod
    def get_parameters(self, module: RLModule) -> Sequence[Param]:
        """Returns the trainable variables of a module."""

    @abc.abstractmethod
    def _update(self, batch: dict[ModuleID, Any], **kwargs: Any) -> tuple:
        """Takes one gradient step; traced."""

    @abc.abstractmethod
    def _run_update(
        self, columns: dict[ModuleID, dict], plan: MinibatchPlan, full_batch: bool
    ) -> Any:
        """Takes one gradient step per minibatch of the plan."""

    @abc.abstractmethod
    def _get_tensor_variable(
        self, value: Any, dtype: Any = None, trainable: bool = False
    ) -> Any:
        """Returns a variable that traced losses can read and hooks can assign."""

    @staticmethod
    @abc.abstractmethod
    def _get_optimizer_lr(optimizer: Optimizer) -> float:
        """Returns the learning rate of this moment."""

    @staticmethod
    @abc.abstractmethod
    def _set_optimizer_lr(optimizer: Optimizer, lr: float) -> None:
        """Sets the learning rate."""

    @staticmethod
    @abc.abstractmethod
    def _get_clip_function() -> Callable:
        """Returns `f(gradients_dict, *, grad_clip, grad_clip_by)`, clipping in place."""

    @staticmethod
    @abc.abstractmethod
    def _get_global_norm_function() -> Callable:
        """Returns `f(list of tensors)`, the norm of all of them together."""

    # Gradients.

    def postprocess_gradients(self, gradients_dict: ParamDict) -> ParamDict:
        """Clips and logs gradients, module by module.

        Optimizers under `ALL_MODULES` come last, with the global config.

        Returns:
            A dict with the same references, without those whose gradient is `None`.
        """
        postprocessed: ParamDict = {}
        for module_id in [*self.module.keys(), ALL_MODULES]:
            own: ParamDict = {}
            for _, optimizer in self.get_optimizers_for_module(module_id):
                own |= self.filter_param_dict_for_optimizer(gradients_dict, optimizer)
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

        Logs the global norm before clipping, per optimizer.

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
            key = (module_id, f"gradients_{name}_global_norm")
            self.metrics.log_value(key, norm, window=1)
            postprocessed |= own
        return postprocessed

    # Losses.

    def compute_losses(
        self, *, fwd_out: dict[ModuleID, dict], batch: dict[ModuleID, dict]
    ) -> dict[ModuleID, Tensor]:
        """Returns one loss per module; override for losses that span modules.

        Args:
            fwd_out: What `forward_train` put out, by module.
            batch: The columns, by module.
        """
        return {
            module_id: self.compute_loss_for_module(
                module_id=module_id,
                config=self.config.get_config_for_module(module_id),
                batch=batch[module_id],
                fwd_out=own,
            )
            for module_id, own in fwd_out.items()
        }

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

    def rl_module_is_compatible(self, module: RLModule) -> bool:
        """Returns whether the learner can train `module`.

        Others ride along: they get no optimizer and are left out of updates.
        """
        apis = self.rl_module_required_apis()
        return all(isinstance(module.unwrapped(), api) for api in apis)

    @classmethod
    def rl_module_required_apis(cls) -> list[type]:
        """Returns the interfaces a module must have to be trained here."""
        return []

    # Modules at run time.

    def add_module(
        self,
        *,
        module_id: ModuleID,
        module_spec: RLModuleSpec,
        config_overrides: dict[str, Any] | None = None,
        new_should_module_be_updated: ShouldModuleBeUpdatedFn = None,
    ) -> MultiRLModuleSpec:
        """Adds a module in mid-training; if that fails, nothing is changed.

        Args:
            module_id: Its id.
            module_spec: What to build it from.
            config_overrides: Settings of its own.
            new_should_module_be_updated: Ids of the modules that learn from now on, or
                a function of (module id, batch); `None` keeps what was set.

        Returns:
            The specification of all modules.

        Raises:
            ModuleError: If the id is invalid or taken, or the specification is none.
        """
        self._check_is_built()
        validate_module_id(module_id, error=True)
        if not isinstance(module_spec, RLModuleSpec):
            raise ModuleError(
                f"module {module_id!r}", repr(module_spec), "an RLModuleSpec"
            )
        self._check_should_be_updated(new_should_module_be_updated)
        before = self.config.copy()
        spec = dataclasses.replace(module_spec, inference_only=False)
        # From a child generator, so that minibatches are those of a run without it.
        module = spec.build(seed=int(self._rng.spawn(1)[0].integers(2**31)))
        self.module.add_module(module_id, module)
        try:
            self.config.multi_agent(policies={**self.config.policies, module_id: spec})
            if config_overrides is not None:
                overrides = self.config.algorithm_config_overrides_per_module
                self.config.multi_agent(
                    algorithm_config_overrides_per_module={
                        **overrides,
                        module_id: dict(config_overrides),
                    }
                )
                self.config.get_config_for_module(module_id).validate()
            self._configure_optimizers_if_compatible(module_id)
        except BaseException:
            self._optimizers.remove_module(module_id)
            self.module.remove_module(module_id)
            self.config = before
            raise
        return self._set_modules_in_config(new_should_module_be_updated)

    def remove_module(
        self,
        module_id: ModuleID,
        *,
        new_should_module_be_updated: ShouldModuleBeUpdatedFn = None,
    ) -> MultiRLModuleSpec:
        """Removes a module, its optimizers, its metrics and its overrides.

        Args:
            module_id: Its id.
            new_should_module_be_updated: As for `add_module`.

        Returns:
            The specification of the modules that stay.

        Raises:
            UnknownModuleError: If there is none.
        """
        self._check_is_built()
        self._check_should_be_updated(new_should_module_be_updated)
        self.module.remove_module(module_id)
        self._optimizers.remove_module(module_id)
        self._column_specs.pop(module_id, None)
        self.metrics.delete(module_id, key_error=False)
        self.updated_module_ids = tuple(
            mid for mid in self.updated_module_ids if mid != module_id
        )
        overrides = dict(self.config.algorithm_config_overrides_per_module)
        policies = dict(self.config.policies)
        overrides.pop(module_id, None)
        policies.pop(module_id, None)
        to_train = self.config.policies_to_train
        if to_train is not None and not callable(to_train):
            to_train = [mid for mid in to_train if mid != module_id]
        self.config.multi_agent(
            policies=policies,
            algorithm_config_overrides_per_module=overrides,
            policies_to_train=to_train,
        )
        return self._set_modules_in_config(new_should_module_be_updated)

    def _check_should_be_updated(self, wanted: ShouldModuleBeUpdatedFn) -> None:
        self.config.copy().multi_agent(policies_to_train=wanted).validate()

    def _set_modules_in_config(
        self, should_module_be_updated: ShouldModuleBeUpdatedFn
    ) -> MultiRLModuleSpec:
        self._module_spec = MultiRLModuleSpec.from_module(self.module)
        self.config.rl_module(rl_module_spec=self._module_spec)
        if should_module_be_updated is not None:
            self.config.multi_agent(policies_to_train=should_module_be_updated)
        step_metrics.log_parameter_counts(
            self.metrics, self.module, self.get_parameters
        )
        return self._module_spec

    def should_module_be_updated(
        self, module_id: ModuleID, multi_agent_batch: MultiAgentBatch | None = None
    ) -> bool:
        """Returns whether a module learns, as `policies_to_train` says."""
        wanted = self.config.policies_to_train
        if wanted is None:
            return True
        if callable(wanted):
            return bool(wanted(module_id, multi_agent_batch))
        return module_id in set(wanted)

    # Updates.

    def update(self, batch: Any = None, episodes: Any = None, **kwargs: Any):
        """Updates from a batch or from episodes, whichever is given.

        Args:
            batch: As for `update_from_batch`.
            episodes: As for `update_from_episodes`.
            **kwargs: As for both.

        Raises:
            UsageError: Unless exactly one of the two is given.
        """
        if (batch is None) == (episodes is None):
            given = "neither" if batch is None else "both"
            raise UsageError(
                "update()", f"{given} of batch and episodes", "exactly one"
            )
        if batch is not None:
            return self.update_from_batch(batch, **kwargs)
        return self.update_from_episodes(episodes, **kwargs)

    def update_from_batch(
        self,
        batch: MultiAgentBatch | Mapping[str, Any],
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
            batch: A `MultiAgentBatch`; or, with one module, a `SampleBatch` or a dict
                of its columns, NumPy arrays or tensors [N, ...]. Not changed.
            timesteps: Schedules read "num_env_steps_sampled_lifetime" from it; without
                it they stay where they are.
            num_epochs: Passes over the batch.
            minibatch_size: Rows of every module per gradient step; `None` takes all
                rows at once.
            shuffle_batch_per_epoch: Whether rows are shuffled before every pass.
            num_total_minibatches: Gradient steps instead of `num_epochs`, if above 0.
            return_stats: Whether leaves of the result are `Stats` instead of numbers.
            **kwargs: Refused.

        Returns:
            Metrics by module id and name.

        Raises:
            BatchError: If the batch cannot be trained on; nothing is changed then.
        """
        self._refuse_unknown("update_from_batch", kwargs)
        self._check_is_built()
        self._update_from(
            train_batch.from_columns(batch, self.module),
            timesteps,
            num_epochs=num_epochs,
            minibatch_size=minibatch_size,
            shuffle=shuffle_batch_per_epoch,
            num_total_minibatches=num_total_minibatches,
        )
        return self.metrics.reduce(return_stats_obj=return_stats)

    def update_from_episodes(
        self,
        episodes: list[Any],
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
            episodes: `SingleAgentEpisode`s; not changed. An empty list is a skipped
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
        """
        self._refuse_unknown("update_from_episodes", kwargs)
        self._check_is_built()
        self._update_from(
            train_batch.from_episodes(
                episodes, self._learner_connector, self.module, self.metrics
            ),
            timesteps,
            num_epochs=num_epochs,
            minibatch_size=minibatch_size,
            shuffle=shuffle_batch_per_epoch,
            num_total_minibatches=num_total_minibatches,
        )
        return self.metrics.reduce(return_stats_obj=return_stats)

    def _update_from(
        self,
        batch: MultiAgentBatch,
        timesteps: dict[str, Any] | None,
        *,
        num_epochs: int,
        minibatch_size: int | None,
        shuffle: bool,
        num_total_minibatches: int,
    ) -> None:
        timesteps = self._checked_timesteps(timesteps)
        columns = self._checked_columns(batch)
        num_rows = {mid: train_batch.num_rows(own) for mid, own in columns.items()}
        if not columns:
            key = constants.LEARNER_UPDATE_SKIPPED_EMPTY_BATCH_LIFETIME
            self.metrics.log_value((ALL_MODULES, key), 1, reduce="sum")
            return
        random_state = self._rng.bit_generator.state
        plan = plan_minibatches(
            num_rows,
            minibatch_size=num_rows if minibatch_size is None else minibatch_size,
            num_epochs=num_epochs,
            shuffle=shuffle and minibatch_size is not None,
            num_total_minibatches=num_total_minibatches,
            rng=self._rng,
        )
        self.updated_module_ids = tuple(columns)
        try:
            self.before_gradient_based_update(timesteps=timesteps)
            outputs = self._run_update(columns, plan, full_batch=minibatch_size is None)
        except BaseException:
            self._rng.bit_generator.state = random_state
            raise
        self._weights_seq_no += 1
        step_metrics.log_steps_trained(self.metrics, columns, batch.env_steps())
        for key, values in outputs.values.items():
            self.metrics.log_values(key, values, **outputs.settings[key])
        self.metrics.log_dict(
            {(mid, constants.WEIGHTS_SEQ_NO): self._weights_seq_no for mid in columns},
            window=1,
        )
        self.after_gradient_based_update(timesteps=timesteps)

    def _checked_timesteps(self, timesteps: Any) -> dict[str, Any]:
        if not isinstance(timesteps, dict | None):
            raise UsageError("timesteps", repr(timesteps), "a dict")
        name = constants.NUM_ENV_STEPS_SAMPLED_LIFETIME
        now = (timesteps or {}).get(name, self._last_timestep)
        if not isinstance(now, numbers.Real):
            raise UsageError(f"timesteps[{name!r}]", repr(now), "a number")
        return timesteps or {}

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
        return {
            module_id: self._checked(module_id, own)
            for module_id, own in batch.policy_batches.items()
            if not train_batch.is_empty(own)
            and self.rl_module_is_compatible(self.module[module_id])
            and self.should_module_be_updated(module_id, batch)
        }

    def _checked(self, module_id: ModuleID, columns: Mapping[str, Any]) -> dict:
        if module_id not in self._column_specs:
            module = self.module[module_id].unwrapped()
            self._column_specs[module_id] = batch_checks.column_specs(module)
        return batch_checks.check_columns(
            module_id,
            columns,
            specs=self._column_specs[module_id],
            required=self.get_required_columns(module_id),
        )

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

    # State.

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
    ) -> StateDict:
        """Returns the learner's state as NumPy arrays and plain Python.

        Args:
            components: Which of "rl_module", "optimizer", "metrics_logger", "learner"
                (what else the next update depends on), or one module as
                "rl_module/<id>"; `None` is all of them.
            not_components: Which of them to leave out.
        """
        self._check_is_built()
        state: StateDict = {
            SHOULD_BE_UPDATED: self.config.policies_to_train,
            constants.WEIGHTS_SEQ_NO: self._weights_seq_no,
        }
        selected = Components(components, not_components)
        if selected.include(constants.COMPONENT_RL_MODULE):
            below = selected.below(constants.COMPONENT_RL_MODULE)
            state[constants.COMPONENT_RL_MODULE] = self.module.get_state(
                components=below.wanted, not_components=below.unwanted
            )
        if selected.include(constants.COMPONENT_OPTIMIZER):
            state[constants.COMPONENT_OPTIMIZER] = self._get_optimizer_state()
        if selected.include(constants.COMPONENT_METRICS_LOGGER):
            state[constants.COMPONENT_METRICS_LOGGER] = self.metrics.get_state()
        if selected.include(constants.COMPONENT_LEARNER):
            state[constants.COMPONENT_LEARNER] = self._get_learner_state()
        return state

    def set_state(self, state: StateDict, *, force: bool = False) -> dict[str, list]:
        """Replaces what `state` holds: a learner's state, or module weights alone.

        Args:
            state: From `get_state`, with any components; or {module id: weights}; or a
                whole `get_state(components="rl_module")` under "rl_module".
            force: Whether older weights replace newer ones. Otherwise a state whose
                `weights_seq_no` is lower than the learner's changes no weights, no
                optimizer, no schedule and no number.

        Returns:
            {"applied": [components], "ignored": [components]}.

        Raises:
            UsageError: If `state` is no such dict.
            ModuleError: If weights do not fit.
            UnknownModuleError: If a module is not in this learner.
            OptimizerError: If optimizer state does not fit. Nothing is changed then.
        """
        self._check_is_built()
        state = checked_state(state, self.module)
        seq_no = state.get(constants.WEIGHTS_SEQ_NO)
        is_older = seq_no is not None and seq_no < self._weights_seq_no and not force
        ignored = [name for name in state if is_older and name in OF_THE_WEIGHTS]
        applied = {name: own for name, own in state.items() if name not in ignored}
        before = self.get_state()
        try:
            self._apply_state(applied)
        except Exception as error:
            self._apply_state(before)
            if isinstance(error, TFLearnerError):
                raise
            raise UsageError(
                "set_state()", f"{type(error).__name__}: {error}", "what get_state gave"
            ) from error
        ignored = [name for name in ignored if name != constants.WEIGHTS_SEQ_NO]
        return {"applied": [*applied], "ignored": ignored}

    def _apply_state(self, state: StateDict) -> None:
        if SHOULD_BE_UPDATED in state:
            self.config.multi_agent(policies_to_train=state[SHOULD_BE_UPDATED])
            self.config.validate()
        if constants.COMPONENT_RL_MODULE in state:
            self.module.set_state(state[constants.COMPONENT_RL_MODULE])
        if constants.COMPONENT_OPTIMIZER in state:
            self._set_optimizer_state(state[constants.COMPONENT_OPTIMIZER])
        if constants.COMPONENT_LEARNER in state:
            self._set_learner_state(state[constants.COMPONENT_LEARNER])
        if constants.COMPONENT_METRICS_LOGGER in state:
            self.metrics.set_state(state[constants.COMPONENT_METRICS_LOGGER])
        self._weights_seq_no = state.get(constants.WEIGHTS_SEQ_NO, self._weights_seq_no)

    def _get_learner_state(self) -> StateDict:
        """Returns what the next update depends on besides weights and optimizers.

        Override to add to it, as plain Python.
        """
        return {"timestep": self._last_timestep, "rng": self._rng.bit_generator.state}

    def _set_learner_state(self, state: StateDict) -> None:
        """Replaces what `_get_learner_state` returned. Override to add to it."""
        self._rng.bit_generator.state = state["rng"]
        self._last_timestep = state["timestep"]

    @abc.abstractmethod
    def _get_optimizer_state(self) -> StateDict:
        """Returns every optimizer's variables."""

    @abc.abstractmethod
    def _set_optimizer_state(self, state: StateDict) -> None:
        """Replaces every optimizer's variables."""

    def _refuse_unknown(self, method: str, kwargs: dict[str, Any]) -> None:
        for name in kwargs:
            hint = did_you_mean(name, UPDATE_ARGUMENTS)
            if name == "num_iters":
                hint = "it is called num_epochs"
            raise UnknownArgumentError(
                f"{method}()",
                f"unknown argument {name!r}",
                f"one of {', '.join(UPDATE_ARGUMENTS)}",
                hint,
            )
