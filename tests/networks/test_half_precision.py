"""Modules whose layers compute in half precision: float32 around them, always."""

import functools

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.modules import acting, inference
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.apis import QNetAPI, TargetNetworkAPI, ValueFunctionAPI
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.modules.target_networks import (
    make_target_network,
    update_target_network,
)
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.networks.distributions import Categorical, DiagGaussian
from tflearner.testing import assert_close

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS, ACT = Box(-1.0, 1.0, (4,), np.float32), Discrete(3)
CONTINUOUS = Box(-1.0, 1.0, (2,), np.float32)
IMAGE = Box(0, 255, (6, 6, 2), np.uint8)
SEPARATE = {"vf_share_layers": False}
LSTM = {"use_lstm": True, "lstm_cell_size": 5}
GRU = {"use_gru": True, "lstm_cell_size": 5}
NORM = {
    "fcnet_use_layernorm": True,
    "head_fcnet_hiddens": (6,),
    "head_fcnet_use_layernorm": True,
}
# Differences from float32 of numbers around 1, after a few layers.
ERRORS = {"bfloat16": 2e-2, "float16": 2e-3}


def own_model(dtype=None):
    scaled = keras.layers.Rescaling(1.0 / 255.0, dtype=dtype)
    dense = keras.layers.Dense(6, "tanh", dtype=dtype)
    return keras.Sequential([scaled, keras.layers.Flatten(dtype=dtype), dense])


KINDS = {
    "dense, separate": (OBS, ACT, SEPARATE),
    "layer norm": (OBS, ACT, NORM),
    "bounded log std": (OBS, CONTINUOUS, {}),
    "free log std": (OBS, CONTINUOUS, {"free_log_std": True}),
    "discrete": (Discrete(4, start=2), ACT, {}),
    "multi-discrete": (gym.spaces.MultiDiscrete([2, 3]), ACT, {}),
    "cnn": (IMAGE, ACT, {"conv_filters": [(3, 3, 1)]}),
    "lstm": (OBS, ACT, LSTM),
    "gru, separate": (OBS, CONTINUOUS, GRU | SEPARATE),
    "lstm behind own model": (IMAGE, ACT, LSTM | {"model": own_model}),
}
every_dtype = pytest.mark.parametrize("dtype", ERRORS)
# One of each layer that the others are put together from.
PLAIN = ("layer norm", "free log std", "cnn", "gru, separate")
every_kind = pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=[pytest.mark.deep] * (k not in PLAIN)) for k in KINDS],
)


@pytest.fixture(autouse=True)
def global_policy():
    """Gives the global dtype policy back as it was."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


def build(dtype, cls, *args, **kwargs):
    """Builds a module whose layers compute in `dtype`; the global policy is back."""
    before = keras.config.dtype_policy()
    name = dtype if dtype == "float32" else f"mixed_{dtype}"
    keras.config.set_dtype_policy(name)
    try:
        return cls(*args, **kwargs)
    finally:
        keras.config.set_dtype_policy(before)


@functools.cache
def built(kind, dtype):
    observation_space, action_space, config = KINDS[kind]
    config = {"fcnet_hiddens": (8,)} | config
    spaces = (observation_space, action_space)
    module = build(dtype, PPOTfRLModule, *spaces, model_config=config, seed=0)
    if dtype != "float32":
        module.set_state(built(kind, "float32").get_state())
    return module


def batch_of(module, num=5, seed=0):
    space = gym.vector.utils.batch_space(module.observation_space, num)
    space.seed(seed)
    batch = {Columns.OBS: tf.constant(space.sample())}
    if module.is_stateful():
        rng = np.random.default_rng(seed)
        batch[Columns.OBS] = tf.stack([batch[Columns.OBS]] * 3, axis=1)
        batch[Columns.STATE_IN] = tf.nest.map_structure(
            lambda x: tf.constant(rng.uniform(-1, 1, (num, *x.shape)), tf.float32),
            module.get_initial_state(),
        )
    return batch


def all_outputs(module, batch):
    return {
        "train": module.forward_train(batch),
        "exploration": module.forward_exploration(batch),
        "inference": module.forward_inference(batch),
        "values": module.compute_values(batch),
    }


def dtypes_of(outputs):
    return {tensor.dtype for tensor in tf.nest.flatten(outputs)}


@every_dtype
@every_kind
def test_outputs_are_float32_and_near_those_of_a_float32_module(kind, dtype):
    full, half = built(kind, "float32"), built(kind, dtype)
    assert full.compute_dtypes() == {"float32"}
    assert dtype in half.compute_dtypes() <= {dtype, "float32"}
    wanted, got = (all_outputs(module, batch_of(full)) for module in (full, half))
    assert dtypes_of(got) == dtypes_of(wanted) == {tf.float32}
    tf.nest.assert_same_structure(got, wanted)
    differences = [
        np.abs(a - b).max()
        for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(wanted))
    ]
    assert 0.0 < max(differences) < ERRORS[dtype]


@every_dtype
@every_kind
def test_weights_and_their_gradients_are_float32_under_the_same_keys(kind, dtype):
    full, half = built(kind, "float32"), built(kind, dtype)
    refs = half.weight_keys()
    assert list(refs.values()) == list(full.weight_keys().values())
    assert {ref.deref().dtype for ref in refs} == {tf.float32}
    with tf.GradientTape() as tape:
        outputs = half.forward_train(batch_of(half))
        loss = tf.add_n([tf.reduce_sum(x**2) for x in tf.nest.flatten(outputs)])
    variables = [weight.value for weight in half.trainable_variables]
    gradients = tape.gradient(loss, {v.ref(): v for v in variables})
    assert gradients.keys() == {v.ref() for v in variables}
    assert {gradient.dtype for gradient in gradients.values()} == {tf.float32}


@every_dtype
def test_state_goes_from_float32_to_half_precision_and_back(dtype):
    config = NORM | LSTM
    make = functools.partial(PPOTfRLModule, OBS, CONTINUOUS, model_config=config)
    full, half = build("float32", make, seed=1), build(dtype, make, seed=2)
    state = full.get_state()
    half.set_state(state)
    assert {array.dtype for array in half.get_state().values()} == {np.dtype("f4")}
    for weight in full.weights:
        weight.assign(weight * 0.0)
    full.set_state(half.get_state())
    np.testing.assert_equal(full.get_state(), state)


@every_dtype
def test_a_spec_builds_what_the_global_policy_says(dtype):
    keras.config.set_dtype_policy(f"mixed_{dtype}")
    spaces = {"observation_space": OBS, "action_space": ACT}
    for only in (False, True):
        spec = RLModuleSpec(PPOTfRLModule, **spaces, inference_only=only)
        module = RLModuleSpec.from_module(spec.build()).build()
        assert dtype in module.compute_dtypes()
        assert dtypes_of(module.forward_inference(batch_of(module))) == {tf.float32}


@every_dtype
def test_own_models_bring_their_own_policies(dtype):
    config = {"model": lambda: own_model(f"mixed_{dtype}")}
    module = PPOTfRLModule(IMAGE, ACT, model_config=config)
    assert module.compute_dtypes() == {dtype, "float32"}
    assert dtypes_of(all_outputs(module, batch_of(module))) == {tf.float32}
    assert type(acting.make_actor(module)) is inference.TracedActor


# Where precision would be lost.


@every_dtype
def test_heads_put_out_more_digits_than_half_precision_has(dtype):
    module = built("dense, separate", dtype)
    values = module.forward_train(batch_of(module))[Columns.VF_PREDS].numpy()
    rounded = tf.cast(tf.cast(values, dtype), tf.float32).numpy()
    assert (values != rounded).any()


@every_dtype
def test_log_stds_are_not_rounded(dtype):
    module = built.__wrapped__("free log std", dtype)  # Its own, to be changed.
    module.log_std_bound.log_std.assign([0.123456, -1.23456])
    inputs = module.forward_train(batch_of(module))[Columns.ACTION_DIST_INPUTS]
    assert (inputs.numpy()[:, 2:] == np.float32([0.123456, -1.23456])).all()


@every_dtype
def test_a_float32_first_layer_sees_observations_as_they_came(dtype):
    """Large numbers that differ little: one layer takes their mean away."""

    def centred():
        mean = keras.layers.Rescaling(1.0, offset=-50_010.0, dtype="float32")
        return keras.Sequential([mean, keras.layers.Dense(6, "tanh")])

    module = build(
        dtype,
        PPOTfRLModule,
        Box(0.0, 1e6, (4,), np.float32),
        ACT,
        model_config={"model": centred},
    )
    near = {"obs": np.float32([[50_010.0] * 4, [50_011.0] * 4])}
    for outputs in (module.forward_train(near), module.forward_inference(near)):
        inputs = outputs[Columns.ACTION_DIST_INPUTS].numpy()
        assert np.abs(inputs[0] - inputs[1]).max() > 0.01


@pytest.mark.deep_but_first
@every_dtype
@pytest.mark.parametrize("kind", ["lstm", "gru, separate"])
def test_states_are_float32_from_step_to_step(kind, dtype):
    module = built(kind, dtype)
    batch = batch_of(module)
    whole = module.forward_train(batch)
    batch[Columns.OBS] = batch[Columns.OBS][:, :1]
    for _ in range(3):  # All three steps show the same observation.
        outputs = module.forward_exploration(batch)
        batch[Columns.STATE_IN] = outputs[Columns.STATE_OUT]
        assert dtypes_of(batch[Columns.STATE_IN]) == {tf.float32}
    for got, wanted in zip(
        tf.nest.flatten(batch[Columns.STATE_IN]),
        tf.nest.flatten(whole[Columns.STATE_OUT]),
    ):
        assert_close(got, wanted, rtol=0, atol=ERRORS[dtype])


# Modules of users.


class Own(TfRLModule, ValueFunctionAPI, QNetAPI, TargetNetworkAPI):
    """Puts out whatever its layers do."""

    def setup(self):
        self.embed = keras.layers.Dense(6, "tanh")
        self.q = keras.layers.Dense(3)
        self.bias = self.add_weight(shape=(3,), name="bias")

    def _forward(self, batch, **kwargs):
        embeddings = self.embed(batch[Columns.OBS])
        return {
            Columns.EMBEDDINGS: embeddings,
            Columns.ACTION_DIST_INPUTS: self.q(embeddings),
            "nested": {"rows": tf.range(3), "values": [embeddings]},
        }

    def compute_values(self, batch, embeddings=None):
        return tf.reduce_max(self.compute_q_values(batch)["qf_preds"], -1)

    def compute_q_values(self, batch):
        return {"qf_preds": self.q(self.embed(batch[Columns.OBS]))}

    def make_target_networks(self):
        self.target = make_target_network(self.embed)

    def get_target_network_pairs(self):
        return [(self.embed, self.target)]

    def forward_target(self, batch):
        return {Columns.EMBEDDINGS: self.target(batch[Columns.OBS])}


class Halving(Own):
    """Overrides what the other inherits, and calls it."""

    def forward_train(self, batch, **kwargs):
        outputs = super().forward_train(batch, **kwargs)
        assert dtypes_of(outputs[Columns.EMBEDDINGS]) == {tf.float32}
        return {Columns.EMBEDDINGS: tf.cast(outputs[Columns.EMBEDDINGS], tf.float16)}


class FromMixin:
    """Values that a class gets from a base that is no module."""

    def compute_values(self, batch, embeddings=None):
        return self.q(self.embed(batch[Columns.OBS]))[:, 0]


class Mixed(FromMixin, Own):
    pass


@every_dtype
@pytest.mark.parametrize("cls", [Own, Halving, Mixed])
def test_own_modules_put_out_float32_too(cls, dtype):
    module = build(dtype, cls, OBS, ACT)
    module.make_target_networks()
    batch = batch_of(module)
    outputs = all_outputs(module, batch) | {
        "q": module.compute_q_values(batch),
        "advantages": module.compute_advantage_distribution(batch),
        "target": module.forward_target(batch),
    }
    assert dtypes_of(outputs) <= {tf.float32, tf.int32}
    assert dtypes_of(outputs["train"][Columns.EMBEDDINGS]) == {tf.float32}
    assert outputs["inference"]["nested"]["rows"].dtype == tf.int32
    assert module.bias.dtype == "float32"


def test_outputs_of_float32_modules_are_handed_on_as_they_are():
    class Handing(Own):
        def _forward(self, batch, **kwargs):
            self.put_out = super()._forward(batch, **kwargs)
            return self.put_out

    module = Handing(OBS, ACT)
    assert module.forward_train(batch_of(module)) is module.put_out


@every_dtype
def test_target_networks_compute_alike_and_move_in_float32(dtype):
    keras.config.set_dtype_policy(f"mixed_{dtype}")
    module = Own(OBS, ACT)
    module.make_target_networks()
    assert module.target.compute_dtype == dtype
    for weight in module.embed.weights:
        weight.assign(tf.ones_like(weight))
    for weight in module.target.weights:
        weight.assign(tf.zeros_like(weight))
    update_target_network(main_net=module.embed, target_net=module.target, tau=0.001)
    for weight in module.target.weights:
        assert (weight.numpy() == np.float32(0.001)).all()  # Not what half would be.


# Acting.


@pytest.mark.deep_but_first
@every_dtype
@pytest.mark.parametrize("kind", ["lstm", "dense, separate", "bounded log std"])
def test_recorded_log_probabilities_are_those_of_the_forward_pass(kind, dtype):
    module = built(kind, dtype)
    actor = acting.make_actor(module)
    assert actor.description == f"one TensorFlow function, in {dtype}"
    batch = {Columns.OBS: batch_of(module)[Columns.OBS].numpy()}
    if module.is_stateful():
        whole = batch_of(module)
        batch = {
            Columns.OBS: whole[Columns.OBS][:, 0].numpy(),
            Columns.STATE_IN: tf.nest.map_structure(
                lambda x: x.numpy(), whole[Columns.STATE_IN]
            ),
        }
    outputs = actor(batch, explore=True, rng=np.random.default_rng(0))
    arrays = tf.nest.flatten(outputs)
    assert {array.dtype.name for array in arrays} <= {"float32", "int32"}
    if module.is_stateful():
        batch[Columns.OBS] = batch[Columns.OBS][:, None]
    # As in training: graphs may fuse layers, and then round 16-bit numbers less often.
    forward_train = tf.function(module.forward_train, autograph=False)
    batch = tf.nest.map_structure(tf.constant, batch)
    inputs = forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    if module.is_stateful():
        inputs = inputs[:, 0]
    dist_class = DiagGaussian if module.action_space is CONTINUOUS else Categorical
    wanted = dist_class.from_logits(inputs).logp(outputs[Columns.ACTIONS])
    assert_close(outputs[Columns.ACTION_LOGP], wanted, rtol=1e-6, atol=1e-6)


def test_float32_modules_act_in_numpy():
    assert built("dense, separate", "float32").numpy_policy() is not None
    actor = inference.TracedActor(built("cnn", "float32"))
    assert actor.description == "one TensorFlow function"


@every_dtype
def test_values_for_connectors_are_float32(dtype):
    module = built("dense, separate", dtype)
    values = inference.value_function_of(module)(
        {Columns.OBS: batch_of(module)[Columns.OBS].numpy()}
    )
    assert values.dtype == np.float32
