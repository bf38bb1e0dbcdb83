"""Converts Keras layers and models to layers in NumPy.

A form has the layers' variables in place of arrays; `with_weights` of a policy replaces
them by their current values. So a model is converted once, however often it acts.
"""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from tflearner.networks import numpy_layers as forms

# Keras' activation functions -> their names. A user's own function may have the name of
# one of them, so names alone are not enough.
_ACTIVATIONS: dict[Any, str] = {
    getattr(keras.activations, name): name
    for name in forms.ACTIVATIONS
    if hasattr(keras.activations, name)
}

# Methods of layers that their forms stand for.
_WITH_FORMS = ("call", "embed_for_actor", "initial_state")


def numpy_form(layer: Any) -> Any:
    """Returns the NumPy form of a layer or model, with its variables in it.

    Args:
        layer: A Keras layer or model; or one of our layers, which have a method
            `numpy_form`.

    Returns:
        A layer of `networks.numpy_layers`; `None` if any part has no NumPy form or was
        not built yet.
    """
    cls = type(layer)
    if hasattr(cls, "numpy_form"):
        return layer.numpy_form() if is_own_form(cls, "numpy_form") else None
    make = _functional if _is_functional(layer) else _FORMS.get(type(layer))
    return make(layer) if make is not None and layer.built else None


def _is_functional(layer: Any) -> bool:
    # Keras does not export this class; a user's subclass is in another module.
    cls = type(layer)
    is_keras = cls.__module__.startswith("keras.")
    return issubclass(cls, keras.Model) and is_keras and cls.__name__ == "Functional"


def is_own_form(cls: type, form: str) -> bool:
    """Returns whether a class has a form of its own methods.

    A subclass that overrides one of these alone inherits a form that does not fit.
    """
    names = [name for name in _WITH_FORMS if hasattr(cls, name)]
    return all(definer(cls, form) is definer(cls, name) for name in names)


def definer(cls: type, name: str) -> type:
    """Returns the class among the bases of `cls` that defines an attribute."""
    return next(base for base in cls.__mro__ if name in vars(base))


def chain(layers: Iterable[Any]) -> Any:
    """Returns layers one after the other; `None` if one of them has no NumPy form."""
    parts: list[Any] = []
    for layer in layers:
        form = numpy_form(layer)
        if form is None:
            return None
        parts += form.layers if isinstance(form, forms.Chain) else [form]
    return forms.Chain(tuple(parts))


def _dense(layer: keras.layers.Dense) -> Any:
    name = _ACTIVATIONS.get(layer.activation)
    has_adapter = getattr(layer, "lora_enabled", False) or layer.quantization_mode
    if name is None or has_adapter:
        return None
    # Both a Dense layer and a matrix product work on the last axis.
    return forms.Dense(layer.kernel, layer.bias, name)


def _activation(layer: keras.layers.Activation) -> Any:
    name = _ACTIVATIONS.get(layer.activation)
    return None if name is None else forms.Activation(name)


def _layer_norm(layer: keras.layers.LayerNormalization) -> Any:
    axis = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    if [*axis] != [-1]:
        return None
    gamma = layer.gamma if layer.scale else None
    beta = layer.beta if layer.center else None
    return forms.LayerNorm(gamma, beta, float(layer.epsilon))


def _rescaling(layer: keras.layers.Rescaling) -> Any:
    return forms.Rescale(np.float32(layer.scale), np.float32(layer.offset))


def _normalization(layer: keras.layers.Normalization) -> Any:
    if layer.invert:
        return None
    # Constants, as in a traced step: a later adapt() does not change them.
    mean, variance = np.asarray(layer.mean), np.asarray(layer.variance)
    std = np.maximum(np.sqrt(variance), keras.config.epsilon())
    return forms.Standardize(mean.astype(np.float32), std.astype(np.float32))


def _leaky_relu(layer: keras.layers.LeakyReLU) -> Any:
    return forms.LeakyRelu(float(layer.negative_slope))


def _relu(layer: keras.layers.ReLU) -> Any:
    is_plain = not layer.negative_slope and not layer.threshold
    if not is_plain or layer.max_value not in (None, 6, 6.0):
        return None
    return forms.Activation("relu" if layer.max_value is None else "relu6")


def _elu(layer: keras.layers.ELU) -> Any:
    return forms.Activation("elu") if layer.alpha == 1.0 else None


def _softmax(layer: keras.layers.Softmax) -> Any:
    return forms.Activation("softmax") if layer.axis == -1 else None


def _functional(model: Any) -> Any:
    """Returns the graph of a functional model, read from its config."""
    layers = {layer.name: numpy_form(layer) for layer in model.layers}
    if any(form is None for form in layers.values()):
        return None
    description = model.get_config()
    inputs = description["input_layers"]
    of_inputs: Any
    if isinstance(inputs, dict):
        of_inputs = {key: _result(*place) for key, place in inputs.items()}
    else:
        of_inputs = _single(inputs)
    output = _single(description["output_layers"])
    if of_inputs is None or output is None:
        return None
    known = {_result(layer.name, 0) for layer in model.layers if _is_input(layer)}
    waiting = []
    for layer in description["layers"]:
        for index, node in enumerate(layer["inbound_nodes"]):
            if any(value is not None for value in node["kwargs"].values()):
                return None  # Such as training=True.
            result = _result(layer["name"], index)
            waiting.append((result, layers[layer["name"]], _sources(node["args"])))
    steps: list[Any] = []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node[2])]
        if not ready:
            return None
        steps += ready
        known |= {result for result, *_ in ready}
        waiting = [node for node in waiting if node[0] not in known]
    return forms.Graph(of_inputs, tuple(steps), output)


def _single(places: Any) -> str | None:
    """Returns the result that a model's only input or output is; `None` of several."""
    if isinstance(places, dict):
        return None
    if not isinstance(places[0], str):
        if len(places) != 1:
            return None
        places = places[0]
    return _result(*places)


def _is_input(layer: Any) -> bool:
    return isinstance(layer, keras.layers.InputLayer)


def _result(name: str, node: int, tensor: int = 0) -> str:
    return f"{name}/{node}/{tensor}"


def _sources(arguments: Any) -> tuple[str, ...]:
    """Returns the names of the results that a call in a model's config takes."""
    if (
        isinstance(arguments, dict)
        and arguments.get("class_name") == "__keras_tensor__"
    ):
        return (_result(*arguments["config"]["keras_history"]),)
    if isinstance(arguments, list | tuple):
        return tuple(name for part in arguments for name in _sources(part))
    return ()


_FORMS: dict[type, Callable[[Any], Any]] = {
    keras.Sequential: lambda model: chain(model.layers),
    keras.layers.Activation: _activation,
    keras.layers.Concatenate: lambda layer: forms.Concatenate(layer.axis),
    keras.layers.Dense: _dense,
    keras.layers.Dropout: lambda layer: forms.Activation("linear"),
    keras.layers.ELU: _elu,
    keras.layers.Flatten: lambda layer: forms.Flatten(),
    keras.layers.Identity: lambda layer: forms.Activation("linear"),
    keras.layers.InputLayer: lambda layer: forms.Activation("linear"),
    keras.layers.LayerNormalization: _layer_norm,
    keras.layers.LeakyReLU: _leaky_relu,
    keras.layers.Normalization: _normalization,
    keras.layers.ReLU: _relu,
    keras.layers.Rescaling: _rescaling,
    keras.layers.Softmax: _softmax,
}
