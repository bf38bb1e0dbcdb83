"""PPO: its settings, the algorithm and its learner, in that order.

Schulman et al., "Proximal Policy Optimization Algorithms" (2017),
https://arxiv.org/abs/1707.06347.
"""

import dataclasses
import math
import time
from dataclasses import field
from typing import Any, ClassVar

from tflearner import constants
from tflearner.algorithms.algorithm import Algorithm
from tflearner.algorithms.value_errors import ValueErrors
from tflearner.checkpoint.builders import register_builder
from tflearner.columns import Columns
from tflearner.config import TRAINING, AlgorithmConfig
from tflearner.connectors.episode_columns import AddOneTsToEpisodesAndTruncate
from tflearner.connectors.gae import GeneralAdvantageEstimation, StandardizeAdvantages
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.distributed.learner_group import LearnerGroup
from tflearner.learner.tf_learner import TfLearner
from tflearner.losses import ppo, reductions
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.catalog import PPOCatalog
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.schedule import Scheduler
from tflearner.settings import names
from tflearner.settings.bounds import A_BOOL, finite, number, schedule
from tflearner.settings.settings import register_config
from tflearner.types import LearningRateOrSchedule, ModuleID

VF_LOSS_UNCLIPPED_KEY = "vf_loss_unclipped"
VF_CLIP_FRACTION_KEY = "vf_clip_fraction"
VF_EXPLAINED_VAR_KEY = "vf_explained_var"
MEAN_KL_LOSS_KEY = "mean_kl_loss"
CURR_KL_COEFF_KEY = "curr_kl_coeff"


@dataclasses.dataclass
class PPOConfig(AlgorithmConfig):
    """Settings of PPO; defaults are RLlib's.

    `examples/ppo_cartpole.py` shows values tuned to a task.

        >>> config = PPOConfig().environment("CartPole-v1").training(lr=3e-4)
        >>> config.lr
        0.0003
    """

    renamed: ClassVar[names.Names] = names.PPO
    learner_wide: ClassVar[tuple[str, ...]] = (*AlgorithmConfig.learner_wide, "lambda_")

    # --- training: optimisation ---
    lr: LearningRateOrSchedule = field(default=5e-5, metadata=TRAINING)
    """Adam's step size, or a schedule `[[timestep, value], ...]` in environment steps."""
    train_batch_size_per_learner: int = field(default=4000, metadata=TRAINING)
    """Environment steps collected before each update."""
    num_epochs: int = field(default=30, metadata=TRAINING)
    """Passes over the train batch per update."""
    minibatch_size: int | None = field(default=128, metadata=TRAINING)
    """Steps per gradient step."""
    shuffle_batch_per_epoch: bool = field(default=True, metadata=TRAINING)
    """Whether steps are shuffled before every pass."""

    # --- training: advantage estimation ---
    lambda_: float = field(default=1.0, metadata=TRAINING | number(0.0, 1.0))
    """GAE mixing: 0 is one-step TD, 1 is Monte Carlo."""

    # --- training: objective ---
    clip_param: float = field(default=0.3, metadata=TRAINING | number(0.0, math.inf))
    """Half-width of the trust interval around a probability ratio of 1."""
    vf_clip_param: float = field(
        default=10.0, metadata=TRAINING | number(0.0, math.inf)
    )
    """Cap on the squared value error, in squared reward units: scale it with rewards."""
    vf_loss_coeff: float = field(default=1.0, metadata=TRAINING | finite(0.0))
    """Weight of the value loss."""
    entropy_coeff: LearningRateOrSchedule = field(
        default=0.0, metadata=TRAINING | schedule(0.0)
    )
    """Weight of the entropy bonus, or a schedule `[[timestep, value], ...]`."""

    # --- training: KL penalty ---
    use_kl_loss: bool = field(default=True, metadata=TRAINING | A_BOOL)
    """Whether to penalise KL(old || new)."""
    kl_coeff: float = field(default=0.2, metadata=TRAINING | finite(0.0))
    """Initial weight of the penalty; the learner adapts it towards `kl_target`."""
    kl_target: float = field(default=0.01, metadata=TRAINING | number(0.0, math.inf))
    """KL in nats above 2x which the weight grows and below 0.5x which it shrinks."""

    def get_default_learner_class(self) -> type:
        return PPOTfLearner

    def get_default_learner_group_class(self) -> type:
        return LearnerGroup

    def get_default_algorithm_class(self) -> type:
        return PPO

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=PPOTfRLModule, catalog_class=PPOCatalog)

    def build_learner_connector(
        self, input_observation_space=None, input_action_space=None, device=None
    ) -> LearnerConnectorPipeline:
        pipeline = super().build_learner_connector(
            input_observation_space, input_action_space, device
        )
        if issubclass(self.get_learner_class(), PPOTfLearner):
            pipeline.prepend(AddOneTsToEpisodesAndTruncate())
            pipeline.append(
                GeneralAdvantageEstimation(gamma=self.gamma, lambda_=self.lambda_)
            )
            pipeline.append(StandardizeAdvantages())
        return pipeline


class PPO(Algorithm):
    """The PPO algorithm: proximal policy optimisation.

    algo = PPO("CartPole-v1", lr=3e-4)
    history = algo.fit(total_steps=100_000)
    print(algo.evaluate(episodes=20))
    """

    config_class = PPOConfig

    def _build(self) -> None:
        super()._build()
        self._value_errors = ValueErrors()

    def _remarks(self, learner_results):
        for module_id, own in learner_results.items():
            if VF_CLIP_FRACTION_KEY in own:
                config = self.learner.config.get_config_for_module(module_id)
                remark = self._value_errors.remark(
                    module_id,
                    share=own[VF_CLIP_FRACTION_KEY],
                    mean=own[VF_LOSS_UNCLIPPED_KEY],
                    cap=config.vf_clip_param,
                )
                if remark:
                    yield remark

    def training_step(self):
        config = self.config
        episodes = self.env_runner.sample(
            num_timesteps=config.train_batch_size_per_learner
        )
        started = time.perf_counter()
        results = self.learner.update_from_episodes(
            episodes,
            timesteps={
                constants.NUM_ENV_STEPS_SAMPLED_LIFETIME: (
                    self.num_env_steps_sampled_lifetime
                )
            },
            num_epochs=config.num_epochs,
            minibatch_size=config.minibatch_size,
            shuffle_batch_per_epoch=config.shuffle_batch_per_epoch,
        )
        return results, {"learn_s": time.perf_counter() - started}


class PPOTfLearner(TfLearner):
    """Learner of PPO: the clipped objective, with an adaptive weight of the KL penalty.

    Besides the metrics of every learner it reports, per module: policy_loss, vf_loss,
    vf_loss_unclipped, vf_explained_var, entropy, mean_kl_loss (of the last minibatch),
    curr_kl_coeff and curr_entropy_coeff (both for the next update). With a finite
    `vf_clip_param` it also reports vf_clip_fraction: the share of squared value errors
    above that bound.
    """

    config: PPOConfig
    metric_labels: ClassVar = {**TfLearner.metric_labels, MEAN_KL_LOSS_KEY: "kl"}

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._coefficients: dict[ModuleID, _Coefficients] = {}

    def _set_up_module(self, module_id: ModuleID) -> None:
        super()._set_up_module(module_id)
        config = self.config.get_config_for_module(module_id)
        if isinstance(self.module[module_id].unwrapped(), ValueFunctionAPI):
            self._coefficients[module_id] = _Coefficients(
                kl=self._get_tensor_variable(config.kl_coeff, "float32"),
                entropy=Scheduler(
                    fixed_value_or_schedule=config.entropy_coeff,
                    variable=self._get_tensor_variable(0.0),
                ),
            )

    def _tear_down_module(self, module_id: ModuleID) -> None:
        super()._tear_down_module(module_id)
        self._coefficients.pop(module_id, None)

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        module: Any = self.module[module_id].unwrapped()
        dist_class = module.get_train_action_dist_cls()
        new = dist_class.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        old = dist_class.from_logits(batch[Columns.ACTION_DIST_INPUTS])
        values = fwd_out.get(Columns.VF_PREDS)
        if values is None:
            embeddings = fwd_out.get(Columns.EMBEDDINGS)
            values = module.compute_values(batch, embeddings=embeddings)
        coefficients = self._coefficients[module_id]
        mask = batch.get(Columns.LOSS_MASK)
        loss = ppo.ppo_loss(
            logp=new.logp(batch[Columns.ACTIONS]),
            logp_old=batch[Columns.ACTION_LOGP],
            advantages=batch[Columns.ADVANTAGES],
            values=values,
            value_targets=batch[Columns.VALUE_TARGETS],
            entropy=new.entropy(),
            kl=old.kl(new),
            mask=mask,
            clip_param=config.clip_param,
            vf_clip_param=config.vf_clip_param,
            vf_loss_coeff=config.vf_loss_coeff,
            entropy_coeff=coefficients.entropy.get_current_value(),
            kl_coeff=coefficients.kl if config.use_kl_loss else 0.0,
        )
        terms = {
            constants.POLICY_LOSS_KEY: loss.policy,
            constants.VF_LOSS_KEY: loss.value,
            VF_LOSS_UNCLIPPED_KEY: loss.value_unclipped,
            VF_EXPLAINED_VAR_KEY: reductions.explained_variance(
                batch[Columns.VALUE_TARGETS], values, mask
            ),
            constants.ENTROPY_KEY: loss.entropy,
            MEAN_KL_LOSS_KEY: loss.kl,
        }
        if math.isfinite(config.vf_clip_param):
            terms[VF_CLIP_FRACTION_KEY] = loss.value_clip_fraction
        self.metrics.log_dict(terms, key=module_id, window=1)
        return loss.total

    def after_gradient_based_update(self, *, timesteps):
        super().after_gradient_based_update(timesteps=timesteps)
        for module_id, coefficients in self._coefficients.items():
            config = self.config.get_config_for_module(module_id)
            entropy: Any = config.entropy_coeff
            if not coefficients.entropy.is_fixed:
                entropy = coefficients.entropy.update(timestep=self._counters.timestep)
            if module_id not in self.updated_module_ids:
                continue
            self.metrics.log_value(
                (module_id, constants.CURR_ENTROPY_COEFF_KEY), entropy, window=1
            )
            if config.use_kl_loss:
                # A subclass with another loss need not measure it.
                kl = self.metrics.peek((module_id, MEAN_KL_LOSS_KEY), default=math.nan)
                coefficient = next_kl_coeff(
                    float(coefficients.kl.numpy()), kl, config.kl_target
                )
                coefficients.kl.assign(coefficient)
                self.metrics.log_value(
                    (module_id, CURR_KL_COEFF_KEY), coefficient, window=1
                )

    def _get_learner_state(self):
        kl = {mid: float(own.kl.numpy()) for mid, own in self._coefficients.items()}
        return {**super()._get_learner_state(), "kl_coeffs": kl}

    def _set_learner_state(self, state):
        super()._set_learner_state(state)
        for module_id, own in self._coefficients.items():
            own.kl.assign(state["kl_coeffs"].get(module_id, own.kl))
            own.entropy.update(timestep=self._counters.timestep)

    def _take_settings(self, names):
        super()._take_settings(names)
        if "kl_coeff" in names:
            for module_id, own in self._coefficients.items():
                config = self.config.get_config_for_module(module_id)
                own.kl.assign(config.kl_coeff)

    def get_required_columns(self, module_id):
        return (
            Columns.OBS,
            Columns.ACTIONS,
            Columns.ACTION_LOGP,
            Columns.ACTION_DIST_INPUTS,
            Columns.ADVANTAGES,
            Columns.VALUE_TARGETS,
        )

    def get_required_outputs(self, module_id):
        return (Columns.ACTION_DIST_INPUTS,)

    @classmethod
    def rl_module_required_apis(cls):
        return [ValueFunctionAPI]


@dataclasses.dataclass
class _Coefficients:
    """Weights in a module's loss that change between updates: variables, so that
    assigning them retraces nothing."""

    kl: Any
    entropy: Scheduler


register_config("tflearner/PPOConfig", PPOConfig)
register_builder("tflearner/PPO", PPO)
register_builder("tflearner/PPOTfLearner", PPOTfLearner)


def next_kl_coeff(coefficient: float, kl: float, kl_target: float) -> float:
    """Returns the KL weight of the next update.

    It grows by 1.5 above twice the target and halves below half of it, RLlib's rule for
    the adaptive penalty of section 4 of the paper. A non-finite KL, of a step that was
    not taken, leaves it as it is.

    >>> next_kl_coeff(0.2, kl=0.05, kl_target=0.01)
    0.30000000000000004
    """
    if not math.isfinite(kl):
        return coefficient
    if kl > 2.0 * kl_target:
        return min(coefficient * 1.5, constants.FLOAT32_MAX)
    if kl < 0.5 * kl_target:
        return coefficient * 0.5
    return coefficient
