"""The rules of the library's connector pieces in Keras operations, for exports.

They are apart from the pieces, so that acting imports no TensorFlow.
"""

from collections.abc import Callable
from typing import Any

import tree
from keras import ops
from keras.backend import standardize_dtype

from tflearner.connectors.actions import NormalizeAndClipActions, ToBox, ToStart
from tflearner.connectors.observations import MeanStdFilter, map_boxes


def for_environment(piece: NormalizeAndClipActions, actions: Any) -> Any:
    """Returns the environment's actions for a module's actions. [B, ...]."""
    if piece.rule is None:
        return actions
    if not isinstance(piece.rule, dict | tuple):
        return _for_leaf(piece.rule, actions)
    return tree.map_structure(_for_leaf, piece.rule, actions)


def _for_leaf(rule: ToBox | ToStart | None, x: Any) -> Any:
    if rule is None:
        return x
    if isinstance(rule, ToStart):
        return x + rule.start.astype(standardize_dtype(x.dtype))
    x = ops.reshape(x, (-1, *rule.shape)) * rule.scale + rule.shift
    if rule.is_clipped:
        x = ops.minimum(ops.maximum(x, rule.low), rule.high)
    if rule.is_whole:
        x = ops.round(x)
    return ops.cast(x, rule.dtype.name)


def normalized(piece: MeanStdFilter, observations: Any) -> Any:
    """Returns normalised observations; the current statistics become constants."""

    def of_box(name: str, space: Any, values: Any) -> Any:
        center, scale = piece.rule[name]
        centered = ops.cast(values, center.dtype.name) - center
        out = ops.cast(centered, "float32") * scale
        if piece.clip_by_value is None:
            return out
        return ops.clip(out, -piece.clip_by_value, piece.clip_by_value)

    return map_boxes(of_box, piece.input_observation_space, observations)


RULES: dict[type, Callable[[Any, Any], Any]] = {
    NormalizeAndClipActions: for_environment,
    MeanStdFilter: normalized,
}


def tensor_rule_of(piece_class: type) -> Callable[[Any, Any], Any] | None:
    """Returns the TensorFlow form of one of the library's connectors.

    Args:
        piece_class: The class of the piece; a subclass has the rule of its base.

    Returns:
        A function of the piece and tensors; `None` for pieces of other kinds.
    """
    return next((RULES[base] for base in piece_class.__mro__ if base in RULES), None)
