"""Tests for policies as data: `numpy_policy` and `numpy_forms`."""

import json
import pathlib
import pickle
import subprocess
import sys

import gymnasium as gym
import keras
import numpy as np
import pytest

from tflearner.algorithms.ppo import PPOConfig
from tflearner.columns import Columns
from tflearner.connectors.actions import GetActions
from tflearner.connectors.pipeline import ModuleToEnvPipeline
from tflearner.env.runner_settings import RunnerSettings
from tflearner.env.single_agent_env_runner import SingleAgentEnvRunner
from tflearner.errors import ModuleError
from tflearner.modules import acting, inference
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.dqn import DQNTfRLModule
from tflearner.modules.numpy_policy import NumpyPolicy
from tflearner.modules.sac import SACTfRLModule
from tflearner.networks import numpy_layers
from tflearner.networks.distributions import Categorical
from tflearner.networks.numpy_forms import numpy_form
from tflearner.testing import assert_close

Box, Dict, Discrete = gym.spaces.Box, gym.spaces.Dict, gym.spaces.Discrete
OBS, ACT = Box(-1.0, 1.0, (4,), np.float32), Discrete(3)
MASKED = Dict(observations=OBS, action_mask=Box(0, 1, (3,), np.int8))
layers = keras.layers


def functional():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, "relu")
    twice = shared(shared(inputs))
    sides = layers.Concatenate()([inputs, twice, layers.Dense(2, "elu")(inputs)])
    return keras.Model(inputs, layers.Dense(3, "silu")(sides))


def normalized():
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3.0, 2.0, (50, 4)))
    return keras.Sequential([layer, layers.Dense(3)])


def nested_functional():
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(3)(functional()(inputs)))


OWN_MODELS = {
    "functional in functional": nested_functional,
    "dense": lambda: layers.Dense(3, use_bias=False),
    "sequential": lambda: keras.Sequential(
        [layers.Rescaling(0.5, 1.0), layers.Dense(5, "relu"), layers.Dense(3)]
    ),
    "layer norm": lambda: keras.Sequential(
        [layers.Dense(5), layers.LayerNormalization(epsilon=1e-5), layers.Dense(3)]
    ),
    "layer norm, plain": lambda: keras.Sequential(
        [layers.LayerNormalization(center=False, scale=False), layers.Dense(3)]
    ),
    "activation layers": lambda: keras.Sequential(
        [
            *[layers.ReLU(), layers.Dense(4), layers.LeakyReLU(0.1), layers.ELU()],
            *[layers.Activation("softplus"), layers.Dropout(0.5), layers.Softmax()],
        ]
    ),
    "nested": lambda: keras.Sequential([functional(), layers.Flatten()]),
    "functional": functional,
    "normalization": normalized,
}
TF_ONLY = {
    "no NumPy form": lambda: keras.Sequential([layers.UnitNormalization()]),
    "gelu": lambda: layers.Dense(3, "gelu"),
    "own layer": lambda: Doubled(3),
    "called in training": lambda: active_dropout(),
    "changed on the object": lambda: patched(),
}


class Doubled(layers.Dense):
    def call(self, inputs, training=None):
        return 2.0 * super().call(inputs)


def active_dropout():
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dropout(0.5)(inputs, training=True))


def patched():
    """Has the type of a model with a NumPy form, and computes something else."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    call = model.call
    model.call = lambda *args, **kwargs: 1.5 * call(*args, **kwargs)
    return model


def make(model=None, cls=PPOTfRLModule, space=OBS, **settings):
    config = {"fcnet_hiddens": (8,)} | settings
    if model is not None:
        config["model"] = model
    return cls(space, ACT, model_config=config, seed=0)


def rows(module, num=12):
    space = module.observation_space
    space.seed(1)
    samples = [space.sample() for _ in range(num)]
    empty = gym.vector.utils.create_empty_array(space, num)
    return gym.vector.utils.concatenate(space, samples, empty)


@pytest.mark.parametrize("name", OWN_MODELS)
def test_own_models_act_in_numpy(name):
    module = make(OWN_MODELS[name])
    assert isinstance(module.make_actor(), acting.NumpyActor)
    observations = rows(module)
    want = module.forward_inference({Columns.OBS: observations})
    got = module.numpy_policy()(observations)
    assert_close(got, want[Columns.ACTION_DIST_INPUTS], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TF_ONLY)
def test_other_models_act_through_tensorflow(name):
    module = make(TF_ONLY[name])
    assert module.numpy_policy() is None
    assert isinstance(module.make_actor(), inference.TracedActor)


def test_every_activation_equals_keras():
    x = np.linspace(-8, 8, 101, dtype=np.float32)[None]
    assert set(numpy_layers.ACTIVATIONS) <= set(dir(keras.activations))
    for name, function in numpy_layers.ACTIVATIONS.items():
        want = getattr(keras.activations, name)(x)
        assert_close(function(x), np.asarray(want), rtol=1e-5, atol=1e-6)


def test_models_of_several_outputs_have_no_numpy_form():
    inputs = keras.Input((4,))
    outputs = [layers.Dense(2)(inputs), layers.Dense(2)(inputs)]
    assert numpy_form(keras.Model(inputs, outputs)) is None
    assert numpy_form(keras.Model(inputs, outputs[:1])) is not None


def test_layers_without_weights_yet_have_no_numpy_form():
    assert numpy_form(layers.Dense(3)) is None


POLICIES = {
    "dense": lambda: make(),
    "lstm": lambda: make(use_lstm=True, vf_share_layers=False),
    "gru": lambda: make(use_gru=True),
    "layer norm": lambda: make(fcnet_use_layernorm=True),
    "masked": lambda: make(space=MASKED),
    "dqn": lambda: make(cls=DQNTfRLModule, num_atoms=5),
    "dqn, masked": lambda: make(cls=DQNTfRLModule, space=MASKED),
    "sac": lambda: SACTfRLModule(OBS, Box(-1.0, 1.0, (2,), np.float32), seed=0),
    "own model": lambda: make(functional),
}


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_data(name):
    module = POLICIES[name]()
    policy = pickle.loads(pickle.dumps(module.numpy_policy()))
    batch = {Columns.OBS: rows(module)}
    if policy.is_stateful():
        state = keras.tree.map_structure(
            lambda x: np.repeat(x[None], 12, 0), policy.get_initial_state()
        )
        batch[Columns.STATE_IN] = state
    for explore in (False, True):
        actor = module.make_actor()
        want = actor(batch, explore=explore, rng=np.random.default_rng(0))
        got = policy.make_actor()(batch, explore=explore, rng=np.random.default_rng(0))
        keras.tree.map_structure(np.testing.assert_array_equal, got, want)
    dist, inputs = policy.exploration_dist, got[Columns.ACTION_DIST_INPUTS]
    actions = dist.sample_np(inputs, np.random.default_rng(1))
    dist_class = module.get_exploration_action_dist_cls()
    want = dist_class.sample_np(inputs, np.random.default_rng(1))
    np.testing.assert_array_equal(actions, want)


def test_a_default_policy_pickles_small():
    policy = make(fcnet_hiddens=(64, 64)).numpy_policy()
    assert len(pickle.dumps(policy)) < 25_000


def test_weights_travel_alone():
    first, second = (
        make(),
        PPOTfRLModule(OBS, ACT, model_config={"fcnet_hiddens": (8,)}, seed=1),
    )
    policy, other = first.numpy_policy(), second.numpy_policy()
    observations = rows(first)
    assert (policy(observations) != other(observations)).any()
    policy.set_state(other.get_state())
    np.testing.assert_array_equal(policy(observations), other(observations))


def test_weights_of_another_network_are_refused():
    policy, observations = make().numpy_policy(), rows(make())
    before = policy(observations)
    wider = make(fcnet_hiddens=(9,)).numpy_policy().get_state()
    for state in (wider, {}, policy.get_state() | {"more": np.zeros(1)}):
        with pytest.raises(ModuleError, match="weights of shapes"):
            policy.set_state(state)
        np.testing.assert_array_equal(policy(observations), before)


class Tempered(Categorical):
    @classmethod
    def sample_np(cls, inputs, rng):
        return super().sample_np(2.0 * inputs, rng)


class Own(PPOTfRLModule):
    def get_exploration_action_dist_cls(self):
        return Tempered


def test_a_changed_distribution_stays_with_the_module():
    module = Own(OBS, ACT, model_config={"fcnet_hiddens": (8,)})
    policy = module.numpy_policy()
    assert policy.exploration_dist is None and policy.inference_dist is not None


class OnlyTheLast(GetActions):
    """Forbids all actions but the last."""

    def __call__(self, *, batch, **kwargs):
        batch[Columns.ACTION_DIST_INPUTS] = np.array([[-1e9, 0.0]], np.float32)
        return super().__call__(batch=batch, **kwargs)


@pytest.mark.parametrize("policy", ["NumPy", "traced"])
def test_an_own_subclass_of_get_actions_draws_the_actions(policy):
    config = PPOConfig().environment("CartPole-v1")
    config.env_runners(num_envs_per_env_runner=1).debugging(seed=3)
    algo = config.build_algo()
    module, settings = algo.get_module(), RunnerSettings.of(config)
    if policy == "traced":
        module.make_actor = lambda draws: inference.TracedActor(module, draws=draws)
    to_env = ModuleToEnvPipeline([OnlyTheLast()])
    runner = SingleAgentEnvRunner(config=settings, module=module, module_to_env=to_env)
    episodes = runner.sample(num_timesteps=20)
    runner.stop()
    algo.stop()
    assert all((episode.get_actions() == 1).all() for episode in episodes)


PROGRAM = """
import json, pickle, sys, time
started = time.perf_counter()
with open(sys.argv[1], "rb") as file:
    settings, to_env, policies, batch = pickle.load(file)
from tflearner.env.single_agent_env_runner import SingleAgentEnvRunner
runner = SingleAgentEnvRunner(
    config=settings, module=policies["dense"], module_to_env=to_env
)
episodes = runner.sample(num_timesteps=1_000)
seconds = time.perf_counter() - started
runner.stop()
inputs = {
    name: policy.forward(batch[name], explore=True)["action_dist_inputs"].tolist()
    for name, policy in policies.items()
}
with open("/proc/self/statm") as file:
    megabytes = int(file.read().split()[1]) * 4096 / 2**20
print(json.dumps({
    "tensorflow": sorted({"tensorflow", "keras"} & {*sys.modules}),
    "steps": sum(map(len, episodes)), "inputs": inputs,
    "megabytes": megabytes, "seconds": seconds,
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_without_tensorflow_samples(tmp_path):
    config = PPOConfig().environment("CartPole-v1").debugging(seed=3)
    env = gym.make("CartPole-v1")
    spaces = env.observation_space, env.action_space
    env.close()
    modules = {name: make_policy() for name, make_policy in POLICIES.items()}
    modules["dense"] = PPOTfRLModule(*spaces, model_config={}, seed=0)
    batches, want = {}, {}
    for name, module in modules.items():
        batch = {Columns.OBS: rows(module, 4)}
        if module.is_stateful():
            batch[Columns.STATE_IN] = keras.tree.map_structure(
                lambda x: np.repeat(x[None], 4, 0), module.get_initial_state()
            )
        batches[name] = batch
        tensors = acting.with_time_axis(batch) if module.is_stateful() else batch
        outputs = module.forward_exploration(tensors)
        if module.is_stateful():
            outputs = acting.without_time_axis(outputs)
        want[name] = np.asarray(outputs[Columns.ACTION_DIST_INPUTS])
    policies = {name: module.numpy_policy() for name, module in modules.items()}
    to_env = config.build_module_to_env_connector(*spaces)
    path = tmp_path / "actor.pkl"
    path.write_bytes(
        pickle.dumps((RunnerSettings.of(config), to_env, policies, batches))
    )
    root = pathlib.Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM, str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, cwd=root
    )
    found = json.loads(done.stdout)
    assert found["tensorflow"] == [] and found["steps"] == 1_000
    assert found["megabytes"] < 160
    for name in policies:
        assert_close(
            np.float32(found["inputs"][name]), want[name], rtol=1e-5, atol=1e-5
        )


def test_what_acts_without_tensorflow_is_a_numpy_policy():
    assert isinstance(make().numpy_policy(), NumpyPolicy)
