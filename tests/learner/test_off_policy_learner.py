"""Target networks, columns and outputs of rows of learners that learn from transitions."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.dqn import DQNConfig, DQNTfLearner
from tflearner.algorithms.sac import SACConfig
from tflearner.columns import Columns
from tflearner.errors import BatchError, LossError
from tflearner.learner.tf_learner import TfLearner
from tflearner.testing import assert_close, random_episodes, random_transitions

OBS = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
DISCRETE, BOX = gym.spaces.Discrete(3), gym.spaces.Box(-2.0, 2.0, (2,), np.float32)
ME = "default_policy"
NEVER = 10**9  # Environment steps between target updates.


def make_config(config_class=DQNConfig, actions=DISCRETE, **settings):
    config = config_class(observation_space=OBS, action_space=actions)
    defaults = {"run_eagerly": True, "jit_compile": False, "seed": 1, "lr": 0.01}
    config.rl_module(model_config={"fcnet_hiddens": [8]})
    return config.update_from_dict(defaults | settings)


def make_learner(*args, **settings):
    return make_config(*args, **settings).build_learner()


def make_batch(learner, num_rows=20, seed=0):
    return {
        mid: random_transitions(module, num_rows, seed=seed)
        for mid, module in learner.module.items()
    }


def at(timestep):
    return {"num_env_steps_sampled_lifetime": timestep}


def networks(learner, module_id=ME):
    """Weights of the networks, and those of the copies that follow them."""
    pairs = learner.module[module_id].unwrapped().get_target_network_pairs()
    mains = [weight.numpy() for main, _ in pairs for weight in main.weights]
    targets = [weight.numpy() for _, target in pairs for weight in target.weights]
    return mains, targets


def targets_of(learner, module_id=ME):
    return networks(learner, module_id)[1]


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def assert_all_close(first, second, atol=1e-6):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def mirrored(num_devices=2):
    devices = [f"CPU:{i}" for i in range(num_devices)]
    cross_device_ops = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops)


# Target networks.


@pytest.mark.deep_but_first
@pytest.mark.parametrize(
    ("config_class", "actions"), [(DQNConfig, DISCRETE), (SACConfig, BOX)]
)
def test_soft_targets_follow_every_gradient_step_inside_of_the_loop(
    config_class, actions
):
    settings = {"target_network_update_freq": 0, "tau": 0.25}
    looping = make_learner(config_class, actions, run_eagerly=False, **settings)
    stepping = make_learner(config_class, actions, **settings)
    rng = np.random.default_rng(0)
    batch = random_transitions(stepping.module[ME], 24)
    if actions is BOX:  # Or three updates would draw other numbers than one.
        for name in (Columns.NOISE, Columns.NEXT_NOISE):
            batch[name] = rng.standard_normal((24, 2), np.float32)
    for start in (0, 8, 16):
        before = targets_of(stepping)
        rows = {name: column[start : start + 8] for name, column in batch.items()}
        results = stepping.update(rows)[ME]
        mains, targets = networks(stepping)
        wanted = [0.25 * m + 0.75 * t for m, t in zip(mains, before)]
        assert_all_close(targets, wanted)
        assert not equal(targets, before)
    looped = looping.update(batch, minibatch_size=8)[ME]
    for ours, theirs in zip(networks(looping), networks(stepping)):
        assert_all_close(ours, theirs, atol=1e-5)
    assert looped["num_target_updates"] == results["num_target_updates"] == 3


class Reckless(DQNTfLearner):
    def configure_optimizers_for_module(self, module_id, config=None):
        self.register_optimizer(
            module_id=module_id,
            optimizer=keras.optimizers.SGD(3e38, momentum=0.9),
            params=self.get_parameters(self.module[module_id]),
        )


def test_targets_of_steps_that_are_undone_are_put_back():
    learner = make_learner(
        learner_class=Reckless,
        target_network_update_freq=0,
        tau=1.0,
        grad_clip=None,
        td_error_loss_fn="mse",
    )
    batch = make_batch(learner)
    batch[ME]["rewards"] += 1e6
    before = learner.get_state(["rl_module", "optimizer"])
    results = learner.update(batch, minibatch_size=5)[ME]
    assert results["num_target_updates"] == 0
    assert results["num_non_finite_updates_lifetime"] == 4
    after = learner.get_state(["rl_module", "optimizer"])
    for part in ("rl_module", "optimizer"):
        tf.nest.map_structure(np.testing.assert_array_equal, before[part], after[part])


def test_hard_updates_come_every_so_many_sampled_steps():
    learner = make_learner(target_network_update_freq=50, tau=1.0)
    first, moved = targets_of(learner), []
    for number, timestep in enumerate((30, 49, 50, 90, 99, 130, 180)):
        before = targets_of(learner)
        results = learner.update(
            make_batch(learner, seed=number), timesteps=at(timestep)
        )
        mains, targets = networks(learner)
        if not equal(targets, before):
            assert equal(targets, mains)
            moved.append(timestep)
            assert results[ME]["num_target_updates"] == len(moved)
            assert results[ME]["last_target_update_ts"] == timestep
    assert moved == [50, 130, 180] and not equal(first, targets_of(learner))


def test_without_timesteps_trained_steps_are_counted():
    learner, moved = make_learner(target_network_update_freq=50), []
    for number in range(1, 8):
        before = targets_of(learner)
        learner.update(make_batch(learner, 20, seed=number))
        if not equal(targets_of(learner), before):
            moved.append(20 * number)
    assert moved == [60, 120]


def test_a_clock_that_is_set_back_starts_anew():
    learner = make_learner(target_network_update_freq=50)
    for number in range(3):
        learner.update(make_batch(learner, 20, seed=number))
    learner.metrics.reset()
    before = targets_of(learner)
    for number in range(4):
        learner.update(make_batch(learner, 20, seed=number))
    assert not equal(targets_of(learner), before)


def test_hard_updates_may_be_soft():
    learner = make_learner(target_network_update_freq=10, tau=0.5)
    before = targets_of(learner)
    learner.update(make_batch(learner), timesteps=at(10))
    mains, targets = networks(learner)
    assert_all_close(targets, [0.5 * (m + t) for m, t in zip(mains, before)])


@pytest.mark.parametrize(
    "run_eagerly", [True, pytest.param(False, marks=pytest.mark.deep)]
)
def test_a_step_that_is_not_finite_moves_no_target_of_its_module(run_eagerly):
    learner = make_learner(
        policies=["p0", "p1"],
        target_network_update_freq=0,
        tau=0.5,
        batch_checks="off",
        run_eagerly=run_eagerly,
    )
    learner.update(make_batch(learner))
    before = {mid: networks(learner, mid) for mid in ("p0", "p1")}
    assert not equal(*before["p0"])
    batch = make_batch(learner, seed=1)
    batch["p0"]["rewards"][3] = np.nan
    results = learner.update(batch)
    for part in (0, 1):
        assert equal(networks(learner, "p0")[part], before["p0"][part])
        assert not equal(networks(learner, "p1")[part], before["p1"][part])
    counts = [results[mid]["num_target_updates"] for mid in ("p0", "p1")]
    assert counts == [1, 2]
    assert results["p0"]["num_non_finite_updates_lifetime"] == 1


def test_without_a_guard_targets_follow_all_the_same():
    learner = make_learner(
        target_network_update_freq=0, tau=0.5, non_finite_updates="off"
    )
    before = targets_of(learner)
    learner.update(make_batch(learner))
    assert not equal(targets_of(learner), before)


def test_modules_may_have_targets_of_their_own_pace():
    overrides = {
        "soft": {"target_network_update_freq": 0, "tau": 0.5},
        "copy": {"target_network_update_freq": 10},
    }
    learner = make_learner(
        policies=["soft", "copy", "slow"],
        target_network_update_freq=100,
        tau=1.0,
        algorithm_config_overrides_per_module=overrides,
    )
    before = {mid: targets_of(learner, mid) for mid in learner.module}
    results = learner.update(make_batch(learner), timesteps=at(10))
    mains, targets = networks(learner, "soft")
    assert_all_close(targets, [0.5 * (m + t) for m, t in zip(mains, before["soft"])])
    assert equal(*networks(learner, "copy"))
    assert equal(targets_of(learner, "slow"), before["slow"])
    assert "num_target_updates" not in results["slow"]


def test_modules_come_and_go_with_their_targets():
    learner = make_learner(target_network_update_freq=30)
    spec = make_config().get_rl_module_spec()
    learner.add_module(module_id="p1", module_spec=spec)
    before = targets_of(learner, "p1")
    assert equal(*networks(learner, "p1"))
    learner.update(make_batch(learner), timesteps=at(10))
    assert equal(targets_of(learner, "p1"), before)
    learner.update(make_batch(learner), timesteps=at(30))
    assert equal(*networks(learner, "p1")) and not equal(
        targets_of(learner, "p1"), before
    )
    learner.remove_module("p1")
    state = learner.get_state("learner")["learner"]
    assert state["target_updates"] == {ME: 30}
    learner.update(make_batch(learner), timesteps=at(60))
    assert equal(*networks(learner))


def test_target_clocks_are_part_of_the_state():
    learner = make_learner(target_network_update_freq=50)
    learner.update(make_batch(learner), timesteps=at(70))
    again = make_learner(target_network_update_freq=50, seed=3)
    again.set_state(learner.get_state())
    before = targets_of(again)
    again.update(make_batch(again), timesteps=at(119))
    assert equal(targets_of(again), before)
    again.update(make_batch(again), timesteps=at(120))
    assert not equal(targets_of(again), before)


# Columns.


class Capturing(DQNTfLearner):
    def compute_loss_for_module(self, *, batch, **kwargs):
        self.captured = {name: column.numpy() for name, column in batch.items()}
        return super().compute_loss_for_module(batch=batch, **kwargs)


def test_weights_and_numbers_of_steps_are_1_unless_given():
    learner = make_learner(learner_class=Capturing)
    batch = random_transitions(learner.module[ME], 6)
    learner.update(batch)
    for name in (Columns.N_STEP, Columns.WEIGHTS):
        np.testing.assert_array_equal(learner.captured[name], batch.pop(name))
    given = dict(batch)
    learner.update(batch)
    for name in (Columns.N_STEP, Columns.WEIGHTS):
        np.testing.assert_array_equal(learner.captured[name], np.ones(6, "f4"))
    assert batch.keys() == given.keys()


@pytest.mark.parametrize("column", ["obs", "actions", "rewards", "new_obs"])
def test_columns_that_lack_are_named(column):
    learner = make_learner()
    batch = random_transitions(learner.module[ME], 6)
    del batch[column]
    with pytest.raises(BatchError, match=column):
        learner.update(batch)


def transitions_of(episode, n_step, gamma):
    """(obs, reward, next obs, terminated, n) of each step; slow on purpose."""
    rewards, length = episode.get_rewards(), len(episode)
    for t in range(length):
        steps = min(n_step, length - t)
        total = sum(gamma**k * rewards[t + k] for k in range(steps))
        is_end = episode.is_terminated and t + steps == length
        observations = episode.get_observations([t, t + steps])
        yield observations[0], total, observations[1], is_end, steps


@pytest.mark.parametrize("n_step", [1, 3, (1, 3)])
def test_episodes_become_transitions_over_several_steps(n_step):
    actions = gym.spaces.Discrete(2)
    learner = make_learner(
        actions=actions, learner_class=Capturing, n_step=n_step, gamma=0.9
    )
    ends = [(4, "terminated"), (1, "terminated"), (2, "truncated"), (5, "cut")]
    episodes = random_episodes(OBS, actions, ends=ends, lookback=1)
    results = learner.update(episodes=episodes)
    most = n_step if isinstance(n_step, int) else n_step[1]
    rows = [row for episode in episodes for row in transitions_of(episode, most, 0.9)]
    names = ("obs", "rewards", "new_obs", "terminateds", "n_step")
    for name, wanted in zip(names, zip(*rows)):
        assert_close(learner.captured[name], np.stack(wanted), rtol=1e-5)
    assert results[ME]["num_module_steps_trained"] == 12


def test_chunks_that_are_too_short_are_refused():
    learner = make_learner(n_step=3)
    before = learner.get_state("rl_module")["rl_module"]
    with pytest.raises(
        BatchError, match="2 steps of an episode that continues.*n_step=3"
    ):
        learner.update(episodes=random_episodes(OBS, DISCRETE, ends=[(2, "cut")]))
    tf.nest.map_structure(
        np.testing.assert_array_equal,
        learner.get_state("rl_module")["rl_module"],
        before,
    )


# What comes out for each row.


class Ordered(DQNTfLearner):
    """Tells which row of the batch every row of a minibatch is, by its reward."""

    def compute_loss_for_module(self, *, module_id, batch, **kwargs):
        self.put_out_rows(module_id, "rewards", batch["rewards"])
        return super().compute_loss_for_module(
            module_id=module_id, batch=batch, **kwargs
        )


def errors_by_hand(learner, batch, gamma=0.99):
    """|Q(s, a) - target| of double Q-learning. float [N]"""
    module, rows = learner.module[ME].unwrapped(), np.arange(len(batch["rewards"]))
    following = {"obs": batch["new_obs"]}
    best = module.compute_q_values(following)["qf_preds"].numpy().argmax(-1)
    value = module.forward_target(following)["qf_preds"].numpy()[rows, best]
    value = np.where(batch["terminateds"], 0.0, value)
    target = batch["rewards"] + gamma ** batch["n_step"] * value
    q = module.compute_q_values(batch)["qf_preds"].numpy()[rows, batch["actions"]]
    return np.abs(q - target)


@pytest.mark.parametrize(
    ("minibatch_size", "shuffle"), [(8, False), (8, True), (None, False)]
)
@pytest.mark.parametrize(
    "mode",
    [
        "eager",
        *[
            pytest.param(m, marks=pytest.mark.deep)
            for m in ("traced", "xla", "two devices")
        ],
    ],
)
def test_errors_come_out_in_the_order_of_the_plan(mode, minibatch_size, shuffle):
    settings = {
        "eager": {},
        "traced": {"run_eagerly": False},
        "xla": {"run_eagerly": False, "jit_compile": True},
        "two devices": {"run_eagerly": False, "strategy": mirrored()},
    }[mode]
    learner = make_learner(
        learner_class=Ordered, lr=0.0, target_network_update_freq=NEVER, **settings
    )
    # So that targets differ from what they follow.
    for main, _ in learner.module[ME].unwrapped().get_target_network_pairs():
        for weight in main.weights:
            weight.assign(1.5 * weight + 0.1)
    batch = random_transitions(learner.module[ME], 21)
    wanted = dict(zip(batch["rewards"].tolist(), errors_by_hand(learner, batch)))
    learner.update(
        batch, minibatch_size=minibatch_size, shuffle_batch_per_epoch=shuffle
    )
    shape = (3, 8) if minibatch_size else (1, 21)
    order = learner.row_outputs[ME, "rewards"]
    found = learner.row_outputs[ME, "td_error"]
    assert order.shape == found.shape == shape
    if not shuffle:
        first_again = np.resize(batch["rewards"], shape)  # Three rows come twice.
        np.testing.assert_array_equal(order, first_again)
    assert len(set(order.ravel().tolist())) == 21
    errors = [wanted[reward] for reward in order.ravel().tolist()]
    assert_close(found.ravel(), errors, rtol=1e-4, atol=1e-5)


def test_rows_are_those_of_each_module_and_of_the_last_update():
    learner = make_learner(policies=["p0", "p1"])
    learner.update(make_batch(learner, 8), minibatch_size=4)
    keys = {("p0", "td_error"), ("p1", "td_error")}
    assert learner.row_outputs.keys() == keys
    learner.update({"p1": make_batch(learner, 6)["p1"]}, minibatch_size=3)
    ((key, values),) = learner.row_outputs.items()
    assert key == ("p1", "td_error") and values.shape == (2, 3)


def test_masked_rows_have_no_error():
    learner = make_learner()
    batch = random_transitions(learner.module[ME], 6)
    batch["loss_mask"] = np.arange(6) < 4
    learner.update(batch)
    errors = learner.row_outputs[ME, "td_error"][0]
    assert (errors[:4] > 0).all() and (errors[4:] == 0).all()


class PutsOut(TfLearner):
    def compute_loss_for_module(self, *, module_id, batch, fwd_out, **kwargs):
        self.put_out_rows(module_id, "own", self.rows(fwd_out["qf_preds"]))
        return tf.reduce_mean(fwd_out["qf_preds"])


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (lambda q: q, r"shape \(6, 3\).*one number for each row, \[B\]"),
        (lambda q: tf.reduce_mean(q), r"shape \(\).*one number for each row"),
    ],
)
def test_what_is_no_number_for_each_row_is_refused(rows, text):
    learner = make_learner(learner_class=PutsOut)
    learner.rows = rows
    before = learner.get_state("rl_module")["rl_module"]
    with pytest.raises(LossError, match=rf"put_out_rows\('{ME}', 'own'\).*{text}"):
        learner.update(random_transitions(learner.module[ME], 6))
    tf.nest.map_structure(
        np.testing.assert_array_equal,
        learner.get_state("rl_module")["rl_module"],
        before,
    )


def test_outside_of_an_update_rows_go_nowhere():
    learner = make_learner()
    learner.put_out_rows(ME, "td_error", tf.zeros(3))
    assert learner.row_outputs == {}
