"""Makes networks of Keras' own layers and operations, for files that Keras alone loads.

All inputs are symbolic, so calling a form adds its layers to a Keras model.
"""

from collections.abc import Iterator
from typing import Any

import keras

from tflearner.errors import ExportError
from tflearner.networks.numpy_forms import is_own_form

_OTHERWISE = 'format="tf_saved_model" takes any module and any piece'


class KerasForm:
    """Calls layers in a form that Keras alone can load, with equal weights.

    A layer of this library has a method `keras_form(form, *inputs)`, which calls its
    parts through this object: `form(self.dense, x)`. A layer or model of Keras is
    copied, under a name of its own.
    """

    def __init__(self):
        self._count = 0

    def __call__(self, layer: Any, *inputs: Any) -> Any:
        """Returns the outputs of a layer's form for symbolic inputs.

        Raises:
            ExportError: If the layer, or a part of it, has no such form.
        """
        cls = type(layer)
        if not hasattr(cls, "keras_form"):
            return self.copied(layer, *inputs)
        if not is_own_form(cls, "keras_form"):
            raise refusal(f"layer {cls.__name__}", "a class of its own")
        return layer.keras_form(self, *inputs)

    def copied(self, layer: Any, *inputs: Any, **arguments: Any) -> Any:
        """Returns the outputs of a copy of a Keras layer or model.

        Args:
            layer: The layer or model; its weights are copied.
            *inputs: Symbolic inputs.
            **arguments: Arguments of the call.

        Raises:
            ExportError: If Keras alone cannot make the copy.
        """
        self._count += 1
        cls = type(layer)
        try:
            # Without initializers, which may be foreign: the weights are known.
            config = {
                name: value
                for name, value in layer.get_config().items()
                if not name.endswith("_initializer")
            }
            names = {"class_name": cls.__name__, "module": cls.__module__}
            _check_has_no_foreign_parts({**names, "config": config})
            copy = cls.from_config(config | {"name": f"{layer.name}_{self._count}"})
            outputs = copy(*inputs, **arguments)
            copy.set_weights(layer.get_weights())
        except ExportError:
            raise
        except Exception as error:
            raise refusal(
                f"model {cls.__name__}",
                f"{type(error).__name__} when copied by its get_config()",
            ) from error
        return outputs


def as_is(layer: Any, *inputs: Any) -> Any:
    """Calls a layer itself, in place of its form."""
    return layer(*inputs)


def check_is_keras_own(model: Any) -> None:
    """Raises `ExportError` if a model has parts that are not Keras' own."""
    try:
        config = keras.saving.serialize_keras_object(model)
    except Exception as error:
        raise refusal(
            f"model {type(model).__name__}", f"{type(error).__name__} in get_config()"
        ) from error
    _check_has_no_foreign_parts(config)


def _check_has_no_foreign_parts(config: dict[str, Any]) -> None:
    foreign = sorted(set(_foreign_names(config)))
    if foreign:
        raise refusal("the module's networks", f"{', '.join(foreign)} in them")


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


def refusal(where: str, got: str) -> ExportError:
    """Returns the error for a part that a Keras file cannot hold."""
    return ExportError(
        f'export(format="keras"), {where}', got, "what Keras alone can load", _OTHERWISE
    )
