"""A module whose loss is not finite changes neither itself nor another."""

import numpy as np
import tree

SICK, WELL = "sick", "well"


def by_module(learner):
    """Returns {module id: weights and the state of optimizers}."""
    state = learner.get_state(("rl_module", "optimizer"))
    parts = state["rl_module"], state["optimizer"]
    return {mid: [part[mid] for part in parts] for mid in (WELL, SICK)}


def trained(row, *, poisoned):
    """Returns weights and optimizers before and after an update, and its results."""
    learner = row.learner(policies=[WELL, SICK])
    if poisoned:
        # Of an output layer: what fuses a layer with its ReLU makes zeros of NaN.
        variable = learner.module[SICK].trainable_variables[-1]
        variable.assign(np.full(variable.shape, np.nan, np.float32))
    before = by_module(learner)
    results = row.train(learner)
    # 24 rows are three minibatches, or four where they are cut into sequences.
    results["wanted"] = 4 if learner.module[SICK].is_stateful() else 3
    return before, by_module(learner), results


def test_a_sick_module_stays_as_it_was_and_alone(eager_or_traced):
    row = eager_or_traced
    _, healthy, _ = trained(row, poisoned=False)
    before, after, results = trained(row, poisoned=True)
    equal = np.testing.assert_array_equal
    tree.map_structure(equal, after[SICK], before[SICK])
    tree.map_structure(equal, after[WELL], healthy[WELL])
    assert results[SICK]["num_non_finite_updates_lifetime"] == results["wanted"]
    assert "num_non_finite_updates_lifetime" not in results[WELL] or (
        results[WELL]["num_non_finite_updates_lifetime"] == 0
    )
