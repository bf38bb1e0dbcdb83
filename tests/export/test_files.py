"""Policies as single files: TFLite and Keras. What they compute: test_fresh_process."""

import os
import zipfile

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
from tflearner.export import formats, policy, staging
from tflearner.export.policy import export_policy
from tflearner.testing import assert_close

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
OBS, ACT = Box(-1.0, 1.0, (4,), np.float32), Discrete(3)


@pytest.fixture
def write(tmp_path):
    """Exports a default module with these settings; returns module, path and report."""

    def write(
        suffix, space=OBS, actions=ACT, into=(), before=(), module=None, **settings
    ):
        if module is None:
            settings = {"fcnet_hiddens": [8], "lstm_cell_size": 4} | settings
            module = tfl.PPOTfRLModule(space, actions, model_config=settings, seed=1)
        pieces = [GetActions(space, actions), NormalizeAndClipActions(space, actions)]
        path = tmp_path / f"policy.{suffix}"
        report = export_policy(
            module,
            path,
            env_to_module=EnvToModulePipeline(into, space, actions),
            module_to_env=ModuleToEnvPipeline([*before, *pieces], space, actions),
        )
        return module, path, report

    return write


def own_activation(x):
    return keras.ops.tanh(x)


class OwnLayer(keras.layers.Layer):
    def call(self, x):
        return x[:, :2]


class OwnForward(tfl.PPOTfRLModule):
    def _forward(self, batch, **kwargs):
        return super()._forward(batch, **kwargs)


class InTensorFlow(ConnectorV2):
    """A piece whose rule is made of TensorFlow's functions, not of Keras'."""

    def __call__(self, *, batch, **kwargs):
        batch[Columns.OBS] = np.sort(batch[Columns.OBS], -1)
        return batch

    def to_tensors(self, x):
        return tf.sort(x, -1)


class Negates(ConnectorV2):
    def __call__(self, *, batch, **kwargs):
        batch[Columns.ACTION_DIST_INPUTS] *= -1
        return batch

    def to_tensors(self, x):
        return -x


def test_reports_and_files(write):
    for suffix, title in (("tflite", "TFLite"), ("keras", "Keras")):
        _, path, report = write(suffix)
        assert str(report).startswith(f"wrote {path} ({title}, ")
        assert report.endpoints == ("act_greedy",)
        assert report.size_in_bytes == path.stat().st_size > 1000
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        path.unlink()


@pytest.mark.deep_but_first
@pytest.mark.parametrize("suffix", ["keras", "tflite"])
def test_only_such_files_are_replaced(suffix, write, tmp_path, monkeypatch):
    module, path, _ = write(suffix)
    before = path.read_bytes()
    write(suffix, fcnet_hiddens=[4])
    assert path.read_bytes() != before
    monkeypatch.setattr(policy, "_program", None)  # It is refused before any work.
    for contents in (b"mine", b"", path.read_bytes()[:-1], None):
        path.unlink()
        os.mkfifo(path) if contents is None else path.write_bytes(contents)
        with pytest.raises(ExportError, match="something that is no export"):
            write(suffix, module=module)
        assert contents is None or path.read_bytes() == contents
    path.unlink()
    path.mkdir()
    with pytest.raises(ExportError, match="something that is no export"):
        write(suffix, module=module)


def test_a_foreign_keras_file_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "_program", None)
    with zipfile.ZipFile(tmp_path / "mine.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    before = (tmp_path / "mine.keras").read_bytes()
    with pytest.raises(ExportError, match="something that is no export"):
        export_policy(None, tmp_path / "mine.keras")
    assert (tmp_path / "mine.keras").read_bytes() == before


def test_the_suffix_is_the_format(tmp_path):
    formats = {
        "p": "tf_saved_model",
        "p.v2": "tf_saved_model",
        "a/p.keras": "keras",
        "p.tflite": "tflite",
    }
    for path, format in formats.items():
        for given in (None, format):
            assert policy.format_of(path, given) == format
            assert policy.format_of(tmp_path / path, given) == format
        for given in {*formats.values()} - {format}:
            with pytest.raises(ExportError, match=r"the suffix .* for format="):
                policy.format_of(path, given)
    with pytest.raises(ExportError, match=r"ends in '\.keras'"):
        policy.format_of("p.KERAS")
    with pytest.raises(ExportError, match="want one of"):
        policy.format_of("p", ["keras"])
    (tmp_path / "link").symlink_to(tmp_path / "p.keras")
    with pytest.raises(ExportError, match=r"suffix '\.keras'"):
        export_policy(None, tmp_path / "link")


def write_arrays(file, program):
    with file.open("wb") as opened:
        np.savez(opened, *program.policy.module.get_weights())
    staging.mark_file(file)


def load_arrays(file, program):
    """Returns the endpoint with the weights of the file."""
    with np.load(file) as arrays:
        program.policy.module.set_weights([*arrays.values()])
    return {"act_greedy": program.endpoints[0].function}


def test_a_format_is_one_row(write, monkeypatch):
    row = formats.Format("arrays", write_arrays, load_arrays, suffix=".npz")
    monkeypatch.setitem(formats.FORMATS, "npz", row)
    module, path, report = write("npz")
    assert f"wrote {path} (arrays, " in str(report) and report.format == "npz"
    write("npz", module=module)
    path.write_bytes(b"mine")
    with pytest.raises(ExportError, match="something that is no export"):
        write("npz", module=module)


def test_tflite_takes_any_number_of_rows(write):
    module, path, _ = write("tflite", use_gru=True)
    with pytest.warns(UserWarning, match=r"tf\.lite\.Interpreter is deprecated"):
        runner = tf.lite.Interpreter(str(path)).get_signature_runner("act_greedy")
    for num in (3, 1):
        obs = np.ones((num, 4), np.float32)
        state = {"h": np.full((num, 4), 0.5, np.float32)}
        out = runner(obs=obs, state_h=state["h"])
        batch = {Columns.OBS: obs[:, None], Columns.STATE_IN: state}
        want = module.forward_inference(batch)
        logits = want[Columns.ACTION_DIST_INPUTS][:, 0]
        np.testing.assert_array_equal(out["actions"], np.argmax(logits, -1))
        after = want[Columns.STATE_OUT]["h"]
        assert_close(out["state_h"], after, rtol=1e-5, atol=1e-6)


def test_tflite_says_what_it_cannot_convert(write):
    class Roots(tfl.PPOTfRLModule):
        def _forward(self, batch, **kwargs):
            inputs = super()._forward(batch)[Columns.ACTION_DIST_INPUTS]
            root = tf.linalg.cholesky(tf.linalg.diag(1.0 + inputs**2))
            return {Columns.ACTION_DIST_INPUTS: tf.linalg.diag_part(root)}

    module = Roots(OBS, ACT, model_config={"fcnet_hiddens": [4]})
    with pytest.raises(ExportError, match="cannot be converted: .*Cholesky"):
        write("tflite", module=module)


KERAS_KINDS = {
    "choice": {"space": Discrete(5, start=1)},
    "choices": {"space": gym.spaces.MultiDiscrete([3, 4], start=[0, 2])},
    "grey image": {"space": Box(0, 255, (8, 8), np.uint8), "conv_filters": [[4, 3, 2]]},
    "bools": {
        "space": Box(0, 1, (5, 5, 2), np.bool_),
        "actions": Box(0, 1, (2,), np.bool_),
    },
    "float64": {"space": Box(-1.0, 1.0, (3,), np.float64)},
    "layer norm": {"fcnet_use_layernorm": True, "head_fcnet_hiddens": [4]},
    "integers": {"actions": Box(0, 255, (2, 2), np.uint8)},
    "half bounded": {"actions": Box(0.0, np.inf, (2,), np.float64)},
    "lstm": {"use_lstm": True, "vf_share_layers": False},
}


# What takes ways of its own through the file; others vary a space or a layer.
PLAIN = ("choices", "bools", "half bounded", "layer norm", "lstm")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.deep] * (name not in PLAIN))
        for name in KERAS_KINDS
    ],
)
def test_keras_files_of_default_modules(name, write):
    """That they act like the module, the export itself has checked."""
    _, path, report = write("keras", **KERAS_KINDS[name])
    assert report.max_difference < 1e-6
    model = keras.models.load_model(path)
    own = [
        layer for layer in model._flatten_layers() if "keras" not in layer.__module__
    ]
    assert not own


REFUSED = {
    "forward": ({}, "OwnForward"),
    "activation": ({"fcnet_activation": own_activation}, "own_activation"),
    "layer": ({"model": lambda: keras.Sequential([OwnLayer()])}, "OwnLayer"),
    "lambda": (
        {"model": lambda: keras.Sequential([keras.layers.Lambda(own_activation)])},
        "Lambda|own_activation",
    ),
    "piece": ({"into": [InTensorFlow()]}, "InTensorFlow"),
    "place": ({"before": [Negates()]}, "Negates.*before GetActions"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_keras_alone_cannot_load_is_named(name, write, tmp_path):
    settings, text = REFUSED[name]
    if name == "forward":
        settings = {"module": OwnForward(OBS, ACT, model_config={"fcnet_hiddens": [4]})}
    with pytest.raises(
        ExportError, match=f"(?s)format=.keras.*({text}).*tf_saved_model"
    ):
        write("keras", **settings)
    assert not [*tmp_path.iterdir()]
