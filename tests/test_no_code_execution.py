"""Nothing in the package can run code that comes from a file: a look at its source.

What a name stands for is resolved through the imports of its file, and mentioning a
banned function is enough: it need not be called.
"""

import ast
import collections
import pathlib

import pytest

import tflearner
from tflearner.checkpoint import builders, kinds

PACKAGE = pathlib.Path(tflearner.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
_SPECS, _ALGORITHMS = "tflearner.modules.rl_module_spec", "tflearner.algorithms"

# Banned with everything below them.
BANNED = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve"),
    *("joblib", "jsonpickle", "msgpack_numpy", "pickletools", "copyreg", "h5py"),
    *("multiprocessing.reduction", "ray.cloudpickle", "ctypes", "subprocess"),
    *("eval", "exec", "compile", "__import__", "builtins", "code", "codeop", "runpy"),
    *("importlib.import_module", "importlib.__import__", "importlib.util", "imp"),
    *("importlib.machinery", "pkgutil.resolve_name", "zipimport"),
    *("os.system", "os.popen", "pty", "pydoc.locate", "logging.config"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"),
    *("numpy.load", "numpy.lib.npyio", "numpy.lib.format", "torch.load"),
    *("torch.jit.load", "pandas.read_pickle", "pandas.eval"),
}
# Banned as the end of a dotted name, whichever module it is reached through.
BANNED_ENDS = {
    *("load_model", "model_from_json", "model_from_config", "model_from_yaml"),
    *("deserialize", "deserialize_keras_object", "enable_unsafe_deserialization"),
    *("import_module", "__import__", "__builtins__", "saved_model.load"),
    *("load_op_library", "load_library", "__globals__", "__subclasses__"),
}
BANNED_STARTS = ("exec", "spawn", "posix_spawn")  # Of functions of `os`.
# Fine only with `allow_pickle=False`: these would write objects.
OBJECT_WRITERS = {"numpy.save", "numpy.savez", "numpy.savez_compressed"}
SWITCHES = {"allow_pickle": True, "safe_mode": False, "weights_only": False}

# (file, what is banned): why it is safe there.
ALLOWED = {
    ("__init__.py", "importlib.import_module"): "names from a literal table",
    ("checkpoint/files.py", "ctypes"): "calls renameat2, which `os` does not have",
    ("env/guarded_env.py", "multiprocessing.reduction"): "reads what it wrote itself",
    ("export/keras_file.py", "load_model"): "compares what it wrote itself",
    ("export/saved_model.py", "saved_model.load"): "compares what it wrote itself",
}


def findings(source: str) -> list[tuple[int, str]]:
    """Returns (line, what is banned) of everything in a source that is."""
    tree = ast.parse(source)
    aliases = _aliases(tree)
    found = {
        (node.lineno, banned)
        for node in ast.walk(tree)
        for name in _names(node, aliases)
        for banned in _banned(name)
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found |= {pair for call in calls for pair in _of_call(call, aliases)}
    return sorted(found)


def _aliases(tree) -> dict[str, str]:
    """Returns {name in this file: what it stands for}."""
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                if each.asname:
                    aliases[each.asname] = each.name
        elif isinstance(node, ast.ImportFrom):
            for each in node.names:
                aliases[each.asname or each.name] = f"{node.module}.{each.name}"
    return aliases


def _names(node, aliases):
    """Yields the full names that a node mentions."""
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names)
    elif isinstance(node, ast.ImportFrom):
        for each in node.names:
            yield str(node.module) if each.name == "*" else f"{node.module}.{each.name}"
    elif isinstance(node, ast.Name | ast.Attribute):
        yield _full_name(node, aliases)


def _full_name(node, aliases) -> str:
    """Returns "numpy.load" for `np.load`; what is no name counts as "?"."""
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, aliases)}.{node.attr}"
    return aliases.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def _banned(name: str) -> set[str]:
    """Returns what is banned of a full name."""
    parts = name.split(".")
    starts = {".".join(parts[: n + 1]) for n in range(len(parts))}
    ends = {".".join(parts[n:]) for n in range(len(parts))}
    found = (starts & BANNED) | (ends & BANNED_ENDS)
    if parts[0] == "os" and len(parts) > 1 and parts[1].startswith(BANNED_STARTS):
        found.add(f"os.{parts[1]}")
    # A name from both lists counts once, as what says more.
    return {each for each in found if not any(each in o for o in found - {each})}


def _of_call(call, aliases):
    """Yields what is banned because of the arguments of a call."""
    name = _full_name(call.func, aliases)
    given = {each.arg: each.value for each in call.keywords}
    if name in OBJECT_WRITERS and not _is_constant(given.get("allow_pickle"), False):
        yield call.lineno, f"{name} without allow_pickle=False"
    for switch, unsafe in SWITCHES.items():
        if switch in given and not _is_constant(given[switch], not unsafe):
            yield call.lineno, f"{switch} other than {not unsafe}"
    if name in ("getattr", "builtins.getattr") and len(call.args) > 1:
        attribute = call.args[1]
        if isinstance(attribute, ast.Constant):
            owner = _full_name(call.args[0], aliases)
            for banned in _banned(f"{owner}.{attribute.value}"):
                yield call.lineno, banned


def _is_constant(node, value) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


_NAMES = ("BC", "DQN", "IMPALA", "MARWIL", "PPO", "SAC")
# What a description in a file can build or name, by kind: the name there, and what is
# called with the arguments that are there. Look at a new one before you add it.
BUILDERS = {
    "space": {
        "gymnasium/Box": "tflearner.checkpoint.spaces._box",
        "gymnasium/Dict": "gymnasium.spaces.dict.Dict",
        "gymnasium/Discrete": "tflearner.checkpoint.spaces._discrete",
        "gymnasium/MultiBinary": "tflearner.checkpoint.spaces._multi_binary",
        "gymnasium/MultiDiscrete": "tflearner.checkpoint.spaces._multi_discrete",
        "gymnasium/Tuple": "gymnasium.spaces.tuple.Tuple",
    },
    "specification": {
        "tflearner/MultiRLModuleSpec": f"{_SPECS}.MultiRLModuleSpec",
        "tflearner/RLModuleSpec": f"{_SPECS}.RLModuleSpec",
    },
    "model config": {
        "tflearner/DQNModelConfig": "tflearner.modules.dqn.DQNModelConfig",
        "tflearner/DefaultModelConfig": (
            "tflearner.modules.default_model_config.DefaultModelConfig"
        ),
        "tflearner/SACModelConfig": "tflearner.modules.sac.SACModelConfig",
    },
    "config": dict.fromkeys(
        [f"tflearner/{name}Config" for name in ("Algorithm", *_NAMES)],
        "tflearner.settings.settings.Settings.from_settings",
    ),
    "connector": {
        "tflearner/FrameStacking": (
            "tflearner.connectors.frame_stacking.FrameStacking"
        ),
        "tflearner/MeanStdFilter": ("tflearner.connectors.observations.MeanStdFilter"),
        "tflearner/PrevActionsPrevRewards": (
            "tflearner.connectors.prev_actions_prev_rewards.PrevActionsPrevRewards"
        ),
    },
    "module": {
        "tflearner/BCTfRLModule": "tflearner.modules.actor_critic.BCTfRLModule",
        "tflearner/DQNTfRLModule": "tflearner.modules.dqn.DQNTfRLModule",
        "tflearner/MultiRLModule": "tflearner.modules.rl_module.MultiRLModule",
        "tflearner/PPOTfRLModule": "tflearner.modules.actor_critic.PPOTfRLModule",
        "tflearner/RLModule": "tflearner.modules.rl_module.RLModule",
        "tflearner/SACTfRLModule": "tflearner.modules.sac.SACTfRLModule",
    },
    # Named as an argument and not called; built if `from_checkpoint` is asked for them.
    "catalog": {
        "tflearner/DQNCatalog": "tflearner.modules.dqn.DQNCatalog",
        "tflearner/PPOCatalog": "tflearner.modules.catalog.PPOCatalog",
        "tflearner/SACCatalog": "tflearner.modules.sac.SACCatalog",
    },
    "replay buffer": {
        "tflearner/EpisodeReplayBuffer": (
            "tflearner.data.episode_replay_buffer.EpisodeReplayBuffer"
        ),
        "tflearner/PrioritizedEpisodeReplayBuffer": (
            "tflearner.data.prioritized_episode_replay_buffer."
            "PrioritizedEpisodeReplayBuffer"
        ),
    },
    "metrics logger": {"tflearner/MetricsLogger": "tflearner.metrics.MetricsLogger"},
    "learner": {
        f"tflearner/{name}TfLearner": f"{_ALGORITHMS}.{name.lower()}.{name}TfLearner"
        for name in _NAMES
    },
    "algorithm": {
        f"tflearner/{name}": f"{_ALGORITHMS}.{name.lower()}.{name}" for name in _NAMES
    },
}
# What `checkpoint/builders.py` calls while it reads descriptions. `builder.build` is one of
# the above or of users, and `refuse` the function that goes with it.
CALLED = {
    *("BuilderError", "Builder", "_as_builder", "_check_kind", "_full_name"),
    *("_known_names", "_registered", "about.refuse", "about.taken_by", "builder.build"),
    *("dataclasses.dataclass", "dataclasses.field", "dataclasses.replace"),
    *("declaration_of", "getattr", "kinds.named", "machine.found", "machine.replaced"),
    *("self._argument", "self._arguments", "self._build", "self._find", "self._miss"),
    *("self.build", "self.refuse", "type(description)", "budget.spend", "own_error"),
}
HARMLESS = {"dir", "isinstance", "len", "map", "next", "repr", "sorted", "str", "type"}
METHODS = {"add", "get", "items", "join", "keys", "partition", "split", "values"}
METHODS |= {"startswith"}  # Of texts and containers.


def test_all_that_files_can_build_is_listed():
    for name in tflearner.__all__:
        getattr(tflearner, name)
    found = collections.defaultdict(dict)
    for name, builder in builders._BUILDERS.items():
        if name.startswith(("tflearner/", "gymnasium/")):
            kinds_of_it = builder.about.kinds
            assert len(kinds_of_it) == 1, name  # Not of users.
            found[kinds_of_it[0]][name] = builders._full_name(builder.build)
    assert found == BUILDERS


def test_no_argument_takes_a_run():
    runs = {*kinds.RUNS, *map(kinds.named, (kinds.ALGORITHM, kinds.ENV_RUNNER))}
    for name, builder in builders._BUILDERS.items():
        for argument, taken in builder.about.takes.items():
            assert not runs & {*taken}, (name, argument)
    assert not runs & {*kinds.ANY}


def test_all_that_reading_descriptions_calls_is_listed():
    tree = ast.parse((PACKAGE / "checkpoint" / "builders.py").read_text())
    made = ast.FunctionDef | ast.ClassDef
    parts = {node.name: node for node in tree.body if isinstance(node, made)}
    wanted, calls = ["Rebuilder"], set()
    while wanted:
        found = [node for name in wanted for node in ast.walk(parts.pop(name))]
        called = [node.func for node in found if isinstance(node, ast.Call)]
        calls |= {
            ast.unparse(f) for f in called if getattr(f, "attr", 0) not in METHODS
        }
        wanted = [name for name in parts if name in calls]
    assert calls - HARMLESS == CALLED


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_can_run_code_from_elsewhere(path):
    file = str(path.relative_to(PACKAGE))
    found = findings(path.read_text())
    assert not [pair for pair in found if (file, pair[1]) not in ALLOWED]


@pytest.mark.parametrize(("file", "banned"), ALLOWED)
def test_what_is_allowed_is_in_one_place(file, banned):
    """So that a second use, or an exception nobody needs any more, is looked at."""
    source = (PACKAGE / file).read_text()
    lines = {
        line
        for line, found in findings(source)
        if found == banned
        and not source.splitlines()[line - 1].startswith(("import ", "from "))
    }
    assert len(lines) == 1, lines


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "import _pickle",
        "from pickle import loads",
        "from pickle import *",
        "import cloudpickle",
        "from ray import cloudpickle",
        "import dill",
        "import marshal",
        "import shelve",
        "import joblib",
        "def f():\n    import marshal",
        "eval('1')",
        "f = eval",
        "exec('1')",
        "compile('1', '', 'eval')",
        "__import__('os')",
        "import builtins\nbuiltins.eval('1')",
        "from builtins import eval as e",
        "getattr(builtins, 'exec')",
        "getattr(np, 'load')\nimport numpy as np",
        "f(__builtins__)",
        "import importlib\nimportlib.import_module('a')",
        "import importlib as i\ni.import_module('a')",
        "from importlib import import_module",
        "from importlib import util",
        "import importlib.util",
        "import runpy",
        "import yaml\nyaml.load(f)",
        "from yaml import load",
        "import numpy as np\nnp.load('a.npy')",
        "import numpy as np\nread = np.load",
        "import numpy\nnumpy.load('a.npy', allow_pickle=False)",
        "from numpy import load as read",
        "import numpy as np\nnp.lib.format.read_array(f)",
        "import numpy as np\nnp.save(f, a)",
        "import numpy as np\nnp.save(f, a, allow_pickle=True)",
        "from numpy import savez\nsavez(f, a=a)",
        "f(allow_pickle=True)",
        "f(allow_pickle=flag)",
        "f(safe_mode=False)",
        "f(weights_only=False)",
        "import torch\ntorch.load(f)",
        "import keras\nkeras.models.load_model('a')",
        "import keras\nkeras.saving.load_model('a')",
        "from keras.models import load_model",
        "import keras\nkeras.models.model_from_json(text)",
        "import keras\nkeras.layers.deserialize(config)",
        "import keras\nkeras.saving.deserialize_keras_object(config)",
        "import keras\nkeras.config.enable_unsafe_deserialization()",
        "import tensorflow as tf\ntf.keras.models.load_model('a')",
        "import tensorflow as tf\ntf.saved_model.load('a')",
        "import tensorflow as tf\ntf.compat.v1.saved_model.load('a')",
        "from tensorflow import saved_model\nsaved_model.load('a')",
        "from tensorflow.saved_model import load",
        "import tensorflow as tf\nload = tf.saved_model.load",
        "import tensorflow as tf\ntf.load_op_library('a.so')",
        "import os\nos.system('a')",
        "import os\nos.execv('a', [])",
        "from os import popen",
        "import subprocess",
        "import ctypes",
        "().__class__.__base__.__subclasses__()",
    ],
)
def test_what_is_banned_is_found(source):
    assert findings(source)


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile('a')",
        "model.compile(jit_compile=True)",
        "import json\njson.loads('1')",
        "import numpy as np\nnp.save(f, a, allow_pickle=False)",
        "import numpy as np\nnp.frombuffer(b'', '<f4')",
        "import tensorflow as tf\ntf.saved_model.save(m, 'a')",
        "from safetensors.numpy import load",
        "self.load(path)",
        "evaluate(1)",
        "type(layer).from_config(layer.get_config())",
    ],
)
def test_what_is_harmless_is_not(source):
    assert not findings(source)
