"""What learners may ask of a module: the interfaces, kept by modules that have them."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.errors import ModuleError
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.apis import (
    InferenceOnlyAPI,
    QNetAPI,
    SelfSupervisedLossAPI,
    TargetNetworkAPI,
    ValueFunctionAPI,
)
from tflearner.modules.rl_module import MultiRLModule
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.modules.tf_rl_module import TfRLModule

OBS, ACT = gym.spaces.Box(-1, 1, (4,)), gym.spaces.Discrete(3)

METHODS = {
    ValueFunctionAPI: {"compute_values"},
    QNetAPI: {"compute_q_values"},
    TargetNetworkAPI: {
        "make_target_networks",
        "get_target_network_pairs",
        "forward_target",
    },
    SelfSupervisedLossAPI: {"compute_self_supervised_loss"},
    InferenceOnlyAPI: {"get_non_inference_attributes"},
}


@pytest.mark.parametrize("api", METHODS)
def test_an_interface_has_to_be_kept(api):
    assert api.__abstractmethods__ == METHODS[api]

    class Without(api):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Without()


class QNet(QNetAPI):
    def compute_q_values(self, batch):
        return {"qf_preds": batch["obs"] * 2.0}


def test_q_values_stand_in_for_their_distribution():
    assert QNet().compute_advantage_distribution({"obs": 3.0}) == {"qf_preds": 6.0}


# Acting without what only training needs.

ENCODERS = {
    "shared": {},
    "separate": {"vf_share_layers": False},
    "lstm": {"use_lstm": True, "lstm_cell_size": 5},
    "lstm, separate": {
        "use_lstm": True,
        "lstm_cell_size": 5,
        "vf_share_layers": False,
    },
    "deep heads": {"head_fcnet_hiddens": (6,), "vf_share_layers": False},
}


def make(settings, cls=PPOTfRLModule, **kwargs):
    model_config = {"fcnet_hiddens": (8,)} | settings
    return cls(OBS, ACT, model_config=model_config, **kwargs)


def assert_equal(first, second):
    tf.nest.map_structure(np.testing.assert_array_equal, first, second)


def observed(module, seed=0):
    batch = module.example_batch(3)
    shape = batch[Columns.OBS].shape
    rng = np.random.default_rng(seed)
    return batch | {Columns.OBS: rng.standard_normal(shape).astype(np.float32)}


@pytest.mark.parametrize("kind", ENCODERS)
def test_state_for_acting_fits_a_module_for_acting(kind):
    full, acting = (
        make(ENCODERS[kind], seed=1),
        make(ENCODERS[kind], inference_only=True),
    )
    state = full.get_state(inference_only=True)
    assert len(state) < len(full.get_state())
    acting.set_state(state)
    batch = observed(full)
    assert_equal(acting.forward_inference(batch), full.forward_inference(batch))
    assert_equal(acting.forward_exploration(batch), full.forward_exploration(batch))
    assert_equal(acting.get_state(), state)
    assert_equal(acting.get_state(inference_only=True), state)


@pytest.mark.parametrize("kind", ENCODERS)
def test_module_for_acting_has_no_value_function(kind):
    module = make(ENCODERS[kind], inference_only=True)
    assert module.vf is None
    if kind in ("separate", "deep heads"):
        assert module.encoder.critic is None
    if kind == "shared":
        assert module.encoder.actor is not None


def test_a_separate_value_function_takes_its_encoder_along():
    def left_out(kind):
        module = make(ENCODERS[kind])
        return len(module.get_state()) - len(module.get_state(inference_only=True))

    assert left_out("shared") == 2  # Kernel and bias of the head.
    assert left_out("separate") == 4


def test_a_full_state_does_not_fit_a_module_for_acting():
    full, acting = make({}), make({}, inference_only=True)
    with pytest.raises(ModuleError, match="unexpected"):
        acting.set_state(full.get_state())
    with pytest.raises(ModuleError, match="missing"):
        full.set_state(full.get_state(inference_only=True))


def test_asking_for_the_state_for_acting_drops_nothing():
    module = make({"vf_share_layers": False})
    before = module.get_state()
    module.get_state(inference_only=True)
    assert_equal(module.get_state(), before)
    assert module.forward_train(observed(module))[Columns.VF_PREDS].shape == (3,)


def test_several_modules_give_what_acting_needs():
    multi = MultiRLModule({"p0": make({}), "p1": make({"vf_share_layers": False})})
    state = multi.get_state(inference_only=True)
    for module_id, module in multi.items():
        assert_equal(state[module_id], module.get_state(inference_only=True))
    only = multi.get_state("p1", inference_only=True)
    assert [*only] == ["p1"] and [*only["p1"]] == [*state["p1"]]


def test_a_module_without_the_interface_needs_all_of_its_weights():
    class Plain(TfRLModule):
        def setup(self):
            self.policy = keras.layers.Dense(3)

        def _forward(self, batch, **kwargs):
            return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS])}

    full, acting = Plain(OBS, ACT), Plain(OBS, ACT, inference_only=True)
    state = full.get_state(inference_only=True)
    assert_equal(state, full.get_state())
    acting.set_state(state)
    assert_equal(acting.get_state(), state)


class Twin(TfRLModule, InferenceOnlyAPI):
    """Parts for training of every form: layers in lists, a variable, a missing one."""

    def setup(self):
        self.policy = keras.layers.Dense(3)
        self.critics = [keras.layers.Dense(1), keras.layers.Dense(1)]
        self.temperature = self.add_weight(shape=(), initializer="ones", name="alpha")
        self.target = None

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS])}

    def _forward_train(self, batch, **kwargs):
        values = [critic(batch[Columns.OBS]) for critic in self.critics]
        return self._forward(batch) | {"values": self.temperature * tf.add_n(values)}

    def get_non_inference_attributes(self):
        return ["critics", "temperature", "target"]


def test_parts_for_training_may_be_lists_and_variables():
    full, acting = Twin(OBS, ACT), Twin(OBS, ACT, inference_only=True)
    state = full.get_state(inference_only=True)
    assert len(full.get_state()) == 7 and len(state) == 2
    acting.set_state(state)
    assert acting.critics is None and acting.temperature is None
    assert_equal(acting.get_state(), state)


class Delayed(TfRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """Has a part that acting does not need, and that is made by a learner alone."""

    def setup(self):
        self.q = keras.layers.Dense(3)

    def make_target_networks(self):
        self.target_q = keras.layers.Dense(3, trainable=False)
        self.target_q.build((None, 4))

    def get_target_network_pairs(self):
        return [(self.q, self.target_q)]

    def forward_target(self, batch):
        return {"qf_preds": self.target_q(batch[Columns.OBS])}

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.q(batch[Columns.OBS])}

    def get_non_inference_attributes(self):
        return ["target_q"]


def test_parts_for_training_may_be_made_later():
    full, acting = Delayed(OBS, ACT), Delayed(OBS, ACT, inference_only=True)
    assert len(full.get_state(inference_only=True)) == 2
    full.make_target_networks()
    assert len(full.get_state()) == 4
    state = full.get_state(inference_only=True)
    acting.set_state(state)
    assert_equal(acting.get_state(), state)


def test_a_spec_for_acting_builds_such_a_module():
    spec = RLModuleSpec(
        PPOTfRLModule,
        OBS,
        ACT,
        inference_only=True,
        model_config={"fcnet_hiddens": (8,)},
    )
    module = spec.build(seed=1)
    assert module.inference_only and module.vf is None
    full = RLModuleSpec(PPOTfRLModule, OBS, ACT, model_config={"fcnet_hiddens": (8,)})
    module.set_state(full.build(seed=1).get_state(inference_only=True))
