"""PPO learns from a Dict of observations: catch what is good, and dodge what is not.

The environment is part of this file. Each observation has three entries: "picture", an
image uint8 [8, 8, 1] of what falls and of the basket, "is_stone", Discrete(2), and
"wind", one number that the picture does not show. The image goes through a convolution;
its features go to the dense layers beside the other two. A basket that moves at random
returns 0; what is reached is every apple and no stone, a mean return of 1.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import gymnasium as gym
import numpy as np

import tflearner as tfl


class Apples(gym.Env):
    """Apples fall, and so do stones, sideways if there is wind.

    The reward is 1 for an apple in the basket or a stone beside it, otherwise -1.
    """

    size = 8
    observation_space = gym.spaces.Dict(
        {
            "picture": gym.spaces.Box(0, 255, (size, size, 1), np.uint8),
            "is_stone": gym.spaces.Discrete(2),
            "wind": gym.spaces.Box(-1.0, 1.0, (1,), np.float32),
        }
    )
    action_space = gym.spaces.Discrete(3)  # Left, stay, right.

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._row, self._column = 0, int(self.np_random.integers(self.size))
        self._wind = int(self.np_random.integers(-1, 2))
        self._is_stone = int(self.np_random.integers(2))
        self._basket = int(self.np_random.integers(self.size))
        return self._observation(), {}

    def step(self, action):
        self._basket = min(max(self._basket + int(action) - 1, 0), self.size - 1)
        self._row += 1
        self._column = min(max(self._column + self._wind, 0), self.size - 1)
        has_landed = self._row == self.size - 1
        is_caught = abs(self._column - self._basket) <= 1
        is_right = is_caught != bool(self._is_stone)
        reward = (1.0 if is_right else -1.0) if has_landed else 0.0
        return self._observation(), reward, has_landed, False, {}

    def _observation(self) -> dict:
        picture = np.zeros((self.size, self.size, 1), np.uint8)
        picture[self.size - 1, max(self._basket - 1, 0) : self._basket + 2] = 128
        picture[self._row, self._column] = 255
        return {
            "picture": picture,
            "is_stone": self._is_stone,
            "wind": np.float32([self._wind]),
        }


def main() -> None:
    """Trains, evaluates greedily on a fresh environment, and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50_000)
    args = parser.parse_args()

    started = time.perf_counter()
    config = (
        tfl.PPOConfig()
        .environment(Apples)
        .env_runners(num_envs_per_env_runner=16)
        .training(
            lr=[[0, 1e-3], [args.steps, 1e-4]],
            train_batch_size_per_learner=1024,
            minibatch_size=128,
            num_epochs=6,
            lambda_=0.95,
            vf_clip_param=float("inf"),
            entropy_coeff=0.01,
            use_kl_loss=False,
        )
        .rl_module(
            model_config=tfl.DefaultModelConfig(
                conv_filters=[(16, 3, 1)],
                fcnet_hiddens=[128, 64],
                fcnet_activation="relu",
            )
        )
        .debugging(seed=args.seed)
    )
    algo = config.build_algo()
    algo.summary()
    algo.fit(total_steps=args.steps)
    result = algo.evaluate(episodes=20)
    algo.stop()
    print(
        f"evaluation: mean_return={result.episode_return_mean:.2f} "
        f"std={result.episode_return_std:.2f} episodes={result.num_episodes} "
        f"env_steps={algo.num_env_steps_sampled_lifetime} "
        f"seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
