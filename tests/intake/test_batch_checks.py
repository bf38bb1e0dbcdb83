"""What a batch may look like, and what the learner gets of it."""

import types
from collections import namedtuple

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.errors import BatchError
from tflearner.intake import batch_checks, train_batch
from tflearner.networks.distributions import Categorical, DiagGaussian

BOX, DISCRETE = gym.spaces.Box, gym.spaces.Discrete


def specs_of(observation_space=None, action_space=None, dist_class=Categorical):
    return batch_checks.column_specs(
        types.SimpleNamespace(
            observation_space=observation_space,
            action_space=action_space,
            is_stateful=lambda: False,
            get_train_action_dist_cls=lambda: dist_class,
        )
    )


def check(space, column, array, **settings):
    checked = batch_checks.check_columns(
        "p", {column: array}, specs=specs_of(space), required=(), **settings
    )
    return checked[column]


def test_forbidden_actions_may_have_a_logit_of_minus_infinity():
    logits = np.array([[0.0, -np.inf, 1.0], [0.0, 0.0, 0.0]])
    columns = {"action_dist_inputs": logits}
    specs = specs_of(action_space=DISCRETE(3))
    checked = batch_checks.check_columns("p", columns, specs=specs, required=())
    np.testing.assert_array_equal(checked["action_dist_inputs"], logits)
    logits[1, 1] = -1e300  # Not -inf, but becomes it.
    with pytest.raises(BatchError, match="-1e.300.*row 1, index .1,"):
        batch_checks.check_columns("p", columns, specs=specs, required=())


def test_continuous_actions_may_lie_outside_their_box():
    observations = BOX(-1.0, 1.0, (3,), np.float32)
    actions = BOX(-2.0, 2.0, (2, 2), np.float32)
    specs = specs_of(observations, actions, DiagGaussian)
    columns = {
        "obs": np.full((3, 3), 7.0),
        "actions": np.full((3, 4), -9.0),
        "action_dist_inputs": np.zeros((3, 8)),
    }
    for shape in ((3, 4), (3, 2, 2)):
        columns["actions"] = columns["actions"].reshape(shape)
        checked = batch_checks.check_columns("p", columns, specs=specs, required=())
        np.testing.assert_array_equal(checked["actions"], columns["actions"])
    columns["action_dist_inputs"][0, 0] = -np.inf
    with pytest.raises(BatchError, match="action_dist_inputs"):
        batch_checks.check_columns("p", columns, specs=specs, required=())


@pytest.mark.parametrize(
    ("space", "array", "dtype"),
    [
        (BOX(-1, 1, (2,), np.float64), np.zeros((3, 2)), np.float32),
        (BOX(-1, 1, (2,), np.float32), np.zeros((3, 2), np.int64), np.float32),
        (BOX(-1, 1, (2,), np.float32), np.full((3, 2), 1e30, np.float32), np.float32),
        (BOX(0, 255, (2,), np.uint8), np.full((3, 2), 255), np.uint8),
        (BOX(0, 1, (2,), np.bool_), np.array([[True, False]]), np.float32),
        (BOX(0, 1, (2,), np.bool_), np.array([[1, 0]], np.uint8), np.float32),
        (DISCRETE(3, start=5), np.array([5, 7]), np.int32),
        (gym.spaces.MultiDiscrete([2, 9]), np.array([[1, 8]]), np.int32),
        (gym.spaces.Dict(), np.zeros((3, 2)), np.float32),
        (None, np.zeros(3, np.longdouble), np.float32),
        (None, np.zeros(3, ">f4"), np.float32),
        (None, np.zeros(3, np.uint64), np.int32),
        (None, np.zeros(3, np.float16), np.float16),
        (None, np.zeros(3, bool), np.bool_),
    ],
)
def test_observations_are_cast_to_what_is_trained_on(space, array, dtype):
    checked = check(space, "obs", array)
    assert checked.dtype == dtype and checked.dtype.isnative
    np.testing.assert_array_equal(checked, array)


@pytest.mark.parametrize(
    ("space", "array", "text"),
    [
        (BOX(0, 255, (2,), np.uint8), np.full((3, 2), 256), "256 at row 0"),
        (BOX(0, 255, (2,), np.uint8), np.zeros((3, 2)), "kind int"),
        (DISCRETE(3, start=5), np.array([5, 8]), r"8 at row 1.*\[5, 7\]"),
        (
            gym.spaces.MultiDiscrete([9, 2]),
            np.array([[1, 1], [8, 2]]),
            r"2 at row 1, index \(1,\), want values in \[0, 1\]",
        ),
    ],
)
def test_observations_outside_their_space_are_refused(space, array, text):
    with pytest.raises(BatchError, match=text):
        check(space, "obs", array)


def test_nests_of_any_form_are_checked_leaf_by_leaf():
    nest = {"a": np.zeros((2, 3)), "b": (np.zeros(2), np.array([0.0, np.nan]))}
    with pytest.raises(BatchError, match=r"'obs'\['b'\]\[1\]: got 1 non-fin.*row 1"):
        check(None, "obs", nest)
    nest["b"] = (np.zeros(2), np.zeros(3))
    with pytest.raises(BatchError, match=r"'obs'\['b'\]\[1\]: got 3 rows, want 2"):
        check(None, "obs", nest)
    pair = namedtuple("Pair", "x y")(np.zeros(2), np.ones((2, 1)))
    checked = check(None, "obs", {"pair": pair})["pair"]
    assert type(checked) is type(pair) and checked.y.dtype == np.float32


NESTED = gym.spaces.Dict(
    arm=gym.spaces.Tuple([DISCRETE(2), BOX(-1, 1, (3,))]), camera=BOX(0, 255, (2, 2))
)


def test_observations_of_nested_spaces_are_checked_against_their_leaves():
    nest = {"camera": np.zeros((4, 2, 2)), "arm": (np.ones(4, int), np.zeros((4, 3)))}
    checked = check(NESTED, "obs", nest)
    assert checked["arm"][0].dtype == np.int32
    for wrong, text in [
        (nest | {"camera": np.zeros((4, 2))}, r"\['camera'\]: .*want \(N, 2, 2\)"),
        (nest | {"arm": (np.full(4, 2), nest["arm"][1])}, r"\['arm'\]\[0\]: got 2 at"),
        (nest | {"arm": nest["arm"][:1]}, r"\['arm'\]: got a tuple with keys \[0\]"),
        (nest | {"leg": np.zeros(4)}, "'obs': got a dict with keys .*'leg'"),
        ({"arm": nest["arm"]}, "'obs': got a dict .*want a dict with keys .*'camera'"),
        (np.zeros((4, 9)), "'obs': got an array, want a dict with keys"),
    ]:
        with pytest.raises(BatchError, match=text):
            check(NESTED, "obs", wrong)


def test_columns_that_describe_rows_are_left_out():
    columns = {
        "obs": np.zeros((2, 1)),
        "infos": [{}, {}],
        "eps_id": np.array(["a"] * 2),
        "state_in": {},
        "state_out": {"h": np.zeros(7)},
        "seq_lens": np.array([1, 1]),
    }
    checked = batch_checks.check_columns("p", columns, specs={}, required=["obs"])
    assert [*checked] == ["obs"]


def test_arrays_that_fit_are_not_copied():
    array = np.zeros((2, 3), np.float32)
    assert check(None, "obs", array) is array


# Forms of the same numbers.


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def each(convert):
    return lambda columns: {name: convert(array) for name, array in columns.items()}


FORMS = {
    "SampleBatch": SampleBatch,
    "by module": lambda columns: {"p": columns},
    "MultiAgentBatch": lambda columns: MultiAgentBatch({"p": columns}, env_steps=3),
    "tensors": each(tf.constant),
    "variables": each(tf.Variable),
    "lists": each(lambda array: array.tolist()),
    "wide": each(lambda array: array.astype(f"{array.dtype.kind}8")),
    "read-only": each(read_only),
    "column-major": each(np.asfortranarray),
    "strides": each(lambda array: array[::-1].copy()[::-1]),
    "byte order": each(lambda array: array.astype(array.dtype.newbyteorder(">"))),
    "infos": lambda columns: columns | {"infos": [{"n": 1}] * 3, "eps_id": ["a"] * 3},
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_a_batch_are_the_same_columns(form):
    columns = {
        "obs": np.arange(6, dtype=np.float32).reshape(3, 2),
        "actions": np.array([0, 1, 1], np.int32),
        "own": np.arange(3, dtype=np.float32),  # Of a form nobody knows.
    }
    given = train_batch.from_columns(FORMS[form](columns), {"p": None})
    checked = batch_checks.check_columns(
        "p",
        given.policy_batches["p"],
        specs=specs_of(BOX(-1, 1, (2,)), DISCRETE(2)),
        required=columns,
    )
    assert checked.keys() == columns.keys()
    for name, array in checked.items():
        np.testing.assert_array_equal(array, columns[name])
        assert array.dtype == columns[name].dtype and array.dtype.isnative


# How much is checked.

WRONG_VALUES = {
    "rewards": np.array([0.0, np.nan]),
    "actions": np.array([0, 5]),
    "own": np.array([0, 2**40]),
}
WRONG_FORMS = {
    "rewards": np.zeros((2, 1)),
    "actions": np.zeros(2),
    "own": np.zeros(3),
}
FINE = {
    "obs": np.zeros((2, 4)),
    "rewards": np.zeros(2),
    "actions": np.zeros(2, int),
}


def refused(columns, mode):
    specs = specs_of(BOX(-1, 1, (4,)), DISCRETE(2))
    try:
        batch_checks.check_columns(
            "p", columns, specs=specs, required=["obs"], mode=mode
        )
    except BatchError:
        return True
    return False


@pytest.mark.parametrize("column", WRONG_VALUES)
def test_a_mode_says_how_much_is_checked(column):
    wrong_values = FINE | {column: WRONG_VALUES[column]}
    wrong_form = FINE | {column: WRONG_FORMS[column]}
    is_refused = {
        mode: (
            refused(FINE, mode),
            refused(wrong_values, mode),
            refused(wrong_form, mode),
        )
        for mode in batch_checks.MODES
    }
    assert is_refused == {
        "full": (False, True, True),
        "strict": (False, True, True),
        "schema": (False, False, True),
        "off": (False, False, False),
    }


def test_only_the_strict_mode_refuses_columns_that_nobody_knows():
    columns = FINE | {"own": np.zeros(2)}
    found = [mode for mode in batch_checks.MODES if refused(columns, mode)]
    assert found == ["strict"]


@pytest.mark.parametrize("mode", batch_checks.MODES)
def test_all_modes_give_the_dtypes_that_are_trained_on(mode):
    specs = specs_of(BOX(-1, 1, (4,)), DISCRETE(2))
    checked = batch_checks.check_columns(
        "p", FINE, specs=specs, required=["obs"], mode=mode
    )
    dtypes = {column: values.dtype for column, values in checked.items()}
    assert dtypes == {"obs": "float32", "rewards": "float32", "actions": "int32"}
