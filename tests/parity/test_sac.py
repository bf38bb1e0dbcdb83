"""Updates of SAC against those of RLlib's torch learner, step by step."""

import json
import pathlib

import pytest

from tflearner.algorithms.sac import SACTfLearner

ALGORITHM = "sac"
RECORDED = json.loads((pathlib.Path(__file__).parent / "data/sac.json").read_text())
CASES = RECORDED["cases"]
SHORT = ("discrete", "two_modules")  # Traced in every run.


def is_comparable(name, case, module_id):
    """Whether RLlib reports the same as we do; tests below hold the differences."""
    if name == "last_target_update_ts":
        return case.training(module_id)["target_network_update_freq"] > 0
    if name == "logps":
        return case.settings["action"][0] == "box"
    return name not in ("qf_mean", "qf_min", "qf_max")


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


@pytest.fixture
def start_as_rllib(start):
    """Returns `start` with an optimizer for each critic where they are clipped."""

    def make(case, **how):
        base = FourOptimizers if clips_critics(case) else None
        return start(case, base=base, **how)

    return make


def clips_critics(case):
    """Whether gradients of two critics are clipped by their global norm."""
    return any(
        training["grad_clip"] is not None
        and training["grad_clip_by"] == "global_norm"
        and training["twin_q"]
        for training in map(case.training, case.module_ids)
    )


# The numbers are the same.


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_that_of_rllib(
    name, case, start_as_rllib, assert_updates, assert_steps
):
    case = case(name)
    learner = start_as_rllib(case, run_eagerly=True)
    assert_updates(case, learner)
    assert len(learner.steps) == len(case.settings["updates"])
    assert_steps(case, learner)


@pytest.mark.parametrize("name", SHORT)
def test_traced_updates_are_those_of_rllib(name, case, start_as_rllib, assert_updates):
    case = case(name)
    learner = start_as_rllib(case)
    assert_updates(case, learner)
    assert learner.num_traces == 1


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_compiled_updates_are_those_of_rllib(
    name, jit_compile, case, start_as_rllib, assert_updates
):
    case = case(name)
    assert_updates(case, start_as_rllib(case, jit_compile=jit_compile))
