"""Selections of the components of a state."""

import dataclasses
from collections.abc import Collection

from tflearner.errors import UsageError, did_you_mean


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
        wanted: Names or paths to include; `None` includes everything.
        unwanted: Names or paths to exclude; `None` excludes nothing.
    """

    wanted: str | Collection[str] | None = None
    unwanted: str | Collection[str] | None = None

    def check(self, known: Collection[str], *, with_parts: Collection[str]) -> None:
        """Raises `UsageError` for unknown components.

        Args:
            known: The names of the components.
            with_parts: The names of components that have components of their own.
        """
        for given in (self.wanted, self.unwanted):
            if not isinstance(given, Collection | None):
                raise UsageError("components", repr(given), "names of components")
            for path in _names(given):
                first, *rest = str(path).split("/")
                if first not in known or (rest and first not in with_parts):
                    raise UsageError(
                        "components",
                        repr(path),
                        f"one of {[*known]}",
                        did_you_mean(path, known),
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
        """Returns the selection inside a component."""
        wanted = None
        if self.wanted is not None and name not in _names(self.wanted):
            wanted = _below(name, self.wanted)
        return Components(wanted, _below(name, self.unwanted))


def _names(paths: str | Collection[str] | None) -> tuple[str, ...]:
    return (paths,) if isinstance(paths, str) else tuple(paths or ())


def _below(name: str, paths: str | Collection[str] | None) -> tuple[str, ...]:
    prefix = f"{name}/"
    return tuple(p.removeprefix(prefix) for p in _names(paths) if p.startswith(prefix))
