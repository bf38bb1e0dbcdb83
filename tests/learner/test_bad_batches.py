"""Everything a batch may have wrong: what is said, and that nothing was changed.

The numbers in front of the cases are those of the catalogue of bad inputs.
"""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.errors import BatchError, UnknownModuleError, UsageError
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import learner_digest, random_batch

SKIPPED = "learner_update_skipped_empty_batch_lifetime"


@pytest.fixture(scope="module")
def learner(make_learner):
    """A PPO learner that has learned, and that no test of this module changes."""
    learner = make_learner(run_eagerly=True)
    learner.update(batch_of(learner))
    return learner


@pytest.fixture(scope="module")
def recurrent_learner(make_learner):
    """The same with a stateful module."""
    settings = DefaultModelConfig(
        fcnet_hiddens=[8], use_lstm=True, lstm_cell_size=4, max_seq_len=5
    )
    return make_learner(run_eagerly=True, model_config=settings)


def batch_of(learner, num_rows=32, *, seed=0):
    return random_batch(learner.module[DEFAULT_MODULE_ID], num_rows, seed=seed)


def assert_refused(learner, batch, text, error=BatchError, **settings):
    """Checks class and text of the error, and that it keeps its promise."""
    before = learner_digest(learner)
    with pytest.raises(error, match=text) as raised:
        learner.update(batch, **settings)
    assert "Nothing was changed." in str(raised.value)
    assert learner_digest(learner) == before
    return str(raised.value)


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
def test_bad_batch_is_refused_and_changes_nothing(learner, case, monkeypatch):
    memory = 2**34  # As on a machine of 32 GB.
    monkeypatch.setattr("tflearner.learner.batch_checks.max_bytes", lambda: memory)
    spoil, text = BAD[case]
    batch = batch_of(learner)
    spoil(batch)
    message = assert_refused(learner, batch, text)
    assert f"module {DEFAULT_MODULE_ID!r}" in message


def sequences_of(learner):
    """Returns four sequences of up to five steps, padded with zeros."""
    batch = batch_of(learner, 20)
    del batch["loss_mask"]
    batch["seq_lens"] = np.array([5, 3, 5, 1], np.int32)
    is_padding = np.arange(5) >= batch["seq_lens"][:, None]
    for column, values in batch.items():
        if column not in ("seq_lens", "state_in"):
            values[is_padding] = 0
    return batch


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
def test_bad_sequences_are_refused_and_change_nothing(recurrent_learner, case):
    spoil, text = BAD_SEQUENCES[case]
    batch = sequences_of(recurrent_learner)
    spoil(batch)
    message = assert_refused(recurrent_learner, batch, text)
    assert f"module {DEFAULT_MODULE_ID!r}" in message


# B01 and B19: what is asked for.


def test_exactly_one_kind_of_data_is_wanted(learner):
    assert_refused(learner, None, "update.*exactly one", UsageError)
    batch = batch_of(learner)
    assert_refused(learner, batch, "update.*exactly one", UsageError, episodes=[])


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "8"])
def test_minibatch_size_is_a_count(learner, value):  # B17
    text = f"minibatch_size: got {value!r}, want int >= 1"
    assert_refused(learner, batch_of(learner), text, UsageError, minibatch_size=value)


@pytest.mark.parametrize("value", [0, None, -1, 1.5, True])
def test_number_of_epochs_is_a_count(learner, value):  # B19
    text = f"num_epochs: got {value!r}, want int >= 1"
    assert_refused(learner, batch_of(learner), text, UsageError, num_epochs=value)


# B02: modules.


@pytest.mark.parametrize(
    "wrap",
    [
        lambda own: {"default_polcy": own},
        lambda own: {DEFAULT_MODULE_ID: own, "default_polcy": own},
        lambda own: MultiAgentBatch({"default_polcy": own}, env_steps=32),
    ],
)
def test_unknown_module_is_named_with_the_closest_one(learner, wrap):
    text = "'default_polcy'.*'default_policy'.*did you mean 'default_policy'"
    assert_refused(learner, wrap(batch_of(learner)), text, UnknownModuleError)
    assert issubclass(UnknownModuleError, KeyError)


@pytest.mark.parametrize("batch", [3, "obs", [1.0], np.zeros(3)])
def test_what_is_no_batch_is_refused(learner, batch):
    assert_refused(learner, batch, "MultiAgentBatch.*dict of columns")


def test_columns_of_a_module_are_a_dict(learner):
    text = "'default_policy': got .*NoneType.*columns"
    assert_refused(learner, {DEFAULT_MODULE_ID: None}, text)


def test_columns_without_module_need_one_module(make_learner):
    learner = make_learner(policies=["p0", "p1"])
    batch = random_batch(learner.module["p0"], 4)
    assert_refused(learner, batch, r"without a module id.*\['p0', 'p1'\]")


def test_columns_put_into_a_sample_batch_later_are_checked_too(learner):
    batch = SampleBatch(batch_of(learner))
    batch["obs"] = [[1.0], [1.0, 2.0]]
    assert_refused(learner, batch.as_multi_agent(), "'obs': got builtins.list")
    batch = SampleBatch(batch_of(learner), seq_lens=np.array(["a"]))
    assert_refused(learner, batch, "'seq_lens': got dtype <U1, want values of kind int")


# B04: columns that nobody knows.


def test_own_columns_are_refused_when_strict(make_learner):
    learner = make_learner(run_eagerly=True, batch_checks="strict")
    batch = batch_of(learner) | {"rewrads": np.zeros(32, np.float32)}
    text = "'rewrads': got a column that nobody knows.*did you mean 'rewards'"
    assert_refused(learner, batch, text)
    del batch["rewrads"]
    learner.update(batch | {"eps_id": ["e"] * 32, "t": np.arange(32)})


def test_own_columns_reach_the_loss_by_default(make_learner):
    learner = make_learner(run_eagerly=True)
    seen = []
    compute_losses = learner.compute_losses
    learner.compute_losses = lambda **kwargs: (
        seen.append(kwargs["batch"][DEFAULT_MODULE_ID]["rewrads"].dtype),
        compute_losses(**kwargs),
    )[1]
    learner.update(batch_of(learner) | {"rewrads": np.zeros(32)})
    assert seen == [tf.float32]


# B15: nothing that counts.


def test_module_whose_mask_is_all_false_is_skipped(make_learner):
    learner = make_learner(policies=["p0", "p1"], run_eagerly=True)
    batch = {mid: random_batch(learner.module[mid], 8) for mid in ("p0", "p1")}
    batch["p0"]["loss_mask"] = np.zeros(8, bool)
    before = learner.get_state(components="rl_module")["rl_module"]
    results = learner.update(batch)
    assert "total_loss" not in results["p0"] and "total_loss" in results["p1"]
    after = learner.get_state(components="rl_module")["rl_module"]
    for key, weights in before["p0"].items():
        np.testing.assert_array_equal(after["p0"][key], weights)
    del batch["p1"]
    results = learner.update(batch)
    assert results["__all_modules__"][SKIPPED] == 1
    assert learner.get_state()["weights_seq_no"] == 1


def test_masked_batch_is_checked_before_it_is_skipped(learner):
    batch = batch_of(learner) | {"loss_mask": np.zeros(32, bool)}
    batch["obs"][3] = np.nan
    assert_refused(learner, batch, "'obs'.*at row 3")


# B21: whose arrays they are.


def test_arrays_stay_the_callers(make_learner):
    ours, theirs = make_learner(), make_learner()
    for seed in range(3):
        batch = batch_of(ours, seed=seed)
        for values in batch.values():
            values.setflags(write=False)
        theirs.update(batch)
        reused = {column: values.copy() for column, values in batch.items()}
        ours.update(reused)
        for column, values in reused.items():
            np.testing.assert_array_equal(values, batch[column])
            values[...] = 0  # As a collector does that fills its arrays again.
    assert_equal_weights(ours, theirs)


def assert_equal_weights(first, second):
    first, second = (
        learner.get_state(components="rl_module")["rl_module"][DEFAULT_MODULE_ID]
        for learner in (first, second)
    )
    for key, weights in first.items():
        np.testing.assert_array_equal(weights, second[key])


@pytest.mark.parametrize(
    "convert",
    [
        tf.constant,
        tf.Variable,
        np.asfortranarray,
        lambda a: a[::-1][::-1],
        lambda a: a.astype(a.dtype.newbyteorder(">")),
        lambda a: a.tolist(),
    ],
    ids=["tensor", "variable", "column-major", "strides", "byte order", "list"],
)
def test_other_forms_of_the_same_numbers_train_alike(make_learner, convert):
    ours, theirs = make_learner(run_eagerly=True), make_learner(run_eagerly=True)
    batch = batch_of(ours)
    theirs.update(batch)
    own = {"own": np.arange(32, dtype=np.float32)}  # Of a form nobody knows.
    ours.update({column: convert(values) for column, values in (batch | own).items()})
    assert_equal_weights(ours, theirs)
