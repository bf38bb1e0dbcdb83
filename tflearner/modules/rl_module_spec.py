"""Specifications of modules, which can be built anywhere."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import field
from typing import Any

import gymnasium as gym
import numpy as np

from tflearner.checkpoint.builders import register_builder
from tflearner.checkpoint.kinds import MODULE, SPACE, SPEC, named, of_kind
from tflearner.checks import is_int
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import (
    ModuleBuildError,
    ModuleError,
    TFLearnerError,
    UnknownModuleError,
    did_you_mean,
    own_error,
    shown,
)
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module import TAKES, MultiRLModule, RLModule
from tflearner.types import ModuleID


@of_kind(SPEC, takes=TAKES | {"module_class": (named(MODULE),)})
@dataclasses.dataclass
class RLModuleSpec:
    """Specification of one module: its class and the arguments to build it.

    Args:
        module_class: The `RLModule` class.
        observation_space: Space of single observations.
        action_space: Space of single actions.
        inference_only: Whether the module will only act.
        learner_only: Whether the module will never act.
        model_config: Settings of the networks: a `DefaultModelConfig` or a dict.
        catalog_class: Class that makes the networks.
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
            ModuleBuildError: If the class raised an error of its own.
        """
        for name in ("module_class", "observation_space"):
            if getattr(self, name) is None:
                raise ModuleError("RLModuleSpec.build()", "None", f"a {name}")
        made = self.module_class
        if not (isinstance(made, type) and issubclass(made, RLModule)):
            raise ModuleError(
                "RLModuleSpec.module_class", shown(made), "a subclass of RLModule"
            )
        for name in ("inference_only", "learner_only"):
            if not isinstance(getattr(self, name), bool):
                got = shown(getattr(self, name))
                raise ModuleError(f"RLModuleSpec.{name}", got, "a bool")
        try:
            return made(
                self.observation_space,
                self.action_space,
                inference_only=self.inference_only,
                learner_only=self.learner_only,
                model_config=self.model_config,
                catalog_class=self.catalog_class,
                seed=seed,
            )
        except TFLearnerError:
            raise
        except Exception as error:
            if (own := own_error(error)) is not None:
                raise own from None
            text = re.sub("\x1b\\[[01]m", "", str(error))  # Keras' codes for bold text.
            raise ModuleBuildError(
                made.__name__,
                f"{type(error).__name__}: {text}",
                "a module that can be built from this specification",
                "the error above this one is the module's own",
            ) from error

    @classmethod
    def from_module(cls, module: RLModule) -> "RLModuleSpec":
        """Returns the specification of an existing module."""
        return cls(
            module_class=type(module),
            observation_space=module.observation_space,
            action_space=module.action_space,
            inference_only=module.inference_only,
            learner_only=module.learner_only,
            model_config=module._given_model_config,
            catalog_class=module.catalog_class,
        )

    def with_defaults(self, defaults: "RLModuleSpec") -> "RLModuleSpec":
        """Returns a copy whose missing parts come from `defaults`."""
        missing = {
            part.name: getattr(defaults, part.name)
            for part in dataclasses.fields(self)
            if getattr(self, part.name) is None
        }
        return dataclasses.replace(self, **missing)

    def update(self, other: "RLModuleSpec", override: bool = True) -> None:
        """Replaces the parts that `other` has.

        Args:
            other: Another specification.
            override: Whether its parts replace own ones; otherwise only missing parts
                are taken. As in RLlib the result is for acting only if one of the two
                is, and for learning only if both are.
        """
        check_spec(f"{type(self).__name__}.update()", other)
        merged = other.with_defaults(self) if override else self.with_defaults(other)
        if override:
            merged.inference_only = other.inference_only or self.inference_only
            merged.learner_only = other.learner_only and self.learner_only
        self.__dict__.update(merged.__dict__)

    def to_dict(self) -> dict[str, Any]:
        """Returns the parts by name: the live objects, not copies."""
        return {
            part.name: getattr(self, part.name) for part in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any]) -> "RLModuleSpec":
        """Returns the specification of which `to_dict` returned the parts."""
        return cls(**parts)

    def as_multi_rl_module_spec(self) -> "MultiRLModuleSpec":
        """Returns the specification of a `MultiRLModule` with this one module."""
        return MultiRLModuleSpec(rl_module_specs={DEFAULT_MODULE_ID: self})


@of_kind(
    SPEC,
    takes={
        "rl_module_specs": (SPEC,),
        "multi_rl_module_class": (named(MODULE),),
        "observation_space": (SPACE,),
        "action_space": (SPACE,),
    },
)
@dataclasses.dataclass
class MultiRLModuleSpec:
    """Specification of several modules by id.

    Args:
        rl_module_specs: The specification of each module by id. A single specification
            is used for every module; the modules share nothing.
        multi_rl_module_class: The `MultiRLModule` class.
        observation_space: Observation space of modules without their own.
        action_space: Action space of modules without their own.
    """

    rl_module_specs: Mapping[ModuleID, RLModuleSpec] | RLModuleSpec = field(
        default_factory=dict
    )
    multi_rl_module_class: type[MultiRLModule] = MultiRLModule
    observation_space: gym.Space | None = None
    action_space: gym.Space | None = None

    def __post_init__(self):
        self.check()

    def check(self) -> None:
        """Raises `ModuleError` for parts of a wrong type."""
        where, specs = type(self).__name__, self.rl_module_specs
        if not isinstance(specs, Mapping | RLModuleSpec):
            raise ModuleError(
                f"{where}.rl_module_specs", shown(specs), "a dict of RLModuleSpecs"
            )
        cls = self.multi_rl_module_class
        if not (isinstance(cls, type) and issubclass(cls, MultiRLModule)):
            raise ModuleError(
                f"{where}.multi_rl_module_class",
                shown(cls),
                "MultiRLModule or a subclass",
            )

    @property
    def inference_only(self) -> bool:
        """Whether all modules will only act."""
        specs = self.by_id().values()
        return bool(specs) and all(spec.inference_only for spec in specs)

    def build(self, *, seed: int | None = None) -> MultiRLModule:
        """Builds every module; each draws its initial weights from a seed of its own."""
        specs = self.by_id()
        if seed is not None and not is_int(seed, 0):
            where = "MultiRLModuleSpec.build(seed=...)"
            raise ModuleError(where, shown(seed), "an int >= 0, or None")
        seeds = np.random.SeedSequence(seed).spawn(len(specs))
        spaces = RLModuleSpec(
            observation_space=self.observation_space, action_space=self.action_space
        )
        modules = {
            module_id: spec.with_defaults(spaces).build(
                seed=int(own.generate_state(1)[0])
            )
            for (module_id, spec), own in zip(specs.items(), seeds)
        }
        return self.multi_rl_module_class(modules)

    def add_modules(
        self, module_specs: Mapping[ModuleID, RLModuleSpec], override: bool = True
    ) -> None:
        """Adds specifications.

        Args:
            module_specs: Specifications by id.
            override: Whether a specification of a known id replaces ours. Otherwise it
                updates ours part by part, as in RLlib: see `RLModuleSpec.update`.
        """
        if not isinstance(module_specs, Mapping):
            where, want = "MultiRLModuleSpec.add_modules()", "a dict of RLModuleSpecs"
            raise ModuleError(where, shown(module_specs), want)
        merged = dict(self.by_id())
        for module_id, spec in module_specs.items():
            check_spec(f"module {shown(module_id)}", spec)
            if module_id in merged and not override:
                own = dataclasses.replace(merged[module_id])
                own.update(spec)
                spec = own
            merged[module_id] = spec
        self.rl_module_specs = merged

    def remove_modules(self, module_ids: ModuleID | Collection[ModuleID]) -> None:
        """Removes the specifications of these ids, or of this one.

        Raises:
            UnknownModuleError: If there is no such id; none is removed then.
        """
        is_several = isinstance(module_ids, Mapping | AbstractSet | list | tuple)
        removed: list[Any] = [*module_ids] if is_several else [module_ids]
        for module_id in removed:
            self[module_id]
        self.rl_module_specs = {
            mid: spec for mid, spec in self.by_id().items() if mid not in removed
        }

    def update(
        self, other: "MultiRLModuleSpec | RLModuleSpec", override: bool = False
    ) -> None:
        """Adds the specifications of `other`; a single one completes all of ours.

        Args:
            other: Another specification. A single one only adds parts that ours lack,
                whatever `override` is, as in RLlib.
            override: As in `add_modules`.
        """
        if isinstance(other, MultiRLModuleSpec):
            self.add_modules(other.by_id(), override=override)
            return
        check_spec("MultiRLModuleSpec.update()", other)
        self.rl_module_specs = {
            module_id: spec.with_defaults(other)
            for module_id, spec in self.by_id().items()
        }

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

    def to_dict(self) -> dict[str, Any]:
        """Returns the parts by name, modules as by `RLModuleSpec.to_dict`."""
        parts = {
            part.name: getattr(self, part.name) for part in dataclasses.fields(self)
        }
        specs = self.rl_module_specs
        if isinstance(specs, RLModuleSpec):
            return parts | {"rl_module_specs": specs.to_dict()}
        return parts | {"rl_module_specs": {m: s.to_dict() for m, s in specs.items()}}

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any]) -> "MultiRLModuleSpec":
        """Returns the specification of which `to_dict` returned the parts."""
        specs = parts["rl_module_specs"]
        if "module_class" in specs:
            return cls(**{**parts, "rl_module_specs": RLModuleSpec.from_dict(specs)})
        rebuilt = {mid: RLModuleSpec.from_dict(own) for mid, own in specs.items()}
        return cls(**{**parts, "rl_module_specs": rebuilt})

    def __getitem__(self, module_id: ModuleID) -> RLModuleSpec:
        specs = self.rl_module_specs
        if isinstance(specs, RLModuleSpec):
            return specs
        if not isinstance(module_id, str) or module_id not in specs:
            raise UnknownModuleError(
                f"module {shown(module_id)}",
                "an unknown id",
                f"one of {sorted(specs)}",
                did_you_mean(module_id, specs) if isinstance(module_id, str) else None,
            )
        return specs[module_id]

    def __contains__(self, module_id: object) -> bool:
        return module_id in self.by_id()

    def by_id(self) -> Mapping[ModuleID, RLModuleSpec]:
        """Returns the specifications by id.

        Raises:
            ModuleError: If there is a single one for ids that are not known.
        """
        self.check()
        if isinstance(self.rl_module_specs, RLModuleSpec):
            raise ModuleError(
                "MultiRLModuleSpec.rl_module_specs",
                "one specification for all modules, whose ids are not known here",
                "a dict by module id",
                "name them: config.multi_agent(policies=[...])",
            )
        for module_id, spec in self.rl_module_specs.items():
            check_spec(f"module {shown(module_id)}", spec)
        return self.rl_module_specs


register_builder(
    "tflearner/RLModuleSpec", RLModuleSpec, arguments=lambda spec: vars(spec)
)
register_builder(
    "tflearner/MultiRLModuleSpec", MultiRLModuleSpec, arguments=lambda spec: vars(spec)
)


def check_spec(where: str, spec: Any) -> None:
    """Raises `ModuleError` unless an object is an `RLModuleSpec`."""
    if not isinstance(spec, RLModuleSpec):
        is_class = isinstance(spec, type)
        raise ModuleError(
            where,
            shown(spec),
            "an RLModuleSpec",
            f"RLModuleSpec(module_class={spec.__name__}, ...)" if is_class else None,
        )
