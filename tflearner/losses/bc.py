"""The objective of behaviour cloning: the likelihood of recorded actions.

Pure functions of tensors. Shapes: `B` is the number of steps in a minibatch; [B, T]
works as well. `float` is float32.
"""

from tflearner.losses import checks, reductions
from tflearner.types import Tensor


def bc_loss(
    *, logp: Tensor, weights: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Returns the negative log-likelihood of the actions, to be minimised.

        loss = -mean(w logp)

    Args:
        logp: Log-probability of the taken action, current policy. float [B].
        weights: The weight of each step; `None` weights all equally. No gradient flows
            into them. float [B].
        mask: True where a step counts; `None` counts every step. bool [B].

    Returns:
        float scalar, averaged over the steps that count.

    Raises:
        ValueError: If the per-step tensors do not all have the same shape.
    """
    given = {"logp": logp, "weights": weights, "mask": mask}
    checks.same_shape(**{name: x for name, x in given.items() if x is not None})
    if mask is not None:
        # Masked before the formula, too: a NaN masked only in the mean leaves a finite
        # loss with a NaN gradient.
        logp = reductions.zero_masked(logp, mask)
    return -reductions.masked_mean(logp if weights is None else weights * logp, mask)
