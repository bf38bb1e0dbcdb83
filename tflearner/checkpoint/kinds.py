"""Kinds of objects in files, and the kinds that each argument takes.

A file describes objects by builders. Every class of this library that a builder makes
has a kind, which its subclasses inherit:

    @of_kind(SPEC, takes={"observation_space": (SPACE,)})
    class RLModuleSpec: ...

Each argument declares the kinds it takes. `SPACE` stands for an object that is built,
`named(MODULE)` for a class that is named and not called. Classes that users register
are of the kind `OWN` as well, and fit every argument that takes objects. Runs are the
exception: algorithms, learners and environment runners are never built as an argument.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

SPACE = "space"
SPEC = "specification"
MODEL_CONFIG = "model config"
CONFIG = "config"
CONNECTOR = "connector"
MODULE = "module"
CATALOG = "catalog"
BUFFER = "replay buffer"
METRICS = "metrics logger"
ALGORITHM = "algorithm"
LEARNER = "learner"
ENV_RUNNER = "environment runner"
OWN = "own object"
RUNS = (ALGORITHM, LEARNER, ENV_RUNNER)

Refuse = Callable[[Mapping[str, Any]], Mapping[str, str]]


def named(kind: str) -> str:
    """Returns the kind of a class whose objects are of the given kind.

    >>> named(MODULE)
    'module class'
    """
    return f"{kind} class"


# Kinds for settings that hold arguments of users' own classes.
DATA = (SPACE, SPEC, MODEL_CONFIG, CONFIG, CONNECTOR)
# Kinds for arguments of users' own builders.
ANY = (*DATA, MODULE, *map(named, (MODULE, CATALOG, CONNECTOR, BUFFER, LEARNER)), OWN)
_OTHERS = "*"


@dataclasses.dataclass(frozen=True)
class Declaration:
    """The rules for a class in files.

    Attributes:
        kinds: The kinds of its objects.
        takes: The kinds of objects that each argument takes; "*" stands for all other
            arguments. An argument without an entry takes plain Python only.
        machine: The arguments that belong to a machine, with their defaults.
            "argument/key" is an entry of a dict.
        refuse: Function of the arguments in a file. It returns the arguments that have
            to be given again, by name, each with the reason.
    """

    kinds: Collection[str] = (OWN,)
    takes: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)
    machine: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    refuse: Refuse = lambda described: {}

    def taken_by(self, argument: str) -> Collection[str]:
        """Returns the kinds that an argument takes."""
        takes = self.takes.get(argument, self.takes.get(_OTHERS, ()))
        return (*takes, OWN) if takes else ()


# For builders that are not classes, and for classes without a declaration.
OF_USERS = Declaration(takes={_OTHERS: ANY})
_DECLARED: dict[type, tuple[str, Declaration]] = {}


def of_kind(
    kind: str,
    *,
    takes: Mapping[str, Collection[str]] | None = None,
    machine: Mapping[str, Any] | None = None,
    refuse: Refuse = lambda described: {},
) -> Callable[[Any], Any]:
    """Declares how files may use a class and its subclasses.

    Args:
        kind: The kind of its objects.
        takes: As in `Declaration`, in addition to the entries of base classes.
        machine: As in `Declaration`, in addition to the entries of base classes.
        refuse: As in `Declaration`.

    Returns:
        A decorator that returns the class.
    """

    def declare(cls: Any) -> Any:
        _DECLARED[cls] = kind, Declaration((), takes or {}, machine or {}, refuse)
        return cls

    return declare


def declaration_of(cls: type | None, builder: Any = None) -> Declaration:
    """Returns the declaration of a class, joined with its base classes' declarations.

    Args:
        cls: The class; `None` if it is not known.
        builder: The class or function that makes its objects, if not `cls` itself.
    """
    bases = getattr(cls, "__mro__", ())
    found = [_DECLARED[base] for base in bases if base in _DECLARED]
    if not found:
        return OF_USERS
    kind = found[0][0]
    own = [declared for _, declared in reversed(found)]
    takes = {name: kinds for each in own for name, kinds in each.takes.items()}
    kinds: tuple[str, ...] = (kind,)
    if not all(map(_is_of_this_library, (cls, builder or cls))):
        takes[_OTHERS] = ANY
        kinds = kinds if kind in RUNS else (kind, OWN)

    def refuse(described: Mapping[str, Any]) -> Mapping[str, str]:
        return {n: why for each in own for n, why in each.refuse(described).items()}

    machine = {name: default for each in own for name, default in each.machine.items()}
    return Declaration(kinds, takes, machine, refuse)


def _is_of_this_library(made: Any) -> bool:
    module = str(getattr(made, "__module__", ""))
    return module.startswith(("tflearner.", "gymnasium.spaces."))
