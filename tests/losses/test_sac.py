"""Tests for `tflearner.losses.sac`."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.losses import sac
from tflearner.testing import assert_close

SETTINGS = {"gamma": 0.9, "target_entropy": -1.5}
LOG_ALPHA = np.array(-0.7, np.float32)
FORBIDDEN = -1e9
PER_ROW = ("terminateds", "n_step", "weights")
MASKS = [[True] * 5, [True, True, True, False, True]]

# Graphs that are traced only compute as eager ones do.
in_the_extreme_modes = pytest.mark.parametrize(
    "compiled", ["eager", pytest.param("xla", marks=pytest.mark.deep)], indirect=True
)
in_both_forms = pytest.mark.parametrize("twin", [True, False])


def critics_of(batch, twin):
    return ("q", "q_twin") if twin else ("q",)


def huber(error):
    return 0.5 * error**2 if abs(error) <= 1.0 else abs(error) - 0.5


def row_target(batch, b, next_value):
    """Equation (3) in (5) of Haarnoja et al. (2018), n steps on."""
    if batch["terminateds"][b]:
        return float(batch["rewards"][b])
    discount = SETTINGS["gamma"] ** float(batch["n_step"][b])
    return float(batch["rewards"][b]) + discount * next_value


def summary(batch, mask, twin, predictions, targets, policy_losses, logps):
    """Terms from those of each row, and the derivatives by predictions.

    Args:
        predictions: Of each critic by its name, for the actions taken. [5].
    """
    rows = np.flatnonzero(mask)
    num = len(rows)
    terms = {"qf_twin": 0.0, "td_error": np.zeros(5)}
    slopes = {}
    for name, term in zip(critics_of(batch, twin), ("qf", "qf_twin")):
        errors = {b: float(predictions[name][b]) - targets[b] for b in rows}
        weights = batch["weights"]
        terms[term] = sum(weights[b] * huber(errors[b]) for b in rows) / num
        slopes[name] = np.zeros(5)
        for b in rows:
            terms["td_error"][b] += abs(errors[b]) / (2 if twin else 1)
            slopes[name][b] = weights[b] * np.clip(errors[b], -1.0, 1.0) / num
    taken = [float(predictions["q"][b]) for b in rows]
    logp = sum(logps[b] for b in rows) / num
    terms |= {
        "policy": sum(policy_losses[b] for b in rows) / num,
        "alpha": -float(LOG_ALPHA) * (logp + SETTINGS["target_entropy"]),
        "td_error_mean": sum(terms["td_error"]) / num,
        "q_mean": sum(taken) / num,
        "q_min": min(taken),
        "q_max": max(taken),
        "logps": logp,
        "entropy": -logp,
    }
    terms["total"] = sum(terms[name] for name in ("policy", "qf", "qf_twin", "alpha"))
    return terms, slopes | {"log_alpha": -(logp + SETTINGS["target_entropy"])}


def oracle(batch, mask, twin):
    """Terms of equations (5), (9) and (18), and the gradients of the total."""
    alpha, num = np.exp(float(LOG_ALPHA)), np.sum(mask)
    targets, policy_losses = [], []
    for b in range(5):
        next_value = batch["q_target_next"][b] - alpha * batch["logp_next"][b]
        targets.append(row_target(batch, b, float(next_value)))
        policy_losses.append(alpha * batch["logp"][b] - batch["q_current"][b])
    predictions = {name: batch[name] for name in critics_of(batch, twin)}
    terms, gradients = summary(
        batch, mask, twin, predictions, targets, policy_losses, batch["logp"]
    )
    gradients["logp"] = alpha * np.array(mask) / num
    gradients["q_current"] = np.array(mask) / -num
    return terms, gradients


def discrete_oracle(batch, mask, twin):
    """The terms of Christodoulou (2019), action by action, and their gradients.

    Forbidden actions are left out of the sums.
    """
    alpha, num = np.exp(float(LOG_ALPHA)), np.sum(mask)
    names = critics_of(batch, twin)
    targets, policy_losses, logps = [], [], []
    by_log_prob = np.zeros((5, 3))
    for b in range(5):
        next_value = policy_loss = logp = 0.0
        for a in range(3):
            log_prob = float(batch["log_probs_next"][b, a])
            if log_prob > FORBIDDEN / 2:
                soft = batch["q_target_next"][b, a] - alpha * log_prob
                next_value += np.exp(log_prob) * soft
            log_prob = float(batch["log_probs"][b, a])
            if log_prob > FORBIDDEN / 2:
                prob, least = np.exp(log_prob), min(batch[name][b, a] for name in names)
                policy_loss += prob * (alpha * log_prob - least)
                logp += prob * log_prob
                if mask[b]:
                    slope = prob * (alpha * log_prob - least + alpha)
                    by_log_prob[b, a] = slope / num
        targets.append(row_target(batch, b, next_value))
        policy_losses.append(policy_loss)
        logps.append(logp)
    predictions = {name: batch[name][np.arange(5), batch["actions"]] for name in names}
    terms, gradients = summary(
        batch, mask, twin, predictions, targets, policy_losses, logps
    )
    for name in names:
        slopes = np.zeros((5, 3))
        slopes[np.arange(5), batch["actions"]] = gradients[name]
        gradients[name] = slopes
    return terms, gradients | {"log_probs": by_log_prob}


@pytest.fixture
def rows():
    """Five rows chosen to take every branch: see `test_batch_takes_every_branch`."""
    return {
        "rewards": np.float32([0.5, -1.0, 2.0, 0.25, -0.5]),
        "terminateds": np.array([False, True, False, True, False]),
        "n_step": np.float32([1, 2, 3, 1, 2]),
        "weights": np.float32([1.0, 0.5, 0.75, 0.9, 0.25]),
        "log_alpha": LOG_ALPHA,
    }


@pytest.fixture
def batch(rows):
    columns = {
        "q": [1.0, 0.5, -0.5, 0.1, 2.0],
        "q_twin": [1.5, -0.75, 4.0, 0.2, -1.0],
        "q_target_next": [0.2, 1.0, -1.0, 0.3, 0.8],
        "logp_next": [-1.0, 0.5, 0.2, -2.0, -0.4],
        "q_current": [0.9, 0.4, -0.6, 0.0, 1.0],
        "logp": [-1.2, 0.7, -0.3, 1.1, -2.0],
    }
    return rows | {name: np.float32(values) for name, values in columns.items()}


@pytest.fixture
def discrete(rows):
    """Rows 0 and 4 forbid an action, now and next."""
    rng = np.random.default_rng(4)
    logits, logits_next, q, q_twin, q_target_next = rng.normal(size=(5, 5, 3))
    q[2] += 3.0
    for values in (logits, q, q_twin):
        values[0, 1] = values[4, 2] = FORBIDDEN
    for values in (logits_next, q_target_next):
        values[0, 2] = values[4, 0] = FORBIDDEN
    columns = {
        "q": q,
        "q_twin": q_twin,
        "q_target_next": q_target_next,
        "log_probs": tf.nn.log_softmax(logits).numpy(),
        "log_probs_next": tf.nn.log_softmax(logits_next).numpy(),
    }
    columns = {name: np.float32(values) for name, values in columns.items()}
    return rows | columns | {"actions": np.array([0, 1, 2, 2, 1])}


def pick(batch, twin):
    return batch if twin else batch | {"q_twin": None}


CASES = {
    "batch": (sac.continuous_sac_loss, oracle),
    "discrete": (sac.discrete_sac_loss, discrete_oracle),
}


@pytest.fixture(params=list(CASES))
def case(request):
    """(inputs, the loss, its oracle), for actions of either kind."""
    return request.getfixturevalue(request.param), *CASES[request.param]


def with_gradients(function):
    """Makes a function return its gradients too, of all that networks may compute."""
    data = {"rewards", "terminateds", "n_step", "weights", "actions", "mask"}

    def run(**batch):
        inputs = {k: x for k, x in batch.items() if x is not None and k not in data}
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = function(**batch, **SETTINGS)
        return loss, tape.gradient(loss.total, inputs)

    return run


def assert_terms(loss, want):
    assert set(loss._fields) == set(want)
    for term, value in loss._asdict().items():
        assert_close(value, want[term], rtol=1e-5)


def assert_gradients(gradients, want):
    """No other input has a gradient."""
    got = {name for name, gradient in gradients.items() if gradient is not None}
    assert got == set(want)
    for name, gradient in want.items():
        assert_close(gradients[name], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mask", MASKS)
def test_batch_takes_every_branch(case, mask):
    """Guards the other tests: an oracle only sees what its inputs exercise."""
    batch, _, its_oracle = case
    for twin in (True, False):
        _, gradients = its_oracle(batch, mask, twin)
        for name in critics_of(batch, twin):
            rows = np.reshape(gradients[name], (5, -1)).sum(axis=1)
            slopes = (rows * np.sum(mask) / batch["weights"])[mask]
            assert {-1.0, 1.0} == set(np.sign(slopes))
            is_linear = np.isclose(np.abs(slopes), 1.0)
            assert is_linear.any() and not is_linear.all()
    assert {True, False} == set(batch["terminateds"][mask])
    assert len(set(batch["n_step"][mask])) > 1
    assert len(set(batch["weights"][mask])) > 1


def test_either_discrete_critic_is_the_lower_one_and_actions_are_forbidden(discrete):
    allowed = discrete["log_probs"] > FORBIDDEN / 2
    is_lower = discrete["q"] < discrete["q_twin"]
    assert set(is_lower[allowed]) == {True, False}
    for name in ("log_probs", "log_probs_next"):
        assert (np.exp(discrete[name]) == 0.0).sum() == 2


@in_both_forms
def test_terms_and_gradients_match_the_oracle(compiled, case, twin):
    batch, loss, its_oracle = case
    function = compiled(with_gradients(loss))
    for mask in MASKS:
        got, gradients = function(**pick(batch, twin), mask=np.array(mask))
        want, want_gradients = its_oracle(batch, mask, twin)
        assert_terms(got, want)
        assert_gradients(gradients, want_gradients)


def test_without_a_mask_every_row_counts(case):
    batch, loss, its_oracle = case
    assert_terms(loss(**batch, **SETTINGS), its_oracle(batch, MASKS[0], True)[0])


@in_the_extreme_modes
def test_masked_rows_may_hold_anything(compiled, case):
    batch, loss, its_oracle = case
    mask = np.array(MASKS[1])
    want, want_gradients = its_oracle(batch, mask, True)
    for name, values in batch.items():
        if name not in ("log_alpha", "terminateds"):
            values[~mask] = 99 if name == "actions" else np.nan
    got, gradients = compiled(with_gradients(loss))(**batch, mask=mask)
    assert_terms(got, want)
    assert_gradients(gradients, want_gradients)


def test_terminated_rows_may_say_anything_of_the_next_state(case):
    batch, loss, its_oracle = case
    want, want_gradients = its_oracle(batch, MASKS[0], True)
    for name in ("q_target_next", "logp_next", "log_probs_next"):
        if name in batch:
            batch[name][batch["terminateds"]] = np.nan
    inputs = {name: tf.constant(values) for name, values in batch.items()}
    got, gradients = with_gradients(loss)(**inputs)
    assert_terms(got, want)
    assert_gradients(gradients, want_gradients)


@in_the_extreme_modes
def test_how_bad_forbidden_actions_are_does_not_matter(compiled, discrete):
    want, want_gradients = discrete_oracle(discrete, MASKS[0], True)
    function = compiled(with_gradients(sac.discrete_sac_loss))
    for value in (-1e9, -3e38, -np.inf):
        for name in ("q", "q_twin", "q_target_next", "log_probs", "log_probs_next"):
            discrete[name][discrete[name] < FORBIDDEN / 2] = value
        got, gradients = function(**discrete)
        assert_terms(got, want)
        assert_gradients(gradients, want_gradients)


def test_a_batch_without_a_row_that_counts_is_harmless(case):
    batch, loss, _ = case
    inputs = {name: tf.constant(values) for name, values in batch.items()}
    got, gradients = with_gradients(loss)(**inputs, mask=np.zeros(5, bool))
    for term in got:
        assert_close(term, np.zeros(term.shape))
    for gradient in gradients.values():
        if gradient is not None:
            assert_close(gradient, np.zeros(gradient.shape))


def test_temperature_rises_where_the_policy_is_surer_than_it_should_be(batch):
    for logp, sign in ((5.0, -1.0), (-5.0, 1.0)):
        batch["logp"][:] = logp
        _, gradients = with_gradients(sac.continuous_sac_loss)(
            **{name: tf.constant(values) for name, values in batch.items()}
        )
        assert np.sign(gradients["log_alpha"]) == sign


def test_temperature_may_be_a_variable(case):
    batch, loss, its_oracle = case
    batch["log_alpha"] = tf.Variable(LOG_ALPHA)
    assert_terms(loss(**batch, **SETTINGS), its_oracle(batch, MASKS[0], True)[0])


def test_sequences_are_averaged_over_all_steps(case):
    batch, loss, _ = case
    flat = loss(**batch, mask=np.array(MASKS[1]), **SETTINGS)
    sequences = {
        name: values if name == "log_alpha" else values[None]
        for name, values in batch.items()
    }
    got = loss(**sequences, mask=np.array([MASKS[1]]), **SETTINGS)
    assert_close(got.total, flat.total)
    assert_close(got.td_error, flat.td_error[None])


@pytest.mark.parametrize("name", [*PER_ROW, "mask"])
def test_column_vector_is_rejected(case, name):
    batch, loss, _ = case
    batch["mask"] = np.ones(5, bool)
    batch[name] = batch[name][:, None]
    with pytest.raises(ValueError, match=rf"`{name}` has shape \(5, 1\).*\(5,\)"):
        loss(**batch, **SETTINGS)


@pytest.mark.parametrize("name", ["q", "q_twin", "q_current", "logp", "logp_next"])
def test_column_vector_of_a_network_is_rejected(batch, name):
    batch[name] = batch[name][:, None]
    with pytest.raises(ValueError, match=rf"`{name}` has shape \(5, 1\).*\(5,\)"):
        sac.continuous_sac_loss(**batch, **SETTINGS)


@pytest.mark.parametrize("name", ["q_twin", "q_target_next", "log_probs"])
def test_values_of_other_actions_are_rejected(discrete, name):
    discrete[name] = discrete[name][:, :2]
    with pytest.raises(ValueError, match=rf"`{name}` has shape \(5, 2\).*\(5, 3\)"):
        sac.discrete_sac_loss(**discrete, **SETTINGS)
