"""Taking a learner's state out and putting it back, here or elsewhere."""

import copy
import json

import numpy as np
import pytest
import tensorflow as tf

from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import (
    ModuleError,
    OptimizerError,
    TFLearnerError,
    UnknownModuleError,
    UsageError,
)
from tflearner.testing import learner_digest

SETTINGS = {
    "lr": [[0, 1e-2], [1000, 1e-4]],
    "entropy_coeff": [[0, 0.1], [1000, 0.0]],
    "kl_target": 1e-6,  # The coefficient grows with every update.
    "run_eagerly": True,
}
UPDATE = {"minibatch_size": 10, "num_epochs": 2, "shuffle_batch_per_epoch": True}


def assert_same(state, wanted):
    tf.nest.map_structure(np.testing.assert_array_equal, state, wanted)


def update(learner, batch, timestep=None):
    timesteps = {} if timestep is None else {"num_env_steps_sampled_lifetime": timestep}
    return learner.update(batch, timesteps=timesteps, **UPDATE)


@pytest.fixture(scope="module")
def trained(make_learner, make_batch):
    """A PPO learner after two updates; tests that change it put it back."""
    learner = make_learner(**SETTINGS)
    for timestep in (100, 300):
        update(learner, make_batch(learner), timestep)
    return learner


@pytest.fixture
def fresh(get_learner):
    return get_learner(**{**SETTINGS, "seed": 2})


def test_state_is_arrays_and_plain_python(trained):
    state = trained.get_state()
    assert set(state) == {
        "learner",
        "metrics_logger",
        "optimizer",
        "rl_module",
        "should_module_be_updated",
        "weights_seq_no",
    }
    json.dumps(tf.nest.map_structure(np.asarray, state), default=np.ndarray.tolist)
    assert state["weights_seq_no"] == 2


def test_state_is_a_snapshot(make_learner, make_batch):
    learner = make_learner(**SETTINGS)
    state = learner.get_state()
    before = copy.deepcopy(state)
    update(learner, make_batch(learner))
    assert_same(state, before)


def test_rollback_is_exact(trained, make_batch):
    before, state = learner_digest(trained), trained.get_state()
    update(trained, make_batch(trained), 900)
    assert learner_digest(trained) != before
    trained.set_state(state, force=True)
    assert learner_digest(trained) == before


def test_rollback_to_the_very_start_is_exact(make_learner, make_batch):
    learner = make_learner(**SETTINGS)
    state = learner.get_state()
    update(learner, make_batch(learner), 10)
    learner.set_state(state, force=True)
    assert learner.get_state()["weights_seq_no"] == 0
    for part in ("rl_module", "optimizer", "learner"):
        assert_same(learner.get_state()[part], state[part])


@pytest.mark.parametrize(
    ("components", "not_components", "wanted"),
    [
        ("rl_module", None, {"rl_module"}),
        (("optimizer", "learner"), None, {"optimizer", "learner"}),
        (None, "rl_module", {"learner", "metrics_logger", "optimizer"}),
        ([], None, set()),
    ],
)
def test_components(trained, components, not_components, wanted):
    state = trained.get_state(components, not_components=not_components)
    always = {"should_module_be_updated", "weights_seq_no"}
    assert set(state) == wanted | always


def test_single_modules_can_be_asked_for(make_learner):
    learner = make_learner(policies=["p0", "p1"])
    state = learner.get_state("rl_module/p0")
    assert [*state["rl_module"]] == ["p0"]
    state = learner.get_state(not_components=["rl_module/p0", "optimizer"])
    assert [*state["rl_module"]] == ["p1"] and "optimizer" not in state


# Weights that travel.

SHAPES = {
    "state": lambda weights: weights,
    "state of modules": lambda weights: {"rl_module": weights["rl_module"]},
    "nested twice": lambda weights: {"rl_module": weights},
    "modules": lambda weights: weights["rl_module"],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_travel_between_learners(trained, fresh, shape):
    optimizer = fresh.get_state("optimizer")["optimizer"]
    weights = trained.get_state(components="rl_module")
    trained.module.set_state(weights)
    report = fresh.set_state(SHAPES[shape](weights))
    assert "rl_module" in report["applied"] and not report["ignored"]
    assert_same(fresh.get_state("rl_module")["rl_module"], weights["rl_module"])
    assert_same(fresh.get_state("optimizer")["optimizer"], optimizer)


@pytest.mark.parametrize("seq_no", [0, 1])
def test_older_weights_are_ignored_and_reported(trained, seq_no):
    before, state = learner_digest(trained), copy.deepcopy(trained.get_state())
    state["weights_seq_no"] = seq_no
    for array in tf.nest.flatten([state["rl_module"], state["optimizer"]]):
        array += 1
    report = trained.set_state(state)
    assert report["ignored"] == ["rl_module", "optimizer", "learner"]
    assert "rl_module" not in report["applied"]
    assert "metrics_logger" in report["applied"]
    assert learner_digest(trained) == before


@pytest.mark.parametrize(
    ("seq_no", "force", "after"), [(1, True, 1), (2, False, 2), (7, False, 7)]
)
def test_other_weights_are_applied(
    make_learner, make_batch, trained, seq_no, force, after
):
    learner = make_learner(**SETTINGS)
    learner.set_state(trained.get_state())
    state = copy.deepcopy(trained.get_state("rl_module"))
    state["weights_seq_no"] = seq_no
    state["rl_module"][DEFAULT_MODULE_ID]["000/kernel"][:] = 3.0
    assert learner.set_state(state, force=force)["ignored"] == []
    now = learner.get_state("rl_module")
    assert (now["rl_module"][DEFAULT_MODULE_ID]["000/kernel"] == 3.0).all()
    assert now["weights_seq_no"] == after


def spoil(change):
    def spoiled(state):
        state = copy.deepcopy(state)
        change(state)
        return state

    return spoiled


def weights(state):
    return state["rl_module"][DEFAULT_MODULE_ID]


def slots(state):
    return state["optimizer"][DEFAULT_MODULE_ID]["default_optimizer"]


BAD = {
    "weight's shape": (
        spoil(lambda s: weights(s).update({"001/bias": np.ones(3)})),
        ModuleError,
        r"'001/bias'.*\(3,\) instead of \(8,\)",
    ),
    "weight missing": (
        spoil(lambda s: weights(s).pop("001/bias")),
        ModuleError,
        "missing '001/bias'",
    ),
    "weight too many": (
        spoil(lambda s: weights(s).update(x=np.ones(3))),
        ModuleError,
        "unexpected 'x'",
    ),
    "module unknown": (
        spoil(lambda s: s["rl_module"].update(p9={})),
        UnknownModuleError,
        "'p9'",
    ),
    "slot's shape": (
        spoil(lambda s: slots(s).update({"001/bias/momentum": np.ones(3)})),
        OptimizerError,
        r"'001/bias/momentum' got \(3,\) want \(8,\)",
    ),
    "slot missing": (
        spoil(lambda s: slots(s).pop("000/kernel/velocity")),
        OptimizerError,
        "missing.*'000/kernel/velocity'",
    ),
    "slot too many": (
        spoil(lambda s: slots(s).update(x=1)),
        OptimizerError,
        "unexpected.*'x'",
    ),
    "optimizer missing": (
        spoil(lambda s: s["optimizer"].clear()),
        OptimizerError,
        "missing optimizer 'default_policy/default_optimizer'",
    ),
    "component unknown": (
        spoil(lambda s: s.update(rl_modul={})),
        UnknownModuleError,
        "'rl_modul'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_state_that_does_not_fit_changes_nothing(trained, fresh, case):
    change, error, text = BAD[case]
    before = learner_digest(fresh)
    with pytest.raises(error, match=text):
        fresh.set_state(change(trained.get_state()))
    assert learner_digest(fresh) == before


def test_who_learns_is_part_of_the_state(make_learner, fresh):
    learner = make_learner(policies_to_train=[])
    fresh.set_state(learner.get_state("rl_module"))
    assert not fresh.should_module_be_updated(DEFAULT_MODULE_ID)


def test_traced_update_follows_a_restored_state(make_learner, make_batch):
    settings = {**SETTINGS, "run_eagerly": False}
    learner = make_learner(**settings)
    batch = make_batch(learner)
    update(learner, batch, 100)
    state = learner.get_state()
    update(learner, batch, 200)
    wanted = learner.get_state()
    learner.set_state(state, force=True)
    update(learner, batch, 200)
    assert_same(learner.get_state(), wanted)
    assert learner.num_traces == 1


@pytest.mark.parametrize(
    "broken",
    [
        {"learner": {}},
        {"learner": {"rng": 1, "timestep": 0}},
        {"metrics_logger": {}},
        {"should_module_be_updated": 5},
    ],
    ids=str,
)
def test_a_state_that_breaks_off_is_rolled_back(trained, fresh, broken):
    before = learner_digest(fresh)
    state = {**trained.get_state(), **broken}
    with pytest.raises(TFLearnerError):
        fresh.set_state(state, force=True)
    assert learner_digest(fresh) == before


def test_weights_that_are_not_finite_are_refused(trained, fresh):
    state = trained.get_state("rl_module")["rl_module"]
    state["default_policy"]["000/kernel"][0, 0] = np.nan
    before = learner_digest(fresh)
    with pytest.raises(ModuleError, match="'default_policy', weight '000/kernel'"):
        fresh.set_state(state)
    assert learner_digest(fresh) == before


def test_entropy_moves_for_modules_that_sit_an_update_out(make_learner, make_batch):
    learner, other = (
        make_learner(
            policies=["p0", "p1"],
            entropy_coeff=[[0, 1.0], [100, 0.0]],
            run_eagerly=True,
        )
        for _ in range(2)
    )
    timesteps = {"num_env_steps_sampled_lifetime": 50}
    learner.update(make_batch(learner, p0=8), timesteps=timesteps)
    other.set_state(learner.get_state())
    for one in (learner, other):
        coefficient = one._coefficients["p1"].entropy.get_current_value()
        assert float(coefficient.numpy()) == pytest.approx(0.5)


def test_ids_to_train_in_a_state_are_a_copy(make_learner):
    learner = make_learner(policies_to_train=["default_policy"])
    learner.get_state()["should_module_be_updated"].clear()
    assert learner.should_module_be_updated("default_policy")


@pytest.mark.parametrize("components", ["typo", "optimizer/p0", 5, ["rl_module", "x"]])
def test_unknown_components_are_refused(trained, components):
    with pytest.raises(UsageError, match="components"):
        trained.get_state(components)
