"""Training that can be killed and continued: a learner with recorded batches, and runs.

`train` is for a process that has run no TensorFlow op yet. It goes on from the newest
checkpoint, trains to the end and returns a digest of all that a further step would depend
on, and of the last results.
"""

import dataclasses
import random

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

import tflearner as tfl
from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.testing import learner_digest, random_batch, run_digest, state_digest

UPDATES = 13
SAVE_EVERY = 2  # So there is something to do after the last save.
ADDED_AFTER = 3  # The update after which a run with two modules gets the second.
SPACES = (gym.spaces.Box(-1.0, 1.0, (4,), np.float32), gym.spaces.Discrete(2))
SETTINGS = {
    "lr": [[0, 1e-2], [400, 1e-4]],
    "entropy_coeff": [[0, 0.1], [400, 0.0]],
    "kl_target": 1e-6,  # The coefficient grows with every update.
    "jit_compile": False,
    "seed": 7,
}
STEPS = 24  # Environment steps of one iteration of PPO.
UPDATE = {"num_epochs": 2, "minibatch_size": 8, "shuffle_batch_per_epoch": True}
SETTINGS_OF_PPO = {
    **SETTINGS,
    **UPDATE,
    "train_batch_size_per_learner": STEPS,
    "num_envs_per_env_runner": 2,
    "env_to_module_connector": tfl.MeanStdFilter,
    "evaluation_interval": 4,
    "evaluation_duration": 1,
    "model_config": tfl.DefaultModelConfig(fcnet_hiddens=[8]),
}
SETTINGS_OF_REPLAY = {
    "jit_compile": False,
    "seed": 7,
    "rollout_fragment_length": 4,
    "num_envs_per_env_runner": 2,
    "min_sample_timesteps_per_iteration": STEPS,
    "num_steps_sampled_before_learning_starts": STEPS + 1,
    "train_batch_size_per_learner": 8,
    "training_intensity": 1.7,
    "n_step": (1, 3),
    "replay_buffer_config": {"capacity": 5 * STEPS},  # Old steps go.
    "evaluation_interval": 4,
    "evaluation_duration": 1,
    "model_config": {"fcnet_hiddens": [8]},
}
# Kind: class, environment and settings of an algorithm.
ALGORITHMS = {
    "ppo": (tfl.PPO, "CartPole-v1", SETTINGS_OF_PPO),
    "dqn": (
        tfl.DQN,
        "CartPole-v1",
        {
            **SETTINGS_OF_REPLAY,
            "epsilon": [[0, 1.0], [200, 0.1]],
            "lr": SETTINGS["lr"],
            "target_network_update_freq": 40,
            "env_to_module_connector": tfl.MeanStdFilter,
        },
    ),
    "sac": (
        tfl.SAC,
        "Pendulum-v1",
        {**SETTINGS_OF_REPLAY, "actor_lr": SETTINGS["lr"], "tau": 0.1},
    ),
}


@tfl.register_builder("promises/NoisyModule")
class NoisyModule(tfl.PPOTfRLModule):
    """Draws random numbers of three kinds while it is trained."""

    def setup(self):
        super().setup()
        self.noise = tf.random.Generator.from_seed(self.seed)
        self.seeds = keras.random.SeedGenerator(self.seed)
        self.dropout = keras.layers.Dropout(0.3, seed=self.seed)

    def _forward_train(self, batch, **kwargs):
        obs = batch["obs"] + 0.1 * self.noise.normal(tf.shape(batch["obs"]))
        obs += 0.1 * keras.random.uniform(tf.shape(obs), seed=self.seeds)
        obs = self.dropout(obs, training=True)
        return super()._forward_train(batch | {"obs": obs}, **kwargs)


@dataclasses.dataclass(frozen=True)
class How:
    """What is up to chance in a life: it makes no difference to the result.

    Attributes:
        rebuilds: Whether the run is made by `from_checkpoint`, or restored into another
            one that is there already.
        background: Whether a run saves on a thread.
    """

    rebuilds: bool = True
    background: bool = False

    @classmethod
    def at_random(cls, rng: random.Random) -> "How":
        return cls(rng.random() < 0.5, rng.random() < 0.5)


def spec(module_class=tfl.PPOTfRLModule, **model_config):
    """Returns the specification of a tiny module."""
    model_config = tfl.DefaultModelConfig(fcnet_hiddens=[8], **model_config)
    return tfl.RLModuleSpec(module_class, *SPACES, model_config=model_config)


def new_learner(kind):
    recurrent = {"use_lstm": True, "lstm_cell_size": 4, "max_seq_len": 2}
    first = spec(**recurrent) if kind == "recurrent" else spec()
    config = tfl.PPOConfig().update_from_dict(SETTINGS)
    config.multi_agent(policies={"first": first})
    return config.build_learner()


def add_noisy(learner):
    learner.add_module(
        module_id="noisy",
        module_spec=spec(NoisyModule),
        config_overrides={"lr": 2e-2, "clip_param": 0.1},
        new_should_module_be_updated={"first", "noisy"},
    )


def continued_learner(kind, path, how):
    """Returns a learner that stands where the newest checkpoint was, and its update."""
    done = max(CheckpointDirectory(path).steps(), default=0)
    if done and how.rebuilds:
        return tfl.PPOTfLearner.from_checkpoint(path), done
    learner = new_learner(kind)
    if done:
        if kind == "two-modules" and done > ADDED_AFTER:
            add_noisy(learner)
        learner.restore_from_path(path)
    return learner, done


def train_learner(kind, path, how, say):
    learner, done = continued_learner(kind, path, how)
    say("training")
    results = None
    for number in range(done + 1, UPDATES + 1):
        if kind == "two-modules" and number == ADDED_AFTER + 1:
            add_noisy(learner)
        batch = {
            mid: random_batch(module, 20, seed=number)
            for mid, module in learner.module.items()
        }
        now = {tfl.NUM_ENV_STEPS_SAMPLED_LIFETIME: 20 * number}
        results = learner.update(batch, timesteps=now, **UPDATE)
        if number % SAVE_EVERY == 0:
            learner.save_to_path(path, step=number, keep=2)
    return state_digest([learner_digest(learner), results])


def continued_run(kind, path, how):
    algorithm, env, settings = ALGORITHMS[kind.split("-")[0]]
    done = CheckpointDirectory(path).steps()
    if done and how.rebuilds:
        return algorithm.from_checkpoint(path)
    algo = algorithm(env, **settings)
    if done:
        algo.restore_from_path(path)
    return algo


def train_run(kind, path, how, say):
    algo = continued_run(kind, path, how)
    say("training")
    left = STEPS * UPDATES - algo.num_env_steps_sampled_lifetime
    options = {"keep": 2, "background": how.background}
    if kind.endswith("-fit") and left > 0:
        saving = tfl.CheckpointCallback(path, every=SAVE_EVERY, **options)
        algo.fit(left, callbacks=[saving], verbose=0)
    elif not kind.endswith("-fit"):
        for iteration in range(UPDATES - left // STEPS + 1, UPDATES + 1):
            algo.train()
            if iteration % SAVE_EVERY == 0:
                algo.save(path, **options)
    digest = [run_digest(algo), dataclasses.astuple(algo.evaluate(1))]
    algo.stop()
    return state_digest(digest)


KINDS = {
    "dense": train_learner,
    "recurrent": train_learner,
    "two-modules": train_learner,
    "ppo-fit": train_run,
    "ppo-train": train_run,
    "dqn": train_run,
    "sac": train_run,
}
# Kinds and numbers of threads, the first ten of which are run always.
CELLS = [
    ("dense", 1),
    ("recurrent", 1),
    ("recurrent", 2),
    ("dense", 2),
    ("two-modules", 1),
    ("ppo-fit", 1),
    ("ppo-train", 2),
    ("two-modules", 2),
    ("dqn", 1),
    ("sac", 2),
    ("dqn", 2),
    ("sac", 1),
    ("ppo-train", 1),
    ("ppo-fit", 2),
]


def train(cell, path, how, say):
    """Trains to the end and returns the digest.

    Args:
        cell: One of `CELLS`.
        path: A directory for checkpoints.
        how: What is up to chance.
        say: Called with what begins: "building" or "restoring", then "training" and
            "saving" in turn.
    """
    kind, threads = cell
    say("restoring" if CheckpointDirectory(path).steps() else "building")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    save = CheckpointDirectory.save

    def save_aloud(*args, **kwargs):
        say("saving")
        saved = save(*args, **kwargs)
        say("training")
        return saved

    CheckpointDirectory.save = save_aloud
    return KINDS[kind](kind, path, how, say)


def warm_up():
    """Imports, once for all children, the public names they use."""
    for name in (
        "PPO",
        "PPOTfLearner",
        "DQN",
        "SAC",
        "CheckpointCallback",
        "MeanStdFilter",
    ):
        getattr(tfl, name)
