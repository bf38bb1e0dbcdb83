"""The components of a learner's state: which are asked for, which are given."""

import dataclasses
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
_NESTED = (*OF_THE_WEIGHTS[:3], constants.COMPONENT_METRICS_LOGGER)
_ALL = (*_NESTED, constants.WEIGHTS_SEQ_NO, SHOULD_BE_UPDATED)


@dataclasses.dataclass(frozen=True)
class Components:
    """A selection of components by name, "a", or by path, "a/b".

    >>> Components("rl_module/p0").include("rl_module")
    True
    >>> Components("rl_module/p0").include("optimizer")
    False
    >>> Components("rl_module/p0").below("rl_module").wanted
    ('p0',)

    Attributes:
        wanted: Names or paths; `None` is everything.
        unwanted: Names or paths to leave out; `None` is nothing.
    """

    wanted: str | Collection[str] | None = None
    unwanted: str | Collection[str] | None = None

    def check(self) -> None:
        """Raises `UsageError` for what is no component of a learner."""
        for given in (self.wanted, self.unwanted):
            if not isinstance(given, Collection | None):
                raise UsageError("components", repr(given), "names of components")
            for path in _names(given):
                first, *rest = str(path).split("/")
                if first not in _ALL or (
                    rest and first != constants.COMPONENT_RL_MODULE
                ):
                    raise UsageError(
                        "components",
                        repr(path),
                        f"one of {[*_ALL]}",
                        did_you_mean(path, _ALL),
                    )

    def paths(self) -> tuple[str, ...]:
        """Returns all names and paths that are wanted or unwanted."""
        return (*_names(self.wanted), *_names(self.unwanted))

    def include(self, name: str) -> bool:
        """Returns whether a component, or something below it, is selected."""
        wanted = _names(self.wanted)
        listed = self.wanted is None or any(
            path == name or path.startswith(f"{name}/") for path in wanted
        )
        return listed and name not in _names(self.unwanted)

    def below(self, name: str) -> "Components":
        """Returns what is selected inside a component."""
        wanted = None
        if self.wanted is not None and name not in _names(self.wanted):
            wanted = _below(name, self.wanted)
        return Components(wanted, _below(name, self.unwanted))


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
        if name not in _ALL:
            known = [*_ALL, *module_ids]
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


def _names(paths: str | Collection[str] | None) -> tuple[str, ...]:
    return (paths,) if isinstance(paths, str) else tuple(paths or ())


def _below(name: str, paths: str | Collection[str] | None) -> tuple[str, ...]:
    prefix = f"{name}/"
    return tuple(p.removeprefix(prefix) for p in _names(paths) if p.startswith(prefix))
