"""Base class of objects that are saved to files, restored, and rebuilt from files alone."""

import abc
import contextlib
import dataclasses
import os
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Self

import numpy as np

from tflearner.checkpoint import budget, matching
from tflearner.checkpoint.builders import (
    GIVEN,
    Rebuilder,
    describe_arguments,
    name_of,
    without_machine,
)
from tflearner.checkpoint.directory import (
    Checkpoint,
    CheckpointDirectory,
    check_is_no_export,
    read_checkpoint,
)
from tflearner.checkpoint.restoring import RestorePlan, RestoreReport
from tflearner.errors import (
    BuilderError,
    CheckpointError,
    CheckpointMismatchError,
    TFLearnerError,
    UnknownArgumentError,
    UsageError,
    did_you_mean,
)
from tflearner.types import StateDict

CLASS, ARGUMENTS, COMPONENTS = "class", "arguments", "components"  # In metadata.


class Checkpointable(abc.ABC):
    """Base class of objects that checkpoints save, restore and rebuild.

        path = learner.save_to_path("checkpoints")
        learner.restore_from_path("checkpoints")  # The newest checkpoint.
        again = PPOTfLearner.from_checkpoint("checkpoints")

    Its `get_state` and `set_state` exchange the state in memory. Files hold JSON and
    tensors, never code: see `CheckpointDirectory`.

    Attributes:
        restore_report: The report of `from_checkpoint`, if that method made this
            object.
    """

    restore_report: RestoreReport | None = None

    @abc.abstractmethod
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
    ) -> StateDict:
        """Returns the state as NumPy arrays and plain Python.

        Args:
            components: Names of components, "a", or paths below them, "a/b"; `None`
                selects all.
            not_components: Names or paths of components to exclude.
        """

    @abc.abstractmethod
    def set_state(self, state: StateDict) -> Any:
        """Replaces the parts of the state that `state` holds."""

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        """Returns the constructor's arguments, as live objects."""
        return (), {}

    def get_checkpointable_components(self) -> list[tuple[str, "Checkpointable"]]:
        """Returns the parts that can be restored alone, as pairs of name and object."""
        return []

    def get_metadata(self) -> dict[str, Any]:
        """Returns JSON data from which files rebuild this object."""
        metadata = {
            CLASS: name_of(type(self)),
            ARGUMENTS: describe_arguments(
                without_machine(self._arguments_to_save(), type(self))
            ),
        }
        parts = self.get_checkpointable_components()
        if parts:
            metadata[COMPONENTS] = {name: part.get_metadata() for name, part in parts}
        return metadata

    def save_to_path(
        self,
        path: str | os.PathLike | None = None,
        *,
        state: StateDict | None = None,
        step: int | None = None,
        keep: int | None = None,
        allow_nonfinite: bool = False,
    ) -> str:
        """Saves the state as a new step of a directory of checkpoints.

        Saving is atomic: after an error or a crash, the directory holds the steps that
        it held before.

        Args:
            path: The directory, made if it is missing; `None` makes a temporary one.
            state: The state to save; the current one by default.
            step: The number of the step; by default larger than all existing ones.
            keep: The number of steps to keep; `None` keeps all. The newest undamaged,
                finite step is always kept.
            allow_nonfinite: Whether to save non-finite weights.

        Returns:
            The directory of the step.

        Raises:
            CheckpointError: If the files cannot be written.
            StepExistsError: If the step exists; steps are never overwritten.
            NonFiniteStateError: If weights or optimizers hold NaN or infinity.
            UsageError: If the path has the suffix of an export, such as ".keras".
        """
        check_is_no_export("save_to_path()", path)
        if path is None:
            path = tempfile.mkdtemp(prefix="tflearner-")
        if state is None:
            state = self._get_state_to_save()
        directory = CheckpointDirectory(path, keep=keep)
        if step is None:
            step = self._next_step(directory)
        saved = directory.save(
            state, self.get_metadata(), step=step, allow_nonfinite=allow_nonfinite
        )
        return str(saved)

    def restore_from_path(
        self,
        path: str | os.PathLike,
        *,
        component: str | None = None,
        strict: bool = True,
        on_corrupt: str = "raise",
        allow_nonfinite: bool = False,
    ) -> RestoreReport:
        """Restores the state, or one component of it, from a checkpoint.

        Args:
            path: A directory of checkpoints, whose newest step is read, or the
                directory of one step.
            component: The path of the component, such as "learner/rl_module/p0"; `None`
                restores everything.
            strict: Whether everything has to fit. Otherwise the parts that fit are
                loaded, and the report lists those that were kept and ignored.
            on_corrupt: "raise", or "previous" to go back to the newest intact step.
            allow_nonfinite: Whether to load non-finite weights.

        Returns:
            What was loaded.

        Raises:
            CheckpointError: If there is no checkpoint, or it is damaged.
            CheckpointMismatchError: If it does not fit; lists every misfit. In either
                case nothing is changed.
        """
        checkpoint = read_checkpoint(
            path, on_corrupt=on_corrupt, allow_nonfinite=allow_nonfinite
        )
        names = _names(component)
        state, metadata = _below(checkpoint, names), _about(checkpoint, names)
        # A learner can also restore the component "learner" of an algorithm's
        # checkpoint.
        is_own = bool(names) and _class(metadata) == name_of(type(self))
        with telling(str(checkpoint.path)):
            plan = self._plan_restore(state, [] if is_own else names)
        if strict:
            matching.check(
                f"{type(self).__name__}.restore_from_path()",
                plan.problems,
                self._hint_of_parts(checkpoint)
                or "strict=False loads what fits and reports the rest",
            )
        with telling(str(checkpoint.path)):
            report = plan.apply()
        return dataclasses.replace(
            report,
            path=str(checkpoint.path),
            skipped=tuple(map(str, checkpoint.skipped)),
        )

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike,
        *,
        component: str | None = None,
        builders: Mapping[str, Callable] | None = None,
        on_corrupt: str = "raise",
        allow_nonfinite: bool = False,
        **settings: Any,
    ) -> Self:
        """Builds a new object from a checkpoint and restores its state.

        Settings that belong to a machine, such as caches, directories and devices, get
        their defaults. The new object's `restore_report.dropped` names them.

        Args:
            path: A directory of checkpoints, whose newest step is read, or the
                directory of one step.
            component: The path of the component to build, such as "learner" in an
                algorithm's checkpoint; `None` builds the whole.
            builders: Functions and classes by their names in files, in addition to
                those that `register_builder` registered.
            on_corrupt: "raise", or "previous" to go back to the newest intact step.
            allow_nonfinite: Whether to load non-finite weights.
            **settings: Constructor arguments and settings by name. Those that files
                cannot hold, such as functions, have to be given again; others replace
                the saved values.

        Raises:
            BuilderError: If settings are missing; names all of them.
            UsageError: If the checkpoint belongs to another class.
        """
        checkpoint = read_checkpoint(
            path, on_corrupt=on_corrupt, allow_nonfinite=allow_nonfinite
        )
        names = _names(component)
        state, metadata = _below(checkpoint, names), _about(checkpoint, names)
        builders = {name_of(cls): cls} | dict(builders or {})
        rebuilder = Rebuilder(given=cls._given(settings), builders=builders)
        made_of = cls._saved_class(_class(metadata), rebuilder)
        where = f"{made_of.__name__}.from_checkpoint()"
        with budget.limited(**_size(checkpoint)):
            with rebuilder.telling(where):
                arguments = rebuilder.arguments(metadata[ARGUMENTS], of=made_of)
            for name in settings.keys() - rebuilder.used:
                raise UnknownArgumentError(
                    where,
                    f"the unknown setting {name!r}",
                    f"one of {sorted(rebuilder.known)}",
                    did_you_mean(name, rebuilder.known),
                )
            rebuilder.check(where)
            _warn_of_machine(where, rebuilder.dropped)
            with rebuilder.telling(where):
                made = made_of._rebuilt(arguments)
        with telling(str(checkpoint.path)):
            plan = made._plan_restore(state, [])
        matching.check(where, plan.problems)
        with telling(str(checkpoint.path)):
            report = plan.apply()
        made.restore_report = dataclasses.replace(
            report,
            path=str(checkpoint.path),
            skipped=tuple(map(str, checkpoint.skipped)),
            dropped=tuple(rebuilder.dropped),
        )
        made._take_settings(rebuilder.used)
        return made

    # Methods that subclasses may override.

    def _arguments_to_save(self) -> dict[str, Any]:
        """Returns the constructor arguments that files describe."""
        return self.get_ctor_args_and_kwargs()[1]

    def _get_state_to_save(self) -> StateDict:
        """Returns the state that goes to files."""
        return self.get_state()

    def _next_step(self, directory: CheckpointDirectory) -> int:
        """Returns the number of a new step, above all existing ones."""
        return directory.next_step()

    def _plan_restore(self, state: StateDict, component: list[str]) -> RestorePlan:
        """Returns the plan to restore a saved state, or the state of a component."""
        if component:
            first, *rest = component
            plan = self._part(first)._plan_restore(state, rest)
            return RestorePlan(plan.problems, lambda: plan.apply().below(first))
        before = self._state_before(state)
        parts = {
            name: part
            for name, part in self.get_checkpointable_components()
            if name in state
        }
        plans = {k: part._plan_restore(state[k], []) for k, part in parts.items()}
        problems = matching.problems_with_names(state, before)
        problems += [f"{k}: {p}" for k, plan in plans.items() for p in plan.problems]

        def apply() -> RestoreReport:
            known = {k: own for k, own in state.items() if k in before}
            report = RestoreReport.of_names(
                _without(state, parts), _without(before, parts)
            )
            try:
                for name, plan in plans.items():
                    report += plan.apply().below(name)
                self._set_own_state(_without(known, parts))
            except BaseException:
                for name, part in parts.items():
                    part._plan_restore(before[name], []).apply()
                self._set_own_state(_without(before, parts))
                raise
            return report

        return RestorePlan(problems, apply)

    def _state_before(self, state: StateDict) -> StateDict:
        """Returns the current values of the parts that a restore would replace."""
        return self.get_state()

    def _set_own_state(self, state: StateDict) -> None:
        """Replaces the state outside of components."""
        self.set_state(state)

    def _take_settings(self, names: Collection[str]) -> None:
        """Replaces saved settings by those that were given to `from_checkpoint`."""

    @classmethod
    def _given(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Returns the values given for arguments in the file, by name."""
        return settings

    @classmethod
    def _rebuilt(cls, arguments: dict[str, Any]) -> Self:
        return cls(**arguments)

    def _hint_of_parts(self, checkpoint: Checkpoint) -> str | None:
        """Returns a hint with the components of a checkpoint of a larger object."""
        for name, metadata in _parts(checkpoint.about).items():
            if _class(metadata) == name_of(type(self)):
                of = checkpoint.about.get(CLASS)
                return f"this is a checkpoint of {of!r}: pass component={name!r}"
        return None

    def _part(self, name: str) -> "Checkpointable":
        parts = dict(self.get_checkpointable_components())
        if name not in parts:
            raise UsageError(
                f"{type(self).__name__}.restore_from_path()",
                f"component {name!r}",
                f"one of {sorted(parts)}",
                did_you_mean(name, parts),
            )
        return parts[name]

    @classmethod
    def _saved_class(cls, name: str | None, rebuilder: Rebuilder) -> type[Self]:
        """Returns the class that was saved: this one or a subclass."""
        if name is None:
            raise UsageError(
                f"{cls.__name__}.from_checkpoint()",
                "a component that cannot be built by itself",
                hint="build the object that contains it",
            )
        try:
            saved: Any = rebuilder.builder(name)
        except BuilderError as error:
            raise BuilderError(
                f"{cls.__name__}.from_checkpoint()",
                f"a checkpoint of the unregistered class {name!r}",
                f"a checkpoint of {name_of(cls)!r}",
                "import that class and call its from_checkpoint",
            ) from error
        if not (isinstance(saved, type) and issubclass(saved, cls)):
            raise UsageError(
                f"{cls.__name__}.from_checkpoint()",
                f"a checkpoint of {name!r}",
                f"a checkpoint of {name_of(cls)!r} or a subclass",
                "name the component to build: component=...",
            )
        return saved


def _without(state: StateDict, parts: Collection[str]) -> StateDict:
    return {name: own for name, own in state.items() if name not in parts}


@contextlib.contextmanager
def telling(where: str) -> Iterator[None]:
    """Turns errors that a malformed state causes into `CheckpointMismatchError`."""
    try:
        yield
    except TFLearnerError:
        raise
    except (MemoryError, OSError) as error:
        raise CheckpointError(where, f"{type(error).__name__}: {error}") from error
    except Exception as error:
        raise CheckpointMismatchError(
            where,
            f"a state of another form ({type(error).__name__}: {error})",
        ) from error


def _warn_of_machine(where: str, dropped: Mapping[str, Any]) -> None:
    """Warns of machine settings in a file, which this library never writes."""
    marked = (isinstance(own, dict) and GIVEN in own for own in dropped.values())
    foreign = [path for path, is_marked in zip(dropped, marked) if not is_marked]
    if foreign:
        warnings.warn(
            f"{where}: the file sets {', '.join(foreign)}. Settings that belong to a "
            "machine are not read from files; pass them to from_checkpoint() instead.",
            stacklevel=3,
        )


def _size(checkpoint: Checkpoint) -> dict[str, int]:
    """Returns the size of a checkpoint, as arguments of `budget.limited`."""
    files = checkpoint.manifest["files"].values()
    return {
        "num_bytes": sum(file["bytes"] for file in files),
        "num_arrays": _num_arrays(checkpoint.state),
    }


def _num_arrays(state: Any) -> int:
    if isinstance(state, dict):
        return sum(map(_num_arrays, state.values()))
    if isinstance(state, list | tuple):
        return sum(map(_num_arrays, state))
    return isinstance(state, np.ndarray)


def _names(component: str | None) -> list[str]:
    return component.split("/") if component else []


def _about(checkpoint: Checkpoint, names: list[str]) -> dict[str, Any]:
    metadata = checkpoint.about
    for name in names:
        metadata = _parts(metadata).get(name, {})
    return metadata


def _parts(metadata: Any) -> dict[str, Any]:
    """Returns the metadata of components; an empty dict if they are malformed."""
    parts = metadata.get(COMPONENTS) if isinstance(metadata, dict) else None
    return parts if isinstance(parts, dict) else {}


def _class(metadata: Any) -> Any:
    return metadata.get(CLASS) if isinstance(metadata, dict) else None


def _below(checkpoint: Checkpoint, names: list[str]) -> StateDict:
    state: Any = checkpoint.state
    for depth, name in enumerate(names):
        if not isinstance(state, dict) or name not in state:
            known = sorted(state) if isinstance(state, dict) else []
            raise CheckpointMismatchError(
                str(checkpoint.path),
                f"no component {'/'.join(names[: depth + 1])!r}",
                f"one of {known}",
                did_you_mean(name, known),
            )
        state = state[name]
    return state
