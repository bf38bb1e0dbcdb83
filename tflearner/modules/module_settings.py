"""Settings that describe modules: their bounds, and the specifications they make."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import gymnasium as gym

from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import ConfigError, UsageError, shown
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module import validate_module_id
from tflearner.modules.rl_module_spec import (
    MultiRLModuleSpec,
    RLModuleSpec,
    check_spec,
)
from tflearner.settings.bounds import a_class, bound, checked, function, instance_of
from tflearner.types import ModuleID


def check_module_id(where: str, module_id: Any) -> None:
    """Raises `ConfigError` if a value cannot be the id of a module."""
    if not validate_module_id(module_id):
        want = "the id of a module, a text that may name a directory"
        raise ConfigError(where, shown(module_id), want)


def check_policies(where: str, policies: Any) -> None:
    """Raises `ConfigError` for anything but ids of modules, maybe with specifications."""
    if not _is_several(policies):
        want = "a list of module ids, or a dict of specifications"
        raise ConfigError(where, shown(policies), want)
    for module_id in policies:
        check_module_id(where, module_id)
        if isinstance(policies, Mapping) and policies[module_id] is not None:
            check_spec(f"{where}[{module_id!r}]", policies[module_id])


def _are_policies_to_train(ids: Any) -> bool:
    is_ids = _is_several(ids) and all(isinstance(one, str) for one in ids)
    return ids is None or callable(ids) or is_ids


def _is_several(value: Any) -> bool:
    """Returns whether a value is a collection of ids; a string is not."""
    return isinstance(value, Mapping | AbstractSet | list | tuple)


def _check_rl_module_spec(where: str, spec: Any) -> None:
    if not isinstance(spec, RLModuleSpec | MultiRLModuleSpec | None):
        raise ConfigError(where, shown(spec), "an RLModuleSpec")
    if isinstance(spec, MultiRLModuleSpec):
        spec.check()


LEARNER_CLASS = a_class(
    lambda cls: hasattr(cls, "compute_loss_for_module"),
    "a subclass of TfLearner",
    "a class with all methods of a learner",
)
POLICIES = checked(check_policies)
POLICIES_TO_TRAIN = bound(
    _are_policies_to_train, "a list of module ids, a function or None"
)
RL_MODULE_SPEC = checked(_check_rl_module_spec)
MODEL_CONFIG = instance_of(DefaultModelConfig | Mapping | None, "a dict of settings")
MODEL = function(
    "a Keras model, a function returning one, or None",
    "settings of the default networks go to model_config=",
)


def specs_by_id(
    own: RLModuleSpec | MultiRLModuleSpec | None,
    policies: Mapping[ModuleID, RLModuleSpec | None],
) -> MultiRLModuleSpec:
    """Returns the specifications of all modules, as far as a config has them.

    Args:
        own: The specification of the module or modules.
        policies: Specifications by module id, which may be `None`.
    """
    multi = own if isinstance(own, MultiRLModuleSpec) else MultiRLModuleSpec()
    single = own.rl_module_specs if isinstance(own, MultiRLModuleSpec) else own
    if isinstance(single, Mapping):
        # In its order: that of the modules when they were saved, say.
        others = {m: spec for m, spec in policies.items() if m not in single}
        given = {**single, **others}
    else:
        ids = policies or {DEFAULT_MODULE_ID: None}
        given = {mid: spec or single for mid, spec in ids.items()}
    for mid, spec in given.items():
        if spec is not None:
            check_spec(f"module {mid!r}", spec)
    spaces = RLModuleSpec(
        observation_space=multi.observation_space, action_space=multi.action_space
    )
    specs = {
        mid: (spec or RLModuleSpec()).with_defaults(spaces)
        for mid, spec in given.items()
    }
    return dataclasses.replace(multi, rl_module_specs=specs)


def spaces_of(env: Any) -> tuple[gym.Space | None, gym.Space | None]:
    """Returns the spaces of single observations and actions of a (vector) environment."""
    if env is None:
        return None, None
    single = "single_" if hasattr(env, "single_action_space") else ""
    names = (f"{single}observation_space", f"{single}action_space")
    if not all(isinstance(getattr(env, name, None), gym.Space) for name in names):
        raise UsageError("env", shown(env), "an environment, whose spaces are read")
    return getattr(env, names[0]), getattr(env, names[1])


def completed_spec(
    config: Any,
    spec: RLModuleSpec | None,
    env: Any,
    spaces: tuple[gym.Space, gym.Space] | None,
    inference_only: bool,
) -> RLModuleSpec:
    """Returns the full specification of a module, with the settings of its config.

    Args:
        config: The `AlgorithmConfig` of the module.
        spec: The parts that are specified; they win over all others.
        env: An environment to read the spaces off.
        spaces: The observation space and the action space instead.
        inference_only: Whether the module will only act.
    """
    if spec is not None:
        check_spec(f"{type(config).__name__}, specification of a module", spec)
    is_pair = isinstance(spaces, tuple | list) and len(spaces) == 2
    if spaces is not None and not is_pair:
        raise UsageError("spaces", shown(spaces), "(observation space, action space)")
    observation_space, action_space = spaces_of(env) if spaces is None else spaces
    spec = spec or RLModuleSpec()
    for defaults in (
        config.get_default_rl_module_spec(),
        RLModuleSpec(
            observation_space=config.observation_space,
            action_space=config.action_space,
            model_config=config.model_config,
        ),
        RLModuleSpec(observation_space=observation_space, action_space=action_space),
    ):
        spec = spec.with_defaults(defaults)
    spec = config.complete_model_config(spec)
    if config.model is not None:
        model_config = DefaultModelConfig.make(spec.model_config)
        model_config = dataclasses.replace(model_config, model=config.model)
        spec = dataclasses.replace(spec, model_config=model_config)
    return dataclasses.replace(
        spec, inference_only=inference_only or spec.inference_only
    )
