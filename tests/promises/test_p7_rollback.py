"""P7: rollback is exact on every route, to any step, from any other."""

import gc
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPO, PPOTfLearner
from tflearner.checkpoint.builders import name_of
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.testing import learner_digest, random_batch

NUM_STEPS = 10
NOISY = "noisy"


class Noisy(PPOTfRLModule):
    """Draws from a generator of every kind while it learns."""

    def setup(self):
        super().setup()
        self.numpy_rng = np.random.default_rng(3)
        self.rng = tf.random.Generator.from_seed(4)
        self.seeds = keras.random.SeedGenerator(5)

    def _forward_train(self, batch, **kwargs):
        outputs = super()._forward_train(batch, **kwargs)
        logits = outputs["action_dist_inputs"]
        noise = self.rng.normal(tf.shape(logits))
        noise += keras.random.normal(tf.shape(logits), seed=self.seeds)
        return {**outputs, "action_dist_inputs": logits + 0.1 * noise}


class Counting(PPOTfLearner):
    """Adds to what its next update depends on."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.counts = np.zeros(3)

    def _get_learner_state(self):
        return {**super()._get_learner_state(), "counts": self.counts.copy()}

    def _set_learner_state(self, state):
        super()._set_learner_state(state)
        self.counts = state["counts"].copy()


BUILDERS = {name_of(cls): cls for cls in (Counting, Noisy)}


def make_algo():
    model_config = DefaultModelConfig(fcnet_hiddens=[])
    return PPO(
        "CartPole-v1",
        seed=1,
        jit_compile=False,
        learner_class=Counting,
        model_config=model_config,
        policies={DEFAULT_MODULE_ID: None, NOISY: RLModuleSpec(module_class=Noisy)},
        algorithm_config_overrides_per_module={NOISY: {"lr": 0.02, "grad_clip": 0.5}},
        lr=[[0, 1e-2], [1000, 1e-4]],
        entropy_coeff=[[0, 0.1], [1000, 0.0]],
        kl_target=1e-5,
        num_epochs=2,
        train_batch_size_per_learner=16,
        minibatch_size=8,
    )


def advance(learner, step):
    """Takes the learner from one step to the next; the batch is that of the step."""
    batch = {
        mid: random_batch(module, 16, seed=10 * step)
        for mid, module in learner.module.items()
    }
    learner.update(
        batch,
        timesteps={"num_env_steps_sampled_lifetime": 60 * (step + 1)},
        num_epochs=2,
        minibatch_size=8,
        shuffle_batch_per_epoch=True,
    )
    learner.module[NOISY].numpy_rng.random(step + 1)
    learner.metrics.log_value(("mine", f"of_{step % 3}"), step)
    learner.counts += step


class Run:
    """One run of `NUM_STEPS`, of which every step is kept in every form."""

    def __init__(self, directory):
        self.algo = make_algo()
        self.learner = self.algo.learner
        self.digests, self.states, self.of_learner, self.of_algo = [], [], [], []
        for step in range(NUM_STEPS):
            self.digests.append(learner_digest(self.learner))
            self.states.append(self.learner.get_state())
            self.of_learner.append(self.learner.save_to_path(directory / "learner"))
            self.of_algo.append(self.algo.save(directory / "algo"))
            advance(self.learner, step)

    def by_state(self, step):
        self.learner.set_state(self.states[step], force=True)
        return self.learner

    def by_path(self, step):
        self.learner.restore_from_path(self.of_learner[step])
        return self.learner

    def by_component(self, step):
        self.algo.restore_from_path(self.of_algo[step], component="learner")
        return self.learner

    def by_fresh_learner(self, step):
        return Counting.from_checkpoint(self.of_learner[step], builders=BUILDERS)


ROUTES = (Run.by_state, Run.by_path, Run.by_component, Run.by_fresh_learner)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = Run(tmp_path_factory.mktemp("run"))
    assert len(set(made.digests)) == NUM_STEPS
    kl = [tuple(state["learner"]["kl_coeffs"].values()) for state in made.states]
    assert len(set(kl)) > 2  # It moves.
    yield made
    made.algo.stop()


def test_rollback_is_exact_on_every_route(run, count, seed, line):
    rng = np.random.default_rng(seed)
    failures, arrive = [], itertools.cycle(ROUTES[:3])
    for pair in range(count):
        start, target = int(rng.integers(1, NUM_STEPS)), int(rng.integers(NUM_STEPS))
        for route in ROUTES:
            if route is not Run.by_fresh_learner:  # That one comes from nowhere.
                next(arrive)(run, start - 1)
                advance(run.learner, start - 1)  # It really gets there, by learning.
                if learner_digest(run.learner) != run.digests[start]:
                    failures.append(("went on differently to", start))
            if learner_digest(route(run, target)) != run.digests[target]:
                failures.append((route.__name__, start, target))
        if pair % 50 == 49:  # Frees what TensorFlow keeps of variables that are gone.
            keras.utils.clear_session()
            gc.collect()
    line(
        f"{count:,} pairs of steps x {len(ROUTES)} routes, from steps that were learned: "
        f"{len(failures)} digests differ"
    )
    assert not failures, failures[:10]
