"""Plans of restores, and reports of restores."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

from tflearner.checkpoint.matching import Match


@dataclasses.dataclass(frozen=True)
class RestoreReport:
    """Report of a restore, by path: "learner/rl_module/p0/000/kernel".

    Attributes:
        loaded: What was replaced.
        kept: What the checkpoint has not, or not in that shape, and so stayed.
        ignored: What the checkpoint has and the object has not.
        reset: Optimizers that start anew, since their variables are of another step.
        path: The directory of the step that was read.
        skipped: Newer steps that are damaged, with `on_corrupt="previous"`.
        dropped: Settings of the machine that wrote the checkpoint, such as
            "compile_cache". They have their defaults. Only `from_checkpoint` drops any.
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
        """Returns the report of what was matched array by array."""
        return cls(
            loaded=tuple(map("/".join, fits.loaded)),
            kept=tuple(map("/".join, fits.kept)),
            ignored=tuple(map("/".join, fits.ignored)),
        )

    @classmethod
    def of_names(cls, saved: Collection[str], own: Collection[str]) -> "RestoreReport":
        """Returns the report of a restore of what both have."""
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
    """Plan of a restore, made before anything is changed.

    Attributes:
        problems: What does not fit, for whoever wants everything or nothing.
        apply: Restores what fits, or nothing if it raises; returns what was done.
    """

    problems: list[str]
    apply: Callable[[], RestoreReport]
