"""Breaks the library in some 30 places, one at a time, and checks that tests fail.

    python tests/faults.py [--only NAME ...]

Each fault changes one line in a copy of the library. The tests named beside it belong
to the plain run, so the plain run fails as well. The exit status is 1 if the tests
pass, or if a line no longer exists.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
MINUTES = 5  # The longest that the tests of one fault may take.


class Fault(NamedTuple):
    """A change of one line, and the tests that have to fail.

    Attributes:
        path: The file, below `tflearner`.
        line: The part of the line to replace; the first one in the file.
        broken: The text in its place.
        tests: Arguments for pytest: the tests that have to fail.
    """

    path: str
    line: str
    broken: str
    tests: str


FAULTS = {
    "schedule": Fault(
        "schedule.py",
        "self.update(timestep=0)",
        "self.update(timestep=1)",
        "tests/test_schedule.py",
    ),
    "stats": Fault(
        "stats.py",
        "self.values.append(value)",
        "self.values.appendleft(value)",
        "tests/test_stats.py",
    ),
    "metrics": Fault(
        "metrics.py",
        "return _map_leaves(Stats.peek, node)",
        "return node",
        "tests/test_metrics.py",
    ),
    "errors": Fault(
        "errors.py", 'f", want {want}."', 'f" want {want}."', "tests/test_errors.py"
    ),
    "config": Fault(
        "config.py",
        "gamma: float = field(default=0.99, metadata=TRAINING | number(0.0, 1.0))",
        "gamma: float = field(default=0.99, metadata=TRAINING | number(0.0, 2.0))",
        "tests/test_config.py",
    ),
    "hints": Fault("settings/names.py", "0.8", "0.3", "tests/test_config.py"),
    "sum tree": Fault(
        "data/sum_tree.py",
        "return left - self._first",
        "return left - self._first + 1",
        "tests/data/test_sum_tree.py",
    ),
    "lookback": Fault(
        "data/lookback_buffer.py",
        "from_end = self.lookback if neg_index_as_lookback else total",
        "from_end = total",
        "tests/data/test_lookback_buffer.py tests/data/test_single_agent_episode.py",
    ),
    "minibatches": Fault(
        "data/minibatches.py",
        "epochs = rng.permuted(epochs, axis=1)",
        "epochs = rng.permuted(epochs, axis=0)",
        "tests/data/test_minibatches.py",
    ),
    "manifest": Fault(
        "checkpoint/manifest.py",
        'if digest != hashlib.sha256(line).hexdigest().encode() + b"\\n":',
        "if not digest:",
        "tests/checkpoint/test_manifest.py tests/checkpoint/test_bad_checkpoints.py",
    ),
    "kinds": Fault(
        "checkpoint/builders.py",
        "_check_kind(name, about.kinds, takes, is_named)",
        "",
        "tests/checkpoint/test_builders.py tests/promises/test_p10_no_code_from_checkpoints.py",
    ),
    "regular files": Fault(
        "checkpoint/files.py",
        "if not stat.S_ISREG(found.st_mode):",
        "if False:",
        "tests/checkpoint/test_files.py",
    ),
    "surrogate": Fault(
        "losses/ppo.py",
        "surrogate = tf.minimum(ratio * advantages, clipped_ratio * advantages)",
        "surrogate = tf.maximum(ratio * advantages, clipped_ratio * advantages)",
        "tests/losses/test_ppo.py",
    ),
    "advantages": Fault(
        "losses/returns.py",
        "gamma * lambda_ * (1.0 - ends)",
        "gamma * lambda_ * (1.0 - terminateds)",
        "tests/losses/test_returns.py",
    ),
    "sequences": Fault(
        "intake/sequences.py",
        "bad = (seq_lens < 1) | (seq_lens > high)",
        "bad = seq_lens > high",
        "tests/intake/test_bad_columns.py",
    ),
    "projection": Fault(
        "losses/dqn.py",
        "tf.where(flags, 0.0, discounts * atoms)",
        "discounts * atoms",
        "tests/losses/test_dqn.py",
    ),
    "NumPy layer": Fault(
        "networks/numpy_layers.py",
        "x = x / np.sqrt(variance + np.float32(self.epsilon))",
        "x = x / np.sqrt(variance)",
        "tests/modules/test_numpy_policy.py",
    ),
    "NumPy distribution": Fault(
        "networks/numpy_distributions.py",
        "return passed.sum(-1, dtype=np.int32)",
        "return passed.sum(-1, dtype=np.int64)",
        "tests/networks/test_distributions.py",
    ),
    "target networks": Fault(
        "modules/target_networks.py",
        "return tau * main + (1.0 - tau) * target",
        "return (1.0 - tau) * main + tau * target",
        "tests/modules/test_target_networks.py",
    ),
    "action masks": Fault(
        "spaces/mask_spaces.py",
        "return np.where(allowed, outputs, np.float32(FORBIDDEN))",
        "return outputs",
        "tests/networks/test_action_masks.py",
    ),
    "one-hot": Fault(
        "networks/numpy_encoding.py",
        "offsets = np.cumsum([0, *self.sizes[:-1]]) - self.starts",
        "offsets = np.cumsum([0, *self.sizes[:-1]])",
        "tests/networks/test_observation_encoding.py",
    ),
    "bootstrap rows": Fault(
        "connectors/episode_columns.py",
        "~_flag_at_end(len(episode) + 1, 0, True)",
        "_flag_at_end(len(episode) + 1, 0, True)",
        "tests/connectors/test_episode_columns.py",
    ),
    "action bounds": Fault(
        "connectors/actions.py",
        "actions = actions * self.scale + self.shift",
        "actions = actions + self.shift",
        "tests/connectors/test_actions.py",
    ),
    "done": Fault(
        "env/vector_stepper.py",
        "is_done = terminateds | truncateds",
        "is_done = terminateds",
        "tests/env/test_vector_stepper.py",
    ),
    "running returns": Fault(
        "env/rollout.py",
        "self._ids[i], self._lengths[i], self._returns[i] = None, 0, 0.0",
        "self._ids[i], self._lengths[i] = None, 0",
        "tests/env/test_single_agent_env_runner.py",
    ),
    "clipping": Fault(
        "engine/gradients.py",
        "norm = global_norm(gradients)\n        clipped",
        "norm = 2.0 * global_norm(gradients)\n        clipped",
        "tests/learner/test_gradients.py",
    ),
    "guard": Fault(
        "learner/skipped_steps.py",
        "num_steps=end - start + before * continues",
        "num_steps=end - start",
        "tests/learner/test_non_finite_updates.py",
    ),
    "group": Fault(
        "distributed/learner_group.py",
        "return True  # Otherwise a group",
        "return False  # Otherwise a group",
        "tests/distributed/test_learner_group.py",
    ),
    "export": Fault(
        "export/check.py",
        "if not self._largest <= self._tolerance:",
        "if False:",
        "tests/export/test_check.py tests/export/test_saved_model.py",
    ),
    "stopping": Fault(
        "reporting/callbacks.py",
        "return self._model.stop_training",
        "return False",
        "tests/reporting/test_callbacks.py",
    ),
    "noise": Fault(
        "algorithms/sac.py",
        "self._noise_seed, zlib.crc32(module_id.encode())",
        "self._noise_seed",
        "tests/algorithms/test_sac.py tests/conformance/test_modules.py",
    ),
    "KL coefficient": Fault(
        "algorithms/ppo.py",
        "return min(coefficient * 1.5,",
        "return min(coefficient * 1.6,",
        "tests/algorithms/test_ppo.py tests/parity/test_updates.py",
    ),
}


def notices(fault: Fault) -> tuple[bool, str]:
    """Returns whether the tests fail on a copy with this fault, and their last line."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder)
        for part in (
            "tflearner",
            "tests",
            "examples",
            "docs",
            "README.md",
            "setup.cfg",
        ):
            whole = ROOT / part
            take = shutil.copytree if whole.is_dir() else shutil.copy
            take(whole, copy / part)
        path = copy / "tflearner" / fault.path
        text = path.read_text()
        if fault.line not in text:
            return False, f"{fault.path} has no {fault.line!r}"
        path.write_text(text.replace(fault.line, fault.broken, 1))
        command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q"]
        done = subprocess.run(
            [*command, *fault.tests.split()],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60 * MINUTES,
        )
        last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
        return done.returncode == 1, last


def main() -> int:
    """Tries the faults; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    names, missed = parser.parse_args().only, 0
    for name in names:
        is_noticed, last = notices(FAULTS[name])
        missed += not is_noticed
        print(f"{name:20}{'noticed' if is_noticed else 'MISSED'}: {last}", flush=True)
    print(f"{len(names) - missed} of {len(names)} faults are noticed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
