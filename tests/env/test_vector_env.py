import functools
import signal
import time

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from tflearner.env import normalizing, vector_env, worker_env
from tflearner.errors import ConfigError, EnvContractError, EnvError
from tflearner.testing import CountingEnv, CountingVectorEnv


class PlainVectorEnv(gym.vector.VectorEnv):
    """Has no single environments in it."""

    num_envs = 2
    single_observation_space = gym.spaces.Discrete(2)
    single_action_space = gym.spaces.Discrete(2)

    def __init__(self):
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}


def make(*args, **kwargs):
    return vector_env.make_vector_env(*args, **kwargs)


@pytest.mark.parametrize(
    ("mode", "want"),
    [
        ("same_step", AutoresetMode.SAME_STEP),
        ("next_step", AutoresetMode.NEXT_STEP),
        (AutoresetMode.DISABLED, AutoresetMode.DISABLED),
    ],
)
def test_registered_id(mode, want):
    env = make("CartPole-v1", num_envs=3, autoreset_mode=mode)
    assert isinstance(env, SyncVectorEnv)
    assert env.num_envs == 3
    assert vector_env.get_autoreset_mode(env) is want


def test_env_config_are_keyword_arguments_of_an_id():
    env = make("Pendulum-v1", env_config={"g": 1.5}, num_envs=2)
    assert env.get_attr("g") == (1.5, 1.5)


def test_registered_vector_environment():
    env = make("CartPole-v1", num_envs=4, vectorize_mode="vector_entry_point")
    assert type(env).__name__ == "CartPoleVectorEnv"
    assert env.num_envs == 4


@pytest.mark.parametrize(
    "env",
    [
        CountingEnv,
        lambda config: CountingEnv(**config),
        lambda config=None: CountingEnv(**config),
        lambda **kwargs: CountingEnv(**kwargs),
        lambda env_config, more=3: CountingEnv(**env_config),
        lambda tag=0: CountingEnv(tag=tag),
    ],
)
def test_classes_and_functions_get_env_config(env):
    made = make(env, env_config={"tag": 4}, num_envs=2)
    assert made.get_attr("tag") == (4, 4)


def test_a_default_argument_is_not_taken_for_the_config():
    made = make(lambda tag=6: CountingEnv(tag=tag), num_envs=2)
    assert made.get_attr("tag") == (6, 6)


def test_function_that_makes_a_vector_environment():
    made = make(lambda config: CountingVectorEnv(config["num"]), env_config={"num": 5})
    assert made.num_envs == 5


def test_a_vector_environment_is_taken_as_it_is():
    env = CountingVectorEnv()
    assert make(env, num_envs=7) is env


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ("CartPole-v1", "CartPole-v1"),
        (gym.spec("Pendulum-v1"), "Pendulum-v1"),
        (CountingEnv, "CountingEnv"),
        (lambda: gym.make("CartPole-v1"), "CartPole-v1"),
        (functools.partial(gym.make, "Pendulum-v1"), "Pendulum-v1"),
        (lambda: gym.wrappers.TimeLimit(CountingEnv(), 3), "CountingEnv"),
        (lambda: gym.make_vec("CartPole-v1", 2), "CartPole-v1"),
        (lambda: SyncVectorEnv([lambda: gym.make("CartPole-v1")]), "CartPole-v1"),
        (SyncVectorEnv([CountingEnv]), "CountingEnv"),
        (lambda: CountingVectorEnv(2), "CountingEnv"),
        (PlainVectorEnv, "PlainVectorEnv"),
        (lambda: PlainVectorEnv(), "PlainVectorEnv"),
    ],
)
def test_people_see_an_id_or_a_class(env, name):
    made = make(env)
    assert vector_env.shown_name(env, made) == name
    made.close()


def test_people_see_the_id_of_environments_in_processes():
    make_env = functools.partial(gym.make, "CartPole-v1")
    made = make(make_env, vectorize_mode="async")
    assert vector_env.shown_name(make_env, made) == "CartPole-v1"
    made.close()


def test_no_environment_is_made_in_vain():
    made = []

    def make_env():
        made.append(CountingEnv())
        return made[-1]

    make(make_env, num_envs=3)
    assert len(made) == 3


def test_async_gets_an_id_that_only_this_process_knows():
    gym.register("tflearner-test/Counting-v3", lambda: CountingEnv(tag=8))
    try:
        env = make("tflearner-test/Counting-v3", num_envs=1, vectorize_mode="async")
    finally:
        del gym.registry["tflearner-test/Counting-v3"]
    assert isinstance(env, AsyncVectorEnv)
    assert env.reset()[0].tolist() == [[8.0, 0.0, 0.0]]
    vector_env.close_vector_env(env)
    vector_env.close_vector_env(env)
    assert not any(process.is_alive() for process in env.processes)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CartPol-v1", "did you mean 'CartPole-v1'"),
        ("CartPole-v9", "did you mean 'CartPole-v1'"),
        ("Nowhere/CartPole-v1", "did you mean 'CartPole-v1'"),
        ("Xyzzy-v0", "import the package"),
        ("no_such_module:CartPole-v1", "import the package"),
    ],
)
@pytest.mark.parametrize("vectorize_mode", ["sync", "vector_entry_point"])
def test_unknown_ids_get_a_hint(name, hint, vectorize_mode):
    with pytest.raises(EnvError, match=hint) as e:
        make(name, vectorize_mode=vectorize_mode)
    assert str(e.value.__cause__).removesuffix(".") in str(e.value)


class OldApi:
    observation_space = action_space = gym.spaces.Discrete(2)

    def reset(self):
        return 0


OldApi.__module__ = "gym.envs"


class NoSpaces(gym.Env):
    pass


@pytest.mark.parametrize(
    ("env", "text"),
    [
        (lambda: None, "got None, want a gymnasium.Env"),
        (OldApi, "got an object of type OldApi, want a gymnasium.Env.*old `gym`"),
        (lambda: 3, "got an object of type int"),
        (3, "got an object of type int, want a registered id"),
        (None, "got an object of type NoneType"),
        (CountingEnv(), "pass env=lambda: MyEnv"),
    ],
)
def test_what_is_not_an_environment(env, text):
    with pytest.raises(EnvError, match=text):
        make(env)


def test_an_environment_without_spaces():
    with pytest.raises(
        EnvContractError, match="NoSpaces: got observation_space = None"
    ):
        make(NoSpaces)


def test_a_constructor_that_raises_is_chained():
    with pytest.raises(EnvError, match="ZeroDivisionError while it was made") as e:
        make(lambda: 1 // 0)
    assert isinstance(e.value.__cause__, ZeroDivisionError)
    with pytest.raises(EnvError, match="'CartPole-v1': TypeError .*'colour'"):
        make("CartPole-v1", env_config={"colour": 1})


def test_a_vector_environment_must_say_when_it_resets():
    with pytest.raises(EnvContractError, match="autoreset_mode"):
        make(CountingVectorEnv(autoreset_mode=None))


def test_unknown_modes():
    with pytest.raises(ConfigError, match="gym_env_vectorize_mode"):
        make(CountingEnv, vectorize_mode="ray")
    with pytest.raises(ConfigError, match="want one of .'next_step'"):
        make(CountingEnv, autoreset_mode="never")
    with pytest.raises(EnvError, match="use 'sync' or 'async'"):
        make(CountingEnv, vectorize_mode="vector_entry_point")


def test_sub_environments_of_unequal_spaces():
    spaces = iter([gym.spaces.Discrete(3), gym.spaces.Discrete(4)])

    def make_env():
        env = CountingEnv()
        env.action_space = next(spaces)
        return env

    with pytest.raises(EnvError, match="action_space"):
        make(make_env, num_envs=2)


def test_closing_what_is_broken_raises_nothing():
    env = make(CountingEnv)
    env.envs[0].close = lambda: np.zeros(0)[0]
    vector_env.close_vector_env(env, broken=True)
    vector_env.close_vector_env(env)


@pytest.mark.parametrize("hangs", [False, True])
def test_one_that_cannot_be_closed_leaves_no_other_open(monkeypatch, hangs):
    def close():
        time.sleep(100.0 if hangs else 0.0)
        raise IndexError("no")

    monkeypatch.setattr(worker_env, "CLOSING_S", 0.05)
    env, closed = make(CountingEnv, num_envs=3), []
    before = signal.getsignal(signal.SIGALRM)
    for index, own in enumerate(env.envs):
        own.env.close = close if index == 1 else lambda at=index: closed.append(at)
    error = TimeoutError if hangs else IndexError
    with pytest.raises(error) as raised:
        vector_env.close_vector_env(env)
    assert closed == [0, 2] and env.closed
    assert "close() of environment 1" in raised.value.__notes__[0]
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize(
    ("make_env", "mode", "found"),
    [
        (lambda: gym.make("CartPole-v1"), "sync", []),
        (
            lambda: gym.wrappers.NormalizeObservation(gym.make("CartPole-v1")),
            "sync",
            ["NormalizeObservation"],
        ),
        pytest.param(
            lambda: gym.wrappers.TimeAwareObservation(
                gym.wrappers.NormalizeReward(gym.make("CartPole-v1"))
            ),
            "async",
            ["NormalizeReward"],
            marks=pytest.mark.deep,
        ),
        (
            lambda: gym.wrappers.vector.RecordEpisodeStatistics(
                gym.wrappers.vector.NormalizeReward(
                    gym.wrappers.vector.NormalizeObservation(
                        gym.make_vec("CartPole-v1", 2)
                    )
                )
            ),
            "sync",
            ["NormalizeObservation", "NormalizeReward"],
        ),
    ],
)
def test_normalizing_wrappers_are_found(make_env, mode, found):
    env = make(make_env, num_envs=2, vectorize_mode=mode)
    assert normalizing.normalizing_wrappers(env) == found
    vector_env.close_vector_env(env)
