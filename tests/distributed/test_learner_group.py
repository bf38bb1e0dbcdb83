"""One learner behind the interface of many."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOConfig, PPOTfLearner
from tflearner.constants import ALL_MODULES
from tflearner.data.sample_batch import MultiAgentBatch
from tflearner.distributed.learner_group import LearnerGroup
from tflearner.errors import (
    BatchError,
    ConfigError,
    LostDataError,
    ModuleError,
    NoTrainingDataError,
    UnknownModuleError,
    UsageError,
)
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module_spec import MultiRLModuleSpec
from tflearner.testing import learner_digest, random_batch, random_episodes

OBS, ACT = gym.spaces.Box(-1.0, 1.0, (4,), np.float32), gym.spaces.Discrete(2)
STATE_AFTER_UPDATE = "_rl_module_state_after_update"


class Mean(TfLearner):
    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        return tf.add_n([tf.reduce_mean(x**2) for x in fwd_out.values()])


def make_config(**settings):
    config = PPOConfig(observation_space=OBS, action_space=ACT)
    config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[8]))
    settings = {"seed": 1, "run_eagerly": True, "jit_compile": False} | settings
    return config.update_from_dict(settings)


def make_group(**settings):
    return make_config(**settings).build_learner_group()


@pytest.fixture(scope="module")
def shared():
    return make_group(learner_class=Mean, policies=["p0", "p1"])


@pytest.fixture
def group(shared):
    """Two modules; tests change their weights and numbers only."""
    return shared


def learner_of(group):
    return group.foreach_learner(lambda learner: learner)[0].get()


def batch_of(group, *, seed=0, **rows):
    module = learner_of(group).module
    columns = {
        mid: random_batch(module[mid], number, seed=seed)
        for mid, number in (rows or {"p0": 6, "p1": 6}).items()
    }
    return MultiAgentBatch(columns, env_steps=sum((rows or {"p0": 6}).values()))


def episodes_of(*lengths):
    ends = [(length, "terminated") for length in lengths]
    episodes = random_episodes(OBS, ACT, ends=ends)
    for episode in episodes:
        episode.module_id = "p0"
    return episodes


def steps(results):
    return results[0][ALL_MODULES]["num_env_steps_trained"]


def assert_equal(first, second):
    tf.nest.map_structure(np.testing.assert_array_equal, first, second)


# What it is.


def test_group_of_a_config_has_its_learner():
    group = make_group()
    assert type(group) is LearnerGroup and type(learner_of(group)) is PPOTfLearner
    own = make_group(learner_class=Mean)
    assert type(learner_of(own)) is Mean


def test_group_is_here_and_true(group):
    assert group.is_local and not group.is_remote
    assert len(group) == 0 and group
    assert group.get_stats() == {
        "learner_group_ts_dropped_lifetime": 0,
        "actor_manager_num_outstanding_async_reqs": 0,
    }


def test_group_builds_the_given_specification():
    spec = make_config().get_rl_module_spec()
    specs = MultiRLModuleSpec({"a": spec, "b": spec})
    group = LearnerGroup(config=make_config(), module_spec=specs, placement_group=None)
    assert [*group.get_weights()] == ["a", "b"]


def test_config_is_a_copy_that_knows_added_modules():
    config = make_config()
    config.freeze()
    group = config.build_learner_group()
    assert group.config is not config and group.config.lr == config.lr
    spec = config.get_rl_module_spec()
    group.add_module(module_id="new", module_spec=spec, config_overrides={"lr": 0.5})
    assert group.config.get_config_for_module("new").lr == 0.5
    assert "new" not in repr(config)


def test_impossible_config_builds_no_group():
    with pytest.raises(ConfigError, match="grad_clip"):
        LearnerGroup(config=make_config(grad_clip=-1.0))


# Updates.


def test_group_learns_as_its_learner_would():
    group, learner = make_group(), make_config().build_learner()
    batch = random_batch(learner.module["default_policy"], 12)
    settings = {"minibatch_size": 4, "num_epochs": 2, "shuffle_batch_per_epoch": True}
    (results,) = group.update(batch=batch, **settings)
    assert results == learner.update(batch=batch, **settings)
    assert_equal(group.get_weights(), learner.get_state("rl_module")["rl_module"])


def test_every_kind_of_data_is_taken(group):
    batch, episodes = batch_of(group, p0=4), episodes_of(3, 2)
    for given, wanted in [
        ({"batch": batch}, 4),
        ({"batch": lambda: batch}, 4),
        ({"batches": [batch, batch_of(group, p1=5)]}, 9),
        ({"batches": [batch]}, 4),
        ({"batch_refs": [lambda: batch, lambda: batch]}, 8),
        ({"batch_refs": [lambda: [batch, batch], lambda: batch]}, 12),
        ({"episodes": episodes}, 5),
        ({"episodes_refs": [lambda: episodes[0], lambda: episodes[1:]]}, 5),
        ({"data_iterators": [iter([batch, batch])]}, 8),
    ]:
        assert steps(group.update(**given)) == wanted, given
    assert steps(group.update_from_batch(batch)) == 4
    assert steps(group.update_from_episodes(episodes)) == 5


def test_joined_batches_are_one_batch():
    whole = batch_of(make_group(policies=["p0"]), p0=10)
    halves = [
        MultiAgentBatch({"p0": whole["p0"][part]}, 5)
        for part in (slice(0, 5), slice(5, 10))
    ]
    outcomes = []
    for given in ({"batch": whole}, {"batches": halves}):
        group = make_group(policies=["p0"])
        (results,) = group.update(**given, minibatch_size=5)
        outcomes.append((results, group.get_weights()))
    assert outcomes[0][0] == outcomes[1][0]
    assert_equal(outcomes[0][1], outcomes[1][1])


def test_settings_reach_the_learner(group):
    (results,) = group.update(
        batch=batch_of(group),
        timesteps={"num_env_steps_sampled_lifetime": 7},
        return_stats=True,
    )
    assert results["p0"]["total_loss"].peek() > 0.0
    assert learner_of(group)._counters.timestep == 7


@pytest.mark.parametrize("return_state", [True, False])
def test_weights_after_the_update_on_demand(group, return_state):
    (results,) = group.update(batch=batch_of(group), return_state=return_state)
    assert (STATE_AFTER_UPDATE in results) == return_state
    if return_state:
        assert_equal(results[STATE_AFTER_UPDATE], group.get_weights())


def refused(group, error, text, **given):
    before = learner_digest(learner_of(group))
    with pytest.raises(error, match=text) as raised:
        group.update(**given)
    assert "Nothing was changed." in str(raised.value)
    assert learner_digest(learner_of(group)) == before


KINDS = ("batch", "batches", "batch_refs", "episodes", "episodes_refs")


@pytest.mark.parametrize("names", [(), *itertools.pairwise(KINDS), KINDS])
def test_exactly_one_kind_is_wanted(group, names):
    text = f"{' and '.join(names) or 'no data'}, want exactly one of batch, batches"
    refused(group, UsageError, text, **dict.fromkeys(names, ()))


def test_nothing_to_wait_for(group):
    refused(group, UsageError, "async_update", batch=batch_of(group), async_update=True)


def test_unknown_settings_are_refused(group):
    text = "'minibatch_siz'.*did you mean 'minibatch_size'"
    refused(group, TypeError, text, batch=batch_of(group), minibatch_siz=3)


def gone():
    raise LostDataError("a worker that died")


def test_lost_batches_are_left_out_and_counted():
    group = make_group(learner_class=Mean, policies=["p0", "p1"])
    batch = batch_of(group, p0=4)
    results = group.update(batch_refs=[gone, lambda: batch, gone])
    assert steps(results) == 4
    lost = results[0][ALL_MODULES]["num_lost_references_lifetime"]
    assert lost == {"LostDataError": 2}


def test_lost_episodes_are_left_out_and_counted():
    group = make_group(learner_class=Mean, policies=["p0", "p1"])
    (episode,) = episodes_of(3)
    results = group.update(episodes_refs=[gone, lambda: episode])
    assert steps(results) == 3
    lost = results[0][ALL_MODULES]["num_lost_references_lifetime"]
    assert lost == {"LostDataError": 1}


@pytest.mark.parametrize("name", ["batch_refs", "episodes_refs", "batches"])
def test_all_lost_is_an_error(group, name):
    text = "all of it lost: {'LostDataError': 2}"
    refused(group, NoTrainingDataError, text, **{name: [gone, gone]})


@pytest.mark.parametrize("name", ["batches", "batch_refs", "episodes_refs"])
def test_no_data_is_a_skipped_update(group, name):
    results = group.update(**{name: []})
    skipped = "learner_update_skipped_empty_batch_lifetime"
    assert results[0][ALL_MODULES][skipped] > 0


@pytest.mark.parametrize("name", ["batches", "batch_refs"])
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda batch: [3], "int"),
        (lambda batch: [batch, None], "NoneType"),
        (lambda batch: 3, "int"),
        (lambda batch: [batch, {"p0": {"obs": np.zeros((2, 5))}}], "dict|'obs'"),
    ],
)
def test_what_is_no_batch_is_refused(group, name, wrong, text):
    refused(group, BatchError, text, **{name: wrong(batch_of(group, p0=4))})


def test_a_single_batch_may_stand_for_the_list(group):
    batch = batch_of(group, p0=4)
    assert steps(group.update(batch_refs=lambda: batch)) == 4


def test_unlike_batches_are_refused(group):
    other = batch_of(group, p0=4)
    del other["p0"]["rewards"]
    refused(group, BatchError, "columns", batches=[batch_of(group, p0=4), other])


# Modules.


def test_modules_come_and_go():
    group = make_group(learner_class=Mean, policies=["p0"])
    spec = make_config().get_rl_module_spec()
    specs = group.add_module(module_id="p1", module_spec=spec)
    assert [*specs.rl_module_specs] == ["p0", "p1"] == [*group.get_weights()]
    assert "total_loss" in group.update(batch=batch_of(group))[0]["p1"]
    specs = group.remove_module("p0", new_should_module_be_updated=["p1"])
    assert [*specs.rl_module_specs] == ["p1"] == [*group.get_weights()]
    with pytest.raises(UnknownModuleError, match="'p0'"):
        group.remove_module(module_id="p0")
    with pytest.raises(ModuleError, match="exists already"):
        group.add_module(module_id="p1", module_spec=spec)


# Learners.


def test_function_is_called_with_every_learner(group):
    results = group.foreach_learner(lambda learner, factor: factor * 2, factor=4)
    assert [result.get() for result in results] == [8]
    assert all(result.ok for result in results)
    assert group.foreach_learner(func=lambda learner: 3)[0].get() == 3


def test_what_is_for_remote_calls_alone_is_left_out(group):
    results = group.foreach_learner(
        lambda learner: "called",
        healthy_only=False,
        remote_actor_ids=[0],
        timeout_seconds=1.0,
        return_obj_refs=False,
        mark_healthy=True,
    )
    assert [result.get() for result in results] == ["called"]


def test_errors_of_the_function_are_raised(group):
    with pytest.raises(ZeroDivisionError):
        group.foreach_learner(lambda learner: 1 / 0)


# State.


@pytest.mark.parametrize(
    ("components", "not_components", "wanted"),
    [
        (None, None, {"rl_module", "optimizer", "metrics_logger", "learner"}),
        ("learner", None, {"rl_module", "optimizer", "metrics_logger", "learner"}),
        ("learner/rl_module", None, {"rl_module"}),
        (["learner/optimizer", "learner/rl_module"], None, {"rl_module", "optimizer"}),
        (None, "learner/optimizer", {"rl_module", "metrics_logger", "learner"}),
        (None, "learner", None),
    ],
)
def test_components_of_the_state(group, components, not_components, wanted):
    state = group.get_state(components, not_components=not_components)
    if wanted is None:
        assert state == {}
    else:
        always = {"weights_seq_no", "should_module_be_updated"}
        assert set(state) == {"learner"} and set(state["learner"]) - always == wanted


def test_state_of_one_module(group):
    state = group.get_state("learner/rl_module/p1")["learner"]
    assert [*state["rl_module"]] == ["p1"]
    full = group.get_state("learner/rl_module")["learner"]["rl_module"]["p1"]
    acting = group.get_state("learner/rl_module/p1", inference_only=True)["learner"]
    assert len(acting["rl_module"]["p1"]) < len(full)


def test_state_makes_groups_equal():
    settings = {"learner_class": Mean, "policies": ["p0", "p1"]}
    first, second = make_group(**settings), make_group(**settings, seed=5)
    first.update(batch=batch_of(first))
    report = second.set_state(first.get_state())
    assert "rl_module" in report["applied"] and report["ignored"] == []
    batch = batch_of(first, seed=3)
    first.update(batch=batch)
    second.update(batch=batch)
    assert_equal(first.get_weights(), second.get_weights())


def test_older_state_is_ignored_unless_forced(group):
    state = group.get_state()
    group.update(batch=batch_of(group))
    assert "rl_module" in group.set_state(state)["ignored"]
    assert "rl_module" in group.set_state(state, force=True)["applied"]
    assert_equal(group.get_weights(), state["learner"]["rl_module"])


@pytest.mark.parametrize("state", [None, [], {"lerner": {}}, {"rl_module": {}}])
def test_what_is_no_state_of_a_group_is_refused(group, state):
    before = learner_digest(learner_of(group))
    with pytest.raises(UsageError, match="set_state"):
        group.set_state(state)
    assert learner_digest(learner_of(group)) == before


@pytest.mark.parametrize(
    ("module_ids", "wanted"),
    [
        (None, {"p0", "p1"}),
        (["p1"], {"p1"}),
        (("p1", "p0"), {"p0", "p1"}),
        ({"p0"}, {"p0"}),
        ([], set()),
        ("p1", {"p1"}),
    ],
)
def test_weights_of_some_modules(group, module_ids, wanted):
    assert set(group.get_weights(module_ids)) == wanted


def test_weights_of_an_unknown_module_are_an_error(group):
    with pytest.raises(UnknownModuleError, match="'p7'"):
        group.get_weights(["p7"])


def test_weights_are_set_module_by_module(group):
    before = group.get_weights()
    group.set_weights({"p1": {key: x + 1.0 for key, x in before["p1"].items()}})
    after = group.get_weights()
    assert_equal(after["p0"], before["p0"])
    for key, weight in before["p1"].items():
        np.testing.assert_array_equal(after["p1"][key], weight + 1.0)


def test_group_that_was_shut_down_does_nothing_more():
    group = make_group(learner_class=Mean)
    batch = batch_of(group, default_policy=4)
    group.shutdown()
    group.shutdown()
    for call in (
        lambda: group.update(batch=batch),
        lambda: group.get_state(),
        lambda: group.remove_module("default_policy"),
    ):
        with pytest.raises(UsageError, match="shut down"):
            call()


# Code written for RLlib's group.


def test_a_training_loop_for_many_learners_runs_with_one():
    config = make_config(policies=["p0"], lr=[[0, 0.1], [100, 0.0]])
    learner_group = config.build_learner_group()
    sampled = 0
    for _ in range(2):
        episodes = episodes_of(4, 3)
        sampled += sum(len(episode) for episode in episodes)
        learner_results = learner_group.update(
            episodes=episodes,
            timesteps={"num_env_steps_sampled_lifetime": sampled},
            num_epochs=1,
            minibatch_size=4,
            shuffle_batch_per_epoch=True,
        )
        modules = set(learner_results[0].keys()) - {ALL_MODULES}
        assert modules == {"p0"}
        rates = learner_group.foreach_learner(
            lambda learner: learner.get_optimizer("p0").learning_rate.numpy()
        )
        assert float(rates[0].get()) == pytest.approx(0.1 - sampled / 1000)
    weights = learner_group.get_weights(module_ids=modules)
    learner_group.set_weights(weights)
    state = learner_group.get_state(components="learner/rl_module")
    restored = config.build_learner_group()
    restored.set_state(state)
    assert_equal(restored.get_weights(), weights)
    learner_group.shutdown()


@pytest.mark.parametrize("path", ["other", "rl_module", "lerner/rl_module"])
def test_what_is_no_component_of_a_group_is_refused(group, path):
    with pytest.raises(UsageError, match=f"{path}.*learner/rl_module"):
        group.get_state(path)
