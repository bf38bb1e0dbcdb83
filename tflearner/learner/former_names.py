"""Names that RLlib's `Learner` had: some raise, one warns, some are views."""

import warnings
from collections.abc import Callable

from tflearner.constants import ALL_MODULES
from tflearner.engine.optimizers import OptimizerRegistry
from tflearner.errors import UsageError
from tflearner.types import ModuleID, Optimizer, ParamDict, ParamRef, Tensor


def _given_up(name: str, instead: str) -> Callable[..., None]:
    def method(self: object, *args: object, **kwargs: object) -> None:
        raise UsageError(
            f"{type(self).__name__}.{name}()",
            "a method that RLlib has given up",
            hint=f"use {instead}",
        )

    method.__name__ = name
    method.__doc__ = f"Raises `UsageError`: use {instead}."
    return method


_GIVEN_UP = {
    "additional_update_for_module": "before_gradient_based_update() or "
    "after_gradient_based_update()",
    "save_state": "get_state()",
    "load_state": "set_state(state)",
    "get_module_state": "module.get_state()",
    "set_module_state": "module.set_state(state)",
    "get_optimizer_state": 'get_state(components="optimizer")',
    "set_optimizer_state": 'set_state({"optimizer": state})',
}


class FormerNames:
    """Names that code written for RLlib's `Learner` may still call or read."""

    _optimizers: OptimizerRegistry
    compute_losses: Callable[..., dict[ModuleID, Tensor]]

    def compute_loss(self, **kwargs: object) -> dict[ModuleID, Tensor]:
        """Returns `compute_losses(...)` and, under `ALL_MODULES`, their sum.

        Deprecated: use `compute_losses`.
        """
        warnings.warn(
            "Learner.compute_loss is deprecated, use compute_losses.",
            DeprecationWarning,
            stacklevel=2,
        )
        losses = self.compute_losses(**kwargs)
        if ALL_MODULES not in losses:
            losses = losses | {ALL_MODULES: sum(losses.values())}
        return losses

    # Views of the one registry of optimizers, under the names of RLlib's dicts.

    @property
    def _params(self) -> ParamDict:
        return self._optimizers.params()

    @property
    def _named_optimizers(self) -> dict[str, Optimizer]:
        return {
            record.full_name: record.optimizer for record in self._optimizers.values()
        }

    @property
    def _module_optimizers(self) -> dict[ModuleID, list[str]]:
        names: dict[ModuleID, list[str]] = {}
        for record in self._optimizers.values():
            names.setdefault(record.module_id, []).append(record.full_name)
        return names

    @property
    def _optimizer_parameters(self) -> dict[Optimizer, list[ParamRef]]:
        return {
            record.optimizer: [*record.params] for record in self._optimizers.values()
        }


for _name, _instead in _GIVEN_UP.items():
    setattr(FormerNames, _name, _given_up(_name, _instead))
