"""IMPALA: its settings, the algorithm and its learner, in that order.

Espeholt et al., "IMPALA: Scalable Distributed Deep-RL with Importance Weighted
Actor-Learner Architectures" (2018), https://arxiv.org/abs/1802.01561. Acting and learning
take turns here, in one process; V-trace corrects for the age of the weights that act.
"""

import dataclasses
import math
import time
from dataclasses import field
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tflearner import constants
from tflearner.algorithms.algorithm import Algorithm
from tflearner.checkpoint.builders import register_builder
from tflearner.columns import Columns
from tflearner.config import A_CLIP, ENV_RUNNERS, TRAINING, AlgorithmConfig
from tflearner.connectors.episode_columns import AddOneTsToEpisodesAndTruncate
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.distributed.learner_group import LearnerGroup
from tflearner.errors import BatchError, ConfigError
from tflearner.learner.tf_learner import TfLearner
from tflearner.losses.impala import impala_loss
from tflearner.losses.vtrace import vtrace
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.catalog import PPOCatalog
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.networks.recurrent import apply_per_step
from tflearner.schedule import Scheduler
from tflearner.settings import names
from tflearner.settings.bounds import (
    A_BOOL,
    at_least,
    finite,
    number,
    or_none,
    schedule,
)
from tflearner.settings.settings import register_config
from tflearner.types import LearningRateOrSchedule, ModuleID


@dataclasses.dataclass
class IMPALAConfig(AlgorithmConfig):
    """Settings of IMPALA; defaults are RLlib's.

    `examples/impala_cartpole.py` shows values tuned to a task.

        >>> config = IMPALAConfig().environment("CartPole-v1").training(lr=1e-3)
        >>> config.broadcast_interval
        1
    """

    renamed: ClassVar[names.Names] = names.IMPALA
    learner_wide: ClassVar[tuple[str, ...]] = (
        *AlgorithmConfig.learner_wide,
        "broadcast_interval",
    )

    # --- env_runners ---
    rollout_fragment_length: int = field(default=50, metadata=ENV_RUNNERS | at_least(1))
    """Steps per environment of a `sample()`, and so the most of a trajectory."""

    # --- training: optimisation ---
    lr: LearningRateOrSchedule = field(default=5e-4, metadata=TRAINING | schedule(0.0))
    """Adam's step size, or a schedule `[[timestep, value], ...]` in environment steps."""
    grad_clip: float | None = field(default=40.0, metadata=TRAINING | A_CLIP)
    """Bound on gradients; `None` does not clip."""
    train_batch_size_per_learner: int = field(
        default=500, metadata=TRAINING | at_least(1)
    )
    """Environment steps collected before each update, at least."""

    # --- training: V-trace ---
    vtrace: bool = field(default=True, metadata=TRAINING | A_BOOL)
    """Whether steps are weighed by how likely the current policy takes them; `False`
    weighs all alike, as if it had taken them."""
    vtrace_clip_rho_threshold: float | None = field(
        default=1.0, metadata=TRAINING | or_none(number(0.0, math.inf))
    )
    """Bound on the weights in value targets; `None` has no bound."""
    vtrace_clip_pg_rho_threshold: float | None = field(
        default=1.0, metadata=TRAINING | or_none(number(0.0, math.inf))
    )
    """Bound on the weights of policy gradients; `None` has no bound."""
    broadcast_interval: int = field(default=1, metadata=TRAINING | at_least(1))
    """Updates after which acting gets the learner's weights."""

    # --- training: objective ---
    vf_loss_coeff: float = field(default=0.5, metadata=TRAINING | finite(0.0))
    """Weight of the value loss."""
    entropy_coeff: LearningRateOrSchedule = field(
        default=0.01, metadata=TRAINING | schedule(0.0)
    )
    """Weight of the entropy bonus, or a schedule `[[timestep, value], ...]`."""

    def get_default_learner_class(self) -> type:
        return IMPALATfLearner

    def get_default_learner_group_class(self) -> type:
        return LearnerGroup

    def get_default_algorithm_class(self) -> type:
        return IMPALA

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=PPOTfRLModule, catalog_class=PPOCatalog)

    def build_learner_connector(
        self, input_observation_space=None, input_action_space=None, device=None
    ) -> LearnerConnectorPipeline:
        pipeline = super().build_learner_connector(
            input_observation_space, input_action_space, device
        )
        if issubclass(self.get_learner_class(), IMPALATfLearner):
            pipeline.prepend(AddOneTsToEpisodesAndTruncate())
        return pipeline


class IMPALA(Algorithm):
    """Importance weighted actor-learner, with one actor in the learner's process.

    algo = IMPALA("CartPole-v1", lr=1e-3, num_envs_per_env_runner=10)
    history = algo.fit(total_steps=200_000)
    print(algo.evaluate(episodes=20))

    With a `broadcast_interval` above 1 a second module acts, with the weights that the
    learner had up to that many updates ago. It gets new ones whenever the run is saved,
    too: in this run as in one that continues from the files.
    """

    config_class = IMPALAConfig
    config: IMPALAConfig

    def _build(self) -> None:
        super()._build()
        self._acting: Any = None  # A module of its own, if its weights are older.
        self._age = 0  # Updates since it got the learner's.
        if self.config.broadcast_interval > 1:
            self._acting = _copy_of(self.get_module())
            self.env_runner.set_modules({self.get_module_id(): self._acting})
            self._broadcast()

    def _broadcast(self) -> None:
        """Lets the environment runner act with the learner's weights of now."""
        if self._acting is not None:
            self._acting.set_state(self.get_module().get_state())
        self._age = 0

    def _end_episodes(self) -> None:
        super()._end_episodes()
        self._broadcast()

    def training_step(self):
        config = self.config
        if self._age >= config.broadcast_interval:
            self._broadcast()
        num_steps = config.rollout_fragment_length * self.env_runner.num_envs
        episodes: list[Any] = []
        while sum(map(len, episodes)) < config.train_batch_size_per_learner:
            episodes += self.env_runner.sample(num_timesteps=num_steps)
        started = time.perf_counter()
        # Of these steps as of all others: 1 is the weights before this update.
        key = (self.get_module_id(), constants.DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY)
        self.learner.metrics.log_value(key, self._age + 1, window=1)
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
        self._age += 1
        return results, {"learn_s": time.perf_counter() - started}


class IMPALATfLearner(TfLearner):
    """Policy gradients and value targets that V-trace corrects for older weights.

    Reports per module, besides what every learner reports: policy_loss, vf_loss, entropy
    and curr_entropy_coeff. RLlib's `pi_loss` and `vf_loss` are sums, these are means.

    Batches are sequences [S, T, ...]. Behind the last step of each that did not
    terminate stands a row that does not count (LOSS_MASK), with the observation that
    followed: its value closes the sequence. The pipeline makes such batches of episodes.
    """

    config: IMPALAConfig
    needs_trajectories = True

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._entropy_coeffs: dict[ModuleID, Scheduler] = {}

    def _set_up_module(self, module_id: ModuleID) -> None:
        super()._set_up_module(module_id)
        config = self.config.get_config_for_module(module_id)
        self._entropy_coeffs[module_id] = Scheduler(
            fixed_value_or_schedule=config.entropy_coeff,
            variable=self._get_tensor_variable(0.0),
        )

    def _tear_down_module(self, module_id: ModuleID) -> None:
        super()._tear_down_module(module_id)
        self._entropy_coeffs.pop(module_id, None)

    def complete_columns(self, module_id, columns):
        columns = super().complete_columns(module_id, columns)
        if Columns.TERMINATEDS in columns:
            _check_is_closed(module_id, columns)
        return columns

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        module: Any = self.module[module_id].unwrapped()
        dist_class = module.get_train_action_dist_cls()
        dist = dist_class.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        logp = dist.logp(batch[Columns.ACTIONS])
        values = fwd_out.get(Columns.VF_PREDS)
        if values is None:
            values = _values(module, batch, fwd_out.get(Columns.EMBEDDINGS))
        mask = batch[Columns.LOSS_MASK]
        targets = vtrace(
            logp=logp,
            behaviour_logp=batch[Columns.ACTION_LOGP] if config.vtrace else logp,
            rewards=batch[Columns.REWARDS],
            values=values,
            terminateds=batch[Columns.TERMINATEDS],
            mask=mask,
            gamma=config.gamma,
            clip_rho_threshold=config.vtrace_clip_rho_threshold,
            clip_pg_rho_threshold=config.vtrace_clip_pg_rho_threshold,
        )
        loss = impala_loss(
            logp=logp,
            values=values,
            entropy=dist.entropy(),
            targets=targets,
            mask=mask,
            vf_loss_coeff=config.vf_loss_coeff,
            entropy_coeff=self._entropy_coeffs[module_id].get_current_value(),
        )
        terms = {
            constants.POLICY_LOSS_KEY: loss.policy,
            constants.VF_LOSS_KEY: loss.value,
            constants.ENTROPY_KEY: loss.entropy,
        }
        self.metrics.log_dict(terms, key=module_id, window=1)
        return loss.total

    def before_gradient_based_update(self, *, timesteps):
        super().before_gradient_based_update(timesteps=timesteps)
        name = constants.NUM_ENV_STEPS_SAMPLED_LIFETIME
        now = timesteps.get(name, self._counters.timestep)
        for module_id in self.updated_module_ids:
            coeff = self._entropy_coeffs[module_id].update(timestep=now)
            key = (module_id, constants.CURR_ENTROPY_COEFF_KEY)
            self.metrics.log_value(key, coeff, window=1)

    def _set_learner_state(self, state):
        super()._set_learner_state(state)
        for coeff in self._entropy_coeffs.values():
            coeff.update(timestep=self._counters.timestep)

    def get_required_columns(self, module_id):
        return (
            Columns.OBS,
            Columns.ACTIONS,
            Columns.ACTION_LOGP,
            Columns.REWARDS,
            Columns.TERMINATEDS,
        )

    def get_required_outputs(self, module_id):
        return (Columns.ACTION_DIST_INPUTS,)

    @classmethod
    def rl_module_required_apis(cls):
        return [ValueFunctionAPI]


register_config("tflearner/IMPALAConfig", IMPALAConfig)
register_builder("tflearner/IMPALA", IMPALA)
register_builder("tflearner/IMPALATfLearner", IMPALATfLearner)


def _copy_of(module: Any) -> Any:
    """Returns a module with weights of its own, of the same kind."""
    args, kwargs = module.get_ctor_args_and_kwargs()
    copy = type(module)(*args, **kwargs)
    if {id(w) for w in copy.weights} & {id(w) for w in module.weights}:
        raise ConfigError(
            "IMPALAConfig.broadcast_interval",
            "above 1 with one Keras model, whose weights cannot be of two ages",
            "1, or a function that returns a new model",
        )
    return copy


def _values(module: Any, batch: dict[str, Any], embeddings: Any) -> tf.Tensor:
    """Returns the values of sequences. float [S, T]."""
    if module.is_stateful():
        return module.compute_values(batch, embeddings=embeddings)
    columns = {k: own for k, own in batch.items() if k != Columns.SEQ_LENS}
    return apply_per_step(module.compute_values, columns)


def _check_is_closed(module_id: ModuleID, columns: dict[str, Any]) -> None:
    """Raises `BatchError` for a sequence that continues behind its last row."""
    last = np.arange(len(columns[Columns.SEQ_LENS])), columns[Columns.SEQ_LENS] - 1
    goes_on = columns[Columns.LOSS_MASK][last] & ~columns[Columns.TERMINATEDS][last]
    if goes_on.any():
        raise BatchError(
            f"module {module_id!r}, sequence {int(np.argmax(goes_on))}",
            "a last row that counts and did not terminate",
            f"a row behind it with the next observation, False in {Columns.LOSS_MASK!r}",
            "AddOneTsToEpisodesAndTruncate adds such rows to episodes",
        )
