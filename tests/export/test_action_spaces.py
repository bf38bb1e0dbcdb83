"""Exported policies whose actions have several parts."""

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

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS = Box(-1.0, 1.0, (4,), np.float32)
SPACES = {
    "numbers": gym.spaces.MultiDiscrete([2, 3], start=[1, 0]),
    "matrix": gym.spaces.MultiDiscrete([[2, 3], [1, 2]]),
    "bits": gym.spaces.MultiBinary([2, 2]),
    "tree": gym.spaces.Dict(
        go=gym.spaces.Tuple([Discrete(3, start=5), Box(0, 9, (2, 1), np.float64)]),
        say=gym.spaces.MultiBinary(2),
    ),
}
FLAT_NAMES = {
    "matrix": {"actions": ("int32", [None, 2, 2])},
    "tree": {
        "actions_go_0": ("int32", [None]),
        "actions_go_1": ("float64", [None, 2, 1]),
        "actions_say": ("int8", [None, 2]),
    },
}


def module_and_pieces(space, **settings):
    settings = {"fcnet_hiddens": [8], "lstm_cell_size": 4} | settings
    module = tfl.PPOTfRLModule(OBS, space, model_config=settings, seed=1)
    pieces = [GetActions(OBS, space), NormalizeAndClipActions(OBS, space)]
    return module, ModuleToEnvPipeline(pieces, OBS, space)


@pytest.mark.parametrize("name", ["matrix", "tree"])
def test_saved_models_return_the_actions_of_the_space(name, tmp_path):
    space = SPACES[name]
    module, pieces = module_and_pieces(space)
    report = export_policy(module, tmp_path / "policy", module_to_env=pieces)
    assert report.endpoints == ("act_greedy", "act", "value")
    assert report.max_difference < 1e-6
    loaded = tf.saved_model.load(str(report.path))
    obs = np.ones((3, 4), np.float32)
    for actions in (
        loaded.act_greedy(tf.constant(obs)),
        loaded.act(tf.constant(obs), tf.constant([1, 2])),
    ):
        actions = tree.map_structure(np.asarray, actions)
        for row in gym.vector.utils.iterate(
            gym.vector.utils.batch_space(space, 3), actions
        ):
            if name == "matrix":
                row = row.astype(space.dtype)
            assert space.contains(row), row
    flat = loaded.signatures["act_greedy"](obs=tf.constant(obs))
    assert flat.keys() == FLAT_NAMES[name].keys()
    spec = json.loads((report.path / "spec.json").read_text())
    outputs = spec["endpoints"]["act_greedy"]["outputs"]
    got = {key: (own["dtype"], own["shape"]) for key, own in outputs.items()}
    assert got == FLAT_NAMES[name]
    assert spec["action_space"]["type"] == type(space).__name__


def test_saved_model_of_a_module_with_a_state(tmp_path):
    module, pieces = module_and_pieces(SPACES["tree"], use_lstm=True)
    report = export_policy(module, tmp_path / "policy", module_to_env=pieces)
    loaded = tf.saved_model.load(str(report.path))
    actions, state = loaded.act_greedy(
        tf.ones((2, 4)), loaded.initial_state(tf.constant(2))
    )
    assert actions["say"].shape == (2, 2) and set(state) == {"h", "c"}


@pytest.mark.parametrize("name", ["bits", "tree"])
def test_tflite_computes_the_same(name, tmp_path):
    module, pieces = module_and_pieces(SPACES[name])
    report = export_policy(
        module, tmp_path / "policy.tflite", format="tflite", module_to_env=pieces
    )
    assert report.max_difference < 1e-6


@pytest.mark.parametrize("name", SPACES)
def test_keras_files_of_such_actions_are_refused(name, tmp_path):
    module, pieces = module_and_pieces(SPACES[name])
    kind = type(SPACES[name]).__name__
    with pytest.raises(
        ExportError, match=rf"(?s)action space: got {kind}\(.*tf_saved_model"
    ):
        export_policy(
            module, tmp_path / "policy.keras", format="keras", module_to_env=pieces
        )
    assert not [*tmp_path.iterdir()]


# Holding an export to its module, leaf by leaf.


def check(change, name="tree"):
    """Checks what acts like the module, but for a change of its actions."""
    module, pieces = module_and_pieces(SPACES[name])
    policy = Policy(module, None, pieces)
    act = policy.endpoints()[0].function

    def act_greedy(obs):
        return change(tree.map_structure(np.asarray, act(tf.constant(obs))))

    return largest_difference(policy, {"act_greedy": act_greedy})


def changed(*path, by):
    """Returns a function that adds to one leaf of nested actions."""

    def change(actions):
        return tree.map_structure_with_path(
            lambda at, x: (x + by).astype(x.dtype) if at == path else x, actions
        )

    return change


def test_equal_nested_actions_have_no_difference():
    assert check(lambda actions: actions) < 1e-6


@pytest.mark.parametrize(
    "change",
    [
        changed("go", 0, by=1),
        changed("go", 1, by=1e-3),
        changed("say", by=1),
        lambda actions: {"go": actions["go"]},
        lambda actions: {**actions, "say": actions["say"].astype(np.int32)},
    ],
)
def test_a_difference_in_any_leaf_is_refused(change):
    with pytest.raises(ExportError, match=r"exported act_greedy\(\)"):
        check(change)


def test_differences_are_relative_to_the_range_of_their_leaf():
    found = check(changed("go", 1, by=4.5e-5))  # Of a range of 9.
    np.testing.assert_allclose(found, 5e-6, rtol=0.2)


# Of each space, the inputs that are the logits of numbers, and those of bits.
LOGITS = {
    "numbers": ([slice(0, 2), slice(2, 5)], slice(0)),
    "bits": ([], slice(0, 4)),
    "tree": ([slice(0, 3)], slice(7, 9)),
}


@pytest.mark.parametrize("name", LOGITS)
def test_choices_that_are_equal_but_for_rounding_may_fall_either_way(name):
    module, pieces = module_and_pieces(SPACES[name])
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
        dist_class = module.get_inference_action_dist_cls()
        batch = {Columns.ACTIONS: dist_class.deterministic_np(inputs)}
        NormalizeAndClipActions(OBS, SPACES[name])(batch=batch)
        return batch.get(Columns.ACTIONS_FOR_ENV, batch[Columns.ACTIONS])

    assert largest_difference(policy, {"act_greedy": act_greedy}) < 1e-5
    last.assign(last * 1e7)
    with pytest.raises(ExportError):
        largest_difference(policy, {"act_greedy": act_greedy})
