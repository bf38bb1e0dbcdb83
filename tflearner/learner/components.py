"""The components of a learner's state: which there are, which are given."""

from collections.abc import Collection
from typing import Any

from tflearner import constants
from tflearner.errors import UnknownModuleError, UsageError, did_you_mean
from tflearner.types import ModuleID, StateDict

SHOULD_BE_UPDATED = "should_module_be_updated"

# A state with older weights changes none of these.
OF_THE_WEIGHTS = (
    constants.COMPONENT_RL_MODULE,
    constants.COMPONENT_OPTIMIZER,
    constants.COMPONENT_LEARNER,
    constants.WEIGHTS_SEQ_NO,
)
_NESTED = (
    *OF_THE_WEIGHTS[:3],
    constants.COMPONENT_METRICS_LOGGER,
    constants.COMPONENT_LEARNER_CONNECTOR,
)
ALL_COMPONENTS = (*_NESTED, constants.WEIGHTS_SEQ_NO, SHOULD_BE_UPDATED)


def checked_state(state: Any, module_ids: Collection[ModuleID]) -> StateDict:
    """Returns a learner's state with module weights under "rl_module".

    Args:
        state: A state; or {module id: weights}; or a whole state under "rl_module".
        module_ids: The modules of the learner.

    Raises:
        UnknownModuleError: For a name that is neither a component nor a module.
        UsageError: If something is of the wrong type.
    """
    name = constants.COMPONENT_RL_MODULE
    if not isinstance(state, dict):
        raise UsageError("set_state()", repr(type(state)), "a dict")
    if isinstance(state.get(name), dict) and name in state[name]:
        state = {**state, name: state[name][name]}
    elif state and all(module_id in module_ids for module_id in state):
        state = {name: state}
    for name, own in state.items():
        if name not in ALL_COMPONENTS:
            known = [*ALL_COMPONENTS, *module_ids]
            raise UnknownModuleError(
                "set_state()",
                f"{name!r}, which is no component and no module here",
                f"one of {known}",
                did_you_mean(name, known),
            )
        where = f"set_state(), {name!r}"
        if name == constants.WEIGHTS_SEQ_NO and not isinstance(own, int):
            raise UsageError(where, repr(own), "an int")
        if name in _NESTED and not isinstance(own, dict):
            raise UsageError(where, repr(type(own)), "a dict")
    return state
