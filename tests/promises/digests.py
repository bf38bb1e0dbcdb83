"""Compares twelve fixed runs of two versions of the library, on this machine.

    python tests/promises/digests.py REVISION

Each version trains in a process of its own. Runs are equal if their weights, optimizers
and metrics are equal to the bit. No digests are stored, because processors differ in
the last digits. The exit status is 1 if a run differs; the output then says how far its
weights are apart.

A refactoring leaves all twelve runs equal. Only a module that newly acts in NumPy may
differ, by 1e-5 relative.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import gymnasium as gym
import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
MINUTES = 10  # The longest that all runs of one version may take.

DENSE = {"fcnet_hiddens": [16, 16]}
PIXELS = gym.spaces.Box(0, 255, (10, 10, 2), np.uint8)
# Large steps: ratios reach their clipping, gradients their bound, coefficients move.
PPO = {
    "train_batch_size_per_learner": 64,
    "minibatch_size": 16,
    "num_epochs": 2,
    "lr": [[0, 2e-2], [500, 1e-2]],
    "grad_clip": 0.5,
    "entropy_coeff": 0.01,
    "kl_target": 1e-4,
    "vf_clip_param": 1.0,
}
REPLAY = {
    "rollout_fragment_length": 4,
    "min_sample_timesteps_per_iteration": 48,
    "num_steps_sampled_before_learning_starts": 49,
    "train_batch_size_per_learner": 16,
    "replay_buffer_config": {"capacity": 500},
}

# Run: (algorithm, environment, settings, model settings, Keras dtype policy).
RUNS = {
    "ppo, dense": ("PPO", "CartPole-v1", PPO, DENSE, None),
    "ppo, continuous": (
        "PPO",
        "Pendulum-v1",
        PPO,
        DENSE | {"vf_share_layers": False, "free_log_std": True},
        None,
    ),
    "ppo, lstm": (
        "PPO",
        "CartPole-v1",
        PPO,
        DENSE | {"use_lstm": True, "lstm_cell_size": 8, "max_seq_len": 5},
        None,
    ),
    "ppo, image": ("PPO", "pixels", PPO, DENSE, None),
    "ppo, masked": ("PPO", "masked", PPO, DENSE, None),
    "ppo, bfloat16": ("PPO", "CartPole-v1", PPO, DENSE, "mixed_bfloat16"),
    "ppo, two modules": ("PPO", "two modules", PPO, DENSE, None),
    "dqn, dense": ("DQN", "CartPole-v1", REPLAY | {"n_step": 3}, DENSE, None),
    "dqn, image": ("DQN", "pixels", REPLAY | {"num_atoms": 5}, DENSE, None),
    "sac, dense": ("SAC", "Pendulum-v1", REPLAY, DENSE, None),
    "sac, discrete": ("SAC", "CartPole-v1", REPLAY, DENSE, None),
    "sac, masked": ("SAC", "masked", REPLAY, DENSE, None),
}


class Seen(gym.Env):
    """Shows random observations, and rewards actions that equal their last bit."""

    def __init__(self, space: gym.Space, masked: bool):
        self._space, self._masked = space, masked
        self.action_space = gym.spaces.Discrete(3)
        self.observation_space = space
        if masked:
            mask = gym.spaces.MultiBinary(3)
            parts = {"action_mask": mask, "observations": space}
            self.observation_space = gym.spaces.Dict(parts)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = 7
        return self._look(), {}

    def step(self, action):
        self._left -= 1
        reward = float(action == self._bit)
        return self._look(), reward, self._left == 0, False, {}

    def _look(self):
        draws = self.np_random.integers(0, 256, self._space.shape)
        self._bit = int(draws.flat[-1] % 2)
        seen = draws.astype(self._space.dtype)
        if not self._masked:
            return seen
        mask = np.array([1, 1, draws.flat[0] % 2], np.int8)
        return {"action_mask": mask, "observations": seen}


ENVIRONMENTS = {
    "pixels": lambda: Seen(PIXELS, masked=False),
    "masked": lambda: Seen(gym.spaces.Box(0, 255, (4,), np.float32), masked=True),
}


def trained(name: str) -> dict:
    """Trains a run with the library that is importable; returns its digests."""
    import keras

    import tflearner as tfl

    algorithm, env, settings, model, policy = RUNS[name]
    before = keras.config.dtype_policy()
    if policy is not None:
        keras.config.set_dtype_policy(policy)
    try:
        if env == "two modules":
            learner, results = two_modules(tfl, settings, model)
        else:
            algo = getattr(tfl, algorithm)(
                ENVIRONMENTS.get(env, env),
                **settings,
                model_config=model,
                num_envs_per_env_runner=2,
                seed=7,
            )
            results = [algo.train() for _ in range(3)]
            learner = algo.learner
            algo.stop()
    finally:
        keras.config.set_dtype_policy(before)
    return digests(learner, results)


def two_modules(tfl, settings: dict, model: dict):
    """Returns a learner of two modules after three updates, and their results."""
    from tflearner.testing import random_batch

    config = tfl.PPOConfig().environment(
        observation_space=gym.spaces.Box(-1.0, 1.0, (4,), np.float32),
        action_space=gym.spaces.Discrete(2),
    )
    config.training(**settings).multi_agent(policies=["first", "second"])
    config.rl_module(model_config=model).debugging(seed=7)
    learner = config.build_learner()
    results = []
    for seed in range(3):
        batch = {
            module_id: random_batch(module, 48 + 16 * index, seed=seed)
            for index, (module_id, module) in enumerate(learner.module.items())
        }
        results.append(
            learner.update_from_batch(
                batch, num_epochs=2, minibatch_size=16, shuffle_batch_per_epoch=True
            )
        )
    return learner, results


def digests(learner, results: list) -> dict:
    """Returns digests of weights and optimizers, metrics, and the weights' numbers."""
    from tflearner.testing import state_digest

    state = learner.get_state()
    weights = state["rl_module"]
    return {
        "weights": state_digest(weights),
        "optimizers": state_digest(state["optimizer"]),
        "metrics": {
            f"{number}/{name}": repr(value)
            for number, result in enumerate(results)
            for name, value in metrics_of(result)
        },
        "values": np.concatenate([np.ravel(x) for x in leaves(weights)]).tolist(),
    }


def leaves(node) -> list:
    """Returns the arrays of a nested dict, by the order of its keys."""
    if isinstance(node, dict):
        return [leaf for key in sorted(node) for leaf in leaves(node[key])]
    return [np.asarray(node, np.float64)]


def metrics_of(node, path: str = ""):
    """Yields path and value of each result, except measured times."""
    if not isinstance(node, dict):
        yield path, np.asarray(node).tolist()
        return
    for key, own in node.items():
        if key not in ("timers", "time_total_s"):
            yield from metrics_of(own, f"{path}/{key}" if path else str(key))


def runs_of(version: pathlib.Path, names: list[str]) -> dict[str, dict]:
    """Returns the digests of runs, trained in a process that imports `version`."""
    environment = os.environ | {
        "PYTHONPATH": str(version),
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        [sys.executable, __file__, "--train", json.dumps(names)],
        env=environment,
        cwd=version,
        stdout=subprocess.PIPE,
        timeout=60 * MINUTES,
        check=True,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    assert pathlib.Path(answer["library"]).is_relative_to(version), answer["library"]
    return answer["runs"]


def main() -> int:
    """Compares REVISION with the working tree; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revision", metavar="REVISION")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = ["git", "archive", args.revision, "tflearner"]
        packed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
        before = runs_of(pathlib.Path(folder).resolve(), args.runs)
    after = runs_of(ROOT, args.runs)
    different, new_metrics = 0, set()
    for name in args.runs:
        old, new = before[name], after[name]
        parts = [part for part in ("weights", "optimizers") if old[part] != new[part]]
        changed = {k for k, v in old["metrics"].items() if new["metrics"].get(k) != v}
        if changed:
            parts.append(f"metrics ({', '.join(sorted(changed)[:3])})")
        new_metrics |= {
            k.split("/")[-1] for k in new["metrics"].keys() - old["metrics"]
        }
        different += bool(parts)
        print(f"{name:20}{_apart(old, new, parts) if parts else 'equal'}")
    if new_metrics:
        print(f"new metrics: {', '.join(sorted(new_metrics))}")
    print(f"{len(args.runs) - different} of {len(args.runs)} runs are equal")
    return int(different > 0)


def _apart(old: dict, new: dict, parts: list[str]) -> str:
    text = f"different {', '.join(parts)}"
    if len(old["values"]) != len(new["values"]):
        return f"{text}: {len(old['values']):,} and {len(new['values']):,} weights"
    a, b = np.array(old["values"]), np.array(new["values"])
    apart = np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)
    return f"{text}: weights apart by {apart:.1e} of the largest"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        import tflearner

        found = {name: trained(name) for name in json.loads(sys.argv[2])}
        print(json.dumps({"library": tflearner.__file__, "runs": found}))
    else:
        sys.exit(main())
