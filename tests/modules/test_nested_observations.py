"""Default modules on nested observations and on masks of actions."""

import gymnasium as gym
import keras
import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.errors import ConfigError, ModuleError, SpaceError
from tflearner.modules import acting, inference
from tflearner.modules.action_masks import ACTION_MASK, FORBIDDEN
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.mixed_encoder import MixedEncoder
from tflearner.modules.networks import MLP
from tflearner.testing import assert_close, random_batch

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
Dict, Tuple = gym.spaces.Dict, gym.spaces.Tuple
MultiBinary, MultiDiscrete = gym.spaces.MultiBinary, gym.spaces.MultiDiscrete
VECTOR, IMAGE = Box(-1, 1, (3,)), Box(0, 255, (6, 5, 2), np.uint8)
LSTM = {"use_lstm": True, "lstm_cell_size": 4, "max_seq_len": 3}
FILTERS = {"conv_filters": [(4, 3, 1)]}
SPACES = {
    "multi-binary": MultiBinary(4),
    "dict": Dict([("z", VECTOR), ("a", Discrete(3, start=1))]),
    "tuple": Tuple([VECTOR, Dict({"b": MultiBinary(2), "a": MultiDiscrete([2, 3])})]),
    "masked": Dict({"observations": VECTOR, ACTION_MASK: MultiBinary(4)}),
    "masked-float": Dict({"o": Discrete(2), ACTION_MASK: Box(0, 1, (4,))}),
}
WITH_IMAGE = Dict({"goal": Discrete(3), "camera": IMAGE, ACTION_MASK: MultiBinary(4)})


def make(space, **settings):
    config = DefaultModelConfig(**{"fcnet_hiddens": (8,), **settings})
    module = PPOTfRLModule(space, Discrete(4), model_config=config, seed=0)
    rng = np.random.default_rng(1)
    for weight in module.weights:  # Biases, too, are something.
        weight.assign_add(rng.uniform(-0.5, 0.5, weight.shape))
    return module


def acted(module, batch, actor_class, explore=False):
    actor = actor_class(module)
    rows = {Columns.OBS: batch[Columns.OBS]}
    if module.is_stateful():  # The first step of each sequence.
        first = keras.tree.map_structure(lambda x: x[:, 0], batch[Columns.OBS])
        rows = {Columns.OBS: first, Columns.STATE_IN: batch[Columns.STATE_IN]}
    return actor(rows, explore=explore, rng=np.random.default_rng(0))


@pytest.mark.parametrize("settings", [{}, LSTM, {**LSTM, "vf_share_layers": False}])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_all_ways_of_acting_agree_with_training(space, settings):
    module = make(space, **settings)
    batch = random_batch(module, 12)
    want = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS].numpy()
    if settings:
        want = want[:, 0]
    assert isinstance(acting.make_actor(module), acting.NumpyActor)
    for make_actor in (acting.make_actor, inference.TracedActor):
        for explore in (False, True):
            outputs = acted(module, batch, make_actor, explore)
            got = outputs[Columns.ACTION_DIST_INPUTS]
            assert_close(got, want, rtol=1e-4, atol=1e-5)
    if ACTION_MASK in getattr(space, "spaces", ()):
        masks = batch[Columns.OBS][ACTION_MASK]
        masks = masks[:, 0] if settings else masks
        np.testing.assert_array_equal(want == FORBIDDEN, masks == 0)
    else:
        assert (want != FORBIDDEN).all()


@pytest.mark.parametrize("settings", [{}, LSTM])
def test_values_and_embeddings_do_not_depend_on_masks(settings):
    module = make(SPACES["masked"], **settings)
    batch = random_batch(module, 12)
    before = module.compute_values(batch)
    batch[Columns.OBS] = batch[Columns.OBS] | {
        ACTION_MASK: 1 - batch[Columns.OBS][ACTION_MASK]
    }
    np.testing.assert_array_equal(module.compute_values(batch), before)
    outputs = module.forward_train(batch)
    np.testing.assert_array_equal(outputs[Columns.VF_PREDS], before)


@pytest.mark.parametrize("settings", [{}, LSTM])
def test_rows_that_forbid_everything_stay_as_they_are(settings):
    module = make(SPACES["masked"], **settings)
    batch = random_batch(module, 6)
    masks = batch[Columns.OBS][ACTION_MASK]
    outputs = []
    for value in (0, 1):
        batch[Columns.OBS] = batch[Columns.OBS] | {
            ACTION_MASK: np.full_like(masks, value)
        }
        outputs.append(module.forward_train(batch)[Columns.ACTION_DIST_INPUTS])
    np.testing.assert_array_equal(*outputs)


def test_mask_that_does_not_fit_is_refused():
    space = Dict({"o": VECTOR, ACTION_MASK: MultiBinary(3)})
    with pytest.raises(SpaceError, match=r"want .* shape \(4,\)"):
        make(space)


# Images among other things.


def test_each_image_goes_through_its_own_convolutions():
    space = Tuple([IMAGE, Discrete(3), IMAGE])
    module = make(space, fcnet_activation="linear", **FILTERS)
    actor = module.encoder.actor
    assert type(actor) is MixedEncoder and list(actor.convolutions) == ["0", "2"]
    obs = random_batch(module, 5)[Columns.OBS]
    parts = []
    for image, part in ((obs[0], "0"), (obs[2], "2")):
        convolution = actor.convolutions[part].convolutions[0]
        kernel, bias = convolution.kernel.numpy(), convolution.bias.numpy()
        windows = np.lib.stride_tricks.sliding_window_view(
            image / np.float32(255.0), (3, 3), (1, 2)
        )  # [B, 4, 3, C, 3, 3].
        features = np.einsum("bxycij,ijcf->bxyf", windows, kernel) + bias
        parts.append(np.maximum(features, 0.0).reshape(5, -1))
    parts.insert(1, np.eye(3, dtype=np.float32)[obs[1]])
    dense = actor.dense.dense[0]
    want = np.concatenate(parts, 1) @ dense.kernel.numpy() + dense.bias.numpy()
    assert_close(module.encoder.embed_for_actor(obs), want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, LSTM, {"vf_share_layers": False}])
def test_images_act_as_they_train(settings):
    module = make(WITH_IMAGE, **FILTERS, **settings)
    batch = random_batch(module, 6)
    want = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS].numpy()
    if "use_lstm" in settings:
        want = want[:, 0]
    assert isinstance(acting.make_actor(module), inference.TracedActor)
    outputs = acted(module, batch, inference.TracedActor)
    assert_close(outputs[Columns.ACTION_DIST_INPUTS], want, rtol=1e-4, atol=1e-5)
    assert (want == FORBIDDEN).any()


def test_default_filters_follow_each_image():
    small, large = Box(0, 255, (8, 8, 1), np.uint8), Box(0, 1, (40, 40, 1))
    module = make(Dict({"a": small, "b": large}))
    sizes = [len(c.convolutions) for c in module.encoder.actor.convolutions.values()]
    assert sizes == [1, 3]


def test_no_filters_leave_the_pixels_to_the_dense_layers():
    module = make(WITH_IMAGE, conv_filters=[])
    assert type(module.encoder.actor) is MLP and module.numpy_policy() is not None
    obs = random_batch(module, 4)[Columns.OBS]
    want = np.concatenate(
        [obs["camera"].reshape(4, -1) / np.float32(255), np.eye(3)[obs["goal"]]], 1
    )
    assert_close(module.encoder.encoding(obs), want, rtol=1e-6)


def test_filters_without_an_image_are_refused():
    with pytest.raises(ConfigError, match=r"conv_filters.*\(H, W, C\) among them"):
        make(SPACES["dict"], **FILTERS)


# A model of the user's.


def test_own_model_reads_one_vector():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)])
    module = make(SPACES["dict"], model=model)
    assert module.encoder.actor is model
    with pytest.raises(ModuleError, match=r"shape \(6,\), float32"):
        make(SPACES["dict"], model=keras.Sequential([keras.Input((7,))]))


def own_model(names=("camera", "goal")):
    camera = keras.Input((6, 5, 2), name=names[0])
    goal = keras.Input((3,), name=names[1])
    features = keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(camera / 255.0))
    both = keras.layers.Concatenate()([features, goal])
    inputs = dict(zip(names, (camera, goal)))
    return keras.Model(inputs, keras.layers.Dense(5)(both))


def test_own_model_reads_images_and_all_else_by_name():
    module = make(WITH_IMAGE, model=own_model)
    batch = random_batch(module, 4)
    obs = batch[Columns.OBS]
    want = module.encoder.actor(
        {
            "camera": obs["camera"].astype(np.float32),
            "goal": np.eye(3, dtype=np.float32)[obs["goal"]],
        }
    )
    assert_close(module.encoder.embed_for_actor(obs), want, rtol=1e-5, atol=1e-4)


def test_own_model_of_other_inputs_is_refused_with_the_shapes_wanted():
    match = r"a dict of observations, float32, of shapes {'camera': \(6, 5, 2\), 'goal'"
    with pytest.raises(ModuleError, match=match):
        make(WITH_IMAGE, model=lambda: keras.Sequential([keras.layers.Dense(3)]))
    with pytest.raises(ModuleError, match=match):
        make(WITH_IMAGE, model=lambda: own_model(("camera", "aim")))
