"""PPO's learner: its coefficients, its advantages, its two kinds of value function."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.algorithms.ppo import PPOConfig, PPOTfLearner, next_kl_coeff
from tflearner.algorithms.value_errors import ValueErrors
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import ConfigError, ScheduleError
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.testing import assert_close, random_batch, random_episodes

BOX = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)


def make_learner(*, vf_share_layers=True, **settings):
    config = PPOConfig(observation_space=BOX, action_space=gym.spaces.Discrete(2))
    model = DefaultModelConfig(fcnet_hiddens=[8], vf_share_layers=vf_share_layers)
    config.rl_module(model_config=model)
    defaults = {"run_eagerly": True, "jit_compile": False, "seed": 1}
    return config.update_from_dict(defaults | settings).build_learner()


def batch_of(learner, module_id=DEFAULT_MODULE_ID):
    return random_batch(learner.module[module_id], 20)


def at(timestep):
    return {"num_env_steps_sampled_lifetime": timestep}


# Coefficients.


@pytest.mark.parametrize(
    ("kl", "wanted"),
    [
        (0.021, 0.3),
        (0.02, 0.2),
        (0.01, 0.2),
        (0.005, 0.2),
        (0.0049, 0.1),
        (0.0, 0.1),
        (np.nan, 0.2),
        (np.inf, 0.2),
    ],
)
def test_kl_coefficient_follows_its_target(kl, wanted):
    assert next_kl_coeff(0.2, kl, kl_target=0.01) == pytest.approx(wanted)


def test_kl_coefficient_stays_finite_in_float32():
    assert np.isfinite(np.float32(next_kl_coeff(3e38, 1.0, kl_target=0.0)))


def test_only_updated_modules_adapt_their_coefficient():
    learner = make_learner(policies=["p0", "p1"])

    def coefficients():
        own = learner.get_state("learner")["learner"]["kl_coeffs"]
        return pytest.approx([own["p0"], own["p1"]])

    assert coefficients() == [0.2, 0.2]
    learner.update({"p0": batch_of(learner, "p0")})
    assert coefficients() == [0.3, 0.2]
    learner.update({})
    assert coefficients() == [0.3, 0.2]
    learner.config.multi_agent(policies_to_train=["p1"])
    learner.update({mid: batch_of(learner, mid) for mid in ("p0", "p1")})
    assert coefficients() == [0.3, 0.3]


def test_traced_loss_reads_the_coefficients_of_the_day():
    learner = make_learner(
        run_eagerly=False,
        entropy_coeff=[[0, 0.5], [100, 0.1]],
        vf_loss_coeff=0.25,
        kl_target=1e-4,
    )
    kl_coeff, entropy_coeff = 0.2, 0.5
    for timestep in (50, 75, 100):
        own = learner.update(batch_of(learner), timesteps=at(timestep))[
            "default_policy"
        ]
        terms = own["policy_loss"] + 0.25 * own["vf_loss"]
        terms += kl_coeff * own["mean_kl_loss"] - entropy_coeff * own["entropy"]
        assert own["total_loss"] == pytest.approx(terms, rel=1e-5)
        kl_coeff, entropy_coeff = own["curr_kl_coeff"], own["curr_entropy_coeff"]
    assert kl_coeff == pytest.approx(0.2 * 1.5**3)
    assert entropy_coeff == pytest.approx(0.1)
    assert learner.num_traces == 1


def test_kl_penalty_can_be_left_out():
    learner = make_learner(use_kl_loss=False)
    own = learner.update(batch_of(learner))[DEFAULT_MODULE_ID]
    assert own["total_loss"] == pytest.approx(own["policy_loss"] + own["vf_loss"])
    assert "curr_kl_coeff" not in own


def test_subclass_with_another_loss_need_not_measure_kl():
    class Other(PPOTfLearner):
        def compute_loss_for_module(self, *, fwd_out, **kwargs):
            return 1.0 - fwd_out["vf_preds"][0]

    learner = make_learner(learner_class=Other)
    own = learner.update(batch_of(learner))[DEFAULT_MODULE_ID]
    assert own["curr_kl_coeff"] == pytest.approx(0.2)


def test_modules_may_have_coefficients_of_their_own():
    learner = make_learner(
        policies=["p0", "p1"],
        algorithm_config_overrides_per_module={"p1": {"kl_coeff": 4.0}},
    )
    own = learner.get_state("learner")["learner"]["kl_coeffs"]
    assert own == pytest.approx({"p0": 0.2, "p1": 4.0})


# The value function.


def test_explained_variance_of_perfect_predictions():
    learner = make_learner()
    batch = batch_of(learner)
    values = learner.module[DEFAULT_MODULE_ID].compute_values(batch).numpy()
    own = learner.update({**batch, "value_targets": values})[DEFAULT_MODULE_ID]
    assert own["vf_explained_var"] == pytest.approx(1.0)
    assert own["vf_loss"] == pytest.approx(0.0, abs=1e-9)


def test_value_error_is_capped():
    learner = make_learner(vf_clip_param=0.5)
    batch = batch_of(learner)
    own = learner.update({**batch, "value_targets": np.full(20, 9.0)})["default_policy"]
    assert own["vf_loss"] == pytest.approx(0.5)
    assert own["vf_loss_unclipped"] > 50.0
    assert own["vf_clip_fraction"] == pytest.approx(1.0)


def test_share_of_capped_value_errors_is_that_of_rows():
    learner = make_learner(vf_clip_param=4.0)
    batch = batch_of(learner)
    values = learner.module[DEFAULT_MODULE_ID].compute_values(batch).numpy()
    errors = np.repeat([1.9, 2.1], [12, 8])
    own = learner.update({**batch, "value_targets": values + errors})["default_policy"]
    assert own["vf_clip_fraction"] == pytest.approx(0.4)


def test_without_a_cap_there_is_no_share():
    learner = make_learner(vf_clip_param=float("inf"))
    assert "vf_clip_fraction" not in learner.update(batch_of(learner))["default_policy"]


def test_value_errors_are_told_once_after_20_updates_in_a_row():
    errors, large, small = ValueErrors(), (0.6, 40.0, 10.0), (0.5, 40.0, 10.0)
    shares = [large] * 19 + [small] + [large] * 40
    told = [errors.remark("p0", *own) for own in shares]
    (remark,) = filter(None, told)
    assert told[39] == remark
    assert "vf_clip_param=10" in remark and "60%" in remark and "'p0'" in remark


def test_modules_count_their_value_errors_apart():
    errors = ValueErrors()
    for _ in range(19):
        assert errors.remark("p0", 0.9, 40.0, 10.0) is None
        assert errors.remark("p1", 0.1, 4.0, 10.0) is None
    assert errors.remark("p1", 0.9, 40.0, 10.0) is None
    assert errors.remark("p0", 0.9, 40.0, 10.0)


@pytest.mark.parametrize("vf_share_layers", [True, False])
def test_value_loss_reaches_the_policy_through_a_shared_encoder_only(vf_share_layers):
    learner = make_learner(vf_share_layers=vf_share_layers, use_kl_loss=False)
    batch = batch_of(learner)
    batch["advantages"] *= 0.0  # Nothing but the value loss is left.
    module = learner.module[DEFAULT_MODULE_ID]
    before = module.forward_inference(batch)["action_dist_inputs"].numpy()
    values = module.compute_values(batch).numpy()
    learner.update(batch)
    after = module.forward_inference(batch)["action_dist_inputs"].numpy()
    assert (after != before).any() == vf_share_layers
    assert (module.compute_values(batch).numpy() != values).any()


# From episodes.


class Capturing(PPOTfLearner):
    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        self.captured = {column: x.numpy() for column, x in batch.items()}
        return super().compute_loss_for_module(
            module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
        )


def advantages_of(episode, values, gamma, lambda_):
    """Sums up discounted temporal differences, step by step. Slow on purpose."""
    rewards, length = episode.get_rewards(), len(episode)
    if episode.is_terminated:
        values = np.append(values[:-1], 0.0)
    deltas = [rewards[t] + gamma * values[t + 1] - values[t] for t in range(length)]
    return [
        sum((gamma * lambda_) ** (k - t) * deltas[k] for k in range(t, length))
        for t in range(length)
    ]


@pytest.mark.parametrize("lookback", [0, 2])
@pytest.mark.parametrize("lambda_", [0.0, 0.8, 1.0])
def test_advantages_and_targets_of_episodes(lookback, lambda_):
    learner = make_learner(learner_class=Capturing, gamma=0.9, lambda_=lambda_)
    module = learner.module[DEFAULT_MODULE_ID]
    ends = [
        (4, "terminated"),
        (1, "terminated"),
        (3, "truncated"),
        (5, "cut"),
        (1, "cut"),
    ]
    episodes = random_episodes(BOX, module.action_space, ends=ends, lookback=lookback)
    values = [
        module.compute_values({"obs": np.stack(e.get_observations())}).numpy()
        for e in episodes
    ]
    learner.update(episodes=episodes)

    raw = [advantages_of(e, v, 0.9, lambda_) for e, v in zip(episodes, values)]
    targets = np.concatenate([np.add(a, v[:-1]) for a, v in zip(raw, values)])
    raw = np.concatenate(raw)
    batch = learner.captured
    assert_close(batch["value_targets"], targets, rtol=1e-4, atol=1e-5)
    assert_close(
        batch["advantages"], (raw - raw.mean()) / raw.std(), rtol=1e-4, atol=1e-5
    )
    observations = np.concatenate([e.get_observations()[:-1] for e in episodes])
    assert_close(batch["obs"], observations)
    for column in ("action_logp", "action_dist_inputs"):
        given = [e.get_extra_model_outputs(column) for e in episodes]
        assert_close(batch[column], np.concatenate(given))


# Settings.


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"lambda_": 1.5}, ConfigError),
        ({"clip_param": -0.1}, ConfigError),
        ({"clip_param": True}, ConfigError),
        ({"vf_clip_param": float("nan")}, ConfigError),
        ({"kl_coeff": "0.2"}, ConfigError),
        ({"kl_target": None}, ConfigError),
        ({"entropy_coeff": -1.0}, ConfigError),
        ({"entropy_coeff": [[0, 0.1], [9, -0.1]]}, ConfigError),
        ({"entropy_coeff": [[9, 0.1], [0, 0.1]]}, ScheduleError),
    ],
)
def test_settings_that_cannot_be(setting, error):
    (name,) = setting
    with pytest.raises(error, match=name):
        PPOConfig().training(**setting).validate()


def test_settings_that_can():
    PPOConfig().training(
        vf_clip_param=float("inf"), entropy_coeff=[[0, 0.1], [9, 0]], lambda_=1
    ).validate()
