"""DQN: its settings, its exploration, its learner."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

import tflearner as tfl
from tflearner.errors import ConfigError, ScheduleError, SpaceError
from tflearner.spaces.mask_spaces import ACTION_MASK
from tflearner.testing import CountingEnv, assert_close, random_transitions

OBS = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
ACTIONS = gym.spaces.Discrete(3)
ME = tfl.DEFAULT_MODULE_ID
TINY = {
    "rollout_fragment_length": 4,
    "num_envs_per_env_runner": 2,
    "train_batch_size_per_learner": 8,
    "num_steps_sampled_before_learning_starts": 8,
    "min_sample_timesteps_per_iteration": 8,
    "training_intensity": None,
    "replay_buffer_config": {"capacity": 500},
    "model_config": {"fcnet_hiddens": [4]},
    "run_eagerly": True,
    "jit_compile": False,
    "seed": 1,
}


@pytest.fixture
def make_algo(owned):
    """Returns a function that makes tiny algorithms."""
    return lambda env=CountingEnv, **settings: owned(tfl.DQN(env, **TINY | settings))


def make_learner(spaces=(OBS, ACTIONS), **settings):
    config = tfl.DQNConfig(observation_space=spaces[0], action_space=spaces[1])
    defaults = {"run_eagerly": True, "jit_compile": False, "seed": 1}
    defaults |= {"model_config": {"fcnet_hiddens": [8]}}
    return config.update_from_dict(defaults | settings).build_learner()


# Settings.


def test_defaults_are_those_of_rllib():
    config = tfl.DQNConfig()
    defaults = {
        "lr": 5e-4,
        "gamma": 0.99,
        "grad_clip": 40.0,
        "grad_clip_by": "global_norm",
        "train_batch_size_per_learner": 32,
        "target_network_update_freq": 500,
        "num_steps_sampled_before_learning_starts": 1000,
        "min_sample_timesteps_per_iteration": 1000,
        "tau": 1.0,
        "n_step": 1,
        "double_q": True,
        "dueling": True,
        "num_atoms": 1,
        "v_min": -10.0,
        "v_max": 10.0,
        "td_error_loss_fn": "huber",
        "epsilon": [[0, 1.0], [10_000, 0.05]],
        "replay_buffer_config": {
            "type": "PrioritizedEpisodeReplayBuffer",
            "capacity": 50_000,
            "alpha": 0.6,
            "beta": 0.4,
        },
    }
    assert {name: getattr(config, name) for name in defaults} == defaults
    # As many gradient steps as environment steps.
    assert config.training_intensity == config.train_batch_size_per_learner


@pytest.mark.parametrize(
    ("setting", "error", "text"),
    [
        ({"epsilon": 1.5}, ConfigError, r"epsilon.*1.5.*probabilities in \[0, 1\]"),
        ({"epsilon": -0.1}, ConfigError, "epsilon.*-0.1"),
        ({"epsilon": [[0, 1.0], [10, 2.0]]}, ConfigError, "epsilon.*probabilities"),
        ({"epsilon": [[9, 1.0], [0, 0.1]]}, ScheduleError, "epsilon"),
        ({"epsilon": None}, (ConfigError, ScheduleError), "epsilon"),
        ({"lr": -1.0}, ConfigError, "lr"),
        ({"double_q": 1}, ConfigError, "double_q.*1.*a bool"),
        ({"dueling": "yes"}, ConfigError, "dueling.*'yes'.*a bool"),
        ({"num_atoms": 0}, ConfigError, "num_atoms.*>= 1"),
        ({"num_atoms": 51.0}, ConfigError, "num_atoms.*51.0"),
        ({"num_atoms": 5, "v_min": 3, "v_max": 3}, ConfigError, "v_min below v_max"),
        ({"v_min": "low"}, ConfigError, "v_min.*'low'"),
        ({"v_max": float("inf")}, ConfigError, "v_max.*inf.*finite"),
        ({"num_atoms": 2, "v_min": -3e38, "v_max": 3e38}, ConfigError, "by 3.4e"),
        ({"td_error_loss_fn": "l1"}, ConfigError, "td_error_loss_fn.*'huber' or 'mse'"),
    ],
)
def test_settings_that_cannot_be(setting, error, text):
    with pytest.raises(error, match=text):
        tfl.DQNConfig().update_from_dict(setting).validate()


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(-1.0, 1.0, (2,), np.float32),
        gym.spaces.MultiDiscrete([2, 2]),
        gym.spaces.Dict(a=gym.spaces.Discrete(2)),
    ],
    ids=lambda space: type(space).__name__,
)
def test_actions_that_cannot_be_listed_are_refused(make_algo, space):
    class Env(CountingEnv):
        action_space = space

    text = f"action space of DQN: got {type(space).__name__}.*want Discrete.*SAC"
    with pytest.raises(SpaceError, match=text):
        make_algo(Env)


@pytest.mark.parametrize(
    "model",
    [{"num_atoms": 5}, {"dueling": False}, {"double_q": False}, {"v_min": -1.0}],
)
def test_a_module_has_to_be_what_the_learner_takes_it_for(model):
    (name,) = model
    config = tfl.DQNModelConfig(fcnet_hiddens=[4], **model)
    with pytest.raises(ConfigError, match=rf"{name}=.* and, for the module, {name}="):
        make_learner(model_config=config)
    learner = make_learner(model_config=config, **model)
    assert learner.module[ME].unwrapped().model_config == config


@pytest.mark.parametrize("kind", [dict, tfl.DefaultModelConfig])
def test_settings_reach_the_module(kind):
    settings = {"num_atoms": 3, "v_min": -1.0, "v_max": 1.0, "dueling": False}
    learner = make_learner(model_config=kind(fcnet_hiddens=[4]), **settings)
    module = learner.module[ME].unwrapped()
    own = {name: getattr(module.model_config, name) for name in settings}
    assert own == settings and module.vf is None


# Exploring.


def test_epsilon_moves_with_sampled_steps_and_is_reported(make_algo):
    algo = make_algo(epsilon=[[0, 1.0], [32, 0.0]])
    values = []
    for _ in range(6):
        result = algo.train()
        values.append(result["learners"][ME]["curr_epsilon"])
        assert float(algo.get_module().epsilon.numpy()) == pytest.approx(values[-1])
    assert values == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0, 0.0])


def test_epsilon_decides_how_many_actions_are_random(make_algo):
    shares = []
    for epsilon in (0.0, 0.5, 1.0):
        algo = make_algo(
            "CartPole-v1",
            epsilon=epsilon,
            num_steps_sampled_before_learning_starts=10**6,
            min_sample_timesteps_per_iteration=400,
        )
        algo.train()
        batch = algo.replay_buffer.sample(800)
        q = algo.get_module().compute_q_values(batch)["qf_preds"].numpy()
        shares.append((q.argmax(-1) == batch["actions"]).mean())
    assert shares == pytest.approx([1.0, 0.75, 0.5], abs=0.06)


def test_evaluation_is_greedy(make_algo):
    algo = make_algo("CartPole-v1", epsilon=1.0)
    first, second = algo.evaluate(2), make_algo("CartPole-v1", epsilon=0.0).evaluate(2)
    assert first == second


def test_an_own_module_may_explore_in_another_way(make_algo):
    class Bold(tfl.TfRLModule, tfl.QNetAPI, tfl.TargetNetworkAPI):
        def setup(self):
            self.dense = keras.layers.Dense(3)
            self.target = keras.layers.Dense(3)

        def make_target_networks(self):
            self.target(self.example_batch(1)["obs"])
            for new, own in zip(self.dense.weights, self.target.weights):
                own.assign(new)
            self.target.trainable = False

        def get_target_network_pairs(self):
            return [(self.dense, self.target)]

        def compute_q_values(self, batch):
            return {"qf_preds": self.dense(batch["obs"])}

        def forward_target(self, batch):
            return {"qf_preds": self.target(batch["obs"])}

        def _forward(self, batch, **kwargs):
            return {"action_dist_inputs": self.compute_q_values(batch)["qf_preds"]}

        def _forward_train(self, batch, **kwargs):
            outputs = self.compute_q_values(batch)
            if "new_obs" in batch:
                following = {"obs": batch["new_obs"]}
                target = self.forward_target(following)
                outputs["qf_target_next_preds"] = target["qf_preds"]
            return outputs

    spec = tfl.RLModuleSpec(module_class=Bold)
    algo = make_algo(rl_module_spec=spec, model_config=None)
    for _ in range(2):
        result = algo.train()
    assert "curr_epsilon" not in result["learners"][ME]
    assert result["learners"][ME]["qf_loss"] > 0.0


# Learning.


def loss_by_hand(module, batch, gamma, double_q, loss):
    """Eq. (1) of van Hasselt et al., weighted; a loop over rows, slow on purpose."""
    q = module.compute_q_values(batch)["qf_preds"].numpy()
    following = {"obs": batch["new_obs"]}
    q_next = module.compute_q_values(following)["qf_preds"].numpy()
    q_target = module.forward_target(following)["qf_preds"].numpy()
    total = 0.0
    for i, action in enumerate(batch["actions"]):
        best = np.argmax(q_next[i] if double_q else q_target[i])
        target = batch["rewards"][i]
        if not batch["terminateds"][i]:
            target += gamma ** batch["n_step"][i] * q_target[i, best]
        error = abs(q[i, action] - target)
        if loss == "mse":
            cost = error**2
        else:
            cost = 0.5 * error**2 if error <= 1.0 else error - 0.5
        total += batch["weights"][i] * cost / len(q)
    return total


@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize("loss", ["huber", "mse"])
@pytest.mark.parametrize("dueling", [True, False])
def test_loss_is_the_one_of_the_settings(double_q, loss, dueling):
    learner = make_learner(
        double_q=double_q,
        td_error_loss_fn=loss,
        dueling=dueling,
        gamma=0.9,
        target_network_update_freq=10**9,
    )
    module = learner.module[ME].unwrapped()
    for main, _ in module.get_target_network_pairs():
        for weight in main.weights:
            weight.assign(tf.random.stateless_normal(weight.shape, [1, 2]))
    batch = random_transitions(module, 20)
    wanted = loss_by_hand(module, batch, 0.9, double_q, loss)
    own = learner.update(batch)[ME]
    assert own["total_loss"] == own["qf_loss"] == pytest.approx(wanted, rel=1e-5)
    errors = learner.row_outputs[ME, "td_error"]
    assert own["td_error_mean"] == pytest.approx(errors.mean(), rel=1e-5)
    assert own["qf_min"] <= own["qf_mean"] <= own["qf_max"]
    other = loss_by_hand(module, batch, 0.9, not double_q, loss)
    assert other != pytest.approx(wanted, rel=1e-3)  # The batch tells them apart.


def test_a_distributions_error_is_its_cross_entropy():
    learner = make_learner(num_atoms=5, v_min=-2.0, v_max=2.0, gamma=0.0)
    module = learner.module[ME].unwrapped()
    batch = random_transitions(module, 8)
    batch["rewards"] = np.float32([-2, -1, 0, 1, 2, 9, -9, 0])  # On the atoms.
    logits = module.compute_q_values(batch)["qf_logits"].numpy()
    rows, atoms = np.arange(8), np.int32([0, 1, 2, 3, 4, 4, 0, 2])
    chosen = logits[rows, batch["actions"]]
    wanted = np.log(np.exp(chosen).sum(-1)) - chosen[rows, atoms]
    learner.update(batch)
    assert_close(learner.row_outputs[ME, "td_error"][0], wanted, rtol=1e-5)


def test_only_networks_are_trained_not_targets_or_epsilon():
    learner = make_learner(target_network_update_freq=10**9, lr=0.01)
    module = learner.module[ME].unwrapped()
    trained = {id(weight) for weight in module.trainable_weights}
    before = {weight.path: weight.numpy() for weight in module.weights}
    learner.update(random_transitions(module, 20))
    for weight in module.weights:
        changed = (weight.numpy() != before[weight.path]).any()
        assert changed == (id(weight) in trained), weight.path
    assert len(trained) == 6 and len(before) == 13


@pytest.mark.parametrize("num_atoms", [1, 5])
def test_forbidden_next_actions_are_never_bootstrapped_from(num_atoms):
    space = gym.spaces.Dict(
        {ACTION_MASK: gym.spaces.MultiBinary(3), "observations": OBS}
    )
    learner = make_learner((space, ACTIONS), num_atoms=num_atoms, lr=0.0)
    module = learner.module[ME].unwrapped()
    batch = random_transitions(module, 30)
    for column in ("obs", "new_obs"):
        batch[column][ACTION_MASK][:, 1] = 1
    rows = np.arange(30)
    batch["obs"][ACTION_MASK][rows, batch["actions"]] = 1
    own = learner.update(batch)[ME]
    assert np.isfinite(own["total_loss"]) and abs(own["qf_mean"]) < 100.0
    assert learner.row_outputs[ME, "td_error"].max() < 100.0
