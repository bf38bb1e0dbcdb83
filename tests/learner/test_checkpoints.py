"""Learners in files: restored exactly, strictly, and rebuilt from the files alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPO, PPOTfLearner
from tflearner.checkpoint.builders import name_of
from tflearner.checkpoint.checkpointable import Checkpointable
from tflearner.connectors.connector import ConnectorV2
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.engine import optimizers
from tflearner.errors import (
    BuilderError,
    CheckpointMismatchError,
    ModuleError,
    TFLearnerError,
    UnknownArgumentError,
    UsageError,
)
from tflearner.learner.learner import Learner
from tflearner.learner.tf_learner import TfLearner
from tflearner.metrics import MetricsLogger
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module import MultiRLModule
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.testing import learner_digest

SETTINGS = {
    "lr": [[0, 1e-2], [1000, 1e-4]],
    "entropy_coeff": [[0, 0.1], [1000, 0.0]],
    "kl_target": 1e-6,  # The coefficient grows with every update.
    "run_eagerly": True,
}
TWO = {"policies": ["p0", "p1"]}
UPDATE = {"minibatch_size": 10, "num_epochs": 1, "shuffle_batch_per_epoch": True}


def assert_same(state, wanted):
    tf.nest.map_structure(np.testing.assert_array_equal, state, wanted)


def differs(state, other):
    try:
        assert_same(state, other)
    except AssertionError:
        return True
    return False


def touch(learner, seed=0):
    """Takes a learner to another step: changes all its numbers as updates would."""
    rng = np.random.default_rng(seed)
    state = learner.get_state()
    for part in ("rl_module", "optimizer"):
        state[part] = tf.nest.map_structure(
            lambda x: np.asarray(100.0 * rng.random(x.shape), x.dtype), state[part]
        )
    own = state["learner"]
    own["timestep"] += 70
    own["rng"] = rng.bit_generator.state
    own["kl_coeffs"] = {mid: 1.5 * kl for mid, kl in own["kl_coeffs"].items()}
    state["weights_seq_no"] += 1
    learner.set_state(state, force=True)
    learner.metrics.log_value(("mine", "x"), seed, window=5)


def train(learner):
    touch(learner)
    touch(learner, 1)
    return learner


@pytest.fixture(scope="module")
def update(make_batch):
    """Returns a function that takes a learner one update further."""

    def run(learner, *, seed=0):
        timesteps = {"num_env_steps_sampled_lifetime": 500}
        batch = make_batch(learner, 10, seed=seed)
        return learner.update(batch, timesteps=timesteps, **UPDATE)

    return run


@pytest.fixture
def make_trained(get_learner):
    """Returns a function from settings to a learner in mid-training."""

    def make(learner_class=None, **settings):
        return train(get_learner(learner_class, **{**SETTINGS, **settings}))

    return make


# The law of restoring.


def add(learner):
    spec = RLModuleSpec.from_module(learner.module["p0"])
    learner.add_module(
        module_id="new",
        module_spec=spec,
        config_overrides={"lr": 0.5},
        new_should_module_be_updated=["p1", "new"],
    )


def replace(learner):
    add(learner)
    learner.remove_module("p0")


KINDS = {
    "one module": ({}, None),
    "two modules": (TWO, None),
    "recurrent": (
        {
            "model_config": DefaultModelConfig(
                fcnet_hiddens=[4], use_lstm=True, lstm_cell_size=4, max_seq_len=5
            )
        },
        None,
    ),
    "overrides": (
        {
            **TWO,
            "algorithm_config_overrides_per_module": {
                "p1": {"lr": 0.3, "clip_param": 0.1}
            },
        },
        None,
    ),
    "one of two learns": ({**TWO, "policies_to_train": ["p1"]}, None),
    "a module added": (TWO, add),
    "modules added and removed": (TWO, replace),
}


@pytest.mark.parametrize(
    "kind",
    [
        "one module",
        "recurrent",
        "overrides",
        "one of two learns",
        "modules added and removed",
        pytest.param("two modules", marks=pytest.mark.deep),
        pytest.param("a module added", marks=pytest.mark.deep),
    ],
)
def test_restored_learners_are_the_saved_one(make_learner, update, tmp_path, kind):
    settings, change = KINDS[kind]
    learner = train(make_learner(**SETTINGS, **settings))
    other = make_learner(**{**SETTINGS, **settings, "seed": 2})
    if change is not None:
        change(learner)
        change(other)
        touch(learner, 4)
    before = learner_digest(learner)
    path = learner.save_to_path(tmp_path)
    assert learner_digest(learner) == before
    assert differs(other.get_state("rl_module"), learner.get_state("rl_module"))
    report = other.restore_from_path(tmp_path)
    assert not (report.kept or report.ignored or report.reset)
    rebuilt = PPOTfLearner.from_checkpoint(path)  # Without any argument.
    assert type(rebuilt) is type(learner) and learner_digest(rebuilt) == before
    assert learner.get_state()["weights_seq_no"] >= 2
    for again in (other, rebuilt):
        assert_same(again.get_state(), learner.get_state())
        assert again.metrics.peek() == learner.metrics.peek()
        for module_id in learner.module:
            assert learns(again, module_id) == learns(learner, module_id)
            assert rates(again, module_id) == rates(learner, module_id) != {}
    results = [update(one, seed=7) for one in (learner, other, rebuilt)]
    assert results[0] == results[1] == results[2]
    for again in (other, rebuilt):
        assert_same(again.get_state(), learner.get_state())


def learns(learner, module_id):
    return learner.should_module_be_updated(module_id)


def rates(learner, module_id):
    return {
        name: float(np.asarray(optimizer.learning_rate))
        for name, optimizer in learner.get_optimizers_for_module(module_id)
    }


def test_restored_metrics_are_not_added_to_those_logged_since(make_trained, tmp_path):
    learner = make_trained()
    path, metrics = learner.save_to_path(tmp_path), learner.metrics.get_state()
    touch(learner, 2)
    learner.metrics.log_value("since", 1)
    learner.restore_from_path(path)
    assert learner.metrics.get_state() == metrics and "since" not in learner.metrics


def test_older_files_win(make_trained, tmp_path):
    learner = make_trained()
    path, before = learner.save_to_path(tmp_path), learner_digest(learner)
    touch(learner, 2)
    learner.restore_from_path(path)
    assert learner_digest(learner) == before


def test_an_unbuilt_learner_saves_and_restores(make_config, tmp_path):
    config = make_config(run_eagerly=True)
    path = PPOTfLearner(config=config).save_to_path(tmp_path)
    learner = PPOTfLearner(config=make_config(run_eagerly=True, seed=5))
    learner.restore_from_path(path)
    assert_same(learner.get_state(), PPOTfLearner.from_checkpoint(path).get_state())


def test_steps_count_up_and_one_is_chosen(make_trained, tmp_path):
    learner, digests, paths = make_trained(), [], []
    for _ in range(3):
        digests.append(learner_digest(learner))
        paths.append(learner.save_to_path(tmp_path, keep=2))
        touch(learner, 2)
    assert [path[-3:] for path in paths] == ["001", "002", "003"]
    report = learner.restore_from_path(tmp_path)
    assert learner_digest(learner) == digests[2] and report.path == paths[2]
    learner.restore_from_path(paths[1])
    assert learner_digest(learner) == digests[1]
    with pytest.raises(FileNotFoundError):
        learner.restore_from_path(paths[0])


def test_a_given_state_is_saved(make_trained, tmp_path):
    learner = make_trained()
    state = learner.get_state()
    touch(learner, 2)
    path = learner.save_to_path(tmp_path, state=state)
    assert_same(PPOTfLearner.from_checkpoint(path).get_state(), state)


# What does not fit.


def test_c51_all_that_does_not_fit_is_listed_and_nothing_changed(
    make_trained, tmp_path
):
    saved = make_trained().get_state()
    weights = saved["rl_module"][DEFAULT_MODULE_ID]
    first, second, third = [*weights][:3]
    del weights[first]
    weights["x"] = np.ones(3, np.float32)
    weights[second] = np.ones(99, np.float32)
    weights[third] = weights[third].astype(np.float64)
    slots = saved["optimizer"][DEFAULT_MODULE_ID]["default_optimizer"]
    del slots[f"{third}/momentum"]
    learner = make_trained(seed=5)
    path = learner.save_to_path(tmp_path, state=saved)
    before = learner_digest(learner)
    with pytest.raises(CheckpointMismatchError) as caught:
        learner.restore_from_path(path)
    text = str(caught.value)
    assert "5 problems" in text and "Nothing was changed" in text
    for problem in (
        f"missing 'rl_module/default_policy/{first}'",
        "unexpected 'rl_module/default_policy/x'",
        f"'rl_module/default_policy/{second}' of shape (99,) instead of",
        f"'rl_module/default_policy/{third}' of dtype float64 instead of float32",
        f"missing 'optimizer/default_policy/default_optimizer/{third}/momentum'",
    ):
        assert problem.split("/", 1)[1] in text, problem
    assert learner_digest(learner) == before
    report = learner.restore_from_path(path, strict=False)
    mine = f"rl_module/{DEFAULT_MODULE_ID}"
    assert {f"{mine}/{name}" for name in (first, second, third)} < {*report.kept}
    assert report.ignored == (f"{mine}/x",)
    assert report.reset == (f"optimizer/{DEFAULT_MODULE_ID}/default_optimizer",)
    assert "1 ignored, 1 reset" in str(report) and report.path == path


def test_c51_modules_that_only_one_side_has(make_trained, tmp_path):
    path = make_trained(**TWO).save_to_path(tmp_path)
    learner = make_trained(policies=["p0", "p2"])
    before = learner_digest(learner)
    with pytest.raises(CheckpointMismatchError) as caught:
        learner.restore_from_path(path)
    for module_id in ("p1", "p2"):
        assert f"{module_id}/000/kernel'" in str(caught.value)
    assert "p0/" not in str(caught.value)
    assert learner_digest(learner) == before


C55 = {
    "names missing": (lambda s: s["learner"].pop("rng"), "missing.*rng"),
    "names too many": (lambda s: s["learner"].update(typo=1), "unexpected.*typo"),
    "both": (
        lambda s: (s["learner"].pop("rng"), s["learner"].update(typo=1)),
        "missing.*rng.*unexpected.*typo",
    ),
    "of another class": (lambda s: s["learner"].pop("kl_coeffs"), "missing.*kl_coeffs"),
}


@pytest.mark.parametrize("route", ["set_state", "restore_from_path"])
@pytest.mark.parametrize("case", C55)
def test_c55_state_of_another_learner(make_trained, tmp_path, case, route):
    change, text = C55[case]
    learner = make_trained()
    before, state = learner_digest(learner), make_trained(seed=9).get_state()
    change(state)
    with pytest.raises((UsageError, CheckpointMismatchError), match=text) as caught:
        if route == "set_state":
            learner.set_state(state, force=True)
        else:
            learner.restore_from_path(learner.save_to_path(tmp_path, state=state))
    assert "Nothing was changed" in str(caught.value)
    assert learner_digest(learner) == before


def test_c55_parts_that_are_missing(make_trained, tmp_path):
    learner = make_trained()
    path = learner.save_to_path(tmp_path, state=learner.get_state("rl_module"))
    before = learner_digest(learner)
    with pytest.raises(CheckpointMismatchError) as caught:
        learner.restore_from_path(path)
    for name in ("learner", "metrics_logger", "optimizer"):
        assert name in str(caught.value)
    assert learner_digest(learner) == before


# Nothing is ever half restored.


@pytest.mark.parametrize("component", [None, "rl_module", "rl_module/p0"])
@pytest.mark.parametrize(
    "error", [ValueError("mine"), KeyboardInterrupt(), MemoryError()], ids=repr
)
def test_an_interrupted_restore_changes_nothing(
    make_trained, tmp_path, monkeypatch, error, component
):
    learner = make_trained(**TWO)
    path = learner.save_to_path(tmp_path)
    touch(learner, 2)
    before, calls = learner_digest(learner), []
    owner, name = (
        (optimizers, "reset") if component else (learner, "_set_learner_state")
    )
    original = getattr(owner, name)

    def fails_once(*args):
        original(*args)
        calls.append(args)
        if len(calls) == 1:
            raise error

    monkeypatch.setattr(owner, name, fails_once)
    expected = TFLearnerError if isinstance(error, Exception) else type(error)
    with pytest.raises(expected):
        learner.restore_from_path(path, component=component)
    assert calls and learner_digest(learner) == before


# Parts of a learner.


@pytest.mark.parametrize(
    ("component", "changed"),
    [("rl_module", {"p0", "p1"}), ("rl_module/p1", {"p1"})],
)
def test_weights_by_themselves_start_their_optimizers_anew(
    make_trained, make_learner, tmp_path, component, changed
):
    learner = make_trained(**TWO)
    path, saved = learner.save_to_path(tmp_path), learner.get_state()
    touch(learner, 2)
    before = learner.get_state()
    report = learner.restore_from_path(path, component=component)
    after, first = learner.get_state(), make_learner(**{**SETTINGS, **TWO}).get_state()
    for module_id in ("p0", "p1"):
        from_file = module_id in changed
        assert_same(
            after["rl_module"][module_id],
            (saved if from_file else before)["rl_module"][module_id],
        )
        slots = after["optimizer"][module_id]["default_optimizer"]
        wanted = dict(
            (first if from_file else before)["optimizer"][module_id][
                "default_optimizer"
            ]
        )
        wanted["learning_rate"] = before["optimizer"][module_id]["default_optimizer"][
            "learning_rate"
        ]
        assert_same(slots, wanted)
    assert_same(after["learner"], before["learner"])
    assert_same(after["metrics_logger"], before["metrics_logger"])
    assert after["weights_seq_no"] == before["weights_seq_no"] + 1
    assert {*report.reset} == {f"optimizer/{mid}/default_optimizer" for mid in changed}
    assert {path.split("/")[1] for path in report.loaded} == changed


def test_metrics_by_themselves(make_trained, tmp_path):
    learner = make_trained()
    path, metrics = learner.save_to_path(tmp_path), learner.metrics.get_state()
    touch(learner, 2)
    weights = learner.get_state("rl_module")
    learner.restore_from_path(path, component="metrics_logger")
    assert learner.metrics.get_state() == metrics
    assert_same(learner.get_state("rl_module"), weights)


@pytest.mark.parametrize(
    "component",
    ["optimizer", "learner", "typo", "rl_module/typo", "rl_module/p0/x", "a/b/c", "/"],
)
def test_what_is_no_part_of_it(make_trained, tmp_path, component):
    learner = make_trained(**TWO)
    path, before = learner.save_to_path(tmp_path), learner_digest(learner)
    with pytest.raises(TFLearnerError, match="component|unknown"):
        learner.restore_from_path(path, component=component)
    assert learner_digest(learner) == before


def test_parts_are_built_from_a_learners_file(make_trained, tmp_path):
    learner = make_trained(**TWO)
    path = learner.save_to_path(tmp_path)
    modules = MultiRLModule.from_checkpoint(path, component="rl_module")
    assert type(modules) is MultiRLModule and [*modules] == ["p0", "p1"]
    assert_same(modules.get_state(), learner.module.get_state())
    module = PPOTfRLModule.from_checkpoint(path, component="rl_module/p1")
    assert_same(module.get_state(), learner.module["p1"].get_state())
    metrics = MetricsLogger.from_checkpoint(path, component="metrics_logger")
    assert metrics.get_state() == learner.metrics.get_state()
    parts = dict(learner.get_checkpointable_components())
    assert [*parts][:2] == ["rl_module", "metrics_logger"]
    assert all(isinstance(part, Checkpointable) for part in parts.values())


# Which class.


class Unregistered(PPOTfLearner):
    """An own learner, with more in its state."""

    count = 0

    def _get_learner_state(self):
        return {**super()._get_learner_state(), "count": self.count}

    def _set_learner_state(self, state):
        super()._set_learner_state(state)
        self.count = state["count"]


def test_an_own_class_rebuilds_itself(make_trained, tmp_path):
    learner = make_trained(Unregistered)
    learner.count = 5
    path = learner.save_to_path(tmp_path)
    again = Unregistered.from_checkpoint(path)
    assert type(again) is Unregistered and again.count == 5
    assert_same(again.get_state(), learner.get_state())


@pytest.mark.parametrize("cls", [Learner, TfLearner, PPOTfLearner])
def test_a_base_class_does_not_know_it_and_says_what_to_do(make_trained, tmp_path, cls):
    path = make_trained(Unregistered).save_to_path(tmp_path)
    with pytest.raises(
        BuilderError, match="unregistered class.*Unregistered"
    ) as caught:
        cls.from_checkpoint(path)
    assert "from_checkpoint" in caught.value.hint
    builders = {name_of(Unregistered): Unregistered}
    assert type(cls.from_checkpoint(path, builders=builders)) is Unregistered


@pytest.mark.parametrize("cls", [Learner, TfLearner, Checkpointable])
def test_a_base_class_builds_what_is_registered(make_trained, tmp_path, cls):
    path = make_trained().save_to_path(tmp_path)
    assert type(cls.from_checkpoint(path)) is PPOTfLearner


@pytest.mark.parametrize("cls", [MetricsLogger, MultiRLModule, PPO, Unregistered])
def test_another_class_says_which_one_was_saved(make_trained, tmp_path, cls):
    path = make_trained().save_to_path(tmp_path)
    with pytest.raises(UsageError, match="'tflearner/PPOTfLearner'") as caught:
        cls.from_checkpoint(path)
    assert cls.__name__ in str(caught.value)


# Settings that files cannot hold.


class Piece(ConnectorV2):
    def __call__(self, *, batch, **kwargs):
        return batch


def which_learn(module_id, batch):
    return module_id == "p1"


def pieces(observation_space, action_space):
    return Piece(observation_space, action_space)


def activation(x):
    return tf.nn.tanh(x)


FUNCTIONS = {
    "policies_to_train": which_learn,
    "learner_connector": pieces,
    "fcnet_activation": activation,
}


def test_functions_are_given_again(make_trained, update, tmp_path):
    learner = make_trained(
        **TWO,
        policies_to_train=which_learn,
        learner_connector=pieces,
        model_config=DefaultModelConfig(fcnet_hiddens=[4], fcnet_activation=activation),
    )
    path = learner.save_to_path(tmp_path)
    for left_out in FUNCTIONS:
        given = {name: own for name, own in FUNCTIONS.items() if name != left_out}
        with pytest.raises(BuilderError, match=f"from_checkpoint.path, {left_out}="):
            PPOTfLearner.from_checkpoint(path, **given)
    with pytest.raises(BuilderError) as caught:
        PPOTfLearner.from_checkpoint(path)
    assert "3 settings" in str(caught.value)
    assert all(f"{name}=" in str(caught.value) for name in FUNCTIONS)
    again = PPOTfLearner.from_checkpoint(path, **FUNCTIONS)
    assert learner_digest(again) == learner_digest(learner)
    assert update(again, seed=3) == update(learner, seed=3)
    assert not again.should_module_be_updated("p0")


def test_settings_are_replaced(make_trained, tmp_path):
    path = make_trained().save_to_path(tmp_path)
    again = PPOTfLearner.from_checkpoint(path, seed=99, gamma=0.5)
    assert (again.config.seed, again.config.gamma) == (99, 0.5)
    with pytest.raises(UnknownArgumentError, match="did you mean 'gamma'"):
        PPOTfLearner.from_checkpoint(path, gama=0.5)
    with pytest.raises(TFLearnerError, match="gamma"):
        PPOTfLearner.from_checkpoint(path, gamma=7)


def test_modules_that_were_given_are_rebuilt(make_config, make_trained, tmp_path):
    config = make_config(**SETTINGS)
    module = config.get_multi_rl_module_spec().build(seed=8)
    learner = PPOTfLearner(config=config, module=module)
    learner.build()
    path = learner.save_to_path(tmp_path)
    again = PPOTfLearner.from_checkpoint(path)
    assert_same(again.get_state(), learner.get_state())
    assert again.module is not module
    mine = PPOTfLearner.from_checkpoint(path, module=make_trained().module)
    assert_same(mine.get_state(), learner.get_state())


def keras_model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh")])


def test_own_keras_models_are_given_again(make_trained, tmp_path):
    learner = make_trained(
        model_config=DefaultModelConfig(model=keras_model, vf_share_layers=False)
    )
    path = learner.save_to_path(tmp_path)
    with pytest.raises(BuilderError, match="model: the function keras_model"):
        PPOTfLearner.from_checkpoint(path)
    again = PPOTfLearner.from_checkpoint(path, model=keras_model)
    assert_same(again.get_state(), learner.get_state())


def test_no_keras_config_is_deserialised(make_trained, tmp_path, monkeypatch):
    path = make_trained().save_to_path(tmp_path)
    original, seen = keras.initializers.deserialize.__globals__, []
    deserialize = original["serialization_lib"].deserialize_keras_object

    def listen(config, *args, **kwargs):
        seen.append(config)
        return deserialize(config, *args, **kwargs)

    lib = original["serialization_lib"]
    monkeypatch.setattr(lib, "deserialize_keras_object", listen)
    PPOTfLearner.from_checkpoint(path)
    # Keras itself turns the name "zeros" into a config, as if there were no file.
    names = [c if isinstance(c, str) else c["class_name"] for c in seen]
    assert {name.lower() for name in names} <= {"zeros", "ones", "tanh"}
    assert not any(c["config"] for c in seen if isinstance(c, dict))


@pytest.mark.parametrize(
    "name", ["fcnet_activation", "fcnet_kernel_initializer", "conv_activation"]
)
def test_settings_are_names_not_keras_configs(name):
    config = {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}}
    with pytest.raises(TFLearnerError, match=name):
        DefaultModelConfig(**{name: config})


# Random numbers.


class Random(PPOTfRLModule):
    """Keeps a generator of each kind, and a layer with one."""

    def setup(self):
        super().setup()
        self.numpy_rng = np.random.Generator(np.random.MT19937(1))
        self.rng = tf.random.Generator.from_seed(2)
        self.seeds = keras.random.SeedGenerator(3)
        self.dropout = keras.layers.Dropout(0.5)

    def draw(self):
        return [
            self.numpy_rng.random(2),
            self.rng.normal([2]),
            keras.random.normal([2], seed=self.seeds),
            self.dropout(tf.ones([64]), training=True),
        ]


class Drawing(PPOTfLearner):
    """Keeps generators, too."""

    def build(self):
        super().build()
        self.own_rng = np.random.default_rng(4)
        self.own_seeds = keras.random.SeedGenerator(5)

    def draw(self):
        return [self.own_rng.random(2), keras.random.normal([2], seed=self.own_seeds)]


BUILDERS = {name_of(cls): cls for cls in (Random, Drawing)}


def draws(learner):
    module = learner.module[DEFAULT_MODULE_ID]
    return [np.asarray(x) for x in learner.draw() + module.draw()]


@pytest.mark.parametrize("route", ["set_state", "restore_from_path", "from_checkpoint"])
def test_random_numbers_go_on_where_they_were(make_learner, tmp_path, route):
    spec = RLModuleSpec(module_class=Random)
    learner = make_learner(Drawing, run_eagerly=True, rl_module_spec=spec)
    draws(learner)
    state, path = learner.get_state(), learner.save_to_path(tmp_path)
    wanted, other = draws(learner), learner
    assert all(differs(*pair) for pair in zip(draws(learner), wanted, strict=True))
    if route == "set_state":
        learner.set_state(state, force=True)
    elif route == "restore_from_path":
        learner.restore_from_path(path)
    else:
        other = Drawing.from_checkpoint(path, builders=BUILDERS)
    assert_same(draws(other), wanted)


@pytest.mark.parametrize("route", ["set_state", "restore_from_path"])
@pytest.mark.parametrize("swap", [False, True])
def test_generators_that_one_side_has_not_are_a_mismatch(
    make_learner, tmp_path, route, swap
):
    specs = [RLModuleSpec(module_class=Random), None]
    saver, taker = (
        make_learner(run_eagerly=True, rl_module_spec=spec)
        for spec in (specs[::-1] if swap else specs)
    )
    before = learner_digest(taker)
    with pytest.raises(TFLearnerError, match="numpy_rng.*seeds|seeds.*numpy_rng"):
        if route == "set_state":
            taker.set_state(saver.get_state(), force=True)
        else:
            taker.restore_from_path(saver.save_to_path(tmp_path))
    assert learner_digest(taker) == before


# Numbers that are not finite.


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(
    make_trained, tmp_path
):
    learner = make_trained()
    state = learner.get_state()
    name = next(iter(state["rl_module"][DEFAULT_MODULE_ID]))
    state["rl_module"][DEFAULT_MODULE_ID][name] *= np.nan
    with pytest.raises(TFLearnerError, match="NaN"):
        learner.save_to_path(tmp_path, state=state)
    path = learner.save_to_path(tmp_path, state=state, allow_nonfinite=True)
    before = learner_digest(learner)
    for route in (learner.restore_from_path, PPOTfLearner.from_checkpoint):
        with pytest.raises(TFLearnerError, match="NaN"):
            route(path)
    assert learner_digest(learner) == before
    with pytest.raises(ModuleError):
        learner.set_state(state, force=True)
