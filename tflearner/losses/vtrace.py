"""V-trace: value targets and advantages from the steps of an older policy.

Espeholt et al., "IMPALA: Scalable Distributed Deep-RL with Importance Weighted
Actor-Learner Architectures" (2018), https://arxiv.org/abs/1802.01561; equation numbers
below refer to it.

Pure functions of tensors. Shapes: `S` sequences of `T` steps each, every one in order;
a sequence may hold several episodes, one after the other. `float` is float32.
"""

from typing import NamedTuple

import tensorflow as tf

from tflearner.losses import checks, reductions, returns
from tflearner.types import Tensor


class VTrace(NamedTuple):
    """V-trace targets of a policy and a value function, without gradients.

    Attributes:
        value_targets: v_s, 0 where a step does not count. float [S, T].
        advantages: The weight of each action's log-probability, importance weight
            included; 0 where a step does not count. float [S, T].
    """

    value_targets: Tensor
    advantages: Tensor


def vtrace(
    *,
    logp: Tensor,
    behaviour_logp: Tensor,
    rewards: Tensor,
    values: Tensor,
    terminateds: Tensor,
    mask: Tensor | None = None,
    bootstrap_values: Tensor | None = None,
    gamma: float,
    clip_rho_threshold: float | None = 1.0,
    clip_pg_rho_threshold: float | None = 1.0,
) -> VTrace:
    """Estimates value targets and advantages of the current policy with V-trace.

        ratio_t = exp(logp_t - behaviour_logp_t)
        rho_t   = min(rho_clip, ratio_t)
        c_t     = min(1, ratio_t)
        delta_t = rho_t (r_t + gamma V(x_{t+1}) - V(x_t))
        v_t     = V(x_t) + delta_t + gamma c_t (v_{t+1} - V(x_{t+1}))            (1)
        A_t     = min(rho_pg_clip, ratio_t) (r_t + gamma v_{t+1} - V(x_t))

    Equation (1) stands in the recursive form of remark 1; `A` is section 4.2's. `gamma`
    is 0 after a terminated step. A masked step ends the recursion with its value. So
    does the artificial row that closes an episode or a part of one. (RLlib gives that
    row a target of its own, which removes most of its value.)

    Args:
        logp: Log-probability of the taken action, current policy. float [S, T].
        behaviour_logp: Log-probability of the taken action, acting policy. float [S,
            T].
        rewards: r_t. float [S, T].
        values: V(x_t), current network. float [S, T].
        terminateds: True where the step ended its episode for good. bool [S, T].
        mask: True where a step counts; `None` counts every step. Masked steps may hold
            anything, except that the value must be valid if the step before it counts
            and did not terminate. bool [S, T].
        bootstrap_values: V of the state after the last step; `None` stands for 0, if no
            sequence needs it. float [S].
        gamma: Discount per step.
        clip_rho_threshold: Bound on rho. With 1 the targets stay near the values of the
            acting policy; `None` has no bound.
        clip_pg_rho_threshold: Bound on the importance weight of an advantage.

    Returns:
        A `VTrace`.

    Raises:
        ValueError: If shapes differ.
    """
    checks.same_shape(
        logp=logp,
        behaviour_logp=behaviour_logp,
        rewards=rewards,
        values=values,
        terminateds=terminateds,
        **({} if mask is None else {"mask": mask}),
    )
    if mask is None:
        mask = tf.ones_like(terminateds, tf.bool)
    mask = tf.cast(mask, tf.bool)
    if bootstrap_values is None:
        bootstrap_values = tf.zeros_like(values[:, 0])
    last = tf.stop_gradient(bootstrap_values)[:, None]
    logp, values = tf.stop_gradient(logp), tf.stop_gradient(values)
    ratios = tf.exp(reductions.zero_masked(logp - behaviour_logp, mask))
    ratios = reductions.zero_masked(ratios, mask)
    rewards = reductions.zero_masked(rewards, mask)
    has_next = mask & ~tf.cast(terminateds, tf.bool)

    def of_next(x: Tensor) -> Tensor:
        """Returns gamma x_{t+1}, 0 where nothing follows. float [S, T]."""
        shifted = tf.concat([x[:, 1:], last], axis=1)
        return gamma * reductions.zero_masked(shifted, has_next)

    own = reductions.zero_masked(values, mask)
    deltas = _clipped(ratios, clip_rho_threshold) * (rewards + of_next(values) - own)
    decays = gamma * reductions.zero_masked(_clipped(ratios, 1.0), has_next)
    # The recurrence runs along the first axis.
    corrections = tf.transpose(
        returns.reverse_linear_recurrence(tf.transpose(deltas), tf.transpose(decays))
    )
    targets = values + corrections
    weights = _clipped(ratios, clip_pg_rho_threshold)
    return VTrace(
        value_targets=tf.stop_gradient(reductions.zero_masked(targets, mask)),
        advantages=tf.stop_gradient(weights * (rewards + of_next(targets) - own)),
    )


def _clipped(ratios: Tensor, threshold: float | None) -> Tensor:
    return ratios if threshold is None else tf.minimum(ratios, threshold)
