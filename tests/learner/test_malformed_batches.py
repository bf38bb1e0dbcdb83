"""Batches with one to three faults at once: none is accepted, none changes anything.

The checks are thrown at as functions. The slow tier throws as many at a learner.
"""

import re
from collections import Counter

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tflearner.errors import BatchError
from tflearner.intake import batch_checks, train_batch
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.testing import learner_digest, random_batch

NUM_ROWS, NUM_SEQUENCES, NUM_STEPS = 12, 4, 3
LENGTHS = np.array([3, 1, 3, 2])


class NestedModule(TfRLModule, ValueFunctionAPI):
    """Reads observations of a Dict space."""

    def setup(self):
        self.pi, self.vf = keras.layers.Dense(2), keras.layers.Dense(1)

    def _forward(self, batch, **kwargs):
        outputs = {"action_dist_inputs": self.pi(_joined(batch["obs"]))}
        return outputs | {"vf_preds": self.compute_values(batch)}

    def compute_values(self, batch, embeddings=None):
        return tf.squeeze(self.vf(_joined(batch["obs"])), -1)


def _joined(obs):
    return tf.concat([obs["arm"], tf.one_hot(obs["joint"], 3)], -1)


BOX, DISCRETE = gym.spaces.Box, gym.spaces.Discrete
RECURRENT = DefaultModelConfig(
    fcnet_hiddens=[4], use_gru=True, lstm_cell_size=2, max_seq_len=NUM_STEPS
)
SPECS = {
    "discrete": RLModuleSpec(
        observation_space=BOX(-1, 1, (4,)), action_space=DISCRETE(3)
    ),
    "box": RLModuleSpec(
        observation_space=DISCRETE(5, start=2), action_space=BOX(-1, 1, (2,))
    ),
    "image": RLModuleSpec(
        observation_space=BOX(0, 255, (3, 4), np.uint8), action_space=DISCRETE(2)
    ),
    "nested": RLModuleSpec(
        module_class=NestedModule,
        observation_space=gym.spaces.Dict(arm=BOX(-1, 1, (2,)), joint=DISCRETE(3)),
        action_space=DISCRETE(2),
    ),
    "recurrent": RLModuleSpec(
        observation_space=BOX(-1, 1, (4,)),
        action_space=DISCRETE(2),
        model_config=RECURRENT,
    ),
}
# Columns that a loss reads, and so must be there.
REQUIRED = {
    "obs",
    "actions",
    "action_logp",
    "action_dist_inputs",
    "advantages",
    "value_targets",
}


@pytest.fixture(scope="module")
def modules(make_config):
    """A module per layout of columns."""
    return make_config(policies=SPECS).get_multi_rl_module_spec().build(seed=0)


@pytest.fixture(scope="module")
def batches(modules):
    """A valid batch per layout; the recurrent module takes two."""
    made = {mid: random_batch(module, NUM_ROWS) for mid, module in modules.items()}
    for columns in made.values():
        leading = columns["rewards"].shape
        columns["own"] = np.linspace(0, 1, NUM_ROWS).reshape(leading)
        columns["loss_mask"] = columns["own"] < 0.9
    recurrent = made["recurrent"]
    of_sequences = {name: recurrent.pop(name) for name in ("seq_lens", "state_in")}
    of_sequences["seq_lens"] = LENGTHS
    valid = np.arange(NUM_STEPS) < LENGTHS[:, None]
    rows = {name: values[valid] for name, values in recurrent.items()}
    recurrent["loss_mask"] = recurrent["loss_mask"] & valid
    return made | {
        "recurrent": rows | of_sequences,
        "sequences": recurrent | of_sequences,
    }


# What is done to an array. Each function gets the array and a generator.


def _with(value, dtype=None):
    """Puts a value somewhere."""

    def change(array, rng):
        changed = array.astype(dtype or np.result_type(array.dtype, np.float32))
        changed.flat[rng.integers(array.size)] = value
        return changed

    return change


def _foreign(array, rng):
    return type("Tensor", (), {"__module__": "torch", "shape": array.shape})()


FAULTS = {
    "None": lambda a, rng: None,
    "scalar": lambda a, rng: a.flat[0],
    "0-d": lambda a, rng: np.array(1.0),
    "text": lambda a, rng: "abc",
    "bytes": lambda a, rng: a.tobytes(),
    "set": lambda a, rng: {1.0, 2.0},
    "object": lambda a, rng: object(),
    "foreign": _foreign,
    "sparse": lambda a, rng: tf.sparse.from_dense(np.ones((2, 2), np.float32)),
    "ragged": lambda a, rng: [[1.0], [1.0, 2.0]],
    "list with None": lambda a, rng: [None] * len(a),
    "one less": lambda a, rng: a[:-1],
    "one more": lambda a, rng: np.concatenate([a, a[:1]]),
    "none": lambda a, rng: a[:0],
    "first only": lambda a, rng: a[0],
    "axis in front": lambda a, rng: a[None],
    "complex": lambda a, rng: a.astype(np.complex64),
    "time": lambda a, rng: np.zeros(a.shape, "datetime64[s]"),
    "strings": lambda a, rng: a.astype(str),
    "objects": lambda a, rng: a.astype(object),
    "record": lambda a, rng: np.zeros(a.shape, [("x", "f4")]),
    "masked": lambda a, rng: np.ma.masked_array(a, a == a.flat[0]),
    "string tensor": lambda a, rng: tf.constant(["a"] * len(a)),
    "NaN": _with(np.nan),
    "Inf": _with(np.inf),
    "too large": _with(1e300, np.float64),
    "empty dict": lambda a, rng: {},
    "empty tuple": lambda a, rng: (),
    "keys": lambda a, rng: {"a": a, 1: a},
    "huge": lambda a, rng: np.broadcast_to(a[:1], (2**31 + 5, *a.shape[1:])),
}
# Only wrong where somebody knows what the column should look like.
FORM_FAULTS = {
    "axis behind": lambda a, rng: a[..., None],
    "nested": lambda a, rng: {"a": a},
    "tuple": lambda a, rng: (a, a),
}
KIND_FAULTS = {
    "f": {"bool": lambda a, rng: a > 0},
    "iu": {
        "float": lambda a, rng: a.astype(np.float32),
        "high": _with(300, np.int64),
        "too high": _with(2**40, np.int64),
        "highest": _with(2**64 - 1, np.uint64),
        "negative": _with(-1, np.int64),
    },
    "b": {
        "mask of floats": lambda a, rng: a.astype(np.float32),
        "mask of ints": lambda a, rng: a.astype(np.int64),
    },
}
WIDTH_FAULTS = {
    "wider": lambda a, rng: np.concatenate([a, a], axis=-1),
    "narrower": lambda a, rng: a[..., :-1],
}
HARMLESS = {
    "float64": lambda a, rng: a.astype(np.float64) if a.dtype.kind == "f" else a,
    "tensor": lambda a, rng: tf.constant(a),
    "column-major": lambda a, rng: np.asfortranarray(a),
    "strides": lambda a, rng: np.repeat(a, 2, axis=0)[::2],
    "byte order": lambda a, rng: a.astype(a.dtype.newbyteorder(">")),
}
LENGTH_FAULTS = {
    "length 0": lambda a, rng: _with(0, np.int64)(a, rng),
    "length -1": _with(-1, np.int64),
    "length 99": _with(99, np.int64),
    "float lengths": lambda a, rng: a.astype(np.float32),
    "lengths twice": lambda a, rng: np.tile(a, 2),
    "lengths in a table": lambda a, rng: a[:, None],
    "length names": lambda a, rng: np.array(["a"] * len(a)),
    "lengths of NaN": lambda a, rng: a * np.nan,
}
MISSING, RENAMED, OTHER_NAME = "missing", "renamed", "other name"
NAMES = sorted(
    {MISSING, RENAMED, OTHER_NAME}
    | FAULTS.keys()
    | FORM_FAULTS.keys()
    | WIDTH_FAULTS.keys()
    | HARMLESS.keys()
    | LENGTH_FAULTS.keys()
    | {name for faults in KIND_FAULTS.values() for name in faults}
)


def spoil(columns, path, name, rng, layout):
    """Does `name` to the array at `path`; returns whether that is a fault, or `None`.

    `None` means that nothing was done, because it makes no sense there.
    """
    column, key = path[0], path[-1]
    parent = columns
    if len(path) == 2:
        parent = columns[column] = dict(columns[column])
    array = parent[key]
    if name in (MISSING, RENAMED):
        del parent[key]
        if name == RENAMED:
            parent[key + "s"] = array
        if column == "state_in":
            return name == RENAMED  # Without it sequences begin in the initial state.
        if column == "seq_lens":
            return name == RENAMED or layout == "recurrent"
        return column in REQUIRED
    if name == OTHER_NAME:
        columns[7] = columns.pop(column)
        return True
    for names, is_fault in _of_array(path, array):
        if name in names:
            parent[key] = names[name](array, rng)
            return is_fault
    return None


def _of_array(path, array):
    """Yields pairs of {name: function} and whether that makes an array wrong."""
    if path[0] == "seq_lens":
        yield LENGTH_FAULTS, True
        return
    is_known = path[0] != "own"
    for kinds, faults in KIND_FAULTS.items():
        if array.dtype.kind in kinds:
            yield faults, is_known
    if is_known and array.dtype.kind != "b" and _has_width(path, array):
        yield WIDTH_FAULTS, True
    yield FORM_FAULTS, is_known
    yield HARMLESS, False
    yield FAULTS, True


def _has_width(path, array):
    return path[0] in ("action_dist_inputs", "state_in") or path[-1] in ("obs", "arm")


def paths_of(columns):
    for column, values in columns.items():
        if isinstance(values, dict):
            yield from ((column, key) for key in values)
        else:
            yield (column,)


def throw(take, batches, num_batches, digest=lambda: None):
    """Throws batches at a function; returns how often what was done.

    Args:
        take: The function, of a batch by module.
        batches: Valid columns by layout.
        num_batches: How many to throw.
        digest: Returns what no batch that is refused may change.
    """
    counts = Counter()
    # What one refused batch changes stays changed: it is enough to look now and then.
    state = {"digest": digest()}

    def check_unchanged():
        assert digest() == state["digest"], "one of the last 50 did it"

    @settings(
        max_examples=num_batches,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        layout=st.sampled_from([*batches]),
        num_faults=st.integers(1, 3),
        seed=st.integers(0, 2**32 - 1),
    )
    def check(layout, num_faults, seed):
        rng = np.random.default_rng(seed)
        module_id = "recurrent" if layout == "sequences" else layout
        columns = dict(batches[layout])
        free, verdicts = [*paths_of(columns)], []
        for name in rng.choice(NAMES, num_faults):
            for path in rng.permutation(np.array([*map("/".join, free)])):
                path = tuple(path.split("/"))
                done = spoil(columns, path, name, rng, layout)
                if done is not None:
                    free = [p for p in free if p[0] != path[0]]
                    verdicts.append(done)
                    counts[name] += 1
                    break
        is_wrong = any(verdicts)
        if not is_wrong or counts["wrong"] % 50 == 0:
            check_unchanged()
        try:
            take({module_id: columns})
        except BatchError as error:
            assert is_wrong, f"refused, though it is fine: {error}"
            _check_text(error, module_id, {*columns, *batches[layout]})
        else:
            assert not is_wrong, "accepted, though something is wrong"
            state["digest"] = digest()
        counts["wrong" if is_wrong else "fine"] += 1

    check()
    check_unchanged()
    return counts


def _check_text(error, module_id, columns):
    text = str(error)
    assert f"module {module_id!r}" in text and "Nothing was changed." in text
    names = re.findall(r"column '(\w+)'|a column called (\d)", text)
    assert names and any(name in map(str, columns) for name in names[0]), text


def test_malformed_batches_are_refused(modules, batches):
    specs = {mid: batch_checks.column_specs(own) for mid, own in modules.items()}

    def take(batch):
        given = train_batch.from_columns(batch, modules)
        ((module_id, columns),) = given.policy_batches.items()
        batch_checks.check_columns(
            module_id, columns, specs=specs[module_id], required=REQUIRED
        )

    counts = throw(take, batches, 1_000)
    assert counts["wrong"] > 700 and counts["fine"] > 20
    assert not [name for name in NAMES if not counts[name]]


def thrown_at_a_learner(make_learner, batches, num_batches):
    """It takes its gradient steps the first time only, to save time."""
    learner = make_learner(policies=SPECS, run_eagerly=True)
    run_update, outputs = learner._run_update, {}

    def run_update_once(plan):
        key = tuple(plan.columns)
        if key not in outputs:
            outputs[key] = run_update(plan)
        return outputs[key]

    learner._run_update = run_update_once
    return throw(learner.update, batches, num_batches, lambda: learner_digest(learner))


def test_malformed_batches_change_nothing(make_learner, batches):
    counts = thrown_at_a_learner(make_learner, batches, 50)
    assert counts["wrong"] > 30


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_malformed_batches_are_refused_and_change_nothing(make_learner, batches):
    counts = thrown_at_a_learner(make_learner, batches, 50_000)
    print(
        f"{counts['wrong']} malformed batches refused, {counts['fine']} fine ones not"
    )
    assert counts["wrong"] + counts["fine"] >= 50_000


@pytest.mark.parametrize("layout", [*SPECS, "sequences"])
def test_batches_without_a_fault_are_trained_on(get_learner, batches, layout):
    module_id = "recurrent" if layout == "sequences" else layout
    learner = get_learner(policies=SPECS, run_eagerly=True)
    results = learner.update({module_id: batches[layout]})
    assert np.isfinite(results[module_id]["total_loss"])
