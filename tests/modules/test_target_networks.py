"""Copies that follow: how they are made, that nothing trains them, how they move."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOConfig
from tflearner.columns import Columns
from tflearner.errors import ModuleBuildError, ModuleError
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.apis import InferenceOnlyAPI, QNetAPI, TargetNetworkAPI
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.modules.target_networks import (
    make_target_network,
    update_target_network,
)
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.networks.layers import MLP

OBS, ACT = gym.spaces.Box(-1.0, 1.0, (4,), np.float32), gym.spaces.Discrete(3)


def dense():
    layer = keras.layers.Dense(3)
    layer.build((None, 4))
    return layer


def sequential():
    layers = [keras.layers.Dense(5, "tanh"), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])


def functional():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5)(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def mlp():
    network = MLP([5], output_size=3, rng=np.random.default_rng(0))
    network(np.zeros((1, 4), np.float32))
    return network


NETWORKS = {
    "dense": dense,
    "sequential": sequential,
    "functional": functional,
    "mlp": mlp,
}
every_network = pytest.mark.parametrize("kind", NETWORKS)


def numbers(network):
    return [weight.numpy() for weight in network.weights]


def assert_equal(first, second):
    tf.nest.map_structure(np.testing.assert_array_equal, first, second)


@every_network
def test_a_copy_starts_equal_and_is_frozen(kind):
    network = NETWORKS[kind]()
    target = make_target_network(network)
    assert_equal(numbers(target), numbers(network))
    assert target.trainable_variables == [] and network.trainable_variables
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    np.testing.assert_array_equal(target(x), network(x))


@every_network
def test_a_copy_has_weights_of_its_own(kind):
    network = NETWORKS[kind]()
    target = make_target_network(network)
    before = numbers(target)
    own = {id(weight) for weight in network.weights}
    assert own.isdisjoint(id(weight) for weight in target.weights)
    for weight in network.weights:
        weight.assign(weight + 1.0)
    assert_equal(numbers(target), before)


@every_network
@pytest.mark.parametrize("tau", [0.0, 0.25, 1.0])
def test_a_copy_moves_by_tau(kind, tau):
    main, target = NETWORKS[kind](), NETWORKS[kind]()
    x, y = numbers(main), numbers(target)
    update_target_network(main_net=main, target_net=target, tau=tau)
    assert_equal(numbers(main), x)
    for moved, a, b in zip(numbers(target), x, y):
        np.testing.assert_allclose(moved, tau * a + (1 - tau) * b, rtol=1e-6)
        assert moved.dtype == b.dtype
        if tau in (0.0, 1.0):
            np.testing.assert_array_equal(moved, b if tau == 0.0 else a)


def test_repeated_moves_approach_the_original():
    main, target = dense(), dense()
    start = np.abs(numbers(main)[0] - numbers(target)[0])
    for _ in range(3):
        update_target_network(main_net=main, target_net=target, tau=0.5)
    distance = np.abs(numbers(main)[0] - numbers(target)[0])
    np.testing.assert_allclose(distance, start / 8, atol=1e-6)


def test_moves_can_be_traced():
    main, target = dense(), dense()
    wanted = (numbers(main)[0] + numbers(target)[0]) / 2
    tf.function(
        lambda: update_target_network(main_net=main, target_net=target, tau=0.5)
    )()
    np.testing.assert_allclose(numbers(target)[0], wanted, rtol=1e-6)


def test_networks_of_another_form_are_refused():
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    for main in (sequential(), other):
        target = dense()
        before = numbers(target)
        with pytest.raises(ModuleError):
            update_target_network(main_net=main, target_net=target, tau=1.0)
        assert_equal(numbers(target), before)


class NotSerializable(keras.layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function, self.layer = function, keras.layers.Dense(3)

    def call(self, x):
        return self.function(self.layer(x))


def test_a_layer_that_cannot_be_copied_says_why():
    layer = NotSerializable(lambda x: x * 2.0)
    layer(np.zeros((1, 4), np.float32))
    with pytest.raises(ModuleError, match="NotSerializable.*get_config"):
        make_target_network(layer)


# In a learner.


class DoubleQ(TfRLModule, QNetAPI, TargetNetworkAPI, InferenceOnlyAPI):
    def setup(self):
        self.q = sequential()
        self.num_made = 0

    def make_target_networks(self):
        self.num_made += 1
        self.target_q = make_target_network(self.q)

    def get_target_network_pairs(self):
        return [(self.q, self.target_q)]

    def forward_target(self, batch):
        return {"qf_preds": self.target_q(batch[Columns.OBS])}

    def compute_q_values(self, batch):
        return {"qf_preds": self.q(batch[Columns.OBS])}

    def _forward(self, batch, **kwargs):
        return self.compute_q_values(batch)

    def get_non_inference_attributes(self):
        return ["target_q"]


class QLearner(TfLearner):
    """Goes for targets one above what the copies say, and lets them follow."""

    tau = 0.0

    @classmethod
    def rl_module_required_apis(cls):
        return [QNetAPI, TargetNetworkAPI]

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        targets = self.module[module_id].forward_target(batch)["qf_preds"]
        error = fwd_out["qf_preds"] - (1.0 + targets)
        return tf.reduce_mean(error**2)

    def after_gradient_based_update(self, *, timesteps):
        super().after_gradient_based_update(timesteps=timesteps)
        for module_id in self.updated_module_ids:
            for main, target in self.module[module_id].get_target_network_pairs():
                update_target_network(main_net=main, target_net=target, tau=self.tau)


SPEC = RLModuleSpec(DoubleQ, OBS, ACT)


def make_learner(**settings):
    config = PPOConfig(observation_space=OBS, action_space=ACT)
    settings = {
        "run_eagerly": True,
        "jit_compile": False,
        "seed": 1,
        "lr": 0.1,
    } | settings
    config.update_from_dict({"learner_class": QLearner} | settings)
    config.rl_module(rl_module_spec=SPEC)
    return config.build_learner()


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return {"obs": rng.uniform(-1, 1, (8, 4)).astype(np.float32)}


@pytest.fixture(scope="module")
def idle():
    """A learner that no test changes."""
    return make_learner()


def test_copies_are_made_once_when_the_learner_is_built(idle):
    module = idle.module["default_policy"]
    assert module.num_made == 1
    assert_equal(numbers(module.target_q), numbers(module.q))


def test_copies_are_made_once_when_a_module_is_added():
    learner = make_learner()
    learner.add_module(module_id="new", module_spec=SPEC)
    assert [module.num_made for module in learner.module.values()] == [1, 1]
    new = learner.module["new"]
    assert_equal(numbers(new.target_q), numbers(new.q))
    learner.update({"new": batch()})


def test_no_optimizer_knows_the_copies(idle):
    module = idle.module["default_policy"]
    registered = set(idle._optimizers.params())
    assert registered == {idle.get_param_ref(p) for p in module.q.trainable_variables}
    assert not registered & {idle.get_param_ref(w) for w in module.target_q.weights}
    slots = len(module.q.trainable_variables)
    assert len(idle.get_optimizer().variables) == 2 + 2 * slots


def test_copies_are_counted_as_weights_that_are_not_trained():
    learner = make_learner()
    module, counts = learner.module["default_policy"], learner.metrics.peek()
    size = sum(int(np.prod(w.shape)) for w in module.target_q.weights)
    moving = sum(int(np.prod(w.shape)) for w in module.q.non_trainable_variables)
    own = counts["default_policy"]
    assert own["num_non_trainable_parameters"] == size + moving


@pytest.mark.parametrize(
    "run_eagerly", [True, pytest.param(False, marks=pytest.mark.deep)]
)
def test_updates_leave_the_copies_where_they_are(run_eagerly):
    learner = make_learner(run_eagerly=run_eagerly)
    module = learner.module["default_policy"]
    main, target = numbers(module.q), numbers(module.target_q)
    learner.update(batch(), minibatch_size=4, num_epochs=2)
    assert_equal(numbers(module.target_q), target)
    assert (numbers(module.q)[0] != main[0]).any()


def test_the_hook_moves_copies_and_the_traced_loss_sees_it():
    learner = make_learner(run_eagerly=False)

    def losses(tau, num_updates):
        learner.tau = tau
        results = [learner.update(batch()) for _ in range(num_updates)]
        return [own["default_policy"]["total_loss"] for own in results]

    # Where the copy keeps up, the goal is always one above the network.
    np.testing.assert_allclose(losses(1.0, num_updates=5), 1.0, rtol=1e-5)
    module = learner.module["default_policy"]
    assert_equal(numbers(module.target_q), numbers(module.q))
    assert min(losses(0.0, num_updates=40)) < 0.3  # Where it stays, that is reached.
    assert learner.num_traces == 1


def test_copies_are_part_of_the_state_and_come_back():
    first, second = make_learner(), make_learner(seed=5)
    first.tau = second.tau = 0.1
    first.update(batch())
    state = first.get_state()
    keys = state["rl_module"]["default_policy"]
    module = first.module["default_policy"]
    assert len(keys) == len(module.q.weights) + len(module.target_q.weights)
    second.set_state(state)
    for learner in (first, second):
        learner.update(batch(seed=1))
    assert_equal(first.module.get_state(), second.module.get_state())


def test_a_module_for_acting_has_no_copies(idle):
    acting = DoubleQ(OBS, ACT, inference_only=True)
    state = idle.module["default_policy"].get_state(inference_only=True)
    assert len(state) == len(idle.module["default_policy"].q.weights)
    acting.set_state(state)
    assert_equal(acting.get_state(), state)
    full = idle.module["default_policy"].forward_inference(batch())
    np.testing.assert_array_equal(
        acting.forward_inference(batch())["qf_preds"], full["qf_preds"]
    )


class CannotCopy(DoubleQ):
    def make_target_networks(self):
        raise RuntimeError("no copy today")


def test_module_whose_copies_cannot_be_made_is_not_added():
    learner = make_learner()
    before = learner.get_state()["rl_module"]
    spec = RLModuleSpec(CannotCopy, OBS, ACT)
    with pytest.raises((RuntimeError, ModuleBuildError), match="no copy today"):
        learner.add_module(module_id="new", module_spec=spec)
    assert [*learner.module] == ["default_policy"]
    assert len([*learner._optimizers.values()]) == 1
    assert_equal(learner.get_state()["rl_module"], before)
