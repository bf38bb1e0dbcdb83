"""What a file describes is about as large as the file, or it is not built."""

import hashlib
import json

import gymnasium as gym
import numpy as np
import pytest

import tflearner as tfl
from tflearner.checkpoint import budget
from tflearner.checkpoint.builders import Rebuilder
from tflearner.errors import BuilderError, ConfigError
from tflearner.modules.dqn import DQNModelConfig

BOX = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (36, 36, 1), np.uint8)
NESTED = gym.spaces.Dict(
    {
        "camera": IMAGE,
        "rest": gym.spaces.Tuple([BOX, gym.spaces.MultiDiscrete([3, 4])]),
    }
)


def test_what_is_spent_is_gone():
    budget.spend("anything", 2**60)  # Nothing is read: nothing is limited.
    with budget.limited(num_bytes=1000, num_arrays=0):
        budget.spend("a", -(2**40))
        budget.spend("b", budget.SPARE_BYTES)
        budget.spend("c", 1000)
        with pytest.raises(BuilderError, match="description of d: 1 bytes"):
            budget.spend("d", 1)
        with pytest.raises(BuilderError, match="variables"):
            budget.spend("e", 0, num_arrays=budget.SPARE_ARRAYS + 1)
        with budget.limited(num_bytes=0, num_arrays=0):
            budget.spend("f", 1)
    assert budget.current() is None


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The directories of steps that hold a module each."""
    lstm = {"fcnet_hiddens": [8], "use_lstm": True, "lstm_cell_size": 4}
    modules = {
        "dense": (tfl.PPOTfRLModule, BOX, {"fcnet_hiddens": [8]}),
        "image": (tfl.PPOTfRLModule, IMAGE, {"conv_filters": [(2, 8, 8)]}),
        "lstm": (tfl.PPOTfRLModule, BOX, lstm),
        "atoms": (tfl.DQNTfRLModule, BOX, {"num_atoms": 2, "fcnet_hiddens": [8]}),
    }
    paths = {}
    for name, (cls, space, config) in modules.items():
        path = tmp_path_factory.mktemp(name)
        made_of = DQNModelConfig if cls is tfl.DQNTfRLModule else tfl.DefaultModelConfig
        settings = made_of(**config).to_dict()  # All of them are in the file.
        module = cls(space, gym.spaces.Discrete(2), model_config=settings)
        paths[name] = cls, module.save_to_path(path), path
    return paths


def _changed(node, values):
    """Returns JSON with other values under some names."""
    if isinstance(node, list):
        return [_changed(item, values) for item in node]
    if not isinstance(node, dict):
        return node
    new = {name: _changed(item, values) for name, item in node.items()}
    return new | {name: value for name, value in values.items() if name in node}


def _forge(run, values):
    """Replaces settings in all that a step says of how to build it."""
    step = next(run.glob("step-*"))
    tree = json.loads((step / "state.json").read_bytes())
    tree["about"] = _changed(tree["about"], values)
    content = json.dumps(tree).encode()
    (step / "state.json").write_bytes(content)
    manifest = json.loads((step / "MANIFEST.json").read_bytes().split(b"\n")[0])
    manifest["files"]["state.json"] = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    line = json.dumps(manifest).encode()
    digest = hashlib.sha256(line).hexdigest().encode()
    (step / "MANIFEST.json").write_bytes(line + b"\n" + digest + b"\n")


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("dense", {"shape": [20_000_000], "low": -1, "high": 1}, "observation_space.*"),
        ("dense", {"n": 20_000_000}, "action_space.*"),
        ("dense", {"fcnet_hiddens": [4000, 4000]}, "description of weights: 64,0"),
        ("dense", {"head_fcnet_hiddens": [4000, 4000]}, "weights: 64,0"),
        ("dense", {"fcnet_hiddens": [2] * 200}, "more variables than the file has"),
        ("dense", {"fcnet_hiddens": [1] * 1001}, "at most 1000"),
        ("dense", {"fcnet_hiddens": [10**400]}, "positive integers"),
        ("image", {"conv_filters": [[2, 1, 1], [150_000, 8, 8]]}, "weights: 76,8"),
        ("image", {"conv_filters": [[20_000, 1, 1], [2, 8, 8]]}, "a convolution"),
        ("lstm", {"lstm_cell_size": 2000}, "weights: 64,0"),
        ("lstm", {"lstm_cell_size": 10_000_000}, "up to 1048576"),
        ("lstm", {"max_seq_len": 10**9}, "up to 1048576"),
        ("atoms", {"num_atoms": 2_000_000}, "up to 65536"),
        ("atoms", {"num_atoms": 10**400}, "num_atoms"),
    ],
)
def test_a_description_of_more_than_the_file_has_is_refused(saved, name, values, text):
    cls, _, run = saved[name]
    step = next(run.glob("step-*"))
    before = {path.name: path.read_bytes() for path in step.iterdir()}
    _forge(run, values)
    try:
        with pytest.raises((BuilderError, ConfigError), match=text):
            cls.from_checkpoint(run)
    finally:
        for file, content in before.items():
            (step / file).write_bytes(content)
    cls.from_checkpoint(run)


def test_a_large_space_is_given_again(saved):
    cls, _, run = saved["dense"]
    step = next(run.glob("step-*"))
    before = {path.name: path.read_bytes() for path in step.iterdir()}
    _forge(run, {"shape": [20_000_000]})
    module = cls.from_checkpoint(run, observation_space=BOX)
    assert module.observation_space == BOX
    for file, content in before.items():
        (step / file).write_bytes(content)


def test_settings_that_only_a_user_may_ask_for_are_given_again():
    for cls in (tfl.PPOConfig, tfl.DQNConfig, tfl.SACConfig):
        described = {
            "tflearner:builder": f"tflearner/{cls.__name__}",
            "arguments": {"num_envs_per_env_runner": 10**6, "gamma": 0.5},
        }
        rebuilder = Rebuilder()
        rebuilder.build(described)
        assert [*rebuilder.missing] == ["num_envs_per_env_runner"]
        rebuilder = Rebuilder(given={"num_envs_per_env_runner": 10**6})
        config = rebuilder.build(described)
        assert not rebuilder.missing
        assert config.num_envs_per_env_runner == 10**6 and config.gamma == 0.5


def test_a_buffer_takes_memory_where_it_is_written():
    buffer = tfl.PrioritizedEpisodeReplayBuffer(
        50_000_000, observation_space=BOX, action_space=gym.spaces.Discrete(2)
    )
    before = buffer.get_state()
    arrays = [buffer._store.links, buffer._tree._sums, buffer._tree._least]
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    buffer.set_state(before)
    with open("/proc/self/statm") as file:
        grown = int(file.read().split()[1]) - pages
    assert sum(array.nbytes for array in arrays) > 2**30
    assert grown * 4096 < 2**22


@pytest.mark.deep
@pytest.mark.parametrize(
    ("config", "observations", "actions"),
    [
        (tfl.PPOConfig(), BOX, gym.spaces.Discrete(3)),
        (tfl.PPOConfig().training(grad_clip=1.0), NESTED, BOX),
        (
            tfl.PPOConfig().rl_module(
                model_config={"use_lstm": True, "vf_share_layers": False}
            ),
            BOX,
            gym.spaces.MultiDiscrete([2, 5]),
        ),
        (tfl.DQNConfig().training(num_atoms=11), IMAGE, gym.spaces.Discrete(3)),
        (tfl.SACConfig(), BOX, BOX),
        (tfl.SACConfig(), NESTED, gym.spaces.Discrete(3)),
    ],
)
def test_nothing_that_was_saved_needs_more_than_it_has(
    tmp_path, monkeypatch, config, observations, actions
):
    monkeypatch.setattr(budget, "SPARE_BYTES", 200_000)  # Objects of Python.
    monkeypatch.setattr(budget, "SPARE_ARRAYS", 0)
    spaces = {name: (observations, actions) for name in ("p0", "p1")}
    learner = config.multi_agent(policies={"p0", "p1"}).build_learner(spaces=spaces)
    learner.save_to_path(tmp_path)
    again = type(learner).from_checkpoint(tmp_path)
    assert [*again.module] == [*learner.module]
