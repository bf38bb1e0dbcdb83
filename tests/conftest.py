"""What all tests share."""

import gc
import os
import re
import signal
import sys

import numpy as np
import pytest

pytest_plugins = ["space_tables"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Runs whole folders in two processes, and less in this one.

    A second process imports TensorFlow once more, which takes longer than most files.
    The slow tier measures how time and memory develop: it gets the machine alone.
    """
    is_folders = all(os.path.isdir(each) for each in config.args)
    is_shared = config.option.markexpr in ("not deep and not slow", "deep")
    return 2 if is_folders and is_shared else 0


def pytest_configure(config):
    """Lets Ctrl-C through, and the garbage collector work less often.

    A shell without job control starts `python -m pytest &` with SIGINT ignored; the
    tests of interruption, and processes that tests start, would then wait for ever.
    """
    gc.set_threshold(50_000, 20, 20)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Moves the cases of a test marked `deep_but_first`, all but one, to the deep tier.

    The first case is the one in the plain run. Goes before the choice by `-m`.
    """
    seen = set()
    for item in items:
        if item.get_closest_marker("deep_but_first") is None:
            continue
        test = (item.path, item.cls, item.originalname)
        if test in seen:
            item.add_marker(pytest.mark.deep)
        seen.add(test)


def pytest_collection_finish(session):
    """Leaves what is imported to no garbage collector, and splits the CPU in four.

    Modules, graphs and tests are a million objects that stay; going through them again
    and again takes a tenth of the time. Tests train on several devices, which has to be
    said before TensorFlow starts, and must not load it: the tests of data and metrics
    need none and would take seconds longer.
    """
    gc.collect()
    gc.freeze()
    tf = sys.modules.get("tensorflow")
    if tf is not None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * 4
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError as error:
            raise RuntimeError(
                "a test file computes with TensorFlow while it is imported; make its "
                "tensors, layers and models in tests, fixtures or functions"
            ) from error


def pytest_terminal_summary(terminalreporter):
    """Prints the lines of all promises; `-q` hides what tests print themselves.

    A test adds one by `record_property("promise", "P16: ...")`.
    """
    reports = [r for rs in terminalreporter.stats.values() for r in rs]
    lines = [
        text
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, text in report.user_properties
        if name == "promise"
    ]
    if lines:
        terminalreporter.section("promises")
        for text in sorted(lines, key=lambda text: int(re.search(r"\d+", text)[0])):
            terminalreporter.write_line(text)


@pytest.fixture
def owned():
    """A function that takes an algorithm, returns it and stops it after the test."""
    algos = []
    yield lambda algo: algos.append(algo) or algo
    for algo in algos:
        algo.stop()


XLA = pytest.param("xla", marks=pytest.mark.deep)


@pytest.fixture(params=["eager", "traced", XLA])
def compiled(request):
    """Returns a decorator that makes a function run eagerly, traced or under XLA.

    The result takes NumPy arrays as keyword arguments, the function gets them as
    tensors. A fourth variant, "numpy", changes nothing; formulas that have a NumPy form
    ask for it by `parametrize("compiled", ..., indirect=True)`.
    """
    import tensorflow as tf

    def as_tensor(x):
        return tf.constant(x) if isinstance(x, np.ndarray) else x

    def decorate(function):
        if request.param == "numpy":
            return function
        if request.param != "eager":
            function = tf.function(function, jit_compile=request.param == "xla")
        return lambda **kwargs: function(**{k: as_tensor(x) for k, x in kwargs.items()})

    return decorate
