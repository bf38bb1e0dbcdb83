"""Tests for `tflearner.data.sample_batch`."""

import pickle

import numpy as np
import pytest

from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch, concat_samples
from tflearner.errors import BatchError, UnknownModuleError, UsageError


class FakeTensor:
    """What a framework's tensor offers: a shape, plain slices, conversion to NumPy."""

    def __init__(self, array):
        self.array = np.asarray(array)
        self.shape = self.array.shape

    def __getitem__(self, index):
        assert not isinstance(index, np.ndarray), "tensors take no index arrays"
        return FakeTensor(self.array[index])

    def __array__(self, dtype=None, copy=None):
        return self.array


def rows(num=6):
    """A batch whose every column says which row it is."""
    return SampleBatch(
        {
            "infos": [{"row": i} for i in range(num)],
            "obs": {
                "a": np.arange(num) * 1.0,
                "b": (np.arange(num * 2).reshape(num, 2),),
            },
            "actions": np.arange(num),
        }
    )


def sequences(**kwargs):
    return SampleBatch(
        {
            "obs": np.arange(12.0).reshape(3, 4),
            "state_in": {"h": np.arange(3)},
            "seq_lens": np.array([4, 1, 2]),
        },
        **kwargs,
    )


def test_length_counts_rows():
    assert len(rows()) == rows().count == rows().env_steps() == 6
    assert len(SampleBatch()) == 0
    first_is_not_counted = SampleBatch({"state_in_0": np.zeros(2), "obs": np.zeros(5)})
    assert len(first_is_not_counted) == 5


def test_length_of_sequences_counts_their_steps():
    assert len(sequences()) == 7 and sequences().num_items == 3


def test_lists_become_arrays_but_infos_stay():
    batch = SampleBatch({"rewards": [1.0, 2.0], "infos": [{}, {}]})
    assert isinstance(batch["rewards"], np.ndarray) and batch["infos"] == [{}, {}]


@pytest.mark.parametrize("index", [slice(1, 4), slice(-2, None), slice(None, None, 2)])
def test_slices_cut_all_columns(index):
    batch = rows()
    part, want = batch[index], list(range(6))[index]
    assert part["actions"].tolist() == part["obs"]["a"].tolist() == want
    assert [info["row"] for info in part["infos"]] == want
    assert part["obs"]["b"][0][:, 0].tolist() == [2 * i for i in want]
    assert len(part) == len(want) and len(batch) == 6


@pytest.mark.parametrize("index", [slice(0, 0), slice(3, 3), slice(9, 12)])
def test_empty_slices_are_empty(index):
    assert len(rows()[index]) == 0 and rows()[index]["infos"] == []


def test_slices_by_sequence():
    batch = sequences()
    with pytest.raises(UsageError, match=r"enable_slicing_by_batch_id\(\)"):
        batch[0:2]
    batch.enable_slicing_by_batch_id()
    part = batch[1:]
    assert part["seq_lens"].tolist() == [1, 2] and part["obs"].shape == (2, 4)
    assert part["state_in"]["h"].tolist() == [1, 2] and len(part[1:]) == 2
    batch.disable_slicing_by_batch_id()
    with pytest.raises(UsageError):
        batch[0:2]


def test_slices_by_sequence_need_sequences():
    batch = rows()
    batch.enable_slicing_by_batch_id()
    with pytest.raises(UsageError, match="want a column 'seq_lens'"):
        batch[0:2]


def test_shuffle_permutes_all_columns_alike_and_no_array():
    batch, before = rows(50), rows(50)
    actions = batch["actions"]
    assert batch.shuffle(np.random.default_rng(1)) is batch
    order = batch["actions"].tolist()
    assert sorted(order) == list(range(50)) and order != list(range(50))
    assert batch["obs"]["a"].tolist() == order
    assert [info["row"] for info in batch["infos"]] == order
    np.testing.assert_array_equal(actions, before["actions"])
    assert rows(50).shuffle(np.random.default_rng(1))["actions"].tolist() == order


def test_shuffle_keeps_sequences_whole():
    batch = sequences(_zero_padded=True)
    batch.shuffle(np.random.default_rng(2))
    order = batch["state_in"]["h"]
    np.testing.assert_array_equal(batch["obs"], sequences()["obs"][order])
    np.testing.assert_array_equal(batch["seq_lens"], sequences()["seq_lens"][order])
    assert order.tolist() != [0, 1, 2]


def test_shuffle_of_sequences_that_are_not_padded_is_an_error():
    with pytest.raises(UsageError, match="_zero_padded=True"):
        sequences().shuffle()


def test_columns_of_unequal_length_are_an_error():
    batch = SampleBatch({"obs": np.zeros((4, 2)), "actions": np.zeros(3)})
    with pytest.raises(
        BatchError, match=r"'actions': got shape \(3,\), want 4, one per row"
    ):
        batch.shuffle()


def test_flat_columns_beside_sequences_are_an_error():
    batch = SampleBatch(
        {"obs": np.zeros((7, 2)), "seq_lens": [4, 1, 2]}, _zero_padded=True
    )
    with pytest.raises(BatchError, match="want 3, one per sequence"):
        batch.shuffle()


def test_take_repeats_and_reorders():
    taken = rows().take(np.array([5, 0, 5]))
    assert taken["actions"].tolist() == [5, 0, 5]
    assert [info["row"] for info in taken["infos"]] == [5, 0, 5]


def test_tensors_are_sliced_and_taken():
    batch = SampleBatch(
        {"obs": {"x": FakeTensor(np.arange(8).reshape(4, 2))}, "t": None}
    )
    assert len(batch) == batch.num_items == 4
    assert batch[1:3]["obs"]["x"].array.tolist() == [[2, 3], [4, 5]]
    assert batch.take([3, 0])["obs"]["x"].tolist() == [[6, 7], [0, 1]]
    assert batch.shuffle()["t"] is None


def test_copy_has_its_own_arrays():
    batch = sequences(_zero_padded=True)
    assert batch.copy(shallow=True)["obs"] is batch["obs"]
    copied = batch.copy()
    copied["obs"][:] = -1
    assert batch["obs"][0, 1] == 1 and copied.zero_padded


def test_rows_and_columns_are_read_out():
    row = list(rows(3).rows())[2]
    assert row["actions"] == 2 and row["infos"] == {"row": 2} and row["obs"]["a"] == 2.0
    assert [column.tolist() for column in rows(2).columns(["actions"])] == [[0, 1]]


def test_pickles():
    batch = pickle.loads(pickle.dumps(sequences(_zero_padded=True)))
    assert batch.zero_padded and len(batch) == 7


def test_concat_joins_and_drops_empty_batches():
    joined = concat_samples([rows()[:2], SampleBatch(), rows()[2:]])
    assert joined["actions"].tolist() == list(range(6))
    assert joined["obs"]["b"][0].shape == (6, 2) and joined["infos"][5] == {"row": 5}
    assert len(concat_samples([])) == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (sequences(), sequences(_zero_padded=True)),
        (rows(), SampleBatch({"actions": np.zeros(2)})),
        (SampleBatch(obs=np.zeros((2, 3))), SampleBatch(obs=np.zeros((2, 4)))),
    ],
)
def test_concat_refuses_unlike_batches(first, second):
    with pytest.raises(BatchError):
        concat_samples([first, second])


def test_multi_agent_batch_counts_env_steps_and_rows():
    batch = MultiAgentBatch({"p0": rows(6), "p1": {"obs": [1, 2]}}, env_steps=4)
    assert len(batch) == batch.count == batch.env_steps() == 4
    assert (
        batch.agent_steps() == 8
        and [*batch.policy_batches] == ["p0", "p1"]
        and "p1" in batch
    )
    assert batch.as_multi_agent() is batch and isinstance(batch["p1"], SampleBatch)
    assert batch.copy()["p0"]["actions"] is not batch["p0"]["actions"]


def test_multi_agent_batch_names_known_modules():
    with pytest.raises(UnknownModuleError, match="did you mean 'p0'"):
        MultiAgentBatch({"p0": rows()}, 6)["p"]


def test_a_single_batch_becomes_that_of_the_default_module():
    batch = rows().as_multi_agent()
    assert [*batch.policy_batches] == ["default_policy"] and batch.env_steps() == 6
    assert "m" in rows().as_multi_agent("m")
