"""Every example and every block of README and docs runs, in this process, on a tiny budget."""

import pathlib
import re
import runpy
import sys

import pytest

from tflearner.algorithms.algorithm import Algorithm
from tflearner.config import AlgorithmConfig

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = sorted(p for p in (ROOT / "examples").glob("*.py") if p.name != "_quiet.py")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1
    )
]
LAST_LINE = (
    r"(evaluation: mean_return=\S+ std=\S+ episodes=20 env_steps=\d+|result: .*) "
    r"seconds=\S+$"
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """No XLA, since compiling costs seconds, and files go to a temporary folder."""
    validate, fit = AlgorithmConfig.validate, Algorithm.fit

    def validate_without_xla(self):
        if not self.is_frozen:
            self.framework(jit_compile=False)
        validate(self)

    def fit_briefly(self, total_steps, **kwargs):
        return fit(self, min(total_steps, 500), **kwargs)

    monkeypatch.setattr(AlgorithmConfig, "validate", validate_without_xla)
    monkeypatch.setattr(Algorithm, "fit", fit_briefly)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")


@pytest.mark.deep
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs_and_ends_in_its_result(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [path.name, "--seed", "1", "--steps", "500"])
    runpy.run_path(str(path), run_name="__main__")
    lines = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(LAST_LINE, lines[-1]), lines[-1]


@pytest.mark.deep
@pytest.mark.parametrize("block", BLOCKS)
def test_block_of_a_page_runs(block, tmp_path):
    path = tmp_path / "block.py"
    path.write_text(block)
    runpy.run_path(str(path))


def test_examples_readme_names_every_example():
    text = (ROOT / "examples" / "README.md").read_text()
    for path in EXAMPLES:
        assert path.name in text, path.name
