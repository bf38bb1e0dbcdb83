"""The state of a run: saved during training, and restored to continue elsewhere."""

import math
import os
import pathlib
import reprlib
from collections.abc import Collection
from typing import Any

import numpy as np

from tflearner.checkpoint import matching, steps
from tflearner.checkpoint.background import BackgroundSaver
from tflearner.checkpoint.checkpointable import Checkpointable, telling
from tflearner.checkpoint.components import Components
from tflearner.checkpoint.directory import CheckpointDirectory, check_is_no_export
from tflearner.checkpoint.kinds import ALGORITHM, CONFIG, of_kind
from tflearner.checkpoint.restoring import RestorePlan, RestoreReport
from tflearner.checks import is_int
from tflearner.config import AlgorithmConfig
from tflearner.constants import (
    COMPONENT_ENV_RUNNER,
    COMPONENT_LEARNER,
    COMPONENT_RL_MODULE,
)
from tflearner.env.env_runner import EnvRunner
from tflearner.errors import BuilderError, CheckpointError, TFLearnerError
from tflearner.reporting.checkpoint_callback import warn_not_saved
from tflearner.reporting.history import History
from tflearner.reporting.run_directory import DEFAULT_PARENT, make_run_directory
from tflearner.types import StateDict

# Settings that a learner changes when modules come and go.
_OF_MODULES = (
    "policies",
    "policies_to_train",
    "rl_module_spec",
    "algorithm_config_overrides_per_module",
)
_MAX_COUNT = 2**53
_COUNTERS = {
    **dict.fromkeys(("iteration", "num_evaluations", "num_saves"), _MAX_COUNT),
    "run_seed": 2**1024,
}
CHECKPOINTS = "checkpoints"  # The directory of them inside a run's.


@of_kind(ALGORITHM, takes={"config": (CONFIG,)})
class AlgorithmState(Checkpointable):
    """The part of `Algorithm` that saves a run, and continues it.

    Saving ends the running episodes, as truncated, and the next sampling resets every
    environment with a seed made from the run's seed and the number of saves: in this
    run as in one that resumes from the files. So both see the same data then.

    Args:
        config: The settings.
    """

    config: AlgorithmConfig
    learner: Any
    env_runner: EnvRunner
    _env_name: str  # The environment's name in output.

    def __init__(self, config: AlgorithmConfig):
        self.config = config
        self._iteration = 0
        self._seconds = 0.0
        self._num_evaluations = 0
        self._num_saves = 0
        # Without a seed in the config the run has one all the same: the one it drew.
        self._run_seed = np.random.SeedSequence(config.seed).entropy
        self._run_directory: pathlib.Path | None = None
        self._saver: BackgroundSaver | None = None
        self._history = History()  # Of the iterations that `fit` ran.
        self._last_save = (0, "")  # The iteration after which it was, and its path.

    @property
    def _name(self) -> str:
        return type(self).__name__

    def save(
        self,
        path: str | os.PathLike | None = None,
        *,
        keep: int | None = None,
        background: bool = False,
    ) -> str:
        """Saves everything that the run continues with, as a new checkpoint.

        Running episodes end here, as truncated; see `from_checkpoint` for the way back.

        Args:
            path: A directory of checkpoints, made if need be; by default "checkpoints"
                in the directory of this run.
            keep: How many checkpoints to leave there; `None` leaves all.
            background: Whether to write on a thread, so that training continues once
                the state is copied. An error is raised by the next `save`, which saves
                all the same, or by `wait_until_saved` or `stop`.

        Returns:
            The directory of the checkpoint, "step-<number>": the environment steps so
            far, or more where there is such a number already.

        Raises:
            CheckpointError: If it cannot be written. Those before are as they were.
            UsageError: If the path has the suffix of an export, such as ".keras".
        """
        check_is_no_export("save()", path)
        if path is None:
            path = self._directory() / CHECKPOINTS
        failed = self._error_of_last_save()
        if background:
            saved = self._save_in_background(path, keep)
        else:
            saved = self.save_to_path(path, keep=keep)
        self._last_save = self._iteration, saved
        if failed is not None:
            raise failed
        return saved

    def _save_in_background(self, path: str | os.PathLike, keep: int | None) -> str:
        if self._saver is None:
            self._saver = BackgroundSaver()
        state = self._get_state_to_save()  # Ends episodes, even if saving fails.
        directory = CheckpointDirectory(path, keep=keep)
        step = self._next_step(directory)
        self._saver.save(directory, state, self.get_metadata(), step=step)
        return str(directory.path / steps.name_of(step))

    def _error_of_last_save(self) -> TFLearnerError | None:
        """Waits for the thread that saves; returns why it could not."""
        try:
            if self._saver is not None:
                self._saver.wait()
        except TFLearnerError as error:
            self._last_save = (0, "")
            return error
        return None

    def wait_until_saved(self) -> None:
        """Waits for a save in the background.

        Raises:
            CheckpointError: If it failed.
        """
        error = self._error_of_last_save()
        if error is not None:
            raise error

    def _warn_unless_saved(self) -> None:
        error = self._error_of_last_save()
        if error is not None:
            warn_not_saved(error)

    def _saved_after_this_iteration(self) -> str:
        """Returns the path of a checkpoint of this moment, saved now if need be.

        Warns and returns nothing if it cannot be.
        """
        iteration, path = self._last_save
        if path and iteration == self._iteration:
            return path
        try:
            return self.save()
        except TFLearnerError as error:
            warn_not_saved(error)
            return ""

    def _directory(self) -> pathlib.Path:
        """The directory of this run, made when it is needed first."""
        if self._run_directory is None:
            self._run_directory = self._make_run_directory("save()", CheckpointError)
        return self._run_directory

    def _make_run_directory(
        self,
        where: str,
        error_class: type[TFLearnerError],
        log_dir: str | os.PathLike | None = None,
    ) -> pathlib.Path:
        """Returns a new directory for this run, or raises an error of the class."""
        try:
            made = make_run_directory(self._name.lower(), self._env_name, log_dir)
            return made.absolute()
        except (OSError, TypeError, ValueError, RuntimeError) as error:
            got = DEFAULT_PARENT if log_dir is None else log_dir
            why = getattr(error, "strerror", None) or error
            raise error_class(
                where,
                f"log_dir={reprlib.repr(got)} ({why})",
                "a directory that exists or can be made, and takes files",
                "an absolute path works wherever the current directory is",
            ) from error

    @property
    def num_env_steps_sampled_lifetime(self) -> int:
        """Environment steps sampled so far."""
        raise NotImplementedError

    # The state.

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
    ) -> StateDict:
        """Returns the state of the run as NumPy arrays and plain Python.

        Args:
            components: Which of "learner" and "env_runner", or paths below the learner
                such as "learner/rl_module"; `None` is all of them.
            not_components: Components to exclude.
        """
        parts = dict(self.get_checkpointable_components())
        selected = Components(components, not_components)
        selected.check([*parts], with_parts=(COMPONENT_LEARNER,))
        state: StateDict = {
            "iteration": self._iteration,
            "seconds": self._seconds,
            "num_evaluations": self._num_evaluations,
            "num_saves": self._num_saves,
            "run_seed": self._run_seed,
        }
        for name, part in parts.items():
            if not selected.include(name):
                continue
            below = selected.below(name)
            unwanted = below.unwanted
            if name == COMPONENT_ENV_RUNNER:  # Its module is the learner's.
                unwanted = (COMPONENT_RL_MODULE,)
            state[name] = part.get_state(below.wanted, not_components=unwanted)
        return state

    def set_state(self, state: StateDict) -> None:
        """Replaces what `state` holds, or nothing, and starts new episodes.

        Raises:
            CheckpointMismatchError: If it is no state of such a run.
        """
        before = self.get_state()
        where = f"{self._name}.set_state()"
        with telling(where):
            unknown = [f"unexpected {name!r}" for name in state if name not in before]
            matching.check(where, unknown + self._faults_of_own(state))
            try:
                for name, part in self.get_checkpointable_components():
                    if name in state:
                        force = {"force": True} if part is self.learner else {}
                        part.set_state(state[name], **force)
                self._set_own_state(state)
            except BaseException:
                super()._plan_restore(before, []).apply()
                raise
        if "iteration" in state:
            self._history = History()
        self._end_episodes()

    def get_ctor_args_and_kwargs(self):
        return (), {"env": None, "config": self.config}

    def get_checkpointable_components(self):
        return [
            (COMPONENT_LEARNER, self.learner),
            (COMPONENT_ENV_RUNNER, self.env_runner),
        ]

    # Files.

    def _arguments_to_save(self):
        config = self.config.copy(copy_frozen=False)
        for name in _OF_MODULES:
            setattr(config, name, getattr(self.learner.config, name))
        return {"config": config}

    @classmethod
    def _rebuilt(cls, arguments):
        if [*arguments] != ["config"]:  # Others would go around the config's checks.
            raise BuilderError(
                f"{cls.__name__}.from_checkpoint()",
                f"arguments {sorted(arguments)} in the file",
                "'config' alone",
            )
        return cls(**arguments)

    def _get_state_to_save(self):
        self._warn_unless_saved()  # Two saves at a time would meet at the lock.
        with self.learner._turns.take():  # Not during a step of another thread.
            self._num_saves += 1
            self._end_episodes()
            state = self.get_state()
        learner = self.learner.without_functions(state[COMPONENT_LEARNER])
        return {**state, COMPONENT_LEARNER: learner}

    def _next_step(self, directory):
        return directory.next_step(self.num_env_steps_sampled_lifetime)

    def _end_episodes(self) -> None:
        entropy = np.random.SeedSequence(self._run_seed, spawn_key=(self._num_saves,))
        self.env_runner.end_episodes(int(entropy.generate_state(1)[0]) >> 1)

    def _plan_restore(self, state, component):
        plan = super()._plan_restore(state, component)

        def apply() -> RestoreReport:
            report = plan.apply()
            self._last_save = (0, "")
            if not component:
                self._history = History()
                self._end_episodes()
            return report

        faults = [] if component else self._faults_of_own(state)
        return RestorePlan(plan.problems + faults, apply)

    def _take_settings(self, names):
        self.learner._take_settings(names)

    def _faults_of_own(self, state: StateDict) -> list[str]:
        """Returns what is wrong with what is no component."""
        return _faults_of_counters(state)

    def _set_own_state(self, state):
        self._iteration = state.get("iteration", self._iteration)
        self._seconds = state.get("seconds", self._seconds)
        self._num_evaluations = state.get("num_evaluations", self._num_evaluations)
        self._num_saves = state.get("num_saves", self._num_saves)
        self._run_seed = state.get("run_seed", self._run_seed)


def _faults_of_counters(state: StateDict) -> list[str]:
    """Returns the faults in the counters of a run's state."""
    faults = [
        f"{name!r} is no count"
        for name, most in _COUNTERS.items()
        if name in state and not is_int(state[name], 0, most - 1)
    ]
    seconds = state.get("seconds", 0.0)
    is_time = type(seconds) is float and 0.0 <= seconds < math.inf
    if not is_time and not is_int(seconds, 0, _MAX_COUNT - 1):
        faults.append("'seconds' is no time")
    return faults
