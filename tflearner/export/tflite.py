"""A greedy policy as TFLite model, made of TFLite's own operations alone."""

import pathlib
import re
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tflearner.errors import ExportError
from tflearner.export import staging
from tflearner.export.endpoints import ACT_GREEDY, Program
from tflearner.export.saved_model import write_saved_model


def write_tflite(file: pathlib.Path, program: Program) -> None:
    """Writes the greedy endpoint as the file's only signature, for any number of rows.

    Raises:
        ExportError: If it needs operations that TFLite does not have.
    """
    directory = file.with_suffix("")
    write_saved_model(directory, program)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(directory), signature_keys=[ACT_GREEDY]
    )
    try:
        model = converter.convert()
    except Exception as error:  # ConverterError is not public.
        ops = re.findall(r"(?:Select|Custom) ops: ([^\n]+)", str(error))
        cause = ", ".join(ops) or str(error).strip().rpartition("\n")[2][-200:]
        raise ExportError(
            'export(format="tflite")',
            f"a module that cannot be converted: {cause}",
            "one of operations that TFLite has",
            'format="tf_saved_model" takes any',
        ) from error
    file.write_bytes(model)
    staging.mark_file(file)


def load_tflite(file: pathlib.Path, program: Program) -> Mapping[str, Callable]:
    """Returns the endpoint of a file that was written a moment ago."""
    with warnings.catch_warnings():
        # It is deprecated in favour of a package that would be one more to install.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter")
        interpreter = tf.lite.Interpreter(model_content=file.read_bytes())
    runner = interpreter.get_signature_runner(ACT_GREEDY)

    def call(named):
        return runner(**{name: np.asarray(x) for name, x in named.items()})

    return {ACT_GREEDY: program.endpoints[0].called_by_name(call)}
