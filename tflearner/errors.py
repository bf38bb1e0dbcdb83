"""The errors that tflearner raises.

Every error names the place, the value it got, the value it wants and, if possible, a
hint. It also promises that nothing was changed:

    module 'p0', column 'obs': got float32 (32, 5), want float32 (32, 4).
    Nothing was changed. Hint: ...

Each class also derives from the built-in error that people expect in its place.
"""

import difflib
from collections.abc import Iterable

_LONGEST = 300  # The most characters of a value in an error.


class TFLearnerError(Exception):
    """Base class of all errors that tflearner raises.

    Args:
        where: The module, column, setting or call with the error.
        got: The value or type received.
        want: The value, type or range expected; `None` if `got` is enough.
        hint: Advice on how to fix the error.
        unchanged: Whether the text may promise that nothing was changed.

    Control characters, such as escape codes from a file, are escaped, so that they have
    no effect in a terminal.
    """

    _kept = "\n"  # Unprintable characters that are not escaped.

    def __init__(
        self,
        where: str,
        got: str,
        want: str | None = None,
        hint: str | None = None,
        *,
        unchanged: bool = True,
    ):
        where, got = printable(where, self._kept), printable(got, self._kept)
        want, hint = (part and printable(part, self._kept) for part in (want, hint))
        self.where, self.got, self.want, self.hint = where, got, want, hint
        text = f"{where}: got {got}" if want is not None else f"{where}: {got}"
        text += f", want {want}." if want is not None else "."
        text += " Nothing was changed." if unchanged else ""
        text += f" Hint: {hint}" if hint else ""
        super().__init__(text)

    def withdraw_promise(self, fact: str) -> None:
        """Replaces the promise that nothing was changed by a fact."""
        self.args = (self.args[0].replace("Nothing was changed.", fact),)

    def __str__(self) -> str:  # KeyError would show the repr of the text.
        return str(self.args[0])

    def __reduce__(self):
        return (_rebuild, (type(self), self.args[0], self.__dict__))


def _rebuild(cls, text, state):
    error = cls.__new__(cls)
    Exception.__init__(error, text)
    error.__dict__.update(state)
    return error


class UsageError(TFLearnerError, ValueError):
    """A method was called at the wrong time or with arguments that do not fit."""


class ForkedProcessError(TFLearnerError, RuntimeError):
    """A call that needs TensorFlow in a process forked after TensorFlow was used."""


class UnknownArgumentError(UsageError, TypeError):
    """A keyword argument that the method does not take."""


class ConfigError(TFLearnerError, ValueError):
    """A setting that is unknown, invalid or contradicts another one."""


class FrozenConfigError(ConfigError, AttributeError):
    """An attempt to change a frozen config."""


class SpaceError(ConfigError):
    """An observation or action space that is not supported."""


class BatchError(TFLearnerError, ValueError):
    """A batch that cannot be trained on."""


class ModuleError(TFLearnerError, ValueError):
    """A module, or its specification, that cannot be used."""


class ModuleBuildError(ModuleError):
    """A module whose constructor raised an error, which is the cause."""


class LostDataError(BatchError):
    """Deferred data that are lost; raise it in a function that returns the data.

    Args:
        reason: Why the data are lost.
    """

    def __init__(self, reason: str = "lost"):
        super().__init__("deferred data", reason)


class NoTrainingDataError(BatchError):
    """An update whose deferred data are all lost."""


class UnknownModuleError(BatchError, KeyError):
    """A module id that is not in the learner."""


class OptimizerError(TFLearnerError, ValueError):
    """An optimizer, or its registration, that cannot be used."""


class ScheduleError(TFLearnerError, ValueError):
    """A schedule that is not a number or a list of ascending points."""


class LossError(TFLearnerError, ValueError):
    """A loss that cannot be differentiated."""


class NumericError(TFLearnerError, ArithmeticError):
    """Non-finite numbers where finite ones are required."""


class NonFiniteUpdateError(NumericError):
    """Too many gradient steps in a row were skipped as non-finite.

    Attributes:
        module_id: The module whose steps were skipped; its weights are unchanged.
        num_steps: The number of skipped steps.
        minibatch: The number of the minibatch of the first skipped step; `None` if that
            was in an earlier batch.
        first_bad: A description of the first non-finite tensor of a step.
    """

    def __init__(
        self,
        *text,
        module_id=None,
        num_steps=None,
        minibatch=None,
        first_bad=None,
        **keywords,
    ):
        super().__init__(*text, **keywords)
        self.module_id, self.num_steps = module_id, num_steps
        self.minibatch, self.first_bad = minibatch, first_bad


class WorkerLostError(TFLearnerError, ConnectionError):
    """The loss of a process that learned together with this one."""


class CheckpointError(TFLearnerError, OSError):
    """A checkpoint that cannot be written or read."""

    _kept = ""  # Text on a new line could be mistaken for another message.


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """No committed checkpoint where one was expected."""


class CheckpointCorruptError(CheckpointError):
    """A checkpoint whose files differ from what was written."""


class CheckpointVersionError(CheckpointError):
    """A checkpoint in a format that this version cannot read.

    Attributes:
        found: The format of the checkpoint.
        supported: The oldest and the newest format that can be read.
    """

    def __init__(self, *text, found=None, supported=None, **keywords):
        super().__init__(*text, **keywords)
        self.found, self.supported = found, supported


class CheckpointLockedError(CheckpointError):
    """A directory in which another process or thread is saving.

    Attributes:
        pid: The id of that process. Each attribute is `None` if it is unknown.
        host: The machine of that process.
        since: The start of the save, in UTC, as ISO 8601.
    """

    def __init__(self, *text, pid=None, host=None, since=None, **keywords):
        super().__init__(*text, **keywords)
        self.pid, self.host, self.since = pid, host, since


class StepExistsError(CheckpointError, FileExistsError):
    """A checkpoint step that exists; steps are never overwritten."""


class DiskFullError(CheckpointError):
    """Too little space for a checkpoint.

    Attributes:
        need: The bytes that the checkpoint takes.
        free: The free bytes.
    """

    def __init__(self, *text, need=None, free=None, **keywords):
        super().__init__(*text, **keywords)
        self.need, self.free = need, free


class NonFiniteStateError(CheckpointError, ArithmeticError):
    """A state with NaN or infinite numbers in its arrays."""


class CheckpointMismatchError(CheckpointError, ValueError):
    """A checkpoint that does not fit the object it is loaded into."""


class BuilderError(CheckpointError, ValueError):
    """A checkpoint that cannot be rebuilt with the builders and settings given."""


class EnvError(TFLearnerError, RuntimeError):
    """An environment that cannot be made or used."""


class EnvStepError(EnvError):
    """An environment that raised in `reset` or `step`."""


class EnvContractError(EnvError, ValueError):
    """An environment that broke the rules of its spaces or of gymnasium."""


class ExportError(TFLearnerError, ValueError):
    """A policy that cannot be exported, or whose export would act differently."""


def own_error(error: BaseException | None) -> TFLearnerError | None:
    """Returns the error of this library that caused another error, such as Keras'."""
    while error is not None and not isinstance(error, TFLearnerError):
        error = error.__cause__ or error.__context__
    return error


def printable(text: str, kept: str = "\n") -> str:
    r"""Returns a text with its unprintable characters escaped.

    >>> printable("red\x1b[31m")
    'red\\x1b[31m'

    Args:
        text: The text, which may come from a file.
        kept: Unprintable characters that are not escaped.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in kept else ascii(char)[1:-1]
        for char in text
    )


def shown(value: object) -> str:
    """Returns the shortened repr of a value; its type if the repr fails.

    >>> shown("a" * 1000)[-10:], shown(10**5000)
    ('aaaaaaa...', 'an object of type int')
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - an int of thousands of digits, for example.
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def did_you_mean(name: object, known: Iterable[object]) -> str | None:
    """Returns a hint with the closest known name, or `None` if none is close.

    >>> did_you_mean("clip_parm", ["clip_param", "gamma"])
    "did you mean 'clip_param'?"
    """
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f"did you mean {close[0]!r}?" if close else None
