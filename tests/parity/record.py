"""Records what Ray 2.60's torch learner computes; the tests of this folder read it.

    pip install "ray[rllib]==2.60.0" torch    # In an environment of its own.
    python tests/parity/record.py             # Writes tests/parity/data/.
    python tests/parity/record.py --check     # Compares with what is stored there.

Everything is computed by RLlib's own classes, driven through their public methods, in
this process and on the CPU; no cluster is started. Weights, batches and episodes come
from seeded NumPy generators, so that two runs differ by rounding alone. README.md says
what the files hold.
"""

import argparse
import json
import logging
import math
import pathlib
import re
import sys
import warnings

import numpy as np
import ray
import torch
from recorders import data, dqn, gae, impala, marwil, metrics, ppo, sac

RAY_VERSION = "2.60.0"
DATA = pathlib.Path(__file__).parent / "data"
# Of an array's largest absolute value; other processors round differently.
TOLERANCE = {".npz": 1e-5, ".json": 1e-9}
MISSING = object()


def record():
    """Returns everything: {file name: JSON tree, or arrays by name}."""
    ppo_cases, ppo_arrays = ppo.record()
    dqn_cases, dqn_arrays = dqn.record()
    sac_cases, sac_arrays = sac.record()
    gae_cases, gae_arrays = gae.record()
    (marwil_cases, marwil_arrays), (bc_cases, bc_arrays) = marwil.record()
    impala_cases, impala_arrays = impala.record()
    return {
        "ppo.json": ppo_cases,
        "ppo.npz": ppo_arrays,
        "dqn.json": dqn_cases,
        "dqn.npz": dqn_arrays,
        "sac.json": sac_cases,
        "sac.npz": sac_arrays,
        "gae.json": gae_cases,
        "gae.npz": gae_arrays,
        "bc.json": bc_cases,
        "bc.npz": bc_arrays,
        "marwil.json": marwil_cases,
        "marwil.npz": marwil_arrays,
        "impala.json": impala_cases,
        "impala.npz": impala_arrays,
        "schedules.json": data.record_schedules(),
        "minibatches.json": data.record_minibatches(),
        "shards.json": data.record_shards(),
        "metrics.json": metrics.record(),
    }


def write(recorded):
    """Writes the files and says how large they are."""
    DATA.mkdir(exist_ok=True)
    for name, content in recorded.items():
        path = DATA / name
        if path.suffix == ".npz":
            np.savez_compressed(path, **content)
        else:
            path.write_text(as_text(content))
        print(f"{name:17} {path.stat().st_size / 1024:6.0f} KiB")


def as_text(tree):
    """Returns indented JSON with every innermost list on one line."""
    text = json.dumps(tree, indent=1)
    innermost = re.compile(r"\[\s+([^][{}]*?)\s+\]")
    return innermost.sub(lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"


def check(recorded):
    """Prints how the stored files differ from `recorded`; returns whether they agree."""
    num_wrong = 0
    for name, content in recorded.items():
        path = DATA / name
        if not path.exists():
            print(f"{name:17} is missing")
            num_wrong += 1
            continue
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                stored = {key: file[key] for key in file.files}
            computed = content
        else:
            stored = leaves(json.loads(path.read_text()))
            computed = leaves(json.loads(json.dumps(content)))
        differences = {
            key: difference(stored.get(key, MISSING), computed.get(key, MISSING))
            for key in stored | computed
        }
        allowed = TOLERANCE[path.suffix]
        wrong = {key: d for key, d in differences.items() if d > allowed}
        worst = max((d for d in differences.values() if d <= allowed), default=0.0)
        verdict = f"{len(wrong)} differ, the others" if wrong else "agree"
        print(f"{name:17} {len(differences):5} entries: {verdict} within {worst:.1e}")
        for key, d in list(wrong.items())[:10]:
            print(f"    {key}: " + ("unlike" if d == math.inf else f"{d:.1e}"))
        num_wrong += len(wrong)
    return num_wrong == 0


def leaves(tree, path=""):
    """Returns the leaves of a JSON tree by their path."""
    if isinstance(tree, dict):
        children = tree.items()
    elif isinstance(tree, list):
        children = enumerate(tree)
    else:
        return {path: tree}
    return {
        key: leaf
        for name, child in children
        for key, leaf in leaves(child, f"{path}/{name}").items()
    }


def difference(old, new):
    """Returns the largest difference over the largest number; inf if unlike in kind."""
    old, new = np.asarray(old), np.asarray(new)
    if old.shape != new.shape or old.dtype != new.dtype:
        return math.inf
    if old.dtype.kind != "f":
        return 0.0 if np.array_equal(old, new) else math.inf
    if not np.array_equal(np.isnan(old), np.isnan(new)):
        return math.inf
    largest = np.max(np.abs(old), initial=1e-30, where=~np.isnan(old))
    apart = np.max(np.abs(new - old), initial=0.0, where=~np.isnan(old))
    return float(apart / largest)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="compare instead of writing"
    )
    wants_check = parser.parse_args().check
    if ray.__version__ != RAY_VERSION:
        sys.exit(f"This is Ray {ray.__version__}; the recordings are of {RAY_VERSION}.")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # Deprecations inside of RLlib.
    print(f"Ray {ray.__version__}, torch {torch.__version__}, NumPy {np.__version__}")
    recorded = record()
    if not wants_check:
        write(recorded)
    elif not check(recorded):
        sys.exit("The stored numbers are not those of this environment.")


if __name__ == "__main__":
    main()
