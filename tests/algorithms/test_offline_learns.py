"""What is learned from mixed data: MARWIL surpasses it, and a clone does not."""

import pathlib
import runpy

import numpy as np
import pytest

import tflearner as tfl

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [0, 1])
def test_marwil_beats_mixed_data_by_half_and_a_clone_not_its_best(
    seed, monkeypatch, tmp_path, owned
):
    monkeypatch.syspath_prepend(EXAMPLES)
    example = runpy.run_path(str(EXAMPLES / "marwil_from_data.py"))
    episodes = example["mixed_episodes"](20_000, seed)
    returns = np.sort([episode.get_return() for episode in episodes])
    reached = {}
    for algorithm in (tfl.BC, tfl.MARWIL):
        algo = owned(
            algorithm(
                "CartPole-v1",
                data=episodes,
                lr=1e-3,
                train_batch_size_per_learner=500,
                model_config={"fcnet_hiddens": [64, 64], "vf_share_layers": False},
                seed=seed,
            )
        )
        algo.fit(total_steps=400_000, verbose=0, log_dir=tmp_path)
        reached[algorithm] = algo.evaluate(episodes=20).episode_return_mean
    assert reached[tfl.MARWIL] >= 1.5 * returns.mean()
    assert reached[tfl.BC] <= returns[-len(returns) // 10 :].mean()
