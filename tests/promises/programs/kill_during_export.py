"""Kills a process that exports a policy to one path again and again.

One kill in four comes at a random time; the others come in front of a random one of the
file operations that an export is made of, so that none is too short to be hit.

Arguments: kills, seed. Reports counts, the operations of the exports of all kinds, and
`failures`, a list of texts. TensorFlow runs in children only: this process forks.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time
from collections import Counter

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import forks
import gymnasium as gym
import numpy as np
import tensorflow as tf

import tflearner as tfl
from tflearner.export.policy import export_policy

TARGET = pathlib.Path("policy")
SPACE = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
CONTINUOUS = gym.spaces.Box(-2.0, 3.0, (2,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (10, 10, 1), np.uint8)


class Versioned(tfl.TfRLModule):
    """Acts with the smallest and the largest of many weights, which are all equal."""

    def setup(self):
        self.version = self.add_weight(shape=(200_000,), initializer="zeros")

    def _forward(self, batch, **kwargs):
        obs, version = batch["obs"][:, :1], self.version
        parts = [tf.reduce_min(version) + 0.0 * obs, tf.reduce_max(version) + 0.0 * obs]
        return {"actions": tf.concat(parts, -1)}


def export(module, version):
    module.version.assign(np.full(200_000, version, np.float32))
    export_policy(module, TARGET)


def work_from(version):
    """Returns a child's work: export, say so, and so on for ever."""

    def work(acknowledge):
        module = Versioned(SPACE, SPACE)
        for number in range(version, 10**6):
            export(module, number)
            acknowledge(number)

    return work


class FileOperations:
    """Counts what Python does to an export's files, and kills the process at one."""

    def __init__(self, deadly=None):
        self.count, self._deadly = 0, deadly
        sys.addaudithook(self._hear)

    def _hear(self, event, args):
        names = [str(arg) for arg in args if isinstance(arg, str | os.PathLike)]
        of_export = any(TARGET.name in os.path.basename(name) for name in names)
        of_export |= any(".policy.export-" in name for name in names)
        if of_export or event.startswith("ctypes."):
            self.count += 1
            if self.count == self._deadly:
                os.kill(os.getpid(), signal.SIGKILL)


def die_at(operation, version):
    """Exports once, and is killed in front of this file operation."""
    module = Versioned(SPACE, SPACE)
    FileOperations(deadly=operation)
    export(module, version)


def measure(path):
    """Writes the seconds of two exports and the file operations of one."""
    start = time.perf_counter()
    module = Versioned(SPACE, SPACE)
    export(module, 0)
    first, operations = time.perf_counter(), FileOperations()
    export(module, 0)
    seconds = time.perf_counter() - first
    path.write_text(json.dumps([first - start, seconds, operations.count]))


def look(path):
    """Writes what an export's actions are, and its files."""
    policy = tf.saved_model.load(str(TARGET))
    actions = policy.act_greedy(np.zeros((2, 3), np.float32)).numpy()
    spec = json.loads((TARGET / "spec.json").read_text())
    wrong = spec["endpoints"].keys() != {"act_greedy", "act"}
    path.write_text(json.dumps([sorted({*actions.ravel().tolist()}), wrong]))


def ops_of_all_kinds(path):
    """Writes the operations in exports of several kinds of modules."""
    kinds = {
        "dense": (SPACE, gym.spaces.Discrete(3, start=1), {}),
        "box": (SPACE, CONTINUOUS, {"free_log_std": True}),
        "image": (IMAGE, gym.spaces.Discrete(3), {"conv_filters": [[4, 4, 2]]}),
        "lstm": (SPACE, gym.spaces.Discrete(3), {"use_lstm": True}),
        "gru": (SPACE, CONTINUOUS, {"use_gru": True, "vf_share_layers": False}),
    }
    ops = {}
    for name, (observations, actions, settings) in kinds.items():
        config = tfl.PPOConfig().environment(
            observation_space=observations, action_space=actions
        )
        settings = {"fcnet_hiddens": [8], "lstm_cell_size": 8} | settings
        config.rl_module(model_config=tfl.DefaultModelConfig(**settings))
        config.build_learner().export(name)
        ops[name] = sorted(ops_in(name))
        shutil.rmtree(name)
    path.write_text(json.dumps(ops))


def ops_in(name):
    """Returns the operations of all functions that a SavedModel's endpoints call."""
    loaded = tf.saved_model.load(name)
    found = set()
    for signature in loaded.signatures.values():
        graph = signature.graph.as_graph_def()
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        found |= {node.op for node in nodes}
    return found


def from_child(work):
    """Returns what `work(path)` wrote, in a child, or a text with its exit code."""
    path = pathlib.Path("from_child.json")
    path.unlink(missing_ok=True)
    code = forks.exit_code(forks.fork(work, path))
    return json.loads(path.read_text()) if code == 0 else f"exit code {code}"


def main(kills, seed):
    counts, failures, rng = Counter(), [], random.Random(seed)
    ops = from_child(ops_of_all_kinds)
    first, further, operations = from_child(measure)
    version = 0  # What lies there.
    for trial in range(kills):
        if trial % 4:
            at = rng.randint(1, operations)
            code = forks.exit_code(forks.fork(die_at, at, version + 1))
            numbers, where = [], f"at operation {at} of {operations}"
            if code != -signal.SIGKILL:
                failures.append(f"{where} the child ended with {code}")
        else:
            at = rng.uniform(0.5 * first, first + 2.0 * further)
            numbers = forks.run_killed(work_from(version + 1), at)[1:]
            where = f"after {at:.3f} s"
        acknowledged = max([version, *numbers])
        counts["kills"] += 1
        counts["amid"] += any(name.startswith(".policy.") for name in os.listdir())
        found = from_child(look)
        good = [[acknowledged], [acknowledged + 1]]
        if found[0] not in good or found[1]:
            failures.append(f"{found} after {acknowledged}, killed {where}")
            version = acknowledged
        else:
            version = int(found[0][0])
    return counts | {"failures": failures, "ops": ops, "operations": operations}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
