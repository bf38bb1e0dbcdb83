"""Cases that RLlib's own tests hold of modules, their specifications and networks."""

import dataclasses

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.constants import ALL_MODULES, DEFAULT_MODULE_ID
from tflearner.errors import ConfigError, ModuleError, SpaceError, UnknownModuleError
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.catalog import PPOCatalog
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module import MultiRLModule, action_dist_class
from tflearner.modules.rl_module_spec import MultiRLModuleSpec, RLModuleSpec
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.networks.distributions import Categorical, DiagGaussian
from tflearner.testing import assert_close

PAIR = ["p0", "p1"]
Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS, IMAGE = Box(-1.0, 1.0, (4,)), Box(0, 255, (10, 10, 3), np.uint8)
ACT = Discrete(2)
MODES = ("forward_train", "forward_exploration", "forward_inference")


def spec_of(obs=OBS, act=ACT, *, inference_only=False, **model_config):
    return RLModuleSpec(
        PPOTfRLModule,
        obs,
        act,
        inference_only=inference_only,
        model_config=DefaultModelConfig(**{"fcnet_hiddens": [4]} | model_config),
        catalog_class=PPOCatalog,
    )


def make(*args, seed=0, **kwargs):
    return spec_of(*args, **kwargs).build(seed=seed)


def some_batch(module, leading=(3,), seed=0):
    """Random observations, and random states where the module has some."""
    rng, space = np.random.default_rng(seed), module.observation_space
    if module.is_stateful():
        leading = (3, 5)
    if isinstance(space, Discrete):
        obs = rng.integers(space.n, size=leading)
    elif isinstance(space, gym.spaces.MultiDiscrete):
        obs = rng.integers(space.nvec, size=(*leading, len(space.nvec)))
    else:
        obs = rng.uniform(0, 1, (*leading, *space.shape)) * np.minimum(space.high, 255)
    batch = {Columns.OBS: obs.astype(space.dtype)}
    if module.is_stateful():
        batch[Columns.STATE_IN] = tf.nest.map_structure(
            lambda x: rng.normal(size=(3, *x.shape)).astype("f"),
            module.get_initial_state(),
        )
    return batch


# Specifications.


def test_one_specification_makes_one_module_of_several(make_config):
    multi = spec_of().as_multi_rl_module_spec()
    assert [*multi.rl_module_specs] == [DEFAULT_MODULE_ID]
    assert isinstance(multi.build(), MultiRLModule)
    assert isinstance(spec_of().build().as_multi_rl_module(), MultiRLModule)


def test_each_id_has_its_own_specification():
    specs = {"p0": spec_of(), "p1": spec_of(act=Discrete(5))}
    multi = MultiRLModuleSpec(rl_module_specs=specs).build()
    assert [module.action_space.n for module in multi.values()] == [2, 5]
    assert MultiRLModuleSpec.from_module(multi).rl_module_specs == specs


def test_one_specification_for_all_ids_shares_nothing_among_them(make_config):
    config = make_config(
        policies=PAIR, rl_module_spec=MultiRLModuleSpec(rl_module_specs=spec_of())
    )
    multi_spec = config.get_multi_rl_module_spec()
    multi = multi_spec.build()
    assert [*multi] == PAIR
    before = multi["p1"].get_state()
    for weight in multi["p0"].weights:
        weight.assign(weight + 1.0)
    for key, value in multi["p1"].get_state().items():
        np.testing.assert_array_equal(value, before[key])
    multi_spec["p0"].inference_only = True
    assert not multi_spec["p1"].inference_only


@pytest.mark.parametrize(
    "spec",
    [spec_of(), spec_of(act=Box(-1, 1, (2,)), vf_share_layers=False)],
    ids=["discrete", "box"],
)
def test_specification_of_a_built_module_is_the_specification(spec):
    assert RLModuleSpec.from_module(spec.build()) == spec
    assert RLModuleSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("override", [True, False])
def test_specifications_update_each_other_by_rule(override):
    spec = RLModuleSpec(PPOTfRLModule, OBS)
    other = RLModuleSpec(TfRLModule, action_space=Discrete(3))
    spec.update(other, override=override)
    assert spec.module_class is (TfRLModule if override else PPOTfRLModule)
    assert spec.observation_space == OBS and spec.action_space == Discrete(3)
    multi = MultiRLModuleSpec({"p0": RLModuleSpec(PPOTfRLModule, OBS)})
    multi.update(MultiRLModuleSpec({"p0": other, "p1": other}), override=override)
    assert [*multi.rl_module_specs] == PAIR
    # Without `override` the parts that the other one has replace ours, one by one.
    assert multi["p0"].module_class is multi["p1"].module_class is TfRLModule
    assert multi["p0"].observation_space == (None if override else OBS)


def test_parts_that_are_missing_are_named():
    for name in ("module_class", "observation_space"):
        with pytest.raises(ValueError, match=name):
            dataclasses.replace(spec_of(), **{name: None}).build()


def test_model_config_goes_from_config_by_specification_to_module(make_config):
    of_config = make_config(model={"fcnet_hiddens": [7]})
    assert of_config.get_rl_module_spec().build().model_config.fcnet_hiddens == [7]
    own = RLModuleSpec(model_config={"fcnet_hiddens": [3]})
    of_config.rl_module(rl_module_spec=own)
    module = of_config.get_rl_module_spec().build()
    assert module.model_config.fcnet_hiddens == [3]
    assert module.pi.weights[0].shape == (3, 2)


def test_model_config_as_dict_or_dataclass_makes_equal_modules(assert_same):
    as_dict = dataclasses.replace(spec_of(), model_config={"fcnet_hiddens": [4]})
    one, two = spec_of().build(seed=3), as_dict.build(seed=3)
    assert_same(one.get_state(), two.get_state())
    assert one.model_config == two.model_config


# Several modules.


@pytest.fixture
def pair():
    return MultiRLModule({mid: make(seed=i) for i, mid in enumerate(PAIR)})


def test_modules_are_added_replaced_and_removed(pair):
    new = make()
    with pytest.raises(ValueError, match="'p0'"):
        pair.add_module("p0", new)
    pair.add_module("p0", new, override=True)
    assert pair["p0"] is new
    pair.add_module("p2", make())
    assert [*pair] == ["p0", "p1", "p2"] and len(pair) == 3 and "p2" in pair
    pair.remove_module("p2")
    for call in (lambda: pair["p2"], lambda: pair.remove_module("p2")):
        with pytest.raises(KeyError, match="p0.*p1"):
            call()
    pair.remove_module("p2", raise_err_if_not_found=False)


def test_a_function_is_called_for_each_module(pair):
    def size(mid, module):
        return mid, len(module.weights)

    assert pair.foreach_module(size) == [("p0", 6), ("p1", 6)]
    assert pair.foreach_module(size, return_dict=True) == {
        "p0": ("p0", 6),
        "p1": ("p1", 6),
    }


def test_states_of_several_modules_make_them_equal(pair, assert_same):
    other = MultiRLModule({mid: make(seed=9) for mid in PAIR})
    other.set_state(pair.get_state())
    assert_same(other.get_state(), pair.get_state())
    assert [*pair.get_state(components="p1")] == ["p1"]
    assert [*pair.get_state(not_components=["p1"])] == ["p0"]
    with pytest.raises(UnknownModuleError):
        pair.set_state({"nobody": {}})


class SharingEncoder(TfRLModule):
    """Its encoder is whatever its model_config holds."""

    def setup(self):
        self.encoder = self.model_config["encoder"]
        self.head = keras.layers.Dense(2)

    def _forward(self, batch, **kwargs):
        out = self.head(self.encoder(batch[Columns.OBS]))
        return {Columns.ACTION_DIST_INPUTS: out, Columns.VF_PREDS: out[:, 0]}


def test_modules_with_one_encoder_are_trained_by_one_optimizer(
    make_config, make_batch, recording, differ
):
    class OneOptimizer(recording):
        def configure_optimizers(self):
            params = {
                self.get_param_ref(p): p for p in self.get_parameters(self.module)
            }
            self.register_optimizer(
                optimizer=keras.optimizers.SGD(),
                params=[*params.values()],
                lr_or_lr_schedule=0.1,
            )

    config = {"encoder": keras.layers.Dense(3)}
    spec = RLModuleSpec(SharingEncoder, OBS, Discrete(2), model_config=config)
    module = MultiRLModule({mid: spec.build(seed=i) for i, mid in enumerate(PAIR)})
    learner = OneOptimizer(config=make_config(), module=module)
    learner.build()
    before = module.get_state()
    learner.update(make_batch(learner))
    after = module.get_state()
    kernels = [key for key in before["p0"] if key.endswith("kernel")]
    for mid in PAIR:
        assert all(differ(before[mid][key], after[mid][key]) for key in kernels)
    encoder = config["encoder"].kernel.numpy()
    assert all(np.array_equal(after[mid][kernels[0]], encoder) for mid in PAIR)
    assert [name for name, _ in learner.get_optimizers_for_module(ALL_MODULES)]
    assert learner.get_optimizers_for_module("p0") == []


# Single modules.

LSTM = {"use_lstm": True, "lstm_cell_size": 5, "max_seq_len": 4}
GRU = {"use_gru": True, "lstm_cell_size": 5, "max_seq_len": 4}
CNN = {"conv_filters": [(4, 4, 2)], "conv_activation": "tanh"}
KINDS = {
    "dense": ((OBS, Discrete(3)), {}),
    "separate": ((OBS, Box(-1, 1, (2,))), {"vf_share_layers": False}),
    "discrete": ((Discrete(6), Discrete(3)), {}),
    "multi-discrete": ((gym.spaces.MultiDiscrete([2, 3]), Discrete(3)), {}),
    "image": ((IMAGE, Discrete(3)), CNN),
    "lstm": ((OBS, Discrete(3)), LSTM),
    "gru": ((OBS, Box(-1, 1, (2,))), GRU),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def modules():
    """One module of each kind; no test that uses them changes them."""
    return {kind: make(*spaces, **more) for kind, (spaces, more) in KINDS.items()}


@every_kind
def test_every_pass_has_its_columns_and_keeps_the_batch_size(modules, kind):
    module = modules[kind]
    batch = some_batch(module)
    leading = (3, 5) if module.is_stateful() else (3,)
    space = module.action_space
    size = space.n if isinstance(space, Discrete) else 2 * space.shape[0]
    for mode in MODES:
        outputs = getattr(module, mode)(batch)
        assert outputs[Columns.ACTION_DIST_INPUTS].shape == (*leading, size)
        assert (Columns.VF_PREDS in outputs) == (mode == "forward_train")
        assert (Columns.STATE_OUT in outputs) == module.is_stateful()
    assert module.forward_train(batch)[Columns.VF_PREDS].shape == leading
    assert module.compute_values(batch).shape == leading


@every_kind
def test_every_weight_gets_a_gradient(modules, kind):
    module = modules[kind]
    with tf.GradientTape() as tape:
        outputs = module.forward_train(some_batch(module))
        loss = tf.add_n(
            [
                tf.reduce_sum(outputs[name] ** 2)
                for name in ("action_dist_inputs", "vf_preds")
            ]
        )
    variables = [v.value for v in module.trainable_variables]
    gradients = tape.gradient(loss, variables)
    assert variables and all(np.any(g.numpy()) for g in gradients)


@every_kind
def test_a_state_brings_perturbed_outputs_back(modules, kind):
    module = modules[kind]
    batch = some_batch(module)
    wanted, state = module.forward_train(batch)["vf_preds"].numpy(), module.get_state()
    try:
        module.set_state({key: weight + 1.0 for key, weight in state.items()})
        assert not np.allclose(module.forward_train(batch)["vf_preds"], wanted)
    finally:
        module.set_state(state)
    np.testing.assert_array_equal(module.forward_train(batch)["vf_preds"], wanted)


@pytest.mark.parametrize("kind", ["dense", "separate", "lstm"])
def test_modules_for_acting_take_states_for_acting(kind):
    spaces, more = KINDS[kind]
    whole = make(*spaces, **more)
    acting = make(*spaces, inference_only=True, seed=9, **more)
    state = whole.get_state(inference_only=True)
    assert len(state) < len(whole.get_state())
    acting.set_state(state)
    batch = some_batch(whole)
    name = Columns.ACTION_DIST_INPUTS
    assert_close(
        acting.forward_inference(batch)[name], whole.forward_inference(batch)[name]
    )
    with pytest.raises(RuntimeError, match="inference_only"):
        acting.forward_train(batch)


def test_setup_is_called_once():
    class Counting(PPOTfRLModule):
        num_setups = 0

        def setup(self):
            type(self).num_setups += 1
            super().setup()

    module = dataclasses.replace(spec_of(), module_class=Counting).build()
    assert Counting.num_setups == 1
    with pytest.raises(RuntimeError, match="setup"):
        module.setup()


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [("dense", {}), ("lstm", {"h": (5,), "c": (5,)}), ("gru", {"h": (5,)})],
)
def test_states_of_modules_have_these_shapes(modules, kind, shapes):
    module = modules[kind]
    initial = module.get_initial_state()
    assert {name: x.shape for name, x in initial.items()} == shapes
    assert module.is_stateful() == bool(shapes)
    if shapes:
        after = module.forward_train(some_batch(module))[Columns.STATE_OUT]
        assert {name: x.shape[1:] for name, x in after.items()} == shapes


def test_several_modules_are_stateful_if_one_is(modules):
    assert not MultiRLModule({"p0": modules["dense"]}).is_stateful()
    assert MultiRLModule({"p0": modules["dense"], "p1": modules["lstm"]}).is_stateful()


# Networks.


@pytest.mark.parametrize(
    ("obs", "hiddens", "wanted"),
    [
        (OBS, [8, 6], 4 * 8 + 8 + 8 * 6 + 6),
        (Discrete(5), [8], 5 * 8 + 8),
        (gym.spaces.MultiDiscrete([2, 3]), [8], 5 * 8 + 8),
        (IMAGE, [8], (4 * 4 * 3 + 1) * 4 + 4 * 4 * 4 * 8 + 8),
    ],
    ids=["box", "discrete", "multi-discrete", "image"],
)
def test_encoders_have_this_many_weights_and_outputs(obs, hiddens, wanted):
    more = CNN if obs is IMAGE else {}
    module = make(obs, fcnet_hiddens=hiddens, **more)
    embedding, _ = module.encoder(some_batch(module)[Columns.OBS])
    assert embedding.shape == (3, hiddens[-1])
    assert sum(int(np.prod(w.shape)) for w in module.encoder.weights) == wanted


def test_lstm_encoders_have_this_many_weights_and_outputs():
    module = make(fcnet_hiddens=[8], **LSTM)
    batch = some_batch(module)
    embedding, _, _ = module.encoder(batch[Columns.OBS], batch[Columns.STATE_IN])
    assert embedding.shape == (3, 5, 5)
    count = sum(int(np.prod(w.shape)) for w in module.encoder.weights)
    assert count == 4 * 8 + 8 + 4 * (8 * 5 + 5 * 5 + 5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fcnet_hiddens": [0]},
        {"fcnet_activation": "nothing"},
        {"use_lstm": True, "use_gru": True},
        {"conv_filters": [(4, 99, 1)]},
        {"free_log_std": True},
        {"fcnet_hidden": [4]},
    ],
    ids=str,
)
def test_impossible_networks_are_value_errors(wrong):
    model_config = {"fcnet_hiddens": [4]} | wrong
    spec = dataclasses.replace(spec_of(IMAGE), model_config=model_config)
    names = "|".join(wrong).removeprefix("fcnet_")  # Keras says "activation" alone.
    with pytest.raises((ConfigError, ModuleError), match=names):
        spec.build()


@pytest.mark.parametrize(
    ("in_encoder", "in_heads", "shared", "wanted"),
    [
        (True, False, True, 2),
        (True, False, False, 4),
        (False, True, True, 2),
        (True, True, True, 4),
        (True, True, False, 6),
        (False, False, False, 0),
    ],
)
def test_layers_are_normalised_where_asked(in_encoder, in_heads, shared, wanted):
    module = make(
        fcnet_hiddens=[8, 7],
        fcnet_use_layernorm=in_encoder,
        head_fcnet_hiddens=[5],
        head_fcnet_use_layernorm=in_heads,
        vf_share_layers=shared,
    )
    scales = [w for w in module.trainable_variables if w.name == "gamma"]
    assert len(scales) == wanted
    sizes = [8, 7] * in_encoder * (2 - shared) + [5, 5] * in_heads
    assert sorted(w.shape[0] for w in scales) == sorted(sizes)
    outputs = module.forward_train(some_batch(module))
    assert outputs[Columns.ACTION_DIST_INPUTS].shape == (3, 2)
    assert outputs[Columns.VF_PREDS].shape == (3,)


def with_constant_weights(*args, value=0.05, **kwargs):
    module = make(*args, **kwargs)
    for weight in module.weights:
        weight.assign(np.full(weight.shape, value, "f"))
    return module


def test_dense_networks_of_constant_weights_put_out_this():
    module = with_constant_weights(fcnet_hiddens=[8, 8])
    batch = some_batch(module)
    hidden = np.tanh(batch["obs"].sum(1) * 0.05 + 0.05)
    hidden = np.tanh(8 * hidden * 0.05 + 0.05)
    outputs = module.forward_train(batch)
    want = (8 * hidden * 0.05 + 0.05).astype("f")
    assert_close(outputs[Columns.VF_PREDS], want, rtol=1e-5)
    logits = np.repeat(want[:, None], 2, axis=1)
    assert_close(outputs[Columns.ACTION_DIST_INPUTS], logits, rtol=1e-5)


def test_convolutions_of_constant_weights_put_out_this():
    config = {"conv_filters": [(4, 4, 2)], "conv_activation": "relu"}
    module = with_constant_weights(IMAGE, fcnet_hiddens=[], **config)
    image = np.full((1, 10, 10, 3), 51, np.uint8)  # A fifth of 255.
    feature = 4 * 4 * 3 * 0.2 * 0.05 + 0.05
    want = np.float32([4 * 4 * 4 * feature * 0.05 + 0.05])
    values = module.compute_values({Columns.OBS: image})
    assert_close(values, want, rtol=1e-5)


def test_lstms_of_constant_weights_put_out_this():
    module = with_constant_weights(fcnet_hiddens=[], **LSTM)
    batch = some_batch(module)
    h, c = (batch[Columns.STATE_IN][name] for name in "hc")
    for t in range(5):
        x = batch[Columns.OBS][:, t].sum(1, keepdims=True)
        gate = 0.05 * (x + h.sum(1, keepdims=True)) + 0.05
        sigmoid = 1.0 / (1.0 + np.exp(-gate))
        c = sigmoid * c + sigmoid * np.tanh(gate)
        h = sigmoid * np.tanh(c)
    outputs = module.forward_train(batch)
    after = outputs[Columns.STATE_OUT]
    assert_close(after["h"], h.astype("f"), rtol=1e-4)
    assert_close(after["c"], c.astype("f"), rtol=1e-4)
    want = 0.05 * h.sum(1) + 0.05
    assert_close(outputs[Columns.VF_PREDS][:, -1], want.astype("f"), rtol=1e-4)


def test_free_log_std_is_the_same_for_all_observations():
    module = make(act=Box(-1, 1, (2,)), free_log_std=True)
    inputs = module.forward_train(some_batch(module))[
        Columns.ACTION_DIST_INPUTS
    ].numpy()
    assert (inputs[:, 2:] == inputs[0, 2:]).all()
    assert (inputs[:, :2] != inputs[0, :2])[1:].all()
    heads = [tuple(w.shape) for w in module.trainable_variables if w.shape[-1] == 2]
    assert sorted(heads) == [(2,), (2,), (4, 2)]


# Distributions.


@pytest.mark.parametrize(
    ("space", "wanted", "size"),
    [(Discrete(5), Categorical, 5), (Box(-1, 1, (3,)), DiagGaussian, 6)],
    ids=["discrete", "box"],
)
def test_actions_of_a_space_have_this_distribution(space, wanted, size):
    dist_class = action_dist_class(space)
    assert dist_class is wanted and dist_class.required_input_dim(space) == size
    inputs = np.random.default_rng(0).standard_normal((50, size), np.float32)
    actions = dist_class.from_logits(inputs).sample(seed=[1, 2]).numpy()
    everywhere = space if isinstance(space, Discrete) else Box(-np.inf, np.inf, (3,))
    assert all(everywhere.contains(action) for action in actions)


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Dict({"a": gym.spaces.Text(3)}),
        gym.spaces.Tuple([Discrete(2), gym.spaces.Sequence(Discrete(2))]),
        gym.spaces.Text(3),
    ],
    ids=str,
)
def test_spaces_without_a_distribution_are_refused(space):
    with pytest.raises(SpaceError):
        action_dist_class(space)


def test_categorical_equals_its_closed_form():
    logits = np.random.default_rng(0).standard_normal((2, 7, 4))
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    p, q = probs
    one, two = (Categorical.from_logits(tf.constant(x)) for x in logits)
    actions = np.arange(7) % 4
    assert_close(one.logp(actions), np.log(p[np.arange(7), actions]), rtol=1e-6)
    assert_close(one.entropy(), -(p * np.log(p)).sum(-1), rtol=1e-6)
    assert_close(one.kl(two), (p * np.log(p / q)).sum(-1), rtol=1e-6)
    assert_close(one.to_deterministic().sample(), p.argmax(-1))


def test_gaussian_equals_its_closed_form():
    rng = np.random.default_rng(0)
    (m, s), (n, t) = rng.standard_normal((2, 2, 7, 3))
    one, two = (
        DiagGaussian.from_logits(tf.constant(np.concatenate(x, -1)))
        for x in ((m, s), (n, t))
    )
    x = rng.standard_normal((7, 3))
    logp = -0.5 * ((x - m) / np.exp(s)) ** 2 - s - 0.5 * np.log(2 * np.pi)
    kl = t - s + (np.exp(2 * s) + (m - n) ** 2) / (2 * np.exp(2 * t)) - 0.5
    assert_close(one.logp(x), logp.sum(-1), rtol=1e-6)
    assert_close(one.entropy(), (s + 0.5 * np.log(2 * np.pi * np.e)).sum(-1), rtol=1e-6)
    assert_close(one.kl(two), kl.sum(-1), rtol=1e-6)
    assert_close(one.to_deterministic().sample(), m)
