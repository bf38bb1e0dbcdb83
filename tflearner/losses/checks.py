"""Shape checks made while tracing; they cost nothing when the graph runs."""

from typing import Any


def same_shape(**tensors: Any) -> None:
    """Checks that per-step tensors agree in shape, so that nothing broadcasts.

    Args:
        **tensors: Tensors or arrays by name.

    Raises:
        ValueError: Names the first tensor whose shape differs from the first one's.
    """
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        if tuple(tensor.shape) != tuple(reference.shape):
            raise ValueError(
                f"`{name}` has shape {tuple(tensor.shape)} but `{first}` has shape "
                f"{tuple(reference.shape)}. All per-step tensors must agree; squeeze a "
                "trailing dimension of 1 if a network head added one."
            )
