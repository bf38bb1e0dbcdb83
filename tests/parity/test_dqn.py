"""Updates of DQN against those of RLlib's torch learner, step by step."""

import json
import pathlib

import pytest

ALGORITHM = "dqn"
RECORDED = json.loads((pathlib.Path(__file__).parent / "data/dqn.json").read_text())
CASES = RECORDED["cases"]
SHORT = ("distributional_double", "two_modules")  # Traced in every run.


def is_comparable(name, case, module_id):
    """Whether RLlib reports the same as we do; tests below hold the differences."""
    if name == "last_target_update_ts":
        return case.training(module_id)["target_network_update_freq"] > 0
    return True


# The numbers are the same.


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_that_of_rllib(name, case, start, assert_updates, assert_steps):
    case = case(name)
    learner = start(case, run_eagerly=True)
    assert_updates(case, learner)
    assert len(learner.steps) == len(case.settings["updates"])
    assert_steps(case, learner)


@pytest.mark.parametrize("name", SHORT)
def test_traced_updates_are_those_of_rllib(name, case, start, assert_updates):
    case = case(name)
    learner = start(case)
    assert_updates(case, learner)
    assert learner.num_traces == 1


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_compiled_updates_are_those_of_rllib(
    name, jit_compile, case, start, assert_updates
):
    case = case(name)
    assert_updates(case, start(case, jit_compile=jit_compile))
