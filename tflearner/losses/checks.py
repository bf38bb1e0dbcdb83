"""Shape checks made while tracing; they cost nothing when the graph runs."""

from typing import Any


def same_shape(**tensors: Any) -> None:
    """Checks that per-step tensors agree in shape, so that nothing broadcasts.

    A dimension that is unknown while tracing agrees with every number.

    Args:
        **tensors: Tensors or arrays by name.

    Raises:
        ValueError: Names the first tensor whose shape differs from the first one's.
    """
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        pairs = list(zip(tensor.shape, reference.shape))
        same_rank = len(tensor.shape) == len(reference.shape)
        if not same_rank or any(a != b for a, b in pairs if None not in (a, b)):
            raise ValueError(
                f"`{name}` has shape {tuple(tensor.shape)} but `{first}` has shape "
                f"{tuple(reference.shape)}. All per-step tensors must agree; squeeze a "
                "trailing dimension of 1 if a network head added one."
            )
