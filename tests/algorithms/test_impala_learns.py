"""IMPALA learns, also with weights that are up to 8 updates old."""

import numpy as np
import pytest

import tflearner as tfl


@pytest.fixture
def trained(owned, tmp_path):
    """Returns a function from settings to the mean return of greedy episodes."""

    def train(total_steps, **settings):
        config = tfl.IMPALAConfig().environment("CartPole-v1")
        config.env_runners(
            num_envs_per_env_runner=10, gym_env_vectorize_mode="vector_entry_point"
        )
        config.rl_module(
            model_config={"fcnet_hiddens": [64, 64], "vf_share_layers": False}
        )
        config.update_from_dict({"lr": 3e-3} | settings)
        algo = owned(config.build_algo())
        algo.fit(total_steps=total_steps, verbose=0, log_dir=tmp_path)
        return algo.evaluate(episodes=20).episode_return_mean

    return train


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [0, 1])
def test_cartpole_is_solved_with_new_weights(trained, seed):
    assert trained(150_000, seed=seed) >= 450.0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_vtrace_holds_what_is_learned_with_old_weights(trained):
    """Without it, most runs find a good policy too, and lose it again."""
    returns = {
        vtrace: [
            trained(
                400_000,
                seed=seed,
                vtrace=vtrace,
                broadcast_interval=8,
                entropy_coeff=0.0,
            )
            for seed in range(5)
        ]
        for vtrace in (True, False)
    }
    assert min(returns[True]) >= 450.0, returns
    assert np.mean(returns[False]) < 450.0, returns
