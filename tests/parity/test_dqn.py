"""Where updates of DQN differ from RLlib's, and what its recordings show."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.modules.dqn import DQNTfRLModule
from tflearner.modules.rl_module_spec import RLModuleSpec

ALGORITHM = "dqn"


# Where numbers differ, on purpose.


def test_errors_of_masked_rows_are_zero(cases, start):
    """RLlib tells them, too, and priorities are made of them."""
    case = cases["masked"]
    learner = start(case, run_eagerly=True)
    next(case.updates(learner))
    masked = ~case.arrays["default_policy/batch/loss_mask"]
    (errors,) = learner.row_outputs["default_policy", "td_error"]
    assert (case.arrays["default_policy/td_errors"][0, masked] > 1.0).all()
    assert (errors[masked] == 0.0).all()


def test_masked_rows_of_distributions_are_left_out(
    cases, start, assert_masked_rows_are_left_out
):
    """RLlib's loss takes them in."""
    case = cases["distributional_double"]
    batch = case.batch()["default_policy"]
    assert_masked_rows_are_left_out(lambda: start(case, run_eagerly=True), batch)


def test_dueling_distributions_are_centred_over_actions(assert_parity):
    """RLlib centres over atoms, so that the value head has no influence.

    Wang et al. (2016), equation (9), for each atom.
    """
    spec = RLModuleSpec(
        module_class=DQNTfRLModule,
        observation_space=gym.spaces.Box(-1.0, 1.0, (4,), np.float32),
        action_space=gym.spaces.Discrete(3),
        model_config={"fcnet_hiddens": [6], "dueling": True, "num_atoms": 5},
    )
    module, rng = spec.build(), np.random.default_rng(0)
    for parameter in module.trainable_variables:
        parameter.assign(rng.normal(0.0, 0.5, parameter.shape))
    observations = rng.normal(size=(7, 4)).astype(np.float32)
    embedding = module.encoder(observations)
    advantages = module.af(embedding).numpy().reshape(7, 3, 5)
    values = module.vf(embedding).numpy()
    wanted = np.zeros((7, 3, 5))
    for row, action, atom in np.ndindex(*wanted.shape):
        mean = sum(advantages[row, other, atom] for other in range(3)) / 3
        advantage = advantages[row, action, atom] - mean
        wanted[row, action, atom] = values[row, atom] + advantage
    ours = module.compute_q_values({"obs": observations})
    assert_parity(ours["qf_logits"], wanted)
    softmax = np.exp(wanted) / np.exp(wanted).sum(axis=-1, keepdims=True)
    assert_parity(ours["qf_probs"], softmax)


def test_time_of_soft_target_updates_is_not_reported(cases, start):
    """RLlib reports it; without a frequency it is that of each update."""
    case = cases["soft_target"]
    learner = start(case, run_eagerly=True)
    for index, (results, _) in enumerate(case.updates(learner)):
        rllibs = case.reported("default_policy", index, index + 1)
        now = case.settings["updates"][index]["timestep"]
        assert rllibs["last_target_update_ts"] == now
        assert "last_target_update_ts" not in results["default_policy"]


# The recordings see what they should.


def test_recordings_take_every_branch(cases):
    """Guards the other tests: they only see what the recorded inputs exercise."""
    is_clipped, moves, is_linear = {}, set(), {"huber": set(), "mse": set()}
    for own in cases.values():
        for mid in own.module_ids:
            training, arrays = own.training(mid), own.arrays
            how, clipped = own.clipping(mid)
            is_clipped.setdefault(how, set()).update(clipped.tolist())
            moves |= {*own.moves_of_targets(mid)}
            if "num_atoms" not in training:
                far = arrays[f"{mid}/td_errors"] > 1.0
                is_linear[training["td_error_loss_fn"]] |= {*far.ravel().tolist()}
            assert {*arrays[f"{mid}/batch/terminateds"]} == {True, False}
            assert {*arrays[f"{mid}/batch/truncateds"]} == {True, False}
            steps = range(1, own.settings["max_n_step"] + 1)
            assert {*arrays[f"{mid}/batch/n_step"]} == {*steps}
    assert is_clipped[None] == {False}
    assert is_clipped["value"] == is_clipped["norm"] == {True}
    assert is_clipped["global_norm"] == {True, False}
    assert moves == {"stay", "copied", "follow"}
    assert is_linear == {"huber": {True, False}, "mse": {True, False}}


@pytest.mark.parametrize("name", ["dueling_double", "distributional_double"])
def test_networks_choose_other_actions_than_their_targets(name, cases, start):
    case = cases[name]
    batch = case.batch()["default_policy"]
    module = start(case, run_eagerly=True).module["default_policy"]
    outputs = module.forward_train(batch)
    own, target = (
        outputs[key].numpy().argmax(axis=-1)
        for key in ("qf_next_preds", "qf_target_next_preds")
    )
    assert (own != target)[~batch["terminateds"]].any()


def test_atoms_move_to_every_kind_of_place(cases):
    for name in ("distributional", "distributional_double"):
        places = moved_atoms(cases[name])
        assert ((places > 0.0) & (places < 1.0)).any(axis=0).all()
        assert (places < 0.0).any() and (places > 1.0).any()
    narrow = moved_atoms(cases["distributional_narrow"])
    for is_beyond in (narrow < 0.0, narrow > 1.0):
        assert is_beyond.all(axis=1).any()


def moved_atoms(case):
    """Returns where atoms of rows that did not terminate go, in units of the support."""
    training, batch = case.training("default_policy"), case.batch()["default_policy"]
    low, high = training["v_min"], training["v_max"]
    atoms = np.linspace(low, high, training["num_atoms"])
    discounts = training["gamma"] ** batch["n_step"] * ~batch["terminateds"]
    moved = batch["rewards"][:, None] + discounts[:, None] * atoms
    return ((moved - low) / (high - low))[~batch["terminateds"]]
