"""Line by line, traced and under XLA an update gives the same result."""

import numpy as np
import pytest
import tree

MODES = {
    "traced": {"jit_compile": False},
    "xla": {"jit_compile": True},
}


@pytest.mark.parametrize("mode", MODES)
def test_result_is_that_of_a_line_by_line_update(row, mode):
    results, weights = [], []
    for settings in ({"run_eagerly": True}, MODES[mode]):
        learner = row.make_learner(**settings)
        batch = row.make_batches(learner)
        for _ in range(2):
            results.append(
                learner.update_from_batch(
                    batch, minibatch_size=12, shuffle_batch_per_epoch=True
                )
            )
        if mode == "xla" and not learner.config.run_eagerly:
            assert learner.num_compilations > 0
        weights.append(learner.get_state("rl_module")["rl_module"])
    tree.map_structure(lambda a, b: assert_near(a, b, row.tolerance), *weights)
    mine, wanted = (r["default_policy"]["total_loss"] for r in results[1::2])
    np.testing.assert_allclose(mine, wanted, rtol=1e-4)


def assert_near(weight, wanted, tolerance):
    np.testing.assert_allclose(
        weight, wanted, rtol=0, atol=tolerance * max(1.0, np.abs(wanted).max())
    )
