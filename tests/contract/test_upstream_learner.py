"""Cases that RLlib's own tests hold of learners and learner groups."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOTfLearner
from tflearner.columns import Columns
from tflearner.constants import ALL_MODULES, DEFAULT_MODULE_ID
from tflearner.data.sample_batch import MultiAgentBatch
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.distributed.learner_group import LearnerGroup
from tflearner.errors import UsageError
from tflearner.learner.tf_learner import TfLearner
from tflearner.testing import assert_close

PAIR = ["p0", "p1"]
PARTS = ("rl_module", "optimizer")
LIFETIME = "num_env_steps_sampled_lifetime"
LR = "default_optimizer_learning_rate"


@pytest.fixture(scope="module")
def spec(make_config):
    return make_config().get_rl_module_spec()


# Learning.


class BehaviorCloning(TfLearner):
    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        dist_class = self.module[module_id].get_train_action_dist_cls()
        dist = dist_class.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        return -tf.reduce_mean(dist.logp(batch[Columns.ACTIONS]))


def cartpole_batch(num_rows):
    """What a hand on the stick does that pushes to where the pole falls."""
    env = gym.make("CartPole-v1")
    observations, actions, (obs, _) = [], [], env.reset(seed=0)
    while len(observations) < num_rows:
        observations.append(obs)
        actions.append(int(obs[2] + obs[3] > 0))
        obs, _, terminated, truncated, _ = env.step(actions[-1])
        if terminated or truncated:
            obs, _ = env.reset()
    env.close()
    return {"obs": np.stack(observations), "actions": np.array(actions)}


def test_behaviour_is_cloned_and_every_result_counts_it(make_learner):
    """From ln 2 below 0.57, as a learner that cannot learn never gets."""
    space = gym.spaces.Box(-10.0, 10.0, (4,), np.float32)
    learner = make_learner(
        BehaviorCloning, spaces=(space, gym.spaces.Discrete(2)), lr=0.1
    )
    batch, losses = cartpole_batch(256), []
    for number in range(1, 41):
        own = learner.update(batch)[DEFAULT_MODULE_ID]
        losses.append(own["total_loss"])
        assert own["module_train_batch_size_mean"] == 256
        assert own["num_module_steps_trained"] == 256
        assert own["num_module_steps_trained_lifetime"] == 256 * number
        assert own["weights_seq_no"] == number
        if losses[-1] < 0.57:
            break
    assert losses[0] > 0.6 and losses[-1] < 0.57


GAMMA = 0.875
FROZEN_LAKE = ["HG", "FF", "SF", "FF"]
UP, RIGHT = 3, 2
# The way to the goal, from the states that are 1, 2, 3 and 4 steps away.
POLICY = {3: UP, 5: UP, 4: RIGHT, 6: UP}


def frozen_lake_episodes(max_steps=2):
    """Walks to the goal from everywhere, broken off after `max_steps`."""
    env = gym.make("FrozenLake-v1", desc=FROZEN_LAKE, is_slippery=False).unwrapped
    episodes = []
    for start in POLICY:
        env.reset()
        env.s = start
        episode = SingleAgentEpisode()
        episode.add_env_reset(start)
        while not episode.is_done:
            action = POLICY[env.s]
            obs, reward, terminated, _, _ = env.step(action)
            episode.add_env_step(
                obs,
                action,
                reward,
                terminated=terminated,
                truncated=not terminated and len(episode) + 1 == max_steps,
                extra_model_outputs={
                    "action_logp": np.float32(0.0),
                    "action_dist_inputs": np.eye(4, dtype=np.float32)[action],
                },
            )
        episodes.append(episode)
    env.close()
    return episodes


def test_values_go_on_behind_a_truncation_and_end_at_a_termination(make_ppo):
    """From two steps away and more, the goal is seen through bootstrapped values only."""
    learner = make_ppo(
        spaces=(gym.spaces.Discrete(8), gym.spaces.Discrete(4)),
        gamma=GAMMA,
        lambda_=0.5,
        lr=0.1,
        run_eagerly=False,
    )
    episodes = frozen_lake_episodes()
    ends = [(len(e), e.is_terminated, e.is_truncated) for e in episodes]
    assert ends == [(1, True, False), (2, True, False)] + [(2, False, True)] * 2
    for _ in range(40):
        learner.update(episodes=episodes, num_epochs=5)
    module = learner.module[DEFAULT_MODULE_ID]
    values = module.compute_values({"obs": np.array([3, 5, 4, 6])}).numpy()
    assert_close(values, GAMMA ** np.arange(4.0, dtype="f"), rtol=0.05)
    assert values[0] > 0.9 and values[1] > 0.8 and values[2] > 0.7 > values[3]


# Gradients.


@pytest.mark.parametrize(
    ("by", "bound", "wanted"),
    [
        ("value", 0.75, lambda g, own, all_: np.sign(g) * 0.75),
        ("norm", 1.0, lambda g, own, all_: g / own),
        ("global_norm", 5.0, lambda g, own, all_: 5.0 * g / all_),
        ("value", 1e3, lambda g, own, all_: g),
        ("norm", 1e3, lambda g, own, all_: g),
        ("global_norm", 1e3, lambda g, own, all_: g),
    ],
)
def test_clipped_gradients_have_exactly_these_values(make_learner, by, bound, wanted):
    learner = make_learner(grad_clip=bound, grad_clip_by=by)
    given = {}
    for i, param in enumerate(learner.get_parameters(learner.module)):
        given[learner.get_param_ref(param)] = np.full(param.shape, (-3.0) ** i, "f")
    norms = {ref: np.linalg.norm(g) for ref, g in given.items()}
    all_ = np.linalg.norm([*norms.values()])
    clipped = learner.postprocess_gradients(
        {ref: tf.constant(g) for ref, g in given.items()}
    )
    for ref, gradient in given.items():
        want = wanted(gradient, norms[ref], all_)
        assert_close(clipped[ref], want.astype("f"), rtol=1e-5)


@pytest.mark.parametrize("size", [1e22, 1e-22])
def test_norms_of_huge_and_tiny_gradients_are_finite(make_learner, ones, size):
    learner = make_learner(grad_clip=1.0)
    given = {ref: size * gradient for ref, gradient in ones(learner).items()}
    clipped = learner.postprocess_gradients(given)
    number = sum(gradient.numpy().size for gradient in given.values())
    norm = learner.metrics.peek(
        (DEFAULT_MODULE_ID, "gradients_default_optimizer_global_norm")
    )
    assert norm == pytest.approx(size * np.sqrt(number), rel=1e-5)
    flat = np.concatenate([gradient.numpy().ravel() for gradient in clipped.values()])
    assert np.linalg.norm(flat) == pytest.approx(min(1.0, norm), rel=1e-5)


# Modules that come and go.


def test_gradients_cover_the_modules_there_are(make_learner, make_batch, spec, ones):
    learner = make_learner()
    original = set(ones(learner))
    learner.add_module(module_id="test", module_spec=spec)
    assert set(ones(learner)) == set(learner._params) > original
    results = learner.update(make_batch(learner))
    assert [results[m]["weights_seq_no"] for m in learner.module] == [1, 1]
    learner.remove_module("test")
    assert set(ones(learner)) == set(learner._params) == original
    learner.remove_module(DEFAULT_MODULE_ID)
    assert learner._params == {} and len(learner.module) == 0


def test_added_module_with_a_rate_of_its_own_outlives_the_first_one(
    make_learner, spec, ones
):
    learner = make_learner(lr=0.01)
    learner.add_module(
        module_id="test", module_spec=spec, config_overrides={"lr": 1e-4}
    )
    learner.remove_module(DEFAULT_MODULE_ID)
    assert {*learner.module} == {"test"}
    params = learner.get_parameters(learner.module)
    before, given = [p.numpy() for p in params], ones(learner)
    for _ in range(100):
        learner.apply_gradients(given)
    for param, start in zip(params, before):
        assert_close(param.numpy(), start - 100 * 1e-4, rtol=0, atol=1e-5)


def test_results_have_every_module_with_its_own_sizes(make_learner, make_batch):
    learner = make_learner(policies=PAIR)
    results = learner.update(make_batch(learner, p0=10, p1=4))
    assert {*results} == {*PAIR, ALL_MODULES}
    assert results["p0"].keys() == results["p1"].keys()
    for mid, rows in (("p0", 10), ("p1", 4)):
        assert results[mid]["module_train_batch_size_mean"] == rows
        assert results[mid]["num_module_steps_trained"] == rows


# Updates that lack something.


def test_empty_update_reports_neither_loss_nor_rate_and_harms_no_later_one(
    make_learner, make_batch
):
    learner = make_learner()
    for empty in ({"batch": {}}, {"episodes": []}):
        results = learner.update(**empty)
        assert (
            not {"total_loss", LR, "weights_seq_no"} & results[DEFAULT_MODULE_ID].keys()
        )
    own = learner.update(make_batch(learner))[DEFAULT_MODULE_ID]
    assert {"total_loss", LR} <= own.keys() and own["weights_seq_no"] == 1


def test_modules_without_rows_are_dropped_and_the_others_updated(
    make_learner, make_batch, assert_same, differ
):
    learner = make_learner(policies=PAIR)
    before = learner.module.get_state()
    batch = make_batch(learner)
    batch["p1"] = {name: column[:0] for name, column in batch["p1"].items()}
    results = learner.update(batch)
    assert "total_loss" in results["p0"] and "total_loss" not in results["p1"]
    assert differ(learner.module["p0"].get_state(), before["p0"])
    assert_same(learner.module["p1"].get_state(), before["p1"])


def test_epochs_are_those_of_the_modules_that_are_left(make_learner, make_batch):
    learner = make_learner(policies=PAIR, policies_to_train=["p1"])
    learner.update(make_batch(learner, p0=10, p1=4), num_epochs=3, minibatch_size=4)
    assert [rows["p1"].tolist() for rows in learner.steps] == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize("never_skip", [False, True])
def test_hooks_of_an_empty_update_run_on_demand(make_learner, never_skip):
    learner = make_learner(never_skip_update=never_skip, lr=[[0, 0.5], [100, 0.25]])
    before = learner.get_state("rl_module")
    learner.update({}, timesteps={LIFETIME: 100})
    assert learner.names == ["before", "after"] * never_skip
    rate = float(learner.get_optimizer().learning_rate.numpy())
    assert rate == (0.25 if never_skip else 0.5)
    assert learner.get_state("rl_module")["weights_seq_no"] == before["weights_seq_no"]


class DataIterator:
    """Gives batches as Ray's does: each alone in an array, in a dict."""

    def __init__(self, batches):
        self.batches = batches

    def iter_batches(self):
        for batch in self.batches:
            item = np.empty(1, object)
            item[0] = batch
            yield {"batch": item}


@pytest.mark.parametrize(("num_iters", "want"), [(None, 2), (1, 1), (5, 5)])
def test_data_iterators_are_passed_over_as_often_as_asked(
    make_learner, make_batch, num_iters, want
):
    learner = make_learner()
    data = DataIterator([MultiAgentBatch(make_batch(learner), env_steps=10)] * 2)
    results = learner.update(data_iterators=[data], num_iters=num_iters)
    assert learner.names == ["before", *["step"] * want, "after"]
    assert results[DEFAULT_MODULE_ID]["num_module_steps_trained"] == 10 * want
    assert results[ALL_MODULES]["dataset_num_iters_trained"] == want
    results = learner.update(data_iterators=[data], num_iters=1)
    assert results[ALL_MODULES]["dataset_num_iters_trained"] == 1
    assert results[ALL_MODULES]["dataset_num_iters_trained_lifetime"] == want + 1


# State.


def test_state_after_modules_came_and_went(make_learner, make_batch, spec, assert_same):
    def with_test(learner):
        learner.add_module(
            module_id="test", module_spec=spec, config_overrides={"lr": 0.5}
        )
        return learner

    learner = with_test(make_learner())
    learner.update(make_batch(learner))
    state = learner.get_state()
    other = with_test(make_learner(seed=2))
    other.set_state(state)
    assert_same(other.get_state(), state)
    assert other.get_optimizer("test").learning_rate.numpy() == 0.5
    with pytest.raises(ValueError, match="'test"):
        make_learner().set_state(state)

    learner.remove_module("test")
    other = make_learner(seed=2)
    other.set_state(learner.get_state())
    assert_same(other.get_state(), learner.get_state())


def test_a_state_wins_over_the_rates_of_the_config(make_learner, make_batch):
    rates = {mid: {"lr": lr} for mid, lr in zip(PAIR, (0.25, 0.125))}
    learner = make_learner(policies=PAIR, algorithm_config_overrides_per_module=rates)
    other = make_learner(policies=PAIR, lr=0.5, seed=2)
    learner.update(make_batch(learner))
    other.set_state(learner.get_state())
    for mid, wanted in zip(PAIR, (0.25, 0.125)):
        assert other.get_optimizer(mid).learning_rate.numpy() == wanted
    results = other.update(make_batch(other))
    assert [results[mid][LR] for mid in PAIR] == [0.25, 0.125]


# PPO.


def test_kl_coefficient_moves_with_updates_that_are_not_skipped(make_ppo, make_batch):
    def coefficient(results):
        return results[DEFAULT_MODULE_ID].get("curr_kl_coeff")

    learner = make_ppo(kl_coeff=0.2)
    state = learner.get_state("learner")
    assert coefficient(learner.update(episodes=[])) is None
    assert coefficient(learner.update({})) is None
    assert learner.get_state("learner") == state
    first = coefficient(learner.update(make_batch(learner)))
    second = coefficient(learner.update(make_batch(learner)))
    assert len({0.2, first, second}) == 3
    assert coefficient(learner.update({})) == second


def test_kl_coefficient_of_a_module_that_is_not_updated_stays(make_ppo, make_batch):
    learner = make_ppo(policies=PAIR)
    learner.update(make_batch(learner))
    before = learner.get_state("learner")["learner"]["kl_coeffs"]
    learner.update(make_batch(learner, p0=10))
    after = learner.get_state("learner")["learner"]["kl_coeffs"]
    assert after["p1"] == before["p1"] != 0.2 and after["p0"] != before["p0"]


def test_restored_ppo_learner_has_an_equal_state(make_ppo, make_batch, assert_same):
    learner, other = make_ppo(), make_ppo(seed=2, kl_coeff=0.7)
    learner.update(make_batch(learner), timesteps={LIFETIME: 10})
    other.set_state(learner.get_state())
    assert_same(other.get_state(), learner.get_state())
    kl = learner.get_state("learner")["learner"]["kl_coeffs"][DEFAULT_MODULE_ID]
    assert kl not in (0.2, 0.7)


# Groups.


@pytest.fixture
def make_group(make_config, recording):
    """Returns a function from settings to a group of one local learner."""

    def make(learner_class=recording, **settings):
        return LearnerGroup(config=make_config(learner_class=learner_class, **settings))

    return make


def test_group_results_hold_the_modules_there_are(make_group, make_batch, spec):
    group = make_group()
    batch = make_batch(group._learner)
    batch["new"] = batch[DEFAULT_MODULE_ID]
    group.add_module(module_id="new", module_spec=spec)
    (results,) = group.update(batch=batch)
    assert {*results} == {DEFAULT_MODULE_ID, "new", ALL_MODULES}
    group.remove_module("new")
    del batch["new"]
    (results,) = group.update(batch=batch)
    assert {*results} == {DEFAULT_MODULE_ID, ALL_MODULES}


def test_group_honours_a_number_of_minibatches(make_group, make_batch):
    group = make_group()
    group.update(
        batch=make_batch(group._learner),
        minibatch_size=4,
        num_epochs=9,
        num_total_minibatches=3,
    )
    numbers = [r.get() for r in group.foreach_learner(lambda own: len(own.steps))]
    assert numbers == [3]


def test_a_local_group_is_one_learner(
    make_group, make_learner, make_batch, assert_same
):
    group, learner = make_group(), make_learner()
    settings = {"minibatch_size": 5, "shuffle_batch_per_epoch": True}
    group.update(batch=make_batch(learner), **settings)
    learner.update(make_batch(learner), **settings)
    assert_same(group.get_weights(), learner.module.get_state())
    assert (group.is_local, group.is_remote, len(group)) == (True, False, 0)


def test_a_local_group_takes_no_asynchronous_updates(make_group, make_batch):
    group = make_group()
    with pytest.raises(ValueError, match="async_update"):
        group.update(batch=make_batch(group._learner), async_update=True)
    assert group._learner.calls == []


def test_exactly_one_kind_of_data_is_updated_from(make_group, make_batch):
    group = make_group()
    batch = make_batch(group._learner)
    for given in ({}, {"batch": batch, "episodes": []}):
        with pytest.raises(UsageError, match="exactly one of"):
            group.update(**given)


def test_a_run_with_a_break_equals_one_without(make_group, make_batch, assert_same):
    settings = {"minibatch_size": 5, "shuffle_batch_per_epoch": True}

    def update(group, seed):
        return group.update(batch=make_batch(group._learner, seed=seed), **settings)

    def new(**more):
        return make_group(PPOTfLearner, lr=[[0, 0.1], [9, 0.2]], **more)

    whole, broken = new(), new()
    for seed in range(2):
        update(whole, seed)
    update(broken, 0)
    resumed = new(seed=7)
    resumed.set_state(broken.get_state())
    assert_same(update(resumed, 1), update(broken, 1))
    assert_same(resumed.get_state(), whole.get_state())


def test_parts_of_a_groups_state_are_restored_alone(
    make_group, make_batch, assert_same, differ
):
    group, other = make_group(policies=PAIR), make_group(policies=PAIR, seed=2)
    before = other.get_weights()
    other.set_state(group.get_state(components="learner/rl_module/p1"))
    assert_same(other.get_weights(["p1"]), group.get_weights(["p1"]))
    assert_same(other.get_weights(["p0"]), {"p0": before["p0"]})
    assert differ(before["p1"], other.get_weights()["p1"])
