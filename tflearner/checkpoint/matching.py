"""Matches a saved state with an object: the parts that fit, and those that do not."""

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np

from tflearner.errors import CheckpointMismatchError
from tflearner.types import StateDict

Path = tuple[str, ...]

_MORE_FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")  # Not of kind "f".


@dataclasses.dataclass
class Match:
    """A comparison of a saved state with an object's own state, array by array.

    Attributes:
        loaded: Paths in both states, with equal shapes and dtypes.
        kept: Paths of the own state that the saved one lacks or has in another form.
        ignored: Paths that only the saved state has.
        problems: The reason for each path that is not loaded.
    """

    loaded: list[Path] = dataclasses.field(default_factory=list)
    kept: list[Path] = dataclasses.field(default_factory=list)
    ignored: list[Path] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    def keep(self, paths: Collection[Path]) -> None:
        """Moves paths from the loaded to the kept ones."""
        self.loaded = [path for path in self.loaded if path not in paths]
        self.kept += paths


def match(saved: StateDict, own: StateDict) -> Match:
    """Compares nested dicts of arrays: the parts of `saved` that fit `own`."""
    theirs, mine = dict(_leaves(saved)), dict(_leaves(own))
    result = Match()
    for path, leaf in mine.items():
        if path not in theirs:
            result.kept.append(path)
            result.problems.append(f"missing {'/'.join(path)!r}")
        elif (fault := _fault(theirs[path], leaf)) is not None:
            result.kept.append(path)
            result.problems.append(f"{'/'.join(path)!r} {fault}")
        else:
            result.loaded.append(path)
    result.ignored = [path for path in theirs if path not in mine]
    result.problems += [f"unexpected {'/'.join(path)!r}" for path in result.ignored]
    return result


def check(where: str, problems: list[str], hint: str | None = None) -> None:
    """Raises `CheckpointMismatchError` listing all problems, if there are any."""
    if problems:
        listed = "; ".join(problems)
        raise CheckpointMismatchError(
            where, f"{len(problems)} problems: {listed}", hint=hint
        )


def merged(own: StateDict, saved: StateDict, paths: Collection[Path]) -> StateDict:
    """Returns a copy of `own` with the values of `saved` at `paths`."""
    result = _copied(own)
    for path in paths:
        *parents, name = path
        theirs, mine = saved, result
        for parent in parents:
            theirs, mine = theirs[parent], mine[parent]
        mine[name] = theirs[name]
    return result


def as_numbers(value: Any) -> np.ndarray | None:
    """Returns a value as an array of real numbers or bools; `None` if it is neither."""
    try:
        array = np.asarray(value)
    except ValueError:  # A ragged list.
        return None
    is_number = array.dtype.kind in "biuf" or array.dtype.name in _MORE_FLOATS
    return array if is_number else None


def problems_with_names(saved: Collection[str], own: Collection[str]) -> list[str]:
    """Returns one problem for each name that `saved` lacks or has in excess."""
    missing = [f"missing {name!r}" for name in own if name not in saved]
    return missing + [f"unexpected {name!r}" for name in saved if name not in own]


def _fault(theirs: Any, mine: Any) -> str | None:
    are_empty = isinstance(theirs, dict), isinstance(mine, dict)  # Others have leaves.
    if any(are_empty):
        return None if all(are_empty) else "with weights on one side only"
    theirs, mine = np.asarray(theirs), np.asarray(mine)
    if theirs.shape != mine.shape:
        return f"of shape {theirs.shape} instead of {mine.shape}"
    if theirs.dtype != mine.dtype:
        return f"of dtype {theirs.dtype} instead of {mine.dtype}"
    return None


def _leaves(node: Any, path: Path = ()):
    if isinstance(node, dict) and (node or not path):
        for name, child in node.items():
            yield from _leaves(child, (*path, name))
    else:
        yield path, node


def _copied(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _copied(child) for name, child in node.items()}
    return node
