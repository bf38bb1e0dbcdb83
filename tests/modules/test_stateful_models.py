"""A stateful encoder of the user's, here of attention, works wherever an LSTM does."""

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf
import tree
from keras import ops

import tflearner as tfl
from tflearner.columns import Columns
from tflearner.connectors.actions import GetActions
from tflearner.connectors.pipeline import ModuleToEnvPipeline
from tflearner.errors import ExportError, ModuleError
from tflearner.export.policy import export_policy
from tflearner.modules import acting
from tflearner.modules.catalog import checked_model
from tflearner.testing import assert_close, random_batch

ME = "default_policy"
SIZE, WINDOW, LENGTH = 4, 3, 5
OBS, ACT = gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Discrete(2)


class Attention(keras.layers.Layer):
    """Attends over the embeddings of the last `WINDOW` steps of an episode."""

    def __init__(self):
        super().__init__()
        self.parts = [
            keras.layers.Dense(
                SIZE, kernel_initializer=keras.initializers.GlorotUniform(seed=seed)
            )
            for seed in range(4)
        ]

    def initial_state(self):
        past = np.zeros((WINDOW, SIZE), np.float32)
        return {"past": past, "num_steps": np.zeros((), np.int32)}

    def call(self, x, state):
        embed, query, key, value = self.parts
        tokens = ops.concatenate([state["past"], embed(x)], axis=1)
        num_steps, is_kept = ops.shape(x)[1], self._is_kept(x, state["num_steps"])
        scores = query(tokens[:, WINDOW:]) @ ops.transpose(key(tokens), (0, 2, 1))
        weights = ops.softmax(ops.where(is_kept, scores, -1e9))
        after = {
            "past": tokens[:, -WINDOW:],
            "num_steps": state["num_steps"] + num_steps,
        }
        return ops.tanh(weights @ value(tokens)), after

    def _is_kept(self, x, num_before):
        """Returns which tokens each step attends to. [S, T, WINDOW + T]."""
        num_steps = ops.shape(x)[1]
        step = ops.arange(num_steps)[None, :, None] + WINDOW
        token = ops.arange(WINDOW + num_steps)[None, None]
        is_near = (token > step - WINDOW) & (token <= step)
        return is_near & (token >= WINDOW - num_before[:, None, None])


class Other(tfl.PPOCatalog):
    """Makes the encoder in place of `model_config`."""

    def build_encoder(self, input_shape, name=None):
        return Attention()


def make(cls=tfl.PPOTfRLModule, catalog_class=None, **settings):
    settings = {"model": Attention, "max_seq_len": LENGTH} | settings
    return cls(OBS, ACT, model_config=settings, catalog_class=catalog_class, seed=1)


def states(module, num):
    return tree.map_structure(
        lambda x: np.repeat(x[None], num, axis=0), module.get_initial_state()
    )


def by_catalog():
    return make(catalog_class=Other, model=None)


MODULES = {
    "model": make,
    "separate": lambda: make(vf_share_layers=False),
    "catalog": by_catalog,
}


@pytest.mark.parametrize("name", MODULES)
def test_acting_step_by_step_equals_the_whole_sequence(name):
    module = MODULES[name]()
    assert module.is_stateful() and module.max_seq_len == LENGTH
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (2, 2 * WINDOW + 1, 4)).astype(np.float32)
    whole = module.forward_train(
        {Columns.OBS: obs, Columns.STATE_IN: states(module, 2)}
    )
    actor, state = acting.make_actor(module), states(module, 2)
    for t in range(obs.shape[1]):
        batch = {Columns.OBS: obs[:, t], Columns.STATE_IN: state}
        out = actor(batch, explore=False, rng=rng)
        state = out[Columns.STATE_OUT]
        want = whole[Columns.ACTION_DIST_INPUTS][:, t]
        assert_close(out[Columns.ACTION_DIST_INPUTS], want, rtol=1e-5, atol=1e-6)
    tree.map_structure(
        lambda got, want: assert_close(got, want, rtol=1e-5, atol=1e-6),
        state,
        dict(whole[Columns.STATE_OUT]),
    )


@pytest.fixture(scope="module")
def algo():
    """An algorithm that has trained the model on CartPole."""
    algo = tfl.PPO(
        "CartPole-v1",
        model_config=tfl.DefaultModelConfig(model=Attention, max_seq_len=LENGTH),
        num_envs_per_env_runner=2,
        train_batch_size_per_learner=60,
        minibatch_size=20,
        num_epochs=2,
        lr=1e-2,
        seed=1,
    )
    before = algo.get_module().get_state()
    results = algo.train()["learners"][ME]
    after = algo.get_module().get_state()
    assert np.isfinite(results["total_loss"])
    assert all((before[key] != after[key]).any() for key in before if "kernel" in key)
    yield algo
    algo.stop()


def test_episodes_hold_its_states(algo):
    episode, *_ = algo.env_runner.sample(num_timesteps=24)
    observations = episode.get_observations(slice(0, len(episode)))
    module, at = algo.get_module(), episode.t_started
    if at:
        state = episode.get_extra_model_outputs(
            Columns.STATE_OUT, -1, neg_index_as_lookback=True
        )
        state = tree.map_structure(lambda x: np.asarray(x)[None], state)
    else:
        state = states(module, 1)
    batch = {Columns.OBS: np.float32(observations)[None], Columns.STATE_IN: state}
    want = module.forward_train(batch)[Columns.STATE_OUT]
    got = episode.get_extra_model_outputs(Columns.STATE_OUT, len(episode) - 1)
    assert got["num_steps"] == at + len(episode) and len(episode) > WINDOW
    assert_close(got["past"], want["past"][0], rtol=1e-4, atol=1e-5)


def test_a_learner_takes_its_episodes_and_batches(algo):
    episodes = algo.env_runner.sample(num_timesteps=40)
    results = algo.learner.update_from_episodes(episodes, minibatch_size=20)
    assert np.isfinite(results[ME]["total_loss"])
    results = algo.learner.update(random_batch(algo.get_module(), 20))
    assert np.isfinite(results[ME]["total_loss"])


def test_a_run_with_it_continues_from_its_checkpoint(algo, tmp_path):
    algo.save(tmp_path)
    again = tfl.PPO.from_checkpoint(tmp_path, model=Attention)
    results = [each.train()["learners"][ME]["total_loss"] for each in (algo, again)]
    assert results[0] == results[1]
    again.stop()


def test_it_is_exported_as_saved_model_and_not_as_keras_file(algo, tmp_path):
    report = algo.export(tmp_path / "policy")
    policy = tf.saved_model.load(str(report.path))
    state, obs = policy.initial_state(tf.constant(3)), tf.ones((3, 4))
    for num in (1, 2):
        actions, state = policy.act_greedy(obs, state)
        assert actions.shape == (3,) and (state["num_steps"].numpy() == num).all()
    with pytest.raises(ExportError, match=r"Attention.*tf_saved_model"):
        algo.export(tmp_path / "policy.keras")


class Cumulative(keras.layers.Layer):
    """Sums up what it has seen; the forms below are for one step of it."""

    def initial_state(self):
        return {"sum": np.zeros(4, np.float32)}

    def call(self, x, state):
        after = state["sum"][:, None] + ops.cumsum(x, axis=1)
        return after, {"sum": after[:, -1]}

    def numpy_form(self):
        return CumulativeStep()

    def keras_form(self, form, x, state):
        return CumulativeStep()(x, state)


class CumulativeStep:
    """One step of `Cumulative`."""

    def initial_state(self):
        return {"sum": np.zeros(4, np.float32)}

    def __call__(self, x, state):
        after = state["sum"] + x
        return after, {"sum": after}


def test_forms_of_its_own_serve_acting_and_keras_files(tmp_path):
    module = make(model=Cumulative)
    assert isinstance(acting.make_actor(module), acting.NumpyActor)
    pieces = ModuleToEnvPipeline([GetActions(OBS, ACT)], OBS, ACT)
    report = export_policy(module, tmp_path / "p.keras", module_to_env=pieces)
    model = keras.models.load_model(report.path)
    out = model({"obs": np.ones((2, 4)), "state_sum": np.ones((2, 4))})
    np.testing.assert_array_equal(out["state_sum"], np.full((2, 4), 2.0))


class Forgets(Attention):
    def call(self, x, state):
        return super().call(x, state)[0], {"past": state["past"]}


class Flattens(Attention):
    def call(self, x, state):
        out, state = super().call(x, state)
        return out[:, 0], state


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (Forgets, r"a state of \{'past': .*num_steps"),
        (Flattens, r"output of shape \(2, 4\).*shape \(2, 1, d\)"),
    ],
)
def test_what_is_wrong_with_a_stateful_model_is_named(model, match):
    with pytest.raises(ModuleError, match=match):
        checked_model(model, (4,), may_have_state=True)


def test_one_state_is_enough():
    with pytest.raises(ModuleError, match="a state beside use_lstm"):
        make(use_lstm=True)


@pytest.mark.parametrize("cls", [tfl.DQNTfRLModule, tfl.SACTfRLModule])
def test_modules_of_replayed_steps_take_none(cls):
    with pytest.raises(ModuleError, match="want a model without a state"):
        make(cls)


def test_a_layer_of_keras_with_a_state_of_its_own_is_no_such_model():
    space = gym.spaces.Box(-1, 1, (6, 2), np.float32)
    settings = {"model": lambda: keras.layers.GRU(4)}
    assert not tfl.PPOTfRLModule(space, ACT, model_config=settings).is_stateful()
