"""Modules of a learner and their optimizers, from its building to its end."""

import abc
import contextlib
import dataclasses
import enum
import logging
import platform
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from tflearner import constants, forks
from tflearner.config import AlgorithmConfig
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.constants import ALL_MODULES, DEFAULT_MODULE_ID, DEFAULT_OPTIMIZER
from tflearner.data.sample_batch import MultiAgentBatch
from tflearner.engine import compile_cache
from tflearner.engine.optimizers import (
    OptimizerRegistry,
    as_param_dict,
    param_ref,
    tf_variable,
)
from tflearner.engine.replicas import Replicas, strategy_of
from tflearner.errors import (
    ConfigError,
    ModuleError,
    OptimizerError,
    TFLearnerError,
    UsageError,
)
from tflearner.learner.counters import Counters
from tflearner.learner.former_names import FormerNames
from tflearner.learner.turns import Turns
from tflearner.metrics import MetricsLogger
from tflearner.modules.apis import SelfSupervisedLossAPI, TargetNetworkAPI
from tflearner.modules.counted_variables import counted_variables
from tflearner.modules.rl_module import MultiRLModule, RLModule, validate_module_id
from tflearner.modules.rl_module_spec import (
    MultiRLModuleSpec,
    RLModuleSpec,
    check_spec,
)
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.networks import tensorflow_settings
from tflearner.networks.own_random import own_random_numbers
from tflearner.types import (
    LearningRateOrSchedule,
    ModuleID,
    Optimizer,
    Param,
    ParamDict,
    ParamRef,
    ShouldModuleBeUpdatedFn,
)

logger = logging.getLogger(__name__)


_Result = TypeVar("_Result")


class _Lifecycle(enum.Enum):
    NEW = "a learner that is not built yet"
    BUILT = "a learner that is built"
    SHUT_DOWN = "a learner that was shut down"


class ModuleOwner(FormerNames, abc.ABC):
    """Builds, adds and removes modules, and registers their optimizers.

    The part of `Learner` that knows nothing of batches, losses and updates.

    Args:
        config: The settings; copied, never changed.
        module_spec: What to build the module or modules from.
        module: The module itself, used as it is; wins over `module_spec`.
    """

    framework: str | None = None

    def __init__(
        self,
        *,
        config: AlgorithmConfig,
        module_spec: RLModuleSpec | MultiRLModuleSpec | None = None,
        module: RLModule | None = None,
    ):
        tensorflow_settings.check()
        _check_arguments(config, module_spec, module)
        config.validate()
        self.config = own = config.copy(copy_frozen=False)
        if own.compile_cache is not None:  # Before TensorFlow looks for GPUs.
            compile_cache.switch_on(own.compile_cache)
        self._replicas = Replicas(
            strategy_of(own.strategy, own.num_gpus_per_learner, own.local_gpu_idx)
        )
        if own.jit_compile is True and not self._replicas.can_use_xla:
            raise ConfigError(
                "jit_compile=True",
                f"{type(self._replicas.strategy).__name__}, whose devices exchange "
                "gradients in the midst of a step",
                'jit_compile="auto" or False',
            )
        self.metrics = MetricsLogger()
        self._module_spec = module_spec
        self._given_spec = module_spec
        self._turns = Turns()  # Updates and exports exclude each other.
        self._module_obj = module
        self._module: MultiRLModule | None = None
        self._lifecycle = _Lifecycle.NEW
        self._learner_connector: LearnerConnectorPipeline | None = None
        self._optimizers = OptimizerRegistry()
        self._counters = Counters.at_first(config.seed)
        self._stateful_ids: set[ModuleID] = set()

    @property
    def _rng(self) -> np.random.Generator:
        return self._counters.rng

    # Lifecycle.

    def build(self) -> None:
        """Builds connector pipeline, modules and optimizers; a second call does nothing.

        Override to add to it, calling super first.
        """
        forks.check("build()")
        if self._lifecycle is not _Lifecycle.NEW:
            self._check_is_built()
            logger.debug("Learner already built. Skipping build.")
            return
        if self.config.num_aggregator_actors_per_learner == 0:
            config = self.config.copy(copy_frozen=False)
            config.learner_class = type(self)  # Its pieces are those of the loss.
            self._learner_connector = config.build_learner_connector(
                input_observation_space=None,
                input_action_space=None,
                device=self.device,
            )
        with self._variable_scope():
            self._module = self._make_module()
        self._lifecycle = _Lifecycle.BUILT
        try:
            with self._variable_scope():
                for module_id in self.module:
                    self._set_up_module(module_id)
                self.configure_optimizers()
            self._log_trainable_parameters()
            self._warn_if_nothing_learns()
        except BaseException:
            self._reset()
            raise

    def _warn_if_nothing_learns(self) -> None:
        compatible = [
            mid for mid, m in self.module.items() if self.rl_module_is_compatible(m)
        ]
        if not compatible and len(self.module):
            names = [api.__name__ for api in self.rl_module_required_apis()]
            logger.warning(
                "%s can train none of its modules %s: updates will be skipped. A module "
                "needs %s.",
                type(self).__name__,
                [*self.module],
                " and ".join(["TfRLModule", *names]),
            )
        elif compatible and not self._optimizers:
            logger.warning(
                "%s has no optimizer: updates will change no weights.",
                type(self).__name__,
            )

    def _reset(self) -> None:
        """Goes back to where `build()` has not been called."""
        for module_id in self._module or ():
            self._tear_down_module(module_id)
        self._module, self._optimizers = None, OptimizerRegistry()
        self._module_spec = self._given_spec
        self.metrics.reset()
        self._counters = Counters.at_first(self.config.seed)
        self._lifecycle = _Lifecycle.NEW

    def shutdown(self) -> None:
        """Ends the learner: every later call but this one is an error."""
        self._lifecycle = _Lifecycle.SHUT_DOWN

    @property
    def module(self) -> MultiRLModule:
        """The modules that learn, by id; `None` before `build()`."""
        return self._module  # type: ignore[return-value]

    @property
    def node(self) -> str:
        """The name of this host."""
        return platform.node()

    @property
    def device(self) -> str:
        """The device weights live on; the first of several."""
        given = self._replicas.devices[0]
        if given is not None:
            return given
        return "GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"

    @property
    def distributed(self) -> bool:
        """Whether several processes learn together."""
        return self._replicas.num_workers > 1

    def _make_module(self) -> MultiRLModule:
        module = self._module_obj
        if module is None:
            spec = self._module_spec or self.config.get_multi_rl_module_spec()
            module = spec.build(seed=self.config.seed)
        self._module_spec = MultiRLModuleSpec.from_module(module)
        return module.as_multi_rl_module()

    def _check_is_built(self, error: bool = True) -> bool:
        if error:  # The caller is about to compute.
            tensorflow_settings.check()
        is_built = self._lifecycle is _Lifecycle.BUILT
        if error and not is_built:
            is_new = self._lifecycle is _Lifecycle.NEW
            raise UsageError(
                type(self).__name__,
                self._lifecycle.value,
                hint="call build() once before any other method" if is_new else None,
            )
        return is_built

    def apply(self, func: Callable[..., _Result], *args: Any, **kwargs: Any) -> _Result:
        """Returns `func(self, *args, **kwargs)`, as learner groups need it."""
        return func(self, *args, **kwargs)

    def _tf_module(self, module_id: ModuleID) -> TfRLModule:
        return self.module[module_id].unwrapped()  # type: ignore[return-value]

    def _set_up_module(self, module_id: ModuleID) -> None:
        """Makes the learner's own data for a module, before its optimizers.

        Override, calling super, to add to it; an error here leaves the learner as it
        was before.
        """
        module = self.module[module_id].unwrapped()
        if module.is_stateful():
            self._stateful_ids.add(module_id)
        if isinstance(module, TargetNetworkAPI):
            with own_random_numbers(self.config.seed):
                module.make_target_networks()
        if self.rl_module_is_compatible(module):
            self._check_module(module_id)

    def _tear_down_module(self, module_id: ModuleID) -> None:
        """Deletes the learner's own data for a module. Override, calling super."""
        for record in self._optimizers.for_module(module_id):
            self._forget_traces(self._optimizers.sharing_with(record))
        self._optimizers.remove_module(module_id)
        self._stateful_ids.discard(module_id)
        self.metrics.delete(module_id, key_error=False)

    def _log_trainable_parameters(self) -> None:
        """Logs trainable and other weights of every module and of all together."""
        counts = {}
        for module_id, module in self.module.items():
            trainable = sum(_size(p) for p in self.get_parameters(module))
            weights = getattr(module.unwrapped(), "weights", [])
            everything = sum(_size(w) for w in weights)
            counts[module_id] = np.array([trainable, everything - trainable])
        counts[ALL_MODULES] = sum(counts.values(), np.zeros(2, int))
        for key, (trainable, frozen) in counts.items():
            name = constants.NUM_TRAINABLE_PARAMETERS
            self.metrics.set_value((key, name), int(trainable), window=1)
            name = constants.NUM_NON_TRAINABLE_PARAMETERS
            self.metrics.set_value((key, name), int(frozen), window=1)

    @abc.abstractmethod
    def _check_module(self, module_id: ModuleID) -> None:
        """Raises `ModuleError` for a module whose outputs cannot be trained on."""

    @contextlib.contextmanager
    def _variable_scope(self):
        with self._replicas.scope(), counted_variables():
            yield

    # Parameters and optimizers.

    def get_param_ref(self, param: Param) -> ParamRef:
        return param_ref(param)

    def get_parameters(self, module) -> list[Param]:
        """Returns the trainable variables of a module, or of all of a `MultiRLModule`."""
        if isinstance(module, MultiRLModule):
            return [
                p for single in module.values() for p in self.get_parameters(single)
            ]
        return list(getattr(module, "trainable_variables", []))

    def _weight_keys(self) -> dict[ParamRef, str]:
        # A variable of several modules has the path that it has in the first.
        keys: dict[ParamRef, str] = {}
        for module_id, module in self.module.items():
            if isinstance(module.unwrapped(), TfRLModule):
                for ref, key in module.unwrapped().weight_keys().items():
                    keys.setdefault(ref, f"{module_id}/{key}")
        return keys

    def _get_tensor_variable(self, value, dtype=None, trainable=False) -> tf.Variable:
        if dtype is None:
            dtype = tf.float32 if np.asarray(value).dtype.kind == "f" else tf.int32
        with self._variable_scope():
            return tf.Variable(value, dtype=dtype, trainable=trainable)

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
        allow_shared: bool = False,
    ) -> None:
        """Registers an optimizer for variables of a module.

        Args:
            module_id: The module; `ALL_MODULES` for variables of several.
            optimizer_name: Tells the optimizers of one module apart.
            optimizer: A Keras optimizer that is registered nowhere else.
            params: The variables it updates; a list.
            lr_or_lr_schedule: A learning rate, or `[[timestep, value], ...]`, that the
                learner keeps; `None` leaves the learning rate to you.
            allow_shared: Whether other optimizers may update some of the variables, too.
                Their gradients are clipped once, as the last of the modules is set.

        Raises:
            OptimizerError: If name, optimizer or variables do not fit; nothing is
                registered then.
            UnknownModuleError: If the module does not exist.
            ScheduleError: If the schedule is invalid.
        """
        self._check_is_built()
        self._check_registered_optimizer(optimizer, params)
        self._check_owner(module_id, params)
        with self._variable_scope():
            record = self._optimizers.register(
                module_id=module_id,
                name=optimizer_name,
                optimizer=optimizer,
                params={self.get_param_ref(param): param for param in params},
                lr_or_lr_schedule=lr_or_lr_schedule,
                allow_shared=allow_shared,
            )
        self._forget_traces(self._optimizers.sharing_with(record))

    def _forget_traces(self, module_ids: Collection[ModuleID]) -> None:
        """Makes the next update with one of the modules trace again."""

    def _check_registered_optimizer(self, optimizer, params):
        self._replicas.check_optimizer(optimizer)
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise OptimizerError("optimizer", repr(optimizer), "a Keras optimizer")
        where = f"optimizer {optimizer.name!r}"
        given = as_param_dict(where, params)
        variables = [tf_variable(param) for param in given.values()]
        self._replicas.check_is_ours(where, variables)
        if optimizer.built:
            built_for = getattr(optimizer, "_trainable_variables", params)
            if {param_ref(param) for param in built_for} != set(given):
                raise OptimizerError(
                    where, "an optimizer built for other variables", "a new one"
                )

    def _check_owner(self, module_id: ModuleID, params: list[Param]) -> None:
        """Raises for an unknown module, or variables that are another module's alone."""
        if module_id == ALL_MODULES:
            return
        self.module[module_id]
        owners = {
            mid: {self.get_param_ref(p) for p in self.get_parameters(module)}
            for mid, module in self.module.items()
        }
        for index, param in enumerate(params):
            ref = self.get_param_ref(param)
            others = [mid for mid, refs in owners.items() if ref in refs]
            if others and module_id not in others:
                raise OptimizerError(
                    f"params[{index}]",
                    f"a variable that is not in module {module_id!r} but in "
                    f"{others[0]!r}",
                    f"variables of module {module_id!r}",
                    "register it under its own module, or under ALL_MODULES",
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

    # Which modules can be trained.

    def rl_module_is_compatible(self, module: RLModule) -> bool:
        """Returns whether the learner can train `module`.

        It can if a `TfRLModule` has the required interfaces, or brings its own loss. Others
        ride along: they get no optimizer and are not updated.
        """
        module, apis = module.unwrapped(), self.rl_module_required_apis()
        if not isinstance(module, TfRLModule):
            return False
        brings_loss = isinstance(module, SelfSupervisedLossAPI)
        return brings_loss or all(isinstance(module, api) for api in apis)

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
            ModuleError: If the id is invalid or taken, the specification is none, or
                the module's outputs cannot be trained on.
            ModuleBuildError: If the module's class raised an error of its own.
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
        self._check_id_is_free(module_id)
        own = self.config.copy(copy_frozen=False)
        own.algorithm_config_overrides_per_module = {module_id: config_overrides or {}}
        spec = own.get_config_for_module(module_id).complete_model_config(spec)
        with self._variable_scope():
            module = spec.build(seed=self._seed_of_next_module())
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
            self.config.validate()
            with self._variable_scope():
                self._set_up_module(module_id)
                self._configure_optimizers_if_compatible(module_id)
        except BaseException:
            self._tear_down_module(module_id)
            self.module.remove_module(module_id)
            self.config = before
            raise
        self._counters.num_added_modules += 1
        return self._set_modules_in_config(new_should_module_be_updated)

    def _seed_of_next_module(self) -> int | None:
        # Not from the generator of the minibatches, which are those of a run without.
        if self.config.seed is None:
            return None
        number = self._counters.num_added_modules
        seeds = np.random.SeedSequence([self.config.seed, number])
        return int(seeds.generate_state(1)[0])

    def remove_module(
        self,
        module_id: ModuleID,
        *,
        new_should_module_be_updated: ShouldModuleBeUpdatedFn = None,
    ) -> MultiRLModuleSpec:
        """Removes a module, its optimizers, its metrics and its overrides.

        Optimizers under `ALL_MODULES` stay as they are, its variables included.

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
        self._tear_down_module(module_id)
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

    def _check_id_is_free(self, module_id: ModuleID) -> None:
        if module_id in self.module:
            raise ModuleError(
                f"module {module_id!r}",
                "an id that exists already",
                "a new one",
                "remove the module first",
            )

    def _check_should_be_updated(self, wanted: ShouldModuleBeUpdatedFn) -> None:
        self.config.copy().multi_agent(policies_to_train=wanted).validate()

    def _set_modules_in_config(
        self, should_module_be_updated: ShouldModuleBeUpdatedFn
    ) -> MultiRLModuleSpec:
        self._module_spec = MultiRLModuleSpec.from_module(self.module)
        self.config.rl_module(rl_module_spec=self._module_spec)
        if should_module_be_updated is not None:
            self.config.multi_agent(policies_to_train=should_module_be_updated)
        self._log_trainable_parameters()
        return self._module_spec

    def should_module_be_updated(
        self, module_id: ModuleID, multi_agent_batch: MultiAgentBatch | None = None
    ) -> bool:
        """Returns whether a module learns, as `policies_to_train` says."""
        wanted = self.config.policies_to_train
        if wanted is None:
            return True
        if callable(wanted):
            try:
                return bool(wanted(module_id, multi_agent_batch))
            except TFLearnerError:
                raise
            except Exception as error:
                raise ConfigError(
                    "policies_to_train",
                    f"{type(error).__name__}: {error}",
                    "a function of (module id, batch) returning a bool",
                    "the error above this one is the function's own",
                ) from error
        return module_id in set(wanted)


def _size(variable: Param) -> int:
    return int(np.prod(variable.shape, dtype=int))


def _check_arguments(config: object, module_spec: object, module: object) -> None:
    if not isinstance(config, AlgorithmConfig):
        raise UsageError("config", repr(config), "an AlgorithmConfig")
    if module is not None and not isinstance(module, RLModule):
        raise ModuleError("module", repr(module), "an RLModule")
    if not isinstance(module_spec, MultiRLModuleSpec | None):
        check_spec("module_spec", module_spec)
