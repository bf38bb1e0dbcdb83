"""SAC: its settings, the algorithm and its learner, in that order.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications" (2018),
https://arxiv.org/abs/1812.05905. For discrete actions: Christodoulou, "Soft Actor-Critic
for Discrete Action Settings" (2019), https://arxiv.org/abs/1910.07207.
"""

import dataclasses
import math
import zlib
from dataclasses import field
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import tensorflow as tf

from tflearner import constants
from tflearner.algorithms.off_policy import (
    PRIORITIZED,
    OffPolicyAlgorithm,
    OffPolicyConfig,
)
from tflearner.checkpoint.builders import register_builder
from tflearner.columns import Columns
from tflearner.config import TRAINING
from tflearner.engine import optimizers
from tflearner.errors import ConfigError, shown
from tflearner.learner.off_policy_learner import OffPolicyTfLearner
from tflearner.losses import reductions, sac
from tflearner.modules.apis import QF_PREDS
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.modules.sac import (
    ACTION_LOG_PROBS,
    ACTION_LOG_PROBS_NEXT,
    LOGP_NEXT_RESAMPLED,
    LOGP_RESAMPLED,
    QF_CURRENT,
    QF_TARGET_NEXT,
    QF_TWIN_PREDS,
    SACCatalog,
    SACModelConfig,
    SACTfRLModule,
    check_log_std_bounds,
)
from tflearner.settings import names
from tflearner.settings.bounds import A_BOOL, checked, finite, or_none, schedule
from tflearner.settings.settings import register_config
from tflearner.spaces.mask_spaces import ACTION_MASK, is_masked
from tflearner.types import LearningRateOrSchedule, ModuleID, Tensor

QF_TWIN_LOSS_KEY = "qf_twin_loss"
ALPHA_LOSS_KEY = "alpha_loss"
ALPHA_VALUE_KEY = "alpha_value"
LOG_ALPHA_VALUE_KEY = "log_alpha_value"
TARGET_ENTROPY_KEY = "target_entropy"
LOGPS_KEY = "logps"

# Optimizer -> the setting with its learning rate.
LEARNING_RATES = {"policy": "actor_lr", "qf": "critic_lr", "alpha": "alpha_lr"}


def _check_target_entropy(where: str, given: Any) -> None:
    if not isinstance(given, str):
        finite()["check"](where, given)
    elif given != "auto":
        raise ConfigError(where, shown(given), "'auto' or a number")


@dataclasses.dataclass
class SACConfig(OffPolicyConfig):
    """Settings of SAC; defaults are RLlib's, except for rounds and iterations.

    >>> config = SACConfig().environment("Pendulum-v1").training(lr=3e-4)
    >>> config.learning_rates()
    {'policy': 0.0003, 'qf': 0.0003, 'alpha': 0.0003}
    """

    module_settings: ClassVar[tuple[str, ...]] = ("twin_q", "log_std_bounds")
    renamed: ClassVar[names.Names] = names.SAC

    # --- training: optimisation ---
    lr: Any = field(default=None, metadata=TRAINING | or_none(schedule(0.0)))
    """Learning rate of policy, critics and temperature together; `None` leaves it to the
    three below."""
    actor_lr: LearningRateOrSchedule = field(
        default=3e-5, metadata=TRAINING | schedule(0.0)
    )
    """Adam's step size for the policy, or a schedule in environment steps."""
    critic_lr: LearningRateOrSchedule = field(
        default=3e-4, metadata=TRAINING | schedule(0.0)
    )
    """Adam's step size for the critics, or a schedule."""
    alpha_lr: LearningRateOrSchedule = field(
        default=3e-4, metadata=TRAINING | schedule(0.0)
    )
    """Adam's step size for the temperature, or a schedule."""
    train_batch_size_per_learner: int = field(default=256, metadata=TRAINING)
    """Rows per gradient step."""

    # --- training: replay ---
    training_intensity: float | None = field(default=256.0, metadata=TRAINING)
    """Rows trained on for each environment step; `None` takes one gradient step per
    round."""
    num_steps_sampled_before_learning_starts: int = field(
        default=1500, metadata=TRAINING
    )
    """Steps in the buffer before the first gradient step."""
    replay_buffer_config: dict = field(
        default_factory=lambda: {
            "type": PRIORITIZED,
            "capacity": 1_000_000,
            "alpha": 0.6,
            "beta": 0.4,
        },
        metadata=TRAINING,
    )
    """The replay buffer, see `OffPolicyConfig`."""

    # --- training: objective ---
    twin_q: bool = field(default=True, metadata=TRAINING | A_BOOL)
    """Whether there are two critics, of which the lower value counts."""
    initial_alpha: float = field(default=1.0, metadata=TRAINING | finite(1e-8))
    """Temperature at first: the weight of the policy's entropy, in units of return per
    nat."""
    target_entropy: float | str = field(
        default="auto", metadata=TRAINING | checked(_check_target_entropy)
    )
    """Entropy in nats that the temperature keeps the policy at. "auto" is minus the
    number of components of a Box, and 0.98 log(n) for n discrete actions that may be
    taken."""
    log_std_bounds: tuple[float, float] = field(
        default=(-5.0, 2.0), metadata=TRAINING | checked(check_log_std_bounds)
    )
    """Bounds on the policy's log standard deviations."""

    # --- training: target networks ---
    tau: float = field(default=5e-3, metadata=TRAINING)
    """How far target networks move each time: 1 copies the networks."""

    def learning_rates(self) -> dict[str, LearningRateOrSchedule]:
        """Returns the learning rate, or its schedule, of each optimizer by name."""
        if self.lr is not None:
            return dict.fromkeys(LEARNING_RATES, self.lr)
        return {name: getattr(self, own) for name, own in LEARNING_RATES.items()}

    def get_default_learner_class(self) -> type:
        return SACTfLearner

    def get_default_algorithm_class(self) -> type:
        return SAC

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=SACTfRLModule, catalog_class=SACCatalog)

    @classmethod
    def get_model_config_class(cls):
        return SACModelConfig

    def validate(self) -> None:
        super().validate()
        for name in LEARNING_RATES.values():
            default = type(self).__dataclass_fields__[name].default
            if self.lr is not None and getattr(self, name) != default:
                raise ConfigError(
                    type(self).__name__,
                    f"lr={self.lr} and {name}={getattr(self, name)}",
                    "one of them",
                    f"lr sets all three of {', '.join(LEARNING_RATES.values())}",
                )


class SAC(OffPolicyAlgorithm):
    """The SAC algorithm: soft actor-critic with a replay buffer.

    algo = SAC("Pendulum-v1", lr=1e-3)
    history = algo.fit(total_steps=20_000)
    print(algo.evaluate(episodes=20))
    """

    config_class = SACConfig
    config: SACConfig

    def _build(self) -> None:
        space: Any = self.env_runner.get_spaces()[constants.INPUT_ENV_SINGLE_SPACES][1]
        is_box = isinstance(space, gym.spaces.Box)
        fits = is_box and np.all(space.low == -1.0) and np.all(space.high == 1.0)
        if is_box and not fits and not self.config.normalize_actions:
            raise ConfigError(
                "SACConfig.normalize_actions",
                f"False for actions of {space}",
                "True, unless the bounds are -1 and 1",
                "the policy acts in [-1, 1]",
            )
        super()._build()


class SACTfLearner(OffPolicyTfLearner):
    """Learner of SAC: it trains critics, a policy and a temperature.

    It has three optimizers: "policy", "qf" (both critics) and "alpha". All gradients
    are computed at the old weights and the old temperature.

    Besides the metrics of every learner it reports, per module: policy_loss, qf_loss,
    qf_twin_loss, alpha_loss, alpha_value, log_alpha_value, target_entropy, logps,
    entropy, td_error_mean, num_target_updates, and qf_mean, qf_min and qf_max of the
    first critic for the actions taken. The TD error of each row is in
    `row_outputs[module_id, "td_error"]`.

    Continuous actions are drawn with the columns NOISE and NEXT_NOISE. If a batch lacks
    them, the update fills them with standard normal numbers.

    Attributes:
        curr_log_alpha: The logarithm of each module's temperature: {module id:
            variable}.
    """

    config: SACConfig
    metric_labels: ClassVar = {
        **OffPolicyTfLearner.metric_labels,
        ALPHA_VALUE_KEY: "alpha",
    }

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.curr_log_alpha: dict[ModuleID, Any] = {}
        self._noise_seed: int | None = None

    def _set_up_module(self, module_id: ModuleID) -> None:
        super()._set_up_module(module_id)
        if self.rl_module_is_compatible(self.module[module_id]):
            config = self.config.get_config_for_module(module_id)
            self.curr_log_alpha[module_id] = self._get_tensor_variable(
                math.log(config.initial_alpha), "float32", trainable=True
            )

    def _tear_down_module(self, module_id: ModuleID) -> None:
        super()._tear_down_module(module_id)
        self.curr_log_alpha.pop(module_id, None)

    def configure_optimizers_for_module(self, module_id, config=None):
        """Registers Adam for the policy, for the critics and for the temperature."""
        if config is None:
            config = self.config.get_config_for_module(module_id)
        module: Any = self.module[module_id].unwrapped()
        networks = {
            "policy": [module.pi_encoder, module.pi],
            "qf": [
                module.qf_encoder,
                module.qf,
                module.qf_twin_encoder,
                module.qf_twin,
            ],
        }
        params = {
            name: [p for part in parts if part for p in self.get_parameters(part)]
            for name, parts in networks.items()
        }
        params["alpha"] = [self.curr_log_alpha[module_id]]
        in_float16 = "float16" in module.compute_dtypes()
        for name, rate in config.learning_rates().items():
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=optimizers.new_adam(params[name], scales_loss=in_float16),
                params=params[name],
                lr_or_lr_schedule=rate,
            )

    def _checked_columns(self, batch):
        self._noise_seed = None
        return super()._checked_columns(batch)

    def complete_columns(self, module_id, columns):
        columns = super().complete_columns(module_id, columns)
        module: Any = self.module[module_id].unwrapped()
        is_drawn = isinstance(module.action_space, gym.spaces.Box)
        if is_drawn and isinstance(module, SACTfRLModule):
            actions = columns[Columns.ACTIONS]
            columns[Columns.ACTIONS] = actions = actions.reshape(len(actions), -1)
            missing = [
                n for n in (Columns.NOISE, Columns.NEXT_NOISE) if n not in columns
            ]
            if missing:
                rng = self._noise_generator(module_id)
                for name in missing:
                    columns[name] = rng.standard_normal(actions.shape, np.float32)
        return columns

    def _noise_generator(self, module_id: ModuleID) -> np.random.Generator:
        """Returns a module's generator for one batch; others in the batch change none."""
        if self._noise_seed is None:
            self._noise_seed = int(self._rng.integers(2**63))
        return np.random.default_rng([self._noise_seed, zlib.crc32(module_id.encode())])

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        log_alpha = tf.convert_to_tensor(self.curr_log_alpha[module_id])
        target_entropy = self._target_entropy(module_id, config, batch[Columns.OBS])
        shared = {
            "q": fwd_out[QF_PREDS],
            "q_twin": fwd_out.get(QF_TWIN_PREDS),
            "q_target_next": fwd_out[QF_TARGET_NEXT],
            "log_alpha": log_alpha,
            "target_entropy": target_entropy,
            "rewards": batch[Columns.REWARDS],
            "terminateds": batch[Columns.TERMINATEDS],
            "n_step": batch[Columns.N_STEP],
            "weights": batch[Columns.WEIGHTS],
            "mask": batch.get(Columns.LOSS_MASK),
            "gamma": config.gamma,
        }
        if ACTION_LOG_PROBS in fwd_out:
            loss = sac.discrete_sac_loss(
                log_probs=fwd_out[ACTION_LOG_PROBS],
                log_probs_next=fwd_out[ACTION_LOG_PROBS_NEXT],
                actions=batch[Columns.ACTIONS],
                **shared,
            )
        else:
            loss = sac.continuous_sac_loss(
                logp=fwd_out[LOGP_RESAMPLED],
                logp_next=fwd_out[LOGP_NEXT_RESAMPLED],
                q_current=fwd_out[QF_CURRENT],
                **shared,
            )
        terms = {
            constants.POLICY_LOSS_KEY: loss.policy,
            constants.QF_LOSS_KEY: loss.qf,
            ALPHA_LOSS_KEY: loss.alpha,
            ALPHA_VALUE_KEY: tf.exp(log_alpha),
            LOG_ALPHA_VALUE_KEY: log_alpha,
            TARGET_ENTROPY_KEY: reductions.masked_mean(
                tf.broadcast_to(target_entropy, tf.shape(loss.td_error)), shared["mask"]
            ),
            LOGPS_KEY: loss.logps,
            constants.ENTROPY_KEY: loss.entropy,
            constants.QF_MEAN_KEY: loss.q_mean,
            constants.QF_MIN_KEY: loss.q_min,
            constants.QF_MAX_KEY: loss.q_max,
            constants.TD_ERROR_MEAN_KEY: loss.td_error_mean,
        }
        if QF_TWIN_PREDS in fwd_out:
            terms[QF_TWIN_LOSS_KEY] = loss.qf_twin
        self.put_out_td_errors(module_id, loss.td_error, terms)
        return loss.total

    def _target_entropy(
        self, module_id: ModuleID, config: SACConfig, observations: Any
    ) -> Tensor | float:
        """Returns it in nats: a number, or of masked actions one for each row, [B]."""
        if config.target_entropy != "auto":
            return float(config.target_entropy)
        module: Any = self.module[module_id].unwrapped()
        space = module.action_space
        if isinstance(space, gym.spaces.Box):
            return -float(np.prod(space.shape))
        # RLlib's for discrete actions is -1, which no policy reaches: its temperature
        # falls without end. 0.98 is Christodoulou's.
        if not is_masked(module.observation_space, space):
            return 0.98 * math.log(space.n)
        # Of all n actions it would be out of reach where some are forbidden, and the
        # temperature would grow without end.
        allowed = tf.cast(observations[ACTION_MASK] != 0, tf.float32)
        number = tf.reduce_sum(allowed, -1)
        return 0.98 * tf.math.log(tf.where(number > 0.0, number, float(space.n)))

    # State and requirements.

    def _get_learner_state(self):
        alphas = {mid: float(own.numpy()) for mid, own in self.curr_log_alpha.items()}
        return {**super()._get_learner_state(), "log_alphas": alphas}

    def _set_learner_state(self, state):
        super()._set_learner_state(state)
        for module_id, own in self.curr_log_alpha.items():
            own.assign(state["log_alphas"].get(module_id, own))

    def _take_settings(self, names):
        super()._take_settings(names)
        if "initial_alpha" in names:
            for module_id, log_alpha in self.curr_log_alpha.items():
                config = self.config.get_config_for_module(module_id)
                log_alpha.assign(math.log(config.initial_alpha))
        for record in self._optimizers.values():
            if {"lr", LEARNING_RATES.get(record.name)}.isdisjoint(names):
                continue
            config = self.config.get_config_for_module(record.module_id)
            rate: Any = config.learning_rates().get(record.name)
            if record.schedule is not None:
                rate = record.schedule.update(timestep=self._counters.timestep)
            if rate is not None:
                self._set_optimizer_lr(record.optimizer, lr=rate)


register_config("tflearner/SACConfig", SACConfig)
register_builder("tflearner/SAC", SAC)
register_builder("tflearner/SACTfLearner", SACTfLearner)
