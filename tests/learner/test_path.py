"""The way of one PPO iteration: how many files and functions, and which it passes by."""

import pathlib
import sys
import threading
from collections import defaultdict

import pytest

import tflearner
from tflearner.algorithms.ppo import PPO

ROOT = pathlib.Path(tflearner.__file__).parent
MOST_FILES, MOST_FUNCTIONS = 40, 250
# What stands beside the path, and who needs it.
BESIDE = {
    "connectors/states.py": "modules that train on sequences",
    "engine/guard.py": "tracing",
    "engine/loss_scale.py": "tracing",
    "engine/overflow_guard.py": "tracing",
    "engine/replicas.py": "several devices",
    "engine/side_effects.py": "tracing",
    "forks.py": "forked processes",
    "intake/agreement.py": "several processes",
    "intake/deferred.py": "deferred data",
    "intake/items.py": "iterators",
    "intake/sequences.py": "modules that train on sequences",
    "learner/diagnosis.py": "steps that are not finite",
    "learner/exporting.py": "exports",
    "learner/skipped_steps.py": "steps that are not finite",
    "schedule.py": "values that change",
}


@pytest.fixture(scope="module")
def entered():
    """Functions entered in the second iteration, {file: {first line}}."""
    algo = PPO(
        "CartPole-v1",
        num_envs_per_env_runner=8,
        seed=1,
        train_batch_size_per_learner=512,
        num_epochs=2,
        minibatch_size=64,
        jit_compile=False,
    )
    algo.train()
    seen = defaultdict(set)

    def on_call(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(ROOT)):
            path = pathlib.Path(code.co_filename).relative_to(ROOT).as_posix()
            seen[path].add(code.co_firstlineno)

    before = sys.getprofile()
    threading.setprofile(on_call)
    sys.setprofile(on_call)
    try:
        algo.train()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    algo.stop()
    return dict(seen)


def test_few_files_and_functions_are_entered(entered):
    assert len(entered) <= MOST_FILES, sorted(entered)
    assert sum(map(len, entered.values())) <= MOST_FUNCTIONS
    assert {"learner/learner.py", "engine/compiled_update.py"} <= entered.keys()


@pytest.mark.parametrize("path", BESIDE)
def test_what_few_need_stands_beside_the_path(entered, path):
    assert (ROOT / path).exists()
    assert path not in entered, f"only for {BESIDE[path]}"
