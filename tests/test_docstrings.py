"""Examples in docstrings run."""

import doctest
import importlib
import pathlib

import pytest

import tflearner

PACKAGE = pathlib.Path(tflearner.__file__).parent
MODULES = sorted(
    ".".join(("tflearner", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0 and results.failed == 0
