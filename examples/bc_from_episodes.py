"""Behaviour cloning: a policy that acts like those who made the episodes.

A hand-written expert balances the pole of CartPole-v1, but half of its actions are drawn
at random. The clone takes the most likely action, and so leaves the slips out. The
environment serves for evaluation alone; without one, `tfl.BC(data=episodes)` learns too.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import gymnasium as gym
import numpy as np

import tflearner as tfl


def expert_episode(env: gym.Env, rng: np.random.Generator) -> tfl.SingleAgentEpisode:
    """Returns an episode in which half of the actions are drawn at random."""
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    episode = tfl.SingleAgentEpisode(
        observations=[observation],
        observation_space=env.observation_space,
        action_space=env.action_space,
    )
    while not episode.is_done:
        action = int(observation @ np.array([0.2, 0.4, 1.5, 1.0]) > 0.0)
        if rng.random() < 0.5:
            action = int(rng.integers(2))
        observation, reward, terminated, truncated, _ = env.step(action)
        episode.add_env_step(
            observation, action, reward, terminated=terminated, truncated=truncated
        )
    return episode


def main() -> None:
    """Clones the expert, and measures the clone on a fresh environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100_000, help="to learn from")
    args = parser.parse_args()

    started = time.perf_counter()
    rng = np.random.default_rng(args.seed)
    env = gym.make("CartPole-v1")
    episodes = [expert_episode(env, rng) for _ in range(100)]
    returns = [episode.get_return() for episode in episodes]
    print(f"data: {len(episodes)} episodes, mean return {np.mean(returns):.1f}")

    algo = tfl.BC(
        "CartPole-v1",
        data=episodes,
        lr=1e-3,
        train_batch_size_per_learner=250,
        model_config={"fcnet_hiddens": [64, 64]},
        seed=args.seed,
    )
    algo.summary()
    algo.fit(total_steps=args.steps)
    result = algo.evaluate(episodes=20)
    algo.stop()
    print(
        f"evaluation: mean_return={result.episode_return_mean:.1f} "
        f"std={result.episode_return_std:.1f} episodes={result.num_episodes} "
        f"env_steps={algo.num_env_steps_sampled_lifetime} "
        f"seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
