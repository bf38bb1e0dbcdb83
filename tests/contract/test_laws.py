"""The laws that a learner keeps, whatever it learns: one test or more for each."""

import copy
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOTfLearner
from tflearner.constants import ALL_MODULES, DEFAULT_MODULE_ID
from tflearner.data.sample_batch import MultiAgentBatch
from tflearner.engine import gradients
from tflearner.errors import NumericError
from tflearner.learner.tf_learner import TfLearner
from tflearner.testing import assert_close, learner_digest, random_episodes

PAIR = ["p0", "p1"]
PARTS = ("rl_module", "optimizer")


@pytest.fixture(scope="module")
def pair(make_learner):
    """Two modules whose weights no test changes."""
    return make_learner(policies=PAIR)


# Building.


def test_building_twice_builds_once(make_learner):
    learner = make_learner()
    module, optimizers = learner.module, [*learner._optimizers.values()]
    learner.build()
    assert learner.module is module
    assert [*learner._optimizers.values()] == optimizers and len(optimizers) == 1


CALLS = {
    "update": lambda learner, batch: learner.update(batch),
    "update_from_batch": lambda learner, batch: learner.update_from_batch(batch),
    "update_from_episodes": lambda learner, batch: learner.update_from_episodes([]),
    "update_from_iterator": lambda learner, batch: learner.update_from_iterator(
        [batch]
    ),
    "add_module": lambda learner, batch: learner.add_module(
        module_id="p", module_spec=learner.config.get_rl_module_spec()
    ),
    "remove_module": lambda learner, batch: learner.remove_module(DEFAULT_MODULE_ID),
    "get_state": lambda learner, batch: learner.get_state(),
    "set_state": lambda learner, batch: learner.set_state({}),
    "configure_optimizers": lambda learner, batch: learner.configure_optimizers(),
    "register_optimizer": lambda learner, batch: learner.register_optimizer(
        module_id=DEFAULT_MODULE_ID, optimizer=keras.optimizers.SGD(), params=[]
    ),
    "apply": lambda learner, batch: learner.apply(lambda own: own.get_state()),
}


@pytest.mark.parametrize("name", CALLS)
def test_before_build_updates_and_states_are_value_errors(make_config, name):
    learner = PPOTfLearner(config=make_config())
    with pytest.raises(ValueError, match=r"call build\(\)"):
        CALLS[name](learner, {})
    assert learner.module is None


# Gradients.


@pytest.fixture(scope="module")
def sharing(make_learner):
    """A module, and a variable of nobody's; no test changes weights."""
    learner = make_learner()
    shared = keras.Variable(np.zeros(3, np.float32))
    learner.register_optimizer(optimizer=keras.optimizers.SGD(), params=[shared])
    return learner, learner.get_param_ref(shared)


@pytest.mark.parametrize("log_gradients", [False, True])
@pytest.mark.parametrize("grad_clip", [None, 0.1, 1e9])
@pytest.mark.parametrize("by", ["value", "norm", "global_norm"])
def test_postprocessing_keeps_every_gradient_there_is(
    sharing, ones, grad_clip, by, log_gradients
):
    learner, shared = sharing
    learner.config.training(
        grad_clip=grad_clip, grad_clip_by=by, log_gradients=log_gradients
    )
    given = ones(learner) | {shared: tf.ones(3)}
    missing = [*given][1]
    given[missing] = None
    assert set(learner.postprocess_gradients(given)) == set(given) - {missing}


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("by", ["value", "norm", "global_norm"])
def test_clipped_gradients_are_within_their_bound(by, size):
    rng = np.random.default_rng(0)
    given = {i: size * rng.standard_normal((3, i + 1), np.float32) for i in range(4)}
    clipped = {i: tf.constant(g) for i, g in given.items()}
    bound = 1.0
    gradients.clip_gradients(clipped, grad_clip=bound, grad_clip_by=by)
    clipped = {i: g.numpy() for i, g in clipped.items()}
    groups = [given.keys()] if by == "global_norm" else [[i] for i in given]
    for group in groups:
        before = np.concatenate([given[i].ravel() for i in group])
        after = np.concatenate([clipped[i].ravel() for i in group])
        order = np.inf if by == "value" else 2
        length = np.linalg.norm(before, order)
        assert np.linalg.norm(after, order) <= bound * (1.0 + 1e-6)
        if by == "value":
            assert_close(after, np.clip(before, -bound, bound))
        else:  # Same direction; nothing changes below the bound.
            assert_close(after, before * min(1.0, bound / length), rtol=1e-5)


def test_gradient_of_the_sum_of_all_weights_is_one(pair, ones):
    with tf.GradientTape() as tape:
        losses = {
            mid: tf.add_n([tf.reduce_sum(p) for p in pair.get_parameters(module)])
            for mid, module in pair.module.items()
        }
    computed = pair.compute_gradients(losses, gradient_tape=tape)
    assert computed.keys() == ones(pair).keys()
    for ref, gradient in ones(pair).items():
        assert_close(computed[ref], gradient)


def test_adam_with_gradients_of_one_moves_by_the_learning_rate(make_learner, ones):
    learner = make_learner(lr=0.01)
    weights = learner.get_parameters(learner.module)
    before, given = [w.numpy() for w in weights], ones(learner)
    for _ in range(30):
        learner.apply_gradients(given)
    for weight, start in zip(weights, before):
        assert_close(weight.numpy(), start - 30 * 0.01, rtol=0, atol=1e-4)


def test_optimizer_of_an_absent_module_rests(
    make_learner, make_batch, assert_same, differ
):
    learner = make_learner(policies=PAIR)
    learner.update(make_batch(learner))  # Now there is momentum.
    before = learner.get_state(PARTS)
    learner.update(make_batch(learner, p0=10))
    after = learner.get_state(PARTS)
    for part in PARTS:
        assert_same(after[part]["p1"], before[part]["p1"])
        assert differ(after[part]["p0"], before[part]["p0"])
    assert learner.get_optimizer("p0").iterations.numpy() == 2
    assert learner.get_optimizer("p1").iterations.numpy() == 1


# Counting.


def test_weights_are_numbered_by_updates_that_were_not_skipped(
    make_learner, make_batch
):
    learner = make_learner(policies=PAIR)
    batch = make_batch(learner)
    for number, given in enumerate((batch, {}, batch, {"p0": {}}, batch)):
        results = learner.update(given, num_epochs=2, minibatch_size=5)
        own = {results[mid]["weights_seq_no"] for mid in PAIR}
        assert own == {number // 2 + 1}
    assert learner.get_state("rl_module")["weights_seq_no"] == 3


def test_steps_are_counted_by_module_in_sum_and_for_a_lifetime(
    make_learner, make_batch
):
    learner = make_learner(policies=PAIR)
    batch = MultiAgentBatch(make_batch(learner, p0=10, p1=4), env_steps=12)
    want = {"p0": 10, "p1": 4, ALL_MODULES: 14}
    for calls in (1, 2):
        results = learner.update(batch, num_epochs=2, minibatch_size=5)
        learner.metrics.reduce()
        for mid, rows in want.items():
            own = results[mid]
            assert own["num_module_steps_trained"] == rows
            assert own["num_module_steps_trained_lifetime"] == rows * calls


# Minibatches.


@pytest.mark.parametrize(
    ("num_epochs", "size", "total", "want"),
    [(1, None, 0, 1), (2, 4, 0, 5), (2, 7, 0, 3), (1, 50, 0, 1), (2, 5, 3, 3)],
)
def test_number_of_steps_is_that_of_the_widest_module(
    make_learner, make_batch, num_epochs, size, total, want
):
    learner = make_learner(policies=PAIR)
    learner.update(
        make_batch(learner, p0=10, p1=4),
        num_epochs=num_epochs,
        minibatch_size=size,
        num_total_minibatches=total,
    )
    closed_form = math.ceil(num_epochs * 10 / (size or 10))
    assert len(learner.steps) == want == (total or closed_form)


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_of_the_widest_module_is_seen_once_per_epoch(
    make_learner, make_batch, shuffle
):
    learner = make_learner(policies=PAIR)
    learner.update(
        make_batch(learner, p0=8, p1=3),
        num_epochs=2,
        minibatch_size=4,
        shuffle_batch_per_epoch=shuffle,
    )
    seen = np.concatenate([rows["p0"] for rows in learner.steps])
    assert np.bincount(seen.astype(int)).tolist() == [2] * 8


# What is given.


def test_unknown_module_is_a_value_error_and_changes_nothing(make_learner, make_batch):
    learner = make_learner()
    batch = make_batch(learner)
    batch["stranger"] = batch[DEFAULT_MODULE_ID]
    before = learner_digest(learner)
    with pytest.raises(ValueError, match="'stranger'"):
        learner.update(batch)
    assert learner_digest(learner) == before and learner.calls == []


def test_what_the_caller_gives_stays_as_it_is(make_config, make_batch, assert_same):
    config = make_config(policies=PAIR, policies_to_train=["p0"])
    config_before = repr(config)
    learner = config.build_learner()
    batch = make_batch(learner)
    given = MultiAgentBatch(batch, env_steps=10)
    kept = copy.deepcopy({mid: dict(own) for mid, own in batch.items()})
    settings = {"minibatch_size": 4, "shuffle_batch_per_epoch": True}
    learner.update(given, **settings)
    assert_same({mid: dict(given[mid]) for mid in given.policy_batches}, kept)

    module = learner.module["p0"]
    episodes = random_episodes(module.observation_space, module.action_space)
    for episode in episodes:
        episode.module_id = "p0"
    states = [copy.deepcopy(episode.get_state()) for episode in episodes]
    learner.update(episodes=episodes, **settings)
    assert len(episodes) == 3
    assert_same([episode.get_state() for episode in episodes], states)

    learner.add_module(module_id="new", module_spec=config.get_rl_module_spec())
    learner.remove_module("p1", new_should_module_be_updated=["new"])
    assert repr(config) == config_before


# Modules that come and go.


@pytest.mark.parametrize(
    ("trains", "shuffle"), [(True, False), (False, True), (True, True)]
)
def test_module_that_comes_and_goes_leaves_the_others_alone(
    make_config, make_learner, make_batch, assert_same, trains, shuffle
):
    spec = make_config().get_rl_module_spec()
    settings = {"minibatch_size": 5, "shuffle_batch_per_epoch": shuffle}

    def run(with_visitor):
        learner = make_learner()
        batch = make_batch(learner)
        learner.update(batch, **settings)
        if with_visitor:
            learner.add_module(module_id="visitor", module_spec=spec)
        learner.update(make_batch(learner) if trains else batch, **settings)
        if with_visitor:
            learner.remove_module("visitor")
        learner.update(batch, **settings)
        return learner.get_state(PARTS)

    assert_same(run(True), run(False))


# State.


def test_restored_learner_is_the_learner_and_goes_on_to_the_bit(
    make_ppo, make_batch, assert_same
):
    settings = {"policies": PAIR, "lr": [[0, 0.1], [100, 0.01]]}
    learner, other = make_ppo(**settings), make_ppo(**settings, seed=2)

    def update(learner, timestep):
        return learner.update(
            make_batch(learner),
            minibatch_size=5,
            shuffle_batch_per_epoch=True,
            timesteps={"num_env_steps_sampled_lifetime": timestep},
        )

    update(learner, 50)
    other.set_state(copy.deepcopy(learner.get_state()))
    state = other.get_state()
    assert_same(state, learner.get_state())
    slots = state["optimizer"]["p0"]["default_optimizer"]
    assert any("velocity" in name and slots[name].any() for name in slots)
    assert slots["learning_rate"] == pytest.approx(0.055)
    assert state["weights_seq_no"] == 1 and state["metrics_logger"]["stats"]
    assert_same(update(other, 60), update(learner, 60))
    assert_same(other.get_state(), learner.get_state())


# Traced updates.


def test_sets_of_modules_are_traced_once_whatever_the_updates(
    make_config, make_learner, make_batch
):
    learner = make_learner(run_eagerly=False)

    def traces_after(**rows):
        learner.update(make_batch(learner, **rows), minibatch_size=4)
        return learner.num_traces

    assert [traces_after(default_policy=n) for n in (4, 9, 30)] == [1] * 3
    spec = make_config().get_rl_module_spec()
    learner.add_module(module_id="new", module_spec=spec)
    assert [traces_after(default_policy=n) for n in (4, 7)] == [1, 1]
    assert [traces_after(default_policy=n, new=6) for n in (4, 7)] == [2, 2]
    learner.remove_module("new")
    assert traces_after(default_policy=6) == 2


class SumOfWeights(TfLearner):
    """Its gradients are 1, so that SGD moves each weight by the learning rate."""

    def configure_optimizers_for_module(self, module_id, config=None):
        self.register_optimizer(
            module_id=module_id,
            optimizer=keras.optimizers.SGD(),
            params=self.get_parameters(self.module[module_id]),
            lr_or_lr_schedule=config.lr,
        )

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        params = self.get_parameters(self.module[module_id])
        return tf.add_n([tf.reduce_sum(param) for param in params])


def test_traced_updates_follow_the_schedule_of_the_learning_rate(
    make_learner, make_batch
):
    learner = make_learner(
        SumOfWeights, run_eagerly=False, lr=[[0, 0.5], [100, 0.25], [200, 0.125]]
    )
    weight = learner.get_parameters(learner.module)[0]
    batch, rate = make_batch(learner), 0.5
    for timestep, next_rate in ((50, 0.375), (100, 0.25), (150, 0.1875), (999, 0.125)):
        before = weight.numpy()
        learner.update(batch, timesteps={"num_env_steps_sampled_lifetime": timestep})
        assert_close(before - weight.numpy(), np.full(before.shape, rate), rtol=1e-5)
        rate = float(learner.get_optimizer().learning_rate.numpy())
        assert rate == next_rate
    assert learner.num_traces == 1


# Numbers that are not finite.


@pytest.mark.parametrize("policy", ["skip", "raise"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gradients_that_are_not_finite_reach_no_weight_and_are_counted(
    make_learner, make_batch, recording, policy, value, assert_same, differ
):
    class Sick(recording):
        def compute_gradients(self, *args, **kwargs):
            computed = super().compute_gradients(*args, **kwargs)
            ref = self.get_param_ref(self.get_parameters(self.module["p0"])[0])
            return computed | {ref: computed[ref] * value}

    learner = make_learner(Sick, policies=PAIR, non_finite_updates=policy)
    before = learner.get_state(PARTS)
    if policy == "raise":
        with pytest.raises(NumericError, match="'p0'"):
            learner.update(make_batch(learner), minibatch_size=5)
    else:
        learner.update(make_batch(learner), minibatch_size=5)
    after = learner.get_state(PARTS)
    for part in PARTS:
        assert_same(after[part]["p0"], before[part]["p0"])
        assert differ(after[part]["p1"], before[part]["p1"])
    name = "num_non_finite_updates_lifetime"
    assert [learner.metrics.peek((mid, name)) for mid in PAIR] == [2, 0]
    assert all(np.isfinite(x).all() for x in tf.nest.flatten(after["rl_module"]))
