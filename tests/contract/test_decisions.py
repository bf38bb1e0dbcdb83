"""Where RLlib's original learner was wrong or silent, and what holds here instead.

Each test says in its docstring what the original did; it fails on that behaviour.
"""

import inspect

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.constants import ALL_MODULES, DEFAULT_MODULE_ID
from tflearner.data.sample_batch import MultiAgentBatch, SampleBatch
from tflearner.errors import (
    ConfigError,
    OptimizerError,
    ScheduleError,
    UnknownModuleError,
    UsageError,
)
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.testing import assert_close, learner_digest, random_episodes

PAIR = ["p0", "p1"]
SKIPPED = "learner_update_skipped_empty_batch_lifetime"
NORM = "gradients_default_optimizer_global_norm"


# Gradients.


@pytest.mark.parametrize("grad_clip", [None, 1e9])
def test_logging_gradients_trains_as_much_as_not_logging(
    make_learner, make_batch, assert_same, grad_clip, differ
):
    """Before: with `log_gradients` and no clipping no gradient was ever applied."""
    states = []
    for log in (False, True):
        learner = make_learner(log_gradients=log, grad_clip=grad_clip)
        start = learner.get_state("rl_module")["rl_module"]
        results = learner.update(make_batch(learner))
        states.append(learner.get_state("rl_module")["rl_module"])
        assert (f"{NORM}_clipped" in results[DEFAULT_MODULE_ID]) == log
        assert differ(start, states[-1])
    assert_same(*states)


@pytest.mark.parametrize("grad_clip", [0, 0.0, -1.0])
def test_a_clip_of_nothing_is_refused_when_it_is_set(make_config, grad_clip):
    """Before: 0 was neither `None` nor true, and no gradient was ever applied."""
    with pytest.raises(ConfigError, match="grad_clip"):
        make_config(grad_clip=grad_clip).validate()
    with pytest.raises(ConfigError, match="grad_clip"):
        overrides = {DEFAULT_MODULE_ID: {"grad_clip": grad_clip}}
        make_config(algorithm_config_overrides_per_module=overrides).build_learner()


def test_optimizers_of_all_modules_train_with_the_global_config(
    make_learner, make_batch, recording
):
    """Before: what an optimizer under ALL_MODULES was to apply got lost."""

    class Shared(recording):
        def configure_optimizers(self):
            super().configure_optimizers()
            self.scale = keras.Variable(np.float32([1.0, 1.0]), name="scale")
            self.register_optimizer(
                optimizer=keras.optimizers.SGD(),
                params=[self.scale],
                lr_or_lr_schedule=0.5,
            )

        def compute_losses(self, *, fwd_out, batch):
            losses = super().compute_losses(fwd_out=fwd_out, batch=batch)
            return {mid: x + tf.reduce_sum(self.scale) for mid, x in losses.items()}

    overrides = {mid: {"grad_clip": 9.0} for mid in PAIR}
    learner = make_learner(
        Shared,
        policies=PAIR,
        grad_clip=0.25,
        grad_clip_by="value",
        algorithm_config_overrides_per_module=overrides,
    )
    results = learner.update(make_batch(learner))
    assert_close(learner.scale.numpy(), np.full(2, 1.0 - 0.5 * 0.25, np.float32))
    assert results[ALL_MODULES][NORM] == pytest.approx(np.sqrt(8.0))


@pytest.mark.parametrize("by", ["value", "norm", "global_norm"])
def test_the_norm_that_is_logged_is_the_one_before_clipping(make_learner, ones, by):
    """Before: clipping by value or norm logged what was left after it."""
    learner = make_learner(grad_clip=0.01, grad_clip_by=by, log_gradients=True)
    clipped = learner.postprocess_gradients(ones(learner))
    size = sum(int(tf.size(gradient)) for gradient in clipped.values())
    left = np.sqrt(sum(np.sum(np.square(g)) for g in clipped.values()))
    peek = learner.metrics.peek
    assert peek((DEFAULT_MODULE_ID, NORM)) == pytest.approx(np.sqrt(size))
    logged = peek((DEFAULT_MODULE_ID, f"{NORM}_clipped"))
    assert logged == pytest.approx(left) and left < 0.1


def test_losses_come_by_module_and_without_a_total(make_learner, make_batch, recording):
    """Before: the docs promised a total under ALL_MODULES, which would count twice."""

    class Keys(recording):
        def compute_gradients(self, loss_per_module, **kwargs):
            self.calls.append(("losses", sorted(loss_per_module)))
            return super().compute_gradients(loss_per_module, **kwargs)

    learner = make_learner(Keys, policies=PAIR)
    learner.update(make_batch(learner))
    assert ("losses", PAIR) in learner.calls
    assert "no total" in inspect.getdoc(TfLearner.compute_gradients)


# Optimizers.


def new_param():
    return keras.Variable(np.zeros(2, np.float32), name="w")


@pytest.fixture(scope="module")
def idle(make_learner):
    """Two modules; no test that uses it changes it."""
    return make_learner(policies=PAIR)


def test_names_optimizers_and_variables_have_one_owner(idle):
    """Before: the second owner replaced the first one or stepped beside it."""
    own = idle.get_parameters(idle.module["p0"])
    taken, before = idle.get_optimizer("p0"), learner_digest(idle)
    sgd = keras.optimizers.SGD
    for name, optimizer, params, shared, text in (
        ("default_optimizer", sgd(), [new_param()], False, "a name that is registered"),
        ("other", taken, own, True, "an optimizer that is"),
        ("other", sgd(), own[:1], False, "updates as well"),
    ):
        with pytest.raises(OptimizerError, match=text):
            idle.register_optimizer(
                module_id="p0",
                optimizer_name=name,
                optimizer=optimizer,
                params=params,
                allow_shared=shared,
            )
    assert learner_digest(idle) == before
    assert idle.get_optimizers_for_module("p0") == [("default_optimizer", taken)]


def test_full_names_that_read_the_same_are_two_optimizers(make_learner):
    """Before: ("a", "b_c") and ("a_b", "c") were one, and one of them got lost."""
    learner = make_learner(policies=["a", "a_b"])
    made = {}
    for module_id, name in (("a", "b_c"), ("a_b", "c")):
        made[module_id] = keras.optimizers.SGD()
        learner.register_optimizer(
            module_id=module_id,
            optimizer_name=name,
            optimizer=made[module_id],
            params=[new_param()],
        )
    assert learner.get_optimizer("a", "b_c") is made["a"]
    assert learner.get_optimizer("a_b", "c") is made["a_b"]


def test_variables_are_shared_on_demand(make_learner, make_batch):
    """Before: two optimizers that stepped one variable were never noticed."""
    learner = make_learner()
    weight = learner.get_parameters(learner.module)[0]
    second = keras.optimizers.SGD()
    learner.register_optimizer(
        module_id=DEFAULT_MODULE_ID,
        optimizer_name="second",
        optimizer=second,
        params=[weight],
        allow_shared=True,
    )
    learner.update(make_batch(learner))
    assert second.iterations.numpy() == learner.get_optimizer().iterations.numpy() == 1


def test_failed_registration_leaves_nothing_behind(idle):
    """Before: an invalid schedule raised after the optimizer was registered."""
    before, optimizer = learner_digest(idle), keras.optimizers.SGD()
    with pytest.raises(ScheduleError):
        idle.register_optimizer(
            module_id="p0",
            optimizer_name="late",
            optimizer=optimizer,
            params=[new_param()],
            lr_or_lr_schedule=[[5, 0.1], [10, 0.2]],
        )
    with pytest.raises(KeyError):
        idle.get_optimizer("p0", "late")
    with pytest.raises(KeyError):
        idle.filter_param_dict_for_optimizer({}, optimizer)
    assert learner_digest(idle) == before


def test_asking_for_an_unknown_modules_optimizers_changes_nothing(
    make_learner, make_batch, recording
):
    """Before: the question made an entry, and during the after-hook a crash."""

    class Asking(recording):
        def _set_optimizer_lr(self, optimizer, lr):
            self.calls.append(("asked", self.get_optimizers_for_module("nobody")))

    learner = make_learner(Asking, policies=PAIR, lr=[[0, 0.1], [9, 0.2]])
    assert learner.get_optimizers_for_module("nobody") == []
    assert "nobody" not in learner.update(make_batch(learner))
    assert learner.calls.count(("asked", [])) == 2
    assert [*learner._module_optimizers] == PAIR


def test_a_missing_timestep_keeps_the_learning_rate_where_it_is(
    make_learner, make_batch
):
    """Before: an update without timesteps set the schedule back to its start."""
    learner = make_learner(lr=[[0, 0.1], [100, 0.3]])
    batch = make_batch(learner)
    rates = [
        learner.update(batch, timesteps=timesteps)[DEFAULT_MODULE_ID][
            "default_optimizer_learning_rate"
        ]
        for timesteps in ({"num_env_steps_sampled_lifetime": 50}, None, {"other": 1})
    ]
    assert rates == pytest.approx([0.2, 0.2, 0.2])


# Modules.


def test_failed_addition_of_a_module_is_rolled_back(
    make_config, make_learner, recording
):
    """Before: a module whose optimizer failed stayed, without one."""

    class Unready(recording):
        def configure_optimizers_for_module(self, module_id, config=None):
            super().configure_optimizers_for_module(module_id, config)
            if module_id == "new":
                raise RuntimeError("no optimizer today")

    learner = make_learner(Unready)
    spec, before = make_config().get_rl_module_spec(), learner_digest(learner)
    with pytest.raises(RuntimeError, match="no optimizer today"):
        learner.add_module(
            module_id="new", module_spec=spec, config_overrides={"lr": 0.5}
        )
    assert [*learner.module] == [*learner._module_optimizers] == [DEFAULT_MODULE_ID]
    assert learner_digest(learner) == before


def test_removed_module_is_forgotten_everywhere(make_config, make_learner, make_batch):
    """Before: names, specification and overrides stayed and came back with its id."""
    learner, spec = make_learner(), make_config().get_rl_module_spec()
    learner.add_module(module_id="gone", module_spec=spec, config_overrides={"lr": 0.5})
    assert learner.config.get_config_for_module("gone").lr == 0.5
    learner.update(make_batch(learner))

    def places():
        return learner._module_spec, learner.config, learner._named_optimizers

    assert all("gone" in repr(place) for place in places())
    learner.remove_module("gone")
    assert not any("gone" in repr(place) for place in places())
    assert "gone" not in learner.update({})
    learner.add_module(module_id="gone", module_spec=spec)
    assert learner.config.get_config_for_module("gone").lr == learner.config.lr
    assert float(learner.get_optimizer("gone").learning_rate.numpy()) < 0.1


def test_a_module_given_as_object_is_wrapped_and_not_rebuilt(make_config, recording):
    """Before: the learner built another one from its specification."""
    config = make_config()
    module = config.get_rl_module_spec().build(seed=9)
    weights = module.get_state()
    learner = recording(config=config, module=module)
    learner.build()
    assert learner.module[DEFAULT_MODULE_ID] is module
    assert module.as_multi_rl_module()[DEFAULT_MODULE_ID] is module
    np.testing.assert_array_equal(
        learner.module[DEFAULT_MODULE_ID].get_state()["000/kernel"],
        weights["000/kernel"],
    )


def test_whether_a_learner_is_built_is_one_state(make_learner, make_batch):
    """Before: there were two flags, and a reset cleared one of them."""
    learner = make_learner()
    learner._reset()
    assert not learner._check_is_built(error=False) and learner.module is None
    with pytest.raises(ValueError, match=r"call build\(\)"):
        learner.update({})
    learner.build()
    assert learner._check_is_built(error=False)
    assert len([*learner._optimizers.values()]) == 1
    results = learner.update(make_batch(learner))
    assert results[DEFAULT_MODULE_ID]["weights_seq_no"] == 1


# Updates.


@pytest.mark.parametrize(
    "skip",
    [
        lambda learner, batch: learner.update({}),
        lambda learner, batch: learner.update(episodes=[]),
        lambda learner, batch: learner.update({"p1": batch["p1"]}),
        lambda learner, batch: learner.update_from_iterator([{"p1": batch["p1"]}]),
    ],
    ids=["no modules", "no episodes", "frozen module", "frozen items"],
)
def test_skipped_update_runs_neither_hook_and_is_counted(
    make_learner, make_batch, skip
):
    """Before: the one before ran alone; an empty list of episodes was an IndexError."""
    learner = make_learner(policies=PAIR, policies_to_train=["p0"])
    batch = make_batch(learner)
    results = skip(learner, batch)
    assert learner.calls == [] and results[ALL_MODULES][SKIPPED] == 1
    results = learner.update({"p0": batch["p0"]})
    assert learner.names == ["before", "step", "after"]
    assert results["p0"]["weights_seq_no"] == 1


def test_update_changes_neither_batch_nor_episodes(make_ppo, make_batch):
    """Before: modules were deleted from the batch, rows shuffled, episodes longer."""
    learner = make_ppo(policies=PAIR, policies_to_train=["p0"])
    settings = {"minibatch_size": 4, "shuffle_batch_per_epoch": True}
    batch = MultiAgentBatch(make_batch(learner), env_steps=10)
    arrays = dict(batch["p0"])
    learner.update(batch, num_epochs=2, **settings)
    assert [*batch.policy_batches] == PAIR
    assert batch["p0"]["rewards"].tolist() == [*range(10)]
    assert all(batch["p0"][name] is array for name, array in arrays.items())
    module = learner.module["p0"]
    episodes = random_episodes(
        module.observation_space, module.action_space, ends=[(4, "cut")]
    )
    episodes[0].module_id = "p0"
    id_ = episodes[0].id_
    learner.update(episodes=episodes, **settings)
    assert (len(episodes[0]), episodes[0].id_, episodes[0].is_truncated) == (
        4,
        id_,
        False,
    )


class OnPlace(TfRLModule):
    """Reads its place from a dict of observations, or the rewards if there are none."""

    def setup(self):
        self.policy = keras.layers.Dense(2)

    def _forward(self, batch, **kwargs):
        obs = batch.get(Columns.OBS)
        place = batch["rewards"] if obs is None else obs["place"][:, 0]
        out = self.policy(tf.cast(place, tf.float32)[:, None])
        return {Columns.ACTION_DIST_INPUTS: out, Columns.VF_PREDS: out[:, 0]}


@pytest.fixture(scope="module")
def leaves_of_steps(recording):
    """A learner class that keeps every array of its steps' columns."""

    class Leaves(recording):
        def _update(self, batch, **kwargs):
            self.leaves = tf.nest.flatten(batch)
            return super()._update(batch, **kwargs)

        def get_required_columns(self, module_id):
            return ()

    return Leaves


def test_arrays_become_tensors_wherever_they_are(
    make_learner, make_batch, leaves_of_steps
):
    """Before: only the first module's "obs", if an array, was looked at."""
    learner = make_learner(leaves_of_steps, policies=PAIR)
    batch = make_batch(learner)
    batch["p0"] = {name: tf.constant(column) for name, column in batch["p0"].items()}
    learner.update(batch)
    assert len(learner.leaves) == 14 and all(map(tf.is_tensor, learner.leaves))


@pytest.mark.parametrize("obs", [True, False], ids=["nested", "missing"])
def test_nested_or_missing_observations_become_tensors_too(
    make_config, leaves_of_steps, obs
):
    """Before: a dict of observations, or none, was taken for tensors."""
    space = gym.spaces.Dict({"place": gym.spaces.Box(-1, 1, (1,))})
    spec = RLModuleSpec(OnPlace, space, gym.spaces.Discrete(2))
    learner = leaves_of_steps(config=make_config(), module_spec=spec)
    learner.build()
    batch = {"rewards": np.ones(4, np.float32)}
    if obs:
        batch["obs"] = {"place": np.ones((4, 1), np.float32)}
    results = learner.update({DEFAULT_MODULE_ID: batch})
    assert results[DEFAULT_MODULE_ID]["num_module_steps_trained"] == 4
    assert len(learner.leaves) == 1 + obs and all(map(tf.is_tensor, learner.leaves))


def test_a_sample_batch_of_one_module_is_converted(
    make_learner, make_batch, leaves_of_steps
):
    """Before: its NumPy arrays went into the step as they were."""
    learner = make_learner(leaves_of_steps)
    batch = make_batch(learner)[DEFAULT_MODULE_ID]
    batch["rewards"] = batch["rewards"].astype(np.float64)
    results = learner.update(SampleBatch(batch))
    assert results[DEFAULT_MODULE_ID]["num_module_steps_trained"] == 10
    assert all(map(tf.is_tensor, learner.leaves))
    assert tf.float64 not in {leaf.dtype for leaf in learner.leaves}


def test_epochs_without_a_minibatch_size_take_whole_batches(make_learner, make_batch):
    """Before: minibatches were as long as the number of environment steps."""
    learner = make_learner(policies=PAIR)
    rows = make_batch(learner, p0=10, p1=4)
    learner.update(MultiAgentBatch(rows, env_steps=3), num_epochs=2)
    assert [step["p0"].tolist() for step in learner.steps] == [[*range(10)]] * 2
    assert {*learner.steps[0]["p1"].tolist()} == {0, 1, 2, 3}


@pytest.mark.timeout(30)
def test_an_iterator_without_num_iters_is_passed_over_once(make_learner, make_batch):
    """Before: it was passed over again and again, for ever."""
    learner = make_learner()
    results = learner.update_from_iterator([make_batch(learner)] * 3)
    assert learner.names == ["before", *["step"] * 3, "after"]
    assert results[ALL_MODULES]["dataset_num_iters_trained"] == 3


def test_the_iterator_given_last_is_the_one_used(make_learner, make_batch):
    """Before: the first one was kept, and later ones ignored."""
    learner = make_learner()
    for num_rows in (3, 7):
        items = [make_batch(learner, num_rows)]
        results = learner.update_from_iterator(items, num_iters=2)
        assert results[DEFAULT_MODULE_ID]["num_module_steps_trained"] == 2 * num_rows


def test_iterators_train_only_modules_that_are_to_be_updated_and_number_weights(
    make_learner, make_batch, assert_same
):
    """Before: every module was trained, and the weights' number stayed."""
    learner = make_learner(policies=PAIR, policies_to_train=["p0"])
    before = learner.module["p1"].get_state()
    results = learner.update_from_iterator([make_batch(learner)] * 2)
    assert [sorted(step) for step in learner.steps] == [["p0"]] * 2
    assert results["p0"]["weights_seq_no"] == 1
    assert_same(learner.module["p1"].get_state(), before)


@pytest.mark.parametrize("num_epochs", [1, 2])
def test_rows_are_shuffled_whenever_asked_and_in_the_first_epoch(
    make_learner, make_batch, num_epochs
):
    """Before: a single epoch was never shuffled, nor the first one of several."""
    learner = make_learner()
    learner.update(
        make_batch(learner, 12),
        minibatch_size=6,
        num_epochs=num_epochs,
        shuffle_batch_per_epoch=True,
    )
    seen = np.concatenate([rows[DEFAULT_MODULE_ID] for rows in learner.steps])
    for epoch in seen.reshape(num_epochs, 12).tolist():
        assert epoch != [*range(12)] and sorted(epoch) == [*range(12)]


def test_environment_steps_are_those_of_the_episodes(make_ppo):
    """Before: the artificial last rows of PPO's episodes were counted."""
    learner = make_ppo()
    module = learner.module[DEFAULT_MODULE_ID]
    episodes = random_episodes(module.observation_space, module.action_space)
    results = learner.update(episodes=episodes)
    steps = sum(map(len, episodes))
    assert steps == 9 and results[ALL_MODULES]["num_env_steps_trained"] == steps
    assert results[ALL_MODULES]["num_module_steps_trained"] == steps


def test_an_error_leaves_no_flag_on_a_batch_of_sequences(
    make_learner, make_batch, recording
):
    """Before: the batch went on slicing by sequence after an update that raised."""

    class Failing(recording):
        def compute_loss_for_module(self, **kwargs):
            raise RuntimeError("on purpose")

    learner = make_learner(Failing)
    rows = make_batch(learner, 8)[DEFAULT_MODULE_ID]
    batch = SampleBatch(rows | {"seq_lens": np.int32([4, 4])})
    with pytest.raises(RuntimeError, match="on purpose"):
        learner.update(batch)
    with pytest.raises(UsageError, match="a slice of rows"):
        batch[0:1]


# State.


def test_older_weights_are_ignored_with_a_word_and_applied_by_force(
    make_learner, make_batch, assert_same
):
    """Before: they were ignored in silence, in an explicit restore as well."""
    learner = make_learner()
    old = learner.get_state()
    learner.update(make_batch(learner))
    new = learner.get_state()
    report = learner.set_state(old)
    assert {"rl_module", "optimizer"} <= {*report["ignored"]}
    assert not {"rl_module", "optimizer"} & {*report["applied"]}
    for part in ("rl_module", "optimizer", "weights_seq_no"):
        assert_same(learner.get_state()[part], new[part])
    report = learner.set_state(old, force=True)
    assert report["ignored"] == [] and "rl_module" in report["applied"]
    for part in ("rl_module", "optimizer", "weights_seq_no"):
        assert_same(learner.get_state()[part], old[part])


def test_weights_are_set_in_every_shape_and_never_in_silence_not(
    make_learner, assert_same
):
    """Before: a state one level too deep, the docs' own example, changed nothing."""
    learner, other = make_learner(), make_learner(seed=2)
    state = learner.get_state(components="rl_module")
    weights = state["rl_module"]
    for shape in (state, weights, {"rl_module": state}, {"rl_module": weights}):
        learner.module[DEFAULT_MODULE_ID].set_state(
            other.module[DEFAULT_MODULE_ID].get_state()
        )
        learner.set_state(shape)
        assert_same(learner.module.get_state(), weights)
    for shape in ({"rl_modul": weights}, {"rl_module": {"nobody": {}}}):
        with pytest.raises(UnknownModuleError):
            learner.set_state(shape)
