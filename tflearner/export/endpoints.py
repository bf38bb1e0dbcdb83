"""The endpoints of an exported policy: traced functions of raw observations.

Shapes: `B` observations at a time, any number; a state has `B` rows, too.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf
import tree
from keras import ops

from tflearner.columns import Columns
from tflearner.connectors.actions import GetActions
from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.pipeline import ConnectorPipelineV2, EnvToModulePipeline
from tflearner.errors import ExportError, TFLearnerError
from tflearner.modules.acting import ModuleActor
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.tf_rl_module import TfRLModule

ACT_GREEDY, ACT, VALUE, INITIAL_STATE = "act_greedy", "act", "value", "initial_state"
MODULE, ENV_TO_MODULE = "module", "env_to_module"  # Parts of a state.

# Operations that call Python, files or the screen: a program that loads an export gets
# numbers, and nothing else happens.
_REACHING_OUT = {
    *("PyFunc", "PyFuncStateless", "EagerPyFunc"),
    *("Print", "PrintV2", "ReadFile", "WriteFile", "MatchingFiles"),
    *("WholeFileReaderV2", "TextLineReaderV2", "TFRecordReaderV2", "ReaderReadV2"),
    *("FixedLengthRecordReaderV2", "TextLineDataset", "TFRecordDatasetV2"),
    *("Save", "SaveV2", "Restore", "RestoreV2", "MergeV2Checkpoints"),
    *("InitializeTableFromTextFileV2", "LoadAndRemapMatrix", "GeneratorDataset"),
}

# Operations that draw from generators that no seed argument reaches.
_UNSEEDED = {
    *("RandomUniform", "RandomUniformInt", "RandomStandardNormal", "Multinomial"),
    *("TruncatedNormal", "ParameterizedTruncatedNormal", "RandomShuffle"),
    *("RandomGamma", "RandomPoissonV2", "StatefulStandardNormalV2", "StatefulUniform"),
    *("StatefulUniformInt", "StatefulUniformFullInt", "StatefulTruncatedNormal"),
    *("RngReadAndSkip", "RngSkip", "StatefulRandomBinomial"),
}


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A function of an export, with its inputs and outputs.

    Attributes:
        name: Its name, as attribute and as signature.
        function: What is traced. It takes its inputs by position.
        inputs: A `tf.TensorSpec` for each of them by name, or a nest of these.
        outputs: Names of what it returns: one thing, or a tuple of several. `None` if it
            returns a dict, which names them itself.
    """

    name: str
    function: Callable
    inputs: Mapping[str, Any]
    outputs: tuple[str, ...] | None = None

    def trace(self) -> "TracedEndpoint":
        """Traces the function.

        Raises:
            ExportError: If that fails, or the function does more than compute.
        """
        function = tf.function(
            self.function, input_signature=[*self.inputs.values()], autograph=False
        )
        try:
            concrete = function.get_concrete_function()
        except TFLearnerError:
            raise
        except Exception as error:
            raise ExportError(
                f"endpoint {self.name!r}",
                f"{type(error).__name__} while it was traced: {error}",
                hint="the error above this one is that of the module or connector piece",
            ) from error
        found = ops_of(concrete) & _REACHING_OUT
        if found:
            raise ExportError(
                f"endpoint {self.name!r}",
                f"operations {sorted(found)}",
                "operations that only compute",
                "they call Python, files or the screen, and would fail elsewhere",
            )
        return TracedEndpoint(self, function, concrete)


@dataclasses.dataclass(frozen=True)
class TracedEndpoint:
    """An endpoint with its graph."""

    endpoint: Endpoint
    function: Any
    concrete: Any

    def named_inputs(self) -> dict[str, tf.TensorSpec]:
        """Returns the specs of the inputs by their names in the signature."""
        return named(self.endpoint.inputs)

    def named_outputs(self) -> dict[str, Any]:
        """Returns the outputs by their names in the signature."""
        return named(self.by_name(self.concrete.structured_outputs))

    def by_name(self, outputs: Any) -> dict[str, Any]:
        """Returns the function's outputs by name."""
        names = self.endpoint.outputs
        if names is None:
            return dict(outputs)
        return dict(zip(names, outputs if len(names) > 1 else (outputs,), strict=True))

    def called_by_name(self, function: Callable) -> Callable:
        """Returns a function like the endpoint's, made of one with named tensors.

        Args:
            function: Takes a dict of named inputs and returns one of named outputs.
        """

        def call(*inputs):
            outputs = function(named(dict(zip(self.endpoint.inputs, inputs))))
            leaves = [outputs[name] for name in self.named_outputs()]
            return tree.unflatten_as(self.concrete.structured_outputs, leaves)

        return call

    def signature(self) -> Any:
        """Returns the endpoint as SavedModel signature: flat tensors in, a dict out."""
        specs = [
            tf.TensorSpec(spec.shape, spec.dtype, name)
            for name, spec in self.named_inputs().items()
        ]
        structure = list(self.endpoint.inputs.values())

        def flat(*tensors):
            outputs = self.function(*tree.unflatten_as(structure, tensors))
            return named(self.by_name(outputs))

        return tf.function(flat, autograph=False).get_concrete_function(*specs)


class Policy:
    """A module between its connectors, in TensorFlow.

    In front of the module, `to_tensors` of a piece changes observations. Behind it, a
    piece before `GetActions` changes `ACTION_DIST_INPUTS`, and a later one actions.
    Pieces with a memory have `recall` in place of `to_tensors`.

    The state of a policy is the module's. With a piece that has a memory, it is a dict
    with the module's state, if any, as "module" and memories as "env_to_module".

    Args:
        module: A `TfRLModule`.
        env_to_module: The pipeline in front of it; `None` if observations come as the
            module sees them.
        module_to_env: The pipeline behind it; `None` if the module outputs actions as
            the environment wants them.
    """

    def __init__(
        self,
        module: Any,
        env_to_module: ConnectorV2 | None = None,
        module_to_env: ConnectorV2 | None = None,
    ):
        if not isinstance(module, TfRLModule):
            raise ExportError(
                f"module {type(module).__name__}",
                "a module without TensorFlow",
                "a TfRLModule",
            )
        self.module: Any = module
        self.on_way_in = EnvToModulePipeline(_pieces(env_to_module))
        self.on_way_out = list(_pieces(module_to_env))
        # What is remembered between two calls: by the module, and in front of it.
        self._first: dict[str, Any] = {}
        if module.is_stateful():
            self._first[MODULE] = module.get_initial_state()
        memory = self.on_way_in.get_initial_memory()
        if memory is not None:
            self._first[ENV_TO_MODULE] = memory
        self.is_stateful = bool(self._first)
        space = getattr(env_to_module, "input_observation_space", None)
        self.observation_space: Any = (
            module.observation_space if space is None else space
        )
        space = getattr(module_to_env, "input_action_space", None)
        self.action_space: Any = module.action_space if space is None else space
        self._forward: Any = ModuleActor(module)

    @property
    def has_values(self) -> bool:
        """Whether the module predicts values."""
        only_acts = self.module.inference_only
        return isinstance(self.module, ValueFunctionAPI) and not only_acts

    def endpoints(self) -> list[Endpoint]:
        """Returns the policy's endpoints, `ACT_GREEDY` first.

        One rule for modules with a state: it follows the observations among what goes
        in, and the actions among what comes out.
        """
        obs = {"obs": observation_specs(self.observation_space)}
        seed = {"seed": tf.TensorSpec([2], tf.int32)}
        if not self.is_stateful:
            endpoints = [
                Endpoint(ACT_GREEDY, lambda obs: self._act(obs), obs, ("actions",)),
                Endpoint(
                    ACT,
                    lambda obs, seed: self._act(obs, seed=seed),
                    obs | seed,
                    ("actions",),
                ),
                Endpoint(VALUE, lambda obs: self._value(obs), obs, ("values",)),
            ]
        else:
            state = tree.map_structure(_spec_with_rows, self.initial_state(1))
            obs |= {"state": state}
            both = ("actions", "state")
            endpoints = [
                Endpoint(
                    ACT_GREEDY, lambda obs, state: self._act(obs, state), obs, both
                ),
                Endpoint(
                    ACT,
                    lambda obs, state, seed: self._act(obs, state, seed),
                    obs | seed,
                    both,
                ),
                Endpoint(
                    VALUE, lambda obs, state: self._value(obs, state), obs, ("values",)
                ),
                Endpoint(
                    INITIAL_STATE,
                    lambda batch_size: self.initial_state(batch_size),
                    {"batch_size": tf.TensorSpec([], tf.int32)},
                    ("state",),
                ),
            ]
        return [e for e in endpoints if e.name != VALUE or self.has_values]

    def initial_state(self, batch_size):
        """Returns the state at an episode's start. [batch_size, ...] each."""
        return tree.map_structure(
            lambda x: tf.tile(np.asarray(x)[None], [batch_size] + [1] * np.ndim(x)),
            self.joined(self._first),
        )

    def joined(self, parts: Mapping[str, Any]) -> Any:
        """Returns the state of the policy with these parts."""
        return parts if ENV_TO_MODULE in self._first else parts[MODULE]

    def parts(self, state: Any) -> Mapping[str, Any]:
        """Returns the parts of a state by name: "module" and "env_to_module"."""
        if state is None:
            return {}
        return state if ENV_TO_MODULE in self._first else {MODULE: state}

    def state(self, of_module: Any, memory: dict[str, Any], chosen: Any) -> Any:
        """Returns the state after a step.

        Args:
            of_module: The state that the module returned, if it has one.
            memory: The memories that `columns` returned.
            chosen: The module's actions.
        """
        parts = {MODULE: of_module}
        if memory:
            leaf = tree.flatten(chosen)[0]
            row = ops.reshape(leaf, (-1, int(np.prod(leaf.shape[1:]))))[:, 0]
            rewards = ops.zeros_like(row, "float32")
            parts[ENV_TO_MODULE] = self.on_way_in.remember(memory, chosen, rewards, ops)
        return self.joined({name: parts[name] for name in self._first})

    def _value(self, obs, state=None):
        columns, _ = self.columns(obs, state)
        if Columns.STATE_IN not in columns:
            return self.module.compute_values(columns)
        columns[Columns.OBS] = tree.map_structure(
            lambda x: x[:, None], columns[Columns.OBS]
        )
        return self.module.compute_values(columns)[:, 0]

    def columns(self, obs, state) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns what the module gets, and the memories after it."""
        parts = self.parts(state)
        memory = dict(parts.get(ENV_TO_MODULE, {}))
        for name, piece in self.on_way_in.named():
            if name in memory:
                obs, memory[name] = piece.recall(obs, memory[name], ops)
            else:
                obs = piece.to_tensors(obs)
        columns = {Columns.OBS: obs}
        if MODULE in parts:
            columns[Columns.STATE_IN] = parts[MODULE]
        return columns, memory

    def _act(self, obs, state=None, seed=None):
        (columns, memory), explore = self.columns(obs, state), seed is not None
        outputs = self._forward(columns, explore=explore, rng=None)
        actions = chosen = outputs.get(Columns.ACTIONS)
        inputs = outputs.get(Columns.ACTION_DIST_INPUTS)
        for piece in self.on_way_out:
            if isinstance(piece, GetActions):
                if actions is None and inputs is not None:
                    check_is_plain(piece)
                    actions = chosen = choose(self.module, inputs, seed)
            elif actions is not None:
                actions = piece.to_tensors(actions)
            elif inputs is not None:
                inputs = piece.to_tensors(inputs)
        if actions is None:
            raise ExportError(
                f"module {type(self.module).__name__}",
                f"outputs {sorted(outputs)}",
                f"{Columns.ACTIONS!r} among them, or {Columns.ACTION_DIST_INPUTS!r} and "
                "GetActions behind the module",
            )
        if state is None:
            return actions
        return actions, self.state(outputs.get(Columns.STATE_OUT), memory, chosen)


@dataclasses.dataclass(frozen=True)
class Program:
    """The parts of an export.

    Attributes:
        policy: The module and its connectors.
        endpoints: The traced endpoints, `ACT_GREEDY` first.
        left_out: Why other endpoints are missing, by name.
        attributes: Further attributes of a SavedModel, such as lists of variables.
    """

    policy: Policy
    endpoints: Sequence[TracedEndpoint]
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the endpoints."""
        return tuple(each.endpoint.name for each in self.endpoints)


def choose(module: Any, inputs: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
    """Returns the actions of `ACTION_DIST_INPUTS`: the likeliest, or drawn by a seed."""
    if seed is None:
        dist = module.get_inference_action_dist_cls().from_logits(inputs)
        return dist.to_deterministic().sample()
    dist = module.get_exploration_action_dist_cls().from_logits(inputs)
    return dist.sample(seed=seed)


def check_is_plain(piece: GetActions) -> None:
    """Raises `ExportError` for a subclass that chooses actions in its own way."""
    if type(piece).__call__ is not GetActions.__call__:
        raise ExportError(
            f"connector piece {type(piece).__name__}",
            "actions chosen in its own way, not by GetActions",
            hint="choose in a distribution class of the module instead",
        )


def draws_unseeded(traced: TracedEndpoint) -> list[str]:
    """Returns the operations that draw numbers which no seed argument decides."""
    return sorted(ops_of(traced.concrete) & _UNSEEDED)


def ops_of(concrete: Any) -> set[str]:
    """Returns the names of all operations in a graph and the functions it calls."""
    graph = concrete.graph.as_graph_def()
    functions = [node for f in graph.library.function for node in f.node_def]
    return {node.op for node in [*graph.node, *functions]}


def observation_specs(space: gym.Space) -> Any:
    """Returns the tensors that batches of a space's elements are.

    Raises:
        ExportError: If they are none, as texts and sequences are not.
    """
    batch = None
    with contextlib.suppress(Exception):  # Of several kinds, by the space.
        batch = gym.vector.utils.create_empty_array(space, 1)
    kinds = {
        getattr(getattr(x, "dtype", None), "kind", "?") for x in tree.flatten(batch)
    }
    is_numbers = kinds <= set("biuf")
    if not is_numbers:
        raise ExportError(
            "observation space", str(space), "arrays of numbers, or dicts of them"
        )
    return tree.map_structure(_spec_with_rows, batch)


def _spec_with_rows(x: Any) -> tf.TensorSpec:
    return tf.TensorSpec([None, *x.shape[1:]], tf.as_dtype(x.dtype))


def _pieces(pipeline: Any) -> Iterator[ConnectorV2]:
    """Yields the pieces of a pipeline and of the pipelines in it."""
    if isinstance(pipeline, ConnectorPipelineV2):
        for piece in pipeline:
            yield from _pieces(piece)
    elif pipeline is not None:
        yield pipeline


def named(nests: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the leaves of nests by names such as "obs" and "state_actor_h"."""
    leaves: dict[str, Any] = {}
    for name, nest in nests.items():
        for path, leaf in tree.flatten_with_path(nest):
            parts = [re.sub(r"\W", "_", str(part)) for part in (name, *path)]
            unique = full = "_".join(parts)
            while unique in leaves:
                unique = f"{full}_{len(leaves)}"
            leaves[unique] = leaf
    return leaves
