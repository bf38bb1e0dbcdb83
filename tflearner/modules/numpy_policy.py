"""Policies as data, which act in processes that never import TensorFlow.

Shapes: `N` environments, `n` actions.
"""

import copy
import dataclasses
from typing import Any

import numpy as np
import tree

from tflearner.columns import Columns
from tflearner.errors import ModuleError
from tflearner.modules.acting import NumpyActor, with_time_axis, without_time_axis
from tflearner.networks.numpy_distributions import NumpyDistribution
from tflearner.networks.numpy_encoding import NumpyEncoding
from tflearner.networks.numpy_layers import with_arrays
from tflearner.spaces.mask_spaces import FORBIDDEN, masked_np
from tflearner.types import StateDict

_NUM_ROWS = 8  # Random observations on which a policy is compared with its module.


@dataclasses.dataclass(eq=False)
class NumpyPolicy:
    """A module's policy in NumPy: arrays, names of activations, and distributions.

    `module.numpy_policy()` makes it. It has no parts of TensorFlow, so it pickles as
    data and needs only NumPy. `SingleAgentEnvRunner` takes it in place of a module:

        runner = SingleAgentEnvRunner(
            config=RunnerSettings.of(config),
            module=algo.get_module().numpy_policy(),
            module_to_env=algo.env_runner.module_to_env,
        )

    Call it with observations; a policy with a state takes observations and state.

    Attributes:
        encoding: Turns observations into float32 [N, ...].
        network: Turns encoded observations into the distribution's inputs, float32 [N,
            inputs]. With a state, it is the part that reads and returns the state.
        head: The layers after `network`, in a policy with a state; `None` without one.
        is_masked: Whether observations hold an action mask.
        epsilon: The probability of a random action while exploring; `None` draws from
            the distribution only.
        exploration_dist: The distribution while exploring.
        inference_dist: The distribution while acting greedily.
    """

    encoding: NumpyEncoding
    network: Any
    head: Any = None
    is_masked: bool = False
    epsilon: Any = None
    exploration_dist: NumpyDistribution | None = None
    inference_dist: NumpyDistribution | None = None

    def __call__(self, observations: Any, state: Any = None, *, explore: bool = False):
        """Returns the distribution's inputs, float32 [N, inputs].

        Args:
            observations: [N, ...].
            state: The state before this step, [N, ...]; a policy with a state then
                returns inputs and the next state.
            explore: Whether to explore.
        """
        encoded = self.encoding(observations)
        if self.head is None:
            return self._outputs(self.network(encoded), observations, explore)
        embedding, state = self.network(encoded, state)
        return self._outputs(self.head(embedding), observations, explore), state

    def _outputs(self, outputs: np.ndarray, observations: Any, explore: bool):
        if self.is_masked:
            outputs = masked_np(outputs, observations)
        if explore and self.epsilon is not None:
            return epsilon_greedy_logits_np(outputs, float(self.epsilon))
        return outputs

    # The part of `RLModule` that acting needs.

    def make_actor(self, *, draws: bool = True) -> NumpyActor:
        """Returns the actor that an environment runner calls once per vector step."""
        return NumpyActor(self, draws=draws)

    def numpy_policy(self) -> "NumpyPolicy":
        """Returns itself."""
        return self

    def forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Returns the outputs for acting greedily, from single steps [N, ...]."""
        return self.forward(batch, explore=False)

    def forward_exploration(
        self, batch: dict[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        """Returns the outputs for exploring, from single steps [N, ...]."""
        return self.forward(batch, explore=True)

    def forward(self, batch: dict[str, Any], *, explore: bool) -> dict[str, Any]:
        """Returns ACTION_DIST_INPUTS and, of a policy with a state, STATE_OUT.

        Args:
            batch: OBS [N, ...] and, for a policy with a state, STATE_IN.
            explore: Whether to explore.
        """
        observations = batch[Columns.OBS]
        if self.head is None:
            inputs = self(observations, explore=explore)
            return {Columns.ACTION_DIST_INPUTS: inputs}
        inputs, state = self(observations, batch[Columns.STATE_IN], explore=explore)
        return {Columns.ACTION_DIST_INPUTS: inputs, Columns.STATE_OUT: state}

    def get_exploration_action_dist_cls(self) -> Any:
        """Returns the distribution while exploring."""
        return self.exploration_dist

    def get_inference_action_dist_cls(self) -> Any:
        """Returns the distribution while acting greedily."""
        return self.inference_dist

    def is_stateful(self) -> bool:
        """Returns whether the policy carries a state from step to step."""
        return self.head is not None

    def get_initial_state(self) -> dict[str, Any]:
        """Returns the state at an episode's start; empty without one."""
        return self.network.initial_state() if self.is_stateful() else {}

    # Weights.

    def get_state(self, *args: Any, **kwargs: Any) -> StateDict:
        """Returns the weights, numbered in the order of the layers.

        Policies of modules with equal settings number their weights alike.
        """
        arrays: list[np.ndarray] = []
        self.with_weights(lambda array: arrays.append(array))
        return {f"{index:03d}": array for index, array in enumerate(arrays)}

    def set_state(self, state: StateDict) -> None:
        """Replaces the weights.

        Raises:
            ModuleError: If their names or shapes differ. None is changed then.
        """
        own = self.get_state()
        shapes = {name: np.shape(array) for name, array in state.items()}
        wanted = {name: np.shape(array) for name, array in own.items()}
        if shapes != wanted:
            raise ModuleError(
                "NumpyPolicy.set_state()",
                f"weights of shapes {shapes}",
                f"weights of shapes {wanted}",
                "take them from get_state() of a policy of the same module",
            )
        arrays = iter([np.array(state[name], own[name].dtype) for name in own])
        new = self.with_weights(lambda array: next(arrays))
        for name in _WITH_WEIGHTS:
            setattr(self, name, getattr(new, name))

    def with_weights(self, function: Any) -> "NumpyPolicy":
        """Returns a copy of this policy, with `function` applied to each weight."""
        parts = {
            name: with_arrays(getattr(self, name), function) for name in _WITH_WEIGHTS
        }
        return dataclasses.replace(self, **parts)


_WITH_WEIGHTS = ("network", "head", "epsilon")


def epsilon_greedy_logits_np(q_values: np.ndarray, epsilon: float) -> np.ndarray:
    """Computes `exploration.epsilon_greedy_logits` in NumPy."""
    allowed = q_values > 0.5 * FORBIDDEN
    number = np.maximum(allowed.sum(-1, keepdims=True), 1)
    probs = (allowed * (epsilon / number)).astype(np.float32)
    best = q_values.argmax(-1)[..., None]
    greedy = np.take_along_axis(probs, best, -1) + np.float32(1.0 - epsilon)
    np.put_along_axis(probs, best, greedy, -1)
    possible = probs > 0.0
    logits = np.log(np.where(possible, probs, np.float32(1.0)))
    return np.where(possible, logits, np.float32(FORBIDDEN))


def agrees(policy: NumpyPolicy, module: Any) -> bool:
    """Returns whether a policy and a module agree on random observations.

    Args:
        policy: A form of the module's policy.
        module: A `TfRLModule`.
    """
    space = copy.deepcopy(module.observation_space)
    space.seed(0)
    rows = [tree.map_structure(_moderate, space.sample()) for _ in range(_NUM_ROWS)]
    batch = {Columns.OBS: tree.map_structure(lambda *parts: np.stack(parts), *rows)}
    outputs: Any
    if policy.is_stateful():
        batch[Columns.STATE_IN] = tree.map_structure(
            lambda x: np.repeat(x[None], _NUM_ROWS, axis=0), module.get_initial_state()
        )
        outputs = without_time_axis(module.forward_inference(with_time_axis(batch)))
    else:
        outputs = module.forward_inference(batch)
    want = np.asarray(outputs[Columns.ACTION_DIST_INPUTS])
    got = policy.forward(batch, explore=False)[Columns.ACTION_DIST_INPUTS]
    scale = max(1.0, float(np.abs(want).max()))
    return got.shape == want.shape and np.abs(got - want).max() <= 1e-4 * scale


def _moderate(leaf: Any) -> Any:
    """Clips floats to [-10, 10], because those of a wide Box may overflow float32."""
    leaf = np.asarray(leaf)
    return np.clip(leaf, -10.0, 10.0) if leaf.dtype.kind == "f" else leaf
