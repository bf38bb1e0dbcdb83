"""Descriptions that somebody made to run code: what a checkpoint says of its objects.

`corpus(abouts, elsewhere, rng)` yields `Case`s: which class is asked to rebuild itself
from which description. What a payload would do, were it built, is to import the module
`MODULE`, which makes a file, or to make something in `elsewhere`.
"""

import copy
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

BUILDER, ARGUMENTS = "tflearner:builder", "arguments"
MODULE = "of_a_stranger"
ID = f"{MODULE}:Env-v0"
IDS = (
    *(ID, f"{MODULE}:CartPole-v1", f"{MODULE}:", f":{ID}", f"{ID}:{ID}", f" {ID}"),
    *(f"a/{ID}", f"a/{MODULE}:b/Env", f"{MODULE}:Env", f"{MODULE} :Env-v0"),
    *("GymV21Environment-v0", "GymV26Environment-v0", "GymV26Environment"),
)
# Settings whose description is dropped unread.
MACHINE = (
    *(
        "num_gpus_per_learner",
        "local_gpu_idx",
        "strategy",
        "compile_cache",
        "memmap_dir",
    ),
)


@dataclasses.dataclass
class Case:
    """One hostile description.

    Attributes:
        name: What it is.
        cls: The name of the class whose `from_checkpoint` reads it.
        about: What the file says.
        component: The component that is asked for.
        loads: Whether it may load, without what is hostile in it.
    """

    name: str
    cls: str
    about: dict
    component: str | None = None
    loads: bool = False


def _built(name: str, /, **arguments: Any) -> dict:
    return {BUILDER: name, ARGUMENTS: arguments}


def payloads(elsewhere: pathlib.Path) -> dict[str, dict]:
    """Returns {kind: description} of what no argument may be."""
    config = _built("tflearner/PPOConfig", env=ID)
    found = {}
    for name in ("PPO", "DQN", "SAC"):
        full = f"tflearner.algorithms.{name.lower()}.{name}"
        for known in (f"tflearner/{name}", full):
            found[known] = _built(known, env=ID)
            found[f"{known} of a config"] = _built(known, config=config)
            found[f"{known} by name"] = {BUILDER: known}
        found[f"learner {name}"] = _built(f"tflearner/{name}TfLearner", config=config)
    buffer = {"capacity": 10, "observation_space": 1, "action_space": 1}
    for kind in ("EpisodeReplayBuffer", "PrioritizedEpisodeReplayBuffer"):
        made = _built(f"tflearner/{kind}", **buffer, memmap_dir=str(elsewhere / kind))
        found[kind] = made
    return found | {
        "algorithm of users": _built("hostile/Algorithm", env=ID),
        "learner of users": _built("hostile/Learner", config=config),
        "runner": _built("tflearner.env.single_agent_env_runner.SingleAgentEnvRunner"),
        "config": config,
        "config by its function": _built(
            "tflearner.settings.settings.Settings.from_settings", env=ID
        ),
        "config of users": _built("hostile/Config", env=ID),
        "metrics": _built("tflearner/MetricsLogger", more=_built("tflearner/PPO", env=ID)),
        "space": _built("gymnasium/Dict", spaces=[["a", _built("tflearner/PPO", env=ID)]]),
        "catalog": _built("tflearner/PPOCatalog", more=_built("tflearner/PPO", env=ID)),
        "os.system": _built("os.system", command=f"touch {elsewhere / 'ran'}"),
        "import": _built("importlib.import_module", name=MODULE),
        "make": _built("gymnasium.make", id=ID),
        "private name": _built("tflearner/__init__", env=ID),
    }  # fmt: skip


def _forms(payload: dict) -> dict[str, Any]:
    """Returns a payload at several depths."""
    return {
        "bare": payload,
        "in a list": [payload],
        "in a tuple": (1, (payload,)),
        "in a dict": {"a": {"b": payload}},
        "in all": {"a": [({("k", 1): payload},)]},
        "in an object of users": _built("hostile/Own", value=payload),
        "in a spec": _built("tflearner/RLModuleSpec", model_config={"a": payload}),
        "in a model config": _built("tflearner/DefaultModelConfig", model=payload),
        "in a config": _built(
            "tflearner/DQNConfig", learner_config_dict={"a": payload}
        ),
    }


def _places(about: Any, path=()) -> Iterator[tuple]:
    """Yields the paths of all arguments, in objects inside as well."""
    if isinstance(about, dict):
        for name in (
            about.get(ARGUMENTS, {}) if isinstance(about.get(ARGUMENTS), dict) else ()
        ):
            yield (*path, ARGUMENTS, name)
        for key, value in about.items():
            yield from _places(value, (*path, key))


def _changed(about: dict, path: tuple, value: Any) -> dict:
    about = copy.deepcopy(about)
    inner = about
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return about


def of_builders(bases, elsewhere, rng, count) -> Iterator[Case]:
    """Payloads in place of every argument, and as further ones, at random."""
    kinds = [*payloads(elsewhere).items()]
    for number in range(count):
        (cls, component), about = rng.choice([*bases.items()])
        inner = about
        for part in component.split("/") if component else ():
            inner = inner["components"][part]
        places = [*_places({k: v for k, v in inner.items() if k != "components"})]
        path = rng.choice([*places, ("arguments", "more")])
        kind, payload = kinds[number % len(kinds)]
        form, value = rng.choice([*_forms(payload).items()])
        inner = _changed(inner, path, value)
        if component is not None:
            where = [("components", part) for part in component.split("/")]
            inner = _changed(about, tuple(itertools.chain(*where)), inner)
        # What a device is, or a module of a runner, no file says anyway.
        loads = any(name in MACHINE for name in path)
        name = f"{number}: {kind} {form} at {'/'.join(map(str, path))} of {cls}"
        yield Case(name, cls, inner, component, loads)


def of_ids(about) -> Iterator[Case]:
    """Ids of environments that name a module."""
    config = (ARGUMENTS, "config", ARGUMENTS)
    for mode, text in itertools.product(("sync", "async", "vector_entry_point"), IDS):
        for value in (text, [text], {"id": text}):
            changed = _changed(about, (*config, "env"), value)
            changed = _changed(changed, (*config, "gym_env_vectorize_mode"), mode)
            yield Case(f"env={value!r}, {mode}", "PPO", changed)
        if text.startswith("Gym"):
            continue
        for value in ({"env_id": text}, {"a": [(text,)]}, {"a": {text: 1}}):
            changed = _changed(about, (*config, "env_config"), value)
            yield Case(f"env_config={value!r}, {mode}", "PPO", changed)


def of_machines(abouts, elsewhere) -> Iterator[Case]:
    """Directories and devices that a file would choose."""
    place = str(elsewhere / "made")
    config = (ARGUMENTS, "config", ARGUMENTS)
    values = {
        "compile_cache": (place, [place], _built("hostile/Own", value=place)),
        "strategy": (place, 5, _built("hostile/Own", value=place)),
        "num_gpus_per_learner": (5, place),
        "local_gpu_idx": (5, place),
    }
    for name, each in values.items():
        for value in each:
            changed = _changed(abouts["PPOTfLearner"], (*config, name), value)
            yield Case(f"{name}={value!r}", "PPOTfLearner", changed, loads=True)
    changed = _changed(abouts["Buffer"], (ARGUMENTS, "memmap_dir"), place)
    yield Case("memmap_dir", "Buffer", changed, loads=True)
    of_buffer = {"capacity": 50, "type": "EpisodeReplayBuffer", "memmap_dir": place}
    changed = _changed(abouts["DQN"], (*config, "replay_buffer_config"), of_buffer)
    yield Case("replay_buffer_config", "DQN", changed, loads=True)


def corpus(abouts, elsewhere, rng, count) -> list[Case]:
    """Returns all cases; `abouts` has the good description of each class."""
    bases = {(name, None): about for name, about in abouts.items()}
    for cls, component in (
        ("PPOTfLearner", "learner"),
        ("MultiRLModule", "learner/rl_module"),
        ("PPOTfRLModule", "learner/rl_module/default_policy"),
        ("MetricsLogger", "learner/metrics_logger"),
        ("MetricsLogger", "env_runner/metrics_logger"),
    ):
        bases[cls, component] = abouts["PPO"]
    return [
        *of_ids(abouts["PPO"]),
        *of_machines(abouts, elsewhere),
        *of_builders(bases, elsewhere, rng, count),
    ]
