"""Plans and reports of restores."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

from tflearner.checkpoint.matching import Match


@dataclasses.dataclass(frozen=True)
class RestoreReport:
    """A report of what a restore loaded, kept and ignored.

    Attributes:
        loaded: Paths that were replaced, such as "learner/rl_module/p0/000/kernel".
        kept: Paths that kept their values, because the checkpoint lacks them or has
            another shape there.
        ignored: Paths that only the checkpoint has.
        reset: Optimizers that were reset, because not all of their weights were
            restored.
        path: The directory of the step that was read.
        skipped: Damaged newer steps that `on_corrupt="previous"` skipped.
        dropped: Settings of the machine that wrote the checkpoint, such as
            "compile_cache", that have their defaults here. Only `from_checkpoint` drops
            settings.
    """

    loaded: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    path: str = ""
    skipped: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @classmethod
    def of(cls, fits: Match) -> "RestoreReport":
        """Returns the report of a match of arrays."""
        return cls(
            loaded=tuple(map("/".join, fits.loaded)),
            kept=tuple(map("/".join, fits.kept)),
            ignored=tuple(map("/".join, fits.ignored)),
        )

    @classmethod
    def of_names(cls, saved: Collection[str], own: Collection[str]) -> "RestoreReport":
        """Returns the report of a restore of the names that both sides have."""
        return cls(
            loaded=tuple(name for name in own if name in saved),
            kept=tuple(name for name in own if name not in saved),
            ignored=tuple(name for name in saved if name not in own),
        )

    def below(self, name: str) -> "RestoreReport":
        """Returns the report with `name` in front of every path."""
        parts: dict[str, Any] = {
            part: tuple(f"{name}/{path}" for path in getattr(self, part))
            for part in _PARTS
        }
        return dataclasses.replace(self, **parts)

    def __add__(self, other: "RestoreReport") -> "RestoreReport":
        return dataclasses.replace(
            self, **{p: getattr(self, p) + getattr(other, p) for p in _PARTS}
        )

    def __str__(self) -> str:
        counts = [f"{len(getattr(self, part))} {part}" for part in _PARTS]
        counts.append(f"{len(self.dropped)} dropped")
        counts = [count for count in counts if not count.startswith("0 ")]
        return f"restored {self.path}: {', '.join(counts) or 'nothing'}"


_PARTS = ("loaded", "kept", "ignored", "reset")


@dataclasses.dataclass(frozen=True)
class RestorePlan:
    """A plan of a restore, made before anything is changed.

    Attributes:
        problems: The misfits; a strict restore requires that there are none.
        apply: Restores the parts that fit and returns a report. If it raises, nothing
            is changed.
    """

    problems: list[str]
    apply: Callable[[], RestoreReport]
