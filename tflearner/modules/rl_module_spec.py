"""How a module is specified, so that it can be built anywhere."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import ModuleError
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module import MultiRLModule, RLModule
from tflearner.types import ModuleID


@dataclasses.dataclass
class RLModuleSpec:
    """What is needed to build one module.

    Args:
        module_class: The `RLModule` class.
        observation_space: Space of single observations.
        action_space: Space of single actions.
        inference_only: Whether the module will only act.
        learner_only: Whether the module will never act.
        model_config: Settings of its networks: a `DefaultModelConfig` or a dict.
        catalog_class: Class that makes its networks.
    """

    module_class: type[RLModule] | None = None
    observation_space: gym.Space | None = None
    action_space: gym.Space | None = None
    inference_only: bool = False
    learner_only: bool = False
    model_config: DefaultModelConfig | dict[str, Any] | None = None
    catalog_class: type | None = None

    def build(self, *, seed: int | None = None) -> RLModule:
        """Builds the module.

        Args:
            seed: Seed of the initial weights.

        Raises:
            ModuleError: If the class or the observation space is missing.
        """
        for name in ("module_class", "observation_space"):
            if getattr(self, name) is None:
                raise ModuleError("RLModuleSpec.build()", "None", f"a {name}")
        assert self.module_class is not None
        return self.module_class(
            self.observation_space,
            self.action_space,
            inference_only=self.inference_only,
            learner_only=self.learner_only,
            model_config=self.model_config,
            catalog_class=self.catalog_class,
            seed=seed,
        )

    @classmethod
    def from_module(cls, module: RLModule) -> "RLModuleSpec":
        """Returns the specification of an existing module."""
        return cls(
            module_class=type(module),
            observation_space=module.observation_space,
            action_space=module.action_space,
            inference_only=module.inference_only,
            learner_only=module.learner_only,
            model_config=module.model_config,
            catalog_class=module.catalog_class,
        )

    def with_defaults(self, defaults: "RLModuleSpec") -> "RLModuleSpec":
        """Returns a copy whose missing parts come from `defaults`."""
        missing = {
            field.name: getattr(defaults, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) is None
        }
        return dataclasses.replace(self, **missing)

    def as_multi_rl_module_spec(self) -> "MultiRLModuleSpec":
        """Returns the specification of a `MultiRLModule` with this one module."""
        return MultiRLModuleSpec(rl_module_specs={DEFAULT_MODULE_ID: self})


@dataclasses.dataclass
class MultiRLModuleSpec:
    """What is needed to build several modules.

    Args:
        rl_module_specs: The specification of each module by id.
        multi_rl_module_class: The class that will hold them.
    """

    rl_module_specs: Mapping[ModuleID, RLModuleSpec] = dataclasses.field(
        default_factory=dict
    )
    multi_rl_module_class: type[MultiRLModule] = MultiRLModule

    def build(self, *, seed: int | None = None) -> MultiRLModule:
        """Builds every module; each draws its initial weights from a seed of its own."""
        seeds = np.random.SeedSequence(seed).spawn(len(self.rl_module_specs))
        modules = {
            module_id: spec.build(seed=int(own.generate_state(1)[0]))
            for (module_id, spec), own in zip(self.rl_module_specs.items(), seeds)
        }
        return self.multi_rl_module_class(modules)

    @classmethod
    def from_module(cls, module: RLModule) -> "MultiRLModuleSpec":
        """Returns the specification of existing modules."""
        multi = module.as_multi_rl_module()
        return cls(
            rl_module_specs={
                mid: RLModuleSpec.from_module(single) for mid, single in multi.items()
            },
            multi_rl_module_class=type(multi),
        )

    def as_multi_rl_module_spec(self) -> "MultiRLModuleSpec":
        """Returns itself."""
        return self

    def __getitem__(self, module_id: ModuleID) -> RLModuleSpec:
        return self.rl_module_specs[module_id]

    def __contains__(self, module_id: object) -> bool:
        return module_id in self.rl_module_specs
