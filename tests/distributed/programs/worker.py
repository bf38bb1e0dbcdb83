"""One of two processes that learn together: python worker.py INDEX PORT WEIGHTS.npz.

Prints a line of JSON after each part, and ends by itself: number 1 by killing itself in
the middle of an update, number 0 by the error that it gets then.
"""

import json
import os
import signal
import sys

INDEX, PORT, PATH = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.environ["TF_CONFIG"] = json.dumps(
    {
        "cluster": {"worker": [f"localhost:{PORT}", f"localhost:{PORT + 1}"]},
        "task": {"type": "worker", "index": INDEX},
    }
)

import numpy as np
import tensorflow as tf
from of_workers import make_batch, make_learner

from tflearner.errors import TFLearnerError


def say(**facts):
    print(json.dumps(facts), flush=True)


def weights_of(learner):
    return learner.get_state("rl_module")["rl_module"]["p0"]


def error_of(update, *args, **kwargs):
    try:
        update(*args, **kwargs)
    except TFLearnerError as error:
        return f"{type(error).__name__}: {error}"
    return None


def main():
    # The strategy comes first: it starts what processes talk through.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    learner = make_learner(strategy)
    own = make_batch(slice(64 * INDEX, 64 * INDEX + 64))

    learner.update_from_batch(own, num_epochs=2, minibatch_size=16)
    np.savez(PATH, **{k.replace("/", "."): v for k, v in weights_of(learner).items()})
    say(part="equal", distributed=learner.distributed, how=learner.describe_updates())

    short = {name: column[: 40 if INDEX else 64] for name, column in own.items()}
    seq_no = learner.get_state("learner")["weights_seq_no"]
    result = learner.update_from_batch(short, num_epochs=2, minibatch_size=16)
    say(
        part="unlike lengths",
        digest=float(sum(np.abs(w).sum() for w in weights_of(learner).values())),
        steps=int(learner.get_optimizer("p0").iterations.numpy()),
        loss=result["p0"]["total_loss"],
        seq_no=seq_no,
    )

    bad = dict(own)
    if INDEX:
        bad["actions"] = bad["actions"] + 7
    say(part="refused", error=error_of(learner.update_from_batch, bad))

    bad = own | {"actions": [[1], [1, 2]]} if INDEX else own
    say(part="ragged", error=error_of(learner.update_from_batch, bad))

    iterations = learner.get_optimizer("p0").iterations
    before = int(iterations.numpy())
    error = error_of(learner.update_from_iterator, [own] * (2 if INDEX else 3))
    say(part="iterators", error=error, steps=int(iterations.numpy()) - before)

    fewer = {"p1" if INDEX else "p0": own}
    learner.add_module(module_id="p1", module_spec=learner.config.get_rl_module_spec())
    say(part="other modules", error=error_of(learner.update_from_batch, fewer))

    learner.update_from_batch({"p0": own}, minibatch_size=16)
    if INDEX:
        os.kill(os.getpid(), signal.SIGKILL)
    say(part="killed", error=error_of(learner.update_from_batch, {"p0": own}))
    os._exit(0)  # TensorFlow would wait for the process that is gone.


main()
