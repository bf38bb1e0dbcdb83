"""What of a saved state a learner takes over, decided before anything is changed."""

import dataclasses

from tflearner.checkpoint.checkpointable import RestoreReport
from tflearner.checkpoint.matching import Match, Path, match, merged
from tflearner.constants import (
    COMPONENT_LEARNER,
    COMPONENT_OPTIMIZER,
    COMPONENT_RL_MODULE,
)
from tflearner.learner.components import SHOULD_BE_UPDATED
from tflearner.learner.optimizers import (
    OptimizerRecord,
    OptimizerRegistry,
    state_variables,
)
from tflearner.types import ParamRef, StateDict


@dataclasses.dataclass
class RestorePlan:
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
    def make(
        cls,
        saved: StateDict,
        own: StateDict,
        optimizers: OptimizerRegistry,
        keys: dict[ParamRef, str],
    ) -> "RestorePlan":
        """Returns the plan.

        Args:
            saved: A learner's state, or its weights alone.
            own: The same of the learner that takes it over.
            optimizers: Its optimizers.
            keys: The path of each weight, "module id/position/role".
        """
        weights = match(saved[COMPONENT_RL_MODULE], own[COMPONENT_RL_MODULE])
        slots = match(
            saved.get(COMPONENT_OPTIMIZER, {}), own.get(COMPONENT_OPTIMIZER, {})
        )
        problems = weights.problems + slots.problems
        state, of_names = _other_parts(saved, own)
        problems += of_names
        loaded = {"/".join(path) for path in weights.loaded}
        stale = []
        for record in optimizers:
            variables = {keys[ref] for ref in record.params if ref in keys}
            paths = _slot_paths(record, keys)
            if not (variables <= loaded and paths <= {*slots.loaded}):
                slots.keep([path for path in slots.loaded if path in paths])
                stale += [record] * bool(variables & loaded)
        parts = {COMPONENT_RL_MODULE: weights}
        if COMPONENT_OPTIMIZER in saved:
            parts[COMPONENT_OPTIMIZER] = slots
        for name, part in parts.items():
            state[name] = merged(own[name], saved[name], part.loaded)
        return cls(state, stale, problems, _report(state, parts, stale))


def problems_with_names(saved: StateDict, own: StateDict) -> list[str]:
    """Returns what is wrong with the names of what else a learner's state holds."""
    missing, unexpected = sorted(own.keys() - saved), sorted(saved.keys() - own)
    return [f"missing {missing}"] * bool(missing) + [f"unexpected {unexpected}"] * bool(
        unexpected
    )


def _other_parts(saved: StateDict, own: StateDict) -> tuple[StateDict, list[str]]:
    """Returns what is neither weights nor slots, and what is wrong with its names."""
    name = COMPONENT_LEARNER
    if name not in own:
        return {}, []
    # A function of what to train is not saved, see `LearnerState`.
    wanted = {k: v for k, v in own.items() if k in saved or k != SHOULD_BE_UPDATED}
    problems = problems_with_names(saved, wanted)
    problems += problems_with_names(saved.get(name, {}), own[name])
    state = {part: saved[part] for part in own if part in saved}
    known = {k: v for k, v in saved.get(name, {}).items() if k in own[name]}
    return state | {name: own[name] | known}, problems


def _slot_paths(record: OptimizerRecord, keys: dict[ParamRef, str]) -> set[Path]:
    roles = state_variables(record, keys)
    return {(record.module_id, record.name, role) for role in roles}


def _report(
    state: StateDict, parts: dict[str, Match], stale: list[OptimizerRecord]
) -> RestoreReport:
    report = RestoreReport(
        loaded=tuple(name for name in state if name not in parts),
        reset=tuple(f"{COMPONENT_OPTIMIZER}/{r.module_id}/{r.name}" for r in stale),
    )
    for name, part in parts.items():
        of_part = RestoreReport(
            loaded=tuple(map("/".join, part.loaded)),
            kept=tuple(map("/".join, part.kept)),
            ignored=tuple(map("/".join, part.ignored)),
        )
        report += of_part.below(name)
    return report
