"""Restores a learner: weights and slots of one step together."""

import dataclasses
from collections.abc import Collection
from typing import TypeGuard

from tflearner import constants
from tflearner.checkpoint.matching import Path, match, merged, problems_with_names
from tflearner.checkpoint.restoring import RestoreReport
from tflearner.constants import (
    COMPONENT_LEARNER,
    COMPONENT_OPTIMIZER,
    COMPONENT_RL_MODULE,
)
from tflearner.engine.optimizers import (
    OptimizerRecord,
    OptimizerRegistry,
    state_variables,
)
from tflearner.errors import UnknownModuleError, UsageError, did_you_mean, shown
from tflearner.learner.counters import NON_FINITE_IN_A_ROW
from tflearner.types import ModuleID, ParamRef, StateDict

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
# Entries that states of earlier versions lack, with their values.
_ADDED_LATER: StateDict = {NON_FINITE_IN_A_ROW: {}}


@dataclasses.dataclass
class Restoring:
    """Parts of a saved state that a learner restores.

    Weights are taken one by one, if they fit. An optimizer is taken as a whole, and
    only if all of its variables are: slots never belong to weights of another step. One
    that would is set back to where it was at first.

    Attributes:
        state: What to apply.
        stale: The optimizers to set back.
        problems: What does not fit, for whoever wants all of it or nothing.
        report: What is loaded, kept, ignored and reset.
    """

    state: StateDict
    stale: list[OptimizerRecord]
    problems: list[str]
    report: RestoreReport

    @classmethod
    def plan(
        cls,
        own: StateDict,
        saved: StateDict,
        optimizers: OptimizerRegistry,
        keys: dict[ParamRef, str],
    ) -> "Restoring":
        """Decides without changing anything.

        Args:
            own: The learner's state, or its weights alone.
            saved: The same of the one that was saved.
            optimizers: The learner's optimizers.
            keys: The path of each weight, "module id/position/role".
        """
        weights = _match(COMPONENT_RL_MODULE, saved, own)
        slots = _match(COMPONENT_OPTIMIZER, saved, own)
        loaded = {"/".join(path) for path in weights.loaded}
        stale = []
        for record in optimizers.values():
            variables = {keys[ref] for ref in record.params if ref in keys}
            paths = _slot_paths(record, keys)
            if not (variables <= loaded and paths <= {*slots.loaded}):
                slots.keep([path for path in slots.loaded if path in paths])
                stale += [record] * bool(variables & loaded)
        state, problems, report = _other_parts(saved, own)
        for name, part in {
            COMPONENT_RL_MODULE: weights,
            COMPONENT_OPTIMIZER: slots,
        }.items():
            if name in own:
                state[name] = merged(own[name], saved.get(name, {}), part.loaded)
                report += RestoreReport.of(part).below(name)
                problems += part.problems
        report += RestoreReport(
            reset=tuple(f"{COMPONENT_OPTIMIZER}/{r.module_id}/{r.name}" for r in stale)
        )
        return cls(state, stale, problems, report)


def problems_of_learner(saved: StateDict, own: StateDict) -> list[str]:
    """Returns the missing and unexpected names in a state's component "learner"."""
    problems = problems_with_names(_completed(saved), own)
    return problems + problems_with_names(_generators(saved), _generators(own))


def _match(name: str, saved: StateDict, own: StateDict):
    return match(saved.get(name, {}), own.get(name, {}))


def _other_parts(
    saved: StateDict, own: StateDict
) -> tuple[StateDict, list[str], RestoreReport]:
    """Returns the other parts to restore, their problems and their report."""
    name = COMPONENT_LEARNER
    if name not in own:
        return {}, [], RestoreReport()
    theirs, mine = _completed(saved.get(name, {})), own[name]
    problems = problems_of_learner(theirs, mine)
    nested = (name, COMPONENT_RL_MODULE, COMPONENT_OPTIMIZER)
    # A function as `policies_to_train` is not saved, see `LearnerState`.
    wanted = [k for k in own if k in saved or k != SHOULD_BE_UPDATED]
    problems += problems_with_names(saved, wanted)
    report = RestoreReport.of_names(
        [k for k in saved if k not in nested], [k for k in own if k not in nested]
    )
    generators = RestoreReport.of_names(_generators(theirs), _generators(mine))
    names = [[k for k in part if k != "generators"] for part in (theirs, mine)]
    report += (RestoreReport.of_names(*names) + generators).below(name)
    state = {k: v for k, v in saved.items() if k in own and k not in nested}
    state[name] = mine | {k: v for k, v in theirs.items() if k in mine}
    return state, problems, report


def _completed(state: StateDict) -> StateDict:
    """A learner's state as this version would have written it, if there is one."""
    return {**_ADDED_LATER, **state} if state else state


def _generators(state: StateDict) -> list[str]:
    """The paths of the random number generators in a learner's state."""
    owners = state.get("generators", {})
    of_learner = [f"generators/{name}" for name in owners.get(COMPONENT_LEARNER, ())]
    return of_learner + [
        f"generators/{module_id}/{name}"
        for module_id, own in owners.get(COMPONENT_RL_MODULE, {}).items()
        for name in own
    ]


def _slot_paths(record: OptimizerRecord, keys: dict[ParamRef, str]) -> set[Path]:
    roles = state_variables(record, keys)
    return {(record.module_id, record.name, role) for role in roles}


def checked_state(state: object, module_ids: Collection[ModuleID]) -> StateDict:
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
                f"{name!r}, an unknown component or module",
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
    ids: object = state.get(SHOULD_BE_UPDATED)
    is_known = ids is None or callable(ids)
    if not is_known and not (_is_collection(ids) and all(type(i) is str for i in ids)):
        want = "ids of modules, a function or None"
        raise UsageError(f"{where}, {SHOULD_BE_UPDATED!r}", type(ids).__name__, want)


def _is_collection(ids: object) -> TypeGuard[Collection]:
    return isinstance(ids, Collection) and not isinstance(ids, str | bytes)
