"""DQN: its settings, the algorithm and its learner, in that order.

Mnih et al., "Human-level control through deep reinforcement learning" (2015),
https://doi.org/10.1038/nature14236, with what came after: double Q-learning, dueling
networks, prioritised replay, returns over n steps and distributions of returns, as put
together in Hessel et al., "Rainbow" (2018), https://arxiv.org/abs/1710.02298.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

from tflearner import constants
from tflearner.algorithms.off_policy import (
    PRIORITIZED,
    OffPolicyAlgorithm,
    OffPolicyConfig,
)
from tflearner.checkpoint.builders import register_builder
from tflearner.columns import Columns
from tflearner.config import ENV_RUNNERS, TRAINING
from tflearner.constants import FLOAT32_MAX
from tflearner.errors import ConfigError, shown
from tflearner.learner.off_policy_learner import OffPolicyTfLearner
from tflearner.losses import dqn
from tflearner.modules.apis import QF_PREDS
from tflearner.modules.dqn import (
    ATOMS,
    QF_LOGITS,
    QF_NEXT_PREDS,
    QF_TARGET_NEXT_PREDS,
    QF_TARGET_NEXT_PROBS,
    DQNCatalog,
    DQNModelConfig,
    DQNTfRLModule,
)
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.schedule import Scheduler
from tflearner.settings import names
from tflearner.settings.bounds import A_BOOL, at_least, bound, checked, finite, schedule
from tflearner.settings.settings import register_config
from tflearner.types import LearningRateOrSchedule

CURR_EPSILON_KEY = "curr_epsilon"


def _check_epsilon(where: str, given: Any) -> None:
    schedule(0.0)["check"](where, given)
    points = given if isinstance(given, Sequence) else [(0, given)]
    if max(value for _, value in points) > 1.0:
        raise ConfigError(where, shown(given), "probabilities in [0, 1]")


A_LOSS_FN = bound(
    lambda given: isinstance(given, str) and given in ("huber", "mse"),
    "'huber' or 'mse'",
)


@dataclasses.dataclass
class DQNConfig(OffPolicyConfig):
    """Settings of DQN; defaults are RLlib's, except for the length of a round.

    RLlib makes one gradient step after each environment step. Here a round has 16 of
    both: equal work in a fraction of the time.

        >>> config = DQNConfig().environment("CartPole-v1").training(lr=1e-3, n_step=3)
        >>> config.n_step
        3
    """

    module_settings: ClassVar[tuple[str, ...]] = (
        "dueling",
        "double_q",
        "num_atoms",
        "v_min",
        "v_max",
    )
    renamed: ClassVar[names.Names] = names.DQN

    # --- env_runners ---
    epsilon: LearningRateOrSchedule = field(
        default_factory=lambda: [[0, 1.0], [10_000, 0.05]],
        metadata=ENV_RUNNERS | checked(_check_epsilon),
    )
    """Probability of an action drawn at random, or a schedule `[[timestep, value], ...]`
    in environment steps."""

    # --- training: optimisation ---
    lr: LearningRateOrSchedule = field(default=5e-4, metadata=TRAINING)
    """Adam's step size, or a schedule `[[timestep, value], ...]` in environment steps."""
    grad_clip: float | None = field(default=40.0, metadata=TRAINING)
    """Bound on gradients; `None` does not clip."""
    train_batch_size_per_learner: int = field(default=32, metadata=TRAINING)
    """Rows per gradient step."""

    # --- training: replay ---
    training_intensity: float | None = field(default=32.0, metadata=TRAINING)
    """Rows trained on for each environment step; `None` takes one gradient step per
    round."""
    replay_buffer_config: dict = field(
        default_factory=lambda: {
            "type": PRIORITIZED,
            "capacity": 50_000,
            "alpha": 0.6,
            "beta": 0.4,
        },
        metadata=TRAINING,
    )
    """The replay buffer, see `OffPolicyConfig`."""

    # --- training: objective ---
    double_q: bool = field(default=True, metadata=TRAINING | A_BOOL)
    """Whether the network itself chooses the next action, of which the target network
    tells the value."""
    dueling: bool = field(default=True, metadata=TRAINING | A_BOOL)
    """Whether values are put together from an advantage and a value stream."""
    num_atoms: int = field(default=1, metadata=TRAINING | at_least(1, 2**16))
    """Atoms of a distribution of returns; 1 predicts its mean alone."""
    v_min: float = field(default=-10.0, metadata=TRAINING | finite())
    """The lowest atom, in units of return."""
    v_max: float = field(default=10.0, metadata=TRAINING | finite())
    """The highest atom, in units of return."""
    td_error_loss_fn: str = field(
        default="huber",
        metadata=TRAINING | A_LOSS_FN,
    )
    """"huber" (linear beyond errors of 1) or "mse"; without effect on distributions."""

    # --- training: target networks ---
    target_network_update_freq: int = field(default=500, metadata=TRAINING)
    """Environment steps between updates of the target network; 0 updates it after every
    gradient step."""

    def get_default_learner_class(self) -> type:
        return DQNTfLearner

    def get_default_algorithm_class(self) -> type:
        return DQN

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=DQNTfRLModule, catalog_class=DQNCatalog)

    @classmethod
    def get_model_config_class(cls):
        return DQNModelConfig

    def validate(self) -> None:
        super().validate()
        if self.num_atoms > 1 and not 0.0 < self.v_max - self.v_min <= FLOAT32_MAX:
            got = f"v_min={self.v_min}, v_max={self.v_max}"
            want = f"v_min below v_max, by {FLOAT32_MAX:.2g} at most"
            raise ConfigError(type(self).__name__, got, want)


class DQN(OffPolicyAlgorithm):
    """The DQN algorithm: deep Q-learning with a replay buffer.

    algo = DQN("CartPole-v1", lr=1e-3)
    history = algo.fit(total_steps=50_000)
    print(algo.evaluate(episodes=20))
    """

    config_class = DQNConfig
    config: DQNConfig

    def _build(self) -> None:
        super()._build()
        self._epsilon = Scheduler(fixed_value_or_schedule=self.config.epsilon)

    def _before_sampling(self) -> None:
        module: Any = self.get_module()
        if hasattr(module, "epsilon"):  # An own module may explore in another way.
            now = self.num_env_steps_sampled_lifetime
            epsilon = self._epsilon.update(timestep=now)
            module.epsilon.assign(epsilon)
            key = (self.get_module_id(), CURR_EPSILON_KEY)
            self.learner.metrics.log_value(key, epsilon, window=1)


class DQNTfLearner(OffPolicyTfLearner):
    """Learner of DQN: it regresses action values on targets of a target network.

    Besides the metrics of every learner it reports, per module: qf_loss, td_error_mean,
    num_target_updates, and qf_mean, qf_min and qf_max of the taken actions' values. The
    TD error of each row is in `row_outputs[module_id, "td_error"]`, float32
    [num_minibatches, B]. For distributions it is the cross entropy.
    """

    config: DQNConfig
    metric_labels: ClassVar = {
        **OffPolicyTfLearner.metric_labels,
        CURR_EPSILON_KEY: "epsilon",
    }

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        values = {
            "q_values": fwd_out[QF_PREDS],
            "q_target_next": fwd_out[QF_TARGET_NEXT_PREDS],
            "q_next": fwd_out.get(QF_NEXT_PREDS),
        }
        rows = {
            "actions": batch[Columns.ACTIONS],
            "rewards": batch[Columns.REWARDS],
            "terminateds": batch[Columns.TERMINATEDS],
            "n_step": batch[Columns.N_STEP],
            "weights": batch[Columns.WEIGHTS],
            "mask": batch.get(Columns.LOSS_MASK),
        }
        if QF_LOGITS in fwd_out:
            loss = dqn.distributional_dqn_loss(
                q_logits=fwd_out[QF_LOGITS],
                q_target_next_probs=fwd_out[QF_TARGET_NEXT_PROBS],
                gamma=config.gamma,
                v_min=fwd_out[ATOMS][0],
                v_max=fwd_out[ATOMS][-1],
                **values,
                **rows,
            )
        else:
            loss = dqn.dqn_loss(
                gamma=config.gamma,
                td_error_loss_fn=config.td_error_loss_fn,
                **values,
                **rows,
            )
        self.put_out_td_errors(
            module_id,
            loss.td_error,
            {
                constants.QF_LOSS_KEY: loss.total,
                constants.QF_MEAN_KEY: loss.q_selected_mean,
                constants.QF_MIN_KEY: loss.q_selected_min,
                constants.QF_MAX_KEY: loss.q_selected_max,
                constants.TD_ERROR_MEAN_KEY: loss.td_error_mean,
            },
        )
        return loss.total


register_config("tflearner/DQNConfig", DQNConfig)
register_builder("tflearner/DQN", DQN)
register_builder("tflearner/DQNTfLearner", DQNTfLearner)
