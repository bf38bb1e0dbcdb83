"""The example that RLlib's Learner is documented with, and its extension pattern."""

import gymnasium as gym
import pytest
import tensorflow as tf

import tflearner as tfl


@pytest.fixture(scope="module")
def env():
    return gym.make("CartPole-v1")


def batch_for(learner):
    batches = {
        module_id: tfl.testing.random_batch(module, 32)
        for module_id, module in learner.module.items()
    }
    return tfl.MultiAgentBatch(batches, env_steps=32)


@pytest.mark.deep_but_first
@pytest.mark.parametrize("run_eagerly", [True, False])
def test_class_example(env, run_eagerly):
    # Create a PPO config object first.
    config = (
        tfl.PPOConfig()
        .framework("tf2", run_eagerly=run_eagerly)
        .rl_module(model_config=tfl.DefaultModelConfig(fcnet_hiddens=[128, 128]))
    )

    # Create a learner from it. The environment tells the spaces.
    learner = config.build_learner(env=env)
    learner.build()  # Does nothing.

    # Take one gradient update on the module and report the results.
    results = learner.update(batch_for(learner))
    assert results[tfl.DEFAULT_MODULE_ID][tfl.WEIGHTS_SEQ_NO] == 1

    # Add a new module, perhaps for league based training.
    learner.add_module(
        module_id="new_player",
        module_spec=tfl.RLModuleSpec(
            module_class=tfl.PPOTfRLModule,
            observation_space=env.observation_space,
            action_space=env.action_space,
            model_config=tfl.DefaultModelConfig(fcnet_hiddens=[64, 64]),
            catalog_class=tfl.PPOCatalog,
        ),
    )

    # Take another gradient update with both previous and new modules.
    results = learner.update(batch_for(learner))
    assert {"new_player", tfl.DEFAULT_MODULE_ID} < set(results)

    # Remove a module.
    learner.remove_module("new_player")

    # Will train previous modules only.
    results = learner.update(batch_for(learner))
    assert "new_player" not in results

    # Get the state of the learner, and set it.
    state = learner.get_state()
    digest = tfl.testing.learner_digest(learner)
    learner.set_state(state)
    assert tfl.testing.learner_digest(learner) == digest

    # Get the weights of the underlying MultiRLModule, and set them.
    weights = learner.get_state(components=tfl.COMPONENT_RL_MODULE)
    report = learner.set_state({tfl.COMPONENT_RL_MODULE: weights})
    assert report == {"applied": [tfl.COMPONENT_RL_MODULE], "ignored": []}
    assert tfl.testing.learner_digest(learner) == digest


def test_extension_pattern(env):
    class MyLearner(tfl.TfLearner):
        def compute_losses(self, fwd_out, batch):
            module_id = tfl.DEFAULT_MODULE_ID
            config = self.config.get_config_for_module(module_id)
            logits = fwd_out[module_id][tfl.Columns.ACTION_DIST_INPUTS]
            actions = batch[module_id][tfl.Columns.ACTIONS]
            errors = tf.nn.sparse_softmax_cross_entropy_with_logits(actions, logits)
            module_loss = config.gamma * tf.reduce_mean(errors)
            self.metrics.log_value((module_id, "imitation"), module_loss, window=1)
            return {module_id: module_loss}

        def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
            raise NotImplementedError

    config = tfl.PPOConfig().training(learner_class=MyLearner, gamma=0.5, lr=0.01)
    config.rl_module(model_config=tfl.DefaultModelConfig(fcnet_hiddens=[16]))
    learner = config.framework(jit_compile=False).build_learner(env=env)
    batch = batch_for(learner)
    first, *_, last = (
        learner.update(batch, minibatch_size=16)[tfl.DEFAULT_MODULE_ID]
        for _ in range(30)
    )
    assert last["imitation"] == last["total_loss"] < first["total_loss"]
    assert learner.num_traces == 1
