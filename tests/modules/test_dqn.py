"""DQN's module: values in every form, their copies, and how it acts."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.dqn import DQNConfig
from tflearner.errors import ConfigError, SpaceError
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.dqn import DQNModelConfig, DQNTfRLModule
from tflearner.spaces.mask_spaces import ACTION_MASK, FORBIDDEN
from tflearner.testing import assert_close, random_transitions

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS, ACT = Box(-1.0, 1.0, (4,), np.float32), Discrete(3)
MASKED = gym.spaces.Dict({ACTION_MASK: gym.spaces.MultiBinary(3), "observations": OBS})
MIXED = gym.spaces.Dict(
    camera=Box(0, 255, (10, 10, 1), np.uint8), place=Discrete(4), arm=OBS
)
KINDS = {
    "dueling": (OBS, {}),
    "plain": (OBS, {"dueling": False}),
    "atoms": (OBS, {"num_atoms": 5, "v_min": -3.0, "v_max": 1.0}),
    "plain atoms": (OBS, {"num_atoms": 5, "dueling": False}),
    "masked": (MASKED, {}),
    "masked atoms": (MASKED, {"num_atoms": 5}),
    "choice": (Discrete(5, start=1), {}),
    "image": (MIXED["camera"], {"conv_filters": [[4, 4, 2]]}),
    "mixed": (MIXED, {"conv_filters": [[4, 4, 2]]}),
    "heads": (OBS, {"head_fcnet_hiddens": [6], "fcnet_use_layernorm": True}),
}


def make(kind="dueling", **kwargs):
    """A module whose weights are all other than at first, with targets of their own."""
    space, settings = KINDS[kind]
    model_config = {"fcnet_hiddens": [8]} | settings | kwargs.pop("model_config", {})
    module = DQNTfRLModule(space, ACT, model_config=model_config, seed=1, **kwargs)
    if not module.inference_only:
        module.make_target_networks()
    rng = np.random.default_rng(0)
    for weight in module.weights:
        weight.assign_add(rng.uniform(-0.5, 0.5, weight.shape).astype(np.float32))
    module.epsilon.assign(0.3)
    return module


@pytest.fixture(params=KINDS, scope="module")
def module(request):
    """A module of each kind in turn; tests leave it as it is."""
    return make(request.param)


def outputs(module, batch, name="forward_train"):
    return {key: np.asarray(x) for key, x in getattr(module, name)(batch).items()}


def softmax(x):
    exp = np.exp(x - x.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


# Values.


def test_what_training_puts_out(module):
    batch = random_transitions(module, 6)
    found, config = outputs(module, batch), module.model_config
    following = {"obs": batch["new_obs"]}
    wanted = {
        "qf_preds": module.compute_q_values(batch)["qf_preds"],
        "qf_next_preds": module.compute_q_values(following)["qf_preds"],
        "qf_target_next_preds": module.forward_target(following)["qf_preds"],
    }
    if config.num_atoms > 1:
        wanted |= {"qf_logits": None, "qf_probs": None, "atoms": None}
        wanted["qf_target_next_probs"] = module.forward_target(following)["qf_probs"]
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if value is not None:
            assert_close(found[name], value, rtol=1e-6)
        assert found[name].dtype == np.float32
    assert (found["qf_next_preds"] != found["qf_target_next_preds"]).any()


@pytest.mark.parametrize("kind", ["dueling", "plain", "atoms", "plain atoms"])
def test_values_are_put_together_as_in_the_papers(kind):
    module = make(kind)
    batch, config = random_transitions(module, 6), module.model_config
    embedding = module.encoder(batch["obs"])
    values = module.af(embedding).numpy().reshape(6, 3, config.num_atoms)
    if config.dueling:
        value = module.vf(embedding).numpy().reshape(6, 1, config.num_atoms)
        values = value + values - values.mean(1, keepdims=True)
    found = outputs(module, batch, "compute_q_values")
    if config.num_atoms == 1:
        assert_close(found["qf_preds"], values[..., 0], rtol=1e-5, atol=1e-6)
        return
    atoms = np.linspace(config.v_min, config.v_max, 5)
    assert_close(found["atoms"], atoms, rtol=1e-6)
    assert_close(found["qf_logits"], values, rtol=1e-5, atol=1e-6)
    assert_close(found["qf_probs"], softmax(values), rtol=1e-5)
    assert_close(found["qf_preds"], softmax(values) @ atoms, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_atoms", [1, 5])
def test_the_value_stream_has_influence(num_atoms):
    module = make(model_config={"num_atoms": num_atoms})
    batch = random_transitions(module, 6)
    before = outputs(module, batch)["qf_preds"]
    for weight in module.vf.weights:
        weight.assign(weight + np.linspace(-1, 1, num_atoms, dtype="f4") + 0.5)
    assert (np.abs(outputs(module, batch)["qf_preds"] - before) > 1e-3).all()


def test_without_double_q_the_network_does_not_see_what_follows():
    module = make(model_config={"double_q": False})
    found = outputs(module, random_transitions(module, 6))
    assert found.keys() == {"qf_preds", "qf_target_next_preds"}


@pytest.mark.parametrize("kind", ["masked", "masked atoms"])
def test_forbidden_actions_have_forbidden_values(kind):
    module = make(kind)
    batch = random_transitions(module, 20)
    mask = batch["obs"][ACTION_MASK].astype(bool)
    mask |= ~mask.any(-1, keepdims=True)
    for name in ("qf_preds", "qf_target_next_preds"):
        rows = (
            mask if name == "qf_preds" else batch["new_obs"][ACTION_MASK].astype(bool)
        )
        rows = rows | ~rows.any(-1, keepdims=True)
        values = outputs(module, batch)[name]
        assert (values[~rows] == FORBIDDEN).all() and (np.abs(values[rows]) < 99).all()


# Acting.


def test_numpy_copies_equal_the_forward_passes(module):
    batch = random_transitions(module, 12)
    for explore, name in ((False, "forward_inference"), (True, "forward_exploration")):
        policy = module.numpy_policy()
        if "image" in str(module.encoder.name) or policy is None:
            assert module.model_config.conv_filters  # Only dense layers have copies.
            continue
        wanted = outputs(module, batch, name)["action_dist_inputs"]
        found = policy(batch["obs"], explore=explore)
        assert found.dtype == wanted.dtype == np.float32
        assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_acting_is_greedy_or_explores(module):
    batch = random_transitions(module, 12)
    q = outputs(module, batch, "compute_q_values")["qf_preds"]
    greedy = outputs(module, batch, "forward_inference")["action_dist_inputs"]
    np.testing.assert_array_equal(greedy, q)
    logits = outputs(module, batch, "forward_exploration")["action_dist_inputs"]
    allowed = q > 0.5 * FORBIDDEN
    wanted = 0.3 * allowed / allowed.sum(-1, keepdims=True)
    wanted[np.arange(12), q.argmax(-1)] += 0.7
    assert_close(np.exp(logits), wanted, rtol=1e-5)


def test_epsilon_is_a_weight_that_is_not_trained():
    module = make()
    assert any(weight is module.epsilon for weight in module.non_trainable_weights)
    other = make()
    module.epsilon.assign(0.125)
    other.set_state(module.get_state())
    assert float(other.epsilon.numpy()) == 0.125


def test_changed_forward_passes_have_no_numpy_copy():
    class Own(DQNTfRLModule):
        def masked(self, q_values, observations):
            return -q_values

    assert Own(OBS, ACT, model_config={"fcnet_hiddens": [4]}).numpy_policy() is None
    assert make("image").numpy_policy() is None


# Target networks.


def test_targets_start_equal_are_never_trained_and_stay(module):
    fresh = DQNTfRLModule(
        module.observation_space, ACT, model_config=module.model_config, seed=1
    )
    fresh.make_target_networks()
    pairs = fresh.get_target_network_pairs()
    assert len(pairs) == (3 if module.model_config.dueling else 2)
    trainable = {id(weight) for weight in fresh.trainable_weights}
    for main, target in pairs:
        assert main.weights and len(main.weights) == len(target.weights)
        for own, copy in zip(main.weights, target.weights):
            np.testing.assert_array_equal(own, copy)
            assert id(own) in trainable and id(copy) not in trainable
    batch = random_transitions(fresh, 5)
    first, target = fresh.compute_q_values(batch), fresh.forward_target(batch)
    for name, value in first.items():
        np.testing.assert_array_equal(value, target[name])
    pairs[0][0].weights[0].assign(pairs[0][0].weights[0] + 1.0)
    np.testing.assert_array_equal(
        fresh.forward_target(batch)["qf_preds"], target["qf_preds"]
    )


def test_modules_for_acting_have_no_targets():
    module, full = make(inference_only=True), make()
    names = module.get_non_inference_attributes()
    assert not any(hasattr(module, name) for name in names)
    module.set_state(full.get_state(inference_only=True))
    batch = random_transitions(full, 5)
    wanted = outputs(full, batch, "forward_inference")["action_dist_inputs"]
    found = outputs(module, batch, "forward_inference")["action_dist_inputs"]
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(RuntimeError, match="inference_only=True"):
        module.forward_train(batch)


# Own models, dtypes, settings.


def residual():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(4, "relu")(inputs))
    return keras.Model(inputs, keras.layers.Add()([inputs, hidden]))


def normalizing():
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Normalization(), keras.layers.Dense(5)]
    )


DEEP = pytest.mark.deep


@pytest.mark.parametrize(
    ("model", "as_object", "soft"),
    [
        (residual, False, True),
        (normalizing, False, False),
        pytest.param(residual, True, True, marks=DEEP),
        pytest.param(residual, True, False, marks=DEEP),
        pytest.param(residual, False, False, marks=DEEP),
        pytest.param(normalizing, False, True, marks=DEEP),
    ],
)
def test_own_keras_models_get_targets_that_follow(model, as_object, soft):
    model = model() if as_object else model
    config = DQNConfig(observation_space=OBS, action_space=ACT)
    config.rl_module(model=model).framework(run_eagerly=True, jit_compile=False)
    config.training(tau=0.5, target_network_update_freq=0 if soft else 5)
    learner = config.debugging(seed=1).build_learner()
    module = learner.module["default_policy"].unwrapped()
    (main, target), *_ = module.get_target_network_pairs()
    assert main is not target
    before = [weight.numpy() for weight in target.weights]
    learner.update(random_transitions(module, 8))
    now = zip(main.weights, target.weights, before, strict=True)
    for own, copy, old in now:
        assert_close(copy, 0.5 * own.numpy() + 0.5 * old, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["dueling", "plain atoms"])
def test_half_precision_puts_out_float32(kind):
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        module = make(kind)
    finally:
        keras.config.set_dtype_policy(before)
    assert "bfloat16" in module.compute_dtypes()
    for value in module.forward_train(random_transitions(module, 6)).values():
        assert value.dtype == tf.float32
    assert module.numpy_policy() is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"use_lstm": True}, "use_lstm or use_gru.*without a state"),
        ({"num_atoms": 0}, "num_atoms.*0"),
        ({"num_atoms": 2.0}, "num_atoms.*2.0"),
        ({"num_atoms": 3, "v_min": 1.0, "v_max": 1.0}, "v_min below v_max"),
        ({"dueing": True}, "'dueing'.*did you mean 'dueling'"),
    ],
)
def test_settings_that_cannot_be(settings, text):
    with pytest.raises(ConfigError, match=text):
        DQNTfRLModule(OBS, ACT, model_config=settings)


def test_actions_have_to_be_discrete():
    with pytest.raises(SpaceError, match="action space of DQN.*Discrete.*SAC"):
        DQNTfRLModule(OBS, Box(-1, 1, (2,)))


def test_settings_of_the_base_class_are_taken_over():
    config = DQNModelConfig.make(DefaultModelConfig(fcnet_hiddens=[3]))
    assert type(config) is DQNModelConfig and config.fcnet_hiddens == [3]
    assert config.dueling
