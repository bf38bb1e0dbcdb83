"""What of a saved state a learner takes over: weights and slots of one step together."""

import dataclasses

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
from tflearner.learner.components import SHOULD_BE_UPDATED
from tflearner.types import ParamRef, StateDict

NON_FINITE_IN_A_ROW = "num_non_finite_updates_in_a_row"
# What states of earlier versions do not have, and what it is in them.
_ADDED_LATER: StateDict = {NON_FINITE_IN_A_ROW: {}}


@dataclasses.dataclass
class Restoring:
    """What of a saved state is taken over.

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
        for record in optimizers:
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
    """Returns what is missing or unexpected in the component "learner" of a state."""
    problems = problems_with_names(_completed(saved), own)
    return problems + problems_with_names(_generators(saved), _generators(own))


def _match(name: str, saved: StateDict, own: StateDict):
    return match(saved.get(name, {}), own.get(name, {}))


def _other_parts(
    saved: StateDict, own: StateDict
) -> tuple[StateDict, list[str], RestoreReport]:
    """What is neither weights nor slots: what to apply, what is wrong, what is done."""
    name = COMPONENT_LEARNER
    if name not in own:
        return {}, [], RestoreReport()
    theirs, mine = _completed(saved.get(name, {})), own[name]
    problems = problems_of_learner(theirs, mine)
    nested = (name, COMPONENT_RL_MODULE, COMPONENT_OPTIMIZER)
    # A function of what to train is not saved, see `LearnerState`.
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
