"""PPO learns: with its defaults, and with what the examples set."""

import pathlib
import re
import runpy
import sys

import pytest

import tflearner as tfl

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_defaults_reach_200_on_cartpole(tmp_path):
    algo = tfl.PPO("CartPole-v1", seed=0)
    history = algo.fit(total_steps=100_000, verbose=0, log_dir=tmp_path)
    algo.stop()
    assert max(history.history["episode_return"]) >= 200.0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("example", "seeds", "wanted", "max_steps"),
    [
        ("ppo_cartpole", range(5), 475.0, 100_000),
        ("ppo_pendulum", range(3), -300.0, 300_000),
    ],
)
def test_example_reaches_what_it_promises(
    example, seeds, wanted, max_steps, monkeypatch, tmp_path, capsys
):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    for seed in seeds:
        monkeypatch.setattr(sys, "argv", [example, "--seed", str(seed)])
        runpy.run_path(str(EXAMPLES / f"{example}.py"), run_name="__main__")
        line = capsys.readouterr().out.strip().splitlines()[-1]
        numbers = dict(re.findall(r"(\w+)=(\S+)", line))
        assert float(numbers["mean_return"]) >= wanted, f"seed {seed}: {line}"
        assert int(numbers["env_steps"]) <= max_steps, f"seed {seed}: {line}"
