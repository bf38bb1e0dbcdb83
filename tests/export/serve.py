"""Runs exports in a process that has TensorFlow and Keras, and nothing of this library.

Arguments: a directory with "calls.npz" (inputs) and exports named in "calls.json", a list
of [name of the result, path, endpoint, names of the inputs]. Writes "results.npz".
"""

import importlib.abc
import json
import os
import pathlib
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
BLOCKED = {"tflearner", "tensorflow_probability", "gymnasium", "tf_keras", "tree"}


class Blocker(importlib.abc.MetaPathFinder):
    """Refuses what must not be needed."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")


def main(directory):
    """Makes all calls."""
    import numpy as np
    import tensorflow as tf

    arrays = dict(np.load(directory / "calls.npz"))
    results, loaded = {}, {}
    for name, path, endpoint, inputs in json.loads(
        (directory / "calls.json").read_text()
    ):
        named = {key: tf.constant(arrays[f"{name}/{key}"]) for key in inputs}
        if path not in loaded:
            loaded[path] = load(path)
        for key, value in loaded[path](endpoint, named).items():
            results[f"{name}/{key}"] = np.asarray(value)
    np.savez(directory / "results.npz", **results)
    assert not BLOCKED & sys.modules.keys()


def load(path):
    """Returns a function of an endpoint's name and of named tensors."""
    import numpy as np
    import tensorflow as tf

    if path.endswith(".keras"):
        import keras

        model = keras.models.load_model(path)

        def call(endpoint, named):
            outputs = model(named if len(named) > 1 else named["obs"])
            return outputs if isinstance(outputs, dict) else {"actions": outputs}

        return call
    if path.endswith(".tflite"):
        interpreter = tf.lite.Interpreter(path)
        return lambda endpoint, named: interpreter.get_signature_runner(endpoint)(
            **{key: np.asarray(x) for key, x in named.items()}
        )
    policy = tf.saved_model.load(path)
    return lambda endpoint, named: policy.signatures[endpoint](**named)


if __name__ == "__main__":
    sys.meta_path.insert(0, Blocker())
    main(pathlib.Path(sys.argv[1]))
