"""Settings, section by section, and what can be built from them alone.

A config is data: typed fields, each in one section, with one sentence under it. The
fluent methods (`.training(...)`, `.environment(...)`) set the fields of their section
and refuse unknown names.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import field
from typing import Any, ClassVar, Self

import gymnasium as gym

from tflearner import setting_names
from tflearner.checkpoint import budget
from tflearner.checkpoint.builders import ARGUMENTS, BUILDER, GIVEN, register_builder
from tflearner.checkpoint.kinds import (
    CONFIG,
    CONNECTOR,
    DATA,
    LEARNER,
    MODEL_CONFIG,
    OWN,
    SPACE,
    SPEC,
    named,
    of_kind,
)
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
from tflearner.errors import (
    ConfigError,
    FrozenConfigError,
    TFLearnerError,
    UsageError,
    shown,
)
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module import validate_module_id
from tflearner.modules.rl_module_spec import (
    MultiRLModuleSpec,
    RLModuleSpec,
    check_spec,
)
from tflearner.schedule import Scheduler, is_float32, is_real
from tflearner.setting_names import NETWORKS, Names, hint_for
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
# The largest count: many indices in TensorFlow and NumPy have 32 bits.
_MOST = 2**31 - 1


@dataclasses.dataclass
class AlgorithmConfig:
    """Settings shared by all algorithms, set section by section.

    Every fluent method returns the config itself:

        config = PPOConfig().environment("CartPole-v1").training(lr=3e-4)
    """

    # Names of settings in other libraries, see `setting_names`.
    renamed: ClassVar[Names] = setting_names.ANY
    # Training settings that one update has for all of its modules.
    learner_wide: ClassVar[tuple[str, ...]] = (
        "gamma",
        "lambda_",
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
    env_config: dict = field(default_factory=dict, metadata=ENVIRONMENT)
    """Keyword arguments of the environment."""
    observation_space: gym.Space | None = field(default=None, metadata=ENVIRONMENT)
    """Space of single observations; read off the environment by default."""
    action_space: gym.Space | None = field(default=None, metadata=ENVIRONMENT)
    """Space of single actions; read off the environment by default."""
    normalize_actions: bool = field(default=True, metadata=ENVIRONMENT)
    """Whether modules act in [-1, 1] and Box actions are stretched to their bounds."""
    clip_actions: bool = field(default=False, metadata=ENVIRONMENT)
    """Whether Box actions are clipped to their bounds when they are not stretched."""
    action_masks: str | bool = field(default="auto", metadata=ENVIRONMENT)
    """Whether masks of actions in `info["action_mask"]` or a method `action_masks()`
    become part of the observations: "auto" if there are any, `False` never, `True`
    demands masks; those of vector environments have to be in the observations. To look
    for them, the first environment is reset once more."""

    # --- env_runners ---
    num_envs_per_env_runner: int = field(default=1, metadata=ENV_RUNNERS)
    """Environments stepped at once."""
    gym_env_vectorize_mode: str = field(default="sync", metadata=ENV_RUNNERS)
    """"sync", "async" (one process each) or "vector_entry_point" (the environment's
    own vectorised form, by far the fastest where there is one)."""
    autoreset_mode: str = field(default="same_step", metadata=ENV_RUNNERS)
    """"same_step", "next_step" or "disabled", for "sync" and "async"."""
    env_step_timeout_s: float | None = field(default=None, metadata=ENV_RUNNERS)
    """Time limit of a step or reset with "async", in seconds; after that its process is
    ended, and an `EnvStepError` names the environment. `None` sets no limit."""
    rollout_fragment_length: int = field(default=200, metadata=ENV_RUNNERS)
    """Steps per environment of a `sample()` without arguments."""
    explore: bool = field(default=True, metadata=ENV_RUNNERS)
    """Whether sampling explores."""
    episode_lookback_horizon: int = field(default=1, metadata=ENV_RUNNERS)
    """Steps of its past that a continued piece of an episode carries along."""
    env_to_module_connector: Callable | None = field(default=None, metadata=ENV_RUNNERS)
    """Function of (observation space, action space) returning one piece or several,
    put in front of the default pieces."""
    module_to_env_connector: Callable | None = field(default=None, metadata=ENV_RUNNERS)
    """The same for the way from module to environment."""

    # --- training ---
    gamma: float = field(default=0.99, metadata=TRAINING)
    """Discount per environment step."""
    lr: LearningRateOrSchedule = field(default=0.001, metadata=TRAINING)
    """Learning rate, or a schedule `[[timestep, value], ...]` in environment steps."""
    grad_clip: float | None = field(default=None, metadata=TRAINING)
    """Bound on gradients; `None` does not clip."""
    grad_clip_by: str = field(default="global_norm", metadata=TRAINING)
    """"value", "norm" (of each gradient) or "global_norm" (of all of a module's)."""
    log_gradients: bool = field(default=False, metadata=TRAINING_OR_REPORTING)
    """Whether the norm of gradients after clipping is reported as well; the one before
    always is."""
    train_batch_size_per_learner: int = field(default=32, metadata=TRAINING)
    """Environment steps per update."""
    num_epochs: int = field(default=1, metadata=TRAINING)
    """Passes over the train batch per update."""
    minibatch_size: int | None = field(default=None, metadata=TRAINING)
    """Rows per gradient step; `None` takes the whole batch."""
    shuffle_batch_per_epoch: bool = field(default=False, metadata=TRAINING)
    """Whether rows are shuffled before every pass."""
    non_finite_updates: str = field(default="skip", metadata=TRAINING)
    """What happens to a module whose loss or gradients are not finite: "skip" leaves it
    unchanged and counts, "raise" does so and raises, "off" does not look."""
    max_non_finite_updates_in_a_row: int | None = field(default=100, metadata=TRAINING)
    """Gradient steps in a row, from update to update, that "skip" leaves out of a module
    before it raises `NonFiniteUpdateError`; `None` never raises."""
    never_skip_update: bool = field(default=False, metadata=TRAINING)
    """Whether an update without data still runs the hooks around it."""
    batch_checks: str = field(default="full", metadata=TRAINING)
    """How batches are checked: "full", "strict" (full, and unknown columns are refused),
    "schema" (without a look at values) or "off"."""
    learner_class: type | None = field(default=None, metadata=TRAINING_OR_LEARNERS)
    """Class of the learner; the algorithm's own by default."""
    learner_connector: Callable | None = field(
        default=None, metadata=TRAINING_OR_LEARNERS
    )
    """Function of (observation space, action space) returning one piece or several,
    put in front of the default pieces of the learner connector pipeline."""
    add_default_connectors_to_learner_pipeline: bool = field(
        default=True, metadata=TRAINING_OR_LEARNERS
    )
    """Whether the learner connector pipeline has its default pieces."""
    learner_config_dict: dict = field(
        default_factory=dict, metadata=TRAINING_OR_LEARNERS
    )
    """Own settings for own learner classes."""

    # --- learners ---
    num_learners: int = field(default=0, metadata=LEARNERS)
    """Learner processes; 0 is one learner in this process."""
    num_gpus_per_learner: int | None = field(default=None, metadata=LEARNERS)
    """GPUs of this machine to learn on: several share every minibatch, 0 is the CPU,
    `None` the first GPU if there is one."""
    local_gpu_idx: int = field(default=0, metadata=LEARNERS)
    """Number of the first of these GPUs."""
    strategy: Any = field(default=None, metadata=LEARNERS)
    """A `tf.distribute` strategy to learn under, instead."""
    num_aggregator_actors_per_learner: int = field(default=0, metadata=LEARNERS)
    """Above 0 the learner has no connector pipeline and takes ready batches."""
    deferred_data_timeout_s: float = field(default=60.0, metadata=LEARNERS)
    """Seconds that an update waits for Ray object references; a reference that takes
    longer is lost, of the kind "late"."""

    # --- rl_module ---
    rl_module_spec: RLModuleSpec | MultiRLModuleSpec | None = field(
        default=None, metadata=RL_MODULE
    )
    """Specification of the module or modules; missing parts are the algorithm's."""
    model_config: DefaultModelConfig | dict | None = field(
        default=None, metadata=RL_MODULE
    )
    """Settings of the default networks."""
    model: Any = field(default=None, metadata=RL_MODULE)
    """Own Keras model, or a function returning one, as encoder."""

    # --- multi_agent ---
    policies: Any = field(default_factory=dict, metadata=MULTI_AGENT)
    """Modules by id, with a specification or `None` each."""
    policy_mapping_fn: Callable | None = field(default=None, metadata=MULTI_AGENT)
    """Function of (agent id, episode) returning a module id."""
    policies_to_train: Collection[ModuleID] | Callable | None = field(
        default=None, metadata=MULTI_AGENT
    )
    """Ids of the modules that learn, or a function of (module id, batch); `None`
    trains all."""
    algorithm_config_overrides_per_module: dict = field(
        default_factory=dict, metadata=MULTI_AGENT
    )
    """{module id: {setting: value}} for modules with settings of their own."""

    # --- framework ---
    framework_str: str = field(default="tf2", metadata=FRAMEWORK)
    """Always "tf2"."""
    jit_compile: bool | str = field(default="auto", metadata=FRAMEWORK)
    """Whether XLA compiles the update: True, False, or "auto" for where it pays."""
    compile_cache: str | os.PathLike | None = field(default=None, metadata=FRAMEWORK)
    """Directory where XLA keeps what it compiled, for the next process. Has to be set
    before TensorFlow computes anything."""
    run_eagerly: bool = field(default=False, metadata=FRAMEWORK)
    """Whether updates run line by line, for debugging."""

    # --- evaluation ---
    evaluation_interval: int | None = field(default=None, metadata=EVALUATION)
    """Iterations between evaluations during `fit`; `None` never evaluates there."""
    evaluation_duration: int = field(default=10, metadata=EVALUATION)
    """Episodes per evaluation during `fit`."""

    # --- debugging ---
    seed: int | None = field(default=None, metadata=DEBUGGING)
    """Seed of everything this library draws; nothing global is seeded."""

    # --- reporting ---
    metrics_num_episodes_for_smoothing: int = field(default=100, metadata=REPORTING)
    """Episodes over which returns and lengths are averaged."""

    # Fluent methods, one per section.

    def environment(self, env: Any = None, **settings: Any) -> Self:
        """Sets what is acted in."""
        if env is not None:
            settings["env"] = env
        return self._set("environment", settings)

    def env_runners(self, **settings: Any) -> Self:
        """Sets how experience is sampled."""
        return self._set("env_runners", settings)

    def training(self, **settings: Any) -> Self:
        """Sets how the learner learns."""
        return self._set("training", settings)

    def learners(self, **settings: Any) -> Self:
        """Sets where learners run."""
        return self._set("learners", settings)

    def rl_module(self, **settings: Any) -> Self:
        """Sets what acts and learns."""
        name = "algorithm_config_overrides_per_module"
        if name not in settings:
            return self._set("rl_module", settings)
        overrides = settings.pop(name)
        self._check_overrides(overrides)
        return self._set("rl_module", settings).multi_agent(**{name: overrides})

    def multi_agent(self, **settings: Any) -> Self:
        """Sets which modules there are and which of them learn."""
        self._check_overrides(settings.get("algorithm_config_overrides_per_module", {}))
        if "policies" in settings:
            policies = settings["policies"]
            self._check_policies(policies)
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
        """Sets what helps to repeat a run."""
        return self._set("debugging", settings)

    def reporting(self, **settings: Any) -> Self:
        """Sets how results are summed up."""
        return self._set("reporting", settings)

    def update_from_dict(self, settings: Mapping[str, Any]) -> Self:
        """Sets fields of any section by name; refuses unknown names."""
        self._check_names(settings, f"{type(self).__name__}")
        before = dict(self.__dict__)
        try:
            for name, value in settings.items():
                getattr(self, self._section_of(name))(**{name: value})
        except BaseException:
            self.__dict__.update(before)
            raise
        return self

    @classmethod
    def overrides(cls, **settings: Any) -> dict[str, Any]:
        """Returns settings for `algorithm_config_overrides_per_module`.

        >>> AlgorithmConfig.overrides(lr=0.01)
        {'lr': 0.01}
        """
        cls._check_names(settings, f"{cls.__name__}.overrides()")
        return settings

    def settings(self) -> dict[str, Any]:
        """Returns all settings by name, those that subclasses add included."""
        names = [*self._field_names(), *self.__dict__.get("_added", ())]
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_settings(cls, **settings: Any) -> Self:
        """Returns the config of which `settings()` returned these."""
        config = cls()
        # Files of former versions hold class variables, too.
        constants = cls.__dataclass_fields__.keys() - {*cls._field_names()}
        for name, value in settings.items():
            if name not in constants:
                setattr(config, name, value)
        return config

    # Copying and freezing.

    def copy(self, copy_frozen: bool | None = None) -> Self:
        """Returns a copy; containers are copied, what they hold is shared.

        Args:
            copy_frozen: Whether the copy is frozen; `None` keeps it as it is.
        """
        duplicate = object.__new__(type(self))
        for name, value in self.__dict__.items():
            if isinstance(value, dict):
                value = {
                    k: dict(v) if isinstance(v, dict) else v for k, v in value.items()
                }
            elif isinstance(value, list):
                value = list(value)
            duplicate.__dict__[name] = value
        frozen = self.is_frozen if copy_frozen is None else copy_frozen
        duplicate.__dict__["_is_frozen"] = frozen
        duplicate.__dict__["_of_modules"] = {}
        return duplicate

    def freeze(self) -> None:
        """Makes every later change an error."""
        self.__dict__["_is_frozen"] = True

    @property
    def is_frozen(self) -> bool:
        """Whether the config refuses changes."""
        return self.__dict__.get("_is_frozen", False)

    def __setattr__(self, name: str, value: Any) -> None:
        if self.is_frozen:
            raise FrozenConfigError(
                f"{type(self).__name__}.{name}",
                "a change of a frozen config",
                hint="change a copy: config.copy(copy_frozen=False)",
            )
        if not self._knows(name):
            raise ConfigError(
                type(self).__name__,
                f"unknown setting {name!r}",
                hint=self._hint_for(name),
            )
        super().__setattr__(name, value)
        self.__dict__["_of_modules"] = {}

    def __init_subclass__(cls, **kwargs: Any):
        """Lets the `__init__` of a subclass add settings, as subclasses in RLlib do."""
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _adds_settings(cls.__init__)  # type: ignore[method-assign]

    def _knows(self, name: str) -> bool:
        """Whether a name is a setting, or is becoming one in a subclass' `__init__`."""
        made = self.__dict__
        is_own = made.get("_is_being_made") or name in made.get("_added", ())
        return name in self._field_names() or bool(is_own)

    def get_config_for_module(self, module_id: ModuleID) -> Self:
        """Returns the config of one module: this one, or a copy with its overrides.

        It is the same object from call to call, until a setting is changed.
        """
        changes = self.algorithm_config_overrides_per_module.get(module_id)
        if not changes:
            return self
        made_of, layered = self.__dict__["_of_modules"].get(module_id, (None, None))
        if made_of != changes:
            layered = self.copy(copy_frozen=False)
            for name, value in changes.items():
                setattr(layered, name, value)
            if self.is_frozen:
                layered.freeze()
            self.__dict__["_of_modules"][module_id] = (dict(changes), layered)
        return layered

    def validate(self) -> None:
        """Raises `ConfigError` for settings that are impossible or contradict."""
        where = type(self).__name__
        for name, least in (
            ("rollout_fragment_length", 1),
            ("train_batch_size_per_learner", 1),
            ("num_epochs", 1),
            ("evaluation_duration", 1),
            ("num_learners", 0),
            ("local_gpu_idx", 0),
            ("num_aggregator_actors_per_learner", 0),
            ("episode_lookback_horizon", 0),
            ("metrics_num_episodes_for_smoothing", 1),
        ):
            self._check_integer(name, least)
        self._check_integer("num_envs_per_env_runner", 1, 2**20)
        if self.minibatch_size is not None:
            self._check_integer("minibatch_size", 1)
            if self.minibatch_size > self.train_batch_size_per_learner:
                raise ConfigError(
                    where,
                    f"minibatch_size={self.minibatch_size} larger than "
                    f"train_batch_size_per_learner={self.train_batch_size_per_learner}",
                    hint="lower minibatch_size or raise train_batch_size_per_learner",
                )
        if self.num_gpus_per_learner is not None:
            self._check_integer("num_gpus_per_learner", 0)
        if self.strategy is not None and self.num_gpus_per_learner is not None:
            raise ConfigError(
                where,
                "both strategy and num_gpus_per_learner",
                hint="a strategy says which devices there are; drop one of the two",
            )
        if self.evaluation_interval is not None:
            self._check_integer("evaluation_interval", 1)
        if self.max_non_finite_updates_in_a_row is not None:
            self._check_integer("max_non_finite_updates_in_a_row", 1)
        if self.seed is not None:
            self._check_integer("seed", 0, 2**64 - 1)
        self._check_step_timeout()
        for name, choices in (
            ("gym_env_vectorize_mode", ("sync", "async", "vector_entry_point")),
            ("autoreset_mode", ("same_step", "next_step", "disabled")),
            ("grad_clip_by", ("value", "norm", "global_norm")),
            ("non_finite_updates", ("skip", "raise", "off")),
            ("batch_checks", ("full", "strict", "schema", "off")),
            ("jit_compile", (True, False, "auto")),
            ("action_masks", (True, False, "auto")),
            ("framework_str", ("tf2",)),
        ):
            value = getattr(self, name)
            if not isinstance(value, str | bool) or value not in choices:
                wanted = ", ".join(map(repr, choices))
                raise ConfigError(f"{where}.{name}", shown(value), f"one of {wanted}")
        if self.run_eagerly is True and self.jit_compile is True:
            raise ConfigError(
                where,
                "run_eagerly=True with jit_compile=True",
                hint="XLA compiles traced updates only; drop one of the two",
            )
        if self.num_learners > 1:
            raise ConfigError(
                f"{where}.num_learners", str(self.num_learners), "0 or 1, one process"
            )
        clip = self.grad_clip
        if clip is not None and not (is_float32(clip) and clip > 0):
            raise ConfigError(
                f"{where}.grad_clip",
                shown(clip),
                f"a finite number above 0, up to {FLOAT32_MAX:.2g}",
                "None does not clip",
            )
        self._check_number("gamma", 0.0, 1.0)
        self._check_number("deferred_data_timeout_s", 0.0, 1e6)
        self._check_schedule("lr", least=0.0)
        for name, kind, want in (
            ("env_config", Mapping, "a dict"),
            ("learner_config_dict", Mapping, "a dict"),
            ("observation_space", gym.Space | None, "a gymnasium space, or None"),
            ("action_space", gym.Space | None, "a gymnasium space, or None"),
            (
                "rl_module_spec",
                RLModuleSpec | MultiRLModuleSpec | None,
                "an RLModuleSpec",
            ),
            ("model_config", DefaultModelConfig | Mapping | None, "a dict of settings"),
            ("explore", bool, "a bool"),
            ("normalize_actions", bool, "a bool"),
            ("clip_actions", bool, "a bool"),
            ("shuffle_batch_per_epoch", bool, "a bool"),
            ("log_gradients", bool, "a bool"),
            ("never_skip_update", bool, "a bool"),
            ("add_default_connectors_to_learner_pipeline", bool, "a bool"),
            ("run_eagerly", bool, "a bool"),
        ):
            if not isinstance(getattr(self, name), kind):
                got = shown(getattr(self, name))
                raise ConfigError(f"{where}.{name}", got, want)
        for name, want, hint in (
            ("env_to_module_connector", _A_CONNECTOR, None),
            ("module_to_env_connector", _A_CONNECTOR, None),
            ("learner_connector", _A_CONNECTOR, None),
            ("policy_mapping_fn", "a function of (agent id, episode), or None", None),
            (
                "model",
                "a Keras model, a function returning one, or None",
                "settings of the default networks go to model_config=",
            ),
        ):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise ConfigError(f"{where}.{name}", shown(value), want, hint)
        if self.compile_cache is not None:
            check_path(f"{where}.compile_cache", self.compile_cache)
        if isinstance(self.rl_module_spec, MultiRLModuleSpec):
            self.rl_module_spec.check()
        self._check_learner_class()
        self._check_policies(self.policies)
        self._check_overrides(self.algorithm_config_overrides_per_module)
        self._check_overridden()
        ids: Any = self.policies_to_train
        is_ids = _is_several(ids) and all(isinstance(one, str) for one in ids)
        if not (ids is None or callable(ids) or is_ids):
            raise ConfigError(
                f"{where}.policies_to_train",
                shown(ids),
                "a list of module ids, a function or None",
            )

    def _check_learner_class(self) -> None:
        where, cls = f"{type(self).__name__}.learner_class", self.learner_class
        if cls is None:
            return
        if not isinstance(cls, type) or not hasattr(cls, "compute_loss_for_module"):
            raise ConfigError(where, shown(cls), "a subclass of TfLearner")
        if inspect.isabstract(cls):
            lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
            got = f"{cls.__name__}, which lacks {lacking}"
            raise ConfigError(where, got, "a class with all methods of a learner")

    @classmethod
    def _check_policies(cls, policies: Any) -> None:
        where = f"{cls.__name__}.policies"
        if not _is_several(policies):
            want = "a list of module ids, or a dict of specifications"
            raise ConfigError(where, shown(policies), want)
        for module_id in policies:
            _check_module_id(where, module_id)
            if isinstance(policies, Mapping) and policies[module_id] is not None:
                check_spec(f"{where}[{module_id!r}]", policies[module_id])

    @classmethod
    def _check_overrides(cls, overrides: Any) -> None:
        where = f"{cls.__name__}.algorithm_config_overrides_per_module"
        if not isinstance(overrides, Mapping):
            raise ConfigError(where, shown(overrides), "{module id: {setting: value}}")
        for module_id, changes in overrides.items():
            _check_module_id(where, module_id)
            of_module = f"overrides of module {module_id!r}"
            if not isinstance(changes, Mapping):
                raise ConfigError(
                    of_module,
                    shown(type(changes)),
                    "a dict of settings",
                    "AlgorithmConfig.overrides(lr=...) makes one",
                )
            cls._check_names(changes, of_module)

    def _check_step_timeout(self) -> None:
        seconds, mode = self.env_step_timeout_s, self.gym_env_vectorize_mode
        where = f"{type(self).__name__}.env_step_timeout_s"
        if seconds is not None and not (is_real(seconds) and 0 < seconds <= 1e6):
            raise ConfigError(where, shown(seconds), "a number in (0, 1e6], or None")
        if seconds is not None and mode != "async":
            raise ConfigError(
                where,
                f"{seconds!r} with gym_env_vectorize_mode={mode!r}",
                "None, or gym_env_vectorize_mode='async'",
                "only a process of its own can be ended while it steps",
            )

    def _check_overridden(self) -> None:
        """Validates the config of each module with settings of its own."""
        for module_id, changes in self.algorithm_config_overrides_per_module.items():
            for name in changes:
                if name in self.learner_wide or self._section_of(name) != "training":
                    raise ConfigError(
                        f"overrides of module {module_id!r}",
                        f"{name!r}, which all modules share",
                        hint=f"set it for all: .{self._section_of(name)}({name}=...)",
                    )
            layered = self.get_config_for_module(module_id)
            layered = layered.copy(copy_frozen=False)
            layered.algorithm_config_overrides_per_module = {}
            layered.validate()

    # What can be built from settings alone.

    def get_default_learner_class(self) -> type:
        """Returns the algorithm's learner class."""
        raise ConfigError(
            type(self).__name__,
            "no learner class",
            hint="set one: config.training(learner_class=...)",
        )

    def get_learner_class(self) -> type:
        """Returns the learner class to build: `learner_class` or the algorithm's own."""
        return self.learner_class or self.get_default_learner_class()

    def get_default_learner_group_class(self) -> type:
        """Returns the class that runs the algorithm's learners."""
        raise ConfigError(
            type(self).__name__,
            "no learner group class",
            hint="use LearnerGroup(config=config, module_spec=...)",
        )

    def get_default_algorithm_class(self) -> type:
        """Returns the algorithm's class."""
        raise ConfigError(
            type(self).__name__,
            "no algorithm class",
            hint="use the config of an algorithm, such as PPOConfig",
        )

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Returns what the algorithm's module is unless settings say otherwise."""
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
        return self._complete(own, env, spaces, inference_only)

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
        own = self.rl_module_spec
        given: dict[ModuleID, RLModuleSpec | None] = dict(self.policies)
        multi = own if isinstance(own, MultiRLModuleSpec) else MultiRLModuleSpec()
        single = own.rl_module_specs if isinstance(own, MultiRLModuleSpec) else own
        if isinstance(single, Mapping):
            # In its order: that of the modules when they were saved, say.
            given = {**single, **{m: s for m, s in given.items() if m not in single}}
        else:
            ids = given or {DEFAULT_MODULE_ID: None}
            given = {mid: spec or single for mid, spec in ids.items()}
        own_spaces = RLModuleSpec(
            observation_space=multi.observation_space, action_space=multi.action_space
        )
        return dataclasses.replace(
            multi,
            rl_module_specs={
                mid: self.get_config_for_module(mid)._complete(
                    _with_spaces(mid, spec, own_spaces),
                    env,
                    (spaces or {}).get(mid),
                    inference_only,
                )
                for mid, spec in given.items()
            },
        )

    def complete_model_config(self, spec: RLModuleSpec) -> RLModuleSpec:
        """Returns a specification with what this config has to say of its networks.

        Override it for settings that an algorithm and its module share.
        """
        return spec

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
        """Returns the pieces between an environment and its module: the user's."""
        pieces = self._own_pieces(
            "env_to_module_connector", observation_space, action_space
        )
        return EnvToModulePipeline(pieces, observation_space, action_space)

    def build_module_to_env_connector(
        self, observation_space: gym.Space, action_space: gym.Space
    ) -> ModuleToEnvPipeline:
        """Returns the pieces between a module and its environment."""
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
        """Returns the pieces between episodes and train batches.

        Override it, calling super, to add the pieces that an algorithm's loss needs.
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

    # Parts of the above.

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

    def _complete(
        self, spec: RLModuleSpec | None, env, spaces, inference_only
    ) -> RLModuleSpec:
        if spec is not None:
            check_spec(f"{type(self).__name__}, specification of a module", spec)
        if spaces is not None and not (
            isinstance(spaces, tuple | list) and len(spaces) == 2
        ):
            raise UsageError(
                "spaces", shown(spaces), "(observation space, action space)"
            )
        spec = (spec or RLModuleSpec()).with_defaults(self.get_default_rl_module_spec())
        observation_space, action_space = _spaces_of(env) if spaces is None else spaces
        # The truth of a space may be its length.
        if self.observation_space is not None:
            observation_space = self.observation_space
        if self.action_space is not None:
            action_space = self.action_space
        spec = spec.with_defaults(
            RLModuleSpec(
                observation_space=observation_space,
                action_space=action_space,
                model_config=self.model_config,
            )
        )
        spec = self.complete_model_config(spec)
        if self.model is not None:
            model_config = DefaultModelConfig.make(spec.model_config)
            model_config = dataclasses.replace(model_config, model=self.model)
            spec = dataclasses.replace(spec, model_config=model_config)
        return dataclasses.replace(
            spec, inference_only=inference_only or spec.inference_only
        )

    def _set(self, section: str, settings: Mapping[str, Any]) -> Self:
        where = f"{type(self).__name__}.{section}()"
        known = {n for n in self._field_names() if section in self._sections_of(n)}
        for name in settings:
            if name not in known:
                raise ConfigError(
                    where,
                    f"no setting {shown(name)}; it takes {', '.join(sorted(known))}",
                    hint=self._hint_for(name, section),
                )
        for name, value in settings.items():
            setattr(self, name, value)
        return self

    @classmethod
    def _check_names(cls, settings: Any, where: str) -> None:
        if not isinstance(settings, Mapping):
            raise ConfigError(where, shown(settings), "a dict of settings")
        for name in settings:
            if name not in cls._field_names():
                raise ConfigError(
                    where, f"unknown setting {shown(name)}", hint=cls._hint_for(name)
                )

    @classmethod
    def _field_names(cls) -> Collection[str]:
        # Not `__dataclass_fields__`, which has class variables as well.
        return [own.name for own in dataclasses.fields(cls)]

    @classmethod
    def _section_of(cls, name: str) -> str:
        return cls._sections_of(name)[0]

    @classmethod
    def _sections_of(cls, name: str) -> tuple[str, ...]:
        # A field of a subclass without a section is set by `.training()`.
        metadata = cls.__dataclass_fields__[name].metadata
        sections = (metadata.get("section", "training"), metadata.get("also"))
        return tuple(section for section in sections if section is not None)

    @classmethod
    def _hint_for(cls, name: object, section: str | None = None) -> str | None:
        """Returns a hint for an unknown name, or for a setting of another section."""
        fields = cls._field_names()
        if name in fields:
            return f"{name!r} belongs to .{cls._section_of(str(name))}()"

        def where(told: str) -> str:
            is_here = section is None or section in cls._sections_of(told)
            return "" if is_here else f", in .{cls._section_of(told)}()"

        networks = {own.name for own in dataclasses.fields(DefaultModelConfig)}
        of_networks = {
            typed: told
            and f"it is a setting of networks: model_config={{{told!r}: ...}}"
            for typed, told in [*zip(networks, networks), *NETWORKS.items()]
        }
        return hint_for(name, fields, {**of_networks, **cls.renamed}, where)

    def _check_integer(self, name: str, least: int, most: int = _MOST) -> None:
        value = getattr(self, name)
        is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not is_int or not least <= value <= most:
            is_large = is_int and value > most
            want = f"an int in [{least}, {most}]" if is_large else f"an int >= {least}"
            raise ConfigError(f"{type(self).__name__}.{name}", shown(value), want)

    def _check_number(self, name: str, low: float, high: float) -> None:
        """Raises for a number out of bounds; the upper bound may be infinity."""
        value = getattr(self, name)
        is_infinity = is_real(value) and value == high == math.inf
        if is_infinity or (is_float32(value) and low <= value <= high):
            return
        want = f"a number in [{low:g}, {min(high, FLOAT32_MAX):.2g}]"
        raise ConfigError(
            f"{type(self).__name__}.{name}",
            shown(value),
            f"{want}, or inf" if high == math.inf else want,
        )

    def _check_finite(self, name: str, low: float = -FLOAT32_MAX) -> None:
        value = getattr(self, name)
        if not is_float32(value) or value < low:
            raise ConfigError(
                f"{type(self).__name__}.{name}",
                shown(value),
                f"a finite number in [{low:.2g}, {FLOAT32_MAX:.2g}]",
            )

    def _check_schedule(self, name: str, *, least: float) -> None:
        value = getattr(self, name)
        Scheduler.validate(
            fixed_value_or_schedule=value, setting_name=name, description="number"
        )
        is_schedule = isinstance(value, list | tuple)
        values = [point[1] for point in value] if is_schedule else [value]
        if not all(is_float32(v) and v >= least for v in values):
            raise ConfigError(
                f"{type(self).__name__}.{name}",
                shown(value),
                f"a finite number in [{least:g}, {FLOAT32_MAX:.2g}], or a schedule of "
                "such",
            )


# The kinds of objects that each setting takes in files; others take plain Python.
_TAKES = {
    "env": (OWN,),
    "env_config": (SPACE,),
    "observation_space": (SPACE,),
    "action_space": (SPACE,),
    "env_to_module_connector": (named(CONNECTOR),),
    "module_to_env_connector": (named(CONNECTOR),),
    "learner_class": (named(LEARNER),),
    "learner_connector": (named(CONNECTOR),),
    "learner_config_dict": DATA,
    "rl_module_spec": (SPEC,),
    "model_config": (MODEL_CONFIG, SPACE, SPEC),
    "model": (OWN,),
    "policies": (SPEC,),
    "policy_mapping_fn": (OWN,),
    "policies_to_train": (OWN,),
    "algorithm_config_overrides_per_module": DATA,
}
# Settings of the machine that a run is on. They are neither written to checkpoints nor
# read from them.
_OF_THE_MACHINE = {
    "num_gpus_per_learner": None,
    "local_gpu_idx": 0,
    "strategy": None,
    "compile_cache": None,
}


def _settings_that_import(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns `env` or `env_config` if an id in it may name a module to import."""
    refused = {}
    for name in ("env", "env_config"):
        described = settings.get(name)
        if isinstance(described, Mapping) and GIVEN in described:
            continue  # It has to be given again anyway.
        for text in _texts_in(described):
            if ":" in text or (name == "env" and "GymV2" in text):
                refused[name] = f"{text!r}, which may name a module to import"
    return refused


def _texts_in(described: Any) -> Iterator[str]:
    """Yields all strings in a description, except names of builders."""
    if isinstance(described, str):
        yield described
    elif isinstance(described, Mapping) and BUILDER in described:
        yield from _texts_in(described.get(ARGUMENTS))
    elif isinstance(described, Mapping):
        yield from _texts_in([*described, *described.values()])
    elif isinstance(described, Collection):
        for own in described:
            yield from _texts_in(own)


# The memory and processes that these settings take do not show in the size of a file.
_settings_that_exhaust = budget.refusing_above(
    {
        "num_envs_per_env_runner": 1000,
        "rollout_fragment_length": 10**6,
        "train_batch_size_per_learner": 10**7,
        "minibatch_size": 10**7,
        "episode_lookback_horizon": 10**5,
        "min_sample_timesteps_per_iteration": 10**7,
    }
)

of_kind(
    CONFIG,
    takes=_TAKES,
    machine=_OF_THE_MACHINE,
    refuse=lambda settings: {
        **_settings_that_import(settings),
        **_settings_that_exhaust(settings),
    },
)(AlgorithmConfig)


def register_config(name: str, cls: type[AlgorithmConfig]) -> None:
    """Lets checkpoints hold configs of a class.

    Args:
        name: Its name in files, "<project>/<class>".
        cls: The class.
    """
    register_builder(
        name, cls.from_settings, of=cls, arguments=lambda config: config.settings()
    )


register_config("tflearner/AlgorithmConfig", AlgorithmConfig)


def _adds_settings(init: Callable) -> Callable:
    """Wraps the `__init__` of a subclass: what it sets and nobody knows is a setting."""

    @functools.wraps(init)
    def wrapped(self: AlgorithmConfig, *args: Any, **kwargs: Any) -> None:
        is_inner = self.__dict__.get("_is_being_made", False)
        self.__dict__["_is_being_made"] = True
        try:
            init(self, *args, **kwargs)
        finally:
            self.__dict__["_is_being_made"] = is_inner
        known = {*self._field_names(), "_is_being_made", "_of_modules", "_added"}
        self.__dict__["_added"] = tuple(n for n in self.__dict__ if n not in known)

    return wrapped


def _spaces_of(env: Any) -> tuple[gym.Space | None, gym.Space | None]:
    """The spaces of single observations and actions of a (vector) environment."""
    if env is None:
        return None, None
    single = "single_" if hasattr(env, "single_action_space") else ""
    names = (f"{single}observation_space", f"{single}action_space")
    if not all(isinstance(getattr(env, name, None), gym.Space) for name in names):
        raise UsageError("env", shown(env), "an environment, whose spaces are read")
    return getattr(env, names[0]), getattr(env, names[1])


def _with_spaces(
    module_id: ModuleID, spec: RLModuleSpec | None, spaces: RLModuleSpec
) -> RLModuleSpec:
    if spec is None:
        return spaces
    check_spec(f"module {module_id!r}", spec)
    return spec.with_defaults(spaces)


def _is_several(value: Any) -> bool:
    """Returns whether a value is a collection of ids; a string is not."""
    return isinstance(value, Mapping | AbstractSet | list | tuple)


def _check_module_id(where: str, module_id: Any) -> None:
    if not validate_module_id(module_id):
        want = "the id of a module, a text that may name a directory"
        raise ConfigError(where, shown(module_id), want)


def check_path(where: str, path: Any) -> None:
    """Raises `ConfigError` if a value cannot be the path of a directory."""
    try:
        text = os.fspath(path)
    except Exception as error:
        raise ConfigError(where, shown(path), "a directory") from error
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(where, shown(path), "a directory, a text without NUL")
