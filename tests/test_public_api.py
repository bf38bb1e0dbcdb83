"""The front door: what is public, that it loads, and that it loads late."""

import ast
import inspect
import pathlib
import subprocess
import sys
import time

import pytest

import tflearner as tfl

PACKAGE = pathlib.Path(tfl.__file__).parent


def test_every_public_name_loads():
    for name in tfl.__all__:
        assert getattr(tfl, name) is not None


def test_dir_lists_the_public_names():
    assert set(tfl.__all__) <= set(dir(tfl))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Lerner"):
        _ = tfl.Lerner


def test_stub_repeats_the_table():
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text())
    stub = {
        alias.asname: (node.module or "").removeprefix("tflearner").removeprefix(".")
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    table = {n: "" if n == m else m for n, m in tfl._PUBLIC.items()}
    assert stub == table


def test_every_public_class_and_function_has_a_docstring():
    for name in tfl.__all__:
        value = getattr(tfl, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name
            own = {n: m for n, m in vars(value).items() if inspect.isfunction(m)}
            for method in own:
                if not method.startswith("_"):
                    assert inspect.getdoc(getattr(value, method)), f"{name}.{method}"


def test_importing_loads_the_standard_library_only():
    code = (
        "import sys; before = set(sys.modules); import tflearner; "
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(*(loaded - sys.stdlib_module_names - {'tflearner'}))"
    )
    started = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - started
    assert result.stdout.split() == []
    assert seconds < 5.0  # 0.05 s here; TensorFlow alone takes longer than this.


def test_columns_have_rllibs_values():
    assert tfl.Columns.OBS == "obs"
    assert tfl.Columns.ACTION_DIST_INPUTS == "action_dist_inputs"
    assert tfl.DEFAULT_MODULE_ID == "default_policy"
    assert tfl.ALL_MODULES == "__all_modules__"
