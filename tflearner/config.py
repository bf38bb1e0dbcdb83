"""`AlgorithmConfig`: the settings of all algorithms, and the objects built from them.

A config is data: typed fields, each in one section, with one sentence under it. The
fluent methods (`.training(...)`, `.environment(...)`) set the fields of their section
and refuse unknown names.
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from typing import Any, ClassVar, Self

import gymnasium as gym

from tflearner.checkpoint.kinds import CONFIG, of_kind
from tflearner.checks import is_float32, is_real
from tflearner.connectors.actions import GetActions, NormalizeAndClipActions
from tflearner.connectors.batching import AgentToModuleMapping, BatchIndividualItems
from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.episode_columns import (
    AddColumnsFromEpisodesToTrainBatch,
    AddObservationsFromEpisodesToBatch,
)
from tflearner.connectors.pipeline import (
    EnvToModulePipeline,
    LearnerConnectorPipeline,
    ModuleToEnvPipeline,
    as_connectors,
)
from tflearner.connectors.states import (
    AddStatesFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
)
from tflearner.constants import DEFAULT_MODULE_ID, FLOAT32_MAX
from tflearner.env.env_runner import EnvRunner
from tflearner.env.single_agent_env_runner import SingleAgentEnvRunner
from tflearner.errors import ConfigError, TFLearnerError, UsageError, shown
from tflearner.modules import module_settings
from tflearner.modules.default_model_config import DefaultModelConfig, names_of_networks
from tflearner.modules.rl_module_spec import MultiRLModuleSpec, RLModuleSpec
from tflearner.settings import files
from tflearner.settings.bounds import (
    A_BOOL,
    A_DICT,
    A_PATH,
    a_class,
    at_least,
    bound,
    function,
    instance_of,
    number,
    one_of,
    or_none,
    schedule,
)
from tflearner.settings.names import ANY, Names
from tflearner.settings.settings import Settings, register_config
from tflearner.types import LearningRateOrSchedule, ModuleID

# The section of a field, and so the fluent method that sets it.
ENVIRONMENT = {"section": "environment"}
ENV_RUNNERS = {"section": "env_runners"}
TRAINING = {"section": "training"}
LEARNERS = {"section": "learners"}
RL_MODULE = {"section": "rl_module"}
MULTI_AGENT = {"section": "multi_agent"}
FRAMEWORK = {"section": "framework"}
EVALUATION = {"section": "evaluation"}
DEBUGGING = {"section": "debugging"}
REPORTING = {"section": "reporting"}
# Settings that RLlib has moved: the former and the present method both set them.
TRAINING_OR_LEARNERS = {"section": "training", "also": "learners"}
TRAINING_OR_REPORTING = {"section": "training", "also": "reporting"}

_A_CONNECTOR = "a function of (observation space, action space) returning pieces"
CONNECTORS = function(_A_CONNECTOR)
A_SPACE = instance_of(gym.Space | None, "a gymnasium space, or None")
A_CLIP = bound(
    lambda clip: clip is None or (is_float32(clip) and clip > 0),
    f"a finite number above 0, up to {FLOAT32_MAX:.2g}",
    "None does not clip",
)
ENV_RUNNER_CLASS = a_class(
    lambda cls: issubclass(cls, EnvRunner),
    "a subclass of EnvRunner",
    "a class with all methods of an EnvRunner",
)
A_TIMEOUT = bound(
    lambda seconds: seconds is None or (is_real(seconds) and 0 < seconds <= 1e6),
    "a number in (0, 1e6], or None",
)


@of_kind(CONFIG, takes=files.TAKES, machine=files.OF_THE_MACHINE, refuse=files.refused)
@dataclasses.dataclass
class AlgorithmConfig(Settings):
    """Settings shared by all algorithms, set section by section.

    Every fluent method returns the config itself:

        config = PPOConfig().environment("CartPole-v1").training(lr=3e-4)
    """

    renamed: ClassVar[Names] = ANY
    # Training settings that one update has for all of its modules.
    learner_wide: ClassVar[tuple[str, ...]] = (
        "gamma",
        "train_batch_size_per_learner",
        "num_epochs",
        "minibatch_size",
        "shuffle_batch_per_epoch",
        "non_finite_updates",
        "max_non_finite_updates_in_a_row",
        "never_skip_update",
        "batch_checks",
        "learner_class",
        "learner_connector",
        "add_default_connectors_to_learner_pipeline",
    )

    # --- environment ---
    env: Any = field(default=None, metadata=ENVIRONMENT)
    """Registered id, environment class, or function returning an environment or a
    `gymnasium.vector.VectorEnv`."""
    env_config: dict = field(default_factory=dict, metadata=ENVIRONMENT | A_DICT)
    """Keyword arguments of the environment."""
    observation_space: gym.Space | None = field(
        default=None, metadata=ENVIRONMENT | A_SPACE
    )
    """Space of single observations; read off the environment by default."""
    action_space: gym.Space | None = field(default=None, metadata=ENVIRONMENT | A_SPACE)
    """Space of single actions; read off the environment by default."""
    normalize_actions: bool = field(default=True, metadata=ENVIRONMENT | A_BOOL)
    """Whether modules act in [-1, 1] and Box actions are stretched to their bounds."""
    clip_actions: bool = field(default=False, metadata=ENVIRONMENT | A_BOOL)
    """Whether Box actions are clipped to their bounds when they are not stretched."""
    action_masks: str | bool = field(
        default="auto", metadata=ENVIRONMENT | one_of(True, False, "auto")
    )
    """Whether masks of actions in `info["action_mask"]` or a method `action_masks()`
    become part of the observations: "auto" if there are any, `False` never, `True`
    demands masks; those of vector environments have to be in the observations. To look
    for them, the first environment is reset once more."""

    # --- env_runners ---
    env_runner_cls: type[EnvRunner] | None = field(
        default=None, metadata=ENV_RUNNERS | ENV_RUNNER_CLASS
    )
    """Class of the environment runner, a subclass of `EnvRunner`;
    `SingleAgentEnvRunner` by default."""
    num_envs_per_env_runner: int = field(
        default=1, metadata=ENV_RUNNERS | at_least(1, 2**20)
    )
    """Environments stepped at once."""
    gym_env_vectorize_mode: str = field(
        default="sync",
        metadata=ENV_RUNNERS | one_of("sync", "async", "vector_entry_point"),
    )
    """"sync", "async" (one process each) or "vector_entry_point" (the environment's
    own vectorised form, by far the fastest where there is one)."""
    autoreset_mode: str = field(
        default="same_step",
        metadata=ENV_RUNNERS | one_of("same_step", "next_step", "disabled"),
    )
    """"same_step", "next_step" or "disabled", for "sync" and "async"."""
    env_step_timeout_s: float | None = field(
        default=None,
        metadata=ENV_RUNNERS | A_TIMEOUT,
    )
    """Time limit of a step or reset with "async", in seconds; after that its process is
    ended, and an `EnvStepError` names the environment. `None` sets no limit."""
    rollout_fragment_length: int = field(
        default=200, metadata=ENV_RUNNERS | at_least(1)
    )
    """Steps per environment of a `sample()` without arguments."""
    explore: bool = field(default=True, metadata=ENV_RUNNERS | A_BOOL)
    """Whether sampling explores."""
    episode_lookback_horizon: int = field(default=1, metadata=ENV_RUNNERS | at_least(0))
    """Steps of its past that a continued piece of an episode carries along."""
    env_to_module_connector: Callable | None = field(
        default=None, metadata=ENV_RUNNERS | CONNECTORS
    )
    """Function of (observation space, action space) returning one connector or several.
    They come before the default connectors."""
    module_to_env_connector: Callable | None = field(
        default=None, metadata=ENV_RUNNERS | CONNECTORS
    )
    """Function as for `env_to_module_connector`; its connectors run between the module
    and the environment."""

    # --- training ---
    gamma: float = field(default=0.99, metadata=TRAINING | number(0.0, 1.0))
    """Discount per environment step."""
    lr: LearningRateOrSchedule = field(default=0.001, metadata=TRAINING | schedule(0.0))
    """Learning rate, or a schedule `[[timestep, value], ...]` in environment steps."""
    grad_clip: float | None = field(default=None, metadata=TRAINING | A_CLIP)
    """Bound on gradients; `None` does not clip."""
    grad_clip_by: str = field(
        default="global_norm",
        metadata=TRAINING | one_of("value", "norm", "global_norm"),
    )
    """"value", "norm" (of each gradient) or "global_norm" (of all of a module's)."""
    log_gradients: bool = field(default=False, metadata=TRAINING_OR_REPORTING | A_BOOL)
    """Whether the norm of gradients after clipping is reported as well; the one before
    always is."""
    train_batch_size_per_learner: int = field(
        default=32, metadata=TRAINING | at_least(1)
    )
    """Environment steps per update."""
    num_epochs: int = field(default=1, metadata=TRAINING | at_least(1))
    """Passes over the train batch per update."""
    minibatch_size: int | None = field(
        default=None, metadata=TRAINING | or_none(at_least(1))
    )
    """Rows per gradient step; `None` takes the whole batch."""
    shuffle_batch_per_epoch: bool = field(default=False, metadata=TRAINING | A_BOOL)
    """Whether rows are shuffled before every pass."""
    non_finite_updates: str = field(
        default="skip", metadata=TRAINING | one_of("skip", "raise", "off")
    )
    """Handling of a module whose loss or gradients are not finite: "skip" leaves it
    unchanged and counts, "raise" does so and raises, "off" does not look."""
    max_non_finite_updates_in_a_row: int | None = field(
        default=100, metadata=TRAINING | or_none(at_least(1))
    )
    """Skipped gradient steps in a row of one module, across updates, after which
    `NonFiniteUpdateError` is raised; `None` never raises."""
    never_skip_update: bool = field(default=False, metadata=TRAINING | A_BOOL)
    """Whether an update without data still runs the hooks around it."""
    batch_checks: str = field(
        default="full", metadata=TRAINING | one_of("full", "strict", "schema", "off")
    )
    """How batches are checked: "full", "strict" (full, and unknown columns are refused),
    "schema" (without a look at values) or "off"."""
    learner_class: type | None = field(
        default=None, metadata=TRAINING_OR_LEARNERS | module_settings.LEARNER_CLASS
    )
    """Class of the learner; the algorithm's own by default."""
    learner_connector: Callable | None = field(
        default=None, metadata=TRAINING_OR_LEARNERS | CONNECTORS
    )
    """Function of (observation space, action space) returning one connector or several.
    They come before the default connectors of the learner connector pipeline."""
    add_default_connectors_to_learner_pipeline: bool = field(
        default=True, metadata=TRAINING_OR_LEARNERS | A_BOOL
    )
    """Whether the learner connector pipeline has its default connectors."""
    learner_config_dict: dict = field(
        default_factory=dict, metadata=TRAINING_OR_LEARNERS | A_DICT
    )
    """Own settings for own learner classes."""

    # --- learners ---
    num_learners: int = field(default=0, metadata=LEARNERS | at_least(0))
    """Learner processes; 0 is one learner in this process."""
    num_gpus_per_learner: int | None = field(
        default=None, metadata=LEARNERS | or_none(at_least(0))
    )
    """GPUs of this machine to learn on: several share every minibatch, 0 is the CPU,
    `None` the first GPU if there is one."""
    local_gpu_idx: int = field(default=0, metadata=LEARNERS | at_least(0))
    """Number of the first of these GPUs."""
    strategy: Any = field(default=None, metadata=LEARNERS)
    """A `tf.distribute` strategy to learn under, instead."""
    num_aggregator_actors_per_learner: int = field(
        default=0, metadata=LEARNERS | at_least(0)
    )
    """Above 0 the learner has no connector pipeline and takes ready batches."""
    deferred_data_timeout_s: float = field(
        default=60.0, metadata=LEARNERS | number(0.0, 1e6)
    )
    """Seconds that an update waits for Ray object references; a reference that takes
    longer is lost, of the kind "late"."""

    # --- rl_module ---
    rl_module_spec: RLModuleSpec | MultiRLModuleSpec | None = field(
        default=None, metadata=RL_MODULE | module_settings.RL_MODULE_SPEC
    )
    """Specification of the module or modules; missing parts are the algorithm's."""
    model_config: DefaultModelConfig | dict | None = field(
        default=None, metadata=RL_MODULE | module_settings.MODEL_CONFIG
    )
    """Settings of the default networks."""
    model: Any = field(default=None, metadata=RL_MODULE | module_settings.MODEL)
    """Own Keras model, or a function returning one, as encoder."""

    # --- multi_agent ---
    policies: Any = field(
        default_factory=dict, metadata=MULTI_AGENT | module_settings.POLICIES
    )
    """Modules by id, with a specification or `None` each."""
    policy_mapping_fn: Callable | None = field(
        default=None,
        metadata=MULTI_AGENT | function("a function of (agent id, episode), or None"),
    )
    """Function of (agent id, episode) returning a module id."""
    policies_to_train: Collection[ModuleID] | Callable | None = field(
        default=None, metadata=MULTI_AGENT | module_settings.POLICIES_TO_TRAIN
    )
    """Ids of the modules that learn, or a function of (module id, batch); `None`
    trains all."""
    algorithm_config_overrides_per_module: dict = field(
        default_factory=dict, metadata=MULTI_AGENT
    )
    """{module id: {setting: value}} for modules with settings of their own."""

    # --- framework ---
    framework_str: str = field(default="tf2", metadata=FRAMEWORK | one_of("tf2"))
    """Always "tf2"."""
    jit_compile: bool | str = field(
        default="auto", metadata=FRAMEWORK | one_of(True, False, "auto")
    )
    """Whether XLA compiles the update: True, False, or "auto" for where it pays."""
    compile_cache: str | os.PathLike | None = field(
        default=None, metadata=FRAMEWORK | or_none(A_PATH)
    )
    """Directory where XLA keeps what it compiled, for the next process. Has to be set
    before TensorFlow computes anything."""
    run_eagerly: bool = field(default=False, metadata=FRAMEWORK | A_BOOL)
    """Whether updates run line by line, for debugging."""

    # --- evaluation ---
    evaluation_interval: int | None = field(
        default=None, metadata=EVALUATION | or_none(at_least(1))
    )
    """Iterations between evaluations during `fit`; `None` never evaluates there."""
    evaluation_duration: int = field(default=10, metadata=EVALUATION | at_least(1))
    """Episodes per evaluation during `fit`."""

    # --- debugging ---
    seed: int | None = field(
        default=None, metadata=DEBUGGING | or_none(at_least(0, 2**64 - 1))
    )
    """Seed of everything this library draws; nothing global is seeded."""

    # --- reporting ---
    metrics_num_episodes_for_smoothing: int = field(
        default=100, metadata=REPORTING | at_least(1)
    )
    """Episodes over which returns and lengths are averaged."""

    # Fluent methods, one per section.

    def environment(self, env: Any = None, **settings: Any) -> Self:
        """Sets the environment and its spaces."""
        if env is not None:
            settings["env"] = env
        return self._set("environment", settings)

    def env_runners(self, **settings: Any) -> Self:
        """Sets how environments are sampled."""
        return self._set("env_runners", settings)

    def training(self, **settings: Any) -> Self:
        """Sets how the learner learns."""
        return self._set("training", settings)

    def learners(self, **settings: Any) -> Self:
        """Sets where learners run."""
        return self._set("learners", settings)

    def rl_module(self, **settings: Any) -> Self:
        """Sets the module and its networks."""
        name = "algorithm_config_overrides_per_module"
        if name not in settings:
            return self._set("rl_module", settings)
        overrides = settings.pop(name)
        self._check_overrides(overrides)
        return self._set("rl_module", settings).multi_agent(**{name: overrides})

    def multi_agent(self, **settings: Any) -> Self:
        """Sets the modules of several agents, and which of them learn."""
        self._check_overrides(settings.get("algorithm_config_overrides_per_module", {}))
        if "policies" in settings:
            policies = settings["policies"]
            module_settings.check_policies(f"{type(self).__name__}.policies", policies)
            if not isinstance(policies, Mapping):
                settings["policies"] = dict.fromkeys(policies)
        return self._set("multi_agent", settings)

    def framework(self, framework: str | None = None, **settings: Any) -> Self:
        """Sets how TensorFlow runs the update."""
        is_tf2 = isinstance(framework, str) and framework == "tf2"
        if framework is not None and not is_tf2:
            raise ConfigError(
                f"{type(self).__name__}.framework()", shown(framework), "'tf2'"
            )
        return self._set("framework", settings)

    def evaluation(self, **settings: Any) -> Self:
        """Sets evaluation during `fit`."""
        return self._set("evaluation", settings)

    def debugging(self, **settings: Any) -> Self:
        """Sets the seed, so that a run can be repeated."""
        return self._set("debugging", settings)

    def reporting(self, **settings: Any) -> Self:
        """Sets how results are summarised."""
        return self._set("reporting", settings)

    @classmethod
    def overrides(cls, **settings: Any) -> dict[str, Any]:
        """Returns settings for `algorithm_config_overrides_per_module`.

        >>> AlgorithmConfig.overrides(lr=0.01)
        {'lr': 0.01}
        """
        cls._check_names(settings, f"{cls.__name__}.overrides()")
        return settings

    def get_config_for_module(self, module_id: ModuleID) -> Self:
        """Returns the config of one module: this one, or a copy with its overrides.

        It is the same object from call to call, until a setting is changed.
        """
        changes = self.algorithm_config_overrides_per_module.get(module_id)
        if not changes:
            return self
        made_of, layered = self._derived.get(module_id, (None, None))
        if made_of != changes:
            layered = self.copy(copy_frozen=False)
            for name, value in changes.items():
                setattr(layered, name, value)
            if self.is_frozen:
                layered.freeze()
            self._derived[module_id] = (dict(changes), layered)
        return layered

    def validate(self) -> None:
        """Raises `ConfigError` for settings that are impossible or contradict."""
        super().validate()
        where = type(self).__name__
        rows = self.minibatch_size
        if rows is not None and rows > self.train_batch_size_per_learner:
            raise ConfigError(
                where,
                f"minibatch_size={rows} larger than "
                f"train_batch_size_per_learner={self.train_batch_size_per_learner}",
                hint="lower minibatch_size or raise train_batch_size_per_learner",
            )
        if self.strategy is not None and self.num_gpus_per_learner is not None:
            raise ConfigError(
                where,
                "both strategy and num_gpus_per_learner",
                hint="a strategy says which devices there are; drop one of the two",
            )
        seconds, mode = self.env_step_timeout_s, self.gym_env_vectorize_mode
        if seconds is not None and mode != "async":
            raise ConfigError(
                f"{where}.env_step_timeout_s",
                f"{seconds!r} with gym_env_vectorize_mode={mode!r}",
                "None, or gym_env_vectorize_mode='async'",
                "only a process of its own can be ended while it steps",
            )
        if self.run_eagerly and self.jit_compile is True:
            raise ConfigError(
                where,
                "run_eagerly=True with jit_compile=True",
                hint="XLA compiles traced updates only; drop one of the two",
            )
        if self.num_learners > 1:
            raise ConfigError(
                f"{where}.num_learners", str(self.num_learners), "0 or 1, one process"
            )
        self._check_overrides(self.algorithm_config_overrides_per_module)
        self._check_overridden()

    @classmethod
    def _check_overrides(cls, overrides: Any) -> None:
        where = f"{cls.__name__}.algorithm_config_overrides_per_module"
        if not isinstance(overrides, Mapping):
            raise ConfigError(where, shown(overrides), "{module id: {setting: value}}")
        for module_id, changes in overrides.items():
            module_settings.check_module_id(where, module_id)
            of_module = f"overrides of module {module_id!r}"
            if not isinstance(changes, Mapping):
                raise ConfigError(
                    of_module,
                    shown(type(changes)),
                    "a dict of settings",
                    "AlgorithmConfig.overrides(lr=...) makes one",
                )
            cls._check_names(changes, of_module)

    def _check_overridden(self) -> None:
        """Validates the config of each module with settings of its own."""
        for module_id, changes in self.algorithm_config_overrides_per_module.items():
            for name in changes:
                section = self._sections_of(name)[0]
                if name in self.learner_wide or section != "training":
                    raise ConfigError(
                        f"overrides of module {module_id!r}",
                        f"{name!r}, which all modules share",
                        hint=f"set it for all: .{section}({name}=...)",
                    )
            layered = self.get_config_for_module(module_id).copy(copy_frozen=False)
            layered.algorithm_config_overrides_per_module = {}
            layered.validate()

    # What can be built from settings alone.

    def get_default_learner_class(self) -> type:
        """Returns the algorithm's learner class."""
        raise self._lacks(
            "learner class", "set one: config.training(learner_class=...)"
        )

    def get_learner_class(self) -> type:
        """Returns the learner class to build: `learner_class` or the algorithm's own."""
        return self.learner_class or self.get_default_learner_class()

    def get_default_learner_group_class(self) -> type:
        """Returns the class that runs the algorithm's learners."""
        raise self._lacks(
            "learner group class", "use LearnerGroup(config=config, module_spec=...)"
        )

    def get_default_algorithm_class(self) -> type:
        """Returns the algorithm's class."""
        raise self._lacks(
            "algorithm class", "use the config of an algorithm, such as PPOConfig"
        )

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Returns the specification of the algorithm's default module."""
        return RLModuleSpec()

    def get_rl_module_spec(
        self,
        env: Any = None,
        spaces: tuple[gym.Space, gym.Space] | None = None,
        inference_only: bool = False,
    ) -> RLModuleSpec:
        """Returns the full specification of a single module.

        Args:
            env: An environment to read the spaces off.
            spaces: The observation space and the action space.
            inference_only: Whether the module will only act.
        """
        own = self.rl_module_spec
        if isinstance(own, MultiRLModuleSpec):
            specs = own.rl_module_specs
            own = (
                specs
                if isinstance(specs, RLModuleSpec)
                else specs.get(DEFAULT_MODULE_ID)
            )
        return module_settings.completed_spec(self, own, env, spaces, inference_only)

    def get_multi_rl_module_spec(
        self,
        env: Any = None,
        spaces: Mapping[ModuleID, tuple[gym.Space, gym.Space]] | None = None,
        inference_only: bool = False,
    ) -> MultiRLModuleSpec:
        """Returns the full specification of all modules.

        Args:
            env: An environment to read the spaces off.
            spaces: The spaces of each module.
            inference_only: Whether the modules will only act.
        """
        if not isinstance(spaces, Mapping | None):
            want = "{module id: (observation space, action space)}"
            raise UsageError("spaces", shown(spaces), want)
        multi = module_settings.specs_by_id(self.rl_module_spec, self.policies)
        return dataclasses.replace(
            multi,
            rl_module_specs={
                mid: module_settings.completed_spec(
                    self.get_config_for_module(mid),
                    spec,
                    env,
                    (spaces or {}).get(mid),
                    inference_only,
                )
                for mid, spec in multi.by_id().items()
            },
        )

    def complete_model_config(self, spec: RLModuleSpec) -> RLModuleSpec:
        """Returns a specification with this config's settings of networks added.

        Override it for settings that an algorithm and its module share.
        """
        return spec

    def build_env_runner(self, **arguments: Any) -> EnvRunner:
        """Returns an environment runner of the class `env_runner_cls`.

        The runner has made its environments. It has no connector pipelines yet, unless
        they are given; its method `make_connectors` makes those of this config.

        Args:
            **arguments: Further arguments of the class, such as `module`,
                `env_to_module` and `module_to_env`.
        """
        self.validate()
        runner_class = self.env_runner_cls or SingleAgentEnvRunner
        return runner_class(config=self, **arguments)

    def build_learner(
        self,
        *,
        env: Any = None,
        spaces: Mapping[ModuleID, tuple[gym.Space, gym.Space]] | None = None,
    ):
        """Returns a built learner.

        Args:
            env: An environment to read the spaces off.
            spaces: The spaces of each module instead.
        """
        self.validate()
        learner = self.get_learner_class()(
            config=self, module_spec=self.get_multi_rl_module_spec(env, spaces)
        )
        learner.build()
        return learner

    def build_learner_group(
        self,
        *,
        env: Any = None,
        spaces: Mapping[ModuleID, tuple[gym.Space, gym.Space]] | None = None,
    ):
        """Returns a `LearnerGroup` of this algorithm's learners.

        Args:
            env: An environment to read the spaces off.
            spaces: The spaces of each module instead.
        """
        self.validate()
        group_class = self.get_default_learner_group_class()
        return group_class(
            config=self, module_spec=self.get_multi_rl_module_spec(env, spaces)
        )

    def build_algo(self):
        """Returns the algorithm with these settings."""
        return self.get_default_algorithm_class()(config=self)

    def build_env_to_module_connector(
        self, observation_space: gym.Space, action_space: gym.Space
    ) -> EnvToModulePipeline:
        """Returns the connectors between an environment and its module."""
        pieces = self._own_pieces(
            "env_to_module_connector", observation_space, action_space
        )
        return EnvToModulePipeline(pieces, observation_space, action_space)

    def build_module_to_env_connector(
        self, observation_space: gym.Space, action_space: gym.Space
    ) -> ModuleToEnvPipeline:
        """Returns the connectors between a module and its environment."""
        pieces = self._own_pieces(
            "module_to_env_connector", observation_space, action_space
        )
        adapt = NormalizeAndClipActions(
            observation_space,
            action_space,
            normalize_actions=self.normalize_actions,
            clip_actions=self.clip_actions,
        )
        return ModuleToEnvPipeline(
            [*pieces, GetActions(observation_space, action_space), adapt],
            observation_space,
            action_space,
        )

    def build_learner_connector(
        self,
        input_observation_space: gym.Space | None = None,
        input_action_space: gym.Space | None = None,
        device: Any = None,
    ) -> LearnerConnectorPipeline:
        """Returns the connectors between episodes and train batches.

        Override it, calling super, to add the connectors that an algorithm's loss needs.
        A learner calls it with its own class as `learner_class`.
        """
        spaces = (input_observation_space, input_action_space)
        pieces = self._own_pieces("learner_connector", *spaces)
        if self.add_default_connectors_to_learner_pipeline:
            pieces += [
                AddObservationsFromEpisodesToBatch(*spaces),
                AddColumnsFromEpisodesToTrainBatch(*spaces),
                AddTimeDimToBatchAndZeroPad(*spaces),
                AddStatesFromEpisodesToBatch(*spaces),
                AgentToModuleMapping(*spaces),
                BatchIndividualItems(*spaces),
            ]
        return LearnerConnectorPipeline(pieces, *spaces)

    @classmethod
    def _foreign_names(cls) -> Names:
        """Returns names of other libraries, and of the settings of networks."""
        return {**names_of_networks(), **cls.renamed}

    # Parts of the above.

    def _lacks(self, part: str, hint: str) -> ConfigError:
        return ConfigError(type(self).__name__, f"no {part}", hint=hint)

    def _own_pieces(self, name: str, *spaces) -> list[ConnectorV2]:
        make = getattr(self, name)
        if make is None:
            return []
        try:
            return as_connectors(make(*spaces))
        except TFLearnerError:
            raise
        except Exception as error:
            raise ConfigError(
                f"{type(self).__name__}.{name}",
                f"{type(error).__name__}: {error}",
                _A_CONNECTOR,
                "the error above this one is the function's own",
            ) from error


register_config("tflearner/AlgorithmConfig", AlgorithmConfig)
