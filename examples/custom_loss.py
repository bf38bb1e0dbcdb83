"""A learner with a loss of its own: PPO that also imitates a simple rule.

The extension pattern of the library: subclass a learner, override
`compute_loss_for_module`, log own terms, name the class in the config. The rule pushes
the cart in the direction in which the pole falls; its weight is an own setting.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import tensorflow as tf

import tflearner as tfl


class RuleGuidedPPO(tfl.PPOTfLearner):
    """Adds the cross-entropy between the policy and a hand-written rule."""

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        """Returns PPO's loss plus the weighted imitation term."""
        ppo_loss = super().compute_loss_for_module(
            module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
        )
        pole_velocity = batch[tfl.Columns.OBS][:, 3]
        rule = tf.cast(pole_velocity > 0.0, tf.int32)
        imitation = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=rule, logits=fwd_out[tfl.Columns.ACTION_DIST_INPUTS]
            )
        )
        self.metrics.log_value((module_id, "imitation_loss"), imitation, window=1)
        return ppo_loss + config.learner_config_dict["imitation_coeff"] * imitation


def main() -> None:
    """Trains for a few iterations and shows both terms going down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20_000)
    args = parser.parse_args()

    started = time.perf_counter()
    config = (
        tfl.PPOConfig()
        .environment("CartPole-v1")
        .env_runners(
            num_envs_per_env_runner=8, gym_env_vectorize_mode="vector_entry_point"
        )
        .training(
            learner_class=RuleGuidedPPO,
            learner_config_dict={"imitation_coeff": 0.1},
            lr=1e-3,
            train_batch_size_per_learner=1024,
            minibatch_size=128,
            num_epochs=10,
            lambda_=0.95,
            vf_clip_param=float("inf"),
            grad_clip=0.5,
        )
        .rl_module(
            model_config=tfl.DefaultModelConfig(
                fcnet_hiddens=[64, 64], vf_share_layers=False
            )
        )
        .debugging(seed=args.seed)
    )
    algo = config.build_algo()
    history = algo.fit(total_steps=args.steps)
    imitation = history.history["imitation_loss"]
    print(f"imitation loss: {imitation[0]:.3f} -> {imitation[-1]:.3f}")
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
