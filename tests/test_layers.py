"""Imports point down the stack drawn in docs/architecture.md, section "Layers"."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "tflearner"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ABOVE_ALL = "testing"  # May import every row; no row imports it.


def drawn_layers() -> dict[str, int]:
    """The rows of the drawing: {part: row number}."""
    drawing = PAGE.split("## Layers", 1)[1].split("```")[1]
    rows = re.findall(r"^\s*(\d+)\s{2}(.+)$", drawing, re.MULTILINE)
    return {part: int(row) for row, parts in rows for part in parts.split()}


LEVEL = drawn_layers()
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: pathlib.Path):
    """Parts of tflearner imported anywhere in the file, functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "tflearner":
            names = [f"tflearner.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "a relative import"]
        else:
            continue
        for name in names:
            assert name != "a relative import", f"{path}: relative import"
            if name.startswith("tflearner."):
                yield name.split(".")[1]


def test_the_drawing_names_every_part():
    parts = {part_of(path) for path in FILES} - {"__init__", ABOVE_ALL}
    assert set(LEVEL) == parts


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    part = part_of(path)
    if part in ("__init__", ABOVE_ALL):
        return
    for other in imported_parts(path):
        assert other != ABOVE_ALL, f"{path}: imports testing"
        assert other == part or LEVEL[other] < LEVEL[part], (
            f"{path}: row {LEVEL[part]} imports {other} of row {LEVEL[other]}"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_stand_at_the_top(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            imports = (ast.Import, ast.ImportFrom)
            inner = [n for n in ast.walk(node) if isinstance(n, imports)]
            assert not inner, f"{path}:{node.lineno}: import inside {node.name}"


# What a process needs that acts, and never imports TensorFlow: with all that these import.
WITHOUT_TENSORFLOW = [
    *(
        "checkpoint",
        "data",
        "env",
        "spaces",
        "networks/numpy_layers",
        "networks/numpy_distributions",
    ),
    *("metrics", "schedule", "stats", "modules/numpy_policy"),
    *("connectors/actions", "connectors/observations", "connectors/pipeline"),
    *("connectors/frame_stacking", "connectors/prev_actions_prev_rewards"),
]


def imported_files(path: pathlib.Path) -> set[pathlib.Path]:
    """A file of tflearner, and all those that it imports, directly or not."""
    found, waiting = set(), [path]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "tflearner"
            ):
                names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
                files = [ROOT / f"{name.replace('.', '/')}.py" for name in names]
                waiting += [file for file in files if file.exists()]
    return found


@pytest.mark.parametrize("name", WITHOUT_TENSORFLOW)
def test_what_needs_no_tensorflow_imports_none(name):
    names = {p: str(p.relative_to(PACKAGE).with_suffix("")) for p in FILES}
    paths = [p for p, own in names.items() if own == name or own.startswith(f"{name}/")]
    assert paths
    for path in set().union(*map(imported_files, paths)):
        found = re.search(
            r"^\s*(import|from) (tensorflow|keras)", path.read_text(), re.MULTILINE
        )
        assert not found, f"{names[path]} imports {found[2]}"


# Each has files of its name in several folders.
ALGORITHMS = {"bc", "dqn", "impala", "marwil", "ppo", "sac"}


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_an_algorithm_imports_no_file_of_another(name):
    paths = imported_files(PACKAGE / f"algorithms/{name}.py")
    found = {path.stem for path in paths if path.parent.name != "losses"}
    assert found & ALGORITHMS == {name}  # One loss may be a case of another.


def test_only_the_front_door_imports_by_name():
    users = [p for p in FILES if "import_module" in p.read_text()]
    assert users == [PACKAGE / "__init__.py"]


def test_follow_one_batch_names_files_that_exist():
    section = PAGE.split("## Follow one batch", 1)[1].split("\n## ", 1)[0]
    stops = re.findall(r"`([\w/]+\.py)`", section)
    assert len(stops) >= 10
    for stop in stops:
        assert (ROOT / stop).exists(), stop
