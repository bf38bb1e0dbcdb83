"""What a batch may look like, and what is said about those that do not."""

import types

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.data.sample_batch import MultiAgentBatch
from tflearner.errors import BatchError, UnknownModuleError
from tflearner.learner import batch_checks
from tflearner.testing import learner_digest, random_batch


@pytest.fixture(scope="module")
def learner(make_learner):
    """A PPO learner that has learned, and that no test of this module changes."""
    learner = make_learner(run_eagerly=True)
    module = learner.module[DEFAULT_MODULE_ID]
    learner.update(batch_of(module))
    return learner


def batch_of(module, num_rows=32):
    return random_batch(module, num_rows)


def put(column, row, value):
    """Returns a function that puts a value into a column of a batch."""

    def change(batch):
        batch[column] = batch[column].copy()
        batch[column][row] = value

    return change


def replace(column, function):
    def change(batch):
        batch[column] = function(batch[column])

    return change


def shorten_in_front(batch):
    """Lets the actions come first; the observations decide all the same."""
    rest = dict(batch)
    batch.clear()
    batch.update(actions=rest.pop("actions")[:-1], **rest)


class Foreign:
    """An array of another library."""

    def __init__(self, array):
        self.shape, self.dtype = array.shape, array.dtype

    def __len__(self):
        return self.shape[0]


def symbolic(array):
    made = []
    tf.function(lambda x: made.append(x)).get_concrete_function(
        tf.TensorSpec(array.shape, tf.float32)
    )
    return made[0]


BAD = {
    "missing": (lambda b: b.pop("advantages"), "no column 'advantages'.*'obs'"),
    "missing, one letter off": (
        lambda b: b.update(advantage=b.pop("advantages")),
        "did you mean 'advantage'",
    ),
    "one row less": (
        replace("actions", lambda a: a[:-1]),
        "'actions': got 31 rows, want 32, as in column 'obs'",
    ),
    "one row less, in front": (
        shorten_in_front,
        "'actions': got 31 rows, want 32, as in column 'obs'",
    ),
    "no rows": (replace("obs", lambda a: a[:0]), "got 32 rows, want 0"),
    "other width": (
        replace("obs", lambda a: np.zeros((32, 5), np.float32)),
        r"'obs': got float32 \(32, 5\), want \(N, 4\)",
    ),
    "no axis of rows": (
        replace("obs", lambda a: a[0]),
        r"'obs'.*\(4,\).*add the axis of rows",
    ),
    "axis too many": (
        replace("advantages", lambda a: a[:, None]),
        r"'advantages'.*\(32, 1\).*drop the last axis",
    ),
    "scalar": (replace("advantages", lambda a: a[0]), "'advantages'"),
    "0-d array": (replace("advantages", lambda a: np.array(1.0)), "a scalar.*rows"),
    "float actions": (
        replace("actions", lambda a: a.astype(np.float32)),
        "'actions': got dtype float32, want values of kind int",
    ),
    "bool observations": (
        replace("obs", lambda a: a > 0),
        "'obs': got dtype bool, want values of kind float",
    ),
    "float mask": (lambda b: b.update(loss_mask=np.ones(32)), "'loss_mask'.*kind bool"),
    "objects": (
        replace("obs", lambda a: np.array([*[1.0] * 3, *["x"] * 29], object)),
        "'obs': got dtype object.*row 3 is 'str'",
    ),
    "text": (
        replace("rewards", lambda a: np.full(32, "x")),
        "'rewards': got dtype <U1",
    ),
    "NaN": (
        put("obs", (17, 2), np.nan),
        r"'obs': got 1 non-finite.*nan.* row 17, index \(2,\)",
    ),
    "Inf": (put("rewards", [5, 9], np.inf), "'rewards': got 2 non.*inf.*at row 5,"),
    "NaN in a column nobody knows": (
        lambda b: b.update(own=np.array([0.0, np.nan] * 16)),
        "'own'.*row 1",
    ),
    "too large for float32": (
        replace("value_targets", lambda a: np.full(32, 1e300)),
        "'value_targets'.*1e.300.*row 0.*finite float32",
    ),
    "too large for int32": (
        lambda b: b.update(own=np.array([0, 2**40] * 16)),
        "'own': got 1099511627776 at row 1",
    ),
    "action 2 of 2": (
        put("actions", 4, 2),
        r"'actions': got 2 at row 4, want values in \[0, 1\]",
    ),
    "action -1": (put("actions", 4, -1), "'actions': got -1 at row 4"),
    "+inf logit": (put("action_dist_inputs", (3, 1), np.inf), "'action_dist_inputs'"),
    "None": (replace("obs", lambda a: None), "'obs': got .*NoneType"),
    "other library": (
        replace("obs", Foreign),
        "'obs': got .*Foreign, want a NumPy array or an eager.*np.asarray",
    ),
    "no array at all": (
        replace("obs", lambda a: object()),
        "'obs': got builtins.object",
    ),
    "symbolic": (replace("obs", symbolic), "'obs': got tensorflow.*eager"),
    "ragged list": (replace("obs", lambda a: [[1.0], [1.0, 2.0]]), "'obs': .*ragged"),
    "ragged tensor": (
        replace("obs", lambda a: tf.ragged.constant([[1.0], [1.0, 2.0]])),
        "'obs'.*dtype object",
    ),
    "name": (lambda b: b.update({3: b["obs"]}), "column called 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_batch_is_refused_and_changes_nothing(learner, case):
    spoil, text = BAD[case]
    batch = batch_of(learner.module[DEFAULT_MODULE_ID])
    spoil(batch)
    before = learner_digest(learner)
    with pytest.raises(BatchError, match=text) as error:
        learner.update(batch)
    assert f"module {DEFAULT_MODULE_ID!r}" in str(error.value)
    assert "Nothing was changed." in str(error.value)
    assert learner_digest(learner) == before


@pytest.mark.parametrize("batch", [3, "obs", [1.0], np.zeros(3)])
def test_what_is_no_batch_is_refused(learner, batch):
    with pytest.raises(BatchError, match="MultiAgentBatch.*dict of columns"):
        learner.update(batch)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda own: {"default_polcy": own},
        lambda own: {DEFAULT_MODULE_ID: own, "default_polcy": own},
        lambda own: MultiAgentBatch({"default_polcy": own}, env_steps=32),
    ],
)
def test_unknown_module_is_named_with_the_closest_one(learner, wrap):
    before = learner_digest(learner)
    batch = wrap(batch_of(learner.module[DEFAULT_MODULE_ID]))
    with pytest.raises(UnknownModuleError, match="did you mean 'default_policy'"):
        learner.update(batch)
    assert learner_digest(learner) == before


def test_columns_of_a_module_are_a_dict(learner):
    with pytest.raises(BatchError, match="'default_policy': got .*NoneType.*columns"):
        learner.update({DEFAULT_MODULE_ID: None})


def test_columns_without_module_need_one_module(make_learner):
    learner = make_learner(policies=["p0", "p1"])
    batch = batch_of(learner.module["p0"])
    with pytest.raises(BatchError, match=r"without a module id.*\['p0', 'p1'\]"):
        learner.update(batch)


# What is fine.


def test_forbidden_actions_may_have_a_logit_of_minus_infinity(learner):
    batch = batch_of(learner.module[DEFAULT_MODULE_ID])
    put("action_dist_inputs", (3, 1), -np.inf)(batch)
    specs = batch_checks.column_specs(learner.module[DEFAULT_MODULE_ID])
    batch_checks.check_columns("p", batch, specs=specs, required=())


def test_continuous_actions_may_lie_outside_their_box(make_learner):
    spaces = (
        gym.spaces.Box(-1.0, 1.0, (3,), np.float32),
        gym.spaces.Box(-2.0, 2.0, (2, 2), np.float32),
    )
    learner = make_learner(spaces=spaces, run_eagerly=True)
    batch = batch_of(learner.module[DEFAULT_MODULE_ID])
    batch["obs"] *= 7.0
    batch["actions"] = 9.0 * batch["actions"].reshape(32, 4)
    results = learner.update(batch)[DEFAULT_MODULE_ID]
    assert results["num_non_finite_updates_lifetime"] == 0
    batch["action_dist_inputs"][0, 0] = -np.inf
    with pytest.raises(BatchError, match="action_dist_inputs"):
        learner.update(batch)


def check(space, column, array):
    module = types.SimpleNamespace(observation_space=space, action_space=None)
    specs = batch_checks.column_specs(module)
    checked = batch_checks.check_columns("p", {column: array}, specs=specs, required=())
    return checked[column]


BOX = gym.spaces.Box


@pytest.mark.parametrize(
    ("space", "array", "dtype"),
    [
        (BOX(-1, 1, (2,), np.float64), np.zeros((3, 2)), np.float32),
        (BOX(-1, 1, (2,), np.float32), np.zeros((3, 2), np.int64), np.float32),
        (BOX(0, 255, (2,), np.uint8), np.full((3, 2), 255), np.uint8),
        (gym.spaces.Discrete(3, start=5), np.array([5, 7]), np.int32),
        (gym.spaces.MultiDiscrete([2, 9]), np.array([[1, 8]]), np.int32),
        (gym.spaces.Dict(), np.zeros((3, 2)), np.float32),
    ],
)
def test_observations_are_cast_to_what_is_trained_on(space, array, dtype):
    checked = check(space, "obs", array)
    assert checked.dtype == dtype
    np.testing.assert_array_equal(checked, array)


@pytest.mark.parametrize(
    ("space", "array", "text"),
    [
        (BOX(0, 255, (2,), np.uint8), np.full((3, 2), 256), "256 at row 0"),
        (BOX(0, 255, (2,), np.uint8), np.zeros((3, 2)), "kind int"),
        (gym.spaces.Discrete(3, start=5), np.array([5, 8]), r"8 at row 1.*\[5, 7\]"),
        (gym.spaces.MultiDiscrete([2, 9]), np.array([[1, 8], [2, 0]]), "2 at row 1"),
    ],
)
def test_observations_outside_their_space_are_refused(space, array, text):
    with pytest.raises(BatchError, match=text):
        check(space, "obs", array)


def test_nests_are_checked_leaf_by_leaf():
    nest = {"a": np.zeros((2, 3)), "b": (np.zeros(2), np.array([0.0, np.nan]))}
    with pytest.raises(BatchError, match="'obs'.*row 1"):
        check(None, "obs", nest)
    nest["b"] = (np.zeros(2), np.zeros(3))
    with pytest.raises(BatchError, match="'obs': got 3 rows, want 2"):
        check(None, "obs", nest)


def test_columns_that_describe_rows_are_left_out():
    columns = {
        "obs": np.zeros((2, 1)),
        "infos": [{}, {}],
        "eps_id": np.array(["a"] * 2),
    }
    checked = batch_checks.check_columns("p", columns, specs={}, required=["obs"])
    assert [*checked] == ["obs"]


def test_arrays_that_fit_are_not_copied():
    array = np.zeros((2, 3), np.float32)
    assert check(None, "obs", array) is array
