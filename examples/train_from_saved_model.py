"""Learning goes on without this library: a SavedModel with the gradient step inside.

A `TfLearner` clones an expert, is exported half-way with `include_update=True`, and goes
on. A second program does the rest of the steps too: it has TensorFlow and the
SavedModel, and cannot import tflearner. Both end with the same weights.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import gymnasium as gym
import numpy as np
import tensorflow as tf

import tflearner as tfl

ROWS_PER_STEP = 250

PROGRAM = """
import sys

sys.modules["tflearner"] = None  # Importing it would fail.

import numpy as np
import tensorflow as tf

policy = tf.saved_model.load("policy")
batches = np.load("batches.npz")
for obs, actions in zip(batches["obs"], batches["actions"]):
    metrics = policy.update({"obs": obs, "actions": actions})
print(f"the other program: loss {metrics['total_loss']:.4f}")
np.save("greedy.npy", policy.act_greedy(np.load("test_obs.npy")))
np.savez("weights.npz", *policy.trainable_variables)
"""


class BehaviorCloning(tfl.TfLearner):
    """Raises the probability of the actions in the batch."""

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        """Returns the negative log-likelihood of the expert's actions."""
        module = self.module[module_id]
        logits = fwd_out[tfl.Columns.ACTION_DIST_INPUTS]
        dist = module.get_train_action_dist_cls().from_logits(logits)
        return -tf.reduce_mean(dist.logp(batch[tfl.Columns.ACTIONS]))

    def get_required_columns(self, module_id):
        """Returns what a batch must hold."""
        return (tfl.Columns.OBS, tfl.Columns.ACTIONS)


def expert_steps(num_steps: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns observations float32 [N, 4] and an expert's actions int32 [N]."""
    observations = rng.uniform(-1.0, 1.0, (num_steps, 4)).astype(np.float32)
    expert = observations @ np.array([0.2, 0.4, 1.5, 1.0], np.float32) > 0.0
    return {
        tfl.Columns.OBS: observations,
        tfl.Columns.ACTIONS: expert.astype(np.int32),
    }


def train(learner: tfl.TfLearner, batches: list[dict[str, np.ndarray]]) -> float:
    """Takes one gradient step on each batch and returns the last loss."""
    for batch in batches:
        results = learner.update_from_batch(batch)
    return results[tfl.DEFAULT_MODULE_ID]["total_loss"]


def main() -> None:
    """Exports a learner in mid-training and trains it on in two programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100_000, help="expert steps")
    args = parser.parse_args()

    started = time.perf_counter()
    rng = np.random.default_rng(args.seed)
    spec = tfl.RLModuleSpec(
        module_class=tfl.PPOTfRLModule,
        observation_space=gym.spaces.Box(-1.0, 1.0, (4,), np.float32),
        action_space=gym.spaces.Discrete(2),
        model_config=tfl.DefaultModelConfig(fcnet_hiddens=[32, 32]),
    )
    config = tfl.AlgorithmConfig().training(lr=3e-3).debugging(seed=args.seed)
    learner = BehaviorCloning(config=config, module_spec=spec)
    learner.build()

    half = max(args.steps // ROWS_PER_STEP // 2, 1)
    batches = [expert_steps(ROWS_PER_STEP, rng) for _ in range(2 * half)]
    test = expert_steps(10_000, rng)
    print(f"here: loss {train(learner, batches[:half]):.4f} after {half} steps")
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        print(learner.export(work / "policy", include_update=True))
        print(f"here: loss {train(learner, batches[half:]):.4f} after {half} more")

        columns = {key: [batch[key] for batch in batches[half:]] for key in batches[0]}
        np.savez(work / "batches.npz", **{k: np.stack(v) for k, v in columns.items()})
        np.save(work / "test_obs.npy", test[tfl.Columns.OBS])
        other = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=work,
            check=True,
            capture_output=True,
            text=True,
        )
        print(other.stdout.strip())
        theirs = [*np.load(work / "weights.npz").values()]
        greedy = np.load(work / "greedy.npy")

    ours = learner.module[tfl.DEFAULT_MODULE_ID].unwrapped().trainable_variables
    difference = max(
        np.abs(our.numpy() - their).max()
        for our, their in zip(ours, theirs, strict=True)
    )
    agreement = np.mean(greedy == test[tfl.Columns.ACTIONS])
    print(
        f"result: largest_difference_of_weights={difference:.1e} "
        f"agreement={agreement:.4f} steps={args.steps} "
        f"seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
