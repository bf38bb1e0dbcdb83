"""The settings of a config: sections, unknown names, copies, and frozen configs.

`AlgorithmConfig` is a `Settings` and a dataclass; each field is a setting:

    gamma: float = field(default=0.99, metadata=TRAINING | number(0.0, 1.0))

`TRAINING` names its section: the fluent method that sets it, `.training(gamma=...)`.
`number(0.0, 1.0)` is its bound, see `bounds.py`; `validate()` checks it. A subclass that
declares a field again keeps its section and its bound, unless it names another.

An attribute that is not a field is refused, with a hint. There is one exception: the
hand-written `__init__` of a subclass adds settings by setting them, as in RLlib. For it
`__init__` is wrapped, and a config notes in its `__dict__` whether it is being made, and
which settings were added. A frozen config refuses every change.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from tflearner.checkpoint.builders import register_builder
from tflearner.errors import ConfigError, FrozenConfigError, shown
from tflearner.settings.names import Names, hint_for


class Settings:
    """The base of configs: settings by name, set section by section."""

    # Names of settings in other libraries, see `names.py`.
    renamed: ClassVar[Names] = {}

    # The rest is kept in `__dict__` beside the settings.
    _is_frozen: ClassVar[bool] = False
    _is_being_made: ClassVar[bool] = False
    _added: ClassVar[tuple[str, ...]] = ()
    _derived: dict  # Objects made of the settings, until one of these changes.

    def __init_subclass__(cls, **kwargs: Any):
        """Lets the `__init__` of a subclass add settings."""
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _adds_settings(cls.__init__)  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: Any) -> None:
        if self.is_frozen:
            raise FrozenConfigError(
                f"{type(self).__name__}.{name}",
                "a change of a frozen config",
                hint="change a copy: config.copy(copy_frozen=False)",
            )
        if name not in self._all_names():
            if not self._is_being_made:
                raise ConfigError(
                    type(self).__name__,
                    f"unknown setting {name!r}",
                    hint=self._hint_for(name),
                )
            self.__dict__["_added"] = (*self._added, name)
        super().__setattr__(name, value)
        self.__dict__["_derived"] = {}

    def update_from_dict(self, settings: Mapping[str, Any]) -> Self:
        """Sets fields of any section by name; refuses unknown names."""
        self._check_names(settings, f"{type(self).__name__}")
        before = dict(self.__dict__)
        try:
            for name, value in settings.items():
                getattr(self, self._sections_of(name)[0])(**{name: value})
        except BaseException:
            self.__dict__.update(before)
            raise
        return self

    def settings(self) -> dict[str, Any]:
        """Returns all settings by name, those that subclasses add included."""
        return {name: getattr(self, name) for name in self._all_names()}

    @classmethod
    def from_settings(cls, **settings: Any) -> Self:
        """Returns a config with the settings that another one's `settings()` returned."""
        config = cls()
        # Files of former versions hold class variables, too.
        constants = cls.__dataclass_fields__.keys() - {*cls._field_names()}  # type: ignore[attr-defined]
        for name, value in settings.items():
            if name not in constants:
                setattr(config, name, value)
        return config

    def copy(self, copy_frozen: bool | None = None) -> Self:
        """Returns a copy; containers are copied, what they hold is shared.

        Args:
            copy_frozen: Whether the copy is frozen; `None` keeps it as it is.
        """
        duplicate = object.__new__(type(self))
        for name, value in self.__dict__.items():
            if isinstance(value, dict):
                value = {
                    k: dict(v) if isinstance(v, dict) else v for k, v in value.items()
                }
            elif isinstance(value, list):
                value = list(value)
            duplicate.__dict__[name] = value
        frozen = self.is_frozen if copy_frozen is None else copy_frozen
        duplicate.__dict__.update(_is_frozen=frozen, _derived={})
        return duplicate

    def freeze(self) -> None:
        """Makes every later change an error."""
        self.__dict__["_is_frozen"] = True

    @property
    def is_frozen(self) -> bool:
        """Whether the config refuses changes."""
        return self._is_frozen

    def validate(self) -> None:
        """Raises `ConfigError` for a setting that is out of its bound."""
        for name in self._field_names():
            check = self._metadata_of(name).get("check")
            if check is not None:
                check(f"{type(self).__name__}.{name}", getattr(self, name))

    def _set(self, section: str, settings: Mapping[str, Any]) -> Self:
        where = f"{type(self).__name__}.{section}()"
        known = {n for n in self._field_names() if section in self._sections_of(n)}
        for name in settings:
            if name not in known:
                raise ConfigError(
                    where,
                    f"no setting {shown(name)}; it takes {', '.join(sorted(known))}",
                    hint=self._hint_for(name, section),
                )
        for name, value in settings.items():
            setattr(self, name, value)
        return self

    @classmethod
    def _check_names(cls, settings: Any, where: str) -> None:
        if not isinstance(settings, Mapping):
            raise ConfigError(where, shown(settings), "a dict of settings")
        for name in settings:
            if name not in cls._field_names():
                raise ConfigError(
                    where, f"unknown setting {shown(name)}", hint=cls._hint_for(name)
                )

    @classmethod
    def _field_names(cls) -> list[str]:
        # Not `__dataclass_fields__`, which has class variables as well.
        return [own.name for own in dataclasses.fields(cls)]  # type: ignore[arg-type]

    def _all_names(self) -> list[str]:
        return [*self._field_names(), *self._added]

    @classmethod
    def _metadata_of(cls, name: str) -> dict[str, Any]:
        """Returns the metadata of a field in all classes that declare it, joined."""
        metadata: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            declared = base.__dict__.get("__dataclass_fields__", {})
            metadata |= declared[name].metadata if name in declared else {}
        return metadata

    @classmethod
    def _sections_of(cls, name: str) -> tuple[str, ...]:
        """Returns the methods that set a field: its section's, and maybe another's."""
        metadata = cls._metadata_of(name)
        sections = (metadata.get("section", "training"), metadata.get("also"))
        return tuple(section for section in sections if section is not None)

    @classmethod
    def _foreign_names(cls) -> Names:
        """Returns names that are no settings here, and what to say about each."""
        return cls.renamed

    @classmethod
    def _hint_for(cls, name: object, section: str | None = None) -> str | None:
        """Returns a hint for an unknown name, or for a setting of another section."""
        fields = cls._field_names()
        if name in fields:
            return f"{name!r} belongs to .{cls._sections_of(str(name))[0]}()"

        def where(told: str) -> str:
            is_here = section is None or section in cls._sections_of(told)
            return "" if is_here else f", in .{cls._sections_of(told)[0]}()"

        return hint_for(name, fields, cls._foreign_names(), where)


def _adds_settings(init: Callable) -> Callable:
    """Wraps an `__init__`: attributes it sets that are not fields become settings."""

    @functools.wraps(init)
    def wrapped(self: Settings, *args: Any, **kwargs: Any) -> None:
        is_inner = self._is_being_made
        self.__dict__["_is_being_made"] = True
        try:
            init(self, *args, **kwargs)
        finally:
            self.__dict__["_is_being_made"] = is_inner

    return wrapped


def register_config(name: str, cls: type[Settings]) -> None:
    """Registers a config class under the name that checkpoints give it.

    Args:
        name: The name in files, by convention "<project>/<class>".
        cls: The config class.
    """
    register_builder(
        name, cls.from_settings, of=cls, arguments=lambda config: config.settings()
    )
