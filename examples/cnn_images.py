"""PPO learns from images: catch a falling ball, seen as 10x10 pixels.

The environment is part of this file. Its images, uint8 [10, 10, 1], go through two
convolutions that policy and value function share. A paddle that moves at random catches
28 of 100 balls; what is reached is every ball, a mean return of 1.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import gymnasium as gym
import numpy as np

import tflearner as tfl


class Catch(gym.Env):
    """A ball falls, straight or aslant, and the paddle on the floor should be below.

    The reward is 1 for a ball that is caught and -1 for one that is missed.
    """

    size = 10
    observation_space = gym.spaces.Box(0, 255, (size, size, 1), np.uint8)
    action_space = gym.spaces.Discrete(3)  # Left, stay, right.

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._ball = np.array([0, self.np_random.integers(self.size)])
        self._drift = int(self.np_random.integers(-1, 2))
        self._trail = self._ball.copy()
        self._paddle = int(self.np_random.integers(self.size))
        return self._image(), {}

    def step(self, action):
        self._paddle = min(max(self._paddle + int(action) - 1, 0), self.size - 1)
        self._trail[:] = self._ball
        row, column = self._ball + (1, self._drift)
        if not 0 <= column < self.size:  # It bounces off the wall.
            self._drift = -self._drift
            column += 2 * self._drift
        self._ball[:] = row, column
        landed = row == self.size - 1
        reward = (1.0 if abs(column - self._paddle) <= 1 else -1.0) if landed else 0.0
        return self._image(), reward, bool(landed), False, {}

    def _image(self) -> np.ndarray:
        image = np.zeros((self.size, self.size, 1), np.uint8)
        image[self.size - 1, max(self._paddle - 1, 0) : self._paddle + 2] = 128
        image[tuple(self._trail)] = 128  # Where it was: one image tells where it flies.
        image[tuple(self._ball)] = 255
        return image


def main() -> None:
    """Trains, evaluates greedily on a fresh environment, and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=80_000)
    args = parser.parse_args()

    started = time.perf_counter()
    config = (
        tfl.PPOConfig()
        .environment(Catch)
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
                conv_filters=[(16, 3, 1), (16, 3, 1)], fcnet_hiddens=[64]
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
