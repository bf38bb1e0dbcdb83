"""What a SavedModel holds and says of itself, and when there is none."""

import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

import tflearner as tfl
from tflearner.columns import Columns
from tflearner.connectors.actions import GetActions, NormalizeAndClipActions
from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.pipeline import EnvToModulePipeline, ModuleToEnvPipeline
from tflearner.errors import ExportError
from tflearner.export import policy, staging
from tflearner.export.policy import export_policy
from tflearner.learner import exporting
from tflearner.modules.rl_module import RLModule
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.testing import assert_close

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS, ACT = Box(-1.0, 1.0, (3,), np.float32), Discrete(3)
TO_ENV = [GetActions(OBS, ACT), NormalizeAndClipActions(OBS, ACT)]


class Policy(TfRLModule):
    """The smallest module; subclasses put something between."""

    def setup(self):
        self.dense = keras.layers.Dense(3)

    def _forward(self, batch, **kwargs):
        inputs = self.between(self.dense(tf.cast(batch[Columns.OBS], tf.float32)))
        return {Columns.ACTION_DIST_INPUTS: inputs}

    def between(self, inputs):
        return inputs


class CallsPython(Policy):
    def between(self, inputs):
        out = tf.numpy_function(lambda x: x, [inputs], tf.float32)
        return tf.ensure_shape(out, inputs.shape)


class Prints(Policy):
    def between(self, inputs):
        tf.print(inputs[0, 0], output_stream="file:///dev/null")
        return inputs


class DrawsGreedily(Policy):
    def between(self, inputs):  # So wide that no two draws choose the same actions.
        return inputs + 100.0 * tf.random.normal(tf.shape(inputs))


class DrawsWhileExploring(Policy):
    def _forward_exploration(self, batch, **kwargs):
        inputs = self._forward(batch)[Columns.ACTION_DIST_INPUTS]
        return {Columns.ACTION_DIST_INPUTS: inputs + tf.random.normal(tf.shape(inputs))}


class Fails(Policy):
    def between(self, inputs):
        return inputs if tf.executing_eagerly() else 1 / 0


class Nothing(Policy):
    def _forward(self, batch, **kwargs):
        self.dense(batch[Columns.OBS])
        return {"thoughts": batch[Columns.OBS]}


class Scripted(RLModule):
    def get_state(self, components=None, **kwargs):
        return {}

    def set_state(self, state):
        pass


class Piece(ConnectorV2):
    """A piece that doubles what passes."""

    factor = 2.0

    def __call__(self, *, batch, **kwargs):
        for column in (Columns.OBS, Columns.ACTIONS):
            if column in batch:
                batch[column] = batch[column] * 2
        return batch


class Doubles(Piece):
    def to_tensors(self, x):
        return x * 2


class Wrong(Piece):
    def to_tensors(self, x):
        return x * 3


class Tilts(ConnectorV2):
    """Changes what actions are chosen by: belongs in front of `GetActions`."""

    def __call__(self, *, batch, **kwargs):
        inputs = batch[Columns.ACTION_DIST_INPUTS]
        batch[Columns.ACTION_DIST_INPUTS] = -inputs
        return batch

    def to_tensors(self, x):
        return -x


class OwnChoice(GetActions):
    def __call__(self, *, batch, **kwargs):
        batch[Columns.ACTIONS] = batch[Columns.ACTION_DIST_INPUTS].argmin(-1)
        return batch


def export(path, module=None, into=(), out_of=TO_ENV, **settings):
    module = Policy(OBS, ACT) if module is None else module
    return export_policy(
        module,
        path,
        env_to_module=EnvToModulePipeline(into, OBS, ACT),
        module_to_env=ModuleToEnvPipeline(out_of, OBS, ACT),
        **settings,
    )


def make_older_export(path):
    """Makes the names of an export, as all versions have written them."""
    for name in ("assets", "variables"):
        (path / name).mkdir(parents=True)
    for name in ("saved_model.pb", "fingerprint.pb", "variables/variables.index"):
        (path / name).write_text("...")
    (path / "spec.json").write_text('{"format": "tflearner export"}')


def listing(path):
    """Returns all names below a directory, and what is in its files."""
    return {
        str(p.relative_to(path)): p.read_bytes() if p.is_file() else None
        for p in path.rglob("*")
    }


def raising(error):
    def function(*args, **kwargs):
        raise error

    return function


def observations(num=20):
    return np.random.default_rng(0).uniform(-1, 1, (num, 3)).astype(np.float32)


# What is there.


def test_endpoints_take_any_number_of_rows(kinds, exported, kind):
    made, policy = kinds[kind], tf.saved_model.load(str(exported[kind][0]))
    for num in (1, 2, 33):
        obs, state = made.observations(num), ()
        if made.module.is_stateful():
            state = (policy.initial_state(num),)
        greedy = policy.act_greedy(obs, *state)
        drawn = policy.act(obs, *state, [3, 4])
        actions, after = greedy if state else (greedy, None)
        assert len(actions) == num
        tf.nest.assert_same_structure(drawn, greedy)
        want, want_after = made.act(obs, *(made.initial_state(num),) if state else ())
        assert_close(actions, want, rtol=1e-5, atol=1e-6)
        if state:
            tf.nest.map_structure(
                lambda a, b: assert_close(a, b, rtol=1e-5, atol=1e-6), after, want_after
            )


def test_equal_seeds_draw_equal_actions(exported):
    policy = tf.saved_model.load(str(exported["discrete"][0]))
    obs = np.zeros((200, 4), np.float32)
    first, again, other = (
        policy.act(obs, seed).numpy() for seed in ([1, 2], [1, 2], [1, 3])
    )
    assert (first == again).all() and (first != other).any()
    assert set(first) == {2, 3, 4}  # A Discrete that starts at 2.


def test_exploring_with_epsilon_is_inside(kinds, exported):
    policy = tf.saved_model.load(str(exported["dqn"][0]))
    obs = kinds["dqn"].observations(600)
    greedy, drawn = policy.act_greedy(obs).numpy(), policy.act(obs, [1, 2]).numpy()
    # Of the random ones, 30 %, a third is greedy all the same.
    assert (greedy != drawn).mean() == pytest.approx(0.2, abs=0.05)


def test_forbidden_actions_are_never_taken(kinds, exported):
    policy = tf.saved_model.load(str(exported["dqn-masked"][0]))
    obs = kinds["dqn-masked"].observations(600)
    for actions in (policy.act_greedy(obs), policy.act(obs, [1, 2])):
        assert obs["action_mask"][np.arange(600), actions.numpy()].all()
    assert 0.3 < obs["action_mask"].mean() < 0.8


def test_squashed_actions_are_stretched_to_their_bounds(kinds, exported):
    policy = tf.saved_model.load(str(exported["sac"][0]))
    made = kinds["sac"]
    drawn = policy.act(made.observations(600), [1, 2]).numpy()
    space = made.module.action_space
    assert (drawn >= space.low).all() and (drawn <= space.high).all()
    assert (np.ptp(drawn, axis=0) > 0.8 * (space.high - space.low)).all()


def test_signatures_are_the_same_functions(kinds, exported):
    policy = tf.saved_model.load(str(exported["gru"][0]))
    obs, state = kinds["gru"].observations(), kinds["gru"].initial_state()
    actions, after = policy.act_greedy(obs=obs, state=state)
    flat = policy.signatures["act_greedy"](
        obs=tf.constant(obs),
        state_actor_h=tf.constant(state["actor"]["h"]),
        state_critic_h=tf.constant(state["critic"]["h"]),
    )
    assert set(flat) == {"actions", "state_actor_h", "state_critic_h"}
    assert_close(flat["actions"], actions)
    assert_close(flat["state_critic_h"], after["critic"]["h"])


def test_images_stay_uint8_at_the_door(exported):
    spec = json.loads((exported["image"][0] / "spec.json").read_text())
    obs = spec["endpoints"]["act_greedy"]["inputs"]["obs"]
    assert obs == {"dtype": "uint8", "shape": [None, 10, 10, 1]}


def test_spec_says_what_there_is(exported):
    spec = json.loads((exported["lstm"][0] / "spec.json").read_text())
    assert spec["format"] == "tflearner export" and spec["format_version"] == 1
    assert [*spec["endpoints"]] == ["act_greedy", "act", "value", "initial_state"]
    act = spec["endpoints"]["act"]
    assert [*act["inputs"]] == ["obs", "state_c", "state_h", "seed"]
    assert act["inputs"]["seed"] == {"dtype": "int32", "shape": [2]}
    assert act["outputs"]["actions"] == {"dtype": "int32", "shape": [None]}
    assert spec["observation_space"]["low"] == [-1.0, None, 0.0, None]
    assert spec["observation_space"]["high"] is None
    assert spec["action_space"] == {
        "type": "Discrete",
        "dtype": "int64",
        "shape": [],
        "n": 3,
        "start": 0,
    }
    assert spec["module"] == "PPOTfRLModule"
    assert spec["module_to_env"] == ["GetActions", "NormalizeAndClipActions"]
    assert spec["check"]["num_observations"] == 64
    assert spec["check"]["largest_difference"] == exported["lstm"][1].max_difference
    assert spec["versions"]["tensorflow"] == tf.__version__


def test_report_reads_well(exported):
    path, report = exported["discrete"]
    assert report.path == path and report.endpoints == ("act_greedy", "act", "value")
    files = [file for file in path.rglob("*") if file.is_file()]
    assert report.size_in_bytes == sum(file.stat().st_size for file in files)
    assert 0.0 <= report.max_difference < 1e-6
    text = str(report)
    assert text.startswith(f"wrote {path}/ (SavedModel, ") and " KB); " in text
    assert "endpoints act_greedy, act, value; checked on 64 observations: " in text


def test_an_export_is_a_copy(tmp_path):
    module = Policy(OBS, ACT)
    export(tmp_path / "p", module)
    policy, obs = tf.saved_model.load(str(tmp_path / "p")), observations()
    before = policy.act_greedy(obs).numpy()
    module.dense.kernel.assign(-module.dense.kernel)
    np.testing.assert_array_equal(policy.act_greedy(obs), before)


def test_a_module_built_for_acting_has_no_values(tmp_path):
    settings = {"model_config": {"fcnet_hiddens": [4]}, "inference_only": True}
    report = export(tmp_path / "p", tfl.PPOTfRLModule(OBS, ACT, **settings))
    assert report.endpoints == ("act_greedy", "act")


def test_random_numbers_without_seed_leave_out_act(tmp_path):
    report = export(tmp_path / "p", DrawsWhileExploring(OBS, ACT))
    assert report.endpoints == ("act_greedy",)
    assert "without act: RandomStandardNormal" in str(report)
    spec = json.loads((tmp_path / "p" / "spec.json").read_text())
    assert [*spec["left_out"]] == ["act"]
    assert not hasattr(tf.saved_model.load(str(tmp_path / "p")), "act")


# Connectors.


def test_pieces_are_inside(tmp_path):
    module, obs = Policy(OBS, ACT), observations()
    export(tmp_path / "p", module, [Doubles(OBS)], [Tilts(), *TO_ENV, Doubles()])
    policy = tf.saved_model.load(str(tmp_path / "p"))
    logits = module.forward_inference({Columns.OBS: 2 * obs})["action_dist_inputs"]
    want = 2 * np.argmin(logits, -1)
    assert len(set(want)) > 1
    np.testing.assert_array_equal(policy.act_greedy(obs), want)
    spec = json.loads((tmp_path / "p" / "spec.json").read_text())
    assert spec["env_to_module"] == ["Doubles"]
    assert spec["module_to_env"][0] == "Tilts"


@pytest.mark.parametrize("place", ["into", "before", "after"])
def test_a_piece_without_a_rule_is_named(place, tmp_path):
    into = [Piece()] if place == "into" else []
    before = [Piece()] if place == "before" else []
    after = [Piece()] if place == "after" else []
    with pytest.raises(ExportError, match="connector piece Piece: got no method"):
        export(tmp_path / "p", into=into, out_of=[*before, *TO_ENV, *after])
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("into", "after", "name"),
    [
        ([Wrong()], [], "p"),
        ([], [Wrong()], "p.keras"),
        pytest.param([], [Wrong()], "p", marks=pytest.mark.deep),
        pytest.param([], [Wrong()], "p.tflite", marks=pytest.mark.deep),
    ],
)
def test_a_rule_that_differs_is_found(into, after, name, tmp_path):
    format = name.partition(".")[2] or "tf_saved_model"
    settings = {"fcnet_hiddens": [4], "fcnet_activation": "relu"}
    module = tfl.PPOTfRLModule(OBS, ACT, model_config=settings, seed=1)
    with pytest.raises(ExportError, match="a difference of .* want 1e-05 at most"):
        export(tmp_path / name, module, into, [*TO_ENV, *after], format=format)
    assert not [*tmp_path.iterdir()]


def test_own_ways_of_choosing_are_refused(tmp_path):
    with pytest.raises(ExportError, match="OwnChoice"):
        export(tmp_path / "p", out_of=[OwnChoice()])


def test_a_learner_asks_for_a_pipeline_it_does_not_know(tmp_path):
    config = tfl.PPOConfig().environment(observation_space=OBS, action_space=ACT)
    config.env_runners(env_to_module_connector=lambda *spaces: Doubles(*spaces))
    config.rl_module(model_config=tfl.DefaultModelConfig(fcnet_hiddens=[4]))
    learner = config.build_learner()
    with pytest.raises(ExportError, match=r"algo\.export"):
        learner.export(tmp_path / "p")
    pipeline = config.build_env_to_module_connector(OBS, ACT)
    learner.export(tmp_path / "p", env_to_module=pipeline)
    spec = json.loads((tmp_path / "p" / "spec.json").read_text())
    assert spec["env_to_module"] == ["Doubles"]


def test_an_algorithm_exports_what_its_runner_does(tmp_path):
    config = tfl.PPOConfig().environment("Pendulum-v1").debugging(seed=1)
    config.env_runners(env_to_module_connector=lambda *spaces: Doubles(*spaces))
    config.rl_module(model_config=tfl.DefaultModelConfig(fcnet_hiddens=[4]))
    algo = config.build_algo()
    algo.export(tmp_path / "p")
    algo.stop()
    policy = tf.saved_model.load(str(tmp_path / "p"))
    obs = observations()
    outputs = algo.get_module().forward_inference({Columns.OBS: 2 * obs})
    means = outputs["action_dist_inputs"].numpy()[:, :1]
    assert_close(policy.act_greedy(obs), np.clip(2 * means, -2, 2), rtol=1e-5)


def test_an_export_waits_for_its_turn(kinds, tmp_path, monkeypatch):
    learner, exported = kinds["discrete"].learner, threading.Event()
    monkeypatch.setattr(exporting, "export_policy", lambda *a, **k: exported.set())
    thread = threading.Thread(target=learner.export, args=(tmp_path / "p",))
    with learner._turns.take():  # As an update does.
        thread.start()
        assert not exported.wait(0.05)
    thread.join()
    assert exported.is_set()


def test_exports_of_a_process_are_one_at_a_time(tmp_path, monkeypatch):
    inside, most = [], []

    def traced(*args):
        inside.append(1)
        time.sleep(0.01)
        most.append(len(inside))
        inside.pop()
        raise ExportError("here", "enough")

    monkeypatch.setattr(policy, "_program", traced)
    module = Policy(OBS, ACT)
    with ThreadPoolExecutor(3) as pool:
        exports = [pool.submit(export, tmp_path / name, module) for name in "abb"]
    assert all("enough" in str(each.exception()) for each in exports)
    assert most == [1, 1, 1] and not [*tmp_path.iterdir()]


@pytest.mark.deep
def test_threads_that_train_and_export_do_not_meet(tmp_path):
    config = tfl.PPOConfig().environment("CartPole-v1").debugging(seed=1)
    config.training(train_batch_size_per_learner=64, minibatch_size=32, lr=0.1)
    config.framework(jit_compile=False)
    config.env_runners(env_to_module_connector=tfl.MeanStdFilter)
    config.rl_module(model_config=tfl.DefaultModelConfig(fcnet_hiddens=[4]))
    algo, is_done = config.build_algo(), threading.Event()
    algo.train()  # Traces, so that the thread moves weights at once.

    def train():
        while not is_done.is_set():
            algo.train()

    with ThreadPoolExecutor(4) as pool:
        training = pool.submit(train)
        exports = [pool.submit(algo.export, tmp_path / name) for name in "aab"]
        try:
            reports = [each.result() for each in exports]
            for _ in range(3):
                algo.save(tmp_path / "c")
        finally:
            is_done.set()
    assert training.exception() is None
    assert max(report.max_difference for report in reports) < 1e-5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    algo.stop()


# What cannot be exported, and leaves nothing behind.


@pytest.mark.parametrize(
    ("module_class", "text"),
    [
        (CallsPython, "PyFunc"),
        (Prints, "PrintV2"),
        (DrawsGreedily, "draws random numbers"),
        (Fails, "ZeroDivisionError while it was traced"),
        (Nothing, "outputs .*thoughts"),
        (Scripted, "a module without TensorFlow, want a TfRLModule"),
    ],
)
def test_modules_that_cannot_be_exported(module_class, text, tmp_path):
    tf.random.set_seed(0)
    with pytest.raises(ExportError, match=text):
        export(tmp_path / "p", module_class(OBS, ACT))
    assert not [*tmp_path.iterdir()]


def test_observations_have_to_be_numbers():
    space = gym.spaces.Text(5)
    with pytest.raises(ExportError, match=r"observation space: got Text.* numbers"):
        export_policy(
            Policy(OBS, ACT), "p", env_to_module=EnvToModulePipeline([], space)
        )


def test_unknown_formats_and_modules(tmp_path, kinds):
    with pytest.raises(ExportError, match="did you mean 'tf_saved_model'"):
        export(tmp_path / "p", format="saved_model")
    with pytest.raises(tfl.TFLearnerError, match="'p1'"):
        kinds["discrete"].learner.export(tmp_path / "p", module_id="p1")
    assert not [*tmp_path.iterdir()]


# Where it goes.


def test_an_older_export_is_replaced(tmp_path):
    export(tmp_path / "p", Policy(OBS, Discrete(3)))
    before = (tmp_path / "p" / "saved_model.pb").stat().st_ino
    export(tmp_path / "p", Policy(OBS, Discrete(3)))
    assert (tmp_path / "p" / "saved_model.pb").stat().st_ino != before
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize(
    "name", ["notes.txt", "variables/mine", "assets/mine", "sub/", "link"]
)
def test_files_in_an_older_export_are_never_removed(name, tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "_program", None)  # It is refused before any work.
    make_older_export(tmp_path / "p")
    if name.endswith("/"):
        (tmp_path / "p" / name).mkdir()
    elif name == "link":
        (tmp_path / "p" / "variables").rename(tmp_path / "mine")
        (tmp_path / "p" / "variables").symlink_to(tmp_path / "mine")
    else:
        (tmp_path / "p" / name).write_text("mine")
    before = listing(tmp_path)
    with pytest.raises(ExportError, match="an older export with '.*no part of it"):
        export(tmp_path / "p")
    assert listing(tmp_path) == before


def test_an_older_export_outlives_a_failure(tmp_path):
    tf.random.set_seed(0)
    export(tmp_path / "p")
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    for module in (DrawsGreedily(OBS, ACT), Fails(OBS, ACT)):
        with pytest.raises(ExportError):
            export(tmp_path / "p", module)
    after = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    assert before == after and len(before) > 3


STRANGE_SPECS = {
    "other format": '{"format": "mine"}',
    "no JSON": "{",
    "deep": "[" * 100_000 + "]" * 100_000,
    "large": '{"format": "tflearner export"}' + " " * 20 * 2**20,
    "spec is a pipe": None,
}


def test_what_is_no_export_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "_program", None)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    for name, text in STRANGE_SPECS.items():
        (tmp_path / name).mkdir()
        if text is None:
            os.mkfifo(tmp_path / name / "spec.json")
        else:
            (tmp_path / name / "spec.json").write_text(text)
    before = listing(tmp_path)
    for name in ("notes", "file", "pipe", *STRANGE_SPECS):
        with pytest.raises(ExportError, match="something that is no export"):
            export(tmp_path / name)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("place", ["here", "above", "home"])
def test_directories_that_are_in_use_are_not_replaced(place, tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "_program", None)
    make_older_export(tmp_path / "p")
    if place == "home":
        monkeypatch.setenv("HOME", str(tmp_path / "p"))
    else:
        monkeypatch.chdir(tmp_path / "p" / ("" if place == "here" else "variables"))
    with pytest.raises(ExportError, match="a directory with the current one, a home"):
        export(tmp_path / "p")
    assert (tmp_path / "p" / "saved_model.pb").exists()


def test_paths_that_no_system_takes_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "_program", None)
    (tmp_path / "loop").symlink_to("loop")
    paths = ["a\0b", "x" * 300, "x/" * 3000, "\ud800", tmp_path / "loop"]
    for path in paths:
        with pytest.raises(ExportError, match=r"export\(") as caught:
            export(path)
        assert len(str(caught.value)) < 1500
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ExportError, match="the current directory was removed"):
        export("p")
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loop"]


def test_long_names_and_names_of_any_letters_will_do(tmp_path):
    for name in ("x" * 255, "\u20ac b%41" * 28):
        export(tmp_path / "deep" / name)
        assert [p.name for p in (tmp_path / "deep").iterdir()] == [name]
        shutil.rmtree(tmp_path / "deep")


@pytest.mark.parametrize("path", [None, 3, ""])
def test_paths_are_checked(path):
    with pytest.raises(ExportError, match="want a path"):
        export(path)


def test_missing_folders_are_made_and_links_followed(tmp_path):
    export(tmp_path / "a" / "b" / "p")
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b" / "p")
    before = (tmp_path / "link" / "saved_model.pb").stat().st_ino
    export(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a" / "b" / "p" / "saved_model.pb").stat().st_ino != before
    with pytest.raises(ExportError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "write_json", raising(OSError("full")))
        export(tmp_path / "c" / "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "link"]


def test_an_empty_directory_will_do(tmp_path):
    (tmp_path / "p").mkdir()
    export(tmp_path / "p")
    assert (tmp_path / "p" / "spec.json").exists()


def test_a_parent_that_is_a_file_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="NotADirectoryError|FileExistsError"):
        export(tmp_path / "file" / "p")


@pytest.fixture
def left(tmp_path):
    """A staging directory of a process that was killed while it exported to "p"."""
    with staging.staged(tmp_path / "p") as stage:
        (stage / "export").mkdir()
        (stage / "export" / "half").write_text("...")
        copy = stage.with_name(".kept")
        shutil.copytree(stage, copy)
    return copy.rename(tmp_path / stage.name)


def test_what_a_killed_process_left_is_removed(left, tmp_path):
    with staging.staged(tmp_path / "q"):
        assert left.exists()
    with staging.staged(tmp_path / "p"):
        assert not left.exists()


def test_neighbours_of_such_names_stay(left, tmp_path):
    other = left.name[:-16] + "0" * 16
    for name in (".p.export-backup-of-mine", f"{left.name}0", other):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("mine")
    (tmp_path / other / "staged-by-tflearner").write_text("tflearner export to 'q'")
    os.mkfifo(tmp_path / (left.name[:-16] + "1" * 16))
    (tmp_path / (left.name[:-16] + "2" * 16)).symlink_to(left)
    pipe = tmp_path / (left.name[:-16] + "3" * 16)
    pipe.mkdir()
    os.mkfifo(pipe / "staged-by-tflearner")
    (left / "notes").write_text("mine")
    before = listing(tmp_path)
    with staging.staged(tmp_path / "p"):
        pass
    assert listing(tmp_path) == before
