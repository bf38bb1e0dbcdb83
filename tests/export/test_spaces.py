"""Exported policies in each space: what is served is what the module does."""

import json

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
import tree

import tflearner as tfl
from tflearner.columns import Columns
from tflearner.connectors.actions import GetActions, NormalizeAndClipActions
from tflearner.connectors.pipeline import ModuleToEnvPipeline
from tflearner.errors import ExportError
from tflearner.export.check import largest_difference
from tflearner.export.endpoints import Policy
from tflearner.export.policy import export_policy
from tflearner.testing import random_batch

OBS = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
ACTIONS = gym.spaces.Discrete(4, start=2)


def module_and_pieces(action_space, observation_space=OBS, **settings):
    settings = {"fcnet_hiddens": [8], "lstm_cell_size": 4} | settings
    spaces = observation_space, action_space
    module = tfl.PPOTfRLModule(*spaces, model_config=settings, seed=1)
    pieces = [GetActions(*spaces), NormalizeAndClipActions(*spaces)]
    return module, ModuleToEnvPipeline(pieces, *spaces)


def for_env(module, inputs):
    """Returns the greedy actions of a module that an environment gets."""
    dist_class = module.get_inference_action_dist_cls()
    batch = {Columns.ACTIONS: dist_class.deterministic_np(np.asarray(inputs))}
    NormalizeAndClipActions(None, module.action_space)(batch=batch)
    return batch.get(Columns.ACTIONS_FOR_ENV, batch[Columns.ACTIONS])


def assert_serves(loaded, module):
    """Holds a loaded policy to the greedy actions of its module; returns them."""
    obs = random_batch(module, 40)[Columns.OBS]
    inputs = module.forward_inference({Columns.OBS: obs})[Columns.ACTION_DIST_INPUTS]
    served = loaded.act_greedy(tree.map_structure(tf.constant, obs))
    served = tree.map_structure(np.asarray, served)

    def assert_equal(got, want):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)

    tree.map_structure(assert_equal, served, for_env(module, inputs))
    return served


@pytest.mark.deep_but_first
def test_saved_models_act_in_the_space(action_space, tmp_path):
    module, pieces = module_and_pieces(action_space)
    report = export_policy(module, tmp_path / "policy", module_to_env=pieces)
    assert report.endpoints == ("act_greedy", "act", "value")
    assert report.max_difference < 1e-6
    loaded = tf.saved_model.load(str(report.path))
    drawn = loaded.act(tf.ones((40, 4)), tf.constant([1, 2]))
    rows = gym.vector.utils.batch_space(action_space, 40)
    served = assert_serves(loaded, module)
    for actions in (served, tree.map_structure(np.array, drawn)):
        for row in gym.vector.utils.iterate(rows, actions):
            if isinstance(action_space, gym.spaces.MultiDiscrete):
                row = row.astype(action_space.dtype)
            assert action_space.contains(row), row
    spec = json.loads((report.path / "spec.json").read_text())
    assert spec["action_space"]["type"] == type(action_space).__name__
    outputs = spec["endpoints"]["act_greedy"]["outputs"]
    assert {name: (own["dtype"], own["shape"]) for name, own in outputs.items()} == {
        "_".join(map(str, ("actions", *path))): (x.dtype.name, [None, *x.shape[1:]])
        for path, x in tree.flatten_with_path(served)
    }
    flat = loaded.signatures["act_greedy"](obs=tf.ones((3, 4)))
    assert flat.keys() == outputs.keys()


@pytest.mark.deep
def test_saved_models_act_on_observations_of_the_space(observation_space, tmp_path):
    module, pieces = module_and_pieces(ACTIONS, observation_space)
    report = export_policy(module, tmp_path / "policy", module_to_env=pieces)
    served = assert_serves(tf.saved_model.load(str(report.path)), module)
    assert len(np.unique(served)) > 1


@pytest.mark.deep
def test_saved_models_of_modules_with_a_state(action_space, tmp_path):
    module, pieces = module_and_pieces(action_space, use_lstm=True)
    report = export_policy(module, tmp_path / "policy", module_to_env=pieces)
    loaded = tf.saved_model.load(str(report.path))
    state = loaded.initial_state(tf.constant(2))
    actions, state = loaded.act_greedy(tf.ones((2, 4)), state)
    tree.assert_same_structure(actions, action_space.sample())
    assert set(state) == {"h", "c"}


@pytest.mark.deep_but_first
def test_tflite_computes_the_same(action_space, tmp_path):
    module, pieces = module_and_pieces(action_space)
    path = tmp_path / "policy.tflite"
    report = export_policy(module, path, format="tflite", module_to_env=pieces)
    assert report.max_difference < 1e-6


@pytest.mark.deep_but_first
def test_keras_files_of_such_actions_are_refused(action_space, tmp_path):
    module, pieces = module_and_pieces(action_space)
    path, kind = tmp_path / "policy.keras", type(action_space).__name__
    text = rf"(?s)action space: got {kind}\(.*tf_saved_model"
    with pytest.raises(ExportError, match=text):
        export_policy(module, path, format="keras", module_to_env=pieces)
    assert not [*tmp_path.iterdir()]


# Holding an export to its module, leaf by leaf.


@pytest.fixture
def check(action_spaces):
    """Returns a function that checks what acts like a module, but for a change."""

    def check(change):
        module, pieces = module_and_pieces(action_spaces["nest"])
        policy = Policy(module, None, pieces)
        act = policy.endpoints()[0].function

        def act_greedy(obs):
            return change(tree.map_structure(np.asarray, act(tf.constant(obs))))

        return largest_difference(policy, {"act_greedy": act_greedy})

    return check


def changed(*path, by):
    """Returns a function that adds to one leaf of nested actions."""

    def change(actions):
        return tree.map_structure_with_path(
            lambda at, x: (x + by).astype(x.dtype) if at == path else x, actions
        )

    return change


def test_equal_nested_actions_have_no_difference(check):
    assert check(lambda actions: actions) < 1e-6


@pytest.mark.parametrize(
    "change",
    [
        changed("z", 0, by=1),
        changed("z", 1, by=1e-3),
        changed("a", "b", by=1),
        changed("a", "n", by=1),
        lambda actions: {"z": actions["z"]},
        lambda actions: {
            **actions,
            "z": (actions["z"][0].astype(np.int64), actions["z"][1]),
        },
    ],
)
def test_a_difference_in_any_leaf_is_refused(change, check):
    with pytest.raises(ExportError, match=r"exported act_greedy\(\)"):
        check(change)


def test_differences_are_relative_to_the_range_of_their_leaf(check):
    found = check(changed("z", 1, by=4.5e-5))  # Of a range of 9.
    np.testing.assert_allclose(found, 5e-6, rtol=0.2)


# Of each space, the inputs that are the logits of numbers, and those of bits.
LOGITS = {
    "equal-numbers": ([slice(0, 3), slice(3, 6)], slice(0)),
    "bits": ([], slice(0, 3)),
    "nest": ([slice(0, 3), slice(7, 9), slice(9, 12)], slice(12, 14)),
}


@pytest.mark.parametrize("name", LOGITS)
def test_choices_that_are_equal_but_for_rounding_may_fall_either_way(
    name, action_spaces
):
    module, pieces = module_and_pieces(action_spaces[name])
    last = module.pi.dense[-1].kernel
    last.assign(last * 1e-7)
    policy = Policy(module, None, pieces)
    of_numbers, of_bits = LOGITS[name]

    def act_greedy(obs):
        inputs = module.forward_inference({Columns.OBS: tf.constant(obs)})
        inputs = inputs[Columns.ACTION_DIST_INPUTS].numpy()
        for own in of_numbers:  # The second best instead of the best.
            best = inputs[:, own].argmax(-1)[:, None]
            np.put_along_axis(inputs[:, own], best, -1.0, -1)
        inputs[:, of_bits] *= -1.0
        return for_env(module, inputs)

    assert largest_difference(policy, {"act_greedy": act_greedy}) < 1e-5
    last.assign(last * 1e7)
    with pytest.raises(ExportError):
        largest_difference(policy, {"act_greedy": act_greedy})
