"""Builds an algorithm, trains, acts, saves, restores and exports."""

import numpy as np

import tflearner as tfl
from tflearner.errors import TFLearnerError


def main(directory):
    """Prints "worked" at the end, or the `TFLearnerError`."""
    try:
        live(directory)
    except TFLearnerError as error:
        print(f"{type(error).__name__}: {error}")
    else:
        print("worked")


def build():
    """Returns an algorithm that has been trained."""
    algo = tfl.PPO(
        "CartPole-v1",
        num_envs_per_env_runner=2,
        train_batch_size_per_learner=64,
        minibatch_size=32,
        num_epochs=2,
        seed=1,
        model_config=tfl.DefaultModelConfig(fcnet_hiddens=[8]),
    )
    algo.train()
    return algo


def live(directory):
    algo = build()
    algo.fit(64, log_dir=f"{directory}/runs", verbose=2)
    algo.summary()
    print(algo.evaluate(episodes=2))
    print(algo.export(f"{directory}/policy"))
    algo.save(f"{directory}/saved")
    other = tfl.PPO.from_checkpoint(f"{directory}/saved")
    results = [each.train()["learners"]["default_policy"] for each in (algo, other)]
    losses = [each["total_loss"] for each in results]
    assert np.isfinite(losses).all() and losses[0] == losses[1], losses
    for each in (algo, other):
        each.stop()
