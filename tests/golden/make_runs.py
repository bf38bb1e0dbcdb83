"""Writes the runs that `from_checkpoint` of every later version has to continue.

    python tests/golden/make_runs.py    # Writes runs-v<format>/ beside this file, once.

Like the files of `make.py` they are never written again.
"""

import contextlib
import pathlib
import tempfile

import gymnasium as gym
import numpy as np

import tflearner as tfl
from tflearner.checkpoint import files, manifest

HERE = pathlib.Path(__file__).parent


@tfl.register_builder("golden/Bonus", arguments=lambda bonus: vars(bonus))
class Bonus:
    """An object that users registered, with another one and a function inside."""

    def __init__(self, size, function=None, inner=None):
        self.size, self.function, self.inner = size, function, inner

    def __eq__(self, other):
        return type(other) is Bonus and vars(other) == vars(self)


@tfl.register_builder("golden/Module")
class Module(tfl.PPOTfRLModule):
    """A module of users."""


@tfl.register_builder("golden/clip")
def clip(value):
    """A function of users."""
    return np.clip(value, -1.0, 1.0)


SHARED = {
    "model_config": {"fcnet_hiddens": [3]},
    "run_eagerly": True,
    "jit_compile": False,
    "seed": 1,
}
PPO = {
    **SHARED,
    "train_batch_size_per_learner": 8,
    "minibatch_size": 4,
    "num_epochs": 1,
    "env_config": {"sutton_barto_reward": True},
    "env_to_module_connector": tfl.MeanStdFilter,
    "lr": [[0, 1e-3], [100, 1e-4]],
    "rl_module_spec": tfl.RLModuleSpec(module_class=Module),
    "learner_config_dict": {
        "bonus": [Bonus(2, clip, (Bonus(gym.spaces.Discrete(3)),))],
        "module_class": Module,
        "space": gym.spaces.Dict({"a": gym.spaces.Box(0, 1, (2,), np.float32)}),
        "spec": tfl.RLModuleSpec(model_config=tfl.DefaultModelConfig()),
    },
}
DQN = {
    **SHARED,
    "replay_buffer_config": {"capacity": 20, "memmap_dir": "mapped"},
    "num_steps_sampled_before_learning_starts": 8,
    "min_sample_timesteps_per_iteration": 16,
    "train_batch_size_per_learner": 4,
    "n_step": (1, 2),
}
ALGORITHMS = {"ppo": (tfl.PPO, PPO), "dqn": (tfl.DQN, DQN)}


def main() -> None:
    """Writes a run of each algorithm, after one iteration."""
    target = HERE / f"runs-v{manifest.VERSION}"
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        for name, (algorithm, settings) in ALGORITHMS.items():
            run = algorithm("CartPole-v1", **settings)
            run.train()
            run.save(target / name)
            run.stop()
            files.remove(target / name / ".lock")


if __name__ == "__main__":
    main()
