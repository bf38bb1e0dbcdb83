"""Rebuilds objects from files that contain no code.

A file names a builder and its arguments. The name is looked up in the registry that
`register_builder` fills; nothing is imported by name:

    {"tflearner:builder": "tflearner/RLModuleSpec", "arguments": {"model_config": ...}}

An argument that files cannot hold, such as a function, is written as
{"tflearner:given": a description}. It has to be given again when the file is loaded. So
has an object of a kind that its argument does not take (see `kinds`). Settings that
belong to a machine get their defaults.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

import tflearner
from tflearner.checkpoint import budget, kinds, machine
from tflearner.checkpoint.kinds import Declaration, Refuse, declaration_of
from tflearner.errors import BuilderError, TFLearnerError, UsageError, own_error

Arguments = Callable[[Any], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Builder:
    """The class or function that a name in a file stands for.

    Attributes:
        build: The class or function.
        of: The class of the objects that it builds, if known.
        refuse: As in `register_builder`.
    """

    build: Callable
    of: type | None = None
    refuse: Refuse = lambda described: {}

    @property
    def about(self) -> Declaration:
        """The declaration of the class `of`, together with `refuse`."""
        about = declaration_of(self.of, self.build)

        def refuse(described: Mapping[str, Any]) -> Mapping[str, str]:
            return {**about.refuse(described), **self.refuse(described)}

        return dataclasses.replace(about, refuse=refuse)


_PREFIXES = ("gymnasium/", "tflearner/")  # Of names in this library.
_BUILDERS: dict[str, Builder] = {}
_DESCRIBERS: dict[type, tuple[str, Arguments, bool]] = {}

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
    """Registers a class or function under the name that checkpoints give it.

        @tfl.register_builder("my_project/MyModule")
        class MyModule(tfl.TfRLModule): ...

    Checkpoints hold names, not code; loading one looks the names up here. A file may
    use a registered class wherever a setting takes an object. A class of algorithms,
    learners or environment runners is only named by settings, never called.

    Args:
        name: The name in files, by convention "<project>/<class>".
        builder: The class or function that builds the object; `None` in a decorator.
        of: The class of the objects it builds, if `builder` is not that class itself.
        arguments: Function that returns, for an object, the keyword arguments from
            which `builder` makes an equal one. Subclasses inherit it. Without it, files
            can name the builder but cannot hold its objects.
        as_a_whole: If one argument cannot be held by files: True requires the whole
            object to be given again, False that argument alone.
        refuse: Function of the arguments in a file. It returns the arguments that have
            to be given again, by name, each with the reason.

    Returns:
        The builder.

    Raises:
        UsageError: If the name is taken, empty or not a str.
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
    before = getattr(_BUILDERS.get(name), "build", None)
    # A class that is defined anew, as in a notebook, replaces the former one.
    is_same = isinstance(builder, type) and _full_name(before) == _full_name(builder)
    if before is not None and before != builder and not is_same:
        raise UsageError(
            "register_builder()",
            f"{name!r}, the name of {_full_name(before)}",
            "a name that is not in use",
        )
    made: Any = of or builder
    if arguments is not None:
        _DESCRIBERS[made] = (name, arguments, as_a_whole)
    made_of = made if isinstance(made, type) else None
    _BUILDERS[name] = Builder(builder, made_of, refuse or Builder.refuse)
    return builder


def name_of(builder: Callable) -> str:
    """Returns a builder's name in files: the registered one or its import path."""
    for name, registered in _BUILDERS.items():
        if registered.build is builder:
            return name
    return _full_name(builder)


@dataclasses.dataclass(frozen=True)
class Given:
    """An argument that is not saved and has to be given again on loading.

    Attributes:
        what: A description of the argument.
    """

    what: str


def describe(value: Any) -> Any:
    """Returns `value` as plain Python, with builders in place of objects.

    Raises:
        Undescribable: If the value is neither plain Python nor of a class with
            `arguments`.
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
    is_known = any(value is known.build for known in _BUILDERS.values())
    if isinstance(value, type) or is_known:
        return {BUILDER: name_of(value)}
    for base in type(value).__mro__:
        if base in _DESCRIBERS:
            name, arguments, as_a_whole = _DESCRIBERS[base]
            name = name if base is type(value) else name_of(type(value))
            describe_all = describe if as_a_whole else describe_arguments
            own = without_machine(arguments(value), type(value))
            return {BUILDER: name, ARGUMENTS: describe_all(own)}
    raise Undescribable(value)


def describe_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Describes arguments by name; those that files cannot hold become `Given`."""
    described = {}
    for name, value in arguments.items():
        try:
            described[name] = describe(value)
        except (Undescribable, TypeError) as error:  # TypeError: a set of descriptions.
            described[name] = describe(Given(str(error)))
    return described


def without_machine(arguments: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """Returns arguments with a mark in place of settings of this machine."""
    found = machine.found(arguments, declaration_of(cls).machine)
    mark = Given("a setting of the machine that wrote the file")
    return machine.replaced(arguments, dict.fromkeys(found, mark))


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
    """Builds objects from their descriptions, and notes the arguments that are missing.

    Attributes:
        given: Arguments by name that win over those in descriptions, at any depth.
        builders: Builders by name, besides the registered ones.
        missing: The arguments that are neither in the description nor given: {name:
            description}.
        known: The names of all arguments met so far.
        used: The names of known arguments that were given.
        dropped: Settings in the file that belong to a machine, by path.
    """

    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    builders: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    known: set[str] = dataclasses.field(default_factory=set)
    used: set[str] = dataclasses.field(default_factory=set)
    dropped: dict[str, Any] = dataclasses.field(default_factory=dict)
    _num_misses: int = 0

    def arguments(
        self, described: Mapping[str, Any], of: type | None = None
    ) -> dict[str, Any]:
        """Builds arguments by name; a missing argument is `None`.

        Args:
            described: The description of each argument.
            of: The class to be built.
        """
        return self._arguments(described, declaration_of(of))

    def build(self, description: Any, takes: Collection[str] = kinds.ANY) -> Any:
        """Builds the object that a description stands for.

        Args:
            description: Plain Python with builders in place of objects.
            takes: The kinds of objects that the description may contain.

        Raises:
            BuilderError: If a builder is unknown, or makes an object of another kind.
        """
        if isinstance(description, list | tuple | set | frozenset):
            return type(description)(self.build(own, takes) for own in description)
        if not isinstance(description, dict):
            return description
        if BUILDER in description:
            return self._build(description, takes)
        return {key: self.build(own, takes) for key, own in description.items()}

    @contextlib.contextmanager
    def telling(self, where: str, of: type[Exception] = Exception) -> Iterator[None]:
        """Turns errors that a broken description causes into `BuilderError`."""
        try:
            yield
        except TFLearnerError:
            raise
        except of as error:
            if (own := own_error(error)) is not None:
                raise own from None
            raise BuilderError(
                where,
                f"an invalid description ({type(error).__name__}: {error})",
            ) from error

    def builder(self, name: str) -> Callable:
        """Returns the class or function of a name.

        Raises:
            BuilderError: If the name is neither registered nor among `builders`.
        """
        return self._find(name).build

    def _find(self, name: str) -> Builder:
        found = None
        if isinstance(name, str):
            given = self.builders.get(name)
            found = _registered(name) if given is None else _as_builder(given)
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
            f"these settings as arguments: from_checkpoint(path, {again})",
            "classes and functions that are registered by register_builder(), or "
            "passed as builders={name: builder}, are found by name; modules that need "
            "different ones can be given as a whole, by rl_module_spec= or module_spec=",
        )

    def _arguments(
        self, described: Mapping[str, Any], about: Declaration
    ) -> dict[str, Any]:
        self.known |= described.keys()
        dropped = {
            path: value
            for path, value in machine.found(described, about.machine).items()
            if path.split("/")[0] not in self.given
        }
        self.dropped |= dropped
        refused = about.refuse(described)
        defaults = {path: about.machine[path] for path in dropped}
        described = machine.replaced(described, defaults) | {
            name: {GIVEN: why} for name, why in refused.items()
        }
        return {
            name: self._argument(name, own, about.taken_by(name))
            for name, own in described.items()
        }

    def _argument(self, name: str, description: Any, takes: Collection[str]) -> Any:
        if name in self.given:
            self.used.add(name)
            return self.given[name]
        if isinstance(description, dict) and GIVEN in description:
            return self._miss(name, str(description[GIVEN]))
        try:
            return self.build(description, takes)
        except BuilderError as error:
            return self._miss(name, f"{error.where}, {error.got}")

    def _miss(self, name: str, what: str) -> None:
        # The models of two modules, say, are both called `model`.
        self._num_misses += 1
        known = self.missing.get(name, what)
        self.missing[name] = known if what in known else f"{known}, {what}"

    def _build(self, description: dict[str, Any], takes: Collection[str]) -> Any:
        name = description[BUILDER]
        builder, is_named = self._find(name), ARGUMENTS not in description
        about = builder.about
        _check_kind(name, about.kinds, takes, is_named)
        if is_named:
            return builder.build
        budget.spend(f"a {name}")
        before = self._num_misses
        arguments = self._arguments(description[ARGUMENTS], about)
        # An incomplete object is never used: `check` comes before.
        return None if self._num_misses > before else builder.build(**arguments)


def _check_kind(
    name: str, own: Collection[str], takes: Collection[str], is_named: bool
) -> None:
    """Raises `BuilderError` unless an argument takes objects of one of these kinds."""
    forms = [kinds.named(k) if is_named and k != kinds.OWN else k for k in own]
    if not {*forms} & {*takes}:
        want = f"the kind {' or '.join(map(repr, takes))}" if takes else "plain Python"
        raise BuilderError(f"builder {name!r}", f"the kind {forms[0]!r}", want)


def _known_names() -> str:
    """Returns the known names of builders as one line of text."""
    own = sorted(name for name in _BUILDERS if not name.startswith(_PREFIXES))
    number = len(_BUILDERS) - len(own)
    text = f"one of {number} names of {' and '.join(_PREFIXES)}"
    return f"{text}, or of {own[:10]}" if own else text


def _registered(name: str) -> Builder | None:
    """Returns a builder by its registered name or its import path."""
    project, _, public = name.partition("/")
    if project == "tflearner" and public in dir(tflearner):
        # Public names of this library load, and so register, when they are first used.
        getattr(tflearner, public, None)
    if name in _BUILDERS:
        return _BUILDERS[name]
    # A class that was saved before it was registered.
    return next((b for b in _BUILDERS.values() if _full_name(b.build) == name), None)


def _as_builder(given: Callable) -> Builder:
    """Returns the builder of a class or function: the registered one or a new one."""
    known = [builder for builder in _BUILDERS.values() if builder.build is given]
    of = given if isinstance(given, type) else None
    return known[0] if known else Builder(given, of)


def _is_key(key: Any) -> bool:
    is_tuple = type(key) is tuple and all(map(_is_key, key))
    return type(key) in (str, int) or is_tuple


def _full_name(builder: Any) -> str:
    name = getattr(builder, "__qualname__", repr(builder))
    return f"{getattr(builder, '__module__', None)}.{name}"
