"""Line by line, traced and under XLA an update gives the same result."""

import numpy as np
import pytest
import tree

MODES = {"traced": {}, "xla": {"jit_compile": True}}


def trained(row, **settings):
    """Returns a learner after two updates, its weights and the last loss."""
    learner = row.learner(**settings)
    for _ in range(2):
        results = row.train(learner)
    weights = learner.get_state("rl_module")["rl_module"]
    return learner, weights, results["default_policy"]["total_loss"]


@pytest.fixture(scope="module")
def line_by_line(row):
    """Weights and loss that each mode has to reach."""
    return trained(row, run_eagerly=True)[1:]


@pytest.mark.parametrize(
    "mode", ["traced", pytest.param("xla", marks=pytest.mark.deep)]
)
def test_result_is_that_of_a_line_by_line_update(row, line_by_line, mode):
    learner, weights, loss = trained(row, **MODES[mode])
    if mode == "xla":
        assert learner.num_compilations > 0
    wanted, wanted_loss = line_by_line
    tree.map_structure(lambda a, b: assert_near(a, b, row.tolerance), weights, wanted)
    np.testing.assert_allclose(loss, wanted_loss, rtol=1e-4)


def assert_near(weight, wanted, tolerance):
    np.testing.assert_allclose(
        weight, wanted, rtol=0, atol=tolerance * max(1.0, np.abs(wanted).max())
    )
