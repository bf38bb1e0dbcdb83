"""BC: its settings, the algorithm and its learner, in that order.

Behaviour cloning: a policy that takes the actions of the data, whatever they led to.
"""

import dataclasses

from tflearner import constants
from tflearner.algorithms.offline import OfflineAlgorithm, OfflineConfig
from tflearner.checkpoint.builders import register_builder
from tflearner.columns import Columns
from tflearner.learner.offline_learner import OfflineTfLearner
from tflearner.losses.bc import bc_loss
from tflearner.modules.actor_critic import BCTfRLModule
from tflearner.modules.catalog import PPOCatalog
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.settings.settings import register_config


@dataclasses.dataclass
class BCConfig(OfflineConfig):
    """Settings of behaviour cloning; defaults are RLlib's.

    >>> config = BCConfig().environment("CartPole-v1").training(lr=1e-3)
    >>> config.train_batch_size_per_learner
    2000
    """

    def get_default_learner_class(self) -> type:
        return BCTfLearner

    def get_default_algorithm_class(self) -> type:
        return BC

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=BCTfRLModule, catalog_class=PPOCatalog)


class BC(OfflineAlgorithm):
    """Learns to act like those who made the data.

    algo = BC("CartPole-v1", data=episodes, lr=1e-3)
    algo.fit(total_steps=1_000_000)
    print(algo.evaluate(episodes=20))
    """

    config_class = BCConfig


class BCTfLearner(OfflineTfLearner):
    """Raises the likelihood of the actions in the data.

    Reports per module, besides what every learner reports: policy_loss.
    """

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        logp = self.logp(module_id, batch, fwd_out)
        loss = bc_loss(logp=logp, mask=batch.get(Columns.LOSS_MASK))
        key = (module_id, constants.POLICY_LOSS_KEY)
        self.metrics.log_value(key, loss, window=1)
        return loss


register_config("tflearner/BCConfig", BCConfig)
register_builder("tflearner/BC", BC)
register_builder("tflearner/BCTfLearner", BCTfLearner)
