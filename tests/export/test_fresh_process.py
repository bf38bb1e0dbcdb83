"""Exports act like the module in a process without this library."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tree

from tflearner.testing import assert_close

pytestmark = pytest.mark.deep

PROGRAM = pathlib.Path(__file__).with_name("serve.py")
RNG_SEED = 7
FILES = {  # Which kinds are exported as files, too.
    "discrete": ["tflite", "keras"],
    "continuous": ["keras"],
    "image": ["tflite", "keras"],
    "lstm": ["tflite"],
    "gru": ["keras"],
    "own-model": ["keras"],
    "normalized": ["keras"],
    "linear": ["tflite"],
    "dqn": ["tflite", "keras"],
    "dqn-atoms": ["tflite", "keras"],
    "dqn-masked": ["tflite", "keras"],
    "sac": ["tflite", "keras"],
    "sac-discrete": ["tflite", "keras"],
}


def named(name, nest):
    """Returns the leaves of a nest under the names of the signatures."""
    paths = tree.flatten_with_path(nest)
    return {"_".join((name, *map(str, path))): leaf for path, leaf in paths}


@pytest.fixture(scope="module")
def calls(kinds, exported, tmp_path_factory):
    """What is called, with what, and what should come out.

    {name: (path, endpoint, named inputs, named outputs)}.
    """
    root = tmp_path_factory.mktemp("files")
    calls = {}
    for name, made in kinds.items():
        path, obs, state = str(exported[name][0]), made.observations(), None
        if made.module.is_stateful():
            state = made.initial_state()
            count = {"batch_size": np.int32(len(obs))}
            calls[f"{name}-initial"] = (
                path,
                "initial_state",
                count,
                named("state", state),
            )
            state = made.act(obs, state)[1]  # One that is not zero.
        given = named("obs", obs) | (named("state", state) if state else {})

        def outputs(result):
            actions, after = result
            return {"actions": actions} | (named("state", after) if after else {})

        greedy = outputs(made.act(obs, state))
        calls[f"{name}-greedy"] = (path, "act_greedy", given, greedy)
        drawn = outputs(made.act(obs, state, RNG_SEED))
        seeded = given | {"seed": made.seed_of(RNG_SEED)}
        calls[f"{name}-act"] = (path, "act", seeded, drawn)
        if made.has_values:
            values = {"values": made.values(obs, state)}
            calls[f"{name}-value"] = (path, "value", given, values)
        for suffix in FILES.get(name, ()):
            file = root / f"{name}.{suffix}"
            made.export(file, format=suffix)
            calls[f"{name}-{suffix}"] = (str(file), "act_greedy", given, greedy)
    return calls


@pytest.fixture(scope="module")
def results(calls, tmp_path_factory):
    """What a fresh process makes of the calls: {"call/tensor": array}."""
    directory = tmp_path_factory.mktemp("calls")
    listed = [[n, path, end, [*given]] for n, (path, end, given, _) in calls.items()]
    (directory / "calls.json").write_text(json.dumps(listed))
    arrays = {
        f"{name}/{key}": array
        for name, (_, _, given, _) in calls.items()
        for key, array in given.items()
    }
    np.savez(directory / "calls.npz", **arrays)
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(directory)],
        check=False,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(directory / "results.npz") as found:
        return dict(found)


def test_it_acts_and_values_like_the_module(kind, calls, results):
    own = [name for name in calls if name.rpartition("-")[0] == kind]
    assert len(own) >= 2
    for name in own:
        for key, want in calls[name][3].items():
            got = results[f"{name}/{key}"]
            assert got.dtype == want.dtype, name
            assert_close(got, want, rtol=1e-5, atol=2e-6)


def test_actions_differ_between_observations_and_draws(calls):
    """Or the comparison would compare little."""
    for name, (_, endpoint, _, want) in calls.items():
        if endpoint == "act_greedy":
            assert len(np.unique(want["actions"], axis=0)) > 1, name
            drawn = calls.get(name.replace("-greedy", "-act"), (0, 0, 0, want))[3]
            kind = name.rpartition("-")[0]
            if name.endswith("-greedy") and kind != "chooses":
                assert (drawn["actions"] != want["actions"]).any(), name
