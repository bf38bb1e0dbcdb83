"""Every algorithm masters a trivial environment in seconds."""


def test_learns_to_match_what_it_sees(row, match_env, tmp_path):
    settings, total_steps = row.learns
    config = row.config().environment(match_env(row))
    config.update_from_dict(row.data(match_env(row)(), 200))
    config.update_from_dict(
        {"seed": 0, "num_envs_per_env_runner": 8, "jit_compile": False} | settings
    )
    algo = config.build_algo()
    history = algo.fit(total_steps=total_steps, verbose=0, log_dir=tmp_path)
    before = [*history.history["episode_return"], 0.0][0]  # None where data are given.
    after = algo.evaluate(episodes=50).episode_return_mean
    algo.stop()
    assert before < 0.8 and after > 0.9
