"""A learner alone: own NumPy batches, no environment, no algorithm.

Behaviour cloning of an expert whose steps are already in memory. A `TfLearner` with an
own loss of three lines takes plain NumPy columns; each call takes all its gradient
steps in one traced TensorFlow call.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import gymnasium as gym
import numpy as np
import tensorflow as tf

import tflearner as tfl


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


def main() -> None:
    """Clones the expert and measures how often the clone agrees with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50_000, help="expert steps")
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

    batch = expert_steps(args.steps, rng)
    for epoch in range(5):
        results = learner.update_from_batch(
            batch, minibatch_size=256, shuffle_batch_per_epoch=True
        )
        loss = results[tfl.DEFAULT_MODULE_ID]["total_loss"]
        print(f"epoch {epoch + 1}: loss {loss:.4f}")

    test = expert_steps(10_000, rng)
    clone = learner.module[tfl.DEFAULT_MODULE_ID]
    logits = clone.forward_inference(test)[tfl.Columns.ACTION_DIST_INPUTS].numpy()
    agreement = np.mean(logits.argmax(-1) == test[tfl.Columns.ACTIONS])
    print(
        f"result: agreement={agreement:.4f} steps={args.steps} "
        f"seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
