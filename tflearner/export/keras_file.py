"""A greedy policy as Keras file, made of Keras' own layers and `keras.ops` alone."""

import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tree
from keras import ops

from tflearner.connectors.actions import GetActions
from tflearner.errors import ExportError, TFLearnerError
from tflearner.export.endpoints import (
    ACT_GREEDY,
    Policy,
    TracedEndpoint,
    check_is_plain,
)
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.dqn import DQNTfRLModule
from tflearner.modules.sac import SACTfRLModule
from tflearner.networks.cnn import CNN
from tflearner.networks.distributions import Categorical, DiagGaussian
from tflearner.networks.layers import MLP
from tflearner.networks.mixed_encoder import MixedEncoder
from tflearner.networks.observation_encoding import ObservationEncoding, side_by_side
from tflearner.networks.product_distributions import (
    MultiBernoulli,
    MultiCategorical,
    MultiDistribution,
)
from tflearner.networks.recurrent import RecurrentEncoder
from tflearner.networks.squashed_gaussian import SquashedGaussian

_OF_MORE_SPACES = (MultiBernoulli, MultiCategorical, MultiDistribution)
_OTHERWISE = 'format="tf_saved_model" takes any module and any piece'


def write_keras_file(
    file: pathlib.Path, policy: Policy, greedy: TracedEndpoint
) -> None:
    """Writes a model from observations to actions.

    A module with a state makes it a model from a dict to a dict, under the names of the
    endpoint's signature; nested observations one from such a dict.

    Raises:
        ExportError: If a part cannot be written in Keras' own layers.
    """
    model = _model(policy, greedy)
    _check_is_keras_own(model)
    with warnings.catch_warnings():
        # Keras reads TensorFlow's tensors in a way that NumPy is about to change.
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept")
        model.save(file)


def load_keras_file(
    file: pathlib.Path, policy: Policy, greedy: TracedEndpoint
) -> Mapping[str, Callable]:
    """Returns the endpoint of a file that was written a moment ago.

    Raises:
        ExportError: If Keras cannot load it.
    """
    try:
        model = keras.models.load_model(file, compile=False, safe_mode=True)
    except Exception as error:
        raise _refusal("the file", f"{type(error).__name__}: {error}") from error

    def call(named):
        if policy.is_stateful:
            return model(named)
        is_nested = not isinstance(greedy.endpoint.inputs["obs"], tf.TensorSpec)
        return {"actions": model(named if is_nested else named["obs"])}

    return {ACT_GREEDY: greedy.called_by_name(call)}


def _model(policy: Policy, greedy: TracedEndpoint) -> keras.Model:
    module = policy.module
    is_known = isinstance(module, PPOTfRLModule | DQNTfRLModule | SACTfRLModule)
    if not is_known or not module.has_default_policy():
        raise _refusal(
            f"module {type(module).__name__}", "forward passes or networks of its own"
        )
    inputs = {
        name: keras.Input(spec.shape[1:], dtype=spec.dtype.name, name=name)
        for name, spec in greedy.named_inputs().items()
    }
    specs = greedy.endpoint.inputs["obs"]
    leaves = list(inputs)[: len(tree.flatten(specs))]  # In front of the state's.
    obs = tree.unflatten_as(specs, [inputs[name] for name in leaves])
    for piece in policy.on_way_in:
        obs = _connected(piece, obs)
    encoded, network = _encoded(module, obs), _Networks()
    if not policy.is_stateful:
        outputs = module.masked(_outputs(module, network, encoded), obs)
        return keras.Model(
            inputs["obs"] if leaves == ["obs"] else inputs,
            _actions(policy, outputs),
            name="policy",
        )
    state = {name: x for name, x in inputs.items() if name not in leaves}
    encoder = module.encoder
    parts = {"": encoder.actor}
    if encoder.critic is not None:
        parts = {"actor_": encoder.actor, "critic_": encoder.critic}
    results: dict[str, Any] = {}
    embeddings = []
    for prefix, part in parts.items():
        embedding, after = network.step(part, encoded, state, f"state_{prefix}")
        results |= after
        embeddings.append(embedding)
    outputs = module.masked(network(module.pi, embeddings[0]), obs)
    results["actions"] = _actions(policy, outputs)
    return keras.Model(inputs, results, name="policy")


def _outputs(module: Any, network: "_Networks", encoded: Any) -> Any:
    """Returns what greedy actions are chosen from, before any mask. [B, inputs]."""
    if isinstance(module, PPOTfRLModule):
        return network(module.pi, network(module.encoder.actor, encoded))
    if isinstance(module, SACTfRLModule):
        return network(module.pi, network(module.pi_encoder, encoded))
    embedding = network(module.encoder, encoded)
    num_atoms = module.model_config.num_atoms
    shape = (-1, int(module.action_space.n), num_atoms)
    values = ops.reshape(network(module.af, embedding), shape)
    if module.vf is not None:
        value = ops.reshape(network(module.vf, embedding), (-1, 1, num_atoms))
        values = values - ops.mean(values, axis=1, keepdims=True) + value
    if num_atoms == 1:
        return values[..., 0]
    return ops.sum(ops.softmax(values) * module.atoms(), axis=-1)


def _connected(piece: Any, x: Any) -> Any:
    try:
        return piece.to_tensors(x)
    except TFLearnerError:
        raise
    except Exception as error:
        raise _refusal(
            f"connector piece {type(piece).__name__}",
            f"{type(error).__name__} in to_tensors, which has to be made of keras.ops",
        ) from error


def _encoded(module: Any, obs: Any) -> Any:
    """Returns what `ObservationEncoding` makes of observations."""
    is_ppo = isinstance(module, PPOTfRLModule)
    encoding = module.encoder.encoding if is_ppo else module.encoding
    if type(encoding) is not ObservationEncoding:
        raise _refusal(f"encoding {type(encoding).__name__}", "a class of its own")
    return encoding.encode(obs)


class _Networks:
    """Makes layers with the weights, and of the kind, of a module's; names them."""

    def __init__(self):
        self._count = 0

    def __call__(self, network: Any, x: Any) -> Any:
        """Returns what a network makes of encoded observations. [B, d]."""
        if type(network) is CNN:
            for convolution in network.convolutions:
                x = self._convolved(convolution, x)
            return self(network.dense, x)
        if type(network) is MixedEncoder:
            convolutions = network.convolutions
            parts = [
                self(convolutions[part], x[part]) if part in convolutions else x[part]
                for part in network.parts
            ]
            return self(network.dense, side_by_side(parts))
        if type(network) is not MLP:
            return self._own(network, x)
        x = ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))
        for layer in network.layers:
            x = self._dense(layer, x)
        return x

    def step(
        self, network: RecurrentEncoder, x: Any, state: dict[str, Any], prefix: str
    ) -> tuple[Any, dict[str, Any]]:
        """Returns the embedding after one step, and the state by its tensors' names."""
        if type(network) is not RecurrentEncoder:
            raise _refusal(f"encoder {type(network).__name__}", "a class of its own")
        x = ops.expand_dims(self(network.tokenizer, x), 1)
        is_lstm = network.cell == "lstm"
        layer_class = keras.layers.LSTM if is_lstm else keras.layers.GRU
        layer = layer_class(
            network.units, return_state=True, **self._settings(network.rnn, "cell")
        )
        keys = ["h", "c"] if is_lstm else ["h"]
        before = [state[f"{prefix}{key}"] for key in keys]
        embedding, *after = layer(x, initial_state=before)
        layer.set_weights(network.rnn.get_weights())
        # As float32, like what comes in, whatever the layer computes in.
        after = [ops.cast(part, "float32") for part in after]
        return embedding, {f"{prefix}{key}": s for key, s in zip(keys, after)}

    def _dense(self, layer: keras.layers.Layer, x: Any) -> Any:
        if isinstance(layer, keras.layers.LayerNormalization):
            settings = {"epsilon": layer.epsilon} | self._settings(layer, "layer_norm")
            copy = keras.layers.LayerNormalization(**settings)
        elif isinstance(layer, keras.layers.Activation):
            settings = self._settings(layer, "act")
            copy = keras.layers.Activation(layer.activation, **settings)
        else:
            settings = {"activation": layer.activation} | self._settings(layer, "dense")
            copy = keras.layers.Dense(layer.units, **settings)
        return _with_weights_of(layer, copy, x)

    def _convolved(self, layer: keras.layers.Conv2D, x: Any) -> Any:
        copy = keras.layers.Conv2D(
            layer.filters,
            layer.kernel_size,
            strides=layer.strides,
            activation=layer.activation,
            data_format="channels_last",
            **self._settings(layer, "conv"),
        )
        return _with_weights_of(layer, copy, x)

    def _own(self, model: Any, x: Any) -> Any:
        """The same with a user's model or layer: a copy made from its config."""
        _check_is_keras_own(model)
        try:
            config = model.get_config() | {"name": self._name(model.name)}
            return _with_weights_of(model, type(model).from_config(config), x)
        except Exception as error:
            raise _refusal(
                f"model {type(model).__name__}",
                f"{type(error).__name__} when copied by its get_config()",
            ) from error

    def _settings(self, layer: Any, kind: str) -> dict[str, Any]:
        """A name, and what the layer computes in: that is not always Keras' default."""
        return {"name": self._name(kind), "dtype": layer.dtype_policy}

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"


def _with_weights_of(layer: Any, copy: Any, x: Any) -> Any:
    y = copy(x)
    copy.set_weights(layer.get_weights())
    return y


def _actions(policy: Policy, outputs: Any) -> Any:
    """Returns the likeliest actions as the environment wants them."""
    dist_class = policy.module.get_inference_action_dist_cls()
    chosen = None
    for piece in policy.on_way_out:
        if isinstance(piece, GetActions):
            check_is_plain(piece)
            if dist_class is Categorical:
                chosen = ops.argmax(outputs, axis=-1)
            elif dist_class is DiagGaussian:
                # The heads' outputs start with the means, whatever follows them.
                size = DiagGaussian.required_input_dim(policy.action_space) // 2
                chosen = ops.split(outputs, [size], axis=-1)[0]
            elif dist_class is SquashedGaussian:
                chosen = ops.tanh(ops.split(outputs, 2, axis=-1)[0])
            elif issubclass(dist_class, _OF_MORE_SPACES):
                raise _refusal("action space", str(policy.action_space))
            else:
                raise _refusal(f"distribution {dist_class.__name__}", "one of its own")
        elif chosen is None:
            raise _refusal(
                f"connector piece {type(piece).__name__}", "a place before GetActions"
            )
        else:
            chosen = _connected(piece, chosen)
    return chosen


def _check_is_keras_own(model: Any) -> None:
    try:
        config = keras.saving.serialize_keras_object(model)
    except Exception as error:
        raise _refusal(
            f"model {type(model).__name__}", f"{type(error).__name__} in get_config()"
        ) from error
    foreign = sorted(set(_foreign_names(config)))
    if foreign:
        raise _refusal("the module's networks", f"{', '.join(foreign)} in them")


def _foreign_names(config: Any) -> Iterator[str]:
    """Yields the names of classes and functions that Keras alone does not have."""
    if isinstance(config, dict):
        name, module = config.get("class_name"), config.get("module")
        if name is not None and "config" in config and "module" in config:
            is_keras = module is not None and module.split(".")[0] == "keras"
            if not is_keras or name == "Lambda":
                own = config["config"] if name == "function" else name
                yield f"{module}.{own}" if module else str(own)
        for value in config.values():
            yield from _foreign_names(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _foreign_names(value)


def _refusal(where: str, got: str) -> ExportError:
    return ExportError(
        f'export(format="keras"), {where}', got, "what Keras alone can load", _OTHERWISE
    )
