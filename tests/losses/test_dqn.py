"""Tests for `tflearner.losses.dqn`."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.losses import dqn
from tflearner.testing import assert_close

GAMMA = 0.9
SUPPORT = {"v_min": -2.0, "v_max": 3.0}
NUM_ATOMS = 6  # At the whole numbers from -2 to 3.
FORBIDDEN = -1e9
PER_ROW = ("actions", "rewards", "terminateds", "n_step", "weights")
MASKS = [[True] * 6, [True, True, True, False, True, False]]

# Graphs that are traced only compute as eager ones do.
in_the_extreme_modes = pytest.mark.parametrize(
    "compiled", ["eager", pytest.param("xla", marks=pytest.mark.deep)], indirect=True
)
in_both_forms = pytest.mark.parametrize("double", [True, False])


def row_targets(batch, double):
    """Targets and the best next actions, row by row."""
    targets, best = [], []
    for b in range(6):
        judge = batch["q_next"] if double else batch["q_target_next"]
        action = max(range(3), key=lambda a: judge[b, a])
        discount = GAMMA ** float(batch["n_step"][b])
        ahead = 0.0
        if not batch["terminateds"][b]:
            ahead = discount * float(batch["q_target_next"][b, action])
        targets.append(float(batch["rewards"][b]) + ahead)
        best.append(action)
    return targets, best


def summary(batch, losses, slopes, td_errors, mask):
    """Terms from each row's loss, and the gradient of the total by its slope."""
    rows = np.flatnonzero(mask)
    selected = [float(batch["q_values"][b, batch["actions"][b]]) for b in rows]
    terms = {
        "total": sum(batch["weights"][b] * losses[b] for b in rows) / len(rows),
        "td_error": [td_errors[b] if b in rows else 0.0 for b in range(6)],
        "q_selected_mean": sum(selected) / len(rows),
        "q_selected_min": min(selected),
        "q_selected_max": max(selected),
        "td_error_mean": sum(td_errors[b] for b in rows) / len(rows),
    }
    gradient = np.zeros((6, 3, *np.shape(slopes[0])))
    for b in rows:
        row = batch["weights"][b] * slopes[b] / len(rows)
        gradient[b, batch["actions"][b]] = row
    return terms, gradient


def oracle(batch, mask, double, loss_fn="huber"):
    """Terms and the gradient of the total with respect to `q_values`."""
    losses, slopes, td_errors = [], [], []
    for b, target in enumerate(row_targets(batch, double)[0]):
        error = float(batch["q_values"][b, batch["actions"][b]]) - target
        if loss_fn == "mse":
            loss, slope = error**2, 2.0 * error
        elif abs(error) <= 1.0:
            loss, slope = 0.5 * error**2, error
        else:
            loss, slope = abs(error) - 0.5, np.sign(error)
        losses.append(loss)
        slopes.append(slope)
        td_errors.append(abs(error))
    return summary(batch, losses, slopes, td_errors, mask)


def distributional_oracle(batch, mask, double):
    """Algorithm 1 of Bellemare et al. (2017), and the gradient of `q_logits`."""
    low, high = SUPPORT["v_min"], SUPPORT["v_max"]
    dz = (high - low) / (NUM_ATOMS - 1)
    losses, slopes = [], []
    for b, best in enumerate(row_targets(batch, double)[1]):
        m = np.zeros(NUM_ATOMS)
        discount = GAMMA ** float(batch["n_step"][b])
        for j in range(NUM_ATOMS):
            ahead = 0.0 if batch["terminateds"][b] else discount * (low + j * dz)
            place = (np.clip(batch["rewards"][b] + ahead, low, high) - low) / dz
            place = round(float(place), 5)  # Float32 misses whole numbers.
            lower, upper = int(np.floor(place)), int(np.ceil(place))
            mass = float(batch["q_target_next_probs"][b, best, j])
            if lower == upper:
                m[lower] += mass
            else:
                m[lower] += mass * (upper - place)
                m[upper] += mass * (place - lower)
        logits = np.float64(batch["q_logits"][b, batch["actions"][b]])
        probs = np.exp(logits) / np.exp(logits).sum()
        losses.append(-sum(m * np.log(probs)))
        slopes.append(probs - m)
    return summary(batch, losses, slopes, losses, mask)


@pytest.fixture
def batch():
    """Six rows chosen to take every branch: see `test_batch_takes_every_branch`."""
    return {
        "q_values": np.float32(
            [
                [0.5, 2.0, -1.0],
                [1.0, -2.0, 0.0],
                [3.0, FORBIDDEN, 0.5],
                [-0.25, 0.75, 1.5],
                [0.0, 0.1, 0.2],
                [1.0, 2.0, 3.0],
            ]
        ),
        "q_next": np.float32(
            [
                [1.0, 0.0, -1.0],
                [0.0, 0.5, 0.25],
                [FORBIDDEN, -3.0, -2.0],
                [1.0, 1.5, 2.0],
                [2.0, FORBIDDEN, 1.0],
                [0.5, 0.0, -0.5],
            ]
        ),
        "q_target_next": np.float32(
            [
                [0.8, 1.2, -0.4],
                [0.3, -0.6, 0.9],
                [FORBIDDEN, -1.0, -2.5],
                [0.2, 0.4, 1.1],
                [1.9, FORBIDDEN, 2.2],
                [0.6, 0.1, 0.3],
            ]
        ),
        "actions": np.array([0, 1, 2, 1, 0, 2]),
        "rewards": np.float32([-0.5, 1.0, 0.25, 2.0, 1.5, -4.0]),
        "terminateds": np.array([False, False, False, True, True, False]),
        "n_step": np.float32([1, 3, 2, 1, 2, 4]),
        "weights": np.float32([1.0, 0.5, 0.75, 1.0, 0.25, 0.6]),
    }


@pytest.fixture
def distributions(batch):
    """The same with distributions, whose values need not be their expectations."""
    rng = np.random.default_rng(3)
    logits, probs = rng.normal(size=(2, 6, 3, NUM_ATOMS)).astype(np.float32)
    probs = np.exp(probs) / np.exp(probs).sum(axis=-1, keepdims=True)
    return batch | {"q_logits": logits, "q_target_next_probs": probs}


def pick(batch, double):
    """The arguments of the loss; `q_next` makes it double Q-learning."""
    return batch if double else batch | {"q_next": None}


def with_gradients(function, settings):
    """Makes a function return its gradients too, of all that networks compute."""

    def run(**batch):
        inputs = {k: x for k, x in batch.items() if k[0] == "q" and x is not None}
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = function(**batch, **settings)
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
        assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("mask", MASKS)
def test_batch_takes_every_branch(batch, mask):
    """Guards the other tests: an oracle only sees what its inputs exercise."""
    targets, best = row_targets(batch, True)
    errors = batch["q_values"][np.arange(6), batch["actions"]] - targets
    assert {-1.0, 1.0} <= set(np.sign(errors[mask]))
    assert (np.abs(errors[mask]) < 1.0).any() and (np.abs(errors[mask]) > 1.0).any()
    assert {True, False} == set(batch["terminateds"][mask])
    # The online network's choice is another one than the target network's, and of
    # another value.
    simple, others = row_targets(batch, False)
    choices = np.not_equal(best, others) & ~batch["terminateds"] & mask
    assert choices.any() and np.not_equal(targets, simple)[choices].all()
    assert len(set(batch["n_step"][mask])) > 1
    assert len(set(batch["weights"][mask])) > 1


def test_atoms_move_to_every_kind_of_place(distributions):
    """Below, above, on an atom and in between."""
    discounts = GAMMA ** distributions["n_step"] * ~distributions["terminateds"]
    atoms = np.linspace(-2.0, 3.0, NUM_ATOMS)
    moved = distributions["rewards"][:, None] + discounts[:, None] * atoms
    assert (moved < -2.0).any() and (moved > 3.0).any()
    inside = moved[(moved > -2.0) & (moved < 3.0)]
    is_whole = np.isclose(inside, np.round(inside))
    assert is_whole.any() and not is_whole.all()


@pytest.mark.parametrize(("loss_fn", "double"), [("huber", True), ("mse", False)])
def test_terms_and_gradients_match_the_oracle(compiled, batch, loss_fn, double):
    settings = {"gamma": GAMMA, "td_error_loss_fn": loss_fn}
    function = compiled(with_gradients(dqn.dqn_loss, settings))
    for mask in MASKS:
        loss, gradients = function(**pick(batch, double), mask=np.array(mask))
        want, by_values = oracle(batch, mask, double, loss_fn)
        assert_terms(loss, want)
        assert_gradients(gradients, {"q_values": by_values})


@in_both_forms
def test_distributional_terms_and_gradients_match_the_oracle(
    compiled, distributions, double
):
    settings = {"gamma": GAMMA, **SUPPORT}
    function = compiled(with_gradients(dqn.distributional_dqn_loss, settings))
    for mask in MASKS:
        loss, gradients = function(**pick(distributions, double), mask=np.array(mask))
        want, by_logits = distributional_oracle(distributions, mask, double)
        assert_terms(loss, want)
        assert_gradients(gradients, {"q_logits": by_logits})


def test_without_a_mask_every_row_counts(batch, distributions):
    loss = dqn.dqn_loss(**batch, gamma=GAMMA)
    assert_close(loss.total, oracle(batch, MASKS[0], True)[0]["total"], rtol=1e-5)
    loss = dqn.distributional_dqn_loss(**distributions, gamma=GAMMA, **SUPPORT)
    want, _ = distributional_oracle(distributions, MASKS[0], True)
    assert_close(loss.total, want["total"], rtol=1e-5)


def spoil(batch, rows):
    """Puts what no formula survives in some rows."""
    for values in batch.values():
        if values.dtype == np.float32:
            values[rows] = np.nan
    batch["actions"][rows] = 99


@in_the_extreme_modes
def test_masked_rows_may_hold_anything(compiled, batch):
    mask = np.array(MASKS[1])
    want, want_gradient = oracle(batch, mask, True)
    spoil(batch, ~mask)
    function = compiled(with_gradients(dqn.dqn_loss, {"gamma": GAMMA}))
    loss, gradients = function(**batch, mask=mask)
    assert_terms(loss, want)
    assert_gradients(gradients, {"q_values": want_gradient})


@in_the_extreme_modes
def test_masked_rows_of_distributions_may_hold_anything(compiled, distributions):
    mask = np.array(MASKS[1])
    want, want_gradient = distributional_oracle(distributions, mask, True)
    spoil(distributions, ~mask)
    settings = {"gamma": GAMMA, **SUPPORT}
    function = compiled(with_gradients(dqn.distributional_dqn_loss, settings))
    loss, gradients = function(**distributions, mask=mask)
    assert_terms(loss, want)
    assert_gradients(gradients, {"q_logits": want_gradient})


def test_terminated_rows_may_say_anything_of_the_next_state(distributions):
    def both(q_logits, q_target_next_probs, **batch):
        simple = dqn.dqn_loss(**batch, gamma=GAMMA)
        batch |= {"q_logits": q_logits, "q_target_next_probs": q_target_next_probs}
        return simple, dqn.distributional_dqn_loss(**batch, gamma=GAMMA, **SUPPORT)

    want = both(**distributions)
    for name in ("q_target_next_probs", "q_target_next", "q_next"):
        distributions[name][distributions["terminateds"]] = np.nan
    for got, wanted in zip(both(**distributions), want):
        for x, y in zip(got, wanted):
            assert_close(x, y)


def test_a_batch_without_a_row_that_counts_is_harmless(batch, distributions):
    mask = np.zeros(6, bool)
    settings = {"gamma": GAMMA, **SUPPORT}
    for loss in (
        dqn.dqn_loss(**batch, mask=mask, gamma=GAMMA),
        dqn.distributional_dqn_loss(**distributions, mask=mask, **settings),
    ):
        for term in loss:
            assert_close(term, np.zeros(term.shape))


def test_projection_keeps_the_expectation_between_the_ends():
    """Mass moved to between two atoms keeps its mean (Bellemare et al., section 4)."""
    targets = dqn._project(
        np.float32([[0.1, 0.2, 0.3, 0.4]]), np.float32([[-1.0, 0.3, 1.7, 2.0]]), -1, 2
    )
    assert_close(np.sum(targets), 1.0)
    assert_close(targets @ np.float32([[-1], [0], [1], [2]]), [[1.27]], rtol=1e-6)


def test_sequences_are_averaged_over_all_steps(distributions):
    mask = np.array(MASKS[1])
    flat = dqn.distributional_dqn_loss(
        **distributions, mask=mask, gamma=GAMMA, **SUPPORT
    )
    sequences = {k: x.reshape(2, 3, *x.shape[1:]) for k, x in distributions.items()}
    loss = dqn.distributional_dqn_loss(
        **sequences, mask=mask.reshape(2, 3), gamma=GAMMA, **SUPPORT
    )
    assert_close(loss.total, flat.total)
    assert_close(loss.td_error, np.reshape(flat.td_error, (2, 3)))


@pytest.mark.parametrize("name", [*PER_ROW[:1], *PER_ROW[2:], "mask"])
def test_column_vector_is_rejected(batch, distributions, name):
    for inputs, function, settings in (
        (batch, dqn.dqn_loss, {}),
        (distributions, dqn.distributional_dqn_loss, SUPPORT),
    ):
        inputs = inputs | {"mask": np.ones(6, bool)}
        inputs[name] = inputs[name][:, None]
        with pytest.raises(ValueError, match=rf"`{name}` has shape \(6, 1\).*\(6,\)"):
            function(**inputs, gamma=GAMMA, **settings)


@pytest.mark.parametrize("name", ["q_next", "q_target_next"])
def test_values_of_other_actions_are_rejected(batch, name):
    batch[name] = batch[name][:, :2]
    with pytest.raises(ValueError, match=rf"`{name}` has shape \(6, 2\).*\(6, 3\)"):
        dqn.dqn_loss(**batch, gamma=GAMMA)


def test_distributions_over_other_atoms_are_rejected(distributions):
    distributions["q_target_next_probs"] = distributions["q_logits"][..., :2]
    with pytest.raises(ValueError, match=r"\(6, 3, 2\).*\(6, 3, 6\)"):
        dqn.distributional_dqn_loss(**distributions, gamma=GAMMA, **SUPPORT)
