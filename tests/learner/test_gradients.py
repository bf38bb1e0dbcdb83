"""From a loss to changed weights: gradients, clipping, and the non-finite guard."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.constants import ALL_MODULES
from tflearner.engine import gradients
from tflearner.errors import NumericError, OptimizerError, UsageError
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.testing import assert_close

PARTS = ("rl_module", "optimizer")


class Mean(TfLearner):
    """A loss that every output reaches; "advantages" are a weight of its rows."""

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        outputs = tf.add_n([tf.reduce_sum(x**2) for x in fwd_out.values()])
        return outputs * tf.reduce_mean(batch["advantages"])


def two(make_learner, **settings):
    return make_learner(Mean, policies={"p0": None, "p1": None}, **settings)


@pytest.fixture(scope="module")
def pair(make_learner):
    """Two modules whose weights no test of this module changes."""
    return two(make_learner)


def ones(learner):
    params = learner.get_parameters(learner.module)
    return {learner.get_param_ref(p): tf.ones(p.shape) for p in params}


def equal(a, b):
    return tf.nest.map_structure(np.array_equal, a, b)


def all_equal(a, b):
    return all(tf.nest.flatten(equal(a, b)))


# Computing and applying.


def test_gradient_of_the_sum_of_all_parameters_is_one(pair):
    with tf.GradientTape() as tape:
        losses = {
            mid: tf.add_n([tf.reduce_sum(p) for p in pair.get_parameters(module)])
            for mid, module in pair.module.items()
        }
    computed = pair.compute_gradients(losses, gradient_tape=tape)
    assert computed.keys() == ones(pair).keys()
    for ref, gradient in ones(pair).items():
        assert_close(computed[ref], gradient)


def test_adam_with_gradients_of_one_moves_by_the_learning_rate(make_learner):
    learner = make_learner(Mean, lr=0.01)
    weights = learner.module["default_policy"].weights
    before = [w.numpy() for w in weights]
    for _ in range(20):
        learner.apply_gradients(ones(learner))
    for weight, start in zip(weights, before):
        assert_close(weight.numpy(), start - 20 * 0.01, rtol=0, atol=1e-4)


def test_optimizer_without_gradients_stays_untouched(make_learner):
    learner = two(make_learner)
    learner.apply_gradients(ones(learner))  # Now there is momentum to decay.
    before = learner.get_state(PARTS)
    refs = [w.value.ref() for w in learner.module["p0"].weights]
    learner.apply_gradients({ref: tf.ones(ref.deref().shape) for ref in refs})
    after = learner.get_state(PARTS)
    for part in PARTS:
        assert not all_equal(before[part]["p0"], after[part]["p0"])
        assert all_equal(before[part]["p1"], after[part]["p1"])


def test_optimizer_of_an_absent_module_stays_untouched(make_learner, make_batch):
    learner = two(make_learner, run_eagerly=True)
    learner.update(make_batch(learner))
    before = learner.get_state(PARTS)
    learner.update(make_batch(learner, p0=20))
    after = learner.get_state(PARTS)
    for part in PARTS:
        assert not all_equal(before[part]["p0"], after[part]["p0"])
        assert all_equal(before[part]["p1"], after[part]["p1"])


def test_gradients_of_an_embedding_are_tensors(make_learner):
    learner = make_learner(Mean)
    table = keras.Variable(np.ones((9, 2), np.float32))
    learner.register_optimizer(
        optimizer_name="table", optimizer=keras.optimizers.SGD(), params=[table]
    )
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(table.value, [1, 1, 4]))
    computed = learner.compute_gradients({"table": loss}, gradient_tape=tape)
    assert_close(computed[table.value.ref()][:, 0], [0, 2, 0, 0, 1, 0, 0, 0, 0])


# Clipping.


@pytest.mark.parametrize("grad_clip", [None, 0.1, 1e9])
@pytest.mark.parametrize("grad_clip_by", ["value", "norm", "global_norm"])
def test_postprocessing_keeps_all_keys_that_have_a_gradient(
    pair, grad_clip, grad_clip_by
):
    pair.config.training(grad_clip=grad_clip, grad_clip_by=grad_clip_by)
    given = ones(pair)
    missing = [*given][3]
    given[missing] = None
    kept = dict(given)
    result = pair.postprocess_gradients(given)
    assert set(result) == set(given) - {missing}
    assert given == kept  # A new dict, and the given one as it was.


@pytest.mark.parametrize(
    ("given", "grad_clip", "by", "wanted"),
    [
        (([-3.0, 0.5], [4.0]), 0.75, "value", ([-0.75, 0.5], [0.75])),
        (([-0.6, 0.0], [4.0]), 1.0, "norm", ([-0.6, 0.0], [1.0])),
        (([-3.0, 0.0], [4.0]), 5.0, "global_norm", ([-3.0, 0.0], [4.0])),
        (([-3.0, 0.0], [4.0]), 6.0, "global_norm", ([-3.0, 0.0], [4.0])),
        (([-3.0, 0.0], [4.0]), 2.5, "global_norm", ([-1.5, 0.0], [2.0])),
        (([-3.0, 0.0], [4.0]), None, "value", ([-3.0, 0.0], [4.0])),
    ],
)
def test_clipped_values(given, grad_clip, by, wanted):
    values = {name: tf.constant(value) for name, value in zip("ab", given)}
    norm = gradients.clip_gradients(values, grad_clip=grad_clip, grad_clip_by=by)
    for name, value in zip("ab", wanted):
        assert_close(values[name], np.float32(value))
    if by == "global_norm":
        assert_close(norm, np.float32(5.0))  # Of all of them, before clipping.
    else:
        assert norm is None


def test_norm_clipping_keeps_the_direction():
    given = {"a": tf.constant([3.0, -4.0])}
    gradients.clip_gradients(given, grad_clip=1.0, grad_clip_by="norm")
    assert_close(given["a"], np.float32([0.6, -0.8]))


def test_unknown_clipping_is_an_error():
    with pytest.raises(OptimizerError, match="'global'.*value, norm, global_norm"):
        gradients.clip_gradients({}, grad_clip=1.0, grad_clip_by="global")


@pytest.mark.parametrize("shapes", [[(3,)], [(2, 3), (70_000,), ()], [(5, 5), (1,)]])
def test_global_norm_is_that_of_all_numbers(shapes):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    wanted = np.sqrt(sum(np.sum(np.float64(a) ** 2) for a in arrays))
    norm = gradients.global_norm([tf.constant(a) for a in arrays])
    assert_close(norm.numpy(), np.float32(wanted), rtol=1e-5)
    assert gradients.global_norm([]).numpy() == 0.0


FLOAT32_TINIEST, FLOAT32_LARGEST = 1e-37, 3e38


@pytest.mark.parametrize(
    "numbers",
    [
        [1e22],
        [1e22, -1e22, 0.0],
        [1e22, 1e-22],
        [1e-22, 1e-22],
        [FLOAT32_LARGEST],
        [FLOAT32_TINIEST, FLOAT32_TINIEST],
        *[[3.0 * 10.0**k, -4.0 * 10.0**k] for k in range(-36, 37, 4)],
        [0.0, 0.0],
    ],
    ids=str,
)
def test_global_norm_has_the_range_of_its_entries(numbers):
    wanted = np.sqrt(np.sum(np.square(np.float64(np.float32(numbers)))))
    first, rest = numbers[:1], numbers[1:]
    for parts in ([numbers], [first, rest], [[numbers], [[0.0]]]):
        parts = [tf.constant(part, tf.float32) for part in parts]
        assert_close(gradients.global_norm(parts), np.float32(wanted), rtol=1e-5)


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [
        ([np.inf, 1.0], np.inf),
        ([-np.inf, 1.0], np.inf),
        ([np.inf, 1e22], np.inf),
        ([np.nan, 1.0], np.nan),
        ([np.nan, 1e22], np.nan),
        ([np.nan, 0.0], np.nan),
        ([np.nan, np.inf], np.nan),
    ],
    ids=str,
)
def test_global_norm_hides_nothing(numbers, wanted):
    for values in (numbers, numbers[::-1]):
        parts = [tf.constant([value], tf.float32) for value in values]
        norm = gradients.global_norm(parts).numpy()
        assert norm == wanted or (np.isnan(norm) and not np.isfinite(wanted))


def test_global_norm_of_large_tensors_overflows_no_earlier():
    parts = [tf.fill([70_000], 1e20), tf.fill([2, 3], -1e20), tf.constant(1e-20)]
    assert_close(
        gradients.global_norm(parts), np.float32(1e20 * np.sqrt(70_006)), rtol=1e-5
    )


def test_global_norm_is_the_same_however_it_runs(compiled):
    norm = compiled(lambda a, b: gradients.global_norm([a, b]))
    for size, wanted in [(1e22, 5e22), (1e-22, 5e-22), (1.0, 5.0), (0.0, 0.0)]:
        a = np.array([3.0 * size], np.float32)
        b = np.array([[4.0 * size, 0.0]], np.float32)
        assert_close(norm(a=a, b=b), np.float32(wanted), rtol=1e-6)


@pytest.mark.parametrize("size", [1e22, 1e36, 1e-22, 1.0])
@pytest.mark.parametrize("by", ["norm", "global_norm"])
def test_clipping_keeps_the_direction_of_gradients_of_any_size(by, size):
    given = {"a": tf.constant([3.0 * size, -4.0 * size])}
    gradients.clip_gradients(given, grad_clip=0.5, grad_clip_by=by)
    factor = min(1.0, 0.5 / (5.0 * size))
    wanted = [3.0 * size * factor, -4.0 * size * factor]
    assert_close(given["a"], np.float32(wanted), rtol=1e-5)


@pytest.mark.parametrize("by", ["value", "norm", "global_norm"])
def test_norm_before_clipping_is_reported(pair, by):
    pair.config.training(grad_clip=0.01, grad_clip_by=by)
    given = ones(pair)
    pair.postprocess_gradients(given)
    sizes = [int(tf.size(given[w.value.ref()])) for w in pair.module["p1"].weights]
    key = ("p1", "gradients_default_optimizer_global_norm")
    assert pair.metrics.peek(key) == pytest.approx(np.sqrt(sum(sizes)), rel=1e-5)


def test_modules_are_clipped_as_their_own_configs_say(make_learner):
    learner = two(make_learner)
    learner.config.multi_agent(
        algorithm_config_overrides_per_module={"p1": {"grad_clip": 0.5}}
    )
    learner.config.training(grad_clip_by="value")
    result = learner.postprocess_gradients(ones(learner))
    for mid, wanted in (("p0", 1.0), ("p1", 0.5)):
        for weight in learner.module[mid].weights:
            assert (result[weight.value.ref()].numpy() == wanted).all()


def test_config_is_looked_up_where_none_is_given(make_learner):
    learner = make_learner(Mean, grad_clip=0.5, grad_clip_by="value")
    result = learner.postprocess_gradients_for_module(
        module_id="default_policy", module_gradients_dict=ones(learner)
    )
    assert all((g.numpy() == 0.5).all() for g in result.values())


def test_gradients_of_no_one_module_come_through(make_learner):
    learner = make_learner(Mean, grad_clip=0.5, grad_clip_by="value")
    shared = keras.Variable(np.zeros(3, np.float32))
    learner.register_optimizer(optimizer=keras.optimizers.SGD(), params=[shared])
    ref = learner.get_param_ref(shared)
    result = learner.postprocess_gradients({ref: tf.ones(3)})
    assert_close(result[ref], np.full(3, 0.5, np.float32))
    assert learner.get_optimizers_for_module(ALL_MODULES)


def test_postprocessing_hook_has_to_return_a_dict(make_learner):
    class Forgetful(Mean):
        def postprocess_gradients_for_module(self, **kwargs):
            super().postprocess_gradients_for_module(**kwargs)

    learner = make_learner(Forgetful)
    with pytest.raises(UsageError, match="NoneType.*a dict of gradients"):
        learner.postprocess_gradients(ones(learner))


# The guard.


class Spoiled(Mean):
    """Divides by "rewards": a zero there makes the loss infinite or NaN."""

    def compute_loss_for_module(self, *, batch, fwd_out, **kwargs):
        loss = super().compute_loss_for_module(batch=batch, fwd_out=fwd_out, **kwargs)
        return loss * tf.reduce_mean(1.0 / batch["rewards"])


def sick_p0(batch):
    rewards = np.ones_like(batch["p0"]["rewards"])
    sick = {**batch["p0"], "rewards": rewards.copy()}
    sick["rewards"][[2, 13]] = 0.0  # In the first and the third of four minibatches.
    well = {**batch["p1"], "rewards": rewards}
    return {"p0": sick, "p1": well}


@pytest.mark.deep_but_first
@pytest.mark.parametrize(("mode", "grad_clip"), [("eager", None), ("traced", 0.5)])
def test_sick_module_is_left_out_and_healthy_one_never_notices(
    make_learner, make_batch, mode, grad_clip
):
    def run(only_healthy):
        learner = make_learner(
            Spoiled,
            policies={"p0": None, "p1": None},
            grad_clip=grad_clip,
            run_eagerly=mode == "eager",
        )
        before = learner.get_state(PARTS)
        batch = sick_p0(make_batch(learner, 20))
        batch["p0"]["rewards"][:] = 0.0  # In every minibatch.
        if only_healthy:
            del batch["p0"]
        results = learner.update(batch, minibatch_size=5)
        return results, before, learner.get_state(PARTS)

    results, before, after = run(only_healthy=False)
    _, _, alone = run(only_healthy=True)
    for part in PARTS:
        assert all_equal(before[part]["p0"], after[part]["p0"])
        assert all_equal(alone[part]["p1"], after[part]["p1"])
        assert not all_equal(before[part]["p1"], after[part]["p1"])
    assert results["p0"]["num_non_finite_updates_lifetime"] == 4
    assert results["p1"]["num_non_finite_updates_lifetime"] == 0
    assert results["p0"]["weights_seq_no"] == 1


def test_only_sick_minibatches_are_skipped_and_counted(make_learner, make_batch):
    learner = make_learner(Spoiled, policies={"p0": None, "p1": None}, lr=0.1)
    results = learner.update(sick_p0(make_batch(learner, 20)), minibatch_size=5)
    assert results["p0"]["num_non_finite_updates_lifetime"] == 2
    assert int(learner.get_optimizer("p0").iterations.numpy()) == 2
    assert int(learner.get_optimizer("p1").iterations.numpy()) == 4
    results = learner.update(sick_p0(make_batch(learner, 20)), minibatch_size=5)
    assert results["p0"]["num_non_finite_updates_lifetime"] == 4


class TwoOptimizers(Mean):
    """One for each half of the weights; the gradients of one half overflow."""

    def configure_optimizers_for_module(self, module_id, config=None):
        weights = self.get_parameters(self.module[module_id])
        for name, own in (("a", weights[:2]), ("b", weights[2:])):
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
                params=own,
            )

    def compute_gradients(self, *args, **kwargs):
        computed = super().compute_gradients(*args, **kwargs)
        ref = [*computed][self.position]
        return computed | {ref: computed[ref] * self.factor}


@pytest.mark.parametrize(
    ("position", "factor"),
    [(0, np.nan), (-1, np.inf), (-1, 1e30)],  # The square of the last overflows.
)
def test_gradients_that_are_not_finite_stop_the_whole_module(
    get_learner, make_batch, position, factor
):
    learner = get_learner(TwoOptimizers, run_eagerly=True)
    learner.position, learner.factor = position, 1.0
    batch = make_batch(learner)
    assert learner.update(batch)["default_policy"]["total_loss"] != 0.0
    before = learner.get_state(PARTS)
    learner.factor = factor
    learner.update(batch)
    assert all_equal(learner.get_state(PARTS)["rl_module"], before["rl_module"])
    assert all_equal(learner.get_state(PARTS)["optimizer"], before["optimizer"])


def test_raising_names_module_and_minibatch(make_learner, make_batch):
    learner = make_learner(
        Spoiled,
        policies={"p0": None, "p1": None},
        non_finite_updates="raise",
        run_eagerly=True,
    )
    batch = sick_p0(make_batch(learner, 20))
    with pytest.raises(NumericError, match="'p0'.* minibatch 0 of 4.*the loss") as e:
        learner.update(batch, minibatch_size=5)
    assert "Nothing was changed" not in str(e.value)
    assert all(np.isfinite(w.numpy()).all() for w in learner.module["p0"].weights)


def test_guard_that_is_off_does_not_look(make_learner, make_batch):
    learner = make_learner(
        Spoiled,
        policies={"p0": None, "p1": None},
        non_finite_updates="off",
        run_eagerly=True,
    )
    results = learner.update(sick_p0(make_batch(learner, 20)), minibatch_size=5)
    assert not all(np.isfinite(w.numpy()).all() for w in learner.module["p0"].weights)
    assert "num_non_finite_updates_lifetime" not in results["p0"]


def test_guard_changes_no_bit_of_healthy_updates(make_learner, make_batch):
    def run(guard):
        learner = make_learner(Mean, non_finite_updates=guard, lr=0.01, grad_clip=1.0)
        learner.update(make_batch(learner), minibatch_size=5, num_epochs=2)
        return learner.get_state(PARTS)

    on, off = run("skip"), run("off")
    assert all_equal(on["rl_module"], off["rl_module"])
    assert all_equal(on["optimizer"], off["optimizer"])


# What is too large for its square, or shared.


class Scaled(Mean):
    """Multiplies its loss, module by module, and adds to it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.factors, self.summands = {}, {}

    def compute_loss_for_module(self, *, module_id, fwd_out, **kwargs):
        loss = tf.add_n([tf.reduce_mean(x**2) for x in fwd_out.values()])
        loss = loss * self.factors.get(module_id, 1.0)
        return loss + self.summands.get(module_id, 0.0)

    def get_required_columns(self, module_id):
        return ("obs",)


@pytest.mark.parametrize(
    ("factor", "grad_clip", "by", "is_healthy"),
    [
        (1e22, None, "global_norm", False),
        (1e22, 0.5, "global_norm", True),
        (1e22, 0.5, "norm", True),
        (1e22, 0.5, "value", True),
        (1e-22, None, "global_norm", True),
        (1e-22, 0.5, "global_norm", True),
        (0.0, 0.5, "global_norm", True),
        (np.inf, None, "global_norm", False),
        (np.inf, 0.5, "global_norm", False),
        (np.inf, 0.5, "value", False),
        (np.nan, 0.5, "norm", False),
        (np.nan, None, "norm", False),
    ],
)
def test_guard_asks_whether_a_gradient_can_be_used_as_it_is_applied(
    get_learner, make_batch, factor, grad_clip, by, is_healthy
):
    learner = get_learner(
        Scaled, grad_clip=grad_clip, grad_clip_by=by, lr=0.1, run_eagerly=True
    )
    learner.factors = {"default_policy": tf.constant(factor, tf.float32)}
    before = learner.get_state(PARTS)
    results = learner.update(make_batch(learner))["default_policy"]
    assert results["num_non_finite_updates_lifetime"] == (0 if is_healthy else 1)
    after = learner.get_state(PARTS)
    assert int(learner.get_optimizer().iterations.numpy()) == is_healthy
    for own in tf.nest.flatten([after[part] for part in PARTS]):
        assert np.isfinite(own).all()
    if not is_healthy:
        assert all_equal(before["rl_module"], after["rl_module"])
        assert all_equal(before["optimizer"], after["optimizer"])
    elif factor >= 1.0:
        assert not all_equal(before["rl_module"], after["rl_module"])


def test_traced_training_with_huge_gradients_goes_on(make_learner, make_batch):
    learner = make_learner(Scaled, policies=["p0"], grad_clip=1.0, lr=0.03)
    learner.factors = {"p0": 1e22}
    batch = make_batch(learner)
    results = [learner.update(batch, num_epochs=10)["p0"] for _ in range(4)]
    assert learner.num_traces == 1
    assert results[-1]["total_loss"] < 0.5 * results[0]["total_loss"]
    assert results[-1]["num_non_finite_updates_lifetime"] == 0
    norm = results[-1]["gradients_default_optimizer_global_norm"]
    assert np.isfinite(norm) and norm > 1e18


def test_guard_knows_which_modules_are_clipped(make_learner, make_batch):
    overrides = {"p1": {"grad_clip": 0.5}}
    learner = make_learner(
        Scaled,
        policies=["p0", "p1"],
        algorithm_config_overrides_per_module=overrides,
        run_eagerly=True,
    )
    learner.factors = {"p0": 1e22, "p1": 1e22}
    results = learner.update(make_batch(learner))
    assert results["p0"]["num_non_finite_updates_lifetime"] == 1
    assert results["p1"]["num_non_finite_updates_lifetime"] == 0
    steps = [int(learner.get_optimizer(m).iterations.numpy()) for m in ("p0", "p1")]
    assert steps == [0, 1]


def modules_sharing(*layers_by_module):
    """Classes of modules with a layer of their own each, and layers they share."""
    shared = {
        name: keras.layers.Dense(4) for names in layers_by_module for name in names
    }

    def setup(self):
        self.own = keras.layers.Dense(4)
        self.shared = [shared[name] for name in type(self).names]

    def forward(self, batch, **kwargs):
        outputs = [layer(batch["obs"]) for layer in [self.own, *self.shared]]
        return {"out": tf.add_n(outputs)}

    members = {"setup": setup, "_forward": forward}
    return [
        type("Sharing", (TfRLModule,), members | {"names": names})
        for names in layers_by_module
    ]


class SharingLearner(Scaled):
    """Lets every module train what it shares, and makes losses sick by a summand.

    The gradients are fine then, so that only the guard can connect the modules.
    """

    def configure_optimizers_for_module(self, module_id, config=None):
        self.register_optimizer(
            module_id=module_id,
            optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
            params=self.get_parameters(self.module[module_id]),
            allow_shared=True,
        )


def sharing_learner(make_learner, *layers_by_module, **settings):
    classes = modules_sharing(*layers_by_module)
    specs = {f"p{i}": RLModuleSpec(module_class=cls) for i, cls in enumerate(classes)}
    return make_learner(SharingLearner, policies=specs, **settings)


def changed_by_update(learner, make_batch):
    """Which modules have other weights, and which another optimizer state, after."""
    before = learner.get_state(PARTS)
    learner.update({mid: {"obs": b["obs"]} for mid, b in make_batch(learner).items()})
    after = learner.get_state(PARTS)
    return [
        [
            mid
            for mid in learner.module
            if not all_equal(before[part][mid], after[part][mid])
        ]
        for part in PARTS
    ]


@pytest.mark.deep_but_first
@pytest.mark.parametrize("run_eagerly", [True, False])
def test_module_that_shares_variables_with_a_sick_one_is_undone_with_it(
    make_learner, make_batch, run_eagerly
):
    learner = sharing_learner(
        make_learner, ["trunk"], ["trunk"], [], run_eagerly=run_eagerly
    )
    everyone = ["p0", "p1", "p2"]
    if run_eagerly:  # A traced loss would not see the summand change.
        assert changed_by_update(learner, make_batch) == [everyone, everyone]
    learner.summands = {"p0": np.float32(np.inf)}
    assert changed_by_update(learner, make_batch) == [["p2"], ["p2"]]
    counts = [
        learner.metrics.peek((mid, "num_non_finite_updates_lifetime"))
        for mid in everyone
    ]
    assert counts == [1, 0, 0]


def test_undoing_reaches_everyone_along_a_chain_of_shared_variables(
    make_learner, make_batch
):
    learner = sharing_learner(
        make_learner, ["a"], ["a", "b"], ["b"], ["c"], run_eagerly=True
    )
    learner.summands = {"p0": np.float32(np.nan)}
    assert changed_by_update(learner, make_batch) == [["p3"], ["p3"]]


class WithNewDicts(SharingLearner):
    """Gives TfLearner's methods dicts of its own: the sum of losses, and gradients."""

    def compute_gradients(self, loss_per_module, **kwargs):
        total = {"total": tf.add_n([*loss_per_module.values()])}
        return super().compute_gradients(total, **kwargs)

    def postprocess_gradients(self, gradients_dict):
        return super().postprocess_gradients(dict(gradients_dict))

    def apply_gradients(self, gradients_dict):
        super().apply_gradients(dict(gradients_dict))


@pytest.mark.deep_but_first
@pytest.mark.parametrize("non_finite_updates", ["skip", "off"])
def test_new_dicts_of_own_hooks_let_no_optimizer_of_other_modules_step(
    make_learner, make_batch, non_finite_updates
):
    classes = modules_sharing(["trunk"], ["trunk"])
    specs = {f"p{i}": RLModuleSpec(module_class=cls) for i, cls in enumerate(classes)}
    settings = {"policies": specs, "non_finite_updates": non_finite_updates}
    learner = make_learner(WithNewDicts, **settings)
    before = learner.get_state("optimizer")["optimizer"]
    results = learner.update({"p0": {"obs": make_batch(learner)["p0"]["obs"]}})
    after = learner.get_state("optimizer")["optimizer"]
    assert all_equal(before["p1"], after["p1"])
    assert not all_equal(before["p0"], after["p0"])
    assert "gradients_default_optimizer_global_norm" not in results["p1"]


class TeacherAndStudent(Mean):
    """The student's loss runs the teacher's network as well."""

    def compute_losses(self, *, fwd_out, batch):
        logits = self.module["p1"].forward_train(batch["p0"])["action_dist_inputs"]
        return {
            "p0": tf.reduce_mean((fwd_out["p0"]["action_dist_inputs"] - logits) ** 2)
        }


@pytest.mark.deep_but_first
@pytest.mark.parametrize("run_eagerly", [True, False])
def test_a_loss_moves_no_module_that_is_not_updated(
    make_learner, make_batch, run_eagerly
):
    learner = make_learner(
        TeacherAndStudent, policies=["p0", "p1"], run_eagerly=run_eagerly
    )
    before = learner.get_state(PARTS)
    learner.update(make_batch(learner, p0=20))
    after = learner.get_state(PARTS)
    for part in PARTS:
        assert all_equal(before[part]["p1"], after[part]["p1"])
    assert not all_equal(before["rl_module"]["p0"], after["rl_module"]["p0"])


class ByHand(TfLearner):
    """Adds up the losses itself, as learners of RLlib do."""

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        return tf.reduce_mean(fwd_out["action_dist_inputs"] ** 2)

    def compute_gradients(self, loss_per_module, *, gradient_tape=None, **kwargs):
        params = {ref: param.value for ref, param in self._params.items()}
        return gradient_tape.gradient(sum(loss_per_module.values()), params)


def test_losses_may_be_added_up_by_hand(get_learner, make_batch):
    learner = get_learner(ByHand, run_eagerly=True)
    before = learner.get_state("rl_module")
    learner.update(make_batch(learner))
    assert not all_equal(
        before["rl_module"], learner.get_state("rl_module")["rl_module"]
    )


class OfAll(ByHand):
    compute_gradients = TfLearner.compute_gradients

    def configure_optimizers(self):
        self.register_optimizer(
            optimizer=keras.optimizers.SGD(0.1),
            params=self.get_parameters(self.module),
        )

    def compute_loss_for_module(self, **kwargs):
        return super().compute_loss_for_module(**kwargs) * np.nan


def test_raising_covers_optimizers_of_all_modules(make_learner, make_batch):
    learner = make_learner(OfAll, run_eagerly=True, non_finite_updates="raise")
    with pytest.raises(NumericError, match="__all_modules__"):
        learner.update(make_batch(learner))


class OwnMemory(TfRLModule):
    """Goes through each row's numbers with an LSTM: sizes are unknown while tracing."""

    def setup(self):
        self.lstm = keras.layers.LSTM(3, return_sequences=True)
        self.head = keras.layers.Dense(2)

    def _forward(self, batch, **kwargs):
        outputs = self.head(self.lstm(batch["obs"][..., None]))
        return {"action_dist_inputs": tf.reduce_mean(outputs, 1)}


@pytest.mark.deep_but_first
@pytest.mark.parametrize("grad_clip", [0.1, None])
def test_gradients_of_unknown_size_are_clipped_and_guarded(
    make_learner, make_batch, grad_clip
):
    learner = make_learner(
        Mean,
        rl_module_spec=RLModuleSpec(module_class=OwnMemory),
        grad_clip=grad_clip,
    )
    before = learner.get_state("rl_module")
    learner.update(make_batch(learner))
    assert not all_equal(
        before["rl_module"], learner.get_state("rl_module")["rl_module"]
    )
