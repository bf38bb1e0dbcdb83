"""Tests for `tflearner.data.minibatches`."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tflearner.data import iterators, minibatches
from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.errors import BatchError, UsageError

SIZES = st.dictionaries(
    st.sampled_from("abc"), st.integers(1, 40), min_size=1, max_size=3
)


def oracle(num_items, sizes, num_epochs):
    """Walks all modules item by item, until each was walked through often enough."""
    cursor = dict.fromkeys(num_items, 0)
    covered = dict.fromkeys(num_items, 0)
    plan = {module_id: [] for module_id in num_items}
    while min(covered.values()) < num_epochs:
        for module_id, items in num_items.items():
            minibatch = []
            for _ in range(sizes[module_id]):
                minibatch.append(cursor[module_id])
                cursor[module_id] += 1
                if cursor[module_id] == items:
                    cursor[module_id] = 0
                    covered[module_id] += 1
            plan[module_id].append(minibatch)
    return plan


@settings(deadline=None, max_examples=100)
@given(num_items=SIZES, size=st.integers(1, 50), num_epochs=st.integers(1, 5))
def test_unshuffled_plan_matches_the_oracle(num_items, size, num_epochs):
    plan = minibatches.plan_minibatches(
        num_items, minibatch_size=size, num_epochs=num_epochs
    )
    want = oracle(num_items, dict.fromkeys(num_items, size), num_epochs)
    assert plan.num_minibatches == math.ceil(
        num_epochs * max(num_items.values()) / size
    )
    for module_id, indices in plan.indices.items():
        assert indices.dtype == np.int32
        np.testing.assert_array_equal(indices, want[module_id])


@settings(deadline=None, max_examples=50)
@given(num_items=SIZES, data=st.data(), num_epochs=st.integers(1, 4))
def test_plan_with_a_size_per_module_matches_the_oracle(num_items, data, num_epochs):
    sizes = {m: data.draw(st.integers(1, 20)) for m in num_items}
    plan = minibatches.plan_minibatches(
        num_items, minibatch_size=sizes, num_epochs=num_epochs
    )
    want = oracle(num_items, sizes, num_epochs)
    for module_id, indices in plan.indices.items():
        np.testing.assert_array_equal(indices, want[module_id])


@settings(deadline=None, max_examples=100)
@given(
    size=st.integers(1, 12),
    factor=st.integers(1, 6),
    num_epochs=st.integers(1, 5),
    shuffle=st.booleans(),
    seed=st.integers(0, 99),
)
def test_each_row_is_seen_once_per_epoch(size, factor, num_epochs, shuffle, seed):
    items = size * factor
    plan = minibatches.plan_minibatches(
        {"wide": items, "short": 1},
        minibatch_size=size,
        num_epochs=num_epochs,
        shuffle=shuffle,
        rng=np.random.default_rng(seed),
    )
    epochs = plan.indices["wide"].reshape(num_epochs, items)
    np.testing.assert_array_equal(np.sort(epochs), [list(range(items))] * num_epochs)
    assert not plan.indices["short"].any()


def test_every_epoch_has_an_order_of_its_own_the_first_included():
    plan = minibatches.plan_minibatches(
        {"p": 100, "q": 60},
        minibatch_size=10,
        num_epochs=3,
        shuffle=True,
        rng=np.random.default_rng(0),
    )
    epochs = [list(range(100)), *plan.indices["p"].reshape(3, 100).tolist()]
    assert len({tuple(epoch) for epoch in epochs}) == 4
    own = plan.indices["q"].ravel()[:300].reshape(5, 60)
    np.testing.assert_array_equal(np.sort(own), [list(range(60))] * 5)


def test_a_single_epoch_is_shuffled_when_asked():
    plan = minibatches.plan_minibatches({"p": 100}, minibatch_size=10, shuffle=True)
    assert plan.indices["p"].ravel().tolist() != list(range(100))


def test_a_module_that_fits_into_a_minibatch_stays_in_order():
    plan = minibatches.plan_minibatches(
        {"p": 4, "q": 9}, minibatch_size=6, shuffle=True, rng=np.random.default_rng(0)
    )
    assert plan.indices["p"].ravel().tolist() == [0, 1, 2, 3] * 3


def test_same_seed_same_plan():
    first, second, other = (
        minibatches.plan_minibatches(
            {"p": 50, "q": 20},
            minibatch_size=8,
            num_epochs=2,
            shuffle=True,
            rng=np.random.default_rng(seed),
        )
        for seed in (3, 3, 4)
    )
    for module_id in "pq":
        np.testing.assert_array_equal(
            first.indices[module_id], second.indices[module_id]
        )
    assert (first.indices["p"] != other.indices["p"]).any()


@pytest.mark.parametrize(
    ("num_items", "size", "num_epochs", "want"),
    [
        ({"p": 512}, 128, 1, 4),
        ({"p": 96}, 16, 2, 12),
        ({"p": 100}, 32, 3, 10),
        ({"p": 32}, 128, 1, 1),
        ({"p": 128, "q": 64}, 32, 2, 8),
    ],
)
def test_known_counts(num_items, size, num_epochs, want):
    batch = row_batch(num_items)
    iterator = iterators.MiniBatchCyclicIterator(
        batch, minibatch_size=size, num_epochs=num_epochs
    )
    assert [len(m["p"]) for m in iterator] == [size] * want


def test_total_number_wins_over_epochs():
    counts = {
        items: minibatches.plan_minibatches(
            {"p": items}, minibatch_size=16, num_epochs=2, num_total_minibatches=7
        )
        .indices["p"]
        .shape
        for items in (5, 64, 1000)
    }
    assert set(counts.values()) == {(7, 16)}


@pytest.mark.parametrize("size", [0, -1, 2.5, 64.0, True, None, "64", {"q": 4}])
def test_minibatch_size_must_be_a_count(size):
    with pytest.raises(UsageError, match="minibatch_size: got .*want int >= 1"):
        minibatches.plan_minibatches({"p": 8}, minibatch_size=size)


@pytest.mark.parametrize("setting", ["num_epochs", "num_total_minibatches"])
@pytest.mark.parametrize("value", [-1, None, 1.5, True])
def test_counts_must_be_counts(setting, value):
    with pytest.raises(UsageError, match=f"{setting}: got {value}, want int >="):
        minibatches.plan_minibatches({"p": 8}, minibatch_size=2, **{setting: value})
    with pytest.raises(UsageError, match="num_epochs: got 0"):
        minibatches.plan_minibatches({"p": 8}, minibatch_size=2, num_epochs=0)


def test_modules_without_rows_are_an_error():
    with pytest.raises(BatchError, match="module 'q': got 0 rows, want at least 1"):
        iterators.MiniBatchCyclicIterator(row_batch({"p": 4, "q": 0}), minibatch_size=2)
    with pytest.raises(BatchError, match="0 modules"):
        minibatches.plan_minibatches({}, minibatch_size=2)


@pytest.mark.parametrize(
    ("num_seqs", "rows", "size", "want"),
    [(10, 100, 20, 2), (10, 95, 20, 2), (3, 100, 10, 1), (4, 8, 16, 8)],
)
def test_sequences_per_minibatch(num_seqs, rows, size, want):
    assert minibatches.items_per_minibatch(num_seqs, rows, size) == want


def row_batch(num_items, env_steps=77):
    """Modules whose `obs` and `infos` say which row they are."""
    return MultiAgentBatch(
        {
            module_id: SampleBatch(
                obs=np.arange(items), infos=[{"row": i} for i in range(items)]
            )
            for module_id, items in num_items.items()
        },
        env_steps=env_steps,
    )


def test_iterator_yields_the_rows_of_its_plan_and_leaves_the_batch_alone():
    batch = row_batch({"p": 7, "q": 3})
    iterator = iterators.MiniBatchCyclicIterator(
        batch, minibatch_size=4, num_epochs=2, rng=np.random.default_rng(0)
    )
    seen = list(iterator)
    for module_id in "pq":
        got = [minibatch[module_id]["obs"] for minibatch in seen]
        np.testing.assert_array_equal(got, iterator.plan.indices[module_id])
        infos = [info["row"] for info in seen[1][module_id]["infos"]]
        assert infos == got[1].tolist()
    assert {len(minibatch) for minibatch in seen} == {77}
    assert batch["p"]["obs"].tolist() == list(range(7))


def test_iterating_again_yields_the_same():
    iterator = iterators.MiniBatchCyclicIterator(row_batch({"p": 9}), minibatch_size=2)
    first, second = ([m["p"]["obs"].tolist() for m in iterator] for _ in range(2))
    assert first == second and len(first) == 5


def test_iterator_keeps_sequences_whole():
    lengths = np.array([4, 2, 4, 1, 3])
    steps = np.where(np.arange(4) < lengths[:, None], np.arange(20).reshape(5, 4), 0)
    sequences = SampleBatch(
        obs=steps, seq_lens=lengths, state_in=np.arange(5), _zero_padded=True
    )
    batch = MultiAgentBatch(
        {"rnn": sequences, **row_batch({"mlp": 14}).policy_batches}, 14
    )
    seen = list(iterators.MiniBatchCyclicIterator(batch, minibatch_size=6))
    # 5 sequences of 14 steps together: 2 hold about 6 steps.
    assert len(seen) == 3
    for minibatch in seen:
        part = minibatch["rnn"]
        np.testing.assert_array_equal(part["obs"], steps[part["state_in"]])
        np.testing.assert_array_equal(part["seq_lens"], lengths[part["state_in"]])
        assert part["obs"].shape == (2, 4) and len(minibatch["mlp"]) == 6
        assert part.zero_padded
    assert {int(s) for m in seen for s in m["rnn"]["state_in"]} == set(range(5))


def test_dummy_iterator_yields_the_batch_once():
    batch = row_batch({"p": 3})
    (only,) = iterators.MiniBatchDummyIterator(batch, num_epochs=5, minibatch_size=1)
    assert only is batch
