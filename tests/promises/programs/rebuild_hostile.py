"""Rebuilds objects from hostile descriptions while an audit hook listens.

Arguments: seed, count. Reports counts; `failures` is a list of texts.
"""

import json
import os
import pathlib
import random
import sys
import time
import warnings
from collections import Counter

import gymnasium as gym
import hostile_descriptions
import load_hostile

import tflearner as tfl
from tflearner.checkpoint.directory import CheckpointDirectory, read_checkpoint
from tflearner.errors import CheckpointError, TFLearnerError

ELSEWHERE = pathlib.Path("elsewhere").absolute()
MAX_SECONDS = 1.0
SETTINGS = {
    "model_config": tfl.DefaultModelConfig(fcnet_hiddens=[2]),
    "run_eagerly": True,
    "jit_compile": False,
    "seed": 1,
}
SPACE = gym.spaces.Discrete(2)
MODULES = ("tflearner", "gymnasium", "tensorflow", "keras", "numpy", "tree")
# Events that no description may cause, whatever is built in the end.
FORBIDDEN = tuple(
    event
    for event in load_hostile.FORBIDDEN
    if event not in ("import", "compile", "exec", "code", "function")
)

tfl.register_builder("hostile/Algorithm", type("Algorithm", (tfl.PPO,), {}))
tfl.register_builder("hostile/Learner", type("Learner", (tfl.PPOTfLearner,), {}))
tfl.register_config("hostile/Config", type("Config", (tfl.PPOConfig,), {}))


@tfl.register_builder("hostile/Own")
class Own:
    """What a user registered."""

    def __init__(self, value):
        self.value = value


class Listener:
    """An audit hook that notes what is forbidden while `is_on`."""

    def __init__(self):
        self.is_on, self.heard, self.num_events = False, [], 0

    def __call__(self, event, arguments):
        if not self.is_on:
            return
        self.num_events += 1
        if event == "import":
            name = str(arguments[0])
            is_known = name.split(".")[0] in {*MODULES, *sys.stdlib_module_names}
            if not is_known:
                self.heard.append(f"import of {name}")
        elif event == "open":
            path, _, flags = arguments
            if flags & load_hostile.WRITING and not isinstance(path, int):
                self.heard.append(f"open for writing: {path}")
        elif event.startswith(FORBIDDEN) and not _is_import(event):
            self.heard.append(f"{event} {arguments!r:.100}")


def _is_import(event) -> bool:
    """Returns whether Python itself reads the compiled form of a module it imports."""
    caller = sys._getframe(2).f_code.co_filename
    return event == "marshal.loads" and caller.startswith("<frozen importlib")


LISTENER = Listener()


def saved() -> tuple[dict, dict]:
    """Returns the descriptions and the states of an object of each kind."""
    ppo = tfl.PPO("CartPole-v1", **SETTINGS, train_batch_size_per_learner=128)
    replay = {"capacity": 50, "type": "EpisodeReplayBuffer"}
    dqn = tfl.DQN("CartPole-v1", **SETTINGS, replay_buffer_config=replay)
    spaces = {"observation_space": SPACE, "action_space": SPACE}
    buffer = tfl.EpisodeReplayBuffer(10, **spaces)
    filter_ = tfl.MeanStdFilter(gym.spaces.Box(-1.0, 1.0, (2,)), SPACE)
    things = {"PPO": ppo, "DQN": dqn, "PPOTfLearner": ppo.learner, "Buffer": buffer}
    found = {}
    for name, thing in (things | {"MeanStdFilter": filter_}).items():
        found[name] = read_checkpoint(thing.save_to_path(f"base/{name}"))
    for algo in (ppo, dqn):
        algo.stop()
    return (
        {name: checkpoint.about for name, checkpoint in found.items()},
        {name: checkpoint.state for name, checkpoint in found.items()},
    )


def judge(case, path) -> str | None:
    """Returns what is wrong with how a case is met."""
    cls = tfl.EpisodeReplayBuffer if case.cls == "Buffer" else getattr(tfl, case.cls)
    LISTENER.heard.clear()
    start, result = time.process_time(), None
    before = os.environ.get("TF_XLA_FLAGS")
    LISTENER.is_on = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = cls.from_checkpoint(path, component=case.component)
    except Exception as error:  # noqa: BLE001 - judged later
        result = error
    finally:
        LISTENER.is_on = False
    seconds = time.process_time() - start
    if LISTENER.heard:
        return f"{LISTENER.heard[:3]}"
    if os.listdir(ELSEWHERE) or hostile_descriptions.MODULE in sys.modules:
        return "the payload ran"
    if os.environ.get("TF_XLA_FLAGS") != before:
        return "TensorFlow has other flags"
    if isinstance(result, Exception):
        if case.loads and not isinstance(result, TFLearnerError):
            return f"raised {result!r}"
        if not case.loads and not isinstance(result, CheckpointError):
            return f"raised {result!r}"
        return f"took {seconds:.1f} s" if seconds > MAX_SECONDS else None
    if hasattr(result, "stop"):
        result.stop()
    if not case.loads:
        return "loaded"
    return None if result.restore_report.dropped else "no report"


def main(seed, count):
    ELSEWHERE.mkdir()
    pathlib.Path("modules").mkdir()
    code = f"open({str(ELSEWHERE / 'ran')!r}, 'w')"
    pathlib.Path(f"modules/{hostile_descriptions.MODULE}.py").write_text(code)
    sys.path.insert(0, os.path.abspath("modules"))
    for name in tfl.__all__:
        getattr(tfl, name)
    abouts, states = saved()
    again = tfl.PPO.from_checkpoint("base/PPO")  # Not everything is refused.
    again.stop()
    rng = random.Random(seed)
    cases = hostile_descriptions.corpus(abouts, ELSEWHERE, rng, count)
    sys.addaudithook(LISTENER)
    counts, failures = Counter(), []
    for number, case in enumerate(cases):
        state = states["PPO" if case.component else case.cls]
        path = CheckpointDirectory(f"runs/{number}").save(state, case.about, step=1)
        wrong = judge(case, path)
        counts["cases"] += 1
        if wrong:
            failures.append(f"{case.name}: {wrong}")
    counts["events"] = LISTENER.num_events
    return counts | {"failures": failures}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
