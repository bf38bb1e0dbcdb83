"""States that cannot be: refused whole, or what is accepted trains."""

import copy

import numpy as np
import pytest

import tflearner as tfl
from tflearner.checkpoint.checkpointable import telling
from tflearner.errors import CheckpointError, TFLearnerError

SMALL = {
    "num_envs_per_env_runner": 2,
    "seed": 1,
    "jit_compile": False,
    "model_config": {"fcnet_hiddens": [4]},
}
REPLAY = {
    "train_batch_size_per_learner": 8,
    "num_steps_sampled_before_learning_starts": 16,
    "min_sample_timesteps_per_iteration": 32,
}
PRIORITIZED = {"type": "PrioritizedEpisodeReplayBuffer", "capacity": 100}
UNIFORM = {"type": "EpisodeReplayBuffer", "capacity": 100}
MAKE = {
    "ppo": lambda: tfl.PPO(
        "CartPole-v1",
        train_batch_size_per_learner=32,
        minibatch_size=16,
        num_epochs=1,
        env_to_module_connector=tfl.MeanStdFilter,
        lr=[[0, 1e-3], [1000, 1e-4]],
        **SMALL,
    ),
    "dqn": lambda: tfl.DQN(
        "CartPole-v1", replay_buffer_config=PRIORITIZED, **REPLAY, **SMALL
    ),
    "sac": lambda: tfl.SAC(
        "Pendulum-v1", replay_buffer_config=UNIFORM, **REPLAY, **SMALL
    ),
}
WRONG = (
    *(None, "x", -1, 10**400, 1.5, float("nan"), {}, np.zeros(3)),
    *([], True, np.array(["x"]), np.array(None, object), 2**63, float("inf"), object()),
)


@pytest.fixture(scope="module")
def algos():
    """Algorithms that have trained, by name; made when they are asked for."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = MAKE[name]()
            made[name].train()
            made[name].train()
        return made[name]

    yield get
    for algo in made.values():
        algo.stop()


def _paths(node, path=()):
    """Yields the paths of all that a state holds, at any depth."""
    if path:
        yield path
    pairs = enumerate(node) if isinstance(node, list | tuple) else ()
    for key, below in node.items() if isinstance(node, dict) else pairs:
        yield from _paths(below, (*path, key))


def _replaced(node, path, value):
    """Returns a state with another value at a path; `KeyError` takes it away."""
    if not path:
        return value
    key, *below = path
    new = dict(node) if isinstance(node, dict) else list(node)
    if value is KeyError and not below:
        del new[key]
    else:
        new[key] = _replaced(new[key], below, value)
    return new if isinstance(node, dict) else type(node)(new)


def _same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return one == other or one != one  # noqa: PLR0124 - NaN.


def _try(algo, set_state, path, value, before=None):
    """Returns whether a broken state is accepted, or what is wrong with that.

    Args:
        algo: The algorithm; afterwards its state is what it was.
        set_state: Takes a state.
        path: Where the state is broken.
        value: What is there then.
        before: The algorithm's state, if the caller has it.
    """
    before = copy.deepcopy(algo.get_state()) if before is None else before
    try:
        broken = _replaced(before, path, value)
    except (IndexError, KeyError):  # Training has taken it away, as episodes that end.
        return False
    try:
        set_state(broken)
    except TFLearnerError:
        if not _same(algo.get_state(), before):
            return "refused, and something was changed"
        return False
    except Exception as error:  # noqa: BLE001 - what this looks for
        return f"raised {error!r:.200}"
    try:
        algo.train()
        algo.get_state()
    except TFLearnerError:  # Such as a learning rate that no weight withstands.
        return True
    except Exception as error:  # noqa: BLE001
        return f"accepted, and then {error!r:.200}"
    finally:
        algo.set_state(before)
    return True


STATS = ("metrics_logger", "stats", 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("iteration",), 10**400),
        (("seconds",), -1.0),
        (("num_saves",), True),
        (("learner", "weights_seq_no"), 10**400),
        (("learner", "should_module_be_updated"), np.array(["x"])),
        (("learner", "rl_module", "default_policy", "001/bias"), np.array(["x"] * 4)),
        (("learner", "rl_module", "default_policy", "001/bias"), np.full(4, 1e300)),
        (("learner", *STATS, "values"), "x"),
        (("learner", *STATS, "values"), [{}]),
        (("learner", *STATS, "key"), [1]),
        (("learner", *STATS), np.zeros(3)),
        (("env_runner", "rng"), {}),
        (("env_runner", "rng", "uinteger"), 10**400),
        (("env_runner", "rng", "state", "state"), 1.5),
        (("env_runner", *STATS, "values"), [10**400]),
        (("env_runner", *STATS, "window"), 10**400),
        (("env_runner", *STATS, "throughput"), np.zeros(3)),
        (("env_runner", *STATS, "reduce"), None),
        (("env_runner", *STATS), KeyError),
        (("env_runner", "metrics_logger", "stats"), []),
        (("env_runner", "env_to_module_connector", "MeanStdFilter", "count"), 10**400),
        (("env_runner", "env_to_module_connector"), [1]),
    ],
)
@pytest.mark.parametrize("route", ["set_state", "restore"])
def test_a_state_that_cannot_be_is_refused(algos, route, path, value):
    algo = algos("ppo")
    set_state = algo.set_state if route == "set_state" else _restoring(algo)
    outcome = _try(algo, set_state, path, value)
    # A metric that is missing is one that was not logged yet.
    assert outcome is (value is KeyError)


def _restoring(algo):
    """Returns what `restore_from_path` does with what it has read."""

    def restore(state):
        with telling("state"):
            plan = algo._plan_restore(state, [])
            if plan.problems:
                raise CheckpointError("state", plan.problems[0])
            plan.apply()

    return restore


@pytest.mark.parametrize("name", ["learner", "env_runner"])
def test_what_metadata_say_of_components_may_be_anything(algos, tmp_path, name):
    algo = algos("ppo")
    for number, parts in enumerate((None, [], {name: 1}, {name: {}}, {name: {"a": 1}})):
        state, about = algo.get_state(), algo.get_metadata() | {"components": parts}
        tfl.CheckpointDirectory(tmp_path).save(state, about, step=number)
        for cls in (tfl.PPO, tfl.PPOTfLearner):
            with pytest.raises(TFLearnerError):
                cls.from_checkpoint(tmp_path, component=name)
        with pytest.raises(TFLearnerError):
            algo.learner.restore_from_path(tmp_path)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "num_values",
    [pytest.param(1, marks=pytest.mark.deep), pytest.param(8, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("route", ["set_state", "restore"])
@pytest.mark.parametrize("name", MAKE)
def test_every_leaf_of_a_state_may_be_anything(
    algos, record_property, name, route, num_values
):
    algo = algos(name)
    set_state = algo.set_state if route == "set_state" else _restoring(algo)
    rng = np.random.default_rng(0)
    failures, num_tried, num_accepted, before = [], 0, 0, None
    paths = [*_paths(algo.get_state())]
    if num_values == 1:  # The two routes share the leaves.
        paths = paths[route == "restore" :: 2]
    for path in paths:
        chosen = rng.choice(len(WRONG), num_values - 1, replace=False)
        values = [WRONG[i] for i in chosen]
        for value in (*values, KeyError):
            if before is None:
                before = copy.deepcopy(algo.get_state())
            outcome = _try(algo, set_state, path, value, before)
            before = before if outcome is False else None  # Refused: it is the same.
            num_tried, num_accepted = num_tried + 1, num_accepted + (outcome is True)
            if isinstance(outcome, str):
                failures.append(f"{path}={value!r:.40}: {outcome}")
    record_property(
        "promise",
        f"P28: {num_tried:,} broken states of {name} by {route}, {num_accepted:,} "
        f"accepted: {len(failures)} raw errors, changes or trainings that break",
    )
    assert not failures, failures[:20]
