"""State of a learner: read, replaced, saved and restored."""

import contextlib
import copy
from collections.abc import Collection, Iterator
from typing import cast

import numpy as np
import tree

from tflearner import constants
from tflearner.checkpoint.checkpointable import Checkpointable
from tflearner.checkpoint.components import Components
from tflearner.checkpoint.kinds import CONFIG, LEARNER, SPEC, of_kind
from tflearner.checkpoint.restoring import RestorePlan, RestoreReport
from tflearner.constants import DEFAULT_OPTIMIZER
from tflearner.engine import optimizers
from tflearner.errors import ModuleError, TFLearnerError, UsageError
from tflearner.learner import generators
from tflearner.learner.module_owner import ModuleOwner
from tflearner.learner.restoring import (
    ALL_COMPONENTS,
    OF_THE_WEIGHTS,
    SHOULD_BE_UPDATED,
    Restoring,
    check_kinds,
    checked_state,
    problems_of_learner,
)
from tflearner.types import StateDict

_WEIGHTS = constants.COMPONENT_RL_MODULE
_OPTIMIZER = constants.COMPONENT_OPTIMIZER
_LEARNER = constants.COMPONENT_LEARNER
_CONNECTOR = constants.COMPONENT_LEARNER_CONNECTOR


@of_kind(LEARNER, takes={"config": (CONFIG,), "module_spec": (SPEC,)})
class LearnerState(ModuleOwner, Checkpointable):
    """The part of `Learner` that saves and restores its state.

    Args:
        **kwargs: As for `Learner`.
    """

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        inference_only: bool = False,
    ) -> StateDict:
        """Returns the learner's state as NumPy arrays and plain Python.

        Args:
            components: Which of "rl_module", "optimizer", "metrics_logger", "learner"
                (what else the next update depends on) and "learner_connector" (if it
                has a state), or one module as "rl_module/<id>"; `None` is all of them.
            not_components: Components to exclude.
            inference_only: Whether to exclude weights that acting does not need.

        Raises:
            UsageError: For a component that does not exist.
        """
        self._check_is_built()
        selected = Components(components, not_components)
        selected.check(ALL_COMPONENTS, with_parts=(_WEIGHTS,))
        state: StateDict = {
            SHOULD_BE_UPDATED: copy.copy(self.config.policies_to_train),
            constants.WEIGHTS_SEQ_NO: self._counters.weights_seq_no,
        }
        if selected.include(_WEIGHTS):
            below = selected.below(_WEIGHTS)
            state[_WEIGHTS] = self.module.get_state(
                components=below.wanted,
                not_components=below.unwanted,
                inference_only=inference_only,
            )
        if selected.include(_OPTIMIZER):
            state[_OPTIMIZER] = self._get_optimizer_state()
        if selected.include(constants.COMPONENT_METRICS_LOGGER):
            state[constants.COMPONENT_METRICS_LOGGER] = self.metrics.get_state()
        if selected.include(_LEARNER):
            state[_LEARNER] = self._get_learner_state()
        connector = self._learner_connector
        if selected.include(_CONNECTOR) and connector and connector.has_state:
            state[_CONNECTOR] = connector.get_state()
        return state

    def set_state(self, state: StateDict, *, force: bool = False) -> dict[str, list]:
        """Restores a learner's state, or module weights alone.

        Args:
            state: From `get_state`, with any components; or {module id: weights}; or a
                whole `get_state(components="rl_module")` under "rl_module".
            force: Whether older weights replace newer ones. Otherwise a state whose
                `weights_seq_no` is lower than the learner's changes no weights, no
                optimizer, no schedule and no number.

        Returns:
            {"applied": [components], "ignored": [components]}.

        Raises:
            UsageError: If `state` is not a state, or belongs to another class of
                learner.
            ModuleError: If weights do not fit.
            UnknownModuleError: If a module is not in this learner.
            OptimizerError: If optimizer state does not fit. Nothing is changed then.
        """
        self._check_is_built()
        state = checked_state(state, self.module)
        seq_no = state.get(constants.WEIGHTS_SEQ_NO)
        is_older = (
            seq_no is not None and seq_no < self._counters.weights_seq_no and not force
        )
        ignored = [name for name in state if is_older and name in OF_THE_WEIGHTS]
        applied = {name: own for name, own in state.items() if name not in ignored}
        with self._unchanged_on_error(self.get_state()):
            self._check_state(applied)
            self._apply_state(applied)
        ignored = [name for name in ignored if name != constants.WEIGHTS_SEQ_NO]
        return {"applied": [*applied], "ignored": ignored}

    @contextlib.contextmanager
    def _unchanged_on_error(self, before: StateDict) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._apply_state(before)
            if isinstance(error, TFLearnerError) or not isinstance(error, Exception):
                raise
            raise UsageError(
                "set_state()", f"{type(error).__name__}: {error}", "a get_state() dict"
            ) from error

    def _check_state(self, state: StateDict) -> None:
        """Raises for invalid weights or optimizers, before any is set."""
        weights = state.get(_WEIGHTS, {})
        self.module.check_state(weights)
        for path, weight in tree.flatten_with_path(weights):
            if isinstance(weight, np.ndarray) and not _is_finite(weight):
                raise ModuleError(
                    f"module {path[0]!r}, weight {path[-1]!r}",
                    "non-finite numbers",
                    "finite ones",
                )
        if _OPTIMIZER in state:
            self._optimizers.check_state(state[_OPTIMIZER], self._weight_keys())
        if _LEARNER in state:
            own = self._get_learner_state()
            problems = problems_of_learner(state[_LEARNER], own)
            if problems:
                raise UsageError(
                    "set_state(), 'learner'",
                    "; ".join(problems),
                    "the state of a learner of this class",
                )

    def _apply_state(self, state: StateDict) -> None:
        if SHOULD_BE_UPDATED in state:
            self.config.multi_agent(policies_to_train=state[SHOULD_BE_UPDATED])
            self.config.validate()
        if _WEIGHTS in state:
            self.module.set_state(state[_WEIGHTS])
        if _OPTIMIZER in state:
            self._set_optimizer_state(state[_OPTIMIZER])
        if _LEARNER in state:
            self._set_learner_state(state[_LEARNER])
        if constants.COMPONENT_METRICS_LOGGER in state:
            metrics = state[constants.COMPONENT_METRICS_LOGGER]
            self.metrics.replace_state(metrics)
        if _CONNECTOR in state and self._learner_connector is not None:
            self._learner_connector.set_state(state[_CONNECTOR])
        self._counters.weights_seq_no = state.get(
            constants.WEIGHTS_SEQ_NO, self._counters.weights_seq_no
        )

    def _get_learner_state(self) -> StateDict:
        """Returns the learner's own state, without weights and optimizers.

        Override to add to it, as arrays and plain Python.
        """
        return {**self._counters.get_state(), "generators": self._rng_states()}

    def _set_learner_state(self, state: StateDict) -> None:
        """Restores the state of `_get_learner_state`. Override to add to it."""
        self._counters.set_state(state)
        self._set_rng_states(state["generators"])

    def _get_optimizer_state(self):
        return self._optimizers.get_state(self._weight_keys())

    def _set_optimizer_state(self, state):
        self._optimizers.set_state(state, self._weight_keys())

    _set_optimizer_lr = staticmethod(
        lambda optimizer, lr: optimizers.set_learning_rate(optimizer, lr)
    )

    def _rng_states(self):
        modules = {mid: own.unwrapped() for mid, own in self.module.items()}
        return {
            constants.COMPONENT_LEARNER: generators.states(self),
            constants.COMPONENT_RL_MODULE: {
                mid: generators.states(own) for mid, own in modules.items()
            },
        }

    def _set_rng_states(self, states):
        generators.set_states(self, states[constants.COMPONENT_LEARNER])
        for mid, own in states[constants.COMPONENT_RL_MODULE].items():
            if mid in self.module:
                generators.set_states(self.module[mid].unwrapped(), own)

    # Files.

    def _build_if_new(self) -> None:
        # Not `build()` alone: what an own class does there would be done again.
        if not self._check_is_built(error=False):
            self.build()

    def get_ctor_args_and_kwargs(self):
        return (), {
            "config": self.config,
            "module_spec": self._module_spec,
            "module": self._module_obj,
        }

    def get_checkpointable_components(self):
        self._build_if_new()
        return [
            (_WEIGHTS, self.module),
            (constants.COMPONENT_METRICS_LOGGER, self.metrics),
        ]

    def _arguments_to_save(self):
        # The specification describes a module that was given as an object, too.
        return {**super()._arguments_to_save(), "module": None}

    def _get_state_to_save(self):
        self._build_if_new()
        return self.without_functions(self.get_state())

    @staticmethod
    def without_functions(state: StateDict) -> StateDict:
        """Returns a learner's state for a file, without `policies_to_train`.

        That is a setting, and `from_checkpoint` has to be given it again.
        """
        if callable(state.get(SHOULD_BE_UPDATED)):
            return {k: own for k, own in state.items() if k != SHOULD_BE_UPDATED}
        return state

    def _take_settings(self, names):
        if "lr" not in names:
            return
        for record in self._optimizers.values():
            if record.schedule is not None:
                rate = record.schedule.update(timestep=self._counters.timestep)
                self._set_optimizer_lr(record.optimizer, lr=cast(float, rate))
            elif record.name == DEFAULT_OPTIMIZER:
                config = self.config.get_config_for_module(record.module_id)
                self._set_optimizer_lr(record.optimizer, lr=cast(float, config.lr))

    @classmethod
    def _given(cls, settings):
        # A module that is given needs neither specification nor model.
        has_module = settings.get("module") is not None
        return (
            {"module_spec": None, "model": None, **settings} if has_module else settings
        )

    @classmethod
    def _rebuilt(cls, arguments):
        learner = cls(**arguments)
        learner.build()
        return learner

    def _plan_restore(self, state, component):
        self._build_if_new()
        if component and component[0] != _WEIGHTS:
            return super()._plan_restore(state, component)
        own = self.get_state()
        given = own, state
        if component:  # The weights of all modules, or of one.
            given = {_WEIGHTS: own[_WEIGHTS]}, {_WEIGHTS: state}
            for module_id in component[1:]:
                mine = {m: w for m, w in own[_WEIGHTS].items() if m == module_id}
                given = {_WEIGHTS: mine}, {_WEIGHTS: {module_id: state}}
        restoring = Restoring.plan(*given, self._optimizers, self._weight_keys())
        check_kinds(type(self).__name__, restoring.state)
        connector, problems = None, restoring.problems
        if _CONNECTOR in restoring.state and self._learner_connector is not None:
            pieces = restoring.state.pop(_CONNECTOR)
            connector = self._learner_connector._plan_restore(pieces, [])
            problems = problems + connector.problems
        if component:  # Whoever acts with the weights has to take note of new ones.
            restoring.state[constants.WEIGHTS_SEQ_NO] = (
                self._counters.weights_seq_no + 1
            )

        def apply() -> RestoreReport:
            with self._unchanged_on_error(own):
                self._apply_state(restoring.state)
                for record in restoring.stale:
                    optimizers.reset(record)
                if connector is None:
                    return restoring.report
                return restoring.report + connector.apply().below(_CONNECTOR)

        return RestorePlan(problems, apply)


def _is_finite(weight: np.ndarray) -> bool:
    if weight.dtype.kind != "f":
        return True
    with np.errstate(over="ignore"):  # A finite float64 may be too large for float32.
        return bool(np.isfinite(weight.astype(np.float32, copy=False)).all())
