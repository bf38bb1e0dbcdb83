"""Modules, which act and learn: a single one, and several under their ids."""

import abc
from collections.abc import Callable, Iterator
from typing import Any, Self

import gymnasium as gym
import numpy as np

from tflearner.checkpoint import matching, spaces
from tflearner.checkpoint.builders import register_builder
from tflearner.checkpoint.checkpointable import Checkpointable
from tflearner.checkpoint.kinds import (
    CATALOG,
    MODEL_CONFIG,
    MODULE,
    SPACE,
    SPEC,
    named,
    of_kind,
)
from tflearner.checkpoint.restoring import RestorePlan, RestoreReport
from tflearner.constants import (
    ALL_MODULES,
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_CONNECTOR,
    COMPONENT_METRICS_LOGGER,
    COMPONENT_OPTIMIZER,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
    WEIGHTS_SEQ_NO,
)
from tflearner.errors import ModuleError, SpaceError, UnknownModuleError, did_you_mean
from tflearner.modules.acting import ModuleActor
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.numpy_policy import NumpyPolicy
from tflearner.networks.distributions import Categorical, DiagGaussian, Distribution
from tflearner.networks.product_distributions import (
    MultiBernoulli,
    MultiCategorical,
    MultiDistribution,
    Part,
)
from tflearner.spaces.leaves import parts_of
from tflearner.types import ModuleID, StateDict

# What state dicts have beside module ids; a module of that name could not be told apart.
OF_STATES = (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_CONNECTOR,
    COMPONENT_RL_MODULE,
    COMPONENT_OPTIMIZER,
    COMPONENT_METRICS_LOGGER,
    WEIGHTS_SEQ_NO,
    "should_module_be_updated",
)


# The kinds of objects that files may have in the arguments of modules.
TAKES = {
    "observation_space": (SPACE,),
    "action_space": (SPACE,),
    "model_config": (MODEL_CONFIG, SPACE, SPEC),
    "catalog_class": (named(CATALOG),),
}


@of_kind(MODULE, takes=TAKES)
class RLModule(Checkpointable):
    """Maps observations to actions, and to the outputs that a loss needs.

    Subclasses override `setup` to make their networks and `_forward`, or one of
    `_forward_inference`, `_forward_exploration` and `_forward_train`, to use them.

    Args:
        observation_space: Space of single observations.
        action_space: Space of single actions.
        inference_only: Whether the module will only act; it then refuses to train.
        learner_only: Whether the module will never act.
        model_config: Settings of the networks: a `DefaultModelConfig`, or a dict with
            the keys that the class reads.
        catalog_class: Class that makes the networks, if the module uses one.
        seed: Seed of the initial weights; `None` draws different ones each time.
    """

    framework: str | None = None

    def __init__(
        self,
        observation_space: gym.Space | None = None,
        action_space: gym.Space | None = None,
        *,
        inference_only: bool = False,
        learner_only: bool = False,
        model_config: DefaultModelConfig | dict[str, Any] | None = None,
        catalog_class: type | None = None,
        seed: int | None = None,
    ):
        self.observation_space = observation_space
        self.action_space = action_space
        self.inference_only = inference_only
        self.learner_only = learner_only
        self.model_config = {} if model_config is None else model_config
        self._given_model_config = model_config  # A class may complete its own.
        self.catalog_class = catalog_class
        self.seed = seed
        self.setup()
        self.setup = self._refuse_second_setup  # type: ignore[method-assign]

    def setup(self) -> None:
        """Makes the networks; called once, by the constructor."""

    def _refuse_second_setup(self) -> None:
        raise RuntimeError(
            f"{type(self).__name__}.setup() was called by the constructor already. "
            "Build a new module to get new networks."
        )

    # Forward passes: public methods call the hooks that subclasses override.

    def forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Computes the outputs for acting greedily, usually `ACTION_DIST_INPUTS`."""
        return self._forward_inference(batch, **kwargs)

    def forward_exploration(
        self, batch: dict[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        """Computes the outputs for exploring."""
        return self._forward_exploration(batch, **kwargs)

    def forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Computes the outputs that the loss needs.

        Raises:
            RuntimeError: If the module was built for acting only.
        """
        if self.inference_only:
            raise RuntimeError(
                f"{type(self).__name__} was built with inference_only=True and cannot "
                "train. Build it from a spec with inference_only=False."
            )
        return self._forward_train(batch, **kwargs)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError(
            f"{type(self).__name__} overrides neither `_forward` nor the specific "
            "`_forward_inference`, `_forward_exploration` or `_forward_train`."
        )

    def _forward_inference(self, batch, **kwargs):
        return self._forward(batch, **kwargs)

    def _forward_exploration(self, batch, **kwargs):
        return self._forward(batch, **kwargs)

    def _forward_train(self, batch, **kwargs):
        return self._forward(batch, **kwargs)

    # Distributions.

    def get_train_action_dist_cls(self) -> type[Distribution]:
        """Returns the class of action distributions for losses."""
        return action_dist_class(self.action_space)

    def get_exploration_action_dist_cls(self) -> type[Distribution]:
        """Returns the class of action distributions for acting while exploring."""
        return self.get_train_action_dist_cls()

    def get_inference_action_dist_cls(self) -> type[Distribution]:
        """Returns the class of action distributions for acting greedily."""
        return self.get_train_action_dist_cls()

    # Acting.

    def numpy_policy(self) -> NumpyPolicy | None:
        """Returns the policy as data, with the current weights.

        Returns:
            A `NumpyPolicy`, which acts without TensorFlow. `None` if a forward pass is
            overridden, or a layer has no NumPy form or computes in half precision.
        """
        return None

    def make_actor(self, *, draws: bool = True) -> Any:
        """Returns the fastest way to act with this module, see `acting.make_actor`."""
        return ModuleActor(self)

    # Recurrent state.

    def get_initial_state(self) -> dict[str, np.ndarray]:
        """Returns the state at an episode's start; empty for stateless modules."""
        return {}

    def is_stateful(self) -> bool:
        """Returns whether the module carries a state from step to step."""
        return bool(self.get_initial_state())

    @property
    def max_seq_len(self) -> int | None:
        """Steps of the sequences a stateful module learns from; `None` if not set."""
        if isinstance(self.model_config, dict):
            return self.model_config.get("max_seq_len")
        return getattr(self.model_config, "max_seq_len", None)

    # State and structure.

    @abc.abstractmethod
    def get_state(
        self, components=None, *, not_components=None, inference_only: bool = False
    ) -> StateDict:
        """Returns the weights as NumPy arrays.

        Args:
            components: Which modules of several; `None` is all of them.
            not_components: Components to exclude.
            inference_only: Whether to exclude what acting does not need, see
                `InferenceOnlyAPI`.
        """

    @abc.abstractmethod
    def set_state(self, state: StateDict) -> None:
        """Replaces the weights."""

    def check_state(self, state: StateDict) -> None:
        """Raises the error that `set_state` would raise, and changes nothing."""

    def get_ctor_args_and_kwargs(self):
        return (), {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "inference_only": self.inference_only,
            "learner_only": self.learner_only,
            "model_config": self._given_model_config,
            "catalog_class": self.catalog_class,
        }

    def _plan_restore(self, state, component):
        if component:
            return super()._plan_restore(state, component)
        own = self.get_state()
        fits = matching.match(state, own)

        def apply() -> RestoreReport:
            self.set_state(matching.merged(own, state, fits.loaded))
            return RestoreReport.of(fits)

        return RestorePlan(fits.problems, apply)

    def as_multi_rl_module(self) -> "MultiRLModule":
        """Returns a `MultiRLModule` that holds this module, not a copy."""
        return MultiRLModule({DEFAULT_MODULE_ID: self})

    def unwrapped(self) -> Self:
        """Returns the module without wrappers."""
        return self


@of_kind(MODULE, takes={"modules": (MODULE,)})
class MultiRLModule(RLModule):
    """A module that holds several modules by id, with the interface of a mapping.

    Args:
        modules: The modules by id, used as they are.
    """

    def __init__(self, modules: dict[ModuleID, RLModule] | None = None):
        self._modules: dict[ModuleID, RLModule] = {}
        for module_id, module in (modules or {}).items():
            self.add_module(module_id, module)
        super().__init__()

    def add_module(
        self, module_id: ModuleID, module: RLModule, *, override: bool = False
    ) -> None:
        """Adds a module.

        Raises:
            ModuleError: If the id is invalid or taken, or `module` is no `RLModule`.
        """
        validate_module_id(module_id, error=True)
        for other in self._modules:
            if other != module_id and other.casefold() == module_id.casefold():
                raise ModuleError(
                    f"module {module_id!r}",
                    f"an id that differs from {other!r} in case alone",
                    "another id",
                    "ids name folders, and not every file system tells these apart",
                )
        if module_id in self._modules and not override:
            raise ModuleError(
                f"module {module_id!r}",
                "an id that exists already",
                "a new one",
                "remove the module first, or pass override=True",
            )
        if not isinstance(module, RLModule):
            raise ModuleError(
                f"module {module_id!r}", repr(type(module)), "an RLModule"
            )
        self._modules[module_id] = module

    def remove_module(
        self, module_id: ModuleID, *, raise_err_if_not_found: bool = True
    ) -> None:
        """Removes a module.

        Raises:
            UnknownModuleError: If there is none and `raise_err_if_not_found`.
        """
        if raise_err_if_not_found:
            self[module_id]
        self._modules.pop(module_id, None)

    def foreach_module(
        self, func: Callable[[ModuleID, RLModule], Any], *, return_dict: bool = False
    ) -> list[Any] | dict[ModuleID, Any]:
        """Calls `func(module_id, module)` for every module; returns the results."""
        results = {mid: func(mid, module) for mid, module in self._modules.items()}
        return results if return_dict else list(results.values())

    def __getitem__(self, module_id: ModuleID) -> RLModule:
        if module_id not in self._modules:
            raise UnknownModuleError(
                f"module {module_id!r}",
                "an unknown id",
                f"one of {sorted(self._modules)}",
                did_you_mean(module_id, self._modules),
            )
        return self._modules[module_id]

    def __contains__(self, module_id: object) -> bool:
        return module_id in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[ModuleID]:
        return iter(self._modules)

    def get(self, module_id: ModuleID, default: Any = None) -> Any:
        """Returns a module, or `default` if there is none."""
        return self._modules.get(module_id, default)

    def keys(self):
        """Returns the ids."""
        return self._modules.keys()

    def values(self):
        """Returns the modules."""
        return self._modules.values()

    def items(self):
        """Returns pairs of id and module."""
        return self._modules.items()

    # The forward passes run the modules that are in the batch.

    def forward_inference(self, batch, **kwargs):
        return {m: self[m].forward_inference(b, **kwargs) for m, b in batch.items()}

    def forward_exploration(self, batch, **kwargs):
        return {m: self[m].forward_exploration(b, **kwargs) for m, b in batch.items()}

    def forward_train(self, batch, **kwargs):
        return {m: self[m].forward_train(b, **kwargs) for m, b in batch.items()}

    def is_stateful(self) -> bool:
        return any(module.is_stateful() for module in self._modules.values())

    def get_state(
        self, components=None, *, not_components=None, inference_only: bool = False
    ) -> StateDict:
        wanted = [components] if isinstance(components, str) else components
        unwanted = not_components or ()
        unwanted = [unwanted] if isinstance(unwanted, str) else unwanted
        for module_id in wanted or ():
            self[module_id]
        only = {"inference_only": True} if inference_only else {}
        return {
            mid: module.get_state(**only)
            for mid, module in self._modules.items()
            if (wanted is None or mid in wanted) and mid not in unwanted
        }

    def set_state(self, state: StateDict) -> None:
        """Replaces the weights of the modules named in `state`.

        Args:
            state: {module id: weights}; or a learner's state with these under
                "rl_module", whose other parts are ignored.

        Raises:
            UnknownModuleError: If `state` names a module that is not here.
            ModuleError: If weights do not fit. None is changed in either case.
        """
        self.check_state(state)
        state = state.get(COMPONENT_RL_MODULE, state)  # Never a module's id.
        for module_id, part in state.items():
            self[module_id].set_state(part)

    def check_state(self, state: StateDict) -> None:
        check_is_dict(f"{type(self).__name__}.set_state()", state)
        state = state.get(COMPONENT_RL_MODULE, state)
        check_is_dict(f"{type(self).__name__}.set_state()", state)
        for module_id, part in state.items():
            self[module_id].check_state(part)

    def get_ctor_args_and_kwargs(self):
        return (), {"modules": dict(self._modules)}

    def get_checkpointable_components(self):
        return list(self._modules.items())

    def as_multi_rl_module(self) -> "MultiRLModule":
        return self


spaces.register_builders()
register_builder(
    "tflearner/RLModule",
    RLModule,
    arguments=lambda module: module.get_ctor_args_and_kwargs()[1],
)
register_builder("tflearner/MultiRLModule", MultiRLModule)


def check_is_dict(where: str, state: Any) -> None:
    """Raises `ModuleError` if a state is not a dict."""
    if not isinstance(state, dict):
        raise ModuleError(where, f"a {type(state).__name__}", "a dict")


def validate_module_id(module_id: Any, error: bool = False) -> bool:
    """Returns whether `module_id` may name a module.

    Args:
        module_id: A non-empty string without `< > : " / \\ | ?`, control characters or
            a trailing space or dot, of at most 255 characters.
        error: Whether to raise instead of returning False.

    Raises:
        ModuleError: If the id is invalid and `error`; says why.
    """
    if not isinstance(module_id, str):
        reason = f"{type(module_id).__name__}, not a string"
    elif not module_id.strip():
        reason = "empty"
    elif module_id == ALL_MODULES:
        reason = "reserved for what concerns all modules"
    elif module_id in OF_STATES:
        reason = "reserved for a part of a learner's state"
    elif len(module_id) > 255:
        reason = f"{len(module_id)} characters long, at most 255 are allowed"
    elif any(c in '<>:"/\\|?' or not c.isprintable() for c in module_id):
        reason = 'a name with one of < > : " / \\ | ? or an unprintable character'
    elif module_id[-1] in " .":
        reason = "a name ending in a space or dot"
    else:
        return True
    if error:
        raise ModuleError(f"module id {module_id!r}", f"invalid: {reason}")
    return False


def action_dist_class(space: gym.Space | None) -> type[Distribution]:
    """Returns the distribution over actions of `space`; the same one for equal spaces.

    Raises:
        SpaceError: If there is none; names the leaf of a nested space.
    """
    return _dist_class(space, "")


def _dist_class(space: gym.Space | None, path: str) -> type[Distribution]:
    """Returns the distribution of a space, or of its leaf at a path such as "a/0"."""
    if isinstance(space, gym.spaces.Discrete):
        return Categorical
    if isinstance(space, gym.spaces.Box):
        return DiagGaussian
    if isinstance(space, gym.spaces.MultiDiscrete) and space.nvec.size:
        sizes = tuple(space.nvec.ravel().tolist())
        return MultiCategorical.of(sizes, space.nvec.shape)
    if isinstance(space, gym.spaces.MultiBinary):
        return MultiBernoulli.of(tuple(space.shape))
    parts = []
    for key, inner in parts_of(space):
        dist_class = _dist_class(inner, f"{path}/{key}" if path else str(key))
        parts.append(Part(key, dist_class, dist_class.required_input_dim(inner)))
    if parts:
        is_dict = isinstance(space, gym.spaces.Dict)
        return MultiDistribution.of(tuple(parts), is_dict=is_dict)
    raise SpaceError(
        f"action space, leaf {path!r}" if path else "action space",
        str(space),
        "Discrete, Box, MultiDiscrete, MultiBinary, or a Dict or Tuple of some",
        "wrap the environment so that it takes such actions, or override "
        "`get_train_action_dist_cls` of a TfRLModule",
    )
