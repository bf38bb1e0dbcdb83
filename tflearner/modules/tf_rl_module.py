"""A module made of Keras layers."""

import contextlib
import dataclasses
import operator
from typing import Any, ClassVar

import gymnasium as gym
import keras
import tensorflow as tf

from tflearner import forks
from tflearner.checkpoint import matching
from tflearner.columns import Columns
from tflearner.constants import COMPONENT_RL_MODULE
from tflearner.errors import ModuleError
from tflearner.modules import inference
from tflearner.modules.acting import NumpyActor
from tflearner.modules.apis import InferenceOnlyAPI, ValueFunctionAPI
from tflearner.modules.counted_variables import counted_variables
from tflearner.modules.numpy_policy import NumpyPolicy, agrees
from tflearner.modules.rl_module import RLModule, check_is_dict
from tflearner.networks import tensorflow_settings
from tflearner.networks.distributions import numpy_form_of
from tflearner.networks.half_precision import HALF_DTYPES, convert_outputs
from tflearner.networks.keras_forms import KerasForm, refusal
from tflearner.networks.numpy_forms import definer
from tflearner.networks.observation_encoding import ObservationEncoding
from tflearner.networks.own_random import own_random_numbers
from tflearner.networks.tensors import to_numpy
from tflearner.spaces.leaves import check_has_numbers
from tflearner.types import ParamRef, StateDict

_FORWARD_PASSES = (
    "_forward",
    "_forward_exploration",
    "_forward_inference",
    "forward_exploration",
    "forward_inference",
)

# What learners and actors call for tensors.
_PUT_OUT_TENSORS = (
    "forward_inference",
    "forward_exploration",
    "forward_train",
    "forward_target",
    "compute_values",
    "compute_q_values",
    "compute_advantage_distribution",
    "compute_self_supervised_loss",
)


class _Curious(dict):
    """A batch that records whether a missing column was looked up.

    Attributes:
        wants_more: Whether a missing column was looked up.
    """

    wants_more = False

    def __missing__(self, name: str) -> Any:
        self.wants_more = True
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        found = super().__contains__(name)
        self.wants_more |= not found
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """Returns a column, or `default`."""
        self.wants_more |= name not in self.keys()
        return super().get(name, default)


class TfRLModule(RLModule, keras.layers.Layer):
    """Base class of modules made of Keras layers.

    Layers and models assigned in `setup()` are tracked by Keras. The constructor calls
    `setup()` once and makes one forward pass, so every variable exists before an
    optimizer is built. This pass is `forward_train` or, if that reads more columns than
    `example_batch` has, `forward_inference`. Build layers that it does not call in
    `setup()`. Single variables come from `self.add_weight(...)` or are
    `keras.Variable`s: Keras does not track a `tf.Variable`.

    Layers follow their Keras dtype policies. Under every policy, forward passes, values
    and target networks output float32, and weights have the same keys.

        class Linear(TfRLModule):
            def setup(self):
                self.policy = keras.layers.Dense(int(self.action_space.n))

            def _forward(self, batch, **kwargs):
                logits = self.policy(batch[Columns.OBS])
                return {Columns.ACTION_DIST_INPUTS: logits}

    Args:
        observation_space: As for `RLModule`.
        action_space: As for `RLModule`.
        **kwargs: As for `RLModule`.
    """

    framework = "tf2"
    # Methods besides the forward passes that a policy's forms stand for.
    _policy_methods: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        convert_outputs(cls, _PUT_OUT_TENSORS)

    def __init__(
        self,
        observation_space: gym.Space | None = None,
        action_space: gym.Space | None = None,
        **kwargs: Any,
    ):
        tensorflow_settings.check()
        forks.check(type(self).__name__)
        check_has_numbers(
            observation_space,
            "observation space",
            "a gymnasium.ObservationWrapper can leave the part out, or put a constant "
            "number in its place",
        )
        check_has_numbers(action_space, "action space")
        keras.layers.Layer.__init__(self)
        self._dropped: set[int] = set()  # Ids of weights that Keras still lists.
        with own_random_numbers(kwargs.get("seed")), counted_variables():
            RLModule.__init__(self, observation_space, action_space, **kwargs)
            self._make_variables()

    def _make_variables(self) -> None:
        for name, value in vars(self).items():
            where = f"{type(self).__name__}.{name}"
            if isinstance(value, tf.Variable) and value.trainable:
                raise ModuleError(
                    where,
                    "a tf.Variable, which Keras does not track",
                    "a keras.Variable",
                    "make it with self.add_weight(...)",
                )
            for each in value if isinstance(value, list | tuple) else [value]:
                tensorflow_settings.refuse_keras_2(where, each)
        self._run_once()
        self._check_dtypes()

    def _check_dtypes(self) -> None:
        """Raises `ModuleError` for a trainable weight that is not float32."""
        for weight in self.trainable_weights:
            if weight.dtype != "float32":
                raise ModuleError(
                    f"{type(self).__name__}, weight {weight.path!r}",
                    weight.dtype,
                    "float32",
                    "leave out the layer's dtype, or name a policy: "
                    "dtype='mixed_bfloat16'",
                )

    def _run_once(self) -> None:
        """Makes the variables of all layers, by a forward pass on zeros."""
        if self.inference_only:
            self._drop_parts_for_training()
            self.forward_inference(self.example_batch(1))
            return
        was_run, _ = self.try_forward_train(1)
        if not was_run:
            self.forward_inference(self.example_batch(1))
        if isinstance(self, ValueFunctionAPI):
            self.compute_values(self.example_batch(1))

    def try_forward_train(self, num_rows: int) -> tuple[bool, Any]:
        """Runs `forward_train` on `example_batch`, if it reads no other columns.

        Returns:
            Whether it was run, and its outputs. It counts as not run if it fails
            without a column that only train batches have.
        """
        batch = self.example_batch(num_rows)
        try:
            return True, self.forward_train(batch)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            is_key = isinstance(error, KeyError)
            if is_key and not any(name in [*batch] for name in error.args):
                return False, None
            curious = _Curious(batch)
            with contextlib.suppress(Exception):
                self.forward_train(curious)
            if curious.wants_more:
                return False, None
            raise

    def example_batch(self, num_rows: int) -> dict[str, tf.Tensor]:
        """Returns observations and actions of zeros, to call the module with.

        For a module with a state, sequences of one step, and its initial state.
        """
        spaces = {
            Columns.OBS: self.observation_space,
            Columns.ACTIONS: self.action_space,
        }
        batch = {
            column: tf.nest.map_structure(
                tf.constant, gym.vector.utils.create_empty_array(space, num_rows)
            )
            for column, space in spaces.items()
            if space is not None
        }
        if self.is_stateful():
            batch = tf.nest.map_structure(lambda x: x[:, None], batch)
            batch[Columns.STATE_IN] = tf.nest.map_structure(
                lambda x: tf.repeat(x[None], num_rows, axis=0), self.get_initial_state()
            )
        return batch

    # Acting.

    def numpy_policy(self):
        form = self._checked_numpy_form()
        return None if form is None else form.with_weights(to_numpy)

    def make_actor(self, *, draws: bool = True) -> Any:
        tensorflow_settings.check()
        form = self._checked_numpy_form()
        if form is None:
            return inference.TracedActor(self, draws=draws)
        return NumpyActor(form, to_numpy, draws=draws)

    def _checked_numpy_form(self) -> NumpyPolicy | None:
        """Returns `_numpy_form` with distributions; `None` if it may differ from us."""
        if self.compute_dtypes() & HALF_DTYPES or not self.has_default_policy():
            return None
        form = self._numpy_form()
        if form is None:
            return None
        form = dataclasses.replace(
            form,
            exploration_dist=numpy_form_of(self.get_exploration_action_dist_cls()),
            inference_dist=numpy_form_of(self.get_inference_action_dist_cls()),
        )
        is_own_model = getattr(self.model_config, "model", None) is not None
        if is_own_model and not agrees(form.with_weights(to_numpy), self):
            return None
        return form

    def _numpy_form(self) -> NumpyPolicy | None:
        """Returns the policy in NumPy, with variables in place of arrays, or `None`."""
        return None

    def keras_form(
        self, form: KerasForm, observations: Any, state: Any = None
    ) -> tuple[Any, Any]:
        """Returns the greedy policy in Keras' own layers, on symbolic inputs.

        Args:
            form: Calls layers in such a form.
            observations: [B, ...].
            state: The state before the step, [B, ...]; `None` without one.

        Returns:
            The inputs of the action distribution, [B, inputs], and the next state.

        Raises:
            ExportError: If a forward pass is overridden, or a layer has no such form.
        """
        found = self.has_default_policy() and self._keras_form(
            form, observations, state
        )
        if not found:
            where = f"module {type(self).__name__}"
            raise refusal(where, "forward passes or networks of its own")
        return found

    def _keras_form(
        self, form: KerasForm, observations: Any, state: Any
    ) -> tuple[Any, Any] | None:
        """Returns the outputs of `keras_form`, or `None`."""
        return None

    def has_default_policy(self) -> bool:
        """Returns whether the forms in NumPy and of Keras' layers may stand for it.

        They do not if a subclass of the class that makes them overrides a method of the
        policy, or if observations are encoded in another way.
        """
        cls = type(self)
        owner: Any = definer(cls, "_numpy_form")
        return (
            owner is not TfRLModule
            and all(
                getattr(cls, name) is getattr(owner, name)
                for name in (*_FORWARD_PASSES, *owner._policy_methods)
            )
            and type(self._observation_encoding) is ObservationEncoding
        )

    @property
    def _observation_encoding(self) -> Any:
        return getattr(self, "encoding", None)

    def compute_dtypes(self) -> set[str]:
        """Returns the dtypes that its layers compute in, by their Keras dtype policies.

        `{"float32"}`, unless some of them have another policy, such as "mixed_float16".
        """
        layers = self._flatten_layers(include_self=False)
        return {layer.compute_dtype for layer in layers}

    # Weights are keyed by position and role, such as "007/kernel": Keras' layer names
    # differ on a second build in the same process ("dense", then "dense_2").

    def weight_keys(self) -> dict[ParamRef, str]:
        """Returns the key of every weight in state dicts, by variable reference."""
        keys = self._weights_by_key()
        return {weight.value.ref(): key for key, weight in keys.items()}

    def get_state(
        self, components=None, *, not_components=None, inference_only=False
    ) -> StateDict:
        keyed = self._weights_by_key(inference_only=inference_only)
        return {key: weight.numpy() for key, weight in keyed.items()}

    def check_state(self, state: StateDict) -> None:
        """Raises `ModuleError` listing all weights of `state` that do not fit."""
        check_is_dict(f"{type(self).__name__}.set_state()", state)
        state = _weights_in(state)
        shapes = {k: tuple(w.shape) for k, w in self._weights_by_key().items()}
        problems = [f"missing {key!r}" for key in shapes if key not in state]
        problems += [f"unexpected {key!r}" for key in state if key not in shapes]
        for key in [key for key in shapes if key in state]:
            array = matching.as_numbers(state[key])
            if array is None:
                problems.append(f"{key!r} without numbers")
            elif array.shape != shapes[key]:
                problems.append(
                    f"{key!r} of shape {array.shape} instead of {shapes[key]}"
                )
        if problems:
            raise ModuleError(
                f"{type(self).__name__}.set_state()",
                "; ".join(problems),
                hint="get_state(inference_only=True) leaves out what it has not"
                if self.inference_only
                else "the state comes from a module with other networks",
            )

    def set_state(self, state: StateDict) -> None:
        """Replaces all weights.

        Args:
            state: The weights by key, or a learner's state with the weights of one
                module.

        Raises:
            ModuleError: If weights are missing, unexpected or of another shape; none
                is changed then.
        """
        self.check_state(state)
        state = _weights_in(state)
        for key, weight in self._weights_by_key().items():
            weight.assign(state[key])

    def _weights_by_key(
        self, *, inference_only: bool = False
    ) -> dict[str, keras.Variable]:
        # What acting does not need is excluded before numbering, so that the keys are
        # those of a module that was built for acting.
        left_out = set(self._dropped)
        if inference_only:
            left_out |= {id(w) for part in self._parts_for_training() for w in part}
        weights = [w for w in self.weights if id(w) not in left_out]
        return {f"{index:03d}/{w.name}": w for index, w in enumerate(weights)}

    def _parts_for_training(self) -> list[list[keras.Variable]]:
        """Returns the weights of each attribute that acting does not need."""
        if not isinstance(self, InferenceOnlyAPI):
            return []
        parts = [self._attribute(path) for path in self.get_non_inference_attributes()]
        leaves = [leaf for part in parts for leaf in tf.nest.flatten(part)]
        return [getattr(leaf, "weights", [leaf]) for leaf in leaves if leaf is not None]

    def _attribute(self, path: str) -> Any:
        """Returns the attribute at a path; `None` for a part that is not made yet."""
        try:
            return operator.attrgetter(path)(self)
        except AttributeError:
            return None

    def _drop_parts_for_training(self) -> None:
        self._dropped = {id(w) for part in self._parts_for_training() for w in part}
        if isinstance(self, InferenceOnlyAPI):
            for path in self.get_non_inference_attributes():
                *parents, name = path.split(".")
                owner = self._attribute(".".join(parents)) if parents else self
                if self._attribute(path) is not None:
                    setattr(owner, name, None)


def _weights_in(state: StateDict) -> StateDict:
    """Returns the weights in a learner's state of one module, or the state itself."""
    modules: Any = state.get(COMPONENT_RL_MODULE)
    is_of_one = isinstance(modules, dict) and len(modules) == 1
    weights = next(iter(modules.values())) if is_of_one else state
    return weights if isinstance(weights, dict) else state
