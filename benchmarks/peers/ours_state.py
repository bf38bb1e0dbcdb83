"""Times saving, restoring and the exported policy beside the least that each must do."""

import hashlib
import os
import pathlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import worker

import tflearner as tfl


def main() -> None:
    """Runs every case in turn with its measure, A B A B."""
    s = worker.settings()
    folder = pathlib.Path(tempfile.mkdtemp(dir=s["folder"]))
    try:
        worker.report(
            ["tensorflow", "keras", "numpy", "safetensors"],
            cases=_state_cases(folder, s) | {"act_greedy": _act_case(folder, s)},
        )
    finally:
        shutil.rmtree(folder)


def _state_cases(folder: pathlib.Path, s: dict) -> dict[str, dict]:
    algo = tfl.PPO(
        "CartPole-v1",
        model_config=tfl.DefaultModelConfig(
            fcnet_hiddens=s["hiddens"], vf_share_layers=False
        ),
        seed=0,
    )
    learner = algo.learner
    saved = pathlib.Path(learner.save_to_path(folder / "run"))
    blobs = {file.name: file.read_bytes() for file in saved.iterdir()}
    copies = folder / "copies"
    copies.mkdir()

    def save() -> None:
        learner.save_to_path(folder / "run", keep=2)

    def write() -> None:
        for name, blob in blobs.items():
            (copies / name).unlink(missing_ok=True)
            with (copies / name).open("wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())

    def restore() -> None:
        learner.restore_from_path(folder / "run")

    def read_and_hash() -> None:
        for name in blobs:
            hashlib.sha256((copies / name).read_bytes()).digest()

    def save_in_background() -> None:
        algo.save(folder / "background", keep=2, background=True)

    cases = {
        "save": _paired(save, write, s["rounds"]),
        "restore": _paired(restore, read_and_hash, s["rounds"]),
        "background": _paired(
            save_in_background,
            algo.get_state,
            s["rounds"],
            between=algo.wait_until_saved,
        ),
    }
    algo.stop()
    for case in cases.values():
        case["megabytes"] = sum(map(len, blobs.values())) / 1e6
    return cases


def _act_case(folder: pathlib.Path, s: dict) -> dict:
    """One step of eight environments: the export beside the module's own function."""
    algo = tfl.PPO("CartPole-v1", seed=0)
    module = algo.get_module()
    algo.export(folder / "policy")
    policy = tf.saved_model.load(folder / "policy")  # Holds the variables.
    spec = tf.TensorSpec([None, 4], tf.float32)
    exported = policy.act_greedy.get_concrete_function(spec)

    def greedy(observations):
        outputs = module.forward_inference({"obs": observations})
        dist_class = module.get_inference_action_dist_cls()
        dist = dist_class.from_logits(outputs["action_dist_inputs"])
        return dist.to_deterministic().sample()

    own = tf.function(greedy, autograph=False).get_concrete_function(spec)
    observations = tf.constant(np.random.default_rng(0).normal(size=(8, 4)), tf.float32)
    calls = range(s["calls"])
    result = _paired(
        lambda: [exported(observations) for _ in calls],
        lambda: [own(observations) for _ in calls],
        s["rounds"],
    )
    algo.stop()
    return {**result, "calls": len(calls)}


def _paired(
    ours: Callable, measure: Callable, rounds: int, between: Callable = lambda: None
) -> dict:
    """Times both in turn; the first round is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for function, seconds in zip((ours, measure), times):
            start = time.perf_counter()
            function()
            if number:
                seconds.append(time.perf_counter() - start)
            between()
    return {
        "ours_s": statistics.median(times[0]),
        "measure_s": statistics.median(times[1]),
        "all_ours_s": times[0],
        "all_measure_s": times[1],
    }


if __name__ == "__main__":
    main()
