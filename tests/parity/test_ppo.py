"""Updates of PPO against those of RLlib's torch learner, step by step."""

import json
import pathlib

import numpy as np
import pytest

RECORDED = json.loads((pathlib.Path(__file__).parent / "data/ppo.json").read_text())
CASES = RECORDED["cases"]
SHORT = ("discrete_minibatches", "two_modules")  # Traced in every run.


class Case:
    """One recorded case: its settings and its arrays."""

    def __init__(self, name, arrays):
        self.settings = CASES[name]
        self.module_ids = list(self.settings["modules"])
        prefix = f"{name}/"
        self.arrays = {
            key.removeprefix(prefix): array
            for key, array in arrays.items()
            if key.startswith(prefix)
        }

    @property
    def first_weights(self):
        return {mid: self.arrays[f"{mid}/weights"][0] for mid in self.module_ids}

    def batch(self):
        batch = {}
        for key, array in self.arrays.items():
            mid, kind, *path = key.split("/")
            if kind == "batch":
                branch = batch.setdefault(mid, {})
                for name in path[:-1]:
                    branch = branch.setdefault(name, {})
                # States of torch have an axis for layers.
                branch[path[-1]] = array[:, 0] if path[0] == "state_in" else array
        return batch

    def updates(self, learner):
        """Runs the recorded updates; yields results and the number of steps so far."""
        num_steps = 0
        counts = self.settings["steps_per_update"]
        for update, count in zip(self.settings["updates"], counts, strict=True):
            arguments = dict(update)
            now = {"num_env_steps_sampled_lifetime": arguments.pop("timestep")}
            results = learner.update_from_batch(
                self.batch(), timesteps=now, **arguments
            )
            num_steps += count
            yield results, num_steps


@pytest.fixture(scope="module")
def case(load):
    """Returns a function from the name of a case to the case."""
    arrays = load("ppo.npz")
    return lambda name: Case(name, arrays)


@pytest.fixture
def assert_results(assert_parity):
    """Returns a function that compares what an update reports.

    These are the loss terms of its last step, and what follows from them.
    """

    def compare(case, index, num_steps, results):
        for mid in case.module_ids:
            terms = case.arrays[f"{mid}/terms"][num_steps - 1]
            after = case.arrays[f"{mid}/after"][index]
            names = RECORDED["terms"] + RECORDED["after"]
            for name, recorded in zip(names, [*terms, *after], strict=True):
                if np.isnan(recorded) or not is_comparable(name, case.settings):
                    continue
                ours = results[mid][name]
                if name == "vf_explained_var":
                    # Computed as 1 - x; near 0 no digit of x would be left.
                    ours, recorded = 1.0 - ours, 1.0 - recorded
                assert_parity(ours, recorded, f"{name} of {mid} in update {index}")

    return compare


def is_comparable(name, settings):
    """Whether RLlib reports the same as we do; tests below hold the differences."""
    if name == "mean_kl_loss":
        return settings["training"].get("use_kl_loss", True)
    has_masks = settings["masked"] or settings["steps"] is not None
    return name != "vf_explained_var" or not has_masks


@pytest.fixture
def assert_weights(assert_parity, in_our_form):
    """Returns a function that compares a learner's weights after some steps."""

    def compare(case, num_steps, learner):
        for mid, parameters in case.settings["parameters"].items():
            recorded = in_our_form(case.arrays[f"{mid}/weights"][num_steps], parameters)
            ours = learner.get_parameters(learner.module[mid])
            for x, (name, y) in zip(ours, recorded.items(), strict=True):
                assert_parity(x.numpy(), y, f"{mid}'s {name} after {num_steps} steps")

    return compare


# The numbers are the same.


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_that_of_rllib(
    name, case, make_learner, assert_results, assert_parity, in_our_form
):
    case = case(name)
    learner = make_learner(case.settings, case.first_weights, run_eagerly=True)
    for index, (results, num_steps) in enumerate(case.updates(learner)):
        assert_results(case, index, num_steps, results)
        assert len(learner.steps) == num_steps
    for index, step in enumerate(learner.steps):
        for mid, parameters in case.settings["parameters"].items():
            for kind in ("gradients", "clipped", "weights"):
                at = index + (kind == "weights")  # The first weights are the initial.
                recorded = in_our_form(case.arrays[f"{mid}/{kind}"][at], parameters)
                ours = learner.by_parameter(step[kind], mid)
                for x, (parameter, y) in zip(ours, recorded.items(), strict=True):
                    assert_parity(x, y, f"{kind} of {mid}'s {parameter}, step {index}")


def check_whole_updates(case, learner, assert_results, assert_weights):
    for index, (results, num_steps) in enumerate(case.updates(learner)):
        assert_results(case, index, num_steps, results)
        assert_weights(case, num_steps, learner)


@pytest.mark.parametrize("name", SHORT)
def test_traced_updates_are_those_of_rllib(
    name, case, make_learner, assert_results, assert_weights
):
    case = case(name)
    learner = make_learner(case.settings, case.first_weights)
    check_whole_updates(case, learner, assert_results, assert_weights)
    assert learner.num_traces == 1


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_compiled_updates_are_those_of_rllib(
    name, jit_compile, case, make_learner, assert_results, assert_weights
):
    case = case(name)
    learner = make_learner(case.settings, case.first_weights, jit_compile=jit_compile)
    check_whole_updates(case, learner, assert_results, assert_weights)


# Where they are not, on purpose.


def test_norm_before_clipping_is_reported_however_gradients_are_clipped(
    case, make_learner, assert_parity
):
    """RLlib reports it for clipping by global norm alone."""
    case = case("discrete_by_value")
    learner = make_learner(case.settings, case.first_weights, run_eagerly=True)
    name = "gradients_default_optimizer_global_norm"
    for results, num_steps in case.updates(learner):
        gradients = case.arrays["default_policy/gradients"][num_steps - 1]
        assert_parity(results["default_policy"][name], np.linalg.norm(gradients))


def test_explained_variance_leaves_masked_rows_out(case, make_learner):
    """RLlib's takes them in."""
    case = case("discrete_masked")
    batch = case.batch()["default_policy"]
    rows = batch["loss_mask"]
    shares = []
    for own in (batch, {column: values[rows] for column, values in batch.items()}):
        learner = make_learner(case.settings, case.first_weights, run_eagerly=True)
        results = learner.update_from_batch(own)
        shares.append(results["default_policy"]["vf_explained_var"])
    recorded = case.arrays["default_policy/terms"][0]
    rllibs = recorded[RECORDED["terms"].index("vf_explained_var")]
    assert shares[0] == pytest.approx(shares[1], rel=1e-5)
    assert shares[0] != pytest.approx(rllibs, abs=1e-3)


def test_kl_divergence_is_reported_even_where_it_is_not_used(case, make_learner):
    """RLlib reports 0 then."""
    case = case("discrete_kl_off")
    learner = make_learner(case.settings, case.first_weights, run_eagerly=True)
    results, _ = next(case.updates(learner))
    recorded = case.arrays["default_policy/terms"][0]
    assert recorded[RECORDED["terms"].index("mean_kl_loss")] == 0.0
    assert results["default_policy"]["mean_kl_loss"] > 0.01


# The recordings see what they should.


def test_recordings_take_every_branch(case):
    """Guards the other tests: they only see what the recorded inputs exercise."""
    terms = RECORDED["terms"]
    kl_factors, is_clipped, is_value_clipped = set(), {}, set()
    for name, settings in CASES.items():
        own = case(name)
        for mid in own.module_ids:
            training = settings["training"] | settings["modules"][mid]["overrides"]
            arrays = own.arrays
            after = arrays[f"{mid}/after"][:, 0]
            coefficients = np.append(training["kl_coeff"], after)
            kl_factors |= set(np.round(coefficients[1:] / coefficients[:-1], 4))
            how = training.get("grad_clip_by") if "grad_clip" in training else None
            clipped = (arrays[f"{mid}/gradients"] != arrays[f"{mid}/clipped"]).any()
            is_clipped.setdefault(how, set()).add(bool(clipped))
            vf_loss = arrays[f"{mid}/terms"][:, terms.index("vf_loss")]
            unclipped = arrays[f"{mid}/terms"][:, terms.index("vf_loss_unclipped")]
            is_value_clipped |= set(vf_loss < unclipped)
    assert kl_factors >= {0.5, 1.0, 1.5}
    assert is_clipped[None] == {False}
    assert is_clipped["value"] == is_clipped["norm"] == {True}
    assert is_clipped["global_norm"] == {True, False}
    assert is_value_clipped == {True, False}


def test_probability_ratios_leave_the_clip_on_both_sides(case, make_learner):
    case = case("discrete")
    learner = make_learner(case.settings, case.first_weights, run_eagerly=True)
    module, batch = learner.module["default_policy"], case.batch()["default_policy"]
    inputs = module.forward_train(batch)["action_dist_inputs"].numpy()
    logp = module.get_train_action_dist_cls().logp_np(inputs, batch["actions"])
    ratio, advantages = np.exp(logp - batch["action_logp"]), batch["advantages"]
    for rows in (advantages > 0.0, advantages < 0.0):
        assert (ratio[rows] < 0.8).any() and (ratio[rows] > 1.2).any()
        assert ((ratio[rows] > 0.8) & (ratio[rows] < 1.2)).any()
