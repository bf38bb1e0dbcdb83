"""Updates against those of RLlib's torch learners, step by step."""

import json
import pathlib

import pytest

from tflearner.algorithms.sac import SACTfLearner

DATA = pathlib.Path(__file__).parent / "data"
NAMES = {
    algorithm: [*json.loads((DATA / f"{algorithm}.json").read_text())["cases"]]
    for algorithm in ("ppo", "dqn", "sac", "bc", "marwil", "impala")
}
# Cases that are traced: the first ones in the plain run, the second ones in the deep tier.
TRACED = {
    "ppo": ["discrete_minibatches", "two_modules"],
    "dqn": ["distributional_double", "two_modules"],
    "sac": ["discrete", "two_modules"],
    "bc": ["discrete_minibatches"],
    "marwil": ["discrete_minibatches", "two_modules"],
    "impala": ["discrete", "two_modules"],
}
# Cases that run the lines of others, on other numbers: in the deep part of a run.
VARIATIONS = {
    "ppo": (
        *("discrete_kl_is_high", "discrete_kl_is_low", "discrete_masked_kl_off"),
        *("discrete_three_layers", "discrete_separate_relu", "discrete_wide_clips"),
        *("discrete_below_global_norm", "discrete_epochs", "box_separate"),
        *("box_masked_kl_off", "box_by_value", "box_by_norm", "box_by_global_norm"),
    ),
    "dqn": (
        *("dueling", "double", "mse_masked", "unweighted", "many_steps"),
        *("two_layers_relu", "soft_target_at_times", "no_target_update"),
        *("below_global_norm", "distributional"),
    ),
    "sac": (
        *("box_one_action", "box_low_alpha", "box_high_alpha", "box_target_entropy"),
        *("box_unweighted", "box_many_steps", "box_two_layers_relu", "box_by_norm"),
        *("discrete_two_layers_relu", "discrete_low_alpha"),
    ),
    "bc": ("discrete", "discrete_masked", "box_by_norm"),
    "marwil": (
        *("discrete_shared", "discrete_low_beta", "discrete_masked", "box_masked"),
        *("discrete_by_global_norm", "box_free_log_std"),
    ),
    "impala": (
        *("discrete_separate", "discrete_wide_clips", "discrete_tight_clips"),
        *("discrete_by_global_norm", "box_separate", "box_lstm"),
    ),
}


def params(names, is_deep):
    return [
        pytest.param(
            algorithm, name, marks=[pytest.mark.deep] * is_deep(algorithm, name)
        )
        for algorithm, own in names.items()
        for name in own
    ]


class FourOptimizers(SACTfLearner):
    """Has an optimizer for each critic, as RLlib does, so that each is clipped alone."""

    def register_optimizer(self, *, optimizer_name, optimizer, params, **kwargs):
        parts = {optimizer_name: params}
        if optimizer_name == "qf":
            half = len(params) // 2
            parts = {"qf": params[:half], "qf_twin": params[half:]}
        for name, own in parts.items():
            super().register_optimizer(
                optimizer_name=name,
                optimizer=type(optimizer)(),
                params=own,
                **kwargs,
            )


def clips_critics(case):
    """Whether gradients of two critics are clipped by their global norm."""
    return any(
        training.get("grad_clip") is not None
        and training["grad_clip_by"] == "global_norm"
        and training.get("twin_q", False)
        for training in map(case.training, case.module_ids)
    )


@pytest.fixture
def case(recorded_cases, algorithm, name):
    """The case of the parameters `algorithm` and `name`."""
    return recorded_cases(algorithm)[name]


@pytest.fixture
def start_case(start, case):
    """Returns a function from how to run to a learner at the start of the case."""
    base = FourOptimizers if clips_critics(case) else None
    return lambda **how: start(case, base=base, **how)


@pytest.mark.parametrize(
    ("algorithm", "name"),
    params(NAMES, lambda algorithm, name: name in VARIATIONS[algorithm]),
)
def test_every_step_is_that_of_rllib(case, start_case, assert_updates, assert_steps):
    learner = start_case(run_eagerly=True)
    assert_updates(case, learner)
    assert len(learner.steps) == sum(case.settings["steps_per_update"])
    assert_steps(case, learner)


@pytest.mark.parametrize(
    ("algorithm", "name"), params(TRACED, lambda _, name: name == "two_modules")
)
def test_traced_updates_are_those_of_rllib(case, start_case, assert_updates):
    learner = start_case()
    assert_updates(case, learner)
    assert learner.num_traces == 1


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(("algorithm", "name"), params(NAMES, lambda *_: False))
def test_compiled_updates_are_those_of_rllib(
    case, start_case, assert_updates, jit_compile
):
    assert_updates(case, start_case(jit_compile=jit_compile))
