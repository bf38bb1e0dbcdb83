"""The losses of Keras layers: regularizers of weights and outputs, and `add_loss`."""

from collections.abc import Iterable, Mapping

import keras
import tensorflow as tf

from tflearner.modules.apis import TargetNetworkAPI
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.types import ModuleID, Tensor


def forget(modules: Iterable[TfRLModule]) -> None:
    """Clears the losses that layers added in earlier calls, as while acting."""
    for module in modules:
        module.unwrapped()._clear_losses()


def collect(modules: Mapping[ModuleID, TfRLModule]) -> dict[ModuleID, Tensor]:
    """Returns the sum of the losses that each module's layers added since `forget`.

    Every call of a layer counts, except in target networks. The regularizer of a weight
    that several modules share counts only for the first of them.

    Returns:
        float32 scalars, for modules whose layers have losses.
    """
    found: dict[ModuleID, Tensor] = {}
    seen: set[int] = set()
    for module_id, module in modules.items():
        terms = _terms(module.unwrapped(), seen)
        if terms:
            sums = [tf.reduce_sum(tf.cast(term, tf.float32)) for term in terms]
            found[module_id] = tf.add_n(sums)
    return found


def _terms(module: TfRLModule, seen: set[int]) -> list[Tensor]:
    if isinstance(module, TargetNetworkAPI):
        for _, target in module.get_target_network_pairs():
            seen |= {id(weight) for weight in target.weights}
            if isinstance(target, keras.layers.Layer):
                seen |= {id(layer) for layer in target._flatten_layers()}
    terms = []
    for layer in module._flatten_layers():
        if id(layer) not in seen:
            seen.add(id(layer))
            terms += layer._get_own_losses()
    for weight in module.trainable_weights:
        if id(weight) not in seen and weight.regularizer is not None:
            seen.add(id(weight))
            terms.append(weight.regularizer(weight))
    return terms
