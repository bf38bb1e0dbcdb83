"""Base of BC and MARWIL: settings of the data, and the loop that learns from them."""

import dataclasses
import time
from dataclasses import field
from typing import Any, ClassVar

import numpy as np

from tflearner import constants
from tflearner.algorithms.algorithm import Algorithm
from tflearner.checkpoint.kinds import CONFIG, of_kind
from tflearner.config import TRAINING, AlgorithmConfig
from tflearner.connectors.episode_columns import (
    AddColumnsFromEpisodesToTrainBatch,
    ForgetModelOutputs,
)
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.constants import DEFAULT_MODULE_ID, INPUT_ENV_SINGLE_SPACES
from tflearner.data.offline_data import BATCHES, COLUMNS, OfflineData
from tflearner.distributed.learner_group import LearnerGroup
from tflearner.env.env_runner import EnvRunner
from tflearner.errors import ConfigError, UsageError
from tflearner.settings import names
from tflearner.settings.bounds import A_BOOL, at_least, or_none, schedule
from tflearner.types import LearningRateOrSchedule

OFFLINE_DATA = {"section": "offline_data"}


@of_kind(CONFIG, machine={"data": None})
@dataclasses.dataclass
class OfflineConfig(AlgorithmConfig):
    """Settings of algorithms that learn from data and never sample any.

    An environment is for evaluation alone. Without one, spaces are those in the config,
    or such as the data fit in.
    """

    renamed: ClassVar[names.Names] = names.OFFLINE

    # --- offline_data ---
    data: Any = field(default=None, metadata=OFFLINE_DATA, repr=False)
    """Episodes; or columns, as for `update_from_batch`; or batches one by one, as for
    `update_from_iterator`. Checkpoints do not hold them: pass them again to
    `from_checkpoint`."""
    dataset_num_iters_per_learner: int | None = field(
        default=None, metadata=OFFLINE_DATA | or_none(at_least(1))
    )
    """Gradient steps of one `train()`; `None` passes over the data `num_epochs` times.
    Of batches that come one by one each is a step, of its own size."""

    # --- training: optimisation ---
    lr: LearningRateOrSchedule = field(default=1e-4, metadata=TRAINING | schedule(0.0))
    """Adam's step size, or a schedule `[[timestep, value], ...]` in steps of the data."""
    train_batch_size_per_learner: int = field(
        default=2000, metadata=TRAINING | at_least(1)
    )
    """Rows per gradient step."""
    shuffle_batch_per_epoch: bool = field(default=True, metadata=TRAINING | A_BOOL)
    """Whether rows are shuffled before every pass."""

    def offline_data(self, **settings: Any):
        """Sets what is learned from."""
        return self._set("offline_data", settings)

    def get_default_learner_group_class(self) -> type:
        return LearnerGroup

    def build_learner_connector(
        self, input_observation_space=None, input_action_space=None, device=None
    ) -> LearnerConnectorPipeline:
        pipeline = super().build_learner_connector(
            input_observation_space, input_action_space, device
        )
        if self.add_default_connectors_to_learner_pipeline:
            pipeline.insert_after(
                AddColumnsFromEpisodesToTrainBatch, ForgetModelOutputs()
            )
        return pipeline

    def build_env_runner(self, **arguments: Any) -> EnvRunner:
        if self.env is not None or self.env_runner_cls is not None:
            return super().build_env_runner(**arguments)
        self.validate()
        return NoEnvRunner(config=self, **arguments)

    def validate(self) -> None:
        super().validate()
        where = type(self).__name__
        if self.minibatch_size is not None:
            raise ConfigError(
                f"{where}.minibatch_size",
                str(self.minibatch_size),
                "None",
                "a gradient step takes train_batch_size_per_learner rows",
            )
        if self.env is None and self.evaluation_interval is not None:
            raise ConfigError(
                f"{where}.evaluation_interval",
                f"{self.evaluation_interval} without an environment",
                "None, or an environment to evaluate in",
            )


class OfflineAlgorithm(Algorithm):
    """Data, a learner, and the loop around them.

    `fit(total_steps)` counts the steps of the data that were learned from, and so do
    schedules.
    """

    config: OfflineConfig
    needs_env: ClassVar[bool] = False

    def _build(self) -> None:
        given = self.config.data
        self._data = None if given is None else OfflineData(given)
        self._num_steps_trained = 0
        super()._build()

    @property
    def num_env_steps_sampled_lifetime(self) -> int:
        """Steps of the data that were learned from so far."""
        return self._num_steps_trained

    def training_step(self):
        config, data = self.config, self._data
        if data is None:
            raise UsageError(
                f"{self._name}.train()",
                "no data",
                "episodes, columns or batches",
                f"pass them: {self._name}(data=...), or from_checkpoint(path, data=...)",
            )
        started = time.perf_counter()
        name = constants.NUM_ENV_STEPS_SAMPLED_LIFETIME
        timesteps = {name: self._num_steps_trained}
        num_iters = config.dataset_num_iters_per_learner
        if data.kind == BATCHES:
            results = self.learner.update_from_iterator(
                data.data, timesteps=timesteps, num_iters=num_iters
            )
            of_all = results.get(constants.ALL_MODULES, {})
            num_steps = int(of_all.get(constants.NUM_ENV_STEPS_TRAINED, 0))
            if not num_steps:
                raise UsageError(
                    f"{self._name}.train()",
                    "data without a batch",
                    "batches that can be passed over again",
                    "a generator is used up after one pass; give a list or a dataset",
                )
        else:
            size = min(config.train_batch_size_per_learner, data.num_steps)
            num_steps = data.num_steps * config.num_epochs
            if num_iters is not None:
                num_steps = size * num_iters
            update: Any = self.learner.update_from_batch
            given = data.data
            if data.kind != COLUMNS:
                update = self.learner.update_from_episodes
                given = data.drawn(num_steps, self._generator())
            results = update(
                given,
                timesteps=timesteps,
                minibatch_size=size,
                num_epochs=config.num_epochs,
                shuffle_batch_per_epoch=config.shuffle_batch_per_epoch,
                num_total_minibatches=num_iters or 0,
            )
        self._num_steps_trained += num_steps
        return results, {"learn_s": time.perf_counter() - started}

    def _generator(self) -> np.random.Generator:
        """Returns the generator of an iteration: a resumed run draws the same."""
        own = (self._iteration,)
        return np.random.default_rng(
            np.random.SeedSequence(self._run_seed, spawn_key=own)
        )

    # The state.

    def get_state(self, components=None, *, not_components=None):
        state = super().get_state(components, not_components=not_components)
        return {**state, "num_steps_trained": self._num_steps_trained}

    def _faults_of_own(self, state):
        number = state.get("num_steps_trained", 0)
        is_count = type(number) is int and 0 <= number < 2**53
        faults = [] if is_count else ["'num_steps_trained' is no count"]
        return super()._faults_of_own(state) + faults

    def _set_own_state(self, state):
        super()._set_own_state(state)
        number = state.get("num_steps_trained", self._num_steps_trained)
        self._num_steps_trained = number

    def _arguments_to_save(self):
        arguments = super()._arguments_to_save()
        if self.config.env is None:  # Data, which may tell spaces, are not saved.
            spaces = self.env_runner.get_spaces()[INPUT_ENV_SINGLE_SPACES]
            config = arguments["config"]
            config.environment(observation_space=spaces[0], action_space=spaces[1])
        return arguments

    # What people see.

    def _headline(self) -> str:
        of_algorithm, _, _ = super()._headline().rpartition(" · ")
        return of_algorithm  # Without the number of environments.

    def _update_rows(self):
        config = self.config
        data, num_iters = self._data, config.dataset_num_iters_per_learner
        steps = "passes over the data: " + str(config.num_epochs)
        if num_iters is not None:
            steps = f"{num_iters:,} gradient steps"
        of_data = "none" if data is None else data.kind
        if data is not None and data.num_steps:
            of_data = f"{data.num_steps:,} steps, {data.kind}"
        size = f"{config.train_batch_size_per_learner:,} rows per gradient step"
        return [
            ("data", of_data),
            ("update", f"{steps}, {size}"),
            ("learning rate", str(config.lr)),
        ]


class NoEnvRunner(EnvRunner):
    """Stands where an environment runner would, and knows the spaces of the data."""

    env_name = "data"

    def get_spaces(self):
        spaces: Any = (self.config.observation_space, self.config.action_space)
        if None in spaces:
            if self.config.data is None:
                raise ConfigError(
                    f"{type(self.config).__name__}",
                    "neither data nor an environment nor spaces",
                    hint="pass data=..., or env=..., or the spaces",
                )
            of_data = OfflineData(self.config.data).get_spaces()
            pairs = zip(spaces, of_data)
            spaces = tuple(b if a is None else a for a, b in pairs)
        seen = getattr(self.env_to_module, "observation_space", None)
        of_module = (spaces[0] if seen is None else seen, spaces[1])
        return {INPUT_ENV_SINGLE_SPACES: spaces, DEFAULT_MODULE_ID: of_module}

    def sample(self, **arguments: Any):
        """Raises `UsageError`: there is no environment."""
        raise UsageError(
            "sample()",
            "no environment",
            "one to act in",
            "name it: BC(env, data=...), or config.environment(...)",
        )

    def end_episodes(self, seed: int) -> None:
        """Does nothing: no episode is running."""

    def stop(self) -> None:
        """Does nothing: there is nothing to give back."""
