"""Keras' own optimizer options: accumulated gradients, averaged weights."""

import keras
import numpy as np
import pytest

from tflearner.algorithms.ppo import PPOTfLearner

MODES = {
    "plain": {"jit_compile": False},
    "eager": {"run_eagerly": True},
    "xla": {"jit_compile": "auto"},
}


def modes(*names):
    """The first of the modes is the one of the plain run."""
    first, *rest = names
    deep = [pytest.param(name, marks=pytest.mark.deep) for name in rest]
    return pytest.mark.parametrize("mode", [first, *deep])


class OwnOptimizer(PPOTfLearner):
    """PPO with the optimizer that `learner_config_dict` names."""

    def configure_optimizers_for_module(self, module_id, config=None):
        make = self.config.learner_config_dict["optimizer"]
        params = self.get_parameters(self.module[module_id])
        self.register_optimizer(module_id=module_id, optimizer=make(), params=params)


@pytest.fixture
def make(make_learner):
    """Returns a function from a function that makes an optimizer to a learner."""

    def make(optimizer, **settings):
        settings |= {"learner_config_dict": {"optimizer": optimizer}}
        return make_learner(OwnOptimizer, **settings)

    return make


def params_of(learner):
    return [p.numpy() for p in learner.get_parameters(learner.module)]


@modes("plain", "xla")
def test_accumulated_gradients_are_those_of_a_larger_minibatch(make, make_batch, mode):
    accumulating = make(
        lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
        **MODES[mode],
    )
    plain = make(lambda: keras.optimizers.SGD(0.1), run_eagerly=True)
    batch = make_batch(plain, 32)
    accumulating.update(batch, minibatch_size=8)
    plain.update(batch, minibatch_size=16)
    for ours, theirs in zip(params_of(accumulating), params_of(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_clipping_comes_before_gradients_are_accumulated(make, make_batch):
    """The norm of each minibatch's gradient is bounded, so that of their mean is."""
    learner = make(
        lambda: keras.optimizers.SGD(1.0, gradient_accumulation_steps=4),
        grad_clip=1e-3,
    )
    before = params_of(learner)
    learner.update(make_batch(learner, 32), minibatch_size=8)
    change = [now - then for now, then in zip(params_of(learner), before, strict=True)]
    # Four clipped gradients that do not all point the same way.
    assert 0 < np.sqrt(sum(np.sum(c**2) for c in change)) < 1e-3


@modes("eager", "plain", "xla")
def test_accumulation_goes_on_in_the_next_update_and_after_a_restore(
    make, make_batch, mode, tmp_path
):
    def accumulating():
        return make(
            lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=3),
            **MODES[mode],
        )

    learner, restored = accumulating(), accumulating()
    batch = make_batch(learner, 16)
    before = params_of(learner)
    learner.update(batch, minibatch_size=8)  # Two of three.
    for now, then in zip(params_of(learner), before, strict=True):
        np.testing.assert_array_equal(now, then)
    restored.set_state(learner.get_state())
    for each in (learner, restored):
        each.update(batch, minibatch_size=8)
    assert any((a != b).any() for a, b in zip(params_of(learner), before))
    for ours, theirs in zip(params_of(restored), params_of(learner), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@modes("plain", "xla")
def test_averaged_weights_follow_the_weights(make, make_batch, mode):
    learner = make(
        lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75),
        **MODES[mode],
    )
    average = None
    for seed in range(4):  # A slow average beside it: it begins with the first step.
        learner.update(make_batch(learner, 8, seed=seed), minibatch_size=8)
        now = params_of(learner)
        average = (
            now
            if average is None
            else [
                0.75 * old + 0.25 * new for old, new in zip(average, now, strict=True)
            ]
        )
    params = learner.get_parameters(learner.module)
    learner.get_optimizer().finalize_variable_values(params)
    for ours, theirs in zip(params_of(learner), average, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_weights_are_overwritten_with_their_average_as_often_as_asked_for(
    make, make_batch
):
    def run(**options):
        learner = make(
            lambda: keras.optimizers.SGD(
                0.1, use_ema=True, ema_momentum=0.5, **options
            ),
            run_eagerly=not options,
        )
        learner.update(make_batch(learner, 32), minibatch_size=8)
        params = learner.get_parameters(learner.module)
        if not options:
            learner.get_optimizer().finalize_variable_values(params)
        return params_of(learner)

    # The fourth step overwrites, and nothing came before.
    for ours, theirs in zip(run(ema_overwrite_frequency=4), run(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
