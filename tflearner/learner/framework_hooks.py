"""What a learner leaves to the framework: variables, gradients, optimizers."""

import abc
import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from tflearner.engine.optimizers import OptimizerRecord
from tflearner.intake.update_plan import Outlook, UpdatePlan, UpdateSettings
from tflearner.modules.rl_module import RLModule
from tflearner.types import (
    ModuleID,
    Optimizer,
    Param,
    ParamDict,
    ParamRef,
    StateDict,
    Tensor,
)


class FrameworkHooks(abc.ABC):
    """The abstract methods that `TfLearner` implements."""

    framework: str | None = None

    @abc.abstractmethod
    def compute_gradients(
        self, loss_per_module: dict[ModuleID, Tensor], **kwargs: Any
    ) -> ParamDict:
        """Returns the gradients of the sum of all losses, by parameter reference.

        `loss_per_module` holds the modules' losses and no total. The gradient of a
        parameter that no loss reaches is `None`.
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
    def _run_update(self, plan: UpdatePlan) -> Any:
        """Takes one gradient step per minibatch of the plan."""

    @abc.abstractmethod
    def _first_bad_tensor(
        self, module_id: ModuleID, plan: UpdatePlan, minibatch: int
    ) -> str:
        """Returns what was not finite first when a module left a minibatch out."""

    @abc.abstractmethod
    def _check_module(self, module_id: ModuleID) -> None:
        """Raises `ModuleError` for a module whose outputs cannot be trained on."""

    @abc.abstractmethod
    def _check_registered_optimizer(
        self, optimizer: Optimizer, params: list[Param]
    ) -> None:
        """Raises `OptimizerError` unless both can be registered."""

    def _variable_scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which modules, optimizers and variables are made."""
        return contextlib.nullcontext()

    def _check_minibatches(
        self, columns: dict[ModuleID, dict], settings: UpdateSettings
    ) -> None:
        """Raises `UsageError` for minibatches that devices cannot share."""

    def _agree(
        self, columns: dict[ModuleID, dict] | Outlook, settings: UpdateSettings
    ) -> UpdateSettings:
        """Returns the settings of the next update that all processes share.

        Args:
            columns: What this process is going to train on, or why on nothing.
            settings: Its own settings.

        Raises:
            BatchError: If the update would not be the same in all processes.
        """
        return settings

    @abc.abstractmethod
    def _get_tensor_variable(
        self, value: Any, dtype: Any = None, trainable: bool = False
    ) -> Any:
        """Returns a variable that traced losses can read and hooks can assign.

        Args:
            value: Its first value; floats become float32, ints int32.
            dtype: Another dtype.
            trainable: Whether it is to be trained.
        """

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

    @abc.abstractmethod
    def _get_optimizer_state(self) -> StateDict:
        """Returns every optimizer's variables."""

    @abc.abstractmethod
    def _set_optimizer_state(self, state: StateDict) -> None:
        """Replaces every optimizer's variables."""

    @abc.abstractmethod
    def _reset_optimizers(self, records: Collection[OptimizerRecord]) -> None:
        """Sets everything but the learning rate back to where it was at first."""

    @abc.abstractmethod
    def _weight_keys(self) -> dict[ParamRef, str]:
        """Returns the path of every weight: "module id/position/role"."""

    def _rng_states(self) -> StateDict:
        """Returns the states of the framework's random number generators."""
        return {}

    def _set_rng_states(self, states: StateDict) -> None:
        """Replaces what `_rng_states` returned."""

    def _check_optimizer_state(self, state: StateDict) -> None:
        """Raises `OptimizerError` for a state that cannot be set."""
