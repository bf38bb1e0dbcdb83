"""The formats of exports: a new one is a file that writes it, and a row here."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

from tflearner.checkpoint.directory import EXPORT_SUFFIXES
from tflearner.export.endpoints import Program
from tflearner.export.keras_file import load_keras_file, write_keras_file
from tflearner.export.saved_model import load_functions, write_saved_model
from tflearner.export.staging import Obstacle, obstacle_of_directory, obstacle_of_file
from tflearner.export.tflite import load_tflite, write_tflite


@dataclasses.dataclass(frozen=True)
class Format:
    """One format of exports.

    Attributes:
        title: Its name in reports.
        write: Writes a program to a path, and marks a file as an export.
        load: Returns the endpoints of a program that was written a moment ago.
        obstacle: Returns why a path cannot be replaced; `None` if it holds an export.
        suffix: The end of a file's name; "" for a directory, which gets a `spec.json`.
        is_greedy: Whether it holds the greedy endpoint alone.
    """

    title: str
    write: Callable[[pathlib.Path, Program], None]
    load: Callable[[pathlib.Path, Program], Mapping[str, Callable]]
    obstacle: Callable[[pathlib.Path], Obstacle | None] = obstacle_of_file
    suffix: str = ""
    is_greedy: bool = True


SAVED_MODEL = "tf_saved_model"
FORMATS = {
    SAVED_MODEL: Format(
        "SavedModel",
        write_saved_model,
        load_functions,
        obstacle_of_directory,
        is_greedy=False,
    ),
    "tflite": Format("TFLite", write_tflite, load_tflite, suffix=".tflite"),
    "keras": Format("Keras", write_keras_file, load_keras_file, suffix=".keras"),
}
EXPORT_SUFFIXES.update(own.suffix for own in FORMATS.values() if own.suffix)
