"""Every class with a state: saved, restored and rebuilt in the same way."""

import copy
import pathlib
import sys

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.algorithm import Algorithm
from tflearner.algorithms.ppo import PPO, PPOConfig, PPOTfLearner
from tflearner.checkpoint.builders import ARGUMENTS as ARGUMENTS_OF_BUILDER
from tflearner.checkpoint.builders import BUILDER, name_of
from tflearner.checkpoint.checkpointable import (
    ARGUMENTS,
    CLASS,
    COMPONENTS,
    Checkpointable,
    RestoreReport,
)
from tflearner.checkpoint.directory import CheckpointDirectory, read_checkpoint
from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.pipeline import ConnectorPipelineV2, EnvToModulePipeline
from tflearner.env.single_agent_env_runner import SingleAgentEnvRunner
from tflearner.errors import (
    BuilderError,
    CheckpointError,
    CheckpointMismatchError,
    TFLearnerError,
    UnknownArgumentError,
    UsageError,
)
from tflearner.metrics import MetricsLogger
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.catalog import PPOCatalog
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module import MultiRLModule, RLModule
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.testing import CountingEnv

SPACES = (gym.spaces.Box(-1.0, 1.0, (4,), np.float32), gym.spaces.Discrete(2))


def assert_same(state, wanted):
    tf.nest.map_structure(np.testing.assert_array_equal, state, wanted)


def differ(state, other):
    try:
        assert_same(state, other)
    except (AssertionError, ValueError, TypeError):
        return True
    return False


# A class as simple as can be, and one with parts.


class Leaf(Checkpointable):
    def __init__(self, size=2, function=None):
        self.size, self.function = size, function
        self.array = np.zeros(size)

    def get_state(self, components=None, *, not_components=None):
        return {"array": self.array.copy()}

    def set_state(self, state):
        self.array[:] = state["array"]

    def get_ctor_args_and_kwargs(self):
        return (), {"size": self.size, "function": self.function}


class Tree(Checkpointable):
    def __init__(self, name="root"):
        self.name, self.parts = name, {"a": Leaf(), "b": Leaf(3)}

    def get_state(self, components=None, *, not_components=None):
        return {name: part.get_state() for name, part in self.parts.items()}

    def set_state(self, state):
        for name, own in state.items():
            self.parts[name].set_state(own)

    def get_ctor_args_and_kwargs(self):
        return (), {"name": self.name}

    def get_checkpointable_components(self):
        return list(self.parts.items())


class Own(ConnectorV2):
    """A piece that counts."""

    def __init__(self, *spaces, **kwargs):
        super().__init__(*spaces, **kwargs)
        self.count = 1

    def __call__(self, *, batch, **kwargs):
        self.count += 1
        return batch

    def get_state(self, components=None, *, not_components=None):
        return {"count": self.count}

    def set_state(self, state):
        self.count = state["count"]


class Plain(TfRLModule):
    """A module that is not registered."""

    def setup(self):
        self.w = self.add_weight(name="w", shape=(2, 3))

    def _forward(self, batch, **kwargs):
        return {"action_dist_inputs": tf.zeros((len(batch["obs"]), 2)) + self.w[0, 0]}


def make_module(cls=PPOTfRLModule, seed=None):
    model_config = DefaultModelConfig(fcnet_hiddens=[4])
    return cls(*SPACES, model_config=model_config, catalog_class=PPOCatalog, seed=seed)


def make_config(env="CartPole-v1", **settings):
    return PPOConfig(env=env).update_from_dict(
        {
            "seed": 1,
            "run_eagerly": True,
            "jit_compile": False,
            "model_config": DefaultModelConfig(fcnet_hiddens=[4]),
            "train_batch_size_per_learner": 8,
            "minibatch_size": 4,
            "num_epochs": 1,
            **settings,
        }
    )


def make_learner():
    config = make_config(observation_space=SPACES[0], action_space=SPACES[1])
    return config.build_learner()


def make_metrics():
    metrics = MetricsLogger()
    metrics.log_value(("a", "b"), 1.5, window=3)
    metrics.log_value("lifetime", 7, reduce="sum")
    return metrics


def make_pipeline():
    return EnvToModulePipeline([Own(), Own()], *SPACES)


def make_actions():
    return make_config().build_module_to_env_connector(*SPACES)


def make_runner():
    runner = SingleAgentEnvRunner(
        config=make_config(),
        module=make_module(seed=1),
        env_to_module=make_pipeline(),
        module_to_env=make_actions(),
    )
    runner.sample(num_timesteps=3)
    return runner


def other_weights(module):
    state = tf.nest.map_structure(lambda x: x + 1, module.get_state())
    module.set_state(state)


def change_learner(learner):
    other_weights(learner.module)
    learner.metrics.log_value("mine", 3)


def change_pipeline(pipeline):
    pipeline.connectors[1].count += 5


def change_leaf(leaf):
    leaf.array += 1


def change_tree(tree):
    tree.parts["b"].array += 2


# How to make one, how to change it, what `from_checkpoint` needs.
CLASSES = {
    "smallest": (Leaf, change_leaf, {}),
    "with parts": (Tree, change_tree, {}),
    "MetricsLogger": (make_metrics, lambda m: m.log_value("new", 1), {}),
    "PPOTfRLModule": (make_module, other_weights, {}),
    "TfRLModule": (lambda: Plain(*SPACES), other_weights, {}),
    "MultiRLModule": (
        lambda: MultiRLModule({"p0": make_module(), "p1": make_module()}),
        other_weights,
        {},
    ),
    "PPOTfLearner": (make_learner, change_learner, {}),
    "ConnectorV2": (Own, lambda own: own(batch={}), {}),
    "pipeline": (
        make_pipeline,
        change_pipeline,
        {"connectors": lambda: [Own(), Own()]},
    ),
    "SingleAgentEnvRunner": (
        make_runner,
        lambda runner: runner.sample(num_timesteps=5),
        {
            "module": make_module,
            "env_to_module": make_pipeline,
            "module_to_env": make_actions,
        },
    ),
    "PPO": (lambda: PPO(config=make_config()), lambda algo: algo.train(), {}),
}


@pytest.fixture(params=CLASSES)
def case(request):
    make, change, needs = CLASSES[request.param]
    return make(), change, {name: own() for name, own in needs.items()}


def stop(thing):
    if hasattr(thing, "stop"):
        thing.stop()


def test_every_class_is_restored_exactly_and_rebuilt(case, tmp_path):
    thing, change, given = case
    path = thing.save_to_path(tmp_path)
    before = copy.deepcopy(thing.get_state())
    change(thing)
    assert differ(thing.get_state(), before)
    report = thing.restore_from_path(tmp_path)
    assert_same(thing.get_state(), before)
    assert report.loaded and not (report.kept or report.ignored or report.reset)
    assert (report.path, report.skipped) == (path, ())
    again = type(thing).from_checkpoint(path, **given)
    assert type(again) is type(thing) and again is not thing
    assert_same(again.get_state(), before)
    for one in (thing, again):
        stop(one)


def test_every_class_says_what_it_is_made_of(case, tmp_path):
    thing, _, given = case
    metadata = read_checkpoint(thing.save_to_path(tmp_path)).about
    assert metadata[CLASS] == name_of(type(thing))
    args, kwargs = thing.get_ctor_args_and_kwargs()
    assert args == () and metadata[ARGUMENTS].keys() <= kwargs.keys()
    parts = dict(thing.get_checkpointable_components())
    assert metadata.get(COMPONENTS, {}).keys() == parts.keys()
    assert all(isinstance(part, Checkpointable) for part in parts.values())
    state = thing.get_state()
    assert parts.keys() <= state.keys()
    if given:
        with pytest.raises(BuilderError) as caught:
            type(thing).from_checkpoint(tmp_path)
        assert all(f"{name}=" in str(caught.value) for name in given)
    stop(thing)


def test_every_part_is_restored_by_itself(case, tmp_path):
    thing, change, _ = case
    path = thing.save_to_path(tmp_path)
    saved = copy.deepcopy(thing.get_state())
    for name in dict(thing.get_checkpointable_components()):
        change(thing)
        before = copy.deepcopy(thing.get_state())
        report = thing.restore_from_path(path, component=name)
        after = thing.get_state()
        part = {k: v for k, v in saved[name].items() if k in after[name]}
        assert_same({k: after[name][k] for k in part}, part)
        assert report.loaded and all(p.startswith(f"{name}/") for p in report.loaded)
        for other in ("iteration", "env_runner", "metrics_logger", "a"):
            if other in before and other != name:
                assert_same(after[other], before[other])
    stop(thing)


def test_every_class_refuses_files_of_others(case, tmp_path):
    thing, _, given = case
    cls = Leaf if type(thing) is not Leaf else Tree
    path = cls().save_to_path(tmp_path)
    with pytest.raises(BuilderError, match=rf"unregistered class.*{cls.__name__}"):
        type(thing).from_checkpoint(path, **given)
    with pytest.raises(UsageError, match=rf"{cls.__name__}.*subclass"):
        type(thing).from_checkpoint(path, builders={name_of(cls): cls})
    stop(thing)


@pytest.mark.parametrize("name", ["PPOTfRLModule", "MultiRLModule", "PPOTfLearner"])
def test_what_is_registered_is_found_from_its_base_class(name, tmp_path):
    thing = CLASSES[name][0]()
    path = thing.save_to_path(tmp_path)
    base = RLModule if "Module" in name else Checkpointable
    again = base.from_checkpoint(path)
    assert type(again) is type(thing)
    assert_same(again.get_state(), thing.get_state())


# Steps, paths and arguments.


def test_a_path_is_made_if_none_is_given():
    path = pathlib.Path(Leaf().save_to_path())
    assert path.name == "step-000000000001" and path.parent.is_absolute()


def test_steps(tmp_path):
    leaf, paths = Leaf(), []
    for step in (None, 5, None):
        leaf.array += 1
        paths.append(leaf.save_to_path(tmp_path, step=step))
    assert [path[-2:] for path in paths] == ["01", "05", "06"]
    with pytest.raises(FileExistsError):
        leaf.save_to_path(tmp_path, step=5)
    assert Leaf.from_checkpoint(tmp_path).array[0] == 3
    assert Leaf.from_checkpoint(paths[1]).array[0] == 2
    leaf.save_to_path(tmp_path, keep=1, state={"array": np.full(2, 9.0)})
    assert Leaf.from_checkpoint(tmp_path).array[0] == 9 and leaf.array[0] == 3
    with pytest.raises(FileNotFoundError):
        leaf.restore_from_path(paths[0])


def test_a_damaged_step_is_skipped_if_wanted(tmp_path):
    leaf = Leaf()
    first = leaf.save_to_path(tmp_path)
    leaf.array += 1
    second = pathlib.Path(leaf.save_to_path(tmp_path))
    (second / "state.json").write_bytes(b"{}")
    for route in (leaf.restore_from_path, Leaf.from_checkpoint):
        with pytest.raises(CheckpointError, match=r"state\.json"):
            route(tmp_path)
    assert leaf.array[0] == 1
    assert Leaf.from_checkpoint(tmp_path, on_corrupt="previous").array[0] == 0
    report = leaf.restore_from_path(tmp_path, on_corrupt="previous")
    assert (report.path, report.skipped) == (first, (str(second),))
    assert leaf.array[0] == 0


def test_arguments_are_given_again_or_replaced(tmp_path):
    path = Leaf(2, len).save_to_path(tmp_path)
    with pytest.raises(BuilderError, match=r"function: the function len.*function="):
        Leaf.from_checkpoint(path)
    assert Leaf.from_checkpoint(path, function=max).function is max
    with pytest.raises(UnknownArgumentError, match="did you mean 'function'"):
        Leaf.from_checkpoint(path, functoin=len)
    with pytest.raises(TypeError):  # The same error, as for any wrong keyword.
        Leaf.from_checkpoint(path, function=len, sise=3)


def test_parts_are_restored_and_built_by_path(tmp_path):
    tree = Tree()
    change_tree(tree)
    path = tree.save_to_path(tmp_path)
    tree.parts["a"].array += 1
    tree.parts["b"].array += 1
    report = tree.restore_from_path(path, component="b")
    assert report.loaded == ("b/array",)
    assert (tree.parts["a"].array[0], tree.parts["b"].array[0]) == (1, 2)
    leaf = Leaf.from_checkpoint(path, component="b")
    assert leaf.size == 3 and leaf.array[0] == 2


@pytest.mark.parametrize(
    ("component", "text"),
    [
        ("c", "one of"),
        ("a/x", "no component"),
        ("/", "no component"),
        ("a/array/x", "no component"),
    ],
)
def test_parts_that_are_not_there(tmp_path, component, text):
    tree = Tree()
    path = tree.save_to_path(tmp_path)
    for route in (tree.restore_from_path, Tree.from_checkpoint):
        with pytest.raises((CheckpointMismatchError, UsageError), match=text):
            route(path, component=component)


def test_values_are_no_parts(tmp_path):
    tree = Tree()
    path = tree.save_to_path(tmp_path)
    with pytest.raises(TFLearnerError, match="component"):
        tree.restore_from_path(path, component="a/array")
    with pytest.raises(UsageError, match="cannot be built by itself"):
        Leaf.from_checkpoint(path, component="a/array")


def test_reports_add_up():
    one = RestoreReport(loaded=("x",), kept=("y",)).below("a")
    both = one + RestoreReport(loaded=("z",), reset=("o",))
    assert both.loaded == ("a/x", "z") and both.kept == ("a/y",)
    assert str(both) == "restored : 2 loaded, 1 kept, 1 reset"


# Descriptions that nobody wrote.

BROKEN = {
    "nothing": lambda about: about.clear(),
    "no arguments": lambda about: about.pop(ARGUMENTS),
    "a list of arguments": lambda about: about.update({ARGUMENTS: [1]}),
    "an argument too many": lambda about: about[ARGUMENTS].update(zzz=1),
    "an argument too few": lambda about: about[ARGUMENTS].pop("config"),
    "another config": lambda about: about[ARGUMENTS].update(config=3),
    "a class of no name": lambda about: about.update({CLASS: ["x"]}),
    "a class of code": lambda about: about.update({CLASS: "os.system"}),
    "a builder of no name": lambda about: about[ARGUMENTS].update(
        config={BUILDER: [1]}
    ),
    "a builder of code": lambda about: about[ARGUMENTS].update(
        config={BUILDER: "os.system", ARGUMENTS_OF_BUILDER: {"command": "true"}}
    ),
    "a builder of no arguments": lambda about: about[ARGUMENTS].update(
        config={BUILDER: "tflearner/PPOConfig", ARGUMENTS_OF_BUILDER: 5}
    ),
    "a setting too many": lambda about: settings_of(about).update(zzz=1),
    "a setting of another type": lambda about: settings_of(about).update(lr="x"),
    "a space of no dtype": lambda about: settings_of(about).update(
        observation_space=box(dtype="object")
    ),
    "a space of all memory": lambda about: settings_of(about).update(
        observation_space=box(shape=[10**8, 10**8])
    ),
    "a class that is none": lambda about: settings_of(about).update(
        learner_class={BUILDER: "gymnasium/Box"}
    ),
}


def settings_of(about):
    return about[ARGUMENTS]["config"][ARGUMENTS_OF_BUILDER]


def box(**changes):
    arguments = {"low": 0.0, "high": 1.0, "shape": [4], "dtype": "float32"} | changes
    return {BUILDER: "gymnasium/Box", ARGUMENTS_OF_BUILDER: arguments}


@pytest.fixture(scope="module")
def algo_path(tmp_path_factory):
    algo = PPO(config=make_config())
    algo.train()
    path = algo.save(tmp_path_factory.mktemp("algo"))
    algo.stop()
    return path


def with_about(path, change, directory):
    checkpoint = read_checkpoint(path)
    about = copy.deepcopy(checkpoint.about)
    change(about)
    return str(CheckpointDirectory(directory).save(checkpoint.state, about, step=1))


@pytest.mark.parametrize("name", BROKEN)
def test_broken_descriptions_are_errors_that_say_so(name, algo_path, tmp_path):
    path = with_about(algo_path, BROKEN[name], tmp_path)
    with pytest.raises(TFLearnerError):
        PPO.from_checkpoint(path)


@pytest.fixture
def evil_env(tmp_path, monkeypatch):
    """An id for which gymnasium imports a module that must not run."""
    (tmp_path / "evil_module.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    return "evil_module:CartPole-v1"


def test_environments_whose_ids_import_modules_are_given_again(
    algo_path, tmp_path, evil_env
):
    path = with_about(
        algo_path,
        lambda about: settings_of(about).update(env=evil_env),
        tmp_path / "checkpoints",
    )
    with pytest.raises(BuilderError, match="env="):
        PPO.from_checkpoint(path)
    PPO.from_checkpoint(path, env="CartPole-v1").stop()


def test_files_set_nothing_beside_the_config(algo_path, tmp_path, evil_env):
    path = with_about(
        algo_path,
        lambda about: about[ARGUMENTS].update(env=evil_env),
        tmp_path / "checkpoints",
    )
    with pytest.raises(BuilderError, match="env"):
        PPO.from_checkpoint(path)


# Modules.


def test_modules_are_restored_strictly_or_in_part(tmp_path):
    wide = PPOTfRLModule(
        *SPACES,
        model_config=DefaultModelConfig(fcnet_hiddens=[7]),
        catalog_class=PPOCatalog,
    )
    path, module = wide.save_to_path(tmp_path), make_module()
    before = module.get_state()
    with pytest.raises(CheckpointMismatchError, match="'000/kernel' of shape"):
        module.restore_from_path(path)
    assert_same(module.get_state(), before)
    report = module.restore_from_path(path, strict=False)
    assert sorted(report.loaded + report.kept) == sorted(before)
    assert report.ignored == ()
    after, saved = module.get_state(), wide.get_state()
    for name in before:
        assert_same(after[name], (saved if name in report.loaded else before)[name])
    assert report.loaded and report.kept


def test_several_modules_in_part(tmp_path):
    saved = MultiRLModule({"p0": make_module(), "p1": make_module()})
    path = saved.save_to_path(tmp_path)
    module = MultiRLModule({"p1": make_module(), "p2": make_module()})
    before = module.get_state()
    with pytest.raises(CheckpointMismatchError) as caught:
        module.restore_from_path(path)
    assert "'p0/000/kernel'" in str(caught.value) and "'p2/" in str(caught.value)
    assert_same(module.get_state(), before)
    report = module.restore_from_path(path, strict=False)
    for part, mid in (("loaded", "p1"), ("kept", "p2"), ("ignored", "p0")):
        assert {name.split("/")[0] for name in getattr(report, part)} == {mid}
    assert_same(module["p1"].get_state(), saved["p1"].get_state())
    assert_same(module["p2"].get_state(), before["p2"])


def test_modules_that_only_act_say_what_they_lack(tmp_path):
    path = make_module().save_to_path(tmp_path)
    actor = PPOTfRLModule(
        *SPACES,
        model_config=DefaultModelConfig(fcnet_hiddens=[4]),
        catalog_class=PPOCatalog,
        inference_only=True,
    )
    with pytest.raises(CheckpointMismatchError, match="unexpected"):
        actor.restore_from_path(path)
    assert actor.restore_from_path(path, strict=False).kept == ()


# Connectors.


class Growing(ConnectorV2):
    """A piece that remembers nothing at first."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __call__(self, *, batch, **kwargs):
        self.seen["x"] = self.seen.get("x", 0) + 1
        return batch

    def get_state(self, components=None, *, not_components=None):
        return dict(self.seen)

    def set_state(self, state):
        self.seen = dict(state)


def test_a_piece_that_remembers_nothing_yet_takes_over_what_was_saved(tmp_path):
    pipeline = ConnectorPipelineV2([Growing()])
    pipeline(rl_module=None, batch={}, episodes=[])
    path = pipeline.save_to_path(tmp_path)
    fresh = ConnectorPipelineV2([Growing()])
    fresh.restore_from_path(path)
    assert fresh.get_state() == pipeline.get_state()


def test_pipelines_of_other_pieces(tmp_path):
    class Other(Own):
        pass

    path = make_pipeline().save_to_path(tmp_path)
    pipeline = ConnectorPipelineV2([Other(), Own()])
    change_pipeline(pipeline)
    with pytest.raises(CheckpointMismatchError) as caught:
        pipeline.restore_from_path(path)
    assert "missing 'Other'" in str(caught.value)
    assert "unexpected 'Own_1'" in str(caught.value)
    report = pipeline.restore_from_path(path, strict=False)
    assert {path.split("/")[0] for path in report.loaded} == {"Own"}
    assert (report.kept, report.ignored) == (("Other",), ("Own_1",))
    assert pipeline.connectors[1].count == 1
    pipeline.restore_from_path(path, component="Own", strict=False)


# Runners and whole runs.


def test_a_runner_needs_its_module_again(algo_path):
    with pytest.raises(BuilderError, match="module="):
        SingleAgentEnvRunner.from_checkpoint(
            algo_path, component="env_runner", env_to_module=None, module_to_env=None
        )


def test_a_runner_forgets_what_was_measured_since(tmp_path):
    runner = make_runner()
    path, before = runner.save_to_path(tmp_path), copy.deepcopy(runner.get_state())
    runner.metrics.log_value("since", 1)
    runner.restore_from_path(path)
    assert_same(runner.get_state(), before)
    with pytest.raises(CheckpointMismatchError, match="typo") as caught:
        state = {k: v for k, v in before.items() if k != "rng"} | {"typo": 1}
        runner.restore_from_path(runner.save_to_path(tmp_path, state=state))
    assert "rng" in str(caught.value)
    assert_same(runner.get_state(), before)
    runner.stop()


@pytest.mark.parametrize("component", ["learner", "learner/rl_module", "env_runner"])
def test_parts_of_runs(algo_path, component):
    algo = PPO(config=make_config(seed=3))
    report = algo.restore_from_path(algo_path, component=component)
    state, saved = algo.get_state(), read_checkpoint(algo_path).state
    for name in component.split("/"):
        state, saved = state[name], saved[name]
    assert_same(state, saved)
    assert all(path.startswith(component) for path in report.loaded)
    assert state != algo.get_state() and algo.get_state()["iteration"] == 0
    algo.stop()


# What a stranger's file may describe.


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Writes descriptions that name a module, and looks that nobody imported it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "of_a_stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(elsewhere)

    def save(about):
        return CheckpointDirectory(tmp_path / "run").save({"metrics_logger": {}}, about)

    yield save
    is_imported = sys.modules.pop("of_a_stranger", None) is not None
    assert not is_imported and not (tmp_path / "ran").exists()


ID = "of_a_stranger:Env-v0"
ALGORITHM = {BUILDER: "tflearner/PPO", ARGUMENTS: {"env": ID}}
OF_A_STRANGER = {
    "in env_config": {"env_config": {"inner": ALGORITHM}},
    "in learner_config_dict": {"learner_config_dict": {"a": {"b": ALGORITHM}}},
    "in a list": {"lr": [ALGORITHM]},
    "in a tuple": {"num_epochs": (1, (ALGORITHM,))},
    "as env": {"env": ALGORITHM},
    "as a module": {"policies": {"p0": ALGORITHM}},
    "as an id beside a device": {"env": ID, "strategy": ALGORITHM},
    "in an override": {"algorithm_config_overrides_per_module": {"p0": {"x": ALGORITHM}}},
    "in a space": {
        "observation_space": {
            BUILDER: "gymnasium/Dict",
            ARGUMENTS: {"spaces": [["a", ALGORITHM]]},
        }
    },
    "by its full name": {
        "env_config": ALGORITHM | {BUILDER: "tflearner.algorithms.ppo.PPO"}
    },
    "another algorithm": {"env_config": [ALGORITHM | {BUILDER: "tflearner/DQN"}]},
    "a learner": {"learner_config_dict": ALGORITHM | {BUILDER: "tflearner/PPOTfLearner"}},
    "named to be called": {"model": {BUILDER: "tflearner/PPO"}},
    "a class named to be called": {"model": {BUILDER: "tflearner/MetricsLogger"}},
    "an algorithm for a learner": {"learner_class": {BUILDER: "tflearner/PPO"}},
    "a config for a list": {"env": [{BUILDER: "tflearner/PPOConfig", ARGUMENTS: {}}]},
    "as an id": {"env": ID},
    "as a vectorised id": {"env": ID, "gym_env_vectorize_mode": "vector_entry_point"},
    "as an id with a namespace": {"env": f"a/{ID}"},
    "as an id inside": {"env_config": {"wrapped": [{"id": ID}]}},
    "as a name inside": {"env_config": {"wrapped": {ID: 1}}},
    "as an id of old gym": {"env": "GymV21Environment-v0"},
}  # fmt: skip


@pytest.mark.parametrize("name", OF_A_STRANGER)
def test_no_file_builds_a_run_inside_or_imports_a_module(name, stranger):
    config = {"env": "CartPole-v1", **OF_A_STRANGER[name]}
    config = {BUILDER: "tflearner/PPOConfig", ARGUMENTS: config}
    path = stranger({CLASS: "tflearner/PPO", ARGUMENTS: {"config": config}})
    setting = next(iter(OF_A_STRANGER[name]))
    with pytest.raises(BuilderError, match=rf"1 settings.*\(({setting}|spaces): "):
        PPO.from_checkpoint(path)


def test_configs_refuse_modules_under_every_name(stranger):
    config = {BUILDER: "tflearner.settings.settings.Settings.from_settings"}
    config |= {ARGUMENTS: {"env": ID}}
    path = stranger({CLASS: "tflearner/PPO", ARGUMENTS: {"config": config}})
    with pytest.raises(BuilderError, match=f"env: '{ID}'.*env="):
        PPO.from_checkpoint(path)


@pytest.mark.parametrize("value", [ALGORITHM, [[ALGORITHM]], {"a": (ALGORITHM,)}])
@pytest.mark.parametrize(
    ("cls", "component"), [(PPO, None), (MetricsLogger, "metrics_logger")]
)
def test_no_class_takes_a_run_as_a_further_argument(cls, component, value, stranger):
    about = {CLASS: name_of(cls), ARGUMENTS: {"more": value}}
    path = stranger(about if component is None else {COMPONENTS: {component: about}})
    with pytest.raises(BuilderError, match="more: builder 'tflearner/PPO'"):
        cls.from_checkpoint(path, component=component)


class OwnAlgorithm(PPO):
    pass


def test_runs_of_users_are_not_built_as_an_argument_either(stranger):
    own = {BUILDER: "mine", ARGUMENTS: {"env": ID}}
    config = {"env": "CartPole-v1", "learner_config_dict": {"inner": own}}
    config = {BUILDER: "tflearner/PPOConfig", ARGUMENTS: config}
    path = stranger({CLASS: "tflearner/PPO", ARGUMENTS: {"config": config}})
    with pytest.raises(BuilderError, match="learner_config_dict: .*'algorithm'"):
        PPO.from_checkpoint(path, builders={"mine": OwnAlgorithm})


MACHINE = {
    "compile_cache": "cache",
    "num_gpus_per_learner": 7,
    "local_gpu_idx": 3,
    "strategy": {BUILDER: "tflearner/MetricsLogger", ARGUMENTS: {}},
}


def test_no_file_decides_what_belongs_to_a_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = with_about(
        make_learner().save_to_path(tmp_path / "saved"),
        lambda about: about[ARGUMENTS]["config"][ARGUMENTS].update(MACHINE),
        tmp_path / "forged",
    )
    with pytest.warns(
        UserWarning, match="local_gpu_idx, strategy, compile_cache"
    ) as said:
        learner = PPOTfLearner.from_checkpoint(path, num_gpus_per_learner=0)
    assert "num_gpus_per_learner" not in str(said[0].message) and len(said) == 1
    assert learner.restore_report.dropped == (
        *("local_gpu_idx", "strategy", "compile_cache"),
    )
    assert "3 dropped" in str(learner.restore_report) and learner.restore_report.loaded
    config = learner.config
    assert (config.compile_cache, config.strategy, config.local_gpu_idx) == (
        None,
        None,
        0,
    )
    assert config.num_gpus_per_learner == 0  # What is given holds.
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("cls", "component"),
    [
        (PPOTfLearner, "learner"),
        (MultiRLModule, "learner/rl_module"),
        (PPOTfRLModule, "learner/rl_module/default_policy"),
        (MetricsLogger, "learner/metrics_logger"),
        (MetricsLogger, "env_runner/metrics_logger"),
        (Algorithm, None),
    ],
)
def test_parts_of_runs_are_built_by_themselves(algo_path, cls, component):
    part = cls.from_checkpoint(algo_path, component=component)
    saved = read_checkpoint(algo_path).state
    for name in component.split("/") if component else ():
        saved = saved[name]
    assert_same(part.get_state(), saved)
    stop(part)


def make_env():
    return CountingEnv()


def own_pieces(observation_space, action_space):
    return [Own(observation_space, action_space)]


def test_functions_of_a_run_are_given_again(tmp_path):
    functions = {"env": make_env, "env_to_module_connector": own_pieces}
    algo = PPO(config=make_config(**functions))
    algo.train()
    path, state = algo.save(tmp_path), algo.get_state()
    with pytest.raises(BuilderError) as caught:
        PPO.from_checkpoint(path)
    assert all(f"{name}=" in str(caught.value) for name in functions)
    assert "make_env" in str(caught.value) and "own_pieces" in str(caught.value)
    again = PPO.from_checkpoint(path, **functions)
    assert_same(again.get_state(), state)
    assert again.env_runner.env_to_module.connectors[0].count > 1
    for one in (algo, again):
        one.stop()


def test_all_that_does_not_fit_a_run_is_in_one_error(tmp_path):
    saved = PPO(config=make_config(env_to_module_connector=own_pieces))
    path = saved.save(tmp_path)
    model_config = DefaultModelConfig(fcnet_hiddens=[9])
    algo = PPO(config=make_config(model_config=model_config))
    algo.train()
    before = copy.deepcopy(algo.get_state())
    with pytest.raises(CheckpointMismatchError) as caught:
        algo.restore_from_path(path)
    text = str(caught.value)
    assert "default_policy/000/kernel' of shape (4, 4) instead of (4, 9)" in text
    assert "unexpected 'env_to_module_connector'" in text
    assert "Nothing was changed" in text
    assert_same(algo.get_state(), before)
    assert not algo.env_runner._needs_reset  # Its episodes go on.
    report = algo.restore_from_path(path, strict=False)
    assert "env_runner/env_to_module_connector" in report.ignored
    assert "learner/rl_module/default_policy/000/kernel" in report.kept
    assert "learner/optimizer/default_policy/default_optimizer" in report.reset
    assert {"iteration", "run_seed"} <= {*report.loaded}
    for one in (saved, algo):
        one.stop()


def test_a_run_that_breaks_off_while_it_restores_is_as_before(algo_path, monkeypatch):
    algo = PPO(config=make_config(seed=3))
    before = copy.deepcopy(algo.get_state())
    calls = []

    def breaks_off(state):
        calls.append(state)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(algo, "_set_own_state", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        algo.restore_from_path(algo_path)
    assert_same(algo.get_state(), before)
    algo.stop()


def test_configs_come_back_with_every_setting(tmp_path):
    config = make_config(
        lr=[[0, 1e-3], (1000, 1e-5)],
        policies_to_train={"default_policy"},
        learner_config_dict={("a", 1): np.float32(0.5), "inf": float("inf")},
        algorithm_config_overrides_per_module={"default_policy": {"lr": 0.1}},
        grad_clip=np.float64(0.5),
    )
    algo = PPO(config=config)
    algo.save(tmp_path)
    again = PPO.from_checkpoint(tmp_path)
    of_modules = {"rl_module_spec", "policies", "learner_config_dict"}
    for name, value in algo.config.settings().items():
        if name not in of_modules:
            assert getattr(again.config, name) == value, name
            assert type(getattr(again.config, name)) is type(value), name
    wanted = {("a", 1): 0.5, "inf": float("inf")}
    assert again.config.learner_config_dict == wanted
    for one in (algo, again):
        one.stop()
