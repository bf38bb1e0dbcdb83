"""A policy as SavedModel: TensorFlow alone runs it."""

import pathlib
from collections.abc import Callable, Mapping

import tensorflow as tf
import tree

from tflearner.errors import ExportError
from tflearner.export.endpoints import Program


def write_saved_model(directory: pathlib.Path, program: Program) -> None:
    """Writes endpoints as attributes of the saved object, and as its signatures.

    Args:
        directory: The directory; made by this.
        program: The endpoints, and further attributes of the object.
    """
    # Tracks what is assigned to it; nothing more is wanted.
    root = tf.train.Checkpoint()
    endpoints = program.endpoints
    variables = {v.ref(): v for each in endpoints for v in each.concrete.variables}
    root.variables_ = list(variables.values())
    functions = {each.endpoint.name: each.function for each in endpoints}
    for name, own in (functions | dict(program.attributes)).items():
        setattr(root, name, own)
    signatures = {each.endpoint.name: each.signature() for each in endpoints}
    try:
        # Gradients of what is exported are not asked for, and that of an optimizer's
        # step cannot be traced again outside of its strategy.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(root, str(directory), signatures, options)
    except AssertionError as error:  # Of resources other than variables.
        raise ExportError(
            "export()",
            f"a resource other than a variable: {error}",
            "a module whose only memory is its variables",
            "lookup tables and the like have to become layers' weights",
        ) from error


def load_functions(directory: pathlib.Path, program: Program) -> Mapping[str, Callable]:
    """Returns the endpoints of a SavedModel that was written a moment ago."""
    loaded = tf.saved_model.load(str(directory))

    def called(name: str) -> Callable:
        def call(*inputs):  # Holds `loaded`, which holds the variables.
            return getattr(loaded, name)(*tree.map_structure(tf.constant, inputs))

        return call

    return {name: called(name) for name in program.names}
