"""SAC's module: a policy, critics and their copies."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.sac import SACConfig
from tflearner.columns import Columns
from tflearner.errors import ConfigError, SpaceError
from tflearner.modules.sac import SACModelConfig, SACTfRLModule
from tflearner.networks.distributions import Categorical
from tflearner.networks.squashed_gaussian import SquashedGaussian
from tflearner.spaces.mask_spaces import ACTION_MASK, FORBIDDEN
from tflearner.testing import assert_close, random_transitions

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS, BOX, ACT = Box(-1.0, 1.0, (4,), np.float32), Box(-2.0, 2.0, (2,)), Discrete(3)
MASKED = gym.spaces.Dict({ACTION_MASK: gym.spaces.MultiBinary(3), "observations": OBS})
MIXED = gym.spaces.Dict(
    camera=Box(0, 255, (10, 10, 1), np.uint8), place=Discrete(4), arm=OBS
)
CONVOLUTIONS = {"conv_filters": [[4, 4, 2]]}
KINDS = {
    "box": (OBS, BOX, {}),
    "box of rank 2": (OBS, Box(-1.0, 1.0, (2, 2), np.float32), {}),
    "one critic": (OBS, BOX, {"twin_q": False}),
    "image": (MIXED["camera"], BOX, CONVOLUTIONS),
    "mixed": (MIXED, BOX, CONVOLUTIONS),
    "discrete": (OBS, ACT, {}),
    "one discrete critic": (OBS, ACT, {"twin_q": False}),
    "masked": (MASKED, ACT, {}),
    "mixed discrete": (MIXED, ACT, CONVOLUTIONS),
}


def make(kind="box", **kwargs):
    """A module whose weights are all other than at first, with targets of their own."""
    observations, actions, settings = KINDS[kind]
    model_config = {"fcnet_hiddens": [8]} | settings
    module = SACTfRLModule(
        observations, actions, model_config=model_config, seed=1, **kwargs
    )
    if not module.inference_only:
        module.make_target_networks()
    rng = np.random.default_rng(0)
    for weight in module.weights:
        weight.assign_add(rng.uniform(-0.3, 0.3, weight.shape).astype(np.float32))
    return module


PLAIN = ("box", "one critic", "mixed", "discrete", "masked")
PARAMS = [pytest.param(k, marks=[pytest.mark.deep] * (k not in PLAIN)) for k in KINDS]


@pytest.fixture(params=PARAMS, scope="module")
def module(request):
    """A module of each kind in turn; tests leave it as it is."""
    return make(request.param)


def batch_of(module, num_rows=6):
    batch = random_transitions(module, num_rows)
    space, rng = module.action_space, np.random.default_rng(0)
    if isinstance(space, Box):
        size = int(np.prod(space.shape))
        batch["actions"] = rng.uniform(-1, 1, (num_rows, *space.shape)).astype("f4")
        for name in (Columns.NOISE, Columns.NEXT_NOISE):
            batch[name] = rng.standard_normal((num_rows, size), np.float32)
    return batch


def q_of(module, obs, actions=None):
    return module.compute_q_values({"obs": obs, "actions": actions})["qf_preds"]


def test_what_training_puts_out(module):
    batch = batch_of(module)
    found = module.forward_train(batch)
    inputs = found.pop("action_dist_inputs")
    assert_close(inputs, module.forward_inference(batch)["action_dist_inputs"])
    critics = {n: found.pop(n) for n in ("qf_preds", "qf_twin_preds") if n in found}
    assert ("qf_twin_preds" in critics) == module.model_config.twin_q
    least = np.min([np.asarray(x) for x in critics.values()], axis=0)
    assert_close(least, q_of(module, batch["obs"], batch["actions"]), rtol=1e-6)
    if len(critics) == 2:
        assert (critics["qf_preds"] != critics["qf_twin_preds"]).numpy().any()
    following = {"obs": batch["new_obs"]}
    next_inputs = module.forward_inference(following)["action_dist_inputs"]
    if isinstance(module.action_space, Box):
        drawn, logp = SquashedGaussian.from_logits(inputs).rsample_and_logp(
            batch["noise"]
        )
        next_drawn, next_logp = SquashedGaussian.from_logits(
            next_inputs
        ).rsample_and_logp(batch["next_noise"])
        following["actions"] = next_drawn
        wanted = {
            "logp_resampled": logp,
            "logp_next_resampled": next_logp,
            "q_curr": q_of(module, batch["obs"], drawn),
        }
    else:
        wanted = {
            "action_log_probs": tf.nn.log_softmax(inputs),
            "action_log_probs_next": tf.nn.log_softmax(next_inputs),
        }
    wanted["q_target_next"] = module.forward_target(following)["qf_preds"]
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert_close(found[name], value, rtol=1e-5, atol=1e-6)
        assert found[name].dtype == tf.float32
    online = q_of(module, batch["new_obs"], following.get("actions"))
    assert (np.asarray(wanted["q_target_next"]) != np.asarray(online)).any()


def test_numpy_copies_equal_the_forward_passes(module):
    batch = batch_of(module, 12)
    policy = module.numpy_policy()
    if policy is None:
        assert module.model_config.conv_filters  # Only dense layers have copies.
        return
    for name in ("forward_inference", "forward_exploration"):
        wanted = getattr(module, name)(batch)["action_dist_inputs"].numpy()
        found = policy(batch["obs"])
        assert found.dtype == wanted.dtype == np.float32
        assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_actions_are_those_of_the_space(module):
    is_box = isinstance(module.action_space, Box)
    dist_class = module.get_exploration_action_dist_cls()
    assert dist_class is (SquashedGaussian if is_box else Categorical)
    inputs = module.forward_exploration(batch_of(module, 50))["action_dist_inputs"]
    drawn = dist_class.from_logits(inputs).sample(seed=[1, 2]).numpy()
    if is_box:
        assert np.abs(drawn).max() <= 1.0
        assert drawn[0].size == np.prod(module.action_space.shape)
        log_std = np.split(inputs.numpy(), 2, -1)[1]
        assert log_std.min() >= -5.0 and log_std.max() <= 2.0
    else:
        assert set(drawn) <= {0, 1, 2}


def test_forbidden_actions_have_no_probability_and_no_value():
    module = make("masked")
    batch = batch_of(module, 20)
    mask = batch["obs"][ACTION_MASK].astype(bool)
    mask |= ~mask.any(-1, keepdims=True)
    found = module.forward_train(batch)
    for name in ("action_dist_inputs", "qf_preds", "qf_twin_preds"):
        assert (found[name].numpy()[~mask] == FORBIDDEN).all(), name
    assert (np.exp(found["action_log_probs"])[~mask] == 0.0).all()


def test_targets_start_equal_and_are_never_trained(module):
    fresh = SACTfRLModule(
        module.observation_space,
        module.action_space,
        model_config=module.model_config,
        seed=1,
    )
    fresh.make_target_networks()
    pairs = fresh.get_target_network_pairs()
    assert len(pairs) == (4 if module.model_config.twin_q else 2)
    trainable = {id(weight) for weight in fresh.trainable_weights}
    for main, target in pairs:
        assert len(main.weights) == len(target.weights)
        for own, copy in zip(main.weights, target.weights):
            np.testing.assert_array_equal(own, copy)
            assert id(own) in trainable and id(copy) not in trainable
    batch = batch_of(fresh)
    np.testing.assert_array_equal(
        fresh.forward_target(batch)["qf_preds"],
        q_of(fresh, batch["obs"], batch["actions"]),
    )


def test_networks_share_no_weights(module):
    ids = [id(weight) for weight in module.weights]
    assert len(set(ids)) == len(ids)
    names = ("pi_encoder", "pi", "qf_encoder", "qf", "qf_twin_encoder", "qf_twin")
    parts = [getattr(module, name) for name in names]
    owned = [id(w) for part in parts if part is not None for w in part.weights]
    assert len(set(owned)) == len(owned)
    assert set(owned) == {id(weight) for weight in module.trainable_weights}


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_modules_for_acting_have_a_policy_alone(kind):
    module, full = make(kind, inference_only=True), make(kind)
    for name in module.get_non_inference_attributes():
        assert getattr(module, name, None) is None, name
    module.set_state(full.get_state(inference_only=True))
    batch = batch_of(full)
    np.testing.assert_array_equal(
        module.forward_inference(batch)["action_dist_inputs"],
        full.forward_inference(batch)["action_dist_inputs"],
    )
    assert len(module.weights) == 4


def dense():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, "relu")])


@pytest.mark.parametrize("actions", [BOX, ACT], ids=["box", "discrete"])
def test_a_function_makes_a_model_for_each_network(actions):
    config = SACConfig(observation_space=OBS, action_space=actions)
    config.rl_module(model=dense).framework(run_eagerly=True, jit_compile=False)
    config.training(tau=0.5).debugging(seed=1)
    learner = config.build_learner()
    module = learner.module["default_policy"].unwrapped()
    pairs = module.get_target_network_pairs()
    before = [w.numpy() for _, target in pairs for w in target.weights]
    learner.update(random_transitions(module, 8))
    mains = [w.numpy() for main, _ in pairs for w in main.weights]
    targets = [w.numpy() for _, target in pairs for w in target.weights]
    for own, copy, old in zip(mains, targets, before, strict=True):
        assert_close(copy, 0.5 * own + 0.5 * old, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("actions", [BOX, ACT], ids=["box", "discrete"])
def test_one_model_for_all_networks_is_refused(actions):
    text = "one Keras model for policy and critics.*a function returning a new model"
    with pytest.raises(ConfigError, match=text):
        SACTfRLModule(OBS, actions, model_config={"model": dense()})


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_half_precision_puts_out_float32(kind):
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        module = make(kind)
    finally:
        keras.config.set_dtype_policy(before)
    assert "bfloat16" in module.compute_dtypes()
    for value in module.forward_train(batch_of(module)).values():
        assert value.dtype == tf.float32
    assert module.numpy_policy() is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"use_gru": True}, "use_lstm or use_gru.*without a state"),
        ({"free_log_std": True}, "free_log_std.*log_std_bounds alone"),
        ({"log_std_bounds": (1, 1)}, "log_std_bounds.*two finite numbers"),
        ({"log_std_bounds": 3}, "log_std_bounds.*two finite numbers"),
        ({"twin": True}, "'twin'.*did you mean 'twin_q'"),
    ],
)
def test_settings_that_cannot_be(settings, text):
    with pytest.raises(ConfigError, match=text):
        SACTfRLModule(OBS, BOX, model_config=settings)


def test_relu_is_the_default():
    assert SACModelConfig.make(None).fcnet_activation == "relu"


def test_unbounded_actions_are_refused():
    with pytest.raises(SpaceError, match="Box with finite bounds"):
        SACTfRLModule(OBS, Box(-np.inf, np.inf, (1,)))
