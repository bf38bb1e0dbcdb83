"""Everything a column may have wrong, and what is said about it.

The numbers in front of the cases are those of the catalogue of bad inputs.
"""

import types

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import BatchError
from tflearner.intake import batch_checks, train_batch
from tflearner.networks.distributions import Categorical

INITIAL_STATE = {"h": np.zeros(4, np.float32), "c": np.zeros(4, np.float32)}
REQUIRED = ("obs", "actions", "advantages", "value_targets")


def module_of(initial_state=None):
    """All that checks need of a module; with an initial state it is a stateful one."""
    return types.SimpleNamespace(
        observation_space=gym.spaces.Box(-1.0, 1.0, (4,), np.float32),
        action_space=gym.spaces.Discrete(2),
        is_stateful=lambda: initial_state is not None,
        get_initial_state=lambda: initial_state,
        max_seq_len=5,
        get_train_action_dist_cls=lambda: Categorical,
    )


def rows():
    """Returns 32 rows with nothing wrong."""
    rng = np.random.default_rng(0)
    floats = ("rewards", "advantages", "value_targets", "action_logp")
    return {
        "obs": rng.standard_normal((32, 4), np.float32),
        "actions": rng.integers(2, size=32),
        "action_dist_inputs": rng.standard_normal((32, 2), np.float32),
        **{column: rng.standard_normal(32, np.float32) for column in floats},
    }


def sequences():
    """Returns four sequences of up to five steps, padded with zeros."""
    lengths = np.array([5, 3, 5, 1], np.int32)
    is_step = np.arange(5) < lengths[:, None]
    columns = {}
    for column, values in rows().items():
        columns[column] = np.zeros((4, 5, *values.shape[1:]), values.dtype)
        columns[column][is_step] = values[: lengths.sum()]
    state = {key: np.ones((4, 4), np.float32) for key in INITIAL_STATE}
    return columns | {"seq_lens": lengths, "state_in": state}


def check(columns, module, mode="full"):
    """Does what an update does first."""
    by_module = train_batch.from_columns(columns, {DEFAULT_MODULE_ID: module})
    return batch_checks.check_columns(
        DEFAULT_MODULE_ID,
        by_module.policy_batches[DEFAULT_MODULE_ID],
        specs=batch_checks.column_specs(module),
        required=REQUIRED,
        mode=mode,
    )


def assert_refused(columns, module, text, **settings):
    with pytest.raises(BatchError, match=text) as raised:
        check(columns, module, **settings)
    assert f"module {DEFAULT_MODULE_ID!r}" in str(raised.value)
    assert "Nothing was changed." in str(raised.value)


def test_columns_with_nothing_wrong_are_accepted():
    assert {*check(rows(), module_of())} == {*rows()}
    checked = check(sequences(), module_of(INITIAL_STATE))
    assert {*checked} == {*sequences(), "loss_mask"}


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


def of_library(module, name):
    """Returns a function that makes arrays another library's."""

    def convert(array):
        members = {"shape": array.shape, "dtype": array.dtype, "__len__": lambda _: 32}
        return type(name, (), {"__module__": module, **members})()

    return convert


def symbolic(array):
    made = []
    tf.function(lambda x: made.append(x)).get_concrete_function(
        tf.TensorSpec(array.shape, tf.float32)
    )
    return made[0]


def declare(rows):
    """Returns a view that declares more rows than any memory holds."""
    return lambda array: np.broadcast_to(array[:1], (rows, *array.shape[1:]))


BAD = {
    "B03 missing": (
        lambda b: b.pop("advantages"),
        r"no column 'advantages' \(have \['obs', .*\]\)",
    ),
    "B03 missing, one letter off": (
        lambda b: b.update(advantage=b.pop("advantages")),
        "did you mean 'advantage'",
    ),
    "B03 no columns that count": (
        lambda b: (b.clear(), b.update(infos=[{}], eps_id=["a"])),
        "no column 'obs'",
    ),
    "B06 one row less": (
        replace("actions", lambda a: a[:-1]),
        "'actions': got 31 rows, want 32 rows, as in column 'obs'",
    ),
    "B06 one row less, in front": (
        shorten_in_front,
        "'actions': got 31 rows, want 32 rows, as in column 'obs'",
    ),
    "B06 no rows": (replace("obs", lambda a: a[:0]), "got 32 rows, want 0 rows"),
    "B07 other width": (
        replace("obs", lambda a: np.zeros((32, 5), np.float32)),
        r"'obs': got float32 \(32, 5\), want \(N, 4\)",
    ),
    "B08 no axis of rows": (
        replace("obs", lambda a: a[0]),
        r"'obs': got float32 \(4,\), want \(N, 4\).*Hint: add axis 0",
    ),
    "B08 axis too many": (
        replace("advantages", lambda a: a[:, None]),
        r"'advantages'.*\(32, 1\).*drop the last axis",
    ),
    "B08 scalar": (replace("advantages", lambda a: a[0]), "'advantages'.*a scalar"),
    "B08 0-d array": (
        replace("advantages", lambda a: np.array(1.0)),
        "'advantages': got a scalar, want .*rows",
    ),
    "B09 float actions": (
        replace("actions", lambda a: a.astype(np.float32)),
        "'actions': got dtype float32, want values of kind int",
    ),
    "B09 bool observations": (
        replace("obs", lambda a: a > 0),
        "'obs': got dtype bool, want values of kind float",
    ),
    "B09 float mask": (
        lambda b: b.update(loss_mask=np.ones(32)),
        "'loss_mask': got dtype float64, want values of kind bool",
    ),
    "B09 nested": (
        replace("rewards", lambda a: {"a": a}),
        r"'rewards': got a dict with keys \['a'\], want an array",
    ),
    "B10 objects": (
        replace("obs", lambda a: np.array([*[1.0] * 3, *["x"] * 29], object)),
        "'obs': got dtype object, row 3 is 'str', want numbers",
    ),
    "B10 text": (
        replace("rewards", lambda a: np.full(32, "x")),
        "'rewards': got dtype <U1, row 0 is 'str_', want numbers",
    ),
    "B10 complex": (
        replace("rewards", lambda a: a.astype(np.complex64)),
        "'rewards': got dtype complex64.*want numbers",
    ),
    "B11 NaN": (
        put("obs", (17, 2), np.nan),
        r"'obs': got 1 non-finite value, the first \(nan\) at row 17, index \(2,\)",
    ),
    "B12 Inf": (
        put("rewards", [5, 9], np.inf),
        r"'rewards': got 2 non-finite values, the first \(inf\) at row 5,",
    ),
    "B12 NaN in a column nobody knows": (
        lambda b: b.update(own=np.array([0.0, np.nan] * 16)),
        "'own'.*at row 1,",
    ),
    "B12 too large for float32": (
        replace("value_targets", lambda a: np.full(32, 1e300)),
        "'value_targets'.*1e.300.*row 0, want finite float32",
    ),
    "B12 NaN under a mask": (
        lambda b: (
            put("rewards", 5, np.nan)(b),
            b.update(loss_mask=np.arange(32) < 5),
        ),
        "'rewards'.*at row 5",
    ),
    "B13 action 2 of 2": (
        put("actions", 4, 2),
        r"'actions': got 2 at row 4, want values in \[0, 1\]",
    ),
    "B13 action -1": (put("actions", 4, -1), "'actions': got -1 at row 4"),
    "B13 too large for int32": (
        lambda b: b.update(own=np.array([0, 2**40] * 16)),
        "'own': got 1099511627776 at row 1",
    ),
    "B13 +inf logit": (put("action_dist_inputs", (3, 1), np.inf), "dist_inputs'.*inf"),
    "B16 sum": (
        lambda b: b.update(seq_lens=np.array([20, 10])),
        "'seq_lens': got a sum of 30, want 32, the rows in column 'obs'",
    ),
    "B16 length 0": (
        lambda b: b.update(seq_lens=np.array([20, 12, 0])),
        "'seq_lens': got length 0 in row 2, want 1 to 32",
    ),
    "B16 negative": (
        lambda b: b.update(seq_lens=np.array([-1, 33])),
        "'seq_lens': got length -1 in row 0",
    ),
    "B16 no numbers, and another column missing": (
        lambda b: (b.pop("advantages"), b.update(seq_lens=np.array([np.nan]))),
        "no column 'advantages'",
    ),
    "B20 None": (replace("obs", lambda a: None), "'obs': got .*NoneType"),
    "B20 torch": (
        replace("obs", of_library("torch", "Tensor")),
        "'obs': got torch.Tensor, want a NumPy array or an eager Tens.*np.asarray",
    ),
    "B20 jax": (
        replace("actions", of_library("jaxlib._jax", "ArrayImpl")),
        "'actions': got jaxlib._jax.ArrayImpl, want a NumPy array",
    ),
    "B20 no array at all": (
        replace("obs", lambda a: object()),
        "'obs': got builtins.object",
    ),
    "B20 symbolic": (replace("obs", symbolic), "'obs': got tensorflow.*eager"),
    "B20 masked array": (
        replace("rewards", lambda a: np.ma.masked_invalid(a)),
        "'rewards': got numpy.ma.*MaskedArray",
    ),
    "B20 ragged list": (
        replace("obs", lambda a: [[1.0], [1.0, 2.0]]),
        "'obs': got a ragged list, want rows of one shape",
    ),
    "B20 ragged nest": (
        replace("obs", lambda a: {"a": [[1.0], [1.0, 2.0]]}),
        r"'obs'\['a'\]: got builtins.list",
    ),
    "B20 ragged tensor": (
        replace("obs", lambda a: tf.ragged.constant([[1.0], [1.0, 2.0]])),
        "'obs': got tensorflow.*RaggedTensor, want a NumPy array",
    ),
    "B20 sparse tensor": (
        replace("obs", lambda a: tf.sparse.from_dense(a)),
        "'obs': got tensorflow.*SparseTensor",
    ),
    "B20 empty nest": (
        replace("rewards", lambda a: {}),
        r"'rewards': got a dict with keys \[\], want at least one array",
    ),
    "B20 keys of two kinds": (
        replace("rewards", lambda a: {"a": a, 1: a}),
        "'rewards': got a dict with keys .*sorted",
    ),
    "B22 rows": (
        replace("obs", declare(2**31 + 8)),
        r"'obs': got float32 \(2147483656, 4\), 34.4 GB, want at most 2147483647 rows",
    ),
    "B22 rows of few bytes": (
        lambda b: b.update(loss_mask=declare(2**31)(np.ones(1, bool))),
        r"'loss_mask': got bool \(2147483648,\), 2.1 GB, want at most 2147483647 rows",
    ),
    "B22 bytes": (
        replace("obs", declare(2**31 - 1)),
        r"'obs': got float32 \(2147483647, 4\), 34.4 GB, want .* GB \(half of this mac",
    ),
    "name": (lambda b: b.update({3: b["obs"]}), "a column called 3, want a name"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_refused(case, monkeypatch):
    memory = 2**34  # As on a machine of 32 GB.
    monkeypatch.setattr(batch_checks, "max_bytes", lambda: memory)
    spoil, text = BAD[case]
    columns = rows()
    spoil(columns)
    assert_refused(columns, module_of(), text)


def change_state(function):
    def change(batch):
        function(batch["state_in"])

    return change


BAD_SEQUENCES = {
    "B16 too long": (
        put("seq_lens", 2, 6),
        "'seq_lens': got length 6 in row 2, want 1 to 5, the steps in column 'obs'",
    ),
    "B16 length 0": (put("seq_lens", 1, 0), "'seq_lens': got length 0 in row 1"),
    "B16 negative": (put("seq_lens", 3, -2), "'seq_lens': got length -2 in row 3"),
    "B16 one too few": (
        replace("seq_lens", lambda a: a[:-1]),
        "'seq_lens': got 3 lengths, want 4, the sequences in column 'obs'",
    ),
    "B16 floats": (
        replace("seq_lens", lambda a: a.astype(np.float32)),
        "'seq_lens': got dtype float32, want values of kind int",
    ),
    "B16 two axes": (
        replace("seq_lens", lambda a: a[:, None]),
        r"'seq_lens': got int32 \(4, 1\), want \(S,\)",
    ),
    "B16 rows without lengths": (
        lambda b: (b.pop("seq_lens"), b.update(obs=b["obs"].reshape(20, 4))),
        "no column 'seq_lens' beside 20 rows in column 'obs'.*sequences",
    ),
    "B16 mask beyond the length": (
        lambda b: b.update(loss_mask=np.ones((4, 5), bool)),
        "'loss_mask': got True at sequence 1, step 3, want False from step 3 on",
    ),
    "B06 one step less": (
        replace("rewards", lambda a: a[:, :-1]),
        "'rewards': got 4 steps of 4 sequences, want 5 steps of 4 sequences, as in",
    ),
    "B06 rows beside sequences": (
        replace("rewards", lambda a: a.reshape(20)),
        r"'rewards': got float32 \(20,\), want \(S, T\)",
    ),
    "B07 other width": (
        replace("obs", lambda a: a[..., :3]),
        r"'obs': got float32 \(4, 5, 3\), want \(S, T, 4\)",
    ),
    "B11 NaN": (
        put("obs", (2, 4, 1), np.nan),
        r"'obs': got 1 non-finite value, .*sequence 2, step 4, index \(1,\)",
    ),
    "B11 NaN in padding": (
        put("rewards", (1, 4), np.nan),
        "'rewards': .*sequence 1, step 4",
    ),
    "B13 action in padding": (
        put("actions", (1, 4), 2),
        "'actions': got 2 at sequence 1, step 4",
    ),
    "state missing": (
        change_state(lambda s: s.pop("h")),
        r"'state_in': got a dict with keys \['c'\], want a dict with keys \['h', 'c'\]",
    ),
    "state of another size": (
        change_state(lambda s: s.update(h=np.zeros((4, 3), np.float32))),
        r"'state_in'\['h'\]: got float32 \(4, 3\), want \(S, 4\)",
    ),
    "state per step": (
        change_state(lambda s: s.update(h=np.zeros((20, 4), np.float32))),
        r"'state_in'\['h'\]: got 20 sequences, want 4 sequences, as in column 'obs'",
    ),
    "state not finite": (
        change_state(lambda s: s["h"].fill(np.inf)),
        r"'state_in'\['h'\]: got 16 non-finite values.*sequence 0, index \(0,\)",
    ),
    "state no dict": (
        lambda b: b.update(state_in=np.zeros((4, 4), np.float32)),
        "'state_in': got an array, want a dict",
    ),
}


@pytest.mark.parametrize("case", BAD_SEQUENCES)
def test_bad_sequences_are_refused(case):
    spoil, text = BAD_SEQUENCES[case]
    columns = sequences()
    spoil(columns)
    assert_refused(columns, module_of(INITIAL_STATE), text)


def test_columns_that_nobody_knows_are_refused_when_strict():  # B04
    columns = rows() | {"rewrads": np.zeros(32, np.float32)}
    text = "'rewrads': got a column that nobody knows.*did you mean 'rewards'"
    assert_refused(columns, module_of(), text, mode="strict")
    del columns["rewrads"]
    columns |= {"eps_id": ["e"] * 32, "t": np.arange(32)}
    assert "t" in check(columns, module_of(), mode="strict")
