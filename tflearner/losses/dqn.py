"""The DQN objective: distances of action values or distributions from targets.

Mnih et al., "Human-level control through deep reinforcement learning" (2015),
https://doi.org/10.1038/nature14236; van Hasselt et al., "Deep Reinforcement Learning
with Double Q-learning" (2016), https://arxiv.org/abs/1509.06461; Bellemare et al., "A
Distributional Perspective on Reinforcement Learning" (2017),
https://arxiv.org/abs/1707.06887.

Pure functions of tensors: no config, no metrics, no variables. Shapes: `B` is the number
of steps in a minibatch, `A` of actions, `Z` of atoms; [B, T] in place of [B] works as
well. `float` is float32.
"""

from typing import NamedTuple

import tensorflow as tf

from tflearner.losses import checks, reductions, td
from tflearner.types import Tensor


class DQNLoss(NamedTuple):
    """The DQN loss and its terms over the unmasked steps; scalars except `td_error`.

    `q_selected_*` are of the values of the actions taken.
    """

    total: Tensor
    td_error: Tensor  # For priorities. [B], 0 where a step is masked.
    q_selected_mean: Tensor
    q_selected_min: Tensor
    q_selected_max: Tensor
    td_error_mean: Tensor


def dqn_loss(
    *,
    q_values: Tensor,
    q_target_next: Tensor,
    q_next: Tensor | None,
    actions: Tensor,
    rewards: Tensor,
    terminateds: Tensor,
    n_step: Tensor,
    weights: Tensor,
    mask: Tensor | None = None,
    gamma: float,
    td_error_loss_fn: td.LossName = "huber",
) -> DQNLoss:
    """Returns the DQN loss: values of taken actions against n-step targets.

        a*     = argmax_a Q(s', a)       if `q_next` is given: double Q-learning
                 argmax_a Q_target(s', a)               otherwise
        target = r + gamma^n (1 - terminated) Q_target(s', a*)
        total  = mean(weight * loss(Q(s, a) - target))

    `td_error` is |Q(s, a) - target|. The gradient reaches `q_values` alone.

    Args:
        q_values: Q(s, .), current network. float [B, A].
        q_target_next: Q_target(s', .), target network; anything where the episode
            terminated. float [B, A].
        q_next: Q(s', .), current network; `None` lets the target network choose a*.
            float [B, A].
        actions: Actions taken. int [B].
        rewards: Discounted sum of n rewards. float [B].
        terminateds: True where the episode ended for good within n steps. bool [B].
        n_step: Number n of rewards in `rewards`. float [B].
        weights: Importance weights of the rows. float [B].
        mask: True where a step counts; `None` counts every step. bool [B].
        gamma: Discount per step.
        td_error_loss_fn: A key of `td.LOSS_FUNCTIONS`.

    Returns:
        A `DQNLoss`.

    Raises:
        ValueError: If the per-step tensors do not all have the same shape.
    """
    _check_rows(actions, rewards, terminateds, n_step, weights, mask, q_values)
    _check_values(q_values, q_target_next, q_next)
    if mask is not None:
        # Masked before the formula, too: a NaN masked only in the mean leaves a finite
        # loss with a NaN gradient.
        actions, rewards, n_step, weights = (
            reductions.zero_masked(column, mask)
            for column in (actions, rewards, n_step, weights)
        )
    q_selected = _of_actions(q_values, actions)
    next_values = _of_actions(q_target_next, _best_actions(q_target_next, q_next))
    if mask is not None:
        q_selected = reductions.zero_masked(q_selected, mask)
        next_values = reductions.zero_masked(next_values, mask)

    errors = q_selected - td.td_targets(
        rewards, next_values, terminateds, n_step, gamma
    )
    losses = td.LOSS_FUNCTIONS[td_error_loss_fn](errors)
    return _summary(losses, tf.abs(errors), q_selected, weights, mask)


def distributional_dqn_loss(
    *,
    q_logits: Tensor,
    q_values: Tensor,
    q_target_next_probs: Tensor,
    q_target_next: Tensor,
    q_next: Tensor | None,
    actions: Tensor,
    rewards: Tensor,
    terminateds: Tensor,
    n_step: Tensor,
    weights: Tensor,
    mask: Tensor | None = None,
    gamma: float,
    v_min: float,
    v_max: float,
) -> DQNLoss:
    """Returns the C51 loss: return distributions of taken actions against targets.

        z_j    = v_min + j dz,  dz = (v_max - v_min) / (Z - 1)
        Tz_j   = clip(r + gamma^n (1 - terminated) z_j, v_min, v_max)
        m_i    = sum_j clip(1 - |Tz_j - z_i| / dz, 0, 1) p_target,j(s', a*)     (7)
        total  = mean(weight * -sum_i m_i log p_i(s, a))

    with a* as in `dqn_loss`. Bellemare et al. (2017), equation (7), which their
    Algorithm 1 computes atom by atom. `td_error` is a row's cross entropy, as in RLlib.
    The gradient reaches `q_logits` alone.

    Args:
        q_logits: Logits of p(s, .) over the atoms, current network. float [B, A, Z].
        q_values: The expectations Q(s, .), for the metrics. float [B, A].
        q_target_next_probs: p_target(s', .), target network; anything where the episode
            terminated. float [B, A, Z].
        q_target_next: The expectations Q_target(s', .). float [B, A].
        q_next: Q(s', .), current network; `None` lets the target network choose a*.
            float [B, A].
        actions: Actions taken. int [B].
        rewards: Discounted sum of n rewards. float [B].
        terminateds: True where the episode ended for good within n steps. bool [B].
        n_step: Number n of rewards in `rewards`. float [B].
        weights: Importance weights of the rows. float [B].
        mask: True where a step counts; `None` counts every step. bool [B].
        gamma: Discount per step.
        v_min: The lowest atom, in units of return.
        v_max: The highest atom, in units of return.

    Returns:
        A `DQNLoss`.

    Raises:
        ValueError: If the per-step tensors do not all have the same shape.
    """
    _check_rows(actions, rewards, terminateds, n_step, weights, mask, q_values)
    _check_values(q_values, q_target_next, q_next)
    checks.same_shape(q_logits=q_logits, q_target_next_probs=q_target_next_probs)
    if mask is not None:
        # See `dqn_loss`.
        actions, rewards, n_step, weights = (
            reductions.zero_masked(column, mask)
            for column in (actions, rewards, n_step, weights)
        )
    q_selected = _of_actions(q_values, actions)
    logits = _of_actions(q_logits, actions)  # [B, Z]
    best_actions = _best_actions(q_target_next, q_next)
    next_probs = _of_actions(q_target_next_probs, best_actions)  # [B, Z]
    if mask is not None:
        q_selected = reductions.zero_masked(q_selected, mask)
        logits = reductions.zero_masked(logits, mask[..., tf.newaxis])
        next_probs = reductions.zero_masked(next_probs, mask[..., tf.newaxis])

    num_atoms = q_logits.shape[-1]
    numbers = tf.range(num_atoms, dtype=q_logits.dtype)
    atoms = v_min + numbers * ((v_max - v_min) / (num_atoms - 1))
    flags = terminateds[..., tf.newaxis]
    # All atoms of a terminated row move to its reward, so only the sum matters.
    next_probs = tf.where(flags, tf.ones_like(next_probs) / num_atoms, next_probs)
    discounts = tf.pow(gamma, n_step)[..., tf.newaxis]
    moved = rewards[..., tf.newaxis] + tf.where(flags, 0.0, discounts * atoms)
    targets = tf.stop_gradient(_project(next_probs, moved, v_min, v_max))

    losses = -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=-1)
    return _summary(losses, losses, q_selected, weights, mask)


def _check_rows(actions, rewards, terminateds, n_step, weights, mask, q_values):
    # [B] against [B, 1] would broadcast to [B, B] and train on garbage, silently.
    columns = {
        "rewards": rewards,
        "actions": actions,
        "terminateds": terminateds,
        "n_step": n_step,
        "weights": weights,
        "q_values[..., 0]": q_values[..., 0],
    }
    checks.same_shape(**columns, **({} if mask is None else {"mask": mask}))


def _check_values(q_values, q_target_next, q_next):
    values = {"q_values": q_values, "q_target_next": q_target_next}
    checks.same_shape(**values, **({} if q_next is None else {"q_next": q_next}))


def _of_actions(values: Tensor, actions: Tensor) -> Tensor:
    """Selects the entry of one action in each row: [B, A, ...] to [B, ...]."""
    # A product with a one-hot tensor would let NaN of other actions through.
    return tf.gather(values, actions, batch_dims=len(actions.shape))


def _best_actions(q_target_next: Tensor, q_next: Tensor | None) -> Tensor:
    return tf.argmax(q_target_next if q_next is None else q_next, axis=-1)


def _project(probs: Tensor, positions: Tensor, v_min: float, v_max: float) -> Tensor:
    """Splits the mass at each position between the two nearest atoms. [B, Z]."""
    num_atoms = probs.shape[-1]
    clipped = tf.clip_by_value(positions, v_min, v_max)
    # In units of dz; an atom's own number is its position. [B, Z].
    places = (clipped - v_min) * ((num_atoms - 1) / (v_max - v_min))
    numbers = tf.range(num_atoms, dtype=probs.dtype)[:, tf.newaxis]  # [Z, 1]
    distances = tf.abs(places[..., tf.newaxis, :] - numbers)  # [B, Z, Z]
    shares = tf.maximum(1.0 - distances, 0.0)
    return tf.linalg.matvec(shares, probs)


def _summary(losses, td_error, q_selected, weights, mask) -> DQNLoss:
    if mask is not None:
        td_error = reductions.zero_masked(td_error, mask)
    return DQNLoss(
        total=reductions.masked_mean(weights * losses, mask),
        td_error=tf.stop_gradient(td_error),
        q_selected_mean=reductions.masked_mean(q_selected, mask),
        q_selected_min=reductions.masked_min(q_selected, mask),
        q_selected_max=reductions.masked_max(q_selected, mask),
        td_error_mean=reductions.masked_mean(td_error, mask),
    )
