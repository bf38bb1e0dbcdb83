"""What an update does around its gradient steps, and what it reports."""

import copy

import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOTfLearner
from tflearner.constants import ALL_MODULES, DEFAULT_MODULE_ID
from tflearner.data.sample_batch import MultiAgentBatch
from tflearner.errors import BatchError, UnknownArgumentError, UsageError
from tflearner.learner.tf_learner import TfLearner
from tflearner.metrics import Stats
from tflearner.modules.rl_module import RLModule
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.testing import learner_digest, random_episodes

SKIPPED = "learner_update_skipped_empty_batch_lifetime"


class Recorder(TfLearner):
    """Keeps what was called, in order; runs line by line in these tests."""

    def build(self):
        super().build()
        self.calls = []

    def before_gradient_based_update(self, *, timesteps):
        super().before_gradient_based_update(timesteps=timesteps)
        self.calls.append(("before", timesteps))

    def after_gradient_based_update(self, *, timesteps):
        super().after_gradient_based_update(timesteps=timesteps)
        self.calls.append(("after", timesteps))

    def compute_losses(self, *, fwd_out, batch):
        rows = {mid: own["value_targets"].numpy() for mid, own in batch.items()}
        self.calls.append(("step", rows))
        return super().compute_losses(fwd_out=fwd_out, batch=batch)

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        self.put_out_rows(module_id, "targets", batch["value_targets"])
        return tf.add_n([tf.reduce_mean(x**2) for x in fwd_out.values()])


@pytest.fixture
def get_recorder(get_learner):
    """Returns a function from settings to a `Recorder` that has no calls yet."""

    def get(**settings):
        learner = get_learner(Recorder, run_eagerly=True, **settings)
        learner.calls.clear()
        return learner

    return get


@pytest.fixture
def learner(get_recorder):
    return get_recorder()


@pytest.fixture
def pair(get_recorder):
    return get_recorder(policies=["p0", "p1"])


@pytest.fixture(scope="module")
def idle(make_learner):
    """A PPO learner that no test of this module changes."""
    return make_learner()


def names(learner):
    return [name for name, _ in learner.calls]


# Order and counts.


def test_hooks_run_once_around_all_steps(learner, make_batch):
    timesteps = {"num_env_steps_sampled_lifetime": 7}
    learner.update(
        make_batch(learner, 20), minibatch_size=5, num_epochs=2, timesteps=timesteps
    )
    assert names(learner) == ["before", *["step"] * 8, "after"]
    assert learner.calls[0][1] == learner.calls[-1][1] == timesteps


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, 1),
        ({"num_epochs": 3}, 3),
        ({"minibatch_size": 6}, 4),
        ({"minibatch_size": 6, "num_epochs": 2}, 7),
        ({"minibatch_size": 50}, 1),
        ({"minibatch_size": 6, "num_epochs": 2, "num_total_minibatches": 3}, 3),
    ],
)
def test_number_of_gradient_steps(learner, make_batch, settings, wanted):
    learner.update(make_batch(learner, 20), **settings)
    assert names(learner).count("step") == wanted


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_is_seen_once_per_epoch(learner, make_batch, shuffle):
    batch = make_batch(learner, 20)
    batch[DEFAULT_MODULE_ID]["value_targets"] = np.arange(20, dtype=np.float32)
    learner.update(
        batch, minibatch_size=5, num_epochs=2, shuffle_batch_per_epoch=shuffle
    )
    seen = [rows[DEFAULT_MODULE_ID] for name, rows in learner.calls if name == "step"]
    epochs = np.concatenate(seen).reshape(2, 20)
    assert (np.sort(epochs) == np.arange(20)).all()
    assert (epochs == np.arange(20)).all() != shuffle


@pytest.mark.parametrize("size", [None, 8])
def test_numbers_of_rows_come_out_by_module(get_recorder, make_batch, size):
    learner = get_recorder(policies=["p0", "p1"], minibatch_size=size)
    learner.update(make_batch(learner, p0=20, p1=10), num_epochs=2)
    steps = [rows for name, rows in learner.calls if name == "step"]
    for mid in ("p0", "p1"):
        ours = learner.row_outputs[mid, "targets"]
        np.testing.assert_array_equal(ours, [rows[mid] for rows in steps])


def test_same_seed_shuffles_alike(get_recorder, make_batch):
    def orders(seed):
        learner = get_recorder(seed=seed)
        for _ in range(2):
            learner.update(
                make_batch(learner), minibatch_size=10, shuffle_batch_per_epoch=True
            )
        return np.stack([r[DEFAULT_MODULE_ID] for n, r in learner.calls if n == "step"])

    first = orders(3)
    assert (first == orders(3)).all() and (first != orders(4)).any()
    assert (first[:2] != first[2:]).any()


# Results.


def test_results_of_ppo_have_exactly_these_keys(get_learner, make_batch):
    learner = get_learner(run_eagerly=True)
    results = learner.update(make_batch(learner))
    assert set(results) == {DEFAULT_MODULE_ID, ALL_MODULES}
    assert set(results[DEFAULT_MODULE_ID]) == {
        "total_loss",
        "policy_loss",
        "vf_loss",
        "vf_loss_unclipped",
        "vf_clip_fraction",
        "vf_explained_var",
        "entropy",
        "mean_kl_loss",
        "curr_kl_coeff",
        "curr_entropy_coeff",
        "default_optimizer_learning_rate",
        "gradients_default_optimizer_global_norm",
        "module_train_batch_size_mean",
        "num_module_steps_trained",
        "num_module_steps_trained_lifetime",
        "num_non_finite_updates_lifetime",
        "num_non_trainable_parameters",
        "num_trainable_parameters",
        "weights_seq_no",
    }
    assert set(results[ALL_MODULES]) == {
        "num_env_steps_trained",
        "num_env_steps_trained_lifetime",
        "num_module_steps_trained",
        "num_module_steps_trained_lifetime",
        "num_non_trainable_parameters",
        "num_trainable_parameters",
    }
    assert all(type(x) in (int, float) for x in tf.nest.flatten(results))


def test_steps_are_rows_of_the_batch_whatever_the_epochs(pair, make_batch):
    batch = MultiAgentBatch(make_batch(pair, p0=20, p1=8), env_steps=25)
    for calls in (1, 2):
        results = pair.update(batch, num_epochs=2, minibatch_size=10)
        own = [results[mid]["num_module_steps_trained"] for mid in ("p0", "p1")]
        assert own == [20, 8]
        own = [results[m]["num_module_steps_trained_lifetime"] for m in ("p0", "p1")]
        assert own == [20 * calls, 8 * calls]
        total = results[ALL_MODULES]
        assert total["num_module_steps_trained"] == 28
        assert total["num_module_steps_trained_lifetime"] == 28 * calls
        assert total["num_env_steps_trained"] == 25
        assert total["num_env_steps_trained_lifetime"] == 25 * calls
        assert results["p0"]["module_train_batch_size_mean"] == 20


def test_masked_rows_are_no_steps(learner, make_batch):
    batch = make_batch(learner, 20)[DEFAULT_MODULE_ID]
    results = learner.update({**batch, "loss_mask": np.arange(20) < 13})
    assert results[DEFAULT_MODULE_ID]["num_module_steps_trained"] == 13


def test_weights_are_numbered_by_updates(pair, make_batch):
    def numbers(results):
        return [results[mid].get("weights_seq_no") for mid in ("p0", "p1")]

    assert numbers(pair.update(make_batch(pair), num_epochs=4)) == [1, 1]
    assert numbers(pair.update(make_batch(pair, p1=9))) == [1, 2]
    pair.update({})
    assert numbers(pair.update(make_batch(pair))) == [3, 3]


def test_parameters_are_counted(pair, make_batch):
    results = pair.update(make_batch(pair))
    size = sum(w.numpy().size for w in pair.module["p0"].weights)
    assert results["p0"]["num_trainable_parameters"] == size
    assert results["p0"]["num_non_trainable_parameters"] == 0
    assert results[ALL_MODULES]["num_trainable_parameters"] == 2 * size


def test_stats_on_demand(learner, make_batch):
    results = learner.update(make_batch(learner), return_stats=True)
    assert all(isinstance(s, Stats) for s in tf.nest.flatten(results))
    assert results[ALL_MODULES]["num_env_steps_trained"].peek() == 20


# Updates that do not happen.


@pytest.mark.parametrize(
    "skip",
    [
        lambda learner: learner.update({}),
        lambda learner: learner.update(episodes=[]),
        lambda learner: learner.update(MultiAgentBatch({}, env_steps=0)),
        lambda learner: learner.update({DEFAULT_MODULE_ID: {}}),
        lambda learner: learner.update({"obs": np.zeros((0, 4), np.float32)}),
        lambda learner: learner.update({"obs": [], "infos": [{}]}),
    ],
)
def test_update_without_data_is_skipped_and_counted(learner, skip):
    before = learner.get_state(("rl_module", "optimizer", "learner"))
    assert skip(learner)[ALL_MODULES][SKIPPED] == 1
    assert skip(learner)[ALL_MODULES][SKIPPED] == 2
    assert learner.calls == []
    after = learner.get_state(("rl_module", "optimizer", "learner"))
    tf.nest.map_structure(np.testing.assert_array_equal, before, after)


def test_module_without_rows_is_left_out(pair, make_batch):
    batch = make_batch(pair)
    batch["p1"] = {column: array[:0] for column, array in batch["p1"].items()}
    results = pair.update(batch)
    assert "total_loss" in results["p0"] and "total_loss" not in results["p1"]


@pytest.mark.parametrize(
    ("to_train", "wanted"),
    [
        (None, {"p0", "p1"}),
        (["p1"], {"p1"}),
        ({"p0"}, {"p0"}),
        ([], set()),
        (lambda mid, batch: len(batch[mid]) > 10, {"p0"}),
    ],
)
def test_only_modules_to_train_are_updated(make_learner, make_batch, to_train, wanted):
    learner = make_learner(Recorder, run_eagerly=True, policies=["p0", "p1"])
    learner.config.multi_agent(policies_to_train=to_train)
    results = learner.update(make_batch(learner, p0=20, p1=10))
    assert {mid for mid in ("p0", "p1") if "total_loss" in results[mid]} == wanted
    assert (SKIPPED in results[ALL_MODULES]) == (not wanted)


class Scripted(RLModule):
    """No TensorFlow, nothing to learn."""

    def get_state(self, components=None, *, not_components=None):
        return {}

    def set_state(self, state):
        pass


def test_module_that_cannot_be_trained_rides_along(make_learner):
    learner = make_learner(run_eagerly=True)
    own = learner.module[DEFAULT_MODULE_ID]
    spec = RLModuleSpec(module_class=Scripted, observation_space=own.observation_space)
    learner.add_module(module_id="scripted", module_spec=spec)
    assert learner.get_optimizers_for_module("scripted") == []
    episodes = random_episodes(own.observation_space, own.action_space)
    for episode in episodes:
        episode.module_id = DEFAULT_MODULE_ID
    episodes[1].module_id = "scripted"
    results = learner.update(episodes=episodes)
    assert results[DEFAULT_MODULE_ID]["num_module_steps_trained"] == 8
    assert "num_module_steps_trained" not in results["scripted"]
    learner.remove_module("scripted")
    assert [*learner.module] == [DEFAULT_MODULE_ID]


# Arguments that do not fit.

BAD_CALLS = {
    "nothing": (lambda learner, batch: learner.update(), "no data.*exactly one"),
    "both": (
        lambda learner, batch: learner.update(batch, []),
        "batch and episodes.*exactly one",
    ),
    "minibatch_size": (
        lambda learner, batch: learner.update(batch, minibatch_siz=3),
        "'minibatch_siz'.*did you mean 'minibatch_size'",
    ),
    "num_iters": (
        lambda learner, batch: learner.update_from_batch(batch, num_iters=3),
        r"update_from_batch\(\).*'num_iters'.*num_epochs",
    ),
    "episodes' num_epoch": (
        lambda learner, batch: learner.update_from_episodes([], num_epoch=3),
        r"update_from_episodes\(\).*did you mean 'num_epochs'",
    ),
    "timesteps": (
        lambda learner, batch: learner.update(batch, timesteps=1000),
        "timesteps.*1000.*dict",
    ),
    "timesteps' value": (
        lambda learner, batch: learner.update(
            batch, timesteps={"num_env_steps_sampled_lifetime": "x"}
        ),
        "'x'.*number",
    ),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_call_changes_nothing(idle, make_batch, case):
    call, text = BAD_CALLS[case]
    before = learner_digest(idle)
    with pytest.raises(UsageError, match=text):
        call(idle, make_batch(idle))
    assert learner_digest(idle) == before


def test_unknown_argument_is_a_type_error_as_well(idle):
    with pytest.raises(TypeError) as error:
        idle.update({}, epochs=3)
    assert isinstance(error.value, UnknownArgumentError)


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "8", [3]])
@pytest.mark.parametrize("name", ["minibatch_size", "num_epochs"])
def test_sizes_are_counts(idle, make_batch, name, value):
    before = learner_digest(idle)
    with pytest.raises(UsageError, match=f"{name}.*int >= 1"):
        idle.update(make_batch(idle), **{name: value})
    assert learner_digest(idle) == before


def test_num_epochs_none_is_no_count(idle, make_batch):
    with pytest.raises(UsageError, match="num_epochs.*None"):
        idle.update(make_batch(idle), num_epochs=None)


# What goes in.


def test_batch_of_the_caller_is_left_as_it_is(get_recorder, make_batch):
    learner = get_recorder(policies=["p0", "p1"], policies_to_train=["p0"])
    columns = make_batch(learner)
    batch = MultiAgentBatch(columns, env_steps=20)
    before = copy.deepcopy(columns)
    learner.update(batch, minibatch_size=5, shuffle_batch_per_epoch=True)
    assert [*batch.policy_batches] == ["p0", "p1"]
    for mid, own in batch.policy_batches.items():
        assert own.keys() == before[mid].keys()
        for column, array in own.items():
            np.testing.assert_array_equal(array, before[mid][column])


def test_episodes_of_the_caller_are_left_as_they_are(get_learner):
    learner = get_learner(run_eagerly=True)
    module = learner.module[DEFAULT_MODULE_ID]
    episodes = random_episodes(module.observation_space, module.action_space)
    before = [copy.deepcopy(episode.get_state()) for episode in episodes]
    results = learner.update(episodes=episodes, minibatch_size=3)
    assert results[ALL_MODULES]["num_env_steps_trained"] == 3 + 1 + 5
    assert results[DEFAULT_MODULE_ID]["num_module_steps_trained"] == 3 + 1 + 5
    for episode, state in zip(episodes, before):
        tf.nest.map_structure(np.testing.assert_array_equal, episode.get_state(), state)


def test_learner_without_connector_takes_batches_only(make_config, make_batch):
    config = make_config(num_aggregator_actors_per_learner=1, run_eagerly=True)
    learner = PPOTfLearner(config=config)
    learner.build()
    with pytest.raises(UsageError, match="no connector.*give it batches"):
        learner.update(episodes=[])
    assert learner.update(make_batch(learner))[DEFAULT_MODULE_ID]["weights_seq_no"] == 1


@pytest.mark.parametrize(
    ("episodes", "text"),
    [
        (3, "episodes.*int.*list"),
        ("ab", "episodes.*str.*list"),
        ([None], r"episodes\[0\].*NoneType.*SingleAgentEpisode"),
        ([{"obs": 1}], r"episodes\[0\].*dict.*SingleAgentEpisode"),
    ],
)
def test_what_is_no_list_of_episodes_is_refused(idle, episodes, text):
    before = learner_digest(idle)
    with pytest.raises(BatchError, match=text):
        idle.update(episodes=episodes)
    assert learner_digest(idle) == before


def test_error_in_a_step_leaves_minibatches_and_metrics_alone(make_learner, make_batch):
    class Failing(Recorder):
        fails = True

        def compute_loss_for_module(self, **kwargs):
            if self.fails:
                raise RuntimeError("on purpose")
            return super().compute_loss_for_module(**kwargs)

    learner = make_learner(Failing, run_eagerly=True)
    before = learner_digest(learner)
    with pytest.raises(RuntimeError, match="on purpose"):
        learner.update(
            make_batch(learner), minibatch_size=5, shuffle_batch_per_epoch=True
        )
    assert learner_digest(learner) == before
    learner.fails = False
    assert learner.update(make_batch(learner))[DEFAULT_MODULE_ID]["weights_seq_no"] == 1


def test_a_minibatch_larger_than_any_batch_takes_the_batch(get_learner, make_batch):
    learners = [get_learner(run_eagerly=True) for _ in range(2)]
    module = learners[0].module[DEFAULT_MODULE_ID]
    episodes = random_episodes(module.observation_space, module.action_space)
    for learner, size in zip(learners, (2**40, None), strict=True):
        learner.update_from_episodes(episodes, minibatch_size=size, num_epochs=2)
        learner.update_from_batch(make_batch(learner), minibatch_size=size)
    states = [learner.get_state("rl_module")["rl_module"] for learner in learners]
    tf.nest.map_structure(np.testing.assert_array_equal, *states)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_epochs": 2**70},
        {"num_total_minibatches": 10**400},
        {"minibatch_size": 2.0**40},
        {"shuffle_batch_per_epoch": np.ones(2)},
        {"return_stats": np.ones(2)},
        {"timesteps": {"num_env_steps_sampled_lifetime": 10**400}},
    ],
    ids=str,
)
def test_absurd_arguments_change_nothing(learner, make_batch, arguments):
    batch, before = make_batch(learner), learner_digest(learner)
    with pytest.raises(UsageError, match="Nothing was changed"):
        learner.update_from_batch(batch, **arguments)
    assert learner_digest(learner) == before
