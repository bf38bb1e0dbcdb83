"""Which optimizer owns which parameter, and at what learning rate."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tflearner.errors import OptimizerError
from tflearner.schedule import Scheduler
from tflearner.types import (
    LearningRateOrSchedule,
    ModuleID,
    Optimizer,
    ParamDict,
    ParamRef,
    StateDict,
)


@dataclasses.dataclass
class OptimizerRecord:
    """One registered optimizer.

    Attributes:
        module_id: The module it belongs to, or `ALL_MODULES`.
        name: Its short name, such as `"default_optimizer"`.
        optimizer: The Keras optimizer.
        params: The variables it updates, by reference, in their order.
        schedule: Keeps its learning rate; `None` leaves that to the user.
    """

    module_id: ModuleID
    name: str
    optimizer: Optimizer
    params: ParamDict
    schedule: Scheduler | None

    @property
    def full_name(self) -> str:
        """The name with the module id in front, as RLlib writes it."""
        return f"{self.module_id}_{self.name}"


class OptimizerRegistry:
    """All registered optimizers in order, by (module id, name).

    Registration validates first and changes nothing when it fails.
    """

    def __init__(self) -> None:
        self._records: dict[tuple[ModuleID, str], OptimizerRecord] = {}

    def __iter__(self) -> Iterator[OptimizerRecord]:
        return iter(self._records.values())

    def for_module(self, module_id: ModuleID) -> list[OptimizerRecord]:
        """Returns the records of one module; none for an unknown id."""
        return [r for r in self if r.module_id == module_id]

    def params(self) -> ParamDict:
        """Returns every registered variable by reference."""
        return {ref: param for record in self for ref, param in record.params.items()}

    def register(
        self,
        *,
        module_id: ModuleID,
        name: str,
        optimizer: Optimizer,
        params: ParamDict,
        lr_or_lr_schedule: LearningRateOrSchedule | None,
    ) -> OptimizerRecord:
        """Adds an optimizer and sets its learning rate.

        Raises:
            OptimizerError: If the name is taken, or the optimizer or one of the
                variables is registered already.
            ScheduleError: If the schedule is invalid.
        """
        where = f"optimizer {name!r} of module {module_id!r}"
        if (module_id, name) in self._records:
            raise OptimizerError(
                where, "a name that is registered already", "a new one"
            )
        for other in self:
            owner = f"optimizer {other.name!r} of module {other.module_id!r}"
            if other.optimizer is optimizer:
                raise OptimizerError(
                    where, f"an optimizer that is {owner} already", "one of its own"
                )
            shared = [p for ref, p in params.items() if ref in other.params]
            if shared:
                raise OptimizerError(
                    where,
                    f"variable {shared[0].name!r}, which is updated by {owner}",
                    "variables that no other optimizer updates",
                )
        schedule = None
        if lr_or_lr_schedule is not None:
            Scheduler.validate(
                fixed_value_or_schedule=lr_or_lr_schedule,
                setting_name="lr_or_lr_schedule",
                description="learning rate or schedule",
            )
            scheduler = Scheduler(fixed_value_or_schedule=lr_or_lr_schedule)
            is_schedule = isinstance(lr_or_lr_schedule, list | tuple)
            points: Any = lr_or_lr_schedule if is_schedule else [(0, lr_or_lr_schedule)]
            for _, rate in points:
                if not 0 <= rate < math.inf:
                    raise OptimizerError(
                        where, f"learning rate {rate}", "a finite number >= 0"
                    )
            set_learning_rate(optimizer, scheduler.get_current_value())
            # A fixed rate is set once, so that callbacks may change it afterwards.
            if is_schedule:
                schedule = scheduler
        if not optimizer.built:  # Tracing creates no variable, the guard misses none.
            optimizer.build(list(params.values()))
        record = OptimizerRecord(module_id, name, optimizer, params, schedule)
        self._records[module_id, name] = record
        return record

    def remove_module(self, module_id: ModuleID) -> None:
        """Forgets the optimizers of one module."""
        for record in self.for_module(module_id):
            del self._records[module_id, record.name]

    def find(self, module_id: ModuleID, name: str) -> OptimizerRecord:
        """Returns a record by module id and short name, or by full name.

        Raises:
            KeyError: If there is none.
        """
        if (module_id, name) in self._records:
            return self._records[module_id, name]
        for record in self:
            if record.full_name == name:
                return record
        raise KeyError(
            f"No optimizer under module_id={module_id!r} optimizer_name={name!r}; "
            f"registered are {[r.full_name for r in self]}."
        )

    def of(self, optimizer: Optimizer) -> OptimizerRecord:
        """Returns the record of an optimizer object.

        Raises:
            KeyError: If it is not registered.
        """
        for record in self:
            if record.optimizer is optimizer:
                return record
        raise KeyError(f"{optimizer!r} is not registered.")

    def get_state(self, keys: dict[ParamRef, str]) -> StateDict:
        """Returns {module id: {name: {key: array}}} of every optimizer's variables.

        Args:
            keys: The state-dict key of each parameter.
        """
        state: StateDict = {}
        for record in self:
            variables = state_variables(record, keys)
            state.setdefault(record.module_id, {})[record.name] = {
                key: np.asarray(variable) for key, variable in variables.items()
            }
        return state

    def set_state(self, state: StateDict, keys: dict[ParamRef, str]) -> None:
        """Replaces every optimizer's variables.

        Raises:
            OptimizerError: Lists all that does not fit; nothing is changed then.
        """
        problems: list[str] = []
        pairs: list[tuple[Any, Any]] = []
        for record in self:
            where = f"{record.module_id}/{record.name}"
            given = state.get(record.module_id, {}).get(record.name)
            if given is None:
                problems.append(f"missing {where!r}")
                continue
            variables = state_variables(record, keys)
            for key in sorted(variables.keys() | given.keys()):
                slot = f"optimizer {where!r}, slot {key!r}"
                if key not in given or key not in variables:
                    what = "missing" if key not in given else "unexpected"
                    problems.append(f"{what} {slot}")
                elif np.shape(given[key]) != tuple(variables[key].shape):
                    problems.append(
                        f"{slot} got {np.shape(given[key])} want "
                        f"{tuple(variables[key].shape)}"
                    )
                else:
                    pairs.append((variables[key], given[key]))
        if problems:
            raise OptimizerError("optimizer state", "; ".join(problems))
        for variable, value in pairs:
            variable.assign(value)


def new_adam(params: list[Any]) -> keras.optimizers.Optimizer:
    """Returns an Adam whose slots exist, so that tracing creates no variable."""
    optimizer = keras.optimizers.Adam()
    optimizer.build(params)
    return optimizer


def get_learning_rate(optimizer: Optimizer) -> float:
    """Returns the learning rate of this moment."""
    return float(np.asarray(optimizer.learning_rate))


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Sets the learning rate; functions that are traced already use it.

    Raises:
        OptimizerError: If the optimizer follows a Keras schedule of its own.
    """
    try:
        optimizer.learning_rate = rate
    except TypeError as error:
        raise OptimizerError(
            f"optimizer {optimizer.name!r}",
            "a Keras LearningRateSchedule, which cannot be assigned",
            "a plain learning rate",
            "register it without lr_or_lr_schedule, or drop the Keras schedule",
        ) from error


def state_variables(
    record: OptimizerRecord, keys: dict[ParamRef, str]
) -> dict[str, keras.Variable]:
    """Returns an optimizer's variables under keys that outlive the process.

    A slot is keyed by its parameter and its role, such as "007/kernel/momentum".
    Keras names it after the parameter's path, and paths differ between builds.
    """
    optimizer = record.optimizer
    result: dict[str, keras.Variable] = {}
    unclaimed = list(optimizer.variables)
    for own in ("iterations", "learning_rate"):
        variable = optimizer.iterations if own == "iterations" else None
        if own == "learning_rate":
            variable = getattr(optimizer, "_learning_rate", None)
        position = _position(unclaimed, variable)
        if position is not None:
            result[own] = unclaimed.pop(position)
    for index, (ref, param) in enumerate(record.params.items()):
        prefix = _slot_prefix(param)
        key = keys.get(ref, f"{index:03d}")
        for slot in list(unclaimed):
            if slot.name.startswith(prefix) and slot.shape == param.shape:
                role = f"{key}/{slot.name[len(prefix) :]}"
                if role not in result:
                    result[role] = slot
                    unclaimed.pop(_position(unclaimed, slot) or 0)
    for index, variable in enumerate(unclaimed):
        result[f"other/{index:03d}"] = variable
    return result


def _slot_prefix(param: Any) -> str:
    name = getattr(param, "path", param.name)
    return name.replace("/", "_").replace(":", "_") + "_"


def _position(variables: list[Any], wanted: Any) -> int | None:
    return next((i for i, v in enumerate(variables) if v is wanted), None)


def as_param_dict(where: str, params: Any) -> ParamDict:
    """Returns variables by reference.

    Args:
        where: What error messages name.
        params: A list of Keras or TensorFlow variables.

    Raises:
        OptimizerError: If it is no list, or holds something else or one twice.
    """
    if not isinstance(params, list):
        raise OptimizerError(where, f"params of {type(params)}", "a list of variables")
    result: ParamDict = {}
    for index, param in enumerate(params):
        if not isinstance(param, keras.Variable | tf.Variable):
            raise OptimizerError(
                f"{where}, params[{index}]", repr(type(param)), "a variable"
            )
        ref = param_ref(param)
        if ref in result:
            raise OptimizerError(f"{where}, params[{index}]", "a variable listed twice")
        result[ref] = param
    return result


def param_ref(param: Any) -> ParamRef:
    """Returns `variable.ref()`, the key of a parameter.

    A `keras.Variable` has none: its key is that of the `tf.Variable` it wraps.
    """
    return tf_variable(param).ref()


def tf_variable(param: Any) -> tf.Variable:
    """Returns the `tf.Variable` itself."""
    return param.value if isinstance(param, keras.Variable) else param
