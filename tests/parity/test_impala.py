"""Where updates of IMPALA differ from RLlib's, and what its recordings show."""

import numpy as np

ALGORITHM = "impala"
CERTAIN = 80.0


# Where numbers differ, on purpose.


def test_the_row_that_closes_a_trajectory_has_no_importance_weight(
    cases, start, assert_parity
):
    """RLlib gives it that of its repeated action: here the recordings make it 0.

    With a weight of 1, RLlib's target of that row is 0, as if the episode had terminated.
    """
    case = cases["discrete"]
    batch = case.batch()["default_policy"]
    rows = ~batch["loss_mask"]
    assert (batch["action_logp"][rows] == CERTAIN).all()
    usual = batch | {"action_logp": np.where(rows, -1.0, batch["action_logp"])}
    losses = []
    for own in (batch, usual):
        learner = start(case, run_eagerly=True)
        losses.append(learner.update_from_batch(own)["default_policy"]["total_loss"])
    assert losses[0] == losses[1]
    assert_parity(losses[0], case.term("total_loss")[0])


def test_entropy_coefficients_are_those_of_the_update(cases, start, assert_parity):
    """RLlib moves them before an update, unlike PPO's."""
    case = cases["discrete_schedules"]
    learner = start(case, run_eagerly=True)
    found = [
        results["default_policy"]["curr_entropy_coeff"]
        for results, _ in case.updates(learner)
    ]
    assert_parity(found, [0.4, 0.3, 0.2])


# The recordings see what they should.


def test_recordings_take_every_branch(cases, start):
    """Guards the other tests: they only see what the recorded inputs exercise."""
    case = cases["discrete"]
    learner = start(case, run_eagerly=True)
    module, batch = learner.module["default_policy"], case.batch()["default_policy"]
    rows = batch["loss_mask"]
    inputs = module.forward_train({"obs": batch["obs"][rows]})["action_dist_inputs"]
    dist_class = module.get_train_action_dist_cls()
    logp = dist_class.logp_np(inputs.numpy(), batch["actions"][rows])
    ratios = np.exp(logp - batch["action_logp"][rows])
    for bound in (0.4, 0.6, 1.0):
        assert (ratios < bound).any() and (ratios > bound).any()
    assert batch["terminateds"].any()
    amid = rows[:, :-2] & ~rows[:, 1:-1] & rows[:, 2:]
    assert amid.any(), "an episode that begins behind another one's closing row"
