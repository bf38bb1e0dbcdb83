"""Tests for `tflearner.reporting.names`."""

import copy
import math

import numpy as np

from tflearner.reporting import names

RESULT = {
    "env_runners": {
        "episode_return_mean": 21.5,
        "episode_return_min": 9.0,
        "episode_return_max": 40.0,
        "episode_len_mean": 21.0,
        "num_episodes": 7,
        "num_env_steps_sampled": 2048,
        "num_env_steps_sampled_lifetime": 4096,
    },
    "learners": {
        "default_policy": {
            "total_loss": 0.5,
            "policy_loss": -0.1,
            "vf_loss": 3.0,
            "entropy": 0.6,
            "mean_kl_loss": 0.01,
            "default_optimizer_learning_rate": 3e-4,
        },
        "__all_modules__": {"num_env_steps_trained": 2048, "total_loss": 9.0},
    },
    "timers": {"sample_s": 0.2, "learn_s": 0.1},
    "evaluation": {"episode_return_mean": 50.0, "episode_len_mean": 51.0},
    "training_iteration": 2,
    "num_env_steps_sampled_lifetime": 4096,
    "time_total_s": 1.5,
}


def test_a_train_result_gets_flat_names():
    assert names.flatten_result(RESULT) == {
        "episode_return": 21.5,
        "episode_return_min": 9.0,
        "episode_return_max": 40.0,
        "episode_length": 21.0,
        "num_episodes": 7,
        "num_env_steps_sampled": 2048,
        "steps": 4096,
        "loss": 0.5,
        "policy_loss": -0.1,
        "vf_loss": 3.0,
        "entropy": 0.6,
        "mean_kl_loss": 0.01,
        "learning_rate": 3e-4,
        "num_env_steps_trained": 2048,
        "timers/sample_s": 0.2,
        "timers/learn_s": 0.1,
        "val_episode_return": 50.0,
        "val_episode_length": 51.0,
        "training_iteration": 2,
        "time_total_s": 1.5,
    }


def test_the_default_module_is_flat_and_others_have_a_prefix():
    learners = {
        "p1": {"total_loss": 1.0, "default_optimizer_learning_rate": 0.1},
        "default_policy": {"total_loss": 2.0},
    }
    assert names.flatten_result({"learners": learners}) == {
        "p1/loss": 1.0,
        "p1/learning_rate": 0.1,
        "loss": 2.0,
    }


def test_the_only_module_is_flat_whatever_its_id():
    learners = {"__all_modules__": {"x": 3}, "p1": {"total_loss": 1.0}}
    assert names.flatten_result({"learners": learners}) == {"loss": 1.0, "x": 3}


def test_without_a_default_module_the_aggregate_is_flat():
    learners = {
        "p0": {"total_loss": 1.0},
        "p1": {"total_loss": 2.0},
        "__all_modules__": {"total_loss": 3.0},
    }
    assert names.flatten_result({"learners": learners}) == {
        "p0/loss": 1.0,
        "p1/loss": 2.0,
        "loss": 3.0,
    }


def test_additional_scalars_pass_and_other_things_do_not():
    result = {"alpha": np.float32(0.5), "done": True, "list": [1], "text": "x"}
    result |= {"none": None, "deep": {"er": {"x": np.array(2)}}, "vector": np.ones(2)}
    flat = names.flatten_result(result)
    assert flat == {"alpha": 0.5, "done": True, "deep/er/x": 2}
    assert type(flat["alpha"]) is float and type(flat["deep/er/x"]) is int


def test_nan_stays():
    flat = names.flatten_result({"env_runners": {"episode_return_mean": math.nan}})
    assert math.isnan(flat["episode_return"])


def test_the_result_is_not_changed():
    result = {"learners": {"p0": {"x": 1}, "__all_modules__": {"y": 2}}}
    before = copy.deepcopy(result)
    names.flatten_result(result)
    assert result == before
