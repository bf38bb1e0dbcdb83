"""Learns from transitions, towards targets that networks of their own bootstrap."""

from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tflearner import constants
from tflearner.columns import Columns
from tflearner.constants import ALL_MODULES
from tflearner.engine.optimizers import tf_variable
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.apis import QF_PREDS, QNetAPI, TargetNetworkAPI
from tflearner.modules.target_networks import follow, update_target_network
from tflearner.types import ModuleID, Tensor


class OffPolicyTfLearner(TfLearner):
    """Base class of learners that learn from transitions, as DQN and SAC do.

    Subclasses override `compute_loss_for_module`. In it they report the TD errors that
    become priorities of a replay buffer: `self.put_out_td_errors(module_id, errors,
    terms)`.

    A row is a transition over `n_step` steps: OBS, ACTIONS, the discounted sum of the
    rewards in REWARDS, NEXT_OBS after the last step, and TERMINATEDS. N_STEP and
    WEIGHTS are 1 unless they are given. The learner converts episodes to such rows.

    If `target_network_update_freq` is 0, target networks are updated with `tau` after
    every gradient step, in the traced loop, except after skipped non-finite steps.
    Otherwise they are updated after updates, whenever that many environment steps were
    sampled since the last time. Without `timesteps`, an update counts the steps it has
    trained on instead.
    """

    config: Any
    metric_labels: ClassVar = {
        **TfLearner.metric_labels,
        constants.QF_LOSS_KEY: "q",
        constants.QF_MEAN_KEY: "q mean",
    }

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        # Environment steps at the last update of a module's target networks.
        self._target_updates: dict[ModuleID, int] = {}

    def _tear_down_module(self, module_id: ModuleID) -> None:
        super()._tear_down_module(module_id)
        self._target_updates.pop(module_id, None)

    def complete_columns(self, module_id, columns):
        columns = super().complete_columns(module_id, columns)
        rewards = columns.get(Columns.REWARDS)
        if rewards is None:  # A module that brings a loss of its own may need none.
            return columns
        for name in (Columns.N_STEP, Columns.WEIGHTS):
            if name not in columns:
                columns[name] = np.ones(rewards.shape, np.float32)
        return columns

    def put_out_td_errors(
        self, module_id: ModuleID, errors: Tensor, terms: dict[str, Tensor]
    ) -> None:
        """Logs the terms of a loss, and hands the error of each row to `row_outputs`.

        Args:
            module_id: The module.
            errors: float [B], for priorities.
            terms: Scalars by name; `QF_MIN_KEY` and `QF_MAX_KEY` are extremes.
        """
        self.put_out_rows(module_id, constants.TD_ERROR_KEY, errors)
        reductions = {constants.QF_MIN_KEY: "min", constants.QF_MAX_KEY: "max"}
        for name, value in terms.items():
            reduce = reductions.get(name, "mean")
            self.metrics.log_value((module_id, name), value, reduce=reduce, window=1)

    # Target networks.

    def _after_gradient_step(self, is_healthy):
        super()._after_gradient_step(is_healthy)
        variables: list[tf.Variable] = []
        values: list[Tensor] = []
        for module_id, healthy in is_healthy.items():
            config = self.config.get_config_for_module(module_id)
            pairs = self._target_network_pairs(module_id)
            if config.target_network_update_freq or not pairs:
                continue
            for main, target in pairs:
                for new, old in zip(main.weights, target.weights):
                    new, old = tf_variable(new), tf_variable(old)
                    variables.append(old)
                    moved = follow(new, old, config.tau)
                    values.append(tf.where(healthy, moved, old))
            # Every replica counts the same step.
            moves = tf.where(healthy, 1.0 / self._replicas.num, 0.0)
            key = (module_id, constants.NUM_TARGET_UPDATES)
            self.metrics.log_value(key, moves, reduce="sum")
        self._replicas.assign(variables, values)

    def _after_undone_steps(self, module_id, outputs, num_steps):
        super()._after_undone_steps(module_id, outputs, num_steps)
        key = (module_id, constants.NUM_TARGET_UPDATES)
        if key in outputs.values:
            outputs.values[key] = np.zeros(num_steps, np.float32)

    def after_gradient_based_update(self, *, timesteps):
        super().after_gradient_based_update(timesteps=timesteps)
        now = self._counters.timestep or self._num_steps_trained()
        for module_id in self.module:
            config = self.config.get_config_for_module(module_id)
            pairs = self._target_network_pairs(module_id)
            last = self._target_updates.get(module_id, 0)
            if now < last:  # Counted by another clock, or by one that was set back.
                last = self._target_updates[module_id] = now
            passed = now - last
            frequency = config.target_network_update_freq
            if not pairs or not 0 < frequency <= passed:
                continue
            for main, target in pairs:
                update_target_network(main_net=main, target_net=target, tau=config.tau)
            self._target_updates[module_id] = now
            key = (module_id, constants.NUM_TARGET_UPDATES)
            self.metrics.log_value(key, 1, reduce="sum")
            key = (module_id, constants.LAST_TARGET_UPDATE_TS)
            self.metrics.log_value(key, now, window=1)

    def _target_network_pairs(self, module_id: ModuleID) -> list[tuple[Any, Any]]:
        module = self.module[module_id].unwrapped()
        if not isinstance(module, TargetNetworkAPI):
            return []
        return module.get_target_network_pairs()

    def _num_steps_trained(self) -> int:
        key = (ALL_MODULES, constants.NUM_ENV_STEPS_TRAINED_LIFETIME)
        return int(self.metrics.peek(key, default=0))

    # State and requirements.

    def _get_learner_state(self):
        own = {"target_updates": dict(self._target_updates)}
        return {**super()._get_learner_state(), **own}

    def _set_learner_state(self, state):
        super()._set_learner_state(state)
        self._target_updates = {
            mid: int(step) for mid, step in state["target_updates"].items()
        }

    def get_required_columns(self, module_id):
        return (
            Columns.OBS,
            Columns.ACTIONS,
            Columns.REWARDS,
            Columns.NEXT_OBS,
            Columns.TERMINATEDS,
        )

    def get_required_outputs(self, module_id):
        return (QF_PREDS,)

    @classmethod
    def rl_module_required_apis(cls):
        return [QNetAPI, TargetNetworkAPI]
