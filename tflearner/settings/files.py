"""Settings in files: the objects that each takes, and those that are given again.

A checkpoint holds a config as settings by name. A file may come from a stranger, so
settings that could import a module, or exhaust the machine, are refused there.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tflearner.checkpoint import budget
from tflearner.checkpoint.builders import ARGUMENTS, BUILDER, GIVEN
from tflearner.checkpoint.kinds import (
    CONNECTOR,
    DATA,
    LEARNER,
    MODEL_CONFIG,
    OWN,
    SPACE,
    SPEC,
    named,
)

# The kinds of objects that each setting takes in files; others take plain Python.
TAKES = {
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
OF_THE_MACHINE = {
    "num_gpus_per_learner": None,
    "local_gpu_idx": 0,
    "strategy": None,
    "compile_cache": None,
}
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


def refused(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns the settings that have to be given again, each with the reason."""
    return {**_settings_that_import(settings), **_settings_that_exhaust(settings)}


def _settings_that_import(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns `env` or `env_config` if an id in it may name a module to import."""
    found = {}
    for name in ("env", "env_config"):
        described = settings.get(name)
        if isinstance(described, Mapping) and GIVEN in described:
            continue  # It has to be given again anyway.
        for text in _texts_in(described):
            if ":" in text or (name == "env" and "GymV2" in text):
                found[name] = f"{text!r}, which may name a module to import"
    return found


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
