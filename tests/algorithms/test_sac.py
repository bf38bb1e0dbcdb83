"""SAC: its settings, three optimizers, and who moves whom."""

import itertools
import math

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

import tflearner as tfl
from tflearner.columns import Columns
from tflearner.engine import optimizers
from tflearner.errors import ConfigError, ScheduleError, SpaceError
from tflearner.losses import sac
from tflearner.networks.squashed_gaussian import SquashedGaussian
from tflearner.spaces.mask_spaces import ACTION_MASK
from tflearner.testing import CountingEnv, assert_close, random_transitions

OBS = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
BOX, DISCRETE = gym.spaces.Box(-2.0, 2.0, (2,), np.float32), gym.spaces.Discrete(3)
ME = tfl.DEFAULT_MODULE_ID
RATE = 0.1


def make_learner(actions=BOX, observations=OBS, **settings):
    config = tfl.SACConfig(observation_space=observations, action_space=actions)
    defaults = {"run_eagerly": True, "jit_compile": False, "seed": 1}
    defaults |= {"model_config": {"fcnet_hiddens": [8]}}
    return config.update_from_dict(defaults | settings).build_learner()


@pytest.fixture
def sgd(monkeypatch):
    """Lets all optimizers step by the gradient itself."""
    make = lambda params, scales_loss: keras.optimizers.SGD(RATE)
    monkeypatch.setattr(optimizers, "new_adam", make)


def module_of(learner):
    return learner.module[ME].unwrapped()


def batch_of(learner, num_rows=20, seed=0):
    """Transitions; continuous ones with noise, and actions that reach all of [-1, 1]."""
    batch = random_transitions(learner.module[ME], num_rows, seed=seed)
    if isinstance(module_of(learner).action_space, gym.spaces.Box):
        rng = np.random.default_rng(seed)
        batch["actions"] = rng.uniform(-1, 1, (num_rows, 2)).astype(np.float32)
        for name in (Columns.NOISE, Columns.NEXT_NOISE):
            batch[name] = rng.standard_normal((num_rows, 2), np.float32)
    return batch


def groups(learner):
    """What each optimizer steps: name -> variables."""
    module = module_of(learner)
    critics = ("qf_encoder", "qf", "qf_twin_encoder", "qf_twin")
    parts = [getattr(module, name) for name in critics]
    return {
        "policy": [*module.pi_encoder.weights, *module.pi.weights],
        "qf": [weight for part in parts if part is not None for weight in part.weights],
        "alpha": [learner.curr_log_alpha[ME]],
    }


def values(variables):
    return [variable.numpy() for variable in variables]


# Settings.


def test_defaults_are_those_of_rllib():
    config = tfl.SACConfig()
    defaults = {
        "lr": None,
        "actor_lr": 3e-5,
        "critic_lr": 3e-4,
        "alpha_lr": 3e-4,
        "gamma": 0.99,
        "grad_clip": None,
        "train_batch_size_per_learner": 256,
        "target_network_update_freq": 0,
        "num_steps_sampled_before_learning_starts": 1500,
        "tau": 5e-3,
        "n_step": 1,
        "twin_q": True,
        "initial_alpha": 1.0,
        "target_entropy": "auto",
        "replay_buffer_config": {
            "type": "PrioritizedEpisodeReplayBuffer",
            "capacity": 1_000_000,
            "alpha": 0.6,
            "beta": 0.4,
        },
    }
    assert {name: getattr(config, name) for name in defaults} == defaults
    assert config.training_intensity == config.train_batch_size_per_learner


@pytest.mark.parametrize(
    ("setting", "error", "text"),
    [
        ({"lr": -1.0}, ConfigError, "lr.*-1"),
        ({"actor_lr": None}, (ConfigError, ScheduleError), "actor_lr"),
        ({"critic_lr": "fast"}, (ConfigError, ScheduleError), "critic_lr"),
        ({"alpha_lr": [[9, 1e-3], [0, 1e-4]]}, ScheduleError, "alpha_lr"),
        ({"lr": 1e-3, "critic_lr": 1e-4}, ConfigError, "lr=0.001 and critic_lr=0.0001"),
        ({"initial_alpha": 0.0}, ConfigError, "initial_alpha.*0.0"),
        ({"initial_alpha": math.inf}, ConfigError, "initial_alpha.*inf.*finite"),
        ({"target_entropy": "low"}, ConfigError, "target_entropy.*'low'"),
        ({"target_entropy": -math.inf}, ConfigError, "target_entropy.*finite"),
        ({"twin_q": 2}, ConfigError, "twin_q.*2.*a bool"),
    ],
)
def test_settings_that_cannot_be(setting, error, text):
    with pytest.raises(error, match=text):
        tfl.SACConfig().update_from_dict(setting).validate()


@pytest.mark.parametrize(
    "bounds", [(2.0, -5.0), (1.0, 1.0), (1.0,), None, ("a", "b"), (-math.inf, 2.0)]
)
def test_bounds_that_cannot_be(bounds):
    with pytest.raises(ConfigError, match="log_std_bounds.*two finite numbers"):
        make_learner(log_std_bounds=bounds)


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (gym.spaces.MultiDiscrete([2, 2]), "MultiDiscrete.*want Box or Discrete"),
        (gym.spaces.Dict(a=BOX), "Dict.*want Box or Discrete"),
        (gym.spaces.Box(-np.inf, np.inf, (2,)), "Box.*finite bounds.*RescaleAction"),
        (gym.spaces.Box(np.float32([0, -np.inf]), np.float32([1, 1])), "Box.*finite"),
    ],
    ids=str,
)
def test_actions_that_cannot_be_are_refused(space, text):
    class Env(CountingEnv):
        action_space = space

    with pytest.raises(SpaceError, match=f"action space of SAC: got {text}"):
        tfl.SAC(Env, model_config={"fcnet_hiddens": [4]}, replay_buffer_config=SMALL)


SMALL = {"capacity": 100}


def test_a_module_has_to_be_what_the_settings_say():
    config = tfl.SACModelConfig(fcnet_hiddens=[4], twin_q=False)
    with pytest.raises(ConfigError, match="twin_q=True and, for the module"):
        make_learner(model_config=config)
    assert module_of(make_learner(model_config=config, twin_q=False)).qf_twin is None


# Three optimizers.


def test_each_optimizer_has_its_variables_and_its_rate():
    schedule = [[0, 1e-3], [100, 0.0]]
    learner = make_learner(actor_lr=schedule, critic_lr=2e-3, alpha_lr=3e-3)
    found = dict(learner.get_optimizers_for_module(ME))
    assert sorted(found) == ["alpha", "policy", "qf"]
    records = {record.name: record for record in learner._optimizers.values()}
    for name, variables in groups(learner).items():
        refs = {learner.get_param_ref(variable) for variable in variables}
        assert set(records[name].params) == refs, name
    rates = []
    for timestep in (50, 100):
        now = {"num_env_steps_sampled_lifetime": timestep}
        own = learner.update(batch_of(learner), timesteps=now)[ME]
        names = ("policy", "qf", "alpha")
        rates.append([own[f"{name}_learning_rate"] for name in names])
    assert_close(rates, [[5e-4, 2e-3, 3e-3], [0.0, 2e-3, 3e-3]], rtol=1e-5)


def test_one_rate_for_all_of_them():
    learner = make_learner(lr=0.02)
    own = learner.update(batch_of(learner))[ME]
    for name in ("policy", "qf", "alpha"):
        assert own[f"{name}_learning_rate"] == pytest.approx(0.02)


def least(module, batch, actions):
    given = {"obs": batch["obs"], "actions": actions}
    return module.compute_q_values(given)["qf_preds"]


def losses_by_hand(learner, batch, gamma=0.9):
    """Each optimizer's loss, written from the paper; total derivatives are wrong.

    Equations (5), (9) and (18) of Haarnoja et al. (2018), with Huber's cost in place of
    the square and log(alpha) in place of alpha.
    """
    module, log_alpha = module_of(learner), learner.curr_log_alpha[ME]
    alpha = float(np.exp(log_alpha.numpy()))

    def policy(obs):
        inputs = module.forward_inference({"obs": obs})["action_dist_inputs"]
        return SquashedGaussian.from_logits(inputs)

    drawn, logp = policy(batch["obs"]).rsample_and_logp(batch["noise"])
    following, next_logp = policy(batch["new_obs"]).rsample_and_logp(
        batch["next_noise"]
    )
    target = module.forward_target({"obs": batch["new_obs"], "actions": following})
    next_values = target["qf_preds"] - alpha * next_logp
    discounts = gamma ** batch["n_step"] * ~batch["terminateds"]
    targets = tf.stop_gradient(batch["rewards"] + discounts * next_values)
    both = module.forward_train({"obs": batch["obs"], "actions": batch["actions"]})
    critics = 0.0
    for name in ("qf_preds", "qf_twin_preds"):
        error = tf.abs(both[name] - targets)
        cost = tf.where(error <= 1.0, 0.5 * error**2, error - 0.5)
        critics += tf.reduce_mean(batch["weights"] * cost)
    entropy = tf.stop_gradient(tf.reduce_mean(logp) - 2.0)
    return {
        "policy": tf.reduce_mean(alpha * logp - least(module, batch, drawn)),
        "qf": critics,
        "alpha": -tf.convert_to_tensor(log_alpha) * entropy,
    }


def test_one_step_is_each_losss_gradient_at_the_old_weights(sgd):
    learner = make_learner(lr=RATE, gamma=0.9, tau=0.25, initial_alpha=0.5)
    batch = batch_of(learner)
    learner.update(batch_of(learner, seed=1))  # So that targets differ from critics.
    wanted = {}
    for name, variables in groups(learner).items():
        tensors = [optimizers.tf_variable(variable) for variable in variables]
        with tf.GradientTape() as tape:
            loss = losses_by_hand(learner, batch)[name]
        slopes = tape.gradient(loss, tensors)
        wanted[name] = [
            before.numpy() - RATE * slope.numpy()
            for before, slope in zip(tensors, slopes, strict=True)
        ]
    learner.update(batch)
    for name, variables in groups(learner).items():
        for found, value in zip(values(variables), wanted[name], strict=True):
            np.testing.assert_allclose(found, value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize(
    ("terms", "moved"),
    [(["policy"], "policy"), (["qf", "qf_twin"], "qf"), (["alpha"], "alpha")],
)
def test_each_loss_moves_its_own_variables_alone(
    sgd, monkeypatch, actions, terms, moved
):
    def only(function):
        def call(**kwargs):
            loss = function(**kwargs)
            return loss._replace(total=sum(getattr(loss, term) for term in terms))

        return call

    for name in ("continuous_sac_loss", "discrete_sac_loss"):
        monkeypatch.setattr(sac, name, only(getattr(sac, name)))
    learner = make_learner(actions, lr=RATE)
    before = {name: values(own) for name, own in groups(learner).items()}
    learner.update(batch_of(learner))
    for name, own in groups(learner).items():
        changed = any(map(np.any, map(np.not_equal, values(own), before[name])))
        assert changed == (name == moved), name


def test_critics_judge_drawn_actions_by_the_lower_value(sgd):
    """The slope that the policy gets is that of the minimum of both critics."""
    learner = make_learner()
    module, batch = module_of(learner), batch_of(learner, 30)
    drawn = tf.constant(batch["actions"])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(drawn)
        found = module._critics_of_drawn(batch, drawn)
        wanted = least(module, batch, drawn)
    assert_close(found, wanted, rtol=1e-6)
    assert_close(tape.gradient(found, drawn), tape.gradient(wanted, drawn), rtol=1e-6)
    weights = [optimizers.tf_variable(w) for w in groups(learner)["qf"]]
    assert tape.gradient(found, weights) == [None] * len(weights)


def test_without_a_twin_there_is_one_critic():
    learner = make_learner(twin_q=False)
    own = learner.update(batch_of(learner))[ME]
    assert "qf_twin_loss" not in own and own["qf_loss"] > 0.0
    assert len(groups(learner)["qf"]) == 4


# The temperature.


@pytest.mark.parametrize(
    ("actions", "given", "wanted"),
    [
        (BOX, "auto", -2.0),
        (DISCRETE, "auto", 0.98 * math.log(3)),
        (BOX, 0.5, 0.5),
        (DISCRETE, 0, 0.0),
    ],
)
def test_target_entropy(actions, given, wanted):
    learner = make_learner(actions, target_entropy=given)
    own = learner.update(batch_of(learner))[ME]
    assert own["target_entropy"] == pytest.approx(wanted)


def test_target_entropy_is_one_that_allowed_actions_can_reach():
    observations = gym.spaces.Dict(
        action_mask=gym.spaces.MultiBinary(3), observation=OBS
    )
    learner = make_learner(DISCRETE, observations)
    batch = batch_of(learner)
    masks = batch["obs"]["action_mask"]
    wanted = 0.98 * np.log(masks.sum(-1)).mean()
    assert masks.min() == 0 and 0 < wanted < 0.98 * math.log(3)
    own = learner.update(batch)[ME]
    assert own["target_entropy"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.deep_but_first
@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(-2, 2, (2, 3), np.float32),
        gym.spaces.Box(-2, 2, (), np.float32),
        gym.spaces.Box(0, 5, (2,), np.int32),
    ],
    ids=str,
)
def test_boxes_of_any_form_are_trained_on(space):
    class Env(CountingEnv):
        action_space = space

        def step(self, action):
            assert space.contains(np.asarray(action, space.dtype))
            return super().step(0.0)

    algo = tfl.SAC(
        Env,
        model_config={"fcnet_hiddens": [4]},
        replay_buffer_config=SMALL,
        num_steps_sampled_before_learning_starts=8,
        min_sample_timesteps_per_iteration=16,
        train_batch_size_per_learner=8,
        training_intensity=2,
        run_eagerly=True,
        jit_compile=False,
    )
    results = algo.train()["learners"][ME]
    algo.stop()
    assert np.isfinite(results["total_loss"])
    batch = random_transitions(algo.get_module(), 5)  # Actions in the space's shape.
    assert np.isfinite(algo.learner.update_from_batch(batch)[ME]["total_loss"])


def test_the_policys_bounds_have_to_be_stretched():
    class Env(CountingEnv):
        action_space = gym.spaces.Box(0.0, 10.0, (1,), np.float32)

    with pytest.raises(ConfigError, match="normalize_actions.*bounds are -1 and 1"):
        tfl.SAC(Env, normalize_actions=False, replay_buffer_config=SMALL)


@pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("sign", [-1, pytest.param(1, marks=pytest.mark.deep)])
def test_the_temperature_follows_the_entropy(actions, sign):
    learner = make_learner(actions, target_entropy=50.0 * sign, initial_alpha=0.5)
    batch, alphas = batch_of(learner), [0.5]
    for _ in range(3):
        own = learner.update(batch)[ME]
        assert own["alpha_value"] == pytest.approx(alphas[-1], rel=1e-5)
        assert own["log_alpha_value"] == pytest.approx(math.log(alphas[-1]), rel=1e-4)
        assert own["entropy"] == pytest.approx(-own["logps"])
        alphas.append(math.exp(learner.curr_log_alpha[ME].numpy()))
    assert all((b - a) * sign > 0 for a, b in itertools.pairwise(alphas))


def test_modules_have_temperatures_of_their_own():
    learner = make_learner(
        policies=["p0", "p1"],
        algorithm_config_overrides_per_module={"p1": {"initial_alpha": 0.25}},
    )
    alphas = {mid: float(np.exp(v)) for mid, v in learner.curr_log_alpha.items()}
    assert alphas == pytest.approx({"p0": 1.0, "p1": 0.25})
    learner.remove_module("p1")
    assert [*learner.curr_log_alpha] == ["p0"]
    spec = learner.config.get_rl_module_spec()
    learner.add_module(
        module_id="p2", module_spec=spec, config_overrides={"initial_alpha": 2.0}
    )
    assert float(learner.curr_log_alpha["p2"].numpy()) == pytest.approx(math.log(2))
    learner.update({"p2": random_transitions(learner.module["p2"], 9)})
    assert [*learner.get_state("learner")["learner"]["log_alphas"]] == ["p0", "p2"]


def test_a_step_that_is_not_finite_leaves_the_temperature_alone():
    learner = make_learner(batch_checks="off", lr=0.1)
    batch = batch_of(learner)
    batch["rewards"][2] = np.nan
    before = {name: values(own) for name, own in groups(learner).items()}
    own = learner.update(batch)[ME]
    assert own["num_non_finite_updates_lifetime"] == 1
    for name, variables in groups(learner).items():
        for now, then in zip(values(variables), before[name]):
            np.testing.assert_array_equal(now, then)


# Noise.


class Capturing(tfl.SACTfLearner):
    def compute_loss_for_module(self, *, batch, **kwargs):
        self.captured = {name: column.numpy() for name, column in batch.items()}
        return super().compute_loss_for_module(batch=batch, **kwargs)


def noise_of(learner, batch):
    learner.update(batch)
    return [learner.captured[name] for name in (Columns.NOISE, Columns.NEXT_NOISE)]


def test_noise_is_standard_normal_and_drawn_anew():
    learner = make_learner(learner_class=Capturing)
    batch = random_transitions(learner.module[ME], 2_000)
    first, second = noise_of(learner, batch), noise_of(learner, batch)
    drawn = np.stack([*first, *second])
    assert drawn.shape == (4, 2_000, 2) and drawn.dtype == np.float32
    assert len(np.unique(drawn)) > 0.99 * drawn.size
    assert abs(drawn.mean()) < 0.02 and abs(drawn.std() - 1.0) < 0.02
    assert Columns.NOISE not in batch


def test_noise_that_is_given_is_used():
    learner = make_learner(learner_class=Capturing)
    batch = batch_of(learner)
    random_state = learner._rng.bit_generator.state
    for name, found in zip(("noise", "next_noise"), noise_of(learner, batch)):
        np.testing.assert_array_equal(found, batch[name])
    assert learner._rng.bit_generator.state == random_state
    del batch["noise"]
    own, given = noise_of(learner, batch)
    np.testing.assert_array_equal(given, batch["next_noise"])
    assert own.shape == (20, 2)


def test_noise_comes_from_the_learners_generator():
    learner, twin = (make_learner(learner_class=Capturing) for _ in range(2))
    batch = random_transitions(learner.module[ME], 5)
    np.testing.assert_array_equal(noise_of(learner, batch), noise_of(twin, batch))
    again = make_learner(learner_class=Capturing, seed=7)
    again.set_state(learner.get_state())
    np.testing.assert_array_equal(noise_of(learner, batch), noise_of(again, batch))


def test_modules_draw_noise_of_their_own():
    learner = make_learner(policies=["one", "two"])
    batch = random_transitions(learner.module["one"], 5)
    one, two = (learner.complete_columns(m, dict(batch)) for m in ("one", "two"))
    for name in (Columns.NOISE, Columns.NEXT_NOISE):
        assert (one[name] != two[name]).all()


def test_discrete_actions_need_no_noise():
    learner = make_learner(DISCRETE, learner_class=Capturing)
    learner.update(batch_of(learner))
    assert Columns.NOISE not in learner.captured


def test_a_batch_that_is_refused_draws_nothing():
    learner = make_learner(policies=["p0", "p1"])
    batch = {m: random_transitions(learner.module[m], 5) for m in ("p0", "p1")}
    del batch["p1"]["rewards"]
    random_state = learner._rng.bit_generator.state
    with pytest.raises(tfl.TFLearnerError, match="rewards"):
        learner.update(batch)
    assert learner._rng.bit_generator.state == random_state


# Discrete actions.


def test_discrete_losses_are_expectations_over_actions():
    learner = make_learner(DISCRETE, gamma=0.9, initial_alpha=0.5, lr=0.0)
    module, batch = module_of(learner), batch_of(learner)
    following = {"obs": batch["new_obs"]}

    def log_probs(obs):
        inputs = module.forward_inference({"obs": obs})["action_dist_inputs"].numpy()
        return inputs - np.log(np.exp(inputs).sum(-1, keepdims=True))

    logp, next_logp = log_probs(batch["obs"]), log_probs(batch["new_obs"])
    q_target = module.forward_target(following)["qf_preds"].numpy()
    next_value = (np.exp(next_logp) * (q_target - 0.5 * next_logp)).sum(-1)
    next_value *= ~batch["terminateds"]
    target = batch["rewards"] + 0.9 ** batch["n_step"] * next_value
    both = module.forward_train({"obs": batch["obs"]})
    rows = np.arange(20), batch["actions"]
    errors = [
        np.abs(both[name].numpy()[rows] - target)
        for name in ("qf_preds", "qf_twin_preds")
    ]
    q = module.compute_q_values(batch)["qf_preds"].numpy()
    own = learner.update(batch)[ME]
    assert_close(
        learner.row_outputs[ME, "td_error"][0], np.mean(errors, axis=0), rtol=1e-4
    )
    policy = (np.exp(logp) * (0.5 * logp - q)).sum(-1).mean()
    assert own["policy_loss"] == pytest.approx(policy, rel=1e-4)
    entropy = -(np.exp(logp) * logp).sum(-1).mean()
    assert own["entropy"] == pytest.approx(entropy, rel=1e-4)


def test_forbidden_actions_neither_count_nor_overflow():
    space = gym.spaces.Dict(
        {ACTION_MASK: gym.spaces.MultiBinary(3), "observations": OBS}
    )
    learner = make_learner(DISCRETE, space, lr=0.01)
    batch = batch_of(learner, 30)
    for column in ("obs", "new_obs"):
        batch[column][ACTION_MASK][:, 1] = 1
    batch["obs"][ACTION_MASK][np.arange(30), batch["actions"]] = 1
    for _ in range(2):
        own = learner.update(batch)[ME]
    assert own["num_non_finite_updates_lifetime"] == 0
    assert abs(own["policy_loss"]) < 100.0 and own["entropy"] < math.log(3)
    assert learner.row_outputs[ME, "td_error"].max() < 100.0
