"""Numbers that are not finite: what stays as it was, what is counted, what is named.

Poison comes in with the batch: two columns of ints say for each row where in the step
which value is added. So a learner is traced once and takes as many cases as one likes.
"""

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOTfLearner
from tflearner.constants import ALL_MODULES
from tflearner.engine import compiled_update
from tflearner.engine.overflow_guard import OverflowGuard
from tflearner.errors import ConfigError, NonFiniteUpdateError, TFLearnerError
from tflearner.learner import diagnosis
from tflearner.learner.exported_update import export_update
from tflearner.learner.skipped_steps import count_runs
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.rl_module_spec import RLModuleSpec

PARTS = ("rl_module", "optimizer")
FLAG = "num_non_finite_updates_lifetime"
MAX = np.finfo(np.float32).max
VALUES = (np.nan, np.inf, -np.inf, MAX)
OUTPUTS = ("action_dist_inputs", "vf_preds")
COLUMNS = ("obs", "action_logp", "advantages", "value_targets")
TERM, LOSS, GRADIENT = "term", "loss", "gradient"
# In a batch "place" is a position in here; each weight adds a gradient.
PLACES = (None, *OUTPUTS, TERM, LOSS)
ROW = 3


def poison(batch, place):
    """What is added to each row of a place. float32 [B]"""
    if "place" not in batch:  # An example batch.
        return tf.zeros(len(batch["obs"]))
    values = tf.gather(tf.constant(VALUES, tf.float32), batch["value"])
    return tf.where(batch["place"] == place, values, 0.0)


class Module(PPOTfRLModule):
    """The default module, whose outputs can be poisoned."""

    def _forward_train(self, batch, **kwargs):
        outputs = super()._forward_train(batch, **kwargs)
        for name in OUTPUTS:
            added = poison(batch, PLACES.index(name))
            rank = len(outputs[name].shape)
            outputs[name] += tf.reshape(added, [-1] + [1] * (rank - 1))
        return outputs


class Poisoned(TfLearner):
    """Lets a batch poison a term of the loss, the loss, and gradients."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.batches = {}  # Of the step that is on its way.

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        loss = self.base_loss(module_id, config, batch, fwd_out)
        term = tf.reduce_sum(poison(batch, PLACES.index(TERM)))
        self.metrics.log_value((module_id, "own_term"), term)
        self.batches[module_id] = batch
        added = tf.reduce_sum(poison(batch, PLACES.index(LOSS)))
        return loss + term + added

    def base_loss(self, module_id, config, batch, fwd_out):
        outputs = [tf.reduce_mean(fwd_out[name] ** 2) for name in OUTPUTS]
        return tf.add_n(outputs) * tf.reduce_mean(batch["advantages"] ** 2)

    def compute_gradients(self, *args, **kwargs):
        computed = super().compute_gradients(*args, **kwargs)
        for module_id, batch in self.batches.items():
            for i, param in enumerate(self.get_parameters(self.module[module_id])):
                added = tf.reduce_sum(poison(batch, len(PLACES) + i))
                computed[self.get_param_ref(param)] += added
        self.batches.clear()
        return computed


class PoisonedPPO(Poisoned, PPOTfLearner):
    def base_loss(self, module_id, config, batch, fwd_out):
        return PPOTfLearner.compute_loss_for_module(
            self, module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
        )


def build(make_learner, learner_class=Poisoned, ids=("p0", "p1"), **settings):
    spec = RLModuleSpec(module_class=Module)
    settings = {"batch_checks": "off", "lr": 0.01} | settings
    return make_learner(learner_class, policies=dict.fromkeys(ids, spec), **settings)


def batch_of(learner, make_batch, num_rows=20, **poisoned):
    """A batch; `p0=("loss", nan, [rows])` poisons rows of it."""
    batch = make_batch(learner, num_rows)
    for own in batch.values():
        own["place"] = np.zeros(num_rows, np.int32)
        own["value"] = np.zeros(num_rows, np.int32)
    for module_id, (place, value, rows) in poisoned.items():
        own = batch[module_id]
        if place in COLUMNS:
            own[place] = own[place].copy()
            own[place][rows] = value
            continue
        is_gradient = isinstance(place, int)
        code = len(PLACES) + place if is_gradient else PLACES.index(place)
        own["place"][rows] = code
        own["value"][rows] = position(value)
    return batch


def position(value):
    return [str(v) for v in VALUES].index(str(value))


def same(a, b):
    equal = tf.nest.map_structure(lambda x, y: x.tobytes() == y.tobytes(), a, b)
    return all(tf.nest.flatten(equal))


def weight_keys(learner, module_id="p0"):
    return [*learner.module[module_id].get_state()]


def flags(learner, module_id):
    return learner.metrics.peek((module_id, FLAG), default=0)


# How many in a row are too many.


@pytest.fixture(scope="module")
def pair(make_learner):
    """A traced learner of two modules, and where it starts."""
    learner = build(make_learner)
    return learner, learner.get_state()


@pytest.fixture
def learner(pair):
    """The same learner for every test, set back to its start."""
    learner, start = pair
    learner.set_state(start, force=True)
    learner.config.training(
        non_finite_updates="skip", max_non_finite_updates_in_a_row=3
    )
    return learner


@pytest.fixture
def step(learner, make_batch):
    """Returns a function that takes an update of four minibatches.

    Each letter says of a module whether a minibatch of it is sick: `step(p0="..xx")`.
    Returns the error, or `None`.
    """

    def take(of=learner, *, modules=("p0", "p1"), **sick):
        poisoned = {
            mid: ("loss", np.nan, [5 * i for i, c in enumerate(letters) if c == "x"])
            for mid, letters in sick.items()
        }
        batch = batch_of(of, make_batch, **poisoned)
        try:
            of.update({mid: batch[mid] for mid in modules}, minibatch_size=5)
        except NonFiniteUpdateError as error:
            return error
        return None

    return take


@pytest.mark.parametrize(
    ("limit", "letters", "want"),
    [
        (1, "....", None),
        (1, "..x.", (1, 2)),
        (1, ".x.x", (1, 1)),
        (2, "x.x.", None),
        (3, ".xx.", None),
        (3, "xxx.", (3, 0)),
        (3, ".xxx", (3, 1)),
        (3, "xxxx", (4, 0)),
        (4, "xxxx", (4, 0)),
        (5, "xxxx", None),
        (None, "xxxx", None),
    ],
)
def test_steps_in_a_row_within_an_update(learner, step, limit, letters, want):
    learner.config.training(max_non_finite_updates_in_a_row=limit)
    error = step(p0=letters)
    assert (error and (error.num_steps, error.minibatch)) == want
    if error:
        assert error.module_id == "p0" and error.first_bad == "the loss"
    assert flags(learner, "p0") == letters.count("x") and flags(learner, "p1") == 0


def test_steps_in_a_row_across_updates(learner, step):
    learner.config.training(max_non_finite_updates_in_a_row=6)
    assert step(p0="..xx") is None
    assert step(p0=".x.x") is None  # A healthy step starts the count anew.
    assert step(p0="xxxx") is None
    error = step(p0="x...")
    assert (error.num_steps, error.minibatch) == (6, None)
    assert "in 6 gradient steps in a row, that began in an earlier batch" in str(error)


def test_after_the_error_the_count_starts_anew(learner, step):
    learner.config.training(max_non_finite_updates_in_a_row=6)
    errors = [step(p0="xxxx") for _ in range(6)]
    assert [error and error.num_steps for error in errors] == [None, 8] * 3


def test_a_module_that_is_not_in_the_batch_keeps_its_count(learner, step):
    assert step(p0=".xxx", p1="...x").module_id == "p0"
    assert step(p0="...x", p1="...x") is None
    assert step(modules=["p1"]) is None  # p1 recovers.
    assert step(modules=["p1"], p1="xx..") is None
    error = step(p0="xx..", p1="..xx")
    assert (error.module_id, error.num_steps, error.minibatch) == ("p0", 3, None)


def test_two_modules_have_their_turn_one_after_the_other(learner, step):
    learner.config.training(max_non_finite_updates_in_a_row=4)
    assert step(p0="xxxx", p1="xxxx").module_id == "p0"
    error = step(p0="xxxx", p1="x...")
    assert error.module_id == "p0"
    error = step(p1="xxxx")
    assert error.module_id == "p1"


def test_counts_go_over_the_batches_of_an_iterator(learner, make_batch):
    sick = batch_of(learner, make_batch, 5, p0=("loss", np.inf, [0]))
    learner.config.training(max_non_finite_updates_in_a_row=3)
    learner.update_from_iterator([sick] * 2, minibatch_size=5)  # One step an item.
    with pytest.raises(NonFiniteUpdateError) as error:
        learner.update_from_iterator([sick] * 2, minibatch_size=5)
    assert (error.value.num_steps, error.value.minibatch) == (3, None)
    learner.update_from_iterator([sick] * 2, minibatch_size=5)
    assert flags(learner, "p0") == 6


def test_an_error_in_a_later_batch_comes_first_and_keeps_the_count(
    learner, make_batch, step
):
    sick = batch_of(learner, make_batch, 5, p0=("loss", np.inf, [*range(5)]))
    items = [sick, sick, sick, {"p9": sick["p0"]}]
    with pytest.raises(TFLearnerError) as error:
        learner.update_from_iterator(items, minibatch_size=5)
    assert not isinstance(error.value, NonFiniteUpdateError)
    assert step(p0="x...").num_steps == 4


def test_the_error_says_what_was_and_was_not_changed(learner, step):
    before = learner.get_state(PARTS)
    error = step(p0="xxxx")
    after = learner.get_state(PARTS)
    for part in PARTS:
        assert same(before[part]["p0"], after[part]["p0"])
        assert not same(before[part]["p1"], after[part]["p1"])
    assert str(error) == (
        "module 'p0': non-finite loss or gradients in 4 gradient steps in a "
        "row, from minibatch 0 of 4 on; first bad tensor: the loss. Hint: its weights "
        "were not changed in those steps, while those of other modules were "
        "updated; follow that tensor back, lower lr or set grad_clip"
    )
    assert after["weights_seq_no"] == before["weights_seq_no"] + 1
    assert step() is None  # The learner goes on.


@pytest.mark.parametrize("limit", [1, None])
def test_off_counts_nothing(make_learner, make_batch, step, limit):
    off = build(
        make_learner,
        ids=["p0"],
        run_eagerly=True,
        non_finite_updates="off",
        max_non_finite_updates_in_a_row=limit,
    )
    assert step(off, modules=["p0"], p0="x...") is None
    assert off.get_state()["learner"]["num_non_finite_updates_in_a_row"] == {}


@pytest.mark.parametrize("limit", [1, 9, None])
def test_raise_raises_after_the_first_step(learner, step, limit):
    learner.config.training(
        non_finite_updates="raise", max_non_finite_updates_in_a_row=limit
    )
    error = step(p1=".x..")
    assert (error.module_id, error.num_steps, error.minibatch) == ("p1", 1, 1)
    assert "in 1 gradient step, from minibatch 1 of 4 on" in str(error)


def slow_count(history, limit):
    """What happens, one flag after the other: `history` holds a dict per batch."""
    counts, events = {}, []
    for batch in history:
        found = []
        for module_id, own in batch.items():
            begun, goes_on = None, counts.get(module_id, 0) > 0
            runs = []
            for i, sick in enumerate(own):
                count = counts.get(module_id, 0)
                if not sick:
                    counts[module_id], begun, goes_on = 0, None, False
                    continue
                if count == 0 or (i == 0 and goes_on):
                    begun = None if goes_on else i
                    runs.append(None)
                counts[module_id] = count + 1
                runs[-1] = (module_id, count + 1, begun, i, len(own))
            found += [run for run in runs if limit is not None and run[1] >= limit]
        events.append(found[0] if found else None)
    return events, {mid: count for mid, count in counts.items() if count}


def test_counting_equals_counting_one_by_one():
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(2000):
        limit = [None, 1, 2, 3, 8][rng.integers(5)]
        history = [
            {
                mid: rng.random(rng.integers(1, 7)) < rng.random() * 1.3
                for mid in rng.permutation(["p0", "p1", ALL_MODULES])[: rng.integers(4)]
            }
            for _ in range(rng.integers(1, 6))
        ]
        in_a_row, events = {}, []
        for batch in history:
            runs = count_runs(in_a_row, batch)
            too_long = (r for r in runs if limit is not None and r.num_steps >= limit)
            events.append(next(too_long, None))
        want, counts = slow_count(history, limit)
        assert events == want and in_a_row == counts
        seen |= {event is None or event.first is None for event in events}
    assert seen == {True, False}


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, "3", float("nan")])
def test_impossible_limits_are_refused(make_config, limit):
    with pytest.raises(ConfigError, match="max_non_finite_updates_in_a_row"):
        make_config(max_non_finite_updates_in_a_row=limit).validate()


def test_all_modules_share_the_limit(make_config):
    own = {"p0": {"max_non_finite_updates_in_a_row": 3}}
    config = make_config(algorithm_config_overrides_per_module=own)
    with pytest.raises(ConfigError, match="which all modules share"):
        config.validate()


# The count is part of the state.


def test_count_is_saved_and_restored(learner, make_learner, step, tmp_path):
    assert step(p0="..xx") is None
    learner.save_to_path(tmp_path / "a")
    other = build(make_learner, run_eagerly=True, max_non_finite_updates_in_a_row=3)
    other.restore_from_path(tmp_path / "a")
    assert step(other, p0="x...").num_steps == 3
    other.restore_from_path(tmp_path / "a")
    assert step(other, p0=".x..") is None
    again = Poisoned.from_checkpoint(tmp_path / "a", module_class=Module)
    assert again.get_state()["learner"]["num_non_finite_updates_in_a_row"] == {"p0": 2}


def test_count_goes_back_with_the_state(learner, step):
    before = learner.get_state()
    assert step(p0="..xx") is None
    after = learner.get_state()
    learner.set_state(before, force=True)
    assert step(p0="xx..") is None
    learner.set_state(after, force=True)
    assert step(p0="xx..").num_steps == 4
    learner.set_state(after, force=True)
    with pytest.raises(TFLearnerError):  # All or nothing.
        learner.set_state(after | {"rl_module": {"p0": {}}}, force=True)
    assert step(p0="x...").num_steps == 3


@pytest.mark.parametrize("way", ["set_state", "restore_from_path"])
def test_states_of_earlier_versions_have_no_count(learner, step, tmp_path, way):
    assert step(p0="..xx") is None
    state = learner.get_state()
    del state["learner"]["num_non_finite_updates_in_a_row"]
    if way == "set_state":
        learner.set_state(state, force=True)
    else:
        learner._get_state_to_save = lambda: state
        learner.save_to_path(tmp_path / "a")
        del learner._get_state_to_save
        learner.restore_from_path(tmp_path / "a")
    assert learner.get_state()["learner"]["num_non_finite_updates_in_a_row"] == {}
    assert step(p0="x...") is None


def test_a_count_that_is_none_is_refused(learner):
    state = learner.get_state()
    state["learner"]["num_non_finite_updates_in_a_row"] = {"p0": "many"}
    with pytest.raises(TFLearnerError, match="many"):
        learner.set_state(state, force=True)


def test_the_count_goes_with_its_module(make_learner, step):
    own = build(make_learner, run_eagerly=True, max_non_finite_updates_in_a_row=9)
    assert step(own, p0="..xx", p1="...x") is None
    own.remove_module("p0")
    assert own.get_state()["learner"]["num_non_finite_updates_in_a_row"] == {"p1": 1}


# The first bad tensor.


class Cases:
    """Takes one poisoned update after the other; each has to leave its module alone.

    A poisoned module stays as it is, bit by bit, its step count included, and the other
    one becomes what it would have become without it. The error names what was poisoned.
    """

    def __init__(self, learner, make_batch):
        self.learner, self.make_batch = learner, make_batch
        self.keys = weight_keys(learner)
        self.uses_all_columns = isinstance(learner, PPOTfLearner)
        self.start = learner.get_state()
        self.alone = {}

    def places(self):
        numbers = range(len(self.keys))
        return [
            *(COLUMNS if self.uses_all_columns else ["obs", "advantages"]),
            *OUTPUTS,
            TERM,
            LOSS,
            *[("weight", i) for i in numbers],
            *[(GRADIENT, i) for i in numbers],
        ]

    def after_update_alone(self, module_id):
        if module_id not in self.alone:
            batch = batch_of(self.learner, self.make_batch, 5)
            self.learner.update({module_id: batch[module_id]}, minibatch_size=5)
            state = self.learner.get_state(PARTS)
            self.alone[module_id] = {part: state[part][module_id] for part in PARTS}
        return self.alone[module_id]

    def check(self, place, value, module_id):
        """Takes an update and returns whether the module was sick in it."""
        learner, kind = self.learner, place if isinstance(place, str) else place[0]
        others = [mid for mid in learner.module if mid != module_id]
        alone = {mid: self.after_update_alone(mid) for mid in others}
        learner.set_state(self.start, force=True)
        poisoned = {}
        if kind == "weight":
            key = self.keys[place[1]]
            weight = learner.module[module_id]._weights_by_key()[key]
            values = weight.numpy()
            values.flat[-1] = value
            weight.assign(values)
        else:
            inside = place[1] if kind == GRADIENT else place
            poisoned = {module_id: (inside, value, [ROW])}
        before = learner.get_state()
        error = None
        try:
            batch = batch_of(learner, self.make_batch, 5, **poisoned)
            learner.update(batch, minibatch_size=5)
        except NonFiniteUpdateError as raised:
            error = raised
        after = learner.get_state()
        for well, part in itertools.product(others, PARTS):
            assert same(after[part][well], alone[well][part])
        assert same_numbers(before["learner"], after["learner"], "generators", "rng")
        assert flags(learner, module_id) == (error is not None)
        if error is None:
            assert not self.must_be_sick(kind, value)
            assert int(learner.get_optimizer(module_id).iterations.numpy()) == 1
            if kind != "weight":
                parts = [after[part][module_id] for part in PARTS]
                assert all(np.isfinite(x).all() for x in tf.nest.flatten(parts))
            return False
        assert error.module_id == module_id
        for part in PARTS:
            assert same(before[part][module_id], after[part][module_id])
        if value == MAX and kind != GRADIENT:
            assert error.first_bad != diagnosis.NOT_SEEN
        else:
            assert error.first_bad == self.name_of(place, value)
        return True

    def must_be_sick(self, kind, value):
        clips = self.learner.config.grad_clip is not None
        if value == MAX:
            return kind == GRADIENT and not clips
        certain = (OUTPUTS[0], TERM, LOSS, GRADIENT)
        return np.isnan(value) or kind in certain

    def name_of(self, place, value):
        if place in COLUMNS:
            return f"column {place!r}, first in row {ROW}"
        if place in OUTPUTS:
            return f"forward output {place!r}, first in row {ROW}"
        if isinstance(place, str):
            return {TERM: "loss term 'own_term'", LOSS: "the loss"}[place]
        what = "weight" if place[0] == "weight" else "gradient of weight"
        if value == MAX:
            what = "norm of the gradients, largest in weight"
        return f"{what} {self.keys[place[1]]!r}"


def same_numbers(a, b, *names):
    return all(str(a[name]) == str(b[name]) for name in names)


MODES = {
    "plain": {"jit_compile": False},
    "xla": {"jit_compile": True},
    "eager": {"run_eagerly": True},
}
CLIPS = {
    "unclipped": {},
    "value": {"grad_clip": 0.5, "grad_clip_by": "value"},
    "norm": {"grad_clip": 0.5, "grad_clip_by": "norm"},
    "global_norm": {"grad_clip": 0.5, "grad_clip_by": "global_norm"},
}


def cases_of(make_learner, make_batch, learner_class, mode, clip, ids=("p0", "p1")):
    return Cases(
        build(
            make_learner,
            learner_class,
            ids,
            max_non_finite_updates_in_a_row=1,
            **MODES[mode],
            **CLIPS[clip],
        ),
        make_batch,
    )


@pytest.mark.parametrize(
    ("mode", "clip", "share"),
    [
        ("plain", "unclipped", 3),
        ("eager", "norm", 9),
        pytest.param("xla", "global_norm", 7, marks=pytest.mark.deep),
    ],
)
def test_whatever_is_poisoned_stays_in_its_module_and_is_named(
    learner, make_learner, make_batch, mode, clip, share
):
    if (mode, clip) == ("plain", "unclipped"):
        learner.config.training(max_non_finite_updates_in_a_row=1)
        cases = Cases(learner, make_batch)
    else:
        cases = cases_of(make_learner, make_batch, Poisoned, mode, clip, ["p0"])
    chosen = [*itertools.product(cases.places(), VALUES)][::share]
    sick = [cases.check(place, value, "p0") for place, value in chosen]
    assert sum(sick) > len(sick) // 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("learner_class", [Poisoned, PoisonedPPO])
def test_whatever_is_poisoned_in_every_mode(
    make_learner, make_batch, learner_class, mode, clip
):
    """2,432 cases."""
    cases = cases_of(make_learner, make_batch, learner_class, mode, clip)
    ids = ["p0", "p1"] if mode == "plain" else ["p1"]
    chosen = itertools.product(cases.places(), VALUES, ids)
    sick = [cases.check(*case) for case in chosen]
    assert len(sick) // 2 < sum(sick) < len(sick)


# Weights that stop being finite.


class Overflowing(TfLearner):
    """Of p0, the weights or the slots of the optimizer overflow; p1 is healthy."""

    def configure_optimizers_for_module(self, module_id, config=None):
        make = self.config.learner_config_dict.get("optimizer", keras.optimizers.SGD)
        self.register_optimizer(
            module_id=module_id,
            optimizer=make(),
            params=self.get_parameters(self.module[module_id]),
            lr_or_lr_schedule=self.config.get_config_for_module(module_id).lr,
        )

    def compute_loss_for_module(self, *, module_id, fwd_out, **kwargs):
        slope = self.config.learner_config_dict.get("slope", 1e6)
        scale = {"p0": slope, "p1": 1.0}[module_id]
        return scale * tf.reduce_mean(fwd_out["vf_preds"])


class Normalizing(PPOTfRLModule):
    """Has statistics that a forward pass moves."""

    def setup(self):
        super().setup()
        self.normalize = keras.layers.BatchNormalization(momentum=0.5)

    def _forward_train(self, batch, **kwargs):
        obs = self.normalize(batch["obs"], training=True)
        return super()._forward_train({**batch, "obs": obs}, **kwargs)


# Kind -> settings, and the first number that is not finite.
OVERFLOWS = {
    "weights": ({"lr": 3e38}, "weight '000/kernel'"),
    # Each square is finite; the sum of those of two steps is not.
    "slots": (
        {"learner_config_dict": {"optimizer": keras.optimizers.Adagrad, "slope": 1e19}},
        "slot '.*/accumulator' of optimizer 'default_optimizer'",
    ),
    "statistics": ({"learner_config_dict": {"slope": 1.0}}, "weight '.*/moving_var"),
}


def check_overflow(make_learner, make_batch, kind, **settings):
    """p0 has to be what it was, and p1 what it becomes without p0."""
    own, where = OVERFLOWS[kind]
    module_class = Normalizing if kind == "statistics" else PPOTfRLModule
    spec = RLModuleSpec(module_class=module_class)
    learner = make_learner(
        Overflowing,
        policies={"p0": spec, "p1": spec},
        algorithm_config_overrides_per_module={"p0": {"lr": own.get("lr", 1e-3)}},
        learner_config_dict=own.get("learner_config_dict", {}),
        batch_checks="off",
        max_non_finite_updates_in_a_row=6,
        **settings,
    )
    batch = make_batch(learner)
    if kind == "statistics":
        batch["p0"]["obs"][17] = 1e25
    start = learner.get_state()
    learner.update({"p1": batch["p1"]}, minibatch_size=4)
    alone = learner.get_state(PARTS)
    learner.set_state(start, force=True)

    learner.update(batch, minibatch_size=4)
    after = learner.get_state(PARTS)
    for part in PARTS:
        assert same(after[part]["p0"], start[part]["p0"])
        assert same(after[part]["p1"], alone[part]["p1"])
        assert not same(after[part]["p1"], start[part]["p1"])
    assert (flags(learner, "p0"), flags(learner, "p1")) == (5, 0)
    return learner, batch, where


@pytest.mark.parametrize("kind", OVERFLOWS)
def test_numbers_that_stop_being_finite_are_put_back(make_learner, make_batch, kind):
    run_eagerly = kind != "weights"
    settings = {"run_eagerly": run_eagerly}
    learner, batch, where = check_overflow(make_learner, make_batch, kind, **settings)
    start = learner.get_state(PARTS)
    with pytest.raises(NonFiniteUpdateError, match=where) as error:
        learner.update(batch, minibatch_size=4)
    assert "non-finite new weights in 10 gradient steps" in str(error.value)
    assert error.value.module_id == "p0"
    endpoint = export_update(learner, "p0").endpoint
    columns = {name: tf.constant(column) for name, column in batch["p0"].items()}
    if kind != "slots":  # These overflow in the second step.
        assert float(endpoint.function(columns)[FLAG]) == 1.0
        assert same(
            learner.get_state(PARTS)["optimizer"]["p0"], start["optimizer"]["p0"]
        )
        assert same(
            learner.get_state(PARTS)["rl_module"]["p0"], start["rl_module"]["p0"]
        )
    learner.get_optimizer("p0").learning_rate = 1e-12
    learner.update(make_batch(learner, 4), minibatch_size=4)  # It goes on.
    after = learner.get_state(PARTS)
    assert all(not same(after[part]["p0"], start[part]["p0"]) for part in PARTS)


@pytest.mark.deep
@pytest.mark.parametrize("mode", [*MODES, "step", "1 device", "2 devices"])
@pytest.mark.parametrize("kind", OVERFLOWS)
def test_numbers_are_put_back_in_every_mode(
    make_learner, make_batch, monkeypatch, kind, mode
):
    settings = MODES.get(mode)
    if mode == "step":
        monkeypatch.setattr(compiled_update, "CONVOLUTIONS", ("MatMul",))
        settings = {"jit_compile": True}
    elif settings is None:
        devices = ["CPU:0", "CPU:1"][: int(mode[0])]
        # TensorFlow's collectives refuse two strategies of unlike sizes in one process.
        exchange = tf.distribute.ReductionToOneDevice()
        settings = {"strategy": tf.distribute.MirroredStrategy(devices, exchange)}
    learner, *_ = check_overflow(make_learner, make_batch, kind, **settings)
    how = {"plain": "plain loop (", "xla": "XLA around", "step": "XLA per step"}
    assert all(how.get(mode, "") in line for line in learner.describe_updates())


def test_what_was_not_finite_before_is_meant_to_be_so():
    mask, weight = tf.Variable([0.0, -np.inf]), tf.Variable([1.0, 2.0])
    count = tf.Variable(3)
    guard = OverflowGuard({"p0": [count, mask, weight], "p1": [tf.Variable(1.0)]})
    for new, want in (([3.0, 4.0], -1), ([3.0, np.inf], 2), ([3.0, 1e30], -1)):
        saved = guard.save()
        weight.assign(new)
        count.assign_add(1)
        assert guard.put_back(saved).numpy().tolist() == [want, -1]
    assert weight.numpy().tolist() == [3.0, np.float32(1e30)] and count.numpy() == 5
    assert OverflowGuard({}).put_back(OverflowGuard({}).save()).shape == (0,)


def test_modules_that_share_variables_are_put_back_together(make_learner, make_batch):
    class Together(Overflowing):
        def configure_optimizers(self):
            self.register_optimizer(
                optimizer=keras.optimizers.SGD(3e38),
                params=self.get_parameters(self.module),
            )

    ids = dict.fromkeys(["p0", "p1", "p2"])
    learner = make_learner(Together, policies=ids, run_eagerly=True)
    batch = make_batch(learner, p0=20, p1=20)
    before = learner.get_state(PARTS)
    learner.update(batch)
    after = learner.get_state(PARTS)
    assert all(same(before[part], after[part]) for part in PARTS)
    assert flags(learner, ALL_MODULES) == 1 and flags(learner, "p0") == 0


# Finding it changes nothing.


class Restless(Module):
    """Has generators, and weights that a forward pass moves."""

    def setup(self):
        super().setup()
        self.dropout = keras.layers.Dropout(0.5, seed=3)
        self.normalize = keras.layers.BatchNormalization()

    def _forward_train(self, batch, **kwargs):
        obs = self.normalize(self.dropout(batch["obs"], training=True), training=True)
        return super()._forward_train({**batch, "obs": obs}, **kwargs)


def find(learner, batch, module_id="p0"):
    rows = {mid: np.arange(len(own["obs"])) for mid, own in batch.items()}
    return diagnosis.first_bad_tensor(learner, module_id, batch, rows)


def test_looking_changes_nothing(make_learner, make_batch):
    spec = RLModuleSpec(module_class=Restless)
    learner = make_learner(PoisonedPPO, policies={"p0": spec}, run_eagerly=True)
    learner.update(batch_of(learner, make_batch))
    before = learner.get_state()
    batch = batch_of(learner, make_batch, p0=("term", np.inf, [ROW]))
    assert find(learner, batch) == "loss term 'own_term'"
    after = learner.get_state()
    assert str(before) == str(after)
    assert same(before["rl_module"], after["rl_module"])
    assert same(before["optimizer"], after["optimizer"])
    assert before["learner"]["generators"]["rl_module"]["p0"]  # There are some.


def test_slots_are_looked_at_last(learner, make_batch):
    batch = batch_of(learner, make_batch)
    assert find(learner, batch) == diagnosis.NOT_SEEN
    names = {}
    for variable in learner.get_optimizer("p0").variables[2:]:
        old = variable.numpy()
        variable.assign(np.full_like(old, -np.inf))
        names[variable.name] = find(learner, batch)
        variable.assign(old)
    keys = weight_keys(learner)
    want = [
        f"slot '{key}/{role}' of optimizer 'default_optimizer'"
        for key in keys
        for role in ("momentum", "velocity")
    ]
    assert sorted(names.values()) == sorted(want)


def test_order_is_that_of_a_step(learner, make_batch):
    """What comes earlier is named, though all that follows is sick as well."""
    sick = batch_of(learner, make_batch, p0=("vf_preds", np.nan, [7, 3]))
    assert find(learner, sick) == "forward output 'vf_preds', first in row 3"
    sick["p0"]["advantages"] = np.full(20, np.inf, np.float32)
    assert find(learner, sick) == "column 'advantages', first in row 0"
    weight = learner.module["p0"].weights[2]
    weight.assign(np.full(weight.shape, np.nan))
    assert find(learner, sick) == f"weight {weight_keys(learner)[2]!r}"
    assert find(learner, sick, "p1") == diagnosis.NOT_SEEN


def test_rows_are_those_of_the_batch(learner, make_batch):
    learner.config.training(max_non_finite_updates_in_a_row=1)
    batch = batch_of(learner, make_batch, p1=("action_dist_inputs", np.nan, [13, 17]))
    with pytest.raises(NonFiniteUpdateError) as error:
        learner.update(
            batch, minibatch_size=5, shuffle_batch_per_epoch=True, num_epochs=1
        )
    where = error.value.first_bad
    assert where in [
        f"forward output 'action_dist_inputs', first in row {r}" for r in (13, 17)
    ]


def test_logits_of_forbidden_actions_are_fine(learner, make_batch):
    batch = batch_of(learner, make_batch, p0=("loss", np.inf, [ROW]))
    logits = batch["p0"]["action_dist_inputs"].copy()
    logits[:, 1] = -np.inf
    batch["p0"]["action_dist_inputs"] = logits
    assert find(learner, batch) == "the loss"
    logits[4] = -np.inf  # All of them: no action is left.
    assert find(learner, batch) == "column 'action_dist_inputs', first in row 4"


def test_a_term_that_is_not_finite_beside_a_loss_that_is(make_learner, make_batch):
    class Curious(Poisoned):
        def compute_loss_for_module(self, *, module_id, **kwargs):
            self.metrics.log_value((module_id, "ratio"), tf.constant(np.nan))
            return super().compute_loss_for_module(module_id=module_id, **kwargs)

    learner = build(make_learner, Curious, ids=["p0"], run_eagerly=True)
    batch = batch_of(learner, make_batch, p0=(0, np.nan, [ROW]))
    key = weight_keys(learner)[0]
    assert find(learner, batch) == f"gradient of weight {key!r}"


def test_nested_columns_and_numbers_of_no_row(make_learner, make_batch):
    class Own(Poisoned):
        def compute_losses(self, *, fwd_out, batch):
            for own in fwd_out.values():
                own["parts"] = {"scale": tf.constant([1.0, np.inf]), "name": "own"}
            return super().compute_losses(fwd_out=fwd_out, batch=batch)

    learner = build(make_learner, Own, ids=["p0"], run_eagerly=True)
    batch = batch_of(learner, make_batch)
    assert find(learner, batch) == "forward output 'parts/scale'"
    batch["p0"]["camera"] = {"left": np.ones((20, 2)), "right": np.ones((20, 2, 2))}
    batch["p0"]["camera"]["right"][11, 1, 1] = np.nan
    assert find(learner, batch) == "column 'camera/right', first in row 11"


@pytest.mark.parametrize(
    ("size", "grad_clip", "is_sick"),
    [(1e22, None, True), (1e22, 0.5, False), (MAX, 0.5, True), (MAX, None, True)],
)
def test_gradients_that_are_finite_but_not_their_norm(
    make_learner, make_batch, size, grad_clip, is_sick
):
    class Large(Poisoned):
        def compute_gradients(self, *args, **kwargs):
            computed = super().compute_gradients(*args, **kwargs)
            first, second, *_ = computed
            larger = {second: tf.ones_like(computed[second]) * size}
            return computed | {first: computed[first] + 1e9} | larger

    learner = build(
        make_learner,
        Large,
        ["p0"],
        run_eagerly=True,
        non_finite_updates="raise",
        grad_clip=grad_clip,
    )
    batch = batch_of(learner, make_batch)
    want = f"norm of the gradients, largest in weight {weight_keys(learner)[1]!r}"
    assert find(learner, batch) == (want if is_sick else diagnosis.NOT_SEEN)
    if is_sick:
        with pytest.raises(NonFiniteUpdateError, match=re.escape(want)):
            learner.update(batch)
    else:
        learner.update(batch)


def test_optimizers_of_all_modules(make_learner, make_batch):
    class Together(Poisoned):
        def configure_optimizers(self):
            self.register_optimizer(
                optimizer=keras.optimizers.Adam(),
                params=self.get_parameters(self.module),
            )

    learner = build(
        make_learner, Together, run_eagerly=True, max_non_finite_updates_in_a_row=2
    )
    for poisoned, want in (
        (
            ("vf_preds", np.inf, [ROW]),
            f"output 'vf_preds' of module 'p1', first in row {ROW}",
        ),
        ((0, -np.inf, [ROW]), f"gradient of weight 'p1/{weight_keys(learner)[0]}'"),
        ((0, MAX, [ROW]), f"largest in weight 'p1/{weight_keys(learner)[0]}'"),
    ):
        before = learner.get_state(PARTS)
        batch = batch_of(learner, make_batch, p1=poisoned)
        learner.update(batch)
        with pytest.raises(NonFiniteUpdateError) as error:
            learner.update(batch)
        assert error.value.module_id == ALL_MODULES
        assert error.value.first_bad.endswith(want)
        after = learner.get_state(PARTS)
        assert all(same(before[part], after[part]) for part in PARTS)


@pytest.mark.slow
def test_on_several_devices(make_learner, make_batch):
    class WithoutGradients(Poisoned):  # Those would need a batch for each device.
        def compute_gradients(self, *args, **kwargs):
            self.batches.clear()
            return TfLearner.compute_gradients(self, *args, **kwargs)

    learner = build(
        make_learner,
        WithoutGradients,
        strategy=tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
        max_non_finite_updates_in_a_row=2,
    )
    for place, want in (
        ("vf_preds", "forward output 'vf_preds', first in row 13"),
        ("obs", "column 'obs', first in row 13"),
    ):
        batch = batch_of(learner, make_batch, p0=(place, np.nan, [13]))
        learner.update(batch, minibatch_size=20)
        with pytest.raises(NonFiniteUpdateError, match=want):
            learner.update(batch, minibatch_size=20)
    assert flags(learner, "p0") == 4 and flags(learner, "p1") == 0


def test_sequences(make_learner, make_batch):
    learner = make_learner(
        PPOTfLearner,
        model_config={"fcnet_hiddens": [4], "use_lstm": True, "max_seq_len": 5},
        run_eagerly=True,
        batch_checks="schema",
        max_non_finite_updates_in_a_row=1,
    )
    batch = make_batch(learner, 20)
    batch["default_policy"]["obs"][2, 3] = np.nan
    with pytest.raises(NonFiniteUpdateError, match="column 'obs', first in row 2") as e:
        learner.update(batch)
    assert e.value.module_id == "default_policy"


def test_what_is_not_seen_again_is_said(learner, make_batch):
    learner.config.training(non_finite_updates="raise")
    learner._first_bad_tensor = lambda module_id, plan, minibatch: find(
        learner, batch_of(learner, make_batch), module_id
    )
    batch = batch_of(learner, make_batch, p0=("loss", np.nan, [ROW]))
    try:
        with pytest.raises(NonFiniteUpdateError, match=diagnosis.NOT_SEEN):
            learner.update(batch, minibatch_size=5)
    finally:
        del learner._first_bad_tensor


def test_an_error_on_the_way_is_told(make_learner, make_batch):
    class Broken(Poisoned):
        broken = False

        def compute_losses(self, **kwargs):
            if self.broken:
                raise ZeroDivisionError("own code")
            return super().compute_losses(**kwargs)

    learner = build(make_learner, Broken, ids=["p0"], run_eagerly=True)
    learner.broken = True
    found = find(learner, batch_of(learner, make_batch))
    assert found.startswith("not found") and "ZeroDivisionError('own code')" in found
    learner.broken = False
    assert learner.update(batch_of(learner, make_batch))["p0"][FLAG] == 0
