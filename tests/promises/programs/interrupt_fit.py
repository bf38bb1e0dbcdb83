"""Sends signals to processes that are in `fit`, at random moments.

Arguments: count, seed. Reports a list of what each process told.
"""

import contextlib
import gc
import io
import json
import os
import random
import re
import signal
import sys
import threading
import time
import traceback

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import forks
import keras

import tflearner as tfl
from tflearner.testing import CountingEnv, run_digest

SETTINGS = {
    "train_batch_size_per_learner": 32,
    "minibatch_size": 16,
    "num_epochs": 1,
    "model_config": tfl.DefaultModelConfig(fcnet_hiddens=[4]),
    "run_eagerly": True,
    "jit_compile": False,
    "seed": 1,
}
FOR_EVER = 10_000_000  # Steps.


class SlowEnv(CountingEnv):
    """One iteration takes minutes."""

    def step(self, action):
        time.sleep(2.0)
        return super().step(action)


def look_after(algo, printed, told):
    """Notes whether the checkpoint that was printed is where the run goes on."""
    found = re.search(r"interrupted after ([\d,]+) steps, saved in (\S+)/", printed)
    told["printed"] = printed[-300:]
    if found is None:
        return
    steps, path = found.groups()
    told["steps_are_right"] = (
        int(steps.replace(",", "")) == algo.num_env_steps_sampled_lifetime
    )
    again = tfl.PPO.from_checkpoint(path)
    digests = [(run_digest(algo), run_digest(again))]
    for run in (algo, again):
        run.train()
    digests.append((run_digest(algo), run_digest(again)))
    told["goes_on"] = all(one == other for one, other in digests)


def fit(send, is_slow):
    """Trains until interrupted; returns the status to end with."""
    begun = lambda *_: send({"begun": True})
    callback = keras.callbacks.LambdaCallback(on_train_begin=begun)
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    algo = tfl.PPO(SlowEnv if is_slow else "CartPole-v1", **SETTINGS)
    told, status, printed = {}, 0, io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            history = algo.fit(FOR_EVER, callbacks=[callback], verbose=2)
        told["returned"] = len(history.epoch)
    except SystemExit as error:
        status = error.code
    ended = time.monotonic()
    told["handlers_are_back"] = handlers == [
        signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)
    ]
    look_after(algo, printed.getvalue(), told)
    send(told | {"ended": ended})
    return status


def trial(number, signals, delay, is_slow):
    """Lets a child train and sends it signals; returns what it told."""
    reader, writer = os.pipe()

    def child():
        os.chdir(directory)
        send = lambda told: os.write(writer, json.dumps(told).encode() + b"\n")
        try:
            status = fit(send, is_slow)
        except BaseException:  # noqa: BLE001 - everything counts
            send({"error": traceback.format_exc()[-2000:]})
            status = 1
        os._exit(status)

    directory = f"trial-{number}"
    os.mkdir(directory)
    pid = forks.fork(child)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = json.loads(pipe.readline())
        if "begun" in told:
            sent = time.monotonic()
            for each in signals:
                time.sleep(delay)
                sent = time.monotonic()
                os.kill(pid, each)
            # A child that does not listen is an error, and not for ever.
            watchdog = threading.Timer(120.0, os.kill, (pid, signal.SIGKILL))
            watchdog.start()
            told = json.loads(pipe.readline() or '{"error": "it was killed"}')
            watchdog.cancel()
            told["seconds"] = told.pop("ended", sent) - sent
    return told | {"status": forks.exit_code(pid), "signals": signals}


def main(count, seed):
    assert tfl.PPO  # Imports it, once for all children.
    gc.freeze()
    rng, results = random.Random(seed), []
    for number in range(count):
        kind = number % 4
        signals = [signal.SIGINT, signal.SIGTERM][kind % 2 : kind % 2 + 1]
        is_slow = kind == 2
        delay = 0.5 if is_slow else rng.uniform(0.0, 0.6)
        results.append(trial(number, signals * (1 + is_slow), delay, is_slow))
    return {"results": results}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
