"""How an object is rebuilt from a file that contains no code.

A file names a builder and its arguments. The name is looked up in a registry that holds
what was registered by `register_builder`, never imported:

    {"tflearner:builder": "tflearner/RLModuleSpec", "arguments": {"model_config": ...}}

An argument that files cannot hold, such as a function, is {"tflearner:given": what it
was}: whoever loads the file gives it again.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import tflearner
from tflearner.errors import BuilderError, TFLearnerError, UsageError

Arguments = Callable[[Any], Mapping[str, Any]]
Refuse = Callable[[Mapping[str, Any]], Mapping[str, str]]

_PREFIXES = ("gymnasium/", "tflearner/")  # Of what is registered here.
_BUILDERS: dict[str, Callable] = {}
_DESCRIBERS: dict[type, tuple[str, Arguments, bool]] = {}
_REFUSE: dict[str, Refuse] = {}

# Keys of descriptions.
BUILDER, ARGUMENTS, GIVEN = "tflearner:builder", "arguments", "tflearner:given"


def register_builder(
    name: str,
    builder: Callable | None = None,
    *,
    of: type | None = None,
    arguments: Arguments | None = None,
    as_a_whole: bool = False,
    refuse: Refuse | None = None,
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
        as_a_whole: Whether an argument that files cannot hold makes the object one that
            they cannot hold; otherwise that argument alone has to be given again.
        refuse: Function of the arguments in a file returning those that have to be
            given again, by name, and why.

    Returns:
        The builder.

    Raises:
        UsageError: If the name is taken, or is none.
    """
    if builder is None:
        return lambda decorated: register_builder(
            name,
            decorated,
            of=of,
            arguments=arguments,
            as_a_whole=as_a_whole,
            refuse=refuse,
        )
    if not isinstance(name, str) or not name or not callable(builder):
        raise UsageError("register_builder()", f"{name!r}", "a name and a callable")
    before = _BUILDERS.get(name)
    # A class that is defined anew, as in a notebook, replaces the former one.
    is_same = isinstance(builder, type) and _full_name(before) == _full_name(builder)
    if before is not None and before != builder and not is_same:
        raise UsageError(
            "register_builder()",
            f"{name!r}, which is {_full_name(before)} already",
            "a name of its own",
        )
    _BUILDERS[name] = builder
    if arguments is not None:
        made: Any = of or builder
        _DESCRIBERS[made] = (name, arguments, as_a_whole)
    if refuse is not None:
        _REFUSE[name] = refuse
    return builder


def name_of(builder: Callable) -> str:
    """Returns the name of a builder in files: the registered one, or where it is from."""
    for name, registered in _BUILDERS.items():
        if registered is builder:
            return name
    return _full_name(builder)


@dataclasses.dataclass(frozen=True)
class Given:
    """An argument that is not saved: whoever loads the file gives it again.

    Attributes:
        what: What it is.
    """

    what: str


def describe(value: Any) -> Any:
    """Returns `value` as plain Python, with builders in place of objects.

    Raises:
        Undescribable: If it is neither plain Python nor of a class with `arguments`.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Given):
        return {GIVEN: value.what}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value
    # By `isinstance`: Keras wraps lists and dicts that are attributes of a layer.
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return kind(map(describe, value))
    if isinstance(value, dict):
        if {GIVEN, BUILDER} & value.keys() or not all(map(_is_key, value)):
            raise Undescribable(value)
        return {key: describe(own) for key, own in value.items()}
    if isinstance(value, type) or any(value is known for known in _BUILDERS.values()):
        return {BUILDER: name_of(value)}
    for base in type(value).__mro__:
        if base in _DESCRIBERS:
            name, arguments, as_a_whole = _DESCRIBERS[base]
            name = name if base is type(value) else name_of(type(value))
            describe_all = describe if as_a_whole else describe_arguments
            return {BUILDER: name, ARGUMENTS: describe_all({**arguments(value)})}
    raise Undescribable(value)


def describe_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arguments as `describe` does; what it cannot hold, as to be given."""
    described = {}
    for name, value in arguments.items():
        try:
            described[name] = describe(value)
        except (Undescribable, TypeError) as error:  # TypeError: a set of descriptions.
            described[name] = describe(Given(str(error)))
    return described


class Undescribable(Exception):
    """An object that files cannot hold.

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
    _num_misses: int = 0

    def arguments(self, described: Mapping[str, Any]) -> dict[str, Any]:
        """Returns arguments by name; `None` for those that are missing."""
        return {name: self._argument(name, own) for name, own in described.items()}

    def build(self, description: Any) -> Any:
        """Returns what was described."""
        if isinstance(description, list | tuple | set | frozenset):
            return type(description)(map(self.build, description))
        if not isinstance(description, dict):
            return description
        if BUILDER in description:
            return self._build(description)
        return {key: self.build(value) for key, value in description.items()}

    @contextlib.contextmanager
    def telling(self, where: str, of: type[Exception] = Exception) -> Iterator[None]:
        """Turns what broken descriptions lead to into `BuilderError`."""
        try:
            yield
        except TFLearnerError:
            raise
        except of as error:
            raise BuilderError(
                where,
                f"a description nothing can be built from "
                f"({type(error).__name__}: {error})",
            ) from error

    def builder(self, name: str) -> Callable:
        """Returns the builder of a name.

        Raises:
            BuilderError: If it is neither registered nor among `builders`.
        """
        found = None
        if isinstance(name, str):
            found = self.builders.get(name) or _registered(name)
        if found is None:
            raise BuilderError(
                f"builder {name!r}",
                "a name that is not registered",
                _known_names(),
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
            "passed as builders={name: builder}, are found by name; modules that need "
            "different ones can be given as a whole, by rl_module_spec= or module_spec=",
        )

    def _argument(self, name: str, description: Any) -> Any:
        self.known.add(name)
        if name in self.given:
            self.used.add(name)
            return self.given[name]
        if isinstance(description, dict) and GIVEN in description:
            return self._miss(name, str(description[GIVEN]))
        try:
            return self.build(description)
        except BuilderError as error:
            return self._miss(name, f"{error.where}, {error.got}")

    def _miss(self, name: str, what: str) -> None:
        # The models of two modules, say, are both called `model`.
        self._num_misses += 1
        known = self.missing.get(name, what)
        self.missing[name] = known if what in known else f"{known}, {what}"

    def _build(self, description: dict[str, Any]) -> Any:
        builder = self.builder(description[BUILDER])
        if ARGUMENTS not in description:
            return builder
        before = self._num_misses
        described = description[ARGUMENTS]
        refuse = _REFUSE.get(description[BUILDER], lambda described: {})
        refused = {name: {GIVEN: why} for name, why in refuse(described).items()}
        arguments = self.arguments({**described, **refused})
        # An incomplete object is never used: `check` comes before.
        return None if self._num_misses > before else builder(**arguments)


def _known_names() -> str:
    """Returns what a builder may be called, in a line that people can read."""
    own = sorted(name for name in _BUILDERS if not name.startswith(_PREFIXES))
    number = len(_BUILDERS) - len(own)
    text = f"one of {number} names of {' and '.join(_PREFIXES)}"
    return f"{text}, or of {own[:10]}" if own else text


def _registered(name: str) -> Callable | None:
    """Returns a builder by its registered name, or by where it is from."""
    project, _, public = name.partition("/")
    if project == "tflearner":
        # Public names of this library load, and so register, when they are first used.
        getattr(tflearner, public, None)
    if name in _BUILDERS:
        return _BUILDERS[name]
    # It was saved before it was registered.
    return next((b for b in _BUILDERS.values() if _full_name(b) == name), None)


def _is_key(key: Any) -> bool:
    is_tuple = type(key) is tuple and all(map(_is_key, key))
    return type(key) in (str, int) or is_tuple


def _full_name(builder: Any) -> str:
    name = getattr(builder, "__qualname__", repr(builder))
    return f"{getattr(builder, '__module__', None)}.{name}"
