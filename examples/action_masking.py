"""PPO with masks of actions and without: eight queens, in an order of one's own.

The environment is part of this file. Queens are put on a chessboard, one in each row
and each on one of 8 columns; a queen that another one attacks ends the game. Which
columns are free is in `info["action_mask"]`, from where the library puts it into the
observation: with it the module chooses among these alone, in training and later. Without it,
`action_masks=False`, it has to find out the rules by itself. The return is the number of
queens on the board, 8 at best.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import gymnasium as gym
import numpy as np

import tflearner as tfl


class Queens(gym.Env):
    """Every queen is worth 1; the board is full at 8, or there is no place left.

    The first queen is on a random column; an action is the column of the next one.
    """

    size = 8
    observation_space = gym.spaces.MultiBinary([size, size])
    action_space = gym.spaces.Discrete(size)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._columns = [int(self.np_random.integers(self.size))]
        return self._board(), {"action_mask": self._free()}

    def step(self, action):
        if not self._free()[action]:
            return self._board(), 0.0, True, False, {}
        self._columns.append(int(action))
        free = self._free()
        is_over = len(self._columns) == self.size or not free.any()
        return self._board(), 1.0, is_over, False, {"action_mask": free}

    def _free(self) -> np.ndarray:
        """The columns of the next row that no queen attacks."""
        columns = np.array(self._columns)
        distances = len(columns) - np.arange(len(columns))
        steps = np.abs(np.arange(self.size)[:, None] - columns)
        return ((steps != 0) & (steps != distances)).all(1).astype(np.int8)

    def _board(self) -> np.ndarray:
        board = np.zeros((self.size, self.size), np.int8)
        board[np.arange(len(self._columns)), self._columns] = 1
        return board


def train(action_masks, args) -> float:
    """Returns how many queens a trained module puts on the board, on average."""
    config = (
        tfl.PPOConfig()
        .environment(Queens, action_masks=action_masks)
        .env_runners(num_envs_per_env_runner=16)
        .training(
            lr=1e-3,
            train_batch_size_per_learner=1024,
            minibatch_size=128,
            num_epochs=6,
            lambda_=0.95,
            vf_clip_param=float("inf"),
            entropy_coeff=0.01,
            use_kl_loss=False,
        )
        .rl_module(model_config=tfl.DefaultModelConfig(fcnet_hiddens=[128, 128]))
        .debugging(seed=args.seed)
    )
    algo = config.build_algo()
    algo.fit(total_steps=args.steps)
    result = algo.evaluate(episodes=50)
    algo.stop()
    return 1.0 + result.episode_return_mean  # The first queen is there already.


def main() -> None:
    """Trains with masks and without, and prints how many queens find a place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30_000)
    args = parser.parse_args()

    started = time.perf_counter()
    with_masks, without = train(True, args), train(False, args)
    print(
        f"result: queens_with_masks={with_masks:.2f} queens_without={without:.2f} of 8 "
        f"seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
