"""MARWIL: its settings, the algorithm and its learner, in that order.

Wang et al., "Exponentially Weighted Imitation Learning for Batched Historical Data"
(2018), https://nips.cc/virtual/2018/poster/11609.
"""

import dataclasses
from dataclasses import field
from typing import Any, ClassVar

import tensorflow as tf

from tflearner import constants
from tflearner.algorithms.offline import OfflineAlgorithm, OfflineConfig
from tflearner.checkpoint.builders import register_builder
from tflearner.columns import Columns
from tflearner.config import TRAINING
from tflearner.connectors.episode_columns import AddOneTsToEpisodesAndTruncate
from tflearner.connectors.gae import GeneralAdvantageEstimation
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.learner.offline_learner import OfflineTfLearner
from tflearner.losses import marwil, reductions
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.catalog import PPOCatalog
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.settings.bounds import finite, number
from tflearner.settings.settings import register_config
from tflearner.types import ModuleID

MOVING_AVG_SQD_ADV_NORM_KEY = "moving_avg_sqd_adv_norm"
VF_EXPLAINED_VAR_KEY = "vf_explained_variance"


@dataclasses.dataclass
class MARWILConfig(OfflineConfig):
    """Settings of MARWIL; defaults are RLlib's, but for the rate of the average.

    RLlib's, 1e-8, keeps the average of squared advantages at its start.

        >>> config = MARWILConfig().environment("CartPole-v1").training(beta=0.5)
        >>> config.beta
        0.5
    """

    learner_wide: ClassVar[tuple[str, ...]] = (*OfflineConfig.learner_wide, "lambda_")

    # --- training: value targets ---
    lambda_: float = field(default=1.0, metadata=TRAINING | number(0.0, 1.0))
    """GAE mixing: 1 makes value targets the discounted returns of the data."""

    # --- training: objective ---
    beta: float = field(default=1.0, metadata=TRAINING | finite(0.0))
    """How much the actions that turned out better are preferred; 0 clones all."""
    vf_coeff: float = field(default=1.0, metadata=TRAINING | finite(0.0))
    """Weight of the value loss."""
    moving_average_sqd_adv_norm_start: float = field(
        default=100.0, metadata=TRAINING | finite(0.0)
    )
    """First value of the moving average of squared advantages, which scales `beta`."""
    moving_average_sqd_adv_norm_update_rate: float = field(
        default=0.01, metadata=TRAINING | number(0.0, 1.0)
    )
    """How far the average moves with each minibatch."""

    def get_default_learner_class(self) -> type:
        return MARWILTfLearner

    def get_default_algorithm_class(self) -> type:
        return MARWIL

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=PPOTfRLModule, catalog_class=PPOCatalog)

    def build_learner_connector(
        self, input_observation_space=None, input_action_space=None, device=None
    ) -> LearnerConnectorPipeline:
        pipeline = super().build_learner_connector(
            input_observation_space, input_action_space, device
        )
        if issubclass(self.get_learner_class(), MARWILTfLearner):
            pipeline.prepend(AddOneTsToEpisodesAndTruncate())
            pipeline.append(
                GeneralAdvantageEstimation(gamma=self.gamma, lambda_=self.lambda_)
            )
        return pipeline


class MARWIL(OfflineAlgorithm):
    """Learns from data to act better than those who made them.

    algo = MARWIL("CartPole-v1", data=episodes, lr=1e-3)
    algo.fit(total_steps=1_000_000)
    print(algo.evaluate(episodes=20))

    Columns need "value_targets", the discounted return from each row on; of episodes
    the pipeline computes them.
    """

    config_class = MARWILConfig


class MARWILTfLearner(OfflineTfLearner):
    """Clones actions, those that turned out better with exponentially more weight.

    Reports per module, besides what every learner reports: policy_loss, vf_loss,
    vf_explained_variance and moving_avg_sqd_adv_norm, with the minibatch in it.

    Attributes:
        moving_avg_sqd_adv_norms_per_module: The moving average of squared advantages: a
            float64 variable by module.
    """

    config: MARWILConfig

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.moving_avg_sqd_adv_norms_per_module: dict[ModuleID, Any] = {}
        # What a step makes of them, and they become if its module moves.
        self._next_averages: dict[ModuleID, Any] = {}

    def _set_up_module(self, module_id: ModuleID) -> None:
        super()._set_up_module(module_id)
        config = self.config.get_config_for_module(module_id)
        start = config.moving_average_sqd_adv_norm_start
        for averages in (self.moving_avg_sqd_adv_norms_per_module, self._next_averages):
            averages[module_id] = self._get_tensor_variable(start, "float64")

    def _tear_down_module(self, module_id: ModuleID) -> None:
        super()._tear_down_module(module_id)
        for averages in (self.moving_avg_sqd_adv_norms_per_module, self._next_averages):
            averages.pop(module_id, None)

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        module: Any = self.module[module_id].unwrapped()
        values = fwd_out.get(Columns.VF_PREDS)
        if values is None:
            embeddings = fwd_out.get(Columns.EMBEDDINGS)
            values = module.compute_values(batch, embeddings=embeddings)
        regression = {
            "values": values,
            "value_targets": batch[Columns.VALUE_TARGETS],
            "mask": batch.get(Columns.LOSS_MASK),
        }
        mean_square = self._of_all_replicas(
            module_id, marwil.mean_squared_advantage(**regression), batch
        )
        average = marwil.moved_average(
            self.moving_avg_sqd_adv_norms_per_module[module_id],
            mean_square,
            config.moving_average_sqd_adv_norm_update_rate,
        )
        self._replicas.assign([self._next_averages[module_id]], [average])
        loss = marwil.marwil_loss(
            logp=self.logp(module_id, batch, fwd_out),
            **regression,
            moving_average=average,
            beta=config.beta,
            vf_coeff=config.vf_coeff,
        )
        terms = {
            constants.POLICY_LOSS_KEY: loss.policy,
            constants.VF_LOSS_KEY: loss.value,
            VF_EXPLAINED_VAR_KEY: reductions.explained_variance(
                batch[Columns.VALUE_TARGETS], values, regression["mask"]
            ),
            MOVING_AVG_SQD_ADV_NORM_KEY: average,
        }
        self.metrics.log_dict(terms, key=module_id, window=1)
        return loss.total

    def _of_all_replicas(self, module_id: ModuleID, mean: tf.Tensor, batch: dict):
        """Returns the mean over a minibatch, of the means over the replicas' parts."""
        parts = self._replicas.weighted({module_id: mean}, {module_id: batch})
        return self._replicas.sum(parts[module_id])

    def _after_gradient_step(self, is_healthy):
        super()._after_gradient_step(is_healthy)
        averages = self.moving_avg_sqd_adv_norms_per_module
        pairs = [
            (averages[mid], tf.where(healthy, self._next_averages[mid], averages[mid]))
            for mid, healthy in is_healthy.items()
        ]
        self._replicas.assign(*zip(*pairs))

    # State and requirements.

    def _get_learner_state(self):
        averages = self.moving_avg_sqd_adv_norms_per_module
        own = {mid: float(average.numpy()) for mid, average in averages.items()}
        return {**super()._get_learner_state(), MOVING_AVG_SQD_ADV_NORM_KEY: own}

    def _set_learner_state(self, state):
        super()._set_learner_state(state)
        for module_id, own in self.moving_avg_sqd_adv_norms_per_module.items():
            own.assign(state[MOVING_AVG_SQD_ADV_NORM_KEY].get(module_id, own))

    def _take_settings(self, names):
        super()._take_settings(names)
        if "moving_average_sqd_adv_norm_start" in names:
            for module_id, own in self.moving_avg_sqd_adv_norms_per_module.items():
                config = self.config.get_config_for_module(module_id)
                own.assign(config.moving_average_sqd_adv_norm_start)

    def get_required_columns(self, module_id):
        return (*super().get_required_columns(module_id), Columns.VALUE_TARGETS)

    @classmethod
    def rl_module_required_apis(cls):
        return [ValueFunctionAPI]


register_config("tflearner/MARWILConfig", MARWILConfig)
register_builder("tflearner/MARWIL", MARWIL)
register_builder("tflearner/MARWILTfLearner", MARWILTfLearner)
