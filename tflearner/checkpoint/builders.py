"""How an object is rebuilt from a file that contains no code.

A file names a builder and its arguments, as JSON. The name is looked up in a registry
that holds what was registered by `register_builder`, never imported:

    {"$builder": "tflearner/DefaultModelConfig", "args": {"fcnet_hiddens": [64, 64]}}

An argument that JSON cannot hold, such as a function, is written as {"$given": what it
was}: whoever loads the file gives it again.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tflearner.errors import BuilderError, UsageError

Arguments = Callable[[Any], Mapping[str, Any]]

_BUILDERS: dict[str, Callable] = {}
_DESCRIBERS: dict[type, tuple[str, Arguments]] = {}
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_CONTAINERS: dict[str, Callable] = {"$tuple": tuple, "$set": set, "$dict": dict}


def register_builder(
    name: str,
    builder: Callable | None = None,
    *,
    of: type | None = None,
    arguments: Arguments | None = None,
) -> Any:
    """Lets checkpoints name a class or function, so that it is found when they load.

        @tfl.register_builder("my_project/MyModule")
        class MyModule(tfl.TfRLModule): ...

    Args:
        name: The name in files; by custom "<project>/<class>".
        builder: What is called to build; left out in a decorator.
        of: The class of what it builds, if `builder` is not that class itself.
        arguments: Function of such an object returning the keyword arguments that
            `builder` makes its equal from; subclasses inherit it. Without it files can
            name the builder, but not hold objects it built.

    Returns:
        The builder.

    Raises:
        UsageError: If the name is taken, or is none.
    """
    if builder is None:
        return lambda decorated: register_builder(
            name, decorated, of=of, arguments=arguments
        )
    if not isinstance(name, str) or not name or not callable(builder):
        raise UsageError("register_builder()", f"{name!r}", "a name and a callable")
    before = _BUILDERS.get(name)
    if before is not None and _full_name(before) != _full_name(builder):
        raise UsageError(
            "register_builder()",
            f"{name!r}, which is {_full_name(before)} already",
            "a name of its own",
        )
    _BUILDERS[name] = builder
    if arguments is not None:
        _DESCRIBERS[of or builder] = (name, arguments)  # type: ignore[index]
    return builder


def name_of(builder: Callable) -> str:
    """Returns the name of a builder in files: the registered one, or where it is from."""
    for name, registered in _BUILDERS.items():
        if registered is builder:
            return name
    return _full_name(builder)


def describe(value: Any) -> Any:
    """Returns `value` as JSON data.

    Raises:
        Undescribable: If it is neither plain Python nor of a class with `arguments`.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, np.generic):
        return describe(value.item())
    if isinstance(value, list):
        return [describe(item) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [describe(item) for item in value]}
    if isinstance(value, set | frozenset):
        return {"$set": sorted(map(describe, value))}
    if isinstance(value, Mapping):
        return _described_mapping(value)
    if isinstance(value, type) or any(value is known for known in _BUILDERS.values()):
        return {"$builder": name_of(value)}
    for base in type(value).__mro__:
        if base in _DESCRIBERS:
            name, arguments = _DESCRIBERS[base]
            name = name if base is type(value) else name_of(type(value))
            return {"$builder": name, "args": describe_arguments(arguments(value))}
    raise Undescribable(value)


def describe_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arguments as JSON data; those that JSON cannot hold as {"$given": ...}."""
    described = {}
    for name, value in arguments.items():
        try:
            described[name] = describe(value)
        except Undescribable as error:
            described[name] = {"$given": str(error)}
    return described


class Undescribable(Exception):
    """An object that JSON cannot hold.

    Args:
        value: The object.
    """

    def __init__(self, value: Any):
        has_name = callable(value) and hasattr(value, "__qualname__")
        cls = type(value)
        super().__init__(
            f"the function {value.__qualname__}"
            if has_name
            else f"an object of {cls.__module__}.{cls.__qualname__}"
        )


@dataclasses.dataclass
class Rebuilder:
    """Builds what was described, and notes all that is in the way.

    Attributes:
        given: Arguments by name that win over those in descriptions, at any depth.
        builders: Builders by name, besides the registered ones.
        missing: The arguments that are not in the description and not given either: by
            name, what they were.
        known: The names of all arguments met so far.
        used: Those of them that were given.
    """

    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    builders: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    known: set[str] = dataclasses.field(default_factory=set)
    used: set[str] = dataclasses.field(default_factory=set)

    def arguments(self, described: Mapping[str, Any]) -> dict[str, Any]:
        """Returns arguments by name; `None` for those that are missing."""
        return {name: self._argument(name, own) for name, own in described.items()}

    def build(self, description: Any) -> Any:
        """Returns what was described."""
        if isinstance(description, list):
            return [self.build(item) for item in description]
        if not isinstance(description, dict):
            return description
        if "$builder" in description:
            return self._build(description)
        if "$float" in description:
            return _FLOATS[description["$float"]]
        for tag, make in _CONTAINERS.items():
            if tag in description:
                return make(self.build(description[tag]))
        return {key: self.build(value) for key, value in description.items()}

    def builder(self, name: str) -> Callable:
        """Returns the builder of a name.

        Raises:
            BuilderError: If it is neither registered nor among `builders`.
        """
        found = self.builders.get(name, _BUILDERS.get(name))
        if found is None:
            raise BuilderError(
                f"builder {name!r}",
                "a name that is not registered",
                f"one of {sorted(_BUILDERS)}",
                f"pass builders={{{name!r}: ...}}, or call register_builder() first",
            )
        return found

    def check(self, where: str) -> None:
        """Raises `BuilderError` naming everything that is missing."""
        if not self.missing:
            return
        listed = "; ".join(f"{name}: {what}" for name, what in self.missing.items())
        again = ", ".join(f"{name}=..." for name in self.missing)
        raise BuilderError(
            where,
            f"{len(self.missing)} settings that a file cannot hold ({listed})",
            f"them given again: from_checkpoint(path, {again})",
            "classes and functions that are registered by register_builder(), or "
            "passed as builders={name: builder}, are found by name",
        )

    def _argument(self, name: str, description: Any) -> Any:
        self.known.add(name)
        if name in self.given:
            self.used.add(name)
            return self.given[name]
        if isinstance(description, dict) and "$given" in description:
            self.missing[name] = description["$given"]
            return None
        try:
            return self.build(description)
        except BuilderError as error:
            self.missing[name] = f"{error.where}, {error.got}"
            return None

    def _build(self, description: dict[str, Any]) -> Any:
        builder = self.builder(description["$builder"])
        if "args" not in description:
            return builder
        num_missing = len(self.missing)
        arguments = self.arguments(description["args"])
        # An incomplete object is never used: `check` comes before.
        return None if len(self.missing) > num_missing else builder(**arguments)


def _described_mapping(value: Mapping) -> dict[str, Any]:
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: describe(own) for key, own in value.items()}
    return {"$dict": [[describe(key), describe(own)] for key, own in value.items()]}


def _full_name(builder: Callable) -> str:
    name = getattr(builder, "__qualname__", repr(builder))
    return f"{getattr(builder, '__module__', None)}.{name}"
