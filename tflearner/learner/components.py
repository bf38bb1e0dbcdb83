"""The components of a learner's state: which there are, which are given."""

from collections.abc import Collection
from typing import Any

from tflearner import constants
from tflearner.errors import UnknownModuleError, UsageError, did_you_mean, shown
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
_MAX_COUNT = 2**53
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
    for name in state:
        if name not in ALL_COMPONENTS:
            known = [*ALL_COMPONENTS, *module_ids]
            raise UnknownModuleError(
                "set_state()",
                f"{name!r}, which is no component and no module here",
                f"one of {known}",
                did_you_mean(name, known),
            )
    check_kinds("set_state()", state)
    return state


def check_kinds(where: str, state: StateDict) -> None:
    """Raises `UsageError` for components of the wrong type.

    Args:
        where: The call or class that the error names.
        state: Components by name.
    """
    for name in _NESTED:
        if not isinstance(state.get(name, {}), dict):
            raise UsageError(f"{where}, {name!r}", repr(type(state[name])), "a dict")
    seq_no = state.get(constants.WEIGHTS_SEQ_NO, 0)
    if type(seq_no) is not int or not 0 <= seq_no < _MAX_COUNT:
        name = constants.WEIGHTS_SEQ_NO
        raise UsageError(f"{where}, {name!r}", shown(seq_no), "an int in [0, 2**53)")
    ids: Any = state.get(SHOULD_BE_UPDATED)
    is_known = ids is None or callable(ids)
    if not is_known and not (_is_collection(ids) and all(type(i) is str for i in ids)):
        want = "ids of modules, a function or None"
        raise UsageError(f"{where}, {SHOULD_BE_UPDATED!r}", type(ids).__name__, want)


def _is_collection(ids: Any) -> bool:
    return isinstance(ids, Collection) and not isinstance(ids, str | bytes)
