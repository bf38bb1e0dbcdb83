"""PPO reads a picture and words: find the treasure that the map says is yours.

The environment is part of this file. An observation is a Dict: "room" is an image, uint8
[8, 8, 3], which shows the robot and two treasures, "wanted" says which of the two to
fetch, and "charge" is a number, what is left of the battery. The image goes through a
convolution, and its features go to the dense layers beside the other two. A robot that
moves at random returns -0.5 or so; what is reached is every treasure, 0.9 or more.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import gymnasium as gym
import numpy as np

import tflearner as tfl

MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])


class Treasures(gym.Env):
    """The right treasure is worth 1, the other one -1; either ends the episode.

    Each step costs 0.01, and the battery lasts for 30.
    """

    size, battery = 8, 30
    observation_space = gym.spaces.Dict(
        {
            "room": gym.spaces.Box(0, 255, (size, size, 3), np.uint8),
            "wanted": gym.spaces.Discrete(2),
            "charge": gym.spaces.Box(0.0, 1.0, (1,), np.float32),
        }
    )
    action_space = gym.spaces.Discrete(len(MOVES))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        places = self.np_random.permutation(self.size**2)[:3]
        self._robot, *self._treasures = np.stack(
            np.unravel_index(places, (self.size, self.size)), 1
        )
        self._wanted = int(self.np_random.integers(2))
        self._steps = 0
        return self._observation(), {}

    def step(self, action):
        self._robot = np.clip(self._robot + MOVES[action], 0, self.size - 1)
        self._steps += 1
        reward = -0.01
        found = [bool((self._robot == place).all()) for place in self._treasures]
        if any(found):
            reward += 1.0 if found[self._wanted] else -1.0
        is_empty = self._steps == self.battery
        return self._observation(), reward, any(found), is_empty, {}

    def _observation(self) -> dict:
        room = np.zeros((self.size, self.size, 3), np.uint8)
        for channel, place in enumerate((self._robot, *self._treasures)):
            room[(*place, channel)] = 255
        charge = np.float32([1.0 - self._steps / self.battery])
        return {"room": room, "wanted": self._wanted, "charge": charge}


def main() -> None:
    """Trains, evaluates greedily on a fresh environment, and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=150_000)
    args = parser.parse_args()

    started = time.perf_counter()
    config = (
        tfl.PPOConfig()
        .environment(Treasures)
        .env_runners(num_envs_per_env_runner=16)
        .training(
            lr=[[0, 1e-3], [args.steps, 1e-4]],
            train_batch_size_per_learner=2048,
            minibatch_size=256,
            num_epochs=6,
            lambda_=0.95,
            vf_clip_param=float("inf"),
            entropy_coeff=0.01,
            use_kl_loss=False,
        )
        .rl_module(
            model_config=tfl.DefaultModelConfig(
                conv_filters=[(16, 3, 1)], fcnet_hiddens=[128], fcnet_activation="relu"
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
