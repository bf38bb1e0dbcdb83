"""The IMPALA objective: policy gradient, value regression, entropy bonus.

Espeholt et al., "IMPALA: Scalable Distributed Deep-RL with Importance Weighted
Actor-Learner Architectures" (2018), https://arxiv.org/abs/1802.01561, section 4.2.

Pure functions of tensors: no config, no metrics, no variables. Shapes: `S` sequences of
`T` steps each. `float` is float32.
"""

from typing import NamedTuple

import tensorflow as tf

from tflearner.losses import checks, reductions
from tflearner.losses.vtrace import VTrace
from tflearner.types import Tensor


class IMPALALoss(NamedTuple):
    """The IMPALA loss and its terms: scalars averaged over the unmasked steps."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor


def impala_loss(
    *,
    logp: Tensor,
    values: Tensor,
    entropy: Tensor,
    targets: VTrace,
    mask: Tensor | None = None,
    vf_loss_coeff: float,
    entropy_coeff: Tensor | float,
) -> IMPALALoss:
    """Returns the IMPALA loss from V-trace targets.

        policy = -mean(A logp)
        value  =  mean(0.5 (V - v)^2)
        total  =  policy + c_v value - c_e entropy

    Advantages are not standardised. The paper sums over the steps of a batch; the mean
    does not depend on their number.

    Args:
        logp: Log-probability of the taken action, current policy. float [S, T].
        values: V, current network. float [S, T].
        entropy: Entropy of the current policy, in nats. float [S, T].
        targets: The V-trace targets of these steps, from `vtrace`.
        mask: True where a step counts; `None` counts every step. bool [S, T].
        vf_loss_coeff: Weight c_v of the value term.
        entropy_coeff: Weight c_e of the entropy bonus.

    Returns:
        An `IMPALALoss`.

    Raises:
        ValueError: If the per-step tensors do not all have the same shape.
    """
    checks.same_shape(
        logp=logp,
        values=values,
        entropy=entropy,
        advantages=targets.advantages,
        value_targets=targets.value_targets,
        **({} if mask is None else {"mask": mask}),
    )
    if mask is not None:
        # Masked before the formula, too: a NaN masked only in the mean leaves a finite
        # loss with a NaN gradient.
        logp, values = (reductions.zero_masked(x, mask) for x in (logp, values))
    policy = -reductions.masked_mean(targets.advantages * logp, mask)
    errors = values - targets.value_targets
    value = 0.5 * reductions.masked_mean(tf.square(errors), mask)
    mean_entropy = reductions.masked_mean(entropy, mask)
    total = policy + vf_loss_coeff * value - entropy_coeff * mean_entropy
    return IMPALALoss(total=total, policy=policy, value=value, entropy=mean_entropy)
