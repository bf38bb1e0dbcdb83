"""Times tflearner's `update_from_batch`: one call from NumPy rows to the results."""

import gymnasium
import tensorflow as tf
import worker

from tflearner import DefaultModelConfig, MultiAgentBatch, PPOConfig, SampleBatch


def main() -> None:
    """Times whole updates, the standardising of the advantages included."""
    s = worker.settings()
    # Two threads in a loop of kernels this small mostly wait for each other.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .training(
            lr=s["lr"],
            train_batch_size_per_learner=s["rows"],
            minibatch_size=s["minibatch_size"],
            num_epochs=s["num_epochs"],
            clip_param=s["clip_param"],
            grad_clip=s["grad_clip"],
            vf_loss_coeff=s["vf_loss_coeff"],
            vf_clip_param=float("inf"),
            entropy_coeff=s["entropy_coeff"],
            use_kl_loss=False,
        )
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=s["hiddens"],
                fcnet_activation="tanh",
                vf_share_layers=False,
            )
        )
        .debugging(seed=0)
    )
    learner = config.build_learner(env=gymnasium.make("CartPole-v1"))
    rows = worker.make_batch(s["rows"], 4, 2)

    def one_update() -> dict:
        advantages = rows["advantages"]
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        batch = SampleBatch(
            {
                "obs": rows["obs"],
                "actions": rows["actions"],
                "action_logp": rows["logp"],
                "action_dist_inputs": rows["logits"],
                "advantages": advantages,
                "value_targets": rows["value_targets"],
            }
        )
        return learner.update_from_batch(
            MultiAgentBatch({"default_policy": batch}, env_steps=s["rows"]),
            num_epochs=s["num_epochs"],
            minibatch_size=s["minibatch_size"],
            shuffle_batch_per_epoch=True,
        )

    worker.report(
        ["tensorflow", "keras", "numpy"],
        **worker.time_updates(one_update, s["seconds"]),
        num_traces=learner.num_traces,
    )


if __name__ == "__main__":
    main()
