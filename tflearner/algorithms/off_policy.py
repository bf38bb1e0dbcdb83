"""Base of DQN and SAC: settings of replay, and the loop that replays."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from tflearner import constants
from tflearner.algorithms.algorithm import Algorithm
from tflearner.checkpoint.kinds import BUFFER, CONFIG, named, of_kind
from tflearner.checks import is_fraction, is_int
from tflearner.config import ENV_RUNNERS, REPORTING, TRAINING, AlgorithmConfig
from tflearner.connectors.episode_columns import (
    AddColumnsFromEpisodesToTrainBatch,
    AddNextObservationsFromEpisodesToTrainBatch,
    AddObservationsFromEpisodesToBatch,
)
from tflearner.connectors.n_step import NStepTransitions
from tflearner.connectors.pipeline import LearnerConnectorPipeline
from tflearner.data import allocation
from tflearner.data.episode_replay_buffer import EpisodeReplayBuffer
from tflearner.data.prioritized_episode_replay_buffer import (
    PrioritizedEpisodeReplayBuffer,
)
from tflearner.distributed.learner_group import LearnerGroup
from tflearner.errors import ConfigError, UsageError, did_you_mean, shown
from tflearner.learner.off_policy_learner import OffPolicyTfLearner
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.settings import names
from tflearner.settings.bounds import (
    A_BOOL,
    at_least,
    bound,
    check_path,
    number,
    or_none,
)
from tflearner.types import ResultDict

UNIFORM = "EpisodeReplayBuffer"
PRIORITIZED = "PrioritizedEpisodeReplayBuffer"
BUFFERS: dict[str, type[EpisodeReplayBuffer]] = {
    UNIFORM: EpisodeReplayBuffer,
    PRIORITIZED: PrioritizedEpisodeReplayBuffer,
}
# What each can be told besides the spaces and a seed.
BUFFER_SETTINGS = {
    UNIFORM: ("capacity", "memmap_dir"),
    PRIORITIZED: ("capacity", "memmap_dir", "alpha", "beta"),
}


def _is_n_step(given: Any) -> bool:
    steps = given if isinstance(given, tuple | list) else [given]
    are_counts = all(is_int(number, 1, 2**31 - 1) for number in steps)
    return are_counts and len(steps) in (1, 2) and steps[0] <= steps[-1]


AN_N_STEP = bound(_is_n_step, "an int >= 1, or (low, high) with low <= high")


@of_kind(
    CONFIG,
    takes={"replay_buffer_config": (named(BUFFER),)},
    machine={"replay_buffer_config/memmap_dir": None},
)
@dataclasses.dataclass
class OffPolicyConfig(AlgorithmConfig):
    """Settings of algorithms that learn from replayed steps.

    A round takes `rollout_fragment_length` steps in every environment, puts them into
    the replay buffer, and then takes the gradient steps that are due, in one traced
    call, on rows that are drawn at once.
    """

    learner_wide: ClassVar[tuple[str, ...]] = (
        *AlgorithmConfig.learner_wide,
        "n_step",
        "replay_buffer_config",
        "store_buffer_in_checkpoints",
        "num_steps_sampled_before_learning_starts",
        "training_intensity",
    )
    # Settings that are those of the default module as well.
    module_settings: ClassVar[tuple[str, ...]] = ()
    renamed: ClassVar[names.Names] = names.OFF_POLICY

    # --- env_runners ---
    rollout_fragment_length: int = field(default=16, metadata=ENV_RUNNERS)
    """Steps of each environment in a round, between gradient steps."""

    # --- training: replay ---
    replay_buffer_config: dict = field(default_factory=dict, metadata=TRAINING)
    """{"type": "EpisodeReplayBuffer" or "PrioritizedEpisodeReplayBuffer", "capacity":
    observations kept, "memmap_dir": a directory to keep them in instead of memory} and
    for the latter "alpha" and "beta"; omitted entries keep their defaults. Checkpoints
    do not hold the directory: pass it to `from_checkpoint` again."""
    store_buffer_in_checkpoints: bool = field(default=True, metadata=TRAINING | A_BOOL)
    """Whether checkpoints hold the replay buffer. Without it, a restored run fills a new
    one before it continues to learn."""
    num_steps_sampled_before_learning_starts: int = field(
        default=1000, metadata=TRAINING | at_least(0)
    )
    """Steps in the buffer before the first gradient step."""
    training_intensity: float | None = field(
        default=None, metadata=TRAINING | or_none(number(0.0, 1e6))
    )
    """Rows trained on for each environment step; `None` takes one gradient step per
    round."""
    n_step: int | tuple[int, int] = field(default=1, metadata=TRAINING | AN_N_STEP)
    """Steps whose rewards a row sums up; (low, high) draws a number for each row."""

    # --- training: target networks ---
    target_network_update_freq: int = field(default=0, metadata=TRAINING | at_least(0))
    """Environment steps between updates of the target networks; 0 updates them after
    every gradient step."""
    tau: float = field(default=1.0, metadata=TRAINING | number(0.0, 1.0))
    """How far target networks move then: 1 copies the networks."""

    # --- reporting ---
    min_sample_timesteps_per_iteration: int = field(
        default=1000, metadata=REPORTING | at_least(1)
    )
    """Environment steps of one `train()`, at least."""

    def get_default_learner_group_class(self) -> type:
        return LearnerGroup

    @classmethod
    def get_model_config_class(cls) -> type[DefaultModelConfig]:
        """Returns the class of its module's settings, with some of the config's own."""
        return DefaultModelConfig

    def training(self, **settings: Any):
        """Sets how the learner learns; `replay_buffer_config` may have some keys."""
        given = settings.get("replay_buffer_config")
        if isinstance(given, Mapping):
            kept: Any = self.replay_buffer_config
            kept = kept if isinstance(kept, Mapping) else {}
            types = [
                _name_of_buffer(own.get("type")) for own in ({**kept, **given}, kept)
            ]
            if types[0] != types[1]:
                known = BUFFER_SETTINGS.get(_name_of_buffer(given["type"]), ())
                kept = {key: own for key, own in kept.items() if key in known}
            settings["replay_buffer_config"] = {**kept, **given}
        return super().training(**settings)

    def build_learner_connector(
        self, input_observation_space=None, input_action_space=None, device=None
    ) -> LearnerConnectorPipeline:
        pipeline = super().build_learner_connector(
            input_observation_space, input_action_space, device
        )
        learns_from_transitions = issubclass(
            self.get_learner_class(), OffPolicyTfLearner
        )
        if learns_from_transitions and self.add_default_connectors_to_learner_pipeline:
            pipeline.insert_after(
                AddObservationsFromEpisodesToBatch,
                AddNextObservationsFromEpisodesToTrainBatch(),
            )
            pipeline.insert_after(
                AddColumnsFromEpisodesToTrainBatch,
                NStepTransitions(gamma=self.gamma, n_step=self.n_step),
            )
        return pipeline

    def validate(self) -> None:
        super().validate()
        where = type(self).__name__
        shuffles = self.shuffle_batch_per_epoch
        if self.minibatch_size is not None or self.num_epochs != 1 or shuffles:
            raise ConfigError(
                where,
                f"minibatch_size={self.minibatch_size}, num_epochs={self.num_epochs}, "
                f"shuffle_batch_per_epoch={shuffles}",
                "None, 1 and False",
                "a gradient step takes train_batch_size_per_learner rows, and "
                "training_intensity says how many steps there are",
            )
        self._check_buffer()

    def _check_buffer(self) -> None:
        where = f"{type(self).__name__}.replay_buffer_config"
        given = self.replay_buffer_config
        if not isinstance(given, Mapping):
            raise ConfigError(where, shown(given), "a dict")
        name = _name_of_buffer(given.get("type"))
        hint = "parts of it go to .training(); from_checkpoint() takes all of it"
        if name not in BUFFERS:
            want = f"one of {', '.join(map(repr, BUFFERS))}"
            close = did_you_mean(name, BUFFERS)
            got = shown(given.get("type"))
            raise ConfigError(f"{where}['type']", got, want, close or hint)
        known = ("type", *BUFFER_SETTINGS[name])
        for key in given:
            if key not in known:
                raise ConfigError(
                    where,
                    f"unknown setting {shown(key)}",
                    f"some of {', '.join(known)}",
                    names.hint_for(key, known, names.BUFFER),
                )
        capacity: Any = given.get("capacity")
        most = self.n_step[-1] if isinstance(self.n_step, tuple | list) else self.n_step
        if not is_int(capacity, 2, 2**63 - 1):
            want = "an int >= 2, below 2**63"
            raise ConfigError(f"{where}['capacity']", shown(capacity), want, hint)
        if given.get("memmap_dir") is not None:
            check_path(f"{where}['memmap_dir']", given["memmap_dir"])
        for key in {"alpha", "beta"} & given.keys():
            if not is_fraction(given[key]):
                got = shown(given[key])
                raise ConfigError(f"{where}[{key!r}]", got, "a number in [0, 1]")
        if most >= capacity:
            raise ConfigError(
                where,
                f"a capacity of {capacity} with n_step={self.n_step}",
                f"a capacity above {most}",
                "a row over n steps has n + 1 observations",
            )

    def build_replay_buffer(
        self, observation_space: gym.Space, action_space: gym.Space
    ) -> EpisodeReplayBuffer:
        """Returns an empty replay buffer.

        Args:
            observation_space: What the module sees.
            action_space: Of the module.

        Raises:
            ConfigError: If there is less memory, or room on the disk, than it needs.
        """
        if isinstance(action_space, gym.spaces.Box):  # Of modules, flat and float32.
            size = int(np.prod(action_space.shape, dtype=int))
            action_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        settings = dict(self.replay_buffer_config)
        buffer_class = BUFFERS[_name_of_buffer(settings.pop("type"))]
        seed = self.seed
        if seed is not None:  # Not what learner and runner draw with.
            own = np.random.SeedSequence(seed, spawn_key=(1,))
            seed = int(own.generate_state(1)[0])
        return buffer_class(
            **settings,
            observation_space=observation_space,
            action_space=action_space,
            seed=seed,
        )

    def complete_model_config(self, spec: RLModuleSpec) -> RLModuleSpec:
        """Returns a specification whose module has the settings that are its own, too.

        Raises:
            ConfigError: If the specification contradicts them.
        """
        default: Any = self.get_default_rl_module_spec().module_class
        given: Any = spec.model_config
        module_class: Any = spec.module_class
        if not isinstance(module_class, type) or not issubclass(module_class, default):
            return spec  # The settings of an own module are its own affair.
        own = {name: getattr(self, name) for name in self.module_settings}
        made_of = self.get_model_config_class()
        if isinstance(given, DefaultModelConfig) and not isinstance(given, made_of):
            given = given.to_dict()
        if not isinstance(given, made_of):
            if not isinstance(given, Mapping | None):
                made_of.make(given)  # Raises.
            given = made_of.make({**own, **(given or {})})
        for name, value in made_of.make(own).to_dict().items():
            if name in own and getattr(given, name) != value:
                raise ConfigError(
                    type(self).__name__,
                    f"{name}={value!r} and, for the module, "
                    f"{name}={getattr(given, name)!r}",
                    "the same",
                    f"set it in .training({name}=...) alone",
                )
        return dataclasses.replace(spec, model_config=given)


class OffPolicyAlgorithm(Algorithm):
    """An environment runner, a replay buffer and a learner, and the loop around them.

    Attributes:
        replay_buffer: What the learner learns from.
    """

    config: OffPolicyConfig

    def _build(self) -> None:
        if self.config.learner_connector is not None:
            raise UsageError(
                f"{type(self).__name__}",
                "a learner_connector, which replayed steps do not pass",
                "none",
                "change observations and rewards in an env_to_module_connector or a "
                "gymnasium wrapper, or feed a learner by update_from_episodes",
            )
        super()._build()
        module = self.get_module()
        self.replay_buffer = self.config.build_replay_buffer(
            module.observation_space, module.action_space
        )
        self._check_room_for_checkpoints()
        self._rows_due = 0.0  # That training_intensity asks for; less than a batch.

    def _check_room_for_checkpoints(self) -> None:
        """Raises now what would else end the run when it is saved first."""
        config, need = self.config, self.replay_buffer.nbytes
        if config.store_buffer_in_checkpoints:
            in_memory = config.replay_buffer_config.get("memmap_dir") is None
            allocation.check_room(
                f"{type(config).__name__}.store_buffer_in_checkpoints",
                need * (2 if in_memory else 1),
                allocation.machine_memory(),
                "this machine's memory, for a checkpoint copies the buffer",
                "store_buffer_in_checkpoints=False, or a smaller capacity",
            )

    def training_step(self):
        config, clock = self.config, time.perf_counter
        num_steps = config.rollout_fragment_length * self.env_runner.num_envs
        results: ResultDict = {}
        seconds = {"replay_s": 0.0, "learn_s": 0.0}
        first = self.num_env_steps_sampled_lifetime
        least = config.min_sample_timesteps_per_iteration
        while self.num_env_steps_sampled_lifetime - first < least:
            self._before_sampling()
            episodes = self.env_runner.sample(num_timesteps=num_steps)
            started = clock()
            self.replay_buffer.add(episodes)
            num_updates = self._num_updates(sum(map(len, episodes)))
            seconds["replay_s"] += clock() - started
            if num_updates:
                results = self._learn(num_updates, seconds)
        return results, seconds

    def _before_sampling(self) -> None:
        """Runs before every round, for what exploring depends on."""

    def _num_updates(self, num_steps: int) -> int:
        """Returns how many gradient steps are due after some environment steps."""
        config, buffer = self.config, self.replay_buffer
        needed = config.num_steps_sampled_before_learning_starts
        if buffer.get_added_timesteps() < needed or not len(buffer):
            return 0
        if config.training_intensity is None:
            return 1
        self._rows_due += config.training_intensity * num_steps
        num_updates = int(self._rows_due // config.train_batch_size_per_learner)
        self._rows_due -= num_updates * config.train_batch_size_per_learner
        return num_updates

    def _learn(self, num_updates: int, seconds: dict[str, float]) -> ResultDict:
        config, clock = self.config, time.perf_counter
        size, module_id = config.train_batch_size_per_learner, self.get_module_id()
        started = clock()
        batch = self.replay_buffer.sample(
            num_updates * size, n_step=config.n_step, gamma=config.gamma
        )
        drawn = clock()
        now = self.num_env_steps_sampled_lifetime
        results = self.learner.update_from_batch(
            {module_id: batch},
            timesteps={constants.NUM_ENV_STEPS_SAMPLED_LIFETIME: now},
            minibatch_size=size,
        )
        learned = clock()
        errors = self.learner.row_outputs.get((module_id, constants.TD_ERROR_KEY))
        if errors is not None and isinstance(
            self.replay_buffer, PrioritizedEpisodeReplayBuffer
        ):
            # Rows of a skipped non-finite step: seldom drawn from now on.
            errors = np.where(np.isfinite(errors), errors, 0.0)
            self.replay_buffer.update_priorities(errors)
        seconds["replay_s"] += drawn - started + clock() - learned
        seconds["learn_s"] += learned - drawn
        return results

    # State.

    def get_checkpointable_components(self):
        components = super().get_checkpointable_components()
        if self.config.store_buffer_in_checkpoints:
            name = constants.COMPONENT_REPLAY_BUFFER
            components.append((name, self.replay_buffer))
        return components

    def _plan_restore(self, state, component):
        name = constants.COMPONENT_REPLAY_BUFFER
        if not component:
            # Whether there is a buffer in it was for whoever saved it to say.
            of_buffer = state.get(name)
            state = {key: own for key, own in state.items() if key != name}
            if self.config.store_buffer_in_checkpoints:
                state[name] = of_buffer or self.replay_buffer.get_state()
        return super()._plan_restore(state, component)

    def get_state(self, components=None, *, not_components=None):
        state = super().get_state(components, not_components=not_components)
        return {**state, "rows_due": self._rows_due}

    def _faults_of_own(self, state):
        rows_due = state.get("rows_due", 0.0)
        is_number = type(rows_due) in (int, float) and 0.0 <= rows_due < 2**53
        faults = [] if is_number else ["'rows_due' is no number of rows"]
        return super()._faults_of_own(state) + faults

    def _set_own_state(self, state):
        super()._set_own_state(state)
        self._rows_due = float(state.get("rows_due", self._rows_due))

    def _end_episodes(self) -> None:
        super()._end_episodes()
        self.replay_buffer.end_episodes()

    # What people see.

    def _headline(self) -> str:
        return f"{super()._headline()} · replay of {self.replay_buffer.describe()}"

    def _update_rows(self) -> list[tuple[str, str]]:
        config = self.config
        size = config.train_batch_size_per_learner
        num_steps = config.rollout_fragment_length * self.env_runner.num_envs
        intensity = config.training_intensity
        updates = 1 if intensity is None else intensity * num_steps / size
        frequency = config.target_network_update_freq
        when = f"every {frequency:,} steps" if frequency else "after each gradient step"
        return [
            ("replay", self.replay_buffer.describe()),
            (
                "update",
                f"{updates:,.3g} gradient steps of {size:,} rows, one traced call",
            ),
            ("", f"per {num_steps:,} environment steps"),
            ("target networks", f"{when}, tau {config.tau:g}"),
        ]


def _name_of_buffer(buffer_type: Any) -> str:
    """Returns the name of a class, or a name; something else as a name nobody has."""
    name = getattr(buffer_type, "__name__", buffer_type)
    return name if isinstance(name, str) else shown(name)
