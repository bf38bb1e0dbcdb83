"""Where updates of SAC differ from RLlib's, and what its recordings show."""

import numpy as np
import pytest

ALGORITHM = "sac"


# Where numbers differ, on purpose.


@pytest.mark.parametrize("name", ["box_by_global_norm", "discrete_by_global_norm"])
def test_gradients_of_both_critics_are_clipped_together(
    name, cases, start, assert_parity, in_our_form
):
    """RLlib has an optimizer for each critic and clips each alone."""
    case = cases[name]
    learner = start(case, run_eagerly=True)
    results, _ = next(case.updates(learner))
    parameters = case.settings["parameters"]["default_policy"]
    before, rllibs = (
        in_our_form(case.arrays[f"default_policy/{kind}"][0], parameters)
        for kind in ("gradients", "clipped")
    )
    of_critics = [p for p in before if p.startswith("qf")]
    norm = np.sqrt(sum((before[p] ** 2).sum() for p in of_critics))
    bound = case.training("default_policy")["grad_clip"]
    assert norm > bound
    reported = results["default_policy"]
    assert_parity(reported["gradients_qf_global_norm"], norm)
    assert "gradients_qf_twin_global_norm" not in reported
    ours = learner.by_parameter(learner.steps[0]["clipped"], "default_policy")
    for x, p in zip(ours, before, strict=True):
        wanted = before[p] * bound / norm if p in of_critics else rllibs[p]
        assert_parity(x, wanted, p)


@pytest.mark.parametrize("name", ["box", "discrete"])
def test_reported_values_are_those_of_the_actions_taken(
    name, cases, start, assert_parity
):
    """RLlib's are of actions drawn anew by the lower critic, or of all actions."""
    case = cases[name]
    learner, batch = start(case, run_eagerly=True), case.batch()["default_policy"]
    outputs = learner.module["default_policy"].forward_train(batch)
    values = outputs["qf_preds"].numpy()
    rllibs = outputs["q_curr"].numpy() if name == "box" else values
    if name == "discrete":
        values = values[np.arange(len(values)), batch["actions"]]
    results, _ = next(case.updates(learner))
    for reduce in ("mean", "min", "max"):
        ours = results["default_policy"][f"qf_{reduce}"]
        assert_parity(ours, getattr(values, reduce)())
        assert_parity(case.term(f"qf_{reduce}")[0], getattr(rllibs, reduce)())


def test_log_probability_of_discrete_actions_is_their_expectation(
    cases, start, assert_parity
):
    """RLlib reports the mean over all actions, however probable they are."""
    case = cases["discrete"]
    learner, batch = start(case, run_eagerly=True), case.batch()["default_policy"]
    outputs = learner.module["default_policy"].forward_train(batch)
    log_probs = outputs["action_log_probs"].numpy()
    results, _ = next(case.updates(learner))
    expectation = (np.exp(log_probs) * log_probs).sum(axis=-1).mean()
    assert_parity(results["default_policy"]["logps"], expectation)
    assert_parity(case.term("logps")[0], log_probs.mean())


def test_target_entropy_of_discrete_actions_can_be_reached(cases, start):
    """RLlib's is -1, and no entropy of discrete actions is negative."""
    case = cases["discrete"]
    learner = start(case, run_eagerly=True, target_entropy="auto")
    results, _ = next(case.updates(learner))
    target_entropy = results["default_policy"]["target_entropy"]
    assert target_entropy == pytest.approx(0.98 * np.log(3))


@pytest.mark.parametrize("name", ["box", "discrete"])
def test_masked_rows_are_left_out(name, cases, start, assert_masked_rows_are_left_out):
    """RLlib takes them in."""
    case = cases[name]
    batch = case.batch()["default_policy"]
    assert_masked_rows_are_left_out(lambda: start(case, run_eagerly=True), batch)


# The recordings see what they should.


def test_recordings_take_every_branch(cases):
    """Guards the other tests: they only see what the recorded inputs exercise."""
    is_clipped, moves, is_linear, exceeds = {}, set(), set(), {}
    is_truncated, alpha_rises = set(), set()
    for own in cases.values():
        for mid in own.module_ids:
            arrays = own.arrays
            how, clipped = own.clipping(mid)
            is_clipped.setdefault(how, set()).update(clipped.tolist())
            for part in ("policy", "qf", "qf_twin", "alpha"):
                column = own.after.index(f"gradients_{part}_global_norm")
                # NaN where gradients are not clipped by it.
                norms = arrays[f"{mid}/after"][:, column]
                norms, bound = norms[~np.isnan(norms)], own.training(mid)["grad_clip"]
                exceeds.setdefault(part, set()).update(n > bound for n in norms)
            moves |= {*own.moves_of_targets(mid)}
            is_linear |= {*(arrays[f"{mid}/td_errors"] > 1.0).ravel().tolist()}
            slopes = arrays[f"{mid}/gradients"][:, -1]  # Of log_alpha.
            alpha_rises |= {*(slopes < 0.0).tolist()}
            assert {*arrays[f"{mid}/batch/terminateds"]} == {True, False}
            is_truncated |= {*arrays[f"{mid}/batch/truncateds"].tolist()}
            steps = range(1, own.settings["max_n_step"] + 1)
            assert {*arrays[f"{mid}/batch/n_step"]} == {*steps}
    assert is_clipped[None] == {False}
    assert is_clipped["value"] == is_clipped["norm"] == {True}
    assert exceeds["qf"] == exceeds["alpha"] == {True, False}
    assert exceeds["policy"] == exceeds["qf_twin"] == {True}
    assert moves == {"stay", "copied", "follow"}
    assert is_linear == is_truncated == alpha_rises == {True, False}


def test_log_standard_deviations_fall_on_every_side_of_their_bounds(cases, start):
    case = cases["box_beyond_log_std_bounds"]
    module = start(case, run_eagerly=True).module["default_policy"]
    batch = case.batch()["default_policy"]
    for name in ("obs", "new_obs"):
        outputs = module.pi(module.pi_encoder(batch[name])).numpy()
        log_stds = outputs[:, outputs.shape[1] // 2 :]
        assert (log_stds < -5.0).any() and (log_stds > 2.0).any()
        assert ((log_stds > -5.0) & (log_stds < 2.0)).any()


def test_actions_are_saturated_and_not(cases, start):
    case = cases["box_saturated"]
    module = start(case, run_eagerly=True).module["default_policy"]
    batch = case.batch()["default_policy"]
    inputs = module.forward_train(batch)["action_dist_inputs"].numpy()
    means, log_stds = np.split(inputs, 2, axis=-1)
    drawn = np.abs(np.tanh(means + np.exp(log_stds) * batch["noise"]))
    assert (drawn == 1.0).any() and (drawn < 0.8).any()


@pytest.mark.parametrize("name", ["box", "discrete"])
def test_either_critic_is_the_lower_one(name, cases, start):
    case = cases[name]
    module = start(case, run_eagerly=True).module["default_policy"]
    outputs = module.forward_train(case.batch()["default_policy"])
    is_lower = outputs["qf_preds"].numpy() < outputs["qf_twin_preds"].numpy()
    assert {*is_lower.ravel().tolist()} == {True, False}
