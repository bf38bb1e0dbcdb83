"""Tests for `tflearner.modules.tf_rl_module`."""

import random

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.errors import ModuleError
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.apis import ValueFunctionAPI
from tflearner.modules.tf_rl_module import TfRLModule

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS, ACT = Box(-1, 1, (4,)), Discrete(2)


class Counted(TfRLModule, ValueFunctionAPI):
    """Counts what the constructor calls; a critic that no forward pass uses."""

    def setup(self):
        self.calls = ["setup"]
        self.policy = keras.layers.Dense(2)
        self.critic = keras.layers.Dense(1)

    def _forward(self, batch, **kwargs):
        self.calls.append("forward")
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS])}

    def compute_values(self, batch, embeddings=None):
        self.calls.append("values")
        return self.critic(batch[Columns.OBS])[:, 0]


def make(seed=None, cls=PPOTfRLModule, **kwargs):
    return cls(OBS, ACT, model_config={"fcnet_hiddens": (8,)}, seed=seed, **kwargs)


def assert_equal(first, second):
    assert list(first) == list(second)
    for key, array in first.items():
        np.testing.assert_array_equal(array, second[key])


def test_constructor_makes_every_variable():
    module = Counted(OBS, ACT)
    assert list(module.calls) == ["setup", "forward", "values"]
    assert len(module.trainable_variables) == 4


def test_forward_must_be_overridden():
    with pytest.raises(NotImplementedError, match="TfRLModule overrides neither"):
        TfRLModule(OBS, ACT)


def test_module_for_acting_does_not_train():
    module = make(inference_only=True)
    batch = module.example_batch(2)
    assert Columns.ACTION_DIST_INPUTS in module.forward_inference(batch)
    with pytest.raises(RuntimeError, match="inference_only=True"):
        module.forward_train(batch)
    module.set_state(make().get_state(inference_only=True))


@pytest.mark.parametrize(
    "space",
    [
        Box(-1, 1, (2, 3)),
        Discrete(3),
        gym.spaces.MultiDiscrete([2, 3]),
        gym.spaces.Dict({"a": Box(-1, 1, (2,)), "b": Discrete(2)}),
    ],
    ids=str,
)
def test_example_batch_fits_the_spaces(space):
    module = make()
    module.observation_space = space
    batch = module.example_batch(5)
    assert batch[Columns.ACTIONS].shape == (5,)
    last = tf.nest.map_structure(lambda column: column[4].numpy(), batch["obs"])
    assert space.contains(last)


# State.


def test_state_makes_modules_equal():
    first, second = make(cls=Counted), make(cls=Counted)
    state = first.get_state()
    assert [w.path for w in first.weights] != [w.path for w in second.weights]
    assert list(state) == list(second.get_state())
    second.set_state(state)
    assert_equal(second.get_state(), state)
    batch = {Columns.OBS: OBS.sample()[None]}
    np.testing.assert_array_equal(
        first.forward_train(batch)["action_dist_inputs"],
        second.forward_train(batch)["action_dist_inputs"],
    )


def test_state_has_keys_of_position_and_role():
    keys = list(make().get_state())
    roles = ["kernel", "bias"] * 3
    assert keys == [f"{index:03d}/{role}" for index, role in enumerate(roles)]


def test_state_holds_weights_that_are_not_trained():
    class Normed(Counted):
        def setup(self):
            super().setup()
            norm = keras.layers.BatchNormalization()
            self.policy = keras.Sequential([norm, keras.layers.Dense(2)])

    module = Normed(OBS, ACT)
    state = module.get_state()
    assert len(state) == len(module.weights) > len(module.trainable_variables)
    assert sum("moving" in key for key in state) == 2


def test_state_is_a_copy():
    module = make()
    state, before = module.get_state(), module.get_state()
    for variable in module.weights:
        variable.assign_add(tf.ones(variable.shape))
    assert_equal(state, before)
    module.set_state(state)
    for array in state.values():
        array += 1.0
    assert_equal(module.get_state(), before)


def test_weight_keys_are_found_by_reference():
    module = make()
    keys = module.weight_keys()
    assert [keys[v.value.ref()] for v in module.trainable_variables] == list(
        module.get_state()
    )


def test_one_error_lists_all_that_does_not_fit():
    module = make()
    before, state = module.get_state(), make().get_state()
    del state["001/bias"]
    state["002/kernel"] = state["002/kernel"].T
    state["999/kernel"] = np.zeros(2)
    for method in (module.check_state, module.set_state):
        with pytest.raises(ModuleError, match="other networks") as info:
            method(state)
        text = str(info.value)
        assert "missing '001/bias'" in text and "unexpected '999/kernel'" in text
        assert "'002/kernel' of shape (2, 8) instead of (8, 2)" in text
    assert_equal(module.get_state(), before)


# Initial weights.


def test_same_seed_same_weights():
    assert_equal(make(seed=3).get_state(), make(seed=3).get_state())


@pytest.mark.parametrize("seeds", [(3, 4), (None, None)])
def test_other_seed_other_weights(seeds):
    first, second = (make(seed=seed).get_state() for seed in seeds)
    kernels = [key for key in first if key.endswith("kernel")]
    assert all((first[key] != second[key]).any() for key in kernels)


def test_layers_of_one_shape_start_differently():
    module = PPOTfRLModule(
        OBS,
        ACT,
        model_config={"fcnet_hiddens": (4, 4), "vf_share_layers": False},
        seed=0,
    )
    kernels = [w.numpy() for w in module.weights if w.shape == (4, 4)]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels) == 4


def test_a_seed_is_not_global():
    before = np.random.get_state()[1].tolist(), random.getstate()
    draws = []
    for cls in (PPOTfRLModule, Counted):
        make(seed=1, cls=cls)
        make(cls=cls)
        draws.append(float(tf.random.uniform([])))
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before
    assert draws[0] != draws[1]


def test_layers_without_a_seed_take_that_of_the_module():
    first, second, other, *new = (
        Counted(OBS, ACT, seed=seed).get_state()
        for seed in (1, np.int64(1), 2, None, None)
    )
    assert_equal(first, second)
    kernels = [own["000/kernel"].tolist() for own in (first, other, *new)]
    assert len({str(kernel) for kernel in kernels}) == 4


class ReadsMore(TfRLModule):
    """Reads what batches of training alone have."""

    builds_critic = True

    def setup(self):
        self.policy = keras.layers.Dense(2)
        self.critic = keras.layers.Dense(1)
        if self.builds_critic:
            self.critic.build((None, 5))

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS])}

    def _forward_train(self, batch, **kwargs):
        rewards = self.read(batch)[:, None]
        inputs = tf.concat([batch[Columns.OBS], rewards], -1)
        return self._forward(batch) | {Columns.VF_PREDS: self.critic(inputs)[:, 0]}

    def read(self, batch):
        return batch[Columns.REWARDS]


class ReadsPolitely(ReadsMore):
    def read(self, batch):
        return batch.get(Columns.REWARDS)


@pytest.mark.parametrize("cls", [ReadsMore, ReadsPolitely])
def test_training_may_read_more_than_acting(cls):
    module = cls(OBS, ACT)
    assert len(module.trainable_variables) == 4
    assert module.try_forward_train(3) == (False, None)


def test_errors_of_training_are_raised_when_the_module_is_made():
    class Broken(ReadsMore):
        def _forward_train(self, batch, **kwargs):
            return self.of_nobody

    with pytest.raises(AttributeError, match="of_nobody"):
        Broken(OBS, ACT)


def test_a_learners_state_of_one_module_will_do():
    module, other = make(), make()
    module.set_state({"rl_module": {"p0": other.get_state()}, "weights_seq_no": 3})
    assert_equal(module.get_state(), other.get_state())
    two = {"p0": other.get_state(), "p1": other.get_state()}
    with pytest.raises(ModuleError, match="unexpected 'rl_module'"):
        module.set_state({"rl_module": two})


def test_a_variable_that_keras_does_not_track_is_refused():
    class Own(TfRLModule):
        def setup(self):
            self.scale = tf.Variable([1.0])

        def _forward(self, batch, **kwargs):
            return {Columns.ACTION_DIST_INPUTS: batch[Columns.OBS] * self.scale}

    with pytest.raises(ModuleError, match=r"Own.scale.*self.add_weight"):
        Own(gym.spaces.Box(-1.0, 1.0, (2,), np.float32), gym.spaces.Discrete(2))
