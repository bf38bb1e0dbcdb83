"""What an update may be given: data, promises of data, and iterators over data."""

import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from tflearner.constants import ALL_MODULES, DEFAULT_MODULE_ID
from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.errors import (
    BatchError,
    LostDataError,
    NoTrainingDataError,
    UnknownModuleError,
    UsageError,
)
from tflearner.learner.tf_learner import TfLearner
from tflearner.testing import learner_digest, random_episodes

LOST = "num_lost_references_lifetime"
SKIPPED = "learner_update_skipped_empty_batch_lifetime"


class Marked(TfLearner):
    """Keeps the marks of the batches it trains on, and the hooks, in order."""

    def build(self):
        super().build()
        self.seen = []

    def before_gradient_based_update(self, *, timesteps):
        super().before_gradient_based_update(timesteps=timesteps)
        self.seen.append("before")

    def after_gradient_based_update(self, *, timesteps):
        super().after_gradient_based_update(timesteps=timesteps)
        self.seen.append("after")

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        mark = int(batch["mark"][0]) if "mark" in batch else module_id
        self.seen.append(mark)
        return tf.add_n([tf.reduce_mean(x**2) for x in fwd_out.values()])


@pytest.fixture(scope="module")
def shared(make_learner):
    return make_learner(Marked, run_eagerly=True)


@pytest.fixture
def learner(shared):
    """A learner that starts over for every test, except for its weights."""
    shared.metrics.reset()
    shared.seen = []
    return shared


@pytest.fixture(scope="module")
def pair(make_learner):
    return make_learner(Marked, run_eagerly=True, policies=["p0", "p1"])


def marked(mark, rows=4):
    return {
        "obs": np.full((rows, 4), 0.1 * mark, np.float32),
        "mark": np.full(rows, mark, np.float32),
    }


def episodes_of(learner, *lengths):
    module = learner.module[DEFAULT_MODULE_ID]
    ends = [(length, "terminated") for length in lengths]
    return random_episodes(module.observation_space, module.action_space, ends=ends)


def trained_steps(results):
    return results[ALL_MODULES].get("num_env_steps_trained", 0)


def assert_refused(learner, call, error, text):
    before = learner_digest(learner)
    with pytest.raises(error, match=text) as raised:
        call()
    if isinstance(raised.value, BatchError | UsageError):
        assert "Nothing was changed." in str(raised.value)
    assert learner_digest(learner) == before
    assert learner.seen == []


# One method for all kinds.


def test_update_takes_each_kind_by_name(learner):
    learner.update(batch=marked(1))
    learner.update(marked(2))
    assert trained_steps(learner.update(episodes=episodes_of(learner, 3, 2))) == 5
    learner.update(data_iterators=[marked(3), marked(4)])
    learner.update(data_iterators=[iter([marked(5)])])  # As RLlib: one per learner.
    marks = [mark for mark in learner.seen if isinstance(mark, int)]
    assert marks == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"batch": None, "episodes": None},
        {"batch": {}, "episodes": []},
        {"episodes": [], "data_iterators": []},
        {"batch": {}, "episodes": [], "data_iterators": []},
    ],
)
def test_exactly_one_kind_is_wanted(learner, given):
    present = [name for name, data in given.items() if data is not None]
    text = f"{' and '.join(present) or 'no data'}, want exactly one of batch, episodes"
    assert_refused(learner, lambda: learner.update(**given), UsageError, text)


# Iterators.


class Data:
    """Has `iter_batches`, as data sets of Ray do; can be passed over again."""

    def __init__(self, *items):
        self.items, self.passes = items, 0

    def iter_batches(self):
        self.passes += 1
        return iter(self.items)


def generator(*items):
    yield from items


def dataset(*items):
    return tf.data.Dataset.from_generator(
        lambda: iter(items),
        output_signature={
            "obs": tf.TensorSpec([None, 4], tf.float32),
            "mark": tf.TensorSpec([None], tf.float32),
        },
    )


def of_rllib(*items):
    by_module = [MultiAgentBatch({DEFAULT_MODULE_ID: item}, 4) for item in items]
    return Data(*({"batch": np.array([b], dtype=object)} for b in by_module))


FORMS = {
    "iter_batches": Data,
    "list": lambda *items: [*items],
    "tuple": lambda *items: items,
    "generator": generator,
    "iterator": lambda *items: iter(items),
    "dataset": dataset,
    "sample batches": lambda *items: [SampleBatch(item) for item in items],
    "by module": lambda *items: [{DEFAULT_MODULE_ID: item} for item in items],
    "wrapped": lambda *items: [{"batch": [item]} for item in items],
    "of RLlib": of_rllib,
}
ONE_SHOT = ("generator", "iterator")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_passed_over_once(learner, form):
    results = learner.update_from_iterator(FORMS[form](marked(1), marked(2), marked(3)))
    assert learner.seen == ["before", 1, 2, 3, "after"]
    assert results[ALL_MODULES]["dataset_num_iters_trained"] == 3
    assert trained_steps(results) == 12


@pytest.mark.parametrize("form", FORMS)
def test_num_iters_says_when_to_stop(learner, form):
    results = learner.update_from_iterator(
        FORMS[form](marked(1), marked(2), marked(3)), num_iters=2
    )
    assert learner.seen == ["before", 1, 2, "after"]
    assert results[ALL_MODULES]["dataset_num_iters_trained"] == 2


@pytest.mark.parametrize("form", FORMS)
def test_data_are_passed_over_again_unless_they_are_used_up(learner, form):
    results = learner.update_from_iterator(
        FORMS[form](marked(1), marked(2)), num_iters=5
    )
    marks = [1, 2] if form in ONE_SHOT else [1, 2, 1, 2, 1]
    assert learner.seen == ["before", *marks, "after"]
    assert results[ALL_MODULES]["dataset_num_iters_trained"] == len(marks)


def test_dataset_that_never_ends_needs_num_iters(learner):
    endless = tf.data.Dataset.from_tensors(marked(7)).repeat()
    text = "a dataset that never ends, and no num_iters"
    assert_refused(
        learner, lambda: learner.update_from_iterator(endless), UsageError, text
    )
    learner.update_from_iterator(endless, num_iters=3)
    assert learner.seen == ["before", 7, 7, 7, "after"]


def test_no_more_is_taken_from_an_iterator_than_needed(learner):
    items = generator(marked(1), marked(2), marked(3), marked(4))
    learner.update_from_iterator(items, num_iters=2)
    learner.update_from_iterator(items, num_iters=1)
    assert next(items)["mark"][0] == 4


def test_data_of_a_later_call_are_used(learner):
    first, second = Data(marked(1)), Data(marked(2))
    for data in (first, second, first):
        learner.update_from_iterator(data)
    assert [mark for mark in learner.seen if mark in (1, 2)] == [1, 2, 1]
    assert (first.passes, second.passes) == (2, 1)


def test_weights_get_one_number_per_call(learner):
    number = learner.get_state()["weights_seq_no"]
    for calls in (1, 2):
        results = learner.update_from_iterator([marked(1), marked(2)])
        assert results[DEFAULT_MODULE_ID]["weights_seq_no"] == number + calls
    lifetime = results[ALL_MODULES]["dataset_num_iters_trained_lifetime"]
    assert lifetime == 4 and results[ALL_MODULES]["dataset_num_iters_trained"] == 2


def test_items_are_split_into_minibatches(learner):
    learner.update_from_iterator([marked(1, 6), marked(2, 4)], minibatch_size=2)
    assert learner.seen == ["before", 1, 1, 1, 2, 2, "after"]


def test_items_may_be_of_different_modules(pair):
    pair.seen = []
    items = [{"p0": marked(1)}, {"p1": marked(2)}, {"p0": marked(3), "p1": marked(4)}]
    results = pair.update_from_iterator(items)
    assert pair.seen == ["before", 1, 2, 3, 4, "after"]
    assert pair.updated_module_ids == ("p0", "p1")
    assert results["p0"]["weights_seq_no"] == results["p1"]["weights_seq_no"]


def test_modules_that_do_not_learn_are_left_out_of_items(pair):
    pair.seen = []
    pair.config.multi_agent(policies_to_train=["p1"])
    pair.update_from_iterator([{"p0": marked(1), "p1": marked(2)}, {"p0": marked(3)}])
    assert pair.seen == ["before", 2, "after"]
    pair.config.multi_agent(policies_to_train=None)


def test_iterator_without_items_is_a_skipped_update(learner):
    before = learner.get_state(["rl_module", "optimizer", "learner", "weights_seq_no"])
    for empty in ([], generator(), Data(), dataset()):
        for num_iters in (None, 2):
            results = learner.update_from_iterator(empty, num_iters=num_iters)
            assert results[ALL_MODULES]["dataset_num_iters_trained"] == 0
    assert learner.seen == []
    after = learner.get_state(["rl_module", "optimizer", "learner", "weights_seq_no"])
    tf.nest.map_structure(np.testing.assert_array_equal, before, after)


def test_items_without_rows_are_skipped_and_counted(learner):
    results = learner.update_from_iterator([{}, marked(1), marked(2, rows=0)])
    assert learner.seen == ["before", 1, "after"]
    assert results[ALL_MODULES][SKIPPED] == 2
    assert results[ALL_MODULES]["dataset_num_iters_trained"] == 1


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "NoneType.*want something with iter_batches"),
        (3, "int.*want something with iter_batches"),
        ("data.tfrecord", "str.*want something with iter_batches"),
        (marked(1), "dict.*want something with iter_batches"),
        (SampleBatch(marked(1)), "SampleBatch.*want something with iter_batches"),
    ],
)
def test_what_is_no_iterator_is_refused(learner, data, text):
    assert_refused(
        learner, lambda: learner.update_from_iterator(data), UsageError, text
    )


@pytest.mark.parametrize("num_iters", [0, -1, 2.5, True, "3"])
def test_num_iters_is_a_count(learner, num_iters):
    assert_refused(
        learner,
        lambda: learner.update_from_iterator([marked(1)], num_iters=num_iters),
        UsageError,
        f"num_iters: got {num_iters!r}, want int >= 1",
    )


def test_epochs_are_refused_with_what_to_use(learner):
    assert_refused(
        learner,
        lambda: learner.update_from_iterator([marked(1)], num_epochs=2),
        TypeError,
        "'num_epochs'.*num_iters",
    )


BAD_ITEMS = {
    "no batch": (3, BatchError, "int"),
    "None": (None, BatchError, "NoneType"),
    "unknown module": ({"p7": marked(1)}, UnknownModuleError, "'p7'"),
    "wrong width": ({"obs": np.zeros((4, 5), np.float32)}, BatchError, "'obs'"),
    "NaN": ({"obs": np.full((4, 4), np.nan, np.float32)}, BatchError, "'obs'"),
    "two in one": ({"batch": [marked(1), marked(2)]}, BatchError, "list of one batch"),
    "none in one": ({"batch": []}, BatchError, "list of one batch"),
}


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_bad_item_in_front_changes_nothing(learner, case):
    item, error, text = BAD_ITEMS[case]
    assert_refused(
        learner, lambda: learner.update_from_iterator([item, marked(1)]), error, text
    )


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_bad_item_in_the_middle_keeps_what_was_trained(learner, case):
    item, error, text = BAD_ITEMS[case]
    before = learner.get_state()
    with pytest.raises(error, match=text) as raised:
        learner.update_from_iterator([marked(1), marked(2), item, marked(3)])
    assert "Nothing was changed" not in str(raised.value)
    assert "2 batches were trained on before." in str(raised.value)
    assert learner.seen == ["before", 1, 2, "after"]
    after = learner.get_state()
    assert after["weights_seq_no"] == before["weights_seq_no"] + 1
    kernels = [s["rl_module"][DEFAULT_MODULE_ID]["000/kernel"] for s in (before, after)]
    assert (kernels[0] != kernels[1]).any()


def test_training_up_to_a_bad_item_equals_training_without_it(make_learner):
    def run(*items):
        learner = make_learner(Marked, run_eagerly=True)
        try:
            learner.update_from_iterator(items, minibatch_size=2)
        except BatchError:
            pass
        return learner.get_state()

    good, bad = run(marked(1), marked(2)), run(marked(1), marked(2), None)
    for part in ("rl_module", "optimizer", "learner", "weights_seq_no"):
        tf.nest.map_structure(np.testing.assert_array_equal, good[part], bad[part])


def test_empty_item_before_a_bad_one_leaves_no_trace(learner):
    assert_refused(
        learner,
        lambda: learner.update_from_iterator([{}, None]),
        BatchError,
        "NoneType",
    )


def test_error_of_the_iterator_itself_comes_through(learner):
    def broken():
        yield marked(1)
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire"):
        learner.update_from_iterator(broken())
    assert learner.seen == ["before", 1, "after"]


def test_items_trained_on_before_an_error_are_counted(learner):
    with pytest.raises(BatchError):
        learner.update_from_iterator([marked(1), marked(2), None])
    results = learner.update_from_iterator([marked(3)])
    assert results[ALL_MODULES]["dataset_num_iters_trained_lifetime"] == 3


# Promises of data.


def raising(error):
    def bring():
        raise error

    return bring


def gone():
    raise LostDataError("a worker that died")


def test_function_brings_the_batch(learner):
    learner.update(batch=lambda: marked(1))
    learner.update_from_batch(
        lambda: MultiAgentBatch({DEFAULT_MODULE_ID: marked(2)}, 4)
    )
    assert learner.seen == ["before", 1, "after", "before", 2, "after"]


def test_items_of_an_iterator_may_be_functions(learner):
    learner.update_from_iterator([lambda: marked(1), marked(2)])
    assert learner.seen == ["before", 1, 2, "after"]


def test_functions_bring_episodes(learner):
    one, two, three = episodes_of(learner, 1, 2, 4)
    for promised in (
        lambda: [one, two, three],
        [lambda: one, lambda: [two, three]],
        [one, lambda: two, lambda: (three,)],
        lambda: [lambda: one, lambda: [two, three]],
    ):
        assert trained_steps(learner.update(episodes=promised)) == 7


def test_lost_episodes_are_left_out_and_counted_by_kind(learner):
    one, two = episodes_of(learner, 1, 2)

    class OtherLoss(LostDataError):
        pass

    refs = [gone, lambda: one, raising(OtherLoss("a")), gone, lambda: two]
    for calls in (1, 2):
        results = learner.update(episodes=refs)
        assert trained_steps(results) == 3
        lost = results[ALL_MODULES][LOST]
        assert lost == {"LostDataError": 2 * calls, "OtherLoss": calls}


def test_nothing_lost_reports_nothing(learner):
    (one,) = episodes_of(learner, 3)
    assert LOST not in learner.update(episodes=[lambda: one])[ALL_MODULES]


@pytest.mark.parametrize(
    "call",
    [
        lambda learner: learner.update(batch=gone),
        lambda learner: learner.update(episodes=gone),
        lambda learner: learner.update(episodes=[gone]),
        lambda learner: learner.update(episodes=[gone, gone]),
        lambda learner: learner.update(episodes=lambda: [gone, gone]),
    ],
)
def test_all_lost_is_an_error_and_changes_nothing(learner, call):
    text = r"all of it lost: \{'LostDataError': \d\}, want at least one reference"
    assert_refused(learner, lambda: call(learner), NoTrainingDataError, text)


def test_episodes_at_hand_are_trained_on_though_all_promises_are_lost(learner):
    results = learner.update(episodes=[*episodes_of(learner, 2), gone])
    assert trained_steps(results) == 2
    assert results[ALL_MODULES][LOST] == {"LostDataError": 1}


@pytest.mark.parametrize("promise", [list, [], [list], ()])
def test_promise_of_nothing_is_a_skipped_update(learner, promise):
    assert learner.update(episodes=promise)[ALL_MODULES][SKIPPED] == 1
    assert learner.seen == []


@pytest.mark.parametrize("error", [ZeroDivisionError("1/0"), KeyError("k"), OSError()])
def test_bug_in_a_function_is_no_loss(learner, error):
    (one,) = episodes_of(learner, 1)
    for call in (
        lambda: learner.update(batch=raising(error)),
        lambda: learner.update(episodes=[lambda: one, raising(error)]),
    ):
        with pytest.raises(type(error)) as raised:
            call()
        assert raised.value is error and learner.seen == []


@pytest.mark.parametrize(
    ("brings", "text"),
    [(lambda: None, "NoneType"), (lambda: 3, "int"), (lambda: [1], r"\[0\].*int")],
)
def test_what_a_function_brings_is_checked(learner, brings, text):
    assert_refused(learner, lambda: learner.update(episodes=brings), BatchError, text)
    if text != r"\[0\].*int":
        assert_refused(learner, lambda: learner.update(batch=brings), BatchError, text)


# Object references of Ray.


class ObjectRef:
    def __init__(self, value):
        self.value = value


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause=None):
        super().__init__(cause)
        self.cause = cause


class OwnerDiedError(RayError):
    pass


class ObjectLostError(RayError):
    pass


class GetTimeoutError(RayError, TimeoutError):
    pass


class LostArgumentError(RayTaskError, OwnerDiedError):
    """What a task fails with that was given a lost reference: both, as in Ray."""


NEVER = object()
waits = []


def get(reference, *, timeout):
    if reference.value is NEVER:
        waits.append(timeout)
        raise GetTimeoutError
    if isinstance(reference.value, Exception):
        raise reference.value
    return reference.value


@pytest.fixture
def ray(monkeypatch):
    """What the library uses of Ray, in place of Ray."""
    of_ray = (RayError, RayTaskError, OwnerDiedError, GetTimeoutError)
    errors = types.SimpleNamespace(**{each.__name__: each for each in of_ray})
    fake = types.SimpleNamespace(ObjectRef=ObjectRef, get=get, exceptions=errors)
    monkeypatch.setitem(sys.modules, "ray", fake)
    waits.clear()
    return fake


class ClientObjectRef(ObjectRef):
    """What Ray's client returns, a subclass in Ray as well."""


@pytest.mark.parametrize("kind", [ObjectRef, ClientObjectRef])
def test_references_in_items_and_columns_are_resolved(learner, ray, kind):
    columns = marked(1)
    in_columns = {name: kind(own) for name, own in columns.items()}
    learner.update(batch=in_columns)
    learner.update(data_iterators=[kind(columns), {"batch": [kind(columns)]}])
    assert learner.seen.count(1) == 3


def test_references_are_resolved(learner, ray):
    one, two, three = episodes_of(learner, 1, 2, 4)
    learner.update(batch=ObjectRef(marked(1)))
    assert 1 in learner.seen
    for promised in (
        ObjectRef([one, two, three]),
        [ObjectRef(one), ObjectRef([two, three])],
        [one, lambda: two, ObjectRef(three)],
        ObjectRef([ObjectRef(one), two, ObjectRef([three])]),
        [
            ObjectRef([ObjectRef(one), ObjectRef([ObjectRef(two)])]),
            ObjectRef([[three]]),
        ],
        [lambda: ObjectRef([lambda: [one, two]]), ObjectRef(ObjectRef(three))],
    ):
        assert trained_steps(learner.update(episodes=promised)) == 7


def test_references_in_batches_are_resolved(learner, ray):
    columns = marked(2)
    nested = {name: ObjectRef(column) for name, column in columns.items()}
    for promised in (nested, ObjectRef(nested), {DEFAULT_MODULE_ID: ObjectRef(nested)}):
        learner.update(batch=promised)
    wrapped = {"batch": [ObjectRef(marked(4))]}
    items = [ObjectRef({"batch": [marked(3)]}), wrapped, {"batch": ObjectRef([nested])}]
    learner.update_from_iterator(items)
    assert [mark for mark in learner.seen if mark in (1, 2, 3, 4)] == [2, 2, 2, 3, 4, 2]
    assert isinstance(nested["obs"], ObjectRef)  # What was given is as it was.


def test_a_batch_without_one_of_its_columns_is_lost(learner, ray):
    gone = marked(2) | {"obs": ObjectRef(OwnerDiedError())}
    results = learner.update_from_iterator([gone, marked(1)])
    assert learner.seen == ["before", 1, "after"]
    assert results[ALL_MODULES][LOST] == {"OwnerDiedError": 1}


@pytest.mark.parametrize("reference", [False, True])
def test_promises_without_an_end_are_refused(learner, ray, reference):
    def endless():
        return ObjectRef(endless) if reference else endless

    cyclic = []
    cyclic.append(cyclic)
    for call in (
        lambda: learner.update(batch=endless),
        lambda: learner.update(episodes=[endless]),
        lambda: learner.update(episodes=cyclic),
    ):
        assert_refused(learner, call, BatchError, "more than 32 references")


def test_lost_references_are_counted_by_kind(learner, ray):
    (one,) = episodes_of(learner, 3)
    lost = [OwnerDiedError(), ObjectLostError(), OwnerDiedError()]
    refs = [*map(ObjectRef, lost), ObjectRef(one), gone]
    results = learner.update(episodes=refs)
    assert trained_steps(results) == 3
    assert results[ALL_MODULES][LOST] == {
        "OwnerDiedError": 2,
        "ObjectLostError": 1,
        "LostDataError": 1,
    }
    for kind in ("OwnerDiedError", "ObjectLostError"):
        assert learner.metrics.peek((ALL_MODULES, LOST, kind)) > 0


def test_losing_all_references_is_an_error_and_changes_nothing(learner, ray):
    refs = [ObjectRef(OwnerDiedError()) for _ in range(4)]
    for call in (
        lambda: learner.update(episodes=refs),
        lambda: learner.update(episodes=ObjectRef(refs)),
    ):
        text = r"all of it lost: \{'OwnerDiedError': 4\}"
        assert_refused(learner, call, NoTrainingDataError, text)
    assert_refused(
        learner,
        lambda: learner.update(batch=refs[0]),
        NoTrainingDataError,
        "'OwnerDiedError': 1",
    )


def test_what_is_late_is_lost(make_learner, ray):
    learner = make_learner(Marked, run_eagerly=True, deferred_data_timeout_s=2.5)
    (one,) = episodes_of(learner, 3)
    late = ObjectRef(NEVER)
    results = learner.update(episodes=[late, ObjectRef(one), ObjectRef([late])])
    assert trained_steps(results) == 3
    assert results[ALL_MODULES][LOST] == {"late": 2}
    assert all(0.0 <= wait <= 2.5 for wait in waits) and waits[0] > 2.0
    assert waits[1] <= waits[0]  # They share the deadline.
    learner.seen = []
    text = "all of it lost: {'late': 1}.*had 2.5 s; wait longer: .learners.deferred_data_timeout_s"
    assert_refused(learner, lambda: learner.update(late), NoTrainingDataError, text)


def test_a_task_that_was_given_a_lost_reference_is_a_loss(learner, ray):
    (one,) = episodes_of(learner, 3)
    errors = [
        LostArgumentError(OwnerDiedError()),
        RayTaskError(RayTaskError(OwnerDiedError())),
        RayTaskError(GetTimeoutError()),
        RayTaskError(LostDataError("gone")),
    ]
    results = learner.update(episodes=[*map(ObjectRef, errors), ObjectRef(one)])
    assert trained_steps(results) == 3
    assert results[ALL_MODULES][LOST] == {
        "OwnerDiedError": 2,
        "late": 1,
        "LostDataError": 1,
    }


@pytest.mark.parametrize("cause", [None, ValueError("x"), TimeoutError("slow")])
def test_error_of_a_task_is_raised(learner, ray, cause):
    error = RayTaskError(cause)
    (one,) = episodes_of(learner, 3)
    for call in (
        lambda: learner.update(batch=ObjectRef(error)),
        lambda: learner.update(episodes=[ObjectRef(one), ObjectRef(error)]),
    ):
        assert_refused(learner, call, RayTaskError, str(cause))


def test_no_training_data_names_the_last_loss_as_its_cause(learner, ray):
    last = OwnerDiedError("the node is gone")
    with pytest.raises(NoTrainingDataError) as raised:
        learner.update(episodes=[ObjectRef(ObjectLostError()), ObjectRef(last)])
    assert raised.value.__cause__ is last


def test_without_ray_references_are_no_data(learner):
    assert "ray" not in sys.modules
    for call in (
        lambda: learner.update(batch=ObjectRef(marked(1))),
        lambda: learner.update(episodes=[ObjectRef(marked(1))]),
    ):
        assert_refused(learner, call, BatchError, "ObjectRef")


@pytest.mark.deep
def test_references_of_ray_itself(make_learner):
    ray = pytest.importorskip("ray")
    learner = make_learner(Marked, run_eagerly=True, deferred_data_timeout_s=4.0)
    one, two = episodes_of(learner, 1, 2)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

    @ray.remote(num_cpus=0)
    class Owner:
        def put(self):
            return [ray.put(one)]

    @ray.remote(num_cpus=0)
    def same(data):
        return data

    @ray.remote(num_cpus=0)
    def late():
        time.sleep(600)

    @ray.remote(num_cpus=0)
    def broken():
        raise ZeroDivisionError

    try:
        owner = Owner.remote()
        (lost,) = ray.get(owner.put.remote())
        nested = [ray.put([ray.put(one), ray.put([ray.put(two)])])]
        assert trained_steps(learner.update(episodes=nested)) == 3
        ray.kill(owner)
        with pytest.raises(ray.exceptions.OwnerDiedError):
            for _ in range(100):  # It takes Ray a second to notice.
                ray.get(lost)
                time.sleep(0.1)
        started = time.monotonic()
        results = learner.update(
            episodes=[lost, same.remote(lost), late.remote(), ray.put(two)]
        )
        assert time.monotonic() - started < 5.0
        assert trained_steps(results) == 2
        assert results[ALL_MODULES][LOST] == {"OwnerDiedError": 2, "late": 1}
        with pytest.raises(ray.exceptions.RayTaskError, match="ZeroDivisionError"):
            learner.update(episodes=[broken.remote(), ray.put(two)])
    finally:
        ray.shutdown()
