"""The SAC objective: critics, policy and temperature.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications" (2018),
https://arxiv.org/abs/1812.05905; equation numbers below refer to it. For discrete
actions: Christodoulou, "Soft Actor-Critic for Discrete Action Settings" (2019),
https://arxiv.org/abs/1910.07207.

As in RLlib, critics minimise the Huber loss, not the square of equation (5), and the
temperature's loss has log(alpha) in place of alpha. Importance weights apply to the
critics only.

Pure functions of tensors: no config, no metrics, no variables. Shapes: `B` is the number
of steps in a minibatch, `A` of discrete actions; [B, T] in place of [B] works as well.
`float` is float32.
"""

from typing import NamedTuple

import tensorflow as tf

from tflearner.losses import checks, reductions, td
from tflearner.types import Tensor


class SACLoss(NamedTuple):
    """The SAC loss and its terms over the unmasked steps; scalars except `td_error`.

    `total` is the sum of `policy`, `qf`, `qf_twin` and `alpha`; each reaches parameters
    that the others do not. `q_*` are of the first critic and the actions taken.
    """

    total: Tensor
    policy: Tensor
    qf: Tensor
    qf_twin: Tensor  # 0 without a twin.
    alpha: Tensor  # The loss, not the temperature.
    td_error: Tensor  # For priorities. [B], 0 where a step is masked.
    td_error_mean: Tensor
    q_mean: Tensor
    q_min: Tensor
    q_max: Tensor
    logps: Tensor
    entropy: Tensor  # Of the current policy, in nats: -logps.


def continuous_sac_loss(
    *,
    q: Tensor,
    q_twin: Tensor | None,
    q_target_next: Tensor,
    logp_next: Tensor,
    q_current: Tensor,
    logp: Tensor,
    log_alpha: Tensor,
    target_entropy: Tensor | float,
    rewards: Tensor,
    terminateds: Tensor,
    n_step: Tensor,
    weights: Tensor,
    mask: Tensor | None = None,
    gamma: float,
) -> SACLoss:
    """Returns the SAC loss for continuous actions.

        target = r + gamma^n (1 - terminated) (Q_target(s', a') - alpha log pi(a'))
        qf     = mean(weight * huber(Q(s, a) - target))                        (5), (6)
        policy = mean(alpha log pi(b) - Q(s, b))                               (9)
        alpha  = -mean(log(alpha) (log pi(b) + target_entropy))                (18)

    with a' and b drawn from the current policy at s' and s. `td_error` is |Q(s, a) -
    target|, averaged over both critics if there is a twin.

    Args:
        q: Q(s, a) of the actions taken, first critic. float [B].
        q_twin: Q(s, a), second critic; `None` if there is one critic. float [B].
        q_target_next: Q_target(s', a'), the minimum of the target critics; anything
            where the episode terminated. float [B].
        logp_next: log pi(a' | s'). float [B].
        q_current: Q(s, b), the minimum of the critics. Its gradient must reach the
            policy through b and no critic. float [B].
        logp: log pi(b | s), with a gradient. float [B].
        log_alpha: Logarithm of the temperature. float scalar.
        target_entropy: The policy's target entropy, in nats; one number, or float [B].
        rewards: Discounted sum of n rewards. float [B].
        terminateds: True where the episode ended for good within n steps. bool [B].
        n_step: Number n of rewards in `rewards`. float [B].
        weights: Importance weights of the rows; of concern to critics only. float [B].
        mask: True where a step counts; `None` counts every step. bool [B].
        gamma: Discount per step.

    Returns:
        A `SACLoss`.

    Raises:
        ValueError: If the per-step tensors do not all have the same shape.
    """
    # [B] against [B, 1] would broadcast to [B, B] and train on garbage, silently.
    checks.same_shape(
        rewards=rewards,
        terminateds=terminateds,
        n_step=n_step,
        weights=weights,
        q=q,
        q_target_next=q_target_next,
        logp_next=logp_next,
        q_current=q_current,
        logp=logp,
        **({} if q_twin is None else {"q_twin": q_twin}),
        **({} if mask is None else {"mask": mask}),
    )
    critics = [q] if q_twin is None else [q, q_twin]
    if mask is not None:
        # Masked before the formula, too: a NaN masked only in the mean leaves a finite
        # loss with a NaN gradient.
        rewards, n_step, weights, q_target_next, logp_next = (
            reductions.zero_masked(column, mask)
            for column in (rewards, n_step, weights, q_target_next, logp_next)
        )
        q_current, logp, *critics = (
            reductions.zero_masked(column, mask)
            for column in (q_current, logp, *critics)
        )

    alpha = tf.stop_gradient(tf.exp(log_alpha))
    next_values = q_target_next - alpha * logp_next
    targets = td.td_targets(rewards, next_values, terminateds, n_step, gamma)
    return _combine(
        policy_losses=alpha * logp - q_current,
        logps=logp,
        critics=critics,
        targets=targets,
        log_alpha=log_alpha,
        target_entropy=target_entropy,
        weights=weights,
        mask=mask,
    )


def discrete_sac_loss(
    *,
    q: Tensor,
    q_twin: Tensor | None,
    q_target_next: Tensor,
    log_probs_next: Tensor,
    log_probs: Tensor,
    actions: Tensor,
    log_alpha: Tensor,
    target_entropy: Tensor | float,
    rewards: Tensor,
    terminateds: Tensor,
    n_step: Tensor,
    weights: Tensor,
    mask: Tensor | None = None,
    gamma: float,
) -> SACLoss:
    """Returns the SAC loss for discrete actions, with expectations over all actions.

        target = r + gamma^n (1 - terminated)
                 sum_a pi(a | s') (Q_target(s', a) - alpha log pi(a | s'))
        qf     = mean(weight * huber(Q(s, a) - target))
        policy = mean(sum_b pi(b) (alpha log pi(b) - min Q(s, b)))
        alpha  = -mean(log(alpha) (sum_b pi(b) log pi(b) + target_entropy))

    Christodoulou (2019), equations (10) to (12). An action of probability 0 adds
    nothing, however low its log-probability and its value are.

    Args:
        q: Q(s, .), first critic. float [B, A].
        q_twin: Q(s, .), second critic; `None` if there is one critic. float [B, A].
        q_target_next: Q_target(s', .), the minimum of the target critics; anything
            where the episode terminated. float [B, A].
        log_probs_next: log pi(. | s'). float [B, A].
        log_probs: log pi(. | s), with a gradient. float [B, A].
        actions: Actions taken. int [B].
        log_alpha: Logarithm of the temperature. float scalar.
        target_entropy: The policy's target entropy, in nats; one number, or float [B].
        rewards: Discounted sum of n rewards. float [B].
        terminateds: True where the episode ended for good within n steps. bool [B].
        n_step: Number n of rewards in `rewards`. float [B].
        weights: Importance weights of the rows; of concern to critics only. float [B].
        mask: True where a step counts; `None` counts every step. bool [B].
        gamma: Discount per step.

    Returns:
        A `SACLoss`.

    Raises:
        ValueError: If the per-step tensors do not all have the same shape.
    """
    checks.same_shape(
        q=q,
        q_target_next=q_target_next,
        log_probs_next=log_probs_next,
        log_probs=log_probs,
        **({} if q_twin is None else {"q_twin": q_twin}),
    )
    columns = {
        "rewards": rewards,
        "actions": actions,
        "terminateds": terminateds,
        "n_step": n_step,
        "weights": weights,
        "q[..., 0]": q[..., 0],
    }
    checks.same_shape(**columns, **({} if mask is None else {"mask": mask}))
    critics = [q] if q_twin is None else [q, q_twin]
    if mask is not None:
        # See `continuous_sac_loss`.
        rewards, n_step, weights, actions = (
            reductions.zero_masked(column, mask)
            for column in (rewards, n_step, weights, actions)
        )
        rows = mask[..., tf.newaxis]
        q_target_next, log_probs_next, log_probs, *critics = (
            reductions.zero_masked(values, rows)
            for values in (q_target_next, log_probs_next, log_probs, *critics)
        )

    alpha = tf.stop_gradient(tf.exp(log_alpha))
    next_values = _expectation(log_probs_next, q_target_next - alpha * log_probs_next)
    targets = td.td_targets(rewards, next_values, terminateds, n_step, gamma)
    q_least = tf.stop_gradient(tf.reduce_min(critics, axis=0))
    return _combine(
        policy_losses=_expectation(log_probs, alpha * log_probs - q_least),
        logps=_expectation(log_probs, log_probs),
        critics=[
            tf.gather(values, actions, batch_dims=len(actions.shape))
            for values in critics
        ],
        targets=targets,
        log_alpha=log_alpha,
        target_entropy=target_entropy,
        weights=weights,
        mask=mask,
    )


def _expectation(log_probs: Tensor, values: Tensor) -> Tensor:
    """Averages over actions: [B, A] to [B]."""
    probs = tf.exp(log_probs)
    # For forbidden actions both may be infinite, and 0 * inf is NaN.
    possible = tf.where(probs > 0.0, values, tf.zeros_like(values))
    return tf.reduce_sum(probs * possible, axis=-1)


def _combine(
    *,
    policy_losses: Tensor,
    logps: Tensor,
    critics: list[Tensor],
    targets: Tensor,
    log_alpha: Tensor,
    target_entropy: Tensor | float,
    weights: Tensor,
    mask: Tensor | None,
) -> SACLoss:
    """Averages the terms over rows. All are [B], except those of the temperature."""
    errors = [values - targets for values in critics]
    qf, *twin = (
        reductions.masked_mean(weights * td.huber(each), mask) for each in errors
    )
    qf_twin = twin[0] if twin else tf.zeros_like(qf)
    policy = reductions.masked_mean(policy_losses, mask)
    logps = tf.stop_gradient(logps)
    alpha = -log_alpha * reductions.masked_mean(logps + target_entropy, mask)
    mean_logp = reductions.masked_mean(logps, mask)
    td_error = tf.reduce_mean(tf.stop_gradient(tf.abs(errors)), axis=0)
    return SACLoss(
        total=policy + qf + qf_twin + alpha,
        policy=policy,
        qf=qf,
        qf_twin=qf_twin,
        alpha=alpha,
        td_error=td_error,
        td_error_mean=reductions.masked_mean(td_error, mask),
        q_mean=reductions.masked_mean(critics[0], mask),
        q_min=reductions.masked_min(critics[0], mask),
        q_max=reductions.masked_max(critics[0], mask),
        logps=mean_logp,
        entropy=-mean_logp,
    )
