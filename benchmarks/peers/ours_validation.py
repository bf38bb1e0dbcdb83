"""Times the check of a batch beside the update that it comes before, in turn."""

import statistics

import gymnasium
import tensorflow as tf
import worker

from tflearner import DefaultModelConfig, PPOConfig
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.intake import batch_checks


def main() -> None:
    """Times check, update, check, update, ... for as long as the settings say."""
    s = worker.settings()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=s["hiddens"], vf_share_layers=False
            )
        )
        .debugging(seed=0)
    )
    learner = config.build_learner(env=gymnasium.make("CartPole-v1"))
    rows = worker.make_batch(s["rows"], 4, 2)
    columns = {
        "obs": rows["obs"],
        "actions": rows["actions"],
        "action_logp": rows["logp"],
        "action_dist_inputs": rows["logits"],
        "advantages": rows["advantages"],
        "value_targets": rows["value_targets"],
    }
    specs = batch_checks.column_specs(learner.module[DEFAULT_MODULE_ID])
    required = learner.get_required_columns(DEFAULT_MODULE_ID)

    def check() -> None:
        batch_checks.check_columns(
            DEFAULT_MODULE_ID, columns, specs=specs, required=required
        )

    def update() -> None:
        learner.update_from_batch(
            columns,
            num_epochs=s["num_epochs"],
            minibatch_size=s["minibatch_size"],
            shuffle_batch_per_epoch=True,
        )

    for _ in range(2):  # Tracing and compilation.
        update()
    checks_ms: list[float] = []
    updates_ms: list[float] = []
    while len(updates_ms) < 5 or sum(updates_ms) < 1000 * s["seconds"]:
        checks_ms.append(worker.milliseconds(check))
        updates_ms.append(worker.milliseconds(update))
    worker.report(
        ["tensorflow", "numpy"],
        check_ms=statistics.median(checks_ms),
        update_ms=statistics.median(updates_ms),
        num_updates=len(updates_ms),
    )


if __name__ == "__main__":
    main()
