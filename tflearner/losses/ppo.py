"""The PPO objective: clipped surrogate, value regression, entropy bonus, KL penalty.

Schulman et al., "Proximal Policy Optimization Algorithms" (2017),
https://arxiv.org/abs/1707.06347; equation numbers below refer to it.

Pure functions of tensors: no config, no metrics, no variables. Shapes: `B` is the
number of steps in a minibatch; [B, T] works as well. `float` is float32.
"""

from typing import NamedTuple

import tensorflow as tf

from tflearner.losses import checks, reductions
from tflearner.types import Tensor


class PPOLoss(NamedTuple):
    """The PPO loss and its terms: scalars averaged over the unmasked steps.

    `value_clip_fraction` is the share of steps whose squared value error is capped.
    """

    total: Tensor
    policy: Tensor
    value: Tensor
    value_unclipped: Tensor
    value_clip_fraction: Tensor
    entropy: Tensor
    kl: Tensor


def ppo_loss(
    *,
    logp: Tensor,
    logp_old: Tensor,
    advantages: Tensor,
    values: Tensor,
    value_targets: Tensor,
    entropy: Tensor,
    kl: Tensor,
    mask: Tensor | None = None,
    clip_param: float,
    vf_clip_param: float,
    vf_loss_coeff: float,
    entropy_coeff: Tensor | float,
    kl_coeff: Tensor | float,
) -> PPOLoss:
    """Returns the PPO loss.

        ratio  = exp(logp - logp_old)
        policy = -mean(min(ratio A, clip(ratio, 1 - clip, 1 + clip) A))         (7)
        value  =  mean(min((V - V_target)^2, vf_clip))
        total  =  policy + c_v value - c_e entropy                              (9)
                  + c_kl kl                                                     (8)

    `vf_clip_param` caps the squared error itself, as RLlib does. OpenAI Baselines caps
    the change of the prediction; the two are not interchangeable.

    Args:
        logp: Log-probability of the taken action, current policy. float [B].
        logp_old: Log-probability of the taken action, acting policy. float [B].
        advantages: Advantage estimates, already standardised. float [B].
        values: Value predictions, current network. float [B].
        value_targets: Regression targets for `values`. float [B].
        entropy: Entropy of the current policy, in nats. float [B].
        kl: KL(old policy || current policy), in nats. float [B].
        mask: True where a step counts; `None` counts every step. bool [B].
        clip_param: Half-width of the trust interval around a ratio of 1.
        vf_clip_param: Cap on the squared value error, in squared reward units.
        vf_loss_coeff: Weight c_v of the value term.
        entropy_coeff: Weight c_e of the entropy bonus.
        kl_coeff: Weight c_kl of the KL penalty; the number 0 omits it.

    Returns:
        A `PPOLoss`.

    Raises:
        ValueError: If the per-step tensors do not all have the same shape.
    """
    # [B] against [B, 1] would broadcast to [B, B] and train on garbage, silently.
    checks.same_shape(
        logp=logp,
        logp_old=logp_old,
        advantages=advantages,
        values=values,
        value_targets=value_targets,
        entropy=entropy,
        kl=kl,
        **({} if mask is None else {"mask": mask}),
    )
    if mask is not None:
        # Masked before the formula, too: a NaN masked only in the mean leaves a finite
        # loss with a NaN gradient.
        logp, logp_old, advantages, values, value_targets = (
            reductions.zero_masked(tensor, mask)
            for tensor in (logp, logp_old, advantages, values, value_targets)
        )

    ratio = tf.exp(logp - logp_old)
    clipped_ratio = tf.clip_by_value(ratio, 1.0 - clip_param, 1.0 + clip_param)
    surrogate = tf.minimum(ratio * advantages, clipped_ratio * advantages)

    squared_error = tf.square(values - value_targets)
    clipped_error = tf.minimum(squared_error, vf_clip_param)
    is_clipped = tf.cast(squared_error > vf_clip_param, squared_error.dtype)

    policy = -reductions.masked_mean(surrogate, mask)
    value = reductions.masked_mean(clipped_error, mask)
    mean_entropy = reductions.masked_mean(entropy, mask)
    mean_kl = reductions.masked_mean(kl, mask)

    total = policy + vf_loss_coeff * value - entropy_coeff * mean_entropy
    # A deterministic old policy has an infinite KL, and 0 * inf is NaN.
    if not (isinstance(kl_coeff, float | int) and kl_coeff == 0):
        total = total + kl_coeff * mean_kl
    return PPOLoss(
        total=total,
        policy=policy,
        value=value,
        value_unclipped=reductions.masked_mean(squared_error, mask),
        value_clip_fraction=reductions.masked_mean(is_clipped, mask),
        entropy=mean_entropy,
        kl=mean_kl,
    )
