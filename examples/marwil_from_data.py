"""MARWIL acts better than the data it learns from; a clone acts as most of them do.

Of the steps on CartPole-v1, 85 of 100 are those of a bad policy, which looks at the angle
of the pole alone, and the others those of a good one. MARWIL weighs each action by how
well it turned out, and BC all alike.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import gymnasium as gym
import numpy as np

import tflearner as tfl

GOOD = np.array([0.2, 0.4, 1.5, 1.0])
BAD = np.array([0.0, 0.0, 1.0, 0.0])


def mixed_episodes(num_steps: int, seed: int) -> list[tfl.SingleAgentEpisode]:
    """Returns episodes of both policies; one action in five is drawn at random."""
    rng, env = np.random.default_rng(seed), gym.make("CartPole-v1")
    episodes, num_bad, num_good = [], 0, 0
    while num_bad + num_good < num_steps:
        is_good = num_good < 0.15 * (num_bad + num_good)
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        episode = tfl.SingleAgentEpisode(
            observations=[observation],
            observation_space=env.observation_space,
            action_space=env.action_space,
        )
        while not episode.is_done:
            action = int(observation @ (GOOD if is_good else BAD) > 0.0)
            if rng.random() < 0.2:
                action = int(rng.integers(2))
            observation, reward, terminated, truncated, _ = env.step(action)
            episode.add_env_step(
                observation, action, reward, terminated=terminated, truncated=truncated
            )
        num_good += len(episode) * is_good
        num_bad += len(episode) * (not is_good)
        episodes.append(episode)
    return episodes


def main() -> None:
    """Learns from the data with BC and with MARWIL, and compares both with the data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400_000, help="to learn from")
    args = parser.parse_args()

    started = time.perf_counter()
    episodes = mixed_episodes(20_000, args.seed)
    returns = np.sort([episode.get_return() for episode in episodes])
    best = returns[-len(returns) // 10 :].mean()
    print(f"data: mean return {returns.mean():.1f}, of the best tenth {best:.1f}")

    for algorithm in (tfl.BC, tfl.MARWIL):
        algo = algorithm(
            "CartPole-v1",
            data=episodes,
            lr=1e-3,
            train_batch_size_per_learner=500,
            model_config={"fcnet_hiddens": [64, 64], "vf_share_layers": False},
            seed=args.seed,
        )
        algo.fit(total_steps=args.steps)
        result = algo.evaluate(episodes=20)
        algo.stop()
        print(f"{algorithm.__name__}: mean return {result.episode_return_mean:.1f}")
    print(
        f"evaluation: mean_return={result.episode_return_mean:.1f} "
        f"std={result.episode_return_std:.1f} episodes={result.num_episodes} "
        f"env_steps={algo.num_env_steps_sampled_lifetime} "
        f"seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
