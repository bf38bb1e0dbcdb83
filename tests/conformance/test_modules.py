"""Modules come and go, and the others never notice."""

import numpy as np
import pytest
import tree

from tflearner.errors import UnknownModuleError

ME, OTHER = "default_policy", "other"


def state(learner):
    """Returns the weights and the state of optimizers, each by module."""
    state = learner.get_state(("rl_module", "optimizer"))
    return state["rl_module"], state["optimizer"]


@pytest.fixture(scope="module")
def joined(eager_or_traced):
    """The learner that other modules join."""
    return eager_or_traced.make_learner()


def test_a_module_that_comes_and_goes_changes_no_other(eager_or_traced, joined):
    row = eager_or_traced
    alone = row.learner()
    for step in range(3):
        batches = row.make_batches(alone, seed=step)
        row.train(alone, batches=batches)
        if step == 1:
            spec = joined.config.get_multi_rl_module_spec().by_id()[ME]
            joined.add_module(module_id=OTHER, module_spec=spec)
            more = row.make_batch(joined.module[OTHER], 24, seed=9)
            before = state(joined)[0][OTHER]
            results = row.train(joined, batches=batches | {OTHER: more})
            assert np.isfinite(results[OTHER]["total_loss"])
            after = state(joined)[0][OTHER]
            assert any((before[key] != after[key]).any() for key in before)
            joined.remove_module(OTHER)
        else:
            row.train(joined, batches=batches)
    assert [*joined.module] == [ME]
    tree.map_structure(np.testing.assert_array_equal, state(joined), state(alone))


def test_a_module_that_is_gone_is_unknown(joined):
    spec = joined.config.get_multi_rl_module_spec().by_id()[ME]
    joined.add_module(module_id=OTHER, module_spec=spec)
    joined.remove_module(OTHER)
    with pytest.raises(UnknownModuleError, match=OTHER):
        joined.module[OTHER]
