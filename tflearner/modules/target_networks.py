"""Copies of networks that follow the originals slowly."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tflearner.errors import ModuleError
from tflearner.types import Tensor


def make_target_network(network: keras.layers.Layer) -> keras.layers.Layer:
    """Returns a target network: an untrained copy of a network with equal weights.

    Args:
        network: A built Keras layer or model. A layer of your own class needs
            `get_config()`, as Keras wants it for saving.

    Raises:
        ModuleError: If the layer cannot be made from its config.
    """
    try:
        if isinstance(network, keras.Model):
            target = keras.models.clone_model(network)
        else:
            target = type(network).from_config(network.get_config())
            target.build_from_config(network.get_build_config())
    except (NotImplementedError, TypeError) as error:
        raise ModuleError(
            "make_target_network()",
            f"a {type(network).__name__} that Keras cannot make again",
            "a layer with get_config()",
            "give the class get_config(), or take the copy from a second module: "
            "RLModuleSpec.from_module(module).build()",
        ) from error
    _check_same_form(network, target)
    for main, copy in zip(network.weights, target.weights):
        copy.assign(main)
    target.trainable = False
    return target


def copies_of(
    networks: Sequence[keras.layers.Layer | None],
    rebuilt: Sequence[keras.layers.Layer | None],
    call: Callable[..., Any],
) -> list[keras.layers.Layer | None]:
    """Returns copies of networks whose maker can make them again.

    Args:
        networks: The originals; `None` stays `None`.
        rebuilt: The same made once more, not built yet. What is the very same object, as
            a user's own model may be, is copied by `make_target_network`.
        call: Calls such networks, and so builds them.

    Raises:
        ModuleError: If a user's model cannot be copied.
    """
    copies = [
        make_target_network(network) if copy is network and copy is not None else copy
        for network, copy in zip(networks, rebuilt)
    ]
    call(*copies)
    for network, copy in zip(networks, copies):
        if network is not None and copy is not None:
            _check_same_form(network, copy)
            for main, own in zip(network.weights, copy.weights):
                own.assign(main)
            copy.trainable = False
    return copies


def update_target_network(*, main_net: Any, target_net: Any, tau: float) -> None:
    """Moves a target network's weights towards those of the main network.

        target = tau * main + (1 - tau) * target

    Args:
        main_net: The main network.
        target_net: The target network.
        tau: The rate: 1 copies the weights; 0 does not change the target network.

    Raises:
        ModuleError: If the two networks differ in form; nothing is changed then.
    """
    _check_same_form(main_net, target_net)
    for main, target in zip(main_net.weights, target_net.weights):
        target.assign(follow(main.value, target.value, tau))


def follow(main: Tensor, target: Tensor, tau: float) -> Tensor:
    """Returns the next value of a target weight; integer weights are copied."""
    main = tf.convert_to_tensor(main)
    return tau * main + (1.0 - tau) * target if main.dtype.is_floating else main


def _check_same_form(network: Any, target: Any) -> None:
    got, want = ([tuple(w.shape) for w in n.weights] for n in (target, network))
    if got != want:
        raise ModuleError("target network", f"weights {got}", f"{want}")
